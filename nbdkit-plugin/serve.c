/* serve.c - NBD requests on volumes and snapshots.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Each is one call of the engine.  nbdkit has checked that ranges lie within
 * the export.
 *
 * An error is said once, here, and at most once a second for each connection:
 * a guest that keeps reading a lost snapshot would fill the log.  What has no
 * name in the NBD protocol goes to the client as EIO.
 *
 * Threads: those of connections, many at once on one handle.
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "plugin.h"
#include "base/bits.h"
#include "protocol/frame.h"

#define REQUEST_MAX (32u << 20) /* what clients should not go beyond */

/* ------------------------------------------------------------ properties */

int64_t
serve_get_size (void *handle)
{
  const struct handle *h = handle;

  switch (h->kind) {
  case EXPORT_VOLUME: return cow_volume_size (h->volume);
  case EXPORT_SNAPSHOT: return cow_view_size (h->view);
  case EXPORT_CONTROL: return PROTO_EXPORT_BYTES;
  }
  return -1;
}

int
serve_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
                  uint32_t *maximum)
{
  const struct handle *h = handle;
  uint32_t bytes = 4096;

  if (h->kind != EXPORT_CONTROL)
    bytes = cow_volume_preferred_bytes (h->volume);
  /* What the NBD protocol allows. */
  if (!cow_is_power_of_2 (bytes) || bytes < 512 || bytes > REQUEST_MAX)
    bytes = 4096;
  *minimum = 1;
  *preferred = bytes;
  *maximum = REQUEST_MAX;
  return 0;
}

static bool
is_writable_volume (const struct handle *h)
{
  return h->kind == EXPORT_VOLUME && !cow_volume_readonly (h->volume);
}

int
serve_can_write (void *handle)
{
  const struct handle *h = handle;

  return h->kind == EXPORT_CONTROL || is_writable_volume (h);
}

int
serve_can_trim (void *handle)
{
  return is_writable_volume (handle);
}

int
serve_can_zero (void *handle)
{
  return is_writable_volume (handle);
}

int
serve_can_fast_zero (void *handle)
{
  return is_writable_volume (handle);
}

int
serve_can_extents (void *handle)
{
  const struct handle *h = handle;

  return h->kind != EXPORT_CONTROL;
}

/* A flush covers what all connections have written: they share the engine's
 * volume.  A session, though, is one connection.
 */
int
serve_can_multi_conn (void *handle)
{
  const struct handle *h = handle;

  return h->kind != EXPORT_CONTROL;
}

/* Prefetching is reading into the page cache. */
int
serve_can_cache (void *handle)
{
  const struct handle *h = handle;

  if (h->kind == EXPORT_CONTROL || settings.cache == COW_CACHE_NONE)
    return NBDKIT_CACHE_NONE;
  return NBDKIT_CACHE_EMULATE;
}

int
serve_can_fua (void *handle)
{
  const struct handle *h = handle;

  return h->kind == EXPORT_VOLUME ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
}

/* ---------------------------------------------------------------- errors */

static int
nbd_errno (int r)
{
  switch (r) {
  case -EINVAL:
  case -EIO:
  case -ENOMEM:
  case -ENOSPC:
  case -EOPNOTSUPP:
  case -EPERM:
  case -EROFS:
    return -r;
  default:
    return EIO;
  }
}

static int
request_failed (struct handle *h, const char *what, uint32_t count,
                uint64_t offset, int r)
{
  const uint64_t now = cow_now_ns ();
  uint64_t said = h->said_ns;

  if (said != 0 && now - said < COW_NS_PER_S)
    h->unsaid++;
  else if (atomic_compare_exchange_strong (&h->said_ns, &said, now)) {
    const unsigned unsaid = atomic_exchange (&h->unsaid, 0);

    nbdkit_error ("%s%s: %s of %" PRIu32 " bytes at %" PRIu64 ": %s",
                  cow_volume_name (h->volume),
                  h->kind == EXPORT_SNAPSHOT ? " (snapshot)" : "",
                  what, count, offset, strerror (-r));
    if (unsaid)
      nbdkit_error ("%s: %u more errors since the last message",
                    cow_volume_name (h->volume), unsaid);
  }
  nbdkit_set_error (nbd_errno (r));
  return -1;
}

