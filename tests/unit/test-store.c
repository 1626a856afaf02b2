/* test-store.c - segments and places: their life, their checks, their failures.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Over a simulated disk.  Most cases are one client that does the background
 * work itself; where somebody has to wait while others go on, and for the
 * random ones, clients are fibres.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bits.h"
#include "sim/fibres.h"
#include "sim/random.h"
#include "sim/simdisk.h"
#include "store/store-priv.h"

TestSuite (store, .timeout = 120);

#define BLOCK 4096u
#define CAPACITY 254u           /* blocks of that size in a segment */
#define VOLUME 7u
#define STORE_FILE "(unnamed)"
#define MS COW_NS_PER_MS

static struct {
  struct sim_disk *disk;
  struct cow_store *s;
  uint32_t block_bytes;
  uint64_t ios[SIM_MARK + 1];   /* of the store's file, by operation */
} t;

static void
count_ios (void *opaque, struct sim_disk *d, const struct sim_step *step)
{
  (void) opaque;
  (void) d;
  if (step->after && strcmp (step->file, STORE_FILE) == 0)
    t.ios[step->op]++;
}

/* A store whose file ends at so many segments (of 1 MiB), not yet prepared. */
static void
make_store (unsigned ring, unsigned segments, uint32_t block_bytes,
            uint64_t disk_bytes)
{
  const struct sim_disk_options disk_options = {
    .seed = 1, .stable = true, .capacity_bytes = disk_bytes,
  };
  const struct cow_store_options options = {
    .directory = "/store",
    .block_bytes = block_bytes,
    .limit_bytes = (uint64_t) segments
                   * (COW_SEGMENT_BYTES + COW_SEGMENT_HEADER_BYTES),
    .ring_segments = ring,
  };

  memset (&t, 0, sizeof t);
  t.block_bytes = block_bytes;
  t.disk = sim_disk_new (&disk_options);
  sim_disk_observe (t.disk, count_ios, NULL);
  assert (cow_store_new (sim_disk_io (t.disk), &options, NULL, &t.s) == 0);
  t.s->segments_max = COW_MAX (segments, 2u);
}

static void
start (unsigned ring, unsigned segments)
{
  make_store (ring, segments, BLOCK, 0);
  assert (cow_store_prepare (t.s, NULL) == 0);
}

static void
stop (void)
{
  cow_store_free (t.s);
  sim_disk_free (t.disk);
}

static uint64_t
soon (void)
{
  return cow_now_ns () + MS;
}

/* All of the background work that there is.  A look for what has been written
 * need not find it.
 */
static void
work (void)
{
  while (cow_store_work (t.s) || (t.s->queue && t.s->queue->in_flight > 0))
    cow_store_wait (t.s, cow_now_ns ());
}

/* What a block holds: no two blocks, and no two versions of one, are equal. */
static void
content (uint8_t *buf, uint64_t block, uint32_t version)
{
  uint64_t word = block << 20 ^ version;

  for (uint32_t i = 0; i < t.block_bytes; i += sizeof word) {
    const uint64_t value = sim_random_next (&word);

    memcpy (buf + i, &value, sizeof value);
  }
}

static void
fill_piece (const struct cow_piece *p, uint64_t first, uint32_t version)
{
  struct cow_record records[CAPACITY];

  for (unsigned i = 0; i < p->blocks; i++) {
    content (p->data + (size_t) i * t.block_bytes, first + i, version);
    records[i] = (struct cow_record) {
      .block = first + i, .epoch = 1 + version, .volume = VOLUME,
    };
  }
  cow_store_filled (t.s, p, records);
}

/* Preserve n blocks from first on; the background work is done as needed. */
static void
put (uint64_t first, unsigned n, uint32_t version, uint64_t *places)
{
  while (n > 0) {
    struct cow_piece p;
    int rc;

    while ((rc = cow_store_reserve (t.s, n, false, cow_now_ns (), &p))
           == -ETIMEDOUT)
      work ();
    cr_assert_eq (rc, 0, "reserving: %s", strerror (-rc));
    fill_piece (&p, first, version);
    for (unsigned i = 0; i < p.blocks; i++)
      *places++ = p.place + i;
    first += p.blocks;
    n -= p.blocks;
  }
}

static uint64_t
put_one (uint64_t block, uint32_t version)
{
  uint64_t place;

  put (block, 1, version, &place);
  return place;
}

/* Fill up the segment that is being filled. */
static void
end_segment (void)
{
  uint64_t places[CAPACITY];

  if (t.s->filling[FLEETING] < t.s->ring_segments)
    put (1 << 20,
         CAPACITY - t.s->buffer[t.s->filling[FLEETING]].reserved, 0, places);
}

/* Fill so many segments with blocks that nobody asks for again. */
static void
fill_segments (unsigned n)
{
  uint64_t places[CAPACITY];

  for (unsigned i = 0; i < n; i++) {
    put (2 << 20, CAPACITY, i, places);
    work ();
  }
}

