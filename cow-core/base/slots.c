/* slots.c - see slots.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <assert.h>
#include <stdlib.h>

#include "base/slots.h"

/* Each thread begins its search at a place of its own, so that in the steady
 * state the first slot tried is free and its line is in this thread's cache.
 */
static _Atomic unsigned next_hint;
static _Thread_local unsigned hint;     /* 0: not drawn yet, else hint + 1 */

struct cow_slots *
cow_slots_new (void)
{
  struct cow_slots *s = aligned_alloc (COW_CACHE_LINE, sizeof *s);

  if (s == NULL)
    return NULL;
  for (unsigned i = 0; i < COW_SLOTS; i++) {
    atomic_init (&s->slot[i].word, 0);
    atomic_init (&s->slot[i].first, 0);
    atomic_init (&s->slot[i].last, UINT64_MAX);
  }
  atomic_init (&s->high, 0);
  return s;
}

void
cow_slots_free (struct cow_slots *s)
{
  free (s);
}

static void
raise_high (struct cow_slots *s, unsigned i)
{
  unsigned high = atomic_load (&s->high);

  while (high <= i && !atomic_compare_exchange_weak (&s->high, &high, i + 1))
    ;
}

bool
cow_slots_try_enter (struct cow_slots *s, uint64_t number, unsigned *slot)
{
  unsigned i;

  if (COW_UNLIKELY (hint == 0))
    hint = atomic_fetch_add (&next_hint, 1) % COW_SLOTS + 1;
  i = hint - 1;

  for (unsigned tries = 0; tries < COW_SLOTS; tries++) {
    uint64_t expected = 0;

    /* The scan's end has to be raised before the slot is taken, or a scan
     * could end below a visitor that entered before it began.
     */
    if (COW_UNLIKELY (atomic_load_explicit (&s->high, memory_order_relaxed)
                      <= i))
      raise_high (s, i);
    base_step ();
    /* seq_cst: the visitor's next load comes after this store in the single
     * order that the closing of a gate and its scan are in as well.
     */
    if (atomic_compare_exchange_strong (&s->slot[i].word, &expected,
                                        number + 1)) {
      *slot = i;
      return true;
    }
    i = (i + 1) % COW_SLOTS;
  }
  return false;
}

unsigned
cow_slots_enter (struct cow_slots *s, uint64_t number)
{
  unsigned slot;

  while (!cow_slots_try_enter (s, number, &slot))
    cow_sleep_ns (COW_NS_PER_MS);
  return slot;
}

void
cow_slots_leave (struct cow_slots *s, unsigned i)
{
  struct cow_slot *slot = &s->slot[i];

  assert (atomic_load_explicit (&slot->word, memory_order_relaxed) != 0);
  atomic_store_explicit (&slot->last, UINT64_MAX, memory_order_relaxed);
  atomic_store_explicit (&slot->first, 0, memory_order_relaxed);
  base_step ();
  atomic_store_explicit (&slot->word, 0, memory_order_release);
}

bool
cow_slots_meet_below (struct cow_slots *s, uint64_t number, uint64_t first,
                      uint64_t last)
{
  unsigned high = atomic_load (&s->high);

  for (unsigned i = 0; i < high; i++) {
    uint64_t word, f, l;

    base_step ();
    word = atomic_load (&s->slot[i].word);
    if (word == 0 || word - 1 >= number)
      continue;
    f = atomic_load_explicit (&s->slot[i].first, memory_order_acquire);
    l = atomic_load_explicit (&s->slot[i].last, memory_order_acquire);
    if (f <= last && first <= l)
      return true;
  }
  return false;
}

bool
cow_slots_below (struct cow_slots *s, uint64_t number)
{
  return cow_slots_meet_below (s, number, 0, UINT64_MAX);
}

bool
cow_slots_wait_below (struct cow_slots *s, uint64_t number,
                      uint64_t deadline_ns)
{
  uint64_t pause_ns = 5000;

  while (cow_slots_below (s, number)) {
    if (cow_now_ns () >= deadline_ns)
      return false;
    cow_sleep_ns (pause_ns);
    if (pause_ns < COW_NS_PER_MS)
      pause_ns *= 2;
  }
  return true;
}
