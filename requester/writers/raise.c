/* raise.c - events to many writers at once: workers, time-outs, cancels.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <stdio.h>
#include <string.h>

#include "object.h"
#include "writers/raise.h"

/* How much longer than it may a kind that keeps its time by itself is waited
 * for.
 */
#define GRACE_MS 3000

#define ABORT_MS 60000

struct req_worker {
  struct req_writer *w;
  struct req_raiser *r;
  pthread_t thread;
  pthread_cond_t wake;

  /* r->lock, and so all that follows. */
  bool has_job, abort_wanted, quit;
  bool busy;
  enum req_event event;         /* of the job */
  struct req_occasion occasion;

  bool asked;                   /* somebody waits for the job */
  bool done;
  uint64_t late_ms;             /* when it is too late */
  cowset_hresult hr;
  char message[256];

  bool frozen;
  uint64_t thaw_by_ms;          /* while frozen */
};

void
req_raiser_init (struct req_raiser *r)
{
  pthread_mutex_init (&r->turn, NULL);
  pthread_mutex_init (&r->lock, NULL);
  req_cond_init (&r->done);
}

void
req_raiser_clear (struct req_raiser *r)
{
  pthread_cond_destroy (&r->done);
  pthread_mutex_destroy (&r->lock);
  pthread_mutex_destroy (&r->turn);
}

/* How long a thaw may take: as long as the freeze, within these. */
#define THAW_MIN_MS 10000u
#define THAW_MAX_MS 60000u

/* How long a writer may take; from freeze to thaw is its own affair. */
static uint32_t
limit_ms (struct cowset *c, const struct req_writer *w, enum req_event event)
{
  switch (event) {
  case REQ_EVENT_IDENTIFY:
  case REQ_EVENT_BACKUP_SHUTDOWN:
    return 30000;
  case REQ_EVENT_PREPARE_SNAPSHOT:
  case REQ_EVENT_POST_SNAPSHOT:
    return c->writer_prepare_ms;
  case REQ_EVENT_FREEZE:
    return w->freeze_timeout_ms;
  case REQ_EVENT_THAW:
    return w->freeze_timeout_ms < THAW_MIN_MS   ? THAW_MIN_MS
           : w->freeze_timeout_ms > THAW_MAX_MS ? THAW_MAX_MS
                                                : w->freeze_timeout_ms;
  default:
    return 60000;
  }
}

/* ------------------------------------------------------------------- workers */

/* What there is to do; r->lock is held. */
static bool
choose (struct req_worker *k, enum req_event *event,
        struct req_occasion *occasion)
{
  const bool expired = k->frozen && !k->w->ops->keeps_window &&
                       req_now_ms () >= k->thaw_by_ms;

  if (k->abort_wanted || expired) {
    if (!k->abort_wanted)
      req_writer_failed (k->w, REQ_EVENT_THAW, VSS_E_WRITERERROR_TIMEOUT,
                         "it was frozen for longer than it may be");
    k->abort_wanted = false;
    *event = REQ_EVENT_ABORT;
    *occasion = k->occasion;
    occasion->timeout_ms = ABORT_MS;
    return true;
  }
  *event = k->event;
  *occasion = k->occasion;
  if (k->has_job && *event == REQ_EVENT_FREEZE) {
    k->frozen = true;
    k->thaw_by_ms = req_now_ms () + k->w->freeze_timeout_ms;
  }
  return k->has_job;
}

/* Without the lock.  A freeze that was too long is a failure, however it
 * ended.
 */
static cowset_hresult
carry_out (struct req_worker *k, enum req_event event,
           const struct req_occasion *occasion)
{
  cowset_hresult hr = req_writer_raise (k->w, event, occasion);

  if (event == REQ_EVENT_FREEZE && COWSET_SUCCEEDED (hr) &&
      req_now_ms () >= k->thaw_by_ms) {
    hr = req_fail (VSS_E_WRITERERROR_TIMEOUT, "it took longer to freeze than "
                   "it may be frozen");
    req_writer_failed (k->w, event, hr, cowset_error_message ());
  }
  return hr;
}

/* r->lock is held. */
static void
report (struct req_worker *k, enum req_event event, cowset_hresult hr)
{
  if (event == REQ_EVENT_ABORT ||
      (event == REQ_EVENT_THAW && COWSET_SUCCEEDED (hr)))
    k->frozen = false;
  if (event != REQ_EVENT_ABORT && event == k->event && k->has_job) {
    k->has_job = false;
    k->done = true;
    k->hr = hr;
    snprintf (k->message, sizeof k->message, "%.255s",
              cowset_error_message ());
  }
  pthread_cond_broadcast (&k->r->done);
}

