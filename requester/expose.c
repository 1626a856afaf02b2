/* expose.c - what is done with one snapshot beside reading it: expose, revert.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * No provider of this version can do either.  What the calls check before a
 * provider is asked, they check already.
 */
#include <config.h>

#include <string.h>

#include "several.h"
#include "props.h"
#include "protocol/context.h"

/* The set of a finished snapshot, of which *json (a part of it) is the
 * snapshot: a new reference, or not found.
 */
static cowset_hresult
find_snapshot (struct cowset *c, const struct cowset_id *id, json_t **set,
               json_t **json)
{
  const struct proto_id key = req_id_in (id);
  CLEANUP_JSON json_t *sets = NULL;
  char text[COWSET_ID_TEXT_SIZE];
  cowset_hresult hr = req_query_sets (c, VSS_CTX_ALL, NULL, &key, &sets);
  json_t *candidate;
  size_t i;

  if (COWSET_FAILED (hr))
    return hr;
  json_array_foreach (json_object_get (json_array_get (sets, 0), "snapshots"),
                      i, candidate) {
    struct cowset_id found;

    if (req_json_id (candidate, "snapshot", &found) &&
        cowset_id_equal (&found, id)) {
      *set = json_incref (json_array_get (sets, 0));
      *json = candidate;
      return S_OK;
    }
  }
  cowset_id_format (id, text);
  return req_fail (VSS_E_OBJECT_NOT_FOUND, "%s: there is no snapshot of this "
                   "id", text);
}

/* ------------------------------------------------------------------ expose */

static cowset_hresult
check_exposure (const char *path_from_root, uint32_t attributes,
                const char *name)
{
  if (attributes != VSS_VOLSNAP_ATTR_EXPOSED_LOCALLY &&
      attributes != VSS_VOLSNAP_ATTR_EXPOSED_REMOTELY)
    return req_fail (E_INVALIDARG, "ExposeSnapshot: 0x%x is neither locally "
                     "nor remotely", (unsigned) attributes);
  if (attributes == VSS_VOLSNAP_ATTR_EXPOSED_REMOTELY)
    return S_OK;
  if (path_from_root)
    return req_fail (E_INVALIDARG, "ExposeSnapshot: what is exposed locally "
                     "is exposed whole: the path from its root has to be "
                     "NULL");
  if (name == NULL || *name == '\0')
    return req_fail (E_INVALIDARG, "ExposeSnapshot: what is exposed locally "
                     "needs a place to be mounted at");
  return S_OK;
}

cowset_hresult
cowset_expose_snapshot (struct cowset *c, const struct cowset_id *snapshot,
                        const char *path_from_root, uint32_t attributes,
                        const char *name, char **exposed)
{
  CLEANUP_JSON json_t *set = NULL;
  uint32_t context;
  json_t *json;
  cowset_hresult hr;

  if (c == NULL || snapshot == NULL || exposed == NULL)
    return req_fail_null ("ExposeSnapshot", c == NULL ? "the object" :
                          snapshot == NULL ? "snapshot" : "exposed");
  hr = req_check_state (c, CALL_EXPOSE_SNAPSHOT);
  if (COWSET_SUCCEEDED (hr))
    hr = check_exposure (path_from_root, attributes, name);
  if (COWSET_SUCCEEDED (hr))
    hr = find_snapshot (c, snapshot, &set, &json);
  if (COWSET_FAILED (hr))
    return REQ_ONLY (hr, VSS_E_BAD_STATE, VSS_E_OBJECT_NOT_FOUND,
                     VSS_E_PROVIDER_VETO, VSS_E_UNEXPECTED_PROVIDER_ERROR);

  context = (uint32_t) req_json_count (json, "attributes");
  if (context & VSS_VOLSNAP_ATTR_CLIENT_ACCESSIBLE)
    return req_fail (E_INVALIDARG, "ExposeSnapshot: client-accessible "
                     "snapshots are not exposed");
  if (attributes == VSS_VOLSNAP_ATTR_EXPOSED_LOCALLY &&
      !proto_context_persistent (context))
    return req_fail (E_INVALIDARG, "ExposeSnapshot: only persistent "
                     "snapshots are exposed locally");
  return req_fail (VSS_E_PROVIDER_VETO, "ExposeSnapshot: no provider of this "
                   "version exposes snapshots; open the snapshot's NBD URI");
}

