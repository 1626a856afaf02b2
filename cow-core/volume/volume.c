/* volume.c - a volume's life, and what clients ask of the origin.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The life of a write:
 *
 *   admitted by the gate, with an epoch       (waits only while it is closed)
 *   all bits of that epoch's root set?        yes: nothing to preserve
 *   else cow_copy_before                      (copy.c)
 *   one write to the origin
 *   leaves the gate
 *   FUA: sync
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/mutant.h"
#include "io/disk-lock.h"
#include "volume/volume.h"

static int
lock_origin (struct cow_volume *v, struct cow_error *err)
{
  int rc = cow_file_lock_disk (v->file, v->readonly,
                               cow_now_ns () + COW_LOCK_WAIT_NS);

  if (rc == -EAGAIN)
    return cow_error_set (err, -EBUSY,
                          "%s: in use by another server, QEMU or tool; stop "
                          "that first",
                          v->path);
  if (rc < 0)
    return cow_error_set (err, rc, "%s: locking it: %s", v->path,
                          strerror (-rc));
  return 0;
}

static int
open_files (struct cow_volume *v, const struct cow_volume_options *o,
            struct cow_error *err)
{
  unsigned flags = o->readonly ? COW_OPEN_READONLY : 0;
  int rc;

  rc = cow_file_open (o->io, v->path,
                      flags
                        | (o->cache == COW_CACHE_NONE ? COW_OPEN_DIRECT_STRICT
                                                      : 0),
                      err, &v->file);
  if (rc < 0)
    return rc;
  v->size_bytes = v->file->info.size_bytes;
  if (v->file->info.is_direct
      && v->size_bytes % v->file->info.align_bytes != 0) {
    rc = cow_file_open (o->io, v->path, flags, err, &v->tail_file);
    if (rc < 0)
      return rc;
  }
  return lock_origin (v, err);
}

int
cow_volume_open (const struct cow_volume_options *o, struct cow_error *err,
                 struct cow_volume **out)
{
  struct cow_volume *v = aligned_alloc (
    COW_CACHE_LINE, cow_round_up (sizeof *v, COW_CACHE_LINE));
  int rc;

  if (v == NULL)
    return cow_error_set (err, -ENOMEM, "%s: out of memory", o->name);
  memset (v, 0, sizeof *v);
  snprintf (v->name, sizeof v->name, "%s", o->name);
  v->path = strdup (o->path);
  v->number = v->store_number = o->number;
  v->block_bytes = o->block_bytes;
  v->block_shift = (unsigned) __builtin_ctz (o->block_bytes);
  v->cache = o->cache;
  v->readonly = o->readonly;
  v->protect_snapshot = o->protect_snapshot;
  v->store = o->store;
  v->store_timeout_ns = o->store_timeout_ns;
  v->bits_budget = o->bits_budget;
  cow_mutex_init (&v->pending_lock);
  cow_cond_init (&v->pending_done);
  cow_mutex_init (&v->snaps_lock);
  cow_mutex_init (&v->edge_lock);
  cow_cond_init (&v->edge_done);
  cow_trims_init (&v->trims);
  atomic_init (&v->settled, 1);
  atomic_init (&v->root[0], &cow_root_full);
  atomic_init (&v->root[1], &cow_root_full);
  if (v->path == NULL || cow_gate_init (&v->gate, 1) < 0) {
    cow_volume_close (v);
    return cow_error_set (err, -ENOMEM, "%s: out of memory", o->name);
  }
  rc = open_files (v, o, err);
  if (rc == 0) {
    v->blocks = (v->size_bytes + v->block_bytes - 1) >> v->block_shift;
    if (cow_map_new (o->arena, v->blocks, &v->map) < 0)
      rc = cow_error_set (err, -ENOMEM, "%s: out of memory", o->name);
  }
  if (rc < 0) {
    cow_volume_close (v);
    return rc;
  }
  *out = v;
  return 0;
}

void
cow_volume_close (struct cow_volume *v)
{
  if (v == NULL)
    return;
  assert (v->pending == NULL);
  cow_map_free (v->map);
  if (v->tail_file)
    cow_file_close (v->tail_file);
  if (v->file)
    cow_file_close (v->file);
  cow_root_free (atomic_load (&v->root[0]));
  cow_root_free (atomic_load (&v->root[1]));
  cow_gate_clear (&v->gate);
  cow_trims_clear (&v->trims);
  cow_cond_destroy (&v->edge_done);
  cow_mutex_destroy (&v->edge_lock);
  cow_mutex_destroy (&v->snaps_lock);
  cow_cond_destroy (&v->pending_done);
  cow_mutex_destroy (&v->pending_lock);
  free (v->live);
  free (v->path);
  free (v);
}

const char *
cow_volume_name (const struct cow_volume *v)
{
  return v->name;
}

const char *
cow_volume_path (const struct cow_volume *v)
{
  return v->path;
}

uint64_t
cow_volume_size (const struct cow_volume *v)
{
  return v->size_bytes;
}

bool
cow_volume_readonly (const struct cow_volume *v)
{
  return v->readonly;
}

uint32_t
cow_volume_preferred_bytes (const struct cow_volume *v)
{
  return v->block_bytes;
}

static bool
within (const struct cow_volume *v, uint64_t len, uint64_t offset)
{
  return offset <= v->size_bytes && len <= v->size_bytes - offset;
}

int
cow_volume_read (struct cow_volume *v, void *buf, uint32_t len,
                 uint64_t offset)
{
  if (COW_UNLIKELY (!within (v, len, offset)))
    return -EINVAL;
  return cow_origin_read (v, buf, len, offset);
}

int
cow_volume_flush (struct cow_volume *v)
{
  int rc = COW_MUTANT (flush_is_nothing) ? 0 : cow_file_sync (v->file);

  if (rc == 0 && v->tail_file != NULL)
    rc = cow_file_sync (v->tail_file);
  return rc;
}

/* May a change be made there at all? */
static int
may_change (const struct cow_volume *v, uint64_t len, uint64_t offset)
{
  if (COW_UNLIKELY (v->readonly))
    return -EROFS;
  if (COW_UNLIKELY (!within (v, len, offset)))
    return -ENOSPC;
  return 0;
}

