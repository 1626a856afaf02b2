/* store-open.c - a store with a name: found, made, read.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * cow_store_open() reads and changes nothing; cow_store_begin() makes what was
 * read the beginning of a new lap.  FORMAT.md, "How to read", is what is done
 * here, the numbers in the comments are its.
 *
 * Threads: one, before the store is in use.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/mutant.h"
#include "io/disk-lock.h"
#include "store/store-priv.h"

#define AREA_BYTES_MIN (UINT64_C (4) << 20)
#define AREA_BYTES_MAX (UINT64_C (64) << 20)

/* --------------------------------------------------------------- the file */

/* directory/name, to be freed. */
static char *
path_of (const struct cow_store *s, const char *name)
{
  char *path;

  return asprintf (&path, "%s/%s", s->directory, name) < 0 ? NULL : path;
}

static int
lock_file (struct cow_store *s, struct cow_error *err)
{
  uint64_t deadline_ns = cow_now_ns () + COW_LOCK_WAIT_NS;
  int rc;

  while ((rc = cow_file_lock (s->file, 0, 1, true)) == -EAGAIN
         && cow_now_ns () < deadline_ns)
    cow_sleep_ns (50 * COW_NS_PER_MS);
  if (rc == -EAGAIN)
    return cow_error_set (err, -EBUSY,
                          "store=%s: another server has it open; stop that "
                          "first, or take another directory",
                          s->directory);
  if (rc == 0)
    rc = cow_file_lock_disk (s->file, false, deadline_ns);
  if (rc == -EAGAIN)
    return cow_error_set (err, -EBUSY,
                          "store=%s: QEMU or another tool has " COW_STORE_FILE
                          " open; stop that first",
                          s->directory);
  if (rc < 0)
    return cow_error_set (err, rc, "store=%s: locking it: %s", s->directory,
                          strerror (-rc));
  return 0;
}

static int
open_file (struct cow_store *s, struct cow_error *err)
{
  CLEANUP_FREE char *path = path_of (s, COW_STORE_FILE);
  CLEANUP_FREE char *live = path_of (s, COW_STORE_LIVE);
  int exists, rc;

  if (path == NULL || live == NULL)
    return cow_error_set (err, -ENOMEM, "store=%s: out of memory",
                          s->directory);
  exists = cow_io_exists (s->io, path);
  s->is_live = cow_io_exists (s->io, live) == 1;
  if (exists < 0)
    return cow_error_set (err, exists, "store=%s: %s", s->directory,
                          strerror (-exists));
  if (exists == 0 && s->is_live)
    return cow_error_set (err, -EUCLEAN,
                          "store=%s: " COW_STORE_FILE " is missing though "
                          COW_STORE_LIVE " is there: bring it back, or remove "
                          COW_STORE_LIVE " to begin with an empty store",
                          s->directory);
  s->is_fresh = exists == 0;
  rc = cow_file_open (s->io, path,
                      COW_OPEN_DIRECT | (exists ? 0 : COW_OPEN_CREATE), err,
                      &s->file);
  if (rc < 0) {
    cow_error_prefix (err, "store");
    return rc;
  }
  return lock_file (s, err);
}

/* ----------------------------------------------------- 1: the superblock */

static bool
is_zero (const void *data, size_t len)
{
  const uint8_t *p = data;

  return p[0] == 0 && memcmp (p, p + 1, len - 1) == 0;
}

static bool
is_superblock (const struct disk_superblock *b)
{
  return memcmp (b->magic, COW_STORE_MAGIC, sizeof b->magic) == 0
         && from_le64 (b->checksum)
              == cow_checksum ((const uint8_t *) b + 16, sizeof *b - 16, 0);
}

static int
check_superblock (struct cow_store *s, const struct disk_superblock *b,
                  struct cow_error *err)
{
  uint64_t refuse = from_le64 (b->features_refuse);
  uint32_t block_bytes = from_le32 (b->block_bytes);

