/* test-volume.c - what clients ask of a volume, with and without snapshots.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Over a simulated disk (unit/served.h).  A body that runs as a fibre asserts
 * by assert().
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bits.h"
#include "set/engine.h"
#include "sim/random.h"
#include "unit/served.h"

TestSuite (volume, .timeout = 120);

#define BLOCK 4096u
#define MIB (1u << 20)

static void
begin (uint64_t size_bytes)
{
  served_begin (&(struct served_options) {
    .seed = 1, .size_bytes = size_bytes,
  });
}

static void
begin_empty (uint64_t size_bytes)
{
  served_begin (&(struct served_options) {
    .seed = 1, .size_bytes = size_bytes, .holes = true,
  });
}

static struct cow_volume_status
volume_status (void)
{
  struct cow_volume_status st;

  cow_volume_status (served.volume[0], &st);
  return st;
}

/* Is [offset, offset + len) of the file of v0 allocated, anywhere? */
static bool
has_data (uint64_t offset, uint64_t len)
{
  struct cow_file *f = served.volume[0]->file;
  uint64_t at = offset;

  while (at < offset + len) {
    enum cow_extent_kind kind;
    uint64_t n;

    cr_assert_eq (cow_file_extent (f, at, &kind, &n), 0);
    if (kind == COW_EXTENT_DATA)
      return true;
    at += n;
  }
  return false;
}

/* ------------------------------------------------------------- the ranges */

struct small {
  uint64_t size;
  uint32_t direct;
};

/* Each byte range that has an end at, before or behind an interesting place. */
static void
write_around (uint64_t size)
{
  const uint64_t places[] = { 0, 1, 511, 512, 513, BLOCK - 1, BLOCK,
                              BLOCK + 1, size - 1, size };
  struct served_set s;
  uint32_t stamp = 1;

  for (unsigned i = 0; i < COW_ARRAY_SIZE (places); i++)
    for (unsigned j = 0; j < COW_ARRAY_SIZE (places); j++) {
      const uint64_t from = places[i], to = places[j];

      if (from >= to || to > size)
        continue;
      cr_assert_eq (served_set (&s, 1), 0);
      cr_assert_eq (served_write (0, from, (uint32_t) (to - from), stamp++, 0),
                    0, "size %u: %u to %u", (unsigned) size, (unsigned) from,
                    (unsigned) to);
      cr_assert (served_origin_right (0), "size %u: %u to %u",
                 (unsigned) size, (unsigned) from, (unsigned) to);
      cr_assert_eq (served_check (&s, 0), 0);
      cr_assert_eq (served_write (0, 0, (uint32_t) size, stamp++, 0), 0);
      cr_assert_eq (served_check (&s, 0), 0);
      cr_assert_eq (served_delete (&s), 0);
      served_work ();
    }
}

static void
odd_sizes (uint32_t direct, uint32_t block_bytes)
{
  static const uint64_t sizes[] = { 1, 511, 512, 513, BLOCK - 1, BLOCK,
                                    BLOCK + 1, 3 * BLOCK - 512,
                                    3 * BLOCK - 1, 3 * BLOCK + 1,
                                    65535, 65536, 65537 };

  for (unsigned i = 0; i < COW_ARRAY_SIZE (sizes); i++) {
    served_begin (&(struct served_options) {
      .seed = 1, .size_bytes = sizes[i], .direct = direct,
      .engine = { .block_bytes = block_bytes },
    });
    write_around (sizes[i]);
    served_work ();
    cr_expect_eq (served_status ().exceptions, 0);
    cr_expect_eq (served_status ().store_used_bytes, 0);
    served_end ();
  }
}

Test (volume, odd_sizes_and_ranges_cached) { odd_sizes (0, BLOCK); }

Test (volume, odd_sizes_and_ranges_direct_512) { odd_sizes (512, BLOCK); }

Test (volume, odd_sizes_and_ranges_direct_4096) { odd_sizes (4096, BLOCK); }

Test (volume, odd_sizes_and_ranges_large_blocks) { odd_sizes (0, 65536); }

/* Random writes, which overlap; sets come and go. */
static void
random_writes (uint32_t direct, uint32_t block_bytes, uint64_t seed)
{
  const uint64_t size = 20 * block_bytes + 700;
  struct served_set set[3];
  bool used[3] = { false };

  served_begin (&(struct served_options) {
    .seed = seed, .size_bytes = size, .direct = direct,
    .engine = { .block_bytes = block_bytes },
  });
  for (uint32_t step = 0; step < 300; step++) {
    const uint64_t offset = fibres_draw (size);
    const uint64_t len = 1 + fibres_draw (COW_MIN (size - offset,
                                                   3u * block_bytes));
    const unsigned i = (unsigned) fibres_draw (3);

    if (step % 16 == 0) {
      if (used[i])
        cr_assert_eq (served_delete (&set[i]), 0);
      cr_assert_eq (served_set (&set[i], 1), 0);
      used[i] = true;
    }
    cr_assert_eq (served_write (0, offset, (uint32_t) len, step, 0), 0);
    if (step % 4 == 0)
      cow_engine_step (served.engine, 0);
    for (unsigned n = 0; n < 3 && step % 8 == 7; n++)
      if (used[n])
        cr_assert_eq (served_check (&set[n], 0), 0, "seed %u, step %u",
                      (unsigned) seed, step);
  }
  cr_expect (served_origin_right (0), "seed %u", (unsigned) seed);
  for (unsigned n = 0; n < 3; n++)
    if (used[n])
      cr_expect_eq (served_delete (&set[n]), 0);
  served_work ();
  cr_expect_eq (served_status ().exceptions, 0);
  cr_expect_eq (served_status ().store_used_bytes, 0);
  served_end ();
}

