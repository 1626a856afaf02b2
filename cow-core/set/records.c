/* records.c - see records.h.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads: any; nothing is shared.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "set/records.h"

static struct cow_id
id_of (const uint8_t bytes[16])
{
  struct cow_id id;

  memcpy (id.b, bytes, sizeof id.b);
  return id;
}

/* A name in 64 bytes, padded with zeroes. */
static void
put_name (uint8_t to[COW_NAME_MAX], const char *name)
{
  memcpy (to, name, strnlen (name, COW_NAME_MAX));
}

static void
get_name (char to[COW_NAME_MAX + 1], const uint8_t from[COW_NAME_MAX])
{
  memcpy (to, from, COW_NAME_MAX);
  to[COW_NAME_MAX] = '\0';
}

int
cow_record_add_set (struct cow_entries *out, const struct cow_set_record *r)
{
  struct disk_member *m;
  struct disk_set *d;

  assert (r->members > 0 && r->members <= COW_SET_VOLUMES_MAX);
  d = cow_entries_add (out, COW_ENTRY_SET,
                       sizeof *d + r->members * sizeof *m
                         + r->annotation_bytes);
  if (d == NULL)
    return -ENOMEM;
  memcpy (d->id, r->id.b, sizeof d->id);
  d->number = to_le64 (r->number);
  d->created = to_le64 (r->created_wall_ns);
  d->hold = to_le64 (r->hold_ns);
  d->settle = to_le64 (r->settle_ns);
  d->attributes = to_le32 (r->attributes);
  d->state = to_le32 (r->prepared ? COW_DISK_SET_PREPARED
                                  : COW_DISK_SET_COMMITTED);
  d->members = to_le32 (r->members);
  d->annotation = to_le32 ((uint32_t) r->annotation_bytes);
  put_name (d->label, r->label);
  m = (struct disk_member *) (d + 1);
  for (unsigned i = 0; i < r->members; i++) {
    memcpy (m[i].snapshot, r->member[i].snapshot.b, sizeof m[i].snapshot);
    m[i].volume = to_le32 (r->member[i].volume);
    m[i].epoch = to_le32 (r->member[i].epoch);
    m[i].end = to_le32 (r->member[i].end);
    m[i].exceptions = to_le64 (r->member[i].exceptions);
  }
  if (r->annotation_bytes > 0)
    memcpy (m + r->members, r->annotation, r->annotation_bytes);
  return 0;
}

int
cow_record_read_set (const void *body, size_t body_bytes,
                     struct cow_set_record *out)
{
  const struct disk_set *d = body;
  const struct disk_member *m = (const struct disk_member *) (d + 1);
  uint32_t state;

  if (body_bytes < sizeof *d)
    return -EUCLEAN;
  state = from_le32 (d->state);
  *out = (struct cow_set_record) {
    .id = id_of (d->id),
    .number = from_le64 (d->number),
    .created_wall_ns = from_le64 (d->created),
    .hold_ns = from_le64 (d->hold),
    .settle_ns = from_le64 (d->settle),
    .attributes = from_le32 (d->attributes),
    .prepared = state == COW_DISK_SET_PREPARED,
    .members = from_le32 (d->members),
    .annotation_bytes = from_le32 (d->annotation),
  };
  if ((state != COW_DISK_SET_PREPARED && state != COW_DISK_SET_COMMITTED)
      || out->members == 0 || out->members > COW_SET_VOLUMES_MAX
      || body_bytes - sizeof *d < out->members * sizeof *m
      || body_bytes - sizeof *d - out->members * sizeof *m
           < out->annotation_bytes)
    return -EUCLEAN;
  get_name (out->label, d->label);
  for (unsigned i = 0; i < out->members; i++) {
    out->member[i] = (struct cow_member_record) {
      .snapshot = id_of (m[i].snapshot),
      .volume = from_le32 (m[i].volume),
      .epoch = from_le32 (m[i].epoch),
      .end = from_le32 (m[i].end),
      .exceptions = from_le64 (m[i].exceptions),
    };
    if (out->member[i].epoch == 0)
      return -EUCLEAN;
  }
  if (out->annotation_bytes == 0)
    return 0;
  out->annotation = malloc (out->annotation_bytes);
  if (out->annotation == NULL)
    return -ENOMEM;
  memcpy (out->annotation, m + out->members, out->annotation_bytes);
  return 0;
}

