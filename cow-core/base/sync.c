/* sync.c - locks, waits, clock and random numbers.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * In production: pthreads, CLOCK_MONOTONIC, getrandom(2).  In the simulator
 * build each function asks `cow_sim` first, if there is one.  There all fibres
 * share one thread, so a lock is its owner's number, and waiting for it is
 * parking until that number changes.
 *
 * Failure: a lock that can't be taken is a programmer's error, and aborts.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/sync.h"

#ifdef COW_SIM
const struct cow_sim_ops *cow_sim;

/* What simulated wall clocks start from: 2020-01-01, for people to see. */
#define SIM_WALL_EPOCH_NS (UINT64_C (1577836800) * COW_NS_PER_S)
#endif

/* pthread functions return their error. */
static void
must (const char *what, int err)
{
  if (COW_LIKELY (err == 0))
    return;
  fprintf (stderr, "cowset: %s: %s\n", what, strerror (err));
  abort ();
}

static uint64_t
clock_ns (clockid_t clock)
{
  struct timespec ts;

  if (clock_gettime (clock, &ts) == -1)
    must ("clock_gettime", errno);
  return (uint64_t) ts.tv_sec * COW_NS_PER_S + (uint64_t) ts.tv_nsec;
}

static struct timespec
timespec_of (uint64_t ns)
{
  return (struct timespec) {
    .tv_sec = (time_t) (ns / COW_NS_PER_S),
    .tv_nsec = (long) (ns % COW_NS_PER_S),
  };
}

void
cow_mutex_init (cow_mutex *m)
{
  pthread_mutexattr_t attr;

  must ("pthread_mutexattr_init", pthread_mutexattr_init (&attr));
#ifndef NDEBUG
  must ("pthread_mutexattr_settype",
        pthread_mutexattr_settype (&attr, PTHREAD_MUTEX_ERRORCHECK));
#endif
  must ("pthread_mutex_init", pthread_mutex_init (&m->m, &attr));
  pthread_mutexattr_destroy (&attr);
#ifdef COW_SIM
  m->sim_owner = 0;
#endif
}

void
cow_mutex_destroy (cow_mutex *m)
{
#ifdef COW_SIM
  assert (m->sim_owner == 0);
#endif
  must ("pthread_mutex_destroy", pthread_mutex_destroy (&m->m));
}

#ifdef COW_SIM
static void
sim_lock (cow_mutex *m)
{
  const int self = cow_sim->self () + 1;

  assert (m->sim_owner != self); /* else it would wait for itself */
  while (m->sim_owner != 0) {
    assert (self != 1);          /* the simulator itself never waits */
    cow_sim->park ((const unsigned *) &m->sim_owner,
                   (unsigned) m->sim_owner, COW_NEVER);
  }
  m->sim_owner = self;
}

static void
sim_unlock (cow_mutex *m)
{
  assert (m->sim_owner == cow_sim->self () + 1);
  m->sim_owner = 0;
}
#endif

void
cow_mutex_lock (cow_mutex *m) COW_NO_ANALYSIS
{
#ifdef COW_SIM
  if (cow_sim) {
    cow_sim->step ();
    sim_lock (m);
    return;
  }
#endif
  must ("pthread_mutex_lock", pthread_mutex_lock (&m->m));
}

void
cow_mutex_unlock (cow_mutex *m) COW_NO_ANALYSIS
{
#ifdef COW_SIM
  if (cow_sim) {
    sim_unlock (m);
    return;
  }
#endif
  must ("pthread_mutex_unlock", pthread_mutex_unlock (&m->m));
}

void
cow_cond_init (cow_cond *c)
{
  pthread_condattr_t attr;

  must ("pthread_condattr_init", pthread_condattr_init (&attr));
  must ("pthread_condattr_setclock",
        pthread_condattr_setclock (&attr, CLOCK_MONOTONIC));
  must ("pthread_cond_init", pthread_cond_init (&c->c, &attr));
  pthread_condattr_destroy (&attr);
#ifdef COW_SIM
  c->sim_turn = 0;
#endif
}

void
cow_cond_destroy (cow_cond *c)
{
  must ("pthread_cond_destroy", pthread_cond_destroy (&c->c));
}

void
cow_cond_signal (cow_cond *c)
{
#ifdef COW_SIM
  if (cow_sim) {
    c->sim_turn++;
    return;
  }
#endif
  must ("pthread_cond_signal", pthread_cond_signal (&c->c));
}

void
cow_cond_broadcast (cow_cond *c)
{
#ifdef COW_SIM
  if (cow_sim) {
    c->sim_turn++;
    return;
  }
#endif
  must ("pthread_cond_broadcast", pthread_cond_broadcast (&c->c));
}

bool
cow_cond_wait_until (cow_cond *c, cow_mutex *m, uint64_t deadline_ns)
{
  struct timespec ts;
  int err;

#ifdef COW_SIM
  if (cow_sim) {
    const unsigned seen = c->sim_turn;
    bool in_time;

    sim_unlock (m);
    in_time = cow_sim->park (&c->sim_turn, seen, deadline_ns);
    sim_lock (m);
    return in_time;
  }
#endif
  if (deadline_ns == COW_NEVER) {
    must ("pthread_cond_wait", pthread_cond_wait (&c->c, &m->m));
    return true;
  }
  ts = timespec_of (deadline_ns);
  err = pthread_cond_timedwait (&c->c, &m->m, &ts);
  if (err == ETIMEDOUT)
    return false;
  must ("pthread_cond_timedwait", err);
  return true;
}

uint64_t
cow_now_ns (void)
{
#ifdef COW_SIM
  if (cow_sim)
    return cow_sim->now_ns ();
#endif
  return clock_ns (CLOCK_MONOTONIC);
}

uint64_t
cow_wall_ns (void)
{
#ifdef COW_SIM
  if (cow_sim)
    return SIM_WALL_EPOCH_NS + cow_sim->now_ns ();
#endif
  return clock_ns (CLOCK_REALTIME);
}

void
cow_sleep_ns (uint64_t ns)
{
  struct timespec ts;

#ifdef COW_SIM
  if (cow_sim) {
    const unsigned never = 0;

    cow_sim->park (&never, never, cow_sim->now_ns () + ns);
    return;
  }
#endif
  ts = timespec_of (ns);
  while (nanosleep (&ts, &ts) == -1 && errno == EINTR)
    ;
}

void
cow_yield (void)
{
#ifdef COW_SIM
  if (cow_sim) {
    cow_sim->yield ();
    return;
  }
#endif
  sched_yield ();
}

void
cow_random (void *buf, size_t len)
{
  uint8_t *p = buf;

#ifdef COW_SIM
  if (cow_sim) {
    cow_sim->random (buf, len);
    return;
  }
#endif
  while (len > 0) {
    const ssize_t r = getrandom (p, len, 0);

    if (r == -1) {
      if (errno != EINTR)
        must ("getrandom", errno);
      continue;
    }
    p += r;
    len -= (size_t) r;
  }
}

#ifdef COW_SIM
void
base_step (void)
{
  if (cow_sim)
    cow_sim->step ();
}
#endif
