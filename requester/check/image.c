/* image.c - what a store says, from its file.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Steps 1 to 7 of "How to read" in cow-core/store/FORMAT.md.  The journal is
 * read by cow-core itself, so that a store is judged by the rules by which it is
 * served.
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checksum.h"
#include "base/cleanup.h"
#include "check.h"

bool
is_zero (const void *data, size_t bytes)
{
  const uint8_t *p = data;

  return bytes == 0 || (p[0] == 0 && memcmp (p, p + 1, bytes - 1) == 0);
}

void *
image_grow (void **array, size_t *count, size_t *room, size_t size)
{
  if (*count == *room) {
    const size_t more = COW_MAX (2 * *room, (size_t) 64);
    void *p = realloc (*array, more * size);

    if (p == NULL)
      return NULL;
    *array = p;
    *room = more;
  }
  return (char *) *array + size * (*count)++;
}

const struct disk_volume *
image_volume (const struct image *im, uint32_t number)
{
  for (size_t i = 0; i < im->volume_count; i++)
    if (from_le32 (im->volume[i].number) == number)
      return &im->volume[i];
  return NULL;
}

const char *
image_volume_name (const struct image *im, uint32_t number,
                   char text[NAME_BYTES + 1])
{
  const struct disk_volume *v = image_volume (im, number);

  if (v == NULL)
    snprintf (text, NAME_BYTES + 1, "number %" PRIu32, number);
  else
    snprintf (text, NAME_BYTES + 1, "%.*s",
              (int) from_le32 (v->name_length), (const char *) v->name);
  return text;
}

/* -------------------------------------------------------------- superblock */

static bool
is_superblock (const struct disk_superblock *b)
{
  return memcmp (b->magic, COW_STORE_MAGIC, sizeof b->magic) == 0
         && from_le64 (b->checksum)
              == cow_checksum ((const uint8_t *) b + 16, sizeof *b - 16, 0);
}

/* Valid, of a version that is known, and with numbers that agree. */
static int
take_superblock (struct image *im, const struct disk_superblock *b,
                 struct cow_error *err)
{
  const uint32_t block = from_le32 (b->block_bytes);
  uint64_t capacity;

  if (from_le32 (b->version) != COW_STORE_VERSION
      || from_le64 (b->features_refuse) != 0)
    return cow_error_set (err, -EPROTONOSUPPORT,
                          "%s: is of a newer format (version %" PRIu32
                          ", features %#" PRIx64 "): use the cowset-check of "
                          "that version",
                          im->directory, from_le32 (b->version),
                          from_le64 (b->features_refuse));
  capacity = cow_is_power_of_2 (block) && block <= COW_SEGMENT_BYTES
               ? (COW_SEGMENT_BYTES - COW_SEGMENT_HEADER_BYTES) / block
               : 0;
  capacity = COW_MIN (capacity, (uint64_t) COW_SEGMENT_RECORDS);
  capacity = COW_MAX (capacity, (uint64_t) 1);
  if (!cow_is_power_of_2 (block) || block < 4096 || block > COW_SEGMENT_BYTES
      || from_le32 (b->capacity) != capacity
      || from_le32 (b->segment_bytes)
           != COW_SEGMENT_HEADER_BYTES + capacity * block
      || from_le64 (b->area_bytes) == 0
      || from_le64 (b->area_bytes) % COW_JOURNAL_PAGE != 0
      || from_le64 (b->area_bytes) > UINT64_C (1) << 40) {
    report_add (im->report, LEVEL_DAMAGE, "superblock", 0,
                "the numbers in the superblock do not agree");
    return -EUCLEAN;
  }
  im->super = *b;
  memcpy (im->id.b, b->store, sizeof im->id.b);
  im->block_bytes = block;
  im->capacity = (uint32_t) capacity;
  im->segment_bytes = from_le32 (b->segment_bytes);
  im->area_bytes = from_le64 (b->area_bytes);
  im->first_segment = COW_JOURNAL_OFFSET + 2 * im->area_bytes;
  return 0;
}

