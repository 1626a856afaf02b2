/* view.c - reading a snapshot.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A block of a snapshot is in the first exception with its epoch or a later
 * one, else in the origin.  The origin is read without any lock, so a writer
 * may overtake: after the read the map is asked again, and a block that has an
 * exception now is taken from there.  That is enough, because an exception is
 * filed before the write that it is for is submitted (copy.c, C2).  Last of
 * all the snapshot has to be live still, because a write that does not copy
 * for it any more was decided after its end could be seen.
 *
 * A reader holds no lock over I/O and nothing that a writer waits for.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/mutant.h"
#include "volume/view.h"

/* Blocks that are looked up together. */
#define BATCH 256u
/* Blocks in the store that don't end a read of the origin. */
#define GAP 8u

struct cow_view *
cow_view_new (struct cow_snapshot *s)
{
  struct cow_view *w = calloc (1, sizeof *w);

  if (w == NULL)
    return NULL;
  cow_snapshot_get (s);
  w->snapshot = s;
  w->volume = s->volume;
  return w;
}

void
cow_view_close (struct cow_view *w)
{
  if (w == NULL)
    return;
  cow_snapshot_put (w->snapshot);
  free (w);
}

uint64_t
cow_view_size (const struct cow_view *w)
{
  return w->volume->size_bytes;
}

const struct cow_id *
cow_view_snapshot (const struct cow_view *w)
{
  return &w->snapshot->id;
}

/* What a read works on. */
struct span {
  struct cow_view *view;
  uint64_t offset;              /* bytes asked for */
  uint32_t len;
  uint8_t *buf;
  uint64_t first;               /* blocks that hold them */
  unsigned n;
  struct cow_mapping map[BATCH];
};

/* The bytes of blocks [i, i + n) of the span that were asked for: where they
 * begin in the volume, and how many.
 */
static uint64_t
clip (const struct span *p, unsigned i, unsigned n, uint64_t *len)
{
  unsigned shift = p->view->volume->block_shift;
  uint64_t low = (p->first + i) << shift;
  uint64_t high = (p->first + i + n) << shift;

  low = COW_MAX (low, p->offset);
  high = COW_MIN (high, p->offset + p->len);
  *len = high - low;
  return low;
}

/* One block, or a part of it, by way of a buffer of its own. */
static int
read_part (struct span *p, unsigned i, uint64_t low, uint64_t len)
{
  struct cow_volume *v = p->view->volume;
  CLEANUP_FREE uint8_t *block = aligned_alloc (4096, v->block_bytes);
  int rc;

  if (block == NULL)
    return -ENOMEM;
  rc = cow_store_read (v->store, p->map[i].place, 1, v->store_number, p->first + i,
                       block);
  if (rc == 0)
    memcpy (p->buf + (low - p->offset),
            block + (low - ((p->first + i) << v->block_shift)), len);
  return rc;
}

/* Blocks [i, i + n) lie side by side in the store. */
static int
read_store (struct span *p, unsigned i, unsigned n)
{
  struct cow_volume *v = p->view->volume;
  uint64_t len, low;
  int rc = 0;

  while (n > 0 && rc == 0) {
    unsigned count = n;

    low = clip (p, i, 1, &len);
    if (len < v->block_bytes) {
      count = 1;
      rc = read_part (p, i, low, len);
    }
    else {
      clip (p, i + n - 1, 1, &len);
      if (len < v->block_bytes)
        count = n - 1;
      rc = cow_store_read (v->store, p->map[i].place, count, v->store_number,
                           p->first + i, p->buf + (low - p->offset));
    }
    i += count;
    n -= count;
  }
  return rc;
}

/* A block whose data did not check: damage only if the exception is still
 * there, in that place.
 */
static int
confirm_damage (struct span *p, unsigned i, unsigned n)
{
  struct cow_view *w = p->view;
  struct cow_mapping now[BATCH];

  if (atomic_load (&w->snapshot->end) != COW_ALIVE)
    return -EIO;
  cow_map_lookup (w->volume->map, p->first + i, n, w->snapshot->epoch, now);
  if (memcmp (now, &p->map[i], n * sizeof *now) != 0)
    return -EAGAIN;
  cow_log (COW_LOG_ERROR,
           "%s: old data of %u blocks from block %llu on is damaged in the "
           "store; reading them gives EIO",
           w->volume->name, n, (unsigned long long) p->first + i);
  return -EIO;
}

