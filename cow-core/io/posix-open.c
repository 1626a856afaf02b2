/* posix-open.c - opening files of the operating system.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Finds out what a file is (size, alignment of O_DIRECT, whether it can punch)
 * and says in a person's words why one can't be opened.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "io/engine.h"
#include "io/posix-file.h"

#define SECTOR_BYTES 512

/* Of O_DIRECT where the kernel does not say: no disk and file system in use
 * asks for more.
 */
#define ALIGN_UNKNOWN_BYTES 4096

static int
open_failed (struct cow_error *err, int code, const char *path,
             unsigned flags)
{
  const char *what;

  switch (-code) {
  case ENOENT:
    what = (flags & COW_OPEN_UNNAMED) ? "no such directory" : "no such file";
    break;
  case EISDIR:
    what = "is a directory, not a file or block device";
    break;
  case ENOTDIR:
    what = (flags & COW_OPEN_UNNAMED) ? "is not a directory"
                                      : "a part of the path is not a directory";
    break;
  case EACCES:
  case EPERM:
    what = (flags & COW_OPEN_READONLY) ? "no permission to read it"
                                       : "no permission to write to it";
    break;
  case EEXIST:
    what = "exists already";
    break;
  case EROFS:
    what = "is read-only, and was to be opened for writing";
    break;
  case ENOTSUP:
    what = "is neither a file nor a block device";
    break;
  case EINVAL:
    what = (flags & COW_OPEN_DIRECT) ? "the file system refuses O_DIRECT"
                                     : strerror (EINVAL);
    break;
  default:
    what = strerror (-code);
  }
  return cow_error_set (err, code, "%s: %s", path, what);
}

/* Anything but files and block devices is not even opened: that of a FIFO
 * would wait, that of a tape would rewind it.
 */
static int
check_kind (const struct stat *st)
{
  if (S_ISREG (st->st_mode) || S_ISBLK (st->st_mode))
    return 0;
  return S_ISDIR (st->st_mode) ? -EISDIR : -ENOTSUP;
}

static int
open_named (const char *path, int oflags)
{
  struct stat st;
  int fd, r;

  if (stat (path, &st) == -1)
    return -errno;
  r = check_kind (&st);
  if (r < 0)
    return r;
  do
    fd = open (path, oflags | O_CLOEXEC | O_NOCTTY);
  while (fd == -1 && errno == EINTR);
  return fd == -1 ? -errno : fd;
}

static int
open_created (const char *path, int oflags)
{
  int fd;

  do
    fd = open (path, (oflags & ~O_DIRECT) | O_CREAT | O_EXCL | O_CLOEXEC
                       | O_NOCTTY, 0600);
  while (fd == -1 && errno == EINTR);
  if (fd == -1)
    return -errno;
  /* Asked for last: a refusal leaves no name behind, and none of another. */
  if ((oflags & O_DIRECT) && fcntl (fd, F_SETFL, O_DIRECT) == -1) {
    const int code = -errno;

    unlink (path);
    close (fd);
    return code;
  }
  return fd;
}

/* A file without a name in directory path. */
static int
open_unnamed (const char *path, int oflags)
{
  CLEANUP_FREE char *name = NULL;
  int fd;

  do
    fd = open (path, oflags | O_TMPFILE | O_EXCL | O_CLOEXEC, 0600);
  while (fd == -1 && errno == EINTR);
  if (fd >= 0)
    return fd;
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
    return -errno;

  /* No O_TMPFILE here, or no O_DIRECT.  The latter is asked for last, so that
   * no name is left behind where it is refused.
   */
  if (asprintf (&name, "%s/.cowset-XXXXXX", path) == -1) {
    name = NULL;
    return -ENOMEM;
  }
  fd = mkostemp (name, O_CLOEXEC);
  if (fd == -1)
    return -errno;
  if (unlink (name) == -1 ||
      ((oflags & O_DIRECT) && fcntl (fd, F_SETFL, O_DIRECT) == -1)) {
    const int code = -errno;

    close (fd);
    return code;
  }
  return fd;
}

