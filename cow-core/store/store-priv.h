/* store-priv.h - what the files of store/ share.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef COW_STORE_PRIV_H
#define COW_STORE_PRIV_H

#include <stdatomic.h>

#include "base/checksum.h"
#include "base/sync.h"
#include "base/slots.h"
#include "store/layout.h"
#include "store/store.h"

#define NO_BUFFER UINT16_MAX
#define NO_SEGMENT UINT32_MAX

enum segment_state {
  SEGMENT_FREE,
  SEGMENT_FILLING,              /* in a buffer, room left or pieces pending */
  SEGMENT_FULL,                 /* in a buffer, all pieces filled */
  SEGMENT_WRITING,              /* in a buffer and on its way */
  SEGMENT_STORED,               /* in the file, maybe in a buffer too */
  SEGMENT_LIMBO,                /* nobody needs it; somebody may be reading */
};

struct segment {
  uint32_t generation;          /* of the present use */
  uint32_t next;                /* free list, limbo list */
  uint64_t limbo_turn;          /* readers with a higher number can't know it */
  uint16_t live;                /* blocks that somebody needs */
  uint16_t buffer;              /* or NO_BUFFER */
  uint8_t state;                /* enum segment_state */
};

struct buffer {
  uint8_t *mem;                 /* header and blocks, as in the file */
  uint32_t segment;             /* or NO_SEGMENT */
  unsigned reserved, filled;    /* blocks */
  unsigned pins;                /* readers copying out of it */
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

struct cow_store {
  struct cow_io *io;
  struct cow_id id;
  char *directory;
  uint32_t block_bytes;
  unsigned capacity;            /* blocks in a segment */
  size_t segment_bytes;         /* in memory and in the file */
  uint32_t segments_max;
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
  uint8_t *ring;
  struct buffer *buffer;        /* ring_segments of them */
  unsigned filling;             /* buffer being filled, or ring_segments */
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

  /* The worker's own. */
  struct cow_queue *queue;
  _Atomic bool working;
};

static inline uint64_t
segment_offset (const struct cow_store *s, uint32_t segment)
{
  return (uint64_t) segment * s->segment_bytes;
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

/* store-space.c: take space for more segments, where there is need.  Returns
 * whether there is more now.
 */
bool cow_store_grow (struct cow_store *s);

/* store-file.c: nothing that the store says is believed from here on. */
void cow_store_fail (struct cow_store *s, int code, const char *what);

#endif /* COW_STORE_PRIV_H */
