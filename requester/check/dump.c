/* dump.c - a store, for people.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "check.h"

static void
print_time (uint64_t ns, FILE *to)
{
  const time_t s = (time_t) (ns / 1000000000);
  struct tm tm;
  char text[32] = "?";

  if (gmtime_r (&s, &tm))
    strftime (text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm);
  fputs (text, to);
}

/* Bytes of a user's, so that a terminal is safe from them. */
static void
print_bytes (const uint8_t *s, size_t n, FILE *to)
{
  for (size_t i = 0; i < n && s[i] != 0; i++)
    fputc (s[i] >= 0x20 && s[i] < 0x7f ? s[i] : '?', to);
}

static void
print_volumes (const struct image *im, FILE *to)
{
  for (size_t i = 0; i < im->volume_count; i++) {
    const struct disk_volume *v = &im->volume[i];
    uint64_t blocks = 0;

    for (size_t k = 0; k < im->exception_count; k++)
      blocks += im->exception[k].volume == from_le32 (v->number);
    fprintf (to, "volume %" PRIu32 " ", from_le32 (v->number));
    print_bytes (v->name, sizeof v->name, to);
    fprintf (to,
             ": %" PRIu64 " bytes, epoch %" PRIu32 ", %" PRIu64
             " blocks of old data, device %" PRIu64 " inode %" PRIu64 "%s%s\n",
             from_le64 (v->size), from_le32 (v->epoch), blocks,
             from_le64 (v->device), from_le64 (v->inode),
             from_le32 (v->flags) & COW_DISK_VOLUME_MARKED ? ", marked" : "",
             from_le32 (v->flags) & COW_DISK_VOLUME_STOPPED
               ? ", stopped in order"
               : "");
  }
}

static void
print_sets (const struct image *im, FILE *to)
{
  for (size_t i = 0; i < im->set_count; i++) {
    const struct set *s = &im->set[i];
    char id[COW_ID_TEXT_SIZE], name[NAME_BYTES + 1];
    struct cow_id set_id;

    memcpy (set_id.b, s->head.id, sizeof set_id.b);
    cow_id_format (&set_id, id);
    fprintf (to, "set %" PRIu64 " %s ", from_le64 (s->head.number), id);
    print_bytes (s->head.label, sizeof s->head.label, to);
    fputs (", made ", to);
    print_time (from_le64 (s->head.created), to);
    fprintf (to, ", attributes %#" PRIx32 "%s\n",
             from_le32 (s->head.attributes),
             from_le32 (s->head.state) == COW_DISK_SET_PREPARED
               ? ", prepared and not decided"
               : "");
    for (uint32_t m = 0; m < from_le32 (s->head.members); m++) {
      const struct member *member = &s->member[m];

      cow_id_format (&member->snapshot, id);
      fprintf (to, "  snapshot %s of %s, epoch %" PRIu32 ", %s\n", id,
               image_volume_name (im, member->volume, name), member->epoch,
               end_text (member->end));
    }
  }
}

static void
print_segments (const struct image *im, FILE *to)
{
  for (uint32_t n = 0; n < im->segments; n++)
    if (im->segment[n].use != USE_NONE)
      fprintf (to, "segment %" PRIu32 " at %" PRIu64 ": generation %" PRIu32
                   ", %s\n",
               n, image_segment_offset (im, n), im->segment[n].generation,
               im->segment[n].use == USE_FULL ? "complete" : "not full");
}

void
print_dump (const struct image *im, FILE *to)
{
  static const char *const names[] = {
    "", "exceptions", "zeroes", "segments", "freed", "set", "end", "volume",
    "counters", "note", "moved",
  };
  char id[COW_ID_TEXT_SIZE];

  cow_id_format (&im->id, id);
  fprintf (to, "store %s, made ", id);
  print_time (from_le64 (im->super.created), to);
  fprintf (to,
           "\nblocks of %" PRIu32 " bytes, %" PRIu32 " in a segment of %" PRIu64
           "; journal of 2 x %" PRIu64 " bytes; %" PRIu64 " bytes in all\n",
           im->block_bytes, im->capacity, im->segment_bytes, im->area_bytes,
           im->file_bytes);
  if (!im->has_journal)
    return;
  fprintf (to, "journal: lap %" PRIu64 ", ends with record %" PRIu64
               " at %" PRIu64 ", %s;",
           cow_journal_lap (im->journal), cow_journal_sequence (im->journal),
           cow_journal_end (im->journal),
           im->clean ? "closed in order" : "not closed in order");
  for (unsigned i = 1; i <= COW_ENTRY_MOVED; i++)
    if (im->entries[i] > 0)
      fprintf (to, " %" PRIu64 " %s", im->entries[i], names[i]);
  fputc ('\n', to);
  print_volumes (im, to);
  print_sets (im, to);
  print_segments (im, to);
}
