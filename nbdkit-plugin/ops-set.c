/* ops-set.c - making a set: set.prepare to set.finish, and set.abort.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Each request is one step of the engine's set (cow.h has its states).  One
 * request at a time moves a set on; set.abort, a cancel, the end of the session
 * and the clock may abort it at any moment, also beside a step that waits,
 * which then fails.
 *
 * A step that fails after set.add has aborted the set when its answer is sent:
 * a requester that goes away upon an error leaves nothing held.
 *
 * The rest of a hold (its deadline, and that it ends without anybody's help) is
 * the engine's.
 */
#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "base/bits.h"
#include "protocol/context.h"
#include "protocol/result.h"

#define MEMBERS_MAX 15          /* other servers of a set */
#define HOME_URI_MAX 1024

static const char *
state_text (enum cow_set_state state)
{
  switch (state) {
  case COW_SET_OPEN: return "open";
  case COW_SET_PREPARED: return "prepared";
  case COW_SET_HELD: return "held";
  case COW_SET_SWITCHED: return "switched";
  case COW_SET_SETTLED: return "settled";
  case COW_SET_COMMITTED: return "finished";
  case COW_SET_ABORTED: return "aborted";
  case COW_SET_GONE: return "deleted";
  case COW_SET_UNDECIDED: return "undecided";
  }
  return "unknown";
}

/* Why it can be moved on no more, or "". */
static void
get_end (struct step *step, char *why, size_t size)
{
  LOCK_FOR_SCOPE (&step->q->session->lock);
  snprintf (why, size, "%s", step->m->finished ? "it is finished" :
            step->m->voted ? "it waits for the decision of its home" :
            step->m->ended ? step->m->why : "");
}

void
op_end_step (struct step *step)
{
  session_unuse_set (step->q->session, step->m, true);
}

bool
op_begin_step (struct step *step, struct request *q,
               enum cow_set_state wanted)
{
  struct proto_id proto;
  struct cow_id id;
  enum cow_set_state state;
  char text[PROTO_ID_TEXT_SIZE], why[256];
  bool in_use;

  if (!op_get_id (q, "set", &proto))
    return false;
  id = id_to_cow (&proto);
  proto_id_format (&proto, text);
  snprintf (step->name, sizeof step->name, "set %s", text);
  step->q = q;
  step->m = session_use_set (q->session, &id, true, &in_use);
  if (step->m == NULL && in_use)
    op_fail (q, VSS_E_BAD_STATE, "%s: another request on it is running; wait "
             "for its answer", step->name);
  else if (step->m == NULL)
    op_fail (q, VSS_E_OBJECT_NOT_FOUND, "%s: this session makes no such set",
             step->name);
  if (step->m == NULL)
    return false;

  get_end (step, why, sizeof why);
  state = cow_set_state (step->m->set);
  if (why[0])
    op_fail (q, VSS_E_BAD_STATE, "%s: %s; start another", step->name, why);
  else if (state != wanted)
    op_fail (q, VSS_E_BAD_STATE, "%s: is %s, and would have to be %s",
             step->name, state_text (state), state_text (wanted));
  else
    return true;
  op_end_step (step);
  return false;
}

/* The step failed: the set has ended. */
static void
fail_step (struct step *step, cowset_hresult hr, const struct cow_error *err)
{
  struct request *q = step->q;
  char why[128];

  made_abort (q->session, step->m);
  if (hr == E_ABORT)
    op_fail (q, E_ABORT, "%s: aborted while it was being made", step->name);
  else
    op_fail (q, hr, "%s: %s; %s", step->name,
             err->text[0] ? err->text : proto_result_cause (hr),
             proto_result_advice (hr));
  snprintf (why, sizeof why, "it failed before, with %s",
            proto_result_name (q->hr));
  made_ended (q->session, step->m, why);
}

/* The code of what the engine said, where it is known in every step. */
static cowset_hresult
engine_result (int r, cowset_hresult late)
{
  struct cow_engine_status st;

  switch (r) {
  case 0: return S_OK;
  case -ENOSPC: return VSS_E_INSUFFICIENT_STORAGE;
  case -ENOMEM: return E_OUTOFMEMORY;
  case -ETIMEDOUT: return late;
  case -ECANCELED: return E_ABORT;
  case -EAGAIN: return VSS_E_SNAPSHOT_SET_IN_PROGRESS; /* too many hold */
  case -EIO:
    /* A store that has failed is believed again after a restart only. */
    cow_engine_status (engine, &st);
    return st.store_failed ? VSS_E_REBOOT_REQUIRED : VSS_E_PROVIDER_VETO;
  default: return VSS_E_UNEXPECTED;
  }
}

