/* cow.h - cow-core for its users: the plugin and the tests.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * An engine has volumes (origins with names).  A set is one instant over any
 * number of them; it has one snapshot for each of its volumes.  See README.md
 * in this folder for how it works, and for the order of the locks.
 *
 * All functions return 0 or -errno unless said otherwise, and may be called
 * from any thread unless said otherwise.  Offsets and lengths are in bytes.
 * cow-core starts no thread: somebody has to call cow_engine_step().
 */
#ifndef COW_H
#define COW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/id.h"
#include "io/io.h"

struct cow_engine;
struct cow_volume;
struct cow_set;
struct cow_view;

#define COW_NAME_MAX 64         /* bytes of a volume's name or a label */
#define COW_SET_VOLUMES_MAX 64  /* volumes of a set, as in VSS */

/* ---------------------------------------------------------------- engine */

enum cow_cache {
  COW_CACHE_WRITEBACK,          /* through the page cache */
  COW_CACHE_NONE,               /* O_DIRECT */
};

struct cow_engine_options {
  enum cow_io_kind io;
  struct cow_io *use_io;        /* NULL, or an engine made elsewhere (tests);
                                 * it is then not freed with the engine */
  uint32_t block_bytes;         /* power of two, 4096..1 MiB; 0: 4096 */
  const char *store_path;       /* directory for the unnamed store file;
                                 * NULL: $TMPDIR or /var/tmp */
  uint64_t store_limit_bytes;   /* 0: a tenth of the volumes, of
                                 * small ones up to 1 GiB */
  uint64_t store_reserve_bytes; /* left free in the store's file system */
  unsigned store_reserve_percent; /* the larger of the two holds */
  unsigned ring_segments;       /* of 1 MiB; 0: 96; at least 2 */
  uint64_t store_timeout_ns;    /* 0: 10 s */
  unsigned snapshot_limit;      /* for each volume; 0: 4096 */
  bool protect_snapshot;        /* a write fails rather than a snapshot */

  /* A store that lasts, and with it persistent sets: an existing directory.
   * NULL: none; old data goes to the unnamed file.
   */
  const char *store_directory;
  /* Where an origin can't carry a mark (block devices): a directory for it. */
  const char *state_directory;
  /* Of a new store, for tests: of each area of its journal, and of a segment;
   * 0: as is best.
   */
  uint64_t journal_bytes;
  unsigned segment_blocks;
  bool force_origin;            /* keep sets whose origin seems changed */

  /* Run step (arg) where it may block for ever, then done (arg), and return
   * what step returned; -ETIMEDOUT at deadline_ns (both go on, and arg stays
   * theirs).  NULL: in the caller's thread.
   */
  int (*run) (void *opaque, int (*step) (void *arg), void (*done) (void *arg),
              void *arg, uint64_t deadline_ns);
  void *run_opaque;
};

int cow_engine_new (const struct cow_engine_options *options,
                    struct cow_error *err, struct cow_engine **out);

/* When all volumes are there, before the server forks: opens the store, whose
 * sets are there from now on, and looks whether the origins are those that it
 * knows.  A server without a store takes away the mark of one (its sets of
 * that origin end).  No thread, ring or queue is left.  Also done by
 * cow_engine_start().  err says what to do; nothing was changed after
 *   -EBUSY, -EUCLEAN, -EPROTONOSUPPORT, -EEXIST, -EINVAL, -EACCES, -EROFS: of
 *           the store (see store/store.h); -EROFS also of an origin
 *   -ENODEV the store has snapshots of a volume that is not served
 * and perhaps some after -EIO, -ENOSPC, -ENOMEM.
 */
int cow_engine_open (struct cow_engine *e, struct cow_error *err);

/* After the server has forked, before the first request. */
int cow_engine_start (struct cow_engine *e, struct cow_error *err);

/* The orderly stop of a store, before cow_engine_free(): everybody has gone,
 * nobody steps.  Sets that are not persistent end.  0, or -errno: the next
 * start finds a store that was not closed in order, and nothing is lost.
 */
int cow_engine_close (struct cow_engine *e);

/* Everybody must have gone.  What is not persistent ends, the unnamed store is
 * given back.  Without cow_engine_close() a store is left as by a kill.
 */
void cow_engine_free (struct cow_engine *e);

/* Has the server a store that lasts? */
bool cow_engine_has_store (const struct cow_engine *e);
/* The directory in which old data is kept, by name or (without a store) not. */
const char *cow_engine_store_path (const struct cow_engine *e);
/* Its id; of an engine that has one, from cow_engine_open() on. */
const struct cow_id *cow_engine_store_id (const struct cow_engine *e);

/* "io_uring" or "sync". */
const char *cow_engine_io_name (const struct cow_engine *e);

