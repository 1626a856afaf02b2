/* engine.h - volumes, sets and background work, inside cow-core.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef COW_SET_ENGINE_H
#define COW_SET_ENGINE_H

#include <stdatomic.h>

#include "base/sync.h"
#include "cow.h"
#include "gate/gate.h"
#include "journal/journal.h"
#include "map/arena.h"
#include "map/bits.h"
#include "map/map.h"
#include "set/records.h"
#include "store/store.h"
#include "volume/volume.h"

#define COW_HOLDS 64u           /* sets that hold at once */

/* How far a set's record has come; the engine's sets_lock. */
enum cow_recording {
  COW_RECORD_NONE,              /* not persistent, or not yet */
  COW_RECORD_SUBMITTED,         /* may be durable any moment */
  COW_RECORD_DURABLE,
};

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
  bool submitted;               /* its record is on its way: too late to abort */
  struct cow_hold *hold;
  uint64_t held_since_ns, switched_ns;
  uint64_t number, created_wall_ns, hold_ns, settle_ns;
  unsigned members;
  struct cow_member member[COW_SET_VOLUMES_MAX];

  void *annotation;             /* set before it is in the catalogue */
  size_t annotation_bytes;

  /* The engine's sets_lock. */
  struct cow_set *older;
  enum cow_recording recording;
  bool listed;                  /* else hidden: not for users */
  bool undecided;
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

  /* As the store knows the volume; sets_lock, once it is open. */
  struct cow_volume_record record;
};

/* A note, in a list. */
struct cow_note {
  struct cow_note *next;
  struct cow_id key;
  size_t len;
  uint8_t data[];
};

/* Where a checkpoint is (persist.c); the store's leader has it. */
struct cow_checkpoint {
  unsigned stage;
  uint64_t below;               /* sets with a smaller number are to come */
  struct cow_id note;
  unsigned volume;
  uint64_t region;
  struct cow_walk walk;
};

struct cow_reopening;           /* replay.c */

/* How full the store is (watch.c). */
struct cow_watch {
  /* The stepping thread's. */
  uint64_t looked_ns, used_bytes;
  unsigned looks, said;         /* said: the threshold, in per cent */
  _Atomic uint64_t rate, full_in_s;
};

struct cow_engine {
  /* Set before start, then read only. */
  struct cow_engine_options options;
  char *store_path;
  struct cow_io *io;
  bool own_io, opened, started;
  char *store_directory, *state_directory; /* or NULL */
  struct cow_store *store;
  struct cow_reopening *reopening;      /* while the store is opened */
  struct cow_checkpoint checkpoint;
  struct cow_watch watch;
  struct cow_arena arena;
  struct cow_bits_budget bits_budget;
  unsigned volumes, volumes_room;
  struct cow_slot_of_volume **volume;

  /* Locks, in the order they may be taken: a set's lock, sets_lock, then
   * those of a volume (volume/volume.h), then the store's.
   */
  cow_mutex sets_lock;
  /* sets_lock; sets that are committed, or whose record is on its way, by
   * number.
   */
  struct cow_set *newest;
  struct cow_note *notes;       /* sets_lock */
  bool stopping;                /* sets_lock; the origins are at rest */
  bool losing;                  /* sets_lock; somebody ends snapshots */
  uint64_t last_number;         /* sets_lock */
  uint64_t holds_taken;         /* sets_lock; a bit for each */
  /* sets_lock; a sweep has ended, or a record, or a losing. */
  cow_cond swept;

  struct cow_hold hold[COW_HOLDS];
  _Atomic bool stepping, store_lost;
  _Atomic uint64_t invalidated;
};

struct cow_slot_of_volume *cow_engine_slot (struct cow_engine *e,
                                            const struct cow_volume *v);

/* cow_volume.relieve and .swept (relieve.c, step.c). */
void cow_engine_relieve (void *opaque, struct cow_volume *v, int code);
void cow_engine_swept (void *opaque, struct cow_volume *v);

/* Look how full the store is, now and then. */
void cow_engine_watch (struct cow_engine *e);

/* All sweeps that are wanted; nobody steps. */
void cow_engine_sweep_all (struct cow_engine *e);

/* Take what the store needs for a set: -ENOSPC only if there is no room, none
 * is on its way back, and no older set would make some.
 */