Test (volume, overlapping_writes)
{
  for (uint64_t seed = 1; seed <= 6; seed++) {
    random_writes (0, BLOCK, seed);
    random_writes (512, BLOCK, seed);
    random_writes (4096, BLOCK, seed);
    random_writes (seed % 2 ? 512 : 0, 65536, seed);
  }
}

Test (volume, a_write_longer_than_a_piece)
{
  const uint32_t size = 5 * MIB + 123;
  struct served_set s;

  begin (size);
  cr_assert_eq (served_set (&s, 1), 0);
  cr_assert_eq (served_write (0, 1000, 3 * MIB + 17, 1, 0), 0);
  served_work ();
  cr_assert_eq (served_write (0, 2 * MIB, size - 2 * MIB, 2, 0), 0);
  cr_expect (served_origin_right (0));
  cr_expect_eq (served_check (&s, 0), 0);
  cr_expect_eq (served_status ().copied_bytes, cow_round_up (size, BLOCK),
                "each block once");
  served_set_forget (&s);
  served_end ();
}

Test (volume, ranges_beyond_the_end_are_refused)
{
  const uint64_t size = 2 * BLOCK + 5;
  struct cow_volume *v;
  uint8_t buf[16] = { 0 };

  begin (size);
  v = served.volume[0];
  cr_expect_eq (cow_volume_write (v, buf, 6, size - 5, 0), -ENOSPC);
  cr_expect_eq (cow_volume_write (v, buf, 1, UINT64_MAX, 0), -ENOSPC);
  cr_expect_eq (cow_volume_zero (v, UINT32_MAX, size - 1, 0), -ENOSPC);
  cr_expect_eq (cow_volume_trim (v, 1, size, 0), -ENOSPC);
  cr_expect_eq (cow_volume_read (v, buf, 6, size - 5), -EINVAL);
  cr_expect_eq (cow_volume_read (v, buf, 1, UINT64_MAX), -EINVAL);
  cr_expect_eq (cow_volume_extents (v, 1, size, NULL, NULL), -EINVAL);
  cr_expect_eq (cow_volume_write (v, buf, 0, size, 0), 0);
  cr_expect_eq (cow_volume_read (v, buf, 0, size), 0);
  cr_expect (served_origin_right (0));
  served_end ();
}

Test (volume, a_readonly_volume_refuses_changes)
{
  const struct sim_disk_options disk = { .seed = 1 };
  const struct sim_file_options file = { .size_bytes = 8 * BLOCK };
  struct cow_engine_options o = { .store_path = "/store" };
  struct sim_disk *d = sim_disk_new (&disk);
  struct cow_engine *e;
  struct cow_volume *v;
  uint8_t buf[16] = { 0 };

  sim_disk_create (d, "d", &file);
  o.use_io = sim_disk_io (d);
  cr_assert_eq (cow_engine_new (&o, NULL, &e), 0);
  cr_assert_eq (cow_volume_add (e, "v", "d", COW_CACHE_WRITEBACK, true, NULL,
                                &v), 0);
  cr_assert_eq (cow_engine_start (e, NULL), 0);
  cr_expect (cow_volume_readonly (v));
  cr_expect_eq (cow_volume_write (v, buf, 1, 0, 0), -EROFS);
  cr_expect_eq (cow_volume_zero (v, 1, 0, 0), -EROFS);
  cr_expect_eq (cow_volume_trim (v, 1, 0, 0), -EROFS);
  cr_expect_eq (cow_volume_read (v, buf, 1, 0), 0);
  cr_expect_eq (cow_volume_flush (v), 0);
  cow_engine_free (e);
  sim_disk_free (d);
}

Test (volume, direct_needs_no_alignment_of_memory)
{
  uint8_t *raw;
  struct served_set s;

  served_begin (&(struct served_options) {
    .seed = 1, .size_bytes = 4 * BLOCK, .direct = 4096,
  });
  raw = aligned_alloc (4096, 4 * BLOCK);
  cr_assert_eq (served_set (&s, 1), 0);
  served_stamp (raw + 1, 2 * BLOCK, BLOCK, 5);
  cr_expect_eq (cow_volume_write (served.volume[0], raw + 1, 2 * BLOCK, BLOCK,
                                  0), 0);
  memcpy (served.data[0] + BLOCK, raw + 1, 2 * BLOCK);
  cr_expect_eq (cow_volume_read (served.volume[0], raw + 3, 2 * BLOCK, BLOCK),
                0);
  cr_expect_arr_eq (raw + 3, served.data[0] + BLOCK, 2 * BLOCK);
  cr_expect (served_origin_right (0));
  cr_expect_eq (served_check (&s, 0), 0);
  free (raw);
  served_set_forget (&s);
  served_end ();
}

/* ------------------------------------------------------------ many at once */

#define CROWD 6u

/* Each has every sixth byte of a sector: with O_DIRECT all are read, changed
 * and written together.
 */
static void
write_own_bytes (unsigned number)
{
  for (uint32_t at = number; at < 600; at += CROWD) {
    const uint8_t byte = (uint8_t) (200 + number);

    assert (cow_volume_write (served.volume[0], &byte, 1, at, 0) == 0);
    served.data[0][at] = byte;
  }
}

Test (volume, bytes_of_one_sector_written_at_once_all_arrive)
{
  for (uint64_t seed = 1; seed <= 10; seed++) {
    struct served_set s;

    served_begin (&(struct served_options) {
      .seed = seed, .size_bytes = 2 * BLOCK + 99, .direct = 512,
      .disk = { .latency_min_ns = 100, .latency_max_ns = 5000 },
    });
    cr_assert_eq (served_set (&s, 1), 0);
    served_run_all (CROWD, write_own_bytes);
    cr_expect (served_origin_right (0), "seed %u", (unsigned) seed);
    cr_expect_eq (served_check (&s, 0), 0, "seed %u", (unsigned) seed);
    served_set_forget (&s);
    served_end ();
  }
}

