/* persist.c - what the journal says of the sets, and when.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Invariants (tests cite them by number):
 *   P1  A set is in the catalogue, with all that its record says, before the
 *       record is on its way; so a checkpoint made meanwhile has it.
 *   P2  A snapshot's end is in `ending` before its record is on its way, for
 *       the same reason, and is durable before it stops being live: before
 *       the first write that does not copy for it.
 *   P3  An end is recorded only when no set's record is on its way, so that it
 *       stands after its set in the journal.
 *
 * Losing goes down these rungs, each of which has its time: an END entry; an
 * invalidation slot of the store, for all snapshots of the volumes; the removal
 * of its LIVE; another mark at the origins.  If all fail, the
 * origins are served on, and that is said.
 *
 * Threads: any.  No lock is held over a call of the store.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/mutant.h"
#include "set/engine.h"

/* ------------------------------------------------------------- checkpoints */

enum { STAGE_VOLUMES, STAGE_SETS, STAGE_NOTES, STAGE_ZEROES, STAGE_END };

/* The end that the journal is to know of. */
static uint32_t
end_of (const struct cow_snapshot *snap)
{
  int end = atomic_load (&snap->end);

  return (uint32_t) (end != COW_ALIVE ? end : atomic_load (&snap->ending));
}

void
cow_set_to_record_locked (struct cow_engine *e, const struct cow_set *s,
                          struct cow_set_record *out)
{
  assert (s->engine == e);
  *out = (struct cow_set_record) {
    .id = s->id,
    .number = s->number,
    .created_wall_ns = s->created_wall_ns,
    .hold_ns = s->hold_ns,
    .settle_ns = s->settle_ns,
    .attributes = s->attributes,
    .prepared = s->undecided,
    .members = s->members,
    .annotation = s->annotation,
    .annotation_bytes = s->annotation_bytes,
  };
  memcpy (out->label, s->label, sizeof out->label);
  for (unsigned i = 0; i < s->members; i++) {
    const struct cow_snapshot *snap = s->member[i].snapshot;

    out->member[i] = (struct cow_member_record) {
      .snapshot = snap->id,
      .volume = snap->volume->store_number,
      .epoch = snap->epoch,
      .end = end_of (snap),
      .exceptions = atomic_load (&snap->exceptions),
    };
  }
}

static bool
is_gone (const struct cow_set_record *r)
{
  for (unsigned i = 0; i < r->members; i++)
    if (r->member[i].end != COW_DELETED)
      return false;
  return true;
}

static int
add_volume_locked (struct cow_engine *e, struct cow_slot_of_volume *slot,
                   struct cow_entries *out)
{
  slot->record.number = slot->volume->store_number;
  slot->record.epoch = cow_gate_epoch (&slot->volume->gate);
  slot->record.stopped = e->stopping;
  return cow_record_add_volume (out, &slot->record);
}

int
cow_set_add_records_locked (struct cow_engine *e, const struct cow_set *s,
                            struct cow_entries *out)
{
  struct cow_set_record r;
  int rc = 0;

  for (unsigned i = 0; rc == 0 && i < s->members; i++)
    rc = add_volume_locked (e, cow_engine_slot (e, s->member[i].volume), out);
  if (rc < 0)
    return rc;
  cow_set_to_record_locked (e, s, &r);
  return cow_record_add_set (out, &r);
}

static int
add_volumes_locked (struct cow_engine *e, struct cow_entries *out)
{
  int rc = cow_record_add_counters (out, e->last_number);

  for (unsigned i = 0; rc == 0 && i < e->volumes; i++)
    rc = add_volume_locked (e, e->volume[i], out);
  return rc;
}

static int
add_sets_locked (struct cow_engine *e, struct cow_checkpoint *at,
                 struct cow_entries *out)
  COW_REQUIRES (e->sets_lock)
{
  for (const struct cow_set *s = e->newest; s != NULL; s = s->older) {
    struct cow_set_record r;

    if (s->number >= at->below || s->recording == COW_RECORD_NONE)
      continue;
    if (out->used >= COW_CHECKPOINT_BYTES)
      return 1;
    at->below = s->number;
    cow_set_to_record_locked (e, s, &r);
    if (!is_gone (&r) && cow_record_add_set (out, &r) < 0)
      return -ENOMEM;
  }
  return 0;
}

/* The items of one ZEROES entry, runs joined. */
struct zero_runs {
  struct disk_list head;
  struct disk_zeroes run[4096];
  unsigned count;
};