static int
write_piece (struct cow_volume *v, const uint8_t *buf, uint32_t len,
             uint64_t offset)
{
  struct cow_pass pass;
  struct cow_root *root;
  int rc = 0;

  cow_gate_enter (&v->gate, offset, offset + len - 1, &pass);
  root = cow_volume_root (v, pass.epoch);
  if (!cow_root_is_full (root)) {
    uint64_t first = cow_block_of (v, offset);
    uint64_t last = cow_block_of (v, offset + len - 1);

    if (COW_MUTANT (origin_before_copy))
      (void) cow_origin_write (v, buf, len, offset);
    if (!cow_root_test_range (root, first, last - first + 1))
      rc = cow_copy_before (v, &pass, root, offset, len, COW_TOUCH_WRITE);
  }
  if (COW_LIKELY (rc == 0))
    rc = cow_origin_write (v, buf, len, offset);
  cow_gate_leave (&v->gate, &pass);
  return rc;
}

int
cow_volume_write (struct cow_volume *v, const void *buf, uint32_t len,
                  uint64_t offset, unsigned flags)
{
  const uint8_t *p = buf;
  int rc = may_change (v, len, offset);

  while (rc == 0 && len > 0) {
    uint32_t n = COW_MIN (len, COW_PIECE_BYTES);

    rc = write_piece (v, p, n, offset);
    p += n;
    offset += n;
    len -= n;
  }
  if (rc == 0 && (flags & COW_FUA) && !COW_MUTANT (fua_is_plain))
    rc = cow_volume_flush (v);
  return rc;
}

static const uint8_t zeroes[COW_PIECE_BYTES] __attribute__ ((aligned (4096)));

/* Zero or deallocate what can be; the ends of a range that is not aligned for
 * a direct file are written.
 */
static int
zero_origin (struct cow_volume *v, uint64_t len, uint64_t offset, bool trim,
             unsigned flags)
{
  int rc;

  if (trim)
    rc = cow_origin_punch (v, len, offset);
  else
    rc = cow_origin_zero (v, len, offset, flags & COW_MAY_TRIM);
  if (rc != -EOPNOTSUPP)
    return rc;
  if (trim)
    return 0;                   /* a hint that this origin has no use for */
  if (flags & COW_FAST_ZERO)
    return rc;
  for (rc = 0; rc == 0 && len > 0;) {
    size_t n = COW_MIN (len, COW_PIECE_BYTES);

    rc = cow_origin_write (v, zeroes, n, offset);
    offset += n;
    len -= n;
  }
  return rc;
}