static struct served_set then;

/* Whole blocks, so that it can be told whose they are. */
static void
write_and_look (unsigned number)
{
  struct cow_view *w = served_open (&then, 0);
  uint8_t buf[3 * BLOCK];

  assert (w);
  for (unsigned i = 0; i < 12; i++) {
    const uint64_t at = fibres_draw (8) * BLOCK;
    const uint32_t len = BLOCK * (uint32_t) (1 + fibres_draw (3));

    if (number % 3 == 2)
      assert (served_check_view (w, then.data[0], served.o.size_bytes) == 0);
    else {
      memset (buf, (int) (1 + number), len);
      assert (cow_volume_write (served.volume[0], buf, len, at, 0) == 0);
    }
  }
  cow_view_close (w);
}

/* A block is its first content, or one of the writers'. */
static bool
is_whole_or_old (const uint8_t *block, const uint8_t *old)
{
  if (memcmp (block, old, BLOCK) == 0)
    return true;
  for (uint32_t i = 1; i < BLOCK; i++)
    if (block[i] != block[0])
      return false;
  return block[0] >= 1 && block[0] <= CROWD;
}

Test (volume, writers_of_the_same_blocks_and_readers_of_the_snapshot)
{
  for (uint64_t seed = 1; seed <= 40; seed++) {
    uint8_t buf[11 * BLOCK];

    served_begin (&(struct served_options) {
      .seed = seed, .size_bytes = sizeof buf,
      .direct = seed % 2 ? 0 : 4096,
      .disk = { .latency_min_ns = 100,
                .latency_max_ns = seed % 3 ? 10000 : 100 },
    });
    cr_assert_eq (served_set (&then, 1), 0);
    served_run_all (CROWD, write_and_look);
    cr_expect_eq (served_check (&then, 0), 0, "seed %u", (unsigned) seed);
    cr_assert_eq (cow_volume_read (served.volume[0], buf, sizeof buf, 0), 0);
    for (unsigned b = 0; b < 11; b++)
      cr_expect (is_whole_or_old (buf + b * BLOCK, then.data[0] + b * BLOCK),
                 "seed %u, block %u", (unsigned) seed, b);
    cr_expect_leq (served_status ().copied_bytes, sizeof buf,
                   "no block twice");
    served_set_forget (&then);
    served_end ();
  }
}

/* ------------------------------------------------- one copy for everybody */

Test (volume, one_copy_serves_all_snapshots_that_need_it)
{
  struct served_set s[20];

  begin (16 * BLOCK);
  for (unsigned i = 0; i < 20; i++)
    cr_assert_eq (served_set (&s[i], 1), 0);
  cr_assert_eq (served_write (0, 3 * BLOCK, BLOCK, 1, 0), 0);
  cr_expect_eq (served_status ().copied_bytes, BLOCK);
  cr_expect_eq (served_status ().exceptions, 1);
  cr_assert_eq (served_write (0, 3 * BLOCK, BLOCK, 2, 0), 0);
  cr_expect_eq (served_status ().copied_bytes, BLOCK, "preserved already");
  for (unsigned i = 0; i < 19; i++) {
    cr_expect_eq (served_check (&s[i], 0), 0);
    cr_expect_eq (served_delete (&s[i]), 0);
    served_work ();
    cr_expect_eq (served_status ().exceptions, 1);
  }
  cr_expect_eq (served_check (&s[19], 0), 0);
  cr_expect_eq (served_delete (&s[19]), 0);
  served_work ();
  cr_expect_eq (served_status ().exceptions, 0);
  served_end ();
}

Test (volume, without_a_snapshot_nothing_is_copied)
{
  struct served_set s;

  begin (16 * BLOCK);
  cr_assert_eq (served_write (0, 0, 16 * BLOCK, 1, 0), 0);
  cr_assert_eq (served_set (&s, 1), 0);
  cr_assert_eq (served_write (0, 0, BLOCK, 2, 0), 0);
  cr_expect_eq (served_status ().first_touches, 1);
  cr_assert_eq (served_delete (&s), 0);
  cr_assert_eq (served_write (0, BLOCK, BLOCK, 3, 0), 0);
  served_work ();
  cr_assert_eq (served_write (0, 2 * BLOCK, BLOCK, 4, 0), 0);
  cr_expect_eq (served_status ().copied_bytes, BLOCK);
  cr_expect_eq (volume_status ().snapshots, 0);
  cr_expect (cow_root_is_full (cow_volume_root (
               served.volume[0], (uint32_t) volume_status ().epoch)),
             "back on the fast path");
  cr_expect (served_origin_right (0));
  served_end ();
}

Test (volume, bits_that_are_not_kept_cost_no_content)
{
  struct served_set s;

  begin (16 * BLOCK);
  atomic_store (&served.engine->bits_budget.pages_left, 0);
  cr_assert_eq (served_set (&s, 1), 0);
  for (uint32_t round = 0; round < 3; round++)
    for (unsigned b = 0; b < 16; b++)
      cr_assert_eq (served_write (0, b * BLOCK, BLOCK, round, 0), 0);
  cr_expect_eq (served_status ().copied_bytes, 16 * BLOCK);
  cr_expect_eq (served_check (&s, 0), 0);
  served_set_forget (&s);
  served_end ();
}

/* ------------------------------------------------------ holes and zeroes */

