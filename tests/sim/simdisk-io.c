/* simdisk-io.c - simulated disks: the face "now", opening, locks.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "io/engine.h"
#include "sim/simdisk-priv.h"

/* ---------------------------------------------------------- the face "now" */

static int
finish (struct sim_io *s, int result, uint64_t rest_ns)
{
  if (rest_ns > 0)
    cow_sleep_ns (rest_ns);
  return sim_io_end (s, result);
}

static int
transfer (struct cow_file *f, enum sim_op op, void *buf, size_t len,
          uint64_t offset)
{
  struct sim_io s;
  uint64_t rest_ns;

  assert (cow_file_fits (f, buf, len, offset));
  if (op == SIM_WRITE && f->info.is_readonly)
    return -EBADF;
  s = sim_file_io (f, op, offset, len);
  rest_ns = sim_io_take_time (&s);
  return finish (&s, sim_transfer_effect (&s, buf), rest_ns);
}

static int
sim_pread (struct cow_file *f, void *buf, size_t len, uint64_t offset)
{
  return transfer (f, SIM_READ, buf, len, offset);
}

static int
sim_pwrite (struct cow_file *f, const void *buf, size_t len, uint64_t offset)
{
  return transfer (f, SIM_WRITE, (void *) buf, len, offset);
}

static int
sim_sync (struct cow_file *f)
{
  struct sim_io s = sim_file_io (f, SIM_SYNC, 0, 0);
  const uint64_t rest_ns = sim_io_take_time (&s);

  return finish (&s, sim_sync_effect (&s), rest_ns);
}

static int
range (struct cow_file *f, enum sim_op op, uint64_t offset, uint64_t len)
{
  struct sim_io s;
  uint64_t rest_ns;

  if (f->info.is_readonly)
    return -EBADF;
  s = sim_file_io (f, op, offset, len);
  rest_ns = sim_io_take_time (&s);
  return finish (&s, sim_range_effect (&s), rest_ns);
}

static int
sim_punch (struct cow_file *f, uint64_t offset, uint64_t len)
{
  if (sim_open_file_of (f)->inode->options.no_punch)
    return -EOPNOTSUPP;
  return range (f, SIM_PUNCH, offset, len);
}

static int
sim_zero (struct cow_file *f, uint64_t offset, uint64_t len, bool may_punch)
{
  const struct sim_file_options *o = &sim_open_file_of (f)->inode->options;

  if (may_punch && !o->no_punch)
    return range (f, SIM_PUNCH, offset, len);
  if (o->no_zero)
    return -EOPNOTSUPP;
  return range (f, SIM_ZERO, offset, len);
}

static int
sim_allocate (struct cow_file *f, uint64_t offset, uint64_t len)
{
  return range (f, SIM_ALLOCATE, offset, len);
}

static int
sim_extent (struct cow_file *f, uint64_t offset, enum cow_extent_kind *kind,
            uint64_t *len);

static int
sim_hole (struct cow_file *f, uint64_t offset, uint64_t *len)
{
  enum cow_extent_kind kind;
  int rc = sim_extent (f, offset, &kind, len);

  if (rc == -ENXIO || (rc == 0 && kind != COW_EXTENT_HOLE)) {
    *len = 0;
    rc = 0;
  }
  return rc;
}

static int
sim_space (struct cow_file *f, uint64_t *free_bytes, uint64_t *total_bytes)
{
  struct sim_disk *d = sim_disk_of (f->io);
  uint64_t used = 0;
  LOCK_FOR_SCOPE (&d->lock);

  *total_bytes = d->options.capacity_bytes ? d->options.capacity_bytes
                                           : UINT64_C (1) << 48;
  for (const struct sim_inode *i = d->inodes; i; i = i->next)
    used += i->now.chunks * SIM_CHUNK_BYTES;
  *free_bytes = used < *total_bytes ? *total_bytes - used : 0;
  return 0;
}

static int
sim_extent (struct cow_file *f, uint64_t offset, enum cow_extent_kind *kind,
            uint64_t *len)
{
  struct sim_disk *d = sim_disk_of (f->io);
  const struct sim_inode *inode = sim_open_file_of (f)->inode;
  uint64_t end;
  LOCK_FOR_SCOPE (&d->lock);

  if (d->off)
    return -EIO;
  if (offset >= inode->size_bytes)
    return -ENXIO;
  end = inode->size_bytes;
  *kind = COW_EXTENT_DATA;
  if (!inode->options.is_block &&
      !sim_image_extent (&inode->now, offset, inode->size_bytes, &end))
    *kind = COW_EXTENT_HOLE;
  *len = end - offset;
  return 0;
}

static int
sim_advise_random (struct cow_file *f)
{
  (void) f;
  return 0;
}

/* ----------------------------------------------------- opening and locking */

static int
find_for_open (struct sim_disk *d, const char *path, unsigned flags,
               struct cow_error *err, struct sim_inode **out)
{
  static const struct sim_file_options unnamed = { .direct_align_bytes = 512 };
  struct sim_inode *inode;
  LOCK_FOR_SCOPE (&d->lock);

