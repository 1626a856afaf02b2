/* store.h - keeps old data until nobody needs it.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Old data is read straight into a *segment*: a header with a record for each
 * block, and the blocks.  A few segments are in memory (the ring, taken when
 * the first snapshot is prepared, never on the write path); a full one goes to
 * the store's file in one write, past the page cache, and stays readable from
 * memory until its buffer is needed again.
 *
 * A place names a block: segment and position within it.  Each use of a
 * segment has a new generation; the checksums are over content, place and
 * generation, so a block that was written for another use never passes.
 *
 * Life of a segment in the file:
 *
 *   FREE --take--> FILLING --full--> FULL --written--> STORED --+
 *    ^                                 |                        | last block
 *    +---- nobody reads any more -- LIMBO <--------------------+  freed
 *
 * Guarantees:
 *   T1  What cow_store_filled was told about can be read until it is freed.
 *   T2  A freed place is used again only when every reader that was inside
 *       cow_store_enter/leave at the time has left.
 *   T3  Data that does not match its record is -EUCLEAN, never given out as
 *       good.
 *   T4  After a failed write of the file nothing is believed: the store has
 *       failed for good, and says so to everybody.
 *
 * A store with a name (FORMAT.md) outlives the server.  Copies that a persistent
 * snapshot needs are filled as such, into segments of their own, and their
 * writers wait at the barrier: one of them writes what has gathered, blocks and
 * record, syncs once, and wakes the rest.
 *
 *   T5  When cow_store_barrier() returns 0, everything that was filled or noted
 *       with that ticket or an earlier one will be there after a crash.
 *   T6  A segment that the journal knows is used again only after the journal
 *       has said, durably, that it is not needed.
 *
 * Threads: any, except for cow_store_work(): one at a time.
 */
#ifndef COW_STORE_STORE_H
#define COW_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/id.h"
#include "io/io.h"

struct cow_store;

struct cow_entries;

/* What the engine above gives to a store with a name.  All are called in the
 * thread of the caller of a function below, without a lock.
 */
struct cow_store_hooks {
  /* While it is opened, in order: an entry of the journal that is not the
   * store's own (SET, END, VOLUME, NOTE, the set number of COUNTERS).  As
   * cow_replay.entry.
   */
  int (*entry) (void *opaque, unsigned type, unsigned flags,
                const void *body, size_t body_bytes, struct cow_error *err);
  /* After all entries: the snapshots of these volumes (count 0: of all) had to
   * be given up with the journal out of reach.
   */
  int (*ended) (void *opaque, unsigned end, const uint32_t *volumes,
                unsigned count);
  /* After that: exceptions that are there, of n blocks side by side, at place,
   * place + 1, ... (or, place == 1, all COW_PLACE_ZERO).  How many of them are
   * not wanted (one of the block and epoch is known already), or -errno.
   */
  int (*exception) (void *opaque, uint32_t volume, uint64_t block, unsigned n,
                    uint32_t epoch, uint64_t place);
  /* At a checkpoint: add the engine's entries, as cow_checkpoint_fill.  first:
   * begin anew.  Everything that is durable has to be in them; ZEROES of the
   * maps are the engine's to give.
   */
  int (*checkpoint) (void *opaque, bool first, struct cow_entries *entries);
  void *opaque;
};

struct cow_store_options {
  const char *directory;        /* where the file is made */
  bool named;                   /* a store that lasts; else it has no name */
  const struct cow_store_hooks *hooks; /* named; copied */
  unsigned segment_blocks;      /* at most; 0: as many as are in 1 MiB */
  uint64_t area_bytes;          /* named and new: of the journal; 0: by limit */
  uint32_t block_bytes;
  uint64_t limit_bytes;
  uint64_t reserve_bytes;       /* to be left free in the file system */
  unsigned reserve_percent;
  unsigned ring_segments;
};

/* Nothing is taken before cow_store_prepare(). */
int cow_store_new (struct cow_io *io, const struct cow_store_options *options,
                   struct cow_error *err, struct cow_store **out);
void cow_store_free (struct cow_store *s);

/* Take file and ring, once; -ENOSPC if the store has no room at all, -EIO
 * when it has failed.  After the fork.
 */
int cow_store_prepare (struct cow_store *s, struct cow_error *err);

/* Room for old data, claimed by a writer. */
struct cow_piece {
  uint64_t place;               /* of the first block */
  unsigned blocks;              /* 1 .. asked for */
  uint8_t *data;                /* blocks * block_bytes, aligned to 4 KiB */
  unsigned buffer;              /* the store's own */
};

/* What a block of a piece is, told when it has been filled. */
struct cow_record {
  uint64_t block;
  uint32_t epoch;
  uint32_t volume;
  bool unused;                  /* this place holds nothing after all */
};

/* Claim room for up to blocks blocks in one piece.  Waits for the ring until
 * deadline_ns.  -ENOSPC: the store is full; -ETIMEDOUT: the file takes too
 * long; -EIO: the store has failed.
 */
int cow_store_reserve (struct cow_store *s, unsigned blocks, bool lasting,
                       uint64_t deadline_ns, struct cow_piece *out);

/* The piece has its data, or (records[i].unused) not: checksums are taken and
 * the places can be read from now on.  Must follow every reserve.
 */
void cow_store_filled (struct cow_store *s, const struct cow_piece *piece,
                       const struct cow_record *records);

/* The block at place is not needed any more. */
void cow_store_release (struct cow_store *s, uint64_t place);

/* Readers are inside while they hold places found in a map. */
unsigned cow_store_enter (struct cow_store *s);
void cow_store_leave (struct cow_store *s, unsigned ticket);

/* Read blocks blocks that lie side by side from place on.  -EUCLEAN: damaged,
 * or used anew meanwhile (look the exception up again); -EIO.
 */