static int
get (uint64_t place, uint64_t block, uint32_t version)
{
  uint8_t *buf = aligned_alloc (4096, 2 * (size_t) t.block_bytes);
  uint8_t *want = buf + t.block_bytes;
  int rc = cow_store_read (t.s, place, 1, VOLUME, block, buf);

  content (want, block, version);
  if (rc == 0 && memcmp (buf, want, t.block_bytes) != 0)
    rc = 1;                     /* the one thing that must never be */
  free (buf);
  return rc;
}

static bool
in_memory (uint64_t place)
{
  return t.s->segment[segment_of (place)].buffer != NO_BUFFER;
}

static struct cow_store_status
status (void)
{
  struct cow_store_status st;

  cow_store_status (t.s, &st);
  return st;
}

/* Where a place's data and record are in the store's file. */
static uint64_t
data_offset (uint64_t place)
{
  return segment_offset (t.s, segment_of (place)) + COW_SEGMENT_HEADER_BYTES
         + (uint64_t) position_of (place) * t.block_bytes;
}

/* Bytes of the store's file, behind the store's back. */
static void
file_bytes (bool writing, uint64_t offset, void *buf, size_t len)
{
  uint64_t low = cow_round_down (offset, 4096);
  uint64_t high = cow_round_up (offset + len, 4096);
  uint8_t *raw = aligned_alloc (4096, high - low);

  cr_assert_eq (cow_file_pread (t.s->file, raw, high - low, low), 0);
  if (writing) {
    memcpy (raw + (offset - low), buf, len);
    cr_assert_eq (cow_file_pwrite (t.s->file, raw, high - low, low), 0);
  }
  else
    memcpy (buf, raw + (offset - low), len);
  free (raw);
}

static void
flip_bit (uint64_t offset, unsigned bit)
{
  uint8_t byte;

  file_bytes (false, offset, &byte, 1);
  byte ^= (uint8_t) (1u << bit);
  file_bytes (true, offset, &byte, 1);
}

/* As after a long time: headers have to be read from the file again. */
static void
forget_headers (void)
{
  for (unsigned i = 0; i < CACHED_HEADERS; i++) {
    free (t.s->headers.slot[i].header);
    t.s->headers.slot[i].header = NULL;
  }
}

/* ------------------------------------------------------- a place's life */

Test (store, nothing_is_taken_before_it_is_prepared)
{
  make_store (4, 16, BLOCK, 0);
  cr_expect_eq (status ().ring_bytes, 0);
  cr_expect_eq (sim_disk_steps (t.disk), 0);
  cr_expect (!cow_store_work (t.s));
  cr_assert_eq (cow_store_prepare (t.s, NULL), 0);
  cr_assert_eq (cow_store_prepare (t.s, NULL), 0, "once more is no harm");
  cr_expect_eq (status ().ring_bytes, 4u << 20);
  cr_expect_eq (sim_disk_steps (t.disk), 2, "opened, and space taken");
  stop ();
}

Test (store, what_was_filled_reads_back_until_it_is_released)
{
  uint64_t a[3], b;

  start (4, 16);
  put (10, 3, 1, a);
  b = put_one (10, 2);
  cr_expect_eq (a[1], a[0] + 1);
  cr_expect_eq (a[2], a[0] + 2);
  for (unsigned i = 0; i < 3; i++)
    cr_expect_eq (get (a[i], 10 + i, 1), 0);
  cr_expect_eq (get (b, 10, 2), 0);
  cr_expect_eq (status ().used_bytes, 4 * BLOCK);
  for (unsigned i = 0; i < 3; i++)
    cow_store_release (t.s, a[i]);
  cr_expect_eq (get (b, 10, 2), 0, "its neighbours' end is not its own");
  cow_store_release (t.s, b);
  cr_expect_eq (status ().used_bytes, 0);
  stop ();
}

Test (store, a_piece_ends_with_its_segment)
{
  struct cow_piece p, q, r;

  start (4, 16);
  cr_assert_eq (cow_store_reserve (t.s, 200, false, soon (), &p), 0);
  cr_expect_eq (p.blocks, 200);
  cr_expect ((uintptr_t) p.data % 4096 == 0);
  cr_assert_eq (cow_store_reserve (t.s, 200, false, soon (), &q), 0);
  cr_expect_eq (q.blocks, CAPACITY - 200);
  cr_expect_eq (q.place, p.place + 200);
  cr_assert_eq (cow_store_reserve (t.s, 200, false, soon (), &r), 0);
  cr_expect_eq (r.blocks, 200);
  cr_expect_neq (segment_of (r.place), segment_of (p.place));

  /* Filled in another order than claimed. */
  fill_piece (&r, 1000, 1);
  fill_piece (&q, 200, 1);
  cr_expect_eq (t.s->full, 0, "a piece of the first segment is pending");
  fill_piece (&p, 0, 1);
  cr_expect_eq (t.s->full, 1);
  work ();
  cr_expect_eq (get (p.place + 199, 199, 1), 0);
  cr_expect_eq (get (q.place, 200, 1), 0);
  cr_expect_eq (get (r.place + 5, 1005, 1), 0);
  stop ();
}

