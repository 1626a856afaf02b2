/* store.c - segments, the ring, and the life of a place.  See store.h.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The file itself (writing, reading back) is in store-file.c.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "store/store-priv.h"

static void *
take_memory (size_t bytes, int flags)
{
  void *p = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

  return p == MAP_FAILED ? NULL : p;
}

/* Huge pages where there are any: a segment is then in one or two pieces for
 * the kernel, which pins it for each write.  Touched here, not by the first
 * writers.
 */
static uint8_t *
take_ring (size_t bytes)
{
  uint8_t *p = take_memory (bytes, 0);

  if (p == NULL)
    return NULL;
  (void) madvise (p, bytes, MADV_HUGEPAGE);
  for (size_t i = 0; i < bytes; i += 4096)
    ((volatile uint8_t *) p)[i] = 0;
  return p;
}

int
cow_store_take_segments (struct cow_store *s, uint64_t at_least)
{
  assert (s->segment == NULL);
  if (s->segments_max < at_least)
    s->segments_max = (uint32_t) COW_MIN (at_least, UINT32_MAX - 2);
  s->segment = take_memory (((size_t) s->segments_max + 1)
                              * sizeof *s->segment,
                            MAP_NORESERVE);
  return s->segment ? 0 : -ENOMEM;
}

int
cow_store_make (struct cow_io *io, const struct cow_store_options *options,
                struct cow_error *err, struct cow_store **out)
{
  struct cow_store *s = calloc (1, sizeof *s);
  size_t room = COW_SEGMENT_BYTES - COW_SEGMENT_HEADER_BYTES;

  if (s == NULL)
    return cow_error_set (err, -ENOMEM, "store: out of memory");
  s->io = io;
  s->id = cow_id_new ();
  s->block_bytes = options->block_bytes;
  s->capacity = room / s->block_bytes;
  if (s->capacity > COW_SEGMENT_RECORDS)
    s->capacity = COW_SEGMENT_RECORDS;
  if (options->segment_blocks > 0)
    s->capacity = COW_MIN (s->capacity, options->segment_blocks);
  if (s->capacity == 0)
    s->capacity = 1;
  s->segment_bytes = COW_SEGMENT_HEADER_BYTES
                     + (size_t) s->capacity * s->block_bytes;
  s->limit_bytes = options->limit_bytes;
  s->reserve_bytes = options->reserve_bytes;
  s->reserve_percent = options->reserve_percent;
  s->ring_segments = options->ring_segments;
  /* A limit below the ring would make the ring useless; two segments are the
   * least that can be filled and written side by side.
   */
  if (s->limit_bytes / s->segment_bytes < 2)
    s->segments_max = 2;
  else if (s->limit_bytes / s->segment_bytes > UINT32_MAX - 2)
    s->segments_max = UINT32_MAX - 2;
  else
    s->segments_max = s->limit_bytes / s->segment_bytes;
  s->free_head = s->limbo_head = s->log.given_up = NO_SEGMENT;
  for (unsigned kind = 0; kind < KINDS; kind++)
    s->filling[kind] = s->ring_segments;
  cow_mutex_init (&s->lock);
  cow_mutex_init (&s->headers.lock);
  cow_cond_init (&s->room);
  cow_cond_init (&s->work);
  cow_cond_init (&s->ring_free);
  cow_cond_init (&s->log.turn);
  s->directory = strdup (options->directory);
  s->readers = cow_slots_new ();
  if (!s->directory || !s->readers) {
    cow_store_free (s);
    return cow_error_set (err, -ENOMEM, "store: out of memory");
  }
  *out = s;
  return 0;
}

int
cow_store_new (struct cow_io *io, const struct cow_store_options *options,
               struct cow_error *err, struct cow_store **out)
{
  struct cow_store *s;
  int rc = cow_store_make (io, options, err, &s);

  if (rc < 0)
    return rc;
  if (cow_store_take_segments (s, 0) < 0) {
    cow_store_free (s);
    return cow_error_set (err, -ENOMEM, "store: out of memory");
  }
  *out = s;
  return 0;
}

