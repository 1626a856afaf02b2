/* origin.c - bytes of the origin, whatever the cache mode wants.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * cache=writeback: any offset, length and memory.  cache=none: O_DIRECT wants
 * all three aligned; aligned requests go straight through, others by way of an
 * aligned buffer.  A write that covers a part of a sector reads it first,
 * under edge_lock, so that two such writes of one sector don't lose each
 * other's bytes.  Whole sectors need no lock: a whole write beside a partial
 * one of the same sector may land in either order, as on a disk.
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
  /* XXX The one lock that is held over I/O: partial sectors only, which no
   * file system sends.  Ranges in a small table would lift it.
   */
  LOCK_FOR_SCOPE (&v->edge_lock);
  rc = cow_file_pread (v->file, sector, align, first);
  if (rc < 0)
    return rc;
  memcpy (sector + (offset - first), buf, len);
  return cow_file_pwrite (v->file, sector, align, first);
}

static int
direct_write (struct cow_volume *v, const uint8_t *buf, size_t len,
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
