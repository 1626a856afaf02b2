/* ops-set.c - making a set: set.start to set.finish, and set.abort.
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
#include "protocol/name.h"
#include "protocol/result.h"

/* A set that a request has in its hands. */
struct step {
  struct request *q;
  struct made *m;
  char name[16 + PROTO_ID_TEXT_SIZE]; /* "set ID", for messages */
};

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
  }
  return "unknown";
}

/* Why it can be moved on no more, or "". */
static void
get_end (struct step *step, char *why, size_t size)
{
  LOCK_FOR_SCOPE (&step->q->session->lock);
  snprintf (why, size, "%s", step->m->finished ? "it is finished" :
            step->m->ended ? step->m->why : "");
}

static void
end_step (struct step *step)
{
  session_unuse_set (step->q->session, step->m, true);
}

/* Take the set that the request names, for a step that is legal in wanted
 * only.  False after the request has failed.
 */
static bool
begin_step (struct step *step, struct request *q, enum cow_set_state wanted)
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
  end_step (step);
  return false;
}

/* The step failed: the set has ended. */
static void
fail_step (struct step *step, cowset_hresult hr, int r,
           const struct cow_error *err)
{
  struct request *q = step->q;

  char why[128];

  cow_set_abort (step->m->set);
  if (r == -ECANCELED)
    op_fail (q, E_ABORT, "%s: aborted while it was being made", step->name);
  else
    op_fail_engine (q, hr, step->name, r, err);
  snprintf (why, sizeof why, "it failed before, with %s",
            proto_result_name (q->hr));
  made_ended (q->session, step->m, why);
}

/* ------------------------------------------------------------------ start */

struct start {
  struct proto_id id;
  const char *label;
  uint32_t context;
  bool auto_release;
};

static bool
get_start (struct request *q, struct start *st)
{
  const char *why;

  *st = (struct start) { .label = NULL };
  if (!op_get_id (q, "set", &st->id) ||
      !op_opt_text (q, "label", &st->label) ||
      !op_get_bits (q, "context", &st->context))
    return false;
  st->auto_release = proto_context_auto_release (st->context);
  if (!op_opt_bool (q, "auto_release", &st->auto_release))
    return false;
  if (proto_id_is_null (&st->id)) {
    op_fail (q, E_INVALIDARG, "member \"set\": must not be the null id");
    return false;
  }
  if (st->label && st->label[0] == '\0')
    st->label = NULL;
  why = st->label ? proto_name_check (st->label) : NULL;
  if (why) {
    op_fail (q, E_INVALIDARG, "label \"%s\": %s; use 1 to 64 of A-Z, a-z, "
             "0-9, _, . and -", st->label, why);
    return false;
  }
  if (st->context == VSS_CTX_ALL || !proto_context_valid (st->context)) {
    op_fail (q, VSS_E_UNSUPPORTED_CONTEXT, "context 0x%x: no set can be made "
             "in it; use backup (0) or file-share-backup (0x10)", st->context);
    return false;
  }
  if (proto_context_persistent (st->context)) {
    op_fail (q, VSS_E_UNSUPPORTED_CONTEXT, "context 0x%x: this server has no "
             "store, so that its snapshots end with it; use backup (0) or "
             "file-share-backup (0x10)", st->context);
    return false;
  }
  return true;
}

static void
start_failed (struct request *q, const char *id, int r,
              const struct cow_error *err)
{
  switch (r) {
  case -EEXIST:
    op_fail (q, VSS_E_OBJECT_ALREADY_EXISTS, "set %s: there is a set of that "
             "id; choose a new one at random", id);
    break;
  case -EMFILE:
    op_fail (q, E_OUTOFMEMORY, "set %s: this session has %d unfinished sets; "
             "finish or abort one", id, SESSION_SETS_MAX);
    break;
  case -ESHUTDOWN:
    op_fail (q, E_ABORT, "set %s: the session has ended", id);
    break;
  case -ENOMEM:
    op_fail (q, E_OUTOFMEMORY, "set %s: the server is out of memory", id);
    break;
  case -EOPNOTSUPP:
    op_fail_engine (q, VSS_E_UNSUPPORTED_CONTEXT, "set.start", r, err);
    break;
  default:
    op_fail_engine (q, VSS_E_UNEXPECTED, "set.start", r, err);
    break;
  }
}

void
op_set_start (struct request *q)
{
  CLEANUP_FREE struct cow_set_info *info = malloc (sizeof *info);
  struct cow_error err = COW_ERROR_INIT;
  struct cow_set_options options;
  char text[PROTO_ID_TEXT_SIZE];
  struct start start;
  struct cow_set *set;
  struct made *m;
  int r;

  if (!get_start (q, &start))
    return;
  proto_id_format (&start.id, text);
  options = (struct cow_set_options) {
    .id = id_to_cow (&start.id),
    .label = start.label,
    .attributes = start.context,
    .persistent = false,
  };
  if (info == NULL)
    r = -ENOMEM;
  else if (cow_engine_find_set (engine, &options.id, info) == 0)
    r = -EEXIST;
  else
    r = cow_set_new (engine, &options, &err, &set);
  if (r == 0) {
    r = session_add_set (q->session, &options.id, set, start.context,
                         start.auto_release, &m);
    if (r == 0)
      session_unuse_set (q->session, m, true);
    else
      cow_set_put (set);
  }
  if (r < 0)
    start_failed (q, text, r, &err);
}

