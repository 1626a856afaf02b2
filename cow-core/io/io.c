/* io.c - the choice of an engine, and what is the same for all of them.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Syncs of a file: the kernel reports a failed writeback to one sync of an
 * open file only, and forgets.  If two ran side by side, one could take the
 * failure away and the other be told that all is well.  So at most one runs; a
 * caller who comes meanwhile needs one begun after its call, and shares it
 * with everybody else who waits.  The first failure is kept and ends all.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/mutant.h"
#include "io/engine.h"

int
cow_io_new (enum cow_io_kind kind, struct cow_error *err, struct cow_io **out)
{
  struct cow_error why = COW_ERROR_INIT;

  switch (kind) {
  case COW_IO_URING:
    return cow_io_uring_new (err, out);
  case COW_IO_SYNC:
    return cow_io_sync_new (err, out);
  case COW_IO_AUTO:
    if (cow_io_uring_new (&why, out) == 0)
      return 0;
    cow_log (COW_LOG_INFO, "using plain system calls: %s", why.text);
    return cow_io_sync_new (err, out);
  }
  assert (false);
  return -EINVAL;
}

void
cow_io_free (struct cow_io *io)
{
  if (io)
    io->ops->free (io);
}

static void
start_syncs (struct cow_file *f)
{
  cow_mutex_init (&f->sync_lock);
  cow_cond_init (&f->sync_cond);
  f->sync_running = false;
  f->syncs_begun = 0;
  f->sync_error = 0;
}

int
cow_file_open (struct cow_io *io, const char *path, unsigned flags,
               struct cow_error *err, struct cow_file **out)
{
  struct cow_file *f;
  const int r = io->ops->open (io, path, flags, err, &f);

  if (r < 0)
    return r;
  start_syncs (f);
  *out = f;
  return 0;
}

int
cow_file_open_cached (struct cow_file *f, struct cow_file **out)
{
  struct cow_file *cached;
  int r;

  if (f->io->ops->open_cached == NULL)
    return -EOPNOTSUPP;
  r = f->io->ops->open_cached (f, &cached);
  if (r < 0)
    return r;
  start_syncs (cached);
  *out = cached;
  return 0;
}

void
cow_file_close (struct cow_file *f)
{
  if (f == NULL)
    return;
  assert (!f->sync_running);
  cow_cond_destroy (&f->sync_cond);
  cow_mutex_destroy (&f->sync_lock);
  f->io->ops->close (f);
}

bool
cow_file_fits (const struct cow_file *f, const void *buf, size_t len,
               uint64_t offset)
{
  const uint32_t align = f->info.align_bytes;

  return offset <= INT64_MAX && len <= INT64_MAX - offset &&
         cow_is_aligned (offset | len | (uintptr_t) buf, align);
}

int
cow_file_lock (struct cow_file *f, uint64_t first, uint64_t len,
               bool exclusive)
{
  return f->io->ops->lock (f, first, len, exclusive);
}

int
cow_file_lock_test (struct cow_file *f, uint64_t first, uint64_t len,
                    bool exclusive)
{
  return f->io->ops->lock_test (f, first, len, exclusive);
}

static bool
in_range (uint64_t offset, uint64_t len)
{
  const bool yes = offset <= INT64_MAX && len <= INT64_MAX - offset;

  assert (yes);
  return yes;
}

int
cow_file_punch (struct cow_file *f, uint64_t offset, uint64_t len)
{
  if (!in_range (offset, len))
    return -EINVAL;
  return len == 0 ? 0 : f->io->ops->punch (f, offset, len);
}

int
cow_file_zero (struct cow_file *f, uint64_t offset, uint64_t len,
               bool may_punch)
{
  if (!in_range (offset, len))
    return -EINVAL;
  return len == 0 ? 0 : f->io->ops->zero (f, offset, len, may_punch);
}

int
cow_file_space (struct cow_file *f, uint64_t *free_bytes,
                uint64_t *total_bytes)
{
  return f->io->ops->space (f, free_bytes, total_bytes);
}

int
cow_file_allocate (struct cow_file *f, uint64_t offset, uint64_t len)
{
  if (!in_range (offset, len))
    return -EINVAL;
  return len == 0 ? 0 : f->io->ops->allocate (f, offset, len);
}

int
cow_file_hole (struct cow_file *f, uint64_t offset, uint64_t *len)
{
  return f->io->ops->hole (f, offset, len);
}

int
cow_file_extent (struct cow_file *f, uint64_t offset,
                 enum cow_extent_kind *kind, uint64_t *len)
{
  return f->io->ops->extent (f, offset, kind, len);
}

int
cow_file_advise_random (struct cow_file *f)
{
  return f->io->ops->advise_random (f);
}

int
cow_sync_begin (struct cow_file *f)
{
  LOCK_FOR_SCOPE (&f->sync_lock);

  if (f->sync_error)
    return f->sync_error;
  if (f->sync_running)
    return -EAGAIN;
  f->sync_running = true;
  f->syncs_begun++;
  return 0;
}

int
cow_sync_end (struct cow_file *f, int result)
{
  LOCK_FOR_SCOPE (&f->sync_lock);

  assert (f->sync_running);
  assert (f->sync_error == 0);
  f->sync_running = false;
  if (result < 0 && !COW_MUTANT (sync_is_retried))
    f->sync_error = result;
  cow_cond_broadcast (&f->sync_cond);
  return result;
}

void
cow_sync_wait (struct cow_file *f, uint64_t deadline_ns)
{
  LOCK_FOR_SCOPE (&f->sync_lock);

  while (f->sync_running) {
    if (!cow_cond_wait_until (&f->sync_cond, &f->sync_lock, deadline_ns))
      return;
  }
}

/* A sync begun after the call has ended well (true), or one has failed
 * (*result); false: the caller is to run one, which it has begun.
 */
