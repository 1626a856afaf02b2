/* io-uring.c - the engine with a ring for each queue.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The face "now" is plain system calls: one request alone is quicker so.  A
 * queue is a ring.  Requests are put into it when submitted, and the next reap
 * hands all of them to the kernel in one call.
 *
 * A ring belongs to a process, so none is made before a queue is; the
 * engine's making only tries one, and takes it down again.
 *
 * No IORING_SETUP_SINGLE_ISSUER, _DEFER_TASKRUN or _COOP_TASKRUN: a queue's
 * user may call from one thread now, from another later, and completions must
 * not wait for the first.
 *
 * Syncs: at most one of a file runs at a time (io.c says why).  Those that
 * have to wait are kept in `waiting` and tried again by each reap.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "io/engine.h"

/* What one entry of the ring moves, which has 32 bits for it. */
#define ENTRY_BYTES_MAX ((size_t) 1 << 30)

/* The kernel's bound on the entries of a ring. */
#define DEPTH_MAX 32768

/* How long a reap sleeps at most while a sync of another queue or thread
 * keeps one of ours waiting, beside requests that are in the ring.
 */
#define SYNC_POLL_NS COW_NS_PER_MS

struct uring_queue {
  struct cow_queue base;        /* in_flight counts `waiting`, too */
  struct io_uring ring;
  unsigned depth;
  unsigned in_ring;             /* entries prepared or with the kernel */
  unsigned prepared;            /* of these, not with the kernel yet */
  struct cow_request *waiting;  /* syncs, the oldest first */
  bool reaping;
};

static struct uring_queue *
uring (struct cow_queue *base)
{
  return COW_CONTAINER_OF (base, struct uring_queue, base);
}

static int
ring_init (struct io_uring *ring, unsigned depth)
{
  struct io_uring_params params = { .flags = IORING_SETUP_CLAMP };
  int r;

  r = io_uring_queue_init_params (depth, ring, &params);
  if (r < 0)
    return r;
  /* Waiting with a deadline. */
  if (!(params.features & IORING_FEAT_EXT_ARG)) {
    io_uring_queue_exit (ring);
    return -EOPNOTSUPP;
  }
  return 0;
}

/* An entry for what is left of the request. */
static void
prepare (struct uring_queue *q, struct cow_request *req)
{
  struct io_uring_sqe *sqe = io_uring_get_sqe (&q->ring);
  const int fd = cow_posix_fd (req->file);
  char *const at = (char *) req->buf + req->moved;
  const unsigned len =
    (unsigned) COW_MIN (req->len - req->moved, ENTRY_BYTES_MAX);

  assert (sqe); /* the ring has depth entries */
  switch (req->op) {
  case COW_OP_READ:
    io_uring_prep_read (sqe, fd, at, len, req->offset + req->moved);
    break;
  case COW_OP_WRITE:
    io_uring_prep_write (sqe, fd, at, len, req->offset + req->moved);
    break;
  case COW_OP_SYNC:
    io_uring_prep_fsync (sqe, fd, IORING_FSYNC_DATASYNC);
    break;
  }
  io_uring_sqe_set_data (sqe, req);
  q->in_ring++;
  q->prepared++;
}

static int
uring_submit (struct cow_queue *base, struct cow_request *req)
{
  struct uring_queue *q = uring (base);
  struct cow_request **end;

  if (base->in_flight == q->depth)
    return -EAGAIN;
  if (req->op == COW_OP_SYNC) {
    for (end = &q->waiting; *end; end = &(*end)->next)
      ;
    *end = req;
  }
  else {
    const bool fits =
      cow_file_fits (req->file, req->buf, req->len, req->offset);

    assert (fits);
    if (!fits)
      return -EINVAL;
    prepare (q, req);
  }
  base->in_flight++;
  return 0;
}

static void
complete (struct uring_queue *q, struct cow_request *req, int result)
{
  q->base.in_flight--;
  req->next = NULL;
  req->done (req, result);
}

