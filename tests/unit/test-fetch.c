/* test-fetch.c - old data by way of the page cache: what is brought, and that
 * nothing which the cache has wrong is believed.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Over a cache of the test's own, which knows what has been asked of it, and
 * for the store over a simulated disk.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bits.h"
#include "io/fetch.h"
#include "sim/random.h"
#include "sim/simdisk.h"
#include "store/store-priv.h"

TestSuite (fetch, .timeout = 120);

#define PAGE 4096u
#define PIECE (1u << 20)
#define PIECES 2048u
#define PAGES (PIECES * (PIECE / PAGE))

/* A file as large as PAGES whose content follows from the offset. */
static struct {
  struct cow_io io;
  struct cow_file file, cached;
  uint8_t *present;             /* by page: in memory */
  unsigned brought, waited;     /* pieces; reads that went to the disk */
  bool blind, wrong;
  int error;
} t;

static void
content (uint8_t *buf, size_t len, uint64_t offset)
{
  for (size_t i = 0; i < len; i++) {
    const uint64_t at = offset + i;

    buf[i] = (uint8_t) (at ^ at >> 8 ^ at >> 16 ^ at >> 24);
    if (t.wrong)
      buf[i] ^= 0x55;
  }
}

static int
fake_open_cached (struct cow_file *f, struct cow_file **out)
{
  (void) f;
  t.cached.info.align_bytes = 1;
  *out = &t.cached;
  return 0;
}

static void
fake_close (struct cow_file *f)
{
  (void) f;
}

static int64_t
fake_pread_cached (struct cow_file *f, void *buf, size_t len, uint64_t offset)
{
  uint64_t end = offset;

  (void) f;
  if (t.blind)
    return -EOPNOTSUPP;
  while (end < offset + len && t.present[end / PAGE])
    end = cow_round_down (end, PAGE) + PAGE;
  end = COW_MIN (end, offset + len);
  content (buf, end - offset, offset);
  return (int64_t) (end - offset);
}

static int
fake_pread (struct cow_file *f, void *buf, size_t len, uint64_t offset)
{
  (void) f;
  t.waited++;
  if (t.error)
    return t.error;
  for (uint64_t p = offset / PAGE; p <= (offset + len - 1) / PAGE; p++)
    t.present[p] = 1;
  content (buf, len, offset);
  return 0;
}

static void
fake_prefetch (struct cow_file *f, uint64_t offset, uint64_t len)
{
  (void) f;
  cr_assert_eq (len, PIECE);
  t.brought++;
  memset (t.present + offset / PAGE, 1, len / PAGE);
}

static const struct cow_io_ops ops = {
  .name = "fake",
  .close = fake_close,
  .open_cached = fake_open_cached,
  .pread_cached = fake_pread_cached,
  .pread = fake_pread,
  .prefetch = fake_prefetch,
};

static struct cow_fetch *
start (void)
{
  struct cow_fetch *e;

  memset (&t, 0, sizeof t);
  t.present = calloc (PAGES, 1);
  t.io.ops = &ops;
  t.file.io = t.cached.io = &t.io;
  e = cow_fetch_new (&t.file, 0, PIECE);
  cr_assert_not_null (e);
  return e;
}

static void
stop (struct cow_fetch *e)
{
  cow_fetch_free (e);
  free (t.present);
}

static int
get (struct cow_fetch *e, uint64_t offset, size_t len)
{
  uint8_t *buf = malloc (2 * len);
  int rc = cow_fetch_read (e, buf, len, offset);

  content (buf + len, len, offset);
  if (rc == 0)
    cr_assert (memcmp (buf, buf + len, len) == 0, "%zu bytes at %llu", len,
               (unsigned long long) offset);
  free (buf);
  return rc;
}

Test (fetch, the_first_block_brings_its_piece)
{
  struct cow_fetch *e = start ();

  cr_expect_eq (get (e, PIECE + 8 * PAGE, PAGE), 0);
  cr_expect_eq (t.brought, 1);
  t.waited = 0;
  for (unsigned i = 0; i < PIECE / PAGE; i++)
    cr_expect_eq (get (e, PIECE + i * PAGE, PAGE), 0);
  cr_expect_eq (t.waited, 0);
  cr_expect_eq (t.brought, 1);
  stop (e);
}

Test (fetch, what_is_announced_is_brought_once)
{
  struct cow_fetch *e = start ();

  cow_fetch_soon (e, 3 * PIECE + 5);
  cow_fetch_soon (e, 3 * PIECE + 9 * PAGE);
  cr_expect_eq (t.brought, 1);
  cr_expect_eq (get (e, 3 * PIECE + 9 * PAGE, PAGE), 0);
  cr_expect_eq (t.waited, 0);
  stop (e);
}

Test (fetch, a_large_read_brings_nothing_else)
{
  struct cow_fetch *e = start ();

  cr_expect_eq (get (e, 100, PIECE / 2), 0);
  cr_expect_eq (t.brought, 0);
  stop (e);
}

Test (fetch, what_is_partly_in_memory_is_whole)
{
  struct cow_fetch *e = start ();

  t.present[4] = t.present[5] = t.present[7] = 1;
  cr_expect_eq (get (e, 4 * PAGE + 17, 4 * PAGE), 0);
  cr_expect_eq (get (e, 3 * PAGE + 17, 3 * PAGE), 0);
  stop (e);
}