/* Background work: writes full segments, reclaims what deleted snapshots
 * needed.  Waits for work until deadline_ns at most, does some, and returns
 * whether it did any.  One thread at a time (others return at once).
 */
bool cow_engine_step (struct cow_engine *e, uint64_t deadline_ns);

/* Make cow_engine_step() return soon. */
void cow_engine_wake (struct cow_engine *e);

struct cow_engine_status {
  uint64_t store_limit_bytes, store_used_bytes; /* used: live exceptions */
  uint64_t store_file_bytes;    /* segments in use; the file takes its space
                                 * ahead of that, 64 MiB at a time */
  uint64_t ring_bytes, ring_dirty_bytes;
  uint64_t map_bytes;           /* memory of exceptions and bitmaps */
  uint64_t exceptions;          /* live, in blocks */
  uint64_t copied_bytes;        /* old data preserved since start */
  uint64_t zero_bytes;          /* first touches of holes and zeroes */
  uint64_t store_written_bytes; /* by this process, headers included */
  uint64_t first_touches;
  uint64_t invalidated_snapshots;
  bool store_failed;
  bool has_store;               /* one that lasts */
  uint64_t store_fill_rate;     /* bytes a second, of late; 0: not growing */
  uint64_t store_full_in_s;     /* seconds, at that rate; UINT64_MAX: never */
};
void cow_engine_status (struct cow_engine *e, struct cow_engine_status *out);

/* --------------------------------------------------------------- volumes */

/* Serve path as name.  Takes QEMU's locks on it; waits up to 5 s for those of
 * a dying server.  Before cow_engine_start() only.
 */
int cow_volume_add (struct cow_engine *e, const char *name, const char *path,
                    enum cow_cache cache, bool readonly,
                    struct cow_error *err, struct cow_volume **out);

unsigned cow_engine_volumes (const struct cow_engine *e);
struct cow_volume *cow_engine_volume (const struct cow_engine *e, unsigned i);
/* NULL if there is none of that name. */
struct cow_volume *cow_engine_find_volume (const struct cow_engine *e,
                                           const char *name);

const char *cow_volume_name (const struct cow_volume *v);
const char *cow_volume_path (const struct cow_volume *v);
uint64_t cow_volume_size (const struct cow_volume *v);
bool cow_volume_readonly (const struct cow_volume *v);
/* What requests should be multiples of for full speed, and what they must be
 * multiples of (1: anything).
 */
uint32_t cow_volume_preferred_bytes (const struct cow_volume *v);

enum {
  COW_FUA = 1 << 0,             /* on stable storage before the answer */
  COW_MAY_TRIM = 1 << 1,        /* zero: holes are welcome */
  COW_FAST_ZERO = 1 << 2,       /* zero: -EOPNOTSUPP rather than writing */
};

/* The origin, for its clients.  Ranges lie within the volume (-EINVAL, or
 * -ENOSPC beyond the end for writes).  A failed write may have written part.
 * -EIO from a flush or FUA is for good (see io.h).
 */
int cow_volume_read (struct cow_volume *v, void *buf, uint32_t len,
                     uint64_t offset);
int cow_volume_write (struct cow_volume *v, const void *buf, uint32_t len,
                      uint64_t offset, unsigned flags);
int cow_volume_zero (struct cow_volume *v, uint32_t len, uint64_t offset,
                     unsigned flags);
int cow_volume_trim (struct cow_volume *v, uint32_t len, uint64_t offset,
                     unsigned flags);
int cow_volume_flush (struct cow_volume *v);

/* Called for consecutive extents from offset on, until len is covered or it
 * returns non-zero (which ends the walk, without error).
 */
typedef int (*cow_extent_fn) (void *opaque, uint64_t offset, uint64_t len,
                              enum cow_extent_kind kind);
int cow_volume_extents (struct cow_volume *v, uint32_t len, uint64_t offset,
                        cow_extent_fn fn, void *opaque);

struct cow_volume_status {
  unsigned snapshots;           /* live */
  uint64_t epoch;
  uint64_t exceptions;          /* in blocks */
  uint64_t first_touches, copied_bytes, zero_bytes;
  uint64_t waiting;             /* writes waiting now: hold, copy or room */
};
void cow_volume_status (struct cow_volume *v, struct cow_volume_status *out);

/* ------------------------------------------------------------------ sets */

/*   OPEN --prepare--> PREPARED --hold--> HELD --switch--> SWITCHED
 *     |                  |                 |                 | settle
 *     |                  |                 |                 v
 *     +------------------+----- abort -----+-----------<- SETTLED
 *     v                                                      | finish
 *   ABORTED                                                  v
 *                                     GONE <--delete-- COMMITTED
 *
 * Abort is legal in every state but COMMITTED and GONE; so is the loss of a
 * hold, after which the set can only be aborted.  set/STATES.md has the table.
 */
