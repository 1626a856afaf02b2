/* gate.h - admits writers, one epoch at a time.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A gate has one word: its epoch, a turn (it grows with each closing, so that
 * a word never comes back), and whether it is closed.  A writer reads the
 * word, takes a slot with the epoch, and reads the word again; only "open, the
 * same" admits it.  A set closes the gates of all its volumes, switches, and
 * opens them with the next epoch.
 *
 * The gates closed by one set share a hold.  Whoever comes first moves it from
 * closed to switched (the set, in time) or to expired (a held writer, after
 * the deadline): one compare-and-swap, so exactly one of the two happens, for
 * all volumes together, and no other thread is needed to let writers go.
 *
 *          hold_begin              hold_switch
 *   IDLE ------------> CLOSED --------------------> SWITCHED --> IDLE
 *                        |  deadline, or cancel                   ^
 *                        +--------------------> EXPIRED ----------+
 *
 * Guarantees:
 *   G1  A writer admitted in epoch e has a slot with e from before its
 *       admission until it leaves.
 *   G2  After the word has left epoch e nobody is admitted in e; so once
 *       slots_below (e + 1) is false, it stays so.
 *   G3  Between the closing of a gate and its opening nobody is admitted.
 *   G4  No writer waits longer than the hold's deadline.
 *
 * Nothing here does I/O, allocates or logs.  Holds belong to a pool and are
 * never freed while the engine lives: a late writer may still look at one.
 */
#ifndef COW_GATE_GATE_H
#define COW_GATE_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/sync.h"
#include "base/slots.h"

enum cow_hold_state {
  COW_HOLD_IDLE,
  COW_HOLD_CLOSED,
  COW_HOLD_SWITCHED,
  COW_HOLD_EXPIRED,
};

struct cow_hold {
  _Alignas (COW_CACHE_LINE)
  _Atomic uint64_t state;       /* generation << 2 | enum cow_hold_state */
  _Atomic uint64_t deadline_ns; /* set before CLOSED */
  _Atomic unsigned waiters;
  cow_mutex lock;               /* only for the waiting */
  cow_cond opened;              /* lock */
};

struct cow_gate {
  _Alignas (COW_CACHE_LINE)
  _Atomic uint64_t word;        /* epoch << 32 | turn << 1 | closed */
  _Atomic (struct cow_hold *) hold; /* of the last closing */
  _Atomic unsigned held;        /* writers waiting now */
  struct cow_slots *slots;
};

/* Where an admitted writer stands. */
struct cow_pass {
  uint32_t epoch;
  unsigned slot;
};

static inline uint32_t
cow_gate_epoch (struct cow_gate *g)
{
  return atomic_load (&g->word) >> 32;
}

/* 0 or -ENOMEM. */
int cow_gate_init (struct cow_gate *g, uint32_t epoch);
/* Begin with another epoch; before the first writer. */
void cow_gate_begin (struct cow_gate *g, uint32_t epoch);
void cow_gate_clear (struct cow_gate *g);

void cow_hold_init (struct cow_hold *h);
void cow_hold_destroy (struct cow_hold *h);

/* The slow half of cow_gate_enter: the gate was closed, or moved. */
void cow_gate_enter_slow (struct cow_gate *g, struct cow_pass *pass);

/* Admit a writer of bytes [first, last].  Waits while the gate is closed. */
static inline void
cow_gate_enter (struct cow_gate *g, uint64_t first, uint64_t last,
                struct cow_pass *pass)
{
  uint64_t word = atomic_load_explicit (&g->word, memory_order_acquire);

  if (COW_LIKELY ((word & 1) == 0)) {
    pass->epoch = word >> 32;
    pass->slot = cow_slots_enter (g->slots, pass->epoch);
    base_step ();
    if (COW_LIKELY (atomic_load (&g->word) == word)) {
      cow_slots_range (g->slots, pass->slot, first, last);
      return;
    }
    cow_slots_leave (g->slots, pass->slot);
  }
  cow_gate_enter_slow (g, pass);
  cow_slots_range (g->slots, pass->slot, first, last);
}

/* The same, but never waits: false if the gate is closed, or just moved. */
bool cow_gate_try_enter (struct cow_gate *g, uint64_t first, uint64_t last,
                         struct cow_pass *pass);

static inline void
cow_gate_leave (struct cow_gate *g, const struct cow_pass *pass)
{
  cow_slots_leave (g->slots, pass->slot);
}

/* Take an IDLE hold for use: CLOSED until deadline_ns, with no gate yet. */
void cow_hold_begin (struct cow_hold *h, uint64_t deadline_ns);

/* Close a gate under h.  The caller has the volume to itself (its claim), so
 * nobody else closes this gate.
 */
void cow_gate_close (struct cow_gate *g, struct cow_hold *h);

/* Decide for the switch: looks at the clock, then swaps.  False: expired. */
bool cow_hold_switch (struct cow_hold *h);

/* Decide against it; no effect after a switch. */
void cow_hold_cancel (struct cow_hold *h);

/* Open a closed gate in the next epoch (after a switch) or in the same one
 * (after the hold expired; a held writer may have done it already).
 */
void cow_gate_open (struct cow_gate *g, bool next_epoch);

/* All gates are open: wake who waits, and give the hold back as IDLE. */
void cow_hold_end (struct cow_hold *h);

/* Go to the next epoch without a hold: for a change that needs no instant.
 * The caller has the volume to itself.
 */
void cow_gate_advance (struct cow_gate *g);

#endif /* COW_GATE_GATE_H */
