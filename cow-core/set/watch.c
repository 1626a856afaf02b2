/* watch.c - how full the store is, and how soon it will be.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Looked at every few seconds by who steps the engine.  A threshold is said
 * once when it is reached, and again only after the use has been well below.
 *
 * Threads: the stepping one; the figures are for anybody.
 */
#include "config.h"

#include "base/bits.h"
#include "set/engine.h"

#define LOOK_EVERY_NS (5 * COW_NS_PER_S)
#define HYSTERESIS 5u           /* per cent */

static const unsigned thresholds[] = { 70, 80, 90, 95 };

static void
say_threshold (struct cow_engine *e, unsigned percent, uint64_t full_in_s)
{
  struct cow_watch *w = &e->watch;
  unsigned reached = 0;

  for (unsigned i = 0; i < COW_ARRAY_SIZE (thresholds); i++)
    if (percent >= thresholds[i])
      reached = thresholds[i];
  if (reached > w->said) {
    if (full_in_s == UINT64_MAX)
      cow_log (COW_LOG_WARNING,
               "the store is %u%% full; when it is full the oldest set is %s",
               percent,
               e->options.protect_snapshot ? "kept, and writes fail" : "lost");
    else
      cow_log (COW_LOG_WARNING,
               "the store is %u%% full, and at the present rate full in %llu "
               "s; when it is full the oldest set is %s",
               percent, (unsigned long long) full_in_s,
               e->options.protect_snapshot ? "kept, and writes fail" : "lost");
    w->said = reached;
  }
  else if (percent + HYSTERESIS < w->said)
    w->said = reached;
}

/* Smoothed: a quarter of the new, three of the old. */
static uint64_t
rate_of (const struct cow_watch *w, uint64_t used_bytes, uint64_t now_ns)
{
  uint64_t grown = used_bytes > w->used_bytes ? used_bytes - w->used_bytes : 0;
  uint64_t ms = (now_ns - w->looked_ns) / COW_NS_PER_MS;
  uint64_t rate = grown * 1000 / COW_MAX (ms, UINT64_C (1));

  return w->looks < 2 ? rate : (3 * atomic_load (&w->rate) + rate) / 4;
}

void
cow_engine_watch (struct cow_engine *e)
{
  struct cow_watch *w = &e->watch;
  uint64_t now_ns = cow_now_ns (), room, full_in_s = UINT64_MAX;
  struct cow_store_status st;

  if (w->looks > 0 && now_ns - w->looked_ns < LOOK_EVERY_NS)
    return;
  cow_store_status (e->store, &st);
  room = cow_store_room (e->store);
  if (w->looks > 0)
    atomic_store (&w->rate, rate_of (w, st.file_bytes, now_ns));
  w->looks++;
  w->used_bytes = st.file_bytes;
  w->looked_ns = now_ns;
  if (atomic_load (&w->rate) > 0)
    full_in_s = room / atomic_load (&w->rate);
  atomic_store (&w->full_in_s, full_in_s);
  if (st.file_bytes > 0)
    say_threshold (e, (unsigned) (st.file_bytes * 100
                                  / (st.file_bytes + room)), full_in_s);
}