Test (store, several_blocks_side_by_side_read_at_once)
{
  uint64_t places[CAPACITY];
  uint8_t *buf, *want;

  start (2, 16);
  put (500, CAPACITY, 3, places);
  work ();
  buf = aligned_alloc (4096, CAPACITY * BLOCK);
  want = malloc (BLOCK);
  for (unsigned round = 0; round < 2; round++) {
    cr_expect_eq (in_memory (places[0]), round == 0);
    memset (buf, 0, CAPACITY * BLOCK);
    cr_expect_eq (cow_store_read (t.s, places[0], CAPACITY, VOLUME, 500, buf),
                  0);
    for (unsigned i = 0; i < CAPACITY; i++) {
      content (want, 500 + i, 3);
      cr_assert_arr_eq (buf + i * BLOCK, want, BLOCK, "round %u, block %u",
                        round, i);
    }
    fill_segments (2);
  }
  free (want);
  free (buf);
  stop ();
}

Test (store, a_run_ends_where_the_places_or_the_segment_do)
{
  uint64_t places[CAPACITY + 4];
  struct { uint64_t place, other; } spread[3];

  start (4, 16);
  put (0, CAPACITY + 4, 1, places);
  cr_expect_eq (cow_store_run (t.s, places, 8, CAPACITY + 4), CAPACITY);
  cr_expect_eq (cow_store_run (t.s, places + 250, 8, 8), 4);
  cr_expect_eq (cow_store_run (t.s, places + CAPACITY, 8, 4), 4);
  cr_expect_eq (cow_store_run (t.s, places, 8, 1), 1);
  places[2]++;
  cr_expect_eq (cow_store_run (t.s, places, 8, 8), 2);
  for (unsigned i = 0; i < 3; i++)
    spread[i].place = places[10] + i;
  cr_expect_eq (cow_store_run (t.s, &spread[0].place, sizeof spread[0], 3),
                3);
  stop ();
}

Test (store, a_ring_of_two_carries_many_segments)
{
  enum { SEGMENTS = 12 };
  static uint64_t places[SEGMENTS * CAPACITY];

  start (2, SEGMENTS);
  put (0, SEGMENTS * CAPACITY, 1, places);
  work ();
  cr_expect_eq (status ().written_bytes, SEGMENTS << 20);
  cr_expect_eq (status ().ring_dirty_bytes, 0);
  cr_expect_eq (status ().file_bytes, SEGMENTS << 20);
  for (unsigned i = 0; i < SEGMENTS * CAPACITY; i += 7)
    cr_assert_eq (get (places[i], i, 1), 0, "block %u", i);
  stop ();
}

Test (store, data_comes_from_memory_then_from_the_file)
{
  uint64_t place;

  start (3, 16);
  place = put_one (42, 1);
  end_segment ();
  cr_expect_eq (get (place, 42, 1), 0, "full, not yet written");
  work ();
  cr_expect_eq (t.ios[SIM_WRITE], 1);
  cr_expect_eq (get (place, 42, 1), 0, "written");
  cr_expect_eq (t.ios[SIM_READ], 0, "no need to read the file so far");
  fill_segments (3);
  cr_expect (!in_memory (place));
  cr_expect_eq (get (place, 42, 1), 0);
  cr_expect_eq (t.ios[SIM_READ], 2, "header and block");
  cr_expect_eq (get (place, 42, 1), 0);
  cr_expect_eq (t.ios[SIM_READ], 3, "the header is remembered");
  stop ();
}

Test (store, memory_of_any_alignment_can_be_read_into)
{
  uint8_t *buf = aligned_alloc (4096, 2 * BLOCK), want[BLOCK];
  uint64_t place;

  start (2, 16);
  place = put_one (42, 1);
  content (want, 42, 1);
  for (unsigned round = 0; round < 2; round++) {
    cr_expect_eq (cow_store_read (t.s, place, 1, VOLUME, 42, buf + 1), 0);
    cr_expect_arr_eq (buf + 1, want, BLOCK);
    end_segment ();
    fill_segments (3);
  }
  free (buf);
  stop ();
}

/* Larger blocks: fewer in a segment, at last one, in a larger segment. */
static void
round_trip (uint32_t block_bytes, unsigned capacity)
{
  enum { BLOCKS = 33 };
  uint64_t places[BLOCKS];

  make_store (2, 64, block_bytes, 0);
  assert (cow_store_prepare (t.s, NULL) == 0);
  cr_expect_eq (t.s->capacity, capacity);
  put (9, BLOCKS, 1, places);
  work ();
  for (unsigned i = 0; i < BLOCKS; i++)
    cr_expect_eq (get (places[i], 9 + i, 1), 0, "%u, block %u", block_bytes,
                  i);
  stop ();
}