/* Providers are in the step: they may wait. */
static bool
has_phases (const struct made *m)
{
  for (unsigned i = 0; i < m->provider_count; ++i)
    if (m->providers[i].provider->ops->run)
      return true;
  return false;
}

/* Call the providers in a phase outside the hold. */
static cowset_hresult
run_phase (struct running *run, enum provider_phase phase)
{
  if (!has_phases (run->m))
    return S_OK;
  op_limit (run, cow_now_ns () + settings.flush_limit_ms * COW_NS_PER_MS,
            VSS_E_PROVIDER_VETO, provider_phase_name (phase));
  return made_run_phase (run->session, run->m, phase, &run->err);
}

/* ---------------------------------------------------------------- prepare */

/* Once more: it may have become so since the volumes were added. */
static cowset_hresult
check_nested (struct running *run)
{
  struct cow_set_info info;

  cow_set_info (run->m->set, &info);
  for (unsigned i = 0; i < info.count; ++i) {
    struct cow_volume *v = cow_engine_find_volume (engine,
                                                   info.snapshots[i].volume);

    if (v && nested_origin (cow_volume_path (v))) {
      cow_error_set (&run->err, -ELOOP, "volume \"%s\": its origin %s lies on "
                     "a volume that a cowset serves", cow_volume_name (v),
                     cow_volume_path (v));
      return VSS_E_NESTED_VOLUME_LIMIT;
    }
  }
  return S_OK;
}

static cowset_hresult
run_prepare (struct running *run, uint64_t timeout_ns)
{
  cowset_hresult hr = check_nested (run);
  uint64_t deadline_ns;

  if (COWSET_SUCCEEDED (hr))
    hr = run_phase (run, PROVIDER_END_PREPARE);

  if (COWSET_FAILED (hr))
    return hr;
  deadline_ns = cow_now_ns () + timeout_ns;
  op_limit (run, deadline_ns, VSS_E_FLUSH_WRITES_TIMEOUT, "a disk");
  return engine_result (cow_set_prepare (run->m->set, deadline_ns, &run->err),
                        VSS_E_FLUSH_WRITES_TIMEOUT);
}

void
op_set_prepare (struct request *q)
{
  struct cow_error err = COW_ERROR_INIT;
  unsigned timeout_ms = settings.flush_limit_ms;
  cowset_hresult hr;
  struct step step;

  if (!op_opt_ms (q, "timeout_ms", &timeout_ms) ||
      !op_begin_step (&step, q, COW_SET_OPEN))
    return;
  hr = op_wait (q, step.m, run_prepare, timeout_ms * COW_NS_PER_MS, &err);
  if (COWSET_FAILED (hr))
    fail_step (&step, hr, &err);
  op_end_step (&step);
}

/* ------------------------------------------------- hold, switch, commit */

/* Where there are providers to be called a step may wait, and has a thread of
 * its own; else there is nothing between the closing of the gates and their
 * opening but the switch.
 */
static void
do_step (struct request *q, enum cow_set_state wanted,
         cowset_hresult (*run) (struct running *run, uint64_t arg_ns))
{
  struct cow_error err = COW_ERROR_INIT;
  unsigned limit_ms = settings.hold_limit_ms;
  struct cow_set_info info;
  cowset_hresult hr;
  struct step step;

  if (!op_opt_ms (q, "hold_ms", &limit_ms) || !op_begin_step (&step, q, wanted))
    return;
  limit_ms = COW_MIN (limit_ms, settings.hold_limit_ms);
  hr = (has_phases (step.m) ? op_wait : op_now)
    (q, step.m, run, limit_ms * COW_NS_PER_MS, &err);
  if (COWSET_FAILED (hr))
    fail_step (&step, hr, &err);
  else if (cow_set_state (step.m->set) == COW_SET_SWITCHED) {
    cow_set_info (step.m->set, &info);
    op_put (q, "created", op_number (info.created_wall_ns));
    op_put (q, "hold_ns", op_number (info.hold_ns));
  }
  op_end_step (&step);
}

/* Once, with the first of precommit, hold and commit. */
static cowset_hresult
run_precommit (struct running *run, uint64_t limit_ns)
{
  (void) limit_ns;
  if (run->m->precommitted)     /* belongs to the busy request */
    return S_OK;
  run->m->precommitted = true;
  return run_phase (run, PROVIDER_PRE_COMMIT);
}