/* Both for an id that is unknown and for a snapshot that is not exposed. */
cowset_hresult
cowset_unexpose_snapshot (struct cowset *c, const struct cowset_id *snapshot)
{
  CLEANUP_JSON json_t *set = NULL;
  json_t *json;
  cowset_hresult hr;

  if (c == NULL || snapshot == NULL)
    return req_fail_null ("UnexposeSnapshot", c ? "snapshot" : "the object");
  hr = req_check_state (c, CALL_UNEXPOSE_SNAPSHOT);
  if (COWSET_SUCCEEDED (hr))
    hr = find_snapshot (c, snapshot, &set, &json);
  if (COWSET_FAILED (hr))
    return REQ_ONLY (hr, VSS_E_BAD_STATE, VSS_E_OBJECT_NOT_FOUND,
                     VSS_E_PROVIDER_VETO, VSS_E_UNEXPECTED_PROVIDER_ERROR);
  return req_fail (VSS_E_OBJECT_NOT_FOUND, "UnexposeSnapshot: the snapshot "
                   "is not exposed");
}

/* ------------------------------------------------------------------ revert */

cowset_hresult
cowset_revert_to_snapshot (struct cowset *c,
                           const struct cowset_id *snapshot,
                           bool force_dismount)
{
  CLEANUP_JSON json_t *set = NULL;
  json_t *json;
  cowset_hresult hr;

  (void) force_dismount;
  if (c == NULL || snapshot == NULL)
    return req_fail_null ("RevertToSnapshot", c ? "snapshot" : "the object");
  hr = req_check_state (c, CALL_REVERT_TO_SNAPSHOT);
  if (COWSET_SUCCEEDED (hr))
    hr = find_snapshot (c, snapshot, &set, &json);
  if (COWSET_FAILED (hr))
    return REQ_ONLY (hr, VSS_E_BAD_STATE, VSS_E_OBJECT_NOT_FOUND);
  if (!json_is_true (json_object_get (set, "persistent")))
    return req_fail (VSS_E_UNSUPPORTED_CONTEXT, "RevertToSnapshot: the "
                     "snapshot is not persistent");
  return req_fail (E_NOTIMPL, "RevertToSnapshot: no provider can revert");
}

cowset_hresult
cowset_query_revert_status (struct cowset *c, const char *volume,
                            struct cowset_async **async)
{
  CLEANUP_JSON json_t *answer = NULL;
  CLEANUP_FREE char *name = NULL;
  struct req_server *server;
  cowset_hresult hr;

  if (c == NULL || volume == NULL || async == NULL)
    return req_fail (E_POINTER, "QueryRevertStatus: %s is NULL",
                     c == NULL ? "the object" :
                     volume == NULL ? "volume" : "async");
  hr = req_check_state (c, CALL_QUERY_REVERT_STATUS);
  if (COWSET_SUCCEEDED (hr))
    hr = req_several_find (c, volume, false, &server, &name);
  if (COWSET_SUCCEEDED (hr))
    hr = req_request (server, NULL, &answer, "volumes", "{}");
  if (COWSET_FAILED (hr))
    return REQ_ONLY (hr, VSS_E_BAD_STATE, VSS_E_OBJECT_NOT_FOUND);
  if (!req_has_volume (answer, name))
    return req_fail (VSS_E_OBJECT_NOT_FOUND,
                     "%s: the server has no volume of this name", volume);
  return req_fail (E_NOTIMPL, "QueryRevertStatus: no provider can revert");
}