Test (store, blocks_of_every_size)
{
  round_trip (8192, 127);
  round_trip (64 << 10, 15);
  round_trip (512 << 10, 1);
  round_trip (1 << 20, 1);
}

/* Every byte of a segment, worked out from layout.h alone. */
Test (store, the_file_is_as_its_layout_says)
{
  uint8_t *raw = aligned_alloc (4096, COW_SEGMENT_BYTES);
  const struct disk_segment *h = (const struct disk_segment *) raw;
  uint64_t places[CAPACITY], seed;
  uint32_t generation = 0;

  start (2, 2);
  /* The second use of the second segment. */
  put (0, CAPACITY, 1, places);
  while (generation < 2) {
    if (generation > 0)
      for (unsigned i = 0; i < CAPACITY; i++)
        cow_store_release (t.s, places[i]);
    work ();
    put (1000, CAPACITY, 1 + generation++, places);
  }
  work ();
  file_bytes (false, COW_SEGMENT_BYTES, raw, COW_SEGMENT_BYTES);
  cr_expect_arr_eq (h->magic, "COWSEG\r\n", 8);
  cr_expect_arr_eq (h->store, t.s->id.b, 16);
  cr_expect_eq (from_le64 (h->segment), 1);
  /* No two uses of any segment have the same. */
  cr_expect_eq (from_le32 (h->generation), 3);
  cr_expect_eq (from_le32 (h->blocks), CAPACITY);
  cr_expect_eq (from_le32 (h->block_bytes), BLOCK);
  /* Places of segment n begin at (n + 1) * 256. */
  seed = cow_seed (&t.s->id, 2 * COW_SEGMENT_PLACES, 3);
  cr_expect_eq (from_le64 (h->checksum),
                cow_checksum (raw + 16, COW_SEGMENT_HEADER_BYTES - 16, seed));
  for (unsigned i = 0; i < CAPACITY; i++) {
    const struct disk_record *r = &h->record[i];
    uint8_t want[BLOCK];

    content (want, 1000 + i, 2);
    cr_assert_arr_eq (raw + COW_SEGMENT_HEADER_BYTES + i * BLOCK, want, BLOCK);
    seed = cow_seed (&t.s->id, 2 * COW_SEGMENT_PLACES + i, 3);
    cr_assert_eq (from_le64 (r->checksum), cow_checksum (want, BLOCK, seed));
    cr_assert_eq (from_le64 (r->block), 1000 + i);
    cr_assert_eq (from_le32 (r->epoch), 3);
    cr_assert_eq (from_le32 (r->volume), VOLUME);
    cr_assert_eq (from_le32 (r->flags), 0);
    cr_assert_eq (from_le32 (r->reserved), 0);
  }
  free (raw);
  stop ();
}

/* -------------------------------------------------------------- damage */

/* A block of a segment that is in the file only. */
static uint64_t
stored_block (void)
{
  uint64_t places[3];

  put (41, 3, 1, places);
  end_segment ();
  work ();
  fill_segments (2);
  cr_assert (!in_memory (places[1]));
  cr_assert_eq (get (places[1], 42, 1), 0);
  return places[1];
}

Test (store, any_flipped_bit_of_a_block_is_damage)
{
  uint64_t place;

  start (2, 16);
  place = stored_block ();
  for (unsigned i = 0; i < BLOCK; i++) {
    flip_bit (data_offset (place) + i, i % 8);
    cr_assert_eq (get (place, 42, 1), -EUCLEAN, "byte %u", i);
    flip_bit (data_offset (place) + i, i % 8);
  }
  cr_expect_eq (get (place, 42, 1), 0);
  stop ();
}

Test (store, any_flipped_bit_of_a_header_is_damage)
{
  uint64_t place, header;

  start (2, 16);
  place = stored_block ();
  header = segment_offset (t.s, segment_of (place));
  for (unsigned i = 0; i < COW_SEGMENT_HEADER_BYTES; i++) {
    flip_bit (header + i, i % 8);
    forget_headers ();
    cr_assert_eq (get (place, 42, 1), -EUCLEAN, "byte %u", i);
    flip_bit (header + i, i % 8);
  }
  forget_headers ();
  cr_expect_eq (get (place, 42, 1), 0);
  stop ();
}

Test (store, a_flipped_bit_in_memory_is_damage)
{
  uint64_t place;
  uint8_t *data;

  start (2, 16);
  place = put_one (42, 1);
  data = t.s->buffer[t.s->segment[segment_of (place)].buffer].mem
         + COW_SEGMENT_HEADER_BYTES + position_of (place) * BLOCK;
  data[100] ^= 1;
  cr_expect_eq (get (place, 42, 1), -EUCLEAN);
  data[100] ^= 1;
  cr_expect_eq (get (place, 42, 1), 0);
  stop ();
}