/* -------------------------------------------------------------------- add */

static void
add_failed (struct step *step, int r, const struct cow_error *err)
{
  cowset_hresult hr;

  switch (r) {
  case -EBUSY: hr = VSS_E_SNAPSHOT_SET_IN_PROGRESS; break;
  case -EEXIST: hr = VSS_E_OBJECT_ALREADY_EXISTS; break;
  case -EDQUOT: hr = VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED; break;
  case -ENOSPC: hr = VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED; break;
  case -ENOMEM: hr = E_OUTOFMEMORY; break;
  case -ECANCELED: hr = E_ABORT; break;
  default: hr = VSS_E_UNEXPECTED; break;
  }
  op_fail_engine (step->q, hr, step->name, r, err);
}

/* Copies that are apart from their origin, or can be carried elsewhere, are
 * not what `cow` makes.
 */
static bool
supported (struct step *step, const char *volume, bool named)
{
  const uint32_t context = step->m->context;

  if (!(context & (VSS_VOLSNAP_ATTR_PLEX | VSS_VOLSNAP_ATTR_TRANSPORTABLE)))
    return true;
  op_fail (step->q, named ? VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER :
           VSS_E_VOLUME_NOT_SUPPORTED, "%s: volume \"%.100s\": provider cow "
           "makes no %s snapshots; leave that attribute out of the context",
           step->name, volume,
           context & VSS_VOLSNAP_ATTR_PLEX ? "plex" : "transportable");
  return false;
}

/* A failure leaves the set as it was. */
void
op_set_add (struct request *q)
{
  struct cow_error err = COW_ERROR_INIT;
  struct proto_id snapshot, provider;
  struct cow_volume *v;
  struct cow_id id;
  const char *volume;
  bool named;
  struct step step;
  int r;

  if (!op_get_text (q, "volume", &volume) ||
      !op_get_id (q, "snapshot", &snapshot) ||
      !op_opt_id (q, "provider", &provider, &named))
    return;
  if (proto_id_is_null (&snapshot)) {
    op_fail (q, E_INVALIDARG, "member \"snapshot\": must not be the null id");
    return;
  }
  if (named && !proto_id_is_null (&provider) &&
      !proto_id_equal (&provider, &provider_cow)) {
    char text[PROTO_ID_TEXT_SIZE];

    proto_id_format (&provider, text);
    op_fail (q, VSS_E_PROVIDER_NOT_REGISTERED, "provider %s: there is none of "
             "that id; leave it out, or ask for the list", text);
    return;
  }
  if (!begin_step (&step, q, COW_SET_OPEN))
    return;
  v = cow_engine_find_volume (engine, volume);
  if (v == NULL)
    op_fail (q, VSS_E_OBJECT_NOT_FOUND, "%s: volume \"%.100s\": there is none "
             "of that name; cowset status lists them", step.name, volume);
  else if (supported (&step, volume,
                      named && !proto_id_is_null (&provider))) {
    id = id_to_cow (&snapshot);
    r = cow_set_add (step.m->set, v, &id, &err);
    if (r < 0)
      add_failed (&step, r, &err);
  }
  end_step (&step);
}

/* ---------------------------------------------------------------- prepare */

void
op_set_prepare (struct request *q)
{
  struct cow_error err = COW_ERROR_INIT;
  unsigned timeout_ms = settings.flush_limit_ms;
  cowset_hresult hr;
  struct step step;
  int r;

  if (!op_opt_ms (q, "timeout_ms", &timeout_ms) ||
      !begin_step (&step, q, COW_SET_OPEN))
    return;
  r = op_wait (q, step.m, cow_set_prepare,
               cow_now_ns () + timeout_ms * COW_NS_PER_MS, &err);
  if (r < 0) {
    switch (r) {
    case -ENOSPC: hr = VSS_E_INSUFFICIENT_STORAGE; break;
    case -ENOMEM: hr = E_OUTOFMEMORY; break;
    case -ETIMEDOUT: hr = VSS_E_FLUSH_WRITES_TIMEOUT; break;
    case -EIO: hr = VSS_E_PROVIDER_VETO; break;
    default: hr = VSS_E_UNEXPECTED; break;
    }
    fail_step (&step, hr, r, &err);
  }
  end_step (&step);
}

/* ------------------------------------------------- hold, switch, commit */