Test (volume, holes_are_recorded_and_not_stored)
{
  struct served_set s;

  begin_empty (2 * MIB);
  cr_assert_eq (served_set (&s, 1), 0);
  memset (served.origin_ios, 0, sizeof served.origin_ios);
  cr_assert_eq (served_write (0, 0, MIB, 1, 0), 0);
  cr_expect_eq (served.origin_ios[SIM_READ], 0, "a long hole is not read");
  cr_assert_eq (served_write (0, MIB + 5, 1, 1, 0), 0);
  cr_expect_eq (served_status ().copied_bytes, 0);
  cr_expect_eq (served_status ().zero_bytes, MIB + BLOCK);
  cr_expect_eq (served_status ().store_used_bytes, 0);
  cr_expect_eq (served_status ().exceptions, MIB / BLOCK + 1);
  served_work ();
  cr_expect_eq (served_status ().store_written_bytes, 0);
  cr_expect_eq (served_check (&s, 0), 0);
  cr_expect (served_origin_right (0));
  served_set_forget (&s);
  served_end ();
}

Test (volume, zeroes_among_data_are_recorded_and_not_stored)
{
  struct served_set s;

  begin (64 * BLOCK);
  /* Written as zeroes, so that there is no hole; but for one byte each. */
  for (unsigned b = 0; b < 64; b += 2) {
    uint8_t zeroes[BLOCK] = { 0 };

    zeroes[b < 32 ? 0 : BLOCK - 1] = b % 8 == 0;
    cr_assert_eq (cow_volume_write (served.volume[0], zeroes, BLOCK,
                                    b * BLOCK, 0), 0);
    memcpy (served.data[0] + b * BLOCK, zeroes, BLOCK);
  }
  cr_assert_eq (served_set (&s, 1), 0);
  cr_assert_eq (served_write (0, 0, 64 * BLOCK, 1, 0), 0);
  cr_expect_eq (served_status ().zero_bytes, 24 * BLOCK);
  cr_expect_eq (served_status ().copied_bytes, 40 * BLOCK);
  cr_expect_eq (served_status ().store_used_bytes, 40 * BLOCK);
  cr_expect_eq (served_check (&s, 0), 0);
  served_set_forget (&s);
  served_end ();
}

Test (volume, zeroing_a_hole_preserves_nothing)
{
  struct served_set s;

  begin_empty (2 * MIB);
  cr_assert_eq (served_set (&s, 1), 0);
  cr_assert_eq (served_zero (0, 0, MIB, 0), 0);
  cr_expect_eq (served_status ().exceptions, 0);
  cr_assert_eq (served_write (0, BLOCK, BLOCK, 1, 0), 0);
  cr_expect_eq (served_check (&s, 0), 0, "a write there is a first touch");
  cr_assert_eq (served_zero (0, 0, MIB, 0), 0);
  cr_expect_eq (served_check (&s, 0), 0);
  cr_expect (served_origin_right (0));
  served_set_forget (&s);
  served_end ();
}

/* ways: a file that punches, one that zeroes, one that does neither. */
static void
zero_every_way (bool no_punch, bool no_zero, uint32_t direct)
{
  static const unsigned flags[] = { 0, COW_MAY_TRIM, COW_FAST_ZERO,
                                    COW_FAST_ZERO | COW_MAY_TRIM, COW_FUA };
  const uint32_t ranges[][2] = { { 0, MIB }, { 100, 10 }, { 4000, 9000 },
                                 { BLOCK, BLOCK }, { MIB, MIB + 77 } };

  for (unsigned f = 0; f < COW_ARRAY_SIZE (flags); f++)
    for (unsigned r = 0; r < COW_ARRAY_SIZE (ranges); r++) {
      const bool slow = no_zero && (no_punch || !(flags[f] & COW_MAY_TRIM));
      struct served_set s;
      int rc;

      served_begin (&(struct served_options) {
        .seed = 1, .size_bytes = 2 * MIB + 77, .direct = direct,
        .file = { .no_punch = no_punch, .no_zero = no_zero },
      });
      /* Without a snapshot, with one, and where all is preserved. */
      rc = served_zero (0, ranges[r][0], ranges[r][1], flags[f]);
      cr_expect_eq (rc, slow && (flags[f] & COW_FAST_ZERO) ? -EOPNOTSUPP : 0);
      cr_assert (served_origin_right (0));
      cr_assert_eq (served_write (0, 0, 2 * MIB + 77, 1, 0), 0);
      cr_assert_eq (served_set (&s, 1), 0);
      rc = served_zero (0, ranges[r][0], ranges[r][1], flags[f]);
      cr_expect_eq (rc, flags[f] & COW_FAST_ZERO ? -EOPNOTSUPP : 0);
      cr_assert (served_origin_right (0));
      cr_assert_eq (served_write (0, 0, 2 * MIB + 77, 1, 0), 0);
      served_work ();
      rc = served_zero (0, ranges[r][0], ranges[r][1], flags[f]);
      cr_expect_eq (rc, slow && (flags[f] & COW_FAST_ZERO) ? -EOPNOTSUPP : 0);
      cr_expect (served_origin_right (0), "flags %u, range %u", flags[f], r);
      cr_expect_eq (served_check (&s, 0), 0, "flags %u, range %u", flags[f],
                    r);
      served_set_forget (&s);
      served_end ();
    }
}

Test (volume, zero_by_punching) { zero_every_way (false, false, 0); }

Test (volume, zero_without_punching) { zero_every_way (true, false, 0); }

Test (volume, zero_by_writing) { zero_every_way (true, true, 0); }

Test (volume, zero_by_writing_directly) { zero_every_way (true, true, 512); }

Test (volume, zero_makes_holes_only_where_they_are_welcome)
{
  begin (8 * BLOCK);
  cr_assert_eq (served_zero (0, 0, 2 * BLOCK, 0), 0);
  cr_assert_eq (served_zero (0, 4 * BLOCK, 2 * BLOCK, COW_MAY_TRIM), 0);
  cr_expect_eq (served.origin_ios[SIM_ZERO], 1);
  cr_expect_eq (served.origin_ios[SIM_PUNCH], 1);
  served_end ();
}