int
cow_record_add_ends (struct cow_entries *out,
                     const struct cow_end_record *ends, unsigned count)
{
  struct disk_list *list;
  struct disk_end *d;

  list = cow_entries_add (out, COW_ENTRY_END,
                          sizeof *list + count * sizeof *d);
  if (list == NULL)
    return -ENOMEM;
  list->count = to_le32 (count);
  d = (struct disk_end *) (list + 1);
  for (unsigned i = 0; i < count; i++) {
    memcpy (d[i].snapshot, ends[i].snapshot.b, sizeof d[i].snapshot);
    d[i].end = to_le32 (ends[i].end);
  }
  return 0;
}

bool
cow_record_read_end (const void *body, size_t body_bytes, unsigned i,
                     struct cow_end_record *out)
{
  const struct disk_list *list = body;
  const struct disk_end *d = (const struct disk_end *) (list + 1);

  if (body_bytes < sizeof *list || i >= from_le32 (list->count)
      || (body_bytes - sizeof *list) / sizeof *d <= i)
    return false;
  out->snapshot = id_of (d[i].snapshot);
  out->end = from_le32 (d[i].end);
  return true;
}

int
cow_record_add_volume (struct cow_entries *out,
                       const struct cow_volume_record *r)
{
  struct disk_volume *d = cow_entries_add (out, COW_ENTRY_VOLUME, sizeof *d);

  if (d == NULL)
    return -ENOMEM;
  d->number = to_le32 (r->number);
  d->flags = to_le32 ((r->marked ? COW_DISK_VOLUME_MARKED : 0)
                      | (r->stopped ? COW_DISK_VOLUME_STOPPED : 0));
  d->size = to_le64 (r->identity.size_bytes);
  d->device = to_le64 (r->identity.device);
  d->inode = to_le64 (r->identity.inode);
  d->modified = to_le64 (r->identity.modified_ns);
  d->changed = to_le64 (r->identity.changed_ns);
  d->epoch = to_le32 (r->epoch);
  d->name_length = to_le32 ((uint32_t) strlen (r->name));
  put_name (d->name, r->name);
  return 0;
}

int
cow_record_read_volume (const void *body, size_t body_bytes,
                        struct cow_volume_record *out)
{
  const struct disk_volume *d = body;

  if (body_bytes < sizeof *d || from_le32 (d->name_length) > COW_NAME_MAX)
    return -EUCLEAN;
  *out = (struct cow_volume_record) {
    .number = from_le32 (d->number),
    .marked = from_le32 (d->flags) & COW_DISK_VOLUME_MARKED,
    .stopped = from_le32 (d->flags) & COW_DISK_VOLUME_STOPPED,
    .identity = {
      .size_bytes = from_le64 (d->size),
      .device = from_le64 (d->device),
      .inode = from_le64 (d->inode),
      .modified_ns = from_le64 (d->modified),
      .changed_ns = from_le64 (d->changed),
    },
    .epoch = from_le32 (d->epoch),
  };
  get_name (out->name, d->name);
  return strlen (out->name) == from_le32 (d->name_length) ? 0 : -EUCLEAN;
}

int
cow_record_add_note (struct cow_entries *out, const struct cow_id *key,
                     const void *data, size_t len)
{
  struct disk_note *d = cow_entries_add (out, COW_ENTRY_NOTE,
                                         sizeof *d + len);

  if (d == NULL)
    return -ENOMEM;
  memcpy (d->key, key->b, sizeof d->key);
  d->length = to_le32 ((uint32_t) len);
  if (len > 0)
    memcpy (d + 1, data, len);
  return 0;
}

int
cow_record_read_note (const void *body, size_t body_bytes, struct cow_id *key,
                      const void **data, size_t *len)
{
  const struct disk_note *d = body;

  if (body_bytes < sizeof *d
      || body_bytes - sizeof *d < from_le32 (d->length))
    return -EUCLEAN;
  *key = id_of (d->key);
  *data = d + 1;
  *len = from_le32 (d->length);
  return 0;
}

int
cow_record_add_counters (struct cow_entries *out, uint64_t set_number)
{
  struct disk_counters *d = cow_entries_add (out, COW_ENTRY_COUNTERS,
                                             sizeof *d);

  if (d == NULL)
    return -ENOMEM;
  /* Generations are the store's own entry's; the highest of all counts. */
  d->set_number = to_le64 (set_number);
  return 0;
}

int
cow_record_read_counters (const void *body, size_t body_bytes,
                          uint64_t *set_number)
{
  const struct disk_counters *d = body;

  if (body_bytes < sizeof *d)
    return -EUCLEAN;
  *set_number = from_le64 (d->set_number);
  return 0;
}
