/* step.c - what is done behind everybody's back, and what happens when the
 * store is in trouble.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One caller at a time steps: it writes full segments, sweeps exceptions that
 * serve nobody after a snapshot's end, gives volumes without snapshots the
 * root with all bits set, and ends all snapshots when the store has failed.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "set/engine.h"

/* Regions that are passed over in one go when they are empty. */
#define EMPTY_REGIONS 4096u
/* What a writer waits for room that is on its way: after each set that ended,
 * and in all.
 */
#define ROOM_NS (20 * COW_NS_PER_MS)
#define PATIENCE_NS (5 * ROOM_NS)

void
cow_engine_swept (void *opaque, struct cow_volume *v)
{
  struct cow_engine *e = opaque;

  atomic_fetch_add (&cow_engine_slot (e, v)->sweeps_wanted, 1);
  cow_store_wake (e->store);
}

bool
cow_engine_settle_volume (struct cow_volume *v, uint64_t deadline_ns)
{
  uint32_t epoch = cow_gate_epoch (&v->gate);
  struct cow_root *old = NULL;

  if (atomic_load (&v->settled) == epoch)
    return true;
  if (!cow_slots_wait_below (v->gate.slots, epoch, deadline_ns))
    return false;
  cow_mutex_lock (&v->snaps_lock);
  /* No new epoch begins before this one has settled, so the other place still
   * has the root of the epoch before.
   */
  if (atomic_load (&v->settled) < epoch) {
    old = atomic_exchange (&v->root[(epoch - 1) & 1], &cow_root_full);
    atomic_store (&v->settled, epoch);
  }
  cow_mutex_unlock (&v->snaps_lock);
  cow_root_free (old);
  return true;
}

/* A stretch of the trims that were put off.  True also at the end of a round
 * during which a sweep has ended: what it freed was perhaps passed over, so that
 * another round is due at once.
 */
static bool
run_trims (struct cow_slot_of_volume *slot)
{
  struct cow_volume *v = slot->volume;
  uint64_t now = atomic_load (&v->trims.added)
                 + atomic_load (&slot->sweeps_done);
  int rc;

  if (!slot->trimming) {
    if (now == slot->trims_seen || atomic_load (&v->trims.count) == 0)
      return false;
    slot->trims_seen = now;
    slot->trim_block = 0;
    slot->trims_missed = false;
  }
  rc = cow_volume_run_trims (v, &slot->trim_block);
  slot->trims_missed |= rc == 1;
  slot->trimming = rc != -ENOENT;
  if (slot->trimming)
    return rc == 0;
  if (now != slot->trims_seen)
    return true;
  /* What was busy is looked at in another round, later. */
  if (slot->trims_missed)
    slot->trims_seen = now - 1;
  return false;
}

/* A volume whose last snapshot has gone has nothing to copy: a new epoch, with
 * all bits set, needs no hold.
 */
static bool
tidy_root (struct cow_engine *e, struct cow_slot_of_volume *slot)
{
  struct cow_volume *v = slot->volume;
  bool did = false;
  uint32_t epoch;

  if (atomic_load (&v->settled) != cow_gate_epoch (&v->gate)
      && !cow_engine_settle_volume (v, 0))
    return false;
  cow_mutex_lock (&e->sets_lock);
  epoch = cow_gate_epoch (&v->gate);
  if (slot->claim == NULL && atomic_load (&v->settled) == epoch
      && cow_volume_lives (v) == 0
      && !cow_root_is_full (cow_volume_root (v, epoch))
      && cow_trims_close (&v->trims)) {
    assert (atomic_load (&v->root[(epoch + 1) & 1]) == &cow_root_full);
    cow_gate_advance (&v->gate);
    did = true;
  }
  cow_mutex_unlock (&e->sets_lock);
  return did;
}

