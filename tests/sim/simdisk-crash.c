/* simdisk-crash.c - what is stable, and what a crash leaves of the rest.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/bits.h"
#include "sim/simdisk-priv.h"

static void
free_change (struct sim_change *c)
{
  free (c->data);
  free (c);
}

/* A part [offset, offset+len) of a change takes effect on an image. */
static void
apply (struct sim_image *im, const struct sim_change *c, uint64_t offset,
       uint64_t len)
{
  assert (offset >= c->offset && offset + len <= c->offset + c->len);
  switch (c->op) {
  case SIM_WRITE:
    sim_image_write (im, offset, c->data + (offset - c->offset), len);
    break;
  case SIM_PUNCH:
    sim_image_punch (im, offset, len);
    break;
  case SIM_ZERO:
    sim_image_zero (im, offset, len);
    break;
  case SIM_ALLOCATE:
    sim_image_allocate (im, offset, len);
    break;
  default:
    abort ();
  }
}

static struct sim_change *
change_new (const struct sim_change *like, uint64_t offset, uint64_t len,
            const void *data)
{
  struct sim_change *c = malloc (sizeof *c);

  if (c == NULL)
    abort ();
  *c = *like;
  c->next = NULL;
  c->offset = offset;
  c->len = len;
  if (c->op == SIM_WRITE) {
    c->data = malloc (len);
    if (c->data == NULL)
      abort ();
    memcpy (c->data, data, len);
  }
  return c;
}

void
sim_change_locked (struct sim_disk *d, struct sim_inode *inode, enum sim_op op,
                   uint64_t offset, uint64_t len, const void *data)
{
  struct sim_change like = { .op = op, .number = ++d->changes };
  struct sim_change *c, **end;

  if (len == 0)
    return;
  inode->modified++;
  if (offset + len > inode->size_bytes) {
    assert (op == SIM_WRITE || op == SIM_ALLOCATE);
    like.grown_to = inode->size_bytes = offset + len;
  }
  c = change_new (&like, offset, len, data);
  apply (&inode->now, c, offset, len);
  if (d->options.stable) {
    apply (&inode->stable, c, offset, len);
    inode->stable_size_bytes = inode->size_bytes;
    free_change (c);
    return;
  }
  for (end = &inode->changes; *end; end = &(*end)->next)
    ;
  *end = c;
}

/* Take [offset, offset+len) out of a forsaken change: something later became
 * stable there.  Returns what follows it in the list.
 */
static struct sim_change **
cut (struct sim_change **link, uint64_t offset, uint64_t len)
{
  struct sim_change *c = *link, *rest = c->next;
  const uint64_t end = offset + len, c_end = c->offset + c->len;

  if (offset >= c_end || end <= c->offset)
    return &c->next;
  if (c->offset < offset) {
    *link = change_new (c, c->offset, offset - c->offset, c->data);
    link = &(*link)->next;
  }
  if (end < c_end) {
    *link = change_new (c, end, c_end - end,
                        c->data ? c->data + (end - c->offset) : NULL);
    link = &(*link)->next;
  }
  *link = rest;
  free_change (c);
  return link;
}

static void
make_stable (struct sim_inode *inode, const struct sim_change *c)
{
  struct sim_change **link = &inode->changes;

  while (*link && (*link)->number < c->number) {
    if ((*link)->forsaken)
      link = cut (link, c->offset, c->len);
    else
      link = &(*link)->next;
  }
  apply (&inode->stable, c, c->offset, c->len);
  if (c->op == SIM_WRITE || c->op == SIM_ALLOCATE)
    inode->stable_size_bytes =
      COW_MAX (inode->stable_size_bytes, c->offset + c->len);
}

void
sim_settle_locked (struct sim_disk *d, struct sim_inode *inode,
                   uint64_t number, bool failed)
{
  struct sim_change **link = &inode->changes, *c;

  (void) d;
  if (!failed && inode->mark_number > 0 && inode->mark_number <= number) {
    memcpy (inode->stable_mark, inode->mark, sizeof inode->mark);
    inode->stable_mark_len = inode->mark_len;
    inode->mark_number = 0;
  }
  while ((c = *link) != NULL && c->number <= number) {
    if (failed)
      c->forsaken = true;
    if (c->forsaken) {
      link = &c->next;
      continue;
    }
    *link = c->next;
    make_stable (inode, c);
    free_change (c);
    /* make_stable may have cut changes before this place. */
    for (link = &inode->changes; *link && (*link)->number <= number &&
                                 (*link)->forsaken;)
      link = &(*link)->next;
  }
}

/* ------------------------------------------------------------------ crashes */

/* What a crash is like. */
enum manner {
  LOSES_ALL,
  KEEPS_ALL,
  STOPS,                        /* in order, up to some change */
  SELECTS,                      /* each change is kept, lost, or torn */
  SCATTERS,                     /* each sector is kept or lost */
  BY_FILE,                      /* each file keeps all or loses all */
};

