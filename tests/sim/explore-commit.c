/* explore-commit.c - two writers, a reader and a commit, in every order.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The whole engine over a simulated disk, with one volume of a few blocks and
 * a snapshot from before.  Side by side:
 *
 *   first     writes block 0, then (acknowledged) block 1
 *   second    writes block 1, then reads it back
 *   reader    reads both blocks of the older snapshot
 *   commit    makes a set, opens its snapshot, and reads it (in the sample:
 *             twice)
 *
 * Checked after each schedule, with the numbers of design invariants:
 *   fidelity (1)      the older snapshot is as it was, always; the new one
 *                     reads the same later, when everything is overwritten
 *   atomicity (2)     what was acknowledged before the hold is in the new
 *                     snapshot, what was issued after the release is not, and
 *                     block 1 of `first` is there only with its block 0
 *   transparency (3)  the origin has the last writes
 *   and the bookkeeping: no exception is left when all sets are deleted
 *
 *   explore-commit [--preemptions N] [--runs N] [--seeds N] [--first SEED]
 */
#include <config.h>

#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sync.h"
#include "cow.h"
#include "sim/fibres.h"
#include "sim/simdisk.h"

#define BLOCK 4096u
#define BLOCKS 8u

#define COMMITS_MAX 2

/* A set that the commit made, and what it saw in it. */
struct instant {
  bool made;                    /* its hold did not expire */
  struct cow_id id;
  uint8_t snap[2];
  unsigned held, released;      /* on t.clock */
};

static struct {
  struct sim_disk *disk;
  struct cow_engine *engine;
  struct cow_volume *volume;
  struct cow_view *older;

  unsigned commits;             /* to be made */
  struct instant instant[COMMITS_MAX];

  /* When things happened, in one order for all fibres. */
  unsigned clock;
  unsigned issued[3], acked[3]; /* of the three writes, a, b and c */
} t;

static unsigned commits;        /* of the runs to come */

static bool
wrong (const char *what)
{
  fprintf (stderr, "explore-commit: %s\n", what);
  return false;
}

static void
must (int rc, const char *what)
{
  if (rc < 0) {
    fprintf (stderr, "explore-commit: %s: %s\n", what, strerror (-rc));
    abort ();
  }
}

/* The byte that fills a block; abort if it is torn. */
static uint8_t
whole (const uint8_t *block, const char *what)
{
  for (unsigned i = 1; i < BLOCK; i++) {
    if (block[i] != block[0]) {
      fprintf (stderr, "explore-commit: %s is torn\n", what);
      abort ();
    }
  }
  return block[0];
}

static void
write_block (unsigned block, char byte)
{
  const unsigned i = (unsigned) (byte - 'a');
  uint8_t buf[BLOCK];

  memset (buf, byte, sizeof buf);
  t.issued[i] = ++t.clock;
  must (cow_volume_write (t.volume, buf, BLOCK, block * BLOCK, 0), "write");
  t.acked[i] = ++t.clock;
}

static void
first (void *opaque)
{
  (void) opaque;
  write_block (0, 'a');
  write_block (1, 'b');
}

static void
second (void *opaque)
{
  uint8_t buf[BLOCK], byte;

  (void) opaque;
  write_block (1, 'c');
  must (cow_volume_read (t.volume, buf, BLOCK, BLOCK), "read");
  byte = buf[0];
  assert (byte == 'b' || byte == 'c');
}

static uint8_t
view_block (struct cow_view *w, unsigned block, const char *what)
{
  uint8_t buf[BLOCK];

  must (cow_view_read (w, buf, BLOCK, block * BLOCK), what);
  return whole (buf, what);
}

static void
reader (void *opaque)
{
  (void) opaque;
  for (unsigned block = 0; block < 2; block++)
    assert (view_block (t.older, block, "the older snapshot") == 'z');
}

