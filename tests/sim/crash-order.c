/* crash-order.c - what is stable before the origin is overwritten.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Looked at where the I/O is, not by what comes of it: when a block that a
 * persistent set needs is changed for the first time, its old data is to be
 * found on the store's stable storage.  (That the record of it is, too, shows
 * when the state is opened.)
 *
 * Which blocks a set needs is known from the end of its settling on; those that
 * were changed while it was made, by writers from before its instant, are left
 * out.
 */
#include "config.h"

#include <string.h>

#include "base/bits.h"
#include "sim/crash.h"

#define BLOCKS_MAX (SIZE_MAX_BYTES / 4096)

static struct {
  const struct mset *set;       /* the last that was made */
  bool making;                  /* it, from its hold to its settling */
  bool needed[BLOCKS_MAX];
  bool changed[BLOCKS_MAX];     /* while it was made */
} order[VOLUMES_MAX];

void
order_begin (void)
{
  memset (order, 0, sizeof order);
}

void
order_making (const struct mset *s)
{
  for (unsigned v = 0; v < VOLUMES_MAX; v++)
    if (s->members & 1u << v) {
      memset (&order[v], 0, sizeof order[v]);
      order[v].set = s;
      order[v].making = s->persistent;
    }
}

void
order_settled (const struct mset *s)
{
  const uint32_t block = model.f->block_bytes;

  for (unsigned v = 0; v < VOLUMES_MAX; v++) {
    if (!(s->members & 1u << v) || !order[v].making)
      continue;
    order[v].making = false;
    for (uint64_t b = 0; b * block < model.f->size_bytes[v]; b++)
      order[v].needed[b] = !order[v].changed[b];
  }
}

void
order_ended (const struct mset *s)
{
  for (unsigned v = 0; v < VOLUMES_MAX; v++)
    if (s->members & 1u << v)
      memset (&order[v], 0, sizeof order[v]);
}

/* Is the snapshot of v that needs the blocks there, and not lost? */
static bool
is_alive (unsigned v)
{
  const struct mset *s = order[v].set;
  struct cow_set_info info;

  if (s == NULL || !s->persistent || s->end != NEVER || s->finished == NEVER
      || cow_engine_find_set (run.engine, &s->id, &info) < 0)
    return false;
  for (unsigned k = 0; k < info.count; k++)
    if (cow_id_equal (&info.snapshots[k].id, &s->snapshot[v]))
      return info.snapshots[k].end == COW_ALIVE;
  return false;
}

static bool
is_zero (const uint8_t *p, size_t len)
{
  return p[0] == 0 && memcmp (p, p + 1, len - 1) == 0;
}

/* Nobody else runs meanwhile (fibres_stay). */
static bool
is_stable (struct sim_disk *d, unsigned v, uint64_t b)
{
  static uint8_t old[SIZE_MAX_BYTES];
  const uint64_t at = b * model.f->block_bytes;
  const size_t len = (size_t) COW_MIN (model.f->size_bytes[v] - at,
                                       (uint64_t) model.f->block_bytes);

  sim_disk_peek (d, disk_name (v), at, old, len);
  if (is_zero (old, len))
    return true;
  for (size_t i = 0, n; i < len; i += n) {
    n = COW_MIN (len - i, (size_t) 4096);
    if (!sim_disk_is_stable (d, STORE_FILE, old + i, n))
      return false;
  }
  return true;
}

/* Was the set that is being made aborted?  Its lock may have to be waited for,
 * and others run then.
 */
static bool
is_making_aborted (void)
{
  bool aborted;

  if (run.making == NULL)
    return false;
  run.using++;
  aborted = cow_set_state (run.making) == COW_SET_ABORTED;
  run.using--;
  return aborted;
}

static void
check_block (struct sim_disk *d, unsigned v, uint64_t b)
{
  if (is_stable (d, v, b))
    return;
  /* Aborted beside its maker, who has not said so yet: it needs nothing. */
  if (is_making_aborted ())
    return;
  if (is_alive (v))
    crash_wrong ("block %llu of v%u is overwritten before its old data is "
                 "stable",
                 (unsigned long long) b, v);
}

void
order_step (struct sim_disk *d, const struct sim_step *step)
{
  const uint32_t block = model.f->block_bytes;

  if (step->after || step->len == 0
      || !(step->op & (SIM_WRITE | SIM_ZERO | SIM_PUNCH)))
    return;
  for (unsigned v = 0; v < model.f->volumes; v++) {
    if (strcmp (step->file, disk_name (v)) != 0)
      continue;
    for (uint64_t b = step->offset / block;
         b <= (step->offset + step->len - 1) / block
         && b * block < model.f->size_bytes[v];
         b++) {
      order[v].changed[b] |= order[v].making;
      if (!order[v].needed[b])
        continue;
      order[v].needed[b] = false;
      check_block (d, v, b);
    }
  }
}
