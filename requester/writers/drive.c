/* drive.c - the writers' part in making a set: order, policy, consistency.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <stdio.h>
#include <string.h>

#include "object.h"
#include "uri.h"
#include "protocol/context.h"
#include "writers/drive.h"
#include "writers/guard.h"
#include "writers/nested.h"

static uint32_t
context_of (struct cowset *c)
{
  LOCK_FOR_SCOPE (&c->lock);

  return c->context;
}

static bool
has_writers (struct cowset *c)
{
  return c->writer_count > 0 && proto_context_has_writers (context_of (c));
}

/* The failure of the first of those that take part whose state is one of these
 * (a range of FAILED_AT_...), with its message, or S_OK.
 */
static cowset_hresult
first_failure (struct cowset *c, enum cowset_writer_state from,
               enum cowset_writer_state last)
{
  const uint32_t context = context_of (c);

  for (size_t i = 0; i < c->writer_count; ++i) {
    struct req_writer *w = c->writers[i];
    char message[256];
    cowset_hresult failure;
    const enum cowset_writer_state state = req_writer_state (w, &failure,
                                                             message);

    if (req_writer_sees (w, context) && state >= from && state <= last)
      return req_fail (failure, "writer %s failed: %s", w->name, message);
  }
  return S_OK;
}

/* ------------------------------------------------------------------ identify */

cowset_hresult
req_writers_identify (struct cowset *c, struct req_cancel *cancel)
{
  cowset_hresult hr = S_OK;

  if (c->writer_count == 0)
    return S_OK;
  hr = req_writers_check_nested (c);
  if (COWSET_SUCCEEDED (hr) && c->guard)
    hr = req_guard_start (c->guard);
  if (COWSET_FAILED (hr))
    return hr;
  hr = req_writers_raise (c, REQ_EVENT_IDENTIFY, cancel);
  if (hr == E_ABORT || c->writer_policy == COWSET_WRITERS_REQUIRED)
    return hr;
  return S_OK;
}

/* ------------------------------------------------------------------- prepare */

/* What programs find in their environment: the set, its volumes by name, and
 * where the snapshots will be.
 */
