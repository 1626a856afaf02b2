/* test-journal.c - records, laps and checkpoints; what damage does to them.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * J1 to J5 are the invariants of journal/journal.h.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bits.h"
#include "base/checksum.h"
#include "sim/random.h"
#include "unit/journal.h"

TestSuite (journal, .timeout = 120);

static struct bench b;

/* Replay what is on the disk as the next process would. */
static int
reopen (void)
{
  bench_close (&b);
  return bench_open (&b);
}

static void
append (unsigned note_bytes)
{
  cr_assert_eq (bench_append (&b, note_bytes, -1, -1), 0);
}

/* Five records that are attested, and one that is not. */
static void
append_six (void)
{
  for (unsigned i = 0; i < 6; i++) {
    append (i == 2 ? 2 * PAGE : 100 + i);
    bench_sync (&b);
  }
}

/* ----------------------------------------------------------------- entries */

Test (journal, entries_grow_and_are_walked)
{
  struct cow_entries e = COW_ENTRIES_INIT;
  struct disk_journal_record *r;
  unsigned type, flags, n = 0;
  const void *body;
  size_t at = 0, bytes;

  for (unsigned i = 0; i < 3000; i++) {
    uint8_t *p = cow_entries_add (&e, COW_ENTRY_NOTE, i % 50);

    cr_assert_not_null (p);
    cr_assert_eq ((uintptr_t) p % 8, 0);
    for (unsigned k = 0; k < i % 50; k++)
      cr_assert_eq (p[k], 0);
    memset (p, (int) (i % 251), i % 50);
  }
  cr_assert_eq ((uintptr_t) e.data % PAGE, 0);
  cr_assert_eq (e.room % PAGE, 0);
  r = (void *) e.data;
  r->used = to_le32 ((uint32_t) e.used);
  while (cow_journal_next_entry (r, &at, &type, &flags, &body, &bytes)) {
    cr_assert_eq (type, COW_ENTRY_NOTE);
    cr_assert_eq (flags, COW_ENTRY_MUST_KNOW);
    cr_assert_eq (bytes, cow_round_up (n % 50, 8));
    for (unsigned k = 0; k < bytes; k++)
      cr_assert_eq (((const uint8_t *) body)[k], k < n % 50 ? n % 251 : 0);
    n++;
  }
  cr_assert_eq (n, 3000);
  cr_assert_null (cow_entries_add (&e, COW_ENTRY_NOTE, COW_ENTRIES_MAX));
  cr_assert_null (cow_entries_add (&e, COW_ENTRY_NOTE, SIZE_MAX));
  cow_entries_clear (&e);
}

