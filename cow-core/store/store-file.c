/* store-file.c - the store's file: segments out, blocks back.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One worker at a time writes full segments, several in flight, into space
 * that was taken before (store-space.c); readers read past it.  The lock is never held
 * over I/O.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mutant.h"
#include "store/store-priv.h"

#define WRITES_IN_FLIGHT 16u
/* With writes in flight the worker looks for new work this often. */
#define LOOK_NS (20 * COW_NS_PER_MS)
/* Segments that one call announces at most. */
#define SOON 128u

void
cow_store_fail (struct cow_store *s, int code, const char *what)
{
  bool first;

  cow_mutex_lock (&s->lock);
  first = !s->failed;
  s->failed = true;
  cow_store_room_changed_locked (s);
  cow_cond_broadcast (&s->ring_free);
  cow_cond_broadcast (&s->log.turn);
  cow_mutex_unlock (&s->lock);
  if (first)
    cow_log (COW_LOG_ERROR,
             "store: %s: %s: snapshots are lost, volumes are served on", what,
             strerror (-code));
}

static void
segment_written (struct cow_request *req, int result)
{
  struct buffer *b = req->opaque;
  struct cow_store *s = b->store;
  struct segment *g = &s->segment[b->segment];

  if (result < 0) {
    /* The buffer stays FULL-like for its readers: the data is good there. */
    cow_store_fail (s, result, "writing a segment");
    return;
  }
  LOCK_FOR_SCOPE (&s->lock);
  g->state = SEGMENT_STORED;
  s->written_bytes += req->len;
  if (g->live == 0)
    cow_store_to_limbo_locked (s, b->segment);
  cow_store_room_changed_locked (s);
}

void
cow_store_seal (const struct cow_store *s, struct disk_segment *h)
{
  h->checksum = to_le64 (
    cow_checksum ((uint8_t *) h + 16, sizeof *h - 16,
                  seed_of (s, first_place ((uint32_t) from_le64 (h->segment)),
                           from_le32 (h->generation))));
}

/* A segment that can go out: all filled, and of a lasting one every block in
 * the file already, by the barrier: only its header is left to be written.
 */
static bool
is_ready (const struct cow_store *s, const struct buffer *b)
{
  return b->segment != NO_SEGMENT
         && s->segment[b->segment].state == SEGMENT_FULL && b->unlogged == 0;
}

static bool
submit_one (struct cow_store *s)
{
  struct buffer *b = NULL;
  bool lasting = false;
  int rc;

  cow_mutex_lock (&s->lock);
  if (s->full > 0 && !s->failed)
    for (unsigned i = 0; i < s->ring_segments; i++)
      if (is_ready (s, &s->buffer[i])) {
        b = &s->buffer[i];
        lasting = s->segment[b->segment].lasting;
        s->segment[b->segment].state = SEGMENT_WRITING;
        s->full--;
        break;
      }
  cow_mutex_unlock (&s->lock);
  if (b == NULL)
    return false;

  cow_store_seal (s, header_of (b));
  b->request = (struct cow_request) {
    .op = COW_OP_WRITE,
    .file = s->file,
    .buf = b->mem,
    .len = lasting ? COW_SEGMENT_HEADER_BYTES : s->segment_bytes,
    .offset = segment_offset (s, b->segment),
    .done = segment_written,
    .opaque = b,
  };
  rc = cow_queue_submit (s->queue, &b->request);
  if (rc < 0)
    cow_store_fail (s, rc, "writing a segment");
  return true;
}

/* Segments that nobody can be reading any more are free. */
static bool
empty_limbo (struct cow_store *s)
{
  uint32_t *link = &s->limbo_head;
  bool any = false;
  LOCK_FOR_SCOPE (&s->lock);

  while (*link != NO_SEGMENT) {
    uint32_t n = *link;
    struct segment *g = &s->segment[n];

    if (cow_slots_below (s->readers, g->limbo_turn + 1)) {
      link = &g->next;
      continue;
    }
    *link = g->next;
    if (g->lasting && !COW_MUTANT (freed_at_once)) {
      g->state = SEGMENT_GIVEN_UP;
      g->next = s->log.given_up;
      s->log.given_up = n;
      s->log.given_up_count++;
      any = true;
      continue;
    }
    g->state = SEGMENT_FREE;
    g->next = s->free_head;
    s->free_head = n;
    s->in_use--;
    any = true;
  }
  if (any)
    cow_store_room_changed_locked (s);
  return any;
}