Test (volume, fast_zero_refuses_as_a_whole)
{
  struct served_set s;

  begin (4 * MIB);
  cr_assert_eq (served_set (&s, 1), 0);
  /* All is preserved, but for one block at the far end. */
  cr_assert_eq (served_write (0, 0, 4 * MIB - BLOCK, 1, 0), 0);
  served_work ();
  memset (served.origin_ios, 0, sizeof served.origin_ios);
  cr_expect_eq (served_zero (0, 0, 4 * MIB, COW_FAST_ZERO), -EOPNOTSUPP);
  cr_expect_eq (served.origin_ios[SIM_ZERO] + served.origin_ios[SIM_WRITE]
                  + served.origin_ios[SIM_PUNCH], 0);
  cr_expect (served_origin_right (0));
  cr_expect_eq (served_zero (0, 0, 4 * MIB - BLOCK, COW_FAST_ZERO), 0);
  cr_expect (served_origin_right (0));
  cr_expect_eq (served_check (&s, 0), 0);
  served_set_forget (&s);
  served_end ();
}

/* ------------------------------------------------------------------ syncs */

/* What a power loss leaves of v0's file. */
static bool
is_stable (uint64_t offset, size_t len)
{
  bool stable = true;

  for (uint64_t seed = 1; seed <= 8; seed++) {
    struct sim_disk *d = sim_disk_crash (served.disk, seed);
    uint8_t buf[4 * BLOCK];

    cr_assert_leq (len, sizeof buf);
    sim_disk_peek (d, "d0", offset, buf, len);
    stable = stable && memcmp (buf, served.data[0] + offset, len) == 0;
    sim_disk_free (d);
  }
  return stable;
}

static void
fua_and_flush (uint32_t direct)
{
  struct served_set s;

  served_begin (&(struct served_options) {
    .seed = 1, .size_bytes = 16 * BLOCK + 700, .direct = direct,
  });
  for (unsigned round = 0; round < 2; round++) {
    const uint32_t stamp = 10 * round;

    memset (served.origin_ios, 0, sizeof served.origin_ios);
    cr_assert_eq (served_write (0, 0, 2 * BLOCK, stamp + 1, 0), 0);
    cr_expect_eq (served.origin_ios[SIM_SYNC], 0);
    cr_expect (!is_stable (0, 2 * BLOCK));
    cr_assert_eq (served_write (0, 0, 2 * BLOCK, stamp + 2, COW_FUA), 0);
    cr_expect (is_stable (0, 2 * BLOCK));
    cr_assert_eq (served_write (0, 15 * BLOCK, BLOCK + 700, stamp + 3,
                                COW_FUA), 0);
    cr_expect (is_stable (15 * BLOCK, BLOCK + 700), "the odd end, too");
    cr_assert_eq (served_zero (0, 4 * BLOCK, BLOCK, COW_FUA), 0);
    cr_expect (is_stable (4 * BLOCK, BLOCK));
    cr_assert_eq (served_write (0, 8 * BLOCK, BLOCK, stamp + 4, 0), 0);
    cr_assert_eq (cow_volume_flush (served.volume[0]), 0);
    cr_expect (is_stable (8 * BLOCK, BLOCK));
    cr_expect_eq (cow_volume_trim (served.volume[0], 0, 0, COW_FUA), 0);
    if (round == 0)
      cr_assert_eq (served_set (&s, 1), 0);
  }
  cr_expect_eq (served_check (&s, 0), 0);
  served_set_forget (&s);
  served_end ();
}

Test (volume, fua_and_flush_are_stable) { fua_and_flush (0); }

Test (volume, fua_and_flush_are_stable_direct) { fua_and_flush (512); }

static void
fail_a_sync (uint32_t direct, unsigned which)
{
  struct served_set s;

  served_begin (&(struct served_options) {
    .seed = 1, .size_bytes = 8 * BLOCK + 700, .direct = direct,
  });
  cr_assert_eq (served_write (0, 8 * BLOCK, 700, 1, 0), 0);
  served_fault (SIM_SYNC, "d0", which, 1, -EIO);
  cr_expect_eq (cow_volume_flush (served.volume[0]), -EIO);
  sim_disk_heal (served.disk);
  cr_expect_eq (cow_volume_flush (served.volume[0]), -EIO, "for good");
  cr_expect_eq (cow_volume_write (served.volume[0], "x", 1, 0, COW_FUA), -EIO);
  served.data[0][0] = 'x';
  cr_expect_eq (cow_volume_zero (served.volume[0], 1, 1, COW_FUA), -EIO);
  served.data[0][1] = 0;
  cr_expect_eq (served_write (0, BLOCK, BLOCK, 2, 0), 0, "not a write as such");
  cr_expect (served_origin_right (0));
  cr_expect_eq (served_set (&s, 1), -EIO, "no set of what may be lost");
  served_end ();
}

Test (volume, a_failed_sync_is_for_good)
{
  fail_a_sync (0, 0);
  fail_a_sync (512, 0);
}

Test (volume, a_failed_sync_of_the_odd_end_is_for_good)
{
  fail_a_sync (512, 1);
}

/* ------------------------------------------------------------------ trims */

static int
trim (uint64_t offset, uint32_t len)
{
  return cow_volume_trim (served.volume[0], len, offset, 0);
}

Test (volume, trim_without_a_snapshot_is_done_at_once)
{
  begin (8 * BLOCK + 100);
  cr_assert_eq (trim (BLOCK, 2 * BLOCK), 0);
  served_note_zero (0, BLOCK, 2 * BLOCK);
  cr_assert_eq (trim (8 * BLOCK, 100), 0);
  served_note_zero (0, 8 * BLOCK, 100);
  cr_expect (served_origin_right (0));
  cr_expect (!has_data (BLOCK, 2 * BLOCK));
  served_end ();

  served_begin (&(struct served_options) {
    .seed = 1, .size_bytes = 8 * BLOCK, .file = { .no_punch = true },
  });
  cr_expect_eq (trim (0, BLOCK), 0, "a hint");
  cr_expect (served_origin_right (0));
  served_end ();
}

