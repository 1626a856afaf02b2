/* copy.c - first touch: old data goes to the store before the new comes.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The writer's own thread copies, in line: it claims the blocks, reads their
 * old data straight into a segment, files the exceptions, sets the bits, and
 * gives the blocks free; its own write follows outside.
 *
 * Invariants (tests cite them by number):
 *   C1  A block is claimed by at most one writer; whoever else touches it for
 *       the first time waits until the claim is over, and looks again.
 *   C2  An exception is in the map, readable, before the bit is set, and
 *       before the write that it is for is submitted.
 *   C3  A writer of epoch e copies a block only when every writer of an
 *       earlier epoch that overlaps it has left: what those write belongs to
 *       the old data.
 *   C4  A block is copied only if a snapshot needs it, and what is filed in
 *       vain (its snapshot ended meanwhile) is taken out again by the filer.
 *   C5  If a persistent snapshot needs it, an exception is durable before its
 *       bit is set and before the claim is given free: nobody overwrites the
 *       block before that.
 *
 * No deadlock: a writer waits for earlier epochs (C3) before it claims
 * anything, and a claim never waits for another claim while it is held.
 *
 * Failure: where old data can't be preserved, the snapshots that needed it end
 * (protect=snapshot: the write fails), and the write goes on.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/mutant.h"
#include "volume/volume.h"

/* Blocks that are looked at in one go; bounds what is on the stack. */
#define BATCH 256u
/* What a writer has to wait for before it sets these bits (C5). */
struct lasting {
  cow_ticket ticket;            /* 0: nothing */
  bool block[BATCH];            /* of those from the batch's first on */
};

/* From this many blocks on, ask for holes before reading. */
#define ASK_HOLES 16u

struct cow_pending {
  uint64_t first, last;         /* blocks, inclusive */
  struct cow_pending *next, **link;
};

static bool
is_claimed_locked (const struct cow_volume *v, const struct cow_pending *c)
{
  for (const struct cow_pending *p = v->pending; p != NULL; p = p->next)
    if (p->first <= c->last && c->first <= p->last)
      return true;
  return false;
}

/* Claim the blocks of c.  Waits while they are claimed, unless told not to:
 * then false.
 */
static bool
claim (struct cow_volume *v, struct cow_pending *c, bool wait)
{
  LOCK_FOR_SCOPE (&v->pending_lock);

  while (!COW_MUTANT (two_writers) && is_claimed_locked (v, c)) {
    if (!wait)
      return false;
    v->pending_waiters++;
    cow_cond_wait_until (&v->pending_done, &v->pending_lock, COW_NEVER);
    v->pending_waiters--;
  }
  c->next = v->pending;
  c->link = &v->pending;
  if (c->next)
    c->next->link = &c->next;
  v->pending = c;
  return true;
}

static void
unclaim (struct cow_volume *v, struct cow_pending *c)
{
  LOCK_FOR_SCOPE (&v->pending_lock);

  *c->link = c->next;
  if (c->next)
    c->next->link = c->link;
  if (v->pending_waiters > 0)
    cow_cond_broadcast (&v->pending_done);
}

static bool
is_zero (const uint8_t *p, size_t len)
{
  uint64_t word;

  memcpy (&word, p, sizeof word);
  return word == 0 && memcmp (p, p + 8, len - 8) == 0;
}

/* The filed exceptions of a run, as far as they serve nobody any more, out of
 * the map again (C4).
 */
static void
unfile_useless (struct cow_volume *v, uint32_t epoch, uint32_t newest,
                uint64_t first, unsigned n, const uint32_t *before,
                const cow_place *places)
{
  uint32_t now = cow_volume_live_count (v, epoch, n);

  if (now == newest)
    return;
  for (unsigned i = 0; i < n; i++)
    if (now <= before[i]
        && cow_map_remove (v->map, first + i, epoch, places[i])
        && places[i] >= COW_PLACE_FIRST)
      cow_store_release (v->store, places[i]);
}

/* File n exceptions side by side.  -ENOBUFS, no memory for them within the
 * map's bound, leaves none of them.
 */
static int
file_run (struct cow_volume *v, uint32_t epoch, uint64_t first, unsigned n,
          const cow_place *places)
{
  int rc = cow_map_insert (v->map, first, n, epoch, places);

  assert (rc != -EEXIST);
  if (rc == 0)
    return 0;
  for (unsigned i = 0; i < n; i++)
    if (places[i] >= COW_PLACE_FIRST)
      cow_store_release (v->store, places[i]);
  return -ENOBUFS;
}

