/* catalogue.c - the sets that there are: listing, opening, deleting.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The list holds a count of each set.  A set's members don't change once it
 * is in the list, and whether a snapshot is alive is an atomic of its own, so
 * sets_lock is enough to read them.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "set/engine.h"
#include "volume/view.h"

const char *
cow_snapshot_end_text (enum cow_snapshot_end end)
{
  switch (end) {
  case COW_ALIVE:
    return "it is there";
  case COW_DELETED:
    return "it was deleted";
  case COW_LOST_STORE_FULL:
    return "the store is full";
  case COW_LOST_STORE_ERROR:
    return "the store has failed";
  case COW_LOST_STORE_TIMEOUT:
    return "the store did not answer in time";
  case COW_LOST_ORIGIN_ERROR:
    return "its old data could not be read from the origin";
  case COW_LOST_ORIGIN_CHANGED:
    return "the origin was changed without the store";
  }
  return "unknown";
}

void
cow_catalogue_enter_locked (struct cow_engine *e, struct cow_set *s)
{
  atomic_fetch_add (&s->count, 1);
  s->number = ++e->last_number;
  s->older = e->newest;
  e->newest = s;
}

void
cow_catalogue_show_locked (struct cow_engine *e, struct cow_set *s)
{
  (void) e;
  s->listed = true;
  for (unsigned i = 0; i < s->members; i++)
    atomic_store (&s->member[i].snapshot->open, true);
}

bool
cow_catalogue_remove (struct cow_engine *e, struct cow_set *s)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  for (struct cow_set **link = &e->newest; *link; link = &(*link)->older)
    if (*link == s) {
      *link = s->older;
      return true;
    }
  return false;
}

/* The caller has the set's lock, or the catalogue's for one that is in it. */
static void
fill_info (const struct cow_set *s, enum cow_set_state state,
           struct cow_set_info *out)
{
  memset (out, 0, sizeof *out);
  out->id = s->id;
  memcpy (out->label, s->label, sizeof out->label);
  out->attributes = s->attributes;
  out->persistent = s->persistent;
  out->annotation_bytes = s->annotation_bytes;
  out->state = state;
  out->number = s->number;
  out->created_wall_ns = s->created_wall_ns;
  out->hold_ns = s->hold_ns;
  out->settle_ns = s->settle_ns;
  out->count = s->members;
  for (unsigned i = 0; i < s->members; i++) {
    const struct cow_snapshot *snap = s->member[i].snapshot;
    struct cow_snapshot_info *info = &out->snapshots[i];

    info->id = snap->id;
    memcpy (info->volume, snap->volume->name, sizeof info->volume);
    info->size_bytes = snap->volume->size_bytes;
    info->exceptions = atomic_load (&snap->exceptions);
    info->end = (enum cow_snapshot_end) atomic_load (&snap->end);
  }
}

void
cow_set_info (struct cow_set *s, struct cow_set_info *out)
{
  LOCK_FOR_SCOPE (&s->lock);

  fill_info (s, s->state, out);
}

/* Undecided: hidden, and its record is there. */
static bool
is_of_kind (const struct cow_set *s, bool undecided)
{
  return undecided ? s->undecided && s->recording == COW_RECORD_DURABLE
                   : s->listed;
}

static int
list_sets (struct cow_engine *e, bool undecided, struct cow_set_info **out,
           size_t *count)
{
  size_t n = 0, i = 0;
  LOCK_FOR_SCOPE (&e->sets_lock);

  for (const struct cow_set *s = e->newest; s != NULL; s = s->older)
    n += is_of_kind (s, undecided);
  *out = calloc (n > 0 ? n : 1, sizeof **out);
  if (*out == NULL)
    return -ENOMEM;
  for (const struct cow_set *s = e->newest; s != NULL; s = s->older)
    if (is_of_kind (s, undecided))
      fill_info (s, undecided ? COW_SET_UNDECIDED : COW_SET_COMMITTED,
                 &(*out)[i++]);
  *count = n;
  return 0;
}

int
cow_engine_sets (struct cow_engine *e, struct cow_set_info **out,
                 size_t *count)
{
  return list_sets (e, false, out, count);
}

int
cow_engine_undecided_sets (struct cow_engine *e, struct cow_set_info **out,
                           size_t *count)
{
  return list_sets (e, true, out, count);
}

int
cow_engine_annotation (struct cow_engine *e, const struct cow_id *id,
                       void **out, size_t *len)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  for (const struct cow_set *s = e->newest; s != NULL; s = s->older) {
    if (!(s->listed || s->undecided) || !cow_id_equal (&s->id, id))
      continue;
    *out = NULL;
    *len = s->annotation_bytes;
    if (*len == 0)
      return 0;
    *out = malloc (*len);
    if (*out == NULL)
      return -ENOMEM;
    memcpy (*out, s->annotation, *len);
    return 0;
  }
  return -ENOENT;
}

