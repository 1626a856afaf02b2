/* simdisk-priv.h - between simdisk.c, simdisk-crash.c and simdisk-io.c.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SIM_SIMDISK_PRIV_H
#define SIM_SIMDISK_PRIV_H

#include "base/sync.h"
#include "sim/image.h"
#include "sim/random.h"
#include "sim/simdisk.h"

#define SIM_SECTOR_BYTES 512
#define SIM_FAULTS_MAX 8

/* A change that is not on stable storage. */
struct sim_change {
  struct sim_change *next;      /* in the order in which they were made */
  uint64_t number;              /* over all files of the disk */
  enum sim_op op;               /* SIM_WRITE, _PUNCH, _ZERO, _ALLOCATE */
  uint64_t offset, len;
  uint8_t *data;                /* SIM_WRITE */
  uint64_t grown_to;            /* size of the file, 0 if it did not grow */
  bool forsaken;                /* by a failed sync */
};

struct sim_lock {
  struct sim_lock *next;
  const struct cow_file *owner;
  uint64_t first, end;
  bool exclusive;
};

struct sim_inode {
  struct sim_inode *next;
  char *name;
  struct sim_file_options options;
  bool unnamed;
  unsigned opens;
  struct sim_image now, stable;
  uint64_t size_bytes, stable_size_bytes;
  uint64_t number;              /* the inode's, for cow_file_identity */
  uint64_t modified;            /* grows with each change */
  /* The name: is it there, and is that certain? */
  bool removed, name_stable;
  uint8_t mark[COW_MARK_BYTES_MAX], stable_mark[COW_MARK_BYTES_MAX];
  size_t mark_len, stable_mark_len;
  uint64_t mark_number;         /* of the change that set it; 0: stable */
  struct sim_change *changes;
  struct sim_lock *locks;
};

struct armed_fault {
  struct sim_fault f;
  uint64_t seen;                /* I/Os that matched */
};

struct sim_disk {
  struct cow_io io;
  struct sim_disk_options options;

  cow_mutex lock;
  cow_cond healed;

  /* lock */
  uint64_t random;
  struct sim_inode *inodes;
  uint64_t changes;             /* numbers given out */
  uint64_t inode_numbers;       /* the same */
  uint64_t steps;
  unsigned heals;               /* grows with sim_disk_heal() */
  bool off;
  struct armed_fault fault[SIM_FAULTS_MAX];
  unsigned faults;

  /* Set before use. */
  sim_observer observer;
  void *observer_opaque;
};

struct sim_open_file {
  struct cow_file base;
  struct sim_inode *inode;
};

/* One I/O, from its beginning to its end. */
struct sim_io {
  struct sim_disk *d;
  struct sim_inode *inode;      /* NULL: an open */
  struct sim_step seen;         /* what the observer is shown */
  int error;                    /* of the fault that hit it */
  bool partial;
  bool hangs;
  unsigned heals;               /* when it began to hang */
  uint64_t delay_ns;            /* of the fault */
  uint64_t changes;             /* there when it began */
  bool silent;                  /* after power off */
};

extern const struct cow_io_ops sim_disk_ops;

struct sim_inode *sim_find_locked (struct sim_disk *d, const char *name)
  COW_REQUIRES (d->lock);
struct sim_inode *sim_inode_new (const char *name,
                                 const struct sim_file_options *options);
void sim_inode_free (struct sim_inode *inode);

/* Make a change in the cache, and note it; the data is copied. */
void sim_change_locked (struct sim_disk *d, struct sim_inode *inode,
                        enum sim_op op, uint64_t offset, uint64_t len,
                        const void *data) COW_REQUIRES (d->lock);

/* A sync has ended: the changes up to a number are stable, or forsaken. */
void sim_settle_locked (struct sim_disk *d, struct sim_inode *inode,
                        uint64_t number, bool failed) COW_REQUIRES (d->lock);

struct sim_io sim_io_begin (struct sim_disk *d, struct sim_inode *inode,
                            const char *name, enum sim_op op, uint64_t offset,
                            uint64_t len);
struct sim_io sim_file_io (struct cow_file *f, enum sim_op op,
                           uint64_t offset, uint64_t len);

/* Returns result. */
int sim_io_end (struct sim_io *s, int result);

/* The time that an I/O of the face "now" takes: the fault's and half of its
 * own before its effect.  Returns the other half, in nanoseconds.
 */
uint64_t sim_io_take_time (struct sim_io *s);
uint64_t sim_draw_latency_locked (struct sim_disk *d) COW_REQUIRES (d->lock);

int sim_transfer_effect (struct sim_io *s, void *buf);
int sim_sync_effect (struct sim_io *s);
/* Punch, zero, allocate. */
int sim_range_effect (struct sim_io *s);

/* Names and marks (simdisk-names.c). */
struct sim_inode *sim_create_locked (struct sim_disk *d, const char *name,
                                     const struct sim_file_options *options)
  COW_REQUIRES (d->lock);
/* Take an inode that nobody has open out of the list, if its name is gone for
 * good.
 */
void sim_reap_locked (struct sim_disk *d) COW_REQUIRES (d->lock);
int sim_identity (struct cow_file *f, struct cow_identity *out);
int sim_get_mark (struct cow_file *f, void *buf, size_t room);
int sim_set_mark (struct cow_file *f, const void *mark, size_t len);
int sim_exists (struct cow_io *io, const char *path);
int sim_remove (struct cow_io *io, const char *path);
int sim_list (struct cow_io *io, const char *directory, cow_name_fn fn,
              void *opaque);
int sim_sync_dir (struct cow_io *io, const char *directory);

int sim_queue_new (struct cow_io *io, unsigned depth, struct cow_queue **out);
void sim_queue_free (struct cow_queue *q);
int sim_submit (struct cow_queue *q, struct cow_request *req);
int sim_reap (struct cow_queue *q, unsigned min, uint64_t deadline_ns);

static inline struct sim_disk *
sim_disk_of (struct cow_io *io)
{
  return (struct sim_disk *) io;
}

static inline struct sim_open_file *
sim_open_file_of (struct cow_file *f)
{
  return (struct sim_open_file *) f;
}

#endif /* SIM_SIMDISK_PRIV_H */
