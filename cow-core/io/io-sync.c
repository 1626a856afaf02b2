/* io-sync.c - the engine of plain system calls.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Works everywhere.  Its queue keeps the requests in order, and does them in
 * the thread that reaps, one by one.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "io/engine.h"

struct sync_queue {
  struct cow_queue base;
  unsigned depth;
  struct cow_request *first, **end;
};

static int
sync_queue_new (struct cow_io *io, unsigned depth, struct cow_queue **out)
{
  struct sync_queue *q = calloc (1, sizeof *q);

  if (q == NULL)
    return -ENOMEM;
  q->base.io = io;
  q->depth = depth;
  q->end = &q->first;
  *out = &q->base;
  return 0;
}

static int
sync_submit (struct cow_queue *base, struct cow_request *req)
{
  struct sync_queue *q = COW_CONTAINER_OF (base, struct sync_queue, base);

  if (base->in_flight == q->depth)
    return -EAGAIN;
  *q->end = req;
  q->end = &req->next;
  base->in_flight++;
  return 0;
}

static int
perform (struct cow_request *req)
{
  switch (req->op) {
  case COW_OP_READ:
    return cow_file_pread (req->file, req->buf, req->len, req->offset);
  case COW_OP_WRITE:
    return cow_file_pwrite (req->file, req->buf, req->len, req->offset);
  case COW_OP_SYNC:
    return cow_file_sync (req->file);
  }
  assert (false);
  return -EINVAL;
}

static int
sync_reap (struct cow_queue *base, unsigned min, uint64_t deadline_ns)
{
  struct sync_queue *q = COW_CONTAINER_OF (base, struct sync_queue, base);
  /* Of those that done callbacks add meanwhile, only what min asks for. */
  const unsigned most = COW_MAX (min, base->in_flight);
  unsigned called = 0;

  while (q->first && called < most) {
    struct cow_request *req = q->first;

    q->first = req->next;
    if (q->first == NULL)
      q->end = &q->first;
    req->next = NULL;
    base->in_flight--;
    req->done (req, perform (req));
    called++;
    if (min > 0 && deadline_ns != COW_NEVER && cow_now_ns () >= deadline_ns)
      break;
  }
  return (int) called;
}

static void
sync_queue_free (struct cow_queue *base)
{
  struct sync_queue *q = COW_CONTAINER_OF (base, struct sync_queue, base);

  while (base->in_flight > 0)
    sync_reap (base, base->in_flight, COW_NEVER);
  free (q);
}

static void
sync_free (struct cow_io *io)
{
  free (io);
}

static const struct cow_io_ops sync_ops = {
  .name = "sync",
  COW_POSIX_FILE_OPS,
  .queue_new = sync_queue_new,
  .queue_free = sync_queue_free,
  .submit = sync_submit,
  .reap = sync_reap,
  .free = sync_free,
};

int
cow_io_sync_new (struct cow_error *err, struct cow_io **out)
{
  struct cow_io *io = calloc (1, sizeof *io);

  if (io == NULL)
    return cow_error_set (err, -ENOMEM, "out of memory");
  io->ops = &sync_ops;
  *out = io;
  return 0;
}
