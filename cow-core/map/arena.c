/* arena.c - see arena.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "map/arena.h"

int
cow_arena_init (struct cow_arena *a, uint64_t bytes_max)
{
  uint64_t nodes = bytes_max / COW_NODE_BYTES;

  if (nodes < 64)
    nodes = 64;
  if (nodes > UINT32_MAX)
    nodes = UINT32_MAX;
  a->base = mmap (NULL, nodes * COW_NODE_BYTES, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (a->base == MAP_FAILED) {
    a->base = NULL;
    return -ENOMEM;
  }
  a->limit = nodes;
  a->used = 0;
  a->free_head = 0;
  a->live = 0;
  cow_mutex_init (&a->lock);
  return 0;
}

void
cow_arena_clear (struct cow_arena *a)
{
  if (a->base == NULL)
    return;
  assert (a->live == 0);
  munmap (a->base, (uint64_t) a->limit * COW_NODE_BYTES);
  a->base = NULL;
  cow_mutex_destroy (&a->lock);
}

uint32_t
cow_arena_take (struct cow_arena *a)
{
  uint32_t node;
  LOCK_FOR_SCOPE (&a->lock);

  node = a->free_head;
  if (node != 0)
    memcpy (&a->free_head, cow_arena_node (a, node), sizeof a->free_head);
  else if (a->used + 1 < a->limit)
    node = ++a->used;
  else
    return 0;
  a->live++;
  return node;
}

void
cow_arena_give (struct cow_arena *a, uint32_t node)
{
  LOCK_FOR_SCOPE (&a->lock);

  assert (node != 0 && node <= a->used);
  memcpy (cow_arena_node (a, node), &a->free_head, sizeof a->free_head);
  a->free_head = node;
  a->live--;
}

uint64_t
cow_arena_bytes (struct cow_arena *a)
{
  LOCK_FOR_SCOPE (&a->lock);

  return (uint64_t) a->used * COW_NODE_BYTES;
}
