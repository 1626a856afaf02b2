/* crash-clients.c - who writes, reads and makes sets in a run.  See crash.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/sync.h"
#include "sim/crash.h"
#include "sim/fibres.h"

/* Sets that the maker lets stay. */
#define SETS_KEPT 3u

static uint8_t *
must_alloc (size_t len)
{
  uint8_t *p = malloc (len);

  if (p == NULL)
    abort ();
  return p;
}

void
client_change (enum model_change kind, unsigned v, unsigned first, unsigned n,
               unsigned flags)
{
  const uint64_t at = (uint64_t) first * run.f->unit_bytes;
  const uint32_t len = n * run.f->unit_bytes;
  uint8_t *buf = kind == CHANGE_WRITE ? must_alloc (len) : NULL;
  const unsigned number = model_issue (kind, v, first, n, buf);
  int rc = 0;

  switch (kind) {
  case CHANGE_WRITE:
    rc = cow_volume_write (run.volume[v], buf, len, at, flags);
    break;
  case CHANGE_ZERO:
    rc = cow_volume_zero (run.volume[v], len, at, flags);
    break;
  case CHANGE_TRIM:
    rc = cow_volume_trim (run.volume[v], len, at, flags);
    break;
  }
  model_returned (number, rc == 0, flags & COW_FUA);
  free (buf);
  if (rc < 0 && !(rc == -EOPNOTSUPP && (flags & COW_FAST_ZERO))
      && !run.origin_failed[v])
    crash_wrong ("a change of v%u failed: %s", v, strerror (-rc));
}

void
client_flush (unsigned v)
{
  const uint32_t issued = model_tick ();
  const int rc = cow_volume_flush (run.volume[v]);

  if (rc == 0)
    model_flushed (v, issued);
  else if (!run.origin_failed[v])
    crash_wrong ("a flush of v%u failed: %s", v, strerror (-rc));
}

/* ----------------------------------------------------------------- sets */

static void
learn (struct mset *s, unsigned v, const uint8_t *bytes)
{
  for (unsigned u = 0; u < model.units[v]; u++) {
    if (!model_word (bytes + (uint64_t) u * run.f->unit_bytes,
                     &s->words[v][u]))
      crash_wrong ("a snapshot of v%u is torn at unit %u", v, u);
    if (!model_instant_fits (s, v, u, s->words[v][u]))
      crash_wrong ("a snapshot of v%u has %llx at unit %u, which was not "
                   "there at its instant",
                   v, (unsigned long long) s->words[v][u], u);
  }
}

static void
compare (const struct mset *s, unsigned v, const uint8_t *bytes)
{
  for (unsigned u = 0; u < model.units[v]; u++) {
    uint64_t word;

    if (!model_word (bytes + (uint64_t) u * run.f->unit_bytes, &word)
        || word != s->words[v][u])
      crash_wrong ("a snapshot of v%u has changed at unit %u: %llx, not %llx",
                   v, u, (unsigned long long) word,
                   (unsigned long long) s->words[v][u]);
  }
}

/* Is it lost, and may it be? */
static bool
is_lost (struct mset *s, unsigned v)
{
  struct cow_set_info info;

  if (cow_engine_find_set (run.engine, &s->id, &info) < 0)
    return s->end != NEVER;
  for (unsigned i = 0; i < info.count; i++)
    if (cow_id_equal (&info.snapshots[i].id, &s->snapshot[v])
        && info.snapshots[i].end != COW_ALIVE) {
      const enum cow_snapshot_end end = info.snapshots[i].end;

      if (end != COW_LOST_STORE_FULL && end != COW_DELETED
          && !(end == COW_LOST_ORIGIN_ERROR && run.origin_failed[v])
          && !run.store_failed)
        crash_wrong ("a snapshot of v%u is lost: %s", v,
                     cow_snapshot_end_text (end));
      return s->lost[v] = true;
    }
  return false;
}

void
client_read_set (struct mset *s)
{
  char text[COW_ID_TEXT_SIZE];
  bool whole = true;

  cow_id_format (&s->id, text);
  for (unsigned v = 0; v < run.f->volumes; v++) {
    const uint32_t len = (uint32_t) run.f->size_bytes[v];
    uint8_t *bytes;
    struct cow_view *w = NULL;
    int rc;

    if (!(s->members & 1u << v))
      continue;
    bytes = must_alloc (len);
    rc = cow_view_open (run.volume[v], text, NULL, &w);
    if (rc == 0)
      rc = cow_view_read (w, bytes, len, 0);
    cow_view_close (w);
    if (rc < 0 && !is_lost (s, v) && s->end == NEVER)
      crash_wrong ("a snapshot of v%u can't be read: %s", v, strerror (-rc));
    if (rc == 0)
      (s->resolved ? (void) compare (s, v, bytes) : learn (s, v, bytes));
    whole &= rc == 0;
    free (bytes);
  }
  if (s->resolved || !whole)
    return;
  if (!model_is_one_instant (s))
    crash_wrong ("a set has a change, but not one that was done before it");
  s->resolved = true;
}