/* A count that is one too many or too few does not fit its body. */
Test (journal, shapes_of_entries)
{
  static const struct {
    unsigned type;
    size_t head, item, count_at;
  } lists[] = {
    { COW_ENTRY_EXCEPTIONS, 16, 32, 8 }, { COW_ENTRY_ZEROES, 8, 24, 0 },
    { COW_ENTRY_SEGMENTS, 8, 8, 0 },     { COW_ENTRY_FREED, 8, 8, 0 },
    { COW_ENTRY_END, 8, 24, 0 },
  };
  static const struct {
    unsigned type;
    size_t bytes;
  } fixed[] = {
    { COW_ENTRY_VOLUME, 128 }, { COW_ENTRY_COUNTERS, 16 },
    { COW_ENTRY_MOVED, 8 },
  };
  _Alignas (8) uint8_t body[4096] = { 0 };
  struct disk_set *set = (void *) body;
  struct disk_note *note = (void *) body;
  struct disk_volume *volume = (void *) body;

  for (unsigned i = 0; i < COW_ARRAY_SIZE (lists); i++)
    for (uint32_t count = 0; count < 5; count++) {
      const size_t bytes = lists[i].head + count * lists[i].item;
      le32 n;

      for (uint32_t said = 0; said < 8; said++) {
        n = to_le32 (said);
        memcpy (body + lists[i].count_at, &n, sizeof n);
        cr_assert_eq (cow_journal_entry_fits (lists[i].type, body, bytes),
                      said == count);
      }
      n = to_le32 (UINT32_MAX);
      memcpy (body + lists[i].count_at, &n, sizeof n);
      cr_assert_not (cow_journal_entry_fits (lists[i].type, body, bytes));
      cr_assert_not (cow_journal_entry_fits (lists[i].type, body, 0));
    }
  memset (body, 0, sizeof body);
  for (unsigned i = 0; i < COW_ARRAY_SIZE (fixed); i++)
    for (size_t bytes = 0; bytes < 256; bytes += 8)
      cr_assert_eq (cow_journal_entry_fits (fixed[i].type, body, bytes),
                    bytes == fixed[i].bytes);
  volume->name_length = to_le32 (65);
  cr_assert_not (cow_journal_entry_fits (COW_ENTRY_VOLUME, body, 128));

  memset (body, 0, sizeof body);
  cr_assert_not (cow_journal_entry_fits (COW_ENTRY_SET, body, 128));
  set->members = to_le32 (2);
  set->annotation = to_le32 (9);
  cr_assert (cow_journal_entry_fits (COW_ENTRY_SET, body, 128 + 80 + 16));
  cr_assert_not (cow_journal_entry_fits (COW_ENTRY_SET, body, 128 + 80 + 8));
  cr_assert_not (cow_journal_entry_fits (COW_ENTRY_SET, body, 120));
  set->members = to_le32 (65);
  cr_assert_not (
    cow_journal_entry_fits (COW_ENTRY_SET, body, 128 + 65 * 40 + 16));
  set->members = to_le32 (1);
  set->annotation = to_le32 (UINT32_MAX);
  cr_assert_not (cow_journal_entry_fits (COW_ENTRY_SET, body, 128 + 40));

  memset (body, 0, sizeof body);
  note->length = to_le32 (8);
  cr_assert (cow_journal_entry_fits (COW_ENTRY_NOTE, body, 32));
  cr_assert_not (cow_journal_entry_fits (COW_ENTRY_NOTE, body, 24));
  note->length = to_le32 (UINT32_MAX);
  cr_assert_not (cow_journal_entry_fits (COW_ENTRY_NOTE, body, 24));
  cr_assert_not (cow_journal_entry_fits (COW_ENTRY_NOTE, body, 0));
  cr_assert_not (cow_journal_entry_fits (0, body, 8));
  cr_assert_not (cow_journal_entry_fits (COW_ENTRY_MOVED + 1, body, 8));
}

/* -------------------------------------------------------------------- laps */

Test (journal, goes_on_over_many_laps)
{
  uint64_t lap;

  bench_new (&b, 1, 8, 0);
  cr_assert_eq (cow_journal_lap (b.j), 2);
  cr_assert_eq (cow_journal_sequence (b.j), 1);
  for (unsigned round = 0; round < 200; round++) {
    if (bench_append (&b, round % 7 * 1000, -1, -1) == -ENOSPC) {
      cr_assert_lt (cow_journal_room (b.j), 3 * PAGE);
      bench_sync (&b);
      lap = cow_journal_lap (b.j);
      cr_assert_eq (bench_checkpoint (&b), 0);
      cr_assert_eq (cow_journal_lap (b.j), lap + 1);
      cr_assert_eq (cow_journal_room (b.j), 6 * PAGE);
    }
    if (round % 3 == 0)
      bench_sync (&b);
    if (round % 11 == 0) {
      const uint64_t n = b.appended;

      lap = cow_journal_lap (b.j);
      cr_assert_eq (reopen (), 0);
      cr_assert_eq (b.replayed, n);
      cr_assert_not (cow_journal_torn (b.j));
      cr_assert_eq (cow_journal_lap (b.j), lap);
      cr_assert_eq (bench_checkpoint (&b), 0);
    }
  }
  bench_free (&b);
}

