/* test-simdisk.c - simulated disks: contents, crashes, faults, queues.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bits.h"
#include "base/sync.h"
#include "io/io.h"
#include "sim/fibres.h"
#include "sim/image.h"
#include "sim/random.h"
#include "sim/simdisk.h"

TestSuite (simdisk, .timeout = 120);

#define PAGE 4096
#define DISK_BYTES (64 * PAGE)

static const struct sim_file_options file_options = {
  .size_bytes = DISK_BYTES, .direct_align_bytes = 512,
};

static struct sim_disk *
new_disk (uint64_t seed)
{
  const struct sim_disk_options options = { .seed = seed };
  struct sim_disk *d = sim_disk_new (&options);

  sim_disk_create (d, "disk", &file_options);
  return d;
}

static struct cow_file *
open_as (struct sim_disk *d, const char *name, unsigned flags)
{
  struct cow_file *f;

  cr_assert_eq (cow_file_open (sim_disk_io (d), name, flags, NULL, &f), 0);
  return f;
}

static int
fill (struct cow_file *f, uint64_t offset, size_t len, int byte)
{
  uint8_t buf[8 * PAGE];

  assert (len <= sizeof buf);
  memset (buf, byte, len);
  return cow_file_pwrite (f, buf, len, offset);
}

/* The byte that fills [offset, offset+len) of a file, or -1. */
static int
filled_with (struct sim_disk *d, uint64_t offset, size_t len)
{
  uint8_t buf[8 * PAGE];

  assert (len <= sizeof buf);
  sim_disk_peek (d, "disk", offset, buf, len);
  for (size_t i = 1; i < len; i++) {
    if (buf[i] != buf[0])
      return -1;
  }
  return buf[0];
}

/* ---------------------------------------------------------------- contents */

/* Random operations against a plain array. */
Test (simdisk, image_against_a_model)
{
  enum { CHUNKS = 40, SIZE = CHUNKS * SIM_CHUNK_BYTES };
  static uint8_t model[SIZE], buf[SIZE];
  static bool data[CHUNKS];
  /* Far out, across nodes of the tree. */
  const uint64_t base = (UINT64_C (1) << 41) - 20 * SIM_CHUNK_BYTES;
  struct sim_image im = { .root = NULL }, copy;
  uint64_t r = 20240601;

  for (unsigned step = 0; step < 20000; step++) {
    const uint64_t at = sim_random_below (&r, SIZE);
    const uint64_t len = 1 + sim_random_below (&r, SIZE - at);
    const uint64_t short_len = COW_MIN (len, (uint64_t) 3 * SIM_CHUNK_BYTES);
    uint64_t end, chunk;

    switch (sim_random_below (&r, 5)) {
    case 0:
    case 1:
      memset (buf, (int) (1 + step % 255), short_len);
      sim_image_write (&im, base + at, buf, short_len);
      memcpy (model + at, buf, short_len);
      for (chunk = at / SIM_CHUNK_BYTES;
           chunk <= (at + short_len - 1) / SIM_CHUNK_BYTES; chunk++)
        data[chunk] = true;
      break;
    case 2:
    case 3:
      if (step % 2)
        sim_image_punch (&im, base + at, short_len);
      else
        sim_image_zero (&im, base + at, short_len);
      memset (model + at, 0, short_len);
      for (chunk = (at + SIM_CHUNK_BYTES - 1) / SIM_CHUNK_BYTES;
           chunk < (at + short_len) / SIM_CHUNK_BYTES; chunk++)
        data[chunk] = false;
      break;
    case 4:
      sim_image_allocate (&im, base + at, len);
      cr_assert_eq (sim_image_missing (&im, base + at, len), 0);
      break;
    }

    sim_image_read (&im, base + at, buf, len);
    cr_assert_arr_eq (buf, model + at, len, "step %u", step);
    chunk = at / SIM_CHUNK_BYTES;
    cr_assert_eq (sim_image_extent (&im, base + at, base + SIZE, &end),
                  data[chunk], "step %u", step);
    while (chunk < CHUNKS && data[chunk] == data[at / SIM_CHUNK_BYTES])
      chunk++;
    cr_assert_eq (end, base + chunk * SIM_CHUNK_BYTES, "step %u", step);
  }
  sim_image_copy (&copy, &im);
  sim_image_clear (&im);
  sim_image_read (&copy, base, buf, SIZE);
  cr_assert_arr_eq (buf, model, SIZE);
  sim_image_punch (&copy, 0, UINT64_C (1) << 47);
  cr_assert_eq (copy.chunks, 0);
  sim_image_clear (&copy);
}

