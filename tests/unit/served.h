/* served.h - an engine with volumes over a simulated disk, and what they hold.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * For tests of volumes and sets.  There is one at a time, `served`, in a
 * simulation of its own (sim/fibres.h): the clock is simulated.  A test calls
 * the engine directly as long as nobody has to wait for others; else
 * served_run() makes it a fibre beside one that steps the engine.
 *
 * Everything written through here is noted, so that origins and snapshots can
 * be compared byte for byte.
 */
#ifndef UNIT_SERVED_H
#define UNIT_SERVED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cow.h"
#include "sim/fibres.h"
#include "sim/simdisk.h"

#define SERVED_MAX 66
#define STORE_FILE "(unnamed)"
/* With engine.store_directory = STORE_DIRECTORY. */
#define STORE_DIRECTORY "/store"
#define LASTING_FILE STORE_DIRECTORY "/cowset.store"

struct served_options {
  uint64_t seed;
  uint64_t steps_max;
  unsigned volumes;             /* 0: one; v0, v1... of files d0, d1... */
  uint64_t size_bytes;          /* of each */
  bool holes;                   /* the files are empty; else filled */
  uint32_t direct;              /* cache=none, with this alignment; 0: cached */
  bool persistent;              /* the sets; needs engine.store_directory */
  struct sim_file_options file; /* no_punch, no_zero, is_block */
  struct sim_disk_options disk;
  struct cow_engine_options engine; /* ring_segments 0: 8 */
};

extern struct served {
  struct served_options o;
  struct sim_disk *disk;
  struct cow_engine *engine;
  struct cow_volume *volume[SERVED_MAX];
  uint8_t *data[SERVED_MAX];    /* what the origins hold */
  /* I/Os since the beginning, or since they were set to 0. */
  uint64_t origin_ios[SIM_MARK + 1], store_ios[SIM_MARK + 1]; /* by sim_op */
} served;

void served_begin (const struct served_options *o);
/* All sets go with the engine. */
void served_end (void);

/* The server goes, and another one comes.  What the origins hold stays noted:
 * of a power loss, that is up to the test.
 */
enum served_how {
  SERVED_STOP,                  /* in order */
  SERVED_KILL,                  /* the disks as they are */
  SERVED_CRASH,                 /* with what is stable, by the seed */
};
void served_go (enum served_how how, uint64_t seed);
/* 0, or what cow_engine_open() said; then there is no engine. */
int served_come_back (struct cow_error *err);
/* Both; must succeed. */
void served_restart (enum served_how how, uint64_t seed);

/* Background work until there is none. */
void served_work (void);

/* Run body as a fibre, with the engine stepped beside it until it returns. */
void served_run (void (*body) (void));
/* The same with several, numbered from 0. */
void served_run_all (unsigned n, void (*body) (unsigned number));

/* Requests.  What they return is the engine's; only what succeeded is noted.
 * A write's content is drawn from its stamp.
 */
int served_write (unsigned v, uint64_t offset, uint32_t len, uint32_t stamp,
                  unsigned flags);
int served_zero (unsigned v, uint64_t offset, uint32_t len, unsigned flags);
void served_stamp (uint8_t *buf, size_t len, uint64_t offset, uint32_t stamp);

/* Note that a range reads as zero from now on. */
void served_note_zero (unsigned v, uint64_t offset, uint64_t len);

/* Is the origin what was noted, read through the engine and in its file? */
bool served_origin_right (unsigned v);

/* A set of the volumes in `members` (a bit for each), and what they held. */
struct served_set {
  struct cow_id id, snapshot[SERVED_MAX];
  uint64_t members;
  uint8_t *data[SERVED_MAX];
};
/* Up to and with `to`.  0, or what the failed phase returned; then *out is
 * NULL.  The set is the caller's to put.
 */
int served_set_to (struct served_set *s, uint64_t members, const char *label,
                   enum cow_set_state to, struct cow_set **out);
/* Up to COMMITTED. */
int served_set (struct served_set *s, uint64_t members);
/* What the volumes hold is what s is to hold. */
void served_set_note (struct served_set *s);
void served_set_forget (struct served_set *s);
int served_delete (struct served_set *s);

/* Read s's snapshot of v whole: 0 and right, or the engine's error.  What is
 * wrong ends the test.
 */
int served_check (const struct served_set *s, unsigned v);
/* The same by way of an open view. */
int served_check_view (struct cow_view *w, const uint8_t *want, uint64_t size);
struct cow_view *served_open (const struct served_set *s, unsigned v);

/* How s's snapshot of v ended; COW_DELETED if its set is not listed. */
enum cow_snapshot_end served_ended (const struct served_set *s, unsigned v);

struct cow_engine_status served_status (void);

/* Arm a fault of a file; d0 etc. or STORE_FILE. */
void served_fault (unsigned ops, const char *file, uint64_t skip,
                   uint64_t times, int error);

#endif /* UNIT_SERVED_H */
