/* test-journal-crash.c - a journal whose machine crashes, again and again.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What must be true after each crash is asserted in bench_open (journal.c).
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bits.h"
#include "sim/random.h"
#include "unit/journal.h"

TestSuite (journal_crash, .timeout = 240);

static struct bench b;

/* --------------------------------------------------- crashes of checkpoints */

#define STATES_MAX 2000u

static struct sim_disk *states[STATES_MAX];
static unsigned states_count, seeds;

/* At each I/O of a checkpoint, what some crashes leave. */
static void
crash_here (void *opaque, struct sim_disk *d, const struct sim_step *step)
{
  (void) opaque;
  if (step->after || step->op == SIM_READ)
    return;
  for (uint64_t seed = 0; seed < seeds; seed++) {
    assert (states_count < STATES_MAX);
    states[states_count++] = sim_disk_crash (d, step->number * seeds + seed);
  }
}

/* Everything was durable before: so all of it is there after any of these
 * crashes, and a further flipped bit is damage or does not matter, but never
 * brings back an older journal (J4, J5).  It may hide the last record, which
 * nothing attests.
 */
static void
look_at_states (uint64_t n)
{
  struct sim_disk *own = b.disk;

  cr_assert_gt (states_count, seeds);
  for (unsigned i = 0; i < states_count; i++) {
    b.disk = states[i];
    b.appended = b.durable = n;
    cr_assert_eq (bench_open (&b), 0, "state %u: %s", i, b.err.text);
    bench_close (&b);
    for (uint64_t page = 0; page < 2 * b.area_bytes / PAGE; page++) {
      const uint64_t at = FIRST_AREA + page * PAGE + 16 + (page + i) % 48;
      int rc;

      b.durable = n - 1;
      bench_flip (&b, at, 1);
      rc = bench_open (&b);
      cr_assert (rc == 0 || rc == -EUCLEAN);
      bench_close (&b);
      bench_flip (&b, at, 1);
      b.appended = b.durable = n;
    }
    /* And it can be gone on with. */
    cr_assert_eq (bench_open (&b), 0);
    cr_assert_eq (bench_checkpoint (&b), 0);
    bench_close (&b);
    cr_assert_eq (bench_open (&b), 0);
    bench_close (&b);
    sim_disk_free (b.disk);
  }
  states_count = 0;
  b.disk = own;
}

/* A journal in the middle of a lap, all of it durable. */
static void
begin_lap (unsigned lap, unsigned filler)
{
  bench_new (&b, lap, 10, filler);
  for (unsigned i = 2; i <= lap; i++) {
    cr_assert_eq (bench_append (&b, 10, -1, -1), 0);
    bench_sync (&b);
    if (i < lap)
      cr_assert_eq (bench_checkpoint (&b), 0);
  }
}

Test (journal_crash, a_checkpoint_is_torn_at_every_write)
{
  seeds = 60;
  for (unsigned filler = 0; filler <= 4; filler += 4)
    for (unsigned lap = 2; lap < 6; lap++) {
      begin_lap (lap, filler);
      sim_disk_observe (b.disk, crash_here, NULL);
      cr_assert_eq (bench_checkpoint (&b), 0);
      bench_close (&b);
      look_at_states (b.appended);
      bench_free (&b);
    }
}

static struct sim_disk *killed[100];
static unsigned killed_count;

static void
kill_here (void *opaque, struct sim_disk *d, const struct sim_step *step)
{
  (void) opaque;
  if (!step->after && step->op != SIM_READ) {
    assert (killed_count < COW_ARRAY_SIZE (killed));
    killed[killed_count++] = sim_disk_clone (d);
  }
}

/* The process dies within a checkpoint, the next one finds what is in the
 * cache, and the power fails while that one makes its own.
 */
Test (journal_crash, the_checkpoint_after_a_kill_is_torn_at_every_write)
{
  seeds = 30;
  for (unsigned lap = 2; lap < 5; lap++) {
    begin_lap (lap, 2);
    killed_count = 0;
    sim_disk_observe (b.disk, kill_here, NULL);
    cr_assert_eq (bench_checkpoint (&b), 0);
    cr_assert_geq (killed_count, lap == 2 ? 5 : 7);
    for (unsigned i = 0; i < killed_count; i++) {
      bench_change_disk (&b, killed[i]);
      cr_assert_eq (bench_open (&b), 0);
      sim_disk_observe (b.disk, crash_here, NULL);
      cr_assert_eq (bench_checkpoint (&b), 0);
      bench_close (&b);
      look_at_states (b.appended);
    }
    bench_free (&b);
  }
}

/* A write or sync that failed is final: what would be replayed is not known. */
Test (journal_crash, a_failed_checkpoint_is_final)
{
  for (uint64_t skip = 0;; skip++) {
    const struct sim_fault fault = {
      .ops = SIM_WRITE | SIM_SYNC, .skip = skip, .times = 1, .error = -EIO,
      .partial = true,
    };
    int rc;

    begin_lap (4, 4);
    sim_disk_fault (b.disk, &fault);
    rc = bench_checkpoint (&b);
    if (rc == 0) {
      cr_assert_eq (skip, 8);
      bench_free (&b);
      break;
    }
    cr_assert_eq (rc, -EIO);
    cr_assert (cow_journal_failed (b.j));
    cr_assert_eq (bench_append (&b, 10, -1, -1), -EIO);
    cr_assert_eq (bench_checkpoint (&b), -EIO);
    cr_assert_eq (cow_journal_wipe (b.j), -EIO);
    cr_assert_eq (cow_journal_lap (b.j), 4);
    bench_close (&b);
    cr_assert_eq (bench_open (&b), 0);
    cr_assert_eq (b.replayed, 3);
    bench_free (&b);
  }
}

