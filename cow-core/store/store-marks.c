/* store-marks.c - the clean mark, invalidation slots, LIVE; the orderly end.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Small things in fixed places, each written in one sector.  FORMAT.md has
 * them byte by byte.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "store/store-priv.h"

/* How long a close waits for segments that are on their way. */
#define CLOSE_WAIT_NS (10 * COW_NS_PER_S)

static bool
is_zero_page (const void *page)
{
  const uint8_t *p = page;

  return p[0] == 0 && memcmp (p, p + 1, COW_STORE_PAGE - 1) == 0;
}

static char *
live_path (const struct cow_store *s)
{
  char *path;

  return asprintf (&path, "%s/" COW_STORE_LIVE, s->directory) < 0 ? NULL
                                                                   : path;
}

int
cow_store_zero_range (struct cow_store *s, uint64_t offset, uint64_t len)
{
  CLEANUP_FREE uint8_t *zeroes = NULL;
  const uint64_t step = COW_MIN (len, (uint64_t) COW_SEGMENT_BYTES);
  int rc;

  if (len == 0)
    return 0;
  rc = cow_file_punch (s->file, offset, len);
  if (rc != -EOPNOTSUPP)
    return rc;
  zeroes = aligned_alloc (4096, step);
  if (zeroes == NULL)
    return -ENOMEM;
  memset (zeroes, 0, step);
  rc = 0;
  for (uint64_t n; rc == 0 && len > 0; offset += n, len -= n) {
    n = COW_MIN (len, step);
    rc = cow_file_pwrite (s->file, zeroes, n, offset);
  }
  return rc;
}

static int
write_page (struct cow_store *s, const void *data, size_t len,
            uint64_t offset)
{
  CLEANUP_FREE uint8_t *page = aligned_alloc (4096, COW_STORE_PAGE);
  int rc;

  if (page == NULL)
    return -ENOMEM;
  memset (page, 0, COW_STORE_PAGE);
  if (len > 0)
    memcpy (page, data, len);
  rc = cow_file_pwrite (s->file, page, COW_STORE_PAGE, offset);
  return rc < 0 ? rc : cow_file_sync (s->file);
}

/* ----------------------------------------------------------- reading them */

static int
read_clean (struct cow_store *s, const uint8_t *page, struct cow_error *err)
{
  const struct disk_clean *c = (const void *) page;
  uint64_t lap = from_le64 (c->lap);

  s->clean_is_set = !is_zero_page (page);
  if (!s->clean_is_set)
    return 0;
  if (memcmp (c->magic, COW_CLEAN_MAGIC, sizeof c->magic) != 0
      || from_le64 (c->checksum)
           != cow_checksum (page + 16, 48,
                            cow_seed (&s->id, COW_CLEAN_OFFSET, lap)))
    return cow_error_set (err, -EUCLEAN,
                          "store=%s: its clean mark is damaged; run "
                          "cowset-check", s->directory);
  if (lap != cow_journal_lap (s->journal)
      || from_le64 (c->sequence) != cow_journal_sequence (s->journal))
    return cow_error_set (err, -EUCLEAN,
                          "store=%s: the end of its journal is missing, "
                          "though it was closed in order; run cowset-check",
                          s->directory);
  s->was_clean = true;
  return 0;
}

static bool
is_slot (const struct cow_store *s, const struct disk_slot *slot,
         uint64_t offset)
{
  return memcmp (slot->magic, COW_SLOT_MAGIC, sizeof slot->magic) == 0
         && from_le32 (slot->count) <= COW_SLOT_VOLUMES
         && from_le64 (slot->checksum)
              == cow_checksum ((const uint8_t *) slot + 16, sizeof *slot - 16,
                               cow_seed (&s->id, offset,
                                         from_le64 (slot->lap)));
}

/* The end of those whose end can't be read. */
#define END_STORE_ERROR 3u

static int
read_slot (struct cow_store *s, const uint8_t *page, uint64_t offset)
{
  const struct disk_slot *slot = (const void *) page;
  uint32_t volumes[COW_SLOT_VOLUMES];
  bool valid;

  if (is_zero_page (page))
    return 0;
  s->slots_used++;
  valid = is_slot (s, slot, offset);
  /* What it says is in the checkpoint that this lap began with. */
  if (valid && from_le64 (slot->lap) < cow_journal_lap (s->journal))
    return 0;
  if (!valid)
    cow_log (COW_LOG_ERROR,
             "store=%s: an invalidation slot is damaged: all snapshots are "
             "given up", s->directory);
  if (s->hooks.ended == NULL)
    return 0;
  for (unsigned i = 0; valid && i < from_le32 (slot->count); i++)
    volumes[i] = from_le32 (slot->volume[i]);
  return s->hooks.ended (s->hooks.opaque,
                         valid ? from_le32 (slot->end) : END_STORE_ERROR,
                         volumes, valid ? from_le32 (slot->count) : 0);
}