Test (store, another_segment_in_its_place_is_damage)
{
  uint64_t first[CAPACITY], second[CAPACITY];
  uint8_t *raw = aligned_alloc (4096, COW_SEGMENT_BYTES);

  start (2, 16);
  /* The same blocks in the same positions: only the place differs. */
  put (0, CAPACITY, 1, first);
  put (0, CAPACITY, 1, second);
  work ();
  fill_segments (2);
  cr_assert_eq (get (first[5], 5, 1), 0);
  file_bytes (false, segment_offset (t.s, segment_of (second[0])), raw,
              COW_SEGMENT_BYTES);
  file_bytes (true, segment_offset (t.s, segment_of (first[0])), raw,
              COW_SEGMENT_BYTES);
  cr_expect_eq (get (first[5], 5, 1), 0,
                "its header is remembered, and the data is the same");
  forget_headers ();
  cr_expect_eq (get (first[5], 5, 1), -EUCLEAN);
  cr_expect_eq (get (second[5], 5, 1), 0);
  free (raw);
  stop ();
}

Test (store, a_block_at_anothers_place_is_damage)
{
  uint8_t data[BLOCK];
  uint64_t older, newer;

  start (2, 16);
  older = put_one (0, 1);
  newer = put_one (0, 2);       /* the same block, later */
  end_segment ();
  work ();
  fill_segments (2);
  cr_assert_eq (get (older, 0, 1), 0);
  file_bytes (false, data_offset (newer), data, BLOCK);
  file_bytes (true, data_offset (older), data, BLOCK);
  cr_expect_eq (get (older, 0, 1), -EUCLEAN);
  cr_expect_eq (get (newer, 0, 2), 0);
  stop ();
}

Test (store, another_block_or_volume_is_not_given_out)
{
  uint8_t *buf = aligned_alloc (4096, BLOCK);
  uint64_t place;

  start (2, 16);
  place = put_one (42, 1);
  for (unsigned round = 0; round < 2; round++) {
    cr_expect_eq (cow_store_read (t.s, place, 1, VOLUME, 43, buf), -EUCLEAN);
    cr_expect_eq (cow_store_read (t.s, place, 1, VOLUME + 1, 42, buf),
                  -EUCLEAN);
    cr_expect_eq (get (place, 42, 1), 0);
    end_segment ();
    fill_segments (3);
  }
  free (buf);
  stop ();
}

Test (store, an_unused_place_is_not_given_out)
{
  struct cow_record records[2] = {
    { .block = 1, .epoch = 1, .volume = VOLUME, .unused = true },
    { .block = 2, .epoch = 1, .volume = VOLUME },
  };
  struct cow_piece p;

  start (2, 16);
  cr_assert_eq (cow_store_reserve (t.s, 2, false, soon (), &p), 0);
  content (p.data, 1, 1);
  content (p.data + BLOCK, 2, 1);
  cow_store_filled (t.s, &p, records);
  cr_expect_eq (status ().used_bytes, BLOCK);
  cr_expect_eq (get (p.place, 1, 1), -EUCLEAN);
  cr_expect_eq (get (p.place + 1, 2, 1), 0);
  stop ();
}

Test (store, a_read_error_of_the_file_is_told_and_not_for_good)
{
  const struct sim_fault fault = {
    .ops = SIM_READ, .file = STORE_FILE, .times = 2, .error = -EIO,
  };
  uint64_t place;

  start (2, 16);
  place = stored_block ();
  forget_headers ();
  sim_disk_fault (t.disk, &fault);
  cr_expect_eq (get (place, 42, 1), -EIO, "the header");
  cr_expect_eq (get (place, 42, 1), -EIO, "again");
  cr_expect_eq (get (place, 42, 1), 0);
  cr_expect (!status ().failed);
  stop ();
}

/* ------------------------------------------- freeing, and using again */

Test (store, a_segment_is_used_again_in_a_new_generation)
{
  uint64_t old[CAPACITY], new[CAPACITY];
  uint8_t *raw = aligned_alloc (4096, COW_SEGMENT_BYTES);
  uint32_t generation;

  start (2, 2);
  put (0, CAPACITY, 1, old);
  work ();
  generation = t.s->segment[segment_of (old[0])].generation;
  file_bytes (false, segment_offset (t.s, segment_of (old[0])), raw,
              COW_SEGMENT_BYTES);
  for (unsigned i = 0; i < CAPACITY; i++)
    cow_store_release (t.s, old[i]);
  cr_expect_eq (get (old[3], 3, 1), -EUCLEAN, "in limbo");
  work ();
  cr_expect_eq (get (old[3], 3, 1), -EUCLEAN, "free");

  put (100, CAPACITY, 1, new);
  cr_assert_eq (new[0], old[0], "the same place");
  cr_expect_eq (t.s->segment[segment_of (new[0])].generation, generation + 1);
  cr_expect_eq (get (old[3], 3, 1), -EUCLEAN, "another block is there now");
  cr_expect_eq (get (new[3], 103, 1), 0);
  work ();

  /* The file forgets the new use: what is there is good, but of the old. */
  file_bytes (true, segment_offset (t.s, segment_of (old[0])), raw,
              COW_SEGMENT_BYTES);
  t.s->buffer[t.s->segment[segment_of (new[0])].buffer].segment = NO_SEGMENT;
  t.s->segment[segment_of (new[0])].buffer = NO_BUFFER;
  cr_expect_eq (get (old[3], 3, 1), -EUCLEAN);
  cr_expect_eq (get (new[3], 103, 1), -EUCLEAN);
  free (raw);
  stop ();
}

