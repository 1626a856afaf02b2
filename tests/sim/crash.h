/* crash.h - an engine that crashes at every I/O, and what must be left of it.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A run is a life of one engine over simulated disks: clients, a maker of
 * sets, a reader and the stepper as fibres.  At every I/O crash states are
 * drawn from the disks.  When the run is over, and what each set holds is
 * known, each state is opened by a fresh engine and judged:
 *
 *   the origin       each unit of bytes is the last write that was to be
 *                    there, or one that was on its way; never a third
 *   the sets         those that were finished are there, none that was not
 *                    begun to be finished, all members or none
 *   their data       byte for byte, now and after the origin was rewritten
 *   nothing leaks    without sets there is nothing in map and store
 *   recovery         may crash, again and again, and changes nothing of this
 *
 * Files: crash.c (what runs there are), crash-draw.c (what those by chance are
 * like), crash-model.c (what is known), crash-run.c (a run, its states), crash-clients.c (the fibres), crash-check.c
 * (the verdict on a state), crash-order.c (the order at the seam).
 *
 * Times are the model's: a counter that grows with each event.
 */
#ifndef SIM_CRASH_H
#define SIM_CRASH_H

#include <stdbool.h>
#include <stdint.h>

#include "cow.h"
#include "sim/simdisk.h"

#define VOLUMES_MAX 2u
#define SIZE_MAX_BYTES (512u << 10)
#define UNITS_MAX (SIZE_MAX_BYTES / 128)
#define SETS_MAX 48u
#define NEVER UINT32_MAX
#define STATE_NAME_MAX 96

#define STORE_PATH "/store"
#define STORE_FILE STORE_PATH "/cowset.store"

/* What a run is like. */
struct crash_features {
  unsigned volumes;
  uint64_t size_bytes[VOLUMES_MAX]; /* multiples of unit_bytes */
  uint32_t block_bytes, unit_bytes; /* a unit has one writer at a time */
  uint32_t direct;              /* cache=none with this alignment; 0: cached */
  unsigned ring_segments;
  uint64_t store_limit_bytes;
  bool runs_full;               /* the limit is small */
  uint64_t journal_bytes;
  unsigned segment_blocks;
  bool holes, trims, zeroes;
  bool persistent;              /* sets may be */
  unsigned clients;             /* that write, besides the maker of sets */
  unsigned operations;          /* of each of them */
  bool reader;
  bool canceller;               /* aborts sets while they are made */
  bool undecided;               /* sets may wait for a decision */
  bool slow;                    /* I/O takes simulated time */
  bool flushes;                 /* often */
  struct sim_fault fault;       /* ops 0: none */
  unsigned draws;               /* crash states at each I/O, besides the
                                 * extreme ones */
  unsigned crash_one_in;        /* 0: at each I/O; else at so many */
};

/* Of a seed. */
void draw_features (uint64_t seed, struct crash_features *f);
void draw_crowd (uint64_t seed, struct crash_features *f);

/* ------------------------------------------------------------------- model */

struct mset {
  struct cow_id id, snapshot[VOLUMES_MAX];
  unsigned members;             /* a bit for each volume */
  bool persistent;
  bool resolved;                /* words are what it holds */
  bool lost[VOLUMES_MAX];       /* in the run: the store was full */
  uint32_t hold, switched;      /* before the hold, after the switch */
  uint32_t finish, finished;    /* before, and after it had succeeded */
  uint32_t failed;              /* after it had not */
  /* Of a set that waits for a decision: after it was durable, before the
   * decision is told.
   */
  uint32_t prepared, deciding;
  uint32_t end, ended;          /* before its deletion, and after */
  uint64_t *words[VOLUMES_MAX];
};

extern struct model {
  const struct crash_features *f;
  uint32_t now;
  unsigned units[VOLUMES_MAX];
  struct mset set[SETS_MAX];
  unsigned sets;
} model;

/* Power was lost, or the process killed. */
enum crash_kind { CRASH_KILL, CRASH_POWER };

void model_begin (const struct crash_features *f);
void model_end (void);

/* Event. */
uint32_t model_tick (void);

/* The origin's bytes before the run; the word of a unit fills it. */
void model_base (unsigned v, unsigned unit, uint64_t word);

/* A change of units [first, first + n) is issued: writes its bytes to buf if
 * that is not NULL.  Returns its number.
 */
enum model_change { CHANGE_WRITE, CHANGE_ZERO, CHANGE_TRIM };
unsigned model_issue (enum model_change change, unsigned v, unsigned first,
                      unsigned n, uint8_t *buf);
void model_returned (unsigned number, bool done, bool durable);

/* All changes of v that were done by `issued` are durable. */
void model_flushed (unsigned v, uint32_t issued);

/* Is that a word that the unit may have after a crash at `when`? */
bool model_origin_fits (unsigned v, unsigned unit, uint64_t word,
                        uint32_t when, enum crash_kind kind);