static cowset_hresult
tell_programs (struct cowset *c)
{
  char set[PROTO_ID_TEXT_SIZE];
  CLEANUP_FREE char *volumes = NULL, *uris = NULL;
  const char *context = proto_context_name (context_of (c));
  size_t len;
  FILE *out_volumes, *out_uris;
  cowset_hresult hr;

  if (c->guard == NULL)
    return S_OK;
  proto_id_format (&c->set, set);
  out_volumes = open_memstream (&volumes, &len);
  out_uris = open_memstream (&uris, &len);
  for (size_t i = 0; out_volumes && out_uris && i < c->member_count; ++i) {
    const struct req_member *m = &c->members[i];
    char device[256];
    CLEANUP_FREE char *uri = NULL;

    snprintf (device, sizeof device, "%s@%s", m->volume, set);
    uri = req_uri_export (m->server->uri, device);
    fprintf (out_volumes, "%s%s", i > 0 ? "\n" : "", m->volume);
    fprintf (out_uris, "%s%s %s", i > 0 ? "\n" : "", m->volume,
             uri ? uri : "");
  }
  if (out_volumes)
    fclose (out_volumes);
  if (out_uris)
    fclose (out_uris);
  if (volumes == NULL || uris == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  hr = req_guard_setenv (c->guard, "COWSET_SET", set);
  if (COWSET_SUCCEEDED (hr))
    hr = req_guard_setenv (c->guard, "COWSET_CONTEXT",
                           context ? context : "");
  /* A set may be too large for an environment; its programs go without. */
  if (COWSET_SUCCEEDED (hr) &&
      req_guard_setenv (c->guard, "COWSET_VOLUMES", volumes) == E_INVALIDARG)
    hr = req_guard_setenv (c->guard, "COWSET_VOLUMES", "");
  if (COWSET_SUCCEEDED (hr) &&
      req_guard_setenv (c->guard, "COWSET_URIS", uris) == E_INVALIDARG)
    hr = req_guard_setenv (c->guard, "COWSET_URIS", "");
  return hr;
}

cowset_hresult
req_writers_prepare_backup (struct cowset *c, struct req_cancel *cancel)
{
  if (!has_writers (c))
    return S_OK;
  tell_programs (c);            /* a failure shows in the event */
  return req_writers_raise (c, REQ_EVENT_PREPARE_BACKUP, cancel);
}

cowset_hresult
req_writers_prepare_snapshot (struct cowset *c, struct req_cancel *cancel)
{
  cowset_hresult hr;

  if (!has_writers (c))
    return S_OK;
  tell_programs (c);            /* volumes may have been added */
  hr = req_writers_raise (c, REQ_EVENT_PREPARE_SNAPSHOT, cancel);
  if (hr == E_ABORT)
    return hr;
  if (c->writer_policy == COWSET_WRITERS_REQUIRED)
    return first_failure (c, VSS_WS_FAILED_AT_IDENTIFY,
                          VSS_WS_FAILED_AT_PREPARE_SNAPSHOT);
  return S_OK;
}

/* ------------------------------------------------------------ freeze and thaw */

/* What the heap of this thread needs for the request that follows, and the
 * stack: given back at once, but not to the system, and so there without
 * asking it while a file system is frozen that it would have to write to.
 */
static void
take_memory (void)
{
  enum { PIECES = 24, PIECE_BYTES = 4000, STACK_BYTES = 65536 };
  void *pieces[PIECES];
  char stack[STACK_BYTES];

  explicit_bzero (stack, sizeof stack);
  for (size_t i = 0; i < PIECES; ++i) {
    pieces[i] = malloc (PIECE_BYTES);
    if (pieces[i])
      memset (pieces[i], (int) i, PIECE_BYTES);
  }
  for (size_t i = PIECES; i-- > 0; )
    free (pieces[i]);
}

/* Whether a failure with the set's policy ends the set. */
static bool
ends_set (struct cowset *c)
{
  return c->writer_policy != COWSET_WRITERS_OPTIONAL;
}

cowset_hresult
req_writers_freeze (struct cowset *c, struct req_cancel *cancel)
{
  if (!has_writers (c))
    return S_OK;
  take_memory ();
  for (int rank = 0; rank < REQ_RANKS; ++rank) {
    const cowset_hresult hr = req_writers_raise_rank (c, rank,
                                                      REQ_EVENT_FREEZE,
                                                      cancel);

    if (hr == E_ABORT)
      return hr;
    if (COWSET_SUCCEEDED (hr))
      continue;
    if (ends_set (c))
      return rank == REQ_RANK_TRANSACTIONS ?
             req_fail (VSS_E_TRANSACTION_FREEZE_TIMEOUT, "%s",
                       cowset_error_message ()) : hr;
    /* The others stay frozen; what this one has done is undone now. */
    req_writers_abort_failed (c);
  }
  return S_OK;
}

cowset_hresult
req_writers_thaw (struct cowset *c)
{
  char message[REQ_MESSAGE_MAX];
  cowset_hresult first = S_OK;

  if (!has_writers (c))
    return S_OK;
  for (int rank = REQ_RANKS; rank-- > 0; ) {
    const cowset_hresult hr = req_writers_raise_rank (c, rank, REQ_EVENT_THAW,
                                                      NULL);

    if (COWSET_SUCCEEDED (hr) || COWSET_FAILED (first))
      continue;
    first = rank == REQ_RANK_TRANSACTIONS ? VSS_E_TRANSACTION_THAW_TIMEOUT
                                          : hr;
    snprintf (message, sizeof message, "%s", cowset_error_message ());
  }
  if (!ends_set (c)) {
    req_writers_abort_failed (c);
    return S_OK;
  }
  if (COWSET_FAILED (first))
    return req_fail (first, "%s", message);
  /* Those that were thawed before they were told to. */
  return first_failure (c, VSS_WS_FAILED_AT_FREEZE, VSS_WS_FAILED_AT_THAW);
}

void
req_writers_post_snapshot (struct cowset *c, struct req_cancel *cancel)
{
  if (has_writers (c))
    req_writers_raise (c, REQ_EVENT_POST_SNAPSHOT, cancel);
}

const char *
req_writers_consistency (struct cowset *c)
{
  static const char *const names[] = {
    [REQ_CRASH] = "crash",
    [REQ_FILE_SYSTEM] = "file-system",
    [REQ_APPLICATION] = "application",
  };
  const uint32_t context = context_of (c);
  enum req_consistency best = REQ_CRASH;

  if (!has_writers (c))
    return names[REQ_CRASH];
  for (size_t i = 0; i < c->writer_count; ++i) {
    struct req_writer *w = c->writers[i];

    /* One that could not be asked is one that the set is not consistent of. */
    if (req_writer_state (w, NULL, NULL) >= VSS_WS_FAILED_AT_IDENTIFY)
      return names[REQ_CRASH];
    if (req_writer_sees (w, context) && w->consistency > best)
      best = w->consistency;
  }
  return names[best];
}
