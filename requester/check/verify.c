/* verify.c - every byte of the file, compared with what it must be.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checksum.h"
#include "base/cleanup.h"
#include "check.h"

#define READ_BYTES (1u << 20)

/* ------------------------------------------------------------ what is unused */

/* A range that must be zero: one finding for each run of pages that is not. */
int
unused_bytes (struct image *im, const char *what, uint64_t offset,
              uint64_t bytes)
{
  CLEANUP_FREE uint8_t *data = malloc (READ_BYTES);
  const uint64_t end = COW_MIN (offset + bytes, im->file_bytes);

  if (data == NULL)
    return -ENOMEM;
  while (offset < end) {
    uint64_t len = 0;
    size_t first, last;
    int rc = cow_file_hole (im->file, offset, &len);

    if (rc == 0 && len > 0) {
      offset += len;
      continue;
    }
    len = COW_MIN (end - offset, (uint64_t) READ_BYTES);
    rc = cow_file_pread (im->file, data, len, offset);
    if (rc < 0)
      return rc;
    if (!is_zero (data, len)) {
      struct finding *f;

      for (first = 0; data[first] == 0; first++)
        ;
      for (last = len; data[last - 1] == 0; last--)
        ;
      f = report_add (im->report, LEVEL_DAMAGE, "unused", offset + first,
                      "%s: bytes that mean nothing are not zero (%zu in all "
                      "from the first to the last)",
                      what, last - first);
      rc = repair_zero (im, f, offset + first, last - first);
      if (rc < 0)
        return rc;
    }
    offset += len;
  }
  return 0;
}

/* ------------------------------------------------------------------- marks */

/* Does the journal end with its checkpoint, so that nothing can be missing? */
static int
ends_in_checkpoint (struct image *im, bool *yes)
{
  const uint64_t lap = cow_journal_lap (im->journal);
  const uint64_t begin = COW_JOURNAL_OFFSET + lap % 2 * im->area_bytes;
  const uint64_t used = cow_journal_end (im->journal) - begin;
  CLEANUP_FREE uint8_t *area = malloc (used);
  const struct disk_journal_record *r = NULL;
  size_t length;
  int rc;

  if (area == NULL)
    return -ENOMEM;
  rc = cow_file_pread (im->file, area, used, begin);
  for (uint64_t at = 0; rc == 0 && at < used; at += length) {
    r = (const void *) (area + at);
    length = cow_journal_recognise (&im->id, r, used - at, begin + at);
    if (length == 0)
      return -EIO;              /* it was there a moment ago */
  }
  *yes = r && from_le32 (r->flags) & COW_JOURNAL_CHECKPOINT_END;
  return rc;
}

static int
verify_clean_mark (struct image *im)
{
  uint8_t page[COW_STORE_PAGE];
  const struct disk_clean *c = (const void *) page;
  const uint64_t offset = COW_CLEAN_OFFSET;
  struct finding *f;
  bool complete = false;
  int rc = cow_file_pread (im->file, page, sizeof page, offset);

  if (rc < 0)
    return rc;
  if (is_zero (page, sizeof page)) {
    report_add (im->report, LEVEL_WARNING, "unclean", NOWHERE,
                "the store was not closed in order; the next start sees to it");
    return 0;
  }
  if (memcmp (c->magic, COW_CLEAN_MAGIC, sizeof c->magic) != 0
      || from_le64 (c->checksum)
           != cow_checksum (page + 16, 48,
                            cow_seed (&im->id, offset, from_le64 (c->lap)))) {
    rc = ends_in_checkpoint (im, &complete);
    if (rc < 0)
      return rc;
    f = report_add (im->report, LEVEL_DAMAGE, "clean-mark", offset,
                    "the clean mark is damaged%s",
                    complete ? ", and nothing that it could attest is missing"
                             : "; the end of the journal may be missing");
    return complete ? repair_zero (im, f, offset, sizeof page) : 0;
  }
  if (from_le64 (c->lap) != cow_journal_lap (im->journal)
      || from_le64 (c->sequence) != cow_journal_sequence (im->journal)) {
    report_add (im->report, LEVEL_DAMAGE, "journal", NOWHERE,
                "the journal ends with record %" PRIu64 " of lap %" PRIu64
                ", but the store was closed in order after record %" PRIu64
                " of lap %" PRIu64,
                cow_journal_sequence (im->journal),
                cow_journal_lap (im->journal), from_le64 (c->sequence),
                from_le64 (c->lap));
    return 0;
  }
  im->clean = true;
  return unused_bytes (im, "the clean mark's page", offset + 64,
                       sizeof page - 64);
}

static void
end_snapshots (struct image *im, uint32_t end, const struct disk_slot *slot)
{
  for (size_t i = 0; i < im->set_count; i++)
    for (uint32_t m = 0; m < from_le32 (im->set[i].head.members); m++) {
      struct member *member = &im->set[i].member[m];
      bool named = slot == NULL || from_le32 (slot->count) == 0;

      for (uint32_t k = 0; !named && k < from_le32 (slot->count); k++)
        named = from_le32 (slot->volume[k]) == member->volume;
      if (named && member->end == 0)
        member->end = end;
    }
}