/* Copies share what is the same, and nothing else. */
Test (simdisk, copies_of_an_image_go_their_own_ways)
{
  enum { CHUNKS = 24, SIZE = CHUNKS * SIM_CHUNK_BYTES, COPIES = 4 };
  static uint8_t model[COPIES][SIZE], buf[SIZE];
  struct sim_image im[COPIES] = { { .root = NULL } };
  const uint64_t base = (UINT64_C (1) << 30) - 9 * SIM_CHUNK_BYTES;
  uint64_t r = 20251125;

  for (unsigned step = 0; step < 5000; step++) {
    const unsigned i = (unsigned) sim_random_below (&r, COPIES);
    const unsigned from = (unsigned) sim_random_below (&r, COPIES);
    const uint64_t at = sim_random_below (&r, SIZE);
    const uint64_t len =
      COW_MIN (1 + sim_random_below (&r, 9000), SIZE - at);

    switch (sim_random_below (&r, 8)) {
    case 0:
      if (i == from)
        break;
      sim_image_clear (&im[i]);
      sim_image_copy (&im[i], &im[from]);
      memcpy (model[i], model[from], SIZE);
      break;
    case 1:
      sim_image_punch (&im[i], base + at, len);
      memset (model[i] + at, 0, len);
      break;
    case 2:
      sim_image_zero (&im[i], base + at, len);
      memset (model[i] + at, 0, len);
      break;
    case 3:
      sim_image_allocate (&im[i], base + at, len);
      break;
    default:
      memset (buf, (int) (1 + step % 255), len);
      sim_image_write (&im[i], base + at, buf, len);
      memcpy (model[i] + at, buf, len);
    }
    for (unsigned k = 0; k < COPIES; k++) {
      sim_image_read (&im[k], base, buf, SIZE);
      cr_assert_arr_eq (buf, model[k], SIZE, "step %u, copy %u", step, k);
    }
  }
  for (unsigned k = 0; k < COPIES; k++)
    sim_image_clear (&im[k]);
}

Test (simdisk, reads_what_was_written)
{
  struct sim_disk *d = new_disk (1);
  struct cow_file *f = open_as (d, "disk", 0);
  uint8_t buf[PAGE];

  cr_assert_eq (fill (f, 100, 3000, 'x'), 0);
  cr_assert_eq (cow_file_pread (f, buf, PAGE, 99), 0);
  cr_assert_eq (buf[0], 0);
  cr_assert_eq (buf[1], 'x');
  cr_assert_eq (buf[3000], 'x');
  cr_assert_eq (buf[3001], 0);
  /* Beyond the end there are zeroes, and writing there makes it longer. */
  memset (buf, 1, sizeof buf);
  cr_assert_eq (cow_file_pread (f, buf, PAGE, DISK_BYTES - 1), 0);
  cr_assert (buf[0] == 0 && buf[PAGE - 1] == 0);
  cr_assert_eq (fill (f, DISK_BYTES + PAGE, PAGE, 'y'), 0);
  cr_assert_eq (sim_disk_size (d, "disk"), DISK_BYTES + 2 * PAGE);
  cow_file_close (f);
  sim_disk_free (d);
}

Test (simdisk, extents_punch_and_zero)
{
  struct sim_disk *d = new_disk (1);
  struct cow_file *f = open_as (d, "disk", 0);
  enum cow_extent_kind kind;
  uint64_t len;

  cr_assert_eq (fill (f, 2 * PAGE, 4 * PAGE, 'x'), 0);
  cr_assert_eq (cow_file_extent (f, 0, &kind, &len), 0);
  cr_assert (kind == COW_EXTENT_HOLE && len == 2 * PAGE);
  cr_assert_eq (cow_file_extent (f, 2 * PAGE, &kind, &len), 0);
  cr_assert (kind == COW_EXTENT_DATA && len == 4 * PAGE);
  cr_assert_eq (cow_file_extent (f, 6 * PAGE, &kind, &len), 0);
  cr_assert (kind == COW_EXTENT_HOLE && len == DISK_BYTES - 6 * PAGE);
  cr_assert_eq (cow_file_extent (f, DISK_BYTES, &kind, &len), -ENXIO);

  cr_assert_eq (cow_file_punch (f, 2 * PAGE, PAGE), 0);
  cr_assert_eq (cow_file_zero (f, 3 * PAGE, PAGE, false), 0);
  cr_assert_eq (cow_file_extent (f, 0, &kind, &len), 0);
  cr_assert (kind == COW_EXTENT_HOLE && len == 4 * PAGE);
  cr_assert_eq (filled_with (d, 2 * PAGE, 2 * PAGE), 0);
  cr_assert_eq (filled_with (d, 4 * PAGE, 2 * PAGE), 'x');
  cr_assert_eq (cow_file_punch (f, DISK_BYTES, PAGE), 0);
  cr_assert_eq (sim_disk_size (d, "disk"), DISK_BYTES);
  cow_file_close (f);
  sim_disk_free (d);
}