bool
cow_store_work (struct cow_store *s)
{
  bool prepared, any = false;

  cow_mutex_lock (&s->lock);
  prepared = s->prepared;
  s->woken = false;
  cow_mutex_unlock (&s->lock);
  if (!prepared || atomic_exchange (&s->working, true))
    return false;
  if (s->queue == NULL
      && cow_queue_new (s->io, WRITES_IN_FLIGHT, &s->queue) < 0)
    cow_store_fail (s, -ENOMEM, "making its queue");
  if (s->queue != NULL) {
    while (s->queue->in_flight < WRITES_IN_FLIGHT && submit_one (s))
      any = true;
    if (s->queue->in_flight > 0 && cow_queue_reap (s->queue, 0, 0) > 0)
      any = true;
  }
  if (empty_limbo (s))
    any = true;
  if (cow_log_work (s))
    any = true;
  if (cow_store_grow (s))
    any = true;
  atomic_store (&s->working, false);
  return any;
}

void
cow_store_wait (struct cow_store *s, uint64_t deadline_ns)
{
  uint64_t look_ns = cow_now_ns () + LOOK_NS;

  if (look_ns > deadline_ns)
    look_ns = deadline_ns;
  if (!atomic_exchange (&s->working, true)) {
    if (s->queue != NULL && s->queue->in_flight > 0) {
      cow_queue_reap (s->queue, 1, look_ns);
      atomic_store (&s->working, false);
      return;
    }
    atomic_store (&s->working, false);
  }
  LOCK_FOR_SCOPE (&s->lock);
  if ((s->limbo_head != NO_SEGMENT || s->log.given_up != NO_SEGMENT)
      && deadline_ns > look_ns)
    deadline_ns = look_ns;
  if (!s->woken && (s->full == 0 || s->failed))
    cow_cond_wait_until (&s->work, &s->lock, deadline_ns);
}

void
cow_store_wake (struct cow_store *s)
{
  LOCK_FOR_SCOPE (&s->lock);

  s->woken = true;
  cow_cond_broadcast (&s->work);
}

/* The two ways to read the file.  By way of the page cache old data comes many
 * blocks at a time and stays as long as there is memory.  Its pages are
 * dropped by each write of the segment; what is there is checked all the same,
 * and read past the cache before anything is called damaged.
 */
enum way { BY_CACHE, BY_FILE };

static int
file_read (struct cow_store *s, enum way way, void *buf, size_t len,
           uint64_t offset)
{
  if (way == BY_CACHE)
    return cow_fetch_read (s->fetch, buf, len, offset);
  return cow_file_pread (s->file, buf, len, offset);
}

/* Records from the cache of headers.  Returns whether they were there. */
static bool
known_records (struct cow_store *s, uint32_t segment, uint32_t generation,
               unsigned first, unsigned n, struct disk_record *out)
{
  unsigned at = segment % CACHED_HEADERS;
  LOCK_FOR_SCOPE (&s->headers.lock);

  if (s->headers.slot[at].header == NULL
      || s->headers.slot[at].segment != segment
      || s->headers.slot[at].generation != generation)
    return false;
  memcpy (out, &s->headers.slot[at].header->record[first], n * sizeof *out);
  return true;
}

/* The header of a stored segment, from the cache or the file, copied out:
 * only the records asked for.
 */
static int
read_records (struct cow_store *s, enum way way, uint32_t segment,
              uint32_t generation, unsigned first, unsigned n,
              struct disk_record *out)
{
  CLEANUP_FREE struct disk_segment *h = NULL;
  unsigned at = segment % CACHED_HEADERS;
  int rc;

  if (known_records (s, segment, generation, first, n, out))
    return 0;
  h = aligned_alloc (4096, sizeof *h);
  if (h == NULL)
    return -ENOMEM;
  rc = file_read (s, way, h, sizeof *h, segment_offset (s, segment));
  if (rc < 0)
    return rc;
  if (memcmp (h->magic, COW_SEGMENT_MAGIC, sizeof h->magic) != 0
      || from_le32 (h->generation) != generation
      || from_le64 (h->segment) != segment
      || from_le64 (h->checksum)
           != cow_checksum ((uint8_t *) h + 16, sizeof *h - 16,
                            seed_of (s, first_place (segment), generation)))
    return -EUCLEAN;
  memcpy (out, &h->record[first], n * sizeof *out);

  LOCK_FOR_SCOPE (&s->headers.lock);
  free (s->headers.slot[at].header);
  s->headers.slot[at].segment = segment;
  s->headers.slot[at].generation = generation;
  s->headers.slot[at].header = h;
  h = NULL;
  return 0;
}

static int
check (const struct cow_store *s, const struct disk_record *r,
       const uint8_t *data, uint64_t place, uint32_t generation,
       uint32_t volume, uint64_t block)
{
  if (from_le32 (r->flags) != 0 || from_le64 (r->block) != block
      || from_le32 (r->volume) != volume
      || from_le64 (r->checksum)
           != cow_checksum (data, s->block_bytes,
                            seed_of (s, place, generation)))
    return -EUCLEAN;
  return 0;
}

