/* replay.c - records back in: which lap holds, and which of its records.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * ../store/FORMAT.md, "How to read", 2 to 5.  Nothing is written, so a crash
 * here changes nothing, and doing it again gives the same.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/mutant.h"
#include "base/checksum.h"
#include "base/cleanup.h"
#include "journal/journal-priv.h"

#define READ_BYTES (4u << 20)
#define HEAD sizeof (struct disk_journal_record)

/* A segment's use that ends within the records that may be torn. */
struct freed {
  uint32_t segment, generation;
  uint64_t sequence;            /* of the record that says so */
};

struct replay {
  struct cow_journal *j;
  const struct cow_replay *users;
  struct cow_error *err;

  uint8_t *data;                /* of one area */
  uint64_t lap_gone_on;         /* the highest with a record that is no part
                                 * of its checkpoint */
  /* Of the lap that was taken. */
  uint64_t position;            /* where the record after the last begins */
  uint64_t last;                /* COW_MUTANT: where the last record begins */
  uint64_t attested;            /* so far everything was durable for certain */

  struct freed *freed;
  size_t freed_count, freed_room;
};

size_t
cow_journal_recognise (const struct cow_id *store, const void *data,
                       size_t room, uint64_t offset)
{
  const struct disk_journal_record *r = data;
  size_t length, used;

  if (room < COW_JOURNAL_PAGE
      || memcmp (r->magic, COW_JOURNAL_MAGIC, sizeof r->magic) != 0)
    return 0;
  length = from_le32 (r->length);
  used = from_le32 (r->used);
  if (length == 0 || length % COW_JOURNAL_PAGE != 0 || length > room
      || used > length - HEAD
      || from_le64 (r->attested) >= from_le64 (r->sequence)
      || (!COW_MUTANT (torn_record)
          && from_le64 (r->checksum)
               != cow_checksum ((const uint8_t *) data + 16, length - 16,
                                cow_seed (store, offset,
                                          from_le64 (r->lap)))))
    return 0;
  return length;
}

size_t
cow_journal_decode (const struct cow_id *store, const void *data, size_t room,
                    uint64_t offset, uint64_t lap, uint64_t sequence)
{
  const struct disk_journal_record *r = data;

  if (room < COW_JOURNAL_PAGE
      || (!COW_MUTANT (any_generation)
          && (from_le64 (r->lap) != lap
              || from_le64 (r->sequence) != sequence)))
    return 0;
  return cow_journal_recognise (store, data, room, offset);
}

static const struct disk_journal_record *
record_at (const struct replay *p, uint64_t position)
{
  return (const void *) (p->data + position);
}

/* The valid record of this lap and sequence there, or NULL. */
static const struct disk_journal_record *
decode (const struct replay *p, uint64_t lap, uint64_t sequence,
        uint64_t position)
{
  const struct cow_journal *j = p->j;

  if (cow_journal_decode (&j->options.store, p->data + position,
                          j->options.area_bytes - position,
                          area_begin (j, lap) + position, lap, sequence)
      == 0)
    return NULL;
  return record_at (p, position);
}

static int
read_area (struct replay *p, uint64_t lap)
{
  const struct cow_journal *j = p->j;
  const uint64_t begin = area_begin (j, lap);

  for (uint64_t at = 0; at < j->options.area_bytes; at += READ_BYTES) {
    const uint64_t len =
      COW_MIN ((uint64_t) READ_BYTES, j->options.area_bytes - at);
    const int rc =
      cow_file_pread (j->options.file, p->data + at, len, begin + at);

    if (rc < 0)
      return cow_error_set (p->err, rc, "journal: reading at %" PRIu64 ": %s",
                            begin + at, strerror (-rc));
  }
  return 0;
}

/* Which laps have left records in the area that is in memory (any of them
 * might be mistaken for one of a lap of that number to come), and where its
 * bytes end.
 */
