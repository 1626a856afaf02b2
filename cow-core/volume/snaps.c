/* snaps.c - which snapshots of a volume are live.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A snapshot is live from the preparation of its set (its epoch is still to
 * come then, so it asks nothing of anybody) until it is deleted or lost.  It
 * ends under snaps_lock, which every decision "copy or not" takes too: so a
 * write that does not copy for it was decided after its end was to be seen.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mutant.h"
#include "volume/volume.h"

int
cow_volume_live_reserve (struct cow_volume *v)
{
  struct cow_snapshot **live;
  unsigned room;
  LOCK_FOR_SCOPE (&v->snaps_lock);

  if (v->lives < v->live_room)
    return 0;
  room = v->live_room * 2 + 8;
  live = realloc (v->live, room * sizeof *live);
  if (live == NULL)
    return -ENOMEM;
  v->live = live;
  v->live_room = room;
  return 0;
}

void
cow_volume_live_add (struct cow_volume *v, struct cow_snapshot *s)
{
  LOCK_FOR_SCOPE (&v->snaps_lock);

  assert (v->lives < v->live_room);
  assert (v->lives == 0 || v->live[v->lives - 1]->epoch < s->epoch);
  v->live[v->lives++] = s;
  v->lasting_lives += s->persistent;
}

bool
cow_volume_live_end (struct cow_volume *v, struct cow_snapshot *s,
                     enum cow_snapshot_end end)
{
  unsigned i;

  cow_mutex_lock (&v->snaps_lock);
  if (atomic_load (&s->end) != COW_ALIVE) {
    cow_mutex_unlock (&v->snaps_lock);
    return false;
  }
  for (i = 0; i < v->lives && v->live[i] != s; i++)
    ;
  assert (i < v->lives);
  atomic_store (&s->end, end);
  memmove (&v->live[i], &v->live[i + 1],
           (v->lives - i - 1) * sizeof v->live[0]);
  v->lives--;
  v->lasting_lives -= s->persistent;
  cow_mutex_unlock (&v->snaps_lock);
  if (v->swept)
    v->swept (v->opaque, v);
  return true;
}

uint32_t
cow_volume_live_count (struct cow_volume *v, uint32_t epoch, unsigned filed)
{
  unsigned low = 0, high;
  struct cow_snapshot *newest;
  LOCK_FOR_SCOPE (&v->snaps_lock);

  high = v->lives;
  while (low < high) {
    unsigned mid = (low + high) / 2;

    if (v->live[mid]->epoch <= epoch)
      low = mid + 1;
    else
      high = mid;
  }
  if (low == 0)
    return 0;
  newest = v->live[low - 1];
  if (filed > 0)
    atomic_fetch_add_explicit (&newest->exceptions, filed,
                               memory_order_relaxed);
  return newest->epoch;
}

uint32_t
cow_volume_lasting_max (struct cow_volume *v, uint32_t epoch)
{
  LOCK_FOR_SCOPE (&v->snaps_lock);

  if (v->lasting_lives == 0)
    return 0;
  for (unsigned i = v->lives; i-- > 0;)
    if (v->live[i]->epoch <= epoch && v->live[i]->persistent)
      return v->live[i]->epoch;
  return 0;
}

unsigned
cow_volume_lives (struct cow_volume *v)
{
  LOCK_FOR_SCOPE (&v->snaps_lock);

  return v->lives;
}

void
cow_snapshot_get (struct cow_snapshot *s)
{
  atomic_fetch_add (&s->count, 1);
}

void
cow_snapshot_put (struct cow_snapshot *s)
{
  if (atomic_fetch_sub (&s->count, 1) == 1)
    free (s);
}

unsigned
cow_volume_end_all (struct cow_volume *v, uint32_t epoch,
                    enum cow_snapshot_end end)
{
  unsigned ended = 0;

  for (;;) {
    struct cow_snapshot *s = NULL;
    bool did;

    cow_mutex_lock (&v->snaps_lock);
    if (v->lives > 0 && v->live[0]->epoch <= epoch) {
      s = v->live[0];
      cow_snapshot_get (s);
    }
    cow_mutex_unlock (&v->snaps_lock);
    if (s == NULL)
      return ended;
    did = cow_volume_live_end (v, s, end);
    if (did) {
      char text[COW_ID_TEXT_SIZE];

      ended++;
      cow_id_format (&s->id, text);
      cow_log (COW_LOG_ERROR,
               "%s: snapshot %s is lost: %s; the volume is served on",
               v->name, text, cow_snapshot_end_text (end));
    }
    cow_snapshot_put (s);
  }
}

static bool
serves (void *opaque, uint32_t predecessor, uint32_t epoch)
{
  struct cow_volume *v = opaque;

  if (COW_MUTANT (sweeps_too_much)) {
    uint32_t newest = cow_volume_live_max (v, UINT32_MAX);

    return predecessor < newest && newest <= epoch;
  }
  return cow_volume_live_max (v, epoch) > predecessor;
}

static void
freed (void *opaque, uint64_t block, cow_place place)
{
  struct cow_volume *v = opaque;

  (void) block;
  if (place >= COW_PLACE_FIRST)
    cow_store_release (v->store, place);
}

void
cow_volume_sweep (struct cow_volume *v, uint64_t region)
{
  const struct cow_sweep sweep = {
    .serves = serves,
    .freed = freed,
    .opaque = v,
  };

  cow_map_sweep (v->map, region, &sweep);
}
