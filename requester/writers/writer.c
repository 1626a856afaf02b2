/* writer.c - what all kinds of writers have in common: states and the list.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <stdio.h>
#include <string.h>

#include "object.h"
#include "protocol/context.h"
#include "writers/guard.h"
#include "writers/raise.h"
#include "writers/writer.h"

static const struct {
  enum cowset_writer_state after, failed;
} events[REQ_EVENT_COUNT] = {
  [REQ_EVENT_IDENTIFY] = { VSS_WS_STABLE, VSS_WS_FAILED_AT_IDENTIFY },
  [REQ_EVENT_PREPARE_BACKUP] = { VSS_WS_WAITING_FOR_FREEZE,
                                 VSS_WS_FAILED_AT_PREPARE_BACKUP },
  [REQ_EVENT_PREPARE_SNAPSHOT] = { VSS_WS_WAITING_FOR_FREEZE,
                                   VSS_WS_FAILED_AT_PREPARE_SNAPSHOT },
  [REQ_EVENT_FREEZE] = { VSS_WS_WAITING_FOR_THAW, VSS_WS_FAILED_AT_FREEZE },
  [REQ_EVENT_THAW] = { VSS_WS_WAITING_FOR_POST_SNAPSHOT,
                       VSS_WS_FAILED_AT_THAW },
  [REQ_EVENT_POST_SNAPSHOT] = { VSS_WS_WAITING_FOR_BACKUP_COMPLETE,
                                VSS_WS_FAILED_AT_POST_SNAPSHOT },
  [REQ_EVENT_BACKUP_COMPLETE] = { VSS_WS_STABLE,
                                  VSS_WS_FAILED_AT_BACKUP_COMPLETE },
  [REQ_EVENT_ABORT] = { VSS_WS_STABLE, VSS_WS_UNKNOWN },
  [REQ_EVENT_BACKUP_SHUTDOWN] = { VSS_WS_STABLE,
                                  VSS_WS_FAILED_AT_BACKUPSHUTDOWN },
};

/* -------------------------------------------------------------- one writer */

