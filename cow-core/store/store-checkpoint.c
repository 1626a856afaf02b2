/* store-checkpoint.c - what the store is, written anew so that a lap of the
 * journal begins with it (FORMAT.md).
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads: the leader of the log (store-log.c, L2), without the store's lock.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "store/store-priv.h"

struct checkpoint {
  struct cow_store *s;
  struct disk_segment_ref *refs; /* full segments, their headers written */
  size_t count, at;
  struct cow_entries rest;      /* what is logged of the others */
  enum {
    CHECK_COUNTERS,
    CHECK_SEGMENTS,
    CHECK_REST,
    CHECK_ENGINE,
  } stage;
  bool began;
};

/* What the segments hold, at one moment: a segment that is written meanwhile is
 * in the one part or in the other.
 */
static int
look_at_segments (struct checkpoint *c)
{
  struct cow_store *s = c->s;
  int rc = 0;
  LOCK_FOR_SCOPE (&s->lock);

  c->refs = malloc (((size_t) s->segments + 1) * sizeof *c->refs);
  if (c->refs == NULL)
    return -ENOMEM;
  for (uint32_t n = 0; rc == 0 && n < s->segments; n++) {
    const struct segment *g = &s->segment[n];

    if (!g->lasting || g->state == SEGMENT_FREE || g->state == SEGMENT_LIMBO
        || g->state == SEGMENT_GIVEN_UP)
      continue;
    if (g->state == SEGMENT_STORED) {
      c->refs[c->count].segment = to_le32 (n);
      c->refs[c->count++].generation = to_le32 (g->generation);
    }
    else
      rc = cow_log_add_exceptions (s, &s->buffer[g->buffer],
                                   &s->buffer[g->buffer].logged, &c->rest);
  }
  return rc;
}

static int
fill_counters (struct checkpoint *c, struct cow_entries *out)
{
  struct disk_counters *counters
    = cow_entries_add (out, COW_ENTRY_COUNTERS, sizeof *counters);
  LOCK_FOR_SCOPE (&c->s->lock);

  if (counters == NULL)
    return -ENOMEM;
  counters->generation = to_le32 (c->s->generation);
  return 1;
}

static int
fill_segments (struct checkpoint *c, struct cow_entries *out)
{
  size_t n = COW_MIN (c->count - c->at,
                      COW_CHECKPOINT_BYTES / sizeof *c->refs);
  struct disk_list *list;

  if (n == 0)
    return 0;
  list = cow_entries_add (out, COW_ENTRY_SEGMENTS,
                          sizeof *list + n * sizeof *c->refs);
  if (list == NULL)
    return -ENOMEM;
  list->count = to_le32 ((uint32_t) n);
  memcpy (list + 1, c->refs + c->at, n * sizeof *c->refs);
  c->at += n;
  return 1;
}

static int
fill_rest (struct checkpoint *c, struct cow_entries *out)
{
  const size_t head = sizeof (struct disk_journal_record);

  if (c->rest.used == 0)
    return 0;
  if (cow_entries_reserve (out, out->used + c->rest.used) < 0)
    return -ENOMEM;
  memcpy (out->data + head + out->used, c->rest.data + head, c->rest.used);
  out->used += c->rest.used;
  c->rest.used = 0;
  return 1;
}

static int
fill_checkpoint (void *opaque, struct cow_entries *out)
{
  struct checkpoint *c = opaque;
  int rc;

  for (;;) {
    switch (c->stage) {
    case CHECK_COUNTERS:
      c->stage = CHECK_SEGMENTS;
      return fill_counters (c, out);
    case CHECK_SEGMENTS:
      rc = fill_segments (c, out);
      break;
    case CHECK_REST:
      rc = fill_rest (c, out);
      break;
    default:
      if (c->s->hooks.checkpoint == NULL)
        return 0;
      rc = c->s->hooks.checkpoint (c->s->hooks.opaque, !c->began, out);
      c->began = true;
      return rc;
    }
    if (rc != 0)
      return rc;
    c->stage++;
  }
}

int
cow_log_checkpoint (struct cow_store *s)
{
  struct checkpoint c = { .s = s };
  int rc = look_at_segments (&c);

  /* The headers that were written before the look. */
  if (rc == 0)
    rc = cow_file_sync (s->file);
  if (rc == 0)
    rc = cow_journal_checkpoint (s->journal, fill_checkpoint, &c);
  if (rc == 0) {
    s->log.must_checkpoint = false;
    s->log.room_after = cow_journal_room (s->journal);
  }
  /* Also of one that failed: it may be complete in the file. */
  cow_mutex_lock (&s->lock);
  s->lap = cow_journal_lap_begun (s->journal);
  cow_mutex_unlock (&s->lock);
  free (c.refs);
  cow_entries_clear (&c.rest);
  return rc;
}
