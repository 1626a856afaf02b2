/* journal.c - records out: batches, checkpoints, laps.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A checkpoint writes in four steps, each durable before the next begins (J4):
 *
 *   1  the first page of the other area is made zero: what is left there of
 *      the lap before last can't be taken for a journal any more, however the
 *      writes of step 2 are lost or torn
 *   2  the records of the checkpoint.  From here on replay takes the new lap,
 *      which says the same as the old one
 *   3  MOVED, at the end of the old lap.  From here on the old lap is never
 *      taken, and if the new one can't be read that is damage (J5)
 *   4  whatever is appended to the new lap
 *
 * Before the first checkpoint of an opened journal comes one more sync: what a
 * killed process wrote was read from a cache, and is not overwritten before its
 * successor is stable.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/mutant.h"
#include "base/checksum.h"
#include "base/cleanup.h"
#include "journal/journal-priv.h"

int
cow_journal_new (const struct cow_journal_options *options,
                 struct cow_journal **out)
{
  struct cow_journal *j = calloc (1, sizeof *j);

  if (j == NULL)
    return -ENOMEM;
  assert (options->first_area % COW_JOURNAL_PAGE == 0
          && options->area_bytes % COW_JOURNAL_PAGE == 0
          && options->area_bytes > 0);
  j->options = *options;
  /* The first one is lap 2, in area 0. */
  j->lap_begun = 1;
  *out = j;
  return 0;
}

void
cow_journal_free (struct cow_journal *j)
{
  free (j);
}

uint64_t
cow_journal_lap (const struct cow_journal *j)
{
  return j->lap;
}

uint64_t
cow_journal_lap_begun (const struct cow_journal *j)
{
  return j->lap_begun;
}

uint64_t
cow_journal_sequence (const struct cow_journal *j)
{
  return j->sequence;
}

uint64_t
cow_journal_end (const struct cow_journal *j)
{
  return area_begin (j, j->lap) + j->position;
}

bool
cow_journal_torn (const struct cow_journal *j)
{
  return j->torn;
}

/* How long a record of these entries is. */
static size_t
length_of (const struct cow_entries *e)
{
  return cow_round_up (sizeof (struct disk_journal_record) + e->used,
                       COW_JOURNAL_PAGE);
}

/* Give the entries a head: they are a record then. */
static size_t
seal (struct cow_journal *j, struct cow_entries *e, uint64_t lap,
      uint64_t position, uint64_t sequence, uint32_t flags)
{
  struct disk_journal_record *r = (void *) e->data;
  const size_t length = length_of (e);
  const uint64_t offset = area_begin (j, lap) + position;

  assert (length <= e->room);
  memset (r, 0, sizeof *r);
  memset (e->data + sizeof *r + e->used, 0, length - sizeof *r - e->used);
  memcpy (r->magic, COW_JOURNAL_MAGIC, sizeof r->magic);
  r->sequence = to_le64 (sequence);
  r->attested = to_le64 (j->durable);
  r->lap = to_le64 (lap);
  r->length = to_le32 ((uint32_t) length);
  r->used = to_le32 ((uint32_t) e->used);
  r->flags = to_le32 (flags);
  r->checksum =
    to_le64 (cow_checksum (e->data + 16, length - 16,
                           cow_seed (&j->options.store, offset, lap)));
  j->dirty_end[lap % 2] =
    COW_MAX (j->dirty_end[lap % 2], position + length);
  return length;
}

/* A page is kept for MOVED. */
static bool
has_room (const struct cow_journal *j, uint64_t position, size_t length)
{
  return position + length + COW_JOURNAL_PAGE <= j->options.area_bytes;
}

uint64_t
cow_journal_room (const struct cow_journal *j)
{
  return has_room (j, j->position, 0)
           ? j->options.area_bytes - j->position - COW_JOURNAL_PAGE
           : 0;
}

int
cow_journal_append (struct cow_journal *j, struct cow_entries *entries,
                    struct cow_request *write)
{
  int rc;

  assert (j->begun);
  if (j->failed)
    return -EIO;
  rc = cow_entries_reserve (entries, 0);
  if (rc < 0)
    return rc;
  if (!has_room (j, j->position, length_of (entries)))
    return -ENOSPC;
  write->op = COW_OP_WRITE;
  write->file = j->options.file;
  write->offset = cow_journal_end (j);
  write->len = seal (j, entries, j->lap, j->position, j->sequence + 1, 0);
  write->buf = entries->data;
  j->sequence++;
  j->position += write->len;
  return 0;
}

void
cow_journal_durable (struct cow_journal *j, uint64_t sequence)
{
  assert (sequence <= j->sequence);
  j->durable = COW_MAX (j->durable, sequence);
}

/* Zeroes over [from, to) of an area, from a buffer of zeroes. */
static int
make_zero (struct cow_journal *j, unsigned area, uint64_t from, uint64_t to,
           const void *zeroes, size_t bytes)
{
  struct cow_file *f = j->options.file;
  const uint64_t begin = area_begin (j, area);
  int rc;

  if (to > from && to - from > bytes) {
    /* Not by a hole: the place is to stay ours when the file system is full. */
    rc = cow_file_zero (f, begin + from, to - from, false);
    if (rc != -EOPNOTSUPP)
      return rc;
  }
  for (uint64_t at = from; at < to; at += bytes) {
    rc = cow_file_pwrite (f, zeroes, COW_MIN (to - at, (uint64_t) bytes),
                          begin + at);
    if (rc < 0)
      return rc;
  }
  return 0;
}

