/* posix-file.c - plain system calls on files and block devices.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The face "now" of both real engines.
 *
 * Threads: any, also several on one file; no call uses the file's position
 * (lseek only asks).
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bits.h"
#include "io/engine.h"
#include "io/posix-file.h"

/* What one system call is asked to move: the kernel stops a little below
 * 2 GiB, and O_DIRECT should not be left at an odd place.
 */
#define CALL_BYTES_MAX ((size_t) 1 << 30)

static inline struct posix_file *
posix (struct cow_file *f)
{
  return COW_CONTAINER_OF (f, struct posix_file, base);
}

int
cow_posix_fd (const struct cow_file *f)
{
  const struct posix_file *p = (const void *) f;

  STATIC_ASSERT (offsetof (struct posix_file, base) == 0);
  return p->fd;
}

void
cow_posix_close (struct cow_file *f)
{
  struct posix_file *p = posix (f);

  close (p->fd);
  free (p);
}

static struct flock
flock_of (uint64_t first, uint64_t len, bool exclusive)
{
  return (struct flock) {
    .l_type = exclusive ? F_WRLCK : F_RDLCK,
    .l_whence = SEEK_SET,
    .l_start = (off_t) first,
    .l_len = (off_t) len,
    .l_pid = 0,
  };
}

int
cow_posix_lock (struct cow_file *f, uint64_t first, uint64_t len,
                bool exclusive)
{
  struct flock fl = flock_of (first, len, exclusive);

  while (fcntl (posix (f)->fd, F_OFD_SETLK, &fl) == -1) {
    if (errno == EAGAIN || errno == EACCES)
      return -EAGAIN;
    if (errno != EINTR)
      return -errno;
  }
  return 0;
}

int
cow_posix_lock_test (struct cow_file *f, uint64_t first, uint64_t len,
                     bool exclusive)
{
  struct flock fl = flock_of (first, len, exclusive);

  while (fcntl (posix (f)->fd, F_OFD_GETLK, &fl) == -1) {
    if (errno != EINTR)
      return -errno;
  }
  return fl.l_type == F_UNLCK ? 0 : -EAGAIN;
}

static int
transfer (struct cow_request *req)
{
  const int fd = cow_posix_fd (req->file);
  char *const buf = req->buf;
  int64_t r;

  assert (cow_file_fits (req->file, buf, req->len, req->offset));
  if (!cow_file_fits (req->file, buf, req->len, req->offset))
    return -EINVAL;
  if (req->len == 0)
    return 0;
  do {
    const size_t n = COW_MIN (req->len - req->moved, CALL_BYTES_MAX);
    const off_t at = (off_t) (req->offset + req->moved);

    r = req->op == COW_OP_READ ? pread (fd, buf + req->moved, n, at)
                               : pwrite (fd, buf + req->moved, n, at);
    if (r == -1)
      r = -errno;
  } while (!cow_transfer_over (req, &r));
  return (int) r;
}

int
cow_posix_pread (struct cow_file *f, void *buf, size_t len, uint64_t offset)
{
  struct cow_request req = {
    .op = COW_OP_READ, .file = f, .buf = buf, .len = len, .offset = offset,
  };

  return transfer (&req);
}

int
cow_posix_pwrite (struct cow_file *f, const void *buf, size_t len,
                  uint64_t offset)
{
  struct cow_request req = {
    .op = COW_OP_WRITE, .file = f, .buf = (void *) buf, .len = len,
    .offset = offset,
  };

  return transfer (&req);
}

int
cow_posix_sync (struct cow_file *f)
{
  while (fdatasync (posix (f)->fd) == -1) {
    if (errno != EINTR)
      return -errno;
  }
  return 0;
}

/* fallocate, with all the ways of saying that it can't be done as one. */
static int
try_fallocate (struct cow_file *f, int mode, uint64_t offset, uint64_t len)
{
  while (fallocate (posix (f)->fd, mode, (off_t) offset, (off_t) len) == -1) {
    switch (errno) {
    case EINTR:
      continue;
    case EREMOTEIO:             /* a disk that refuses what it offered */
    case EINVAL:                /* a range that the device can't do whole */
    case ENODEV:
    case ENOSYS:
    case ENOTTY:
    case EOPNOTSUPP:
      return -EOPNOTSUPP;
    default:
      return -errno;
    }
  }
  return 0;
}

