/* map.c - see map.h.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A region's tree (tree.c) is under the lock of its stripe; the counters are
 * atomic.  No two stripes are ever held together.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "map/map.h"
#include "map/tree.h"

#define STRIPES 64u

struct cow_map {
  struct cow_arena *arena;
  uint64_t blocks, regions;
  size_t roots_bytes;
  /* A root's region is in the stripe of its number modulo STRIPES, and the
   * root is written under that stripe's lock.
   */
  _Atomic uint32_t *roots;
  _Atomic uint64_t exceptions;
  struct {
    _Alignas (COW_CACHE_LINE) cow_mutex lock;
  } stripe[STRIPES];
};

static cow_mutex *
lock_of (struct cow_map *m, uint64_t region)
{
  return &m->stripe[region % STRIPES].lock;
}

static struct cow_tree
tree_of (struct cow_map *m, uint64_t region)
{
  return (struct cow_tree) {
    .arena = m->arena,
    .root = atomic_load_explicit (&m->roots[region], memory_order_relaxed),
  };
}

static void
store_root (struct cow_map *m, uint64_t region, const struct cow_tree *t)
{
  atomic_store_explicit (&m->roots[region], t->root, memory_order_release);
}

int
cow_map_new (struct cow_arena *arena, uint64_t blocks, struct cow_map **out)
{
  struct cow_map *m = aligned_alloc (COW_CACHE_LINE, sizeof *m);

  if (m == NULL)
    return -ENOMEM;
  m->arena = arena;
  m->blocks = blocks;
  m->regions = (blocks + COW_REGION_BLOCKS - 1) / COW_REGION_BLOCKS;
  /* Mapped, not allocated: a volume of 64 TiB has 2 MiB of roots, of which
   * only the pages that are used should take memory.
   */
  m->roots_bytes = (m->regions + 1) * sizeof *m->roots;
  m->roots = mmap (NULL, m->roots_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (m->roots == MAP_FAILED) {
    free (m);
    return -ENOMEM;
  }
  atomic_init (&m->exceptions, 0);
  for (unsigned i = 0; i < STRIPES; i++)
    cow_mutex_init (&m->stripe[i].lock);
  *out = m;
  return 0;
}

void
cow_map_free (struct cow_map *m)
{
  if (m == NULL)
    return;
  for (uint64_t r = 0; r < m->regions; r++) {
    struct cow_tree t = tree_of (m, r);

    cow_tree_clear (&t);
  }
  for (unsigned i = 0; i < STRIPES; i++)
    cow_mutex_destroy (&m->stripe[i].lock);
  munmap (m->roots, m->roots_bytes);
  free (m);
}

int
cow_map_insert (struct cow_map *m, uint64_t block, uint32_t epoch,
                cow_place place)
{
  uint64_t region = block / COW_REGION_BLOCKS;
  struct cow_tree t;
  int rc;

  assert (block < m->blocks && place != COW_PLACE_NONE
          && place <= COW_PLACE_MAX);
  LOCK_FOR_SCOPE (lock_of (m, region));
  t = tree_of (m, region);
  rc = cow_tree_insert (&t, block % COW_REGION_BLOCKS, epoch, place);
  store_root (m, region, &t);
  if (rc == 0)
    atomic_fetch_add_explicit (&m->exceptions, 1, memory_order_relaxed);
  return rc;
}

bool
cow_map_remove (struct cow_map *m, uint64_t block, uint32_t epoch,
                cow_place place)
{
  uint64_t region = block / COW_REGION_BLOCKS;
  struct cow_tree t;
  bool removed;
  LOCK_FOR_SCOPE (lock_of (m, region));

  t = tree_of (m, region);
  removed = cow_tree_remove (&t, block % COW_REGION_BLOCKS, epoch, place);
  store_root (m, region, &t);
  if (removed)
    atomic_fetch_sub_explicit (&m->exceptions, 1, memory_order_relaxed);
  return removed;
}

uint32_t
cow_map_predecessor (struct cow_map *m, uint64_t block, uint32_t epoch)
{
  uint64_t region = block / COW_REGION_BLOCKS;
  struct cow_tree t;
  LOCK_FOR_SCOPE (lock_of (m, region));

  t = tree_of (m, region);
  return cow_tree_predecessor (&t, block % COW_REGION_BLOCKS, epoch);
}

void
cow_map_lookup (struct cow_map *m, uint64_t first, unsigned n, uint32_t epoch,
                struct cow_mapping *out)
{
  assert (first + n <= m->blocks);
  while (n > 0) {
    uint64_t region = first / COW_REGION_BLOCKS;
    uint32_t in_region = first % COW_REGION_BLOCKS;
    unsigned count = COW_REGION_BLOCKS - in_region;
    struct cow_tree t;

    if (count > n)
      count = n;
    cow_mutex_lock (lock_of (m, region));
    t = tree_of (m, region);
    cow_tree_lookup (&t, in_region, count, epoch, out);
    cow_mutex_unlock (lock_of (m, region));
    first += count;
    n -= count;
    out += count;
  }
}

bool
cow_map_region_empty (struct cow_map *m, uint64_t block)
{
  return atomic_load_explicit (&m->roots[block / COW_REGION_BLOCKS],
                               memory_order_acquire)
         == 0;
}

#define SWEEP_BATCH 64

/* One stretch under the lock: look at up to a few thousand entries, remember
 * at most SWEEP_BATCH that serve nobody, and remove them.
 */
static bool
sweep_some (struct cow_map *m, uint64_t region, const struct cow_sweep *sweep,
            struct cow_cursor *at, struct cow_entry *gone, unsigned *count)
{
  struct cow_entry e;
  unsigned looked = 0;
  bool more = true;
  struct cow_tree t;
  LOCK_FOR_SCOPE (lock_of (m, region));

  t = tree_of (m, region);
  *count = 0;
  while (*count < SWEEP_BATCH && looked++ < 2048) {
    more = cow_cursor_next (&t, at, &e);
    if (!more)
      break;
    if (e.block != at->last_block)
      at->last_epoch = 0;
    at->last_block = e.block;
    if (sweep->serves (sweep->opaque, at->last_epoch, e.epoch))
      at->last_epoch = e.epoch;
    else
      gone[(*count)++] = e;
  }
  for (unsigned i = 0; i < *count; i++)
    cow_tree_remove (&t, gone[i].block, gone[i].epoch,
                     cow_entry_place (&gone[i]));
  store_root (m, region, &t);
  return more;
}

void
cow_map_sweep (struct cow_map *m, uint64_t region,
               const struct cow_sweep *sweep)
{
  struct cow_entry gone[SWEEP_BATCH];
  struct cow_cursor at = COW_CURSOR_INIT;
  unsigned count;
  bool more;

  if (cow_map_region_empty (m, region * COW_REGION_BLOCKS))
    return;
  do {
    more = sweep_some (m, region, sweep, &at, gone, &count);
    atomic_fetch_sub_explicit (&m->exceptions, count, memory_order_relaxed);
    for (unsigned i = 0; i < count; i++)
      sweep->freed (sweep->opaque,
                    region * COW_REGION_BLOCKS + gone[i].block,
                    cow_entry_place (&gone[i]));
  } while (more);
}

uint64_t
cow_map_regions (const struct cow_map *m)
{
  return m->regions;
}

uint64_t
cow_map_exceptions (const struct cow_map *m)
{
  return atomic_load_explicit (&m->exceptions, memory_order_relaxed);
}

int
cow_map_verify (struct cow_map *m)
{
  uint64_t total = 0;

  for (uint64_t r = 0; r < m->regions; r++) {
    struct cow_tree t = tree_of (m, r);
    uint64_t count = 0;
    int rc = cow_tree_verify (&t, &count);

    if (rc < 0)
      return rc;
    total += count;
  }
  return total == cow_map_exceptions (m) ? 0 : -EUCLEAN;
}
