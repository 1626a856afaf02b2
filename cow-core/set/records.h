/* records.h - sets, volumes and notes as the journal has them.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Pure functions between structs in memory and entries of a record
 * (journal/layout.h, store/FORMAT.md).  Adding returns 0 or -ENOMEM (nothing
 * was added); reading 0, -EUCLEAN (an entry that no cowset has written; *out is
 * undefined), or -ENOMEM.
 */
#ifndef COW_SET_RECORDS_H
#define COW_SET_RECORDS_H

#include "cow.h"
#include "journal/journal.h"

struct cow_member_record {
  struct cow_id snapshot;
  uint32_t volume, epoch;
  uint32_t end;                 /* enum cow_snapshot_end */
  uint64_t exceptions;
};

struct cow_set_record {
  struct cow_id id;
  uint64_t number, created_wall_ns, hold_ns, settle_ns;
  uint32_t attributes;
  bool prepared;                /* else committed */
  char label[COW_NAME_MAX + 1];
  unsigned members;
  struct cow_member_record member[COW_SET_VOLUMES_MAX];
  size_t annotation_bytes;
  char *annotation;             /* of a record that was read: the reader's */
};

int cow_record_add_set (struct cow_entries *out,
                        const struct cow_set_record *r);
int cow_record_read_set (const void *body, size_t body_bytes,
                         struct cow_set_record *out);

struct cow_end_record {
  struct cow_id snapshot;
  uint32_t end;
};

int cow_record_add_ends (struct cow_entries *out,
                         const struct cow_end_record *ends, unsigned count);
/* The i-th end of an entry, or false after the last. */
bool cow_record_read_end (const void *body, size_t body_bytes, unsigned i,
                          struct cow_end_record *out);

struct cow_volume_record {
  uint32_t number;
  bool marked;                  /* the origin carries the store's mark */
  bool stopped;                 /* the times are those of an orderly stop */
  struct cow_identity identity;
  uint32_t epoch;
  char name[COW_NAME_MAX + 1];
};

int cow_record_add_volume (struct cow_entries *out,
                           const struct cow_volume_record *r);
int cow_record_read_volume (const void *body, size_t body_bytes,
                            struct cow_volume_record *out);

int cow_record_add_note (struct cow_entries *out, const struct cow_id *key,
                         const void *data, size_t len);
/* *data points into body. */
int cow_record_read_note (const void *body, size_t body_bytes,
                          struct cow_id *key, const void **data, size_t *len);

int cow_record_add_counters (struct cow_entries *out, uint64_t set_number);
int cow_record_read_counters (const void *body, size_t body_bytes,
                              uint64_t *set_number);

#endif /* COW_SET_RECORDS_H */