static bool
sync_by_others (struct cow_file *f, int *result)
{
  LOCK_FOR_SCOPE (&f->sync_lock);
  const uint64_t needed = f->syncs_begun + 1;

  for (;;) {
    *result = f->sync_error;
    if (f->sync_error)
      return true;
    if (!f->sync_running) {
      /* The last one begun has ended, and not failed. */
      if (f->syncs_begun >= needed)
        return true;
      f->sync_running = true;
      f->syncs_begun++;
      return false;
    }
    cow_cond_wait_until (&f->sync_cond, &f->sync_lock, COW_NEVER);
  }
}

int
cow_file_sync (struct cow_file *f)
{
  int r;

  if (sync_by_others (f, &r))
    return r;
  return cow_sync_end (f, f->io->ops->sync (f));
}

int
cow_file_identity (struct cow_file *f, struct cow_identity *out)
{
  return f->io->ops->identity (f, out);
}

int
cow_file_get_mark (struct cow_file *f, void *buf, size_t room)
{
  return f->io->ops->get_mark (f, buf, room);
}

int
cow_file_set_mark (struct cow_file *f, const void *mark, size_t len)
{
  int r;

  assert (len <= COW_MARK_BYTES_MAX);
  r = f->io->ops->set_mark (f, mark, len);
  if (r < 0)
    return r;
  /* Syncs of others are of data only: this one is not shared. */
  while ((r = cow_sync_begin (f)) == -EAGAIN)
    cow_sync_wait (f, COW_NEVER);
  return r < 0 ? r : cow_sync_end (f, f->io->ops->sync_all (f));
}

int
cow_io_exists (struct cow_io *io, const char *path)
{
  return io->ops->exists (io, path);
}

int
cow_io_remove (struct cow_io *io, const char *path)
{
  return io->ops->remove (io, path);
}

int
cow_io_list (struct cow_io *io, const char *directory, cow_name_fn fn,
             void *opaque)
{
  return io->ops->list (io, directory, fn, opaque);
}

int
cow_io_sync_dir (struct cow_io *io, const char *directory)
{
  return io->ops->sync_dir (io, directory);
}

bool
cow_transfer_over (struct cow_request *req, int64_t *result)
{
  const struct cow_file *f = req->file;
  const int64_t r = *result;

  if (r == -EINTR || r == -EAGAIN || r == -ECANCELED)
    return false;
  if (r < 0)
    return true;
  *result = 0;
  if (req->op == COW_OP_SYNC)
    return true;
  req->moved += (size_t) r;
  assert (req->moved <= req->len);
  if (req->moved == req->len)
    return true;

  if (req->op == COW_OP_WRITE) {
    if (r == 0)
      *result = -EIO;
    return r == 0;
  }
  /* Directly, only the end of the file gives a piece of odd length. */
  if (r == 0 || !cow_is_aligned ((uint64_t) r, f->info.align_bytes)) {
    memset ((char *) req->buf + req->moved, 0, req->len - req->moved);
    return true;
  }
  return false;
}

int
cow_queue_new (struct cow_io *io, unsigned depth, struct cow_queue **out)
{
  assert (depth > 0);
  return io->ops->queue_new (io, depth, out);
}

void
cow_queue_free (struct cow_queue *q)
{
  if (q)
    q->io->ops->queue_free (q);
}

int
cow_queue_submit (struct cow_queue *q, struct cow_request *req)
{
  req->moved = 0;
  req->next = NULL;
  return q->io->ops->submit (q, req);
}

int
cow_queue_reap (struct cow_queue *q, unsigned min, uint64_t deadline_ns)
{
  return q->io->ops->reap (q, min, deadline_ns);
}
