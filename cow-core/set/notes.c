/* notes.c - durable notes of the user's, by id.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * All are in memory; a change is in the list before its record is on its way,
 * because a checkpoint that is made meanwhile has to have it.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "set/engine.h"

static struct cow_note **
find_locked (struct cow_engine *e, const struct cow_id *key)
{
  struct cow_note **link = &e->notes;

  /* In the order of keys, so that a walk can be taken up again. */
  while (*link && memcmp ((*link)->key.b, key->b, sizeof key->b) < 0)
    link = &(*link)->next;
  return link;
}

static bool
is_at (struct cow_note *const *link, const struct cow_id *key)
{
  return *link && cow_id_equal (&(*link)->key, key);
}

int
cow_note_set_locked (struct cow_engine *e, const struct cow_id *key,
                     const void *data, size_t len)
{
  struct cow_note **link = find_locked (e, key), *n = NULL;
  bool there = is_at (link, key);

  if (len > 0) {
    n = malloc (sizeof *n + len);
    if (n == NULL)
      return -ENOMEM;
    n->key = *key;
    n->len = len;
    memcpy (n->data, data, len);
  }
  else if (!there)
    return -ENOENT;
  if (there) {
    struct cow_note *old = *link;

    *link = old->next;
    free (old);
  }
  if (n) {
    n->next = *link;
    *link = n;
  }
  return 0;
}

static int
change (struct cow_engine *e, const struct cow_id *key, const void *data,
        size_t len)
{
  struct cow_entries entries = COW_ENTRIES_INIT;
  int rc;

  if (!cow_engine_has_store (e))
    return -EOPNOTSUPP;
  rc = cow_record_add_note (&entries, key, data, len);
  if (rc == 0) {
    cow_mutex_lock (&e->sets_lock);
    rc = cow_note_set_locked (e, key, data, len);
    cow_mutex_unlock (&e->sets_lock);
  }
  if (rc == 0)
    rc = cow_store_append (e->store, &entries,
                           cow_now_ns () + e->options.store_timeout_ns);
  cow_entries_clear (&entries);
  return rc;
}

int
cow_engine_note_put (struct cow_engine *e, const struct cow_id *key,
                     const void *data, size_t len)
{
  if (len == 0 || len > COW_NOTE_MAX)
    return len == 0 ? -EINVAL : -E2BIG;
  return change (e, key, data, len);
}

int
cow_engine_note_remove (struct cow_engine *e, const struct cow_id *key)
{
  return change (e, key, NULL, 0);
}

int
cow_engine_note_get (struct cow_engine *e, const struct cow_id *key,
                     void **out, size_t *len)
{
  struct cow_note **link;
  LOCK_FOR_SCOPE (&e->sets_lock);

  link = find_locked (e, key);
  if (!is_at (link, key))
    return -ENOENT;
  *out = malloc ((*link)->len);
  if (*out == NULL)
    return -ENOMEM;
  memcpy (*out, (*link)->data, (*link)->len);
  *len = (*link)->len;
  return 0;
}

void
cow_engine_notes (struct cow_engine *e,
                  int (*fn) (void *opaque, const struct cow_id *key,
                             const void *data, size_t len),
                  void *opaque)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  for (const struct cow_note *n = e->notes; n != NULL; n = n->next)
    if (fn (opaque, &n->key, n->data, n->len) != 0)
      return;
}

int
cow_notes_checkpoint_locked (struct cow_engine *e, struct cow_checkpoint *at,
                             struct cow_entries *out)
{
  struct cow_note *n = *find_locked (e, &at->note);

  for (; n != NULL; n = n->next) {
    at->note = n->key;
    if (out->used >= COW_CHECKPOINT_BYTES)
      return 1;
    if (cow_record_add_note (out, &n->key, n->data, n->len) < 0)
      return -ENOMEM;
  }
  return 0;
}

void
cow_notes_clear (struct cow_engine *e)
{
  while (e->notes) {
    struct cow_note *n = e->notes;

    e->notes = n->next;
    free (n);
  }
}
