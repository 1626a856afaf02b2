/* simdisk-queue.c - simulated disks: the batch face.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Requests begin with the reap after their submission, and complete when they
 * are due, in an order drawn from the seed where that leaves a choice.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "io/engine.h"
#include "sim/simdisk-priv.h"

/* How often a sync asks again, while another one of its file is running: at
 * first, and when that one takes long.
 */
#define SYNC_AGAIN_NS 1000
#define SYNC_AGAIN_MAX_NS COW_NS_PER_MS

/* A request in flight. */
struct flight {
  struct flight *next;
  struct cow_request *req;
  struct sim_io step;
  uint64_t due_ns, again_ns;
  uint64_t lot;                 /* order of those due at once */
  bool begun;                   /* handed over by a reap */
  bool early;                   /* its effect has been */
  int result;                   /* if early */
};

struct sim_queue {
  struct cow_queue base;
  unsigned depth;
  struct flight *flights;
};

static struct sim_queue *
sim_queue_of (struct cow_queue *q)
{
  return (struct sim_queue *) q;
}

int
sim_queue_new (struct cow_io *io, unsigned depth, struct cow_queue **out)
{
  struct sim_queue *q = calloc (1, sizeof *q);

  if (q == NULL)
    return -ENOMEM;
  q->base.io = io;
  q->depth = depth;
  *out = &q->base;
  return 0;
}

int
sim_submit (struct cow_queue *base, struct cow_request *req)
{
  struct sim_queue *q = sim_queue_of (base);
  struct flight *fl, **end;

  assert (req->op == COW_OP_SYNC ||
          cow_file_fits (req->file, req->buf, req->len, req->offset));
  if (base->in_flight == q->depth)
    return -EAGAIN;
  fl = calloc (1, sizeof *fl);
  if (fl == NULL)
    return -ENOMEM;
  fl->req = req;
  for (end = &q->flights; *end; end = &(*end)->next)
    ;
  *end = fl;
  base->in_flight++;
  return 0;
}

static int
flight_effect (struct flight *fl)
{
  const struct cow_request *req = fl->req;

  if (req->op == COW_OP_SYNC)
    return sim_sync_effect (&fl->step);
  if (req->op == COW_OP_WRITE && req->file->info.is_readonly)
    return -EBADF;
  return sim_transfer_effect (&fl->step, req->buf);
}

/* The request goes to the disk; a transfer may have its effect long before its
 * completion.
 */
static void
begin_flight (struct sim_disk *d, struct flight *fl)
{
  static const enum sim_op ops[] = {
    [COW_OP_READ] = SIM_READ, [COW_OP_WRITE] = SIM_WRITE,
    [COW_OP_SYNC] = SIM_SYNC,
  };
  const struct cow_request *req = fl->req;
  bool early;

  fl->begun = true;
  fl->step = sim_file_io (req->file, ops[req->op], req->offset, req->len);
  {
    LOCK_FOR_SCOPE (&d->lock);

    fl->due_ns =
      cow_now_ns () + fl->step.delay_ns + sim_draw_latency_locked (d);
    fl->lot = sim_random_next (&d->random);
    early = sim_random_below (&d->random, 2) == 0;
  }
  if (req->op != COW_OP_SYNC && !fl->step.hangs && early) {
    fl->result = flight_effect (fl);
    fl->early = true;
  }
}

static void
begin_all (struct sim_queue *q, struct sim_disk *d)
{
  for (struct flight *fl = q->flights; fl; fl = fl->next) {
    if (!fl->begun)
      begin_flight (d, fl);
  }
}

/* When a flight can be over. */
static uint64_t
due_locked (const struct sim_disk *d, const struct flight *fl)
{
  return fl->step.hangs && d->heals == fl->step.heals ? COW_NEVER
                                                      : fl->due_ns;
}

/* The next flight to complete: of those that are due any one, or NULL and
 * when one will be.
 */
static struct flight *
next_flight_locked (struct sim_queue *q, struct sim_disk *d,
                    uint64_t *when_ns)
{
  const uint64_t now_ns = cow_now_ns ();
  struct flight *best = NULL;

  *when_ns = COW_NEVER;
  for (struct flight *fl = q->flights; fl; fl = fl->next) {
    const uint64_t due_ns = due_locked (d, fl);

    *when_ns = COW_MIN (*when_ns, due_ns);
    if (due_ns <= now_ns && (best == NULL || fl->lot < best->lot))
      best = fl;
  }
  return best;
}

/* Returns false if it has to wait: a sync for another one. */
static bool
complete_flight (struct sim_queue *q, struct flight *fl)
{
  struct cow_request *req = fl->req;
  struct flight **link;
  int r;

  if (req->op == COW_OP_SYNC) {
    r = cow_sync_begin (req->file);
    if (r == -EAGAIN) {
      fl->again_ns = fl->again_ns == 0
                       ? SYNC_AGAIN_NS
                       : COW_MIN (2 * fl->again_ns, SYNC_AGAIN_MAX_NS);
      fl->due_ns = cow_now_ns () + fl->again_ns;
      return false;
    }
    if (r == 0)
      r = cow_sync_end (req->file, flight_effect (fl));
  }
  else
    r = fl->early ? fl->result : flight_effect (fl);
  sim_io_end (&fl->step, r);

  for (link = &q->flights; *link != fl; link = &(*link)->next)
    ;
  *link = fl->next;
  free (fl);
  q->base.in_flight--;
  req->done (req, r);
  return true;
}

int
sim_reap (struct cow_queue *base, unsigned min, uint64_t deadline_ns)
{
  struct sim_queue *q = sim_queue_of (base);
  struct sim_disk *d = sim_disk_of (base->io);
  unsigned called = 0;

  for (;;) {
    struct flight *fl;
    uint64_t when_ns;

    begin_all (q, d);
    if (base->in_flight == 0)
      break;
    {
      LOCK_FOR_SCOPE (&d->lock);

      if (called >= min && sim_random_below (&d->random, 2) == 0)
        break;
      fl = next_flight_locked (q, d, &when_ns);
      if (fl == NULL && (called >= min || cow_now_ns () >= deadline_ns))
        break;
      if (fl == NULL)
        cow_cond_wait_until (&d->healed, &d->lock,
                             COW_MIN (when_ns, deadline_ns));
    }
    if (fl)
      called += complete_flight (q, fl);
  }
  return (int) called;
}

void
sim_queue_free (struct cow_queue *base)
{
  while (base->in_flight > 0)
    sim_reap (base, base->in_flight, COW_NEVER);
  free (base);
}
