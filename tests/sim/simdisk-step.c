/* simdisk-step.c - simulated disks: one I/O, with its faults and effect.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * An I/O is a step: the observer sees it, a fault may hit it, it takes its
 * time, has its effect somewhere within that, and the observer sees what came
 * of it.  A sync makes stable what was there when it began.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "sim/simdisk-priv.h"

static bool
in_fibre (void)
{
#ifdef COW_SIM
  return cow_sim && cow_sim->self () != 0;
#else
  return false;
#endif
}

static void
show (struct sim_io *s)
{
  if (s->d->observer && !s->silent)
    s->d->observer (s->d->observer_opaque, s->d, &s->seen);
}

static void
meet_fault_locked (struct sim_io *s)
  COW_REQUIRES (s->d->lock)
{
  struct sim_disk *d = s->d;

  for (unsigned i = 0; i < d->faults; i++) {
    struct armed_fault *a = &d->fault[i];
    const struct sim_fault *f = &a->f;

    if (f->ops && !(f->ops & s->seen.op))
      continue;
    if (f->file && strcmp (f->file, s->seen.file) != 0)
      continue;
    a->seen++;
    if (a->seen <= f->skip || (f->times && a->seen > f->skip + f->times))
      continue;
    s->error = f->error;
    s->partial = f->partial;
    s->hangs = f->delay_ns == COW_NEVER;
    s->delay_ns = s->hangs ? 0 : f->delay_ns;
    s->heals = d->heals;
    return;
  }
}

struct sim_io
sim_io_begin (struct sim_disk *d, struct sim_inode *inode, const char *name,
            enum sim_op op, uint64_t offset, uint64_t len)
{
  struct sim_io s = {
    .d = d, .inode = inode,
    .seen = { .op = op, .file = name, .offset = offset, .len = len },
  };

  cow_mutex_lock (&s.d->lock);
  s.seen.number = ++d->steps;
  s.changes = d->changes;
  meet_fault_locked (&s);
  s.silent = d->off;
  cow_mutex_unlock (&s.d->lock);
  show (&s);
  return s;
}

struct sim_io
sim_file_io (struct cow_file *f, enum sim_op op, uint64_t offset, uint64_t len)
{
  struct sim_inode *inode = sim_open_file_of (f)->inode;

  return sim_io_begin (sim_disk_of (f->io), inode, inode->name, op, offset,
                     len);
}

int
sim_io_end (struct sim_io *s, int result)
{
  s->seen.after = true;
  s->seen.result = result;
  show (s);
  return result;
}

uint64_t
sim_draw_latency_locked (struct sim_disk *d)
{
  const struct sim_disk_options *o = &d->options;

  if (o->latency_max_ns == 0 || !in_fibre ())
    return 0;
  return o->latency_min_ns +
         sim_random_below (&d->random,
                           o->latency_max_ns - o->latency_min_ns + 1);
}

uint64_t
sim_io_take_time (struct sim_io *s)
{
  struct sim_disk *d = s->d;
  uint64_t latency_ns;

  {
    LOCK_FOR_SCOPE (&d->lock);

    latency_ns = sim_draw_latency_locked (d);
    while (s->hangs && d->heals == s->heals)
      cow_cond_wait_until (&d->healed, &d->lock, COW_NEVER);
  }
  if (latency_ns + s->delay_ns > 0)
    cow_sleep_ns (latency_ns / 2 + s->delay_ns);
  return latency_ns / 2;
}

/* ----------------------------------------------------------------- effects */

static int
check_room_locked (struct sim_disk *d, const struct sim_inode *inode,
                   uint64_t offset, uint64_t len)
{
  uint64_t chunks = 0;

  if (inode->options.is_block)
    return offset + len <= inode->size_bytes ? 0 : -ENOSPC;
  if (d->options.capacity_bytes == 0)
    return 0;
  for (const struct sim_inode *i = d->inodes; i; i = i->next)
    chunks += i->now.chunks;
  chunks += sim_image_missing (&inode->now, offset, len);
  return chunks * SIM_CHUNK_BYTES > d->options.capacity_bytes ? -ENOSPC : 0;
}

