/* store-replay.c - what a store with a name holds, told to the engine.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * FORMAT.md, "How to read", steps 5 and 7; the numbers in the comments are its.
 * Nothing is changed in the file.
 *
 * Threads: one, before the store is in use.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/mutant.h"
#include "store/store-priv.h"

#define READS_IN_FLIGHT 64u

/* An exception that a record names. */
struct named {
  uint32_t segment, generation;
  struct disk_exception item;
};

/* What was read, kept from open to begin. */
struct cow_store_replay {
  struct cow_error *err;
  struct named *named;
  size_t named_count, named_room;
  struct cow_tell *tell;
  struct disk_zeroes *zeroes;
  size_t zero_count, zero_room;
};

static int
grow (void **array, size_t *room, size_t count, size_t size)
{
  size_t more = *room * 2 + 256;
  void *p;

  if (count < *room)
    return 0;
  p = realloc (*array, more * size);
  if (p == NULL)
    return -ENOMEM;
  *array = p;
  *room = more;
  return 0;
}

/* ------------------------------------------------------- 5, 7: the journal */

static int
damage (struct cow_store *s, struct cow_error *err, const char *what)
{
  return cow_error_set (err, -EUCLEAN,
                        "store=%s: %s; run cowset-check", s->directory, what);
}

/* The items of an EXCEPTIONS entry, or NULL if its length is wrong. */
static const struct disk_exception *
exceptions_of (const void *body, size_t body_bytes, uint32_t *segment,
               uint32_t *generation, uint32_t *count)
{
  const struct disk_exceptions *h = body;

  if (body_bytes < sizeof *h)
    return NULL;
  *segment = from_le32 (h->segment);
  *generation = from_le32 (h->generation);
  *count = from_le32 (h->count);
  if (*count > COW_SEGMENT_RECORDS
      || body_bytes < sizeof *h + *count * sizeof (struct disk_exception))
    return NULL;
  return (const struct disk_exception *) (h + 1);
}

static int
verify (void *opaque, const void *body, size_t body_bytes)
{
  struct cow_store *s = opaque;
  uint32_t segment, generation, count;
  const struct disk_exception *item
    = exceptions_of (body, body_bytes, &segment, &generation, &count);
  CLEANUP_FREE uint8_t *block = aligned_alloc (4096, s->block_bytes);

  if (block == NULL)
    return -ENOMEM;
  for (uint32_t i = 0; item && i < count && !COW_MUTANT (torn_batch); i++) {
    unsigned position = from_le16 (item[i].position);
    uint64_t place = first_place (segment) + position;
    int rc;

    if (position >= s->capacity)
      return -EUCLEAN;
    rc = cow_file_pread (s->file, block, s->block_bytes,
                         segment_offset (s, segment)
                           + COW_SEGMENT_HEADER_BYTES
                           + (uint64_t) position * s->block_bytes);
    if (rc < 0)
      return rc;
    if (cow_checksum (block, s->block_bytes, seed_of (s, place, generation))
        != from_le64 (item[i].checksum))
      return -EUCLEAN;
  }
  return item ? 0 : -EUCLEAN;
}

/* The segment is known in this generation, unless a later one is. */
static bool
know (struct cow_store *s, uint32_t segment, uint32_t generation,
      enum segment_state state)
{
  struct segment *g = &s->segment[segment];

  if (g->generation > generation)
    return false;
  if (g->generation < generation || g->state == SEGMENT_FREE)
    g->state = state;
  g->generation = generation;
  g->lasting = true;
  s->generation = COW_MAX (s->generation, generation);
  s->segments = COW_MAX (s->segments, segment + 1);
  return true;
}

static int
read_exceptions (struct cow_store *s, struct cow_store_replay *r,
                 const void *body, size_t body_bytes, struct cow_error *err)
{
  uint32_t segment, generation, count;
  const struct disk_exception *item
    = exceptions_of (body, body_bytes, &segment, &generation, &count);

  if (item == NULL || segment >= s->segments_max)
    return damage (s, err, "its journal names a place that is not there");
  if (!know (s, segment, generation, SEGMENT_FILLING))
    return 0;
  for (uint32_t i = 0; i < count; i++) {
    if (from_le16 (item[i].position) >= s->capacity)
      return damage (s, err, "its journal names a place that is not there");
    if (grow ((void **) &r->named, &r->named_room, r->named_count,
              sizeof *r->named)
        < 0)
      return cow_error_set (err, -ENOMEM, "store=%s: out of memory",
                            s->directory);
    r->named[r->named_count++]
      = (struct named) { segment, generation, item[i] };
  }
  return 0;
}