Test (fetch, where_nothing_is_used_bringing_ends)
{
  struct cow_fetch *e = start ();

  for (unsigned i = 0; i < PIECES; i++)
    cr_expect_eq (get (e, (uint64_t) i * PIECE, PAGE), 0);
  cr_expect_lt (t.brought, PIECES / 4);
  cr_expect_gt (t.brought, 0);
  cr_expect_eq (t.waited, PIECES, "and only what is asked for is read");
  stop (e);
}

Test (fetch, where_much_is_used_bringing_goes_on)
{
  struct cow_fetch *e = start ();

  for (unsigned i = 0; i < PIECES; i++)
    for (unsigned j = 0; j < PIECE / PAGE; j += 4)
      cr_expect_eq (get (e, (uint64_t) i * PIECE + j * PAGE, PAGE), 0);
  cr_expect_eq (t.brought, PIECES);
  stop (e);
}

Test (fetch, a_piece_that_left_the_memory_is_brought_again)
{
  struct cow_fetch *e = start ();

  cr_expect_eq (get (e, 0, PAGE), 0);
  memset (t.present, 0, PAGES);
  for (unsigned i = 1; i < PIECE / PAGE; i++)
    cr_expect_eq (get (e, i * PAGE, PAGE), 0);
  cr_expect_eq (t.brought, 2);
  cr_expect_lt (t.waited, 100);
  stop (e);
}

Test (fetch, a_file_system_that_cannot_tell_is_read)
{
  struct cow_fetch *e = start ();

  t.blind = true;
  for (unsigned i = 0; i < 8; i++)
    cr_expect_eq (get (e, i * PAGE + 3, PAGE), 0);
  cow_fetch_soon (e, PIECE);
  cr_expect_leq (t.brought, 1);
  cr_expect_eq (t.waited, 8);
  stop (e);
}

Test (fetch, an_error_is_told)
{
  struct cow_fetch *e = start ();

  t.error = -EIO;
  cr_expect_eq (get (e, 5 * PIECE, PAGE), -EIO);
  cr_expect_eq (get (e, 6 * PIECE, PIECE), -EIO);
  t.error = 0;
  cr_expect_eq (get (e, 6 * PIECE, PIECE), 0);
  cr_expect_eq (get (e, 5 * PIECE, PIECE), 0);
  stop (e);
}

/* ------------------------------------------------------------- the store */

static struct sim_disk *disk;

/* A store with one block that is in the file only, behind the fake cache. */
static struct cow_store *
start_store (uint64_t *place)
{
  const struct sim_disk_options disk_options = { .seed = 1, .stable = true };
  const struct cow_store_options options = {
    .directory = "/store", .block_bytes = PAGE, .limit_bytes = 64 * PIECE,
    .ring_segments = 2,
  };
  struct cow_store *s;

  disk = sim_disk_new (&disk_options);
  cr_assert_eq (cow_store_new (sim_disk_io (disk), &options, NULL, &s), 0);
  cr_assert_eq (cow_store_prepare (s, NULL), 0);
  cr_assert_null (s->fetch, "a simulated disk has no page cache");
  *place = 0;
  for (unsigned i = 0; i < 4 * COW_SEGMENT_RECORDS; i++) {
    const struct cow_record r = { .block = i, .epoch = 1, .volume = 7 };
    struct cow_piece p;

    while (cow_store_reserve (s, 1, false, cow_now_ns (), &p) == -ETIMEDOUT)
      while (cow_store_work (s) || s->queue->in_flight > 0)
        ;
    memset (p.data, (int) i, PAGE);
    cow_store_filled (s, &p, &r);
    if (i == 3)
      *place = p.place;
  }
  while (cow_store_work (s) || s->queue->in_flight > 0)
    ;
  cr_assert_eq (s->segment[segment_of (*place)].buffer, NO_BUFFER);
  s->fetch = start ();
  t.wrong = true;
  return s;
}

Test (fetch, what_the_cache_has_wrong_is_read_past_it)
{
  uint8_t buf[PAGE + 1];
  uint64_t place;
  struct cow_store *s = start_store (&place);

  for (unsigned i = 0; i < 3; i++) {
    memset (buf, 0, sizeof buf);
    cr_assert_eq (cow_store_read (s, place, 1, 7, 3, buf + 1), 0);
    for (unsigned j = 0; j < PAGE; j++)
      cr_assert_eq (buf[j + 1], 3);
  }
  cr_expect_gt (t.waited + t.brought, 0, "the cache was asked");
  cow_store_free (s);
  sim_disk_free (disk);
  free (t.present);
}

Test (fetch, an_error_of_the_cache_is_no_error_of_the_store)
{
  uint8_t buf[PAGE];
  uint64_t place;
  struct cow_store *s = start_store (&place);

  t.blind = true;
  t.error = -EIO;
  cr_assert_eq (cow_store_read (s, place, 1, 7, 3, buf), 0);
  cr_expect_eq (buf[17], 3);
  cr_expect_eq (cow_store_read (s, place, 1, 7, 4, buf), -EUCLEAN,
                "another block's");
  cow_store_free (s);
  sim_disk_free (disk);
  free (t.present);
}
