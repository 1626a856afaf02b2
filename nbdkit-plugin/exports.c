/* exports.c - names: the list of exports, and what is behind each.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   NAME        a volume; "" is the volume where there is only one
 *   NAME@SET    its snapshot in the set: a label, an id, or "latest"; resolved
 *               once, here, so that a client keeps the snapshot that it has
 *   @control    the control channel
 *
 * Export names come from anybody who can connect: they are only compared and
 * printed.
 *
 * Threads: those of connections, many at once.  The list of handles has a lock
 * of its own, under which nothing else is taken.
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "plugin.h"
#include "sessions.h"
#include "base/bits.h"
#include "protocol/frame.h"
#include "protocol/name.h"

/* nbdkit sends no list of more than 10,000 names. */
#define LIST_MAX 10000
#define LIST_SNAPSHOTS_MAX 8000

#define DESCRIPTION_MAX 256

static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;
static struct handle *handles;  /* handles_lock */

/* ---------------------------------------------------------- descriptions */

static void
describe_snapshot (const struct cow_set_info *set, const char *volume,
                   char text[DESCRIPTION_MAX])
{
  const time_t t = set->created_wall_ns / COW_NS_PER_S;
  char when[32] = "";
  struct tm tm;

  if (gmtime_r (&t, &tm))
    strftime (when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", &tm);
  snprintf (text, DESCRIPTION_MAX, "snapshot of %s, %s%s%s", volume, when,
            set->label[0] ? ", set " : "", set->label);
}

static const char *
describe_volume (const struct cow_volume *v)
{
  return cow_volume_readonly (v) ? "volume, read-only" : "volume";
}

/* -------------------------------------------------------------- the list */

static int
list_snapshots (struct nbdkit_exports *exports, size_t max)
{
  CLEANUP_FREE struct cow_set_info *sets = NULL;
  size_t count, listed = 0;
  int r;

  r = cow_engine_sets (engine, &sets, &count);
  if (r < 0) {
    nbdkit_error ("cannot list the snapshots: %s", strerror (-r));
    return -1;
  }
  for (size_t i = 0; i < count; ++i) {
    const struct cow_set_info *set = &sets[i];
    char id[COW_ID_TEXT_SIZE];

    cow_id_format (&set->id, id);
    for (unsigned j = 0; j < set->count; ++j) {
      const struct cow_snapshot_info *s = &set->snapshots[j];
      char name[COW_NAME_MAX + COW_ID_TEXT_SIZE + 2];
      char description[DESCRIPTION_MAX];

      if (s->end != COW_ALIVE)
        continue;
      if (listed++ == max)
        return 0;
      snprintf (name, sizeof name, "%s@%s", s->volume, id);
      describe_snapshot (set, s->volume, description);
      if (nbdkit_add_export (exports, name, description) == -1)
        return -1;
    }
  }
  return 0;
}

int
exports_list (int readonly, int is_tls, struct nbdkit_exports *exports)
{
  const bool control = settings.control != CONTROL_OFF &&
                       access_peer ().allowed;
  size_t left = LIST_MAX - (control ? 1 : 0);

  (void) readonly;
  (void) is_tls;
  for (unsigned i = 0; i < cow_engine_volumes (engine) && left > 0; ++i) {
    const struct cow_volume *v = cow_engine_volume (engine, i);

    if (nbdkit_add_export (exports, cow_volume_name (v),
                           describe_volume (v)) == -1)
      return -1;
    left--;
  }
  left = COW_MIN (left, (size_t) LIST_SNAPSHOTS_MAX);
  if (list_snapshots (exports, left) == -1)
    return -1;
  if (control &&
      nbdkit_add_export (exports, PROTO_EXPORT, "control channel") == -1)
    return -1;
  return 0;
}

const char *
exports_default (int readonly, int is_tls)
{
  (void) readonly;
  (void) is_tls;
  if (cow_engine_volumes (engine) != 1)
    return "";                  /* exports_open() says what is wrong */
  return cow_volume_name (cow_engine_volume (engine, 0));
}

/* ------------------------------------------------------------------ open */

static int
open_volume (struct handle *h, const char *name)
{
  if (*name == '\0' && cow_engine_volumes (engine) == 1)
    h->volume = cow_engine_volume (engine, 0);
  else if (*name == '\0') {
    nbdkit_error ("export \"\": there are %u volumes; connect to one by its "
                  "name (nbdinfo --list shows them)",
                  cow_engine_volumes (engine));
    return -1;
  }
  else
    h->volume = cow_engine_find_volume (engine, name);
  if (h->volume == NULL) {
    nbdkit_error ("export \"%s\": there is no such volume; nbdinfo --list "
                  "shows what there is", name);
    return -1;
  }
  h->kind = EXPORT_VOLUME;
  h->description = describe_volume (h->volume);
  return 0;
}

static bool
ends_with (const char *text, const char *end)
{
  const size_t len = strlen (text), end_len = strlen (end);

  return len >= end_len && strcmp (text + len - end_len, end) == 0;
}

/* NULL if which can be the name of a set, else what it is instead. */
static const char *
check_which (const char *which)
{
  struct proto_id id;

  if (ends_with (which, "+w"))
    return "writable snapshots are not supported by this version of cowset";
  if (strstr (which, ".."))
    return "changes between sets are not supported by this version of cowset";
  if (strcmp (which, "latest") == 0 || proto_id_parse (which, &id) ||
      proto_name_check (which) == NULL)
    return NULL;
  return "a set is named by its label, its id, or \"latest\"";
}

static void
describe_view (struct handle *h)
{
  CLEANUP_FREE struct cow_set_info *sets = NULL;
  char text[DESCRIPTION_MAX];
  size_t count;

  h->description = "snapshot";
  if (cow_engine_sets (engine, &sets, &count) < 0)
    return;
  for (size_t i = 0; i < count; ++i)
    for (unsigned j = 0; j < sets[i].count; ++j)
      if (cow_id_equal (&sets[i].snapshots[j].id,
                        cow_view_snapshot (h->view))) {
        describe_snapshot (&sets[i], cow_volume_name (h->volume), text);
        h->description = nbdkit_strdup_intern (text);
        return;
      }
}

static int
open_snapshot (struct handle *h, const char *name, const char *at)
{
  struct cow_error err = COW_ERROR_INIT;
  CLEANUP_FREE char *volume = strndup (name, at - name);
  const char *why = check_which (at + 1);
  int r;

  if (volume == NULL) {
    nbdkit_error ("strndup: %m");
    return -1;
  }
  h->volume = cow_engine_find_volume (engine, volume);
  if (h->volume == NULL) {
    nbdkit_error ("export \"%s\": there is no volume \"%s\"; nbdinfo --list "
                  "shows what there is", name, volume);
    return -1;
  }
  if (why) {
    nbdkit_error ("export \"%s\": %s", name, why);
    return -1;
  }
  r = cow_view_open (h->volume, at + 1, &err, &h->view);
  if (r < 0) {
    if (err.text[0])            /* begins with the name */
      nbdkit_error ("export %s; cowset list shows what there is", err.text);
    else
      nbdkit_error ("export %s: %s", name, strerror (-r));
    return -1;
  }
  h->kind = EXPORT_SNAPSHOT;
  return 0;
}

static int
open_control (struct handle *h, const char *name)
{
  if (settings.control == CONTROL_OFF) {
    nbdkit_error ("export \"%s\": the server was started with control=off",
                  name);
    return -1;
  }
  h->session = session_new (access_peer ());
  if (h->session == NULL)
    return -1;
  h->kind = EXPORT_CONTROL;
  h->description = "control channel";
  return 0;
}

void *
exports_open (int readonly)
{
  const char *name = nbdkit_export_name ();
  struct handle *h;
  const char *at;
  int r;

  (void) readonly;
  if (name == NULL)
    return NULL;
  h = calloc (1, sizeof *h);
  if (h == NULL) {
    nbdkit_error ("calloc: %m");
    return NULL;
  }
  at = strchr (name, '@');
  if (strcmp (name, PROTO_EXPORT) == 0)
    r = open_control (h, name);
  else if (at)
    r = open_snapshot (h, name, at);
  else
    r = open_volume (h, name);
  if (r == -1) {
    free (h);
    return NULL;
  }
  pthread_mutex_lock (&handles_lock);
  h->next = handles;
  h->link = &handles;
  if (handles)
    handles->link = &h->next;
  handles = h;
  pthread_mutex_unlock (&handles_lock);
  return h;
}

void
exports_close (void *handle)
{
  struct handle *h = handle;

  pthread_mutex_lock (&handles_lock);
  *h->link = h->next;
  if (h->next)
    h->next->link = h->link;
  pthread_mutex_unlock (&handles_lock);

  switch (h->kind) {
  case EXPORT_VOLUME:
    break;
  case EXPORT_SNAPSHOT:
    cow_view_close (h->view);
    break;
  case EXPORT_CONTROL:
    session_close (h->session);
    break;
  }
  free (h);
}

void
exports_close_all (void)
{
  while (handles)
    exports_close (handles);
}

/* Only asked for by clients that want to show it. */
const char *
exports_description (void *handle)
{
  struct handle *h = handle;

  if (h->kind == EXPORT_SNAPSHOT && h->description == NULL)
    describe_view (h);
  return h->description;
}
