/* callback.c - writers that are functions of the program, and the public calls
 * about writers.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <string.h>

#include "object.h"
#include "writers/kinds.h"
#include "writers/writer.h"

struct callback {
  struct req_writer base;       /* first: it is cast */
  cowset_hresult (*event) (void *opaque, enum cowset_writer_event event,
                           const struct cowset_id *set);
  void *opaque;
};

/* A writer says of itself what OnXxx may with SetWriterFailure, and no more. */
static cowset_hresult
as_writer_error (cowset_hresult hr, enum cowset_writer_event event)
{
  switch (hr) {
  case VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT:
  case VSS_E_WRITERERROR_OUTOFRESOURCES:
  case VSS_E_WRITERERROR_TIMEOUT:
  case VSS_E_WRITERERROR_RETRYABLE:
  case VSS_E_WRITERERROR_NONRETRYABLE:
    return req_fail (hr, "it refused");
  default:
    if (COWSET_SUCCEEDED (hr))
      return S_OK;
    return req_fail (VSS_E_WRITERERROR_NONRETRYABLE, "it refused with 0x%08x "
                     "at event %d", (unsigned) hr, (int) event);
  }
}

static cowset_hresult
tell (struct req_writer *w, enum cowset_writer_event event,
      const struct req_occasion *occasion)
{
  const struct callback *b = (const struct callback *) w;
  const struct cowset_id set = req_id_out (&occasion->set);

  return as_writer_error (b->event (b->opaque, event, &set), event);
}

#define EVENT(function, event)                                          \
  static cowset_hresult                                                 \
  function (struct req_writer *w, const struct req_occasion *occasion)  \
  {                                                                     \
    return tell (w, event, occasion);                                   \
  }
EVENT (on_identify, COWSET_ON_IDENTIFY)
EVENT (on_prepare_backup, COWSET_ON_PREPARE_BACKUP)
EVENT (on_prepare_snapshot, COWSET_ON_PREPARE_SNAPSHOT)
EVENT (on_freeze, COWSET_ON_FREEZE)
EVENT (on_thaw, COWSET_ON_THAW)
EVENT (on_post_snapshot, COWSET_ON_POST_SNAPSHOT)
EVENT (on_backup_complete, COWSET_ON_BACKUP_COMPLETE)
EVENT (on_abort, COWSET_ON_ABORT)
EVENT (on_backup_shutdown, COWSET_ON_BACKUP_SHUTDOWN)
#undef EVENT

static void
callback_free (struct req_writer *w)
{
  req_writer_clear (w);
  free (w);
}

static const struct req_writer_ops callback_ops = {
  .kind = "callback",
  .on = {
    [REQ_EVENT_IDENTIFY] = on_identify,
    [REQ_EVENT_PREPARE_BACKUP] = on_prepare_backup,
    [REQ_EVENT_PREPARE_SNAPSHOT] = on_prepare_snapshot,
    [REQ_EVENT_FREEZE] = on_freeze,
    [REQ_EVENT_THAW] = on_thaw,
    [REQ_EVENT_POST_SNAPSHOT] = on_post_snapshot,
    [REQ_EVENT_BACKUP_COMPLETE] = on_backup_complete,
    [REQ_EVENT_ABORT] = on_abort,
    [REQ_EVENT_BACKUP_SHUTDOWN] = on_backup_shutdown,
  },
  .free = callback_free,
};

/* -------------------------------------------------------------- public calls */

cowset_hresult
cowset_add_writer (struct cowset *c, const char *writer)
{
  cowset_hresult hr;

  if (c == NULL || writer == NULL)
    return req_fail_null ("cowset_add_writer", c ? "writer" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_ADD_WRITER);
  return COWSET_FAILED (hr) ? hr : req_kinds_add (c, writer);
}

static bool
is_valid (const struct cowset_writer *w)
{
  return w->name && *w->name && w->event &&
         w->level >= VSS_APP_AUTO && w->level <= VSS_APP_SYSTEM_RM &&
         w->consistency >= COWSET_CONSISTENCY_CRASH &&
         w->consistency <= COWSET_CONSISTENCY_APPLICATION &&
         (w->component_count == 0 || w->components);
}

static cowset_hresult
take (struct callback *b, const struct cowset_writer *w)
{
  cowset_hresult hr = S_OK;

  b->event = w->event;
  b->opaque = w->opaque;
  b->base.class_id = w->class_id;
  b->base.level = w->level;
  b->base.transaction_manager = w->level == VSS_APP_SYSTEM_RM;
  b->base.consistency = (enum req_consistency) w->consistency;
  if (w->freeze_timeout_ms > 0)
    b->base.freeze_timeout_ms = w->freeze_timeout_ms;
  for (size_t i = 0; COWSET_SUCCEEDED (hr) && i < w->component_count; ++i)
    hr = w->components[i].name ?
           req_writer_add_component (&b->base, w->components[i].type,
                                     w->components[i].path,
                                     w->components[i].name,
                                     w->components[i].caption) :
           req_fail_null ("cowset_add_callback_writer", "a component's name");
  return hr;
}

cowset_hresult
cowset_add_callback_writer (struct cowset *c,
                            const struct cowset_writer *writer)
{
  struct callback *b;
  cowset_hresult hr;

  if (c == NULL || writer == NULL)
    return req_fail_null ("cowset_add_callback_writer",
                          c ? "writer" : "the object");
  if (!is_valid (writer))
    return req_fail (E_INVALIDARG, "cowset_add_callback_writer: name, event, "
                     "level or consistency is not valid");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_ADD_WRITER);
  if (COWSET_FAILED (hr))
    return hr;
  b = calloc (1, sizeof *b);
  if (b == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  hr = req_writer_init (&b->base, &callback_ops, writer->name);
  if (COWSET_FAILED (hr)) {
    free (b);
    return hr;
  }
  b->base.freeze_timeout_ms = c->writer_freeze_ms;
  hr = take (b, writer);
  if (COWSET_FAILED (hr)) {
    callback_free (&b->base);
    return hr;
  }
  return req_writers_add_locked (c, &b->base);
}

cowset_hresult
cowset_set_writer_policy (struct cowset *c, enum cowset_writer_policy policy)
{
  cowset_hresult hr;

  if (c == NULL)
    return req_fail_null ("cowset_set_writer_policy", "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_ADD_WRITER);
  if (COWSET_FAILED (hr))
    return hr;
  if ((int) policy < COWSET_WRITERS_AS_VSS ||
      (int) policy > COWSET_WRITERS_OPTIONAL)
    return req_fail (E_INVALIDARG, "cowset_set_writer_policy: %d is no "
                     "policy", (int) policy);
  c->writer_policy = policy;
  return S_OK;
}

#define LIMIT_MS_MAX 3600000

cowset_hresult
cowset_set_writer_limits (struct cowset *c, uint32_t prepare_ms,
                          uint32_t freeze_ms)
{
  cowset_hresult hr;

  if (c == NULL)
    return req_fail_null ("cowset_set_writer_limits", "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_ADD_WRITER);
  if (COWSET_FAILED (hr))
    return hr;
  if (prepare_ms > LIMIT_MS_MAX || freeze_ms > LIMIT_MS_MAX)
    return req_fail (E_INVALIDARG, "a writer can be given %d ms at most",
                     LIMIT_MS_MAX);
  if (prepare_ms > 0)
    c->writer_prepare_ms = prepare_ms;
  if (freeze_ms > 0)
    c->writer_freeze_ms = freeze_ms;
  return S_OK;
}
