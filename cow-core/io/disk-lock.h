/* disk-lock.h - the locks that QEMU and its tools understand.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * cowset reads and writes a disk and lets nobody else write or resize it, so
 * that QEMU refuses what cowset has open, and the reverse (QEMU's
 * block/file-posix.c has the bytes that are locked).
 *
 * Threads: any; the locks are the open file's and go when it is closed.
 */
#ifndef COW_DISK_LOCK_H
#define COW_DISK_LOCK_H

#include "io/io.h"

/* A server that was killed may still be on its way out of the kernel. */
#define COW_LOCK_WAIT_NS (5 * COW_NS_PER_S)

/* Say what is used and what is let nobody else do, then see whether somebody
 * does; who does is waited for until deadline_ns.  -EAGAIN: somebody still uses
 * it; what was locked stays so until the close.  Other errors as cow_file_lock.
 */
int cow_file_lock_disk (struct cow_file *f, bool readonly,
                        uint64_t deadline_ns);

#endif /* COW_DISK_LOCK_H */