static cowset_hresult
run_hold (struct running *run, uint64_t limit_ns)
{
  cowset_hresult hr = run_precommit (run, limit_ns);

  if (COWSET_FAILED (hr))
    return hr;
  op_limit (run, cow_now_ns () + limit_ns, VSS_E_HOLD_WRITES_TIMEOUT,
            "CommitSnapshots");
  return engine_result (cow_set_hold (run->m->set, limit_ns, &run->err),
                        VSS_E_HOLD_WRITES_TIMEOUT);
}

/* Nothing here touches memory or the log while volumes are held, unless a
 * provider does.
 */
static cowset_hresult
run_switch (struct running *run, uint64_t limit_ns)
{
  struct made *m = run->m;
  cowset_hresult hr = S_OK;

  (void) limit_ns;
  if (has_phases (m))
    hr = made_run_phase (run->session, m, PROVIDER_COMMIT, &run->err);
  if (COWSET_SUCCEEDED (hr))
    hr = engine_result (cow_set_switch (m->set, &run->err),
                        VSS_E_HOLD_WRITES_TIMEOUT);
  return COWSET_FAILED (hr) ? hr : run_phase (run, PROVIDER_POST_COMMIT);
}

static cowset_hresult
run_commit (struct running *run, uint64_t limit_ns)
{
  const cowset_hresult hr = run_hold (run, limit_ns);

  return COWSET_FAILED (hr) ? hr : run_switch (run, limit_ns);
}

void
op_set_precommit (struct request *q)
{
  do_step (q, COW_SET_PREPARED, run_precommit);
}

void
op_set_commit (struct request *q)
{
  do_step (q, COW_SET_PREPARED, run_commit);
}

void
op_set_hold (struct request *q)
{
  do_step (q, COW_SET_PREPARED, run_hold);
}

void
op_set_switch (struct request *q)
{
  do_step (q, COW_SET_HELD, run_switch);
}

/* -------------------------------------------------------- settle, finish */

/* A snapshot that was lost on the way may have been lost for want of room. */
static cowset_hresult
settle_result (const struct made *m, int r)
{
  struct cow_set_info info;

  if (r == -EIO) {
    cow_set_info (m->set, &info);
    for (unsigned i = 0; i < info.count; ++i)
      if (info.snapshots[i].end == COW_LOST_STORE_FULL)
        return VSS_E_INSUFFICIENT_STORAGE;
  }
  return engine_result (r, VSS_E_FLUSH_WRITES_TIMEOUT);
}

static cowset_hresult
run_settle (struct running *run, uint64_t timeout_ns)
{
  const uint64_t deadline_ns = cow_now_ns () + timeout_ns;
  cowset_hresult hr;

  op_limit (run, deadline_ns, VSS_E_FLUSH_WRITES_TIMEOUT, "a disk");
  hr = settle_result (run->m, cow_set_settle (run->m->set, deadline_ns,
                                              &run->err));
  return COWSET_FAILED (hr) ? hr :
         run_phase (run, PROVIDER_PRE_FINAL_COMMIT);
}

void
op_set_settle (struct request *q)
{
  struct cow_error err = COW_ERROR_INIT;
  unsigned timeout_ms = settings.flush_limit_ms;
  struct cow_set_info info;
  cowset_hresult hr;
  struct step step;

  if (!op_opt_ms (q, "timeout_ms", &timeout_ms) ||
      !op_begin_step (&step, q, COW_SET_SWITCHED))
    return;
  hr = op_wait (q, step.m, run_settle, timeout_ms * COW_NS_PER_MS, &err);
  if (COWSET_FAILED (hr))
    fail_step (&step, hr, &err);
  else {
    cow_set_info (step.m->set, &info);
    op_put (q, "settle_ns", op_number (info.settle_ns));
  }
  op_end_step (&step);
}

static cowset_hresult
run_finish (struct running *run, uint64_t arg_ns)
{
  (void) arg_ns;
  return run_phase (run, PROVIDER_POST_FINAL_COMMIT);
}

/* How a set that has settled goes on. */
struct ending {
  json_t *members;              /* borrowed; this server decides for these
                                 * stores too.  NULL: there are no others */
  bool votes;                   /* another server does: */
  struct proto_id home;
  const char *home_uri;         /* "": not said */
};