void
cow_store_free (struct cow_store *s)
{
  if (s == NULL)
    return;
  if (s->queue)
    cow_queue_free (s->queue);
  cow_store_end_replay (s);
  cow_log_clear (s);
  cow_journal_free (s->journal);
  cow_fetch_free (s->fetch);
  if (s->file)
    cow_file_close (s->file);
  if (s->ring)
    munmap (s->ring, (size_t) s->ring_segments * s->segment_bytes);
  if (s->segment)
    munmap (s->segment,
            ((size_t) s->segments_max + 1) * sizeof *s->segment);
  for (unsigned i = 0; i < CACHED_HEADERS; i++)
    free (s->headers.slot[i].header);
  cow_slots_free (s->readers);
  cow_cond_destroy (&s->log.turn);
  cow_cond_destroy (&s->ring_free);
  cow_cond_destroy (&s->work);
  cow_cond_destroy (&s->room);
  cow_mutex_destroy (&s->headers.lock);
  cow_mutex_destroy (&s->lock);
  free (s->buffer);
  free (s->directory);
  free (s);
}

static int
take_file_and_ring (struct cow_store *s, struct cow_error *err)
{
  int rc;
  LOCK_FOR_SCOPE (&s->lock);

  if (s->failed)
    return cow_error_set (err, -EIO,
                          "store: it has failed; restart the server");
  if (s->prepared)
    return 0;
  if (s->file == NULL) {
    rc = cow_file_open (s->io, s->directory,
                        COW_OPEN_UNNAMED | COW_OPEN_DIRECT, err, &s->file);
    if (rc < 0) {
      cow_error_prefix (err, "store");
      return rc;
    }
  }
  if (s->fetch == NULL)
    s->fetch = cow_fetch_new (s->file, s->first_segment, s->segment_bytes);
  if (s->buffer == NULL)
    s->buffer = calloc (s->ring_segments, sizeof *s->buffer);
  if (s->ring == NULL)
    s->ring = take_ring ((size_t) s->ring_segments * s->segment_bytes);
  if (s->buffer == NULL || s->ring == NULL
      || (s->named && cow_log_init (s) < 0))
    return cow_error_set (err, -ENOMEM, "store: no memory for the ring");
  for (unsigned i = 0; i < s->ring_segments; i++) {
    s->buffer[i].mem = s->ring + i * s->segment_bytes;
    s->buffer[i].segment = NO_SEGMENT;
    s->buffer[i].store = s;
  }
  s->prepared = true;
  return 0;
}

/* Free segments of an earlier run were punched when the store was closed: their
 * space is taken again, or they are left alone.
 */
static void
take_old_space (struct cow_store *s)
{
  uint32_t n;
  int rc = 0;

  cow_mutex_lock (&s->lock);
  n = s->untaken ? s->granted : 0;
  cow_mutex_unlock (&s->lock);
  if (n == 0)
    return;
  rc = cow_file_allocate (s->file, s->first_segment,
                          (uint64_t) n * s->segment_bytes);
  cow_mutex_lock (&s->lock);
  s->untaken = false;
  if (rc < 0 && rc != -EOPNOTSUPP)
    s->free_head = NO_SEGMENT;
  cow_mutex_unlock (&s->lock);
}

int
cow_store_prepare (struct cow_store *s, struct cow_error *err)
{
  int rc = take_file_and_ring (s, err);
  bool room;

  if (rc < 0)
    return rc;
  take_old_space (s);
  for (;;) {
    cow_mutex_lock (&s->lock);
    s->next_try_ns = 0;         /* a new set is worth a new try */
    s->wanted = true;
    cow_mutex_unlock (&s->lock);
    (void) cow_store_grow (s);
    cow_mutex_lock (&s->lock);
    room = s->segments < s->granted || s->free_head != NO_SEGMENT
           || s->filling[FLEETING] < s->ring_segments
           || s->filling[LASTING] < s->ring_segments
           || s->log.given_up != NO_SEGMENT;
    rc = s->failed ? -EIO : 0;
    /* The worker may have been taking space, or giving all of it back. */
    if (room || rc < 0
        || (!s->growing && (s->no_space || s->granted == s->segments_max)))
      break;
    if (s->growing)
      cow_cond_wait_until (&s->room, &s->lock, COW_NEVER);
    cow_mutex_unlock (&s->lock);
  }
  cow_mutex_unlock (&s->lock);
  if (rc < 0)
    return cow_error_set (err, rc,
                          "store: it has failed; restart the server");
  if (!room)
    return cow_error_set (err, -ENOSPC,
                          "store: no room in %s: its file system has less "
                          "than store-reserve left, or store-limit is "
                          "reached; delete sets, or free space there",
                          s->directory);
  return 0;
}