Test (simdisk, refuses_what_a_file_cannot)
{
  static const struct sim_file_options poor = {
    .size_bytes = DISK_BYTES, .is_block = true, .no_punch = true,
    .no_zero = true,
  };
  struct sim_disk *d = new_disk (1);
  struct cow_error err = COW_ERROR_INIT;
  struct cow_file *f;

  sim_disk_create (d, "poor", &poor);
  cr_assert_eq (cow_file_open (sim_disk_io (d), "none", 0, &err, &f), -ENOENT);
  cr_assert_str_eq (err.text, "none: no such file");
  cr_assert_eq (cow_file_open (sim_disk_io (d), "poor", COW_OPEN_DIRECT_STRICT,
                               NULL, &f), -EINVAL);
  f = open_as (d, "poor", COW_OPEN_DIRECT);
  cr_assert_not (f->info.is_direct);
  cr_assert_eq (cow_file_punch (f, 0, PAGE), -EOPNOTSUPP);
  cr_assert_eq (cow_file_zero (f, 0, PAGE, true), -EOPNOTSUPP);
  cr_assert_eq (cow_file_allocate (f, 0, PAGE), 0);
  cr_assert_eq (cow_file_allocate (f, DISK_BYTES, PAGE), -ENOSPC);
  cr_assert_eq (fill (f, DISK_BYTES, PAGE, 'x'), -ENOSPC);
  cow_file_close (f);
  f = open_as (d, "disk", COW_OPEN_READONLY);
  cr_assert_eq (fill (f, 0, PAGE, 'x'), -EBADF);
  cow_file_close (f);
  sim_disk_free (d);
}

Test (simdisk, is_full_at_its_capacity)
{
  const struct sim_disk_options options = { .capacity_bytes = 4 * PAGE };
  struct sim_disk *d = sim_disk_new (&options);
  struct cow_file *f;

  sim_disk_create (d, "disk", &file_options);
  f = open_as (d, "disk", 0);
  cr_assert_eq (cow_file_allocate (f, 0, 2 * PAGE), 0);
  cr_assert_eq (cow_file_allocate (f, 0, 5 * PAGE), -ENOSPC);
  cr_assert_eq (fill (f, 2 * PAGE, 2 * PAGE, 'x'), 0);
  cr_assert_eq (fill (f, 4 * PAGE, 1, 'x'), -ENOSPC);
  /* What is allocated can be written, and what was given back. */
  cr_assert_eq (fill (f, 0, 4 * PAGE, 'y'), 0);
  cr_assert_eq (cow_file_punch (f, 0, PAGE), 0);
  cr_assert_eq (fill (f, 9 * PAGE, PAGE, 'z'), 0);
  cow_file_close (f);
  sim_disk_free (d);
}

Test (simdisk, locks_exclude)
{
  struct sim_disk *d = new_disk (1);
  struct cow_file *a = open_as (d, "disk", 0), *b = open_as (d, "disk", 0);

  cr_assert_eq (cow_file_lock (a, 100, 2, false), 0);
  cr_assert_eq (cow_file_lock (b, 101, 2, false), 0);
  cr_assert_eq (cow_file_lock_test (b, 100, 1, true), -EAGAIN);
  cow_file_close (a);
  cr_assert_eq (cow_file_lock (b, 100, 1, true), 0);
  cow_file_close (b);
  sim_disk_free (d);
}

Test (simdisk, unnamed_files_go_with_their_close)
{
  struct sim_disk *d = new_disk (1), *next;
  struct cow_file *f = open_as (d, "/var/tmp", COW_OPEN_UNNAMED);

  cr_assert_eq (fill (f, PAGE, PAGE, 'u'), 0);
  next = sim_disk_clone (d);
  cow_file_close (f);
  sim_disk_free (next);
  sim_disk_free (d);
}

/* ----------------------------------------------------------------- crashes */

Test (simdisk, a_kill_loses_nothing)
{
  struct sim_disk *d = new_disk (1), *next;
  struct cow_file *f = open_as (d, "disk", 0);

  cr_assert_eq (cow_file_lock (f, 0, 1, true), 0);
  cr_assert_eq (fill (f, 0, PAGE, 'x'), 0);
  next = sim_disk_clone (d);
  cow_file_close (f);
  sim_disk_free (d);

  cr_assert_eq (filled_with (next, 0, PAGE), 'x');
  f = open_as (next, "disk", 0);
  cr_assert_eq (cow_file_lock (f, 0, 1, true), 0);
  cow_file_close (f);
  /* It is still in the cache only. */
  for (uint64_t seed = 0;; seed++) {
    struct sim_disk *crashed = sim_disk_crash (next, seed);
    const int byte = filled_with (crashed, 0, PAGE);

    sim_disk_free (crashed);
    if (byte == 0)
      break;
    cr_assert (seed < 1000);
  }
  sim_disk_free (next);
}