Test (volume, trim_of_needed_blocks_is_put_off)
{
  struct served_set s;

  begin (8 * BLOCK);
  cr_assert_eq (served_set (&s, 1), 0);
  cr_assert_eq (trim (0, 8 * BLOCK), 0);
  served_work ();
  cr_expect (served_origin_right (0), "nobody sees anything yet");
  cr_expect_eq (served_status ().copied_bytes, 0);
  cr_expect_eq (served_status ().exceptions, 0);
  cr_expect_eq (served_check (&s, 0), 0);
  cr_assert_eq (served_delete (&s), 0);
  served_work ();
  cr_expect (!has_data (0, 8 * BLOCK), "done, now that nobody needs them");
  served_note_zero (0, 0, 8 * BLOCK);
  cr_expect (served_origin_right (0));
  cr_expect_eq (served.volume[0]->trims.count, 0);
  served_end ();
}

Test (volume, a_write_after_a_trim_is_never_undone)
{
  struct served_set s;

  begin (16 * BLOCK);
  cr_assert_eq (served_set (&s, 1), 0);
  cr_assert_eq (trim (0, 16 * BLOCK), 0);
  cr_assert_eq (served_write (0, 3 * BLOCK, BLOCK, 1, 0), 0);
  cr_assert_eq (served_write (0, 5 * BLOCK + 9, 1, 1, 0), 0);
  cr_assert_eq (served_write (0, 8 * BLOCK - 1, 2, 1, 0), 0);
  cr_assert_eq (served_delete (&s), 0);
  served_work ();
  served_note_zero (0, 0, 3 * BLOCK);
  served_note_zero (0, 4 * BLOCK, BLOCK);
  served_note_zero (0, 6 * BLOCK, BLOCK);
  served_note_zero (0, 9 * BLOCK, 7 * BLOCK);
  cr_expect (served_origin_right (0));
  cr_assert_eq (served_write (0, 0, 16 * BLOCK, 2, 0), 0);
  served_work ();
  cr_expect (served_origin_right (0));
  served_end ();
}

Test (volume, zero_after_a_trim_is_never_undone_and_neither_is_what_follows)
{
  struct served_set s;

  begin (4 * MIB);
  /* A long hole, so that the zeroing there preserves nothing. */
  cr_assert_eq (served_zero (0, 0, MIB, COW_MAY_TRIM), 0);
  cr_assert_eq (served_set (&s, 1), 0);
  cr_assert_eq (trim (0, 2 * MIB), 0);
  cr_assert_eq (served_zero (0, 0, MIB, 0), 0);
  cr_assert_eq (served_write (0, 10 * BLOCK, BLOCK, 1, 0), 0);
  cr_expect_eq (served_check (&s, 0), 0);
  cr_assert_eq (served_delete (&s), 0);
  served_work ();
  served_note_zero (0, MIB, MIB);
  cr_expect (served_origin_right (0));
  served_end ();
}

Test (volume, trim_of_preserved_blocks_is_done_at_once)
{
  struct served_set s;

  begin (8 * BLOCK);
  cr_assert_eq (served_set (&s, 1), 0);
  cr_assert_eq (served_write (0, 2 * BLOCK, 2 * BLOCK, 1, 0), 0);
  cr_assert_eq (trim (0, 8 * BLOCK), 0);
  served_note_zero (0, 2 * BLOCK, 2 * BLOCK);
  cr_expect (served_origin_right (0));
  cr_expect_eq (served_check (&s, 0), 0);
  cr_assert_eq (served_write (0, 2 * BLOCK, BLOCK, 3, 0), 0);
  cr_assert_eq (served_delete (&s), 0);
  served_work ();
  served_note_zero (0, 0, 2 * BLOCK);
  served_note_zero (0, 3 * BLOCK, 5 * BLOCK);
  cr_expect (served_origin_right (0));
  served_end ();
}

Test (volume, trim_takes_whole_blocks_and_the_odd_end)
{
  struct served_set s;

  begin (4 * BLOCK + 100);
  cr_assert_eq (served_set (&s, 1), 0);
  cr_assert_eq (trim (1, 2 * BLOCK - 2), 0);
  cr_expect_eq (served.volume[0]->trims.count, 0, "no block is whole");
  cr_assert_eq (trim (BLOCK - 1, BLOCK + 2), 0);
  cr_assert_eq (trim (3 * BLOCK + 1, BLOCK + 99), 0);
  cr_assert_eq (served_delete (&s), 0);
  served_work ();
  served_note_zero (0, BLOCK, BLOCK);
  served_note_zero (0, 4 * BLOCK, 100);
  cr_expect (served_origin_right (0));
  served_end ();
}

Test (volume, trim_waits_for_the_last_snapshot_that_needs_the_blocks)
{
  struct served_set a, b, c;

  begin (8 * BLOCK);
  cr_assert_eq (served_set (&a, 1), 0);
  cr_assert_eq (trim (0, 2 * BLOCK), 0);
  cr_assert_eq (served_set (&b, 1), 0);
  cr_assert_eq (trim (4 * BLOCK, 2 * BLOCK), 0);
  cr_assert_eq (served_set (&c, 1), 0);
  cr_assert_eq (served_delete (&a), 0);
  served_work ();
  cr_expect (served_origin_right (0));
  cr_assert_eq (served_delete (&c), 0);
  served_work ();
  cr_expect (served_origin_right (0));
  cr_expect_eq (served_check (&b, 0), 0);
  cr_assert_eq (served_delete (&b), 0);
  served_work ();
  served_note_zero (0, 0, 2 * BLOCK);
  served_note_zero (0, 4 * BLOCK, 2 * BLOCK);
  cr_expect (served_origin_right (0));
  served_end ();
}