/* Step 1: nothing in this area is a journal any more, for good. */
static int
forget_area (struct cow_journal *j, unsigned area, const void *zero_page)
{
  int rc;

  if (!j->begun) {
    rc = cow_file_sync (j->options.file);
    if (rc < 0)
      return rc;
  }
  if (j->dirty_end[area] == 0)
    return 0;
  rc = make_zero (j, area, 0, COW_JOURNAL_PAGE, zero_page, COW_JOURNAL_PAGE);
  if (rc < 0)
    return rc;
  return cow_file_sync (j->options.file);
}

/* Step 2.  *position and *sequence are those of the last record that was
 * written, and advance.  *begun: the last record of the checkpoint may be
 * there, whole or not; before that nothing has happened.
 */
static int
write_records (struct cow_journal *j, uint64_t lap, cow_checkpoint_fill fill,
               void *opaque, struct cow_entries *e, uint64_t *position,
               uint64_t *sequence, bool *begun)
{
  int more, rc;

  do {
    size_t length;

    cow_entries_reset (e);
    more = fill (opaque, e);
    rc = more < 0 ? more : cow_entries_reserve (e, 0);
    if (rc < 0)
      return rc;
    if (!has_room (j, *position, length_of (e)))
      return -ENOSPC;
    length = seal (j, e, lap, *position, *sequence + 1,
                   COW_JOURNAL_CHECKPOINT
                     | (more ? 0 : COW_JOURNAL_CHECKPOINT_END));
    /* A write that failed is final, of whatever record. */
    *begun = true;
    rc = cow_file_pwrite (j->options.file, e->data, length,
                          area_begin (j, lap) + *position);
    if (rc < 0)
      return rc;
    *begun = !more;
    *position += length;
    ++*sequence;
  } while (more);
  return COW_MUTANT (moved_too_early) ? 0 : cow_file_sync (j->options.file);
}

/* Step 3. */
static int
write_moved (struct cow_journal *j, struct cow_entries *moved)
{
  size_t length;
  int rc;

  if (j->lap == 0)
    return 0;
  length = seal (j, moved, j->lap, j->position, j->sequence + 1, 0);
  assert (j->position + length <= j->options.area_bytes);
  rc = cow_file_pwrite (j->options.file, moved->data, length,
                        cow_journal_end (j));
  if (rc < 0)
    return rc;
  return cow_file_sync (j->options.file);
}

/* The lowest lap that was never used, and lies in the other area. */
static uint64_t
next_lap (const struct cow_journal *j)
{
  const uint64_t lap = j->lap_begun + 1;

  return lap % 2 == j->lap % 2 && j->lap != 0 ? lap + 1 : lap;
}

static int
checkpoint (struct cow_journal *j, cow_checkpoint_fill fill, void *opaque,
            struct cow_entries *moved, struct cow_entries *e)
{
  const uint64_t lap = next_lap (j);
  /* MOVED has the number in between. */
  uint64_t sequence = j->lap == 0 ? 0 : j->sequence + 1;
  uint64_t position = 0;
  struct disk_moved *body;
  bool begun = false;
  int rc;

  /* All memory comes first: later, a failure is final. */
  rc = cow_entries_reserve (e, COW_CHECKPOINT_BYTES);
  if (rc < 0)
    return rc;
  body = cow_entries_add (moved, COW_ENTRY_MOVED, sizeof *body);
  if (body == NULL)
    return -ENOMEM;
  body->lap = to_le64 (lap);
  memset (e->data, 0, COW_JOURNAL_PAGE);
  j->failed = true;
  rc = forget_area (j, lap % 2, e->data);
  if (rc < 0)
    return rc;
  j->lap_begun = lap;
  rc = write_records (j, lap, fill, opaque, e, &position, &sequence, &begun);
  if (rc < 0) {
    j->failed = begun;
    return rc;
  }
  rc = write_moved (j, moved);
  if (rc < 0)
    return rc;
  j->lap = lap;
  j->position = position;
  j->sequence = j->durable = sequence;
  j->begun = true;
  j->failed = false;
  return 0;
}

int
cow_journal_checkpoint (struct cow_journal *j, cow_checkpoint_fill fill,
                        void *opaque)
{
  struct cow_entries moved = COW_ENTRIES_INIT, e = COW_ENTRIES_INIT;
  int rc;

  assert (j->durable == j->sequence);
  rc = j->failed ? -EIO : checkpoint (j, fill, opaque, &moved, &e);
  cow_entries_clear (&moved);
  cow_entries_clear (&e);
  return rc;
}

bool
cow_journal_failed (const struct cow_journal *j)
{
  return j->failed;
}

int
cow_journal_wipe (struct cow_journal *j)
{
  const unsigned here = j->lap % 2, other = !here;
  CLEANUP_FREE uint8_t *zeroes = NULL;
  int rc;

  assert (j->begun);
  if (j->failed)
    return -EIO;
  zeroes = aligned_alloc (COW_JOURNAL_PAGE, COW_CHECKPOINT_BYTES);
  if (zeroes == NULL)
    return -ENOMEM;
  memset (zeroes, 0, COW_CHECKPOINT_BYTES);
  rc = forget_area (j, other, zeroes);
  if (rc == 0)
    rc = make_zero (j, other, COW_JOURNAL_PAGE, j->dirty_end[other], zeroes,
                    COW_CHECKPOINT_BYTES);
  if (rc == 0)
    rc = make_zero (j, here, j->position, j->dirty_end[here], zeroes,
                    COW_CHECKPOINT_BYTES);
  if (rc == 0)
    rc = cow_file_sync (j->options.file);
  if (rc < 0) {
    j->failed = true;
    return rc;
  }
  j->dirty_end[other] = 0;
  j->dirty_end[here] = j->position;
  return 0;
}