static int
read_superblock (struct image *im, struct cow_error *err)
{
  struct disk_superblock b[2];
  struct finding *f;
  int rc = cow_file_pread (im->file, b, sizeof b, 0);

  if (rc < 0)
    return rc;
  im->super_damaged = -1;
  for (int i = 0; i < 2; i++)
    if (!is_superblock (&b[i]))
      im->super_damaged = im->super_damaged < 0 ? i : 2;
  if (im->super_damaged == 2) {
    if (is_zero (b, sizeof b))
      return cow_error_set (err, -ENODATA,
                            "%s: " COW_STORE_FILE " has no superblock: the "
                            "store was never finished",
                            im->directory);
    if (memcmp (b[0].magic, COW_STORE_MAGIC, sizeof b[0].magic) != 0
        && memcmp (b[1].magic, COW_STORE_MAGIC, sizeof b[1].magic) != 0)
      return cow_error_set (err, -ENODATA,
                            "%s: " COW_STORE_FILE " is not a store of cowset",
                            im->directory);
    report_add (im->report, LEVEL_DAMAGE, "superblock", 0,
                "both superblocks are damaged");
    return -EUCLEAN;
  }
  rc = take_superblock (im, &b[im->super_damaged == 0], err);
  if (rc < 0)
    return rc;
  if (im->super_damaged < 0 && memcmp (&b[0], &b[1], sizeof b[0]) == 0)
    return 0;
  if (im->super_damaged < 0)
    im->super_damaged = 1;
  f = report_add (im->report, LEVEL_DAMAGE, "superblock",
                  (uint64_t) im->super_damaged * COW_STORE_PAGE,
                  "%s of the superblock is damaged; the other one is good",
                  im->super_damaged ? "the second copy" : "the first copy");
  return repair_superblock (im, f);
}

/* ----------------------------------------------------------------- journal */

static void
bad_entry (struct image *im, uint64_t sequence, const char *what,
           uint64_t number)
{
  report_add (im->report, LEVEL_DAMAGE, "entry", NOWHERE,
              "record %" PRIu64 " of the journal names %s %" PRIu64
              ", which is not there",
              sequence, what, number);
}

/* What is known of this use of a segment becomes so, unless it is older. */
static bool
know_segment (struct image *im, uint64_t sequence, uint32_t segment,
              uint32_t generation, enum use use)
{
  struct segment_use *s;

  if (segment >= im->segments) {
    bad_entry (im, sequence, "segment", segment);
    return false;
  }
  s = &im->segment[segment];
  if (s->use != USE_NONE && generation < s->generation)
    return false;
  if (generation > s->generation || s->use < use)
    *s = (struct segment_use) { use, generation };
  return true;
}

static int
read_exceptions (struct image *im, uint64_t sequence,
                 const struct disk_exceptions *e)
{
  const struct disk_exception *item = (const void *) (e + 1);
  const uint32_t segment = from_le32 (e->segment);
  const uint32_t generation = from_le32 (e->generation);

  if (!know_segment (im, sequence, segment, generation, USE_NAMED))
    return 0;
  for (uint32_t i = 0; i < from_le32 (e->count); i++) {
    struct named *n;

    if (from_le16 (item[i].position) >= im->capacity) {
      bad_entry (im, sequence, "position", from_le16 (item[i].position));
      continue;
    }
    n = image_grow ((void **) &im->named, &im->named_count, &im->named_room,
                    sizeof *n);
    if (n == NULL)
      return -ENOMEM;
    *n = (struct named) { segment, generation, item[i] };
  }
  return 0;
}

static void
read_segments (struct image *im, uint64_t sequence, unsigned type,
               const struct disk_list *list)
{
  const struct disk_segment_ref *ref = (const void *) (list + 1);

  for (uint32_t i = 0; i < from_le32 (list->count); i++) {
    const uint32_t segment = from_le32 (ref[i].segment);
    const uint32_t generation = from_le32 (ref[i].generation);

    if (type == COW_ENTRY_SEGMENTS)
      know_segment (im, sequence, segment, generation, USE_FULL);
    else if (segment >= im->segments)
      bad_entry (im, sequence, "segment", segment);
    else if (im->segment[segment].generation == generation)
      im->segment[segment].use = USE_NONE;
  }
}

