/* entries.c - entries in memory, and what they must look like.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads: none of its own; an object belongs to one thread at a time.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "journal/journal.h"

#define HEAD sizeof (struct disk_journal_record)
#define ROOM_MIN 16384u

void
cow_entries_clear (struct cow_entries *e)
{
  free (e->data);
  *e = (struct cow_entries) COW_ENTRIES_INIT;
}

int
cow_entries_reserve (struct cow_entries *e, size_t bytes)
{
  size_t room;
  uint8_t *data;

  if (e->used > COW_ENTRIES_MAX || bytes > COW_ENTRIES_MAX - e->used)
    return -ENOMEM;
  room = cow_round_up (HEAD + e->used + bytes, COW_JOURNAL_PAGE);
  if (room <= e->room)
    return 0;
  room = COW_MAX (room, 2 * e->room);
  room = COW_MAX (room, (size_t) ROOM_MIN);
  data = aligned_alloc (COW_JOURNAL_PAGE, room);
  if (data == NULL)
    return -ENOMEM;
  if (e->used > 0)
    memcpy (data + HEAD, e->data + HEAD, e->used);
  free (e->data);
  e->data = data;
  e->room = room;
  return 0;
}

void *
cow_entries_add (struct cow_entries *e, enum cow_entry_type type,
                 size_t body_bytes)
{
  size_t length;
  struct disk_entry *head;

  if (body_bytes > COW_ENTRIES_MAX)
    return NULL;
  length = sizeof *head + cow_round_up (body_bytes, 8);
  if (cow_entries_reserve (e, length) < 0)
    return NULL;
  head = (void *) (e->data + HEAD + e->used);
  memset (head, 0, length);
  head->type = to_le16 ((uint16_t) type);
  head->flags = to_le16 (COW_ENTRY_MUST_KNOW);
  head->length = to_le32 ((uint32_t) length);
  e->used += length;
  return head + 1;
}

bool
cow_journal_next_entry (const void *record, size_t *at, unsigned *type,
                        unsigned *flags, const void **body, size_t *body_bytes)
{
  const struct disk_journal_record *r = record;
  const struct disk_entry *head;
  const size_t left = from_le32 (r->used) - *at;

  assert (*at <= from_le32 (r->used));
  if (left == 0)
    return false;
  head = (const void *) ((const uint8_t *) record + HEAD + *at);
  *type = 0;
  *flags = COW_ENTRY_MUST_KNOW;
  *body = NULL;
  *body_bytes = 0;
  if (left < sizeof *head || from_le32 (head->length) < sizeof *head
      || from_le32 (head->length) % 8 != 0
      || from_le32 (head->length) > left) {
    *at += left;
    return true;
  }
  *type = from_le16 (head->type);
  *flags = from_le16 (head->flags);
  *body = head + 1;
  *body_bytes = from_le32 (head->length) - sizeof *head;
  *at += from_le32 (head->length);
  return true;
}

/* A head, then count items of so many bytes, and nothing else. */
static bool
has_items (const le32 *count, size_t head_bytes, size_t item_bytes,
           size_t body_bytes)
{
  return body_bytes >= head_bytes
         && body_bytes - head_bytes
              == (uint64_t) from_le32 (*count) * item_bytes;
}

static bool
is_set (const struct disk_set *s, size_t body_bytes)
{
  uint32_t members, annotation;

  if (body_bytes < sizeof *s)
    return false;
  members = from_le32 (s->members);
  annotation = from_le32 (s->annotation);
  return members >= 1 && members <= COW_DISK_SET_MEMBERS
         && body_bytes - sizeof *s
              == members * sizeof (struct disk_member)
                   + cow_round_up (annotation, 8);
}

bool
cow_journal_entry_fits (unsigned type, const void *body, size_t body_bytes)
{
  const struct disk_list *list = body;
  const struct disk_note *note = body;

  switch (type) {
  case COW_ENTRY_EXCEPTIONS: {
    const struct disk_exceptions *e = body;

    return body_bytes >= sizeof *e
           && has_items (&e->count, sizeof *e, sizeof (struct disk_exception),
                         body_bytes);
  }
  case COW_ENTRY_ZEROES:
    return body_bytes >= sizeof *list
           && has_items (&list->count, sizeof *list,
                         sizeof (struct disk_zeroes), body_bytes);
  case COW_ENTRY_SEGMENTS:
  case COW_ENTRY_FREED:
    return body_bytes >= sizeof *list
           && has_items (&list->count, sizeof *list,
                         sizeof (struct disk_segment_ref), body_bytes);
  case COW_ENTRY_END:
    return body_bytes >= sizeof *list
           && has_items (&list->count, sizeof *list,
                         sizeof (struct disk_end), body_bytes);
  case COW_ENTRY_SET:
    return is_set (body, body_bytes);
  case COW_ENTRY_VOLUME: {
    const struct disk_volume *v = body;

    return body_bytes == sizeof *v
           && from_le32 (v->name_length) <= sizeof v->name;
  }
  case COW_ENTRY_COUNTERS:
    return body_bytes == sizeof (struct disk_counters);
  case COW_ENTRY_NOTE:
    return body_bytes >= sizeof *note
           && body_bytes - sizeof *note
                == cow_round_up (from_le32 (note->length), 8);
  case COW_ENTRY_MOVED:
    return body_bytes == sizeof (struct disk_moved);
  default:
    return false;
  }
}
