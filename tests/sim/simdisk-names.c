/* simdisk-names.c - simulated disks: names, marks, identity.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * An inode stays in the list while its name may come back: one that was
 * removed goes when its directory is synced (and nobody has it open), or at
 * once if its name was never stable.  New ones are in front, so that of two of
 * one name the later is met first.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim/simdisk-priv.h"

struct sim_inode *
sim_create_locked (struct sim_disk *d, const char *name,
                   const struct sim_file_options *options)
{
  struct sim_inode *inode = sim_inode_new (name, options);

  inode->number = ++d->inode_numbers;
  inode->name_stable = d->options.stable;
  inode->next = d->inodes;
  d->inodes = inode;
  return inode;
}

void
sim_reap_locked (struct sim_disk *d)
{
  for (struct sim_inode **link = &d->inodes; *link;) {
    struct sim_inode *i = *link;

    if (i->opens > 0
        || !(i->unnamed || (i->removed && !i->name_stable))) {
      link = &i->next;
      continue;
    }
    *link = i->next;
    sim_inode_free (i);
  }
}

/* The name within directory, or NULL. */
static const char *
name_in (const char *path, const char *directory)
{
  const size_t n = strlen (directory);
  const char *slash = strrchr (path, '/');

  if (slash == NULL || (size_t) (slash - path) != n
      || strncmp (path, directory, n) != 0)
    return NULL;
  return slash + 1;
}

/* An I/O without a file.  0, or what it fails with. */
static int
begin_name_io (struct sim_disk *d, const char *path, enum sim_op op,
               struct sim_io *s)
{
  *s = sim_io_begin (d, NULL, path, op, 0, 0);
  sim_io_take_time (s);
  return s->error ? s->error : s->silent ? -EIO : 0;
}

int
sim_exists (struct cow_io *io, const char *path)
{
  struct sim_disk *d = sim_disk_of (io);
  LOCK_FOR_SCOPE (&d->lock);

  if (d->off)
    return -EIO;
  return sim_find_locked (d, path) != NULL;
}

static int
remove_locked (struct sim_disk *d, const char *path) COW_REQUIRES (d->lock)
{
  struct sim_inode *inode = sim_find_locked (d, path);

  if (inode == NULL)
    return -ENOENT;
  inode->removed = true;
  if (d->options.stable)
    inode->name_stable = false;
  sim_reap_locked (d);
  return 0;
}

int
sim_remove (struct cow_io *io, const char *path)
{
  struct sim_disk *d = sim_disk_of (io);
  struct sim_io s;
  int r = begin_name_io (d, path, SIM_REMOVE, &s);

  if (r == 0) {
    LOCK_FOR_SCOPE (&d->lock);

    r = d->off ? -EIO : remove_locked (d, path);
  }
  return sim_io_end (&s, r);
}

int
sim_list (struct cow_io *io, const char *directory, cow_name_fn fn,
          void *opaque)
{
  struct sim_disk *d = sim_disk_of (io);
  int r = 0;
  LOCK_FOR_SCOPE (&d->lock);

  if (d->off)
    return -EIO;
  for (struct sim_inode *i = d->inodes; r == 0 && i != NULL; i = i->next) {
    const char *name = name_in (i->name, directory);

    if (name != NULL && !i->unnamed && !i->removed)
      r = fn (opaque, name);
  }
  return r;
}

int
sim_sync_dir (struct cow_io *io, const char *directory)
{
  struct sim_disk *d = sim_disk_of (io);
  struct sim_io s;
  int r = begin_name_io (d, directory, SIM_SYNC_DIR, &s);

  if (r == 0) {
    LOCK_FOR_SCOPE (&d->lock);

    if (d->off)
      r = -EIO;
    for (struct sim_inode *i = d->inodes; r == 0 && i != NULL; i = i->next)
      if (name_in (i->name, directory) != NULL)
        i->name_stable = !i->removed;
    sim_reap_locked (d);
  }
  return sim_io_end (&s, r);
}

int
sim_identity (struct cow_file *f, struct cow_identity *out)
{
  struct sim_disk *d = sim_disk_of (f->io);
  const struct sim_inode *inode = sim_open_file_of (f)->inode;
  LOCK_FOR_SCOPE (&d->lock);

  if (d->off)
    return -EIO;
  *out = (struct cow_identity) {
    .device = inode->options.is_block ? 1000 + inode->number : 1,
    .inode = inode->options.is_block ? 0 : inode->number,
    .size_bytes = inode->size_bytes,
    .modified_ns = inode->modified,
    .changed_ns = inode->modified,
  };
  return 0;
}

static bool
has_no_mark (const struct sim_inode *inode)
{
  return inode->options.no_mark || inode->options.is_block;
}

int
sim_get_mark (struct cow_file *f, void *buf, size_t room)
{
  struct sim_disk *d = sim_disk_of (f->io);
  const struct sim_inode *inode = sim_open_file_of (f)->inode;
  LOCK_FOR_SCOPE (&d->lock);

  if (d->off)
    return -EIO;
  if (has_no_mark (inode))
    return -EOPNOTSUPP;
  if (inode->mark_len > room)
    return -ERANGE;
  memcpy (buf, inode->mark, inode->mark_len);
  return (int) inode->mark_len;
}

int
sim_set_mark (struct cow_file *f, const void *mark, size_t len)
{
  struct sim_disk *d = sim_disk_of (f->io);
  struct sim_inode *inode = sim_open_file_of (f)->inode;
  struct sim_io s;
  int r;

  if (has_no_mark (inode))
    return -EOPNOTSUPP;
  s = sim_file_io (f, SIM_MARK, 0, 0);
  sim_io_take_time (&s);
  r = s.error ? s.error : s.silent ? -EIO : 0;
  if (r == 0) {
    LOCK_FOR_SCOPE (&d->lock);

    memset (inode->mark, 0, sizeof inode->mark);
    if (len > 0)
      memcpy (inode->mark, mark, len);
    inode->mark_len = len;
    inode->mark_number = ++d->changes;
  }
  return sim_io_end (&s, r);
}
