/* engine.h - what the engines share; for io/ and the simulated disk only.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef COW_IO_ENGINE_H
#define COW_IO_ENGINE_H

#include "io/io.h"

/* The engines.  io_uring fails, with the reason, where it is refused. */
int cow_io_uring_new (struct cow_error *err, struct cow_io **out);
int cow_io_sync_new (struct cow_error *err, struct cow_io **out);

/* The right to run a sync of f.  0: begin it, and end it with
 * cow_sync_end; -EAGAIN: another one is running; otherwise the error of one
 * that failed.
 */
int cow_sync_begin (struct cow_file *f);

/* The sync that was begun has ended with result (0 or -errno), which is
 * returned.
 */
int cow_sync_end (struct cow_file *f, int result);

/* Wait until no sync is running, or deadline_ns has passed. */
void cow_sync_wait (struct cow_file *f, uint64_t deadline_ns);

/* How far a request has come after the kernel said *result (bytes or -errno):
 * true when it is over, with *result 0 or -errno; false when the rest (of a
 * sync, all) is to be asked for.
 */
bool cow_transfer_over (struct cow_request *req, int64_t *result);

/* Whether a read or write of f is aligned and in range. */
bool cow_file_fits (const struct cow_file *f, const void *buf, size_t len,
                    uint64_t offset);

/* Files of the operating system (posix-file.c), for both real engines: the
 * face "now" of their operations.
 */
int cow_posix_open (struct cow_io *io, const char *path, unsigned flags,
                    struct cow_error *err, struct cow_file **out);
void cow_posix_close (struct cow_file *f);
int cow_posix_fd (const struct cow_file *f);
int cow_posix_lock (struct cow_file *f, uint64_t first, uint64_t len,
                    bool exclusive);
int cow_posix_lock_test (struct cow_file *f, uint64_t first, uint64_t len,
                         bool exclusive);
int cow_posix_pread (struct cow_file *f, void *buf, size_t len,
                     uint64_t offset);
int cow_posix_pwrite (struct cow_file *f, const void *buf, size_t len,
                      uint64_t offset);
int cow_posix_sync (struct cow_file *f);
int cow_posix_punch (struct cow_file *f, uint64_t offset, uint64_t len);
int cow_posix_zero (struct cow_file *f, uint64_t offset, uint64_t len,
                    bool may_punch);
int cow_posix_allocate (struct cow_file *f, uint64_t offset, uint64_t len);
int cow_posix_hole (struct cow_file *f, uint64_t offset, uint64_t *len);
int cow_posix_space (struct cow_file *f, uint64_t *free_bytes,
                     uint64_t *total_bytes);
int cow_posix_extent (struct cow_file *f, uint64_t offset,
                      enum cow_extent_kind *kind, uint64_t *len);
int cow_posix_advise_random (struct cow_file *f);
int cow_posix_open_cached (struct cow_file *f, struct cow_file **out);
int64_t cow_posix_pread_cached (struct cow_file *f, void *buf, size_t len,
                                uint64_t offset);
void cow_posix_prefetch (struct cow_file *f, uint64_t offset, uint64_t len);

/* Marks and names (posix-names.c). */
int cow_posix_identity (struct cow_file *f, struct cow_identity *out);
int cow_posix_get_mark (struct cow_file *f, void *buf, size_t room);
int cow_posix_set_mark (struct cow_file *f, const void *mark, size_t len);
int cow_posix_sync_all (struct cow_file *f);
int cow_posix_exists (struct cow_io *io, const char *path);
int cow_posix_remove (struct cow_io *io, const char *path);
int cow_posix_list (struct cow_io *io, const char *directory, cow_name_fn fn,
                    void *opaque);
int cow_posix_sync_dir (struct cow_io *io, const char *directory);

#define COW_POSIX_FILE_OPS                                              \
  .open = cow_posix_open,                                               \
  .close = cow_posix_close,                                             \
  .lock = cow_posix_lock,                                               \
  .lock_test = cow_posix_lock_test,                                     \
  .pread = cow_posix_pread,                                             \
  .pwrite = cow_posix_pwrite,                                           \
  .sync = cow_posix_sync,                                               \
  .punch = cow_posix_punch,                                             \
  .zero = cow_posix_zero,                                               \
  .allocate = cow_posix_allocate,                                       \
  .space = cow_posix_space,                                             \
  .hole = cow_posix_hole,                                               \
  .extent = cow_posix_extent,                                           \
  .advise_random = cow_posix_advise_random,                             \
  .identity = cow_posix_identity,                                       \
  .get_mark = cow_posix_get_mark,                                       \
  .set_mark = cow_posix_set_mark,                                       \
  .sync_all = cow_posix_sync_all,                                       \
  .exists = cow_posix_exists,                                           \
  .remove = cow_posix_remove,                                           \
  .list = cow_posix_list,                                               \
  .sync_dir = cow_posix_sync_dir,                                       \
  .open_cached = cow_posix_open_cached,                                 \
  .pread_cached = cow_posix_pread_cached,                               \
  .prefetch = cow_posix_prefetch

#endif /* COW_IO_ENGINE_H */
