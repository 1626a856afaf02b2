/* notes.c - how consistent finished sets are, by what their makers said.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A set that nobody has said anything of is crash-consistent, as far as is
 * known; so what is lost here with the server is lost to the safe side.
 *
 * XXX Kept in memory only: of a set that outlives the server it is forgotten.
 * It should go into the set's durable record.
 *
 * Threads: any.  One lock, the last of all but the engine's.
 */
#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "ops.h"

struct note {
  struct note *next;
  struct cow_id id;
  char consistency[NOTE_MAX];
};

static cow_mutex lock;          /* notes_start */
static struct note *notes;      /* lock */

void
notes_start (void)
{
  cow_mutex_init (&lock);
}

bool
note_is_valid (const char *consistency)
{
  return strcmp (consistency, "crash") == 0 ||
         strcmp (consistency, "file-system") == 0 ||
         strcmp (consistency, "application") == 0;
}

void
note_keep (const struct cow_id *id, const char *consistency)
{
  struct cow_set_info *info = malloc (sizeof *info);
  struct note *n = calloc (1, sizeof *n);

  if (info == NULL || n == NULL) {
    free (info);
    free (n);
    return;
  }
  n->id = *id;
  memcpy (n->consistency, consistency, strlen (consistency) + 1);

  cow_mutex_lock (&lock);
  n->next = notes;
  notes = n;
  /* Those of sets that have gone go with the next one. */
  for (struct note **p = &notes; *p; ) {
    struct note *other = *p;

    if (cow_engine_find_set (engine, &other->id, info) == 0)
      p = &other->next;
    else {
      *p = other->next;
      free (other);
    }
  }
  cow_mutex_unlock (&lock);
  free (info);
}

const char *
note_of (const struct cow_id *id, char out[NOTE_MAX])
{
  LOCK_FOR_SCOPE (&lock);

  memcpy (out, "crash", sizeof "crash");
  for (const struct note *n = notes; n; n = n->next)
    if (cow_id_equal (&n->id, id))
      memcpy (out, n->consistency, NOTE_MAX);
  return out;
}
