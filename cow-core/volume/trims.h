/* trims.h - deallocations that wait until no snapshot needs the blocks.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A TRIM of blocks that may be needed is put off instead of copied: nothing
 * changes for anybody until it is executed.  The list is in memory and
 * bounded; what does not fit, and what a stop or crash finds, is forgotten (a
 * TRIM is a hint).
 *
 * Invariant:
 *   P1  A write that is issued after a TRIM was answered is never undone by
 *       it.  Blocks are listed under a claim (copy.c), only while their bit is
 *       clear; so the first later write to them is a first touch, which takes
 *       them off the list under its own claim.  And an epoch whose root has
 *       all bits set, where no write is a first touch, begins only while the
 *       list is empty and closed.
 */
#ifndef COW_VOLUME_TRIMS_H
#define COW_VOLUME_TRIMS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/sync.h"

#define COW_TRIMS_MAX 4096u     /* ranges */

struct cow_range {
  uint64_t first, last;         /* blocks, inclusive */
};

struct cow_trims {
  cow_mutex lock;
  struct cow_range *range;      /* lock; in order, neither meeting nor touching */
  unsigned room;                /* lock */
  bool open;                    /* lock; may anything be listed? */
  _Atomic unsigned count;       /* written under lock */
  _Atomic uint64_t added;       /* how often something was listed */
};

void cow_trims_init (struct cow_trims *t);
void cow_trims_clear (struct cow_trims *t);

/* List the blocks [first, last]; forgets them where that is not possible. */
void cow_trims_add (struct cow_trims *t, uint64_t first, uint64_t last);

/* Take the blocks [first, last] off the list. */
void cow_trims_drop (struct cow_trims *t, uint64_t first, uint64_t last);

/* The part of [first, last] that is listed first.  False: none. */
bool cow_trims_find (struct cow_trims *t, uint64_t first, uint64_t last,
                     struct cow_range *out);

void cow_trims_open (struct cow_trims *t);
/* Nothing is listed from now on.  False (and no effect): something is. */
bool cow_trims_close (struct cow_trims *t);

#endif /* COW_VOLUME_TRIMS_H */
