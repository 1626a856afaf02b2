/* io.h - the seam: every read, write, sync and discard of cow-core.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A file is opened by an engine and used through it.  There are two faces:
 *
 *   now    a plain call, done in the caller's thread.  Any thread, also
 *          several at once on one file.
 *   batch  requests handed to a queue and reaped from it.  A queue belongs to
 *          one thread at a time (its user provides the exclusion).
 *
 * and three engines: io_uring (io-uring.c: plain system calls for the face
 * "now", a ring per queue), plain system calls (io-sync.c: also the queue), and
 * a simulated disk (tests/sim).
 *
 * All lengths and offsets are in bytes; no range ends beyond INT64_MAX.
 * Functions return 0 or -errno unless said otherwise, and always move
 * everything or fail: a short transfer is continued, EINTR and EAGAIN are
 * repeated; a read beyond the end of the file gives zeroes.  After a failed
 * write the range holds old and new data in any mixture.
 *
 * Offset, length and memory of every read and write are multiples of the
 * file's align_bytes: anything else is a programmer's error (an assertion; with
 * assertions off -EINVAL).
 *
 * A failed sync is final: the file remembers it, and every later sync of it
 * fails with the same error without asking the kernel (which would forget).
 * The kernel tells a failure to one caller only, so that a file has at most
 * one sync running: those who come meanwhile share the next one.
 */
#ifndef COW_IO_IO_H
#define COW_IO_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/sync.h"

enum cow_io_kind {
  COW_IO_AUTO,                  /* io_uring where it works, else sync */
  COW_IO_URING,
  COW_IO_SYNC,
};

struct cow_io;                  /* an engine */
struct cow_file;                /* an open file of an engine */
struct cow_queue;               /* batch face */

/* How a file is opened. */
enum {
  COW_OPEN_READONLY = 1 << 0,
  COW_OPEN_DIRECT = 1 << 1,     /* O_DIRECT; falls back to buffered where the
                                 * file system refuses, see cow_file_info */
  COW_OPEN_UNNAMED = 1 << 2,    /* path is a directory: O_TMPFILE, or create
                                 * and unlink */
  COW_OPEN_DIRECT_STRICT = 1 << 3, /* fail instead of falling back */
  COW_OPEN_CREATE = 1 << 4,     /* make it, mode 0600, empty; -EEXIST if the
                                 * name is there.  It lasts only when its
                                 * directory is synced, too */
};

struct cow_file_info {
  uint64_t size_bytes;          /* at open; block devices: of the device */
  bool is_block;
  bool is_direct;               /* really O_DIRECT */
  bool is_readonly;
  uint32_t align_bytes;         /* of offset, length and memory; 1 if buffered */
  /* Deallocating and efficient zeroing are supported, as far as is known
   * without trying: opening changes nothing about a file, its times included.
   */
  bool can_punch, can_zero;
};

/* What an origin is known by.  Times in ns since 1970. */
struct cow_identity {
  uint64_t device, inode;       /* of a block device: its number, and 0 */
  uint64_t size_bytes;
  uint64_t modified_ns, changed_ns;
};

#define COW_MARK_BYTES_MAX 256u

enum cow_extent_kind {
  COW_EXTENT_DATA,
  COW_EXTENT_HOLE,              /* reads as zeroes, nothing allocated */
};

/* Called with each name in a directory.  Non-zero ends the walk. */
typedef int (*cow_name_fn) (void *opaque, const char *name);

struct cow_request;
typedef void (*cow_done) (struct cow_request *req, int result);

enum cow_request_op { COW_OP_READ, COW_OP_WRITE, COW_OP_SYNC };

/* A request of the batch face.  It and its buffer belong to the queue from
 * cow_queue_submit until done is called; done may submit further requests (also
 * this one again), but not reap.
 *
 * Requests in flight are done in any order: a sync covers the writes whose done
 * was called before it was submitted, no others.
 */
struct cow_request {
  enum cow_request_op op;
  struct cow_file *file;
  void *buf;
  size_t len;
  uint64_t offset;
  cow_done done;                /* called by cow_queue_reap; result 0 or -errno */
  void *opaque;                 /* the submitter's */
  /* The engine's own. */
  size_t moved;
  struct cow_request *next;
};

