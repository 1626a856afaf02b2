/* check.h - what the files of cowset-check share.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A store is read once, from beginning to end, into an image of what it says
 * (image.c); every byte and every number is then compared with what it must be
 * (verify.c, meaning.c).  Findings are gathered, and told at the end (report.c).
 * Nothing is written but by repair.c.
 *
 * One thread.  Functions return 0 or -errno; -errno is for what could not be
 * looked at (I/O, memory), never for what was found.
 */
#ifndef COWSET_CHECK_H
#define COWSET_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/id.h"
#include "io/io.h"
#include "journal/journal.h"
#include "store/layout.h"

/* Exit statuses; those of findings are the worst one's. */
enum {
  STATUS_CLEAN = 0,
  STATUS_WARNING = 1,           /* nothing is wrong, something is to be known */
  STATUS_USAGE = 2,
  STATUS_UNKNOWN = 3,           /* could not be checked */
  STATUS_DAMAGED = 4,
};

/* ---------------------------------------------------------------- findings */

enum level { LEVEL_NOTE, LEVEL_WARNING, LEVEL_DAMAGE };

#define FINDINGS_KEPT 1000u     /* more are only counted */
#define NOWHERE UINT64_MAX
#define NAME_BYTES 64           /* of a volume or a label, at most */

struct finding {
  enum level level;
  const char *code;             /* for programs: "block", "unused" ... */
  uint64_t offset;              /* in the file, or NOWHERE */
  bool repaired;
  char *text;
};

struct report {
  struct finding *finding;
  size_t kept;
  uint64_t count[LEVEL_DAMAGE + 1];
  uint64_t repaired[LEVEL_DAMAGE + 1];
  bool out_of_memory;
};

/* Returns the finding, or NULL if it was only counted. */
struct finding *report_add (struct report *r, enum level level,
                            const char *code, uint64_t offset,
                            const char *fmt, ...) COW_PRINTF (5, 6);
void report_repaired (struct report *r, struct finding *f);
void report_clear (struct report *r);

/* The exit status for what was found and not repaired. */
int report_status (const struct report *r);

/* ------------------------------------------------------------------- image */

enum use {
  USE_NONE,                     /* the journal does not know it */
  USE_NAMED,                    /* by EXCEPTIONS */
  USE_FULL,                     /* by SEGMENTS: its header says what is there */
};

struct segment_use {
  enum use use;
  uint32_t generation;
};

/* An item of EXCEPTIONS. */
struct named {
  uint32_t segment, generation;
  struct disk_exception item;
};

struct exception {
  uint64_t block, place;        /* place: 0 for zeroes */
  uint32_t volume, epoch;
  bool damaged;
};

struct member {
  struct cow_id snapshot;
  uint32_t volume, epoch, end;
};

struct set {
  struct disk_set head;
  struct member member[COW_DISK_SET_MEMBERS];
};

struct image {
  const char *directory;
  struct report *report;
  struct cow_io *io;
  struct cow_file *file;
  uint64_t file_bytes;
  bool writable, is_live;

  /* Superblock.  damaged: which copy is not valid, 0 or 1; -1: none. */
  struct disk_superblock super;
  int super_damaged;
  struct cow_id id;
  uint32_t block_bytes, capacity;
  uint64_t segment_bytes, area_bytes, first_segment;

  /* Journal. */
  bool has_journal;
  struct cow_journal *journal;
  bool clean;                   /* the clean mark is valid */
  uint64_t entries[COW_ENTRY_MOVED + 1];
  uint64_t last_set;            /* what COUNTERS say */
  uint32_t last_generation;
  struct segment_use *segment;
  uint32_t segments;
  struct named *named;
  size_t named_count, named_room;
  struct disk_zeroes *zeroes;
  size_t zeroes_count, zeroes_room;
  struct set *set;
  size_t set_count, set_room;   /* also those that are gone */
  size_t sets_shown;
  struct disk_volume *volume;
  size_t volume_count, volume_room;

  /* All that is there, after verify_segments. */
  struct exception *exception;
  size_t exception_count, exception_room;
  uint64_t needed_blocks, garbage_blocks, zero_blocks, damaged_blocks;
  uint32_t segments_known, segments_idle;
};

/* Open the store and read superblock and journal.  -EUCLEAN: it is damaged so
 * that nothing else can be looked at (the report says how); other errors are
 * in err.
 */
int image_open (struct image *im, const char *directory, bool writable,
                struct report *report, struct cow_error *err);
void image_close (struct image *im);

/* One more element of an array; NULL: out of memory. */
void *image_grow (void **array, size_t *count, size_t *room, size_t size);

const struct disk_volume *image_volume (const struct image *im,
                                        uint32_t number);
/* Its name, for people. */
const char *image_volume_name (const struct image *im, uint32_t number,
                               char text[NAME_BYTES + 1]);

static inline uint64_t
image_segment_offset (const struct image *im, uint32_t segment)
{
  return im->first_segment + (uint64_t) segment * im->segment_bytes;
}

bool is_zero (const void *data, size_t bytes);

/* ------------------------------------------------------------------ checks */

/* Clean mark, slots, LIVE, and what is reserved in front of the journal. */
int verify_marks (struct image *im);

/* Each segment's header and blocks; im->exception is what they hold. */
int verify_segments (struct image *im);

/* In a store that was closed in order: whatever has no meaning is zero. */
int verify_unused (struct image *im);

/* Do the numbers agree with each other: sets, volumes, exceptions, space? */
int verify_meaning (struct image *im);

/* Zeroes over what has no meaning and is not zero: noted by verify_marks and
 * verify_unused, done by repair if `writable`.
 */
int unused_bytes (struct image *im, const char *what, uint64_t offset,
                  uint64_t bytes);

/* Write the other copy of the superblock. */
int repair_superblock (struct image *im, struct finding *f);
int repair_zero (struct image *im, struct finding *f, uint64_t offset,
                 uint64_t bytes);

/* ------------------------------------------------------------------ output */

void print_text (const struct image *im, FILE *to);
void print_json (const struct image *im, int status, FILE *to);
void print_dump (const struct image *im, FILE *to);
const char *end_text (uint32_t end);

#endif /* COWSET_CHECK_H */
