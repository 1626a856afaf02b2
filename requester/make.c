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
 * Over several servers commit is three: precommit, hold, switch; and finish of
 * a set that lasts is what decide.c does.
 *
 * A failure or a cancel aborts the set, whatever state it is in, at all of its
 * servers; finish, once cancelled, has either finished or aborted it.
 */
#include <config.h>

#include <string.h>

#include "document.h"
#include "several.h"
#include "protocol/context.h"

#define VOLUMES_MAX 64          /* of a set, as in VSS */
#define HOLD_LIMIT_MS 11000     /* no server holds for longer than 10 s */

/* -------------------------------------------------------- building the set */

cowset_hresult
req_open_set (struct cowset *c, struct req_server *server)
{
  CLEANUP_JSON json_t *request = NULL;
  cowset_hresult hr;
  int r = 0;

  pthread_mutex_lock (&c->lock);
  request = json_pack ("{s:s, s:o, s:I, s:b}", "op", "set.start", "set",
                       req_id_json (&c->set), "context",
                       (json_int_t) c->context, "auto_release",
                       (int) proto_context_auto_release (c->context));
  if (c->label)
    r = json_object_set_new (request, "label", json_string (c->label));
  pthread_mutex_unlock (&c->lock);
  if (request == NULL || r == -1)
    return req_fail (E_OUTOFMEMORY, NULL);
  hr = server->ops->call (server, request, NULL, NULL);
  return REQ_ONLY (hr, VSS_E_BAD_STATE, VSS_E_UNSUPPORTED_CONTEXT,
                   VSS_E_SNAPSHOT_SET_IN_PROGRESS);
}

/* At the first count servers, as far as they can be asked.  Leaves this
 * thread's message alone: it has the reason.
 */
static void
abort_at (struct cowset *c, size_t count)
{
  CLEANUP_FREE char *message = strdup (cowset_error_message ());

  for (size_t i = 0; i < count; ++i)
    req_request (c->servers[i], NULL, NULL, "set.abort", "{s:o}", "set",
                 req_id_json (&c->set));
  req_fail (S_OK, "%s", message ? message : "");
}

