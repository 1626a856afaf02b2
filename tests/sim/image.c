/* image.c - a sparse array of bytes: a tree of pointers, of nodes of 64.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A tree has as many levels as what was written needs: most are small, and
 * copied by the million.
 *
 * Nodes and chunks are shared between copies, and counted; who changes one
 * that is shared makes it his own first.
 */
#include <config.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "sim/image.h"

#define LEVELS_MAX 6
#define FAN_BITS 6
#define FAN (1 << FAN_BITS)
#define CHUNK_BITS 12
#define BYTES_MAX (UINT64_C (1) << (CHUNK_BITS + LEVELS_MAX * FAN_BITS))

/* Nodes and chunks begin with it. */
struct shared {
  uint32_t owners;
};

struct node {
  struct shared shared;
  void *slot[FAN];
};

struct chunk {
  struct shared shared;
  uint8_t data[SIM_CHUNK_BYTES];
};

/* What the slots of the lowest level point to for space without data. */
static struct chunk unwritten;

static void *
must_alloc (size_t size)
{
  void *p = calloc (1, size);

  if (p == NULL)
    abort ();
  return p;
}

static void
share (void *p)
{
  if (p != NULL && p != &unwritten)
    ((struct shared *) p)->owners++;
}

/* Give up one ownership of what is at this level: 0 is a chunk. */
static void
drop (void *p, unsigned level)
{
  struct shared *shared = p;

  if (p == NULL || p == &unwritten || --shared->owners > 0)
    return;
  for (unsigned i = 0; level > 0 && i < FAN; i++)
    drop (((struct node *) p)->slot[i], level - 1);
  free (p);
}

static unsigned
index_at (uint64_t chunk, unsigned level)
{
  return (unsigned) (chunk >> (level * FAN_BITS)) & (FAN - 1);
}

/* *p is a node that only this tree has. */
static void
own_node (void **p, unsigned level)
{
  struct node *n = *p, *mine;

  if (n != NULL && n->shared.owners == 1)
    return;
  mine = must_alloc (sizeof *mine);
  if (n != NULL) {
    memcpy (mine, n, sizeof *mine);
    for (unsigned i = 0; i < FAN; i++)
      share (mine->slot[i]);
    drop (n, level);
  }
  mine->shared.owners = 1;
  *p = mine;
}

static bool
is_beyond (const struct sim_image *im, uint64_t chunk)
{
  return chunk >> (im->levels * FAN_BITS) != 0 || im->levels == 0;
}

/* The slot of a chunk, to look: NULL if a node above it is missing. */
static struct chunk **
slot_of (const struct sim_image *im, uint64_t chunk)
{
  struct node *n = im->root;

  if (is_beyond (im, chunk))
    return NULL;
  for (unsigned level = im->levels; n != NULL && --level > 0;)
    n = n->slot[index_at (chunk, level)];
  return n ? (struct chunk **) &n->slot[index_at (chunk, 0)] : NULL;
}

/* The slot of a chunk, to change it. */
static struct chunk **
own_slot (struct sim_image *im, uint64_t chunk)
{
  void **p = &im->root;

  assert (chunk < BYTES_MAX >> CHUNK_BITS);
  while (is_beyond (im, chunk)) {
    void *below = im->root;

    im->root = NULL;
    if (below != NULL) {
      own_node (&im->root, im->levels + 1);
      ((struct node *) im->root)->slot[0] = below;
    }
    im->levels++;
  }
  for (unsigned level = im->levels; level-- > 0;) {
    own_node (p, level + 1);
    p = &((struct node *) *p)->slot[index_at (chunk, level)];
  }
  return (struct chunk **) p;
}

static const struct chunk *
chunk_at (const struct sim_image *im, uint64_t chunk)
{
  struct chunk **slot = slot_of (im, chunk);

  return slot ? *slot : NULL;
}

/* How many slots, of n at most, lie side by side from that of a chunk on. */
static size_t
side_by_side (uint64_t chunk, uint64_t n)
{
  return (size_t) COW_MIN (n, FAN - (chunk & (FAN - 1)));
}

static uint64_t
chunks_of (uint64_t offset, uint64_t len)
{
  return len == 0 ? 0
                  : ((offset + len - 1) >> CHUNK_BITS) - (offset >> CHUNK_BITS)
                      + 1;
}

/* The piece of [offset, offset+len) that lies in one chunk. */
static size_t
piece (uint64_t offset, uint64_t len)
{
  const size_t room = SIM_CHUNK_BYTES - offset % SIM_CHUNK_BYTES;

  return (size_t) COW_MIN ((uint64_t) room, len);
}

/* Nothing below the first chunk that the tree does not know is missed: the
 * first chunk, from this one on, below which there is a node.
 */
static uint64_t
next_known (const struct sim_image *im, uint64_t chunk, uint64_t limit)
{
  while (chunk < limit && !is_beyond (im, chunk)) {
    const struct node *n = im->root;
    unsigned level = im->levels;

    while (n && --level > 0)
      n = n->slot[index_at (chunk, level)];
    if (n)
      return chunk;
    /* The missing node covers FAN^level chunks. */
    chunk = cow_round_down (chunk, UINT64_C (1) << (level * FAN_BITS)) +
            (UINT64_C (1) << (level * FAN_BITS));
  }
  return limit;
}

void
sim_image_read (const struct sim_image *im, uint64_t offset, void *buf,
                size_t len)
{
  uint8_t *p = buf;

  while (len > 0) {
    const size_t n = piece (offset, len);
    const struct chunk *chunk = chunk_at (im, offset >> CHUNK_BITS);

    if (chunk)
      memcpy (p, chunk->data + offset % SIM_CHUNK_BYTES, n);
    else
      memset (p, 0, n);
    p += n;
    offset += n;
    len -= n;
  }
}

