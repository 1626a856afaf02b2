/* test-lasting.c - a store with a name: what was durable is there after a
 * crash, at any step.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A model keeps what the store was told and what the barrier said.  One client,
 * which does the background work itself; crashes are drawn at each I/O by an
 * observer, and the disks that they leave are opened and compared.  The whole
 * engine, with clients side by side, is tests/sim's.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bits.h"
#include "sim/random.h"
#include "sim/simdisk.h"
#include "store/store-priv.h"

TestSuite (lasting, .timeout = 240);

#define BLOCK 4096u
#define BLOCKS 4000u            /* of the one volume */
#define VOLUME 3u
#define AREA (192u << 10)       /* small, so that there are many checkpoints */
#define SEGMENTS 12u

/* One exception for each block at most: in epoch 1 it is put, and once it is
 * released, in the next.
 */
struct model {
  uint32_t epoch[BLOCKS];       /* of the exception, 0: none */
  uint64_t place[BLOCKS];
  bool durable[BLOCKS];
  bool released[BLOCKS];        /* not needed any more: may be there or not */
};

static struct {
  struct sim_disk *disk;
  struct cow_store *s;
  struct model now;
  uint64_t random;
  /* Crashes. */
  uint64_t every, crashes, states;
  uint64_t notes_done, notes_begun;     /* appends */
} t;

static void
content (uint8_t *buf, uint64_t block, uint32_t epoch)
{
  uint64_t word = block << 32 ^ epoch;

  for (uint32_t i = 0; i < BLOCK; i += sizeof word) {
    const uint64_t value = sim_random_next (&word);

    memcpy (buf + i, &value, sizeof value);
  }
}

/* ----------------------------------------------------- what a start finds */

struct found {
  struct cow_store *s;
  uint64_t place[BLOCKS];
  uint32_t epoch[BLOCKS];
  uint64_t note;
};

static int
found_entry (void *opaque, unsigned type, unsigned flags, const void *body,
             size_t bytes, struct cow_error *err)
{
  struct found *f = opaque;

  (void) flags;
  (void) err;
  if (type == COW_ENTRY_NOTE && bytes >= sizeof (struct disk_note) + 8)
    memcpy (&f->note, (const struct disk_note *) body + 1, sizeof f->note);
  return 0;
}

static int
found_exception (void *opaque, uint32_t volume, uint64_t block, unsigned n,
                 uint32_t epoch, uint64_t place)
{
  struct found *f = opaque;

  assert (volume == VOLUME && block + n <= BLOCKS);
  for (unsigned i = 0; i < n; i++) {
    /* The model has one for each block; older ones are garbage. */
    if (f->epoch[block + i] > epoch)
      continue;
    f->epoch[block + i] = epoch;
    f->place[block + i] = place == PLACE_ZERO ? place : place + i;
  }
  return 0;
}

/* The engine's part of a checkpoint: the note, and zeroes of the model. */
static int
give_checkpoint (void *opaque, bool first, struct cow_entries *entries)
{
  const struct found *f = opaque;
  const struct model *m = &t.now;
  struct disk_note *note;

  (void) first;
  note = cow_entries_add (entries, COW_ENTRY_NOTE, sizeof *note + 8);
  note->length = to_le32 (8);
  memcpy (note + 1, f ? &f->note : &t.notes_begun, 8);
  for (unsigned i = 0, to; i < BLOCKS; i = to) {
    uint32_t epoch = f ? f->epoch[i] : m->epoch[i];
    uint64_t place = f ? f->place[i] : m->place[i];
    struct disk_list *list;

    for (to = i + 1; to < BLOCKS; to++)
      if ((f ? f->epoch[to] : m->epoch[to]) != epoch
          || (f ? f->place[to] : m->place[to]) != PLACE_ZERO)
        break;
    if (epoch == 0 || place != PLACE_ZERO) {
      to = i + 1;
      continue;
    }
    list = cow_entries_add (entries, COW_ENTRY_ZEROES,
                            sizeof *list + sizeof (struct disk_zeroes));
    list->count = to_le32 (1);
    *(struct disk_zeroes *) (list + 1) = (struct disk_zeroes) {
      .block = to_le64 (i), .blocks = to_le32 (to - i),
      .epoch = to_le32 (epoch), .volume = to_le32 (VOLUME),
    };
  }
  return 0;
}

