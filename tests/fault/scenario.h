/* scenario.h - an afternoon of an engine, in which one thing goes wrong.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Two volumes over a simulated disk; a client that writes, zeroes, trims,
 * flushes, makes sets, aborts one, and deletes them; somebody who reads the
 * oldest snapshot meanwhile; and the engine's stepper.  All three are fibres,
 * so that a run repeats by its seed.
 *
 * After everything that fails it is asked whether it had a reason to.  What
 * has no reason, and whatever reads wrong, ends the program by way of
 * scenario_wrong().
 */
#ifndef FAULT_SCENARIO_H
#define FAULT_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/simdisk.h"

#define STORE_FILE "(unnamed)"
#define STORE_PATH "/store"
#define NAMED_STORE_FILE STORE_PATH "/cowset.store"

struct scenario {
  uint64_t seed;
  uint32_t direct;              /* cache=none with this alignment; 0: cached */
  uint32_t block_bytes;
  bool protect;                 /* protect=snapshot */
  bool persistent;              /* a store with a name, and a restart */
  struct sim_fault fault;
  bool faulty;                  /* is there a fault of the disk? */
  uint64_t alloc_skip, alloc_times; /* times 0: no allocation fails */
};

struct scenario_result {
  uint64_t matched;             /* I/Os that the fault's ops and file match */
  uint64_t allocations;         /* asked for */
  uint64_t hits;                /* I/Os or allocations that failed, or hung */
  unsigned refused;             /* requests and phases that failed */
  unsigned lost;                /* snapshots */
  unsigned compared;            /* snapshots and origins, that were right */
  uint64_t origin_ios[SIM_MARK + 1], store_ios[SIM_MARK + 1]; /* by sim_op */
};

void scenario_run (const struct scenario *s, struct scenario_result *out);

/* The driver's: say how to repeat it, and exit. */
void scenario_wrong (const char *fmt, ...)
  __attribute__ ((noreturn, format (printf, 1, 2)));

#endif /* FAULT_SCENARIO_H */
