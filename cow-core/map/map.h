/* map.h - where the old data is: (block, epoch) -> place.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One map for each volume, for all of its snapshots.  An exception (b, e) says
 * where the data lies that block b had when the first write admitted in epoch
 * e came to it.  A snapshot of epoch s reads b from the first exception of b
 * with an epoch >= s, and from the origin if there is none.
 *
 * An exception (b, e) whose predecessor for b is at epoch p (0 if it has none)
 * serves the snapshots s with p < s <= e.  One that serves nobody is garbage.
 *
 * The volume is cut into regions of 32,768 blocks, each with a B+-tree of its
 * own under one of a few locks.  A node is 512 bytes with up to 42 entries of
 * 12 bytes; nodes are given back when they are empty, never merged before
 * (free-at-empty: Johnson and Shasha, "B-trees with inserts and deletes: why
 * free-at-empty is better than merge-at-half").  Nodes come from an arena of
 * bounded size, whose exhaustion is -ENOSPC: it counts as a full store.
 *
 * Threads: any.  A lookup over several blocks is atomic for each region.
 * No lock is held when a function returns; none of them does I/O.
 */
#ifndef COW_MAP_MAP_H
#define COW_MAP_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "map/arena.h"

/* 48 bits: what the store makes of it, except for these two. */
typedef uint64_t cow_place;
#define COW_PLACE_NONE ((cow_place) 0)  /* no exception: read the origin */
#define COW_PLACE_ZERO ((cow_place) 1)  /* the old data was zeroes */
#define COW_PLACE_FIRST ((cow_place) 256)
#define COW_PLACE_MAX ((UINT64_C (1) << 48) - 1)

#define COW_REGION_BLOCKS 32768u

struct cow_map;

int cow_map_new (struct cow_arena *arena, uint64_t blocks,
                 struct cow_map **out);
/* Gives all nodes back; what the places stood for is the caller's matter. */
void cow_map_free (struct cow_map *m);

/* File exceptions for n blocks from first on.  -EEXIST: there is one at (block,
 * epoch) already; -ENOSPC: the arena is exhausted.  On failure none was filed.
 */
int cow_map_insert (struct cow_map *m, uint64_t first, unsigned n,
                    uint32_t epoch, const cow_place *places);

/* Remove (block, epoch) if it is at this place.  Returns whether it was. */
bool cow_map_remove (struct cow_map *m, uint64_t block, uint32_t epoch,
                     cow_place place);

/* For each of n blocks from first on, the newest epoch <= epoch that it has an
 * exception in, 0 if none.  A region without any exception is answered without
 * its lock: the caller has the blocks to itself.
 */
void cow_map_predecessors (struct cow_map *m, uint64_t first, unsigned n,
                           uint32_t epoch, uint32_t *out);

struct cow_mapping {
  cow_place place;              /* COW_PLACE_NONE: none */
  uint32_t epoch;
};

/* For each of n blocks from first on, the first exception with an epoch >=
 * epoch.
 */
void cow_map_lookup (struct cow_map *m, uint64_t first, unsigned n,
                     uint32_t epoch, struct cow_mapping *out);

/* Is there any exception at all in [first, first + n) for that epoch? A hint
 * without a lock: false may be outdated, true may be too.
 */
bool cow_map_region_empty (struct cow_map *m, uint64_t block);

/* Examine the exceptions of one region in order of (block, epoch), and remove
 * those for which serves() says no.  It is told the predecessor's epoch (0 if
 * none) among those that stay, and must not block.  freed() is called without
 * a lock for each that was removed.  The region's lock is given up every now
 * and then, so what is filed meanwhile may be seen or not.
 */
struct cow_sweep {
  bool (*serves) (void *opaque, uint32_t predecessor, uint32_t epoch);
  void (*freed) (void *opaque, uint64_t block, cow_place place);
  void *opaque;
};
void cow_map_sweep (struct cow_map *m, uint64_t region,
                    const struct cow_sweep *sweep);
uint64_t cow_map_regions (const struct cow_map *m);

/* Where a walk over a region is; zeroed: at its beginning. */
struct cow_walk {
  uint64_t next_key;
};
/* One exception of a walk. */
struct cow_exception {
  uint64_t block;
  uint32_t epoch;
  cow_place place;
};
/* Up to room exceptions of a region, in order of (block, epoch), from where the
 * walk is.  How many; 0 at the end.  What is filed or removed between two calls
 * may be seen or not.
 */
unsigned cow_map_walk (struct cow_map *m, uint64_t region, struct cow_walk *at,
                       struct cow_exception *out, unsigned room);

uint64_t cow_map_exceptions (const struct cow_map *m);

/* Structure of every region: order, counts, depth.  0 or -EUCLEAN; for tests
 * and the checker, with nobody else at work.
 */
int cow_map_verify (struct cow_map *m);

#endif /* COW_MAP_MAP_H */