/* Read the old data of n blocks into a piece of the store and hand it over.
 * Sets places.  How many blocks were done, or -errno: -EREMOTEIO if the origin
 * could not be read.
 */
static int
store_run (struct cow_volume *v, uint32_t epoch, uint64_t first, unsigned n,
           cow_place *places, struct lasting *lasting)
{
  struct cow_record records[BATCH];
  struct cow_piece piece;
  uint64_t zero = 0;
  size_t len;
  int rc;

  rc = cow_store_reserve (v->store, n, lasting != NULL,
                          cow_now_ns () + v->store_timeout_ns, &piece);
  if (rc < 0)
    return rc;
  len = (size_t) piece.blocks << v->block_shift;
  rc = cow_origin_read (v, piece.data, len, first << v->block_shift);
  for (unsigned i = 0; i < piece.blocks; i++) {
    const uint8_t *data = piece.data + ((size_t) i << v->block_shift);

    records[i] = (struct cow_record) {
      .block = first + i,
      .epoch = epoch,
      .volume = v->store_number,
      .unused = rc < 0 || is_zero (data, v->block_bytes),
    };
    places[i] = records[i].unused ? COW_PLACE_ZERO : piece.place + i;
    zero += records[i].unused;
  }
  if (lasting)
    lasting->ticket = cow_store_filled_lasting (v->store, &piece, records);
  else
    cow_store_filled (v->store, &piece, records);
  if (rc < 0) {
    cow_log (COW_LOG_ERROR, "%s: reading old data at %llu: %s", v->name,
             (unsigned long long) first << v->block_shift, strerror (-rc));
    return -EREMOTEIO;
  }
  atomic_fetch_add_explicit (&v->zero_bytes, zero << v->block_shift,
                             memory_order_relaxed);
  atomic_fetch_add_explicit (&v->copied_bytes,
                             (piece.blocks - zero) << v->block_shift,
                             memory_order_relaxed);
  return (int) piece.blocks;
}

/* How many of n blocks lie in a hole of the origin, from the first on. */
static unsigned
hole_run (struct cow_volume *v, uint64_t first, unsigned n)
{
  uint64_t offset = first << v->block_shift, len;

  if (n < ASK_HOLES || cow_file_hole (v->file, offset, &len) < 0 || len == 0)
    return 0;
  if (offset + len >= v->size_bytes)
    return n;
  return COW_MIN ((uint64_t) n, len >> v->block_shift);
}

/* Old data that was zeroes is nowhere but in the journal.  After filing. */
static void
note_zeroes (struct cow_volume *v, uint32_t epoch, uint64_t first, unsigned n,
             const cow_place *places, struct lasting *lasting)
{
  for (unsigned i = 0, to; i < n; i = to) {
    to = i + 1;
    if (places[i] != COW_PLACE_ZERO)
      continue;
    while (to < n && places[to] == COW_PLACE_ZERO)
      to++;
    if (COW_MUTANT (zeroes_not_noted))
      continue;
    lasting->ticket = cow_store_note_zeroes (v->store, v->store_number, epoch,
                                             first + i, to - i);
  }
}

/* Preserve n blocks that all need it, and for ever if `lasting` says so.  How
 * many were dealt with, or -errno (as store_run).
 */
static int
preserve_run (struct cow_volume *v, struct cow_root *root, uint32_t epoch,
              uint32_t newest, uint64_t first, unsigned n,
              const uint32_t *before, enum cow_touch touch,
              struct lasting *lasting, unsigned at)
{
  cow_place places[BATCH];
  unsigned holes = hole_run (v, first, n);
  int rc;

  if (holes > 0) {
    n = holes;
    /* Zeroes on zeroes: nothing changes, so there is nothing to preserve, and
     * the bit stays clear for who comes to write.
     */
    if (touch == COW_TOUCH_ZERO)
      return (int) n;
    for (unsigned i = 0; i < n; i++)
      places[i] = COW_PLACE_ZERO;
    atomic_fetch_add_explicit (&v->zero_bytes, (uint64_t) n << v->block_shift,
                               memory_order_relaxed);
  }
  else {
    rc = store_run (v, epoch, first, n, places, lasting);
    if (rc < 0)
      return rc;
    n = (unsigned) rc;
  }
  rc = file_run (v, epoch, first, n, places);
  if (rc < 0)
    return rc;
  unfile_useless (v, epoch, newest, first, n, before, places);
  if (lasting) {
    note_zeroes (v, epoch, first, n, places, lasting);
    memset (lasting->block + at, true, n);
  }
  else
    for (unsigned i = 0; i < n; i++)
      cow_root_set (root, first + i);
  return (int) n;
}