/* A segment number for use: one that was freed, else a new one. */
static uint32_t
take_segment (struct cow_store *s, bool lasting)
{
  uint32_t n = s->free_head;

  if (n != NO_SEGMENT)
    s->free_head = s->segment[n].next;
  else if (s->segments < s->granted)
    n = s->segments++;
  else
    return NO_SEGMENT;
  assert (s->segment[n].state == SEGMENT_FREE);
  s->segment[n].generation = ++s->generation;
  s->segment[n].lasting = lasting;
  s->segment[n].live = 0;
  s->segment[n].state = SEGMENT_FILLING;
  s->in_use++;
  return n;
}

/* A buffer that holds nothing which is only there, and that nobody reads. */
static unsigned
find_buffer (struct cow_store *s)
{
  for (unsigned i = 0; i < s->ring_segments; i++) {
    unsigned n = (s->next_buffer + i) % s->ring_segments;
    const struct buffer *b = &s->buffer[n];

    if (b->pins == 0
        && (b->segment == NO_SEGMENT
            || s->segment[b->segment].state == SEGMENT_STORED)) {
      s->next_buffer = (n + 1) % s->ring_segments;
      return n;
    }
  }
  return s->ring_segments;
}

static void
start_header (struct cow_store *s, struct buffer *b)
{
  struct disk_segment *h = header_of (b);

  memset (h, 0, sizeof *h);
  memcpy (h->magic, COW_SEGMENT_MAGIC, sizeof h->magic);
  memcpy (h->store, s->id.b, sizeof h->store);
  h->segment = to_le64 (b->segment);
  h->generation = to_le32 (s->segment[b->segment].generation);
  h->blocks = to_le32 (s->capacity);
  h->block_bytes = to_le32 (s->block_bytes);
}

/* Will there be more space than is granted?  The worker is told to see. */
static bool
may_grow (struct cow_store *s)
{
  if (s->granted == s->segments_max
      || (s->no_space && cow_now_ns () < s->next_try_ns))
    return false;
  s->wanted = s->woken = true;
  cow_cond_signal (&s->work);
  return true;
}

/* Make a buffer the one that is filled.  0, -EAGAIN (none is free now, or no
 * space as yet), or -ENOSPC.
 */
static int
start_segment (struct cow_store *s, bool lasting)
{
  unsigned n = find_buffer (s);
  uint32_t segment;
  struct buffer *b;

  if (n == s->ring_segments)
    return -EAGAIN;
  segment = take_segment (s, lasting);
  if (segment == NO_SEGMENT) {
    if (s->log.given_up != NO_SEGMENT) {
      /* Some come free as soon as the worker has told the journal. */
      s->woken = true;
      cow_cond_signal (&s->work);
      return -EAGAIN;
    }
    return may_grow (s) ? -EAGAIN : -ENOSPC;
  }
  b = &s->buffer[n];
  if (b->segment != NO_SEGMENT)
    s->segment[b->segment].buffer = NO_BUFFER;
  b->segment = segment;
  b->reserved = b->filled = b->unlogged = 0;
  memset (&b->logged, 0, sizeof b->logged);
  s->segment[segment].buffer = n;
  s->filling[lasting] = n;
  start_header (s, b);
  return 0;
}

void
cow_store_room_changed_locked (struct cow_store *s)
{
  s->progress++;
  cow_cond_broadcast (&s->room);
  if (s->ring_waiters > 0)
    cow_cond_signal (&s->ring_free);
}

/* Wait for room in the ring.  The time-out is that of a store that makes no
 * progress: a writer may wait longer behind many others.
 */
static int
wait_for_ring (struct cow_store *s, uint64_t *deadline_ns)
  COW_REQUIRES (s->lock)
{
  uint64_t before = s->progress, began_ns = cow_now_ns ();
  bool in_time;

  s->ring_waiters++;
  in_time = cow_cond_wait_until (&s->ring_free, &s->lock, *deadline_ns);
  s->ring_waiters--;
  if (in_time)
    return 0;
  if (s->progress == before)
    return -ETIMEDOUT;
  *deadline_ns += COW_MAX (*deadline_ns, began_ns) - began_ns;
  return 0;
}