/* A stretch of the sweep of a volume. */
static bool
sweep_volume (struct cow_engine *e, struct cow_slot_of_volume *slot)
{
  struct cow_volume *v = slot->volume;
  uint64_t regions = cow_map_regions (v->map);
  uint64_t wanted = atomic_load (&slot->sweeps_wanted);

  if (slot->region == 0) {
    if (atomic_load (&slot->sweeps_done) == wanted)
      return false;
    slot->sweeping = wanted;
    /* What is filed from here on is judged by its filer (copy.c, C4). */
    if (cow_map_exceptions (v->map) == 0)
      slot->region = regions;
  }
  for (unsigned i = 0; slot->region < regions && i < EMPTY_REGIONS; i++) {
    uint64_t region = slot->region++;

    if (!cow_map_region_empty (v->map, region * COW_REGION_BLOCKS)) {
      cow_volume_sweep (v, region);
      break;
    }
  }
  if (slot->region >= regions) {
    slot->region = 0;
    cow_mutex_lock (&e->sets_lock);
    atomic_store (&slot->sweeps_done, slot->sweeping);
    cow_cond_broadcast (&e->swept);
    cow_mutex_unlock (&e->sets_lock);
  }
  return true;
}

void
cow_engine_sweep_all (struct cow_engine *e)
{
  for (unsigned i = 0; i < e->volumes; i++)
    while (sweep_volume (e, e->volume[i]))
      ;
}

static void
lose_all (struct cow_engine *e)
{
  for (unsigned i = 0; i < e->volumes; i++)
    if (cow_volume_lives (e->volume[i]->volume) > 0)
      (void) cow_engine_lose_volume (e, e->volume[i]->volume,
                                     COW_LOST_STORE_ERROR);
}

static bool
is_anything_live (struct cow_engine *e)
{
  for (unsigned i = 0; i < e->volumes; i++)
    if (cow_volume_lives (e->volume[i]->volume) > 0)
      return true;
  return false;
}

/* A set that is being made has its claims before it has taken its space. */
static bool
is_anything_claimed (struct cow_engine *e)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  for (unsigned i = 0; i < e->volumes; i++)
    if (e->volume[i]->claim != NULL)
      return true;
  return false;
}

bool
cow_engine_step (struct cow_engine *e, uint64_t deadline_ns)
{
  struct cow_store_status status;
  bool did;

  if (atomic_exchange (&e->stepping, true)) {
    cow_sleep_ns (COW_NS_PER_MS);
    return false;
  }
  cow_engine_watch (e);
  did = cow_store_work (e->store);
  for (unsigned i = 0; i < e->volumes; i++) {
    did |= sweep_volume (e, e->volume[i]);
    did |= run_trims (e->volume[i]);
    did |= tidy_root (e, e->volume[i]);
  }
  if (!did && !is_anything_claimed (e) && !is_anything_live (e))
    did = cow_store_give_back (e->store);
  if (!did) {
    cow_store_wait (e->store, deadline_ns);
    cow_store_status (e->store, &status);
    if (status.failed && !e->options.protect_snapshot)
      lose_all (e);
  }
  atomic_store (&e->stepping, false);
  return did;
}

void
cow_engine_wake (struct cow_engine *e)
{
  cow_store_wake (e->store);
}

static bool
is_any_alive (const struct cow_set *s)
{
  for (unsigned i = 0; i < s->members; i++)
    if (atomic_load (&s->member[i].snapshot->end) == COW_ALIVE)
      return true;
  return false;
}

/* Those that wait for a decision go first, then the oldest. */
static struct cow_set *
choose_victim_locked (struct cow_engine *e)
  COW_REQUIRES (e->sets_lock)
{
  struct cow_set *victim = NULL;

  for (struct cow_set *s = e->newest; s != NULL; s = s->older)
    if (s->recording != COW_RECORD_SUBMITTED && is_any_alive (s)
        && (victim == NULL || s->undecided || !victim->undecided))
      victim = s;
  return victim;
}

/* End what is left of the oldest set.  False if there is none. */
static bool
evict_oldest (struct cow_engine *e)
{
  struct cow_snapshot *snap[COW_SET_VOLUMES_MAX];
  struct cow_set *victim;
  char text[COW_ID_TEXT_SIZE];

  cow_mutex_lock (&e->sets_lock);
  victim = choose_victim_locked (e);
  if (victim != NULL)
    atomic_fetch_add (&victim->count, 1);
  cow_mutex_unlock (&e->sets_lock);
  if (victim == NULL)
    return false;
  cow_id_format (&victim->id, text);
  cow_log (COW_LOG_ERROR,
           "the store is full: the oldest set, %s, is lost; the volumes are "
           "served on",
           text);
  for (unsigned i = 0; i < victim->members; i++)
    snap[i] = victim->member[i].snapshot;
  (void) cow_engine_lose (e, snap, victim->members, COW_LOST_STORE_FULL);
  cow_set_drop (victim);
  return true;
}