static inline int
done (struct handle *h, const char *what, uint32_t count, uint64_t offset,
      int r)
{
  if (COW_LIKELY (r == 0))
    return 0;
  return request_failed (h, what, count, offset, r);
}

/* -------------------------------------------------------------- requests */

static unsigned
engine_flags (uint32_t flags)
{
  unsigned r = 0;

  if (flags & NBDKIT_FLAG_FUA)
    r |= COW_FUA;
  if (flags & NBDKIT_FLAG_MAY_TRIM)
    r |= COW_MAY_TRIM;
  if (flags & NBDKIT_FLAG_FAST_ZERO)
    r |= COW_FAST_ZERO;
  return r;
}

int
serve_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  struct handle *h = handle;
  int r = 0;

  (void) flags;
  switch (h->kind) {
  case EXPORT_VOLUME:
    r = cow_volume_read (h->volume, buf, count, offset);
    break;
  case EXPORT_SNAPSHOT:
    r = cow_view_read (h->view, buf, count, offset);
    break;
  case EXPORT_CONTROL:
    return control_pread (h->session, buf, count, offset);
  }
  return done (h, "read", count, offset, r);
}

int
serve_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
              uint32_t flags)
{
  struct handle *h = handle;
  int r;

  if (h->kind == EXPORT_CONTROL)
    return control_pwrite (h->session, buf, count, offset);
  r = cow_volume_write (h->volume, buf, count, offset, engine_flags (flags));
  return done (h, "write", count, offset, r);
}

int
serve_flush (void *handle, uint32_t flags)
{
  struct handle *h = handle;

  (void) flags;
  if (h->kind != EXPORT_VOLUME)
    return 0;
  return done (h, "flush", 0, 0, cow_volume_flush (h->volume));
}

int
serve_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct handle *h = handle;
  int r;

  r = cow_volume_trim (h->volume, count, offset, engine_flags (flags));
  return done (h, "trim", count, offset, r);
}

int
serve_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct handle *h = handle;
  int r;

  r = cow_volume_zero (h->volume, count, offset, engine_flags (flags));
  if (r == -EOPNOTSUPP) {
    /* No failure: nbdkit writes zeroes instead, or the client does. */
    nbdkit_set_error (EOPNOTSUPP);
    return -1;
  }
  return done (h, "write of zeroes", count, offset, r);
}

/* --------------------------------------------------------------- extents */

struct extents_walk {
  struct nbdkit_extents *extents;
  bool one;                     /* the client wants the first extent only */
  bool failed;
  int first_kind;               /* of it; -1 before */
};

static int
add_extent (void *opaque, uint64_t offset, uint64_t len,
            enum cow_extent_kind kind)
{
  struct extents_walk *w = opaque;
  const uint32_t type = kind == COW_EXTENT_HOLE ?
                        NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;

  if (w->one && w->first_kind >= 0 && w->first_kind != (int) kind)
    return 1;
  w->first_kind = kind;
  if (nbdkit_add_extent (w->extents, offset, len, type) == -1) {
    w->failed = true;
    return 1;
  }
  return 0;
}

int
serve_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
               struct nbdkit_extents *extents)
{
  struct handle *h = handle;
  struct extents_walk w = {
    .extents = extents,
    .one = (flags & NBDKIT_FLAG_REQ_ONE) != 0,
    .first_kind = -1,
  };
  int r;

  if (h->kind == EXPORT_VOLUME)
    r = cow_volume_extents (h->volume, count, offset, add_extent, &w);
  else
    r = cow_view_extents (h->view, count, offset, add_extent, &w);
  if (w.failed)
    return -1;                  /* nbdkit has said why */
  return done (h, "block status", count, offset, r);
}
