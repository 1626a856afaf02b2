/* writers.h - clients that keep stamped writes in flight.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Each writer has a connection to every volume and keeps so many writes in
 * flight over all of them, at random places, ranges of different writers
 * overlapping; history.h knows each of them.
 */
#ifndef TESTS_WRITERS_H
#define TESTS_WRITERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "consistency/history.h"
#include "consistency/sets.h"

#define WRITERS_MAX 16
#define WRITERS_DEPTH_MAX 64

struct writers {
  /* Set by the caller. */
  const char *uri;
  const char *const *name;      /* of the volumes */
  unsigned volumes, count, depth;
  uint64_t seed;
  struct history *history;
  bool may_die;                 /* the server; else a failure ends the program */
  _Atomic uint64_t allowed;     /* changes of each writer, from now on */

  uint64_t sectors[SETS_VOLUMES_MAX]; /* writers_measure() */
  pthread_t thread[WRITERS_MAX];
  _Atomic bool stop, died;
  _Atomic unsigned next;
};

/* How large the volumes are. */
void writers_measure (struct writers *w);
void writers_start (struct writers *w);
/* Waits for what is in flight. */
void writers_stop (struct writers *w);

/* Read all whole sectors of all volumes and check them against the history as
 * they are now.  what: for the message.
 */
void writers_check_volumes (struct writers *w, bool instant, const char *what);

#endif /* TESTS_WRITERS_H */