/* Wait until all sweeps that are wanted now are done. */
static bool
wait_sweeps (struct cow_engine *e, uint64_t deadline_ns)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  for (unsigned i = 0; i < e->volumes; i++) {
    struct cow_slot_of_volume *slot = e->volume[i];
    uint64_t wanted = atomic_load (&slot->sweeps_wanted);

    while (atomic_load (&slot->sweeps_done) < wanted)
      if (!cow_cond_wait_until (&e->swept, &e->sets_lock, deadline_ns))
        return false;
  }
  return true;
}

static bool
sweeps_pending (struct cow_engine *e)
{
  for (unsigned i = 0; i < e->volumes; i++)
    if (atomic_load (&e->volume[i]->sweeps_done)
        != atomic_load (&e->volume[i]->sweeps_wanted))
      return true;
  return false;
}

/* The store or the map is full: the oldest sets go, as many as have to until
 * there is room.  What an earlier writer in the same need has freed is used
 * first.  Room that is on its way, because a segment is still being read, say,
 * is waited for, but a writer does not wait for readers: for so long after
 * each set, and for no more than PATIENCE_NS in all.  False: no set is left,
 * or its end makes no room in time.
 */
static bool
make_room (struct cow_engine *e, int code, uint64_t deadline_ns)
{
  bool pending = sweeps_pending (e);
  struct cow_store_status store;
  uint64_t patient_until_ns = cow_now_ns () + PATIENCE_NS, until_ns;

  while (pending || evict_oldest (e)) {
    if (!wait_sweeps (e, deadline_ns))
      return false;
    until_ns = COW_MIN (cow_now_ns () + ROOM_NS, patient_until_ns);
    if (code == -ENOBUFS || cow_store_wait_room (e->store, until_ns)
        || pending)
      return true;
    cow_store_status (e->store, &store);
    if (store.failed)
      return true;              /* the next try says so */
    if (cow_now_ns () >= deadline_ns)
      return false;
  }
  return false;
}

void
cow_engine_relieve (void *opaque, struct cow_volume *v, int code)
{
  struct cow_engine *e = opaque;
  uint64_t deadline_ns = cow_now_ns () + e->options.store_timeout_ns;
  enum cow_snapshot_end end = COW_LOST_STORE_ERROR;

  if (code == -ENOSPC || code == -ENOBUFS) {
    if (make_room (e, code, deadline_ns))
      return;
    end = COW_LOST_STORE_FULL;
  }
  else if (code == -ETIMEDOUT)
    end = COW_LOST_STORE_TIMEOUT;
  else if (code == -EREMOTEIO)
    end = COW_LOST_ORIGIN_ERROR;
  (void) cow_engine_lose_volume (e, v, end);
}

int
cow_engine_take_store (struct cow_engine *e, uint64_t deadline_ns,
                       struct cow_error *err)
{
  struct cow_error full = COW_ERROR_INIT;
  uint64_t limit_ns = cow_now_ns () + e->options.store_timeout_ns;
  int rc = cow_store_prepare (e->store, &full);

  limit_ns = COW_MIN (limit_ns, deadline_ns);
  if (rc == -ENOSPC && (sweeps_pending (e) || !is_anything_live (e))) {
    /* The segments that a sweep freed come back a moment after it, when those
     * who read them have left.
     */
    if (wait_sweeps (e, limit_ns))
      (void) cow_store_wait_room (e->store,
                                  COW_MIN (limit_ns, cow_now_ns ()
                                                       + COW_NS_PER_S));
    memset (&full, 0, sizeof full);
    rc = cow_store_prepare (e->store, &full);
  }
  if (rc == -ENOSPC && !e->options.protect_snapshot && is_anything_live (e))
    return 0;
  return rc < 0 ? cow_error_set (err, rc, "%s", full.text) : 0;
}
