/* store-tell.c - what the segments of a store hold, to the engine's maps.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Segments have exceptions in the order in which they were made, which for a
 * map of millions means a cache miss or more for each.  So they are gathered,
 * and told in order of their blocks: one finds in the cache what the one
 * before it has used.
 *
 * Threads: one, while the store is opened.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/store-priv.h"

/* 48 MiB with what the sorting takes; less where there is less. */
#define TOLD_AT_ONCE (1u << 20)
#define DIGIT_BITS 11
#define DIGITS (1u << DIGIT_BITS)

/* Blocks side by side, in places side by side. */
struct told {
  uint64_t block;
  uint64_t place : 48, count : 16;
  uint32_t epoch, volume;
};

struct cow_tell {
  struct told *run, *sorted;
  size_t count, room;
  uint64_t block_max;
};

/* By one digit of the block; stable. */
static void
sort_digit (struct cow_tell *t, unsigned shift)
{
  struct told *from = t->run, *to = t->sorted;
  size_t first[DIGITS] = { 0 }, at = 0;

  for (size_t i = 0; i < t->count; i++)
    first[from[i].block >> shift & (DIGITS - 1)]++;
  for (unsigned d = 0; d < DIGITS; d++) {
    const size_t n = first[d];

    first[d] = at;
    at += n;
  }
  for (size_t i = 0; i < t->count; i++)
    to[first[from[i].block >> shift & (DIGITS - 1)]++] = from[i];
  t->run = to;
  t->sorted = from;
}

static int
tell_run (struct cow_store *s, const struct told *r)
{
  struct segment *g = &s->segment[segment_of (r->place)];
  const int unwanted = s->hooks.exception (s->hooks.opaque, r->volume,
                                           r->block, r->count, r->epoch,
                                           r->place);

  if (unwanted < 0)
    return unwanted;
  g->live += r->count - (unsigned) unwanted;
  s->live_blocks += r->count - (unsigned) unwanted;
  return 0;
}

int
cow_tell_rest (struct cow_store *s, struct cow_tell *t)
{
  int rc = 0;

  for (unsigned shift = 0; shift < 64 && t->block_max >> shift != 0;
       shift += DIGIT_BITS)
    sort_digit (t, shift);
  for (size_t i = 0; rc == 0 && i < t->count; i++)
    rc = tell_run (s, &t->run[i]);
  t->count = 0;
  t->block_max = 0;
  return rc;
}

/* Room for one more: more memory, or those that are there are told first. */
static int
make_room (struct cow_store *s, struct cow_tell *t)
{
  const size_t room = t->room > 0 ? 4 * t->room : 4096;
  struct told *run, *sorted;

  if (t->count < t->room)
    return 0;
  if (t->room == TOLD_AT_ONCE)
    return cow_tell_rest (s, t);
  run = realloc (t->run, room * sizeof *run);
  if (run != NULL)
    t->run = run;
  sorted = realloc (t->sorted, room * sizeof *sorted);
  if (sorted != NULL)
    t->sorted = sorted;
  if (run != NULL && sorted != NULL)
    t->room = room;
  else if (t->room == 0)
    return -ENOMEM;
  else
    return cow_tell_rest (s, t);
  return 0;
}

/* Records first .. of a segment that stand for blocks side by side.  How many,
 * or -errno.
 */
static int
gather_run (struct cow_store *s, struct cow_tell *t, uint32_t segment,
            const struct disk_record *record, unsigned first)
{
  const struct disk_record *r = &record[first];
  struct told *out;
  unsigned n = 1;
  int rc;

  if (from_le32 (r->flags) & COW_RECORD_UNUSED)
    return 1;
  while (first + n < s->capacity && from_le32 (r[n].flags) == 0
         && from_le64 (r[n].block) == from_le64 (r->block) + n
         && from_le32 (r[n].epoch) == from_le32 (r->epoch)
         && from_le32 (r[n].volume) == from_le32 (r->volume))
    n++;
  rc = make_room (s, t);
  if (rc < 0)
    return rc;
  out = &t->run[t->count++];
  *out = (struct told) {
    .block = from_le64 (r->block),
    .place = first_place (segment) + first,
    .epoch = from_le32 (r->epoch),
    .volume = from_le32 (r->volume),
    .count = n,
  };
  t->block_max |= out->block;
  return (int) n;
}

int
cow_tell_segment (struct cow_store *s, struct cow_tell *t, uint32_t segment,
                  const struct disk_segment *h)
{
  for (unsigned i = 0; i < s->capacity;) {
    int n = gather_run (s, t, segment, h->record, i);

    if (n < 0)
      return n;
    i += (unsigned) n;
  }
  return 0;
}

struct cow_tell *
cow_tell_new (void)
{
  return calloc (1, sizeof (struct cow_tell));
}

void
cow_tell_free (struct cow_tell *t)
{
  if (t == NULL)
    return;
  free (t->run);
  free (t->sorted);
  free (t);
}