/* The items of a list, or NULL if its length is wrong. */
static const void *
list_of (const void *body, size_t body_bytes, size_t item_bytes,
         uint32_t *count)
{
  const struct disk_list *list = body;

  if (body_bytes < sizeof *list)
    return NULL;
  *count = from_le32 (list->count);
  return (body_bytes - sizeof *list) / item_bytes < *count ? NULL : list + 1;
}

static int
read_refs (struct cow_store *s, unsigned type, const void *body,
           size_t body_bytes, struct cow_error *err)
{
  uint32_t count;
  const struct disk_segment_ref *ref
    = list_of (body, body_bytes, sizeof *ref, &count);

  for (uint32_t i = 0; ref && i < count; i++) {
    uint32_t segment = from_le32 (ref[i].segment);
    uint32_t generation = from_le32 (ref[i].generation);

    if (segment >= s->segments_max)
      return damage (s, err, "its journal names a segment that is not there");
    if (type == COW_ENTRY_SEGMENTS)
      (void) know (s, segment, generation, SEGMENT_STORED);
    else if (s->segment[segment].generation == generation)
      s->segment[segment].state = SEGMENT_FREE;
  }
  return ref ? 0 : damage (s, err, "an entry of its journal is malformed");
}

static int
read_zeroes (struct cow_store *s, struct cow_store_replay *r,
             const void *body, size_t body_bytes, struct cow_error *err)
{
  uint32_t count;
  const struct disk_zeroes *zeroes
    = list_of (body, body_bytes, sizeof *zeroes, &count);

  if (zeroes == NULL)
    return damage (s, err, "an entry of its journal is malformed");
  for (uint32_t i = 0; i < count; i++) {
    if (grow ((void **) &r->zeroes, &r->zero_room, r->zero_count,
              sizeof *r->zeroes)
        < 0)
      return cow_error_set (err, -ENOMEM, "store=%s: out of memory",
                            s->directory);
    r->zeroes[r->zero_count++] = zeroes[i];
  }
  return 0;
}

static int
entry (void *opaque, uint64_t sequence, unsigned type, unsigned flags,
       const void *body, size_t body_bytes, struct cow_error *err)
{
  struct cow_store *s = opaque;
  struct cow_store_replay *r = s->replay;

  (void) sequence;
  switch (type) {
  case COW_ENTRY_EXCEPTIONS:
    return read_exceptions (s, r, body, body_bytes, err);
  case COW_ENTRY_ZEROES:
    return read_zeroes (s, r, body, body_bytes, err);
  case COW_ENTRY_SEGMENTS:
  case COW_ENTRY_FREED:
    return read_refs (s, type, body, body_bytes, err);
  case COW_ENTRY_MOVED:
    return 0;
  case COW_ENTRY_COUNTERS:
    if (body_bytes >= sizeof (struct disk_counters))
      s->generation = COW_MAX (
        s->generation,
        from_le32 (((const struct disk_counters *) body)->generation));
    break;
  default:
    break;
  }
  return s->hooks.entry == NULL ? 0
                                : s->hooks.entry (s->hooks.opaque, type,
                                                  flags, body, body_bytes,
                                                  err);
}

/* ---------------------------------------------------- 7: what there is */

static int
tell_segment (struct cow_store *s, uint32_t segment,
              const struct disk_segment *h)
{
  return cow_tell_segment (s, s->replay->tell, segment, h);
}

struct header_read {
  struct cow_request request;
  struct cow_store *store;
  struct disk_segment *header;
  uint32_t segment;
  int *result;
  unsigned *next_free;
  unsigned number;
};

