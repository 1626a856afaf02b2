/* marks.c - how an origin is known again.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * An origin that a server with a store serves carries a mark: the store's id,
 * and the epoch in which that server began.  It is the extended attribute
 * user.cowset; where there are none, a file of the same content beside the
 * origin, and for a block device one in the state directory.
 *
 * The order of a start: the store's record of the volume with its epoch is
 * durable, then the mark says the same.  So a mark that is ahead of the record
 * is of a start that this store does not remember: an older copy of it.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/cleanup.h"
#include "base/le.h"
#include "set/engine.h"

#define MARK_MAGIC "COWMARK\n"

struct disk_mark {              /* store/FORMAT.md, "The mark" */
  uint8_t magic[8];             /*  0 */
  le64 checksum;                /*  8 */
  uint8_t store[16];            /* 16 */
  le32 epoch;                   /* 32 */
  le32 reserved;                /* 36 */
};
STATIC_ASSERT (sizeof (struct disk_mark) == 40);

static uint64_t
checksum_of (const struct disk_mark *d)
{
  return cow_checksum ((const uint8_t *) d + 16, sizeof *d - 16, 0);
}

/* Where the mark is if it is a file, to be freed.  NULL: nowhere. */
static char *
path_of_file (const struct cow_engine *e, struct cow_volume *v)
{
  struct cow_identity id;
  char *path;
  int rc;

  if (!v->file->info.is_block)
    rc = asprintf (&path, "%s.cowset", v->path);
  else if (e->state_directory == NULL
           || cow_file_identity (v->file, &id) < 0)
    return NULL;
  else
    rc = asprintf (&path, "%s/block-%llx.cowset", e->state_directory,
                   (unsigned long long) id.device);
  return rc < 0 ? NULL : path;
}

static int
read_file (const struct cow_engine *e, struct cow_volume *v,
           struct disk_mark *d)
{
  CLEANUP_FREE char *path = path_of_file (e, v);
  struct cow_error err = COW_ERROR_INIT;
  struct cow_file *f;
  int rc;

  if (path == NULL)
    return -EOPNOTSUPP;
  rc = cow_io_exists (e->io, path);
  if (rc <= 0)
    return rc;
  rc = cow_file_open (e->io, path, COW_OPEN_READONLY, &err, &f);
  if (rc < 0)
    return rc;
  rc = cow_file_pread (f, d, sizeof *d, 0);
  cow_file_close (f);
  return rc < 0 ? rc : (int) sizeof *d;
}

int
cow_mark_read (const struct cow_engine *e, struct cow_volume *v,
               struct cow_mark *out)
{
  struct disk_mark d;
  int rc = cow_file_get_mark (v->file, &d, sizeof d);

  if (rc == -EOPNOTSUPP)
    rc = read_file (e, v, &d);
  if (rc == -ERANGE)
    rc = 1;
  if (rc <= 0)
    return rc;
  memset (out, 0, sizeof *out);
  /* Somebody's mark, whatever it says. */
  if (rc != sizeof d || memcmp (d.magic, MARK_MAGIC, sizeof d.magic) != 0
      || from_le64 (d.checksum) != checksum_of (&d)) {
    cow_log (COW_LOG_WARNING, "%s: its mark user.cowset is damaged", v->name);
    return 1;
  }
  memcpy (out->store.b, d.store, sizeof out->store.b);
  out->epoch = from_le32 (d.epoch);
  return 1;
}

static int
sync_directory_of (const struct cow_engine *e, const char *path)
{
  CLEANUP_FREE char *directory = strdup (path);
  char *slash;

  if (directory == NULL)
    return -ENOMEM;
  slash = strrchr (directory, '/');
  if (slash == NULL)
    return cow_io_sync_dir (e->io, ".");
  slash[slash == directory] = '\0';
  return cow_io_sync_dir (e->io, directory);
}

