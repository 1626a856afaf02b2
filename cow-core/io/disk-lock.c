/* disk-lock.c - see disk-lock.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>

#include "base/bits.h"
#include "base/sync.h"
#include "io/disk-lock.h"

/* QEMU's byte-range locks (block/file-posix.c): a shared lock on byte 100 + n
 * says "I use permission n", on 200 + n "I let nobody else use it".
 */
enum {
  QEMU_READ = 0,
  QEMU_WRITE = 1,
  QEMU_RESIZE = 3,
};

#define USED(permission) (100 + (permission))
#define REFUSED(permission) (200 + (permission))

static int
lock_once (struct cow_file *f, bool readonly)
{
  static const struct {
    unsigned byte;
    bool asked;                 /* whether somebody has it; else it is taken */
    bool to_write;              /* not for a disk that is only read */
  } steps[] = {
    /* Said first, asked then: of two that start together, one at least sees
     * the other.
     */
    { USED (QEMU_READ), false, false },
    { USED (QEMU_WRITE), false, true },
    { REFUSED (QEMU_WRITE), false, false },
    { REFUSED (QEMU_RESIZE), false, false },
    { REFUSED (QEMU_READ), true, false },
    { REFUSED (QEMU_WRITE), true, true },
    { USED (QEMU_WRITE), true, false },
    { USED (QEMU_RESIZE), true, false },
  };
  int rc = 0;

  for (unsigned i = 0; rc == 0 && i < COW_ARRAY_SIZE (steps); i++)
    if (!steps[i].to_write || !readonly)
      rc = steps[i].asked ? cow_file_lock_test (f, steps[i].byte, 1, true)
                          : cow_file_lock (f, steps[i].byte, 1, false);
  return rc;
}

int
cow_file_lock_disk (struct cow_file *f, bool readonly, uint64_t deadline_ns)
{
  int rc;

  while ((rc = lock_once (f, readonly)) == -EAGAIN
         && cow_now_ns () < deadline_ns)
    cow_sleep_ns (50 * COW_NS_PER_MS);
  return rc;
}
