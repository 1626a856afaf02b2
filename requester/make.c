/* make.c - making a set: from StartSnapshotSet to BackupComplete.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * DoSnapshotSet is a row of steps at the server, each a request of its own, so
 * that each can be cancelled and its failure named:
 *
 *   prepare   syncs the origins, takes memory            no volume is held
 *   commit    hold, switch, release                      the instant
 *   settle    waits for the writes that were before it   thawed already
 *   finish    the set is listed and can be opened
 *
 * A failure or a cancel in the first three aborts the set, whatever state it
 * is in.  finish cannot be cancelled: what it has begun, it ends.
 */
#include <config.h>

#include <string.h>

#include "object.h"
#include "protocol/context.h"

#define TECHNIQUES (VSS_VOLSNAP_ATTR_PLEX | VSS_VOLSNAP_ATTR_TRANSPORTABLE)

/* -------------------------------------------------------- building the set */

static cowset_hresult
open_set (struct req_server *server, const struct proto_id *set,
          uint32_t context, const char *label)
{
  CLEANUP_JSON json_t *result = NULL;
  cowset_hresult hr;

  if (label)
    hr = req_request (server, NULL, &result, "set.start",
                      "{s:o, s:I, s:b, s:s}", "set", req_id_json (set),
                      "context", (json_int_t) context, "auto_release",
                      (int) proto_context_auto_release (context), "label",
                      label);
  else
    hr = req_request (server, NULL, &result, "set.start", "{s:o, s:I, s:b}",
                      "set", req_id_json (set), "context",
                      (json_int_t) context, "auto_release",
                      (int) proto_context_auto_release (context));
  return REQ_ONLY (hr, VSS_E_BAD_STATE, VSS_E_UNSUPPORTED_CONTEXT,
                   VSS_E_SNAPSHOT_SET_IN_PROGRESS);
}

