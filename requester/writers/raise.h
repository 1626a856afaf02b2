/* raise.h - events to many writers at once.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Each writer has a worker, a thread that calls its kind: writers of one rank
 * are told at once, and one that is stuck is given up after its time.  A worker
 * also keeps the window of writers whose kind does not: what has been frozen
 * for too long is aborted, whoever forgot it.
 *
 * One event at a time is raised for an object.  Between the first freeze and
 * the last thaw nothing here allocates.
 */
#ifndef REQ_RAISE_H
#define REQ_RAISE_H

#include "writers/writer.h"

struct cowset;

struct req_raiser {
  /* Locks, in the order in which they may be taken; a writer's own is after
   * them.
   */
  pthread_mutex_t turn;         /* held over an event at all of them */
  pthread_mutex_t lock;         /* and all that workers share */
  pthread_cond_t done;          /* lock: a worker has come to an end */
  bool cancelled;               /* lock */
};

void req_raiser_init (struct req_raiser *r);
void req_raiser_clear (struct req_raiser *r);

/* Raise an event at every writer that it is for (identify: at every one), from
 * the front-end down to the system, thaw the other way round.  All are told,
 * whatever the first ones did.  Returns S_OK, E_ABORT after a cancel (some may
 * still be at it; an abort ends that), or the failure of the first that failed
 * or was late, whose name is in the message.  cancel may be NULL.
 */
cowset_hresult req_writers_raise (struct cowset *c, enum req_event event,
                                  struct req_cancel *cancel);

/* The same at one rank. */
cowset_hresult req_writers_raise_rank (struct cowset *c, int rank,
                                       enum req_event event,
                                       struct req_cancel *cancel);

/* abort, to those that are owed an end, once what they are at has ended;
 * waits for it for a while.  With failed_only, to those of them that have
 * failed.  Leaves this thread's message alone.
 */
void req_writers_abort (struct cowset *c);
void req_writers_abort_failed (struct cowset *c);

/* Waits for what it is at. */
void req_worker_stop (struct req_writer *w);

#endif /* REQ_RAISE_H */