cowset_hresult
req_writer_init (struct req_writer *w, const struct req_writer_ops *ops,
                 const char *name)
{
  const struct proto_id instance = proto_id_new ();

  *w = (struct req_writer) {
    .ops = ops,
    .instance_id = req_id_out (&instance),
    .name = strdup (name),
    .level = VSS_APP_FRONT_END,
    .usage = VSS_UT_OTHER,
    .source = VSS_ST_OTHER,
    .freeze_timeout_ms = REQ_FREEZE_TIMEOUT_MS,
    .consistency = REQ_APPLICATION,
    .state = VSS_WS_STABLE,
    .failure = S_OK,
  };
  if (w->name == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  pthread_mutex_init (&w->lock, NULL);
  return S_OK;
}

static void
component_clear (struct req_component *component)
{
  free (component->path);
  free (component->name);
  free (component->caption);
}

void
req_writer_clear (struct req_writer *w)
{
  for (size_t i = 0; i < w->component_count; ++i)
    component_clear (&w->components[i]);
  free (w->components);
  free (w->name);
  pthread_mutex_destroy (&w->lock);
}

cowset_hresult
req_writer_add_component (struct req_writer *w,
                          enum cowset_component_type type, const char *path,
                          const char *name, const char *caption)
{
  struct req_component *list =
    realloc (w->components, (w->component_count + 1) * sizeof *list);
  struct req_component *new;

  if (list == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  w->components = list;
  new = &list[w->component_count];
  memset (new, 0, sizeof *new);
  new->type = type;
  new->path = strdup (path ? path : "");
  new->name = strdup (name);
  new->caption = strdup (caption ? caption : "");
  if (new->path == NULL || new->name == NULL || new->caption == NULL) {
    component_clear (new);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  w->component_count++;
  return S_OK;
}

static bool
has_failed (const struct req_writer *w)
{
  return w->state >= VSS_WS_FAILED_AT_IDENTIFY;
}

void
req_writer_failed (struct req_writer *w, enum req_event event,
                   cowset_hresult failure, const char *message)
{
  LOCK_FOR_SCOPE (&w->lock);

  if (event == REQ_EVENT_ABORT || has_failed (w))
    return;
  w->state = events[event].failed;
  w->failure = failure;
  snprintf (w->message, sizeof w->message, "%s", message);
}

enum cowset_writer_state
req_writer_state (struct req_writer *w, cowset_hresult *failure,
                  char message[256])
{
  LOCK_FOR_SCOPE (&w->lock);

  if (failure)
    *failure = w->failure;
  if (message)
    memcpy (message, w->message, sizeof w->message);
  return w->state;
}

cowset_hresult
req_writer_raise (struct req_writer *w, enum req_event event,
                  const struct req_occasion *occasion)
{
  const bool owes = event >= REQ_EVENT_PREPARE_BACKUP &&
                    event <= REQ_EVENT_FREEZE;
  cowset_hresult hr = S_OK;

  /* Before it is told: a death in the middle of it has to be followed by an
   * abort as well.
   */
  if (owes) {
    LOCK_FOR_SCOPE (&w->lock);
    w->owed_end = true;
  }
  if (w->ops->on[event])
    hr = w->ops->on[event] (w, occasion);
  if (COWSET_FAILED (hr))
    req_writer_failed (w, event, hr, cowset_error_message ());

  LOCK_FOR_SCOPE (&w->lock);
  if (event == REQ_EVENT_ABORT ||
      (event == REQ_EVENT_THAW && COWSET_SUCCEEDED (hr)))
    w->owed_end = false;
  if (!has_failed (w))
    w->state = events[event].after;
  return hr;
}

/* ---------------------------------------------------------------- the list */

cowset_hresult
req_writers_add (struct cowset *c, struct req_writer *w)
{
  LOCK_FOR_SCOPE (&c->order_lock);

  return req_writers_add_locked (c, w);
}

cowset_hresult
req_writers_add_locked (struct cowset *c, struct req_writer *w)
{
  struct req_writer **list;
  cowset_hresult hr = S_OK;

  list = realloc (c->writers, (c->writer_count + 1) * sizeof *list);
  if (list == NULL)
    hr = req_fail (E_OUTOFMEMORY, NULL);
  else
    c->writers = list;
  if (COWSET_SUCCEEDED (hr) && c->gather_started)
    hr = req_fail (VSS_E_BAD_STATE, "%s: the writers have been asked for "
                   "their metadata already; add them before", w->name);
  if (COWSET_FAILED (hr))
    w->ops->free (w);
  else
    list[c->writer_count++] = w;
  return hr;
}

int
req_writer_rank (const struct req_writer *w)
{
  if (w->transaction_manager)
    return REQ_RANK_TRANSACTIONS;
  switch (w->level) {
  case VSS_APP_BACK_END: return 1;
  case VSS_APP_SYSTEM: return 2;
  case VSS_APP_SYSTEM_RM: return REQ_RANK_TRANSACTIONS;
  default: return 0;
  }
}

bool
req_writer_sees (const struct req_writer *w, uint32_t context)
{
  return w->takes_part && !(w->transaction_manager &&
                            (context & VSS_VOLSNAP_ATTR_NOT_TRANSACTED));
}

void
req_writers_free (struct cowset *c)
{
  req_writers_raise (c, REQ_EVENT_BACKUP_SHUTDOWN, NULL);
  for (size_t i = 0; i < c->writer_count; ++i) {
    req_worker_stop (c->writers[i]);
    c->writers[i]->ops->free (c->writers[i]);
  }
  free (c->writers);
  c->writers = NULL;
  c->writer_count = 0;
  req_guard_free (c->guard);
  c->guard = NULL;
}