/* Is it one that the unit may have in a snapshot? */
bool model_instant_fits (const struct mset *s, unsigned v, unsigned unit,
                         uint64_t word);

/* If a change is in a set that holds s->words, so is all that was done before
 * it was issued, on any volume.
 */
bool model_is_one_instant (const struct mset *s);

struct mset *model_set_new (void);
struct mset *model_find_set (const struct cow_id *id);

/* What is in a unit's bytes: false if they are not one word. */
bool model_word (const uint8_t *unit, uint64_t *word);

/* The word that a rewrite of the whole origin gives. */
uint64_t model_rewritten (unsigned v, unsigned unit);

/* --------------------------------------------------------------------- run */

/* A state that a crash would have left. */
struct state {
  struct state *next;
  struct sim_disk *disk;
  enum crash_kind kind;
  uint32_t when;
  char name[STATE_NAME_MAX];    /* of the life, the I/O, and the draw */
};

/* Life goes on after this crash: what came later never was, and the sets that
 * are_there (by index) are those that there are.
 */
void model_rebase (const struct state *s, const bool *are_there);

extern struct run {
  uint64_t seed;
  unsigned life;
  const struct crash_features *f;
  struct sim_disk *disk;
  struct cow_engine *engine;
  struct cow_volume *volume[VOLUMES_MAX];
  bool watching;                /* states are drawn */
  bool done;                    /* the stepper may go */
  unsigned at_work;             /* clients, the maker of sets */
  bool origin_failed[VOLUMES_MAX]; /* an I/O of its */
  bool store_failed;
  struct cow_set *making;       /* by the maker, for the canceller */
  bool finishing;               /* it is being finished */
  unsigned using;               /* others who have it at hand; its maker waits */
  struct state *states, **last;
} run;

extern struct crash_stats {
  uint64_t runs, steps;
  uint64_t drawn;               /* states, before doubles are left out */
  uint64_t distinct;            /* judged, each with all of its sets */
  uint64_t judged;              /* the same state at another time, too */
  uint64_t inside;              /* of distinct: crashes within recovery */
  uint64_t sets;                /* compared in them */
} stats;

/* Of this life only the state of this name, and what leads to it.  NULL: all. */
extern const char *only_state;
extern unsigned only_life;

const char *volume_name (unsigned v);
const char *disk_name (unsigned v);

/* An engine over d with the volumes of f.  0 or -errno. */
int engine_start (const struct crash_features *f, struct sim_disk *d,
                  struct cow_engine **e, struct cow_volume **volume,
                  struct cow_error *err);

/* Draws states of d at each of its I/Os from now on.  prefix: of their names.
 */
struct watch {
  char prefix[STATE_NAME_MAX];
  uint64_t seed;
  unsigned draws;
  enum crash_kind kind;         /* of a kill: what was before */
  uint32_t when;                /* 0: the model's time */
  uint64_t steps_max;           /* 0: all; else each with this chance */
  struct state **last;
};
void watch_step (void *opaque, struct sim_disk *d,
                 const struct sim_step *step);

/* One life: disks are made, or `disk` is taken over.  What the fibres do is
 * started by spawn.  Then all states are judged.  With keep, one of them is
 * left in *keep, by lot.
 */
void run_life (const struct crash_features *f, uint64_t seed, unsigned life,
               struct sim_disk *disk, void (*spawn) (void),
               struct state **keep);

/* ---------------------------------------------------------------- clients */

void clients_spawn (void);      /* as the features say */

/* One by one, for a client that has a list of what to do. */
void client_change (enum model_change change, unsigned v, unsigned first,
                    unsigned n, unsigned flags);
void client_flush (unsigned v);
/* stop_before: a set that is given up, at its n-th phase; 0: not. */
struct mset *client_make_set (unsigned members, bool persistent,
                              unsigned stop_before);
void client_delete_set (struct mset *s);
/* Compare it with what is known, or learn what it holds. */
void client_read_set (struct mset *s);
void client_read_all (void);

/* ------------------------------------------------------------------- order */

/* At the seam: old data is stable before the origin is overwritten. */
void order_begin (void);
void order_making (const struct mset *s);       /* before its hold */
void order_settled (const struct mset *s);
void order_ended (const struct mset *s);        /* or is about to */
void order_step (struct sim_disk *d, const struct sim_step *step);

/* ------------------------------------------------------------------- check */

/* Judge it, and free it.  are_there: which sets were found, or NULL. */
void check_state (struct state *s, unsigned depth, bool *are_there);

/* How to repeat what is going on; and the end of it. */
void crash_wrong (const char *fmt, ...)
  __attribute__ ((noreturn, format (printf, 1, 2)));
void crash_now_checking (const char *state);
void crash_catch_signals (void);

#endif /* SIM_CRASH_H */