static void
survey (struct replay *p, unsigned area)
{
  struct cow_journal *j = p->j;
  const uint64_t area_bytes = j->options.area_bytes;
  static const uint8_t zero[COW_JOURNAL_PAGE];
  size_t length;

  for (uint64_t at = 0; at < area_bytes; at += length) {
    const struct disk_journal_record *r = record_at (p, at);

    length = cow_journal_recognise (&j->options.store, r, area_bytes - at,
                                    area_begin (j, area) + at);
    if (length > 0) {
      j->lap_begun = COW_MAX (j->lap_begun, from_le64 (r->lap));
      if (!(from_le32 (r->flags) & COW_JOURNAL_CHECKPOINT))
        p->lap_gone_on = COW_MAX (p->lap_gone_on, from_le64 (r->lap));
    } else {
      length = COW_JOURNAL_PAGE;
    }
    if (memcmp (r, zero, sizeof zero) != 0)
      j->dirty_end[area] = at + length;
  }
}

/* Does a complete checkpoint stand at the beginning of the area in memory?
 * Its lap, or 0; where it ends, and the sequence of what follows it.
 */
static uint64_t
find_checkpoint (const struct replay *p, unsigned area, uint64_t *position,
                 uint64_t *sequence)
{
  const struct disk_journal_record *r = record_at (p, 0);
  const uint64_t lap = from_le64 (r->lap);

  *position = 0;
  *sequence = from_le64 (r->sequence);
  if (lap % 2 != area || lap == 0)
    return 0;
  while (*position < p->j->options.area_bytes) {
    uint32_t flags;

    r = decode (p, lap, *sequence, *position);
    if (r == NULL)
      return 0;
    flags = from_le32 (r->flags);
    if (!(flags & COW_JOURNAL_CHECKPOINT))
      return 0;
    *position += from_le32 (r->length);
    ++*sequence;
    if (flags & COW_JOURNAL_CHECKPOINT_END)
      return lap;
  }
  return 0;
}

/* Step 2: the complete checkpoint with the higher lap; its area is in memory
 * afterwards.
 */
static int
choose_lap (struct replay *p)
{
  struct cow_journal *j = p->j;

  for (unsigned area = 0; area < 2; area++) {
    uint64_t lap, position, next;
    int rc = read_area (p, area);

    if (rc < 0)
      return rc;
    survey (p, area);
    lap = find_checkpoint (p, area, &position, &next);
    if (lap > j->lap) {
      j->lap = lap;
      j->sequence = p->attested = next - 1;
      p->position = position;
    }
  }
  if (j->lap == 0)
    return cow_error_set (p->err, -EUCLEAN,
                          "journal: neither area has a complete checkpoint");
  if (p->lap_gone_on > j->lap)
    return cow_error_set (p->err, -EUCLEAN,
                          "journal: the checkpoint of lap %" PRIu64 " at "
                          "%" PRIu64 " is damaged, and records follow it",
                          p->lap_gone_on, area_begin (j, p->lap_gone_on));
  return j->lap % 2 == 1 ? 0 : read_area (p, j->lap);
}

static bool
ends_in_moved (const struct disk_journal_record *r)
{
  unsigned type = 0, flags;
  const void *body;
  size_t at = 0, bytes;

  while (cow_journal_next_entry (r, &at, &type, &flags, &body, &bytes))
    ;
  return type == COW_ENTRY_MOVED;
}

/* Step 3: records follow each other up to the first that is not valid. */
static int
find_end (struct replay *p)
{
  struct cow_journal *j = p->j;
  const struct disk_journal_record *r;

  while (p->position < j->options.area_bytes
         && (r = decode (p, j->lap, j->sequence + 1, p->position)) != NULL) {
    j->sequence++;
    p->attested = COW_MAX (p->attested, from_le64 (r->attested));
    if (ends_in_moved (r))
      return cow_error_set (p->err, -EUCLEAN,
                            "journal: record %" PRIu64 " says that it goes on "
                            "in the other area, but the checkpoint there is "
                            "damaged",
                            j->sequence);
    if (COW_MUTANT (one_record_short))
      p->last = p->position;
    p->position += from_le32 (r->length);
  }
  return 0;
}