static bool
join (struct zero_runs *z, const struct cow_exception *x, uint32_t volume)
{
  struct disk_zeroes *last;

  if (z->count == 0)
    return false;
  last = &z->run[z->count - 1];
  if (from_le32 (last->epoch) != x->epoch
      || from_le32 (last->volume) != volume
      || from_le64 (last->block) + from_le32 (last->blocks) != x->block
      || from_le32 (last->blocks) == UINT32_MAX)
    return false;
  last->blocks = to_le32 (from_le32 (last->blocks) + 1);
  return true;
}

/* The oldest epoch that a persistent snapshot of v is of; 0: there is none. */
static uint32_t
oldest_lasting (struct cow_volume *v)
{
  LOCK_FOR_SCOPE (&v->snaps_lock);

  for (unsigned i = 0; i < v->lives; i++)
    if (v->live[i]->persistent)
      return v->live[i]->epoch;
  return 0;
}

/* A stretch of a region's zeroes; false at its end. */
static bool
walk_some (struct cow_checkpoint *at, struct cow_volume *v, uint32_t oldest,
           struct zero_runs *z)
{
  struct cow_exception some[64];
  unsigned n = cow_map_walk (v->map, at->region, &at->walk, some,
                             COW_ARRAY_SIZE (some));

  for (unsigned i = 0; i < n; i++)
    if (some[i].place == COW_PLACE_ZERO && some[i].epoch >= oldest
        && !join (z, &some[i], v->store_number))
      z->run[z->count++] = (struct disk_zeroes) {
        .block = to_le64 (some[i].block),
        .blocks = to_le32 (1),
        .epoch = to_le32 (some[i].epoch),
        .volume = to_le32 (v->store_number),
      };
  return n > 0;
}

/* Zeroes are nowhere but in the maps.  1 if there is more. */
static int
walk_zeroes (struct cow_engine *e, struct cow_checkpoint *at,
             struct zero_runs *z)
{
  for (; at->volume < e->volumes; at->volume++, at->region = 0) {
    struct cow_volume *v = e->volume[at->volume]->volume;
    uint32_t oldest = oldest_lasting (v);

    if (oldest == 0 || cow_map_exceptions (v->map) == 0)
      continue;
    for (; at->region < cow_map_regions (v->map); at->region++) {
      if (!cow_map_region_empty (v->map, at->region * COW_REGION_BLOCKS))
        do {
          if (z->count + 64 > COW_ARRAY_SIZE (z->run))
            return 1;
        } while (walk_some (at, v, oldest, z));
      at->walk = (struct cow_walk) { 0 };
    }
  }
  return 0;
}

static int
add_zeroes (struct cow_engine *e, struct cow_checkpoint *at,
            struct cow_entries *out)
{
  struct zero_runs *z = malloc (sizeof *z);
  int rc, more = 0;
  void *body;

  if (z == NULL)
    return -ENOMEM;
  z->head = (struct disk_list) { .count = to_le32 (0) };
  z->count = 0;
  rc = walk_zeroes (e, at, z);
  if (z->count > 0) {
    const size_t bytes = sizeof z->head + z->count * sizeof z->run[0];

    z->head.count = to_le32 (z->count);
    body = cow_entries_add (out, COW_ENTRY_ZEROES, bytes);
    if (body)
      memcpy (body, z, bytes);
    more = body ? 0 : -ENOMEM;
  }
  free (z);
  return more < 0 ? more : rc;
}

int
cow_engine_checkpoint (void *opaque, bool first, struct cow_entries *out)
{
  struct cow_engine *e = opaque;
  struct cow_checkpoint *at = &e->checkpoint;
  int rc = 0;

  if (first)
    *at = (struct cow_checkpoint) { .below = UINT64_MAX };
  while (rc == 0 && at->stage < STAGE_END) {
    if (out->used >= COW_CHECKPOINT_BYTES)
      return 1;
    if (at->stage == STAGE_ZEROES)
      rc = add_zeroes (e, at, out);
    else {
      LOCK_FOR_SCOPE (&e->sets_lock);

      if (at->stage == STAGE_VOLUMES)
        rc = add_volumes_locked (e, out);
      else if (at->stage == STAGE_SETS)
        rc = add_sets_locked (e, at, out);
      else
        rc = cow_notes_checkpoint_locked (e, at, out);
    }
    if (rc == 0)
      at->stage++;
  }
  return rc;
}

/* -------------------------------------------------------------------- ends */

static bool
is_record_on_its_way (const struct cow_engine *e)
{
  for (const struct cow_set *s = e->newest; s != NULL; s = s->older)
    if (s->recording == COW_RECORD_SUBMITTED)
      return true;
  return false;
}

