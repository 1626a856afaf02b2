/* test-records.c - sets, volumes and notes as the journal has them.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bits.h"
#include "set/records.h"

TestSuite (records, .timeout = 60);

/* The body of the only entry. */
static void *
body_of (struct cow_entries *e, size_t *bytes, enum cow_entry_type type)
{
  struct disk_entry *head
    = (void *) (e->data + sizeof (struct disk_journal_record));

  cr_assert_eq (from_le16 (head->type), type);
  cr_assert_eq (from_le32 (head->length), e->used);
  *bytes = from_le32 (head->length) - sizeof *head;
  return head + 1;
}

static struct cow_set_record
a_set (unsigned members, const char *label)
{
  struct cow_set_record r = {
    .number = 77, .created_wall_ns = UINT64_MAX - 1, .hold_ns = 3,
    .settle_ns = 4, .attributes = 0x80402, .prepared = members % 2,
    .members = members,
  };

  memset (r.id.b, 0xa5, sizeof r.id.b);
  memcpy (r.label, label, strlen (label) + 1);
  for (unsigned i = 0; i < members; i++) {
    r.member[i] = (struct cow_member_record) {
      .volume = i * 3, .epoch = i + 1, .end = i % 7, .exceptions = 1000 + i,
    };
    memset (r.member[i].snapshot.b, (int) i, 16);
  }
  return r;
}

static void
check_set (unsigned members, const char *label, size_t annotation)
{
  static char text[999];
  struct cow_entries e = COW_ENTRIES_INIT;
  struct cow_set_record r = a_set (members, label), back;
  size_t bytes;
  void *body;

  memset (text, 'n', sizeof text);
  r.annotation = text;
  r.annotation_bytes = annotation;
  cr_assert_eq (cow_record_add_set (&e, &r), 0);
  body = body_of (&e, &bytes, COW_ENTRY_SET);
  cr_assert_eq (cow_record_read_set (body, bytes, &back), 0);
  cr_assert_eq (back.annotation_bytes, annotation);
  if (annotation > 0)
    cr_assert_eq (memcmp (back.annotation, text, annotation), 0);
  cr_assert_str_eq (back.label, label);
  cr_assert (cow_id_equal (&back.id, &r.id));
  cr_assert_eq (back.number, r.number);
  cr_assert_eq (back.created_wall_ns, r.created_wall_ns);
  cr_assert_eq (back.hold_ns, 3);
  cr_assert_eq (back.settle_ns, 4);
  cr_assert_eq (back.attributes, r.attributes);
  cr_assert_eq (back.prepared, r.prepared);
  cr_assert_eq (back.members, members);
  cr_assert_eq (memcmp (back.member, r.member,
                        members * sizeof r.member[0]), 0);
  free (back.annotation);

  /* Cut off anywhere it is refused, never read beyond. */
  for (size_t n = 0; n + 8 <= bytes; n += 8) {
    void *part = malloc (n > 0 ? n : 1);

    memcpy (part, body, n);
    cr_assert_eq (cow_record_read_set (part, n, &back), -EUCLEAN);
    free (part);
  }
  cow_entries_clear (&e);
}

Test (records, a_set_reads_as_it_was_written)
{
  char label[COW_NAME_MAX + 1];

  check_set (1, "", 0);
  check_set (2, "nightly", 8);
  memset (label, 'l', COW_NAME_MAX);
  label[COW_NAME_MAX] = '\0';
  check_set (COW_SET_VOLUMES_MAX, label, 999);
}