Test (simdisk, a_crash_keeps_what_was_synced)
{
  struct sim_disk *d = new_disk (1);
  struct cow_file *f = open_as (d, "disk", 0);
  unsigned lost = 0, kept = 0, torn = 0, first_only = 0, second_only = 0;

  cr_assert_eq (fill (f, 0, 8 * PAGE, 'a'), 0);
  cr_assert_eq (cow_file_sync (f), 0);
  cr_assert_eq (fill (f, 2 * PAGE, PAGE, 'b'), 0);
  cr_assert_eq (fill (f, 4 * PAGE, PAGE, 'c'), 0);
  for (uint64_t seed = 0; seed < 500; seed++) {
    struct sim_disk *crashed = sim_disk_crash (d, seed);
    const int b = filled_with (crashed, 2 * PAGE, PAGE);
    const int c = filled_with (crashed, 4 * PAGE, PAGE);

    cr_assert_eq (filled_with (crashed, 0, 2 * PAGE), 'a');
    cr_assert_eq (filled_with (crashed, 3 * PAGE, PAGE), 'a');
    cr_assert_eq (filled_with (crashed, 5 * PAGE, 3 * PAGE), 'a');
    for (uint64_t at = 2 * PAGE; at < 3 * PAGE; at += 512) {
      const int sector = filled_with (crashed, at, 512);

      cr_assert (sector == 'a' || sector == 'b');
    }
    lost += b == 'a' && c == 'a';
    kept += b == 'b' && c == 'c';
    torn += b == -1;
    first_only += b == 'b' && c == 'a';
    second_only += b == 'a' && c == 'c';
    sim_disk_free (crashed);
  }
  cr_assert (lost > 0 && kept > 0 && torn > 0 && first_only > 0 &&
             second_only > 0);
  cow_file_close (f);
  sim_disk_free (d);
}

Test (simdisk, a_crash_repeats_by_its_seed)
{
  struct sim_disk *d = new_disk (1);
  struct cow_file *f = open_as (d, "disk", 0);
  static uint8_t one[DISK_BYTES], two[DISK_BYTES];

  for (unsigned i = 0; i < 64; i++)
    cr_assert_eq (fill (f, i * PAGE, PAGE, (int) i + 1), 0);
  for (uint64_t seed = 0; seed < 20; seed++) {
    struct sim_disk *a = sim_disk_crash (d, seed);
    struct sim_disk *b = sim_disk_crash (d, seed);

    sim_disk_peek (a, "disk", 0, one, sizeof one);
    sim_disk_peek (b, "disk", 0, two, sizeof two);
    cr_assert_arr_eq (one, two, sizeof one);
    sim_disk_free (a);
    sim_disk_free (b);
  }
  cow_file_close (f);
  sim_disk_free (d);
}

static bool
crash_has (struct sim_disk *d, const char *name, uint64_t seed)
{
  struct sim_disk *crashed = sim_disk_crash (d, seed);
  const bool has = sim_disk_has (crashed, name);

  sim_disk_free (crashed);
  return has;
}

/* In how many of 100 crashes a name is there. */
static unsigned
crashes_with (struct sim_disk *d, const char *name)
{
  unsigned n = 0;

  for (uint64_t seed = 1; seed <= 100; seed++)
    n += crash_has (d, name, seed);
  return n;
}

Test (simdisk, names_are_certain_after_a_sync_of_the_directory)
{
  struct sim_disk *d = new_disk (12), *next;
  struct cow_io *io = sim_disk_io (d);
  struct cow_file *f = open_as (d, "dir/a", COW_OPEN_CREATE);

  cr_assert_eq (cow_file_open (io, "dir/a", COW_OPEN_CREATE, NULL, &f),
                -EEXIST);
  cr_assert_eq (fill (f, 0, PAGE, 'a'), 0);
  cr_assert_eq (cow_file_sync (f), 0);
  cr_assert (crashes_with (d, "dir/a") > 10);
  cr_assert (crashes_with (d, "dir/a") < 90);
  next = sim_disk_clone (d);
  cr_assert (sim_disk_has (next, "dir/a"));
  cr_assert (crashes_with (next, "dir/a") < 90);
  sim_disk_free (next);

  cr_assert_eq (cow_io_sync_dir (io, "other"), 0);
  cr_assert (crashes_with (d, "dir/a") < 90);
  cr_assert_eq (cow_io_sync_dir (io, "dir"), 0);
  cr_assert_eq (crashes_with (d, "dir/a"), 100);

  cr_assert_eq (cow_io_remove (io, "dir/a"), 0);
  cr_assert_eq (cow_io_remove (io, "dir/a"), -ENOENT);
  cr_assert_eq (cow_io_exists (io, "dir/a"), 0);
  cr_assert_eq (fill (f, 0, PAGE, 'b'), 0);
  cow_file_close (f);
  cr_assert (crashes_with (d, "dir/a") > 10);
  cr_assert (crashes_with (d, "dir/a") < 90);

  /* Another file of the name: one of both at most. */
  f = open_as (d, "dir/a", COW_OPEN_CREATE);
  cr_assert (crashes_with (d, "dir/a") > 10);
  cr_assert (crashes_with (d, "dir/a") < 100);
  cr_assert_eq (cow_io_sync_dir (io, "dir"), 0);
  cr_assert_eq (crashes_with (d, "dir/a"), 100);
  cr_assert_eq (sim_disk_size (d, "dir/a"), 0);
  cr_assert_eq (cow_io_remove (io, "dir/a"), 0);
  cr_assert_eq (cow_io_sync_dir (io, "dir"), 0);
  cr_assert_eq (crashes_with (d, "dir/a"), 0);
  cow_file_close (f);
  sim_disk_free (d);
}