int
cow_posix_punch (struct cow_file *f, uint64_t offset, uint64_t len)
{
  /* Of a block device, too: BLKDISCARD would not promise zeroes. */
  if (f->info.is_block && !f->info.can_punch)
    return -EOPNOTSUPP;
  return try_fallocate (f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
                        len);
}

int
cow_posix_zero (struct cow_file *f, uint64_t offset, uint64_t len,
                bool may_punch)
{
  int r;

  if (may_punch) {
    r = cow_posix_punch (f, offset, len);
    if (r != -EOPNOTSUPP)
      return r;
  }
  /* The kernel would write the zeroes itself. */
  if (f->info.is_block && !f->info.can_zero)
    return -EOPNOTSUPP;
  return try_fallocate (f, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset,
                        len);
}

int
cow_posix_allocate (struct cow_file *f, uint64_t offset, uint64_t len)
{
  int r;

  if (f->info.is_block)
    return offset + len <= f->info.size_bytes ? 0 : -ENOSPC;
  r = try_fallocate (f, 0, offset, len);
  return r == -EDQUOT ? -ENOSPC : r;
}

int
cow_posix_space (struct cow_file *f, uint64_t *free_bytes,
                 uint64_t *total_bytes)
{
  struct statvfs st;

  if (fstatvfs (posix (f)->fd, &st) == -1)
    return -errno;
  *free_bytes = (uint64_t) st.f_bavail * st.f_frsize;
  *total_bytes = (uint64_t) st.f_blocks * st.f_frsize;
  return 0;
}

static int
file_size (struct cow_file *f, uint64_t *size)
{
  struct stat st;

  *size = f->info.size_bytes;
  if (f->info.is_block)
    return 0;
  if (fstat (posix (f)->fd, &st) == -1)
    return -errno;
  *size = (uint64_t) st.st_size;
  return 0;
}

int
cow_posix_hole (struct cow_file *f, uint64_t offset, uint64_t *len)
{
  uint64_t size;
  off_t at;
  int r = file_size (f, &size);

  *len = 0;
  if (r < 0)
    return r;
  if (f->info.is_block || offset >= size)
    return 0;
  at = lseek (posix (f)->fd, (off_t) offset, SEEK_DATA);
  if (at == -1 && errno == ENXIO)
    *len = size - offset;
  else if (at > (off_t) offset)
    *len = COW_MIN ((uint64_t) at, size) - offset;
  return 0;
}

int
cow_posix_extent (struct cow_file *f, uint64_t offset,
                  enum cow_extent_kind *kind, uint64_t *len)
{
  const int fd = posix (f)->fd;
  uint64_t size;
  off_t at;
  int r;

  r = file_size (f, &size);
  if (r < 0)
    return r;
  if (offset >= size)
    return -ENXIO;

  *kind = COW_EXTENT_DATA;
  *len = size - offset;
  if (f->info.is_block)
    return 0;

  at = lseek (fd, (off_t) offset, SEEK_DATA);
  if (at == -1) {
    /* ENXIO: no data from here on.  Anything else: it can't tell. */
    if (errno == ENXIO)
      *kind = COW_EXTENT_HOLE;
    return 0;
  }
  if ((uint64_t) at > offset) {
    *kind = COW_EXTENT_HOLE;
    *len = COW_MIN ((uint64_t) at, size) - offset;
    return 0;
  }
  at = lseek (fd, (off_t) offset, SEEK_HOLE);
  /* A hole punched between the two questions was data at the first. */
  if (at != -1)
    *len = COW_MAX (COW_MIN ((uint64_t) at, size), offset + 1) - offset;
  return 0;
}

int
cow_posix_advise_random (struct cow_file *f)
{
  return -posix_fadvise (posix (f)->fd, 0, 0, POSIX_FADV_RANDOM);
}

int64_t
cow_posix_pread_cached (struct cow_file *f, void *buf, size_t len,
                        uint64_t offset)
{
  struct iovec v = { .iov_base = buf, .iov_len = len };
  ssize_t r;

  do
    r = preadv2 (posix (f)->fd, &v, 1, (off_t) offset, RWF_NOWAIT);
  while (r == -1 && errno == EINTR);
  if (r == -1)
    return errno == EAGAIN ? 0 : -errno;
  return r;
}

void
cow_posix_prefetch (struct cow_file *f, uint64_t offset, uint64_t len)
{
  (void) posix_fadvise (posix (f)->fd, (off_t) offset, (off_t) len,
                        POSIX_FADV_WILLNEED);
}