/* The place for MOVED is always left. */
Test (journal, a_full_area)
{
  bench_new (&b, 1, 8, 0);
  for (unsigned i = 0; i < 6; i++)
    append (10);
  cr_assert_eq (cow_journal_room (b.j), 0);
  cr_assert_eq (bench_append (&b, 0, -1, -1), -ENOSPC);
  bench_sync (&b);
  cr_assert_eq (reopen (), 0);
  cr_assert_eq (b.replayed, 6);
  cr_assert_eq (bench_checkpoint (&b), 0);
  append (10);

  /* One that does not fit leaves everything as it was. */
  bench_sync (&b);
  b.filler_pages = 8;
  cr_assert_eq (bench_checkpoint (&b), -ENOSPC);
  cr_assert_not (cow_journal_failed (b.j));
  cr_assert_eq (cow_journal_lap (b.j), 3);
  cr_assert_eq (cow_journal_lap_begun (b.j), 4);
  append (10);
  bench_sync (&b);
  cr_assert_eq (reopen (), 0);
  cr_assert_eq (b.replayed, 8);
  cr_assert_eq (cow_journal_lap (b.j), 3);
  b.filler_pages = 0;
  cr_assert_eq (bench_checkpoint (&b), 0);
  /* J3: what the interrupted one left is no part of it. */
  cr_assert_eq (cow_journal_lap (b.j), 6);
  cr_assert_eq (reopen (), 0);
  cr_assert_eq (b.replayed, 8);
  bench_free (&b);
}

Test (journal, wiping_leaves_the_lap_alone)
{
  static uint8_t area[8 * PAGE];

  bench_new (&b, 1, 8, 2);
  append (5000);
  bench_sync (&b);
  cr_assert_eq (bench_checkpoint (&b), 0);
  append (5000);
  bench_sync (&b);
  cr_assert_eq (reopen (), 0);
  b.filler_pages = 0;
  cr_assert_eq (bench_checkpoint (&b), 0);
  append (1);
  bench_sync (&b);
  cr_assert_eq (cow_journal_lap (b.j), 4);
  cr_assert_eq (cow_journal_wipe (b.j), 0);
  cr_assert_eq (cow_journal_end (b.j), bench_area (&b, 4) + 2 * PAGE);
  sim_disk_peek (b.disk, "store", bench_area (&b, 3), area, sizeof area);
  for (unsigned i = 0; i < sizeof area; i++)
    cr_assert_eq (area[i], 0);
  sim_disk_peek (b.disk, "store", bench_area (&b, 4), area, sizeof area);
  for (unsigned i = 2 * PAGE; i < sizeof area; i++)
    cr_assert_eq (area[i], 0);
  for (uint64_t seed = 0; seed < 20; seed++) {
    struct sim_disk *before = b.disk;

    bench_close (&b);
    b.disk = sim_disk_crash (before, seed);
    cr_assert_eq (bench_open (&b), 0);
    cr_assert_eq (b.replayed, 3);
    bench_close (&b);
    sim_disk_free (b.disk);
    b.disk = before;
  }
  cr_assert_eq (bench_open (&b), 0);
  cr_assert_eq (bench_checkpoint (&b), 0);
  bench_free (&b);
}

/* ------------------------------------------------------------------ damage */