enum cow_set_state {
  COW_SET_OPEN,                 /* volumes may be added */
  COW_SET_PREPARED,             /* origins synced, memory taken */
  COW_SET_HELD,                 /* gates closed, until the hold expires */
  COW_SET_SWITCHED,             /* the instant has been taken; gates open */
  COW_SET_SETTLED,              /* every earlier write is done */
  COW_SET_COMMITTED,            /* listed; snapshots can be opened */
  COW_SET_ABORTED,              /* nothing of it is left */
  COW_SET_GONE,                 /* deleted */
  COW_SET_UNDECIDED,            /* durable, but not listed until
                                 * cow_engine_resolve() */
};

/* How a snapshot ended, or COW_ALIVE. */
enum cow_snapshot_end {
  COW_ALIVE,
  COW_DELETED,
  COW_LOST_STORE_FULL,
  COW_LOST_STORE_ERROR,
  COW_LOST_STORE_TIMEOUT,
  COW_LOST_ORIGIN_ERROR,        /* the old data could not be read */
  COW_LOST_ORIGIN_CHANGED,      /* while the store could not see it */
};                              /* numbers as in store/FORMAT.md */
/* For people: "the store is full". */
const char *cow_snapshot_end_text (enum cow_snapshot_end end);

struct cow_set_options {
  struct cow_id id;
  const char *label;            /* NULL or "" for none; name syntax */
  uint32_t attributes;          /* the protocol's bits, kept for the user */
  bool persistent;              /* -EOPNOTSUPP without a store */
};

/* A set in state OPEN. */
int cow_set_new (struct cow_engine *e, const struct cow_set_options *options,
                 struct cow_error *err, struct cow_set **out);

/* Claims the volume: -EBUSY if another unfinished set has it, -EEXIST if this
 * one has it already or the snapshot's id is in use, -EDQUOT at the volume's snapshot limit, -ENOSPC beyond
 * COW_SET_VOLUMES_MAX, -EROFS never (a read-only origin has snapshots too).
 */
int cow_set_add (struct cow_set *s, struct cow_volume *v,
                 const struct cow_id *snapshot, struct cow_error *err);

/* Syncs the origins with writes flowing and takes what the commit needs.
 * -ENOSPC: the store has no room; -ENOMEM; -EIO: an origin's sync failed;
 * -ETIMEDOUT; -ECANCELED: aborted meanwhile.  After a failure: abort.
 */
int cow_set_prepare (struct cow_set *s, uint64_t deadline_ns,
                     struct cow_error *err);

/* Close the gates of all volumes until limit_ns from now at most. */
int cow_set_hold (struct cow_set *s, uint64_t limit_ns, struct cow_error *err);

/* Take the instant and open the gates.  -ETIMEDOUT: the hold had expired,
 * nothing was made; abort.
 */
int cow_set_switch (struct cow_set *s, struct cow_error *err);

/* Wait until every write of an earlier epoch is done.  -ETIMEDOUT, -ECANCELED;
 * -EIO if a snapshot of the set was lost meanwhile (err says why).
 */
int cow_set_settle (struct cow_set *s, uint64_t deadline_ns,
                    struct cow_error *err);

/* The set is durable where it is persistent, listed, and can be opened.  Of a
 * persistent set the origins are synced first (-ECANCELED: aborted meanwhile),
 * then one record is made durable.  From the moment that this is on its way
 * an abort is refused, and if it fails (-EIO, -ETIMEDOUT, -ENOSPC) the set has
 * ended, durably, when this returns.
 */
int cow_set_finish (struct cow_set *s, struct cow_error *err);

/* The same for a set over several servers that waits for their decision: it is
 * durable and UNDECIDED.  -EOPNOTSUPP of one that is not persistent.
 */
int cow_set_finish_undecided (struct cow_set *s, struct cow_error *err);

/* Decide, also after a restart: COMMITTED, or as if it had not been.  -ENOENT:
 * there is no such undecided set (any more); -EIO: see cow_engine_delete_set.
 */
int cow_engine_resolve (struct cow_engine *e, const struct cow_id *set,
                        bool commit);

/* Bytes of the user's that go with the set, at most COW_ANNOTATION_MAX; before
 * finish.  -EINVAL later, -E2BIG, -ENOMEM.
 */
#define COW_ANNOTATION_MAX 65536u
int cow_set_annotate (struct cow_set *s, const void *data, size_t len);

/* From any thread, also while prepare or settle runs (which then return
 * -ECANCELED).  -EINVAL in COMMITTED, UNDECIDED and GONE, and while a record of
 * it is on its way.  Opens gates that it held.
 */