static int
read_zeroes (struct image *im, const struct disk_list *list)
{
  const struct disk_zeroes *z = (const void *) (list + 1);

  for (uint32_t i = 0; i < from_le32 (list->count); i++) {
    struct disk_zeroes *copy =
      image_grow ((void **) &im->zeroes, &im->zeroes_count,
                  &im->zeroes_room, sizeof *copy);

    if (copy == NULL)
      return -ENOMEM;
    *copy = z[i];
  }
  return 0;
}

static int
read_set (struct image *im, const struct disk_set *d)
{
  const struct disk_member *m = (const void *) (d + 1);
  struct set *s = NULL;

  for (size_t i = 0; i < im->set_count; i++)
    if (memcmp (im->set[i].head.id, d->id, sizeof d->id) == 0)
      s = &im->set[i];
  if (s == NULL)
    s = image_grow ((void **) &im->set, &im->set_count, &im->set_room,
                    sizeof *s);
  if (s == NULL)
    return -ENOMEM;
  s->head = *d;
  for (uint32_t i = 0; i < from_le32 (d->members); i++) {
    memcpy (s->member[i].snapshot.b, m[i].snapshot, sizeof m[i].snapshot);
    s->member[i].volume = from_le32 (m[i].volume);
    s->member[i].epoch = from_le32 (m[i].epoch);
    s->member[i].end = from_le32 (m[i].end);
  }
  return 0;
}

static void
read_ends (struct image *im, uint64_t sequence, const struct disk_list *list)
{
  const struct disk_end *end = (const void *) (list + 1);

  for (uint32_t i = 0; i < from_le32 (list->count); i++) {
    bool found = false;

    for (size_t k = 0; k < im->set_count; k++)
      for (uint32_t m = 0; m < from_le32 (im->set[k].head.members); m++)
        if (memcmp (im->set[k].member[m].snapshot.b, end[i].snapshot, 16)
            == 0) {
          im->set[k].member[m].end = from_le32 (end[i].end);
          found = true;
        }
    if (!found)
      report_add (im->report, LEVEL_DAMAGE, "entry", NOWHERE,
                  "record %" PRIu64 " of the journal ends a snapshot that is "
                  "not there",
                  sequence);
  }
}

static int
read_volume (struct image *im, const struct disk_volume *d)
{
  struct disk_volume *v =
    (struct disk_volume *) image_volume (im, from_le32 (d->number));

  if (v == NULL)
    v = image_grow ((void **) &im->volume, &im->volume_count,
                    &im->volume_room, sizeof *v);
  if (v == NULL)
    return -ENOMEM;
  *v = *d;
  return 0;
}

static void
read_counters (struct image *im, const struct disk_counters *c)
{
  im->last_set = COW_MAX (im->last_set, from_le64 (c->set_number));
  im->last_generation =
    COW_MAX (im->last_generation, from_le32 (c->generation));
}

static int
entry (void *opaque, uint64_t sequence, unsigned type, unsigned flags,
       const void *body, size_t body_bytes, struct cow_error *err)
{
  struct image *im = opaque;

  (void) flags;
  (void) body_bytes;
  (void) err;
  im->entries[type]++;
  switch (type) {
  case COW_ENTRY_EXCEPTIONS:
    return read_exceptions (im, sequence, body);
  case COW_ENTRY_ZEROES:
    return read_zeroes (im, body);
  case COW_ENTRY_SEGMENTS:
  case COW_ENTRY_FREED:
    read_segments (im, sequence, type, body);
    return 0;
  case COW_ENTRY_SET:
    return read_set (im, body);
  case COW_ENTRY_END:
    read_ends (im, sequence, body);
    return 0;
  case COW_ENTRY_VOLUME:
    return read_volume (im, body);
  case COW_ENTRY_COUNTERS:
    read_counters (im, body);
    return 0;
  default:
    return 0;
  }
}