static int
write_file (const struct cow_engine *e, struct cow_volume *v,
            const struct disk_mark *d)
{
  CLEANUP_FREE char *path = path_of_file (e, v);
  struct cow_error err = COW_ERROR_INIT;
  struct cow_file *f;
  int rc;

  if (path == NULL)
    return -EOPNOTSUPP;
  rc = cow_io_exists (e->io, path);
  if (rc < 0)
    return rc;
  if (d == NULL) {
    if (rc == 1)
      rc = cow_io_remove (e->io, path);
    return rc < 0 ? rc : sync_directory_of (e, path);
  }
  rc = cow_file_open (e->io, path, rc == 1 ? 0 : COW_OPEN_CREATE, &err, &f);
  if (rc < 0)
    return rc;
  rc = cow_file_pwrite (f, d, sizeof *d, 0);
  if (rc == 0)
    rc = cow_file_sync (f);
  cow_file_close (f);
  return rc < 0 ? rc : sync_directory_of (e, path);
}

int
cow_mark_write (const struct cow_engine *e, struct cow_volume *v,
                const struct cow_mark *mark)
{
  struct disk_mark d = { .magic = { 0 } };
  int rc;

  if (mark != NULL) {
    memcpy (d.magic, MARK_MAGIC, sizeof d.magic);
    memcpy (d.store, mark->store.b, sizeof d.store);
    d.epoch = to_le32 (mark->epoch);
    d.checksum = to_le64 (checksum_of (&d));
  }
  rc = cow_file_set_mark (v->file, mark ? &d : NULL, mark ? sizeof d : 0);
  return rc == -EOPNOTSUPP ? write_file (e, v, mark ? &d : NULL) : rc;
}

const char *
cow_origin_sign (const struct cow_engine *e, struct cow_volume *v,
                 const struct cow_volume_record *known)
{
  struct cow_identity id;
  struct cow_mark mark;
  int rc;

  if (v->size_bytes != known->identity.size_bytes)
    return "its size has changed";
  if (cow_file_identity (v->file, &id) < 0)
    return "it can't be asked what it is";
  if (!v->file->info.is_block && id.inode != known->identity.inode)
    return "it is another file (its inode has changed)";
  rc = cow_mark_read (e, v, &mark);
  if (known->marked) {
    if (rc < 0)
      return "its mark user.cowset can't be read";
    if (rc == 0)
      return "it was served without this store (its mark is gone)";
    if (!cow_id_equal (&mark.store, cow_store_id (e->store)))
      return "it was served with another store (its mark says so)";
  }
  if (rc == 1 && cow_id_equal (&mark.store, cow_store_id (e->store))
      && mark.epoch > known->epoch)
    return "the store is older than it (its mark says so)";
  if (known->stopped && !v->file->info.is_block
      && id.modified_ns != known->identity.modified_ns)
    return "it was changed since the store was closed (its time says so)";
  return NULL;
}

int
cow_engine_unmark (struct cow_engine *e, struct cow_error *err)
{
  for (unsigned i = 0; i < e->volumes; i++) {
    struct cow_volume *v = e->volume[i]->volume;
    struct cow_mark mark;
    int rc;

    /* Who writes nothing does no harm. */
    if (v->readonly || cow_mark_read (e, v, &mark) != 1)
      continue;
    rc = cow_mark_write (e, v, NULL);
    if (rc < 0)
      return cow_error_set (err, rc,
                            "%s: has snapshots in a store, and its mark "
                            "user.cowset can't be taken away: %s; serve it "
                            "with that store (store=DIR), or make it writable",
                            v->path, strerror (-rc));
    cow_log (COW_LOG_WARNING,
             "%s: was served with a store, and is now without it: the "
             "snapshots that the store has of it are lost",
             v->name);
  }
  return 0;
}

void
cow_engine_mark (struct cow_engine *e)
{
  for (unsigned i = 0; i < e->volumes; i++) {
    struct cow_slot_of_volume *slot = e->volume[i];
    const struct cow_mark mark = {
      .store = *cow_store_id (e->store),
      .epoch = slot->record.epoch,
    };
    int rc = cow_mark_write (e, slot->volume, &mark);

    if (rc < 0)
      cow_log (rc == -EOPNOTSUPP ? COW_LOG_INFO : COW_LOG_WARNING,
               "%s: can't carry a mark (%s): whether it is served without its "
               "store can't be seen from it%s",
               slot->volume->name, strerror (-rc),
               slot->volume->file->info.is_block ? "; state-dir= helps" : "");
    cow_mutex_lock (&e->sets_lock);
    slot->record.marked = rc == 0;
    cow_mutex_unlock (&e->sets_lock);
  }
}
