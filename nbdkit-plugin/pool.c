/* pool.c - the threads that work for requesters.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * NBD callbacks must not wait for a set, so requests are carried out here.  A
 * request may wait for a minute (a slow sync), so a pool grows whenever a job
 * would find no idle thread, up to its bound.  Threads stay until the server
 * stops: they cost little, and unloading a plugin under a thread that is about
 * to end would be a race.
 *
 * There are two pools, since a request may wait for a step of the engine that
 * runs in the other: with one of them, a full pool of requests would wait for
 * steps that find no thread.
 *
 * If no thread can be made the job waits for one of those that are there; the
 * first is made at the start.
 */
#include <config.h>

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"
#include "pool.h"

struct pool {
  cow_mutex lock;
  cow_cond work;                /* a job was queued, or stop */

  /* All under lock. */
  struct job *first, **last;
  unsigned queued, idle, count, max;
  pthread_t *threads;
  bool stop;
};

struct pool pool_requests, pool_steps;

static void *
worker (void *arg)
{
  struct pool *pool = arg;

  cow_mutex_lock (&pool->lock);
  for (;;) {
    struct job *job = pool->first;

    if (job) {
      pool->first = job->next;
      if (pool->first == NULL)
        pool->last = &pool->first;
      pool->queued--;
      cow_mutex_unlock (&pool->lock);
      job->run (job);
      cow_mutex_lock (&pool->lock);
      continue;
    }
    if (pool->stop)
      break;
    pool->idle++;
    cow_cond_wait_until (&pool->work, &pool->lock, COW_NEVER);
    pool->idle--;
  }
  cow_mutex_unlock (&pool->lock);
  return NULL;
}

/* Called with the lock held.  Signals are nbdkit's. */
static int
add_thread_locked (struct pool *pool)
{
  sigset_t all, before;
  int r;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  r = pthread_create (&pool->threads[pool->count], NULL, worker, pool);
  pthread_sigmask (SIG_SETMASK, &before, NULL);
  if (r == 0)
    pool->count++;
  return r;
}

int
pool_start (struct pool *pool, unsigned max)
{
  int r;

  cow_mutex_init (&pool->lock);
  cow_cond_init (&pool->work);
  pool->last = &pool->first;
  pool->max = max;
  pool->threads = calloc (max, sizeof pool->threads[0]);
  if (pool->threads == NULL) {
    nbdkit_error ("calloc: %m");
    return -1;
  }
  cow_mutex_lock (&pool->lock);
  r = add_thread_locked (pool);
  cow_mutex_unlock (&pool->lock);
  if (r != 0) {
    nbdkit_error ("pthread_create: %s", strerror (r));
    return -1;
  }
  return 0;
}

void
pool_submit (struct pool *pool, struct job *job)
{
  LOCK_FOR_SCOPE (&pool->lock);
  assert (!pool->stop);
  job->next = NULL;
  *pool->last = job;
  pool->last = &job->next;
  pool->queued++;
  if (pool->queued > pool->idle && pool->count < pool->max)
    add_thread_locked (pool);
  cow_cond_signal (&pool->work);
}

void
pool_stop (struct pool *pool)
{
  if (pool->threads == NULL)
    return;
  cow_mutex_lock (&pool->lock);
  pool->stop = true;
  cow_cond_broadcast (&pool->work);
  cow_mutex_unlock (&pool->lock);
  for (unsigned i = 0; i < pool->count; ++i)
    pthread_join (pool->threads[i], NULL);
  free (pool->threads);
  pool->threads = NULL;
  cow_cond_destroy (&pool->work);
  cow_mutex_destroy (&pool->lock);
}
