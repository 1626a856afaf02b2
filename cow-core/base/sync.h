/* sync.h - locks, waits, clock and random numbers of cow-core.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Everything in cow-core that waits, locks, asks the time or draws a random
 * number does so through this header.  In production these are thin covers
 * over pthreads, CLOCK_MONOTONIC and getrandom(2).  In the simulator build
 * (COW_SIM) they ask `cow_sim`, so that several clients run as fibres of one
 * thread, in an order drawn from a seed, under a clock of the simulator's own.
 *
 * Threads: all functions may be called from any thread.
 */
#ifndef COW_BASE_SYNC_H
#define COW_BASE_SYNC_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/annotate.h"

/* Points in monotonic time, in nanoseconds.  COW_NEVER: no deadline. */
#define COW_NEVER UINT64_MAX
#define COW_NS_PER_MS UINT64_C (1000000)
#define COW_NS_PER_S UINT64_C (1000000000)

typedef struct cow_mutex {
  pthread_mutex_t m;
#ifdef COW_SIM
  int sim_owner;                /* fibre number + 1, 0 when free */
#endif
} COW_CAPABILITY ("mutex") cow_mutex;

typedef struct cow_cond {
  pthread_cond_t c;             /* on CLOCK_MONOTONIC */
#ifdef COW_SIM
  unsigned sim_turn;            /* grows with each wake-up */
#endif
} cow_cond;

void cow_mutex_init (cow_mutex *m);
void cow_mutex_destroy (cow_mutex *m);
void cow_mutex_lock (cow_mutex *m) COW_ACQUIRE (*m);
void cow_mutex_unlock (cow_mutex *m) COW_RELEASE (*m);

void cow_cond_init (cow_cond *c);
void cow_cond_destroy (cow_cond *c);
void cow_cond_signal (cow_cond *c);
void cow_cond_broadcast (cow_cond *c);

/* Wait for a wake-up, which may also come without reason.  Returns false if
 * deadline_ns (monotonic) has passed, true otherwise; the lock is held again
 * either way.
 */
bool cow_cond_wait_until (cow_cond *c, cow_mutex *m, uint64_t deadline_ns)
  COW_REQUIRES (*m);

/* Monotonic time in nanoseconds. */
uint64_t cow_now_ns (void);

/* Wall-clock time in nanoseconds since 1970-01-01 UTC: for showing to people
 * only, no decision depends on it.
 */
uint64_t cow_wall_ns (void);

/* Let others run for about ns nanoseconds.  Not on the write path. */
void cow_sleep_ns (uint64_t ns);

/* Give the processor away once: for bounded spinning. */
void cow_yield (void);

/* Fill buf with len random bytes. */
void cow_random (void *buf, size_t len);

/* A switch point of the simulator before a step of lock-free code: nothing in
 * production.
 */
#ifdef COW_SIM
void base_step (void);
#else
#define base_step() ((void) 0)
#endif

#ifdef COW_SIM
/* What a simulator provides.  All functions are called from the one thread
 * that runs all fibres.  With `cow_sim` NULL the build behaves as production.
 */
struct cow_sim_ops {
  /* Number of the running fibre, 0 for the simulator's own context (which
   * may lock and unlock, but never has to wait).
   */
  int (*self) (void);
  /* Another fibre may run; returns when this one is chosen again. */
  void (*step) (void);
  /* The same for a fibre that gets nowhere before others have moved. */
  void (*yield) (void);
  /* Park this fibre until *turn differs from seen or the simulated clock has
   * reached deadline_ns.  Returns false on the latter.
   */
  bool (*park) (const unsigned *turn, unsigned seen, uint64_t deadline_ns);
  uint64_t (*now_ns) (void);
  void (*random) (void *buf, size_t len);
};
extern const struct cow_sim_ops *cow_sim;
#endif

/* Take a lock for the rest of the enclosing scope.  clang can't follow an
 * unlock by cleanup, so it is told that the lock is held, not how it came.
 */
static inline cow_mutex *
cow_scope_lock_ (cow_mutex *m) COW_ASSERTS (*m) COW_NO_ANALYSIS
{
  cow_mutex_lock (m);
  return m;
}
static inline void
cow_scope_unlock_ (cow_mutex **m) COW_NO_ANALYSIS
{
  cow_mutex_unlock (*m);
}
#define COW_PASTE2_(a, b) a##b
#define COW_PASTE_(a, b) COW_PASTE2_ (a, b)
#define LOCK_FOR_SCOPE(m)                                               \
  __attribute__ ((cleanup (cow_scope_unlock_), unused))                 \
  cow_mutex *COW_PASTE_ (lock_scope_, __LINE__) = cow_scope_lock_ (m)

#endif /* COW_BASE_SYNC_H */
