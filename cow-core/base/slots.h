/* slots.h - who is inside, since which number, and where.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A visitor takes a slot, writes its number (an epoch, or a turn) and perhaps
 * its range there, and empties it when it leaves.  Others ask whether anybody
 * with a smaller number is still inside.  Each slot has a cache line of its
 * own, so visitors do not meet; taking one is a single compare-and-swap, which
 * is also the full fence that the gate's second look needs.
 *
 * Guarantees:
 *   S1  A range read from a taken slot covers the visitor's range: it is
 *       either that range or a larger one.
 *   S2  slots_below() is false only if every visitor with a smaller number
 *       whose entry it could see has left; what those did before leaving is
 *       visible afterwards.
 */
#ifndef COW_BASE_SLOTS_H
#define COW_BASE_SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/annotate.h"
#include "base/sync.h"

#define COW_SLOTS 2048          /* visitors at once; more wait their turn */

struct cow_slot {
  _Alignas (COW_CACHE_LINE) _Atomic uint64_t word; /* 0 free, else number + 1 */
  _Atomic uint64_t first, last; /* bytes, inclusive; everything if unknown */
};

struct cow_slots {
  struct cow_slot slot[COW_SLOTS];
  /* One more than the highest slot ever taken: scans end there. */
  _Alignas (COW_CACHE_LINE) _Atomic unsigned high;
};

struct cow_slots *cow_slots_new (void);
void cow_slots_free (struct cow_slots *s);

/* Take a slot for number.  Waits while all are taken. */
unsigned cow_slots_enter (struct cow_slots *s, uint64_t number);

/* The same, but never waits: false while all are taken. */
bool cow_slots_try_enter (struct cow_slots *s, uint64_t number,
                          unsigned *slot);

/* Narrow the visitor's range from everything to [first, last]. */
static inline void
cow_slots_range (struct cow_slots *s, unsigned i, uint64_t first,
                 uint64_t last)
{
  base_step ();
  atomic_store_explicit (&s->slot[i].first, first, memory_order_release);
  atomic_store_explicit (&s->slot[i].last, last, memory_order_release);
}

/* Empty the slot.  Release: pairs with the scans. */
void cow_slots_leave (struct cow_slots *s, unsigned i);

/* Is anybody inside with a number below this one? */
bool cow_slots_below (struct cow_slots *s, uint64_t number);

/* The same for visitors whose range meets [first, last]. */
bool cow_slots_meet_below (struct cow_slots *s, uint64_t number,
                           uint64_t first, uint64_t last);

/* Wait until slots_below (number) is false.  Returns false on the deadline. */
bool cow_slots_wait_below (struct cow_slots *s, uint64_t number,
                           uint64_t deadline_ns);

#endif /* COW_BASE_SLOTS_H */