  if (from_le32 (b->version) != COW_STORE_VERSION || refuse != 0)
    return cow_error_set (err, -EPROTONOSUPPORT,
                          "store=%s: is of a newer format (version %u, "
                          "features %#llx): use the cowset that made it, or "
                          "a newer one",
                          s->directory, from_le32 (b->version),
                          (unsigned long long) refuse);
  if (block_bytes != s->block_bytes)
    return cow_error_set (err, -EINVAL,
                          "store=%s: was made with block-size=%u: start with "
                          "that, not %u",
                          s->directory, block_bytes, s->block_bytes);
  if (from_le32 (b->segment_bytes) != s->segment_bytes
      || from_le32 (b->capacity) != s->capacity
      || from_le64 (b->area_bytes) % COW_JOURNAL_PAGE != 0
      || from_le64 (b->area_bytes) == 0
      || from_le64 (b->area_bytes) > UINT64_C (1) << 40)
    return cow_error_set (err, -EUCLEAN,
                          "store=%s: its superblock makes no sense; run "
                          "cowset-check", s->directory);
  memcpy (s->id.b, b->store, sizeof s->id.b);
  s->area_bytes = from_le64 (b->area_bytes);
  return 0;
}

/* An empty superblock in a directory without LIVE is a store whose making was
 * interrupted: nothing was ever in it.
 */
static int
read_superblock (struct cow_store *s, struct cow_error *err)
{
  CLEANUP_FREE struct disk_superblock *b
    = aligned_alloc (COW_STORE_PAGE, 2 * sizeof *b);
  int rc;

  if (b == NULL)
    return cow_error_set (err, -ENOMEM, "store=%s: out of memory",
                          s->directory);
  rc = cow_file_pread (s->file, b, 2 * sizeof *b, 0);
  if (rc < 0)
    return cow_error_set (err, rc, "store=%s: reading it: %s", s->directory,
                          strerror (-rc));
  if (is_superblock (&b[0]))
    return check_superblock (s, &b[0], err);
  if (is_superblock (&b[1])) {
    cow_log (COW_LOG_WARNING,
             "store=%s: its superblock is damaged, the copy is good; run "
             "cowset-check --repair when it is not in use",
             s->directory);
    return check_superblock (s, &b[1], err);
  }
  if (is_zero (b, 2 * sizeof *b) && !s->is_live) {
    s->is_fresh = true;
    return 0;
  }
  if (memcmp (b[0].magic, COW_STORE_MAGIC, sizeof b[0].magic) != 0
      && memcmp (b[1].magic, COW_STORE_MAGIC, sizeof b[1].magic) != 0)
    return cow_error_set (err, -EEXIST,
                          "store=%s: " COW_STORE_FILE " there is not a store "
                          "of cowset; nothing was changed, take another "
                          "directory",
                          s->directory);
  return cow_error_set (err, -EUCLEAN,
                        "store=%s: both superblocks are damaged; run "
                        "cowset-check", s->directory);
}

static int
write_superblock (struct cow_store *s)
{
  CLEANUP_FREE struct disk_superblock *b
    = aligned_alloc (COW_STORE_PAGE, 2 * sizeof *b);
  int rc;

  if (b == NULL)
    return -ENOMEM;
  memset (b, 0, 2 * sizeof *b);
  memcpy (b->magic, COW_STORE_MAGIC, sizeof b->magic);
  b->version = to_le32 (COW_STORE_VERSION);
  b->block_bytes = to_le32 (s->block_bytes);
  memcpy (b->store, s->id.b, sizeof b->store);
  b->area_bytes = to_le64 (s->area_bytes);
  b->segment_bytes = to_le32 ((uint32_t) s->segment_bytes);
  b->capacity = to_le32 (s->capacity);
  b->created = to_le64 (cow_wall_ns ());
  b->checksum = to_le64 (
    cow_checksum ((const uint8_t *) b + 16, sizeof *b - 16, 0));
  b[1] = b[0];
  rc = cow_file_pwrite (s->file, b, 2 * sizeof *b, 0);
  return rc < 0 ? rc : cow_file_sync (s->file);
}

/* --------------------------------------------------------- open and begin */

static void
choose_area (struct cow_store *s, uint64_t area_bytes)
{
  uint64_t bytes = area_bytes ? area_bytes : s->limit_bytes / 64;

  if (area_bytes == 0)
    bytes = COW_MIN (COW_MAX (bytes, AREA_BYTES_MIN), AREA_BYTES_MAX);
  s->area_bytes = cow_round_up (bytes, COW_JOURNAL_PAGE);
}

static int
open_store (struct cow_store *s, const struct cow_store_options *options,
            struct cow_error *err)
{
  uint64_t size, segments = 0;
  int rc = open_file (s, err);