static int
fail_in_the_middle (void *opaque, struct cow_entries *e)
{
  unsigned *calls = opaque;
  struct disk_counters *c = cow_entries_add (e, COW_ENTRY_COUNTERS, sizeof *c);

  cr_assert_not_null (c);
  return ++*calls < 3 ? 1 : -ENOMEM;
}

/* What is left of it never passes for a part of a later one (J3). */
Test (journal_crash, an_interrupted_checkpoint)
{
  begin_lap (4, 0);
  for (unsigned i = 1; i <= 5; i++) {
    unsigned calls = 0;

    cr_assert_eq (cow_journal_checkpoint (b.j, fail_in_the_middle, &calls),
                  -ENOMEM);
    cr_assert_not (cow_journal_failed (b.j));
    cr_assert_eq (cow_journal_lap (b.j), 4);
    cr_assert_eq (cow_journal_lap_begun (b.j), 3 + 2 * i);
    cr_assert_eq (bench_append (&b, 10, -1, -1), 0);
    bench_sync (&b);
    if (i % 2) {
      bench_close (&b);
      cr_assert_eq (bench_open (&b), 0);
      cr_assert_eq (b.replayed, 3 + i);
      cr_assert_eq (cow_journal_lap_begun (b.j), 3 + 2 * i);
      bench_close (&b);
      cr_assert_eq (bench_open (&b), 0);
      /* What was opened has to begin a lap, so go on with another. */
      if (i < 5) {
        bench_free (&b);
        begin_lap (4, 0);
        for (unsigned k = 1; k <= i; k++) {
          calls = 0;
          cr_assert_eq (
            cow_journal_checkpoint (b.j, fail_in_the_middle, &calls), -ENOMEM);
          cr_assert_eq (bench_append (&b, 10, -1, -1), 0);
          bench_sync (&b);
        }
      }
    }
  }
  cr_assert_eq (bench_checkpoint (&b), 0);
  cr_assert_eq (cow_journal_lap (b.j), 15);
  bench_close (&b);
  cr_assert_eq (bench_open (&b), 0);
  cr_assert_eq (b.replayed, 8);
  bench_free (&b);
}

/* ---------------------------------------------------------- whole histories */

/* One life of a journal, in which some I/O is the last before a kill or a power
 * loss.
 */
struct life {
  uint64_t random;
  uint64_t stop;                /* at this I/O; 0: it was */
  bool kill;
  struct sim_disk *next;        /* what is left */
  uint64_t durable, appended;   /* what may be found there */
};

static void
stop_here (void *opaque, struct sim_disk *d, const struct sim_step *step)
{
  struct life *l = opaque;

  if (step->after || step->op == SIM_READ || l->next || --l->stop > 0)
    return;
  l->next = l->kill ? sim_disk_clone (d)
                    : sim_disk_crash (d, sim_random_next (&l->random));
  l->durable = b.durable;
  l->appended = b.appended;
}

/* A segment is used again only when what freed it is durable. */
static void
do_something (uint64_t *random)
{
  const struct state *now = &b.state[b.appended];
  const struct state *stable = &b.state[b.durable];
  const uint32_t i = (uint32_t) sim_random_below (random, SEGMENTS);
  int preserve = -1, free_ = -1, rc;
  bool in_between = false;

  for (uint64_t n = b.durable; n <= b.appended; n++)
    in_between |= b.state[n].generation[i] != 0;
  if (now->generation[i] != 0)
    free_ = (int) i;
  else if (!in_between && stable->generation[i] == 0)
    preserve = (int) i;
  rc = bench_append (&b, (unsigned) sim_random_below (random, 6000), preserve,
                     free_);
  if (rc == -ENOSPC) {
    bench_sync (&b);
    rc = bench_checkpoint (&b);
  }
  assert (rc == 0);
  if (sim_random_below (random, 3) == 0)
    bench_sync (&b);
  if (sim_random_below (random, 40) == 0) {
    bench_sync (&b);
    rc = bench_checkpoint (&b);
    assert (rc == 0);
  }
}

static void
live_until_crash (struct life *l)
{
  int rc;

  sim_disk_observe (b.disk, stop_here, l);
  rc = bench_open (&b);
  assert (rc == 0);
  rc = bench_checkpoint (&b);
  assert (rc == 0);
  while (l->next == NULL)
    do_something (&l->random);
  bench_change_disk (&b, l->next);
  b.durable = l->durable;
  b.appended = l->appended;
}

Test (journal_crash, histories_of_crashes)
{
  const char *env = getenv ("COWSET_TEST_SEED");
  const uint64_t first = env ? strtoull (env, NULL, 0) : 1;
  const uint64_t last = env ? first : 150;

  for (uint64_t seed = first; seed <= last; seed++) {
    uint64_t random = seed;

    fprintf (stderr, "seed %llu; to repeat: COWSET_TEST_SEED=%llu "
             "unit/test-journal-crash --filter "
             "journal_crash/histories_of_crashes\n",
             (unsigned long long) seed, (unsigned long long) seed);
    bench_new (&b, seed, 12 + (unsigned) sim_random_below (&random, 12),
               2 * (unsigned) sim_random_below (&random, 3));
    bench_close (&b);
    for (unsigned life = 0; life < 40; life++) {
      struct life l = {
        .random = sim_random_next (&random),
        .stop = 1 + sim_random_below (&random, life % 3 ? 60 : 8),
        .kill = sim_random_below (&random, 3) == 0,
      };

      live_until_crash (&l);
    }
    bench_free (&b);
  }
}