struct crash {
  enum manner manner;
  uint64_t stop;                /* STOPS: number of the change that is torn */
  uint64_t random;
  const char *const *kept;      /* BY_FILE: those, if not drawn */
};

enum fate { LOST, KEPT, TORN };

static enum fate
fate_of (struct crash *cr, const struct sim_change *c)
{
  switch (cr->manner) {
  case LOSES_ALL:
    return LOST;
  case KEEPS_ALL:
    return KEPT;
  case STOPS:
    return c->number == cr->stop ? TORN : c->number < cr->stop ? KEPT : LOST;
  case SELECTS:
    return (enum fate) sim_random_below (&cr->random, 3);
  case SCATTERS:
    return TORN;
  case BY_FILE:
    break;
  }
  abort ();
}

/* What BY_FILE means for one of them. */
static enum manner
manner_of_file (struct crash *cr, const char *name)
{
  if (cr->kept == NULL)
    return sim_random_below (&cr->random, 2) ? KEEPS_ALL : LOSES_ALL;
  for (const char *const *kept = cr->kept; *kept; kept++)
    if (strcmp (*kept, name) == 0)
      return KEEPS_ALL;
  return LOSES_ALL;
}

/* Sectors are kept by lots, or up to one of them.  Changes other than writes
 * are the file system's, and done in pieces of its blocks.
 */
static void
tear (struct crash *cr, struct sim_image *im, const struct sim_change *c)
{
  const uint64_t unit =
    c->op == SIM_WRITE ? SIM_SECTOR_BYTES : SIM_CHUNK_BYTES;
  const uint64_t end = c->offset + c->len;
  const bool prefix = cr->manner != SCATTERS &&
                      sim_random_below (&cr->random, 2) == 0;
  uint64_t at = c->offset, next;

  /* Of what is very long, a beginning is kept. */
  if (prefix || c->len / unit > 65536) {
    next = at + sim_random_below (&cr->random, c->len);
    next = COW_MAX (cow_round_down (next, unit), at);
    apply (im, c, at, next - at);
    return;
  }
  for (; at < end; at = next) {
    next = COW_MIN (cow_round_down (at, unit) + unit, end);
    if (sim_random_below (&cr->random, 2) == 0)
      apply (im, c, at, next - at);
  }
}

static void
crash_inode (struct crash *whole, struct sim_inode *to,
             const struct sim_inode *from)
{
  uint64_t size = from->stable_size_bytes;
  struct crash one = *whole, *cr = whole;

  if (whole->manner == BY_FILE) {
    one.manner = manner_of_file (whole, from->name);
    cr = &one;
  }
  sim_image_copy (&to->now, &from->stable);
  for (const struct sim_change *c = from->changes; c; c = c->next) {
    const enum fate fate = fate_of (cr, c);

    if (fate == KEPT)
      apply (&to->now, c, c->offset, c->len);
    else if (fate == TORN)
      tear (cr, &to->now, c);
    /* The size of the file is metadata of its own: it may come without the
     * data, which is zeroes then, or the data in vain without it.
     */
    if (c->grown_to && (fate == KEPT || (fate == TORN &&
                        sim_random_below (&cr->random, 2) == 0)))
      size = COW_MAX (size, c->grown_to);
  }
  if (from->size_bytes > size)
    sim_image_punch (&to->now, size, from->size_bytes - size);
  to->size_bytes = size;
}

/* Is the name there after the crash?  One of two inodes that had it at most. */
static bool
keeps_name (struct crash *cr, const struct sim_inode *from)
{
  if (from->name_stable != from->removed)
    return from->name_stable;
  switch (cr->manner == BY_FILE ? manner_of_file (cr, from->name)
                                : cr->manner) {
  case LOSES_ALL:
    return from->name_stable;
  case KEEPS_ALL:
    return !from->removed;
  case STOPS:
  case SELECTS:
  case SCATTERS:
    return sim_random_below (&cr->random, 2) == 0;
  case BY_FILE:
    break;
  }
  abort ();
}

static void
crash_mark (struct crash *cr, struct sim_inode *to,
            const struct sim_inode *from)
{
  const enum manner manner =
    cr->manner == BY_FILE ? manner_of_file (cr, from->name) : cr->manner;
  const bool keeps = from->mark_number == 0 || manner == KEEPS_ALL
                     || (manner != LOSES_ALL
                         && sim_random_below (&cr->random, 2) == 0);

  to->mark_len = keeps ? from->mark_len : from->stable_mark_len;
  memcpy (to->mark, keeps ? from->mark : from->stable_mark, sizeof to->mark);
}