/* Are the blocks of a record that nothing attests there? */
static int
verify (void *opaque, const void *body, size_t body_bytes)
{
  struct image *im = opaque;
  const struct disk_exceptions *e = body;
  const struct disk_exception *item = (const void *) (e + 1);
  const uint32_t segment = from_le32 (e->segment);
  CLEANUP_FREE uint8_t *block = malloc (im->block_bytes);

  (void) body_bytes;
  if (block == NULL)
    return -ENOMEM;
  for (uint32_t i = 0; i < from_le32 (e->count); i++) {
    const uint32_t position = from_le16 (item[i].position);
    const uint64_t place =
      ((uint64_t) segment + 1) * COW_SEGMENT_PLACES + position;
    int rc;

    if (segment >= im->segments || position >= im->capacity)
      return -EUCLEAN;
    rc = cow_file_pread (im->file, block, im->block_bytes,
                         image_segment_offset (im, segment)
                           + COW_SEGMENT_HEADER_BYTES
                           + (uint64_t) position * im->block_bytes);
    if (rc < 0)
      return rc;
    if (from_le64 (item[i].checksum)
        != cow_checksum (block, im->block_bytes,
                         cow_seed (&im->id, place,
                                   from_le32 (e->generation))))
      return -EUCLEAN;
  }
  return 0;
}

static int
read_journal (struct image *im, struct cow_error *err)
{
  const struct cow_journal_options options = {
    .file = im->file,
    .store = im->id,
    .first_area = COW_JOURNAL_OFFSET,
    .area_bytes = im->area_bytes,
  };
  const struct cow_replay replay = {
    .verify = verify, .entry = entry, .opaque = im,
  };
  struct cow_error why = COW_ERROR_INIT;
  int rc;

  if (im->file_bytes > im->first_segment)
    im->segments =
      (uint32_t) COW_MIN ((im->file_bytes - im->first_segment
                           + im->segment_bytes - 1) / im->segment_bytes,
                          (uint64_t) UINT32_MAX - 2);
  im->segment = calloc ((size_t) im->segments + 1, sizeof *im->segment);
  if (im->segment == NULL)
    return -ENOMEM;
  rc = cow_journal_open (&options, &replay, &why, &im->journal);
  if (rc == -EUCLEAN) {
    report_add (im->report, LEVEL_DAMAGE, "journal", NOWHERE, "%s", why.text);
    return rc;
  }
  if (rc < 0)
    return cow_error_set (err, rc, "%s: %s", im->directory, why.text);
  im->has_journal = true;
  return 0;
}

/* ------------------------------------------------------------------ opening */

static int
open_file (struct image *im, struct cow_error *err)
{
  char *path, *live;
  int rc;

  if (asprintf (&path, "%s/" COW_STORE_FILE, im->directory) < 0)
    return -ENOMEM;
  rc = cow_io_new (COW_IO_SYNC, err, &im->io);
  if (rc == 0)
    rc = cow_file_open (im->io, path, im->writable ? 0 : COW_OPEN_READONLY,
                        err, &im->file);
  free (path);
  if (rc < 0)
    return rc;
  if (asprintf (&live, "%s/" COW_STORE_LIVE, im->directory) < 0)
    return -ENOMEM;
  im->is_live = access (live, F_OK) == 0;
  free (live);
  im->file_bytes = im->file->info.size_bytes;
  rc = cow_file_lock (im->file, 0, 1, im->writable);
  if (rc == -EAGAIN)
    return cow_error_set (err, -EBUSY,
                          "%s: a server has it open: stop that first",
                          im->directory);
  return rc;
}

int
image_open (struct image *im, const char *directory, bool writable,
            struct report *report, struct cow_error *err)
{
  int rc;

  memset (im, 0, sizeof *im);
  im->directory = directory;
  im->writable = writable;
  im->report = report;
  rc = open_file (im, err);
  if (rc == 0)
    rc = read_superblock (im, err);
  if (rc == 0)
    rc = read_journal (im, err);
  if (rc < 0 && rc != -EUCLEAN)
    return cow_error_set (err, rc, "%s: %s", directory, strerror (-rc));
  return rc;
}

void
image_close (struct image *im)
{
  if (im->journal)
    cow_journal_free (im->journal);
  if (im->file)
    cow_file_close (im->file);
  if (im->io)
    cow_io_free (im->io);
  free (im->segment);
  free (im->named);
  free (im->zeroes);
  free (im->set);
  free (im->volume);
  free (im->exception);
}