static bool
get_hold_limit (struct request *q, unsigned *ms)
{
  *ms = settings.hold_limit_ms;
  if (!op_opt_ms (q, "hold_ms", ms))
    return false;
  *ms = COW_MIN (*ms, settings.hold_limit_ms);
  return true;
}

static cowset_hresult
hold_result (int r)
{
  switch (r) {
  case -ETIMEDOUT: return VSS_E_HOLD_WRITES_TIMEOUT;
  case -EAGAIN: return VSS_E_SNAPSHOT_SET_IN_PROGRESS; /* too many at once */
  default: return VSS_E_UNEXPECTED;
  }
}

static bool
hold (struct step *step, unsigned limit_ms)
{
  struct cow_error err = COW_ERROR_INIT;
  int r;

  r = cow_set_hold (step->m->set, limit_ms * COW_NS_PER_MS, &err);
  if (r < 0)
    fail_step (step, hold_result (r), r, &err);
  return r == 0;
}

static void
take_instant (struct step *step)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_set_info info;
  int r;

  r = cow_set_switch (step->m->set, &err);
  if (r < 0) {
    fail_step (step, hold_result (r), r, &err);
    return;
  }
  cow_set_info (step->m->set, &info);
  op_put (step->q, "created", op_number (info.created_wall_ns));
  op_put (step->q, "hold_ns", op_number (info.hold_ns));
}

void
op_set_commit (struct request *q)
{
  struct step step;
  unsigned limit_ms;

  if (!get_hold_limit (q, &limit_ms) ||
      !begin_step (&step, q, COW_SET_PREPARED))
    return;
  if (hold (&step, limit_ms))
    take_instant (&step);
  end_step (&step);
}

void
op_set_hold (struct request *q)
{
  struct step step;
  unsigned limit_ms;

  if (!get_hold_limit (q, &limit_ms) ||
      !begin_step (&step, q, COW_SET_PREPARED))
    return;
  hold (&step, limit_ms);
  end_step (&step);
}

void
op_set_switch (struct request *q)
{
  struct step step;

  if (!begin_step (&step, q, COW_SET_HELD))
    return;
  take_instant (&step);
  end_step (&step);
}

/* -------------------------------------------------------- settle, finish */

static cowset_hresult
settle_result (const struct step *step, int r)
{
  struct cow_set_info info;

  if (r == -ETIMEDOUT)
    return VSS_E_FLUSH_WRITES_TIMEOUT;
  if (r == -ENOMEM)
    return E_OUTOFMEMORY;
  if (r == -ENOSPC)
    return VSS_E_INSUFFICIENT_STORAGE;
  if (r != -EIO)
    return VSS_E_UNEXPECTED;
  cow_set_info (step->m->set, &info);
  for (unsigned i = 0; i < info.count; ++i)
    if (info.snapshots[i].end == COW_LOST_STORE_FULL)
      return VSS_E_INSUFFICIENT_STORAGE;
  return VSS_E_PROVIDER_VETO;
}

void
op_set_settle (struct request *q)
{
  struct cow_error err = COW_ERROR_INIT;
  unsigned timeout_ms = settings.flush_limit_ms;
  struct cow_set_info info;
  struct step step;
  int r;

  if (!op_opt_ms (q, "timeout_ms", &timeout_ms) ||
      !begin_step (&step, q, COW_SET_SWITCHED))
    return;
  r = op_wait (q, step.m, cow_set_settle,
               cow_now_ns () + timeout_ms * COW_NS_PER_MS, &err);
  if (r < 0)
    fail_step (&step, settle_result (&step, r), r, &err);
  else {
    cow_set_info (step.m->set, &info);
    op_put (q, "settle_ns", op_number (info.settle_ns));
  }
  end_step (&step);
}

void
op_set_finish (struct request *q)
{
  struct cow_error err = COW_ERROR_INIT;
  struct step step;
  int r;

  if (!begin_step (&step, q, COW_SET_SETTLED))
    return;
  r = cow_set_finish (step.m->set, &err);
  if (r < 0)
    fail_step (&step, settle_result (&step, r), r, &err);
  else {
    made_finished (q->session, step.m);
    nbdkit_debug ("%s: finished", step.name);
  }
  end_step (&step);
}

/* ------------------------------------------------------------------ abort */

void
op_set_abort (struct request *q)
{
  char text[PROTO_ID_TEXT_SIZE];
  struct proto_id proto;
  struct cow_id id;
  struct made *m;
  bool in_use, finished;

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
  /* -EINVAL: it has been committed; the record may be a moment behind. */
  finished = cow_set_abort (m->set) == -EINVAL;
  if (finished)
    op_fail (q, VSS_E_BAD_STATE, "set %s: it is finished; delete it instead",
             text);
  else {
    made_ended (q->session, m, "it was aborted");
    made_drop (q->session, m);
  }
  session_unuse_set (q->session, m, false);
}