cowset_hresult
cowset_start_snapshot_set (struct cowset *c, struct cowset_id *set)
{
  uint32_t context;
  cowset_hresult hr;

  if (c == NULL || set == NULL)
    return req_fail_null ("StartSnapshotSet", c ? "set" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  pthread_mutex_lock (&c->lock);
  hr = req_check_state_locked (c, CALL_START_SNAPSHOT_SET);
  context = c->context;
  if (COWSET_SUCCEEDED (hr))
    c->set = proto_id_new ();
  pthread_mutex_unlock (&c->lock);
  if (COWSET_FAILED (hr))
    return hr;
  if (context == VSS_CTX_ALL)
    return req_fail (VSS_E_BAD_STATE, "StartSnapshotSet: VSS_CTX_ALL is for "
                     "looking and deleting, no set can be made in it");
  req_bring_decisions (c);      /* hidden sets take space */

  for (size_t i = 0; i < c->server_count; ++i) {
    hr = req_open_set (c, c->servers[i]);
    if (COWSET_FAILED (hr)) {
      abort_at (c, i);
      return hr;
    }
  }
  pthread_mutex_lock (&c->lock);
  c->state = STATE_SET;
  pthread_mutex_unlock (&c->lock);
  *set = req_id_out (&c->set);
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
  if (c->member_count >= VOLUMES_MAX)
    return req_fail (VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, "%s: the set "
                     "has %d volumes already", volume, VOLUMES_MAX);
  member = &members[c->member_count];
  hr = req_several_find (c, volume, true, &member->server, &member->volume);
  if (COWSET_FAILED (hr))
    return hr;
  member->snapshot = proto_id_new ();

  if (c->member_count > 0 && c->members[0].server != member->server &&
      proto_context_persistent (c->context)) {
    hr = req_can_decide (c->members[0].server);
    if (COWSET_SUCCEEDED (hr))
      hr = req_can_decide (member->server);
  }
  if (COWSET_SUCCEEDED (hr))
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

cowset_hresult
cowset_is_volume_supported (struct cowset *c,
                            const struct cowset_id *provider,
                            const char *volume, bool *supported)
{
  CLEANUP_JSON json_t *request = NULL;
  CLEANUP_JSON json_t *answer = NULL;
  CLEANUP_FREE char *name = NULL;
  struct req_server *server;
  uint32_t context;
  cowset_hresult hr;

  if (c == NULL || volume == NULL || supported == NULL)
    return req_fail_null ("IsVolumeSupported", c == NULL ? "the object" :
                          volume == NULL ? "volume" : "supported");
  pthread_mutex_lock (&c->lock);
  hr = req_check_state_locked (c, CALL_IS_VOLUME_SUPPORTED);
  context = c->context == VSS_CTX_ALL ? 0 : c->context;
  pthread_mutex_unlock (&c->lock);
  if (COWSET_SUCCEEDED (hr))
    hr = req_several_find (c, volume, false, &server, &name);
  if (COWSET_FAILED (hr))
    return REQ_ONLY (hr, VSS_E_OBJECT_NOT_FOUND, VSS_E_BAD_STATE);

  request = json_pack ("{s:s, s:s, s:I}", "op", "supported", "volume", name,
                       "context", (json_int_t) context);
  if (request && !is_null (provider)) {
    const struct proto_id id = req_id_in (provider);

    json_object_set_new (request, "provider", req_id_json (&id));
  }
  hr = request ? server->ops->call (server, request, NULL, &answer)
               : req_fail (E_OUTOFMEMORY, NULL);
  if (hr == VSS_E_PROVIDER_NOT_REGISTERED) {
    *supported = false;         /* nothing that is there supports it */
    return S_OK;
  }
  if (COWSET_SUCCEEDED (hr))
    *supported = json_is_true (json_object_get (answer, "supported"));
  return REQ_ONLY (hr, VSS_E_NESTED_VOLUME_LIMIT, VSS_E_OBJECT_NOT_FOUND,
                   VSS_E_BAD_STATE);
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

/* What the steps need. */
struct making {
  struct cowset *c;
  struct cowset_async *async;
  struct req_crew *crew;
  uint32_t hold_ms, flush_ms;   /* 0: the server's own */
  bool in_doubt;                /* see req_decide() */
};

#define MARGIN_MS 5000          /* for the way there and back */

/* The most that a server may take by its own limits: twice its flush limit,
 * for the providers' part and for the disks.
 */
static uint64_t
flush_limit_ms (const struct making *m)
{
  uint64_t most = m->flush_ms;

  for (size_t i = 0; m->flush_ms == 0 && i < m->c->server_count; ++i) {
    const json_int_t ms = json_integer_value (
      json_object_get (m->c->servers[i]->hello, "flush_limit_ms"));

    if (ms > 0 && (uint64_t) ms > most)
      most = (uint64_t) ms;
  }
  return 2 * (most > 0 ? most : 60000) + MARGIN_MS;
}

static cowset_hresult
step (struct making *m, const char *phase, const char *op,
      cowset_hresult late)
{
  req_async_set_phase (m->async, phase);
  return req_crew_step (m->crew, op, "timeout_ms", m->flush_ms,
                        flush_limit_ms (m), late);
}

/* The instant.  At one server it is one step.  Over several, all close their
 * gates before any of them switches; whose hold has expired until then refuses
 * to, and the set is aborted everywhere.  No clock is compared.
 */
static cowset_hresult
commit (struct making *m)
{
  cowset_hresult hr;

  if (req_crew_size (m->crew) == 1) {
    req_async_set_phase (m->async, "commit");
    return req_crew_step (m->crew, "set.commit", "hold_ms", m->hold_ms, 0,
                          VSS_E_HOLD_WRITES_TIMEOUT);
  }
  hr = step (m, "commit", "set.precommit", VSS_E_PROVIDER_VETO);
  if (COWSET_SUCCEEDED (hr))
    hr = req_crew_step (m->crew, "set.hold", "hold_ms", m->hold_ms,
                        HOLD_LIMIT_MS, VSS_E_HOLD_WRITES_TIMEOUT);
  if (COWSET_SUCCEEDED (hr))
    hr = req_crew_step (m->crew, "set.switch", NULL, 0,
                        HOLD_LIMIT_MS + flush_limit_ms (m),
                        VSS_E_HOLD_WRITES_TIMEOUT);
  return hr;
}

/* What the set says of itself.  Where it cannot be noted (an older server, or a
 * lost one, which the next step finds) it says "crash", which is no lie.
 */
static void
note_writers (struct making *m)
{
  struct cowset *c = m->c;
  CLEANUP_JSON json_t *more =
    json_pack ("{s:s, s:o?}", "consistency", req_writers_consistency (c),
               "writers", req_document_writers (c));
  const struct req_order order = {
    .op = "set.note", .more = more, .limit_ms = flush_limit_ms (m),
    .late = VSS_E_FLUSH_WRITES_TIMEOUT, .final = true,
  };

  if (json_array_size (json_object_get (more, "writers")) > 0)
    req_crew_order (m->crew, &order);
}

/* Freeze, commit, thaw: the thaw comes at once after the release, whatever
 * came of the commit.
 */
static cowset_hresult
take_instant (struct making *m)
{
  cowset_hresult hr;

  req_async_set_phase (m->async, "freeze");
  hr = req_writers_freeze (m->c, req_async_canceller (m->async));
  if (COWSET_SUCCEEDED (hr) && m->crew)
    hr = commit (m);
  if (COWSET_FAILED (hr))
    return hr;                  /* the abort thaws them */
  req_async_set_phase (m->async, "thaw");
  hr = req_writers_thaw (m->c);
  if (COWSET_SUCCEEDED (hr) && m->crew)
    note_writers (m);
  return hr;
}

static cowset_hresult
run_steps (struct making *m)
{
  cowset_hresult hr;

  hr = step (m, "prepare", "set.prepare", VSS_E_FLUSH_WRITES_TIMEOUT);
  if (COWSET_SUCCEEDED (hr))
    hr = take_instant (m);
  if (COWSET_SUCCEEDED (hr))
    hr = step (m, "settle", "set.settle", VSS_E_FLUSH_WRITES_TIMEOUT);
  if (COWSET_SUCCEEDED (hr) &&
      req_cancel_cancelled (req_async_canceller (m->async)))
    hr = req_fail (E_ABORT, NULL);
  if (COWSET_SUCCEEDED (hr) && req_crew_size (m->crew) > 1 &&
      proto_context_persistent (m->c->context)) {
    req_async_set_phase (m->async, "finish");
    return req_decide (m->c, m->crew, flush_limit_ms (m), &m->in_doubt);
  }
  if (COWSET_SUCCEEDED (hr))
    hr = step (m, "finish", "set.finish", VSS_E_UNEXPECTED);
  if (COWSET_SUCCEEDED (hr))
    hr = req_several_watch (m->c);
  return hr;
}

/* With what the writers see around it. */
static cowset_hresult
make_set (struct cowset *c, struct cowset_async *async)
{
  struct making m = { .c = c, .async = async };
  cowset_hresult hr = S_OK;

  pthread_mutex_lock (&c->lock);
  m.hold_ms = c->hold_ms;
  m.flush_ms = c->flush_ms;
  pthread_mutex_unlock (&c->lock);
  req_async_set_phase (async, "prepare");
  /* A set of no volume is for its writers' sake. */
  if (c->member_count > 0)
    hr = req_crew_new (c, req_async_canceller (async), &m.crew);
  if (COWSET_SUCCEEDED (hr))
    hr = req_writers_prepare_snapshot (c, req_async_canceller (async));
  if (COWSET_SUCCEEDED (hr))
    hr = m.crew ? run_steps (&m) : take_instant (&m);

  if (COWSET_FAILED (hr)) {
    req_async_set_phase (async, "abort");
    /* What is held first: a writer's thaw may have to write there. */
    if (m.crew && !m.in_doubt)
      req_crew_abort (m.crew);
    req_writers_abort (c);
  }
  if (m.crew)
    req_crew_free (m.crew);
  else
    abort_at (c, c->server_count);
  if (COWSET_SUCCEEDED (hr)) {
    req_async_set_phase (async, "post-snapshot");
    req_writers_post_snapshot (c, NULL);
  }
  return hr;
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
    abort_at (c, c->server_count);
  return S_OK;
}