/* Of O_DIRECT on fd; 0 if the kernel says that there is none. */
static uint32_t
direct_alignment (int fd, const struct stat *st)
{
  int sector_bytes;

#ifdef STATX_DIOALIGN
  struct statx stx;

  if (statx (fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
      (stx.stx_mask & STATX_DIOALIGN)) {
    const uint32_t align = COW_MAX (stx.stx_dio_mem_align,
                                    stx.stx_dio_offset_align);

    if (stx.stx_dio_offset_align == 0)
      return 0;
    return COW_MAX (align, (uint32_t) SECTOR_BYTES);
  }
#endif
  if (S_ISBLK (st->st_mode) && ioctl (fd, BLKSSZGET, &sector_bytes) == 0)
    return COW_MAX ((uint32_t) sector_bytes, (uint32_t) SECTOR_BYTES);
  return ALIGN_UNKNOWN_BYTES;
}

/* Whether the block device zeroes by itself: the kernel would otherwise write
 * zeroes, which is for the caller to decide.
 */
static bool
block_can_zero (const struct stat *st)
{
  /* A partition has the queue of the disk around it. */
  static const char *const places[] = { "queue", "../queue" };
  unsigned long long bytes;
  bool found;
  char path[96];
  size_t i;
  FILE *fp;

  for (i = 0; i < COW_ARRAY_SIZE (places); i++) {
    snprintf (path, sizeof path,
              "/sys/dev/block/%u:%u/%s/write_zeroes_max_bytes",
              major (st->st_rdev), minor (st->st_rdev), places[i]);
    fp = fopen (path, "re");
    if (fp == NULL)
      continue;
    found = fscanf (fp, "%llu", &bytes) == 1;
    fclose (fp);
    return found && bytes > 0;
  }
  return false;
}

static int
examine (int fd, unsigned flags, struct cow_file_info *info)
{
  struct stat st;
  int r;

  if (fstat (fd, &st) == -1)
    return -errno;
  r = check_kind (&st);
  if (r < 0)
    return r;

  *info = (struct cow_file_info) {
    .size_bytes = (uint64_t) st.st_size,
    .is_block = S_ISBLK (st.st_mode),
    .is_readonly = flags & COW_OPEN_READONLY,
    .align_bytes = 1,
  };
  if (info->is_block && ioctl (fd, BLKGETSIZE64, &info->size_bytes) == -1)
    return -errno;
  if (flags & COW_OPEN_DIRECT) {
    const uint32_t align = direct_alignment (fd, &st);

    if (align == 0)
      return -EINVAL;
    info->is_direct = true;
    info->align_bytes = align;
  }
  if (!info->is_readonly) {
    /* Of a file only trying would tell, and change its times. */
    info->can_punch = !info->is_block || block_can_zero (&st);
    info->can_zero = info->can_punch;
  }
  return 0;
}

static int
open_and_examine (const char *path, unsigned flags, struct cow_file_info *info)
{
  int oflags = (flags & COW_OPEN_READONLY) ? O_RDONLY : O_RDWR;
  int fd, r;

  if (flags & COW_OPEN_DIRECT)
    oflags |= O_DIRECT;
  if (flags & COW_OPEN_UNNAMED)
    fd = open_unnamed (path, oflags);
  else if (flags & COW_OPEN_CREATE)
    fd = open_created (path, oflags);
  else
    fd = open_named (path, oflags);
  if (fd < 0)
    return fd;
  r = examine (fd, flags, info);
  if (r < 0) {
    close (fd);
    if (flags & COW_OPEN_CREATE)
      unlink (path);
    return r;
  }
  return fd;
}

int
cow_posix_open (struct cow_io *io, const char *path, unsigned flags,
                struct cow_error *err, struct cow_file **out)
{
  CLEANUP_FREE struct posix_file *f = calloc (1, sizeof *f);
  int fd;

  assert (!(flags & COW_OPEN_READONLY)
          || !(flags & (COW_OPEN_UNNAMED | COW_OPEN_CREATE)));
  if (f == NULL)
    return cow_error_set (err, -ENOMEM, "%s: out of memory", path);
  if (flags & COW_OPEN_DIRECT_STRICT)
    flags |= COW_OPEN_DIRECT;

  fd = open_and_examine (path, flags, &f->base.info);
  if (fd == -EINVAL && (flags & COW_OPEN_DIRECT) &&
      !(flags & COW_OPEN_DIRECT_STRICT)) {
    flags &= ~(unsigned) COW_OPEN_DIRECT;
    fd = open_and_examine (path, flags, &f->base.info);
  }
  if (fd < 0)
    return open_failed (err, fd, path, flags);

  f->base.io = io;
  f->fd = fd;
  *out = &COW_STEAL (f)->base;
  return 0;
}

int
cow_posix_open_cached (struct cow_file *f, struct cow_file **out)
{
  struct posix_file *p = calloc (1, sizeof *p);
  char path[32];
  int rc;

  if (p == NULL)
    return -ENOMEM;
  /* By way of /proc, because the file may have no name, or another one by
   * now.  A second description: one's own mode, and locks stay the first's.
   */
  snprintf (path, sizeof path, "/proc/self/fd/%d", cow_posix_fd (f));
  do
    p->fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  while (p->fd == -1 && errno == EINTR);
  if (p->fd == -1) {
    rc = -errno;
    free (p);
    return rc;
  }
  p->base.io = f->io;
  p->base.info = f->info;
  p->base.info.is_direct = false;
  p->base.info.is_readonly = true;
  p->base.info.align_bytes = 1;
  rc = cow_posix_advise_random (&p->base);
  if (rc < 0) {
    cow_posix_close (&p->base);
    return rc;
  }
  *out = &p->base;
  return 0;
}
