/* journal.h - a journal over a simulated disk, and what must be in it.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Each record appended here has a number, from 1.  What is the case after so
 * many records is a function of that number's history, which the model keeps:
 * which use of each segment holds which block.  A checkpoint says the same, and
 * how many records there were; so replay must give the state after some number
 * of records, and the bounds of that number are what the journal promises.
 */
#ifndef UNIT_JOURNAL_H
#define UNIT_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "journal/journal.h"
#include "sim/simdisk.h"

#define PAGE COW_JOURNAL_PAGE
#define FIRST_AREA (4 * PAGE)
#define SEGMENTS 12u            /* of one page, behind the areas */
#define RECORDS_MAX 20000u

/* What is in the segments. */
struct state {
  uint32_t generation[SEGMENTS]; /* 0: nothing that is needed */
};

struct bench {
  struct sim_disk *disk;
  struct cow_file *file;
  struct cow_journal *j;
  uint64_t area_bytes;
  bool unchecked;               /* the blocks may be damaged */
  unsigned filler_pages;        /* a checkpoint is so many pages larger */

  uint64_t appended;            /* records; none above can be there */
  uint64_t durable;             /* records that must be there */
  struct state state[RECORDS_MAX + 1]; /* after so many records */
  uint32_t generation;          /* the highest that was used */

  /* Of the last replay. */
  uint64_t replayed;
  struct state replayed_state;
  struct cow_error err;
};

extern const struct cow_id store_id;

/* A new disk with an empty journal and its first checkpoint. */
void bench_new (struct bench *b, uint64_t seed, unsigned area_pages,
                unsigned filler_pages);
void bench_free (struct bench *b);

/* Go on with another disk; the old one is freed. */
void bench_change_disk (struct bench *b, struct sim_disk *disk);

/* Open the file and replay.  0: what was replayed is right (asserted), and it
 * is what everybody goes on from.
 */
int bench_open (struct bench *b);
void bench_close (struct bench *b);
int bench_checkpoint (struct bench *b);

/* Append a record with a note of so many bytes, and write it.  preserve, free_:
 * a segment each, or -1.
 */
int bench_append (struct bench *b, unsigned note_bytes, int preserve,
                  int free_);

/* Everything is on the disk, and the journal is told. */
void bench_sync (struct bench *b);

/* Offsets in the file "store". */
uint64_t bench_area (const struct bench *b, uint64_t lap);
uint64_t bench_segment (const struct bench *b, uint32_t segment);

/* Change a byte on the disk, behind the journal's back. */
void bench_flip (struct bench *b, uint64_t offset, uint8_t bits);

#endif /* UNIT_JOURNAL_H */