/* C5: wait, then set the bits.  A failure leaves exceptions in the map that may
 * not be durable; whoever finds one waits for it, too.
 */
static int
wait_lasting (struct cow_volume *v, struct cow_root *root, uint64_t first,
              unsigned n, const struct lasting *lasting)
{
  int rc = cow_store_barrier (v->store, lasting->ticket,
                              cow_now_ns () + v->store_timeout_ns);

  if (rc < 0) {
    atomic_store (&v->unsure, cow_store_ticket (v->store));
    return rc;
  }
  for (unsigned i = 0; i < n; i++)
    if (lasting->block[i])
      cow_root_set (root, first + i);
  return 0;
}

/* One pass over at most BATCH claimed blocks.  0, or -errno of the first that
 * could not be preserved.
 */
static int
preserve_batch (struct cow_volume *v, struct cow_root *root, uint32_t epoch,
                uint64_t first, unsigned n, enum cow_touch touch)
{
  uint32_t before[BATCH], newest = cow_volume_live_max (v, epoch);
  uint32_t newest_lasting = cow_volume_lasting_max (v, epoch);
  struct lasting lasting = { .ticket = 0 };
  int rc = 0, waited;
  unsigned i = 0;

  cow_map_predecessors (v->map, first, n, epoch, before);
  while (i < n) {
    bool lasts = newest_lasting > before[i];
    unsigned end = i;

    if (newest <= before[i]) {
      /* Preserved already (and its bit lost or set), or needed by nobody. */
      if (newest_lasting > 0 && atomic_load (&v->unsure) > 0) {
        lasting.ticket = COW_MAX (lasting.ticket, atomic_load (&v->unsure));
        lasting.block[i] = true;
      }
      else
        cow_root_set (root, first + i);
      i++;
      continue;
    }
    while (end < n && newest > before[end]
           && (newest_lasting > before[end]) == lasts)
      end++;
    rc = preserve_run (v, root, epoch, newest, first + i, end - i, before + i,
                       touch, lasts ? &lasting : NULL, i);
    if (rc < 0)
      break;
    i += (unsigned) rc;
    rc = 0;
  }
  if (lasting.ticket == 0)
    return rc;
  waited = wait_lasting (v, root, first, n, &lasting);
  return rc < 0 ? rc : waited;
}

/* C3.  Is a writer of an earlier epoch at work on these blocks?  Rare: only
 * while a set of this volume is settling.
 */
static bool
is_earlier (struct cow_volume *v, uint32_t epoch, uint64_t first,
            uint64_t last)
{
  return atomic_load (&v->settled) < epoch
         && cow_slots_meet_below (v->gate.slots, epoch,
                                  first << v->block_shift,
                                  ((last + 1) << v->block_shift) - 1);
}

static void
wait_earlier (struct cow_volume *v, uint32_t epoch, uint64_t first,
              uint64_t last)
{
  uint64_t pause_ns = 2000;

  while (is_earlier (v, epoch, first, last)) {
    cow_sleep_ns (pause_ns);
    if (pause_ns < COW_NS_PER_MS)
      pause_ns *= 2;
  }
}

/* What a client is told of a write that is refused for a snapshot's sake: an
 * error that a disk can have.
 */
static int
refusal (int rc)
{
  return rc == -ENOSPC || rc == -ENOBUFS ? -ENOSPC : -EIO;
}

int
cow_copy_before (struct cow_volume *v, const struct cow_pass *pass,
                 struct cow_root *root, uint64_t offset, uint64_t len,
                 enum cow_touch touch)
{
  struct cow_pending c = {
    .first = cow_block_of (v, offset),
    .last = cow_block_of (v, offset + len - 1),
  };
  uint64_t at = c.first;
  int rc = 0;