Test (store, a_place_is_not_used_again_while_a_reader_is_inside)
{
  uint64_t places[2 * CAPACITY];
  unsigned before, after;
  struct cow_piece p;

  start (4, 2);
  put (0, 2 * CAPACITY, 1, places);
  work ();
  before = cow_store_enter (t.s);
  for (unsigned i = 0; i < CAPACITY; i++)
    cow_store_release (t.s, places[i]);
  after = cow_store_enter (t.s);
  work ();
  cr_expect_eq (cow_store_reserve (t.s, 1, false, soon (), &p), -ENOSPC);
  cr_expect_eq (status ().file_bytes, 2u << 20);
  cr_expect (!cow_store_wait_room (t.s, soon ()));
  cow_store_leave (t.s, before);
  work ();
  cr_expect_eq (status ().file_bytes, 1u << 20);
  cr_expect (cow_store_wait_room (t.s, soon ()));
  cr_expect_eq (cow_store_reserve (t.s, 1, false, soon (), &p), 0,
                "a reader who came later can't know the place");
  cow_store_leave (t.s, after);
  cr_expect_eq (segment_of (p.place), segment_of (places[0]));
  fill_piece (&p, 7, 2);
  cr_expect_eq (get (p.place, 7, 2), 0);
  stop ();
}

Test (store, what_nobody_needs_before_it_is_written_is_not_written)
{
  uint64_t places[CAPACITY];
  struct cow_record records[CAPACITY] = { { .unused = true } };
  struct cow_piece p;

  start (2, 16);
  /* Released when it was full. */
  put (0, CAPACITY, 1, places);
  for (unsigned i = 0; i < CAPACITY; i++)
    cow_store_release (t.s, places[i]);
  work ();
  /* Released when it was being filled. */
  put (0, CAPACITY - 1, 1, places);
  for (unsigned i = 0; i < CAPACITY - 1; i++)
    cow_store_release (t.s, places[i]);
  cr_assert_eq (cow_store_reserve (t.s, 1, false, soon (), &p), 0);
  cow_store_filled (t.s, &p, records);
  work ();
  /* Never used at all. */
  for (unsigned i = 0; i < CAPACITY; i++)
    records[i].unused = true;
  cr_assert_eq (cow_store_reserve (t.s, CAPACITY, false, soon (), &p), 0);
  cow_store_filled (t.s, &p, records);
  work ();
  cr_expect_eq (status ().written_bytes, 0);
  cr_expect_eq (t.ios[SIM_WRITE], 0);
  cr_expect_eq (status ().file_bytes, 0);
  cr_expect_eq (status ().ring_dirty_bytes, 0);
  stop ();
}

Test (store, at_its_limit_it_is_full_until_something_is_released)
{
  static uint64_t places[3 * CAPACITY];
  struct cow_piece p;

  start (8, 3);
  put (0, 3 * CAPACITY, 1, places);
  work ();
  cr_expect_eq (cow_store_reserve (t.s, 1, false, COW_NEVER, &p), -ENOSPC);
  cr_expect (!status ().failed);
  for (unsigned i = 0; i < CAPACITY - 1; i++)
    cow_store_release (t.s, places[CAPACITY + i]);
  work ();
  cr_expect_eq (cow_store_reserve (t.s, 1, false, COW_NEVER, &p), -ENOSPC,
                "one block of the segment is still needed");
  cow_store_release (t.s, places[2 * CAPACITY - 1]);
  work ();
  put (900, CAPACITY, 2, places + CAPACITY);
  cr_expect_eq (get (places[0], 0, 1), 0);
  cr_expect_eq (get (places[CAPACITY], 900, 2), 0);
  cr_expect_eq (get (places[2 * CAPACITY], 2 * CAPACITY, 1), 0);
  stop ();
}

/* ------------------------------------------------------------- failures */

static void
expect_failed (void)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_piece p;

  cr_expect (status ().failed);
  cr_expect_eq (cow_store_reserve (t.s, 1, false, COW_NEVER, &p), -EIO);
  cr_expect_eq (cow_store_prepare (t.s, &err), -EIO);
  cr_expect (strstr (err.text, "failed"), "%s", err.text);
  cr_expect (!cow_store_wait_room (t.s, soon ()));
}

