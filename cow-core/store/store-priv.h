/* store-priv.h - what the files of store/ share.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef COW_STORE_PRIV_H
#define COW_STORE_PRIV_H

#include <stdatomic.h>

#include "base/checksum.h"
#include "base/sync.h"
#include "base/slots.h"
#include "io/fetch.h"
#include "journal/journal.h"
#include "store/layout.h"
#include "store/store.h"

#define NO_BUFFER UINT16_MAX
#define NO_SEGMENT UINT32_MAX
#define PLACE_ZERO 1u           /* as in the map: the old data was zeroes */

enum segment_state {
  SEGMENT_FREE,
  SEGMENT_FILLING,              /* in a buffer, room left or pieces pending */
  SEGMENT_FULL,                 /* in a buffer, all pieces filled */
  SEGMENT_WRITING,              /* in a buffer and on its way */
  SEGMENT_STORED,               /* in the file, maybe in a buffer too */
  SEGMENT_LIMBO,                /* nobody needs it; somebody may be reading */
  SEGMENT_GIVEN_UP,             /* nobody needs it, which the journal does not
                                 * say durably yet (T6) */
};

/* The two kinds of segments, filled side by side. */
enum { FLEETING, LASTING, KINDS };

struct segment {
  uint32_t generation;          /* of the present use */
  uint32_t next;                /* free list, limbo list */
  uint64_t limbo_turn;          /* readers with a higher number can't know it */
  uint16_t live;                /* blocks that somebody needs */
  uint16_t buffer;              /* or NO_BUFFER */
  uint8_t state;                /* enum segment_state */
  bool lasting;                 /* the journal knows it */
};

/* A set of positions in a segment. */
struct positions {
  uint64_t word[4];
};

static inline bool
positions_have (const struct positions *p, unsigned i)
{
  return p->word[i / 64] >> i % 64 & 1;
}

static inline void
positions_add (struct positions *p, unsigned from, unsigned n)
{
  for (unsigned i = from; i < from + n; i++)
    p->word[i / 64] |= UINT64_C (1) << i % 64;
}

struct buffer {
  uint8_t *mem;                 /* header and blocks, as in the file */
  uint32_t segment;             /* or NO_SEGMENT */
  unsigned reserved, filled;    /* blocks */
  unsigned pins;                /* readers copying out of it */
  unsigned unlogged;            /* lasting: filled blocks not yet in the file */
  struct positions logged;      /* lasting: whose exceptions a durable record
                                 * has */
  struct cow_store *store;
  struct cow_request request;
};

/* Headers of segments that are in the file only, for their checksums. */
#define CACHED_HEADERS 512u

struct header_cache {
  cow_mutex lock;
  struct {
    uint32_t segment, generation;
    struct disk_segment *header; /* NULL until first used */
  } slot[CACHED_HEADERS];
};

/* Filled, and not in the journal yet. */
struct pending_blocks {
  uint64_t place;
  uint32_t blocks;
  uint32_t buffer;
};
struct pending_zeroes {
  uint64_t block;
  uint32_t blocks, epoch, volume;
};
struct pending_append {
  struct pending_append *next;
  struct cow_entries *entries;
  bool done;
  int result;
};

/* What waits for the next batch.  There are two: one gathers while the other is
 * written.
 */
struct gathering {
  struct pending_blocks *blocks;
  unsigned block_count, block_room;
  struct pending_zeroes *zeroes;
  unsigned zero_count, zero_room;
  struct pending_append *appends;
};

#define LOG_WRITES 64u          /* runs of blocks in flight, and the record */

/* The way to the journal.  Whoever finds nobody at it writes the batch for all
 * (store-log.c).  Under the store's lock, but for what is the leader's.
 */
struct store_log {
  bool busy;                    /* there is a leader */
  bool stuck;                   /* it has left a request behind: final */
  cow_ticket ticket, durable;   /* given out; known to be durable */
  cow_ticket refused;           /* up to here: the journal had no room */
  bool room_is_low;             /* the worker makes a checkpoint */
  cow_cond turn;                /* durable grew, or the leader left */
  struct gathering gather[2];
  unsigned gathering;           /* which of them */
  uint32_t given_up;            /* list of segments, by next */
  uint32_t given_up_count;
  uint32_t freeing;             /* of them, by the batch that is under way */

