/* fake-writer.c - see fake-writer.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fake-writer.h"

struct fake_writer {
  struct req_writer base;
  cowset_hresult failure[REQ_EVENT_COUNT];
  unsigned slow_ms[REQ_EVENT_COUNT];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char entries[65536];

static cowset_hresult
told (struct req_writer *base, enum req_event event)
{
  struct fake_writer *w = (struct fake_writer *) base;
  const unsigned ms = w->slow_ms[event];
  size_t n;

  nanosleep (&(struct timespec) { ms / 1000, (long) (ms % 1000) * 1000000 },
             NULL);
  LOCK_FOR_SCOPE (&lock);
  n = strlen (entries);
  snprintf (entries + n, sizeof entries - n, "%s:%s ", base->name,
            req_event_name (event));
  if (COWSET_FAILED (w->failure[event]))
    return req_fail (w->failure[event], "scripted");
  return S_OK;
}

#define TOLD(name, event)                                               \
  static cowset_hresult                                                 \
  name (struct req_writer *w, const struct req_occasion *occasion)      \
  {                                                                     \
    (void) occasion;                                                    \
    return told (w, event);                                             \
  }

TOLD (prepare_backup, REQ_EVENT_PREPARE_BACKUP)
TOLD (prepare_snapshot, REQ_EVENT_PREPARE_SNAPSHOT)
TOLD (freeze, REQ_EVENT_FREEZE)
TOLD (thaw, REQ_EVENT_THAW)
TOLD (post_snapshot, REQ_EVENT_POST_SNAPSHOT)
TOLD (backup_complete, REQ_EVENT_BACKUP_COMPLETE)
TOLD (abort_event, REQ_EVENT_ABORT)
TOLD (backup_shutdown, REQ_EVENT_BACKUP_SHUTDOWN)

static cowset_hresult
identify (struct req_writer *w, const struct req_occasion *occasion)
{
  cowset_hresult hr = told (w, REQ_EVENT_IDENTIFY);

  (void) occasion;
  if (COWSET_SUCCEEDED (hr))
    hr = req_writer_add_component (w, VSS_CT_DATABASE, NULL, "one", NULL);
  if (COWSET_SUCCEEDED (hr))
    hr = req_writer_add_component (w, VSS_CT_DATABASE, "", "two", "Two");
  return hr;
}

static void
free_writer (struct req_writer *w)
{
  req_writer_clear (w);
  free (w);
}

static const struct req_writer_ops ops = {
  .kind = "fake",
  .on = {
    [REQ_EVENT_IDENTIFY] = identify,
    [REQ_EVENT_PREPARE_BACKUP] = prepare_backup,
    [REQ_EVENT_PREPARE_SNAPSHOT] = prepare_snapshot,
    [REQ_EVENT_FREEZE] = freeze,
    [REQ_EVENT_THAW] = thaw,
    [REQ_EVENT_POST_SNAPSHOT] = post_snapshot,
    [REQ_EVENT_BACKUP_COMPLETE] = backup_complete,
    [REQ_EVENT_ABORT] = abort_event,
    [REQ_EVENT_BACKUP_SHUTDOWN] = backup_shutdown,
  },
  .free = free_writer,
};

struct fake_writer *
fake_writer (struct cowset *c, const char *name)
{
  const struct proto_id class_id = proto_id_new ();
  struct fake_writer *w = calloc (1, sizeof *w);

  if (w == NULL || COWSET_FAILED (req_writer_init (&w->base, &ops, name)))
    abort ();
  w->base.class_id = req_id_out (&class_id);
  if (COWSET_FAILED (req_writers_add (c, &w->base)))
    abort ();
  return w;
}

const struct cowset_id *
fake_writer_class (const struct fake_writer *w)
{
  return &w->base.class_id;
}

const struct cowset_id *
fake_writer_instance (const struct fake_writer *w)
{
  return &w->base.instance_id;
}

void
fake_writer_level (struct fake_writer *w, enum cowset_application_level level)
{
  w->base.level = level;
}

void
fake_writer_fail (struct fake_writer *w, enum req_event event,
                  cowset_hresult failure)
{
  w->failure[event] = failure;
}

void
fake_writer_slow (struct fake_writer *w, enum req_event event, unsigned ms)
{
  w->slow_ms[event] = ms;
}

void
fake_writer_window (struct fake_writer *w, uint32_t freeze_timeout_ms)
{
  w->base.freeze_timeout_ms = freeze_timeout_ms;
}

void
fake_writer_transactions (struct fake_writer *w)
{
  w->base.transaction_manager = true;
}

const char *
fake_log (void)
{
  return entries;
}

void
fake_log_clear (void)
{
  LOCK_FOR_SCOPE (&lock);

  entries[0] = '\0';
}

unsigned
fake_log_count (const char *entry)
{
  char word[256];
  unsigned n = 0;

  LOCK_FOR_SCOPE (&lock);
  snprintf (word, sizeof word, "%s ", entry);
  for (const char *at = entries; (at = strstr (at, word)); at += strlen (word))
    n += at == entries || at[-1] == ' ';
  return n;
}
