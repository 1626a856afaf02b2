/* fibres.h - several clients in one thread, in an order of the test's own.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A program over libcowcore-sim (built with -DCOW_SIM) runs its clients as
 * fibres: bodies with stacks of their own, which change places only at the
 * steps of base/sync.h (before taking a lock, when waiting, at base_step()).
 * The clock is simulated: it moves a little with each step, and jumps to the
 * next deadline when everybody waits.  So a run is deterministic.
 *
 *   a seeded run    fibres_begin, fibre_spawn..., fibres_run, fibres_end: the
 *                   seed decides who runs
 *   exhaustively    fibres_explore: every order with at most so many
 *                   preemptions
 *   a sample        fibres_sample: orders drawn from seeds, without that bound
 *
 * The simulator is the process's: one at a time, used from one thread.
 *
 * A fibre asserts by assert(), never by Criterion's macros, which jump to the
 * test's stack.  A failed assertion says which seed or schedule it was.
 */
#ifndef SIM_FIBRES_H
#define SIM_FIBRES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FIBRES_MAX 64

typedef void (*fibre_body) (void *opaque);

enum fibres_verdict {
  FIBRES_DONE,                  /* all bodies have returned */
  FIBRES_DEADLOCK,              /* all who are left wait without a deadline */
  FIBRES_LIVELOCK,              /* steps_max was reached */
  FIBRES_STOPPED,               /* somebody called fibres_stop */
};

struct fibres_options {
  uint64_t seed;
  uint64_t steps_max;           /* 0: ten million */
  /* One step in so many finds that the next deadline has passed, as on a
   * machine that stalled; 0: the clock only jumps when everybody waits.
   */
  unsigned stall_one_in;
};

/* Take over cow_sim.  Locks may now be made and taken from outside the fibres,
 * as long as nobody has to wait for them; a wait with a deadline makes the
 * clock jump there, and no fibre runs meanwhile.
 */
void fibres_begin (const struct fibres_options *options);

/* Also from within a fibre.  The name is kept as a pointer. */
void fibre_spawn (const char *name, fibre_body body, void *opaque);

/* Run until a verdict.  May be repeated, after more were spawned.  Anything
 * but FIBRES_DONE is reported on stderr (FIBRES_STOPPED is not), with where
 * each fibre stands; those left over never run again.
 */
enum fibres_verdict fibres_run (void);

/* Leave the simulation; from within a fibre, which does not come back. */
void fibres_stop (void);

/* Give cow_sim back; fibres that have not ended are forgotten. */
void fibres_end (void);

/* While it is on nobody else runs at a step, so that an observer sees one moment;
 * only where the fibre has to wait.  Returns what it was.
 */
bool fibres_stay (bool on);

/* Whether a simulation is going on, and a fibre is running. */
bool fibres_inside (void);

/* The running fibre's name; "simulator" outside. */
const char *fibre_name (void);

/* How many steps there were, and the simulated time. */
uint64_t fibres_steps (void);
uint64_t fibres_now_ns (void);

/* A number below n, from a stream of the seed that is for tests only. */
uint64_t fibres_draw (uint64_t n);

/* ------------------------------------------------- several runs of one case */

struct fibre_spec {
  const char *name;
  fibre_body body;
  void *opaque;
};

struct fibres_case {
  void (*setup) (void *opaque); /* before each run */
  /* After each run, when all have ended: whether it was right. */
  bool (*check) (void *opaque);
  void (*teardown) (void *opaque);
  void *opaque;
  const struct fibre_spec *fibres;
  unsigned count;
  uint64_t steps_max;           /* 0: 100,000 */
  /* In fibres_explore: a deadline may pass at any step, at the price of a
   * preemption.  In fibres_sample: one step in 64 stalls.
   */
  bool deadlines_pass;
};

struct fibres_result {
  bool right;                   /* no run failed */
  bool complete;                /* no schedule within the bound was left out */
  uint64_t runs;
  uint64_t steps;               /* of all runs */
};

/* Run every schedule in which at most max_preemptions times a fibre that could
 * go on is made to wait; stops at runs_max (0: none) and at the first failure
 * (check, deadlock or livelock), which is reported with its schedule.
 * Bodies must depend on nothing but their steps.
 */
struct fibres_result fibres_explore (const struct fibres_case *c,
                                     unsigned max_preemptions,
                                     uint64_t runs_max);

/* The same over schedules drawn from seeds first, first + 1... */
struct fibres_result fibres_sample (const struct fibres_case *c,
                                    uint64_t first, uint64_t runs);

#endif /* SIM_FIBRES_H */
