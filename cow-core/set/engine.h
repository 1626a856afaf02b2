/* engine.h - volumes, sets and background work, inside cow-core.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef COW_SET_ENGINE_H
#define COW_SET_ENGINE_H

#include <stdatomic.h>

#include "base/sync.h"
#include "cow.h"
#include "gate/gate.h"
#include "map/arena.h"
#include "map/bits.h"
#include "store/store.h"
#include "volume/volume.h"

#define COW_HOLDS 64u           /* sets that hold at once */

struct cow_member {
  struct cow_volume *volume;
  struct cow_snapshot *snapshot; /* counted */
  struct cow_root *next_root;   /* prepared, not yet installed */
  bool live;                    /* in the volume's live list since prepare */
};

struct cow_set {
  struct cow_engine *engine;
  struct cow_id id;
  char label[COW_NAME_MAX + 1];
  uint32_t attributes;
  bool persistent;
  _Atomic unsigned count;

  cow_mutex lock;
  /* All of these are under lock. */
  enum cow_set_state state;
  bool busy;                    /* a phase is running outside the lock */
  struct cow_hold *hold;
  uint64_t held_since_ns, switched_ns;
  uint64_t number, created_wall_ns, hold_ns, settle_ns;
  unsigned members;
  struct cow_member member[COW_SET_VOLUMES_MAX];

  struct cow_set *older;        /* the engine's sets_lock */
};

/* What the engine keeps for each volume. */
struct cow_slot_of_volume {
  struct cow_volume *volume;
  struct cow_set *claim;        /* sets_lock: the set being made */
  /* Snapshots that ended ask for a sweep: wanted grows, done follows. */
  _Atomic uint64_t sweeps_wanted;
  _Atomic uint64_t sweeps_done;
  uint64_t sweeping;            /* the step's own: what is being done */
  uint64_t region;              /* the step's own: where it is */
  /* The step's own: trims that were put off are looked at again after each
   * sweep and each addition; which of both was last, and where the look is.
   */
  uint64_t trims_seen, trim_block;
  bool trimming, trims_missed;
};

struct cow_engine {
  /* Set before start, then read only. */
  struct cow_engine_options options;
  char *store_path;
  struct cow_io *io;
  bool own_io, started;
  struct cow_store *store;
  struct cow_arena arena;
  struct cow_bits_budget bits_budget;
  unsigned volumes, volumes_room;
  struct cow_slot_of_volume **volume;

  /* Locks, in the order they may be taken: a set's lock, sets_lock, then
   * those of a volume (volume/volume.h), then the store's.
   */
  cow_mutex sets_lock;
  struct cow_set *newest;       /* sets_lock; committed sets */
  uint64_t last_number;         /* sets_lock */
  uint64_t holds_taken;         /* sets_lock; a bit for each */
  cow_cond swept;               /* sets_lock; a sweep has ended */

  struct cow_hold hold[COW_HOLDS];
  _Atomic bool stepping, store_lost;
  _Atomic uint64_t invalidated;
};

struct cow_slot_of_volume *cow_engine_slot (struct cow_engine *e,
                                            const struct cow_volume *v);

/* cow_volume.relieve and .swept (relieve.c, step.c). */
void cow_engine_relieve (void *opaque, struct cow_volume *v, int code);
void cow_engine_swept (void *opaque, struct cow_volume *v);

/* Take what the store needs for a set: -ENOSPC only if there is no room, none
 * is on its way back, and no older set would make some.
 */
int cow_engine_take_store (struct cow_engine *e, uint64_t deadline_ns,
                           struct cow_error *err);

/* Wait until every writer of an earlier epoch of v has left, and give its root
 * back.  False on the deadline.
 */
bool cow_engine_settle_volume (struct cow_volume *v, uint64_t deadline_ns);

/* Enter a set that is finished in the catalogue. */
void cow_catalogue_add_locked (struct cow_engine *e, struct cow_set *s)
  COW_REQUIRES (e->sets_lock);

#endif /* COW_SET_ENGINE_H */
