/* slow-sync.c - makes fdatasync slow, where a test asks for it.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Preloaded into nbdkit.  While the file $SLOW_SYNC exists, each fdatasync
 * waits until it is removed, at most a minute: a disk under heavy load.
 */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int
fdatasync (int fd)
{
  const char *path = getenv ("SLOW_SYNC");

  for (int i = 0; path && i < 6000 && access (path, F_OK) == 0; ++i)
    nanosleep (&(struct timespec) { 0, 10 * 1000 * 1000 }, NULL);
  return syscall (SYS_fdatasync, fd);
}
