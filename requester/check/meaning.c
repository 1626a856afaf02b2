/* meaning.c - do the numbers in a store agree with each other?
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "check.h"

/* ------------------------------------------------------------ sets, volumes */

static void
verify_volumes (struct image *im)
{
  char name[NAME_BYTES + 1], other[NAME_BYTES + 1];

  for (size_t i = 0; i < im->volume_count; i++) {
    const struct disk_volume *v = &im->volume[i];

    image_volume_name (im, from_le32 (v->number), name);
    if (from_le32 (v->name_length) == 0
        || !is_zero (v->name + from_le32 (v->name_length),
                     sizeof v->name - from_le32 (v->name_length)))
      report_add (im->report, LEVEL_DAMAGE, "volume", NOWHERE,
                  "volume %" PRIu32 " has no proper name",
                  from_le32 (v->number));
    for (size_t k = 0; k < i; k++)
      if (strcmp (name, image_volume_name (
                          im, from_le32 (im->volume[k].number), other))
          == 0)
        report_add (im->report, LEVEL_DAMAGE, "volume", NOWHERE,
                    "two volumes are called %s", name);
  }
}

static void
verify_member (struct image *im, const struct set *s, const struct member *m)
{
  const struct disk_volume *v = image_volume (im, m->volume);
  char id[COW_ID_TEXT_SIZE];

  cow_id_format (&m->snapshot, id);
  if (v == NULL)
    report_add (im->report, LEVEL_DAMAGE, "set", NOWHERE,
                "snapshot %s is of volume %" PRIu32 ", which is not there", id,
                m->volume);
  else if (m->epoch == 0 || m->epoch > from_le32 (v->epoch))
    report_add (im->report,
                im->clean ? LEVEL_DAMAGE : LEVEL_NOTE, "set", NOWHERE,
                "snapshot %s is of epoch %" PRIu32 ", its volume's highest is "
                "%" PRIu32,
                id, m->epoch, from_le32 (v->epoch));
  if (m->end >= 2)
    report_add (im->report, LEVEL_NOTE, "lost", NOWHERE, "snapshot %s is %s",
                id, end_text (m->end));
  for (size_t i = 0; i < im->set_count; i++)
    for (uint32_t k = 0; k < from_le32 (im->set[i].head.members); k++) {
      const struct member *o = &im->set[i].member[k];

      if (o < m && cow_id_equal (&o->snapshot, &m->snapshot))
        report_add (im->report, LEVEL_DAMAGE, "set", NOWHERE,
                    "snapshot %s is there twice", id);
      if (&im->set[i] == s && o < m && o->volume == m->volume)
        report_add (im->report, LEVEL_DAMAGE, "set", NOWHERE,
                    "snapshot %s is not the only one of its volume in its set",
                    id);
    }
}

static void
verify_sets (struct image *im)
{
  for (size_t i = 0; i < im->set_count; i++) {
    const struct set *s = &im->set[i];
    const uint32_t state = from_le32 (s->head.state);
    bool gone = true;
    char id[COW_ID_TEXT_SIZE];
    struct cow_id set_id;

    memcpy (set_id.b, s->head.id, sizeof set_id.b);
    cow_id_format (&set_id, id);
    if (state != COW_DISK_SET_PREPARED && state != COW_DISK_SET_COMMITTED)
      report_add (im->report, LEVEL_DAMAGE, "set", NOWHERE,
                  "set %s is in state %" PRIu32 ", which does not exist", id,
                  state);
    if (im->clean
        && from_le64 (s->head.number) > im->last_set)
      report_add (im->report, LEVEL_DAMAGE, "set", NOWHERE,
                  "set %s has number %" PRIu64 ", the highest is %" PRIu64, id,
                  from_le64 (s->head.number),
                  im->last_set);
    for (uint32_t m = 0; m < from_le32 (s->head.members); m++) {
      gone = gone && s->member[m].end == 1;
      verify_member (im, s, &s->member[m]);
    }
    im->sets_shown += !gone;
  }
}

/* -------------------------------------------------------------- exceptions */

static int
compare_exceptions (const void *a, const void *b)
{
  const struct exception *x = a, *y = b;

  if (x->volume != y->volume)
    return x->volume < y->volume ? -1 : 1;
  if (x->block != y->block)
    return x->block < y->block ? -1 : 1;
  if (x->epoch != y->epoch)
    return x->epoch < y->epoch ? -1 : 1;
  return x->place < y->place ? -1 : x->place > y->place;
}