static void *
work (void *opaque)
{
  struct req_worker *k = opaque;
  struct req_occasion occasion;
  enum req_event event;

  pthread_mutex_lock (&k->r->lock);
  for (;;) {
    cowset_hresult hr;

    if (!choose (k, &event, &occasion)) {
      if (k->quit)
        break;
      req_cond_wait (&k->wake, &k->r->lock,
                     k->frozen && !k->w->ops->keeps_window ? k->thaw_by_ms
                                                           : UINT64_MAX);
      continue;
    }
    k->busy = true;
    pthread_mutex_unlock (&k->r->lock);
    hr = carry_out (k, event, &occasion);
    pthread_mutex_lock (&k->r->lock);
    k->busy = false;
    report (k, event, hr);
  }
  pthread_mutex_unlock (&k->r->lock);
  return NULL;
}

static cowset_hresult
need_worker (struct cowset *c, struct req_writer *w)
{
  struct req_worker *k;

  if (w->worker)
    return S_OK;
  k = calloc (1, sizeof *k);
  if (k == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  k->w = w;
  k->r = &c->raiser;
  req_cond_init (&k->wake);
  if (req_thread_start (&k->thread, work, k) != 0) {
    pthread_cond_destroy (&k->wake);
    free (k);
    return req_fail (E_OUTOFMEMORY, "no thread for writer %s", w->name);
  }
  w->worker = k;
  return S_OK;
}

void
req_worker_stop (struct req_writer *w)
{
  struct req_worker *k = w->worker;

  if (k == NULL)
    return;
  pthread_mutex_lock (&k->r->lock);
  k->quit = true;
  pthread_cond_signal (&k->wake);
  pthread_mutex_unlock (&k->r->lock);
  pthread_join (k->thread, NULL);
  pthread_cond_destroy (&k->wake);
  free (k);
  w->worker = NULL;
}

/* --------------------------------------------------------------------- raise */

/* Whether the event is for this writer. */
static bool
is_for (struct req_writer *w, enum req_event event, uint32_t context)
{
  const enum cowset_writer_state state = req_writer_state (w, NULL, NULL);

  if (event == REQ_EVENT_IDENTIFY)
    return true;
  if (!req_writer_sees (w, context))
    return false;
  switch (event) {
  case REQ_EVENT_THAW: return state == VSS_WS_WAITING_FOR_THAW;
  case REQ_EVENT_POST_SNAPSHOT:
    return state == VSS_WS_WAITING_FOR_POST_SNAPSHOT;
  case REQ_EVENT_BACKUP_SHUTDOWN: return true;
  default: return state < VSS_WS_FAILED_AT_IDENTIFY;
  }
}

static struct req_occasion
occasion_of (struct cowset *c)
{
  LOCK_FOR_SCOPE (&c->lock);

  return (struct req_occasion) {
    .context = c->context,
    .set = c->set,
    .backup_type = c->backup_type,
  };
}

/* Give a worker the event.  c->raiser.lock is held. */
static void
post (struct cowset *c, struct req_worker *k, enum req_event event,
      const struct req_occasion *occasion)
{
  const uint32_t ms = limit_ms (c, k->w, event);

  k->asked = true;
  if (k->busy || k->has_job) {
    /* Still at something that it was given up for. */
    k->done = true;
    k->hr = VSS_E_WRITER_NOT_RESPONDING;
    snprintf (k->message, sizeof k->message, "it has not answered yet what it "
              "was told before");
    req_writer_failed (k->w, event, k->hr, k->message);
    return;
  }
  k->event = event;
  k->occasion = *occasion;
  k->occasion.timeout_ms = ms;
  k->late_ms = req_now_ms () + ms + (k->w->ops->keeps_window ? GRACE_MS : 0);
  k->done = false;
  k->has_job = true;
  pthread_cond_signal (&k->wake);
}

/* Until all who were asked are done, or late, or it is cancelled.
 * c->raiser.lock is held.
 */
static void
await (struct cowset *c)
{
  for (;;) {
    uint64_t next_ms = UINT64_MAX;

    for (size_t i = 0; i < c->writer_count; ++i) {
      struct req_worker *k = c->writers[i]->worker;

      if (k == NULL || !k->asked || k->done)
        continue;
      if (req_now_ms () >= k->late_ms) {
        k->done = true;
        k->hr = VSS_E_WRITER_NOT_RESPONDING;
        snprintf (k->message, sizeof k->message, "it gave no answer in time");
        req_writer_failed (k->w, k->event, k->hr, k->message);
      }
      else if (k->late_ms < next_ms)
        next_ms = k->late_ms;
    }
    if (next_ms == UINT64_MAX || c->raiser.cancelled)
      return;
    req_cond_wait (&c->raiser.done, &c->raiser.lock, next_ms);
  }
}

/* The first that failed.  c->raiser.lock is held. */
static cowset_hresult
collect (struct cowset *c, enum req_event event)
{
  cowset_hresult first = S_OK;

  for (size_t i = 0; i < c->writer_count; ++i) {
    struct req_worker *k = c->writers[i]->worker;

    if (k == NULL || !k->asked)
      continue;
    k->asked = false;
    if (k->done && COWSET_FAILED (k->hr) && COWSET_SUCCEEDED (first))
      first = req_fail (k->hr, "writer %s failed at %s: %s", k->w->name,
                        req_event_name (event), k->message);
  }
  return first;
}

static void
on_cancel (void *opaque, uint64_t id)
{
  struct req_raiser *r = opaque;

  (void) id;
  LOCK_FOR_SCOPE (&r->lock);
  r->cancelled = true;
  pthread_cond_broadcast (&r->done);
}

/* c->raiser.turn is held. */
static cowset_hresult
raise_rank (struct cowset *c, int rank, enum req_event event,
            struct req_cancel *cancel)
{
  const struct req_occasion occasion = occasion_of (c);
  struct req_ending ending = { .end = on_cancel, .opaque = &c->raiser };
  cowset_hresult hr = S_OK;
  bool cancelled;

  for (size_t i = 0; COWSET_SUCCEEDED (hr) && i < c->writer_count; ++i)
    hr = need_worker (c, c->writers[i]);
  if (COWSET_FAILED (hr))
    return hr;
  pthread_mutex_lock (&c->raiser.lock);
  c->raiser.cancelled = false;
  pthread_mutex_unlock (&c->raiser.lock);
  if (cancel && !req_cancel_begin (cancel, &ending))
    return req_fail (E_ABORT, NULL);
  pthread_mutex_lock (&c->raiser.lock);
  for (size_t i = 0; i < c->writer_count; ++i)
    if (req_writer_rank (c->writers[i]) == rank &&
        is_for (c->writers[i], event, occasion.context))
      post (c, c->writers[i]->worker, event, &occasion);
  await (c);
  cancelled = c->raiser.cancelled;
  hr = collect (c, event);
  pthread_mutex_unlock (&c->raiser.lock);
  if (cancel)
    req_cancel_end (cancel, &ending);
  return cancelled ? req_fail (E_ABORT, NULL) : hr;
}

cowset_hresult
req_writers_raise_rank (struct cowset *c, int rank, enum req_event event,
                        struct req_cancel *cancel)
{
  LOCK_FOR_SCOPE (&c->raiser.turn);

  return raise_rank (c, rank, event, cancel);
}

cowset_hresult
req_writers_raise (struct cowset *c, enum req_event event,
                   struct req_cancel *cancel)
{
  char message[REQ_MESSAGE_MAX];
  cowset_hresult first = S_OK;

  for (int i = 0; i < REQ_RANKS; ++i) {
    const int rank = event == REQ_EVENT_THAW ? REQ_RANKS - 1 - i : i;
    const cowset_hresult hr = req_writers_raise_rank (c, rank, event, cancel);

    if (hr == E_ABORT)
      return hr;
    if (COWSET_FAILED (hr) && COWSET_SUCCEEDED (first)) {
      first = hr;
      snprintf (message, sizeof message, "%s", cowset_error_message ());
    }
  }
  return COWSET_SUCCEEDED (first) ? S_OK : req_fail (first, "%s", message);
}

/* --------------------------------------------------------------------- abort */

static bool
is_owed (struct req_writer *w, bool failed_only)
{
  LOCK_FOR_SCOPE (&w->lock);

  return w->owed_end &&
         (!failed_only || w->state >= VSS_WS_FAILED_AT_IDENTIFY);
}

static void
abort_writers (struct cowset *c, bool failed_only)
{
  const uint64_t until_ms = req_now_ms () + ABORT_MS + GRACE_MS;
  char message[REQ_MESSAGE_MAX];
  bool in_time = true, waiting;

  snprintf (message, sizeof message, "%s", cowset_error_message ());
  pthread_mutex_lock (&c->raiser.turn);
  pthread_mutex_lock (&c->raiser.lock);
  for (size_t i = 0; i < c->writer_count; ++i) {
    struct req_worker *k = c->writers[i]->worker;

    if (k == NULL || !is_owed (k->w, failed_only))
      continue;
    k->abort_wanted = true;
    k->has_job = k->has_job && k->busy;
    if (k->busy && k->w->ops->hurry)
      k->w->ops->hurry (k->w);
    pthread_cond_signal (&k->wake);
  }
  do {
    waiting = false;
    for (size_t i = 0; i < c->writer_count; ++i) {
      struct req_worker *k = c->writers[i]->worker;

      waiting |= k && (k->abort_wanted || (k->busy && !k->has_job));
    }
    if (waiting)
      in_time = req_cond_wait (&c->raiser.done, &c->raiser.lock, until_ms);
  } while (waiting && in_time);
  pthread_mutex_unlock (&c->raiser.lock);
  pthread_mutex_unlock (&c->raiser.turn);
  req_fail (S_OK, "%s", message);
}

void
req_writers_abort (struct cowset *c)
{
  abort_writers (c, false);
}

void
req_writers_abort_failed (struct cowset *c)
{
  abort_writers (c, true);
}
