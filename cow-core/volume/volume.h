/* volume.h - an origin with its snapshots, inside cow-core.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads: any.  Locks, in the order in which they may be taken (the whole
 * table is in ../README.md):
 *
 *   pending_lock   the blocks being copied now
 *   snaps_lock     which snapshots are live
 *
 * No lock is held over I/O, nor while waiting for anything but its own
 * condition.
 */
#ifndef COW_VOLUME_VOLUME_H
#define COW_VOLUME_VOLUME_H

#include <stdatomic.h>

#include "base/sync.h"
#include "cow.h"
#include "gate/gate.h"
#include "map/bits.h"
#include "map/map.h"
#include "store/store.h"
#include "volume/trims.h"

/* Requests are admitted in pieces of this size. */
#define COW_PIECE_BYTES (1u << 20)

struct cow_snapshot {
  struct cow_id id;
  struct cow_volume *volume;
  struct cow_set *set;          /* set/'s own; valid while it holds a count */
  uint32_t epoch;               /* what writes of this epoch on do is not in it */
  bool persistent;              /* what it needs is durable before it is
                                 * overwritten */
  _Atomic int end;              /* enum cow_snapshot_end */
  _Atomic int ending;           /* the same, while that becomes durable */
  _Atomic bool open;            /* committed: views may be made */
  _Atomic unsigned count;       /* set and views */
  _Atomic uint64_t exceptions;  /* filed while it was the newest, in blocks */
};

struct cow_pending;
struct cow_edge;

struct cow_volume {
  /* Set at open, then read only. */
  char name[COW_NAME_MAX + 1];
  char *path;
  uint32_t number;              /* in the engine's list */
  uint32_t store_number;        /* in records; set before the first write */
  uint64_t size_bytes, blocks;
  uint32_t block_bytes;
  unsigned block_shift;
  enum cow_cache cache;
  bool readonly, protect_snapshot;
  struct cow_file *file;
  struct cow_file *tail_file;   /* cache=none: for what O_DIRECT can't do */
  struct cow_store *store;
  uint64_t store_timeout_ns;
  struct cow_bits_budget *bits_budget;

  /* Called when old data can't be preserved: makes room or ends snapshots, so
   * that asking again helps.  code is what the store or origin said.
   */
  void (*relieve) (void *opaque, struct cow_volume *v, int code);
  /* A snapshot stopped being live: exceptions may be garbage. */
  void (*swept) (void *opaque, struct cow_volume *v);
  void *opaque;

  struct cow_gate gate;
  /* Of epoch e: root[e & 1].  Two epochs at most have writers inside. */
  _Atomic (struct cow_root *) root[2];
  /* Writers of all epochs below this one have left. */
  _Atomic uint32_t settled;
  struct cow_map *map;

  cow_mutex pending_lock;
  cow_cond pending_done;        /* pending_lock */
  struct cow_pending *pending;  /* pending_lock */
  unsigned pending_waiters;     /* pending_lock */

  cow_mutex snaps_lock;
  struct cow_snapshot **live;   /* snaps_lock; by epoch, oldest first */
  unsigned lives, live_room;    /* snaps_lock */
  unsigned lasting_lives;       /* snaps_lock; persistent ones among them */

  /* Exceptions in the map with a ticket up to this one may not be durable,
   * because a barrier failed.  Only grows.
   */
  _Atomic cow_ticket unsure;

  struct cow_trims trims;       /* has a lock of its own */

  /* cache=none: changes on their way to the origin (origin.c). */
  cow_mutex edge_lock;
  cow_cond edge_done;           /* edge_lock */
  struct cow_edge *edges;       /* edge_lock */

  _Atomic uint64_t first_touches, copied_bytes, zero_bytes;
};

/* ---- snapshots of a volume (snaps.c) */

/* Make room in the live list for one more.  0 or -ENOMEM. */
int cow_volume_live_reserve (struct cow_volume *v);
void cow_volume_live_add (struct cow_volume *v, struct cow_snapshot *s);
/* End a snapshot: not live any more, for whoever asks from now on.  Returns
 * false if it had ended already.
 */