static void
fail_while_writing (const struct sim_fault *fault)
{
  uint64_t place;

  start (4, 64);
  place = put_one (42, 1);
  sim_disk_fault (t.disk, fault);
  end_segment ();
  work ();
  expect_failed ();
  sim_disk_heal (t.disk);
  work ();
  expect_failed ();
  cr_expect_leq (get (place, 42, 1), 0);
  cow_store_release (t.s, place);
  cr_expect_eq (status ().written_bytes, 0);
  stop ();
}

Test (store, a_write_error_is_for_good)
{
  fail_while_writing (&(struct sim_fault) {
    .ops = SIM_WRITE, .file = STORE_FILE, .times = 1, .error = -EIO,
    .partial = true,
  });
}

Test (store, no_space_for_a_write_is_for_good)
{
  fail_while_writing (&(struct sim_fault) {
    .ops = SIM_WRITE, .file = STORE_FILE, .times = 1, .error = -ENOSPC,
  });
}

Test (store, a_file_system_that_cannot_preallocate_will_do)
{
  const struct sim_fault fault = {
    .ops = SIM_ALLOCATE, .file = STORE_FILE, .error = -EOPNOTSUPP,
  };
  uint64_t place;

  start (2, 16);
  sim_disk_fault (t.disk, &fault);
  place = stored_block ();
  cr_expect (!status ().failed);
  cr_expect_eq (get (place, 42, 1), 0);
  stop ();
}

Test (store, the_file_is_allocated_before_it_is_written)
{
  start (2, 70);
  cr_expect_eq (t.ios[SIM_ALLOCATE], 1);
  fill_segments (1);
  cr_expect_eq (t.ios[SIM_ALLOCATE], 1);
  fill_segments (63);
  cr_expect_eq (t.ios[SIM_ALLOCATE], 2, "ahead of the need");
  cr_expect_eq (t.s->granted, 70, "not beyond its limit");
  stop ();
}

Test (store, a_full_file_system_makes_it_full_not_failed)
{
  struct cow_store_status status;
  struct cow_piece piece;

  make_store (4, 64, BLOCK, 8 << 20);
  assert (cow_store_prepare (t.s, NULL) == 0);
  cr_expect_leq (t.s->granted, 8);
  fill_segments (t.s->granted);
  cr_expect_eq (cow_store_reserve (t.s, 1, false, cow_now_ns () + COW_NS_PER_S,
                                   &piece),
                -ENOSPC);
  cow_store_status (t.s, &status);
  cr_expect (!status.failed);
  stop ();
}

Test (store, the_reserve_stays_free)
{
  struct cow_error err = COW_ERROR_INIT;

  make_store (4, 64, BLOCK, 8 << 20);
  t.s->reserve_bytes = 8 << 20;
  cr_expect_eq (cow_store_prepare (t.s, &err), -ENOSPC);
  cr_expect (strstr (err.text, "store-reserve"), "%s", err.text);
  t.s->reserve_bytes = 4 << 20;
  cr_expect_eq (cow_store_prepare (t.s, NULL), 0);
  cr_expect_leq (t.s->granted, 4);
  stop ();
}

Test (store, space_goes_back_when_nothing_is_needed)
{
  uint64_t places[CAPACITY], again[CAPACITY];

  start (2, 70);
  put (0, CAPACITY, 1, places);
  put (0, CAPACITY, 2, again);
  work ();
  cr_expect (!cow_store_give_back (t.s), "something is needed");
  for (unsigned i = 0; i < CAPACITY; i++) {
    cow_store_release (t.s, places[i]);
    cow_store_release (t.s, again[i]);
  }
  work ();
  cr_expect (cow_store_give_back (t.s));
  cr_expect_eq (t.s->granted, 0);
  cr_expect_eq (t.ios[SIM_PUNCH], 1);
  /* And it can be used again. */
  assert (cow_store_prepare (t.s, NULL) == 0);
  put (0, CAPACITY, 3, places);
  cr_expect_eq (get (places[0], 0, 3), 0);
  stop ();
}

Test (store, a_file_that_cannot_be_made_is_asked_for_again)
{
  const struct sim_fault fault = { .ops = SIM_OPEN, .error = -EACCES };
  struct cow_error err = COW_ERROR_INIT;

  make_store (2, 16, BLOCK, 0);
  sim_disk_fault (t.disk, &fault);
  cr_expect_eq (cow_store_prepare (t.s, &err), -EACCES);
  cr_expect (strstr (err.text, "/store"), "%s", err.text);
  sim_disk_heal (t.disk);
  cr_expect_eq (cow_store_prepare (t.s, NULL), 0);
  cr_expect_eq (get (put_one (1, 1), 1, 1), 0);
  stop ();
}

/* ------------------------------------------------------ several clients */

static bool stop_working;

static void
worker (void *opaque)
{
  (void) opaque;
  while (!stop_working)
    if (!cow_store_work (t.s))
      cow_store_wait (t.s, cow_now_ns () + 50 * MS);
}

