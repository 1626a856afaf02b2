/* journal.h - the order in which a store's metadata becomes durable.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Records of entries, one after the other, in one of two areas of the store's
 * file (../store/FORMAT.md).  The journal knows records, laps and checkpoints;
 * what is in the entries is its users' matter.
 *
 * Invariants (tests cite them by number):
 *   J1  A record attests only what was durable when it was submitted.
 *   J2  Replay gives a prefix of the records, and at least all that were
 *       attested or reported as durable.
 *   J3  A record of another lap, place or store never validates.
 *   J4  A lap's records are overwritten only when the next lap's checkpoint is
 *       durable, and MOVED after it; and before anything else of them, durably,
 *       its first page.
 *   J5  A missing record that was durable is -EUCLEAN, never a shorter journal
 *       and never the one of an earlier lap.
 *
 * Threads: one at a time (the user provides the exclusion), except where it
 * says otherwise.
 * Failure: a failed write or sync is final; the caller fails the store.
 */
#ifndef COW_JOURNAL_JOURNAL_H
#define COW_JOURNAL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/id.h"
#include "io/io.h"
#include "journal/layout.h"

/* ----------------------------------------------------------------- entries */

/* Entries of a record to be, in memory that is kept for the next one. */
struct cow_entries {
  uint8_t *data;                /* COW_JOURNAL_PAGE aligned; the first 64 bytes
                                 * are the record's head */
  size_t used;                  /* bytes of the entries */
  size_t room;                  /* bytes of data */
};
#define COW_ENTRIES_INIT { NULL, 0, 0 }
#define COW_ENTRIES_MAX (1u << 30)      /* bytes, in one record */

void cow_entries_clear (struct cow_entries *e);         /* frees */
static inline void
cow_entries_reset (struct cow_entries *e)
{
  e->used = 0;
}

/* Make room ahead, so that adding up to bytes in all (heads included) can't
 * fail.  0 or -ENOMEM.
 */
int cow_entries_reserve (struct cow_entries *e, size_t bytes);

/* Append an entry whose body has body_bytes, all zero; what is to be in it is
 * written to what is returned, valid until the next call.  The body ends up
 * with zeroes to a multiple of 8 bytes.  NULL: out of memory (nothing was
 * added).
 */
void *cow_entries_add (struct cow_entries *e, enum cow_entry_type type,
                       size_t body_bytes);

/* ----------------------------------------------------------------- journal */

struct cow_journal;

struct cow_journal_options {
  struct cow_file *file;        /* O_DIRECT or not */
  struct cow_id store;
  uint64_t first_area;          /* where area 0 begins */
  uint64_t area_bytes;
};

/* A journal that is empty: both areas are to be zero, and are not read.  The
 * first checkpoint begins lap 2.
 */
int cow_journal_new (const struct cow_journal_options *options,
                     struct cow_journal **out);

struct cow_replay {
  /* Do the blocks of this EXCEPTIONS entry have the checksums that it says?
   * Asked of records that are not attested, in order, perhaps more than once,
   * unless a later record frees the segment.  0, -EUCLEAN (they do not), or
   * another -errno (replay fails with it).
   */
  int (*verify) (void *opaque, const void *body, size_t body_bytes);
  /* An entry of the prefix that holds, in order.  sequence is its record's.
   * It has the shape of its type (cow_journal_entry_fits); what the numbers in
   * it mean is not checked.  0, or -errno (replay fails with it; -EUCLEAN with
   * err set).
   */
  int (*entry) (void *opaque, uint64_t sequence, unsigned type,
                unsigned flags, const void *body, size_t body_bytes,
                struct cow_error *err);
  void *opaque;
};

/* Read the journal of a store, as FORMAT.md's "How to read" 2 to 5 has it.
 * Writes nothing: before anything is appended a checkpoint must be made, which
 * begins a new lap.  Takes memory for one area meanwhile.  -EUCLEAN: damaged,
 * err says what and where; -EPROTONOSUPPORT: an entry of a newer version;
 * -ENOMEM; -EIO.
 */