static void
set_ending (struct cow_snapshot **snaps, unsigned count, int ending)
{
  for (unsigned i = 0; i < count; i++)
    if (snaps[i]->persistent)
      atomic_store (&snaps[i]->ending, ending);
}

/* When no record is on its way.  One that comes after this sees it, and is not
 * made.  False on the deadline.
 */
static bool
announce_ends (struct cow_engine *e, struct cow_snapshot **snaps,
               unsigned count, enum cow_snapshot_end end, uint64_t deadline_ns)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  while (is_record_on_its_way (e))
    if (!cow_cond_wait_until (&e->swept, &e->sets_lock, deadline_ns))
      return false;
  set_ending (snaps, count, (int) end);
  return true;
}

/* The journal says that these end, durably (P2, P3). */
static int
record_ends (struct cow_engine *e, struct cow_snapshot **snaps,
             unsigned count, enum cow_snapshot_end end, uint64_t deadline_ns)
{
  struct cow_entries entries = COW_ENTRIES_INIT;
  struct cow_end_record *ends;
  unsigned n = 0;
  int rc;

  for (unsigned i = 0; i < count; i++)
    n += snaps[i]->persistent;
  if (n == 0)
    return 0;
  ends = calloc (n, sizeof *ends);
  if (ends == NULL)
    return -ENOMEM;
  n = 0;
  for (unsigned i = 0; i < count; i++)
    if (snaps[i]->persistent)
      ends[n++] = (struct cow_end_record) { snaps[i]->id, end };
  rc = cow_record_add_ends (&entries, ends, n);
  free (ends);
  if (rc == 0) {
    if (announce_ends (e, snaps, count, end, deadline_ns))
      rc = COW_MUTANT (end_not_recorded)
             ? 0
             : cow_store_append (e->store, &entries, deadline_ns);
    else
      rc = -ETIMEDOUT;
  }
  cow_entries_clear (&entries);
  return rc;
}

/* The volumes of some persistent snapshots, each once. */
static unsigned
volumes_of (struct cow_snapshot **snaps, unsigned count,
            struct cow_volume **out, unsigned room)
{
  unsigned n = 0;

  for (unsigned i = 0; i < count; i++) {
    unsigned j = 0;

    while (j < n && out[j] != snaps[i]->volume)
      j++;
    if (snaps[i]->persistent && j == n && n < room)
      out[n++] = snaps[i]->volume;
  }
  return n;
}

/* One at a time: those who come meanwhile find that it is done. */
static void
begin_losing (struct cow_engine *e)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  while (e->losing)
    cow_cond_wait_until (&e->swept, &e->sets_lock, COW_NEVER);
  e->losing = true;
}

static void
end_losing (struct cow_engine *e)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  e->losing = false;
  cow_cond_broadcast (&e->swept);
}

static bool
lose_one (struct cow_engine *e, struct cow_snapshot *snap,
          enum cow_snapshot_end end)
{
  char text[COW_ID_TEXT_SIZE];

  if (!cow_volume_live_end (snap->volume, snap, end))
    return false;
  if (end == COW_DELETED)
    return true;
  atomic_fetch_add (&e->invalidated, 1);
  cow_id_format (&snap->id, text);
  cow_log (COW_LOG_ERROR,
           "%s: snapshot %s is lost: %s; the volume is served on",
           snap->volume->name, text, cow_snapshot_end_text (end));
  return true;
}

/* The live snapshots of v, or those that are persistent: a count of each, in
 * memory to be freed.  NULL: none, or no memory (*count is right then).
 */
static struct cow_snapshot **
live_of (struct cow_volume *v, bool persistent, unsigned *count)
{
  struct cow_snapshot **snaps;
  unsigned n = 0;
  LOCK_FOR_SCOPE (&v->snaps_lock);

  *count = persistent ? v->lasting_lives : v->lives;
  if (*count == 0)
    return NULL;
  snaps = calloc (*count, sizeof *snaps);
  for (unsigned i = 0; snaps && i < v->lives; i++)
    if (!persistent || v->live[i]->persistent) {
      snaps[n] = v->live[i];
      cow_snapshot_get (snaps[n++]);
    }
  return snaps;
}

static unsigned
lose_persistent (struct cow_engine *e, struct cow_volume *v,
                 enum cow_snapshot_end end)
{
  unsigned count, ended = 0;
  struct cow_snapshot **snaps;