/* The segment that is being filled, with room, as soon as there is one. */
static int
find_room (struct cow_store *s, bool lasting, uint64_t deadline_ns)
  COW_REQUIRES (s->lock)
{
  for (;;) {
    int rc;

    if (s->failed)
      return -EIO;
    if (s->filling[lasting] < s->ring_segments)
      return 0;
    rc = start_segment (s, lasting);
    if (rc == -EAGAIN)
      rc = cow_log_push_locked (s, deadline_ns)
             ? 0
             : wait_for_ring (s, &deadline_ns);
    else
      return rc;
    if (rc < 0)
      return rc;
  }
}

int
cow_store_reserve (struct cow_store *s, unsigned blocks, bool lasting,
                   uint64_t deadline_ns, struct cow_piece *out)
{
  struct buffer *b;
  int rc;
  LOCK_FOR_SCOPE (&s->lock);

  assert (s->prepared && blocks > 0 && (!lasting || s->named));
  rc = find_room (s, lasting, deadline_ns);
  /* Whoever is next looks for himself, whatever came of this. */
  if (s->ring_waiters > 0)
    cow_cond_signal (&s->ring_free);
  if (rc < 0)
    return rc;
  b = &s->buffer[s->filling[lasting]];
  if (blocks > s->capacity - b->reserved)
    blocks = s->capacity - b->reserved;
  out->buffer = s->filling[lasting];
  out->blocks = blocks;
  out->place = first_place (b->segment) + b->reserved;
  out->data = b->mem + COW_SEGMENT_HEADER_BYTES
              + (size_t) b->reserved * s->block_bytes;
  b->reserved += blocks;
  if (b->reserved == s->capacity)
    s->filling[lasting] = s->ring_segments;
  return 0;
}

void
cow_store_to_limbo_locked (struct cow_store *s, uint32_t segment)
{
  struct segment *g = &s->segment[segment];

  assert (g->live == 0);
  if (g->buffer != NO_BUFFER) {
    s->buffer[g->buffer].segment = NO_SEGMENT;
    g->buffer = NO_BUFFER;
  }
  g->state = SEGMENT_LIMBO;
  /* A reader that enters from now on has a higher number, and can't find the
   * places any more: they left the map before they were released.
   */
  g->limbo_turn = atomic_fetch_add (&s->turn, 1);
  g->next = s->limbo_head;
  s->limbo_head = segment;
  cow_cond_signal (&s->work);
}

/* The records of a piece are its filler's alone until it is counted.  How many
 * of its blocks are in use.
 */
static unsigned
fill_records (struct cow_store *s, const struct cow_piece *piece,
              const struct cow_record *records)
{
  struct disk_segment *h = header_of (&s->buffer[piece->buffer]);
  const struct segment *g = &s->segment[segment_of (piece->place)];
  unsigned first = position_of (piece->place), used = 0;

  for (unsigned i = 0; i < piece->blocks; i++) {
    struct disk_record *r = &h->record[first + i];

    if (records[i].unused) {
      r->flags = to_le32 (COW_RECORD_UNUSED);
      continue;
    }
    used++;
    r->block = to_le64 (records[i].block);
    r->epoch = to_le32 (records[i].epoch);
    r->volume = to_le32 (records[i].volume);
    r->checksum = to_le64 (
      cow_checksum (piece->data + (size_t) i * s->block_bytes, s->block_bytes,
                    seed_of (s, piece->place + i, g->generation)));
  }
  return used;
}

/* The piece is counted: its segment may be full with that. */
static void
count_filled_locked (struct cow_store *s, const struct cow_piece *piece,
                     unsigned used)
  COW_REQUIRES (s->lock)
{
  struct buffer *b = &s->buffer[piece->buffer];
  struct segment *g = &s->segment[segment_of (piece->place)];

  g->live += used;
  s->live_blocks += used;
  b->filled += piece->blocks;
  if (b->filled < s->capacity)
    return;
  g->state = SEGMENT_FULL;
  if (b->unlogged > 0)
    return;                     /* goes on when its last batch is durable */
  if (g->live == 0) {
    cow_store_to_limbo_locked (s, b->segment);
    cow_store_room_changed_locked (s);
    return;
  }
  s->full++;
  cow_cond_signal (&s->work);
}

