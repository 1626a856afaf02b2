/* simdisk.h - an engine of io/io.h over disks in memory that can fail.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A sim_disk is what one machine has: any number of files, and a volatile
 * cache over them.  A write is in the cache at once, and on stable storage
 * after a sync of its file that began later has ended.  What a crash leaves of
 * the rest is drawn: each write whole, not at all, or torn at 512 bytes,
 * growth of a file apart from its data.
 *
 * So it is with names: what was created or removed is certain only after a
 * sync of its directory (what is in front of the last '/'; there is no need to
 * make one), and a mark after the sync of its file that setting it does.
 *
 *   sim_disk_clone   what the next process finds after a kill: the cache is
 *                    the kernel's, and lives on
 *   sim_disk_crash   what the next boot finds after a power loss
 *
 * Both may be called at any time, also from the observer, and leave the disk
 * as it is; open and unnamed files do not pass over.
 *
 * In the simulator (base/sync.h) I/O takes simulated time, if that is set, and
 * long transfers are done in pieces between which others run.  Completions of
 * a queue come in an order drawn from the seed; (min, deadline) of a reap are
 * kept to, but it seldom gives more than was asked for.
 *
 * Threads: any.  The observer is called without a lock.
 */
#ifndef SIM_SIMDISK_H
#define SIM_SIMDISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/io.h"

struct sim_disk;

struct sim_disk_options {
  uint64_t seed;
  /* Simulated time of each I/O; 0 and 0: none.  Without effect outside the
   * simulator.
   */
  uint64_t latency_min_ns, latency_max_ns;
  /* Everything is stable at once: no memory is spent on what is not.  Crashes
   * lose nothing then.
   */
  bool stable;
  uint64_t capacity_bytes;      /* of all files together; 0: no end.  -ENOSPC */
};

struct sim_disk *sim_disk_new (const struct sim_disk_options *options);
void sim_disk_free (struct sim_disk *d);

/* The engine; lives as long as the disk (cow_io_free does nothing to it). */
struct cow_io *sim_disk_io (struct sim_disk *d);

struct sim_file_options {
  uint64_t size_bytes;
  bool is_block;
  uint32_t direct_align_bytes;  /* 0: O_DIRECT is refused */
  bool no_punch, no_zero;       /* -EOPNOTSUPP */
  bool no_mark;                 /* -EOPNOTSUPP; so it is with is_block */
};

/* A file that cow_file_open finds under this name.  Stable from the start. */
void sim_disk_create (struct sim_disk *d, const char *name,
                      const struct sim_file_options *options);

/* Reading and writing behind the engine's back: no step, no fault; what is
 * written is stable.
 */
void sim_disk_peek (struct sim_disk *d, const char *name, uint64_t offset,
                    void *buf, size_t len);
void sim_disk_poke (struct sim_disk *d, const char *name, uint64_t offset,
                    const void *buf, size_t len);
uint64_t sim_disk_size (struct sim_disk *d, const char *name);
bool sim_disk_has (struct sim_disk *d, const char *name);

/* New disks, with the options of the old one but no faults or observer.  The
 * seed of a crash decides what it leaves, and is the new disk's seed.
 */
struct sim_disk *sim_disk_clone (struct sim_disk *d);
struct sim_disk *sim_disk_crash (struct sim_disk *d, uint64_t seed);

/* The files of this list (up to a NULL) keep all that is not synced, all others
 * lose it.
 */
struct sim_disk *sim_disk_crash_keeping (struct sim_disk *d,
                                         const char *const *kept,
                                         uint64_t seed);

/* Of the named files' sizes, marks and data, as one reads them: what differs in
 * neither is the same state.
 */
uint64_t sim_disk_digest (struct sim_disk *d);

/* Is there a chunk of the file (SIM_CHUNK_BYTES, at a multiple of that) that
 * begins with this data on stable storage?
 */
bool sim_disk_is_stable (struct sim_disk *d, const char *name,
                         const void *data, size_t len);

/* From now on every I/O fails with -EIO and changes nothing: how an engine is
 * taken down in an orderly way after its machine has crashed.
 */
void sim_disk_power_off (struct sim_disk *d);

/* ------------------------------------------------------------------ faults */

enum sim_op {
  SIM_READ = 1 << 0,
  SIM_WRITE = 1 << 1,
  SIM_SYNC = 1 << 2,
  SIM_PUNCH = 1 << 3,
  SIM_ZERO = 1 << 4,
  SIM_ALLOCATE = 1 << 5,
  SIM_OPEN = 1 << 6,            /* also of what is created by it */
  SIM_REMOVE = 1 << 7,
  SIM_SYNC_DIR = 1 << 8,        /* file: the directory */
  SIM_MARK = 1 << 9,            /* set or taken away; a SIM_SYNC follows */
};

struct sim_fault {
  unsigned ops;                 /* sim_op, several; 0: all */
  const char *file;             /* NULL: all; "(unnamed)": those */
  uint64_t skip;                /* so many that match pass first */
  uint64_t times;               /* so many fail; 0: for good */
  int error;                    /* -errno, 0: the I/O succeeds (late) */
  bool partial;                 /* a failed write leaves a part behind */
  uint64_t delay_ns;            /* COW_NEVER: hangs until sim_disk_heal */
};

/* A failed sync leaves what it was to cover unstable for ever, whatever later
 * syncs say, as the kernel does.  At most 8 faults at a time.
 */
void sim_disk_fault (struct sim_disk *d, const struct sim_fault *fault);

/* No faults any more; what hangs goes on (and fails, if its fault says so). */
void sim_disk_heal (struct sim_disk *d);

/* ---------------------------------------------------------------- observer */

struct sim_step {
  uint64_t number;              /* of this disk's I/Os, from 1 */
  enum sim_op op;
  const char *file;
  uint64_t offset, len;
  bool after;                   /* false: about to be done (or fail) */
  int result;                   /* after: 0 or -errno, as the caller gets */
};

/* Called before each I/O and after it, in the fibre or thread that does it (of
 * a queue: in the one that reaps).
 */
typedef void (*sim_observer) (void *opaque, struct sim_disk *d,
                              const struct sim_step *step);
void sim_disk_observe (struct sim_disk *d, sim_observer observer,
                       void *opaque);

/* How many I/Os there were. */
uint64_t sim_disk_steps (struct sim_disk *d);

#endif /* SIM_SIMDISK_H */