static int
open_store (struct sim_disk *disk, struct found *f, struct cow_error *err,
            struct cow_store **out)
{
  const struct cow_store_hooks hooks = {
    .entry = found_entry,
    .exception = found_exception,
    .checkpoint = give_checkpoint,
    .opaque = f,
  };
  const struct cow_store_options options = {
    .directory = "/store",
    .named = true,
    .block_bytes = BLOCK,
    .limit_bytes = (uint64_t) SEGMENTS
                   * (COW_SEGMENT_BYTES + COW_SEGMENT_HEADER_BYTES),
    .ring_segments = 4,
    .area_bytes = AREA,
    .hooks = &hooks,
  };

  return cow_store_open (sim_disk_io (disk), &options, err, out);
}

/* Everything durable is there and reads right; whatever is there reads right,
 * unless it was released.
 */
static void
compare (const struct found *f, const struct model *m, bool read)
{
  uint8_t *buf = aligned_alloc (4096, 2 * BLOCK), *want = buf + BLOCK;

  for (unsigned i = 0; i < BLOCKS; i++) {
    if (m->durable[i] && !m->released[i]) {
      cr_assert_eq (f->epoch[i], m->epoch[i], "block %u: epoch %u, not %u", i,
                    f->epoch[i], m->epoch[i]);
      cr_assert ((f->place[i] == PLACE_ZERO) == (m->place[i] == PLACE_ZERO));
    }
    if (!read || f->epoch[i] == 0 || f->place[i] == PLACE_ZERO
        || (m->released[i] && f->epoch[i] <= m->epoch[i]))
      continue;
    cr_assert_eq (cow_store_read (f->s, f->place[i], 1, VOLUME, i, buf), 0,
                  "block %u can't be read", i);
    content (want, i, f->epoch[i]);
    cr_assert_eq (memcmp (buf, want, BLOCK), 0, "block %u is wrong", i);
  }
  free (buf);
}

/* Open what a crash has left; once more after a crash within that. */
static void
check_disk (struct sim_disk *disk, const struct model *m, uint64_t notes_done,
            uint64_t notes_begun)
{
  struct cow_error err = COW_ERROR_INIT;

  for (unsigned round = 0; round < 2; round++) {
    struct found f = { .s = NULL };
    struct sim_disk *next;
    int rc = open_store (disk, &f, &err, &f.s);

    cr_assert_eq (rc, 0, "opening: %s", err.text);
    compare (&f, m, false);
    cr_assert (f.note >= notes_done && f.note <= notes_begun);
    cr_assert_eq (cow_store_begin (f.s, &err), 0, "%s", err.text);
    /* Nobody has released anything here: it may be full. */
    rc = cow_store_prepare (f.s, &err);
    cr_assert (rc == 0 || rc == -ENOSPC, "%s", err.text);
    compare (&f, m, true);
    next = sim_disk_crash (disk, sim_random_next (&t.random));
    cow_store_free (f.s);
    sim_disk_free (disk);
    disk = next;
  }
  sim_disk_free (disk);
  t.states++;
}

static void
crash_now (void *opaque, struct sim_disk *d, const struct sim_step *step)
{
  uint64_t seed = sim_random_next (&t.random);

  (void) opaque;
  (void) step;
  if (seed % t.every != 0)
    return;
  t.crashes++;
  check_disk (sim_disk_crash (d, seed), &t.now, t.notes_done, t.notes_begun);
}

/* --------------------------------------------------------------- the client */

static void
work (void)
{
  for (unsigned i = 0; i < 50 && (cow_store_work (t.s)
                                  || t.s->queue->in_flight > 0);
       i++)
    cow_store_wait (t.s, cow_now_ns ());
}