/* Start the waiting syncs that may run.  Returns how many were completed,
 * because one of their file has failed before.
 */
static unsigned
start_syncs (struct uring_queue *q)
{
  struct cow_request **link = &q->waiting, *failed = NULL, *req;
  unsigned called = 0;

  while ((req = *link) != NULL) {
    const int r = cow_sync_begin (req->file);

    if (r == -EAGAIN) {
      link = &req->next;
      continue;
    }
    *link = req->next;
    if (r == 0)
      prepare (q, req);
    else {
      req->moved = (size_t) -r;
      req->next = failed;
      failed = req;
    }
  }
  /* Last, because done may submit. */
  while ((req = failed) != NULL) {
    failed = req->next;
    complete (q, req, -(int) req->moved);
    called++;
  }
  return called;
}

/* The kernel is done with an entry.  Returns whether its request is over; if
 * not, the rest of it is in the ring again.
 */
static bool
entry_over (struct uring_queue *q, struct cow_request *req, int64_t result)
{
  q->in_ring--;
  if (!cow_transfer_over (req, &result)) {
    prepare (q, req);
    return false;
  }
  if (req->op == COW_OP_SYNC)
    result = cow_sync_end (req->file, (int) result);
  complete (q, req, (int) result);
  return true;
}

/* Take what has completed out of the ring; returns how many requests are
 * over.  -ECANCELED comes when the thread that submitted has ended: the
 * request is repeated, as after EINTR.
 */
static unsigned
take_completions (struct uring_queue *q)
{
  const unsigned before = q->base.in_flight;
  struct io_uring_cqe *cqe;
  unsigned called = 0;

  /* Bounded: done may submit, and what is quick would never end. */
  while (called < before && io_uring_peek_cqe (&q->ring, &cqe) == 0) {
    struct cow_request *req = io_uring_cqe_get_data (cqe);
    const int result = cqe->res;

    io_uring_cqe_seen (&q->ring, cqe);
    called += entry_over (q, req, result);
  }
  return called;
}

/* Hand the prepared entries over, and wait for so many completions until
 * deadline_ns; 0: do not wait.
 */
static int
enter (struct uring_queue *q, unsigned wait_for, uint64_t deadline_ns)
{
  const uint64_t now_ns = deadline_ns == 0 ? 0 : cow_now_ns ();
  struct __kernel_timespec ts;
  struct io_uring_cqe *cqe;
  int r;

  if (deadline_ns <= now_ns)
    r = q->prepared > 0 ? io_uring_submit (&q->ring) : 0;
  else if (deadline_ns == COW_NEVER)
    r = io_uring_submit_and_wait (&q->ring, wait_for);
  else {
    ts = (struct __kernel_timespec) {
      .tv_sec = (int64_t) ((deadline_ns - now_ns) / COW_NS_PER_S),
      .tv_nsec = (long long) ((deadline_ns - now_ns) % COW_NS_PER_S),
    };
    r = io_uring_submit_and_wait_timeout (&q->ring, &cqe, wait_for, &ts,
                                          NULL);
  }
  /* What the kernel has taken, whatever r says. */
  q->prepared = io_uring_sq_ready (&q->ring);
  if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY && r != -ETIME)
    return r;
  return 0;
}

/* Wait for completions, or for the end of somebody else's sync. */
static int
wait_until (struct uring_queue *q, unsigned wanted, uint64_t deadline_ns)
{
  if (q->waiting == NULL)
    return enter (q, COW_MIN (wanted, q->in_ring), deadline_ns);
  if (q->in_ring > 0)
    return enter (q, 1, COW_MIN (deadline_ns, cow_now_ns () + SYNC_POLL_NS));
  cow_sync_wait (q->waiting->file, deadline_ns);
  return 0;
}

