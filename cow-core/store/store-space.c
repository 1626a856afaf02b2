/* store-space.c - the file's space: taken ahead, given back.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A segment is begun only when the file has space for it, so that a segment
 * that is full can be written: a file system that is short of space makes the
 * store full (and the oldest set makes room), never failed.  The worker keeps
 * a chunk ahead of the writers, within the limit, and while more than the
 * reserve is left.  When no block is needed by anybody, all is given back.
 *
 * Where the file system can't preallocate, space is only counted.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "store/store-priv.h"

#define CHUNK_SEGMENTS 64u
/* How soon a file system that had no space is asked again. */
#define TRY_AGAIN_NS COW_NS_PER_S

/* How many segments more may be taken now, at most a chunk. */
static uint32_t
allowance (struct cow_store *s)
{
  uint64_t free_bytes, total_bytes, reserve = s->reserve_bytes;

  if (cow_file_space (s->file, &free_bytes, &total_bytes) < 0)
    return CHUNK_SEGMENTS;      /* allocating will tell */
  reserve = COW_MAX (reserve, total_bytes / 100 * s->reserve_percent);
  if (free_bytes <= reserve)
    return 0;
  return COW_MIN ((free_bytes - reserve) / s->segment_bytes,
                  (uint64_t) CHUNK_SEGMENTS);
}

uint64_t
cow_store_room (struct cow_store *s)
{
  uint64_t free_bytes = 0, total_bytes = 0, reserve, segments, more;
  struct cow_file *file;

  cow_mutex_lock (&s->lock);
  file = s->file;
  more = s->segments_max - COW_MAX (s->granted, s->segments);
  segments = COW_MAX (s->granted, s->segments) - s->in_use;
  cow_mutex_unlock (&s->lock);
  if (file != NULL && cow_file_space (file, &free_bytes, &total_bytes) == 0) {
    reserve = COW_MAX (s->reserve_bytes,
                       total_bytes / 100 * s->reserve_percent);
    free_bytes = free_bytes > reserve ? free_bytes - reserve : 0;
    more = COW_MIN (more, free_bytes / s->segment_bytes);
  }
  return (segments + more) * s->segment_bytes;
}

/* Take space for n segments from `from` on, or for as many as there is space
 * for.  How many, or -errno that is not for want of space.
 */
static int
allocate (struct cow_store *s, uint32_t from, uint32_t n)
{
  while (n > 0) {
    int rc = cow_file_allocate (s->file, segment_offset (s, from),
                                (uint64_t) n * s->segment_bytes);

    if (rc == 0 || rc == -EOPNOTSUPP)
      return (int) n;
    if (rc != -ENOSPC)
      return rc;
    n /= 4;
  }
  return 0;
}

/* Does somebody need space soon, and may it be looked for? */
static bool
wants_space_locked (const struct cow_store *s)
{
  return s->prepared && !s->failed && !s->growing
         && (s->wanted || s->in_use > 0)
         && s->granted < s->segments_max && s->free_head == NO_SEGMENT
         && s->granted - s->segments < CHUNK_SEGMENTS / 2
         && (!s->no_space || cow_now_ns () >= s->next_try_ns);
}

bool
cow_store_grow (struct cow_store *s)
{
  uint32_t from, n;
  bool news;
  int got;

  cow_mutex_lock (&s->lock);
  if (!wants_space_locked (s)) {
    cow_mutex_unlock (&s->lock);
    return false;
  }
  s->growing = true;
  from = s->granted;
  cow_mutex_unlock (&s->lock);

  n = COW_MIN (allowance (s), s->segments_max - from);
  got = allocate (s, from, n);
  if (got < 0)
    cow_store_fail (s, got, "taking space for its file");

  cow_mutex_lock (&s->lock);
  s->growing = false;
  news = got == 0 && !s->no_space;
  s->no_space = got == 0;
  s->next_try_ns = cow_now_ns () + TRY_AGAIN_NS;
  if (got > 0)
    s->granted += (uint32_t) got;
  cow_store_room_changed_locked (s);
  cow_mutex_unlock (&s->lock);
  if (news)
    cow_log (COW_LOG_WARNING,
             "store: %s has no more space for it (store-reserve is kept "
             "free): it stays at %llu MiB",
             s->directory,
             (unsigned long long) (from * (uint64_t) s->segment_bytes >> 20));
  return got > 0;
}

/* Segments that were begun, of which nobody needs anything and in which nobody
 * is at work, are all that is left.
 */
static void
drop_filling_locked (struct cow_store *s)
  COW_REQUIRES (s->lock)
{
  unsigned begun = 0;

  for (unsigned kind = 0; kind < KINDS; kind++)
    begun += s->filling[kind] < s->ring_segments;
  if (s->live_blocks > 0 || s->in_use != begun)
    return;
  for (unsigned kind = 0; kind < KINDS; kind++) {
    const struct buffer *b = &s->buffer[s->filling[kind]];

    if (s->filling[kind] == s->ring_segments || b->filled != b->reserved
        || b->unlogged > 0)
      continue;
    s->filling[kind] = s->ring_segments;
    cow_store_to_limbo_locked (s, b->segment);
  }
}

bool
cow_store_give_back (struct cow_store *s)
{
  uint32_t granted;
  int rc;

  cow_mutex_lock (&s->lock);
  if (!s->prepared || s->failed || s->growing || s->granted == 0) {
    cow_mutex_unlock (&s->lock);
    return false;
  }
  drop_filling_locked (s);
  if (s->in_use > 0) {
    cow_mutex_unlock (&s->lock);
    return false;
  }
  /* Nothing can be begun until this is over. */
  s->growing = true;
  granted = s->granted;
  s->granted = s->segments = 0;
  s->wanted = false;
  s->free_head = NO_SEGMENT;
  cow_mutex_unlock (&s->lock);

  rc = cow_file_punch (s->file, s->first_segment,
                       (uint64_t) granted * s->segment_bytes);

  cow_mutex_lock (&s->lock);
  s->growing = false;
  s->no_space = false;
  cow_store_room_changed_locked (s);
  cow_mutex_unlock (&s->lock);
  if (rc < 0 && rc != -EOPNOTSUPP)
    cow_store_fail (s, rc, "giving space back");
  return true;
}
