/* image.c - a sparse array of bytes: a tree of pointers, four levels of 512.
 * SPDX-License-Identifier: BSD-3-Clause
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

/* What the slots of the lowest level point to for space without data. */
static uint8_t unwritten[SIM_CHUNK_BYTES];

struct node {
  void *slot[FAN];
};

static void *
must_alloc (size_t size)
{
  void *p = calloc (1, size);

  if (p == NULL)
    abort ();
  return p;
}

static unsigned
index_at (uint64_t chunk, unsigned level)
{
  return (unsigned) (chunk >> (level * FAN_BITS)) & (FAN - 1);
}

/* The slot of a chunk; NULL if a node above it is missing and !make. */
static uint8_t **
slot_of (void **root, uint64_t chunk, bool make)
{
  void **p = root;

  assert (chunk < BYTES_MAX >> CHUNK_BITS);
  for (unsigned level = LEVELS; level-- > 0;) {
    if (*p == NULL) {
      if (!make)
        return NULL;
      *p = must_alloc (sizeof (struct node));
    }
    p = &((struct node *) *p)->slot[index_at (chunk, level)];
  }
  return (uint8_t **) p;
}

static const uint8_t *
chunk_at (const struct sim_image *im, uint64_t chunk)
{
  void *root = im->root;
  uint8_t **slot = slot_of (&root, chunk, false);

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
    const uint8_t *chunk = chunk_at (im, offset >> CHUNK_BITS);

    if (chunk)
      memcpy (p, chunk + offset % SIM_CHUNK_BYTES, n);
    else
      memset (p, 0, n);
    p += n;
    offset += n;
    len -= n;
  }
}

/* The chunk, as one that can be written to. */
static uint8_t *
data_chunk (struct sim_image *im, uint64_t chunk)
{
  uint8_t **slot = slot_of (&im->root, chunk, true);

  if (*slot == NULL)
    im->chunks++;
  if (*slot == NULL || *slot == unwritten)
    *slot = must_alloc (SIM_CHUNK_BYTES);
  return *slot;
}

void
sim_image_write (struct sim_image *im, uint64_t offset, const void *buf,
                 size_t len)
{
  const uint8_t *p = buf;

  while (len > 0) {
    const size_t n = piece (offset, len);

    memcpy (data_chunk (im, offset >> CHUNK_BITS) + offset % SIM_CHUNK_BYTES,
            p, n);
    p += n;
    offset += n;
    len -= n;
  }
}

static void
put_away (struct sim_image *im, uint8_t **slot, uint8_t *instead)
{
  if (*slot && *slot != unwritten)
    free (*slot);
  im->chunks += (instead != NULL);
  im->chunks -= (*slot != NULL);
  *slot = instead;
}

/* Whole chunks become `instead` (also absent ones, if that is not NULL). */
static void
blank (struct sim_image *im, uint64_t offset, uint64_t len, uint8_t *instead)
{
  while (len > 0) {
    const size_t n = piece (offset, len);
    uint8_t **slot =
      slot_of (&im->root, offset >> CHUNK_BITS, instead != NULL);

    if (slot == NULL) {
      const uint64_t next =
        next_known (im, offset >> CHUNK_BITS,
                    (offset + len + SIM_CHUNK_BYTES - 1) >> CHUNK_BITS)
        << CHUNK_BITS;
      const uint64_t skip = COW_MIN (next - offset, len);

      offset += skip;
      len -= skip;
      continue;
    }
    if (n == SIM_CHUNK_BYTES)
      put_away (im, slot, instead);
    else if (*slot && *slot != unwritten)
      memset (*slot + offset % SIM_CHUNK_BYTES, 0, n);
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
  blank (im, offset, len, unwritten);
}

void
sim_image_allocate (struct sim_image *im, uint64_t offset, uint64_t len)
{
  while (len > 0) {
    const size_t n = piece (offset, len);
    uint8_t **slot = slot_of (&im->root, offset >> CHUNK_BITS, true);

    if (*slot == NULL)
      put_away (im, slot, unwritten);
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
  const uint8_t *p = chunk_at (im, chunk);

  return p && p != unwritten;
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

static void *
copy_node (const void *from, unsigned level)
{
  const struct node *n = from;
  struct node *copy;

  if (from == NULL || from == unwritten)
    return (void *) from;
  if (level == 0) {
    uint8_t *chunk = must_alloc (SIM_CHUNK_BYTES);

    memcpy (chunk, from, SIM_CHUNK_BYTES);
    return chunk;
  }
  copy = must_alloc (sizeof *copy);
  for (unsigned i = 0; i < FAN; i++)
    copy->slot[i] = copy_node (n->slot[i], level - 1);
  return copy;
}

void
sim_image_copy (struct sim_image *to, const struct sim_image *from)
{
  to->root = copy_node (from->root, LEVELS);
  to->chunks = from->chunks;
}

static void
free_node (void *p, unsigned level)
{
  struct node *n = p;

  if (p == NULL || p == unwritten)
    return;
  for (unsigned i = 0; level > 0 && i < FAN; i++)
    free_node (n->slot[i], level - 1);
  free (p);
}

void
sim_image_clear (struct sim_image *im)
{
  free_node (im->root, LEVELS);
  *im = (struct sim_image) { NULL, 0 };
}
