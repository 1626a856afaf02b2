/* tree.c - see tree.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "map/tree.h"

#define FANOUT 42u
/* A region has at most 32768 x 2^32 keys; with nodes at least half full after
 * a split, and free-at-empty otherwise, 16 levels can't be reached by memory
 * that exists.
 */
#define DEPTH_MAX 16

struct node {
  uint16_t count;
  uint16_t level;               /* 0: leaf */
  uint32_t reserved;
  struct cow_entry e[FANOUT];
};
_Static_assert (sizeof (struct node) == COW_NODE_BYTES, "node size");

/* The way from the root to a leaf. */
struct path {
  unsigned depth;               /* nodes on it */
  uint32_t node[DEPTH_MAX];
  unsigned at[DEPTH_MAX];       /* the entry taken in each */
};

static uint64_t
make_key (uint32_t block, uint32_t epoch)
{
  return (uint64_t) block << 32 | epoch;
}

static uint64_t
key_of (const struct cow_entry *e)
{
  return make_key (e->block, e->epoch);
}

static struct node *
node_of (const struct cow_tree *t, uint32_t number)
{
  return cow_arena_node (t->arena, number);
}

/* Index of the first entry from `low` on with a key >= key; count if there is
 * none.
 */
static unsigned
lower_bound (const struct node *n, unsigned low, uint64_t key)
{
  unsigned high = n->count;

  while (low < high) {
    unsigned mid = (low + high) / 2;

    if (key_of (&n->e[mid]) < key)
      low = mid + 1;
    else
      high = mid;
  }
  return low;
}

/* The child of an inner node in whose range key lies.  The key of the first
 * entry says nothing: it may even be above the second one's.
 */
static unsigned
child_for (const struct node *n, uint64_t key)
{
  unsigned i = lower_bound (n, 1, key);

  return i < n->count && key_of (&n->e[i]) == key ? i : i - 1;
}

/* Go down to the leaf for key; at[] of the leaf is the lower bound there. */
static void
descend (const struct cow_tree *t, uint64_t key, struct path *p)
{
  uint32_t number = t->root;

  p->depth = 0;
  for (;;) {
    const struct node *n = node_of (t, number);

    assert (p->depth < DEPTH_MAX);
    p->node[p->depth] = number;
    if (n->level == 0) {
      p->at[p->depth++] = lower_bound (n, 0, key);
      return;
    }
    p->at[p->depth] = child_for (n, key);
    number = n->e[p->at[p->depth]].place_low;
    p->depth++;
  }
}

/* Move the path to the next entry after a leaf's end.  False at the end. */
static bool
next_leaf (const struct cow_tree *t, struct path *p)
{
  unsigned d = p->depth - 1;

  while (d > 0) {
    const struct node *n = node_of (t, p->node[d - 1]);

    if (p->at[d - 1] + 1 < n->count) {
      p->at[d - 1]++;
      for (; d < p->depth; d++) {
        n = node_of (t, p->node[d - 1]);
        p->node[d] = n->e[p->at[d - 1]].place_low;
        p->at[d] = 0;
      }
      return true;
    }
    d--;
  }
  return false;
}

/* The entry at the path, moved on to the next leaf if need be; NULL at the
 * end of the tree.
 */
static const struct cow_entry *
entry_at (const struct cow_tree *t, struct path *p)
{
  const struct node *n = node_of (t, p->node[p->depth - 1]);

  if (p->at[p->depth - 1] < n->count)
    return &n->e[p->at[p->depth - 1]];
  if (!next_leaf (t, p))
    return NULL;
  n = node_of (t, p->node[p->depth - 1]);
  return &n->e[0];
}

static void
put_entry (struct node *n, unsigned at, const struct cow_entry *e)
{
  assert (n->count < FANOUT && at <= n->count);
  memmove (&n->e[at + 1], &n->e[at], (n->count - at) * sizeof n->e[0]);
  n->e[at] = *e;
  n->count++;
}

/* Split the full node at depth d of the path, in its parent too where that is
 * full.  Every node that this takes was taken from the arena beforehand, so it
 * can't fail half way.
 */
