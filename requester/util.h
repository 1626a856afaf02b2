/* util.h - small tools that all of libcowset uses.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef REQ_UTIL_H
#define REQ_UTIL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include <jansson.h>

#include "cowset.h"
#include "protocol/id.h"

/* ----------------------------------------------------- what ends its scope */

static inline void
req_cleanup_free_ (void *ptr)
{
  free (*(void **) ptr);
}

static inline void
req_cleanup_json_ (json_t **json)
{
  json_decref (*json);
}

static inline void
req_cleanup_unlock_ (pthread_mutex_t **lock)
{
  if (*lock)
    pthread_mutex_unlock (*lock);
}

#define CLEANUP_FREE __attribute__ ((cleanup (req_cleanup_free_)))
#define CLEANUP_JSON __attribute__ ((cleanup (req_cleanup_json_)))

/* Hold *mutex until the end of the scope. */
#define LOCK_FOR_SCOPE(mutex)                                           \
  __attribute__ ((cleanup (req_cleanup_unlock_), unused))               \
  pthread_mutex_t *scope_lock_ = req_lock_ (mutex)

static inline pthread_mutex_t *
req_lock_ (pthread_mutex_t *lock)
{
  pthread_mutex_lock (lock);
  return lock;
}

/* ------------------------------------------------------------------ errors */

#define REQ_MESSAGE_MAX 1024

/* Set this thread's message and return hr.  With a NULL format the message is
 * the code's cause.
 */
cowset_hresult req_fail (cowset_hresult hr, const char *format, ...)
  __attribute__ ((format (printf, 2, 3)));

/* E_INVALIDARG, saying which argument. */
cowset_hresult req_fail_null (const char *call, const char *argument);

/* Put "what: " in front of this thread's message. */
void req_fail_prefix (const char *what);

/* ----------------------------------------------------------- time, threads */

uint64_t req_now_ms (void);     /* monotonic */

/* A condition whose waits go by the monotonic clock. */
void req_cond_init (pthread_cond_t *cond);

/* False once deadline_ms (UINT64_MAX: never) has passed. */
bool req_cond_wait (pthread_cond_t *cond, pthread_mutex_t *lock,
                    uint64_t deadline_ms);

/* pthread_create() with all signals blocked, so that the handlers of the
 * program run on its own threads.  0 or an errno value.
 */
int req_thread_start (pthread_t *thread, void *(*run) (void *), void *arg);

/* --------------------------------------------------------------------- ids */

static inline struct proto_id
req_id_in (const struct cowset_id *id)
{
  struct proto_id out;

  for (unsigned i = 0; i < sizeof out.b; ++i)
    out.b[i] = id->bytes[i];
  return out;
}

static inline struct cowset_id
req_id_out (const struct proto_id *id)
{
  struct cowset_id out;

  for (unsigned i = 0; i < sizeof out.bytes; ++i)
    out.bytes[i] = id->b[i];
  return out;
}

/* The id as a new JSON string, NULL without memory. */
json_t *req_id_json (const struct proto_id *id);

#endif /* REQ_UTIL_H */