  /* The leader's own. */
  struct cow_queue *queue;
  struct cow_entries entries;
  struct cow_request write[LOG_WRITES + 1];
  struct cow_request sync;
  unsigned writes;
  int result;
  bool must_checkpoint;         /* before anything else is written */
  uint64_t room_after;          /* of the area, after its checkpoint */
};

struct cow_store {
  struct cow_io *io;
  struct cow_id id;
  char *directory;
  uint32_t block_bytes;
  unsigned capacity;            /* blocks in a segment */
  size_t segment_bytes;         /* in memory and in the file */
  uint32_t segments_max;
  uint64_t first_segment;       /* where segment 0 begins in the file */

  /* Of a store with a name; set before it is in use, unless said otherwise. */
  bool named, was_clean, is_fresh, is_live, clean_is_set;
  struct cow_store_hooks hooks;
  uint64_t area_bytes;          /* of the journal */
  uint32_t segments_in_file;    /* that it had room for when it was opened */
  struct cow_store_replay *replay; /* from open to begin */
  struct cow_journal *journal;  /* the log's leader's */
  uint64_t limit_bytes, reserve_bytes;
  unsigned reserve_percent, ring_segments;

  struct cow_slots *readers;
  _Atomic uint64_t turn;
  struct header_cache headers;

  cow_mutex lock;
  /* All of these are under lock. */
  cow_cond room;                /* a segment came free, or space */
  /* The same for writers who wait in cow_store_reserve.  One is woken at a
   * time, and wakes the next while there is room: hundreds may be waiting.
   */
  cow_cond ring_free;
  unsigned ring_waiters;
  uint64_t progress;            /* grows with all that makes room */
  cow_cond work;                /* a segment is full, or wake was called */
  bool prepared, failed, woken;
  struct cow_file *file;
  struct cow_fetch *fetch;      /* reads it by way of the page cache, or NULL */
  uint8_t *ring;
  struct buffer *buffer;        /* ring_segments of them */
  unsigned filling[KINDS];      /* buffer being filled, or ring_segments */
  unsigned next_buffer;         /* where the search for a free one begins */
  struct segment *segment;      /* address space for segments_max */
  uint32_t segments;            /* ever used */
  uint32_t in_use;              /* not FREE */
  /* Segments that the file has space for; numbers from there on can't be
   * begun.  Space is taken ahead, by one at a time.
   */
  uint32_t granted;
  bool growing;
  bool wanted;                  /* somebody is about to begin a segment */
  bool no_space;                /* the file system had none at the last try */
  uint64_t next_try_ns;         /* with no_space */
  uint32_t free_head, limbo_head;
  uint32_t full;                /* buffers waiting to be written */
  uint64_t written_bytes, live_blocks, freed_turns;
  uint32_t generation;          /* the last that was given out */
  bool untaken;                 /* named: segments below `granted` may have no
                                 * space, they come from an earlier run */
  uint64_t lap;                 /* the highest that the journal has begun */
  unsigned slots_used;          /* for invalidation */
  uint32_t closed_segment;      /* that was not full when the store was closed,
                                 * and its first position in no use */
  unsigned closed_from;
  struct store_log log;

  /* The worker's own. */
  struct cow_queue *queue;
  _Atomic bool working;
};

static inline uint64_t
segment_offset (const struct cow_store *s, uint32_t segment)
{
  return s->first_segment + (uint64_t) segment * s->segment_bytes;
}

static inline uint64_t
first_place (uint32_t segment)
{
  /* Places below 256 have a meaning of their own in the map. */
  return ((uint64_t) segment + 1) * COW_SEGMENT_PLACES;
}

static inline uint32_t
segment_of (uint64_t place)
{
  return place / COW_SEGMENT_PLACES - 1;
}

static inline unsigned
position_of (uint64_t place)
{
  return place % COW_SEGMENT_PLACES;
}

static inline uint64_t
seed_of (const struct cow_store *s, uint64_t place, uint32_t generation)
{
  return cow_seed (&s->id, place, generation);
}

static inline struct disk_segment *
header_of (const struct buffer *b)
{
  return (struct disk_segment *) b->mem;
}

/* store.c, for store-file.c: the segment has no live blocks and no piece or
 * write is pending on it.
 */