static unsigned
draw (unsigned n)
{
  return (unsigned) (sim_random_next (&t.random) % n);
}

/* Preserve a run of blocks for which there is nothing yet. */
static cow_ticket
put (unsigned first, unsigned n)
{
  struct cow_record records[COW_SEGMENT_RECORDS];
  cow_ticket ticket = 0;

  while (n > 0) {
    struct cow_piece p;
    int rc;

    while ((rc = cow_store_reserve (t.s, n, true, cow_now_ns (), &p))
           == -ETIMEDOUT) {
      if (cow_store_barrier (t.s, cow_store_ticket (t.s), COW_NEVER) < 0)
        break;
      work ();
    }
    if (rc < 0)
      return ticket;            /* full: others are released, later */
    for (unsigned i = 0; i < p.blocks; i++) {
      uint32_t epoch = t.now.epoch[first + i] + 1;

      content (p.data + (size_t) i * BLOCK, first + i, epoch);
      records[i] = (struct cow_record) {
        .block = first + i, .epoch = epoch, .volume = VOLUME,
      };
      t.now.epoch[first + i] = epoch;
      t.now.place[first + i] = p.place + i;
      t.now.durable[first + i] = t.now.released[first + i] = false;
    }
    ticket = cow_store_filled_lasting (t.s, &p, records);
    first += p.blocks;
    n -= p.blocks;
  }
  return ticket;
}

static void
put_zeroes (unsigned first, unsigned n)
{
  for (unsigned i = first; i < first + n; i++) {
    t.now.epoch[i]++;
    t.now.place[i] = PLACE_ZERO;
    t.now.durable[i] = t.now.released[i] = false;
    (void) cow_store_note_zeroes (t.s, VOLUME, t.now.epoch[i], i, 1);
  }
}

static bool
is_free (unsigned first, unsigned n)
{
  for (unsigned i = first; i < first + n; i++)
    if (t.now.epoch[i] > 0 && !t.now.released[i])
      return false;
  return true;
}

static void
wait_for_all (void)
{
  int rc = cow_store_barrier (t.s, cow_store_ticket (t.s), COW_NEVER);

  cr_assert (rc == 0 || rc == -ENOSPC, "barrier: %s", strerror (-rc));
  for (unsigned i = 0; rc == 0 && i < BLOCKS; i++)
    t.now.durable[i] = t.now.epoch[i] > 0;
}

/* As the engine does it: an append says that they have ended, then they go. */
static void
release_some (void)
{
  struct cow_entries entries = COW_ENTRIES_INIT;
  struct disk_note *note
    = cow_entries_add (&entries, COW_ENTRY_NOTE, sizeof *note + 8);
  unsigned first = draw (BLOCKS), n = 1 + draw (1500);

  t.notes_begun++;
  note->length = to_le32 (8);
  memcpy (note + 1, &t.notes_begun, 8);
  for (unsigned i = first; i < COW_MIN (first + n, BLOCKS); i++)
    t.now.released[i] = true;
  cr_assert_eq (cow_store_append (t.s, &entries, COW_NEVER), 0);
  t.notes_done = t.notes_begun;
  for (unsigned i = first; i < COW_MIN (first + n, BLOCKS); i++) {
    if (t.now.epoch[i] > 0 && t.now.place[i] > PLACE_ZERO)
      cow_store_release (t.s, t.now.place[i]);
    t.now.place[i] = PLACE_ZERO;
  }
  cow_entries_clear (&entries);
}

