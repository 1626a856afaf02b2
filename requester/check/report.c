/* report.c - findings, and telling them.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "check.h"

static const char *const level_names[] = { "note", "warning", "damage" };

struct finding *
report_add (struct report *r, enum level level, const char *code,
            uint64_t offset, const char *fmt, ...)
{
  struct finding *f;
  va_list ap;

  r->count[level]++;
  if (r->kept == FINDINGS_KEPT)
    return NULL;
  if (r->finding == NULL)
    r->finding = calloc (FINDINGS_KEPT, sizeof *r->finding);
  if (r->finding == NULL) {
    r->out_of_memory = true;
    return NULL;
  }
  f = &r->finding[r->kept];
  f->level = level;
  f->code = code;
  f->offset = offset;
  va_start (ap, fmt);
  if (vasprintf (&f->text, fmt, ap) < 0) {
    f->text = NULL;
    r->out_of_memory = true;
  }
  va_end (ap);
  r->kept++;
  return f;
}

void
report_repaired (struct report *r, struct finding *f)
{
  f->repaired = true;
  r->repaired[f->level]++;
}

void
report_clear (struct report *r)
{
  for (size_t i = 0; i < r->kept; i++)
    free (r->finding[i].text);
  free (r->finding);
  memset (r, 0, sizeof *r);
}

int
report_status (const struct report *r)
{
  if (r->count[LEVEL_DAMAGE] > r->repaired[LEVEL_DAMAGE])
    return STATUS_DAMAGED;
  if (r->out_of_memory)
    return STATUS_UNKNOWN;
  return r->count[LEVEL_WARNING] > r->repaired[LEVEL_WARNING]
             || r->count[LEVEL_DAMAGE] > 0
           ? STATUS_WARNING
           : STATUS_CLEAN;
}

const char *
end_text (uint32_t end)
{
  static const char *const texts[] = {
    "alive",
    "deleted",
    "lost: the store was full",
    "lost: the store failed",
    "lost: the store did not answer in time",
    "lost: the old data could not be read",
    "lost: the origin was changed behind the store's back",
  };

  return end < COW_ARRAY_SIZE (texts) ? texts[end]
                                      : "lost: for a reason unknown here";
}

void
print_text (const struct image *im, FILE *to)
{
  const struct report *r = im->report;
  uint64_t all = 0;

  for (size_t i = 0; i < r->kept; i++) {
    const struct finding *f = &r->finding[i];

    fprintf (to, "%s: %s", level_names[f->level],
             f->text ? f->text : "(out of memory)");
    if (f->offset != NOWHERE)
      fprintf (to, " (at %" PRIu64 ")", f->offset);
    fprintf (to, "%s\n", f->repaired ? ": repaired" : "");
  }
  for (unsigned i = 0; i <= LEVEL_DAMAGE; i++)
    all += r->count[i];
  if (all > r->kept)
    fprintf (to, "and %" PRIu64 " more findings\n", all - r->kept);
  if (im->has_journal)
    fprintf (to,
             "%s: %zu sets, %zu volumes, %" PRIu64 " blocks of %" PRIu32
             " bytes needed (%" PRIu64 " of them zeroes), %" PRIu64
             " not needed, in %" PRIu32 " segments\n",
             im->directory, im->sets_shown, im->volume_count,
             im->needed_blocks, im->block_bytes, im->zero_blocks,
             im->garbage_blocks, im->segments_known);
}

/* A JSON string.  Everything here is UTF-8 or bytes of a damaged store. */
static void
json_string (FILE *to, const char *s)
{
  fputc ('"', to);
  for (; *s; s++) {
    const unsigned char c = (unsigned char) *s;

    if (c == '"' || c == '\\')
      fprintf (to, "\\%c", c);
    else if (c < 0x20 || c >= 0x7f)
      fprintf (to, "\\u%04x", c);
    else
      fputc (c, to);
  }
  fputc ('"', to);
}

static void
json_findings (const struct report *r, FILE *to)
{
  fputs ("  \"findings\": [", to);
  for (size_t i = 0; i < r->kept; i++) {
    const struct finding *f = &r->finding[i];

    fprintf (to, "%s\n    { \"level\": \"%s\", \"code\": \"%s\", ",
             i > 0 ? "," : "", level_names[f->level], f->code);
    if (f->offset != NOWHERE)
      fprintf (to, "\"offset\": %" PRIu64 ", ", f->offset);
    fprintf (to, "\"repaired\": %s, \"text\": ",
             f->repaired ? "true" : "false");
    json_string (to, f->text ? f->text : "");
    fputs (" }", to);
  }
  fprintf (to, "%s]\n", r->kept > 0 ? "\n  " : "");
}

void
print_json (const struct image *im, int status, FILE *to)
{
  static const char *const words[] = { "clean", "warning", "usage", "unknown",
                                       "damaged" };
  const struct report *r = im->report;
  char id[COW_ID_TEXT_SIZE];

  cow_id_format (&im->id, id);
  fputs ("{\n  \"store\": ", to);
  json_string (to, im->directory);
  fprintf (to,
           ",\n  \"status\": \"%s\",\n  \"id\": \"%s\",\n"
           "  \"closed_in_order\": %s,\n"
           "  \"sets\": %zu,\n  \"volumes\": %zu,\n"
           "  \"block_bytes\": %" PRIu32 ",\n"
           "  \"needed_blocks\": %" PRIu64 ",\n"
           "  \"zero_blocks\": %" PRIu64 ",\n"
           "  \"garbage_blocks\": %" PRIu64 ",\n"
           "  \"damaged_blocks\": %" PRIu64 ",\n"
           "  \"segments\": %" PRIu32 ",\n"
           "  \"idle_segments\": %" PRIu32 ",\n"
           "  \"damage\": %" PRIu64 ",\n  \"warnings\": %" PRIu64 ",\n",
           words[status], id, im->clean ? "true" : "false", im->sets_shown,
           im->volume_count, im->block_bytes, im->needed_blocks,
           im->zero_blocks, im->garbage_blocks, im->damaged_blocks,
           im->segments_known, im->segments_idle, r->count[LEVEL_DAMAGE],
           r->count[LEVEL_WARNING]);
  json_findings (r, to);
  fputs ("}\n", to);
}