int
cow_engine_find_set (struct cow_engine *e, const struct cow_id *id,
                     struct cow_set_info *out)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  for (const struct cow_set *s = e->newest; s != NULL; s = s->older)
    if (s->listed && cow_id_equal (&s->id, id)) {
      fill_info (s, COW_SET_COMMITTED, out);
      return 0;
    }
  return -ENOENT;
}

/* A listed set, with a count.  NULL: there is none. */
static struct cow_set *
take_set (struct cow_engine *e, const struct cow_id *id)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  for (struct cow_set *s = e->newest; s != NULL; s = s->older)
    if (s->listed && cow_id_equal (&s->id, id)) {
      atomic_fetch_add (&s->count, 1);
      return s;
    }
  return NULL;
}

/* Its snapshots have ended, durably. */
static int
remove_set (struct cow_engine *e, struct cow_set *s)
{
  if (!cow_catalogue_remove (e, s))
    return -ENOENT;             /* somebody was faster */
  cow_mutex_lock (&s->lock);
  s->state = COW_SET_GONE;
  cow_mutex_unlock (&s->lock);
  cow_set_drop (s);
  return 0;
}

int
cow_engine_delete_set (struct cow_engine *e, const struct cow_id *id)
{
  struct cow_snapshot *snaps[COW_SET_VOLUMES_MAX];
  struct cow_set *s = take_set (e, id);
  int rc;

  if (s == NULL)
    return -ENOENT;
  for (unsigned i = 0; i < s->members; i++)
    snaps[i] = s->member[i].snapshot;
  rc = cow_engine_delete (e, snaps, s->members);
  if (rc == 0)
    rc = remove_set (e, s);
  cow_set_drop (s);
  return rc;
}

/* The listed set with that snapshot, with a count. */
static struct cow_set *
take_set_of (struct cow_engine *e, const struct cow_id *id,
             struct cow_snapshot **snap)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  for (struct cow_set *s = e->newest; s != NULL; s = s->older)
    for (unsigned i = 0; s->listed && i < s->members; i++)
      if (cow_id_equal (&s->member[i].snapshot->id, id)) {
        *snap = s->member[i].snapshot;
        atomic_fetch_add (&s->count, 1);
        return s;
      }
  return NULL;
}

int
cow_engine_delete_snapshot (struct cow_engine *e, const struct cow_id *id)
{
  struct cow_snapshot *snap;
  struct cow_set *s = take_set_of (e, id, &snap);
  bool last = true;
  int rc = -ENOENT;

  if (s == NULL)
    return rc;
  if (atomic_load (&snap->end) != COW_DELETED)
    rc = cow_engine_delete (e, &snap, 1);
  for (unsigned i = 0; i < s->members; i++)
    last &= atomic_load (&s->member[i].snapshot->end) == COW_DELETED;
  if (rc == 0 && last)
    (void) remove_set (e, s);
  cow_set_drop (s);
  return rc;
}

/* Does `which` mean this snapshot? */
static bool
is_meant (const struct cow_set *s, const struct cow_snapshot *snap,
          const char *which)
{
  char text[COW_ID_TEXT_SIZE];

  if (strcmp (which, "latest") == 0)
    return atomic_load (&snap->end) == COW_ALIVE;
  if (s->label[0] != '\0' && strcmp (which, s->label) == 0)
    return true;
  cow_id_format (&s->id, text);
  if (strcasecmp (which, text) == 0)
    return true;
  cow_id_format (&snap->id, text);
  return strcasecmp (which, text) == 0;
}

int
cow_view_open (struct cow_volume *v, const char *which, struct cow_error *err,
               struct cow_view **out)
{
  struct cow_engine *e = v->opaque;
  struct cow_snapshot *snap = NULL;
  int end;

  cow_mutex_lock (&e->sets_lock);
  for (struct cow_set *s = e->newest; s != NULL && snap == NULL; s = s->older)
    for (unsigned i = 0; i < s->members; i++)
      if (s->listed && s->member[i].volume == v
          && atomic_load (&s->member[i].snapshot->end) != COW_DELETED
          && is_meant (s, s->member[i].snapshot, which)) {
        snap = s->member[i].snapshot;
        cow_snapshot_get (snap);
        break;
      }
  cow_mutex_unlock (&e->sets_lock);
  if (snap == NULL)
    return cow_error_set (err, -ENOENT, "%s@%s: no such snapshot", v->name,
                          which);
  end = atomic_load (&snap->end);
  if (end != COW_ALIVE) {
    cow_snapshot_put (snap);
    return cow_error_set (
      err, end == COW_DELETED ? -ENOENT : -EIO, "%s@%s: it is lost: %s",
      v->name, which, cow_snapshot_end_text ((enum cow_snapshot_end) end));
  }
  *out = cow_view_new (snap);
  cow_snapshot_put (snap);
  return *out ? 0 : cow_error_set (err, -ENOMEM, "out of memory");
}