static void
run (uint64_t seed, unsigned steps, uint64_t every)
{
  const struct sim_disk_options disk_options = { .seed = seed };
  struct cow_error err = COW_ERROR_INIT;

  memset (&t, 0, sizeof t);
  t.random = seed;
  t.every = every;
  t.disk = sim_disk_new (&disk_options);
  cr_assert_eq (open_store (t.disk, NULL, &err, &t.s), 0, "%s", err.text);
  cr_assert_eq (cow_store_begin (t.s, &err), 0, "%s", err.text);
  cr_assert_eq (cow_store_prepare (t.s, &err), 0, "%s", err.text);
  sim_disk_observe (t.disk, crash_now, NULL);
  for (unsigned i = 0; i < steps; i++) {
    unsigned first = draw (BLOCKS - 64), n = 1 + draw (64);

    switch (draw (8)) {
    case 0:
      release_some ();
      break;
    case 1:
      if (is_free (first, n))
        put_zeroes (first, n);
      break;
    case 2:
    case 3:
      wait_for_all ();
      break;
    case 4:
      work ();
      break;
    default:
      if (is_free (first, n))
        (void) put (first, n);
    }
  }
  wait_for_all ();
  sim_disk_observe (t.disk, NULL, NULL);
  cr_log_info ("seed %llu: %llu crashes", (unsigned long long) seed,
               (unsigned long long) t.crashes);
}

static void
stop (void)
{
  cow_store_free (t.s);
  sim_disk_free (t.disk);
}

/* To repeat one: COWSET_SEED=N unit/test-lasting --filter lasting/crashes */
Test (lasting, crashes)
{
  const char *text = getenv ("COWSET_SEED");
  uint64_t first = text ? strtoull (text, NULL, 0) : 1;

  for (uint64_t seed = first; seed < first + (text ? 1 : 12); seed++) {
    fprintf (stderr, "seed %llu (COWSET_SEED=%llu repeats it)\n",
             (unsigned long long) seed, (unsigned long long) seed);
    run (seed, 400, 23);
    stop ();
  }
  cr_assert_gt (t.states, 0);
}

/* Closed in order, everything is there and the next start says so; and not a
 * byte is without a meaning or zero: that is cowset-check's to see.
 */
Test (lasting, an_orderly_stop)
{
  struct cow_error err = COW_ERROR_INIT;
  struct found f = { .s = NULL };
  struct sim_disk *disk;

  run (99, 300, 1 << 30);
  cr_assert_eq (cow_store_close (t.s), 0);
  disk = sim_disk_crash (t.disk, 5);
  stop ();
  cr_assert_eq (open_store (disk, &f, &err, &f.s), 0, "%s", err.text);
  cr_assert (cow_store_was_clean (f.s));
  cr_assert_eq (cow_store_begin (f.s, &err), 0);
  cr_assert_eq (cow_store_prepare (f.s, &err), 0);
  compare (&f, &t.now, true);
  cow_store_free (f.s);
  sim_disk_free (disk);
}

static unsigned ends_heard;

static int
hear_end (void *opaque, unsigned end, const uint32_t *volumes, unsigned count)
{
  (void) opaque;
  (void) volumes;
  ends_heard = end * 100 + count;
  return 0;
}

Test (lasting, an_invalidation_is_heard_after_a_crash)
{
  const uint32_t volumes[] = { 4, 9 };
  const struct sim_disk_options disk_options = { .seed = 3 };
  const struct cow_store_hooks hooks = { .ended = hear_end };
  const struct cow_store_options options = {
    .directory = "/store", .named = true, .block_bytes = BLOCK,
    .limit_bytes = 64 << 20, .ring_segments = 4, .area_bytes = AREA,
    .hooks = &hooks,
  };
  struct cow_error err = COW_ERROR_INIT;
  struct sim_disk *disk = sim_disk_new (&disk_options), *next;
  struct cow_store *s;

  for (unsigned round = 0; round < 3; round++) {
    ends_heard = 0;
    cr_assert_eq (cow_store_open (sim_disk_io (disk), &options, &err, &s), 0,
                  "%s", err.text);
    cr_expect_eq (ends_heard, round == 1 ? 302 : round == 2 ? 300 : 0);
    cr_assert_eq (cow_store_begin (s, &err), 0);
    if (round == 1)
      sim_disk_fault (disk, &(struct sim_fault) {
        .ops = SIM_WRITE, .error = -EIO });
    if (cow_store_invalidate (s, 3, volumes, 2) < 0)
      cr_assert_eq (cow_store_disown (s), 0);
    next = sim_disk_crash (disk, round);
    sim_disk_heal (disk);
    cow_store_free (s);
    sim_disk_free (disk);
    disk = next;
  }
  sim_disk_free (disk);
}