int cow_engine_take_store (struct cow_engine *e, uint64_t deadline_ns,
                           struct cow_error *err);

/* Wait until every writer of an earlier epoch of v has left, and give its root
 * back.  False on the deadline.
 */
bool cow_engine_settle_volume (struct cow_volume *v, uint64_t deadline_ns);

/* Enter a set in the catalogue, hidden as yet, with the next number; or with
 * that of its record.  The catalogue has a count of it.
 */
void cow_catalogue_enter_locked (struct cow_engine *e, struct cow_set *s)
  COW_REQUIRES (e->sets_lock);
/* It is there for users from now on. */
void cow_catalogue_show_locked (struct cow_engine *e, struct cow_set *s)
  COW_REQUIRES (e->sets_lock);
/* Out of the catalogue, whose count is then the caller's.  False: it is not
 * there.
 */
bool cow_catalogue_remove (struct cow_engine *e, struct cow_set *s);
void cow_set_drop (struct cow_set *s);  /* a count */

/* Make the end of snapshots durable, where they are persistent, then end them.
 * cow_engine_lose goes down all rungs (rungs.c) if the journal can't be
 * written, and returns how many it ended, other snapshots of their volumes
 * included.  cow_engine_delete does so only when it has failed for good; with
 * -ENOSPC and -ENOMEM nothing was done.  They must be in sets of the catalogue,
 * or never have been recorded.
 */
unsigned cow_engine_lose (struct cow_engine *e, struct cow_snapshot **snaps,
                          unsigned count, enum cow_snapshot_end end);
int cow_engine_delete (struct cow_engine *e, struct cow_snapshot **snaps,
                       unsigned count);
/* All live snapshots of a volume. */
unsigned cow_engine_lose_volume (struct cow_engine *e, struct cow_volume *v,
                                 enum cow_snapshot_end end);

/* What each way to record an end may take. */
#define COW_RUNG_NS (2 * COW_NS_PER_S)
/* The journal is out of reach: all persistent snapshots of these volumes end
 * durably in another way, or it is said that they can't.
 */
void cow_engine_give_up (struct cow_engine *e, struct cow_volume **volumes,
                         unsigned count, enum cow_snapshot_end end);

/* What the journal says of a set. */
void cow_set_to_record_locked (struct cow_engine *e, const struct cow_set *s,
                               struct cow_set_record *out)
  COW_REQUIRES (e->sets_lock);
/* The records that bring a set: of its volumes, and of itself. */
int cow_set_add_records_locked (struct cow_engine *e, const struct cow_set *s,
                                struct cow_entries *out)
  COW_REQUIRES (e->sets_lock);
/* cow_store_hooks.checkpoint */
int cow_engine_checkpoint (void *opaque, bool first,
                           struct cow_entries *entries);

/* Open the store and enter what it has (replay.c). */
int cow_engine_reopen (struct cow_engine *e,
                       const struct cow_store_options *options,
                       struct cow_error *err);

/* What an origin carries (marks.c). */
struct cow_mark {
  struct cow_id store;
  uint32_t epoch;               /* in which a server of that store began */
};
/* 1: it is there; 0: none (or a damaged one, which is said); -errno. */
int cow_mark_read (const struct cow_engine *e, struct cow_volume *v,
                   struct cow_mark *out);
/* NULL: take it away.  Durable.  -EOPNOTSUPP: no place for it. */
int cow_mark_write (const struct cow_engine *e, struct cow_volume *v,
                    const struct cow_mark *mark);
/* What shows that the origin is not as the store left it; NULL: nothing. */
const char *cow_origin_sign (const struct cow_engine *e, struct cow_volume *v,
                             const struct cow_volume_record *known);
/* Of a server without a store: sets of another end. */
int cow_engine_unmark (struct cow_engine *e, struct cow_error *err);
/* Of one with a store. */
void cow_engine_mark (struct cow_engine *e);

/* The notes of an engine that goes. */
void cow_notes_clear (struct cow_engine *e);
int cow_note_set_locked (struct cow_engine *e, const struct cow_id *key,
                         const void *data, size_t len)
  COW_REQUIRES (e->sets_lock);
int cow_notes_checkpoint_locked (struct cow_engine *e,
                                 struct cow_checkpoint *at,
                                 struct cow_entries *out)
  COW_REQUIRES (e->sets_lock);

#endif /* COW_SET_ENGINE_H */
