/* rungs.c - where the end of snapshots is recorded when the journal can't be
 * written.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One after the other until one succeeds: an invalidation slot of the store, the
 * removal of its LIVE, a mark of nobody at the origins.  Each may block for
 * ever, and so is run apart (options.run) and left alone after COW_RUNG_NS.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "set/engine.h"

static int
run_rung (struct cow_engine *e, int (*step) (void *), void *arg)
{
  int rc;

  if (e->options.run)
    return e->options.run (e->options.run_opaque, step, free, arg,
                           cow_now_ns () + COW_RUNG_NS);
  rc = step (arg);
  free (arg);
  return rc;
}

struct invalidation {
  struct cow_store *store;
  unsigned end, count;
  uint32_t volume[];
};

static int
invalidate (void *arg)
{
  const struct invalidation *i = arg;

  return cow_store_invalidate (i->store, i->end, i->volume, i->count);
}

struct disowning {
  struct cow_store *store;
};

static int
disown (void *arg)
{
  const struct disowning *d = arg;

  return cow_store_disown (d->store);
}

struct unmarking {
  struct cow_engine *engine;
  unsigned count;
  struct cow_volume *volume[];
};

/* A mark of no store: the next server of this one sees that it is not its. */
static int
unmark (void *arg)
{
  const struct unmarking *u = arg;
  const struct cow_mark nobody = { .epoch = 0 };
  int rc = 0;

  for (unsigned i = 0; rc == 0 && i < u->count; i++)
    rc = cow_mark_write (u->engine, u->volume[i], &nobody);
  return rc;
}

static int
run_invalidate (struct cow_engine *e, struct cow_volume **volumes,
                unsigned count, enum cow_snapshot_end end)
{
  struct invalidation *inv
    = malloc (sizeof *inv + count * sizeof inv->volume[0]);

  if (inv == NULL)
    return -ENOMEM;
  *inv = (struct invalidation) { .store = e->store, .end = (unsigned) end,
                                 .count = count };
  for (unsigned i = 0; i < count; i++)
    inv->volume[i] = volumes[i]->store_number;
  return run_rung (e, invalidate, inv);
}

static int
run_disown (struct cow_engine *e)
{
  struct disowning *dis = malloc (sizeof *dis);

  if (dis == NULL)
    return -ENOMEM;
  *dis = (struct disowning) { .store = e->store };
  return run_rung (e, disown, dis);
}

static int
run_unmark (struct cow_engine *e, struct cow_volume **volumes, unsigned count)
{
  struct unmarking *un = malloc (sizeof *un + count * sizeof un->volume[0]);

  if (un == NULL)
    return -ENOMEM;
  *un = (struct unmarking) { .engine = e, .count = count };
  memcpy (un->volume, volumes, count * sizeof un->volume[0]);
  return run_rung (e, unmark, un);
}

void
cow_engine_give_up (struct cow_engine *e, struct cow_volume **volumes,
                    unsigned count, enum cow_snapshot_end end)
{
  int rc = run_invalidate (e, volumes, count, end);

  if (rc == 0)
    return;
  cow_log (COW_LOG_ERROR,
           "store: the end of snapshots can't be recorded in its file (%s): "
           "its marker LIVE is removed, and with it all of them end",
           strerror (-rc));
  rc = run_disown (e);
  if (rc == 0)
    return;
  cow_log (COW_LOG_ERROR,
           "store: its marker can't be removed (%s): the origins are marked "
           "instead", strerror (-rc));
  rc = run_unmark (e, volumes, count);
  if (rc < 0)
    cow_log (COW_LOG_ERROR,
             "the end of snapshots can't be recorded anywhere (%s); the "
             "volumes are served on: REMOVE THE STORE before the next start, "
             "or its snapshots will be wrong", strerror (-rc));
}
