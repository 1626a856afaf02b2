/* async.c - cowset_async: query, wait, cancel, a descriptor to poll.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   PENDING --returns S_OK--> FINISHED
 *      |------returns E_ABORT, cancelled--> CANCELLED
 *      +------returns a failure--> that failure
 *
 * The three ends are final.  `ended' of the thread's last act is what the
 * descriptor, the waits and the cancels go by; by then the operation has put
 * its object into the state that follows.
 */
#include <config.h>

#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "async.h"

struct cowset_async {
  _Atomic unsigned refs;        /* release; the last one acquires */

  /* Set at the start, then read only. */
  req_operation run;
  void *opaque;
  pthread_t thread;
  int fd;

  const char *_Atomic phase;
  struct req_cancel cancel;

  pthread_mutex_t lock;
  pthread_cond_t ended;         /* lock: status was set */
  cowset_hresult status;        /* lock; VSS_S_ASYNC_PENDING until the end */
  char message[REQ_MESSAGE_MAX]; /* written before status, then read only */
};

static void
put (struct cowset_async *async)
{
  if (atomic_fetch_sub_explicit (&async->refs, 1, memory_order_acq_rel) > 1)
    return;
  close (async->fd);
  req_cancel_clear (&async->cancel);
  pthread_cond_destroy (&async->ended);
  pthread_mutex_destroy (&async->lock);
  free (async);
}

static void *
run (void *opaque)
{
  struct cowset_async *async = opaque;
  const uint64_t one = 1;
  cowset_hresult hr = async->run (async, async->opaque);

  atomic_store (&async->phase, "");
  pthread_mutex_lock (&async->lock);
  if (COWSET_SUCCEEDED (hr))
    async->status = VSS_S_ASYNC_FINISHED;
  else if (hr == E_ABORT && req_cancel_cancelled (&async->cancel))
    async->status = VSS_S_ASYNC_CANCELLED;
  else {
    memcpy (async->message, cowset_error_message (), REQ_MESSAGE_MAX);
    async->status = hr;
  }
  /* Cannot fail: nobody else writes to the descriptor. */
  if (write (async->fd, &one, sizeof one) == -1)
    abort ();
  pthread_cond_broadcast (&async->ended);
  pthread_mutex_unlock (&async->lock);
  return NULL;
}

cowset_hresult
req_async_start (req_operation operation, void *opaque,
                 struct cowset_async **out)
{
  struct cowset_async *async = calloc (1, sizeof *async);

  if (async == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  async->fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (async->fd == -1) {
    free (async);
    return req_fail (E_OUTOFMEMORY, "eventfd: %m");
  }
  atomic_init (&async->refs, 2);
  atomic_init (&async->phase, "");
  async->run = operation;
  async->opaque = opaque;
  async->status = VSS_S_ASYNC_PENDING;
  req_cancel_init (&async->cancel);
  pthread_mutex_init (&async->lock, NULL);
  req_cond_init (&async->ended);
  if (req_thread_start (&async->thread, run, async) != 0) {
    put (async);
    put (async);
    return req_fail (E_OUTOFMEMORY, "no thread for the operation");
  }
  *out = async;
  return S_OK;
}

void
req_async_join (struct cowset_async *async)
{
  pthread_join (async->thread, NULL);
  put (async);
}

static cowset_hresult
status_of (struct cowset_async *async)
{
  LOCK_FOR_SCOPE (&async->lock);

  return async->status;
}

bool
req_async_ended (struct cowset_async *async)
{
  return status_of (async) != VSS_S_ASYNC_PENDING;
}

struct req_cancel *
req_async_canceller (struct cowset_async *async)
{
  return &async->cancel;
}

void
req_async_set_phase (struct cowset_async *async, const char *phase)
{
  atomic_store (&async->phase, phase);
}

/* The operation's failure, with its message, in this thread. */
static cowset_hresult
fail_again (struct cowset_async *async, cowset_hresult status)
{
  return req_fail (status, "%s", async->message);
}

cowset_hresult
cowset_async_query_status (struct cowset_async *async, cowset_hresult *status)
{
  if (async == NULL || status == NULL)
    return req_fail_null ("QueryStatus", async ? "status" : "async");
  *status = status_of (async);
  return S_OK;
}

cowset_hresult
cowset_async_wait (struct cowset_async *async, uint32_t timeout_ms)
{
  uint64_t deadline_ms = UINT64_MAX;
  cowset_hresult status;
  bool in_time = true;

  if (async == NULL)
    return req_fail_null ("Wait", "async");
  if (timeout_ms != VSS_INFINITE)
    deadline_ms = req_now_ms () + timeout_ms;

  pthread_mutex_lock (&async->lock);
  while (async->status == VSS_S_ASYNC_PENDING && in_time)
    in_time = req_cond_wait (&async->ended, &async->lock, deadline_ms);
  status = async->status;
  pthread_mutex_unlock (&async->lock);
  return COWSET_FAILED (status) ? fail_again (async, status) : S_OK;
}

cowset_hresult
cowset_async_cancel (struct cowset_async *async)
{
  cowset_hresult status;

  if (async == NULL)
    return req_fail_null ("Cancel", "async");
  status = status_of (async);
  if (status == VSS_S_ASYNC_PENDING) {
    req_cancel_now (&async->cancel);
    pthread_mutex_lock (&async->lock);
    while (async->status == VSS_S_ASYNC_PENDING)
      pthread_cond_wait (&async->ended, &async->lock);
    status = async->status;
    pthread_mutex_unlock (&async->lock);
    if (status == VSS_S_ASYNC_CANCELLED)
      return S_OK;
  }
  return COWSET_FAILED (status) ? fail_again (async, status) : status;
}

int
cowset_async_fd (struct cowset_async *async)
{
  return async ? async->fd : -1;
}

const char *
cowset_async_phase (struct cowset_async *async)
{
  return async ? atomic_load (&async->phase) : "";
}

const char *
cowset_async_message (struct cowset_async *async)
{
  if (async == NULL || COWSET_SUCCEEDED (status_of (async)))
    return "";
  return async->message;
}

void
cowset_async_free (struct cowset_async *async)
{
  if (async)
    put (async);
}
