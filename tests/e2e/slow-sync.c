/* slow-sync.c - makes fdatasync slow or fail, where a test asks for it.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Preloaded into nbdkit.  While the file $SLOW_SYNC exists, each fdatasync
 * waits until it is removed, at most a minute: a disk under heavy load.  While
 * the file $FAIL_SYNC exists, each of a file whose path has "/store" in it
 * fails: a disk that has gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int
is_to_fail (int fd)
{
  const char *path = getenv ("FAIL_SYNC");
  char link[32], file[4096];
  ssize_t n;

  if (path == NULL || access (path, F_OK) != 0)
    return 0;
  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  n = readlink (link, file, sizeof file - 1);
  file[n < 0 ? 0 : n] = '\0';
  return strstr (file, "/store") != NULL;
}

int
fdatasync (int fd)
{
  const char *path = getenv ("SLOW_SYNC");

  for (int i = 0; path && i < 6000 && access (path, F_OK) == 0; ++i)
    nanosleep (&(struct timespec) { 0, 10 * 1000 * 1000 }, NULL);
  if (is_to_fail (fd)) {
    errno = EIO;
    return -1;
  }
  return syscall (SYS_fdatasync, fd);
}
