/* arena.h - nodes of fixed size, bounded in number, named by 32-bit numbers.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Address space for all nodes is taken at once, memory only when a node is
 * first used.  Node 0 is never given out.
 */
#ifndef COW_MAP_ARENA_H
#define COW_MAP_ARENA_H

#include <stdint.h>

#include "base/sync.h"

#define COW_NODE_BYTES 512u

struct cow_arena {
  uint8_t *base;
  uint32_t limit;               /* nodes, set at start */

  cow_mutex lock;
  uint32_t used;                /* lock: highest number ever given out */
  uint32_t free_head;           /* lock: list through the nodes' first bytes */
  uint32_t live;                /* lock */
};

/* 0 or -ENOMEM. */
int cow_arena_init (struct cow_arena *a, uint64_t bytes_max);
void cow_arena_clear (struct cow_arena *a);

/* A node with undefined content; 0 when the bound is reached. */
uint32_t cow_arena_take (struct cow_arena *a);
void cow_arena_give (struct cow_arena *a, uint32_t node);

static inline void *
cow_arena_node (const struct cow_arena *a, uint32_t node)
{
  return a->base + (uint64_t) node * COW_NODE_BYTES;
}

/* Memory in use, in bytes. */
uint64_t cow_arena_bytes (struct cow_arena *a);

#endif /* COW_MAP_ARENA_H */
