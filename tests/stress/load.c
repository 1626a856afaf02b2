/* load.c - see load.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stress/load.h"

struct load t;

void
fail (const char *fmt, ...)
{
  va_list args;

  flockfile (stderr);
  va_start (args, fmt);
  fprintf (stderr, "stress-engine: ");
  vfprintf (stderr, fmt, args);
  va_end (args);
  fprintf (stderr,
           "\nrepeat with: stress/stress-engine --seed %llu --sets %u --io %s"
           " --ring %u --block %u --blocks %llu --limit %llu --trims %u%s\n",
           (unsigned long long) t.seed, t.sets,
           t.options.io == COW_IO_URING  ? "uring"
           : t.options.io == COW_IO_SYNC ? "sync" : "auto",
           t.options.ring_segments, t.options.block_bytes,
           (unsigned long long) t.blocks,
           (unsigned long long) t.limit_bytes, t.trims,
           t.cache == COW_CACHE_NONE ? " --direct" : "");
  _exit (1);
}

uint64_t
draw (uint64_t *state)
{
  uint64_t x = *state += UINT64_C (0x9e3779b97f4a7c15);

  x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C (0x94d049bb133111eb);
  return x ^ x >> 31;
}

uint64_t
below (uint64_t *state, uint64_t n)
{
  return draw (state) % n;
}

uint8_t *
room (uint64_t len)
{
  uint8_t *p = aligned_alloc (4096, (len + 4095) & ~UINT64_C (4095));

  if (p == NULL)
    fail ("out of memory");
  return p;
}

uint64_t
sectors (unsigned v)
{
  return t.size[v] / HISTORY_SECTOR;
}

/* A range of sectors that likes a few hot blocks. */
static void
draw_range (uint64_t *state, unsigned v, uint64_t *first, uint32_t *count)
{
  uint64_t block = t.options.block_bytes / HISTORY_SECTOR;
  uint64_t all = sectors (v);

  *count = 1 + below (state, below (state, 16) ? 3 * block : 64 * block);
  if (*count > all)
    *count = all;
  /* What is longer is admitted in pieces, and may be in a set in part. */
  if (*count > (1 << 20) / HISTORY_SECTOR)
    *count = (1 << 20) / HISTORY_SECTOR;
  *first = below (state, below (state, 2) ? all : 4 * block);
  if (below (state, 2))
    *first -= *first % block;
  if (*first + *count > all)
    *first = all - *count;
}

/* ---- clients */

void *
write_all_the_time (void *arg)
{
  unsigned me = (uintptr_t) arg;
  uint64_t state = t.seed * 1000 + me;
  uint8_t *buf = room (t.size[0] + t.size[1]);

  while (!atomic_load (&t.stop)) {
    unsigned v = below (&state, VOLUMES), what = below (&state, 100);
    enum history_kind kind = what < t.trims       ? HISTORY_TRIM
                             : what < 2 * t.trims ? HISTORY_ZERO
                                                  : HISTORY_WRITE;
    uint64_t first;
    uint32_t count;
    size_t number;
    int rc;

    draw_range (&state, v, &first, &count);
    number = history_issue (t.history, me, kind, v, first, count);
    if (number == SIZE_MAX)
      break;
    if (kind == HISTORY_WRITE) {
      history_stamp (t.history, me, number, buf);
      rc = cow_volume_write (t.volume[v], buf, count * HISTORY_SECTOR,
                             first * HISTORY_SECTOR,
                             below (&state, 400) ? 0 : COW_FUA);
    }
    else if (kind == HISTORY_ZERO)
      rc = cow_volume_zero (t.volume[v], count * HISTORY_SECTOR,
                            first * HISTORY_SECTOR,
                            below (&state, 2) ? COW_MAY_TRIM : 0);
    else
      rc = cow_volume_trim (t.volume[v], count * HISTORY_SECTOR,
                            first * HISTORY_SECTOR, 0);
    if (rc < 0)
      fail ("changing volume %u: %s", v, strerror (-rc));
    history_acknowledge (t.history, me, number);
    atomic_fetch_add (&t.writes, 1);
  }
  free (buf);
  return NULL;
}