static void
split (struct cow_tree *t, struct path *p, unsigned d, uint32_t *spare,
       unsigned *spares)
{
  struct node *n = node_of (t, p->node[d]);
  uint32_t right_number = spare[--*spares];
  struct node *right = node_of (t, right_number);
  /* Keys mostly grow within a region (sequential writes, new epochs of the
   * last block): then the left node stays nearly full.
   */
  bool at_end = p->at[d] + (n->level > 0) >= n->count;
  unsigned keep = at_end ? FANOUT - 2 : FANOUT / 2;
  struct cow_entry up;

  right->count = n->count - keep;
  right->level = n->level;
  right->reserved = 0;
  memcpy (right->e, &n->e[keep], right->count * sizeof n->e[0]);
  n->count = keep;
  up = right->e[0];
  up.place_high = 0;
  up.place_low = right_number;

  if (d == 0) {
    uint32_t root_number = spare[--*spares];
    struct node *root = node_of (t, root_number);

    root->count = 1;
    root->level = n->level + 1;
    root->reserved = 0;
    root->e[0] = n->e[0];
    root->e[0].place_high = 0;
    root->e[0].place_low = p->node[0];
    put_entry (root, 1, &up);
    t->root = root_number;
    return;
  }
  if (node_of (t, p->node[d - 1])->count == FANOUT) {
    unsigned at = p->at[d - 1];
    uint32_t parent = p->node[d - 1];
    struct node *pn = node_of (t, parent);

    split (t, p, d - 1, spare, spares);
    if (at >= pn->count) {
      /* The child went to the parent's new right half. */
      struct path q;

      descend (t, key_of (&up), &q);
      for (unsigned i = 0; i < q.depth; i++)
        if (node_of (t, q.node[i])->level == pn->level) {
          put_entry (node_of (t, q.node[i]), q.at[i] + 1, &up);
          return;
        }
      assert (false);
    }
    put_entry (pn, at + 1, &up);
    return;
  }
  put_entry (node_of (t, p->node[d - 1]), p->at[d - 1] + 1, &up);
}

/* Make room in the leaf for key; the path is stale afterwards. */
static int
make_room (struct cow_tree *t, struct path *p)
{
  uint32_t spare[DEPTH_MAX + 1];
  unsigned need = 0, spares = 0;

  for (unsigned d = p->depth; d-- > 0;) {
    if (node_of (t, p->node[d])->count < FANOUT)
      break;
    need++;
    if (d == 0)
      need++;
  }
  while (spares < need) {
    spare[spares] = cow_arena_take (t->arena);
    if (spare[spares] == 0) {
      while (spares > 0)
        cow_arena_give (t->arena, spare[--spares]);
      return -ENOSPC;
    }
    spares++;
  }
  split (t, p, p->depth - 1, spare, &spares);
  assert (spares == 0);
  return 0;
}

int
cow_tree_insert (struct cow_tree *t, uint32_t block, uint32_t epoch,
                 cow_place place)
{
  struct cow_entry e = {
    .epoch = epoch,
    .block = block,
    .place_high = place >> 32,
    .place_low = (uint32_t) place,
  };
  uint64_t key = make_key (block, epoch);
  struct path p;
  struct node *leaf;
  unsigned at;

  if (t->root == 0) {
    t->root = cow_arena_take (t->arena);
    if (t->root == 0)
      return -ENOSPC;
    leaf = node_of (t, t->root);
    leaf->count = 0;
    leaf->level = 0;
    leaf->reserved = 0;
  }
  descend (t, key, &p);
  leaf = node_of (t, p.node[p.depth - 1]);
  at = p.at[p.depth - 1];
  if (at < leaf->count && key_of (&leaf->e[at]) == key)
    return -EEXIST;
  if (leaf->count == FANOUT) {
    int rc = make_room (t, &p);

    if (rc < 0)
      return rc;
    descend (t, key, &p);
    leaf = node_of (t, p.node[p.depth - 1]);
    at = p.at[p.depth - 1];
  }
  put_entry (leaf, at, &e);
  return 0;
}

/* Take an entry out of the node at depth d, and the node out of its parent
 * when it is empty then.
 */
static void
drop_entry (struct cow_tree *t, struct path *p, unsigned d)
{
  struct node *n = node_of (t, p->node[d]);
  unsigned at = p->at[d];

  memmove (&n->e[at], &n->e[at + 1], (n->count - at - 1) * sizeof n->e[0]);
  if (--n->count > 0)
    return;
  cow_arena_give (t->arena, p->node[d]);
  if (d == 0)
    t->root = 0;
  else
    drop_entry (t, p, d - 1);
}

bool
cow_tree_remove (struct cow_tree *t, uint32_t block, uint32_t epoch,
                 cow_place place)
{
  const struct cow_entry *e;
  struct path p;

  if (t->root == 0)
    return false;
  descend (t, make_key (block, epoch), &p);
  e = entry_at (t, &p);
  if (e == NULL || key_of (e) != make_key (block, epoch)
      || cow_entry_place (e) != place)
    return false;
  drop_entry (t, &p, p.depth - 1);
  return true;
}

