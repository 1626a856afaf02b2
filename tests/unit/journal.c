/* journal.c - see journal.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checksum.h"
#include "sim/random.h"
#include "unit/journal.h"

const struct cow_id store_id = { { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 } };

#define FILE_NAME "store"
#define FILLER 1u               /* in the last byte of a note's key */

uint64_t
bench_area (const struct bench *b, uint64_t lap)
{
  return FIRST_AREA + lap % 2 * b->area_bytes;
}

uint64_t
bench_segment (const struct bench *b, uint32_t segment)
{
  return FIRST_AREA + 2 * b->area_bytes + (uint64_t) segment * PAGE;
}

static struct cow_journal_options
options_of (struct bench *b)
{
  return (struct cow_journal_options) {
    .file = b->file,
    .store = store_id,
    .first_area = FIRST_AREA,
    .area_bytes = b->area_bytes,
  };
}

/* What a use of a segment holds. */
static void
content (uint8_t page[PAGE], uint32_t generation)
{
  uint64_t word = generation;

  for (unsigned i = 0; i < PAGE; i += sizeof word) {
    const uint64_t value = sim_random_next (&word);

    memcpy (page + i, &value, sizeof value);
  }
}

static uint64_t
sum_of (const uint8_t page[PAGE], uint32_t segment, uint32_t generation)
{
  return cow_checksum (page, PAGE,
                       cow_seed (&store_id, segment + 1, generation));
}

static uint8_t
note_byte (uint64_t number, unsigned i)
{
  return (uint8_t) (number * 31 + i);
}

/* ------------------------------------------------------------------ replay */

/* As the store would: the sum in the entry, the block where it says. */
static int
verify (void *opaque, const void *body, size_t body_bytes)
{
  struct bench *b = opaque;
  const struct disk_exceptions *e = body;
  const struct disk_exception *x = (const void *) (e + 1);
  _Alignas (4096) uint8_t page[PAGE];
  const uint32_t segment = from_le32 (e->segment);
  int rc;

  assert (body_bytes == sizeof *e + sizeof *x && segment < SEGMENTS);
  rc = cow_file_pread (b->file, page, PAGE, bench_segment (b, segment));
  if (rc < 0)
    return rc;
  return from_le64 (x->checksum)
             == sum_of (page, segment, from_le32 (e->generation))
           ? 0
           : -EUCLEAN;
}

static int
entry (void *opaque, uint64_t sequence, unsigned type, unsigned flags,
       const void *body, size_t body_bytes, struct cow_error *err)
{
  struct bench *b = opaque;
  struct state *s = &b->replayed_state;

  (void) sequence;
  (void) err;
  assert (flags == COW_ENTRY_MUST_KNOW);
  switch (type) {
  case COW_ENTRY_COUNTERS:
    b->replayed = from_le64 (((const struct disk_counters *) body)->set_number);
    break;
  case COW_ENTRY_NOTE: {
    const struct disk_note *note = body;
    const uint8_t *bytes = (const void *) (note + 1);
    uint64_t number;

    if (note->key[15] == FILLER)
      break;
    memcpy (&number, note->key, sizeof number);
    assert (number == b->replayed + 1);
    for (unsigned i = 0; i < from_le32 (note->length); i++)
      assert (bytes[i] == note_byte (number, i));
    b->replayed = number;
    break;
  }
  case COW_ENTRY_EXCEPTIONS: {
    const struct disk_exceptions *e = body;

    s->generation[from_le32 (e->segment)] = from_le32 (e->generation);
    break;
  }
  case COW_ENTRY_FREED: {
    const struct disk_list *list = body;
    const struct disk_segment_ref *ref = (const void *) (list + 1);

    assert (body_bytes == 16);
    assert (s->generation[from_le32 (ref->segment)]
            == from_le32 (ref->generation));
    s->generation[from_le32 (ref->segment)] = 0;
    break;
  }
  default:
    assert (false);
  }
  return 0;
}