int cow_journal_open (const struct cow_journal_options *options,
                      const struct cow_replay *replay, struct cow_error *err,
                      struct cow_journal **out);
void cow_journal_free (struct cow_journal *j);

/* Of the last record that replay kept or that was appended; _end: the offset
 * in the file of what comes after it.
 */
uint64_t cow_journal_lap (const struct cow_journal *j);
uint64_t cow_journal_sequence (const struct cow_journal *j);
uint64_t cow_journal_end (const struct cow_journal *j);

/* The highest lap of which anything may be in the file: higher than
 * cow_journal_lap after a checkpoint that did not come to its end.  This is
 * the lap of an invalidation slot.
 */
uint64_t cow_journal_lap_begun (const struct cow_journal *j);

/* Replay has dropped records after the last that holds (for messages). */
bool cow_journal_torn (const struct cow_journal *j);

/* Make these entries (none: it only attests) the next record and fill in the write that
 * brings it to the file: op, file, buf, len and offset of *write.  The entries
 * belong to the write until it is done.  More records may be appended before
 * the one before is durable.
 * -ENOSPC: the area has no room for it and a MOVED record after it: make a
 * checkpoint first (nothing was changed).  -ENOMEM (nothing was changed).
 * -EIO: a checkpoint failed before.
 */
int cow_journal_append (struct cow_journal *j, struct cow_entries *entries,
                        struct cow_request *write);

/* Every record up to this sequence, and the blocks that it names, are durable:
 * a sync that began after their writes were done has ended.  From here on they
 * are attested.
 */
void cow_journal_durable (struct cow_journal *j, uint64_t sequence);

/* How much of the area is left, in bytes. */
uint64_t cow_journal_room (const struct cow_journal *j);

/* Write what is the case to the other area and go on there.  Everything that
 * was appended must be durable, and so must be all that the entries refer to.
 * fill is called until it returns 0: it adds entries (the object is reset
 * before), up to about COW_CHECKPOINT_BYTES at a time, and returns 1 if there
 * is more, 0 at the end, or -errno.  Writes and syncs in the caller's thread.
 * -ENOSPC: it does not fit in an area; -ENOMEM; what fill returned: if
 * cow_journal_failed is false then, the old lap goes on, and nothing was lost.
 * Any other -errno, of the file, is final.
 */
#define COW_CHECKPOINT_BYTES (256u << 10)
typedef int (*cow_checkpoint_fill) (void *opaque, struct cow_entries *entries);
int cow_journal_checkpoint (struct cow_journal *j, cow_checkpoint_fill fill,
                            void *opaque);

/* A checkpoint was left in between: which lap a replay would take is not
 * known, and no call succeeds any more.
 */
bool cow_journal_failed (const struct cow_journal *j);

/* Make zero, durably, what both areas hold beside the present lap: for an
 * orderly stop, after the checkpoint.  0; -ENOMEM (nothing was changed); any
 * other -errno is final.
 */
int cow_journal_wipe (struct cow_journal *j);

/* ---------------------------------------------------------------- records */
/* Pure functions, also for the checker. */

/* Is there a valid record of this lap and sequence at data, of which `room`
 * bytes are there?  Its length, or 0.  offset is its place in the file.
 */
size_t cow_journal_decode (const struct cow_id *store, const void *data,
                           size_t room, uint64_t offset, uint64_t lap,
                           uint64_t sequence);

/* The same whatever its sequence and lap are: the checksum matches for the lap
 * that it claims.
 */
size_t cow_journal_recognise (const struct cow_id *store, const void *data,
                              size_t room, uint64_t offset);

/* Walk the entries of a valid record: *at is 0 at first.  False at the end.
 * What is no entry gives a body NULL, once, and the end after it.
 */
bool cow_journal_next_entry (const void *record, size_t *at, unsigned *type,
                             unsigned *flags, const void **body,
                             size_t *body_bytes);

/* Has the body the shape of its type: lengths and counts that agree?  False for
 * types that are not known.
 */
bool cow_journal_entry_fits (unsigned type, const void *body,
                             size_t body_bytes);

#endif /* COW_JOURNAL_JOURNAL_H */