int
cow_marks_read (struct cow_store *s, struct cow_error *err)
{
  const size_t bytes = (size_t) COW_SLOTS_COUNT * COW_STORE_PAGE;
  CLEANUP_FREE uint8_t *pages = aligned_alloc (4096, bytes);
  int rc;

  if (pages == NULL)
    return cow_error_set (err, -ENOMEM, "store=%s: out of memory",
                          s->directory);
  rc = cow_file_pread (s->file, pages, COW_STORE_PAGE, COW_CLEAN_OFFSET);
  if (rc == 0)
    rc = read_clean (s, pages, err);
  if (rc == -EUCLEAN)
    return rc;
  if (rc == 0)
    rc = cow_file_pread (s->file, pages, bytes, COW_SLOTS_OFFSET);
  for (unsigned i = 0; rc == 0 && i < COW_SLOTS_COUNT; i++)
    rc = read_slot (s, pages + (size_t) i * COW_STORE_PAGE,
                    COW_SLOTS_OFFSET + (uint64_t) i * COW_STORE_PAGE);
  if (rc == 0 && !s->is_live) {
    cow_log (COW_LOG_ERROR,
             "store=%s: " COW_STORE_LIVE " is missing: its snapshots had to "
             "be given up", s->directory);
    if (s->hooks.ended)
      rc = s->hooks.ended (s->hooks.opaque, END_STORE_ERROR, NULL, 0);
  }
  return rc < 0 ? cow_error_set (err, rc, "store=%s: reading it: %s",
                                 s->directory, strerror (-rc))
                : 0;
}

int
cow_marks_clear_clean (struct cow_store *s)
{
  return s->clean_is_set ? write_page (s, NULL, 0, COW_CLEAN_OFFSET) : 0;
}

/* The checkpoint that says what the slots said is durable: they can go, and the
 * store is to be believed.
 */
int
cow_marks_go_live (struct cow_store *s)
{
  CLEANUP_FREE char *path = live_path (s);
  struct cow_file *f;
  int rc = path ? 0 : -ENOMEM;

  for (unsigned i = 0; rc == 0 && s->slots_used > 0 && i < COW_SLOTS_COUNT;
       i++)
    rc = write_page (s, NULL, 0,
                     COW_SLOTS_OFFSET + (uint64_t) i * COW_STORE_PAGE);
  if (rc < 0)
    return rc;
  s->slots_used = 0;
  if (!s->is_live) {
    struct cow_error err = COW_ERROR_INIT;

    rc = cow_file_open (s->io, path, COW_OPEN_CREATE, &err, &f);
    if (rc < 0)
      return rc;
    cow_file_close (f);
    s->is_live = true;
  }
  return cow_io_sync_dir (s->io, s->directory);
}

/* ---------------------------------------------------------- invalidation */

int
cow_store_invalidate (struct cow_store *s, unsigned end,
                      const uint32_t *volumes, unsigned count)
{
  struct disk_slot slot = { .end = to_le32 (end) };
  uint64_t offset;
  unsigned n;

  if (count > COW_SLOT_VOLUMES)
    count = 0;
  cow_mutex_lock (&s->lock);
  n = s->slots_used < COW_SLOTS_COUNT ? s->slots_used++ : COW_SLOTS_COUNT;
  slot.lap = to_le64 (s->lap);
  cow_mutex_unlock (&s->lock);
  if (n == COW_SLOTS_COUNT)
    return -ENOSPC;
  offset = COW_SLOTS_OFFSET + (uint64_t) n * COW_STORE_PAGE;
  memcpy (slot.magic, COW_SLOT_MAGIC, sizeof slot.magic);
  slot.count = to_le32 (count);
  for (unsigned i = 0; i < count; i++)
    slot.volume[i] = to_le32 (volumes[i]);
  slot.checksum = to_le64 (
    cow_checksum ((const uint8_t *) &slot + 16, sizeof slot - 16,
                  cow_seed (&s->id, offset, from_le64 (slot.lap))));
  return write_page (s, &slot, sizeof slot, offset);
}

int
cow_store_disown (struct cow_store *s)
{
  CLEANUP_FREE char *path = live_path (s);
  int rc = path ? cow_io_remove (s->io, path) : -ENOMEM;

  return rc < 0 && rc != -ENOENT ? rc : cow_io_sync_dir (s->io, s->directory);
}

