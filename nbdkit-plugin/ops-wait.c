/* ops-wait.c - a step of a set that may not come back in time.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Preparing a set syncs its disks, and nothing can interrupt a sync: with a
 * disk that has gone it may take minutes.  A provider may hang in any phase.
 * So the step runs on a thread of its own, and the request waits for it as long
 * as it should and no longer.  Then the set is aborted, which frees its
 * volumes, and the requester has its answer; the step ends when it can, and
 * finds the set aborted.
 *
 * The step keeps the set and the session in memory by being a user of the one
 * and having a reference of the other.
 *
 * Threads: one of pool_requests waits, one of pool_steps works.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "ops.h"
#include "base/bits.h"

/* Whoever works sees the limit first, and may know which volume it was. */
#define GRACE_NS (100 * COW_NS_PER_MS)

struct wait {
  struct job job;
  struct running run;
  cowset_hresult (*step) (struct running *run, uint64_t arg_ns);
  uint64_t arg_ns;

  /* session.lock. */
  bool done;                    /* hr and run.err are set */
  bool alone;                   /* nobody waits any more */
  cowset_hresult hr;
};

void
op_limit (struct running *run, uint64_t limit_ns, cowset_hresult late,
          const char *what)
{
  LOCK_FOR_SCOPE (&run->session->lock);
  run->limit_ns = limit_ns;
  run->late = late;
  run->what = what;
  cow_cond_broadcast (&run->session->changed);
}

static void
run_step (struct job *job)
{
  struct wait *w = COW_CONTAINER_OF (job, struct wait, job);
  struct session *s = w->run.session;
  const cowset_hresult hr = w->step (&w->run, w->arg_ns);
  bool alone;

  /* Before the answer can go out: a set in use is not left for a session that
   * resumes.
   */
  session_unuse_set (s, w->run.m, false);
  cow_mutex_lock (&s->lock);
  w->hr = hr;
  w->done = true;
  alone = w->alone;
  cow_cond_broadcast (&s->changed);
  cow_mutex_unlock (&s->lock);
  /* From here on, unless alone, w is the waiter's. */
  if (alone)
    free (w);
  session_put (s);
}

/* Until the step is done, too late, or not wanted any more. */
static cowset_hresult
await (struct request *q, struct wait *w, struct cow_error *err)
{
  struct session *s = q->session;
  const struct made *m = w->run.m;
  bool done;
  cowset_hresult hr;

  cow_mutex_lock (&s->lock);
  while (!w->done && !q->slot->cancelled && !m->ended && !s->ended &&
         cow_now_ns () < w->run.limit_ns + GRACE_NS)
    cow_cond_wait_until (&s->changed, &s->lock, w->run.limit_ns + GRACE_NS);
  done = w->done;
  if (done) {
    hr = w->hr;
    *err = w->run.err;
  }
  else if (q->slot->cancelled || m->ended || s->ended)
    hr = E_ABORT;
  else {
    hr = w->run.late;
    cow_error_set (err, -ETIMEDOUT, "%s did not answer in time",
                   w->run.what);
  }
  w->alone = true;
  cow_mutex_unlock (&s->lock);
  if (done)
    free (w);
  return hr;
}

cowset_hresult
op_wait (struct request *q, struct made *m,
         cowset_hresult (*step) (struct running *run, uint64_t arg_ns),
         uint64_t arg_ns, struct cow_error *err)
{
  struct session *s = q->session;
  struct wait *w = calloc (1, sizeof *w);

  if (w == NULL)
    return E_OUTOFMEMORY;
  w->job.run = run_step;
  w->run.session = s;
  w->run.m = m;
  w->run.limit_ns = cow_now_ns () + settings.flush_limit_ms * COW_NS_PER_MS;
  w->run.late = VSS_E_UNEXPECTED;
  w->run.what = "the server";
  w->step = step;
  w->arg_ns = arg_ns;
  session_get (s);
  cow_mutex_lock (&s->lock);
  m->users++;
  cow_mutex_unlock (&s->lock);
  pool_submit (&pool_steps, &w->job);
  return await (q, w, err);
}

cowset_hresult
op_now (struct request *q, struct made *m,
        cowset_hresult (*step) (struct running *run, uint64_t arg_ns),
        uint64_t arg_ns, struct cow_error *err)
{
  struct running run = { .session = q->session, .m = m };
  const cowset_hresult hr = step (&run, arg_ns);

  *err = run.err;
  return hr;
}