/* Copy out of a buffer that is pinned. */
static int
read_buffer (struct cow_store *s, struct buffer *b, uint64_t place,
             unsigned blocks, uint32_t generation, uint32_t volume,
             uint64_t first_block, uint8_t *buf)
{
  unsigned first = position_of (place);

  memcpy (buf,
          b->mem + COW_SEGMENT_HEADER_BYTES + (size_t) first * s->block_bytes,
          (size_t) blocks * s->block_bytes);
  for (unsigned i = 0; i < blocks; i++)
    if (check (s, &header_of (b)->record[first + i],
               buf + (size_t) i * s->block_bytes, place + i, generation,
               volume, first_block + i)
        < 0)
      return -EUCLEAN;
  return 0;
}

static int
read_and_check (struct cow_store *s, enum way way, uint64_t place,
                unsigned blocks, uint32_t generation, uint32_t volume,
                uint64_t first_block, uint8_t *buf)
{
  struct disk_record record[COW_SEGMENT_RECORDS];
  uint32_t segment = segment_of (place);
  unsigned first = position_of (place);
  int rc;

  rc = read_records (s, way, segment, generation, first, blocks, record);
  if (rc == 0)
    rc = file_read (s, way, buf, (size_t) blocks * s->block_bytes,
                    segment_offset (s, segment) + COW_SEGMENT_HEADER_BYTES
                      + (uint64_t) first * s->block_bytes);
  for (unsigned i = 0; rc == 0 && i < blocks; i++)
    rc = check (s, &record[i], buf + (size_t) i * s->block_bytes, place + i,
                generation, volume, first_block + i);
  return rc;
}

static int
read_file (struct cow_store *s, uint64_t place, unsigned blocks,
           uint32_t generation, uint32_t volume, uint64_t first_block,
           uint8_t *buf)
{
  CLEANUP_FREE uint8_t *bounce = NULL;
  size_t len = (size_t) blocks * s->block_bytes;
  uint8_t *to = buf;
  int rc;

  if (s->fetch != NULL
      && read_and_check (s, BY_CACHE, place, blocks, generation, volume,
                         first_block, buf)
           == 0)
    return 0;
  if ((uintptr_t) buf % s->file->info.align_bytes != 0) {
    bounce = to = aligned_alloc (4096, len);
    if (bounce == NULL)
      return -ENOMEM;
  }
  rc = read_and_check (s, BY_FILE, place, blocks, generation, volume,
                       first_block, to);
  if (rc == 0 && to != buf)
    memcpy (buf, to, len);
  return rc;
}

int
cow_store_read (struct cow_store *s, uint64_t place, unsigned blocks,
                uint32_t volume, uint64_t first_block, void *buf)
{
  uint32_t segment = segment_of (place), generation;
  struct buffer *b = NULL;
  int rc;

  assert (position_of (place) + blocks <= s->capacity);
  cow_mutex_lock (&s->lock);
  generation = s->segment[segment].generation;
  if (segment >= s->segments || s->segment[segment].state == SEGMENT_FREE
      || s->segment[segment].state == SEGMENT_GIVEN_UP
      || s->segment[segment].state == SEGMENT_LIMBO) {
    cow_mutex_unlock (&s->lock);
    return -EUCLEAN;
  }
  if (s->segment[segment].buffer != NO_BUFFER) {
    b = &s->buffer[s->segment[segment].buffer];
    b->pins++;
  }
  cow_mutex_unlock (&s->lock);

  if (b == NULL)
    return read_file (s, place, blocks, generation, volume, first_block, buf);
  rc = read_buffer (s, b, place, blocks, generation, volume, first_block,
                    buf);
  cow_mutex_lock (&s->lock);
  if (--b->pins == 0)
    cow_store_room_changed_locked (s);
  cow_mutex_unlock (&s->lock);
  return rc;
}

void
cow_store_soon (struct cow_store *s, const uint64_t *places, size_t stride,
                unsigned n)
{
  uint32_t segment[SOON];
  unsigned known = 0;

  if (s->fetch == NULL)
    return;
  cow_mutex_lock (&s->lock);
  for (unsigned i = 0; i < n && known < SOON; i++) {
    uint64_t place
      = *(const uint64_t *) ((const uint8_t *) places + i * stride);
    uint32_t at = place < COW_SEGMENT_PLACES ? NO_SEGMENT : segment_of (place);

    if (at < s->segments && s->segment[at].state == SEGMENT_STORED
        && s->segment[at].buffer == NO_BUFFER
        && (known == 0 || segment[known - 1] != at))
      segment[known++] = at;
  }
  cow_mutex_unlock (&s->lock);
  for (unsigned i = 0; i < known; i++)
    cow_fetch_soon (s->fetch, segment_offset (s, segment[i]));
}