Test (simdisk, a_mark_is_stable_when_it_was_set)
{
  struct sim_disk *d = new_disk (13);
  struct cow_file *f = open_as (d, "disk", 0);
  const struct sim_fault fault = { .ops = SIM_SYNC, .error = -EIO };
  struct cow_identity id[2];
  char mark[8];
  unsigned old = 0;

  cr_assert_eq (cow_file_get_mark (f, mark, sizeof mark), 0);
  cr_assert_eq (cow_file_set_mark (f, "one", 3), 0);
  cr_assert_eq (cow_file_get_mark (f, mark, 2), -ERANGE);
  sim_disk_fault (d, &fault);
  cr_assert_eq (cow_file_set_mark (f, "two", 3), -EIO);
  for (uint64_t seed = 1; seed <= 100; seed++) {
    struct sim_disk *crashed = sim_disk_crash (d, seed);
    struct cow_file *g = open_as (crashed, "disk", 0);

    cr_assert_eq (cow_file_get_mark (g, mark, sizeof mark), 3);
    cr_assert (memcmp (mark, "one", 3) == 0 || memcmp (mark, "two", 3) == 0);
    old += mark[0] == 'o';
    cr_assert_eq (cow_file_identity (f, &id[0]), 0);
    cr_assert_eq (cow_file_identity (g, &id[1]), 0);
    cr_assert_eq (id[0].inode, id[1].inode);
    cr_assert_eq (id[0].modified_ns, id[1].modified_ns);
    cow_file_close (g);
    sim_disk_free (crashed);
  }
  cr_assert (old > 10 && old < 90, "%u", old);
  sim_disk_poke (d, "disk", 0, "x", 1);
  cr_assert_eq (cow_file_identity (f, &id[1]), 0);
  cr_assert_gt (id[1].modified_ns, id[0].modified_ns);
  cow_file_close (f);
  sim_disk_free (d);
}

Test (simdisk, a_crash_of_one_file_only)
{
  static const char *const kept[] = { "other", NULL };
  struct sim_disk *d = new_disk (1), *crashed;
  struct cow_file *f = open_as (d, "disk", 0), *other;
  uint64_t before;
  uint8_t page[PAGE];

  sim_disk_create (d, "other", &file_options);
  other = open_as (d, "other", 0);
  before = sim_disk_digest (d);
  cr_assert_eq (fill (f, 0, PAGE, 'x'), 0);
  cr_assert_eq (fill (other, 0, PAGE, 'y'), 0);
  crashed = sim_disk_crash_keeping (d, kept, 1);
  cr_assert_eq (filled_with (crashed, 0, PAGE), 0);
  sim_disk_peek (crashed, "other", 0, page, sizeof page);
  cr_assert_eq (page[PAGE - 1], 'y');
  cr_assert_neq (sim_disk_digest (d), before);
  cr_assert_neq (sim_disk_digest (d), sim_disk_digest (crashed));
  sim_disk_free (crashed);

  memset (page, 'x', sizeof page);
  cr_assert (!sim_disk_is_stable (d, "disk", page, sizeof page));
  cr_assert_eq (cow_file_sync (f), 0);
  cr_assert (sim_disk_is_stable (d, "disk", page, sizeof page));
  cr_assert (!sim_disk_is_stable (d, "other", page, sizeof page));
  crashed = sim_disk_crash_keeping (d, kept, 1);
  cr_assert_eq (sim_disk_digest (d), sim_disk_digest (crashed));
  sim_disk_free (crashed);
  cow_file_close (f);
  cow_file_close (other);
  sim_disk_free (d);
}

Test (simdisk, a_crash_may_take_growth_back)
{
  struct sim_disk *d = new_disk (1);
  struct cow_file *f = open_as (d, "disk", 0);
  unsigned shorter = 0, zeroes = 0, complete = 0;

  cr_assert_eq (fill (f, DISK_BYTES, PAGE, 'x'), 0);
  for (uint64_t seed = 0; seed < 500; seed++) {
    struct sim_disk *crashed = sim_disk_crash (d, seed);
    const uint64_t size = sim_disk_size (crashed, "disk");
    const int byte = filled_with (crashed, DISK_BYTES, PAGE);

    cr_assert (size == DISK_BYTES || size == DISK_BYTES + PAGE);
    shorter += size == DISK_BYTES;
    zeroes += size > DISK_BYTES && byte != 'x';
    complete += size > DISK_BYTES && byte == 'x';
    if (size == DISK_BYTES)
      cr_assert_eq (byte, 0);
    sim_disk_free (crashed);
  }
  cr_assert (shorter > 0 && zeroes > 0 && complete > 0);
  cr_assert_eq (cow_file_sync (f), 0);
  for (uint64_t seed = 0; seed < 20; seed++) {
    struct sim_disk *crashed = sim_disk_crash (d, seed);

    cr_assert_eq (sim_disk_size (crashed, "disk"), DISK_BYTES + PAGE);
    cr_assert_eq (filled_with (crashed, DISK_BYTES, PAGE), 'x');
    sim_disk_free (crashed);
  }
  cow_file_close (f);
  sim_disk_free (d);
}