Test (volume, a_trim_that_fails_when_its_time_has_come_is_nobodys_error)
{
  struct served_set s;

  begin (8 * BLOCK);
  cr_assert_eq (served_set (&s, 1), 0);
  cr_assert_eq (trim (0, 2 * BLOCK), 0);
  served_fault (SIM_PUNCH, "d0", 0, 0, -EIO);
  cr_assert_eq (served_delete (&s), 0);
  served_work ();
  cr_expect (served_origin_right (0));
  cr_expect_eq (served.volume[0]->trims.count, 0);
  cr_expect_eq (trim (0, BLOCK), -EIO, "one that is done at once tells");
  served_end ();
}

Test (volume, more_trims_than_the_list_holds_are_forgotten)
{
  enum { RANGES = COW_TRIMS_MAX + 10 };
  struct served_set s;
  unsigned done = 0;

  begin (2 * RANGES * BLOCK);
  cr_assert_eq (served_set (&s, 1), 0);
  for (unsigned i = 0; i < RANGES; i++)
    cr_assert_eq (trim (2 * i * BLOCK, BLOCK), 0);
  cr_expect_eq (served.volume[0]->trims.count, COW_TRIMS_MAX);
  /* A hole in the middle of the list: what lies behind is forgotten. */
  cr_assert_eq (trim (BLOCK, 5 * BLOCK), 0);
  cr_assert_eq (served_write (0, 3 * BLOCK, BLOCK, 1, 0), 0);
  cr_expect_eq (served_check (&s, 0), 0);
  cr_assert_eq (served_delete (&s), 0);
  served_work ();
  for (unsigned i = 0; i < 2 * RANGES; i++)
    if (!has_data (i * BLOCK, BLOCK)) {
      cr_expect (i % 2 == 0 || (i < 6 && i != 3), "block %u", i);
      served_note_zero (0, i * BLOCK, BLOCK);
      done++;
    }
  cr_expect_geq (done, COW_TRIMS_MAX);
  cr_expect (served_origin_right (0));
  served_end ();
}

