/* gate.c - see gate.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <assert.h>
#include <errno.h>

#include "gate/gate.h"

#define CLOSED UINT64_C (1)
#define TURN UINT64_C (2)
#define LOW_HALF UINT64_C (0xffffffff)

/* A hold is mostly over before a sleeper would have gone to sleep (the switch
 * takes about a microsecond), so a held writer looks a few times first.
 */
#ifdef COW_SIM
#define SPINS 2                 /* each look is a switch point there */
#else
#define SPINS 50
#endif

static enum cow_hold_state
state_of (uint64_t state)
{
  return (enum cow_hold_state) (state & 3);
}

int
cow_gate_init (struct cow_gate *g, uint32_t epoch)
{
  atomic_init (&g->word, (uint64_t) epoch << 32);
  atomic_init (&g->hold, NULL);
  atomic_init (&g->held, 0);
  g->slots = cow_slots_new ();
  return g->slots ? 0 : -ENOMEM;
}

void
cow_gate_begin (struct cow_gate *g, uint32_t epoch)
{
  atomic_store (&g->word, (uint64_t) epoch << 32);
}

void
cow_gate_clear (struct cow_gate *g)
{
  cow_slots_free (g->slots);
  g->slots = NULL;
}

void
cow_hold_init (struct cow_hold *h)
{
  atomic_init (&h->state, COW_HOLD_IDLE);
  atomic_init (&h->deadline_ns, 0);
  atomic_init (&h->waiters, 0);
  cow_mutex_init (&h->lock);
  cow_cond_init (&h->opened);
}

void
cow_hold_destroy (struct cow_hold *h)
{
  cow_cond_destroy (&h->opened);
  cow_mutex_destroy (&h->lock);
}

/* CLOSED -> to, once.  Returns whether this call did it. */
static bool
decide (struct cow_hold *h, uint64_t state, enum cow_hold_state to)
{
  base_step ();
  return state_of (state) == COW_HOLD_CLOSED
         && atomic_compare_exchange_strong (
           &h->state, &state, (state & ~UINT64_C (3)) | (uint64_t) to);
}

/* The gate's word after this closing, if nobody has changed it yet. */
static void
reopen_same (struct cow_gate *g, uint64_t word)
{
  base_step ();
  atomic_compare_exchange_strong (&g->word, &word, word & ~CLOSED);
}

/* Wait until the gate's word is no longer `word`, which is closed. */
static void
wait_open (struct cow_gate *g, uint64_t word)
{
  struct cow_hold *h = atomic_load (&g->hold);
  uint64_t state = atomic_load (&h->state);
  uint64_t deadline_ns = atomic_load (&h->deadline_ns);

  for (int i = 0; i < SPINS; i++) {
    base_step ();
    if (atomic_load (&g->word) != word)
      return;
#if defined(__x86_64__)
    __builtin_ia32_pause ();
#endif
  }

  /* The word has not moved since before `state` was read, so h is still the
   * hold of this closing and state, deadline_ns are its own.
   */
  atomic_fetch_add (&g->held, 1);
  atomic_fetch_add (&h->waiters, 1);
  cow_mutex_lock (&h->lock);
  while (atomic_load (&g->word) == word) {
    if (atomic_load (&h->state) == state
        && state_of (state) == COW_HOLD_CLOSED && cow_now_ns () >= deadline_ns)
      decide (h, state, COW_HOLD_EXPIRED);
    if (state_of (atomic_load (&h->state)) == COW_HOLD_EXPIRED)
      reopen_same (g, word);
    else
      cow_cond_wait_until (&h->opened, &h->lock,
                           state_of (state) == COW_HOLD_CLOSED
                             ? deadline_ns
                             : cow_now_ns () + COW_NS_PER_MS);
    state = atomic_load (&h->state);
  }
  cow_mutex_unlock (&h->lock);
  atomic_fetch_sub (&h->waiters, 1);
  atomic_fetch_sub (&g->held, 1);
}

void
cow_gate_enter_slow (struct cow_gate *g, struct cow_pass *pass)
{
  for (;;) {
    uint64_t word = atomic_load (&g->word);

    if (word & CLOSED) {
      wait_open (g, word);
      continue;
    }
    pass->epoch = word >> 32;
    pass->slot = cow_slots_enter (g->slots, pass->epoch);
    base_step ();
    if (atomic_load (&g->word) == word)
      return;
    cow_slots_leave (g->slots, pass->slot);
  }
}

bool
cow_gate_try_enter (struct cow_gate *g, uint64_t first, uint64_t last,
                    struct cow_pass *pass)
{
  uint64_t word = atomic_load (&g->word);

  if (word & CLOSED)
    return false;
  pass->epoch = word >> 32;
  if (!cow_slots_try_enter (g->slots, pass->epoch, &pass->slot))
    return false;
  base_step ();
  if (atomic_load (&g->word) != word) {
    cow_slots_leave (g->slots, pass->slot);
    return false;
  }
  cow_slots_range (g->slots, pass->slot, first, last);
  return true;
}

void
cow_hold_begin (struct cow_hold *h, uint64_t deadline_ns)
{
  uint64_t state = atomic_load (&h->state);

  assert (state_of (state) == COW_HOLD_IDLE);
  atomic_store (&h->deadline_ns, deadline_ns);
  atomic_store (&h->state, ((state >> 2) + 1) << 2 | COW_HOLD_CLOSED);
}

void
cow_gate_close (struct cow_gate *g, struct cow_hold *h)
{
  uint64_t word = atomic_load (&g->word);

  assert ((word & CLOSED) == 0);
  atomic_store (&g->hold, h);
  base_step ();
  atomic_store (&g->word, (word & ~LOW_HALF)
                            | ((word + TURN) & LOW_HALF) | CLOSED);
}

bool
cow_hold_switch (struct cow_hold *h)
{
  uint64_t state = atomic_load (&h->state);

  if (cow_now_ns () >= atomic_load (&h->deadline_ns)) {
    decide (h, state, COW_HOLD_EXPIRED);
    return false;
  }
  return decide (h, state, COW_HOLD_SWITCHED);
}

void
cow_hold_cancel (struct cow_hold *h)
{
  decide (h, atomic_load (&h->state), COW_HOLD_EXPIRED);
}

void
cow_gate_open (struct cow_gate *g, bool next_epoch)
{
  uint64_t word = atomic_load (&g->word);

  if (next_epoch) {
    /* After SWITCHED nobody but the set touches the word. */
    assert (word & CLOSED);
    base_step ();
    atomic_store (&g->word, (word & ~CLOSED) + (UINT64_C (1) << 32));
  }
  else if (word & CLOSED)
    reopen_same (g, word);
}

void
cow_hold_end (struct cow_hold *h)
{
  uint64_t state = atomic_load (&h->state);

  assert (state_of (state) == COW_HOLD_SWITCHED
          || state_of (state) == COW_HOLD_EXPIRED);
  if (atomic_load (&h->waiters) > 0) {
    cow_mutex_lock (&h->lock);
    cow_cond_broadcast (&h->opened);
    cow_mutex_unlock (&h->lock);
  }
  atomic_store (&h->state, (state & ~UINT64_C (3)) | COW_HOLD_IDLE);
}

void
cow_gate_advance (struct cow_gate *g)
{
  uint64_t word = atomic_load (&g->word);

  assert ((word & CLOSED) == 0);
  atomic_store (&g->word, word + (UINT64_C (1) << 32));
}