static void
read_origin (uint64_t *state, uint8_t *buf)
{
  unsigned v = below (state, VOLUMES);
  const uint8_t *data[VOLUMES] = { NULL };
  char text[400];
  uint64_t from = history_begin (t.history);
  int rc = cow_volume_read (t.volume[v], buf, t.size[v], 0);

  if (rc < 0)
    fail ("reading volume %u: %s", v, strerror (-rc));
  data[v] = buf;
  if (!history_check (t.history, data, from, history_now (t.history), false,
                      text, sizeof text))
    fail ("volume %u as it is: %s", v, text);
  atomic_fetch_add (&t.origin_reads, 1);
}

struct holes {
  const uint8_t *data;
  uint64_t next;
  uint64_t wrong;               /* where there is data in a hole, or NOWHERE */
};
#define NOWHERE UINT64_MAX

static int
check_extent (void *opaque, uint64_t offset, uint64_t len,
              enum cow_extent_kind kind)
{
  struct holes *h = opaque;

  if (offset != h->next)
    fail ("an extent begins at %llu, not at %llu",
          (unsigned long long) offset, (unsigned long long) h->next);
  h->next += len;
  for (uint64_t i = 0; kind == COW_EXTENT_HOLE && i < len; i++)
    if (h->data[offset + i] != 0 && h->wrong == NOWHERE)
      h->wrong = offset + i;
  return 0;
}

static void
read_snapshot (uint64_t *state, uint8_t *buf)
{
  struct kept *k = &t.kept[below (state, MAKERS * SETS_MAX)];
  unsigned v = below (state, VOLUMES);
  struct cow_error err = COW_ERROR_INIT;
  char text[COW_ID_TEXT_SIZE];
  struct cow_view *w;
  uint64_t offset;
  uint32_t len;
  int rc;

  pthread_rwlock_rdlock (&k->lock);
  if (!k->used || k->data[v] == NULL)
    goto out;
  cow_id_format (&k->id, text);
  rc = cow_view_open (t.volume[v], text, &err, &w);
  if (rc < 0) {
    if (!atomic_load (&k->going) && !(rc == -EIO && t.limit_bytes))
      fail ("opening a snapshot: %s", err.text);
    goto out;
  }
  len = 1 + below (state, t.size[v]);
  offset = below (state, t.size[v] - len + 1);
  rc = cow_view_read (w, buf, len, offset);
  if (rc == 0) {
    if (memcmp (buf, k->data[v] + offset, len) != 0)
      for (uint64_t i = 0;; i++)
        if (buf[i] != k->data[v][offset + i])
          fail ("a snapshot of volume %u has changed, at %llu", v,
                (unsigned long long) (offset + i));
    if (below (state, 8) == 0) {
      struct holes h = { .data = k->data[v], .next = offset,
                         .wrong = NOWHERE };

      rc = cow_view_extents (w, len, offset, check_extent, &h);
      if (rc == 0 && h.next != offset + len)
        fail ("the extents of a snapshot end early");
      if (rc == 0 && h.wrong != NOWHERE)
        fail ("a snapshot of volume %u has data in a hole, at %llu", v,
              (unsigned long long) h.wrong);
    }
  }
  if (rc < 0
      && !(rc == -EIO && (atomic_load (&k->going) || t.limit_bytes)))
    fail ("reading a snapshot: %s", strerror (-rc));
  cow_view_close (w);
  atomic_fetch_add (&t.snapshot_reads, 1);
out:
  pthread_rwlock_unlock (&k->lock);
}

void *
read_all_the_time (void *arg)
{
  uint64_t state = t.seed * 1000 + 500 + (uintptr_t) arg;
  uint8_t *buf = room (t.size[0] + t.size[1]);

  while (!atomic_load (&t.stop))
    if (below (&state, 64) == 0)
      read_origin (&state, buf);
    else
      read_snapshot (&state, buf);
  free (buf);
  return NULL;
}
