/* util.c - messages, clock, threads, and the small public calls.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "protocol/context.h"
#include "protocol/result.h"
#include "util.h"

/* cowset_error_message() of each thread. */
static _Thread_local char message[REQ_MESSAGE_MAX];

cowset_hresult
req_fail (cowset_hresult hr, const char *format, ...)
{
  va_list args;
  /* A message may be an argument of the next one. */
  char text[REQ_MESSAGE_MAX];

  if (format) {
    va_start (args, format);
    vsnprintf (text, sizeof text, format, args);
    va_end (args);
  }
  else
    snprintf (text, sizeof text, "%s", proto_result_cause (hr));
  memcpy (message, text, sizeof message);
  return hr;
}

cowset_hresult
req_fail_null (const char *call, const char *argument)
{
  return req_fail (E_INVALIDARG, "%s: %s is NULL", call, argument);
}

void
req_fail_prefix (const char *what)
{
  char text[REQ_MESSAGE_MAX];

  memcpy (text, message, sizeof text);
  /* A message that is too long loses its end. */
  if (snprintf (message, sizeof message, "%s: %s", what, text) < 0)
    message[0] = '\0';
}

const char *
cowset_error_message (void)
{
  return message;
}

uint64_t
req_now_ms (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

void
req_cond_init (pthread_cond_t *cond)
{
  pthread_condattr_t attr;

  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (cond, &attr);
  pthread_condattr_destroy (&attr);
}

bool
req_cond_wait (pthread_cond_t *cond, pthread_mutex_t *lock,
               uint64_t deadline_ms)
{
  struct timespec until;

  if (deadline_ms == UINT64_MAX) {
    pthread_cond_wait (cond, lock);
    return true;
  }
  until.tv_sec = (time_t) (deadline_ms / 1000);
  until.tv_nsec = (long) (deadline_ms % 1000) * 1000000;
  return pthread_cond_timedwait (cond, lock, &until) == 0;
}

int
req_thread_start (pthread_t *thread, void *(*run) (void *), void *arg)
{
  sigset_t all, old;
  int err;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (thread, NULL, run, arg);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return err;
}

json_t *
req_id_json (const struct proto_id *id)
{
  char text[PROTO_ID_TEXT_SIZE];

  proto_id_format (id, text);
  return json_string (text);
}

const char *
cowset_version (void)
{
  return PACKAGE_VERSION;
}

bool
cowset_id_parse (const char *text, struct cowset_id *id)
{
  struct proto_id parsed;

  if (text == NULL || id == NULL || !proto_id_parse (text, &parsed))
    return false;
  *id = req_id_out (&parsed);
  return true;
}

void
cowset_id_format (const struct cowset_id *id, char text[COWSET_ID_TEXT_SIZE])
{
  const struct proto_id in = req_id_in (id);

  proto_id_format (&in, text);
}

bool
cowset_id_is_null (const struct cowset_id *id)
{
  const struct proto_id in = req_id_in (id);

  return proto_id_is_null (&in);
}

bool
cowset_id_equal (const struct cowset_id *a, const struct cowset_id *b)
{
  return memcmp (a->bytes, b->bytes, sizeof a->bytes) == 0;
}

const char *
cowset_result_name (cowset_hresult hr)
{
  return proto_result_name (hr);
}

const char *
cowset_result_cause (cowset_hresult hr)
{
  return proto_result_cause (hr);
}

const char *
cowset_result_advice (cowset_hresult hr)
{
  return proto_result_advice (hr);
}

enum cowset_retry
cowset_result_retry (cowset_hresult hr)
{
  return proto_result_retry (hr);
}

bool
cowset_context_parse (const char *text, uint32_t *context)
{
  return text != NULL && context != NULL &&
         proto_context_parse (text, context);
}

const char *
cowset_context_name (uint32_t context)
{
  return proto_context_name (context);
}