/* The chunk in a slot, as one that can be written to. */
static uint8_t *
data_chunk (struct sim_image *im, struct chunk **slot)
{
  struct chunk *old = *slot;

  if (old != NULL && old != &unwritten && old->shared.owners == 1)
    return old->data;
  im->chunks += old == NULL;
  *slot = must_alloc (sizeof **slot);
  (*slot)->shared.owners = 1;
  if (old != NULL && old != &unwritten)
    memcpy ((*slot)->data, old->data, SIM_CHUNK_BYTES);
  drop (old, 0);
  return (*slot)->data;
}

void
sim_image_write (struct sim_image *im, uint64_t offset, const void *buf,
                 size_t len)
{
  const uint8_t *p = buf;

  while (len > 0) {
    const size_t n = piece (offset, len);

    memcpy (data_chunk (im, own_slot (im, offset >> CHUNK_BITS))
              + offset % SIM_CHUNK_BYTES, p, n);
    p += n;
    offset += n;
    len -= n;
  }
}

static void
put_away (struct sim_image *im, struct chunk **slot, struct chunk *instead)
{
  im->chunks += (instead != NULL);
  im->chunks -= (*slot != NULL);
  drop (*slot, 0);
  *slot = instead;
}

/* Whole chunks become `instead` (also absent ones, if that is not NULL). */
static void
blank (struct sim_image *im, uint64_t offset, uint64_t len,
       struct chunk *instead)
{
  while (len > 0) {
    const size_t n = piece (offset, len);
    const uint64_t chunk = offset >> CHUNK_BITS;
    struct chunk **slot;

    if (instead == NULL && chunk_at (im, chunk) == NULL) {
      const uint64_t next =
        next_known (im, chunk,
                    (offset + len + SIM_CHUNK_BYTES - 1) >> CHUNK_BITS)
        << CHUNK_BITS;
      /* At least the rest of a chunk that is known to be absent. */
      uint64_t skip = next > offset ? next - offset : n;

      skip = COW_MIN (COW_MAX (skip, (uint64_t) n), len);
      offset += skip;
      len -= skip;
      continue;
    }
    slot = own_slot (im, chunk);
    if (n == SIM_CHUNK_BYTES)
      put_away (im, slot, instead);
    else if (*slot && *slot != &unwritten)
      memset (data_chunk (im, slot) + offset % SIM_CHUNK_BYTES, 0, n);
    else if (*slot == NULL && instead)
      put_away (im, slot, instead);
    offset += n;
    len -= n;
  }
}

void
sim_image_punch (struct sim_image *im, uint64_t offset, uint64_t len)
{
  blank (im, offset, len, NULL);
}

void
sim_image_zero (struct sim_image *im, uint64_t offset, uint64_t len)
{
  blank (im, offset, len, &unwritten);
}

void
sim_image_allocate (struct sim_image *im, uint64_t offset, uint64_t len)
{
  uint64_t chunk = offset >> CHUNK_BITS;

  for (uint64_t left = chunks_of (offset, len), n; left > 0; left -= n) {
    struct chunk **slot = own_slot (im, chunk);

    n = side_by_side (chunk, left);
    for (size_t i = 0; i < n; i++)
      if (slot[i] == NULL)
        put_away (im, &slot[i], &unwritten);
    chunk += n;
  }
}

uint64_t
sim_image_missing (const struct sim_image *im, uint64_t offset, uint64_t len)
{
  uint64_t missing = 0, chunk = offset >> CHUNK_BITS;

  for (uint64_t left = chunks_of (offset, len), n; left > 0; left -= n) {
    struct chunk **slot = slot_of (im, chunk);

    n = side_by_side (chunk, left);
    if (slot == NULL)
      missing += n;
    for (size_t i = 0; slot != NULL && i < n; i++)
      missing += slot[i] == NULL;
    chunk += n;
  }
  return missing;
}

static bool
has_data (const struct sim_image *im, uint64_t chunk)
{
  const struct chunk *p = chunk_at (im, chunk);

  return p && p != &unwritten;
}

bool
sim_image_extent (const struct sim_image *im, uint64_t offset, uint64_t limit,
                  uint64_t *end)
{
  uint64_t chunk = offset >> CHUNK_BITS;
  const uint64_t last = (limit + SIM_CHUNK_BYTES - 1) >> CHUNK_BITS;
  const bool data = has_data (im, chunk);

  chunk++;
  while (chunk < last) {
    if (!data)
      chunk = next_known (im, chunk, last);
    if (chunk < last && has_data (im, chunk) != data)
      break;
    chunk += chunk < last;
  }
  *end = COW_MIN (chunk << CHUNK_BITS, limit);
  return data;
}

bool
sim_image_next_data (const struct sim_image *im, uint64_t *offset,
                     const uint8_t **data)
{
  const uint64_t end = BYTES_MAX >> CHUNK_BITS;
  uint64_t chunk = (*offset + SIM_CHUNK_BYTES - 1) >> CHUNK_BITS;

  while ((chunk = next_known (im, chunk, end)) < end) {
    struct chunk **slot = slot_of (im, chunk);
    const size_t n = side_by_side (chunk, end - chunk);

    for (size_t i = 0; i < n; i++)
      if (slot[i] != NULL && slot[i] != &unwritten) {
        *offset = (chunk + i) << CHUNK_BITS;
        *data = slot[i]->data;
        return true;
      }
    chunk += n;
  }
  return false;
}

void
sim_image_copy (struct sim_image *to, const struct sim_image *from)
{
  share (from->root);
  *to = *from;
}

void
sim_image_clear (struct sim_image *im)
{
  drop (im->root, im->levels);
  *im = (struct sim_image) { .root = NULL };
}