static int
verify_slot (struct image *im, uint64_t offset)
{
  uint8_t page[COW_STORE_PAGE];
  const struct disk_slot *slot = (const void *) page;
  int rc = cow_file_pread (im->file, page, sizeof page, offset);

  if (rc < 0 || is_zero (page, sizeof page))
    return rc;
  if (memcmp (slot->magic, COW_SLOT_MAGIC, sizeof slot->magic) != 0
      || from_le32 (slot->count) > COW_SLOT_VOLUMES
      || from_le64 (slot->checksum)
           != cow_checksum (page + 16, sizeof *slot - 16,
                            cow_seed (&im->id, offset,
                                      from_le64 (slot->lap)))) {
    report_add (im->report, LEVEL_DAMAGE, "slot", offset,
                "an invalidation slot is damaged: all snapshots have ended");
    end_snapshots (im, 3, NULL);
    return 0;
  }
  if (from_le64 (slot->lap) >= cow_journal_lap (im->journal)) {
    report_add (im->report, LEVEL_WARNING, "invalidated", offset,
                "snapshots were given up with the journal out of reach (%s)",
                end_text (from_le32 (slot->end)));
    end_snapshots (im, from_le32 (slot->end), slot);
  }
  return unused_bytes (im, "an invalidation slot's page",
                       offset + sizeof *slot, sizeof page - sizeof *slot);
}

int
verify_marks (struct image *im)
{
  int rc = verify_clean_mark (im);

  if (rc == 0)
    rc = unused_bytes (im, "a reserved page", COW_CLEAN_OFFSET + COW_STORE_PAGE,
                       COW_SLOTS_OFFSET - COW_CLEAN_OFFSET - COW_STORE_PAGE);
  for (unsigned i = 0; rc == 0 && i < COW_SLOTS_COUNT; i++)
    rc = verify_slot (im, COW_SLOTS_OFFSET + (uint64_t) i * COW_STORE_PAGE);
  if (rc == 0)
    rc = unused_bytes (im, "reserved pages",
                       COW_SLOTS_OFFSET
                         + (uint64_t) COW_SLOTS_COUNT * COW_STORE_PAGE,
                       COW_JOURNAL_OFFSET - COW_SLOTS_OFFSET
                         - (uint64_t) COW_SLOTS_COUNT * COW_STORE_PAGE);
  if (rc == 0 && !im->is_live) {
    report_add (im->report, LEVEL_WARNING, "not-live", NOWHERE,
                COW_STORE_LIVE " is missing: all snapshots have ended");
    end_snapshots (im, 3, NULL);
  }
  if (rc == 0 && cow_journal_torn (im->journal))
    report_add (im->report, im->clean ? LEVEL_DAMAGE : LEVEL_WARNING, "torn",
                cow_journal_end (im->journal),
                "what was on its way when it ended is dropped: the journal "
                "ends with record %" PRIu64,
                cow_journal_sequence (im->journal));
  return rc;
}

/* ---------------------------------------------------------------- segments */

static int
file_exception (struct image *im, const struct disk_record *r, uint64_t place,
                bool damaged)
{
  struct exception *e =
    image_grow ((void **) &im->exception, &im->exception_count,
                &im->exception_room, sizeof *e);

  if (e == NULL)
    return -ENOMEM;
  *e = (struct exception) {
    .block = from_le64 (r->block),
    .place = place,
    .volume = from_le32 (r->volume),
    .epoch = from_le32 (r->epoch),
    .damaged = damaged,
  };
  return 0;
}

static bool
is_header (const struct image *im, const struct disk_segment *h,
           uint32_t segment)
{
  const uint32_t generation = im->segment[segment].generation;

  return memcmp (h->magic, COW_SEGMENT_MAGIC, sizeof h->magic) == 0
         && memcmp (h->store, im->id.b, sizeof h->store) == 0
         && from_le64 (h->segment) == segment
         && from_le32 (h->generation) == generation
         && from_le32 (h->block_bytes) == im->block_bytes
         && from_le64 (h->checksum)
              == cow_checksum ((const uint8_t *) h + 16, sizeof *h - 16,
                               cow_seed (&im->id,
                                         ((uint64_t) segment + 1)
                                           * COW_SEGMENT_PLACES,
                                         generation));
}

static int
compare_named (const void *a, const void *b)
{
  const struct named *x = a, *y = b;

  return x->segment < y->segment ? -1 : x->segment > y->segment;
}

/* The header that the journal's items would make; they are in order of
 * segments, and *at moves on over them.
 */