  snaps = live_of (v, true, &count);
  if (snaps == NULL && count > 0) {
    ended = cow_volume_end_all (v, UINT32_MAX, end);
    atomic_fetch_add (&e->invalidated, ended);
    return ended;
  }
  for (unsigned i = 0; i < count; i++) {
    ended += lose_one (e, snaps[i], end);
    cow_snapshot_put (snaps[i]);
  }
  free (snaps);
  return ended;
}

/* The volumes with persistent snapshots, in memory to be freed; NULL: none, or no
 * memory.
 */
static struct cow_volume **
lasting_volumes (struct cow_engine *e, unsigned *count)
{
  struct cow_volume **all = calloc (e->volumes, sizeof *all);

  *count = 0;
  for (unsigned i = 0; all && i < e->volumes; i++) {
    struct cow_volume *v = e->volume[i]->volume;
    LOCK_FOR_SCOPE (&v->snaps_lock);

    if (v->lasting_lives > 0)
      all[(*count)++] = v;
  }
  return all;
}

/* Those that are on their way down already end as they were told to.  If the
 * journal can't be written, all others of their volumes end with them; and if
 * the store has failed, those of every volume, in one go: a disk that hangs
 * takes its time once, not once for each.
 */
static unsigned
lose (struct cow_engine *e, struct cow_snapshot **snaps, unsigned count,
      enum cow_snapshot_end end)
{
  struct cow_volume *own[COW_SET_VOLUMES_MAX], **volumes = own;
  CLEANUP_FREE struct cow_volume **all = NULL;
  enum cow_snapshot_end with = end; /* how the others end */
  struct cow_store_status status;
  unsigned n = volumes_of (snaps, count, own, COW_SET_VOLUMES_MAX), many;
  unsigned ended = 0;
  int rc = 0;

  if (n > 0)
    rc = record_ends (e, snaps, count, end,
                      cow_now_ns () + COW_MIN (COW_RUNG_NS,
                                               e->options.store_timeout_ns));
  if (rc < 0) {
    cow_store_status (e->store, &status);
    if (status.failed && !e->options.protect_snapshot)
      all = lasting_volumes (e, &many);
    if (all != NULL && many >= n) {
      volumes = all;
      n = many;
    }
    if (end == COW_DELETED || (all != NULL && end != COW_LOST_STORE_TIMEOUT))
      with = COW_LOST_STORE_ERROR;
    cow_engine_give_up (e, volumes, n, all != NULL ? with : end);
  }
  for (unsigned i = 0; i < count; i++)
    ended += lose_one (e, snaps[i], end);
  if (rc < 0)
    for (unsigned i = 0; i < n; i++)
      ended += lose_persistent (e, volumes[i], with);
  return ended;
}

unsigned
cow_engine_lose (struct cow_engine *e, struct cow_snapshot **snaps,
                 unsigned count, enum cow_snapshot_end end)
{
  unsigned ended;

  begin_losing (e);
  ended = lose (e, snaps, count, end);
  end_losing (e);
  return ended;
}

int
cow_engine_delete (struct cow_engine *e, struct cow_snapshot **snaps,
                   unsigned count)
{
  int rc;

  rc = record_ends (e, snaps, count, COW_DELETED,
                    cow_now_ns () + e->options.store_timeout_ns);
  if (rc == -ENOSPC || rc == -ENOMEM) {
    /* Perhaps a checkpoint has it; the next one takes it back. */
    set_ending (snaps, count, COW_ALIVE);
    return rc;
  }
  if (rc < 0) {
    (void) cow_engine_lose (e, snaps, count, COW_DELETED);
    return 0;
  }
  for (unsigned i = 0; i < count; i++)
    if (!lose_one (e, snaps[i], COW_DELETED))
      atomic_store (&snaps[i]->end, COW_DELETED);
  return 0;
}

unsigned
cow_engine_lose_volume (struct cow_engine *e, struct cow_volume *v,
                        enum cow_snapshot_end end)
{
  struct cow_snapshot **snaps;
  unsigned count, ended = 0;

  begin_losing (e);
  snaps = live_of (v, false, &count);
  if (snaps) {
    ended = lose (e, snaps, count, end);
    for (unsigned i = 0; i < count; i++)
      cow_snapshot_put (snaps[i]);
    free (snaps);
  }
  else if (count > 0) {
    cow_engine_give_up (e, &v, 1, end);
    ended = cow_volume_end_all (v, UINT32_MAX, end);
    atomic_fetch_add (&e->invalidated, ended);
  }
  end_losing (e);
  return ended;
}