/* J3: no byte but the right one, at no other place, lap, sequence or store. */
Test (journal, a_record_is_valid_where_it_belongs)
{
  struct cow_id other = store_id;
  struct cow_entries e = COW_ENTRIES_INIT;
  struct cow_request w;
  uint64_t lap, sequence;

  bench_new (&b, 1, 8, 0);
  cr_assert_not_null (cow_entries_add (&e, COW_ENTRY_NOTE, 24));
  cr_assert_eq (cow_journal_append (b.j, &e, &w), 0);
  cr_assert_eq (w.len, PAGE);
  lap = cow_journal_lap (b.j);
  sequence = cow_journal_sequence (b.j);
  other.b[0] ^= 1;
#define DECODE(store, room, offset, lap, sequence)                            \
  cow_journal_decode (store, w.buf, room, offset, lap, sequence)
  cr_assert_eq (DECODE (&store_id, PAGE, w.offset, lap, sequence), PAGE);
  cr_assert_eq (cow_journal_recognise (&store_id, w.buf, PAGE, w.offset), PAGE);
  cr_assert_eq (DECODE (&other, PAGE, w.offset, lap, sequence), 0);
  cr_assert_eq (DECODE (&store_id, PAGE - 1, w.offset, lap, sequence), 0);
  cr_assert_eq (DECODE (&store_id, PAGE, w.offset + PAGE, lap, sequence), 0);
  cr_assert_eq (DECODE (&store_id, PAGE, w.offset, lap + 2, sequence), 0);
  cr_assert_eq (DECODE (&store_id, PAGE, w.offset, lap, sequence + 1), 0);
  for (unsigned i = 0; i < 8 * PAGE; i++) {
    uint8_t *byte = (uint8_t *) w.buf + i / 8;

    *byte ^= (uint8_t) (1 << i % 8);
    cr_assert_eq (DECODE (&store_id, PAGE, w.offset, lap, sequence), 0);
    cr_assert_eq (cow_journal_recognise (&store_id, w.buf, PAGE, w.offset), 0);
    *byte ^= (uint8_t) (1 << i % 8);
  }
  cow_entries_clear (&e);
  bench_free (&b);
}

/* J5: every byte of the present lap but of the last record. */
Test (journal, a_flipped_bit_is_damage)
{
  uint64_t end, last, begin;

  for (unsigned filler = 0; filler <= 4; filler += 4) {
    bench_new (&b, 1, 14, filler);
    append (10);
    bench_sync (&b);
    cr_assert_eq (bench_checkpoint (&b), 0);
    append_six ();
    begin = bench_area (&b, cow_journal_lap (b.j));
    end = cow_journal_end (b.j);
    last = end - PAGE;
    bench_close (&b);
    for (uint64_t at = begin; at < end; at++) {
      const uint8_t bits = (uint8_t) (1 << (at * 7 + at / 8) % 8);
      int rc;

      bench_flip (&b, at, bits);
      rc = bench_open (&b);
      if (at < last) {
        cr_assert_eq (rc, -EUCLEAN, "at %lu", (unsigned long) (at - begin));
      } else {
        cr_assert_eq (rc, 0);
        cr_assert_eq (b.replayed, 6);
        bench_close (&b);
        b.appended = 7;
      }
      bench_flip (&b, at, bits);
      b.durable = 6;
    }
    cr_assert_eq (bench_open (&b), 0);
    cr_assert_eq (b.replayed, 7);
    bench_free (&b);
  }
}

/* J2, J5: of three records in flight any may be missing; of the others none. */
Test (journal, a_missing_record)
{
  static uint8_t saved[PAGE], zero[PAGE];
  uint64_t at;

  bench_new (&b, 1, 16, 0);
  for (unsigned i = 0; i < 4; i++) {
    append (10);
    bench_sync (&b);
  }
  for (unsigned i = 0; i < 3; i++)
    append (10);
  at = bench_area (&b, 2);
  bench_close (&b);
  for (uint64_t record = 0; record < 8; record++, at += PAGE) {
    sim_disk_peek (b.disk, "store", at, saved, PAGE);
    sim_disk_poke (b.disk, "store", at, zero, PAGE);
    b.appended = 7;
    if (record < 5) {
      cr_assert_eq (bench_open (&b), -EUCLEAN);
    } else {
      cr_assert_eq (bench_open (&b), 0);
      cr_assert_eq (b.replayed, record - 1);
      cr_assert_eq (cow_journal_torn (b.j), record < 7);
      bench_close (&b);
    }
    sim_disk_poke (b.disk, "store", at, saved, PAGE);
  }
  bench_free (&b);
}

/* J5: as soon as MOVED is there, nothing but the new lap will do. */
Test (journal, an_empty_lap_is_not_done_without)
{
  bench_new (&b, 1, 8, 0);
  append (10);
  bench_sync (&b);
  cr_assert_eq (bench_checkpoint (&b), 0);
  bench_close (&b);
  bench_flip (&b, bench_area (&b, 3) + 100, 1);
  cr_assert_eq (bench_open (&b), -EUCLEAN);
  cr_assert (strstr (b.err.text, "other area"));
  bench_free (&b);
}