static bool
is_header (const struct cow_store *s, const struct disk_segment *h,
           uint32_t segment, uint32_t generation)
{
  return memcmp (h->magic, COW_SEGMENT_MAGIC, sizeof h->magic) == 0
         && memcmp (h->store, s->id.b, sizeof h->store) == 0
         && from_le64 (h->segment) == segment
         && from_le32 (h->generation) == generation
         && from_le32 (h->block_bytes) == s->block_bytes
         && from_le64 (h->checksum)
              == cow_checksum ((const uint8_t *) h + 16, sizeof *h - 16,
                               seed_of (s, first_place (segment),
                                        generation));
}

static void
header_read (struct cow_request *req, int result)
{
  struct header_read *r = req->opaque;

  if (result == 0
      && !is_header (r->store, r->header, r->segment,
                     r->store->segment[r->segment].generation))
    result = -EUCLEAN;
  if (result == 0)
    result = tell_segment (r->store, r->segment, r->header);
  if (result < 0 && *r->result == 0) {
    *r->result = result;
    *r->next_free = r->segment;
  }
  r->request.len = 0;           /* free again */
}

/* The headers of all full segments, many at a time. */
static int
read_headers (struct cow_store *s, struct cow_error *err)
{
  CLEANUP_FREE struct header_read *reads
    = calloc (READS_IN_FLIGHT, sizeof *reads);
  CLEANUP_FREE uint8_t *memory
    = aligned_alloc (4096, READS_IN_FLIGHT * COW_SEGMENT_HEADER_BYTES);
  struct cow_queue *q = NULL;
  unsigned bad = 0;
  uint32_t n = 0;
  int rc, result = 0;

  rc = reads && memory ? cow_queue_new (s->io, READS_IN_FLIGHT, &q) : -ENOMEM;
  if (rc < 0)
    return cow_error_set (err, rc, "store=%s: %s", s->directory,
                          strerror (-rc));
  while (result == 0 && (n < s->segments || q->in_flight > 0)) {
    for (unsigned i = 0; i < READS_IN_FLIGHT && n < s->segments; i++) {
      struct header_read *r = &reads[i];

      if (r->request.len > 0)
        continue;
      while (n < s->segments && s->segment[n].state != SEGMENT_STORED)
        n++;
      if (n == s->segments)
        break;
      *r = (struct header_read) {
        .store = s,
        .header = (void *) (memory + i * COW_SEGMENT_HEADER_BYTES),
        .segment = n++,
        .result = &result,
        .next_free = &bad,
      };
      r->request = (struct cow_request) {
        .op = COW_OP_READ,
        .file = s->file,
        .buf = r->header,
        .len = COW_SEGMENT_HEADER_BYTES,
        .offset = segment_offset (s, r->segment),
        .done = header_read,
        .opaque = r,
      };
      rc = cow_queue_submit (q, &r->request);
      if (rc < 0 && result == 0)
        result = rc;
    }
    rc = cow_queue_reap (q, 1, COW_NEVER);
    if (rc < 0 && result == 0)
      result = rc;
  }
  cow_queue_free (q);
  if (result == -EUCLEAN)
    return cow_error_set (err, result,
                          "store=%s: the header of segment %u is damaged; run "
                          "cowset-check",
                          s->directory, bad);
  return result < 0 ? cow_error_set (err, result,
                                     "store=%s: reading segment %u: %s",
                                     s->directory, bad, strerror (-result))
                    : 0;
}

static int
by_segment (const void *a, const void *b)
{
  const struct named *x = a, *y = b;

  if (x->segment != y->segment)
    return x->segment < y->segment ? -1 : 1;
  if (x->generation != y->generation)
    return x->generation < y->generation ? -1 : 1;
  return (int) from_le16 (x->item.position)
         - (int) from_le16 (y->item.position);
}

/* The header that a segment which was not full would have, of what the journal
 * says is in it.  Moves *at on over its items.
 */
static void
make_header (struct cow_store *s, struct cow_store_replay *r, size_t *at,
             struct disk_segment *h)
{
  uint32_t segment = r->named[*at].segment;
  uint32_t generation = s->segment[segment].generation;