cowset_hresult
cowset_start_snapshot_set (struct cowset *c, struct cowset_id *set)
{
  const struct proto_id id = proto_id_new ();
  CLEANUP_FREE char *label = NULL;
  uint32_t context;
  cowset_hresult hr;

  if (c == NULL || set == NULL)
    return req_fail_null ("StartSnapshotSet", c ? "set" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  pthread_mutex_lock (&c->lock);
  hr = req_check_state_locked (c, CALL_START_SNAPSHOT_SET);
  context = c->context;
  if (COWSET_SUCCEEDED (hr) && c->label && (label = strdup (c->label)) == NULL)
    hr = req_fail (E_OUTOFMEMORY, NULL);
  pthread_mutex_unlock (&c->lock);
  if (COWSET_FAILED (hr))
    return hr;
  if (context == VSS_CTX_ALL)
    return req_fail (VSS_E_BAD_STATE, "StartSnapshotSet: VSS_CTX_ALL is for "
                     "looking and deleting, no set can be made in it");

  for (size_t i = 0; i < c->server_count; ++i) {
    hr = open_set (c->servers[i], &id, context, label);
    if (COWSET_FAILED (hr))
      return hr;
  }
  pthread_mutex_lock (&c->lock);
  c->set = id;
  c->state = STATE_SET;
  pthread_mutex_unlock (&c->lock);
  *set = req_id_out (&id);
  return S_OK;
}

static bool
is_null (const struct cowset_id *id)
{
  return id == NULL || cowset_id_is_null (id);
}

static cowset_hresult
claim (struct cowset *c, struct req_member *member,
       const struct cowset_id *provider)
{
  CLEANUP_JSON json_t *result = NULL;
  cowset_hresult hr;

  if (is_null (provider))
    hr = req_request (member->server, NULL, &result, "set.add",
                      "{s:o, s:s, s:o}", "set", req_id_json (&c->set),
                      "volume", member->volume, "snapshot",
                      req_id_json (&member->snapshot));
  else {
    const struct proto_id id = req_id_in (provider);

    hr = req_request (member->server, NULL, &result, "set.add",
                      "{s:o, s:s, s:o, s:o}", "set", req_id_json (&c->set),
                      "volume", member->volume, "snapshot",
                      req_id_json (&member->snapshot), "provider",
                      req_id_json (&id));
  }
  return REQ_ONLY (hr, VSS_E_BAD_STATE, VSS_E_OBJECT_NOT_FOUND,
                   VSS_E_OBJECT_ALREADY_EXISTS,
                   VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED,
                   VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED,
                   VSS_E_NESTED_VOLUME_LIMIT, VSS_E_PROVIDER_NOT_REGISTERED,
                   VSS_E_PROVIDER_VETO, VSS_E_SNAPSHOT_SET_IN_PROGRESS,
                   VSS_E_VOLUME_NOT_SUPPORTED,
                   VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER,
                   VSS_E_UNEXPECTED_PROVIDER_ERROR);
}

cowset_hresult
cowset_add_to_snapshot_set (struct cowset *c, const char *volume,
                            const struct cowset_id *provider,
                            struct cowset_id *snapshot)
{
  struct req_member *members, *member;
  cowset_hresult hr;

  if (c == NULL || volume == NULL || snapshot == NULL)
    return req_fail_null ("AddToSnapshotSet", c == NULL ? "the object" :
                          volume == NULL ? "volume" : "snapshot");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_ADD_TO_SNAPSHOT_SET);
  if (COWSET_FAILED (hr))
    return hr;
  members = realloc (c->members, (c->member_count + 1) * sizeof *members);
  if (members == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  c->members = members;
  member = &members[c->member_count];
  member->server = c->servers[0];
  member->snapshot = proto_id_new ();
  member->volume = strdup (volume);
  if (member->volume == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);

  hr = claim (c, member, provider);
  if (COWSET_FAILED (hr)) {
    free (member->volume);
    return hr;
  }
  c->member_count++;
  *snapshot = req_id_out (&member->snapshot);
  return S_OK;
}

bool
req_has_volume (json_t *answer, const char *name)
{
  json_t *volumes = json_object_get (answer, "volumes"), *volume;
  size_t i;

  json_array_foreach (volumes, i, volume) {
    const char *text = json_string_value (json_object_get (volume, "name"));

    if (text && strcmp (text, name) == 0)
      return true;
  }
  return false;
}

/* Whether one of the providers, or the one that is named, can do it. */
static bool
has_provider (json_t *answer, const struct cowset_id *named,
              uint32_t context)
{
  json_t *providers = json_object_get (answer, "providers"), *provider;
  size_t i;

  json_array_foreach (providers, i, provider) {
    json_t *type = json_object_get (provider, "type");
    const char *text = json_string_value (json_object_get (provider, "id"));
    struct cowset_id id;

    if (!cowset_id_parse (text, &id) ||
        (!is_null (named) && !cowset_id_equal (&id, named)))
      continue;
    if (!(context & TECHNIQUES) ||
        json_integer_value (type) == VSS_PROV_HARDWARE)
      return true;
  }
  return false;
}

cowset_hresult
cowset_is_volume_supported (struct cowset *c,
                            const struct cowset_id *provider,
                            const char *volume, bool *supported)
{
  CLEANUP_JSON json_t *volumes = NULL;
  CLEANUP_JSON json_t *providers = NULL;
  uint32_t context;
  cowset_hresult hr;

  if (c == NULL || volume == NULL || supported == NULL)
    return req_fail_null ("IsVolumeSupported", c == NULL ? "the object" :
                          volume == NULL ? "volume" : "supported");
  pthread_mutex_lock (&c->lock);
  hr = req_check_state_locked (c, CALL_IS_VOLUME_SUPPORTED);
  context = c->context == VSS_CTX_ALL ? 0 : c->context;
  pthread_mutex_unlock (&c->lock);
  if (COWSET_FAILED (hr))
    return hr;
  hr = req_request (c->servers[0], NULL, &volumes, "volumes", "{}");
  if (COWSET_SUCCEEDED (hr))
    hr = req_request (c->servers[0], NULL, &providers, "providers", "{}");
  if (COWSET_FAILED (hr))
    return REQ_ONLY (hr, VSS_E_NESTED_VOLUME_LIMIT, VSS_E_BAD_STATE);
  if (!req_has_volume (volumes, volume))
    return req_fail (VSS_E_OBJECT_NOT_FOUND,
                     "%s: the server has no volume of this name", volume);
  *supported = has_provider (providers, provider, context) &&
               (req_server_has_store (c->servers[0]) ||
                !proto_context_persistent (context));
  return S_OK;
}

/* ----------------------------------------------------------------- writers */

static cowset_hresult
move_to (struct cowset *c, enum req_state state)
{
  LOCK_FOR_SCOPE (&c->lock);

  c->state = state;
  c->moving = false;
  return S_OK;
}

/* The operation ends with hr, in the state in which it began. */
static cowset_hresult
stay (struct cowset *c, cowset_hresult hr)
{
  LOCK_FOR_SCOPE (&c->lock);

  c->moving = false;
  return hr;
}

/* Whether a writer that refuses matters is the requester's to say, who asks
 * for the writers' status.
 */
static cowset_hresult
prepare_for_backup (struct cowset_async *async, void *opaque)
{
  struct req_cancel *cancel = req_async_canceller (async);
  struct cowset *c = opaque;

  req_async_set_phase (async, "prepare-backup");
  req_writers_prepare_backup (c, cancel);
  if (req_cancel_cancelled (cancel))
    return stay (c, req_fail (E_ABORT, NULL));
  return move_to (opaque, STATE_PREPARED);
}

/* A writer that fails has that in its status; one that crashes fails the call,
 * which can be repeated.
 */
static cowset_hresult
backup_complete (struct cowset_async *async, void *opaque)
{
  struct req_cancel *cancel = req_async_canceller (async);
  struct cowset *c = opaque;
  cowset_hresult hr;

  req_async_set_phase (async, "backup-complete");
  hr = req_writers_raise (c, REQ_EVENT_BACKUP_COMPLETE, cancel);
  if (req_cancel_cancelled (cancel))
    return stay (c, req_fail (E_ABORT, NULL));
  if (hr == VSS_E_UNEXPECTED_WRITER_ERROR)
    return stay (c, hr);
  return move_to (opaque, STATE_COMPLETE);
}

/* Start one of the two.  c->order_lock is held. */
static cowset_hresult
start_move (struct cowset *c, req_operation run, struct cowset_async **async)
{
  cowset_hresult hr;

  pthread_mutex_lock (&c->lock);
  c->moving = true;
  pthread_mutex_unlock (&c->lock);
  hr = req_object_start (c, run, c, async);
  if (COWSET_FAILED (hr)) {
    pthread_mutex_lock (&c->lock);
    c->moving = false;
    pthread_mutex_unlock (&c->lock);
  }
  return hr;
}

static cowset_hresult
check_writers_locked (struct cowset *c, enum req_call call)
{
  cowset_hresult hr = req_check_state_locked (c, call);

  if (COWSET_FAILED (hr))
    return hr;
  if (c->moving)
    return req_fail (VSS_E_BAD_STATE, "%s: a call before it has not finished",
                     req_call_name (call));
  if (!proto_context_has_writers (c->context))
    return req_fail (VSS_E_BAD_STATE, "%s: no writer takes part in this "
                     "context", req_call_name (call));
  return S_OK;
}

cowset_hresult
cowset_prepare_for_backup (struct cowset *c, struct cowset_async **async)
{
  cowset_hresult hr;

  if (c == NULL || async == NULL)
    return req_fail_null ("PrepareForBackup", c ? "async" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  pthread_mutex_lock (&c->lock);
  hr = check_writers_locked (c, CALL_PREPARE_FOR_BACKUP);
  if (COWSET_SUCCEEDED (hr) && !c->backup_state_set)
    hr = req_fail (VSS_E_BAD_STATE, "PrepareForBackup: SetBackupState has "
                   "not been called");
  if (COWSET_SUCCEEDED (hr) && !c->gathered)
    hr = req_fail (VSS_E_BAD_STATE, "PrepareForBackup: the writers' metadata "
                   "have not been gathered");
  pthread_mutex_unlock (&c->lock);
  if (COWSET_FAILED (hr))
    return hr;
  return start_move (c, prepare_for_backup, async);
}

cowset_hresult
cowset_backup_complete (struct cowset *c, struct cowset_async **async)
{
  cowset_hresult hr;

  if (c == NULL || async == NULL)
    return req_fail_null ("BackupComplete", c ? "async" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  pthread_mutex_lock (&c->lock);
  hr = check_writers_locked (c, CALL_BACKUP_COMPLETE);
  pthread_mutex_unlock (&c->lock);
  if (COWSET_FAILED (hr))
    return hr;
  return start_move (c, backup_complete, async);
}

/* ----------------------------------------------------------- DoSnapshotSet */

/* One step at every server.  timeout, if not 0, goes along under its name. */
static cowset_hresult
step (struct cowset *c, struct cowset_async *async, const char *phase,
      const char *op, const char *timeout, uint32_t timeout_ms)
{
  struct req_cancel *cancel = req_async_canceller (async);
  cowset_hresult hr = S_OK;

  req_async_set_phase (async, phase);
  for (size_t i = 0; COWSET_SUCCEEDED (hr) && i < c->server_count; ++i)
    if (timeout_ms > 0)
      hr = req_request (c->servers[i], cancel, NULL, op, "{s:o, s:I}", "set",
                        req_id_json (&c->set), timeout,
                        (json_int_t) timeout_ms);
    else
      hr = req_request (c->servers[i], cancel, NULL, op, "{s:o}", "set",
                        req_id_json (&c->set));
  return hr;
}

static cowset_hresult
finish (struct cowset *c, struct cowset_async *async)
{
  cowset_hresult hr = S_OK;

  if (req_cancel_cancelled (req_async_canceller (async)))
    return req_fail (E_ABORT, NULL);
  req_async_set_phase (async, "finish");
  for (size_t i = 0; COWSET_SUCCEEDED (hr) && i < c->server_count; ++i)
    hr = req_request (c->servers[i], NULL, NULL, "set.finish", "{s:o}", "set",
                      req_id_json (&c->set));
  return hr;
}

/* Leaves this thread's message alone: it has the reason. */
static void
abort_set (struct cowset *c)
{
  CLEANUP_FREE char *message = strdup (cowset_error_message ());

  for (size_t i = 0; i < c->server_count; ++i)
    req_request (c->servers[i], NULL, NULL, "set.abort", "{s:o}", "set",
                 req_id_json (&c->set));
  req_fail (S_OK, "%s", message ? message : "");
}

/* Freeze, commit, thaw: the thaw comes at once after the release, whatever
 * came of the commit.
 */
static cowset_hresult
take_instant (struct cowset *c, struct cowset_async *async, uint32_t hold_ms)
{
  cowset_hresult hr;

  req_async_set_phase (async, "freeze");
  hr = req_writers_freeze (c, req_async_canceller (async));
  if (COWSET_SUCCEEDED (hr) && c->member_count > 0)
    hr = step (c, async, "commit", "set.commit", "hold_ms", hold_ms);
  if (COWSET_FAILED (hr))
    return hr;                  /* the abort thaws them */
  req_async_set_phase (async, "thaw");
  return req_writers_thaw (c);
}

static cowset_hresult
commit_set (struct cowset *c, struct cowset_async *async)
{
  uint32_t hold_ms, flush_ms;
  cowset_hresult hr;

  /* A set of no volume is for its writers' sake: nothing to be had here. */
  if (c->member_count == 0) {
    hr = take_instant (c, async, 0);
    if (COWSET_SUCCEEDED (hr))
      abort_set (c);
    return hr;
  }
  pthread_mutex_lock (&c->lock);
  hold_ms = c->hold_ms;
  flush_ms = c->flush_ms;
  pthread_mutex_unlock (&c->lock);

  hr = step (c, async, "prepare", "set.prepare", "timeout_ms", flush_ms);
  if (COWSET_SUCCEEDED (hr))
    hr = take_instant (c, async, hold_ms);
  if (COWSET_SUCCEEDED (hr))
    hr = step (c, async, "settle", "set.settle", "timeout_ms", flush_ms);
  if (COWSET_SUCCEEDED (hr))
    hr = finish (c, async);
  return hr;
}

/* With what the writers see around it. */
static cowset_hresult
make_set (struct cowset *c, struct cowset_async *async)
{
  struct req_cancel *cancel = req_async_canceller (async);
  cowset_hresult hr;

  req_async_set_phase (async, "prepare");
  hr = req_writers_prepare_snapshot (c, cancel);
  if (COWSET_SUCCEEDED (hr))
    hr = commit_set (c, async);
  if (COWSET_FAILED (hr)) {
    req_async_set_phase (async, "abort");
    /* What is held or frozen first. */
    req_writers_abort (c);
    abort_set (c);
    return hr;
  }
  req_async_set_phase (async, "post-snapshot");
  req_writers_post_snapshot (c, NULL);
  return S_OK;
}

static cowset_hresult
do_snapshot_set (struct cowset_async *async, void *opaque)
{
  struct cowset *c = opaque;
  cowset_hresult hr = make_set (c, async);

  if (hr != E_ABORT || !req_cancel_cancelled (req_async_canceller (async)))
    hr = REQ_ONLY (hr, VSS_E_BAD_STATE, VSS_E_INSUFFICIENT_STORAGE,
                   VSS_E_FLUSH_WRITES_TIMEOUT, VSS_E_HOLD_WRITES_TIMEOUT,
                   VSS_E_NESTED_VOLUME_LIMIT, VSS_E_PROVIDER_VETO,
                   VSS_E_REBOOT_REQUIRED, VSS_E_TRANSACTION_FREEZE_TIMEOUT,
                   VSS_E_TRANSACTION_THAW_TIMEOUT,
                   VSS_E_UNEXPECTED_PROVIDER_ERROR);
  pthread_mutex_lock (&c->lock);
  c->state = COWSET_SUCCEEDED (hr) ? STATE_CREATED : STATE_FAILED;
  pthread_mutex_unlock (&c->lock);
  return hr;
}

static cowset_hresult
check_do_locked (struct cowset *c)
{
  const bool writers = proto_context_has_writers (c->context);
  cowset_hresult hr = req_check_state_locked (c, CALL_DO_SNAPSHOT_SET);

  if (COWSET_FAILED (hr))
    return hr;
  if (writers && !c->gathered)
    return req_fail (VSS_E_BAD_STATE, "DoSnapshotSet: the writers' metadata "
                     "have not been gathered");
  if (writers && c->state != STATE_PREPARED)
    return req_fail (VSS_E_BAD_STATE, "DoSnapshotSet: PrepareForBackup has "
                     "not finished");
  if (!writers && c->member_count == 0)
    return req_fail (VSS_E_BAD_STATE, "DoSnapshotSet: the set has no volume");
  return S_OK;
}

cowset_hresult
cowset_do_snapshot_set (struct cowset *c, struct cowset_async **async)
{
  enum req_state before;
  cowset_hresult hr;

  if (c == NULL || async == NULL)
    return req_fail_null ("DoSnapshotSet", c ? "async" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  pthread_mutex_lock (&c->lock);
  before = c->state;
  hr = check_do_locked (c);
  if (COWSET_SUCCEEDED (hr))
    c->state = STATE_CREATING;
  pthread_mutex_unlock (&c->lock);
  if (COWSET_FAILED (hr))
    return hr;

  hr = req_object_start (c, do_snapshot_set, c, async);
  if (COWSET_FAILED (hr)) {
    pthread_mutex_lock (&c->lock);
    c->state = before;
    pthread_mutex_unlock (&c->lock);
  }
  return hr;
}

cowset_hresult
cowset_abort_backup (struct cowset *c)
{
  enum req_state state;
  cowset_hresult hr;

  if (c == NULL)
    return req_fail_null ("AbortBackup", "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_ABORT_BACKUP);
  if (COWSET_FAILED (hr))
    return hr;
  for (size_t i = 0; i < c->async_count; ++i)
    if (!req_async_ended (c->asyncs[i]))
      cowset_async_cancel (c->asyncs[i]);

  pthread_mutex_lock (&c->lock);
  state = c->state;
  if (state == STATE_SET || state == STATE_PREPARED || state == STATE_FAILED)
    c->state = STATE_DONE;
  pthread_mutex_unlock (&c->lock);
  if (state == STATE_SET || state == STATE_PREPARED || state == STATE_FAILED)
    req_writers_abort (c);
  if (state == STATE_SET || state == STATE_PREPARED)
    abort_set (c);
  return S_OK;
}