static int
read_place (const struct image *im, const struct exception *e, uint8_t *block)
{
  const uint64_t segment = e->place / COW_SEGMENT_PLACES - 1;

  if (e->place == 0) {
    memset (block, 0, im->block_bytes);
    return 0;
  }
  return cow_file_pread (im->file, block, im->block_bytes,
                         image_segment_offset (im, (uint32_t) segment)
                           + COW_SEGMENT_HEADER_BYTES
                           + e->place % COW_SEGMENT_PLACES * im->block_bytes);
}

/* One block of one epoch may be there more than once, if it is the same. */
static int
verify_same (struct image *im, const struct exception *a,
             const struct exception *b)
{
  CLEANUP_FREE uint8_t *data = malloc (2 * (size_t) im->block_bytes);
  char name[NAME_BYTES + 1];
  int rc;

  if (data == NULL)
    return -ENOMEM;
  rc = read_place (im, a, data);
  if (rc == 0)
    rc = read_place (im, b, data + im->block_bytes);
  if (rc == 0 && !a->damaged && !b->damaged
      && memcmp (data, data + im->block_bytes, im->block_bytes) != 0)
    report_add (im->report, LEVEL_DAMAGE, "twice", NOWHERE,
                "block %" PRIu64 " of %s in epoch %" PRIu32 " is there twice, "
                "and differs",
                a->block, image_volume_name (im, a->volume, name), a->epoch);
  return rc;
}

/* The live snapshots, in order of volume and epoch. */
struct lives {
  struct live {
    uint32_t volume, epoch;
  } *live;
  size_t count;
};

static int
compare_lives (const void *a, const void *b)
{
  const struct live *x = a, *y = b;

  if (x->volume != y->volume)
    return x->volume < y->volume ? -1 : 1;
  return x->epoch < y->epoch ? -1 : x->epoch > y->epoch;
}

static int
find_lives (const struct image *im, struct lives *l)
{
  l->live = calloc (im->set_count * COW_DISK_SET_MEMBERS + 1,
                    sizeof *l->live);
  if (l->live == NULL)
    return -ENOMEM;
  for (size_t i = 0; i < im->set_count; i++)
    for (uint32_t k = 0; k < from_le32 (im->set[i].head.members); k++) {
      const struct member *m = &im->set[i].member[k];

      if (m->end == 0)
        l->live[l->count++] = (struct live) { m->volume, m->epoch };
    }
  qsort (l->live, l->count, sizeof *l->live, compare_lives);
  return 0;
}

