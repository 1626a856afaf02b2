/* bits.h - which blocks need no copy any more in one epoch of a volume.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One bit for each block, clear at first.  A set bit says: whatever a write
 * admitted in this epoch would have to preserve of this block has been
 * preserved.  A clear bit says nothing: the map has to be asked.  So a bit may
 * be lost, but never invented.
 *
 * The bitmap is address space, of which only the pages with a set bit take
 * memory (and readers of others see the system's page of zeroes).  That memory
 * is bounded: where the bound is reached, a bit in a new page is not kept.
 * A root without a bitmap has all bits set: the one of every volume without a
 * snapshot.
 *
 * Threads: any; setting is release and testing acquire, so who sees a bit
 * sees what was done before it was set.
 */
#ifndef COW_MAP_BITS_H
#define COW_MAP_BITS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/sync.h"

#define COW_BITS_PAGE_BLOCKS 32768u     /* blocks for each 4 KiB of bitmap */

/* Pages that all roots of an engine may keep together. */
struct cow_bits_budget {
  _Atomic uint64_t pages_left;
};

struct cow_root {
  _Atomic uint64_t *words;      /* NULL: all bits are set */
  _Atomic uint8_t *kept;        /* one byte for each page of words */
  uint64_t blocks;
  struct cow_bits_budget *budget;
  _Atomic uint64_t pages;       /* taken from the budget */
};

/* A root with all bits clear.  NULL: no memory. */
struct cow_root *cow_root_new (uint64_t blocks,
                               struct cow_bits_budget *budget);
/* The root with all bits set: one for everybody, never freed. */
extern struct cow_root cow_root_full;
/* Of NULL or cow_root_full: nothing. */
void cow_root_free (struct cow_root *r);

/* Memory of the bitmap in bytes. */
uint64_t cow_root_bytes (const struct cow_root *r);

static inline bool
cow_root_is_full (const struct cow_root *r)
{
  return r->words == NULL;
}

static inline bool
cow_root_test (const struct cow_root *r, uint64_t block)
{
  base_step ();
  return atomic_load_explicit (&r->words[block / 64], memory_order_acquire)
           >> (block % 64)
         & 1;
}

/* Are all bits of [first, first + n) set? */
bool cow_root_test_range (const struct cow_root *r, uint64_t first,
                          uint64_t n);

void cow_root_set (struct cow_root *r, uint64_t block);

#endif /* COW_MAP_BITS_H */