static int
uring_reap (struct cow_queue *base, unsigned min, uint64_t deadline_ns)
{
  struct uring_queue *q = uring (base);
  unsigned called = 0;
  int r;

  assert (!q->reaping);
  q->reaping = true;
  for (;;) {
    called += start_syncs (q);
    called += take_completions (q);
    if (called >= min || base->in_flight == 0)
      break;
    r = wait_until (q, min - called, deadline_ns);
    if (r < 0)
      goto out;
    if (deadline_ns != COW_NEVER && cow_now_ns () >= deadline_ns) {
      called += take_completions (q);
      break;
    }
  }
  called += start_syncs (q);
  r = q->prepared > 0 ? enter (q, 0, 0) : 0;
 out:
  q->reaping = false;
  return r < 0 && called == 0 ? r : (int) called;
}

static int
uring_queue_new (struct cow_io *io, unsigned depth, struct cow_queue **out)
{
  struct uring_queue *q;
  int r;

  if (depth > DEPTH_MAX)
    return -EINVAL;
  q = calloc (1, sizeof *q);
  if (q == NULL)
    return -ENOMEM;
  r = ring_init (&q->ring, depth);
  if (r < 0) {
    free (q);
    return r;
  }
  q->base.io = io;
  q->depth = depth;
  *out = &q->base;
  return 0;
}

static void
uring_queue_free (struct cow_queue *base)
{
  struct uring_queue *q = uring (base);

  /* If the ring itself fails, taking it down waits for the kernel; buffers
   * and requests are then nobody's.
   */
  while (base->in_flight > 0) {
    if (uring_reap (base, base->in_flight, COW_NEVER) < 0)
      break;
  }
  io_uring_queue_exit (&q->ring);
  free (q);
}

static void
uring_free (struct cow_io *io)
{
  free (io);
}

static const struct cow_io_ops uring_ops = {
  .name = "io_uring",
  COW_POSIX_FILE_OPS,
  .queue_new = uring_queue_new,
  .queue_free = uring_queue_free,
  .submit = uring_submit,
  .reap = uring_reap,
  .free = uring_free,
};

static const char *
refusal (int code)
{
  switch (-code) {
  case ENOSYS:
    return "this kernel has no io_uring";
  case EPERM:
  case EACCES:
    return "io_uring is not permitted (kernel.io_uring_disabled, or the "
           "container's seccomp profile)";
  case ENOMEM:
    return "no locked memory for io_uring (ulimit -l)";
  case EOPNOTSUPP:
    return "this kernel's io_uring is too old";
  default:
    return strerror (-code);
  }
}

/* Set up a ring, send something through it, and take it down. */
static int
try_ring (void)
{
  struct io_uring_probe *probe;
  struct io_uring_cqe *cqe;
  struct io_uring ring;
  int r;

  r = ring_init (&ring, 2);
  if (r < 0)
    return r;
  probe = io_uring_get_probe_ring (&ring);
  if (probe == NULL || !io_uring_opcode_supported (probe, IORING_OP_READ) ||
      !io_uring_opcode_supported (probe, IORING_OP_WRITE) ||
      !io_uring_opcode_supported (probe, IORING_OP_FSYNC))
    r = -EOPNOTSUPP;
  if (probe)
    io_uring_free_probe (probe);
  if (r == 0) {
    io_uring_prep_nop (io_uring_get_sqe (&ring));
    do
      r = io_uring_submit_and_wait (&ring, 1);
    while (r == -EINTR);
    if (r >= 0)
      r = io_uring_wait_cqe (&ring, &cqe);
    if (r >= 0)
      r = cqe->res;
  }
  io_uring_queue_exit (&ring);
  return r < 0 ? r : 0;
}

int
cow_io_uring_new (struct cow_error *err, struct cow_io **out)
{
  struct cow_io *io;
  int r;

  r = try_ring ();
  if (r < 0)
    return cow_error_set (err, r, "%s", refusal (r));
  io = calloc (1, sizeof *io);
  if (io == NULL)
    return cow_error_set (err, -ENOMEM, "out of memory");
  io->ops = &uring_ops;
  *out = io;
  return 0;
}
