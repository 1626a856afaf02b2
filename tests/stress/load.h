/* load.h - what the threads of stress-engine share, and its clients.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef TESTS_STRESS_LOAD_H
#define TESTS_STRESS_LOAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "consistency/history.h"
#include "cow.h"

#define VOLUMES 2
#define WRITERS 4
#define READERS 2
#define MAKERS 2
#define SETS_MAX 4              /* kept by each of them */
#define LOG_ROOM 200000

/* A set that the readers may look at. */
struct kept {
  pthread_rwlock_t lock;        /* written by the maker only */
  bool used;                    /* lock */
  struct cow_id id;             /* lock */
  uint8_t *data[VOLUMES];       /* lock; NULL: not a member */
  /* Set before it is deleted: from then on a read may fail. */
  _Atomic bool going;
};

extern struct load {
  uint64_t seed;
  unsigned sets;
  struct cow_engine_options options;
  enum cow_cache cache;
  uint64_t blocks;
  uint64_t limit_bytes;         /* of the store; 0: no snapshot may be lost */
  unsigned trims;               /* percent of the changes; as many zeroes */
  char dir[256];

  struct cow_engine *engine;
  struct cow_volume *volume[VOLUMES];
  uint64_t size[VOLUMES];
  char path[VOLUMES][300];
  struct history *history;
  struct kept kept[MAKERS * SETS_MAX];
  _Atomic bool stop, stop_stepping;
  _Atomic unsigned long writes, origin_reads, snapshot_reads;
  _Atomic unsigned long made, aborted, claimed, lost;
} t;

/* Ends the program: what is wrong, and how to repeat the run. */
void fail (const char *fmt, ...)
  __attribute__ ((noreturn, format (printf, 1, 2)));

uint64_t draw (uint64_t *state);
uint64_t below (uint64_t *state, uint64_t n);

/* Whole sectors of a volume. */
uint64_t sectors (unsigned v);

/* Memory that O_DIRECT can use. */
uint8_t *room (uint64_t len);

/* Threads: a client that changes the volumes (arg: its number), and one that
 * reads volumes and snapshots; until t.stop.
 */
void *write_all_the_time (void *arg);
void *read_all_the_time (void *arg);

#endif /* TESTS_STRESS_LOAD_H */