/* A failed write leaves a beginning of it, in whole sectors. */
static void
leave_part_locked (struct sim_io *s, const void *buf)
  COW_REQUIRES (s->d->lock)
{
  uint64_t len;

  if (s->seen.op != SIM_WRITE || !s->partial || s->seen.len == 0 ||
      check_room_locked (s->d, s->inode, s->seen.offset, s->seen.len) < 0)
    return;
  len = sim_random_below (&s->d->random, s->seen.len);
  sim_change_locked (s->d, s->inode, SIM_WRITE, s->seen.offset,
                     cow_round_down (len, SIM_SECTOR_BYTES), buf);
}

/* Of what others may run in the middle of. */
static size_t
draw_piece_locked (struct sim_disk *d, size_t len)
{
  if (!in_fibre () || len <= SIM_CHUNK_BYTES ||
      sim_random_below (&d->random, 2) == 0)
    return len;
  return cow_round_up (1 + sim_random_below (&d->random, len - 1),
                       SIM_CHUNK_BYTES);
}

static int
move_piece_locked (struct sim_io *s, void *buf, uint64_t offset, size_t len)
  COW_REQUIRES (s->d->lock)
{
  int r;

  if (s->seen.op == SIM_READ) {
    sim_image_read (&s->inode->now, offset, buf, len);
    return 0;
  }
  r = check_room_locked (s->d, s->inode, offset, len);
  if (r == 0)
    sim_change_locked (s->d, s->inode, SIM_WRITE, offset, len, buf);
  return r;
}

int
sim_transfer_effect (struct sim_io *s, void *buf)
{
  uint8_t *p = buf;
  uint64_t offset = s->seen.offset, pause_ns;
  size_t len = s->seen.len;
  int r = 0;

  while (len > 0 && r == 0) {
    size_t n;

    {
      LOCK_FOR_SCOPE (&s->d->lock);

      if (s->d->off)
        return -EIO;
      if (s->error) {
        leave_part_locked (s, buf);
        return s->error;
      }
      n = draw_piece_locked (s->d, len);
      n = COW_MIN (n, len);
      r = move_piece_locked (s, p, offset, n);
      pause_ns = sim_draw_latency_locked (s->d) / 2;
    }
    p += n;
    offset += n;
    len -= n;
    if (len > 0)
      cow_sleep_ns (pause_ns);
  }
  return r;
}

int
sim_sync_effect (struct sim_io *s)
{
  LOCK_FOR_SCOPE (&s->d->lock);

  if (s->d->off)
    return -EIO;
  sim_settle_locked (s->d, s->inode, s->changes, s->error < 0);
  return s->error;
}

/* Punch, zero, allocate: on what is within the file, but for the last. */
static int
range_effect_locked (struct sim_io *s) COW_REQUIRES (s->d->lock)
{
  struct sim_inode *inode = s->inode;
  const struct sim_step *seen = &s->seen;
  uint64_t len = seen->len;
  int r;

  if (seen->op != SIM_ALLOCATE)
    len = seen->offset >= inode->size_bytes
            ? 0
            : COW_MIN (len, inode->size_bytes - seen->offset);
  if (seen->op != SIM_PUNCH) {
    r = check_room_locked (s->d, inode, seen->offset, len);
    if (r < 0)
      return r;
  }
  if (!(seen->op == SIM_ALLOCATE && inode->options.is_block))
    sim_change_locked (s->d, inode, seen->op, seen->offset, len, NULL);
  return 0;
}

int
sim_range_effect (struct sim_io *s)
{
  LOCK_FOR_SCOPE (&s->d->lock);

  if (s->d->off)
    return -EIO;
  return s->error ? s->error : range_effect_locked (s);
}