static void
run_fibres (void)
{
  fibre_spawn ("worker", worker, NULL);
  cr_assert_eq (fibres_run (), FIBRES_DONE);
}

/* The ring is full of segments that don't get out. */
static void
wait_for_hanging_write (void *opaque)
{
  const uint64_t began_ns = cow_now_ns ();
  struct cow_piece p;

  (void) opaque;
  for (unsigned i = 0; i < 2; i++) {
    assert (cow_store_reserve (t.s, CAPACITY, false, COW_NEVER, &p) == 0);
    fill_piece (&p, i * CAPACITY, 1);
  }
  assert (cow_store_reserve (t.s, 1, false, began_ns + 500 * MS, &p) == -ETIMEDOUT);
  assert (cow_now_ns () >= began_ns + 500 * MS);
  assert (cow_now_ns () < began_ns + 510 * MS);
  assert (!status ().failed);
  assert (get (first_place (0), 0, 1) == 0);
  sim_disk_heal (t.disk);
  assert (cow_store_reserve (t.s, 1, false, COW_NEVER, &p) == 0);
  fill_piece (&p, 777, 1);
  assert (get (first_place (0), 0, 1) == 0);
  assert (get (p.place, 777, 1) == 0);
  stop_working = true;
}

Test (store, a_write_that_hangs_is_waited_for_until_the_deadline)
{
  const struct sim_fault fault = {
    .ops = SIM_WRITE, .file = STORE_FILE, .delay_ns = COW_NEVER,
  };

  fibres_begin (&(struct fibres_options) { .seed = 1 });
  start (2, 16);
  sim_disk_fault (t.disk, &fault);
  stop_working = false;
  fibre_spawn ("writer", wait_for_hanging_write, NULL);
  run_fibres ();
  stop ();
  fibres_end ();
}

/* Random lives of blocks, in a store that is nearly too small. */
#define KEPT 400u

static struct {
  uint64_t place[KEPT];         /* 0: none */
  uint32_t version[KEPT];
  unsigned kept, clients;
  uint32_t versions;
} model;

/* Out of the map first, given back then: readers may be inside. */
static void
forget_one (unsigned i)
{
  const uint64_t place = model.place[i];

  model.place[i] = 0;
  cow_store_release (t.s, place);
}

static void
keep_some (void)
{
  const unsigned i = (unsigned) fibres_draw (KEPT);
  const uint32_t version = ++model.versions;
  struct cow_piece p;
  int rc;

  rc = cow_store_reserve (t.s, 1 + (unsigned) fibres_draw (100), false,
                          cow_now_ns () + 20 * MS, &p);
  if (rc < 0) {
    assert (rc == -ENOSPC || rc == -ETIMEDOUT);
    for (unsigned n = 0; n < KEPT; n++)
      if (model.place[n] != 0 && fibres_draw (2))
        forget_one (n);
    return;
  }
  fill_piece (&p, i, version);
  for (unsigned n = 0; n < p.blocks; n++) {
    const unsigned at = (i + n) % KEPT;

    /* Blocks are numbered from i on: those past the end are of no use. */
    if (i + n >= KEPT || model.place[at] != 0) {
      cow_store_release (t.s, p.place + n);
      continue;
    }
    model.place[at] = p.place + n;
    model.version[at] = version;
  }
}

static void
client (void *opaque)
{
  (void) opaque;
  for (unsigned step = 0; step < 150; step++) {
    const unsigned i = (unsigned) fibres_draw (KEPT);

    if (fibres_draw (3) == 0)
      keep_some ();
    else if (model.place[i] != 0 && fibres_draw (3) == 0)
      forget_one (i);
    else if (model.place[i] != 0) {
      const unsigned ticket = cow_store_enter (t.s);
      const uint64_t place = model.place[i];
      const uint32_t version = model.version[i];
      int rc = place ? get (place, i, version) : 0;

      assert (rc == 0
              || (rc == -EUCLEAN
                  && (model.place[i] != place
                      || model.version[i] != version)));
      cow_store_leave (t.s, ticket);
    }
  }
  if (--model.clients == 0)
    stop_working = true;
}

Test (store, random_lives)
{
  for (uint64_t seed = 1; seed <= 40; seed++) {
    fibres_begin (&(struct fibres_options) { .seed = seed });
    start (2 + seed % 3, 4 + seed % 5);
    memset (&model, 0, sizeof model);
    stop_working = false;
    model.clients = 3;
    for (unsigned i = 0; i < 3; i++)
      fibre_spawn ("client", client, NULL);
    run_fibres ();
    for (unsigned i = 0; i < KEPT; i++)
      if (model.place[i] != 0) {
        cr_assert_eq (get (model.place[i], i, model.version[i]), 0,
                      "seed %u", (unsigned) seed);
        forget_one (i);
      }
    work ();
    cr_expect_eq (status ().used_bytes, 0);
    cr_expect_leq (t.s->in_use, 1, "but for the one that is being filled");
    stop ();
    fibres_end ();
  }
}