/* ------------------------------------------------------------- torn blocks */

/* The blocks of what is not attested are looked at, and no others. */
Test (journal, a_torn_block_takes_its_record_along)
{
  bench_new (&b, 1, 16, 0);
  cr_assert_eq (bench_append (&b, 10, 0, -1), 0);
  bench_sync (&b);
  for (int i = 1; i < 4; i++)
    cr_assert_eq (bench_append (&b, 10, i, -1), 0);
  bench_close (&b);
  bench_flip (&b, bench_segment (&b, 2), 1);
  cr_assert_eq (bench_open (&b), 0);
  cr_assert_eq (b.replayed, 2);
  cr_assert (cow_journal_torn (b.j));
  cr_assert_eq (bench_checkpoint (&b), 0);
  bench_free (&b);
}

/* A segment that was freed may hold anything, unless what freed it is torn. */
Test (journal, a_freed_block_is_not_looked_at)
{
  for (unsigned torn = 0; torn < 2; torn++) {
    bench_new (&b, 1, 16, 0);
    cr_assert_eq (bench_append (&b, 10, -1, -1), 0);
    bench_sync (&b);
    cr_assert_eq (bench_append (&b, 10, 0, -1), 0);
    cr_assert_eq (bench_append (&b, 10, -1, -1), 0);
    cr_assert_eq (bench_append (&b, 10, 1, 0), 0);
    bench_close (&b);
    bench_flip (&b, bench_segment (&b, 0), 1);
    if (torn)
      bench_flip (&b, bench_segment (&b, 1), 1);
    cr_assert_eq (bench_open (&b), 0);
    cr_assert_eq (b.replayed, torn ? 1 : 4);
    bench_free (&b);
  }
}

/* What a record attests counts, also where one before it is missing. */
Test (journal, attested_from_beyond_a_gap)
{
  static const uint8_t zero[PAGE];
  uint64_t at;

  bench_new (&b, 1, 16, 0);
  cr_assert_eq (bench_append (&b, 10, -1, -1), 0);
  bench_sync (&b);
  cr_assert_eq (bench_append (&b, 10, 0, -1), 0);
  at = cow_journal_end (b.j);
  cr_assert_eq (bench_append (&b, 10, 1, -1), 0);
  cow_journal_durable (b.j, cow_journal_sequence (b.j) - 1);
  cr_assert_eq (bench_append (&b, 10, 2, -1), 0);
  bench_close (&b);
  sim_disk_poke (b.disk, "store", at, zero, PAGE);
  cr_assert_eq (bench_open (&b), 0);
  cr_assert_eq (b.replayed, 2);
  bench_close (&b);
  /* It was durable: so this is damage, which whoever reads it will find. */
  b.unchecked = true;
  bench_flip (&b, bench_segment (&b, 0), 1);
  cr_assert_eq (bench_open (&b), 0);
  cr_assert_eq (b.replayed, 2);
  bench_free (&b);
}

/* The last record reaches up to each of its sectors, or lacks one. */
Test (journal, a_torn_end)
{
  enum { SECTORS = 3 * PAGE / 512 };
  static uint8_t record[3 * PAGE], old[3 * PAGE], torn[3 * PAGE];

  for (unsigned stale = 0; stale < 2; stale++) {
    uint64_t at;

    bench_new (&b, 1, 16, 0);
    /* Twice around, so that something older is below. */
    for (unsigned i = 0; i < 2 * stale; i++) {
      append (3 * PAGE - 200);
      append (3 * PAGE - 200);
      bench_sync (&b);
      cr_assert_eq (bench_checkpoint (&b), 0);
    }
    append (10);
    bench_sync (&b);
    b.durable = b.appended;
    at = cow_journal_end (b.j);
    sim_disk_peek (b.disk, "store", at, old, sizeof old);
    append (3 * PAGE - 200);
    sim_disk_peek (b.disk, "store", at, record, sizeof record);
    bench_close (&b);
    for (unsigned k = 0; k < 2 * SECTORS; k++) {
      if (k < SECTORS) {
        memcpy (torn, record, sizeof torn);
        memcpy (torn + k * 512, old + k * 512, sizeof torn - k * 512);
      } else {
        memcpy (torn, record, sizeof torn);
        memcpy (torn + (k - SECTORS) * 512, old + (k - SECTORS) * 512, 512);
      }
      if (memcmp (torn, record, sizeof torn) == 0)
        continue;
      sim_disk_poke (b.disk, "store", at, torn, sizeof torn);
      b.appended = b.durable + 1;
      cr_assert_eq (bench_open (&b), 0);
      cr_assert_eq (b.replayed, b.durable);
      bench_close (&b);
    }
    bench_free (&b);
  }
}

