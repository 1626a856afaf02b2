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
 * The barrier: cow_store_persist() says when all that was filled before it is
 * durable.  A store without a name keeps nothing beyond the process and
 * answers at once.
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

struct cow_store_options {
  const char *directory;        /* where the unnamed file is made */
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
int cow_store_reserve (struct cow_store *s, unsigned blocks,
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

/* How many of the n places go on side by side from the first. */
unsigned cow_store_run (const struct cow_store *s, const uint64_t *places,
                        size_t stride, unsigned n);

/* Call done (from cow_store_work, or at once) when all that has been filled so
 * far is durable: 0, or -EIO.
 */
typedef void (*cow_persisted) (void *opaque, int result);
void cow_store_persist (struct cow_store *s, cow_persisted done, void *opaque);

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

/* Wait for room to come free, until deadline_ns: false if none came. */
bool cow_store_wait_room (struct cow_store *s, uint64_t deadline_ns);

struct cow_store_status {
  uint64_t limit_bytes, used_bytes, file_bytes;
  uint64_t ring_bytes, ring_dirty_bytes, written_bytes;
  bool failed;
};
void cow_store_status (struct cow_store *s, struct cow_store_status *out);

#endif /* COW_STORE_STORE_H */
