/* tree.h - the B+-tree of one region of a map.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Keys are (block within the region, epoch), values 48-bit places; both kinds
 * of node have entries of 12 bytes.  In an inner node the entry's key is the
 * smallest key that its child may hold (the first entry's counts as minus
 * infinity), and its low word is the child.  The caller holds the region's
 * lock.
 */
#ifndef COW_MAP_TREE_H
#define COW_MAP_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "map/map.h"

struct cow_entry {
  uint32_t epoch;
  uint16_t block;
  uint16_t place_high;
  uint32_t place_low;           /* inner node: the child */
};

struct cow_tree {
  struct cow_arena *arena;
  uint32_t root;                /* 0: empty */
};

static inline cow_place
cow_entry_place (const struct cow_entry *e)
{
  return (uint64_t) e->place_high << 32 | e->place_low;
}

int cow_tree_insert (struct cow_tree *t, uint32_t block, uint32_t epoch,
                     cow_place place);
bool cow_tree_remove (struct cow_tree *t, uint32_t block, uint32_t epoch,
                      cow_place place);
/* out[] has been zeroed. */
void cow_tree_predecessors (struct cow_tree *t, uint32_t first, unsigned n,
                            uint32_t epoch, uint32_t *out);
void cow_tree_lookup (struct cow_tree *t, uint32_t first, unsigned n,
                      uint32_t epoch, struct cow_mapping *out);
void cow_tree_clear (struct cow_tree *t);
int cow_tree_verify (struct cow_tree *t, uint64_t *count);

/* A walk in order of the keys that survives changes made between its steps:
 * it remembers the last key, not a node.
 */
struct cow_cursor {
  uint64_t next_key;
  uint32_t last_block, last_epoch; /* the walker's own */
};
#define COW_CURSOR_INIT { 0, UINT32_MAX, 0 }
bool cow_cursor_next (struct cow_tree *t, struct cow_cursor *at,
                      struct cow_entry *out);

#endif /* COW_MAP_TREE_H */
