/* image.c - a sparse array of bytes: a tree of pointers, four levels of 512.
 * SPDX-License-Identifier: BSD-3-Clause
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

#define LEVELS 4
#define FAN_BITS 9
#define FAN (1 << FAN_BITS)
#define CHUNK_BITS 12
#define BYTES_MAX (UINT64_C (1) << (CHUNK_BITS + LEVELS * FAN_BITS))

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

/* The slot of a chunk.  To change it (own), or to look: NULL then if a node
 * above it is missing.
 */
static struct chunk **
slot_of (void **root, uint64_t chunk, bool own)
{
  void **p = root;

  assert (chunk < BYTES_MAX >> CHUNK_BITS);
  for (unsigned level = LEVELS; level-- > 0;) {
    if (own)
      own_node (p, level + 1);
    else if (*p == NULL)
      return NULL;
    p = &((struct node *) *p)->slot[index_at (chunk, level)];
  }
  return (struct chunk **) p;
}

static const struct chunk *
chunk_at (const struct sim_image *im, uint64_t chunk)
{
  void *root = im->root;
  struct chunk **slot = slot_of (&root, chunk, false);

  return slot ? *slot : NULL;
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
  while (chunk < limit) {
    const struct node *n = im->root;
    unsigned level = LEVELS;

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

    memcpy (data_chunk (im, slot_of (&im->root, offset >> CHUNK_BITS, true))
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
    slot = slot_of (&im->root, chunk, true);
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
  while (len > 0) {
    const size_t n = piece (offset, len);
    struct chunk **slot = slot_of (&im->root, offset >> CHUNK_BITS, true);

    if (*slot == NULL)
      put_away (im, slot, &unwritten);
    offset += n;
    len -= n;
  }
}

uint64_t
sim_image_missing (const struct sim_image *im, uint64_t offset, uint64_t len)
{
  uint64_t missing = 0;

  while (len > 0) {
    const size_t n = piece (offset, len);

    missing += chunk_at (im, offset >> CHUNK_BITS) == NULL;
    offset += n;
    len -= n;
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
    if (has_data (im, chunk)) {
      *offset = chunk << CHUNK_BITS;
      *data = chunk_at (im, chunk)->data;
      return true;
    }
    chunk++;
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
  drop (im->root, LEVELS);
  *im = (struct sim_image) { NULL, 0 };
}