/* A set of the volume; not made if its hold expired. */
static void
make_set (struct instant *in)
{
  const struct cow_set_options options = { .id = cow_id_new () };
  const struct cow_id snapshot = cow_id_new ();
  struct cow_set *s;

  in->id = options.id;
  must (cow_set_new (t.engine, &options, NULL, &s), "set");
  must (cow_set_add (s, t.volume, &snapshot, NULL), "add");
  must (cow_set_prepare (s, COW_NEVER, NULL), "prepare");
  in->held = ++t.clock;
  must (cow_set_hold (s, 10 * COW_NS_PER_S, NULL), "hold");
  in->made = cow_set_switch (s, NULL) == 0;
  if (in->made) {
    in->released = ++t.clock;
    must (cow_set_settle (s, COW_NEVER, NULL), "settle");
    must (cow_set_finish (s, NULL), "finish");
  }
  cow_set_put (s);
}

static struct cow_view *
open_view (const struct instant *in)
{
  char text[COW_ID_TEXT_SIZE];
  struct cow_view *w;

  cow_id_format (&in->id, text);
  must (cow_view_open (t.volume, text, NULL, &w), "view");
  return w;
}

static void
commit (void *opaque)
{
  (void) opaque;
  for (unsigned i = 0; i < t.commits; i++) {
    struct instant *in = &t.instant[i];
    struct cow_view *w;

    make_set (in);
    if (!in->made)
      continue;
    w = open_view (in);
    for (unsigned block = 0; block < 2; block++)
      in->snap[block] = view_block (w, block, "the new snapshot");
    cow_view_close (w);
  }
}

/* ------------------------------------------------------------------ a run */

static void
setup (void *opaque)
{
  const struct sim_disk_options disk_options = { .stable = true };
  const struct sim_file_options file_options = {
    .size_bytes = BLOCKS * BLOCK, .direct_align_bytes = 512,
  };
  struct cow_engine_options options = {
    .block_bytes = BLOCK, .ring_segments = 2, .store_path = "/store",
    .store_limit_bytes = 16 << 20,
  };
  uint8_t buf[BLOCKS * BLOCK];
  struct instant in = { .made = false };

  (void) opaque;
  memset (&t, 0, sizeof t);
  t.commits = commits;
  t.disk = sim_disk_new (&disk_options);
  sim_disk_create (t.disk, "disk", &file_options);
  memset (buf, 'z', sizeof buf);
  sim_disk_poke (t.disk, "disk", 0, buf, sizeof buf);
  options.use_io = sim_disk_io (t.disk);
  must (cow_engine_new (&options, NULL, &t.engine), "engine");
  must (cow_volume_add (t.engine, "v", "disk", COW_CACHE_WRITEBACK, false,
                        NULL, &t.volume), "volume");
  must (cow_engine_start (t.engine, NULL), "start");
  make_set (&in);
  assert (in.made);
  t.older = open_view (&in);
}

static bool
check_instant (const struct instant *in)
{
  const uint8_t b0 = in->snap[0], b1 = in->snap[1];

  if ((b0 != 'z' && b0 != 'a') || (b1 != 'z' && b1 != 'b' && b1 != 'c'))
    return wrong ("the new snapshot has what nobody wrote");
  if (b1 == 'b' && b0 != 'a')
    return wrong ("b is in the set, and a, acknowledged before, is not");
  if (t.acked[0] < in->held && b0 != 'a')
    return wrong ("a was acknowledged before the hold, and is not there");
  if (t.issued[0] > in->released && b0 == 'a')
    return wrong ("a was issued after the release, and is there");
  if (t.issued[1] > in->released && b1 == 'b')
    return wrong ("b was issued after the release, and is there");
  if (t.issued[2] > in->released && b1 == 'c')
    return wrong ("c was issued after the release, and is there");
  if ((t.acked[1] < in->held || t.acked[2] < in->held) && b1 == 'z')
    return wrong ("b or c was acknowledged before the hold, none is there");
  return true;
}

static bool
check_origin (void)
{
  uint8_t buf[2 * BLOCK], b1;

  must (cow_volume_read (t.volume, buf, sizeof buf, 0), "read");
  if (whole (buf, "the origin") != 'a')
    return wrong ("the origin has lost a");
  b1 = whole (buf + BLOCK, "the origin");
  if ((b1 != 'b' && b1 != 'c') || (t.acked[1] < t.issued[2] && b1 != 'c') ||
      (t.acked[2] < t.issued[1] && b1 != 'b'))
    return wrong ("the origin has not what was written last");
  return true;
}

