/* simdisk.c - simulated disks: making them, their files and locks.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "sim/simdisk-priv.h"

struct sim_inode *
sim_inode_new (const char *name, const struct sim_file_options *options)
{
  struct sim_inode *inode = calloc (1, sizeof *inode);

  if (inode == NULL || (inode->name = strdup (name)) == NULL)
    abort ();
  inode->options = *options;
  inode->size_bytes = inode->stable_size_bytes = options->size_bytes;
  return inode;
}

void
sim_inode_free (struct sim_inode *inode)
{
  while (inode->changes) {
    struct sim_change *c = inode->changes;

    inode->changes = c->next;
    free (c->data);
    free (c);
  }
  assert (inode->locks == NULL);
  sim_image_clear (&inode->now);
  sim_image_clear (&inode->stable);
  free (inode->name);
  free (inode);
}

struct sim_inode *
sim_find_locked (struct sim_disk *d, const char *name)
{
  struct sim_inode *i = d->inodes;

  while (i && (i->unnamed || i->removed || strcmp (i->name, name) != 0))
    i = i->next;
  return i;
}

struct sim_disk *
sim_disk_new (const struct sim_disk_options *options)
{
  struct sim_disk *d = calloc (1, sizeof *d);

  if (d == NULL)
    abort ();
  assert (options->latency_min_ns <= options->latency_max_ns);
  d->io.ops = &sim_disk_ops;
  d->options = *options;
  d->random = options->seed;
  cow_mutex_init (&d->lock);
  cow_cond_init (&d->healed);
  return d;
}

void
sim_disk_free (struct sim_disk *d)
{
  if (d == NULL)
    return;
  while (d->inodes) {
    struct sim_inode *i = d->inodes;

    assert (i->opens == 0);
    d->inodes = i->next;
    sim_inode_free (i);
  }
  cow_cond_destroy (&d->healed);
  cow_mutex_destroy (&d->lock);
  free (d);
}

struct cow_io *
sim_disk_io (struct sim_disk *d)
{
  return &d->io;
}

void
sim_disk_create (struct sim_disk *d, const char *name,
                 const struct sim_file_options *options)
{
  LOCK_FOR_SCOPE (&d->lock);

  assert (sim_find_locked (d, name) == NULL);
  sim_create_locked (d, name, options)->name_stable = true;
}

static struct sim_inode *
must_find_locked (struct sim_disk *d, const char *name)
  COW_REQUIRES (d->lock)
{
  struct sim_inode *inode = sim_find_locked (d, name);

  assert (inode);
  return inode;
}

void
sim_disk_peek (struct sim_disk *d, const char *name, uint64_t offset,
               void *buf, size_t len)
{
  LOCK_FOR_SCOPE (&d->lock);

  sim_image_read (&must_find_locked (d, name)->now, offset, buf, len);
}

void
sim_disk_poke (struct sim_disk *d, const char *name, uint64_t offset,
               const void *buf, size_t len)
{
  LOCK_FOR_SCOPE (&d->lock);
  struct sim_inode *inode = must_find_locked (d, name);

  assert (offset + len <= inode->stable_size_bytes);
  sim_image_write (&inode->now, offset, buf, len);
  sim_image_write (&inode->stable, offset, buf, len);
  inode->modified++;
}

uint64_t
sim_disk_size (struct sim_disk *d, const char *name)
{
  LOCK_FOR_SCOPE (&d->lock);

  return must_find_locked (d, name)->size_bytes;
}

bool
sim_disk_has (struct sim_disk *d, const char *name)
{
  LOCK_FOR_SCOPE (&d->lock);

  return sim_find_locked (d, name) != NULL;
}

void
sim_disk_power_off (struct sim_disk *d)
{
  LOCK_FOR_SCOPE (&d->lock);

  d->off = true;
  d->heals++;
  cow_cond_broadcast (&d->healed);
}

void
sim_disk_fault (struct sim_disk *d, const struct sim_fault *fault)
{
  LOCK_FOR_SCOPE (&d->lock);

  assert (d->faults < SIM_FAULTS_MAX);
  d->fault[d->faults++] = (struct armed_fault) { *fault, 0 };
}

void
sim_disk_heal (struct sim_disk *d)
{
  LOCK_FOR_SCOPE (&d->lock);

  d->faults = 0;
  d->heals++;
  cow_cond_broadcast (&d->healed);
}

void
sim_disk_observe (struct sim_disk *d, sim_observer observer, void *opaque)
{
  d->observer = observer;
  d->observer_opaque = opaque;
}

uint64_t
sim_disk_steps (struct sim_disk *d)
{
  LOCK_FOR_SCOPE (&d->lock);

  return d->steps;
}