void
client_read_all (void)
{
  for (unsigned i = 0; i < model.sets; i++)
    if (model.set[i].finished != NEVER && model.set[i].end == NEVER
        && model.set[i].resolved)
      client_read_set (&model.set[i]);
}

/* A phase has failed: only for want of room, because an I/O did, or because
 * the set was aborted.
 */
static void
phase_failed (const char *what, int rc, const struct cow_error *err)
{
  if (rc == -ECANCELED && run.f->canceller)
    return;
  if (rc != -ENOSPC && rc != -ETIMEDOUT && !run.store_failed
      && !run.origin_failed[0] && !run.origin_failed[1])
    crash_wrong ("%s failed: %s", what, err->text);
}

static int
take_instant (struct cow_set *set, struct mset *s, unsigned stop_before)
{
  struct cow_error err = COW_ERROR_INIT;
  const uint64_t late_ns = cow_now_ns () + 60 * COW_NS_PER_S;
  int rc;

  if (stop_before == 1)
    return -ECANCELED;
  rc = cow_set_prepare (set, late_ns, &err);
  if (rc < 0)
    phase_failed ("prepare", rc, &err);
  if (rc < 0 || stop_before == 2)
    return -ECANCELED;
  order_making (s);
  s->hold = model_tick ();
  rc = cow_set_hold (set, 10 * COW_NS_PER_S, &err);
  if (rc < 0)
    phase_failed ("hold", rc, &err);
  if (rc < 0 || stop_before == 3)
    return -ECANCELED;
  rc = cow_set_switch (set, &err);
  s->switched = model_tick ();
  if (rc < 0)
    phase_failed ("switch", rc, &err);
  if (rc < 0 || stop_before == 4)
    return -ECANCELED;
  rc = cow_set_settle (set, late_ns, &err);
  if (rc < 0)
    phase_failed ("settle", rc, &err);
  else
    order_settled (s);
  return rc < 0 || stop_before == 5 ? -ECANCELED : 0;
}

/* The coordinator of a set over several servers makes up its mind. */
static int
decide (struct mset *s)
{
  const bool commits = fibres_draw (3) > 0;
  int rc;

  s->prepared = model_tick ();
  cow_sleep_ns (fibres_draw (50000));
  s->deciding = model_tick ();
  if (commits)
    s->finish = model_tick ();
  else
    order_ended (s);
  rc = cow_engine_resolve (run.engine, &s->id, commits);
  /* One that was given up for want of room is not there any more. */
  if (rc < 0 && rc != -ENOENT && !run.store_failed)
    crash_wrong ("a set can't be resolved: %s", strerror (-rc));
  if (rc < 0)
    s->failed = model_tick ();
  return rc < 0 || !commits ? -ECANCELED : 0;
}

static int
finish (struct cow_set *set, struct mset *s)
{
  const bool undecided =
    s->persistent && run.f->undecided && fibres_draw (3) == 0;
  struct cow_error err = COW_ERROR_INIT;
  int rc;

  if (undecided)
    rc = cow_set_finish_undecided (set, &err);
  else {
    s->finish = model_tick ();
    rc = cow_set_finish (set, &err);
  }
  if (rc < 0) {
    phase_failed ("finish", rc, &err);
    s->failed = model_tick ();
    return rc;
  }
  if (undecided)
    rc = decide (s);
  if (rc == 0)
    s->finished = model_tick ();
  return rc;
}

struct mset *
client_make_set (unsigned members, bool persistent, unsigned stop_before)
{
  struct mset *s = model_set_new ();
  struct cow_error err = COW_ERROR_INIT;
  struct cow_set_options o = { .persistent = persistent };
  struct cow_set *set;
  int rc;

  if (s == NULL)
    return NULL;
  s->id = o.id = cow_id_new ();
  s->members = members;
  s->persistent = persistent;
  if (cow_set_new (run.engine, &o, &err, &set) < 0)
    crash_wrong ("a new set failed: %s", err.text);
  for (unsigned v = 0; v < run.f->volumes; v++) {
    s->snapshot[v] = cow_id_new ();
    if ((members & 1u << v)
        && cow_set_add (set, run.volume[v], &s->snapshot[v], &err) < 0)
      crash_wrong ("adding v%u failed: %s", v, err.text);
  }
  run.making = set;
  rc = take_instant (set, s, stop_before);
  run.finishing = rc == 0;
  if (rc == 0)
    rc = finish (set, s);
  if (rc < 0)
    order_ended (s);
  run.making = NULL;
  run.finishing = false;
  while (run.using > 0)
    cow_sleep_ns (1000);
  cow_set_put (set);
  if (rc < 0)
    return NULL;
  client_read_set (s);
  return s;
}