static int
zero_piece (struct cow_volume *v, uint64_t len, uint64_t offset, bool trim,
            unsigned flags)
{
  struct cow_pass pass;
  struct cow_root *root;
  int rc = 0;

  cow_gate_enter (&v->gate, offset, offset + len - 1, &pass);
  root = cow_volume_root (v, pass.epoch);
  if (trim && !cow_root_is_full (root)) {
    rc = cow_trim_piece (v, &pass, root, offset, len);
    cow_gate_leave (&v->gate, &pass);
    return rc;
  }
  if (!cow_root_is_full (root)) {
    uint64_t first = cow_block_of (v, offset);
    uint64_t last = cow_block_of (v, offset + len - 1);

    if (!cow_root_test_range (root, first, last - first + 1)
        && !COW_MUTANT (zero_skips_copy)) {
      if (flags & COW_FAST_ZERO)
        rc = -EOPNOTSUPP;       /* copying is no faster than writing */
      else
        rc = cow_copy_before (v, &pass, root, offset, len, COW_TOUCH_ZERO);
    }
  }
  if (rc == 0)
    rc = zero_origin (v, len, offset, trim, flags);
  cow_gate_leave (&v->gate, &pass);
  return rc;
}

/* Without a snapshot the whole request is one call; with one, admission is by
 * the piece, so that nothing waits for a long copy.  FAST_ZERO never copies,
 * and has to refuse as a whole or not at all: one piece.
 */
static int
zero_or_trim (struct cow_volume *v, uint64_t len, uint64_t offset, bool trim,
              unsigned flags)
{
  int rc = may_change (v, len, offset);

  while (rc == 0 && len > 0) {
    uint64_t n = len;

    if (n > COW_PIECE_BYTES && !(flags & COW_FAST_ZERO)
        && cow_volume_lives (v) > 0)
      n = COW_PIECE_BYTES - offset % COW_PIECE_BYTES;
    rc = zero_piece (v, n, offset, trim, flags);
    offset += n;
    len -= n;
  }
  if (rc == 0 && (flags & COW_FUA))
    rc = cow_volume_flush (v);
  return rc;
}

int
cow_volume_zero (struct cow_volume *v, uint32_t len, uint64_t offset,
                 unsigned flags)
{
  return zero_or_trim (v, len, offset, false, flags);
}

int
cow_volume_trim (struct cow_volume *v, uint32_t len, uint64_t offset,
                 unsigned flags)
{
  return zero_or_trim (v, len, offset, true, flags & COW_FUA);
}

void
cow_volume_status (struct cow_volume *v, struct cow_volume_status *out)
{
  memset (out, 0, sizeof *out);
  out->snapshots = cow_volume_lives (v);
  out->epoch = cow_gate_epoch (&v->gate);
  out->exceptions = cow_map_exceptions (v->map);
  out->first_touches = atomic_load (&v->first_touches);
  out->copied_bytes = atomic_load (&v->copied_bytes);
  out->zero_bytes = atomic_load (&v->zero_bytes);
  out->waiting = atomic_load (&v->gate.held);
  cow_mutex_lock (&v->pending_lock);
  out->waiting += v->pending_waiters;
  cow_mutex_unlock (&v->pending_lock);
}

int
cow_volume_extents (struct cow_volume *v, uint32_t len, uint64_t offset,
                    cow_extent_fn fn, void *opaque)
{
  uint64_t end = offset + len;

  if (!within (v, len, offset))
    return -EINVAL;
  while (offset < end) {
    enum cow_extent_kind kind;
    uint64_t n;
    int rc = cow_file_extent (v->file, offset, &kind, &n);

    if (rc < 0)
      return rc;
    n = COW_MIN (n, end - offset);
    if (fn (opaque, offset, n, kind) != 0)
      return 0;
    offset += n;
  }
  return 0;
}