static void
header_of_items (const struct image *im, uint32_t segment, size_t *at,
                 struct disk_segment *h)
{
  memset (h, 0, sizeof *h);
  for (unsigned i = 0; i < COW_SEGMENT_RECORDS; i++)
    h->record[i].flags = to_le32 (COW_RECORD_UNUSED);
  for (; *at < im->named_count && im->named[*at].segment <= segment; ++*at) {
    const struct named *n = &im->named[*at];

    if (n->segment == segment
        && n->generation == im->segment[segment].generation)
      h->record[from_le16 (n->item.position)] = (struct disk_record) {
        .checksum = n->item.checksum,
        .block = n->item.block,
        .epoch = n->item.epoch,
        .volume = n->item.volume,
      };
  }
}

/* The blocks that a header says are there; data is the whole segment. */
static int
verify_blocks (struct image *im, uint32_t segment,
               const struct disk_segment *h, const uint8_t *data)
{
  for (uint32_t i = 0; i < im->capacity; i++) {
    const struct disk_record *r = &h->record[i];
    const uint64_t place =
      ((uint64_t) segment + 1) * COW_SEGMENT_PLACES + i;
    const uint8_t *block =
      data + COW_SEGMENT_HEADER_BYTES + (size_t) i * im->block_bytes;
    const uint64_t offset = image_segment_offset (im, segment)
                            + (uint64_t) (block - data);
    int rc;

    if (from_le32 (r->flags) & COW_RECORD_UNUSED) {
      rc = im->clean && !is_zero (block, im->block_bytes)
             ? unused_bytes (im, "a place in a segment that is not used",
                             offset, im->block_bytes)
             : 0;
    } else {
      rc = file_exception (
        im, r, place,
        from_le64 (r->checksum)
          != cow_checksum (block, im->block_bytes,
                           cow_seed (&im->id, place,
                                     im->segment[segment].generation)));
    }
    if (rc < 0)
      return rc;
  }
  return 0;
}

static int
verify_segment (struct image *im, uint32_t segment, size_t *at, uint8_t *data)
{
  const struct disk_segment *h = (const void *) data;
  const uint64_t offset = image_segment_offset (im, segment);
  struct disk_segment made;
  int rc = cow_file_pread (im->file, data, im->segment_bytes, offset);

  if (rc < 0)
    return rc;
  im->segments_known++;
  if (im->segment[segment].use == USE_FULL) {
    if (is_header (im, h, segment))
      return verify_blocks (im, segment, h, data);
    report_add (im->report, LEVEL_DAMAGE, "segment", offset,
                "the header of segment %" PRIu32 " is damaged: what its %" PRIu32
                " blocks are is lost",
                segment, im->capacity);
    return 0;
  }
  header_of_items (im, segment, at, &made);
  if (im->clean) {
    rc = unused_bytes (im, "the header of a segment that is not full", offset,
                       COW_SEGMENT_HEADER_BYTES);
    if (rc < 0)
      return rc;
  }
  return verify_blocks (im, segment, &made, data);
}

int
verify_segments (struct image *im)
{
  CLEANUP_FREE uint8_t *data = aligned_alloc (4096, im->segment_bytes);
  int rc = data ? 0 : -ENOMEM;
  size_t at = 0;

  if (im->named_count > 0)
    qsort (im->named, im->named_count, sizeof *im->named, compare_named);
  for (uint32_t n = 0; rc == 0 && n < im->segments; n++)
    if (im->segment[n].use != USE_NONE)
      rc = verify_segment (im, n, &at, data);
  for (size_t i = 0; rc == 0 && i < im->zeroes_count; i++) {
    const struct disk_zeroes *z = &im->zeroes[i];

    for (uint32_t k = 0; rc == 0 && k < from_le32 (z->blocks); k++) {
      const struct disk_record r = {
        .block = to_le64 (from_le64 (z->block) + k),
        .volume = z->volume,
        .epoch = z->epoch,
      };

      rc = file_exception (im, &r, 0, false);
    }
  }
  return rc;
}

/* ------------------------------------------------------------------ unused */

int
verify_unused (struct image *im)
{
  const uint64_t lap = cow_journal_lap (im->journal);
  const uint64_t here = COW_JOURNAL_OFFSET + lap % 2 * im->area_bytes;
  const uint64_t other = COW_JOURNAL_OFFSET + (1 - lap % 2) * im->area_bytes;
  const uint64_t end = cow_journal_end (im->journal);
  int rc;

  if (!im->clean)
    return 0;
  rc = unused_bytes (im, "the journal's other area", other, im->area_bytes);
  if (rc == 0)
    rc = unused_bytes (im, "the rest of the journal's area", end,
                       here + im->area_bytes - end);
  for (uint32_t n = 0, to; rc == 0 && n < im->segments; n = to) {
    for (to = n; to < im->segments && im->segment[to].use == USE_NONE; to++)
      ;
    if (to > n)
      rc = unused_bytes (im, "free segments", image_segment_offset (im, n),
                         (uint64_t) (to - n) * im->segment_bytes);
    else
      to++;
  }
  return rc;
}