/* Is there a live snapshot of the volume with p < epoch <= e? */
static bool
is_needed (const struct lives *l, const struct exception *e, uint32_t p)
{
  const struct live after = { e->volume, p };
  size_t low = 0, high = l->count;

  while (low < high) {
    const size_t middle = low + (high - low) / 2;

    if (compare_lives (&l->live[middle], &after) <= 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low < l->count && l->live[low].volume == e->volume
         && l->live[low].epoch <= e->epoch;
}

static void
verify_exception (struct image *im, const struct exception *e, bool needed)
{
  const struct disk_volume *v = image_volume (im, e->volume);
  char name[NAME_BYTES + 1];
  const uint64_t offset =
    e->place == 0
      ? NOWHERE
      : image_segment_offset (
          im, (uint32_t) (e->place / COW_SEGMENT_PLACES - 1))
          + COW_SEGMENT_HEADER_BYTES
          + e->place % COW_SEGMENT_PLACES * im->block_bytes;

  image_volume_name (im, e->volume, name);
  if (v == NULL)
    report_add (im->report, LEVEL_DAMAGE, "exception", offset,
                "old data is of volume %" PRIu32 ", which is not there",
                e->volume);
  else if (e->block >= (from_le64 (v->size) + im->block_bytes - 1)
                         / im->block_bytes)
    report_add (im->report, needed ? LEVEL_DAMAGE : LEVEL_NOTE, "exception",
                offset, "block %" PRIu64 " of %s is beyond the volume's end",
                e->block, name);
  else if (im->clean && e->epoch > from_le32 (v->epoch))
    report_add (im->report, LEVEL_DAMAGE, "exception", offset,
                "block %" PRIu64 " of %s is of epoch %" PRIu32 ", the highest "
                "is %" PRIu32,
                e->block, name, e->epoch, from_le32 (v->epoch));
  if (!e->damaged)
    return;
  im->damaged_blocks++;
  report_add (im->report, LEVEL_DAMAGE, "block", offset,
              "block %" PRIu64 " of %s in epoch %" PRIu32 " is damaged; %s",
              e->block, name, e->epoch,
              needed ? "snapshots need it, and reading it there is an error"
                     : "no snapshot needs it");
}

/* Which segments hold something that is needed; by number. */
static int
verify_exceptions (struct image *im, const struct lives *lives, bool *in_use)
{
  const struct exception *before = NULL;

  if (im->exception_count > 0)
    qsort (im->exception, im->exception_count, sizeof *im->exception,
           compare_exceptions);
  for (size_t i = 0; i < im->exception_count; i++) {
    const struct exception *e = &im->exception[i];
    uint32_t p = 0;
    bool needed;

    if (before && before->volume == e->volume && before->block == e->block) {
      p = before->epoch;
      if (p == e->epoch) {
        const int rc = verify_same (im, before, e);

        if (rc < 0)
          return rc;
      }
    }
    needed = is_needed (lives, e, p);
    verify_exception (im, e, needed);
    if (needed) {
      im->needed_blocks++;
      im->zero_blocks += e->place == 0;
      if (e->place != 0)
        in_use[e->place / COW_SEGMENT_PLACES - 1] = true;
    } else {
      im->garbage_blocks++;
    }
    before = e;
  }
  return 0;
}

/* A store that was closed in order keeps no segment that nobody needs. */
static void
verify_space (struct image *im, const bool *in_use)
{
  for (uint32_t n = 0; n < im->segments; n++) {
    const struct segment_use *s = &im->segment[n];

    if (s->use == USE_NONE)
      continue;
    if (!in_use[n]) {
      im->segments_idle++;
      if (im->clean)
        report_add (im->report, LEVEL_WARNING, "idle",
                    image_segment_offset (im, n),
                    "segment %" PRIu32 " is kept, and nobody needs it", n);
    }
    if (im->clean && s->generation > im->last_generation)
      report_add (im->report, LEVEL_DAMAGE, "segment",
                  image_segment_offset (im, n),
                  "segment %" PRIu32 " is in generation %" PRIu32
                  ", the highest is %" PRIu32,
                  n, s->generation, im->last_generation);
  }
}

static int
compare_generations (const void *a, const void *b)
{
  const struct segment_use *x = *(const struct segment_use *const *) a;
  const struct segment_use *y = *(const struct segment_use *const *) b;

  return x->generation < y->generation ? -1 : x->generation > y->generation;
}

/* No generation is used twice. */
static int
verify_generations (struct image *im)
{
  CLEANUP_FREE const struct segment_use **known =
    calloc ((size_t) im->segments + 1, sizeof *known);
  size_t count = 0;

  if (known == NULL)
    return -ENOMEM;
  for (uint32_t n = 0; n < im->segments; n++)
    if (im->segment[n].use != USE_NONE)
      known[count++] = &im->segment[n];
  qsort (known, count, sizeof *known, compare_generations);
  for (size_t i = 1; i < count; i++)
    if (known[i]->generation == known[i - 1]->generation)
      report_add (im->report, LEVEL_DAMAGE, "segment", NOWHERE,
                  "segments %td and %td are both in generation %" PRIu32,
                  known[i - 1] - im->segment, known[i] - im->segment,
                  known[i]->generation);
  return 0;
}

int
verify_meaning (struct image *im)
{
  CLEANUP_FREE bool *in_use = calloc ((size_t) im->segments + 1, 1);
  struct lives lives = { .live = NULL };
  int rc;

  if (in_use == NULL)
    return -ENOMEM;
  if (im->entries[COW_ENTRY_COUNTERS] == 0)
    report_add (im->report, LEVEL_DAMAGE, "counters", NOWHERE,
                "the journal has no counters");
  verify_volumes (im);
  verify_sets (im);
  rc = find_lives (im, &lives);
  if (rc == 0)
    rc = verify_exceptions (im, &lives, in_use);
  free (lives.live);
  if (rc < 0)
    return rc;
  verify_space (im, in_use);
  return verify_generations (im);
}