int cow_store_read (struct cow_store *s, uint64_t place, unsigned blocks,
                    uint32_t volume, uint64_t first_block, void *buf);

/* The n places (those below 256 are none) are read next, in any order: what is
 * only in the file is begun to be read.  A hint.
 */
void cow_store_soon (struct cow_store *s, const uint64_t *places,
                     size_t stride, unsigned n);

/* How many of the n places go on side by side from the first. */
unsigned cow_store_run (const struct cow_store *s, const uint64_t *places,
                        size_t stride, unsigned n);

/* ---- a store with a name */

/* Open the store in options->directory; where there is none, it is to be made.
 * Reads the journal and calls the hooks; writes nothing (but creates an empty
 * file where there was none).  No thread, ring or queue is left behind, so that
 * the server may fork.  Failures:
 *   -EBUSY    another server has it open
 *   -EUCLEAN  damaged; -EPROTONOSUPPORT: a newer format; -EEXIST: not a store
 *   -EINVAL   another block size than the one it was made with
 *   -EROFS, -EACCES, -ENOSPC, -ENOMEM, -EIO; what a hook returned
 * err says which file, and what to do.
 */
int cow_store_open (struct cow_io *io, const struct cow_store_options *options,
                    struct cow_error *err, struct cow_store **out);

/* What was read, and what hooks.checkpoint makes of it, becomes the beginning
 * of a new lap; a store that is to be made is made.  After that it is in use.
 * Also before the fork.
 */
int cow_store_begin (struct cow_store *s, struct cow_error *err);

/* Was the store closed in order the last time?  (A new one: true.) */
bool cow_store_was_clean (const struct cow_store *s);
const struct cow_id *cow_store_id (const struct cow_store *s);
bool cow_store_is_named (const struct cow_store *s);

/* What a writer waits for: everything filled or noted before it got the
 * ticket.  0 is never waited for.
 */
typedef uint64_t cow_ticket;

/* As cow_store_filled, of a piece that was reserved with `lasting`: its blocks
 * are in the next batch.
 */
cow_ticket cow_store_filled_lasting (struct cow_store *s,
                                     const struct cow_piece *piece,
                                     const struct cow_record *records);

/* The old data of n blocks side by side was zeroes.  Called after the exceptions
 * were filed in the map (a checkpoint takes them from there).
 */
cow_ticket cow_store_note_zeroes (struct cow_store *s, uint32_t volume,
                                  uint32_t epoch, uint64_t first, unsigned n);

/* Wait until all up to the ticket is durable.  -ETIMEDOUT: the store has not
 * answered until deadline_ns (a batch may be on its way all the same); -EIO: it
 * has failed; -ENOSPC: the journal is full: when there is room again, what was
 * filled becomes durable with the newest ticket (cow_store_ticket).  With a
 * deadline that has passed it asks only, and writes nothing.
 */
int cow_store_barrier (struct cow_store *s, cow_ticket ticket,
                       uint64_t deadline_ns);

/* The newest ticket that was given out. */
cow_ticket cow_store_ticket (struct cow_store *s);

/* Make entries durable, in one record, together with or after all that was
 * filled before.  Returns as cow_store_barrier.  After -ETIMEDOUT and -EIO the
 * record may or may not be there after a crash.  *entries is consumed (reset).
 *
 * A checkpoint may be made at any time, also between the record and this
 * call's return: what is handed in has to be in what hooks.checkpoint gives
 * from before the call on (and, after a failure with -ENOSPC, not any more).
 */
int cow_store_append (struct cow_store *s, struct cow_entries *entries,
                      uint64_t deadline_ns);

/* The snapshots of these volumes (count 0: of all) have ended, when the journal
 * can't be written any more: by an invalidation slot.  Blocks, perhaps for ever.
 * 0: it is durable; -ENOSPC: none is left; -EIO.
 */
int cow_store_invalidate (struct cow_store *s, unsigned end,
                          const uint32_t *volumes, unsigned count);

/* All snapshots in the store have ended, when not even that can be written: LIVE
 * is removed.  Blocks, perhaps for ever.  0: that is durable; -EIO, -ENOMEM.
 */
int cow_store_disown (struct cow_store *s);

/* Close in order: what is not needed is given back, a checkpoint attests
 * everything, and the clean mark is written.  0, or -errno (then the next start
 * finds a store that was not closed in order; nothing is lost).  Everybody
 * must have gone; cow_store_free() is still to be called.
 */
int cow_store_close (struct cow_store *s);

/* Background work: write full segments, take back freed ones.  Returns
 * whether anything was done.  cow_store_wait() returns when there may be
 * something to do, or at the deadline.
 */
bool cow_store_work (struct cow_store *s);
void cow_store_wait (struct cow_store *s, uint64_t deadline_ns);
void cow_store_wake (struct cow_store *s);

/* Give the file's space back if nobody needs any of it: for when there is no
 * snapshot.  Not beside cow_store_work().  Returns whether it did.
 */
bool cow_store_give_back (struct cow_store *s);

/* Wait for room to come free, until deadline_ns: false if none came, at once if
 * none is on its way.
 */
bool cow_store_wait_room (struct cow_store *s, uint64_t deadline_ns);

struct cow_store_status {
  uint64_t limit_bytes, used_bytes, file_bytes;
  uint64_t ring_bytes, ring_dirty_bytes, written_bytes;
  bool failed;
};
void cow_store_status (struct cow_store *s, struct cow_store_status *out);

/* How many bytes more (headers included) it could take now: within its limit,
 * and of what its file system has beyond the reserve.  Asks that.
 */
uint64_t cow_store_room (struct cow_store *s);

#endif /* COW_STORE_STORE_H */