/* How often the page at offset 0 is old after a crash. */
static unsigned
old_after_crash (struct sim_disk *d, int old)
{
  unsigned n = 0;

  for (uint64_t seed = 0; seed < 200; seed++) {
    struct sim_disk *crashed = sim_disk_crash (d, seed);

    n += filled_with (crashed, 0, PAGE) == old;
    sim_disk_free (crashed);
  }
  return n;
}

Test (simdisk, a_failed_sync_is_never_made_good)
{
  static const struct sim_fault eio = {
    .ops = SIM_SYNC, .times = 1, .error = -EIO,
  };
  struct sim_disk *d = new_disk (1);
  struct cow_file *f = open_as (d, "disk", 0), *other;

  cr_assert_eq (fill (f, 0, PAGE, 'a'), 0);
  sim_disk_fault (d, &eio);
  cr_assert_eq (cow_file_sync (f), -EIO);
  sim_disk_heal (d);
  cr_assert_eq (cow_file_sync (f), -EIO);
  cr_assert_eq (filled_with (d, 0, PAGE), 'a');
  /* Somebody who opens it anew is not told, and not helped. */
  other = open_as (d, "disk", 0);
  cr_assert_eq (fill (other, PAGE, PAGE, 'b'), 0);
  cr_assert_eq (cow_file_sync (other), 0);
  cr_assert (old_after_crash (d, 0) > 0);
  /* Written anew it is stable, and the old write does not come back. */
  cr_assert_eq (fill (other, 0, PAGE, 'c'), 0);
  cr_assert_eq (cow_file_sync (other), 0);
  cr_assert_eq (old_after_crash (d, 'c'), 200);
  cow_file_close (f);
  cow_file_close (other);
  sim_disk_free (d);
}

Test (simdisk, stable_disks_lose_nothing)
{
  const struct sim_disk_options options = { .stable = true };
  struct sim_disk *d = sim_disk_new (&options);
  struct cow_file *f;

  sim_disk_create (d, "disk", &file_options);
  f = open_as (d, "disk", 0);
  cr_assert_eq (fill (f, 0, PAGE, 'x'), 0);
  cr_assert_eq (old_after_crash (d, 'x'), 200);
  cow_file_close (f);
  sim_disk_free (d);
}

/* ------------------------------------------------------------------ faults */

Test (simdisk, faults_hit_what_they_name)
{
  static const struct sim_fault third = {
    .ops = SIM_WRITE, .file = "disk", .skip = 2, .times = 1, .error = -EIO,
  };
  static const struct sim_fault for_good = {
    .ops = SIM_WRITE, .file = "disk", .error = -ENOSPC,
  };
  struct sim_disk *d = new_disk (1);
  struct cow_file *f = open_as (d, "disk", 0), *other;
  uint8_t c;

  sim_disk_create (d, "other", &file_options);
  other = open_as (d, "other", 0);
  sim_disk_fault (d, &third);
  cr_assert_eq (fill (f, 0, 1, 'x'), 0);
  cr_assert_eq (fill (other, 0, 1, 'x'), 0);
  cr_assert_eq (cow_file_pread (f, &c, 1, 0), 0);
  cr_assert_eq (fill (f, 0, 1, 'x'), 0);
  cr_assert_eq (fill (f, 0, 1, 'y'), -EIO);
  cr_assert_eq (fill (f, 1, 1, 'x'), 0);
  cr_assert_eq (filled_with (d, 0, 2), 'x');
  sim_disk_heal (d);
  sim_disk_fault (d, &for_good);
  for (unsigned i = 0; i < 5; i++)
    cr_assert_eq (fill (f, 0, 1, 'z'), -ENOSPC);
  sim_disk_heal (d);
  cr_assert_eq (fill (f, 0, 1, 'z'), 0);
  cow_file_close (f);
  cow_file_close (other);
  sim_disk_free (d);
}

Test (simdisk, a_failed_write_may_leave_a_part)
{
  static const struct sim_fault fault = {
    .ops = SIM_WRITE, .error = -EIO, .partial = true,
  };
  unsigned mixed = 0;

  for (uint64_t seed = 0; seed < 50; seed++) {
    struct sim_disk *d = new_disk (seed);
    struct cow_file *f = open_as (d, "disk", 0);

    sim_disk_fault (d, &fault);
    cr_assert_eq (fill (f, 0, PAGE, 'x'), -EIO);
    mixed += filled_with (d, 0, PAGE) == -1;
    cow_file_close (f);
    sim_disk_free (d);
  }
  cr_assert (mixed > 10);
}

Test (simdisk, power_off_ends_everything)
{
  struct sim_disk *d = new_disk (1);
  struct cow_file *f = open_as (d, "disk", 0), *other;
  uint8_t c;

  cr_assert_eq (fill (f, 0, PAGE, 'x'), 0);
  sim_disk_power_off (d);
  cr_assert_eq (fill (f, 0, PAGE, 'y'), -EIO);
  cr_assert_eq (cow_file_pread (f, &c, 1, 0), -EIO);
  cr_assert_eq (cow_file_sync (f), -EIO);
  cr_assert_eq (cow_file_punch (f, 0, PAGE), -EIO);
  cr_assert_eq (cow_file_open (sim_disk_io (d), "disk", 0, NULL, &other),
                -EIO);
  cr_assert_eq (filled_with (d, 0, PAGE), 'x');
  cow_file_close (f);
  sim_disk_free (d);
}