void cow_store_to_limbo_locked (struct cow_store *s, uint32_t segment)
  COW_REQUIRES (s->lock);

/* There is, or may be, room now. */
void cow_store_room_changed_locked (struct cow_store *s)
  COW_REQUIRES (s->lock);

/* store.c: the common part of making and opening one. */
int cow_store_make (struct cow_io *io,
                    const struct cow_store_options *options,
                    struct cow_error *err, struct cow_store **out);
/* The array of segments, for so many at least. */
int cow_store_take_segments (struct cow_store *s, uint64_t at_least);

/* store-file.c: the checksum of a segment's header, which is complete. */
void cow_store_seal (const struct cow_store *s, struct disk_segment *h);

/* store-replay.c: open the journal, or make a new one, and tell the engine what
 * is there; do this with the header of each segment that was not full; forget
 * what was read.
 */
int cow_store_replay_journal (struct cow_store *s, struct cow_error *err);
int cow_store_each_open_segment (struct cow_store *s,
                                 int (*fn) (struct cow_store *s,
                                            uint32_t segment,
                                            const struct disk_segment *h));
void cow_store_end_replay (struct cow_store *s);

/* store-marks.c: read the clean mark (-EUCLEAN if it is wrong) and the slots;
 * take the clean mark away; create LIVE and empty the slots; zeroes, and no
 * space where that can be.  All durable but the last.
 */
int cow_marks_read (struct cow_store *s, struct cow_error *err);
int cow_marks_clear_clean (struct cow_store *s);
int cow_marks_go_live (struct cow_store *s);
int cow_store_zero_range (struct cow_store *s, uint64_t offset, uint64_t len);

/* What the leader takes with it. */
struct log_batch {
  struct gathering *g;
  cow_ticket ticket;
  uint32_t freed;               /* list */
  unsigned freed_count;
  uint64_t sequence;
  uint64_t bytes;
};

/* store-log.c */
/* A piece has been filled: its blocks are in the next batch. */
cow_ticket cow_log_blocks_locked (struct cow_store *s,
                                  const struct cow_piece *piece)
  COW_REQUIRES (s->lock);
/* The ring is full: write the batch that has gathered, if there is one and
 * nobody else is at it.  Those who would wait for it may all be waiting for the
 * ring.  Returns whether it was.
 */
bool cow_log_push_locked (struct cow_store *s, uint64_t deadline_ns)
  COW_REQUIRES (s->lock);
int cow_log_init (struct cow_store *s);
void cow_log_clear (struct cow_store *s);
/* Write what has gathered, now, if there is anything: for the worker, about
 * segments that were given up.  Returns whether there was.
 */
bool cow_log_work (struct cow_store *s);

/* store-batch.c: the records in use at these positions of a buffer, as one
 * EXCEPTIONS entry; everything of a batch but what is under the lock.
 */
int cow_log_add_exceptions (struct cow_store *s, const struct buffer *b,
                            const struct positions *which,
                            struct cow_entries *out);
int cow_log_write_batch (struct cow_store *s, struct log_batch *batch,
                         uint64_t deadline_ns);
/* A checkpoint by the leader.  -ENOSPC: there is no room for it in the journal,
 * and nothing was written; any other error is final.
 */
int cow_log_checkpoint_running (struct cow_store *s);

/* store-checkpoint.c: a checkpoint, with nobody else at the log. */
int cow_log_checkpoint (struct cow_store *s);

/* store-tell.c: what segments hold, to the hooks, in order of the blocks.  0 or
 * -errno; cow_tell_rest tells what has not been told yet.
 */
struct cow_tell;
struct cow_tell *cow_tell_new (void);
void cow_tell_free (struct cow_tell *t);
int cow_tell_segment (struct cow_store *s, struct cow_tell *t,
                      uint32_t segment, const struct disk_segment *h);
int cow_tell_rest (struct cow_store *s, struct cow_tell *t);

/* store-space.c: take space for more segments, where there is need.  Returns
 * whether there is more now.
 */
bool cow_store_grow (struct cow_store *s);

/* store-file.c: nothing that the store says is believed from here on. */
void cow_store_fail (struct cow_store *s, int code, const char *what);

#endif /* COW_STORE_PRIV_H */