/* A store after some steps, and a piece that nobody waits for yet. */
static cow_ticket
run_and_put (uint64_t seed)
{
  run (seed, 20, 1 << 30);
  for (unsigned i = 0; i < BLOCKS; i++)
    t.now.released[i] = true;
  return put (0, 3);
}

/* A failed sync: nobody is told that anything is durable, now or later. */
Test (lasting, a_failed_sync_is_for_good)
{
  cow_ticket ticket = run_and_put (7);

  sim_disk_fault (t.disk, &(struct sim_fault) {
    .ops = SIM_SYNC, .times = 1, .error = -EIO });
  cr_expect_eq (cow_store_barrier (t.s, ticket, COW_NEVER), -EIO);
  sim_disk_heal (t.disk);
  cr_expect_eq (cow_store_barrier (t.s, ticket, COW_NEVER), -EIO);
  cr_expect_eq (cow_store_close (t.s), -EIO);
  stop ();
}

/* Who has no time asks only: a batch that it led would be late at once, and the
 * store would have failed for it.
 */
Test (lasting, who_has_no_time_does_not_lead)
{
  cow_ticket ticket = run_and_put (8);

  cr_expect_eq (cow_store_barrier (t.s, ticket, cow_now_ns ()), -ETIMEDOUT);
  cr_expect_eq (cow_store_barrier (t.s, ticket, COW_NEVER), 0);
  cr_expect_eq (cow_store_barrier (t.s, ticket, cow_now_ns ()), 0);
  stop ();
}

/* All who have blocks in the next batch may be waiting for the ring: one of
 * them writes it.
 */
Test (lasting, who_waits_for_the_ring_writes_the_batch)
{
  const struct sim_disk_options disk_options = { .seed = 5 };
  const struct cow_store_options options = {
    .directory = "/store", .named = true, .block_bytes = BLOCK,
    .limit_bytes = 64 << 20, .ring_segments = 2, .area_bytes = AREA,
  };
  struct sim_disk *disk = sim_disk_new (&disk_options);
  struct cow_record records[COW_SEGMENT_RECORDS];
  struct cow_error err = COW_ERROR_INIT;
  struct cow_store *s;
  struct cow_piece p;
  uint64_t block = 0;
  int rc;

  cr_assert_eq (cow_store_open (sim_disk_io (disk), &options, &err, &s), 0,
                "%s", err.text);
  cr_assert_eq (cow_store_begin (s, &err), 0, "%s", err.text);
  cr_assert_eq (cow_store_prepare (s, &err), 0, "%s", err.text);
  while ((rc = cow_store_reserve (s, COW_SEGMENT_RECORDS, true,
                                  cow_now_ns (), &p)) == 0) {
    for (unsigned i = 0; i < p.blocks; i++, block++) {
      content (p.data + (size_t) i * BLOCK, block, 1);
      records[i] = (struct cow_record) {
        .block = block, .epoch = 1, .volume = VOLUME,
      };
    }
    cow_store_filled_lasting (s, &p, records);
  }
  cr_assert_eq (rc, -ETIMEDOUT);
  cr_assert_eq (block, 2 * s->capacity);
  /* Nobody has called the barrier. */
  for (unsigned i = 0; i < 50; i++)
    (void) cow_store_work (s);
  cr_assert_eq (cow_store_reserve (s, 1, true, cow_now_ns (), &p), 0);
  records[0].unused = true;
  cow_store_filled_lasting (s, &p, records);
  cr_assert_eq (cow_store_close (s), 0);
  cow_store_free (s);
  sim_disk_free (disk);
}