void
cow_store_filled (struct cow_store *s, const struct cow_piece *piece,
                  const struct cow_record *records)
{
  unsigned used = fill_records (s, piece, records);
  LOCK_FOR_SCOPE (&s->lock);

  count_filled_locked (s, piece, used);
}

cow_ticket
cow_store_filled_lasting (struct cow_store *s, const struct cow_piece *piece,
                          const struct cow_record *records)
{
  unsigned used;

  /* Blocks that hold nothing go to the file with the others, as zeroes: one
   * write is cheaper than two around them.
   */
  for (unsigned i = 0; i < piece->blocks; i++)
    if (records[i].unused)
      memset (piece->data + (size_t) i * s->block_bytes, 0, s->block_bytes);
  used = fill_records (s, piece, records);

  LOCK_FOR_SCOPE (&s->lock);
  s->buffer[piece->buffer].unlogged += piece->blocks;
  count_filled_locked (s, piece, used);
  return cow_log_blocks_locked (s, piece);
}

void
cow_store_release (struct cow_store *s, uint64_t place)
{
  struct segment *g = &s->segment[segment_of (place)];
  LOCK_FOR_SCOPE (&s->lock);

  assert (g->live > 0 && s->live_blocks > 0);
  g->live--;
  s->live_blocks--;
  if (g->live > 0)
    return;
  if (g->state == SEGMENT_FULL && s->buffer[g->buffer].unlogged == 0) {
    s->full--;
    cow_store_to_limbo_locked (s, segment_of (place));
    cow_store_room_changed_locked (s);
  }
  else if (g->state == SEGMENT_STORED)
    cow_store_to_limbo_locked (s, segment_of (place));
  /* FILLING, WRITING: looked at again when that is over. */
}

unsigned
cow_store_enter (struct cow_store *s)
{
  return cow_slots_enter (s->readers, atomic_load (&s->turn));
}

void
cow_store_leave (struct cow_store *s, unsigned ticket)
{
  cow_slots_leave (s->readers, ticket);
}

unsigned
cow_store_run (const struct cow_store *s, const uint64_t *places,
               size_t stride, unsigned n)
{
  unsigned i = 1, room = s->capacity - position_of (places[0]);

  if (n > room)
    n = room;
  while (i < n
         && *(const uint64_t *) ((const uint8_t *) places + i * stride)
              == places[0] + i)
    i++;
  return i;
}

/* Is there a segment that nobody needs, and that is not free as yet: because
 * it is being read, written, or given up in the journal?
 */
static bool
is_room_coming_locked (const struct cow_store *s)
  COW_REQUIRES (s->lock)
{
  if (s->limbo_head != NO_SEGMENT || s->growing || s->log.freeing > 0)
    return true;
  for (unsigned i = 0; s->prepared && i < s->ring_segments; i++) {
    const uint32_t n = s->buffer[i].segment;

    if (n != NO_SEGMENT && s->segment[n].live == 0
        && (s->segment[n].state == SEGMENT_WRITING
            || s->segment[n].state == SEGMENT_FULL))
      return true;
  }
  return false;
}

bool
cow_store_wait_room (struct cow_store *s, uint64_t deadline_ns)
{
  LOCK_FOR_SCOPE (&s->lock);

  while (s->free_head == NO_SEGMENT && s->segments >= s->granted
         && s->log.given_up == NO_SEGMENT && !s->failed)
    if (!is_room_coming_locked (s)
        || !cow_cond_wait_until (&s->room, &s->lock, deadline_ns))
      return false;
  return !s->failed;
}

void
cow_store_status (struct cow_store *s, struct cow_store_status *out)
{
  LOCK_FOR_SCOPE (&s->lock);

  out->limit_bytes = s->limit_bytes;
  out->used_bytes = s->live_blocks * s->block_bytes;
  out->file_bytes = (uint64_t) s->in_use * s->segment_bytes;
  out->ring_bytes
    = s->prepared ? (uint64_t) s->ring_segments * s->segment_bytes : 0;
  out->ring_dirty_bytes = 0;
  if (s->prepared)
    for (unsigned i = 0; i < s->ring_segments; i++)
      if (s->buffer[i].segment != NO_SEGMENT
          && s->segment[s->buffer[i].segment].state != SEGMENT_STORED)
        out->ring_dirty_bytes += s->segment_bytes;
  out->written_bytes = s->written_bytes;
  out->failed = s->failed;
}
