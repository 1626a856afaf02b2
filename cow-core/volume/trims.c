/* trims.c - see trims.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "volume/trims.h"

void
cow_trims_init (struct cow_trims *t)
{
  memset (t, 0, sizeof *t);
  cow_mutex_init (&t->lock);
}

void
cow_trims_clear (struct cow_trims *t)
{
  free (t->range);
  cow_mutex_destroy (&t->lock);
}

/* Index of the first range that ends at or after block. */
static unsigned
find (const struct cow_trims *t, uint64_t block)
{
  unsigned low = 0, high = t->count;

  while (low < high) {
    unsigned mid = (low + high) / 2;

    if (t->range[mid].last < block)
      low = mid + 1;
    else
      high = mid;
  }
  return low;
}

/* Make room for one more at index i.  False: there is none. */
static bool
insert_at (struct cow_trims *t, unsigned i)
{
  unsigned count = t->count;

  if (count == COW_TRIMS_MAX)
    return false;
  if (count == t->room) {
    unsigned room = t->room ? 2 * t->room : 64;
    struct cow_range *range = realloc (t->range, room * sizeof *range);

    if (range == NULL)
      return false;
    t->range = range;
    t->room = room;
  }
  memmove (&t->range[i + 1], &t->range[i], (count - i) * sizeof *t->range);
  t->count = count + 1;
  return true;
}

static void
remove_some (struct cow_trims *t, unsigned i, unsigned n)
{
  memmove (&t->range[i], &t->range[i + n],
           (t->count - i - n) * sizeof *t->range);
  t->count -= n;
}

void
cow_trims_add (struct cow_trims *t, uint64_t first, uint64_t last)
{
  unsigned i, n = 0;
  LOCK_FOR_SCOPE (&t->lock);

  if (!t->open)
    return;
  /* Those that it meets or touches become one with it. */
  i = find (t, first > 0 ? first - 1 : 0);
  while (i + n < t->count && t->range[i + n].first <= last + 1) {
    first = COW_MIN (first, t->range[i + n].first);
    last = COW_MAX (last, t->range[i + n].last);
    n++;
  }
  if (n == 0 && !insert_at (t, i))
    return;
  if (n > 1)
    remove_some (t, i + 1, n - 1);
  t->range[i] = (struct cow_range) { first, last };
  t->added++;
}

void
cow_trims_drop (struct cow_trims *t, uint64_t first, uint64_t last)
{
  unsigned i;
  LOCK_FOR_SCOPE (&t->lock);

  i = find (t, first);
  while (i < t->count && t->range[i].first <= last) {
    struct cow_range r = t->range[i];

    if (r.first < first && r.last > last) {
      /* What lies behind is forgotten if the list is full. */
      t->range[i].last = first - 1;
      if (insert_at (t, i + 1))
        t->range[i + 1] = (struct cow_range) { last + 1, r.last };
      return;
    }
    if (r.first < first)
      t->range[i++].last = first - 1;
    else if (r.last > last)
      t->range[i++].first = last + 1;
    else
      remove_some (t, i, 1);
  }
}

bool
cow_trims_find (struct cow_trims *t, uint64_t first, uint64_t last,
                struct cow_range *out)
{
  unsigned i;
  LOCK_FOR_SCOPE (&t->lock);

  i = find (t, first);
  if (i == t->count || t->range[i].first > last)
    return false;
  out->first = COW_MAX (first, t->range[i].first);
  out->last = COW_MIN (last, t->range[i].last);
  return true;
}

void
cow_trims_open (struct cow_trims *t)
{
  LOCK_FOR_SCOPE (&t->lock);

  t->open = true;
}

bool
cow_trims_close (struct cow_trims *t)
{
  LOCK_FOR_SCOPE (&t->lock);

  if (t->count > 0)
    return false;
  t->open = false;
  return true;
}