  memset (h, 0, sizeof *h);
  memcpy (h->magic, COW_SEGMENT_MAGIC, sizeof h->magic);
  memcpy (h->store, s->id.b, sizeof h->store);
  h->segment = to_le64 (segment);
  h->generation = to_le32 (generation);
  h->blocks = to_le32 (s->capacity);
  h->block_bytes = to_le32 (s->block_bytes);
  for (unsigned i = 0; i < s->capacity; i++)
    h->record[i].flags = to_le32 (COW_RECORD_UNUSED);
  for (; *at < r->named_count && r->named[*at].segment == segment; ++*at) {
    const struct disk_exception *item = &r->named[*at].item;

    if (r->named[*at].generation != generation)
      continue;
    h->record[from_le16 (item->position)] = (struct disk_record) {
      .checksum = item->checksum,
      .block = item->block,
      .epoch = item->epoch,
      .volume = item->volume,
    };
  }
  cow_store_seal (s, h);
}

int
cow_store_each_open_segment (struct cow_store *s,
                              int (*fn) (struct cow_store *s,
                                         uint32_t segment,
                                         const struct disk_segment *h))
{
  struct cow_store_replay *r = s->replay;
  CLEANUP_FREE struct disk_segment *h = aligned_alloc (4096, sizeof *h);
  int rc = h ? 0 : -ENOMEM;

  for (size_t at = 0; rc == 0 && at < r->named_count;) {
    uint32_t segment = r->named[at].segment;

    if (s->segment[segment].state == SEGMENT_FILLING) {
      make_header (s, r, &at, h);
      rc = fn (s, segment, h);
    }
    else
      at++;
  }
  return rc;
}

static int
tell_zeroes (struct cow_store *s)
{
  const struct cow_store_replay *r = s->replay;

  for (size_t i = 0; i < r->zero_count; i++) {
    const struct disk_zeroes *z = &r->zeroes[i];
    uint64_t block = from_le64 (z->block);

    for (uint32_t left = from_le32 (z->blocks), n; left > 0; left -= n) {
      int rc;

      n = COW_MIN (left, COW_SEGMENT_RECORDS);
      rc = s->hooks.exception (s->hooks.opaque, from_le32 (z->volume), block,
                               n, from_le32 (z->epoch), PLACE_ZERO);
      if (rc < 0)
        return rc;
      block += n;
    }
  }
  return 0;
}

static int
tell_all (struct cow_store *s, struct cow_error *err)
{
  struct cow_store_replay *r = s->replay;
  int rc;

  r->tell = cow_tell_new ();
  if (r->tell == NULL)
    return cow_error_set (err, -ENOMEM, "store=%s: out of memory",
                          s->directory);
  rc = read_headers (s, err);
  if (rc < 0)
    return rc;
  if (r->named_count > 0)
    qsort (r->named, r->named_count, sizeof *r->named, by_segment);
  rc = cow_store_each_open_segment (s, tell_segment);
  if (rc == 0)
    rc = cow_tell_rest (s, r->tell);
  if (rc == 0)
    rc = tell_zeroes (s);
  return rc < 0 ? cow_error_set (err, rc, "store=%s: %s", s->directory,
                                 strerror (-rc))
                : 0;
}

int
cow_store_replay_journal (struct cow_store *s, struct cow_error *err)
{
  const struct cow_journal_options options = {
    .file = s->file,
    .store = s->id,
    .first_area = COW_JOURNAL_OFFSET,
    .area_bytes = s->area_bytes,
  };
  const struct cow_replay replay = {
    .verify = verify,
    .entry = entry,
    .opaque = s,
  };
  int rc;

  s->replay = calloc (1, sizeof *s->replay);
  if (s->replay == NULL)
    return cow_error_set (err, -ENOMEM, "store=%s: out of memory",
                          s->directory);
  if (s->is_fresh)
    return cow_journal_new (&options, &s->journal);
  rc = cow_journal_open (&options, &replay, err, &s->journal);
  if (rc < 0) {
    cow_error_prefix (err, "store=%s", s->directory);
    return rc;
  }
  if (cow_journal_torn (s->journal))
    cow_log (COW_LOG_INFO, "store=%s: was not closed in order; what was on "
                           "its way then is dropped", s->directory);
  rc = cow_marks_read (s, err);
  return rc < 0 ? rc : tell_all (s, err);
}

void
cow_store_end_replay (struct cow_store *s)
{
  if (s->replay == NULL)
    return;
  cow_tell_free (s->replay->tell);
  free (s->replay->named);
  free (s->replay->zeroes);
  free (s->replay);
  s->replay = NULL;
}