/* Step 4: what do records say that stand beyond the last, after others that
 * never came to be complete?
 */
static int
look_beyond (struct replay *p)
{
  struct cow_journal *j = p->j;
  const uint64_t area_bytes = j->options.area_bytes;
  size_t length;

  for (uint64_t at = p->position; at < area_bytes; at += length) {
    const struct disk_journal_record *r = record_at (p, at);

    length = cow_journal_recognise (&j->options.store, r, area_bytes - at,
                                    area_begin (j, j->lap) + at);
    if (length == 0) {
      length = COW_JOURNAL_PAGE;
      continue;
    }
    if (from_le64 (r->lap) != j->lap)
      continue;
    j->torn = true;
    p->attested = COW_MAX (p->attested, from_le64 (r->attested));
    if (p->attested > j->sequence)
      return cow_error_set (
        p->err, -EUCLEAN,
        "journal: record %" PRIu64 " at %" PRIu64 " is damaged, and record "
        "%" PRIu64 " says that it was complete",
        j->sequence + 1, area_begin (j, j->lap) + p->position,
        from_le64 (r->sequence));
  }
  return 0;
}

static int
malformed (const struct replay *p, const struct disk_journal_record *r)
{
  return cow_error_set (p->err, -EUCLEAN,
                        "journal: record %" PRIu64 " has a malformed entry",
                        from_le64 (r->sequence));
}

/* An entry of a valid record: 1, 0 at the end of the record, or -errno. */
static int
next_entry (const struct replay *p, const struct disk_journal_record *r,
            size_t *at, unsigned *type, unsigned *flags, const void **body,
            size_t *bytes)
{
  while (cow_journal_next_entry (r, at, type, flags, body, bytes)) {
    if (*type >= COW_ENTRY_EXCEPTIONS && *type <= COW_ENTRY_MOVED)
      return cow_journal_entry_fits (*type, *body, *bytes)
               ? 1
               : malformed (p, r);
    if (*body == NULL)
      return malformed (p, r);
    if (*flags & COW_ENTRY_MUST_KNOW)
      return cow_error_set (p->err, -EPROTONOSUPPORT,
                            "journal: record %" PRIu64 " has an entry of type "
                            "%u, which only a newer version knows",
                            from_le64 (r->sequence), *type);
  }
  return 0;
}

static int
note_freed (struct replay *p, const struct disk_list *list, uint64_t sequence)
{
  const struct disk_segment_ref *refs = (const void *) (list + 1);
  const size_t count = from_le32 (list->count);

  if (p->freed_count + count > p->freed_room) {
    const size_t room = 2 * (p->freed_count + count);
    struct freed *freed = realloc (p->freed, room * sizeof *freed);

    if (freed == NULL)
      return -ENOMEM;
    p->freed = freed;
    p->freed_room = room;
  }
  for (size_t i = 0; i < count; i++)
    p->freed[p->freed_count++] = (struct freed) {
      .segment = from_le32 (refs[i].segment),
      .generation = from_le32 (refs[i].generation),
      .sequence = sequence,
    };
  return 0;
}

/* Gather what records after `attested` have freed. */
static int
find_freed (struct replay *p, uint64_t position)
{
  const struct disk_journal_record *r;

  for (; position < p->position; position += from_le32 (r->length)) {
    unsigned type, flags;
    const void *body;
    size_t at = 0, bytes;
    int rc;

    r = record_at (p, position);
    while ((rc = next_entry (p, r, &at, &type, &flags, &body, &bytes)) > 0)
      if (type == COW_ENTRY_FREED
          && (rc = note_freed (p, body, from_le64 (r->sequence))) < 0)
        break;
    if (rc < 0)
      return rc;
  }
  return 0;
}

