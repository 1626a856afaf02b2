/* origin.c - bytes of the origin, whatever the cache mode wants.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * cache=writeback: any offset, length and memory.  cache=none: O_DIRECT wants
 * all three aligned; aligned requests go straight through, others by way of an
 * aligned buffer.  A write that covers a part of a sector reads the sector,
 * patches it and writes it back; meanwhile nothing else may change it, or the
 * old bytes around the patch would undo that.  So each change of a direct file
 * is in a list with its sectors: those that patch exclude, and are excluded
 * by, all that meet them; the others pass side by side.
 *
 * The last sector of a file whose length is no multiple of it can't be written
 * with O_DIRECT without growing the file: it goes through tail_file (buffered,
 * its own descriptor), reads and writes alike, so that it is in one mode.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "volume/volume.h"

static bool
aligned (const struct cow_volume *v, const void *buf, size_t len,
         uint64_t offset)
{
  return (((uintptr_t) buf | len | offset)
          & (v->file->info.align_bytes - 1))
         == 0;
}

/* Where the part that only tail_file reaches begins. */
static uint64_t
tail_start (const struct cow_volume *v)
{
  return cow_round_down (v->size_bytes, v->file->info.align_bytes);
}

static int
direct_read (struct cow_volume *v, void *buf, size_t len, uint64_t offset)
{
  uint32_t align = v->file->info.align_bytes;
  uint64_t first, end;
  CLEANUP_FREE uint8_t *bounce = NULL;
  int rc;

  if (aligned (v, buf, len, offset))
    return cow_file_pread (v->file, buf, len, offset);
  first = cow_round_down (offset, align);
  end = cow_round_up (offset + len, align);
  bounce = aligned_alloc (align, end - first);
  if (bounce == NULL)
    return -ENOMEM;
  rc = cow_file_pread (v->file, bounce, end - first, first);
  if (rc == 0)
    memcpy (buf, bounce + (offset - first), len);
  return rc;
}

int
cow_origin_read (struct cow_volume *v, void *buf, size_t len, uint64_t offset)
{
  uint64_t tail;
  int rc;

  if (v->tail_file == NULL)
    return v->file->info.is_direct ? direct_read (v, buf, len, offset)
                                   : cow_file_pread (v->file, buf, len,
                                                     offset);
  tail = tail_start (v);
  if (offset < tail) {
    size_t n = COW_MIN (len, tail - offset);

    rc = direct_read (v, buf, n, offset);
    if (rc < 0 || n == len)
      return rc;
    buf = (uint8_t *) buf + n;
    offset += n;
    len -= n;
  }
  return cow_file_pread (v->tail_file, buf, len, offset);
}

/* A change of a direct file on its way. */
struct cow_edge {
  uint64_t first, end;          /* bytes, whole sectors */
  bool patches;
  struct cow_edge *next, **link;
};

static bool
is_met_locked (const struct cow_volume *v, const struct cow_edge *e)
{
  for (const struct cow_edge *o = v->edges; o != NULL; o = o->next)
    if (o->first < e->end && e->first < o->end && (o->patches || e->patches))
      return true;
  return false;
}

static void
begin_change (struct cow_volume *v, struct cow_edge *e, uint64_t len,
              uint64_t offset)
{
  uint32_t align = v->file->info.align_bytes;
  LOCK_FOR_SCOPE (&v->edge_lock);

  e->first = cow_round_down (offset, align);
  e->end = cow_round_up (offset + len, align);
  e->patches = e->first != offset || e->end != offset + len;
  while (is_met_locked (v, e))
    cow_cond_wait_until (&v->edge_done, &v->edge_lock, COW_NEVER);
  e->next = v->edges;
  e->link = &v->edges;
  if (e->next)
    e->next->link = &e->next;
  v->edges = e;
}

static void
end_change (struct cow_volume *v, struct cow_edge *e)
{
  LOCK_FOR_SCOPE (&v->edge_lock);

  *e->link = e->next;
  if (e->next)
    e->next->link = e->link;
  cow_cond_broadcast (&v->edge_done);
}

/* Less than a sector at one of the ends of a write. */
static int
write_edge (struct cow_volume *v, const void *buf, size_t len,
            uint64_t offset)
{
  uint32_t align = v->file->info.align_bytes;
  uint64_t first = cow_round_down (offset, align);
  CLEANUP_FREE uint8_t *sector = aligned_alloc (align, align);
  int rc;

  assert (offset + len <= first + align);
  if (sector == NULL)
    return -ENOMEM;
  rc = cow_file_pread (v->file, sector, align, first);
  if (rc < 0)
    return rc;
  memcpy (sector + (offset - first), buf, len);
  return cow_file_pwrite (v->file, sector, align, first);
}

static int
write_listed (struct cow_volume *v, const uint8_t *buf, size_t len,
              uint64_t offset)
{
  uint32_t align = v->file->info.align_bytes;
  size_t head = -offset & (align - 1), body;
  int rc;

  if (aligned (v, buf, len, offset))
    return cow_file_pwrite (v->file, buf, len, offset);
  if (head > 0) {
    size_t n = COW_MIN (head, len);

    rc = write_edge (v, buf, n, offset);
    if (rc < 0 || n == len)
      return rc;
    buf += n;
    offset += n;
    len -= n;
  }
  body = cow_round_down (len, align);
  if (body > 0) {
    CLEANUP_FREE uint8_t *bounce = NULL;

    if (!aligned (v, buf, body, offset)) {
      bounce = aligned_alloc (align, body);
      if (bounce == NULL)
        return -ENOMEM;
      memcpy (bounce, buf, body);
    }
    rc = cow_file_pwrite (v->file, bounce ? bounce : buf, body, offset);
    if (rc < 0)
      return rc;
  }
  if (body == len)
    return 0;
  return write_edge (v, buf + body, len - body, offset + body);
}

static int
direct_write (struct cow_volume *v, const uint8_t *buf, size_t len,
              uint64_t offset)
{
  struct cow_edge e;
  int rc;

  begin_change (v, &e, len, offset);
  rc = write_listed (v, buf, len, offset);
  end_change (v, &e);
  return rc;
}

int
cow_origin_punch (struct cow_volume *v, uint64_t len, uint64_t offset)
{
  struct cow_edge e;
  int rc;

  if (!v->file->info.is_direct)
    return cow_file_punch (v->file, offset, len);
  begin_change (v, &e, len, offset);
  rc = cow_file_punch (v->file, offset, len);
  end_change (v, &e);
  return rc;
}

int
cow_origin_zero (struct cow_volume *v, uint64_t len, uint64_t offset,
                 bool may_punch)
{
  struct cow_edge e;
  int rc;

  if (!v->file->info.is_direct)
    return cow_file_zero (v->file, offset, len, may_punch);
  begin_change (v, &e, len, offset);
  rc = cow_file_zero (v->file, offset, len, may_punch);
  end_change (v, &e);
  return rc;
}

int
cow_origin_write (struct cow_volume *v, const void *buf, size_t len,
                  uint64_t offset)
{
  const uint8_t *p = buf;
  uint64_t tail;
  int rc;

  if (v->tail_file == NULL)
    return v->file->info.is_direct ? direct_write (v, p, len, offset)
                                   : cow_file_pwrite (v->file, p, len, offset);
  tail = tail_start (v);
  if (offset < tail) {
    size_t n = COW_MIN (len, tail - offset);

    rc = direct_write (v, p, n, offset);
    if (rc < 0 || n == len)
      return rc;
    p += n;
    offset += n;
    len -= n;
  }
  return cow_file_pwrite (v->tail_file, p, len, offset);
}
