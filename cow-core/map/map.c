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
#include <string.h>
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

/* How many of n blocks from first on lie in the region of the first. */
static unsigned
in_one_region (uint64_t first, unsigned n)
{
  unsigned room = COW_REGION_BLOCKS - first % COW_REGION_BLOCKS;

  return n < room ? n : room;
}

static int
insert_in_region (struct cow_map *m, uint64_t first, unsigned n,
                  uint32_t epoch, const cow_place *places)
{
  uint64_t region = first / COW_REGION_BLOCKS;
  uint32_t block = first % COW_REGION_BLOCKS;
  unsigned i;
  struct cow_tree t;
  int rc = 0;
  LOCK_FOR_SCOPE (lock_of (m, region));

  t = tree_of (m, region);
  for (i = 0; rc == 0 && i < n; i++) {
    assert (places[i] != COW_PLACE_NONE && places[i] <= COW_PLACE_MAX);
    rc = cow_tree_insert (&t, block + i, epoch, places[i]);
  }
  if (rc < 0)
    for (i--; i-- > 0;)
      cow_tree_remove (&t, block + i, epoch, places[i]);
  else
    atomic_fetch_add_explicit (&m->exceptions, n, memory_order_relaxed);
  store_root (m, region, &t);
  return rc;
}

int
cow_map_insert (struct cow_map *m, uint64_t first, unsigned n, uint32_t epoch,
                const cow_place *places)
{
  unsigned done = 0;

  assert (first + n <= m->blocks);
  while (done < n) {
    unsigned count = in_one_region (first + done, n - done);
    int rc = insert_in_region (m, first + done, count, epoch, places + done);

    if (rc < 0) {
      while (done-- > 0)
        cow_map_remove (m, first + done, epoch, places[done]);
      return rc;
    }
    done += count;
  }
  return 0;
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

void
cow_map_predecessors (struct cow_map *m, uint64_t first, unsigned n,
                      uint32_t epoch, uint32_t *out)
{
  assert (first + n <= m->blocks);
  memset (out, 0, n * sizeof *out);
  while (n > 0) {
    uint64_t region = first / COW_REGION_BLOCKS;
    unsigned count = in_one_region (first, n);

    if (!cow_map_region_empty (m, first)) {
      struct cow_tree t;
      LOCK_FOR_SCOPE (lock_of (m, region));

      t = tree_of (m, region);
      cow_tree_predecessors (&t, first % COW_REGION_BLOCKS, count, epoch, out);
    }
    first += count;
    n -= count;
    out += count;
  }
}

void
cow_map_lookup (struct cow_map *m, uint64_t first, unsigned n, uint32_t epoch,
                struct cow_mapping *out)
{
  assert (first + n <= m->blocks);
  while (n > 0) {
    uint64_t region = first / COW_REGION_BLOCKS;
    unsigned count = in_one_region (first, n);
    struct cow_tree t;

    cow_mutex_lock (lock_of (m, region));
    t = tree_of (m, region);
    cow_tree_lookup (&t, first % COW_REGION_BLOCKS, count, epoch, out);
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

unsigned
cow_map_walk (struct cow_map *m, uint64_t region, struct cow_walk *at,
              struct cow_exception *out, unsigned room)
{
  struct cow_cursor cursor = COW_CURSOR_INIT;
  struct cow_entry e;
  struct cow_tree t;
  unsigned n = 0;
  LOCK_FOR_SCOPE (lock_of (m, region));

  t = tree_of (m, region);
  cursor.next_key = at->next_key;
  while (n < room && cow_cursor_next (&t, &cursor, &e))
    out[n++] = (struct cow_exception) {
      .block = region * COW_REGION_BLOCKS + e.block,
      .epoch = e.epoch,
      .place = cow_entry_place (&e),
    };
  at->next_key = cursor.next_key;
  return n;
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
