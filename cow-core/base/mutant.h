/* mutant.h - planted bugs, by which the tests are tested.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * With --enable-mutants one of these mistakes is made, if COWSET_MUTANT in the
 * environment names it; tests/sim/mutants.sh shows that each is found.  Without,
 * COW_MUTANT() is constant and the compiler leaves nothing of it.
 */
#ifndef COW_BASE_MUTANT_H
#define COW_BASE_MUTANT_H

#include "config.h"

#include <stdbool.h>

/* Name, and what is done wrong. */
#define COW_MUTANTS_LIST(X)                                             \
  X (origin_before_copy, "new data goes to the origin before the copy") \
  X (tail_block, "the volume's last, short block is not copied")        \
  X (part_of_block, "a block that is overwritten in part is not copied") \
  X (zero_skips_copy, "zeroing does not copy")                          \
  X (trim_skips_copy, "a trim is not put off")                          \
  X (two_writers, "two writers copy one block at once")                 \
  X (read_races, "a snapshot's read does not look up again")            \
  X (early_release, "a volume is released before the next is held")     \
  X (no_settling, "a set is finished with earlier writers at work")     \
  X (fua_is_plain, "FUA is a plain write")                              \
  X (flush_is_nothing, "a flush does not sync")                         \
  X (sync_is_retried, "after a failed sync the next one is believed")   \
  X (record_before_data, "a record is durable before its blocks")       \
  X (no_sync_of_batch, "a batch is not synced")                         \
  X (ack_before_sync, "a writer goes on before its batch was synced")   \
  X (short_write, "the last block of a run is not written")             \
  X (freed_at_once, "a segment is reused before FREED is durable")      \
  X (sweeps_too_much, "a sweep frees what only an older set needs")     \
  X (torn_batch, "replay does not look at the blocks of a batch")       \
  X (torn_record, "replay does not look at checksums of records")       \
  X (any_generation, "replay takes records of other laps, in any order") \
  X (one_record_short, "replay drops the last record")                  \
  X (superblock_in_place, "each start writes the superblock anew")      \
  X (moved_too_early, "MOVED is written before the checkpoint is synced") \
  X (instant_not_synced, "the origins are not synced before the record") \
  X (commit_not_awaited, "a set is finished without its record")        \
  X (cancel_forgets, "an abort forgets a record on its way")            \
  X (end_not_recorded, "a deletion is not recorded")                    \
  X (zeroes_not_noted, "preserved zeroes are not recorded")             \
  X (no_root_after_restart, "after a restart nothing is copied")        \
  X (uncommitted_applied, "a set without a decision is listed")

#ifdef COW_MUTANTS
enum cow_mutant {
  COW_MUTANT_none,
#define X(name, what) COW_MUTANT_##name,
  COW_MUTANTS_LIST (X)
#undef X
};
extern enum cow_mutant cow_mutant;      /* the one that was chosen */
#define COW_MUTANT(name) (cow_mutant == COW_MUTANT_##name)
#else
#define COW_MUTANT(name) false
#endif

#endif /* COW_BASE_MUTANT_H */