/* The list alone, against a bitmap. */
Test (volume, the_list_of_trims_against_a_model)
{
  enum { BLOCKS = 300 };
  bool listed[BLOCKS] = { false };
  struct cow_trims list;
  uint64_t random = 5;

  cow_trims_init (&list);
  cow_trims_add (&list, 0, 10);
  cr_expect_eq (list.count, 0, "it is closed");
  cow_trims_open (&list);
  for (unsigned step = 0; step < 20000; step++) {
    const uint64_t first = sim_random_below (&random, BLOCKS);
    const uint64_t last
      = first + sim_random_below (&random, COW_MIN (12u, BLOCKS - first));
    struct cow_range r;
    unsigned ranges = 0;
    uint64_t b = first;
    bool any;

    if (step % 3 == 0)
      cow_trims_drop (&list, first, last);
    else if (step % 3 == 1)
      cow_trims_add (&list, first, last);
    for (uint64_t i = first; i <= last && step % 3 != 2; i++)
      listed[i] = step % 3 == 1;
    any = cow_trims_find (&list, first, last, &r);
    while (b <= last && !listed[b])
      b++;
    cr_assert_eq (any, b <= last, "step %u", step);
    if (any) {
      cr_assert_eq (r.first, b, "step %u", step);
      while (b < last && listed[b + 1])
        b++;
      cr_assert_eq (r.last, b, "step %u", step);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
      ranges += listed[i] && (i == 0 || !listed[i - 1]);
    cr_assert_eq (list.count, ranges, "step %u", step);
  }
  cr_expect (!cow_trims_close (&list));
  cow_trims_drop (&list, 0, UINT64_MAX);
  cr_expect (cow_trims_close (&list));
  cow_trims_clear (&list);
}

/* -------------------------------------------------- errors of the origin */

Test (volume, old_data_that_cannot_be_read_costs_the_snapshot_not_the_write)
{
  struct served_set one, both, later;

  served_begin (&(struct served_options) {
    .seed = 1, .size_bytes = 16 * BLOCK, .volumes = 2,
  });
  cr_assert_eq (served_set (&one, 1), 0);
  cr_assert_eq (served_set (&both, 3), 0);
  cr_assert_eq (served_write (0, 9 * BLOCK, BLOCK, 1, 0), 0);
  served_fault (SIM_READ, "d0", 0, 1, -EIO);
  cr_expect_eq (served_write (0, 2 * BLOCK, 3 * BLOCK, 1, 0), 0);
  cr_expect (served_origin_right (0));
  cr_expect_eq (served_ended (&one, 0), COW_LOST_ORIGIN_ERROR);
  cr_expect_eq (served_ended (&both, 0), COW_LOST_ORIGIN_ERROR);
  cr_expect_eq (served_check (&one, 0), -EIO);
  cr_expect_eq (served_ended (&both, 1), COW_ALIVE, "the other volume's");
  cr_expect_eq (served_check (&both, 1), 0);
  cr_expect_eq (served_status ().invalidated_snapshots, 2);
  served_work ();
  cr_expect_eq (served_status ().exceptions, 0);

  cr_assert_eq (served_set (&later, 3), 0, "sets can be made anew");
  cr_assert_eq (served_write (0, 0, 16 * BLOCK, 2, 0), 0);
  cr_expect_eq (served_check (&later, 0), 0);
  served_set_forget (&one);
  served_set_forget (&both);
  served_set_forget (&later);
  served_end ();
}

/* Whatever an interrupted change has left in the file is what there is. */
static void
adopt_origin (void)
{
  sim_disk_peek (served.disk, "d0", 0, served.data[0], served.o.size_bytes);
}

static void
fail_a_change (uint32_t direct, enum sim_op op)
{
  const struct sim_fault fault = {
    .ops = op, .file = "d0", .times = 1, .error = -EIO, .partial = true,
  };
  struct served_set s;
  int rc;

  served_begin (&(struct served_options) {
    .seed = 3, .size_bytes = 16 * BLOCK + 300, .direct = direct,
  });
  cr_assert_eq (served_set (&s, 1), 0);
  sim_disk_fault (served.disk, &fault);
  if (op == SIM_WRITE)
    rc = served_write (0, 1000, 10 * BLOCK, 1, 0);
  else
    rc = served_zero (0, 1000, 10 * BLOCK,
                      op == SIM_PUNCH ? COW_MAY_TRIM : 0);
  cr_expect_eq (rc, -EIO);
  adopt_origin ();
  cr_expect_eq (served_check (&s, 0), 0);
  cr_expect_eq (served_ended (&s, 0), COW_ALIVE);
  cr_expect_eq (served_write (0, 1000, 10 * BLOCK, 2, 0), 0);
  cr_expect (served_origin_right (0));
  cr_expect_eq (served_check (&s, 0), 0);
  served_set_forget (&s);
  served_end ();
}

/* Blocks that are in the store are read of the origin along with their
 * neighbours: what becomes of that is nobody's matter.
 */
Test (volume, a_read_error_of_what_is_not_needed_is_no_error)
{
  struct served_set s;
  struct cow_view *w;
  uint8_t buf[16 * BLOCK];

  begin (16 * BLOCK);
  cr_assert_eq (served_set (&s, 1), 0);
  for (unsigned b = 1; b < 16; b += 3)
    cr_assert_eq (served_write (0, b * BLOCK, BLOCK, b, 0), 0);
  cr_expect_eq (served_check (&s, 0), 0);
  w = served_open (&s, 0);
  served.origin_ios[SIM_READ] = 0;
  cr_expect_eq (cow_view_read (w, buf, sizeof buf, 0), 0);
  cr_expect_eq (served.origin_ios[SIM_READ], 1);
  cr_expect_arr_eq (buf, s.data[0], sizeof buf);
  cow_view_close (w);
  served_fault (SIM_READ, "d0", 0, 1, -EIO);
  cr_expect_eq (served_check (&s, 0), 0);
  served_set_forget (&s);
  served_end ();
}

Test (volume, a_change_that_fails_is_told_and_the_snapshot_right)
{
  fail_a_change (0, SIM_WRITE);
  fail_a_change (512, SIM_WRITE);
  fail_a_change (0, SIM_ZERO);
  fail_a_change (0, SIM_PUNCH);
}

Test (volume, a_read_error_is_told_to_the_reader_alone)
{
  struct served_set s;
  uint8_t buf[BLOCK];

  begin (16 * BLOCK);
  cr_assert_eq (served_set (&s, 1), 0);
  served_fault (SIM_READ, "d0", 0, 2, -EIO);
  cr_expect_eq (cow_volume_read (served.volume[0], buf, BLOCK, 0), -EIO);
  cr_expect_eq (served_check (&s, 0), -EIO);
  cr_expect (served_origin_right (0));
  cr_expect_eq (served_check (&s, 0), 0);
  cr_expect_eq (served_ended (&s, 0), COW_ALIVE);
  served_set_forget (&s);
  served_end ();
}

/* -------------------------------------------------------------- extents */

struct extents {
  uint64_t next;
  unsigned count;
  bool hole[64];                /* of each block */
  unsigned stop_after;
};

static int
see_extent (void *opaque, uint64_t offset, uint64_t len,
            enum cow_extent_kind kind)
{
  struct extents *x = opaque;

  cr_assert_eq (offset, x->next);
  for (uint64_t b = offset / BLOCK; b * BLOCK < offset + len; b++)
    x->hole[b] = kind == COW_EXTENT_HOLE;
  x->next = offset + len;
  return ++x->count == x->stop_after;
}

Test (volume, extents_of_a_snapshot_merge_origin_and_exceptions)
{
  const uint64_t size = 40 * BLOCK + 10;
  struct extents now = { 0 }, old = { 0 }, some = { .stop_after = 1 };
  struct served_set s;
  struct cow_view *w;

  begin_empty (size);
  cr_assert_eq (served_write (0, 4 * BLOCK, 4 * BLOCK, 1, 0), 0);
  cr_assert_eq (served_write (0, 20 * BLOCK, 4 * BLOCK, 1, 0), 0);
  cr_assert_eq (served_set (&s, 1), 0);
  cr_assert_eq (served_write (0, 0, 2 * BLOCK, 2, 0), 0);
  cr_assert_eq (served_zero (0, 4 * BLOCK, 2 * BLOCK, COW_MAY_TRIM), 0);
  w = served_open (&s, 0);
  cr_assert (w);
  cr_expect_eq (cow_volume_extents (served.volume[0], (uint32_t) size, 0,
                                    see_extent, &now), 0);
  cr_expect_eq (cow_view_extents (w, (uint32_t) size, 0, see_extent, &old),
                0);
  cr_expect_eq (now.next, size);
  cr_expect_eq (old.next, size);
  for (unsigned b = 0; b < 41; b++) {
    const bool was = (b >= 4 && b < 8) || (b >= 20 && b < 24);

    cr_expect_eq (old.hole[b], !was, "block %u", b);
    cr_expect_eq (now.hole[b],
                  !(b < 2 || b == 6 || b == 7 || (b >= 20 && b < 24)),
                  "block %u", b);
  }
  cr_expect_eq (cow_view_extents (w, (uint32_t) size, 0, see_extent, &some),
                0);
  cr_expect_eq (some.count, 1, "the walk ends when it is told to");
  cr_expect_eq (cow_view_extents (w, 1, size, see_extent, &some), -EINVAL);
  cow_view_close (w);
  served_set_forget (&s);
  served_end ();
}
