/* posix-names.c - directories, and what goes with a file but is not in it.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * For both real engines.  Threads: any.
 */
#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "io/engine.h"

#define MARK_NAME "user.cowset"

static uint64_t
ns_of (const struct timespec *t)
{
  return (uint64_t) t->tv_sec * COW_NS_PER_S + (uint64_t) t->tv_nsec;
}

int
cow_posix_identity (struct cow_file *f, struct cow_identity *out)
{
  struct stat st;

  if (fstat (cow_posix_fd (f), &st) == -1)
    return -errno;
  *out = (struct cow_identity) {
    .device = f->info.is_block ? st.st_rdev : st.st_dev,
    .inode = f->info.is_block ? 0 : st.st_ino,
    .size_bytes = f->info.is_block ? f->info.size_bytes
                                   : (uint64_t) st.st_size,
    .modified_ns = ns_of (&st.st_mtim),
    .changed_ns = ns_of (&st.st_ctim),
  };
  return 0;
}

/* The node of a block device is not the device: what is said of it would be
 * gone with the next boot, and the kernel refuses it anyway.
 */
int
cow_posix_get_mark (struct cow_file *f, void *buf, size_t room)
{
  ssize_t n;

  if (f->info.is_block)
    return -EOPNOTSUPP;
  n = fgetxattr (cow_posix_fd (f), MARK_NAME, buf, room);
  if (n == -1)
    return errno == ENODATA ? 0 : -errno;
  return (int) n;
}

int
cow_posix_set_mark (struct cow_file *f, const void *mark, size_t len)
{
  const int fd = cow_posix_fd (f);

  if (f->info.is_block)
    return -EOPNOTSUPP;
  if (len > 0)
    return fsetxattr (fd, MARK_NAME, mark, len, 0) == -1 ? -errno : 0;
  if (fremovexattr (fd, MARK_NAME) == -1 && errno != ENODATA)
    return -errno;
  return 0;
}

int
cow_posix_sync_all (struct cow_file *f)
{
  while (fsync (cow_posix_fd (f)) == -1) {
    if (errno != EINTR)
      return -errno;
  }
  return 0;
}

int
cow_posix_exists (struct cow_io *io, const char *path)
{
  struct stat st;

  (void) io;
  if (lstat (path, &st) == 0)
    return 1;
  return errno == ENOENT ? 0 : -errno;
}

int
cow_posix_remove (struct cow_io *io, const char *path)
{
  (void) io;
  return unlink (path) == -1 ? -errno : 0;
}

int
cow_posix_list (struct cow_io *io, const char *directory, cow_name_fn fn,
                void *opaque)
{
  DIR *dir = opendir (directory);
  struct dirent *entry;
  int r = 0;

  (void) io;
  if (dir == NULL)
    return -errno;
  while (r == 0) {
    errno = 0;
    entry = readdir (dir);
    if (entry == NULL) {
      r = -errno;
      break;
    }
    if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
      r = fn (opaque, entry->d_name);
  }
  closedir (dir);
  return r;
}

int
cow_posix_sync_dir (struct cow_io *io, const char *directory)
{
  CLEANUP_CLOSE int fd = -1;

  (void) io;
  do
    fd = open (directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  while (fd == -1 && errno == EINTR);
  if (fd == -1)
    return -errno;
  while (fsync (fd) == -1) {
    if (errno != EINTR)
      return -errno;
  }
  return 0;
}
