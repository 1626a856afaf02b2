/* test-store-marks.c - invalidation slots and the orderly end of a store.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bits.h"
#include "sim/simdisk.h"
#include "store/store-priv.h"

TestSuite (store_marks, .timeout = 120);

#define DIRECTORY "/store"
#define STORE_FILE DIRECTORY "/" COW_STORE_FILE

static struct sim_disk *disk;
static struct cow_store *store;
static unsigned endings;        /* that hooks.ended was called for */
static unsigned end_seen;

static int
ended (void *opaque, unsigned end, const uint32_t *volumes, unsigned count)
{
  (void) opaque;
  (void) volumes;
  (void) count;
  endings++;
  end_seen = end;
  return 0;
}

static const struct cow_store_hooks hooks = { .ended = ended };

static int
open_store (void)
{
  const struct cow_store_options options = {
    .directory = DIRECTORY,
    .named = true,
    .hooks = &hooks,
    .block_bytes = 4096,
    .area_bytes = 16 * COW_JOURNAL_PAGE,
    .limit_bytes = 8 << 20,
    .ring_segments = 2,
  };

  endings = end_seen = 0;
  return cow_store_open (sim_disk_io (disk), &options, NULL, &store);
}

static void
begin_store (void)
{
  cr_assert_eq (open_store (), 0);
  cr_assert_eq (cow_store_begin (store, NULL), 0);
}

static void
make_store (uint64_t seed)
{
  const struct sim_disk_options options = { .seed = seed };

  disk = sim_disk_new (&options);
  begin_store ();
}

/* What the next process finds: all that was written. */
static void
next_process (void)
{
  struct sim_disk *next = sim_disk_clone (disk);

  cow_store_free (store);
  sim_disk_free (disk);
  disk = next;
}

/* A checkpoint fails at each of its writes and syncs, and the store is given up:
 * whichever lap is taken afterwards, the slot counts.
 */
Test (store_marks, a_slot_counts_after_a_checkpoint_that_failed)
{
  for (uint64_t skip = 0;; skip++) {
    const struct sim_fault fault = {
      .ops = SIM_WRITE | SIM_SYNC, .file = STORE_FILE, .skip = skip,
      .times = 1, .error = -EIO,
    };
    int rc;

    make_store (skip);
    sim_disk_fault (disk, &fault);
    rc = cow_log_checkpoint (store);
    sim_disk_heal (disk);
    if (rc == 0) {
      cr_assert_gt (skip, 5);
      cow_store_free (store);
      sim_disk_free (disk);
      break;
    }
    /* A sync that failed once fails for good, and then LIVE goes. */
    if (cow_store_invalidate (store, 4, NULL, 0) < 0)
      cr_assert_eq (cow_store_disown (store), 0);
    next_process ();
    cr_assert_eq (open_store (), 0);
    cr_assert_geq (endings, 1, "at %u", (unsigned) skip);
    cr_assert_eq (cow_store_begin (store, NULL), 0);
    next_process ();
    cr_assert_eq (open_store (), 0);
    cr_assert_eq (endings, 0);
    cow_store_free (store);
    sim_disk_free (disk);
  }
}

/* A slot that a later lap has taken up does not end what came after. */
Test (store_marks, a_slot_of_an_earlier_lap_is_over)
{
  static uint8_t page[COW_STORE_PAGE], zero[COW_STORE_PAGE];

  make_store (1);
  cr_assert_eq (cow_store_invalidate (store, 2, NULL, 0), 0);
  sim_disk_peek (disk, STORE_FILE, COW_SLOTS_OFFSET, page, sizeof page);
  next_process ();
  begin_store ();
  cr_assert_eq (endings, 1);
  cr_assert_eq (end_seen, 2);
  next_process ();
  sim_disk_poke (disk, STORE_FILE, COW_SLOTS_OFFSET, page, sizeof page);
  begin_store ();
  cr_assert_eq (endings, 0);
  sim_disk_peek (disk, STORE_FILE, COW_SLOTS_OFFSET, page, sizeof page);
  cr_assert_arr_eq (page, zero, sizeof page);
  cow_store_free (store);
  sim_disk_free (disk);
}

/* Power fails at each write of the orderly end, and a bit flips: the store is
 * complete, or it is refused, and never an earlier one.
 */
static struct sim_disk *states[4000];
static unsigned states_count;

static void
crash_here (void *opaque, struct sim_disk *d, const struct sim_step *step)
{
  (void) opaque;
  if (step->after || step->op == SIM_READ)
    return;
  for (uint64_t seed = 0; seed < 30; seed++) {
    assert (states_count < COW_ARRAY_SIZE (states));
    states[states_count++] = sim_disk_crash (d, step->number * 30 + seed);
  }
}

Test (store_marks, an_orderly_end_is_torn_at_every_write)
{
  uint64_t lap;

  make_store (3);
  for (unsigned i = 0; i < 3; i++)
    cr_assert_eq (cow_log_checkpoint (store), 0);
  lap = cow_journal_lap (store->journal);
  sim_disk_observe (disk, crash_here, NULL);
  cr_assert_eq (cow_store_close (store), 0);
  cow_store_free (store);
  sim_disk_free (disk);
  cr_assert_gt (states_count, 200);
  for (unsigned i = 0; i < states_count; i++) {
    disk = states[i];
    cr_assert_eq (open_store (), 0);
    cr_assert_geq (cow_journal_lap (store->journal), lap);
    cow_store_free (store);
    for (unsigned area = 0; area < 2; area++) {
      const uint64_t at =
        COW_JOURNAL_OFFSET + area * 16 * COW_JOURNAL_PAGE + 16 + i % 48;
      uint8_t byte;

      sim_disk_peek (disk, STORE_FILE, at, &byte, 1);
      byte ^= 4;
      sim_disk_poke (disk, STORE_FILE, at, &byte, 1);
      if (open_store () == 0) {
        cr_assert_geq (cow_journal_lap (store->journal), lap);
        cow_store_free (store);
      }
      byte ^= 4;
      sim_disk_poke (disk, STORE_FILE, at, &byte, 1);
    }
    sim_disk_free (disk);
  }
}