/* A snapshot when everything has been overwritten. */
static bool
check_view (struct cow_view *w, const char *what, uint8_t b0, uint8_t b1)
{
  for (unsigned block = 0; block < BLOCKS; block++) {
    if (view_block (w, block, what) !=
        (block == 0 ? b0 : block == 1 ? b1 : 'z')) {
      fprintf (stderr, "explore-commit: %s has changed\n", what);
      return false;
    }
  }
  return true;
}

static bool
check_later (void)
{
  uint8_t buf[BLOCKS * BLOCK];
  bool right;

  memset (buf, 'x', sizeof buf);
  must (cow_volume_write (t.volume, buf, sizeof buf, 0, 0), "overwrite");
  right = check_view (t.older, "the older snapshot", 'z', 'z');
  for (unsigned i = 0; i < t.commits; i++) {
    const struct instant *in = &t.instant[i];
    struct cow_view *w;

    if (!in->made)
      continue;
    w = open_view (in);
    right = check_view (w, "the new snapshot", in->snap[0], in->snap[1]) &&
            right;
    cow_view_close (w);
  }
  return right;
}

static bool
check_deleted (void)
{
  struct cow_engine_status status;
  struct cow_set_info *sets;
  size_t count;

  cow_view_close (t.older);
  t.older = NULL;
  must (cow_engine_sets (t.engine, &sets, &count), "sets");
  for (size_t i = 0; i < count; i++)
    must (cow_engine_delete_set (t.engine, &sets[i].id), "delete");
  free (sets);
  while (cow_engine_step (t.engine, 0))
    ;
  cow_engine_status (t.engine, &status);
  if (status.exceptions != 0 || status.store_used_bytes != 0)
    return wrong ("something is left of deleted sets");
  return true;
}

static bool
check (void *opaque)
{
  (void) opaque;
  for (unsigned i = 0; i < t.commits; i++) {
    if (t.instant[i].made && !check_instant (&t.instant[i]))
      return false;
  }
  return check_origin () && check_later () && check_deleted ();
}

static void
teardown (void *opaque)
{
  (void) opaque;
  cow_view_close (t.older);
  cow_engine_free (t.engine);
  sim_disk_free (t.disk);
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "preemptions", required_argument, NULL, 'p' },
    { "runs", required_argument, NULL, 'r' },
    { "seeds", required_argument, NULL, 's' },
    { "first", required_argument, NULL, 'f' },
    { NULL, 0, NULL, 0 },
  };
  static const struct fibre_spec fibres[] = {
    { "first", first, NULL }, { "second", second, NULL },
    { "reader", reader, NULL }, { "commit", commit, NULL },
  };
  struct fibres_case c = {
    .setup = setup, .check = check, .teardown = teardown, .fibres = fibres,
    .count = 4,
  };
  uint64_t preemptions = 1, runs = 0, seeds = 2000, first_seed = 1;
  struct fibres_result r;
  int opt;

  while ((opt = getopt_long (argc, argv, "", options, NULL)) != -1) {
    uint64_t *to = opt == 'p' ? &preemptions : opt == 'r' ? &runs
                 : opt == 's' ? &seeds : opt == 'f' ? &first_seed : NULL;

    if (to == NULL)
      return 2;
    *to = strtoull (optarg, NULL, 0);
  }

  commits = 1;
  r = fibres_explore (&c, (unsigned) preemptions, runs);
  printf ("%" PRIu64 " schedules with at most %" PRIu64 " preemptions%s, "
          "%" PRIu64 " steps each: %s\n", r.runs, preemptions,
          r.complete ? ", all" : "", r.steps / r.runs,
          r.right ? "right" : "WRONG");
  if (!r.right)
    return 1;
  commits = COMMITS_MAX;
  c.deadlines_pass = true;
  r = fibres_sample (&c, first_seed, seeds);
  if (r.runs > 0)
    printf ("%" PRIu64 " schedules from seed %" PRIu64 " on, %" PRIu64
            " steps each: %s\n", r.runs, first_seed, r.steps / r.runs,
            r.right ? "right" : "WRONG");
  if (!r.right) {
    printf ("repeat it: %s --runs 1 --seeds 1 --first %" PRIu64 "\n", argv[0],
            first_seed + r.runs - 1);
    return 1;
  }
  return 0;
}