/* ------------------------------------------------------- the orderly end */

/* Segments that are not full get their headers as they are: the rest of their
 * records is unused.
 */
static void
close_filling_locked (struct cow_store *s)
  COW_REQUIRES (s->lock)
{
  struct buffer *b;
  struct segment *g;

  if (s->filling[LASTING] == s->ring_segments)
    return;
  b = &s->buffer[s->filling[LASTING]];
  g = &s->segment[b->segment];
  assert (b->filled == b->reserved && b->unlogged == 0);
  s->filling[LASTING] = s->ring_segments;
  for (unsigned i = b->filled; i < s->capacity; i++)
    header_of (b)->record[i].flags = to_le32 (COW_RECORD_UNUSED);
  s->closed_segment = b->segment;
  s->closed_from = b->filled;
  b->reserved = b->filled = s->capacity;
  g->state = SEGMENT_FULL;
  if (g->live == 0)
    cow_store_to_limbo_locked (s, b->segment);
  else
    s->full++;
}

static bool
is_out_locked (const struct cow_store *s)
{
  for (uint32_t n = 0; n < s->segments; n++)
    if (s->segment[n].lasting
        && (s->segment[n].state == SEGMENT_FULL
            || s->segment[n].state == SEGMENT_WRITING))
      return false;
  return true;
}

static int
write_the_rest (struct cow_store *s)
{
  uint64_t deadline_ns = cow_now_ns () + CLOSE_WAIT_NS;
  int rc = cow_store_barrier (s, cow_store_ticket (s), deadline_ns);
  bool out = rc < 0;

  cow_mutex_lock (&s->lock);
  if (rc == 0)
    close_filling_locked (s);
  cow_mutex_unlock (&s->lock);
  while (!out) {
    if (!cow_store_work (s))
      cow_store_wait (s, cow_now_ns () + 10 * COW_NS_PER_MS);
    cow_mutex_lock (&s->lock);
    rc = s->failed ? -EIO : 0;
    out = is_out_locked (s) || rc < 0;
    cow_mutex_unlock (&s->lock);
    if (!out && cow_now_ns () >= deadline_ns)
      return -ETIMEDOUT;
  }
  return rc;
}

/* Everything that nothing gives a meaning to is zero, and takes no space; but
 * the journal keeps its own.
 */
static int
zero_the_rest (struct cow_store *s)
{
  uint32_t known = COW_MAX (s->granted, s->segments);
  uint32_t segments = COW_MAX (known, s->segments_in_file);
  int rc = cow_journal_wipe (s->journal);

  for (uint32_t n = 0, to; rc == 0 && n < segments; n = to) {
    for (to = n; to < segments
                 && (to >= s->segments || !s->segment[to].lasting
                     || s->segment[to].state != SEGMENT_STORED);
         to++)
      ;
    if (to > n)
      rc = cow_store_zero_range (s, segment_offset (s, n),
                                 (uint64_t) (to - n) * s->segment_bytes);
    else
      to++;
  }
  if (rc == 0 && s->closed_from > 0
      && s->segment[s->closed_segment].state == SEGMENT_STORED)
    rc = cow_store_zero_range (
      s,
      segment_offset (s, s->closed_segment) + COW_SEGMENT_HEADER_BYTES
        + (uint64_t) s->closed_from * s->block_bytes,
      (uint64_t) (s->capacity - s->closed_from) * s->block_bytes);
  return rc < 0 ? rc : cow_file_sync (s->file);
}

int
cow_store_close (struct cow_store *s)
{
  struct disk_clean clean = { .lap = { 0 } };
  uint64_t lap;
  int rc = 0;

  if (!s->named || s->failed)
    return s->failed ? -EIO : 0;
  if (s->prepared)
    rc = write_the_rest (s);
  if (rc == 0)
    rc = cow_log_checkpoint (s);
  if (rc == 0)
    rc = zero_the_rest (s);
  if (rc < 0)
    return rc;
  lap = cow_journal_lap (s->journal);
  memcpy (clean.magic, COW_CLEAN_MAGIC, sizeof clean.magic);
  clean.lap = to_le64 (lap);
  clean.sequence = to_le64 (cow_journal_sequence (s->journal));
  clean.checksum = to_le64 (
    cow_checksum ((const uint8_t *) &clean + 16, 48,
                  cow_seed (&s->id, COW_CLEAN_OFFSET, lap)));
  s->clean_is_set = true;
  return write_page (s, &clean, sizeof clean, COW_CLEAN_OFFSET);
}