/* Does a record up to `last` say that this use of the segment is over? */
static bool
is_freed (const struct replay *p, const struct disk_exceptions *e,
          uint64_t last)
{
  for (size_t i = 0; i < p->freed_count; i++)
    if (p->freed[i].segment == from_le32 (e->segment)
        && p->freed[i].generation == from_le32 (e->generation)
        && p->freed[i].sequence <= last)
      return true;
  return false;
}

/* Are all blocks of a record there?  1, 0, or -errno. */
static int
verify_record (const struct replay *p, const struct disk_journal_record *r)
{
  unsigned type, flags;
  const void *body;
  size_t at = 0, bytes;
  int rc;

  while ((rc = next_entry (p, r, &at, &type, &flags, &body, &bytes)) > 0) {
    /* What was freed may be overwritten already. */
    if (type != COW_ENTRY_EXCEPTIONS || is_freed (p, body, p->j->sequence))
      continue;
    rc = p->users->verify (p->users->opaque, body, bytes);
    if (rc == -EUCLEAN)
      return 0;
    if (rc < 0)
      return rc;
  }
  return rc < 0 ? rc : 1;
}

/* Step 5: of the records that are not attested, those before the first whose
 * blocks are not all there.  When a record is dropped that frees segments,
 * those before it need their blocks after all, so it begins anew.
 */
static int
drop_torn (struct replay *p)
{
  struct cow_journal *j = p->j;
  uint64_t first = 0, position;
  int rc;

  while (first < p->position
         && from_le64 (record_at (p, first)->sequence) <= p->attested)
    first += from_le32 (record_at (p, first)->length);
  rc = find_freed (p, first);
  for (position = first; rc >= 0 && position < p->position;) {
    const struct disk_journal_record *r = record_at (p, position);

    rc = verify_record (p, r);
    if (rc > 0) {
      position += from_le32 (r->length);
    } else if (rc == 0) {
      j->sequence = from_le64 (r->sequence) - 1;
      p->position = position;
      j->torn = true;
      position = first;
    }
  }
  return rc < 0 ? rc : 0;
}

static int
apply (const struct replay *p)
{
  const struct disk_journal_record *r;

  for (uint64_t position = 0; position < p->position;
       position += from_le32 (r->length)) {
    unsigned type, flags;
    const void *body;
    size_t at = 0, bytes;
    int rc;

    r = record_at (p, position);
    while ((rc = next_entry (p, r, &at, &type, &flags, &body, &bytes)) > 0) {
      rc = p->users->entry (p->users->opaque, from_le64 (r->sequence), type,
                            flags, body, bytes, p->err);
      if (rc < 0)
        break;
    }
    if (rc < 0)
      return rc;
  }
  return 0;
}

int
cow_journal_open (const struct cow_journal_options *options,
                  const struct cow_replay *replay, struct cow_error *err,
                  struct cow_journal **out)
{
  struct replay p = { .users = replay, .err = err };
  int rc = cow_journal_new (options, &p.j);

  if (rc < 0)
    return rc;
  p.data = aligned_alloc (COW_JOURNAL_PAGE, options->area_bytes);
  rc = p.data ? choose_lap (&p) : -ENOMEM;
  if (rc == 0)
    rc = find_end (&p);
  if (rc == 0)
    rc = look_beyond (&p);
  if (rc == 0)
    rc = drop_torn (&p);
  if (COW_MUTANT (one_record_short) && p.last > 0)
    p.position = p.last;
  if (rc == 0)
    rc = apply (&p);
  free (p.freed);
  free (p.data);
  if (rc < 0) {
    cow_journal_free (p.j);
    return cow_error_set (err, rc, "journal: %s", strerror (-rc));
  }
  p.j->durable = p.j->sequence;
  p.j->position = p.position;
  *out = p.j;
  return 0;
}
