/* disk-lock.c - see disk-lock.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include "io/disk-lock.h"

/* QEMU's byte-range locks (block/file-posix.c): a shared lock on byte 100 + n
 * says "I use permission n", on 200 + n "I let nobody else use it".
 */
#define QEMU_USED 100
#define QEMU_REFUSED 200
enum {
  QEMU_READ = 0,
  QEMU_WRITE = 1,
  QEMU_RESIZE = 3,
};

int
cow_file_lock_disk (struct cow_file *f, bool readonly)
{
  int rc;

  /* Said first, asked then: of two that start together, one at least sees the
   * other.
   */
  rc = cow_file_lock (f, QEMU_USED + QEMU_READ, 1, false);
  if (rc == 0 && !readonly)
    rc = cow_file_lock (f, QEMU_USED + QEMU_WRITE, 1, false);
  if (rc == 0)
    rc = cow_file_lock (f, QEMU_REFUSED + QEMU_WRITE, 1, false);
  if (rc == 0)
    rc = cow_file_lock (f, QEMU_REFUSED + QEMU_RESIZE, 1, false);
  if (rc == 0)
    rc = cow_file_lock_test (f, QEMU_REFUSED + QEMU_READ, 1, true);
  if (rc == 0 && !readonly)
    rc = cow_file_lock_test (f, QEMU_REFUSED + QEMU_WRITE, 1, true);
  if (rc == 0)
    rc = cow_file_lock_test (f, QEMU_USED + QEMU_WRITE, 1, true);
  if (rc == 0)
    rc = cow_file_lock_test (f, QEMU_USED + QEMU_RESIZE, 1, true);
  return rc;
}