struct cow_io_ops {
  const char *name;
  int (*open) (struct cow_io *io, const char *path, unsigned flags,
               struct cow_error *err, struct cow_file **out);
  void (*close) (struct cow_file *f);
  int (*lock) (struct cow_file *f, uint64_t first, uint64_t len, bool exclusive);
  int (*lock_test) (struct cow_file *f, uint64_t first, uint64_t len,
                    bool exclusive);
  int (*pread) (struct cow_file *f, void *buf, size_t len, uint64_t offset);
  int (*pwrite) (struct cow_file *f, const void *buf, size_t len,
                 uint64_t offset);
  int (*sync) (struct cow_file *f);
  int (*punch) (struct cow_file *f, uint64_t offset, uint64_t len);
  int (*zero) (struct cow_file *f, uint64_t offset, uint64_t len, bool may_punch);
  int (*allocate) (struct cow_file *f, uint64_t offset, uint64_t len);
  int (*space) (struct cow_file *f, uint64_t *free_bytes,
                uint64_t *total_bytes);
  int (*extent) (struct cow_file *f, uint64_t offset, enum cow_extent_kind *kind,
                 uint64_t *len);
  int (*hole) (struct cow_file *f, uint64_t offset, uint64_t *len);
  int (*advise_random) (struct cow_file *f);
  int (*identity) (struct cow_file *f, struct cow_identity *out);
  int (*get_mark) (struct cow_file *f, void *buf, size_t room);
  int (*set_mark) (struct cow_file *f, const void *mark, size_t len);
  int (*sync_all) (struct cow_file *f);
  int (*exists) (struct cow_io *io, const char *path);
  int (*remove) (struct cow_io *io, const char *path);
  int (*list) (struct cow_io *io, const char *directory, cow_name_fn fn,
               void *opaque);
  int (*sync_dir) (struct cow_io *io, const char *directory);
  /* The page cache.  NULL, all three, where there is none. */
  int (*open_cached) (struct cow_file *f, struct cow_file **out);
  int64_t (*pread_cached) (struct cow_file *f, void *buf, size_t len,
                           uint64_t offset);
  void (*prefetch) (struct cow_file *f, uint64_t offset, uint64_t len);
  int (*queue_new) (struct cow_io *io, unsigned depth, struct cow_queue **out);
  void (*queue_free) (struct cow_queue *q);
  int (*submit) (struct cow_queue *q, struct cow_request *req);
  int (*reap) (struct cow_queue *q, unsigned min, uint64_t deadline_ns);
  void (*free) (struct cow_io *io);
};

/* Every engine's object, file and queue begin with these. */
struct cow_io {
  const struct cow_io_ops *ops;
};
struct cow_file {
  struct cow_io *io;
  struct cow_file_info info;

  /* Syncs (io.c). */
  cow_mutex sync_lock;
  cow_cond sync_cond;           /* the running one has ended */
  bool sync_running;            /* sync_lock */
  uint64_t syncs_begun;         /* sync_lock; the running one included */
  int sync_error;               /* sync_lock; of the first that failed */
};
struct cow_queue {
  struct cow_io *io;
  unsigned in_flight;
};

/* Make an engine.  AUTO tries io_uring (a ring is set up and torn down) and
 * says once, at INFO, why it was not taken.  URING fails where it is refused.
 * No ring and no thread lives on after this call: the server may fork.
 */
int cow_io_new (enum cow_io_kind kind, struct cow_error *err,
                struct cow_io **out);
void cow_io_free (struct cow_io *io);
static inline const char *
cow_io_name (const struct cow_io *io)
{
  return io->ops->name;
}

int cow_file_open (struct cow_io *io, const char *path, unsigned flags,
                   struct cow_error *err, struct cow_file **out);
void cow_file_close (struct cow_file *f);

/* Open-file-description lock on a byte range (F_OFD_SETLK): survives fork,
 * ends with the close.  -EAGAIN if somebody else has it.
 */
int cow_file_lock (struct cow_file *f, uint64_t first, uint64_t len,
                   bool exclusive);

/* Whether cow_file_lock would succeed at the moment: 0, or -EAGAIN.  A file
 * opened read-only can be asked about exclusive locks, too.
 */
int cow_file_lock_test (struct cow_file *f, uint64_t first, uint64_t len,
                        bool exclusive);

static inline int
cow_file_pread (struct cow_file *f, void *buf, size_t len, uint64_t offset)
{
  return f->io->ops->pread (f, buf, len, offset);
}
static inline int
cow_file_pwrite (struct cow_file *f, const void *buf, size_t len,
                 uint64_t offset)
{
  return f->io->ops->pwrite (f, buf, len, offset);
}

/* Data and what is needed to find it are on stable storage (fdatasync). */
int cow_file_sync (struct cow_file *f);

/* Deallocate; the range reads as zeroes afterwards.  -EOPNOTSUPP if the file
 * or device can't (nothing was changed).
 */
int cow_file_punch (struct cow_file *f, uint64_t offset, uint64_t len);

/* Zeroes without writing them, where the file can: may_punch allows holes.
 * The file does not grow: beyond its end it reads as zeroes anyway.
 * -EOPNOTSUPP if it can't be done without writing (nothing was changed).
 */
