/* ops-wait.c - a step of the engine that may not come back in time.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Preparing a set syncs its disks, and nothing can interrupt a sync: with a
 * disk that has gone it may take minutes.  So the step runs on a thread of its
 * own, and the request waits for it as long as it should and no longer.  Then
 * the set is aborted, which frees its volumes, and the requester has its
 * answer; the step ends when the system lets it, and finds the set aborted.
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

/* The engine sees the deadline first, and may know which volume it was. */
#define GRACE_NS (100 * COW_NS_PER_MS)

struct wait {
  struct job job;
  struct session *session;
  struct made *m;
  int (*step) (struct cow_set *set, uint64_t deadline_ns,
               struct cow_error *err);
  uint64_t deadline_ns;

  /* session.lock. */
  bool done;                    /* r and err are set */
  bool alone;                   /* nobody waits any more */
  int r;
  struct cow_error err;
};

static void
run_step (struct job *job)
{
  struct wait *w = COW_CONTAINER_OF (job, struct wait, job);
  struct session *s = w->session;
  struct cow_error err = COW_ERROR_INIT;
  bool alone;
  int r;

  r = w->step (w->m->set, w->deadline_ns, &err);
  /* Before the answer can go out: a set in use is not left for a session that
   * resumes.
   */
  session_unuse_set (s, w->m, false);
  cow_mutex_lock (&s->lock);
  w->r = r;
  w->err = err;
  w->done = true;
  alone = w->alone;
  cow_cond_broadcast (&s->changed);
  cow_mutex_unlock (&s->lock);
  /* From here on, unless alone, w is the waiter's. */
  if (alone)
    free (w);
  session_put (s);
}

int
op_wait (struct request *q, struct made *m,
         int (*step) (struct cow_set *set, uint64_t deadline_ns,
                      struct cow_error *err),
         uint64_t deadline_ns, struct cow_error *err)
{
  struct session *s = q->session;
  struct wait *w = calloc (1, sizeof *w);
  bool done, in_time = true;
  int r;

  if (w == NULL)
    return -ENOMEM;
  w->job.run = run_step;
  w->session = s;
  w->m = m;
  w->step = step;
  w->deadline_ns = deadline_ns;
  session_get (s);
  cow_mutex_lock (&s->lock);
  m->users++;
  cow_mutex_unlock (&s->lock);
  pool_submit (&pool_steps, &w->job);

  cow_mutex_lock (&s->lock);
  while (!w->done && !q->slot->cancelled && !m->ended && !s->ended && in_time)
    in_time = cow_cond_wait_until (&s->changed, &s->lock,
                                   deadline_ns + GRACE_NS);
  done = w->done;
  if (done) {
    r = w->r;
    *err = w->err;
  }
  else
    r = in_time ? -ECANCELED : -ETIMEDOUT;
  w->alone = true;
  cow_mutex_unlock (&s->lock);
  if (done)
    free (w);
  else if (r == -ETIMEDOUT)
    cow_error_set (err, r, "a disk did not answer in time");
  return r;
}
