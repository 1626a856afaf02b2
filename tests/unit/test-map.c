/* test-map.c - the map of exceptions against a naive model.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The model keeps, for each live snapshot, the content of every block.  The
 * map is worked by the rules of map.h: a first touch copies only if a live
 * snapshot needs it; a sweep follows a deletion.  Counted, and expected to be
 * 0: wrong reads, exceptions that serve nobody after a sweep, copies that
 * served nobody when they were filed.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "map/arena.h"
#include "map/bits.h"
#include "map/map.h"
#include "map/tree.h"

#define EPOCHS 400

static uint32_t
predecessor (struct cow_map *m, uint64_t block, uint32_t epoch)
{
  uint32_t p;

  cow_map_predecessors (m, block, 1, epoch, &p);
  return p;
}

static int
file (struct cow_map *m, uint64_t block, uint32_t epoch, cow_place place)
{
  return cow_map_insert (m, block, 1, epoch, &place);
}

struct world {
  uint64_t state;
  struct cow_arena arena;
  struct cow_map *map;
  unsigned blocks;
  uint64_t base;                /* the first block that is used */
  uint32_t epoch;
  uint32_t *content;            /* of the origin, each value once */
  uint32_t *touched;            /* epoch of each block's last first touch */
  uint32_t *then[EPOCHS];       /* content at each live snapshot */
  bool live[EPOCHS];
  uint64_t copies, wrong, useless, garbage;
};

static uint64_t
draw (struct world *w, uint64_t n)
{
  uint64_t x = w->state += UINT64_C (0x9e3779b97f4a7c15);

  x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C (0x94d049bb133111eb);
  return (x ^ x >> 31) % n;
}

/* Does a live snapshot s with p < s <= e exist?  The naive way. */
static bool
needed (const struct world *w, uint32_t p, uint32_t e)
{
  for (uint32_t s = p + 1; s <= e; s++)
    if (w->live[s])
      return true;
  return false;
}

static void
touch (struct world *w, unsigned b, uint32_t value)
{
  uint32_t p = predecessor (w->map, w->base + b, w->epoch);

  if (p < w->epoch && needed (w, p, w->epoch)) {
    /* The place is the content, so that a lookup says what it would read. */
    int rc = file (w->map, w->base + b, w->epoch,
                   COW_PLACE_FIRST + w->content[b]);

    cr_assert_eq (rc, 0);
    w->copies++;
    w->useless += w->touched[b] == w->epoch;
  }
  w->touched[b] = w->epoch;
  w->content[b] = value;
}

static void
commit (struct world *w)
{
  uint32_t *then = malloc (w->blocks * sizeof *then);

  w->epoch++;
  memcpy (then, w->content, w->blocks * sizeof *then);
  w->then[w->epoch] = then;
  w->live[w->epoch] = true;
}

static bool
serves (void *opaque, uint32_t p, uint32_t e)
{
  return needed (opaque, p, e);
}

static void
freed (void *opaque, uint64_t block, cow_place place)
{
  (void) opaque;
  (void) block;
  (void) place;
}

static void
sweep (struct world *w)
{
  const struct cow_sweep s = { serves, freed, w };

  for (uint64_t r = 0; r < cow_map_regions (w->map); r++)
    cow_map_sweep (w->map, r, &s);
}

static bool
count_garbage (void *opaque, uint32_t p, uint32_t e)
{
  struct world *w = opaque;

  w->garbage += !needed (w, p, e);
  return true;
}

static void
check (struct world *w)
{
  const struct cow_sweep s = { count_garbage, freed, w };
  struct cow_mapping *got = malloc (w->blocks * sizeof *got);

  for (uint32_t e = 1; e <= w->epoch; e++) {
    if (!w->live[e])
      continue;
    cow_map_lookup (w->map, w->base, w->blocks, e, got);
    for (unsigned b = 0; b < w->blocks; b++) {
      uint64_t value = got[b].place == COW_PLACE_NONE
                         ? w->content[b]
                         : got[b].place - COW_PLACE_FIRST;

      w->wrong += value != w->then[e][b];
    }
  }
  free (got);
  for (unsigned b = 0; b < w->blocks; b += 1 + draw (w, w->blocks)) {
    uint32_t epoch = 1 + draw (w, w->epoch), many[300];
    unsigned n = 1 + draw (w, w->blocks - b < 300 ? w->blocks - b : 300);

    cow_map_predecessors (w->map, w->base + b, n, epoch, many);
    for (unsigned i = 0; i < n; i++)
      w->wrong += many[i] != predecessor (w->map, w->base + b + i, epoch);
  }
  for (uint64_t r = 0; r < cow_map_regions (w->map); r++)
    cow_map_sweep (w->map, r, &s);
  cr_assert_eq (cow_map_verify (w->map), 0, "the tree is damaged");
}

struct shape {
  char name[40];
  uint64_t base;
  unsigned blocks, ops;
};