static struct crash
draw_crash (struct sim_disk *d, uint64_t seed)
{
  static const enum manner manners[] = {
    LOSES_ALL, KEEPS_ALL, STOPS, STOPS, SELECTS, SELECTS, SELECTS, SCATTERS,
    BY_FILE, BY_FILE,
  };
  struct crash cr = { .random = seed };

  cr.manner =
    manners[sim_random_below (&cr.random, COW_ARRAY_SIZE (manners))];
  /* Near the end, where the changes are that are not stable yet. */
  if (cr.manner == STOPS)
    cr.stop = d->changes - COW_MIN (d->changes,
                                    sim_random_below (&cr.random, 64));
  return cr;
}

/* The named files in a new disk; by crash, or as they are (NULL). */
static struct sim_disk *
next_disk (struct sim_disk *d, struct crash *cr, uint64_t seed)
{
  struct sim_disk_options options = d->options;
  struct sim_disk *to;
  struct sim_inode **end;

  options.seed = seed;
  to = sim_disk_new (&options);
  end = &to->inodes;
  to->changes = d->changes;
  to->inode_numbers = d->inode_numbers;
  for (const struct sim_inode *i = d->inodes; i; i = i->next) {
    struct sim_inode *copy;
    struct sim_change **change;

    if (i->unnamed)
      continue;
    if (cr && (!keeps_name (cr, i) || sim_find_locked (to, i->name)))
      continue;
    copy = *end = sim_inode_new (i->name, &i->options);
    end = &copy->next;
    copy->number = i->number;
    copy->modified = i->modified;
    if (cr) {
      crash_inode (cr, copy, i);
      crash_mark (cr, copy, i);
      sim_image_copy (&copy->stable, &copy->now);
      copy->stable_size_bytes = copy->size_bytes;
      memcpy (copy->stable_mark, copy->mark, sizeof copy->mark);
      copy->stable_mark_len = copy->mark_len;
      copy->name_stable = true;
      continue;
    }
    copy->removed = i->removed;
    copy->name_stable = i->name_stable;
    memcpy (copy->mark, i->mark, sizeof copy->mark);
    memcpy (copy->stable_mark, i->stable_mark, sizeof copy->mark);
    copy->mark_len = i->mark_len;
    copy->stable_mark_len = i->stable_mark_len;
    copy->mark_number = i->mark_number;
    sim_image_copy (&copy->now, &i->now);
    sim_image_copy (&copy->stable, &i->stable);
    copy->size_bytes = i->size_bytes;
    copy->stable_size_bytes = i->stable_size_bytes;
    change = &copy->changes;
    for (const struct sim_change *c = i->changes; c; c = c->next) {
      *change = change_new (c, c->offset, c->len, c->data);
      change = &(*change)->next;
    }
  }
  return to;
}

struct sim_disk *
sim_disk_clone (struct sim_disk *d)
{
  LOCK_FOR_SCOPE (&d->lock);

  return next_disk (d, NULL, d->options.seed + 1);
}

struct sim_disk *
sim_disk_crash (struct sim_disk *d, uint64_t seed)
{
  LOCK_FOR_SCOPE (&d->lock);
  struct crash cr = draw_crash (d, seed);

  return next_disk (d, &cr, seed);
}

struct sim_disk *
sim_disk_crash_keeping (struct sim_disk *d, const char *const *kept,
                        uint64_t seed)
{
  LOCK_FOR_SCOPE (&d->lock);
  struct crash cr = { .manner = BY_FILE, .kept = kept };

  return next_disk (d, &cr, seed);
}

/* ------------------------------------------------------------- what is there */

uint64_t
sim_disk_digest (struct sim_disk *d)
{
  uint64_t digest = 0;
  LOCK_FOR_SCOPE (&d->lock);

  for (const struct sim_inode *i = d->inodes; i; i = i->next) {
    uint64_t one = XXH3_64bits (i->name, strlen (i->name));
    const uint8_t *data;

    if (i->unnamed || i->removed)
      continue;
    one = XXH3_64bits_withSeed (i->mark, i->mark_len, one);
    one = XXH3_64bits_withSeed (&i->size_bytes, sizeof i->size_bytes, one);
    for (uint64_t at = 0; sim_image_next_data (&i->now, &at, &data);
         at += SIM_CHUNK_BYTES)
      one = XXH3_64bits_withSeed (data, SIM_CHUNK_BYTES, one ^ at);
    digest += one;              /* whatever the order of the files */
  }
  return digest;
}

bool
sim_disk_is_stable (struct sim_disk *d, const char *name, const void *data,
                    size_t len)
{
  const uint8_t *chunk;
  LOCK_FOR_SCOPE (&d->lock);
  const struct sim_inode *inode = sim_find_locked (d, name);

  assert (len <= SIM_CHUNK_BYTES);
  if (inode == NULL)
    return false;
  for (uint64_t at = 0; sim_image_next_data (&inode->stable, &at, &chunk);
       at += SIM_CHUNK_BYTES)
    if (memcmp (chunk, data, len) == 0)
      return true;
  return false;
}