/* Fill what the map says is not in the origin. */
static int
read_filed (struct span *p)
{
  struct cow_store *store = p->view->volume->store;
  unsigned i = 0;

  if (p->n > 1)
    cow_store_soon (store, &p->map[0].place, sizeof p->map[0], p->n);
  while (i < p->n) {
    unsigned run = 1;
    int rc = 0;

    if (p->map[i].place == COW_PLACE_ZERO) {
      uint64_t len, low;

      while (i + run < p->n && p->map[i + run].place == COW_PLACE_ZERO)
        run++;
      low = clip (p, i, run, &len);
      memset (p->buf + (low - p->offset), 0, len);
    }
    else if (p->map[i].place != COW_PLACE_NONE) {
      run = cow_store_run (store, &p->map[i].place, sizeof p->map[0],
                           p->n - i);
      rc = read_store (p, i, run);
      if (rc == -EUCLEAN)
        rc = confirm_damage (p, i, run);
    }
    if (rc < 0)
      return rc;
    i += run;
  }
  return 0;
}

/* How many blocks from i on are read of the origin in one go.  A gap of few
 * blocks that are in the store is read too, and overwritten afterwards: that
 * costs less than another call.
 */
static unsigned
origin_run (const struct span *p, unsigned i, unsigned gap)
{
  unsigned end = i + 1;

  for (unsigned at = end; at < p->n && at - end <= gap; at++)
    if (p->map[at].place == COW_PLACE_NONE)
      end = at + 1;
  return end - i;
}

/* Read from the origin what the map does not have. */
static int
read_unfiled (struct span *p)
{
  unsigned i = 0, gap = GAP;

  while (i < p->n) {
    uint64_t len, low;
    unsigned run;
    int rc;

    if (p->map[i].place != COW_PLACE_NONE) {
      i++;
      continue;
    }
    run = origin_run (p, i, gap);
    low = clip (p, i, run, &len);
    base_step ();
    rc = cow_origin_read (p->view->volume, p->buf + (low - p->offset), len,
                          low);
    if (rc < 0 && origin_run (p, i, 0) < run) {
      /* It may be a gap that can't be read. */
      gap = 0;
      continue;
    }
    if (rc < 0)
      return rc;
    i += run;
  }
  return 0;
}

/* After the origin was read: only blocks that had no exception and have one
 * now are left in the map.  Returns whether there are any.
 */
static bool
find_overtaken (struct span *p)
{
  struct cow_view *w = p->view;
  struct cow_mapping now[BATCH];
  bool any = false;

  base_step ();
  cow_map_lookup (w->volume->map, p->first, p->n, w->snapshot->epoch, now);
  for (unsigned i = 0; i < p->n; i++) {
    if (p->map[i].place == COW_PLACE_NONE && now[i].place != COW_PLACE_NONE) {
      p->map[i] = now[i];
      any = true;
    }
    else
      p->map[i].place = COW_PLACE_NONE;
  }
  return any;
}

static int
read_span (struct span *p)
{
  struct cow_view *w = p->view;
  struct cow_volume *v = w->volume;
  bool unfiled = false;
  int rc;

  cow_map_lookup (v->map, p->first, p->n, w->snapshot->epoch, p->map);
  for (unsigned i = 0; i < p->n && !unfiled; i++)
    unfiled = p->map[i].place == COW_PLACE_NONE;
  if (unfiled) {
    rc = read_unfiled (p);
    if (rc < 0)
      return rc;
  }
  rc = read_filed (p);
  if (rc < 0)
    return rc;
  if (unfiled && !COW_MUTANT (read_races) && find_overtaken (p))
    return read_filed (p);
  return 0;
}

static int
check_range (const struct cow_view *w, uint64_t len, uint64_t offset)
{
  uint64_t size = w->volume->size_bytes;

  return offset <= size && len <= size - offset ? 0 : -EINVAL;
}

/* How many blocks of the batch that begins at offset hold the rest. */
static unsigned
batch_of (const struct cow_volume *v, uint64_t offset, uint64_t len,
          uint64_t *first)
{
  uint64_t last = cow_block_of (v, offset + len - 1);

  *first = cow_block_of (v, offset);
  return COW_MIN (last - *first + 1, (uint64_t) BATCH);
}

int
cow_view_read (struct cow_view *w, void *buf, uint32_t len, uint64_t offset)
{
  struct cow_volume *v = w->volume;
  unsigned ticket;
  int rc = check_range (w, len, offset);

  while (rc == 0 && len > 0) {
    struct span p = {
      .view = w,
      .offset = offset,
      .buf = buf,
    };
    uint64_t end;

    p.n = batch_of (v, offset, len, &p.first);
    end = (p.first + p.n) << v->block_shift;
    p.len = COW_MIN ((uint64_t) len, end - offset);
    do {
      ticket = cow_store_enter (v->store);
      rc = read_span (&p);
      cow_store_leave (v->store, ticket);
    } while (rc == -EAGAIN);
    buf = (uint8_t *) buf + p.len;
    offset += p.len;
    len -= p.len;
  }
  base_step ();
  if (rc == 0 && atomic_load (&w->snapshot->end) != COW_ALIVE)
    rc = -EIO;
  return rc;
}