int
bench_open (struct bench *b)
{
  const struct cow_replay replay = {
    .verify = verify, .entry = entry, .opaque = b,
  };
  struct cow_journal_options options;
  int rc;

  rc = cow_file_open (sim_disk_io (b->disk), FILE_NAME, COW_OPEN_DIRECT, NULL,
                      &b->file);
  assert (rc == 0 && b->file->info.is_direct);
  options = options_of (b);
  b->err = (struct cow_error) COW_ERROR_INIT;
  b->replayed = 0;
  memset (&b->replayed_state, 0, sizeof b->replayed_state);
  rc = cow_journal_open (&options, &replay, &b->err, &b->j);
  if (rc < 0) {
    assert (b->err.code == rc && b->err.text[0] != 0);
    b->j = NULL;
    bench_close (b);
    return rc;
  }
  /* J2 */
  assert (b->replayed >= b->durable && b->replayed <= b->appended);
  assert (memcmp (&b->replayed_state, &b->state[b->replayed],
                  sizeof b->replayed_state)
          == 0);
  for (uint32_t i = 0; i < SEGMENTS; i++) {
    uint8_t page[PAGE], want[PAGE];

    if (b->unchecked || b->replayed_state.generation[i] == 0)
      continue;
    sim_disk_peek (b->disk, FILE_NAME, bench_segment (b, i), page, PAGE);
    content (want, b->replayed_state.generation[i]);
    assert (memcmp (page, want, PAGE) == 0);
  }
  b->appended = b->replayed;
  return 0;
}

void
bench_close (struct bench *b)
{
  if (b->j)
    cow_journal_free (b->j);
  if (b->file)
    cow_file_close (b->file);
  b->j = NULL;
  b->file = NULL;
}

void
bench_change_disk (struct bench *b, struct sim_disk *disk)
{
  bench_close (b);
  sim_disk_free (b->disk);
  b->disk = disk;
}

void
bench_flip (struct bench *b, uint64_t offset, uint8_t bits)
{
  uint8_t byte;

  sim_disk_peek (b->disk, FILE_NAME, offset, &byte, 1);
  byte ^= bits;
  sim_disk_poke (b->disk, FILE_NAME, offset, &byte, 1);
}

/* ----------------------------------------------------------------- writing */

static void
add_exception (struct bench *b, struct cow_entries *e, uint32_t segment,
               uint32_t generation)
{
  struct disk_exceptions *head;
  struct disk_exception *x;
  uint8_t page[PAGE];

  head = cow_entries_add (e, COW_ENTRY_EXCEPTIONS, sizeof *head + sizeof *x);
  assert (head);
  head->segment = to_le32 (segment);
  head->generation = to_le32 (generation);
  head->count = to_le32 (1);
  x = (void *) (head + 1);
  content (page, generation);
  x->checksum = to_le64 (sum_of (page, segment, generation));
  x->block = to_le64 (b->appended);
}

static void
add_note (struct cow_entries *e, uint64_t number, unsigned bytes, uint8_t mark)
{
  struct disk_note *note =
    cow_entries_add (e, COW_ENTRY_NOTE, sizeof *note + bytes);
  uint8_t *p = (void *) (note + 1);

  assert (note);
  memcpy (note->key, &number, sizeof number);
  note->key[15] = mark;
  note->length = to_le32 (bytes);
  for (unsigned i = 0; i < bytes; i++)
    p[i] = note_byte (number, i);
}

struct filling {
  struct bench *b;
  unsigned pages;               /* of filler, so far */
};

/* Each record of a checkpoint is two pages of filler, the last is what counts
 * and none.
 */