  if ((COW_MUTANT (part_of_block) && offset % v->block_bytes != 0)
      || (COW_MUTANT (tail_block) && at == v->blocks - 1
          && v->size_bytes % v->block_bytes != 0))
    at++;
  wait_earlier (v, pass->epoch, c.first, c.last);
  (void) claim (v, &c, true);
  if (atomic_load (&v->trims.count) > 0)
    cow_trims_drop (&v->trims, c.first, c.last);
  atomic_fetch_add_explicit (&v->first_touches, 1, memory_order_relaxed);
  while (at <= c.last) {
    unsigned n = COW_MIN (c.last - at + 1, BATCH);

    rc = preserve_batch (v, root, pass->epoch, at, n, touch);
    if (rc == 0) {
      at += n;
      continue;
    }
    if (v->protect_snapshot) {
      rc = refusal (rc);
      break;
    }
    /* Room is made, or the snapshots that asked for the copy are gone. */
    v->relieve (v->opaque, v, rc);
    rc = 0;
  }
  unclaim (v, &c);
  return rc;
}

/* Deallocate blocks; a volume that can't leaves them as they are. */
static int
punch_blocks (struct cow_volume *v, uint64_t first, uint64_t last)
{
  uint64_t from = first << v->block_shift;
  uint64_t to = COW_MIN ((last + 1) << v->block_shift, v->size_bytes);
  int rc = cow_origin_punch (v, to - from, from);

  return rc == -EOPNOTSUPP ? 0 : rc;
}

int
cow_trim_piece (struct cow_volume *v, const struct cow_pass *pass,
                struct cow_root *root, uint64_t offset, uint64_t len)
{
  uint64_t end = offset + len;
  struct cow_pending c = {
    /* Whole blocks only: the last one of the volume is whole, too. */
    .first = cow_block_of (v, cow_round_up (offset, v->block_bytes)),
    .last = end == v->size_bytes ? v->blocks : cow_block_of (v, end),
  };
  int rc = 0;

  if (c.first >= c.last)
    return 0;
  c.last--;
  wait_earlier (v, pass->epoch, c.first, c.last);
  (void) claim (v, &c, true);
  for (uint64_t b = c.first, to; rc == 0 && b <= c.last; b = to) {
    bool preserved = cow_root_test (root, b) || COW_MUTANT (trim_skips_copy);

    for (to = b + 1; to <= c.last; to++)
      if (cow_root_test (root, to) != preserved)
        break;
    if (preserved)
      rc = punch_blocks (v, b, to - 1);
    else
      cow_trims_add (&v->trims, b, to - 1);
  }
  unclaim (v, &c);
  return rc;
}

/* Deallocate the listed blocks of [first, last] that no live snapshot needs.
 * The caller has claimed them.
 */
static void
run_claimed (struct cow_volume *v, uint32_t epoch, uint64_t first,
             uint64_t last)
{
  uint32_t before[BATCH], newest = cow_volume_live_max (v, epoch);
  struct cow_range r;

  while (first <= last && cow_trims_find (&v->trims, first, last, &r)) {
    unsigned n = (unsigned) (r.last - r.first + 1);

    cow_map_predecessors (v->map, r.first, n, epoch, before);
    if (atomic_load (&v->unsure) > 0
        && cow_store_barrier (v->store, atomic_load (&v->unsure),
                              cow_now_ns ())
             < 0)
      return;                   /* what is found there may not be durable */
    for (unsigned i = 0, to; i < n; i = to) {
      bool needed = newest > before[i];

      for (to = i + 1; to < n; to++)
        if ((newest > before[to]) != needed)
          break;
      if (needed)
        continue;
      cow_trims_drop (&v->trims, r.first + i, r.first + to - 1);
      /* It was a hint: a failure is nobody's. */
      (void) punch_blocks (v, r.first + i, r.first + to - 1);
    }
    first = r.last + 1;
  }
}

int
cow_volume_run_trims (struct cow_volume *v, uint64_t *block)
{
  struct cow_range r;
  struct cow_pending c;
  struct cow_pass pass;
  bool done = false;

  if (!cow_trims_find (&v->trims, *block, UINT64_MAX, &r))
    return -ENOENT;
  c.first = r.first;
  c.last = COW_MIN (r.last, r.first + BATCH - 1);
  *block = c.last + 1;
  if (!cow_gate_try_enter (&v->gate, c.first << v->block_shift,
                           ((c.last + 1) << v->block_shift) - 1, &pass))
    return 1;
  if (!is_earlier (v, pass.epoch, c.first, c.last) && claim (v, &c, false)) {
    run_claimed (v, pass.epoch, c.first, c.last);
    unclaim (v, &c);
    done = true;
  }
  cow_gate_leave (&v->gate, &pass);
  return done ? 0 : 1;
}
