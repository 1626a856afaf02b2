/* manage.c - finished sets: delete, break.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include "object.h"
#include "props.h"

static cowset_hresult
fail_unknown (const struct cowset_id *id, const char *what)
{
  char text[COWSET_ID_TEXT_SIZE];

  cowset_id_format (id, text);
  return req_fail (VSS_E_OBJECT_NOT_FOUND, "%s: there is no %s of this id",
                   text, what);
}

/* Whether context shows this set or snapshot: S_OK, or not found. */
static cowset_hresult
find (struct cowset *c, uint32_t context, const struct cowset_id *id,
      bool is_set, json_t **sets)
{
  const struct proto_id key = req_id_in (id);
  json_t *found;
  cowset_hresult hr = req_query_sets (c, context, is_set ? &key : NULL,
                                      is_set ? NULL : &key, &found);

  if (COWSET_FAILED (hr))
    return hr;
  if (json_array_size (found) == 0) {
    json_decref (found);
    return fail_unknown (id, is_set ? "set" : "snapshot");
  }
  *sets = found;
  return S_OK;
}

/* ------------------------------------------------------------------ delete */

static cowset_hresult
delete_at (struct req_server *server, const struct cowset_id *id, bool is_set,
           bool force, int32_t *deleted, struct cowset_id *nondeleted)
{
  const struct proto_id key = req_id_in (id);
  CLEANUP_JSON json_t *result = NULL;
  cowset_hresult hr = req_request (server, NULL, &result, "delete",
                                   "{s:s, s:o, s:b}", "type",
                                   is_set ? "set" : "snapshot", "id",
                                   req_id_json (&key), "force", (int) force);
  struct cowset_id left = { { 0 } };

  *deleted = (int32_t) req_json_count (result, "deleted");
  if (COWSET_FAILED (hr) && !req_json_id (result, "nondeleted", &left))
    left = *id;
  *nondeleted = left;
  return hr;
}

/* At every server that has some of it, up to the first failure. */
static cowset_hresult
delete_everywhere (struct cowset *c, const struct cowset_id *id, bool is_set,
                   bool force, int32_t *deleted, struct cowset_id *nondeleted)
{
  const size_t count = c->server_count;
  bool found = false;

  for (size_t i = 0; i < count; ++i) {
    int32_t n = 0;
    cowset_hresult hr = delete_at (c->servers[i], id, is_set, force, &n,
                                   nondeleted);

    *deleted += n;
    if (COWSET_SUCCEEDED (hr))
      found = true;
    else if (hr != VSS_E_OBJECT_NOT_FOUND || (!found && i == count - 1))
      return hr;
  }
  *nondeleted = (struct cowset_id) { { 0 } };
  return S_OK;
}

cowset_hresult
cowset_delete_snapshots (struct cowset *c, const struct cowset_id *id,
                         enum cowset_object_type type, bool force,
                         int32_t *deleted, struct cowset_id *nondeleted)
{
  const bool is_set = type == VSS_OBJECT_SNAPSHOT_SET;
  CLEANUP_JSON json_t *sets = NULL;
  uint32_t context;
  cowset_hresult hr;

  if (c == NULL || id == NULL || deleted == NULL || nondeleted == NULL)
    return req_fail_null ("DeleteSnapshots", c == NULL ? "the object" :
                          id == NULL ? "id" :
                          deleted == NULL ? "deleted" : "nondeleted");
  pthread_mutex_lock (&c->lock);
  hr = req_check_state_locked (c, CALL_DELETE_SNAPSHOTS);
  context = c->context;
  pthread_mutex_unlock (&c->lock);
  if (COWSET_FAILED (hr))
    return hr;
  if (!is_set && type != VSS_OBJECT_SNAPSHOT)
    return req_fail (E_INVALIDARG, "DeleteSnapshots: only sets and snapshots "
                     "can be deleted");
  *deleted = 0;
  *nondeleted = (struct cowset_id) { { 0 } };

  if (context != VSS_CTX_ALL)
    hr = find (c, context, id, is_set, &sets);
  if (COWSET_SUCCEEDED (hr))
    hr = delete_everywhere (c, id, is_set, force, deleted, nondeleted);
  return REQ_ONLY (hr, VSS_E_OBJECT_NOT_FOUND, VSS_E_PROVIDER_VETO,
                   VSS_E_UNEXPECTED_PROVIDER_ERROR);
}

/* ------------------------------------------------------------------- break */

static cowset_hresult
check_flags (uint32_t flags)
{
  const uint32_t both = VSS_BREAKEX_FLAG_REVERT_IDENTITY_ALL |
                        VSS_BREAKEX_FLAG_REVERT_IDENTITY_NONE;

  if (flags > 0xf)
    return req_fail (E_INVALIDARG, "BreakSnapshotSetEx: 0x%x has unknown "
                     "flags", (unsigned) flags);
  if ((flags & both) == both)
    return req_fail (E_INVALIDARG, "BreakSnapshotSetEx: identities cannot be "
                     "reverted both always and never");
  if ((flags & VSS_BREAKEX_FLAG_MASK_LUNS) && flags != 1)
    return req_fail (E_INVALIDARG, "BreakSnapshotSetEx: what is masked "
                     "cannot be changed as well");
  return S_OK;
}

/* All providers of this version are software providers, whose snapshots need
 * the origin and the server; as in VSS they cannot be cut loose.
 */
static cowset_hresult
break_set (struct cowset *c, const struct cowset_id *set)
{
  CLEANUP_JSON json_t *sets = NULL;
  char text[COWSET_ID_TEXT_SIZE];
  cowset_hresult hr = find (c, VSS_CTX_ALL, set, true, &sets);

  if (COWSET_FAILED (hr))
    return REQ_ONLY (hr, VSS_E_OBJECT_NOT_FOUND);
  cowset_id_format (set, text);
  return req_fail (VSS_E_PROVIDER_VETO, "%s: the set is of a software "
                   "provider, and needs its server and its origins", text);
}

/* What the operation needs of its call. */
struct breaking {
  struct cowset *c;
  struct cowset_id set;
};

static cowset_hresult
run_break (struct cowset_async *async, void *opaque)
{
  CLEANUP_FREE struct breaking *breaking = opaque;

  if (req_cancel_cancelled (req_async_canceller (async)))
    return req_fail (E_ABORT, NULL);
  return break_set (breaking->c, &breaking->set);
}

cowset_hresult
cowset_break_snapshot_set_ex (struct cowset *c, const struct cowset_id *set,
                              uint32_t flags, struct cowset_async **async)
{
  struct breaking *breaking;
  cowset_hresult hr;

  if (c == NULL || set == NULL || async == NULL)
    return req_fail_null ("BreakSnapshotSetEx", c == NULL ? "the object" :
                          set == NULL ? "set" : "async");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_BREAK_SNAPSHOT_SET);
  if (COWSET_SUCCEEDED (hr))
    hr = check_flags (flags);
  if (COWSET_FAILED (hr))
    return hr;
  breaking = malloc (sizeof *breaking);
  if (breaking == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  breaking->c = c;
  breaking->set = *set;
  hr = req_object_start (c, run_break, breaking, async);
  if (COWSET_FAILED (hr))
    free (breaking);
  return hr;
}

cowset_hresult
cowset_break_snapshot_set (struct cowset *c, const struct cowset_id *set)
{
  cowset_hresult hr;

  if (c == NULL || set == NULL)
    return req_fail_null ("BreakSnapshotSet", c ? "set" : "the object");
  hr = req_check_state (c, CALL_BREAK_SNAPSHOT_SET);
  return COWSET_FAILED (hr) ? hr : break_set (c, set);
}