static int
fill (void *opaque, struct cow_entries *e)
{
  struct filling *f = opaque;
  struct bench *b = f->b;
  struct disk_counters *c;

  if (f->pages < b->filler_pages) {
    f->pages += 2;
    add_note (e, f->pages, 2 * PAGE - 200, FILLER);
    return 1;
  }
  c = cow_entries_add (e, COW_ENTRY_COUNTERS, sizeof *c);
  assert (c);
  c->set_number = to_le64 (b->appended);
  for (uint32_t i = 0; i < SEGMENTS; i++)
    if (b->state[b->appended].generation[i] != 0)
      add_exception (b, e, i, b->state[b->appended].generation[i]);
  return 0;
}

int
bench_checkpoint (struct bench *b)
{
  struct filling f = { .b = b };
  int rc = cow_journal_checkpoint (b->j, fill, &f);

  if (rc == 0)
    b->durable = b->appended;
  return rc;
}

int
bench_append (struct bench *b, unsigned note_bytes, int preserve, int free_)
{
  struct cow_entries e = COW_ENTRIES_INIT;
  struct cow_request write;
  struct state s = b->state[b->appended];
  const uint64_t number = b->appended + 1;
  uint32_t generation = b->generation + 1;
  int rc;

  assert (number <= RECORDS_MAX);
  add_note (&e, number, note_bytes, 0);
  if (free_ >= 0) {
    struct disk_list *list =
      cow_entries_add (&e, COW_ENTRY_FREED,
                       sizeof *list + sizeof (struct disk_segment_ref));
    struct disk_segment_ref *ref = (void *) (list + 1);

    list->count = to_le32 (1);
    ref->segment = to_le32 ((uint32_t) free_);
    ref->generation = to_le32 (s.generation[free_]);
    s.generation[free_] = 0;
  }
  if (preserve >= 0) {
    add_exception (b, &e, (uint32_t) preserve, generation);
    s.generation[preserve] = generation;
  }
  rc = cow_journal_append (b->j, &e, &write);
  if (rc == 0) {
    b->appended = number;
    b->state[number] = s;
    if (preserve >= 0) {
      _Alignas (4096) uint8_t page[PAGE];

      b->generation = generation;
      content (page, generation);
      rc = cow_file_pwrite (b->file, page, PAGE,
                            bench_segment (b, (uint32_t) preserve));
    }
    if (rc == 0)
      rc = cow_file_pwrite (write.file, write.buf, write.len, write.offset);
  }
  cow_entries_clear (&e);
  return rc;
}

void
bench_sync (struct bench *b)
{
  const uint64_t sequence = cow_journal_sequence (b->j), n = b->appended;
  int rc = cow_file_sync (b->file);

  assert (rc == 0);
  cow_journal_durable (b->j, sequence);
  b->durable = n;
}

/* -------------------------------------------------------------------- life */

void
bench_new (struct bench *b, uint64_t seed, unsigned area_pages,
           unsigned filler_pages)
{
  const struct sim_disk_options disk_options = { .seed = seed };
  const struct sim_file_options file_options = {
    .size_bytes = FIRST_AREA
                  + ((uint64_t) 2 * area_pages + SEGMENTS) * PAGE,
    .direct_align_bytes = 4096,
  };
  struct cow_journal_options options;
  int rc;

  memset (b, 0, offsetof (struct bench, state));
  memset (&b->state[0], 0, sizeof b->state[0]);
  b->generation = 0;
  b->area_bytes = (uint64_t) area_pages * PAGE;
  b->filler_pages = filler_pages;
  b->disk = sim_disk_new (&disk_options);
  sim_disk_create (b->disk, FILE_NAME, &file_options);
  rc = cow_file_open (sim_disk_io (b->disk), FILE_NAME, COW_OPEN_DIRECT, NULL,
                      &b->file);
  assert (rc == 0);
  options = options_of (b);
  rc = cow_journal_new (&options, &b->j);
  assert (rc == 0);
  rc = bench_checkpoint (b);
  assert (rc == 0);
}

void
bench_free (struct bench *b)
{
  bench_close (b);
  sim_disk_free (b->disk);
}