Test (records, a_set_that_makes_no_sense_is_refused)
{
  struct cow_entries e = COW_ENTRIES_INIT;
  struct cow_set_record r = a_set (2, "x"), back;
  struct disk_member *m;
  struct disk_set *d;
  size_t bytes;

  cr_assert_eq (cow_record_add_set (&e, &r), 0);
  d = body_of (&e, &bytes, COW_ENTRY_SET);
  m = (void *) (d + 1);
  d->members = to_le32 (0);
  cr_assert_eq (cow_record_read_set (d, bytes, &back), -EUCLEAN);
  d->members = to_le32 (COW_SET_VOLUMES_MAX + 1);
  cr_assert_eq (cow_record_read_set (d, bytes, &back), -EUCLEAN);
  d->members = to_le32 (2);
  d->state = to_le32 (3);
  cr_assert_eq (cow_record_read_set (d, bytes, &back), -EUCLEAN);
  d->state = to_le32 (COW_DISK_SET_COMMITTED);
  d->annotation = to_le32 (UINT32_MAX);
  cr_assert_eq (cow_record_read_set (d, bytes, &back), -EUCLEAN);
  d->annotation = to_le32 (0);
  m->epoch = to_le32 (0);
  cr_assert_eq (cow_record_read_set (d, bytes, &back), -EUCLEAN);
  cow_entries_clear (&e);
}

Test (records, ends_read_as_they_were_written)
{
  struct cow_entries e = COW_ENTRIES_INIT;
  struct cow_end_record ends[3], back;
  struct disk_list *list;
  size_t bytes;

  for (unsigned i = 0; i < 3; i++) {
    memset (ends[i].snapshot.b, (int) i + 1, 16);
    ends[i].end = i;
  }
  cr_assert_eq (cow_record_add_ends (&e, ends, 3), 0);
  list = body_of (&e, &bytes, COW_ENTRY_END);
  for (unsigned i = 0; i < 3; i++) {
    cr_assert (cow_record_read_end (list, bytes, i, &back));
    cr_assert (cow_id_equal (&back.snapshot, &ends[i].snapshot));
    cr_assert_eq (back.end, i);
  }
  cr_assert_not (cow_record_read_end (list, bytes, 3, &back));
  /* A count that is too high finds nothing beyond the entry. */
  list->count = to_le32 (UINT32_MAX);
  cr_assert_not (cow_record_read_end (list, bytes, 3, &back));
  cr_assert_not (cow_record_read_end (list, 4, 0, &back));
  cow_entries_clear (&e);
}

Test (records, a_volume_reads_as_it_was_written)
{
  struct cow_entries e = COW_ENTRIES_INIT;
  struct cow_volume_record r = {
    .number = 9, .marked = true, .stopped = true, .epoch = 12,
    .identity = { .device = 1, .inode = 2, .size_bytes = 3,
                  .modified_ns = 4, .changed_ns = 5 },
    .name = "disk0",
  }, back;
  struct disk_volume *d;
  size_t bytes;

  cr_assert_eq (cow_record_add_volume (&e, &r), 0);
  d = body_of (&e, &bytes, COW_ENTRY_VOLUME);
  cr_assert_eq (cow_record_read_volume (d, bytes, &back), 0);
  cr_assert_eq (back.number, 9);
  cr_assert (back.marked && back.stopped);
  cr_assert_eq (back.epoch, 12);
  cr_assert_eq (memcmp (&back.identity, &r.identity, sizeof r.identity), 0);
  cr_assert_str_eq (back.name, "disk0");
  d->name_length = to_le32 (3);
  cr_assert_eq (cow_record_read_volume (d, bytes, &back), -EUCLEAN);
  d->name_length = to_le32 (65);
  cr_assert_eq (cow_record_read_volume (d, bytes, &back), -EUCLEAN);
  cr_assert_eq (cow_record_read_volume (d, bytes - 8, &back), -EUCLEAN);
  cow_entries_clear (&e);
}

Test (records, a_note_reads_as_it_was_written)
{
  struct cow_entries e = COW_ENTRIES_INIT;
  struct cow_id key = { { 1, 2, 3 } }, back;
  struct disk_note *d;
  const void *data;
  size_t bytes, len;

  cr_assert_eq (cow_record_add_note (&e, &key, "hello", 5), 0);
  d = body_of (&e, &bytes, COW_ENTRY_NOTE);
  cr_assert_eq (cow_record_read_note (d, bytes, &back, &data, &len), 0);
  cr_assert (cow_id_equal (&back, &key));
  cr_assert_eq (len, 5);
  cr_assert_eq (memcmp (data, "hello", 5), 0);
  d->length = to_le32 (9);
  cr_assert_eq (cow_record_read_note (d, bytes, &back, &data, &len),
                -EUCLEAN);
  cow_entries_clear (&e);
}
