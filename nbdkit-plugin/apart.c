/* apart.c - steps that may block for ever, in a thread of their own.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The engine calls it when the store can't be written and the end of snapshots
 * has to be recorded elsewhere: a disk that hangs must not take a client's
 * write along.  Rare, so that a thread is made each time.
 *
 * Threads: any.  All signals are blocked in the one that is made.
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "plugin.h"

struct apart {
  int (*step) (void *arg);
  void (*done) (void *arg);
  void *arg;
  cow_mutex lock;
  cow_cond over_cond;
  unsigned users;               /* lock; who has it: thread and caller */
  bool over;                    /* lock */
  int result;                   /* lock */
};

static _Atomic unsigned running;

/* Gives the lock back, and perhaps the whole. */
static void
unuse_locked (struct apart *a)
  COW_RELEASE (a->lock)
{
  bool last = --a->users == 0;

  cow_mutex_unlock (&a->lock);
  if (!last)
    return;
  cow_cond_destroy (&a->over_cond);
  cow_mutex_destroy (&a->lock);
  free (a);
}

static void *
run (void *opaque)
{
  struct apart *a = opaque;
  int result = a->step (a->arg);

  a->done (a->arg);
  atomic_fetch_sub (&running, 1);
  cow_mutex_lock (&a->lock);
  a->result = result;
  a->over = true;
  cow_cond_broadcast (&a->over_cond);
  unuse_locked (a);
  return NULL;
}

static int
start (struct apart *a)
{
  sigset_t all, before;
  pthread_t thread;
  int r;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  atomic_fetch_add (&running, 1);
  r = pthread_create (&thread, NULL, run, a);
  pthread_sigmask (SIG_SETMASK, &before, NULL);
  if (r == 0)
    pthread_detach (thread);
  else
    atomic_fetch_sub (&running, 1);
  return -r;
}

int
apart_run (void *opaque, int (*step) (void *arg), void (*done) (void *arg),
           void *arg, uint64_t deadline_ns)
{
  struct apart *a = calloc (1, sizeof *a);
  int r;

  (void) opaque;
  if (a == NULL) {
    done (arg);
    return -ENOMEM;
  }
  *a = (struct apart) { .step = step, .done = done, .arg = arg, .users = 2 };
  cow_mutex_init (&a->lock);
  cow_cond_init (&a->over_cond);
  r = start (a);
  cow_mutex_lock (&a->lock);
  if (r < 0) {
    a->users = 1;
    unuse_locked (a);
    done (arg);
    return r;
  }
  while (!a->over)
    if (!cow_cond_wait_until (&a->over_cond, &a->lock, deadline_ns))
      break;
  r = a->over ? a->result : -ETIMEDOUT;
  unuse_locked (a);
  return r;
}

bool
apart_busy (void)
{
  return atomic_load (&running) > 0;
}