static int
end_set (struct made *m, const struct ending *end, struct cow_error *err)
{
  int r = 0;

  if (end->votes) {
    r = note_home (m, &end->home, end->home_uri);
    return r < 0 ? r : cow_set_finish_undecided (m->set, err);
  }
  if (end->members)
    r = decide_begin (&m->id, end->members);
  if (r == 0)
    r = cow_set_finish (m->set, err);
  if (r < 0 && end->members)
    decide_drop (&m->id);
  return r;
}

/* A cancel or a late provider ends it before the set is there, or not at
 * all.
 */
static void
finish (struct request *q, const struct ending *end)
{
  struct cow_error err = COW_ERROR_INIT;
  cowset_hresult hr = S_OK;
  struct step step;

  if (!op_begin_step (&step, q, COW_SET_SETTLED))
    return;
  if ((end->votes || end->members) &&
      (step.m->auto_release || !proto_context_persistent (step.m->context))) {
    op_fail (q, E_INVALIDARG, "%s: does not last, and so has no home",
             step.name);
    op_end_step (&step);
    return;
  }
  if (has_phases (step.m))
    hr = op_wait (q, step.m, run_finish, 0, &err);
  if (COWSET_SUCCEEDED (hr))
    hr = settle_result (step.m, end_set (step.m, end, &err));
  if (COWSET_FAILED (hr))
    fail_step (&step, hr, &err);
  else {
    (end->votes ? made_voted : made_finished) (q->session, step.m);
    nbdkit_debug ("%s: %s", step.name, end->votes ? "voted for" : "finished");
  }
  op_end_step (&step);
}

void
op_set_finish (struct request *q)
{
  struct ending end = { .members = json_object_get (q->in, "members") };
  struct proto_id id;
  json_t *member;
  size_t i;

  if (json_is_null (end.members))
    end.members = NULL;
  if (end.members && (json_array_size (end.members) < 1 ||
                      json_array_size (end.members) > MEMBERS_MAX)) {
    op_fail (q, E_INVALIDARG, "member \"members\": must be 1 to %d ids",
             MEMBERS_MAX);
    return;
  }
  json_array_foreach (end.members, i, member)
    if (!json_is_string (member) ||
        !proto_id_parse (json_string_value (member), &id)) {
      op_fail (q, E_INVALIDARG, "member \"members\": must be ids");
      return;
    }
  finish (q, &end);
}

void
op_set_vote (struct request *q)
{
  struct ending end = { .votes = true, .home_uri = "" };

  if (!op_get_id (q, "home", &end.home) ||
      !op_opt_text (q, "home_uri", &end.home_uri))
    return;
  if (strlen (end.home_uri) > HOME_URI_MAX)
    op_fail (q, E_INVALIDARG, "member \"home_uri\": at most %d bytes",
             HOME_URI_MAX);
  else
    finish (q, &end);
}

/* ------------------------------------------------------------------ abort */

/* Its requester, who knows the decision, may.  Whether it is finished. */
static bool
abort_vote (struct request *q, struct made *m)
{
  int r = decide_resolve (&m->id, false);

  if (r < 0 && r != -ENOENT)
    op_fail_engine (q, r == -ENOMEM ? E_OUTOFMEMORY : VSS_E_UNEXPECTED,
                    "set.abort", r, NULL);
  return r == -ENOENT;
}

void
op_set_abort (struct request *q)
{
  char text[PROTO_ID_TEXT_SIZE];
  struct proto_id proto;
  struct cow_id id;
  struct made *m;
  bool in_use, finished, voted;

  if (!op_get_id (q, "set", &proto))
    return;
  id = id_to_cow (&proto);
  proto_id_format (&proto, text);
  m = session_use_set (q->session, &id, false, &in_use);
  if (m == NULL) {
    op_fail (q, VSS_E_OBJECT_NOT_FOUND, "set %s: this session makes no such "
             "set", text);
    return;
  }
  cow_mutex_lock (&q->session->lock);
  voted = m->voted;
  cow_mutex_unlock (&q->session->lock);
  /* -EINVAL: it has been committed; the record may be a moment behind. */
  if (voted)
    finished = abort_vote (q, m);
  else
    finished = made_abort (q->session, m) == -EINVAL;
  if (COWSET_FAILED (q->hr))
    ;                           /* it waits on, and can be resolved */
  else if (finished)
    op_fail (q, VSS_E_BAD_STATE, "set %s: it is finished; delete it instead",
             text);
  else {
    made_ended (q->session, m, "it was aborted");
    made_drop (q->session, m);
  }
  session_unuse_set (q->session, m, false);
}