/* Adjacent extents of one kind are told as one. */
struct merge {
  cow_extent_fn fn;
  void *opaque;
  uint64_t offset, len;
  enum cow_extent_kind kind;
  bool ended;                   /* fn wants no more */
};

static void
tell (struct merge *m, uint64_t offset, uint64_t len,
      enum cow_extent_kind kind)
{
  if (m->len > 0 && m->kind == kind) {
    m->len += len;
    return;
  }
  if (m->len > 0 && m->fn (m->opaque, m->offset, m->len, m->kind) != 0)
    m->ended = true;
  m->offset = offset;
  m->len = len;
  m->kind = kind;
}

/* The end of the regions without any exception that offset lies in, at most
 * end; offset itself if there is one.
 */
static uint64_t
empty_until (struct cow_volume *v, uint64_t offset, uint64_t end)
{
  const uint64_t region_bytes = (uint64_t) COW_REGION_BLOCKS
                                << v->block_shift;
  uint64_t at = offset;

  while (at < end && cow_map_region_empty (v->map, cow_block_of (v, at)))
    at = cow_round_down (at, region_bytes) + region_bytes;
  return COW_MIN (at, end);
}

/* Mark the blocks [i, i + n) of the span that lie wholly in holes of the
 * origin.
 */
static int
mark_holes (struct span *p, unsigned i, unsigned n, bool *hole)
{
  struct cow_volume *v = p->view->volume;
  uint64_t at = (p->first + i) << v->block_shift;
  uint64_t end = COW_MIN ((p->first + i + n) << v->block_shift,
                          v->size_bytes);

  while (at < end) {
    enum cow_extent_kind kind;
    uint64_t len, from, to;
    int rc = cow_file_extent (v->file, at, &kind, &len);

    if (rc < 0)
      return rc;
    from = cow_block_of (v, cow_round_up (at, v->block_bytes));
    to = at + len >= v->size_bytes ? v->blocks : cow_block_of (v, at + len);
    if (kind == COW_EXTENT_HOLE)
      for (uint64_t b = from; b < to && b < p->first + i + n; b++)
        hole[b - p->first] = true;
    at += len;
  }
  return 0;
}

/* The extents of blocks that the map has are known; those of the others are
 * the origin's, unless the map has got them while the origin was asked (then
 * "data", which is never wrong).
 */
static int
span_extents (struct span *p, struct merge *m)
{
  struct cow_volume *v = p->view->volume;
  uint32_t epoch = p->view->snapshot->epoch;
  struct cow_mapping now[BATCH];
  bool hole[BATCH] = { false };
  int rc;

  cow_map_lookup (v->map, p->first, p->n, epoch, p->map);
  for (unsigned i = 0, run; i < p->n; i += run) {
    run = 1;
    if (p->map[i].place == COW_PLACE_ZERO)
      hole[i] = true;
    if (p->map[i].place != COW_PLACE_NONE)
      continue;
    while (i + run < p->n && p->map[i + run].place == COW_PLACE_NONE)
      run++;
    rc = mark_holes (p, i, run, hole);
    if (rc < 0)
      return rc;
  }
  cow_map_lookup (v->map, p->first, p->n, epoch, now);
  for (unsigned i = 0; i < p->n && !m->ended; i++) {
    uint64_t len, low = clip (p, i, 1, &len);

    if (p->map[i].place == COW_PLACE_NONE && now[i].place != COW_PLACE_NONE)
      hole[i] = now[i].place == COW_PLACE_ZERO;
    tell (m, low, len, hole[i] ? COW_EXTENT_HOLE : COW_EXTENT_DATA);
  }
  return 0;
}

int
cow_view_extents (struct cow_view *w, uint32_t len, uint64_t offset,
                  cow_extent_fn fn, void *opaque)
{
  struct cow_volume *v = w->volume;
  struct merge m = { .fn = fn, .opaque = opaque };
  uint64_t end = offset + len;
  int rc = check_range (w, len, offset);

  while (rc == 0 && offset < end && !m.ended) {
    struct span p = { .view = w, .offset = offset };
    uint64_t until = empty_until (v, offset, end);

    if (until > offset) {
      enum cow_extent_kind kind;
      uint64_t n;

      rc = cow_file_extent (v->file, offset, &kind, &n);
      if (rc < 0)
        break;
      n = COW_MIN (n, until - offset);
      if (empty_until (v, offset, offset + n) == offset + n) {
        tell (&m, offset, n, kind);
        offset += n;
        continue;
      }
    }
    p.n = batch_of (v, offset, end - offset, &p.first);
    p.len = COW_MIN (end, (p.first + p.n) << v->block_shift) - offset;
    rc = span_extents (&p, &m);
    offset += p.len;
  }
  if (rc == 0 && m.len > 0 && !m.ended)
    fn (opaque, m.offset, m.len, m.kind);
  if (rc == 0 && atomic_load (&w->snapshot->end) != COW_ALIVE)
    rc = -EIO;
  return rc;
}