static void
free_shapes (struct criterion_test_params *params)
{
  cr_free (params->params);
}

ParameterizedTestParameters (map, model)
{
  static const struct shape shapes[] = {
    { "few blocks, many epochs", 0, 7, 20000 },
    { "over the end of a region", COW_REGION_BLOCKS - 300, 600, 60000 },
    { "many blocks", 5, 20000, 60000 },
  };
  struct shape *param = cr_malloc (sizeof shapes);

  memcpy (param, shapes, sizeof shapes);
  return cr_make_param_array (struct shape, param, 3, free_shapes);
}

ParameterizedTest (struct shape *shape, map, model, .timeout = 400)
{
  struct world w = {
    .blocks = shape->blocks,
    .base = shape->base,
    .epoch = 1,
  };
  const char *seed = getenv ("COWSET_TEST_SEED");

  w.state = seed ? strtoull (seed, NULL, 0)
                 : (uint64_t) time (NULL) * 1000003 + (uint64_t) getpid ();
  printf ("map-model: COWSET_TEST_SEED=%llu (%s)\n",
          (unsigned long long) w.state, shape->name);
  fflush (stdout);
  cr_assert_eq (cow_arena_init (&w.arena, 64 << 20), 0);
  cr_assert_eq (cow_map_new (&w.arena, w.base + w.blocks, &w.map), 0);
  w.content = calloc (w.blocks, sizeof *w.content);
  w.touched = calloc (w.blocks, sizeof *w.touched);

  for (unsigned i = 0; i < shape->ops; i++) {
    unsigned op = draw (&w, 1000);

    if (op < 975) {
      unsigned b = draw (&w, w.blocks), n = draw (&w, 4) ? 1 : draw (&w, 64);

      for (; n > 0 && b < w.blocks; n--, b++)
        touch (&w, b, i + 1);
    }
    else if (op < 988 && w.epoch + 1 < EPOCHS)
      commit (&w);
    else {
      uint32_t e = 1 + draw (&w, w.epoch);

      if (w.live[e]) {
        w.live[e] = false;
        free (w.then[e]);
        if (draw (&w, 3))       /* else it is swept with the next one */
          sweep (&w);
      }
    }
    if (i % 4000 == 3999) {
      sweep (&w);
      check (&w);
    }
  }
  for (uint32_t e = 0; e < EPOCHS; e++)
    if (w.live[e]) {
      w.live[e] = false;
      free (w.then[e]);
    }
  sweep (&w);
  cr_expect_eq (w.wrong, 0, "%llu wrong reads", (unsigned long long) w.wrong);
  cr_expect_eq (w.garbage, 0, "%llu leaks", (unsigned long long) w.garbage);
  cr_expect_eq (w.useless, 0, "%llu useless copies",
                (unsigned long long) w.useless);
  cr_expect_gt (w.copies, 100);
  cr_expect_eq (cow_map_exceptions (w.map), 0);
  cr_expect_eq (w.arena.live, 0, "%u nodes are left", w.arena.live);
  cow_map_free (w.map);
  cow_arena_clear (&w.arena);
  free (w.content);
  free (w.touched);
}

Test (map, insert_twice_is_refused, .timeout = 10)
{
  struct cow_mapping got;
  struct cow_arena arena;
  struct cow_map *map;

  cow_arena_init (&arena, 1 << 20);
  cow_map_new (&arena, 100, &map);
  cr_expect_eq (file (map, 7, 3, 1000), 0);
  cr_expect_eq (file (map, 7, 3, 2000), -EEXIST);
  cow_map_lookup (map, 7, 1, 3, &got);
  cr_expect_eq (got.place, 1000);
  cr_expect (!cow_map_remove (map, 7, 3, 2000), "another place");
  cr_expect (cow_map_remove (map, 7, 3, 1000));
  cr_expect_eq (arena.live, 0);
  cow_map_free (map);
  cow_arena_clear (&arena);
}

Test (map, a_run_is_filed_whole_or_not_at_all, .timeout = 10)
{
  const uint64_t first = COW_REGION_BLOCKS - 3; /* over a region's end */
  const cow_place places[6] = { 300, 301, 302, 303, 304, 305 };
  struct cow_arena arena;
  struct cow_map *map;

  cow_arena_init (&arena, 1 << 20);
  cow_map_new (&arena, 2 * COW_REGION_BLOCKS, &map);
  cr_expect_eq (file (map, first + 5, 9, 1000), 0);
  cr_expect_eq (cow_map_insert (map, first, 6, 9, places), -EEXIST);
  cr_expect_eq (cow_map_exceptions (map), 1);
  cr_expect_eq (cow_map_verify (map), 0);
  cr_expect_eq (cow_map_insert (map, first, 6, 8, places), 0);
  cr_expect_eq (cow_map_exceptions (map), 7);
  cow_map_free (map);
  cow_arena_clear (&arena);
}