  if (flags & COW_OPEN_UNNAMED) {
    inode = sim_inode_new ("(unnamed)", &unnamed);
    inode->unnamed = true;
    inode->next = d->inodes;
    d->inodes = inode;
  }
  else
    inode = sim_find_locked (d, path);
  if (flags & COW_OPEN_CREATE) {
    if (inode != NULL)
      return cow_error_set (err, -EEXIST, "%s: exists already", path);
    inode = sim_create_locked (d, path, &unnamed);
  }
  if (inode == NULL)
    return cow_error_set (err, -ENOENT, "%s: no such file", path);
  if ((flags & COW_OPEN_DIRECT_STRICT) &&
      inode->options.direct_align_bytes == 0)
    return cow_error_set (err, -EINVAL, "%s: the file system refuses O_DIRECT",
                          path);
  inode->opens++;
  *out = inode;
  return 0;
}

static int
sim_open (struct cow_io *io, const char *path, unsigned flags,
          struct cow_error *err, struct cow_file **out)
{
  const bool readonly = flags & COW_OPEN_READONLY;
  struct sim_disk *d = sim_disk_of (io);
  struct sim_io s = sim_io_begin (d, NULL, path, SIM_OPEN, 0, 0);
  struct sim_open_file *f;
  struct sim_inode *inode = NULL;
  int r;

  sim_io_take_time (&s);
  if (s.error || s.silent) {
    r = s.error ? s.error : -EIO;
    cow_error_set (err, r, "%s: %s", path, strerror (-r));
    return sim_io_end (&s, r);
  }
  r = find_for_open (d, path, flags, err, &inode);
  if (r < 0)
    return sim_io_end (&s, r);
  f = calloc (1, sizeof *f);
  if (f == NULL)
    abort ();
  f->inode = inode;
  f->base.io = io;
  f->base.info = (struct cow_file_info) {
    .size_bytes = inode->size_bytes,
    .is_block = inode->options.is_block,
    .is_readonly = readonly,
    .can_punch = !readonly && !inode->options.no_punch,
    .can_zero = !readonly && !inode->options.no_zero,
    .align_bytes = 1,
  };
  if ((flags & (COW_OPEN_DIRECT | COW_OPEN_DIRECT_STRICT)) &&
      inode->options.direct_align_bytes > 0) {
    f->base.info.is_direct = true;
    f->base.info.align_bytes = inode->options.direct_align_bytes;
  }
  *out = &f->base;
  return sim_io_end (&s, 0);
}

static void
sim_close (struct cow_file *base)
{
  struct sim_disk *d = sim_disk_of (base->io);
  struct sim_inode *inode = sim_open_file_of (base)->inode;
  LOCK_FOR_SCOPE (&d->lock);

  for (struct sim_lock **link = &inode->locks; *link;) {
    struct sim_lock *l = *link;

    if (l->owner != base) {
      link = &l->next;
      continue;
    }
    *link = l->next;
    free (l);
  }
  inode->opens--;
  sim_reap_locked (d);
  free (base);
}

static int
sim_lock_test (struct cow_file *f, uint64_t first, uint64_t len,
               bool exclusive)
{
  struct sim_disk *d = sim_disk_of (f->io);
  LOCK_FOR_SCOPE (&d->lock);

  for (const struct sim_lock *l = sim_open_file_of (f)->inode->locks; l;
       l = l->next) {
    if (l->owner != f && l->first < first + len && first < l->end &&
        (l->exclusive || exclusive))
      return -EAGAIN;
  }
  return 0;
}

static int
sim_lock (struct cow_file *f, uint64_t first, uint64_t len, bool exclusive)
{
  struct sim_disk *d = sim_disk_of (f->io);
  struct sim_inode *inode = sim_open_file_of (f)->inode;
  struct sim_lock *l;
  const int r = sim_lock_test (f, first, len, exclusive);

  if (r < 0)
    return r;
  l = malloc (sizeof *l);
  if (l == NULL)
    abort ();
  cow_mutex_lock (&d->lock);
  *l = (struct sim_lock) { inode->locks, f, first, first + len, exclusive };
  inode->locks = l;
  cow_mutex_unlock (&d->lock);
  return 0;
}

static void
sim_free (struct cow_io *io)
{
  (void) io;
}

const struct cow_io_ops sim_disk_ops = {
  .name = "simulated",
  .open = sim_open,
  .close = sim_close,
  .lock = sim_lock,
  .lock_test = sim_lock_test,
  .pread = sim_pread,
  .pwrite = sim_pwrite,
  .sync = sim_sync,
  .punch = sim_punch,
  .zero = sim_zero,
  .allocate = sim_allocate,
  .space = sim_space,
  .hole = sim_hole,
  .extent = sim_extent,
  .advise_random = sim_advise_random,
  .identity = sim_identity,
  .get_mark = sim_get_mark,
  .set_mark = sim_set_mark,
  .sync_all = sim_sync,
  .exists = sim_exists,
  .remove = sim_remove,
  .list = sim_list,
  .sync_dir = sim_sync_dir,
  .queue_new = sim_queue_new,
  .queue_free = sim_queue_free,
  .submit = sim_submit,
  .reap = sim_reap,
  .free = sim_free,
};