  if (rc == 0 && !s->is_fresh)
    rc = read_superblock (s, err);
  if (rc < 0)
    return rc;
  if (s->is_fresh)
    choose_area (s, options->area_bytes);
  s->first_segment = COW_JOURNAL_OFFSET + 2 * s->area_bytes;
  size = s->file->info.size_bytes;
  if (!s->is_fresh && size > s->first_segment)
    segments = (size - s->first_segment + s->segment_bytes - 1)
               / s->segment_bytes;
  s->segments_in_file = (uint32_t) COW_MIN (segments, UINT32_MAX - 2);
  if (cow_store_take_segments (s, segments) < 0)
    return cow_error_set (err, -ENOMEM, "store=%s: out of memory",
                          s->directory);
  return cow_store_replay_journal (s, err);
}

int
cow_store_open (struct cow_io *io, const struct cow_store_options *options,
                struct cow_error *err, struct cow_store **out)
{
  struct cow_store *s;
  int rc = cow_store_make (io, options, err, &s);

  if (rc < 0)
    return rc;
  s->named = true;
  if (options->hooks)
    s->hooks = *options->hooks;
  *out = s;                     /* the hooks ask for its id */
  rc = open_store (s, options, err);
  if (rc < 0) {
    *out = NULL;
    cow_store_free (s);
  }
  return rc;
}

/* A segment that was not full gets its header, and zeroes where it holds
 * nothing.
 */
static int
close_segment (struct cow_store *s, uint32_t segment,
               const struct disk_segment *h)
{
  uint64_t offset = segment_offset (s, segment);
  int rc = 0;

  for (unsigned i = 0, to; rc == 0 && i < s->capacity; i = to) {
    for (to = i; to < s->capacity && from_le32 (h->record[to].flags) != 0;
         to++)
      ;
    if (to > i)
      rc = cow_store_zero_range (
        s, offset + COW_SEGMENT_HEADER_BYTES + (uint64_t) i * s->block_bytes,
        (uint64_t) (to - i) * s->block_bytes);
    else
      to++;
  }
  if (rc == 0)
    rc = cow_file_pwrite (s->file, h, sizeof *h, offset);
  if (rc == 0)
    s->segment[segment].state = SEGMENT_STORED;
  return rc;
}

/* What is not needed can be used again; counts. */
static void
sort_out_segments (struct cow_store *s)
{
  s->in_use = 0;
  s->free_head = NO_SEGMENT;
  for (uint32_t n = s->segments; n-- > 0;) {
    struct segment *g = &s->segment[n];

    g->buffer = NO_BUFFER;
    if (g->state == SEGMENT_STORED && g->live > 0) {
      s->in_use++;
      continue;
    }
    g->state = SEGMENT_FREE;
    g->next = s->free_head;
    s->free_head = n;
  }
  s->granted = s->segments;
  s->untaken = s->free_head != NO_SEGMENT;
}

int
cow_store_begin (struct cow_store *s, struct cow_error *err)
{
  int rc = 0;

  if (s->is_fresh)
    rc = cow_file_allocate (s->file, 0, s->first_segment);
  if (rc == -EOPNOTSUPP)
    rc = 0;
  if (rc == 0)
    rc = cow_marks_clear_clean (s);
  if (rc == 0)
    rc = cow_store_each_open_segment (s, close_segment);
  if (rc == 0) {
    sort_out_segments (s);
    rc = cow_log_checkpoint (s);
  }
  if (rc == 0 && COW_MUTANT (superblock_in_place))
    rc = cow_store_zero_range (s, 0, 2 * COW_STORE_PAGE);
  if (rc == 0 && (s->is_fresh || COW_MUTANT (superblock_in_place)))
    rc = write_superblock (s);
  if (rc == 0)
    rc = cow_marks_go_live (s);
  cow_store_end_replay (s);
  if (rc == -ENOSPC)
    return cow_error_set (err, rc,
                          "store=%s: no room for its journal of %llu MiB; "
                          "free space there",
                          s->directory,
                          (unsigned long long) s->first_segment >> 20);
  return rc < 0 ? cow_error_set (err, rc, "store=%s: writing it: %s",
                                 s->directory, strerror (-rc))
                : 0;
}

bool
cow_store_was_clean (const struct cow_store *s)
{
  return s->is_fresh || s->was_clean;
}

const struct cow_id *
cow_store_id (const struct cow_store *s)
{
  return &s->id;
}

bool
cow_store_is_named (const struct cow_store *s)
{
  return s->named;
}
