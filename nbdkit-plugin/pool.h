/* pool.h - the threads that work for requesters.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef COWSET_POOL_H
#define COWSET_POOL_H

struct job {
  struct job *next;             /* the pool's, from submit until run begins */
  void (*run) (struct job *job);
};

struct pool;
extern struct pool pool_requests; /* what requesters ask for */
extern struct pool pool_steps;    /* steps of the engine that may wait */

/* At most max threads, started as they are needed.  0, or -1 after
 * nbdkit_error.
 */
int pool_start (struct pool *pool, unsigned max);

/* Run the job on a thread of the pool, in the order of arrival as far as there
 * are threads.  Never waits.  From any thread, between start and stop.
 */
void pool_submit (struct pool *pool, struct job *job);

/* Returns when every job has been run and all threads have ended.  Does
 * nothing if the pool was not started.
 */
void pool_stop (struct pool *pool);

#endif /* COWSET_POOL_H */