/* Write a record of entries made by hand behind the last one. */
static int
open_with (const void *bytes, size_t used)
{
  static _Alignas (4096) uint8_t page[PAGE];
  struct disk_journal_record *r = (void *) page;
  const uint64_t lap = cow_journal_lap (b.j), at = cow_journal_end (b.j);
  int rc;

  memset (page, 0, PAGE);
  memcpy (r->magic, COW_JOURNAL_MAGIC, 8);
  r->sequence = to_le64 (cow_journal_sequence (b.j) + 1);
  r->lap = to_le64 (lap);
  r->length = to_le32 (PAGE);
  r->used = to_le32 ((uint32_t) used);
  memcpy (r + 1, bytes, used);
  r->checksum = to_le64 (
    cow_checksum (page + 16, PAGE - 16, cow_seed (&store_id, at, lap)));
  sim_disk_poke (b.disk, "store", at, page, PAGE);
  rc = reopen ();
  if (rc < 0) {
    cr_assert_eq (strstr (b.err.text, "newer version") != NULL,
                  rc == -EPROTONOSUPPORT);
    memset (page, 0, PAGE);
    sim_disk_poke (b.disk, "store", at, page, PAGE);
    cr_assert_eq (reopen (), 0);
  }
  return rc;
}

Test (journal, malformed_and_unknown_entries)
{
  struct disk_entry e[8] = { 0 };

  bench_new (&b, 1, 8, 0);
  e[0].type = to_le16 (COW_ENTRY_MOVED + 1);
  e[0].length = to_le32 (16);
  cr_assert_eq (open_with (e, 16), 0);
  bench_free (&b);

  bench_new (&b, 1, 8, 0);
  e[0].flags = to_le16 (COW_ENTRY_MUST_KNOW);
  cr_assert_eq (open_with (e, 16), -EPROTONOSUPPORT);
  e[0].flags = to_le16 (0);
  for (uint32_t length = 0; length < 40; length++)
    if (length != 16) {
      e[0].length = to_le32 (length);
      cr_assert_eq (open_with (e, 16), -EUCLEAN, "%u", length);
    }
  e[0].length = to_le32 (8);
  e[1].length = to_le32 (0);
  cr_assert_eq (open_with (e, 16), -EUCLEAN);
  cr_assert_eq (open_with (e, 12), -EUCLEAN);
  e[0].type = to_le16 (COW_ENTRY_COUNTERS);
  cr_assert_eq (open_with (e, 8), -EUCLEAN);
  cr_assert_eq (open_with (e, 0), 0);
  bench_free (&b);
}

/* An area of other bytes, and none at all. */
Test (journal, what_is_no_journal)
{
  static uint8_t area[16 * PAGE];
  uint64_t r = 7;

  bench_new (&b, 1, 8, 0);
  bench_close (&b);
  sim_disk_poke (b.disk, "store", FIRST_AREA, area, sizeof area);
  cr_assert_eq (bench_open (&b), -EUCLEAN);
  for (unsigned i = 0; i < sizeof area; i++)
    area[i] = (uint8_t) sim_random_next (&r);
  for (unsigned i = 0; i < sizeof area; i += PAGE)
    memcpy (area + i, COW_JOURNAL_MAGIC, 8);
  sim_disk_poke (b.disk, "store", FIRST_AREA, area, sizeof area);
  cr_assert_eq (bench_open (&b), -EUCLEAN);
  bench_free (&b);
}