int cow_set_abort (struct cow_set *s);

/* Drop the maker's reference.  An unfinished set is aborted. */
void cow_set_put (struct cow_set *s);

enum cow_set_state cow_set_state (const struct cow_set *s);

/* What is known of a set; copied out, so it stays valid. */
struct cow_snapshot_info {
  struct cow_id id;
  char volume[COW_NAME_MAX + 1];
  uint64_t size_bytes;
  enum cow_snapshot_end end;
  uint64_t exceptions;          /* filed while it was the newest, in blocks */
};
struct cow_set_info {
  struct cow_id id;
  char label[COW_NAME_MAX + 1];
  uint32_t attributes;
  bool persistent;
  enum cow_set_state state;
  size_t annotation_bytes;      /* see cow_engine_annotation */
  uint64_t number;              /* grows with each set of this engine */
  uint64_t created_wall_ns;     /* the switch, for people */
  uint64_t hold_ns, settle_ns;  /* gate closed to open; release to settled */
  unsigned count;               /* snapshots at creation */
  struct cow_snapshot_info snapshots[COW_SET_VOLUMES_MAX];
};

void cow_set_info (struct cow_set *s, struct cow_set_info *out);

/* Committed sets, newest first: a snapshot of the list, *out to be freed with
 * free().  Sets whose snapshots were all lost are in it until deleted.
 */
int cow_engine_sets (struct cow_engine *e, struct cow_set_info **out,
                     size_t *count);

/* The same of those that are UNDECIDED. */
int cow_engine_undecided_sets (struct cow_engine *e, struct cow_set_info **out,
                               size_t *count);

/* One committed set by id.  -ENOENT. */
int cow_engine_find_set (struct cow_engine *e, const struct cow_id *id,
                         struct cow_set_info *out);

/* The annotation of a set that is there, committed or undecided: *out to be
 * freed, NULL and 0 if it has none.  -ENOENT, -ENOMEM.
 */
int cow_engine_annotation (struct cow_engine *e, const struct cow_id *id,
                           void **out, size_t *len);

/* Delete a committed set with all its snapshots, or one snapshot (the set goes
 * with its last).  That is durable when it returns, the work is done behind;
 * open views read EIO from now on.  -ENOENT; -ENOSPC: the journal has no room,
 * nothing was done; -ENOMEM.  If the journal has failed the snapshots end all
 * the same, and with them all persistent ones of their volumes.
 */
int cow_engine_delete_set (struct cow_engine *e, const struct cow_id *set);
int cow_engine_delete_snapshot (struct cow_engine *e,
                                const struct cow_id *snapshot);

/* ------------------------------------------------------------------ notes */

/* Durable notes of the user's, by id: a few bytes (at most COW_NOTE_MAX) that
 * are there after a restart.  put replaces.  All return when it is durable.
 * -EOPNOTSUPP: the server has no store; -ENOENT: of get and remove; -E2BIG;
 * -ENOMEM; -EIO, -ETIMEDOUT, -ENOSPC: of the store; the note may be the old or
 * the new one after a restart.
 */
#define COW_NOTE_MAX 65536u
int cow_engine_note_put (struct cow_engine *e, const struct cow_id *key,
                         const void *data, size_t len);
/* *out is to be freed. */
int cow_engine_note_get (struct cow_engine *e, const struct cow_id *key,
                         void **out, size_t *len);
int cow_engine_note_remove (struct cow_engine *e, const struct cow_id *key);
/* Calls fn for each, until it returns non-zero.  Under a lock: fn must not call
 * the engine.
 */
void cow_engine_notes (struct cow_engine *e,
                       int (*fn) (void *opaque, const struct cow_id *key,
                                  const void *data, size_t len),
                       void *opaque);

/* ------------------------------------------------------------------ views */

/* An open snapshot of v: which is "latest", a label (its newest set that has a
 * snapshot of v), or the id of a set or snapshot as text (any case).
 * -ENOENT; -EIO if it was lost (err says why).
 */
int cow_view_open (struct cow_volume *v, const char *which,
                   struct cow_error *err, struct cow_view **out);
void cow_view_close (struct cow_view *w);
uint64_t cow_view_size (const struct cow_view *w);
const struct cow_id *cow_view_snapshot (const struct cow_view *w);

/* -EIO once the snapshot is gone, or where its data is damaged. */
int cow_view_read (struct cow_view *w, void *buf, uint32_t len,
                   uint64_t offset);
int cow_view_extents (struct cow_view *w, uint32_t len, uint64_t offset,
                      cow_extent_fn fn, void *opaque);

#endif /* COW_H */