Test (map, bound_of_memory_is_enospc_and_changes_nothing, .timeout = 30)
{
  struct cow_arena arena;
  struct cow_map *map;
  uint64_t filed = 0;
  int rc = 0;

  cow_arena_init (&arena, 64 * COW_NODE_BYTES);
  cow_map_new (&arena, 1 << 20, &map);
  /* Scattered, so that nodes split in the middle. */
  for (uint64_t i = 0; rc == 0 && i < 100000; i++) {
    rc = file (map, i * 7919 % COW_REGION_BLOCKS, 5, 1000 + i);
    filed += rc == 0;
  }
  cr_expect_eq (rc, -ENOSPC);
  cr_expect_eq (cow_map_exceptions (map), filed);
  cr_expect_eq (cow_map_verify (map), 0);
  cow_map_free (map);
  cr_expect_eq (arena.live, 0);
  cow_arena_clear (&arena);
}

Test (map, largest_keys_and_places, .timeout = 10)
{
  const uint64_t last = UINT64_C (1) << 34;     /* 64 TiB of 4 KiB blocks */
  struct cow_mapping got[2];
  struct cow_arena arena;
  struct cow_map *map;

  cow_arena_init (&arena, 1 << 20);
  cow_map_new (&arena, last, &map);
  cr_expect_eq (file (map, last - 1, UINT32_MAX, COW_PLACE_MAX), 0);
  cr_expect_eq (file (map, last - 1, 1, COW_PLACE_ZERO), 0);
  cow_map_lookup (map, last - 2, 2, 2, got);
  cr_expect_eq (got[0].place, COW_PLACE_NONE);
  cr_expect_eq (got[1].place, COW_PLACE_MAX);
  cr_expect_eq (got[1].epoch, UINT32_MAX);
  cr_expect_eq (predecessor (map, last - 1, UINT32_MAX), UINT32_MAX);
  cr_expect_eq (predecessor (map, last - 1, UINT32_MAX - 1), 1);
  cr_expect (cow_map_region_empty (map, 0));
  cr_expect (!cow_map_region_empty (map, last - 1));
  cow_map_free (map);
  cow_arena_clear (&arena);
}

/* 24 bytes for each exception of 4 KiB at random is the promise. */
Test (map, memory_of_random_exceptions, .timeout = 200)
{
  const uint64_t blocks = UINT64_C (1) << 28;   /* 1 TiB */
  struct cow_arena arena;
  struct cow_map *map;
  uint64_t x = 1;

  cow_arena_init (&arena, UINT64_C (1) << 30);
  cow_map_new (&arena, blocks, &map);
  for (unsigned i = 0; i < 2000000; i++) {
    x = x * UINT64_C (6364136223846793005) + 1442695040888963407u;
    file (map, (x >> 20) % blocks, 1 + (x >> 60), 300 + i);
  }
  cr_expect_lt (cow_arena_bytes (&arena) / (double) cow_map_exceptions (map),
                24.0, "%.1f bytes each",
                cow_arena_bytes (&arena)
                  / (double) cow_map_exceptions (map));
  cow_map_free (map);
  cow_arena_clear (&arena);
}

Test (bits, set_test_and_ranges, .timeout = 10)
{
  struct cow_bits_budget budget = { .pages_left = 10 };
  struct cow_root *r = cow_root_new (100000, &budget);

  cr_assert (r);
  cr_expect (!cow_root_test (r, 77777));
  for (uint64_t b = 60; b < 200; b++)
    cow_root_set (r, b);
  cr_expect (cow_root_test_range (r, 60, 140));
  cr_expect (cow_root_test_range (r, 64, 128));
  cr_expect (!cow_root_test_range (r, 59, 2));
  cr_expect (!cow_root_test_range (r, 199, 2));
  cr_expect (cow_root_test_range (r, 99, 1));
  cr_expect_eq (cow_root_bytes (r), 4096);
  cow_root_free (r);
  cr_expect_eq (budget.pages_left, 10);
}

Test (bits, beyond_the_budget_bits_stay_clear, .timeout = 10)
{
  struct cow_bits_budget budget = { .pages_left = 1 };
  struct cow_root *r = cow_root_new (3 * COW_BITS_PAGE_BLOCKS, &budget);

  cow_root_set (r, COW_BITS_PAGE_BLOCKS + 1);
  cow_root_set (r, 5);
  cow_root_set (r, COW_BITS_PAGE_BLOCKS + 2);
  cr_expect (cow_root_test_range (r, COW_BITS_PAGE_BLOCKS + 1, 2));
  cr_expect (!cow_root_test (r, 5), "no page was left for it");
  cow_root_free (r);
  cr_expect_eq (budget.pages_left, 1);
}

Test (bits, the_full_root_is_full_and_stays, .timeout = 10)
{
  cr_expect (cow_root_is_full (&cow_root_full));
  cow_root_free (&cow_root_full);
  cow_root_free (NULL);
}