void
client_delete_set (struct mset *s)
{
  int rc;

  order_ended (s);
  s->end = model_tick ();
  rc = cow_engine_delete_set (run.engine, &s->id);
  s->ended = model_tick ();
  if (rc < 0)
    crash_wrong ("a deletion failed: %s", strerror (-rc));
}

/* ----------------------------------------------------- clients by chance */

static void
change_something (unsigned v)
{
  const struct crash_features *f = run.f;
  const unsigned block = COW_MAX (f->block_bytes / f->unit_bytes, 1u);
  const unsigned units = model.units[v];
  const unsigned lot = (unsigned) fibres_draw (16);
  unsigned first = (unsigned) fibres_draw (units), n, flags = 0;
  enum model_change kind = CHANGE_WRITE;

  n = 1 + (unsigned) fibres_draw (fibres_draw (8) ? 2 * block : units);
  if (fibres_draw (2)) {
    first -= first % block;
    n = COW_MAX (n - n % block, block);
  }
  n = COW_MIN (n, units - first);
  if (lot >= 14 && f->trims)
    kind = CHANGE_TRIM;
  else if (lot >= 11 && f->zeroes) {
    kind = CHANGE_ZERO;
    flags |= fibres_draw (2) ? COW_MAY_TRIM : 0;
  }
  if (fibres_draw (8) == 0)
    flags |= COW_FUA;
  client_change (kind, v, first, n, flags);
}

static void
leave (void)
{
  if (--run.at_work == 0) {
    client_read_all ();
    run.done = true;
    cow_engine_wake (run.engine);
  }
}

static void
writer (void *opaque)
{
  (void) opaque;
  for (unsigned i = 0; i < run.f->operations; i++) {
    const unsigned v = (unsigned) fibres_draw (run.f->volumes);

    if (fibres_draw (run.f->flushes ? 3 : 10) == 0)
      client_flush (v);
    else
      change_something (v);
  }
  leave ();
}

static struct mset *
any_set (void)
{
  struct mset *s = NULL;
  unsigned n = 0;

  for (unsigned i = 0; i < model.sets; i++)
    if (model.set[i].finished != NEVER && model.set[i].end == NEVER
        && fibres_draw (++n) == 0)
      s = &model.set[i];
  return s;
}

static unsigned
sets_there (void)
{
  unsigned n = 0;

  for (unsigned i = 0; i < model.sets; i++)
    n += model.set[i].finished != NEVER && model.set[i].end == NEVER;
  return n;
}

static void
maker (void *opaque)
{
  (void) opaque;
  for (unsigned i = 0; i < COW_MAX (run.f->operations / 4, 2u); i++) {
    const unsigned all = (1u << run.f->volumes) - 1;
    const unsigned members =
      fibres_draw (2) ? all : 1 + (unsigned) fibres_draw (all);

    client_make_set (members, run.f->persistent && fibres_draw (4) > 0,
                     fibres_draw (6) ? 0 : 1 + (unsigned) fibres_draw (5));
    cow_sleep_ns (fibres_draw (100000));
    while (sets_there () > SETS_KEPT
           || (sets_there () > 0 && fibres_draw (5) == 0))
      client_delete_set (any_set ());
  }
  leave ();
}

static void
reader (void *opaque)
{
  (void) opaque;
  for (unsigned i = 0; i < run.f->operations && !run.done; i++) {
    struct mset *s = any_set ();

    if (s != NULL && s->resolved)
      client_read_set (s);
    cow_sleep_ns (1 + fibres_draw (50000));
  }
  leave ();
}

/* Aborts the set that is being made, at some moment, or soon after its record
 * may be on its way.
 */
static void
canceller (void *opaque)
{
  (void) opaque;
  while (!run.done && run.at_work > 1) {
    const bool late = fibres_draw (2);

    cow_sleep_ns (1 + fibres_draw (late ? 4000 : 200000));
    if (run.making == NULL || (late ? !run.finishing : fibres_draw (3) > 0))
      continue;
    run.using++;
    (void) cow_set_abort (run.making);
    run.using--;
  }
  leave ();
}

void
clients_spawn (void)
{
  run.watching = true;
  run.at_work = run.f->clients + 1 + run.f->reader + run.f->canceller;
  for (unsigned i = 0; i < run.f->clients; i++)
    fibre_spawn ("writer", writer, NULL);
  fibre_spawn ("maker", maker, NULL);
  if (run.f->reader)
    fibre_spawn ("reader", reader, NULL);
  if (run.f->canceller)
    fibre_spawn ("canceller", canceller, NULL);
}