struct seen {
  unsigned before, after, failed;
  int byte_before;
};

static void
observe (void *opaque, struct sim_disk *d, const struct sim_step *step)
{
  struct seen *seen = opaque;

  if (step->op != SIM_WRITE)
    return;
  assert (strcmp (step->file, "disk") == 0 && step->len == PAGE);
  if (!step->after) {
    seen->before++;
    seen->byte_before = filled_with (d, step->offset, PAGE);
    return;
  }
  seen->after++;
  seen->failed += step->result != 0;
}

Test (simdisk, an_observer_sees_each_step)
{
  static const struct sim_fault eio = { .ops = SIM_WRITE, .error = -EIO };
  struct sim_disk *d = new_disk (1);
  struct cow_file *f = open_as (d, "disk", 0);
  struct seen seen = { 0, 0, 0, 0 };
  uint64_t steps;

  sim_disk_observe (d, observe, &seen);
  cr_assert_eq (fill (f, 0, PAGE, 'x'), 0);
  cr_assert (seen.before == 1 && seen.after == 1 && seen.failed == 0);
  cr_assert_eq (seen.byte_before, 0);
  sim_disk_fault (d, &eio);
  steps = sim_disk_steps (d);
  cr_assert_eq (fill (f, 0, PAGE, 'y'), -EIO);
  cr_assert_eq (sim_disk_steps (d), steps + 1);
  cr_assert (seen.before == 2 && seen.after == 2 && seen.failed == 1);
  cr_assert_eq (seen.byte_before, 'x');
  cow_file_close (f);
  sim_disk_free (d);
}

/* ------------------------------------------------------------------ queues */

#define DEPTH 8

struct order {
  char done[DEPTH + 1];
  unsigned count;
  int result[DEPTH];
  struct cow_request req[DEPTH];
  uint8_t buf[DEPTH][PAGE];
};

static void
note (struct cow_request *req, int result)
{
  struct order *o = req->opaque;
  const unsigned i = (unsigned) (req - o->req);

  o->result[i] = result;
  o->done[o->count++] = (char) ('a' + i);
}

/* Writes of DEPTH pages through a queue. */
static void
write_pages (struct cow_queue *q, struct cow_file *f, struct order *o)
{
  memset (o, 0, sizeof *o);
  for (unsigned i = 0; i < DEPTH; i++) {
    memset (o->buf[i], (int) i + 1, PAGE);
    o->req[i] = (struct cow_request) {
      .op = COW_OP_WRITE, .file = f, .buf = o->buf[i], .len = PAGE,
      .offset = i * PAGE, .done = note, .opaque = o,
    };
    assert (cow_queue_submit (q, &o->req[i]) == 0);
  }
}

Test (simdisk, completions_come_in_any_order)
{
  static struct order o;
  char first[DEPTH + 1];
  unsigned different = 0;

  for (uint64_t seed = 0; seed < 20; seed++) {
    struct sim_disk *d = new_disk (seed);
    struct cow_file *f = open_as (d, "disk", 0);
    struct cow_queue *q;

    cr_assert_eq (cow_queue_new (sim_disk_io (d), DEPTH, &q), 0);
    write_pages (q, f, &o);
    cr_assert_eq (cow_queue_submit (q, &o.req[0]), -EAGAIN);
    cr_assert_eq (cow_queue_reap (q, DEPTH, COW_NEVER), DEPTH);
    for (unsigned i = 0; i < DEPTH; i++) {
      cr_assert_eq (o.result[i], 0);
      cr_assert_eq (filled_with (d, i * PAGE, PAGE), (int) i + 1);
    }
    if (seed == 0)
      memcpy (first, o.done, sizeof first);
    different += strcmp (first, o.done) != 0;
    cow_queue_free (q);
    cow_file_close (f);
    sim_disk_free (d);
  }
  cr_assert (different > 10);
}

Test (simdisk, queues_report_faults_and_final_syncs)
{
  static const struct sim_fault eio = { .ops = SIM_SYNC, .error = -EIO };
  static struct order o;
  struct sim_disk *d = new_disk (1);
  struct cow_file *f = open_as (d, "disk", 0);
  struct cow_queue *q;

  cr_assert_eq (cow_queue_new (sim_disk_io (d), DEPTH, &q), 0);
  sim_disk_fault (d, &eio);
  for (unsigned round = 0; round < 2; round++) {
    write_pages (q, f, &o);
    cr_assert_eq (cow_queue_reap (q, DEPTH, COW_NEVER), DEPTH);
    o.count = 0;
    o.req[0].op = COW_OP_SYNC;
    cr_assert_eq (cow_queue_submit (q, &o.req[0]), 0);
    cr_assert_eq (cow_queue_reap (q, 1, COW_NEVER), 1);
    cr_assert_eq (o.result[0], -EIO);
    sim_disk_heal (d);
  }
  cow_queue_free (q);
  cow_file_close (f);
  sim_disk_free (d);
}