int cow_file_zero (struct cow_file *f, uint64_t offset, uint64_t len,
                   bool may_punch);

/* Space for [offset, offset+len), extending the file.  -ENOSPC (also for a
 * quota, and beyond the end of a device); -EOPNOTSUPP where the file system
 * can't preallocate.
 */
int cow_file_allocate (struct cow_file *f, uint64_t offset, uint64_t len);

/* What the file's file system has left for such as us, and has in all. */
int cow_file_space (struct cow_file *f, uint64_t *free_bytes,
                    uint64_t *total_bytes);

/* The kind of the extent at offset and how far it goes on, at least 1 byte,
 * at most to the end of the file.  Devices, and files that can't tell: DATA.
 * -ENXIO at the end of the file and beyond.
 */
int cow_file_extent (struct cow_file *f, uint64_t offset,
                     enum cow_extent_kind *kind, uint64_t *len);

/* How many bytes from offset on are a hole, 0 if it is data (or can't be told).
 * Cheaper than cow_file_extent, which also has to find the end of the data.
 */
int cow_file_hole (struct cow_file *f, uint64_t offset, uint64_t *len);

/* Reads will come at random: no read-ahead, no large folios from it. */
int cow_file_advise_random (struct cow_file *f);

int cow_file_identity (struct cow_file *f, struct cow_identity *out);

/* A few bytes that go with the file but are not in it: the extended attribute
 * "user.cowset".  get: its length, 0 if there is none; -ERANGE if it has more
 * than room bytes.  set replaces it, with len 0 takes it away, and is on stable
 * storage when it returns 0.  After a failure the old mark or the new one may
 * be there.
 * -EOPNOTSUPP: the file can't have one (block devices, some file systems);
 * -EACCES, -EPERM: of somebody else; -EROFS; -ENOSPC; -EIO.
 */
int cow_file_get_mark (struct cow_file *f, void *buf, size_t room);
int cow_file_set_mark (struct cow_file *f, const void *mark, size_t len);

/* Names.  What is created or removed lasts only when its directory has been
 * synced; until then a crash may undo it.
 */
/* 1, 0, or -errno if it can't be told. */
int cow_io_exists (struct cow_io *io, const char *path);
/* A file.  -ENOENT if it is not there. */
int cow_io_remove (struct cow_io *io, const char *path);
/* All names but "." and "..", in any order.  What fn returned last, or -errno. */
int cow_io_list (struct cow_io *io, const char *directory, cow_name_fn fn,
                 void *opaque);
int cow_io_sync_dir (struct cow_io *io, const char *directory);

/* The file once more, to be read by way of the page cache, without read-ahead
 * of the kernel's own choice.  -EOPNOTSUPP where there is no page cache
 * (simulated disks); -errno where the system refuses.  What is written to f is
 * in it when the write is done: the kernel drops cached pages before and after
 * a write that goes past the cache.
 */
int cow_file_open_cached (struct cow_file *f, struct cow_file **out);

/* Read what is in memory already, without waiting for the disk: how many bytes
 * there were from offset on (0 or more, not beyond the end of the file);
 * -EOPNOTSUPP where the file system can't tell.  Of a file from
 * cow_file_open_cached.
 */
static inline int64_t
cow_file_pread_cached (struct cow_file *f, void *buf, size_t len,
                       uint64_t offset)
{
  return f->io->ops->pread_cached (f, buf, len, offset);
}

/* Begin to bring a range into the page cache; a hint.  Of the same. */
static inline void
cow_file_prefetch (struct cow_file *f, uint64_t offset, uint64_t len)
{
  f->io->ops->prefetch (f, offset, len);
}

/* A queue is for one process: it is made after the server has forked. */
int cow_queue_new (struct cow_io *io, unsigned depth, struct cow_queue **out);
/* Waits for what is in flight, and calls done for it. */
void cow_queue_free (struct cow_queue *q);
/* 0, or -EAGAIN when depth requests are in flight already.  The request is
 * started by the next reap (of several, all at once), not before.
 */
int cow_queue_submit (struct cow_queue *q, struct cow_request *req);
/* Start what was submitted, complete at least min requests (or all, if fewer
 * are in flight), and whatever else is ready; returns how many done callbacks
 * were called, or what was reached when deadline_ns passed.  (q, 0, 0) starts
 * requests without waiting; plain system calls do them meanwhile.  -errno only
 * if the ring itself has failed and nothing could be completed.
 *
 * Whoever submitted a sync goes on reaping until it is done: other syncs of
 * the file wait for it.
 */
int cow_queue_reap (struct cow_queue *q, unsigned min, uint64_t deadline_ns);

#endif /* COW_IO_IO_H */