static uint32_t
predecessor (struct cow_tree *t, uint32_t block, uint32_t epoch)
{
  struct path p;

  /* The last key <= (block, epoch) is one before the first key above it.  The
   * leaf for a key also holds the largest smaller one unless the leaf's first
   * entry is above it (an emptied neighbour can cause that): then the one
   * before is at the end of the leaf before.
   */
  descend (t, make_key (block, epoch) + 1, &p);
  for (unsigned d = p.depth; d-- > 0;) {
    const struct node *n;

    if (p.at[d] == 0)
      continue;
    n = node_of (t, p.node[d]);
    if (n->level > 0) {
      uint32_t number = n->e[p.at[d] - 1].place_low;

      while (node_of (t, number)->level > 0) {
        const struct node *inner = node_of (t, number);

        number = inner->e[inner->count - 1].place_low;
      }
      n = node_of (t, number);
      return n->e[n->count - 1].block == block ? n->e[n->count - 1].epoch : 0;
    }
    return n->e[p.at[d] - 1].block == block ? n->e[p.at[d] - 1].epoch : 0;
  }
  return 0;
}

void
cow_tree_predecessors (struct cow_tree *t, uint32_t first, unsigned n,
                       uint32_t epoch, uint32_t *out)
{
  const struct cow_entry *e;
  unsigned steps = 0;
  struct path p;

  if (t->root == 0)
    return;
  if (n > 1) {
    /* A walk over the blocks' entries, unless they have very many: the last
     * one that fits is the one, as they come in order.
     */
    descend (t, make_key (first, 0), &p);
    while ((e = entry_at (t, &p)) != NULL && e->block < first + n
           && ++steps < 4 * n) {
      if (e->epoch <= epoch)
        out[e->block - first] = e->epoch;
      p.at[p.depth - 1]++;
    }
    if (steps < 4 * n)
      return;
  }
  for (unsigned i = 0; i < n; i++)
    out[i] = predecessor (t, first + i, epoch);
}

void
cow_tree_lookup (struct cow_tree *t, uint32_t first, unsigned n,
                 uint32_t epoch, struct cow_mapping *out)
{
  const struct cow_entry *e = NULL;
  struct path p;

  memset (out, 0, n * sizeof *out);
  if (t->root == 0 || n == 0)
    return;
  descend (t, make_key (first, epoch), &p);
  e = entry_at (t, &p);
  while (e != NULL && e->block < first + n) {
    uint32_t block = e->block;
    unsigned steps = 0;

    if (e->epoch < epoch) {
      /* Reached by stepping, and too old: down to the right one. */
      descend (t, make_key (block, epoch), &p);
      e = entry_at (t, &p);
      continue;
    }
    out[block - first].place = cow_entry_place (e);
    out[block - first].epoch = e->epoch;
    /* On to the next block: a few steps, else down from the root again. */
    do {
      p.at[p.depth - 1]++;
      e = entry_at (t, &p);
    } while (e != NULL && e->block == block && ++steps < 8);
    if (e != NULL && e->block == block) {
      descend (t, make_key (block + 1, epoch), &p);
      e = entry_at (t, &p);
    }
  }
}

bool
cow_cursor_next (struct cow_tree *t, struct cow_cursor *at,
                 struct cow_entry *out)
{
  const struct cow_entry *e;
  struct path p;

  if (t->root == 0)
    return false;
  descend (t, at->next_key, &p);
  e = entry_at (t, &p);
  if (e == NULL)
    return false;
  *out = *e;
  at->next_key = key_of (e) + 1;
  return true;
}

static void
clear_node (struct cow_tree *t, uint32_t number)
{
  const struct node *n = node_of (t, number);

  if (n->level > 0)
    for (unsigned i = 0; i < n->count; i++)
      clear_node (t, n->e[i].place_low);
  cow_arena_give (t->arena, number);
}

void
cow_tree_clear (struct cow_tree *t)
{
  if (t->root != 0)
    clear_node (t, t->root);
  t->root = 0;
}

static int
verify_node (const struct cow_tree *t, uint32_t number, unsigned level,
             uint64_t low, uint64_t high, uint64_t *count)
{
  const struct node *n = node_of (t, number);

  if (n->level != level || n->count == 0 || n->count > FANOUT)
    return -EUCLEAN;
  for (unsigned i = 0; i < n->count; i++) {
    uint64_t key = key_of (&n->e[i]);

    if (i > (level > 0) && key <= key_of (&n->e[i - 1]))
      return -EUCLEAN;
    if (level == 0) {
      if (key < low || key >= high)
        return -EUCLEAN;
      ++*count;
    }
    else {
      int rc = verify_node (
        t, n->e[i].place_low, level - 1, i == 0 ? low : key,
        i + 1 < n->count ? key_of (&n->e[i + 1]) : high, count);

      if (rc < 0)
        return rc;
    }
  }
  return 0;
}

int
cow_tree_verify (struct cow_tree *t, uint64_t *count)
{
  *count = 0;
  if (t->root == 0)
    return 0;
  return verify_node (t, t->root, node_of (t, t->root)->level, 0, UINT64_MAX,
                      count);
}