/* --------------------------------------------------------------- in fibres */

static struct sim_disk *disk;
static struct cow_file *file;

static void
begin_with_latency (uint64_t seed)
{
  const struct fibres_options options = { .seed = seed };
  const struct sim_disk_options slow = {
    .seed = seed, .latency_min_ns = 10000, .latency_max_ns = 1000000,
  };

  fibres_begin (&options);
  disk = sim_disk_new (&slow);
  sim_disk_create (disk, "disk", &file_options);
  file = open_as (disk, "disk", 0);
}

static void
end_with_latency (void)
{
  cow_file_close (file);
  sim_disk_free (disk);
  fibres_end ();
}

static void
fill_by_turns (void *opaque)
{
  const char *byte = opaque;

  for (unsigned i = 0; i < 20; i++)
    assert (fill (file, 0, 8 * PAGE, *byte) == 0);
}

Test (simdisk, writes_side_by_side_are_not_atomic)
{
  unsigned mixed = 0;

  for (uint64_t seed = 0; seed < 50; seed++) {
    begin_with_latency (seed);
    fibre_spawn ("x", fill_by_turns, (void *) "x");
    fibre_spawn ("y", fill_by_turns, (void *) "y");
    cr_assert_eq (fibres_run (), FIBRES_DONE);
    cr_assert (fibres_now_ns () > COW_NS_PER_S);
    mixed += filled_with (disk, 0, 8 * PAGE) == -1;
    end_with_latency ();
  }
  cr_assert (mixed > 0);
}

static void
sync_often (void *opaque)
{
  (void) opaque;
  for (unsigned i = 0; i < 10; i++)
    assert (cow_file_sync (file) == 0);
}

/* A sync covers what was there when it began, whatever else goes on. */
static void
write_sync_crash (void *opaque)
{
  const unsigned self = *(unsigned *) opaque;

  for (unsigned i = 1; i <= 10; i++) {
    struct sim_disk *crashed;

    assert (fill (file, self * PAGE, PAGE, (int) i) == 0);
    assert (cow_file_sync (file) == 0);
    crashed = sim_disk_crash (disk, fibres_draw (1000));
    assert (filled_with (crashed, self * PAGE, PAGE) == (int) i);
    sim_disk_free (crashed);
  }
}

Test (simdisk, syncs_hold_while_others_sync)
{
  static unsigned number[] = { 0, 1, 2 };

  for (uint64_t seed = 0; seed < 30; seed++) {
    begin_with_latency (seed);
    for (unsigned i = 0; i < 3; i++)
      fibre_spawn ("writer", write_sync_crash, &number[i]);
    fibre_spawn ("syncer", sync_often, NULL);
    cr_assert_eq (fibres_run (), FIBRES_DONE);
    end_with_latency ();
  }
}

static struct order fibre_order;

static void
queue_in_fibre (void *opaque)
{
  struct cow_queue *q;
  const uint64_t begun = cow_now_ns ();

  (void) opaque;
  assert (cow_queue_new (sim_disk_io (disk), DEPTH, &q) == 0);
  write_pages (q, file, &fibre_order);
  /* Started, nothing done yet: I/O takes at least 10 us. */
  assert (cow_queue_reap (q, DEPTH, begun + 5000) == 0);
  assert (cow_now_ns () >= begun + 5000);
  assert (cow_queue_reap (q, DEPTH, COW_NEVER) == DEPTH);
  assert (cow_now_ns () >= begun + 10000);
  cow_queue_free (q);
}

Test (simdisk, queues_take_simulated_time)
{
  for (uint64_t seed = 0; seed < 20; seed++) {
    begin_with_latency (seed);
    fibre_spawn ("queue", queue_in_fibre, NULL);
    cr_assert_eq (fibres_run (), FIBRES_DONE);
    end_with_latency ();
  }
}

static void
write_that_hangs (void *opaque)
{
  (void) opaque;
  assert (fill (file, 0, PAGE, 'h') == 0);
  assert (cow_now_ns () >= 60 * COW_NS_PER_S);
}

static void
heal_later (void *opaque)
{
  (void) opaque;
  cow_sleep_ns (60 * COW_NS_PER_S);
  assert (filled_with (disk, 0, PAGE) == 0);
  sim_disk_heal (disk);
}

Test (simdisk, what_hangs_goes_on_when_healed)
{
  static const struct sim_fault hang = {
    .ops = SIM_WRITE, .delay_ns = COW_NEVER,
  };

  for (uint64_t seed = 0; seed < 20; seed++) {
    begin_with_latency (seed);
    sim_disk_fault (disk, &hang);
    fibre_spawn ("writer", write_that_hangs, NULL);
    fibre_spawn ("healer", heal_later, NULL);
    cr_assert_eq (fibres_run (), FIBRES_DONE);
    cr_assert_eq (filled_with (disk, 0, PAGE), 'h');
    end_with_latency ();
  }
}