bool cow_volume_live_end (struct cow_volume *v, struct cow_snapshot *s,
                          enum cow_snapshot_end end);
/* The newest live epoch <= epoch, 0 if there is none.  filed: so many blocks
 * are added to what that snapshot has had preserved.
 */
uint32_t cow_volume_live_count (struct cow_volume *v, uint32_t epoch,
                                unsigned filed);
static inline uint32_t
cow_volume_live_max (struct cow_volume *v, uint32_t epoch)
{
  return cow_volume_live_count (v, epoch, 0);
}
/* The same of the persistent ones. */
uint32_t cow_volume_lasting_max (struct cow_volume *v, uint32_t epoch);
unsigned cow_volume_lives (struct cow_volume *v);
void cow_snapshot_get (struct cow_snapshot *s);
void cow_snapshot_put (struct cow_snapshot *s);
/* End all live snapshots of v with an epoch <= epoch.  Returns how many. */
unsigned cow_volume_end_all (struct cow_volume *v, uint32_t epoch,
                             enum cow_snapshot_end end);

/* Examine one region's exceptions and free those that serve nobody. */
void cow_volume_sweep (struct cow_volume *v, uint64_t region);

/* ---- origin (origin.c): alignment of cache=none is dealt with here */

int cow_origin_read (struct cow_volume *v, void *buf, size_t len,
                     uint64_t offset);
int cow_origin_write (struct cow_volume *v, const void *buf, size_t len,
                      uint64_t offset);

/* Deallocate or zero, if the file can: -EOPNOTSUPP (nothing was changed). */
int cow_origin_punch (struct cow_volume *v, uint64_t len, uint64_t offset);
int cow_origin_zero (struct cow_volume *v, uint64_t len, uint64_t offset,
                     bool may_punch);

/* ---- first touch (copy.c) */

enum cow_touch {
  COW_TOUCH_WRITE,              /* any content may follow */
  COW_TOUCH_ZERO,               /* zeroes follow: a hole stays what it is */
};

/* Preserve what a write of bytes [offset, offset + len), admitted with pass,
 * needs preserved.  0, or (protect=snapshot only) -ENOSPC or -EIO.
 */
int cow_copy_before (struct cow_volume *v, const struct cow_pass *pass,
                     struct cow_root *root, uint64_t offset, uint64_t len,
                     enum cow_touch touch);

/* Trim bytes [offset, offset + len), admitted with pass to an epoch with a
 * bitmap: what is preserved is deallocated at once, the rest is put off.
 */
int cow_trim_piece (struct cow_volume *v, const struct cow_pass *pass,
                    struct cow_root *root, uint64_t offset, uint64_t len);

/* Execute what was put off and is needed by nobody any more: looks at one
 * stretch from *block on, and moves it on.  Never waits for a writer, who may
 * be waiting for the caller's other work: 1 if something is in the way (the
 * stretch was passed over), 0 if not, -ENOENT at the end of the list.
 */
int cow_volume_run_trims (struct cow_volume *v, uint64_t *block);

static inline struct cow_root *
cow_volume_root (struct cow_volume *v, uint32_t epoch)
{
  return atomic_load_explicit (&v->root[epoch & 1], memory_order_acquire);
}

static inline uint64_t
cow_block_of (const struct cow_volume *v, uint64_t offset)
{
  return offset >> v->block_shift;
}

/* ---- life (volume.c) */

struct cow_volume_options {
  const char *name, *path;
  enum cow_cache cache;
  bool readonly, protect_snapshot;
  uint32_t number, block_bytes;
  uint64_t store_timeout_ns;
  struct cow_io *io;
  struct cow_store *store;
  struct cow_arena *arena;
  struct cow_bits_budget *bits_budget;
};
int cow_volume_open (const struct cow_volume_options *o,
                     struct cow_error *err, struct cow_volume **out);
void cow_volume_close (struct cow_volume *v);

#endif /* COW_VOLUME_VOLUME_H */
