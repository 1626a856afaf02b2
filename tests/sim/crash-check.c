/* crash-check.c - the verdict on what a crash has left.  See crash.h.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Outside of fibres: one thread, in which time passes only when somebody
 * waits.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/sync.h"
#include "set/engine.h"
#include "sim/crash.h"
#include "sim/random.h"

#define DEPTH_MAX 2u            /* crashes within recovery, and in that */
#define INSIDE_ONE_IN 24u       /* states of which recovery crashes */
#define REOPEN_ONE_IN 8u        /* states that are closed and opened again */
#define WORK_MAX 100000u        /* steps until an engine is idle */

/* A state that is being judged. */
struct checked {
  const struct state *s;
  const struct crash_features *f;
  struct cow_engine *engine;
  struct cow_volume *volume[VOLUMES_MAX];
  uint8_t bytes[SIZE_MAX_BYTES];
};

static void
open_engine (struct checked *c)
{
  struct cow_error err = COW_ERROR_INIT;

  if (engine_start (c->f, c->s->disk, &c->engine, c->volume, &err) < 0)
    crash_wrong ("it can't be opened: %s", err.text);
}

static void
close_engine (struct checked *c)
{
  const int rc = cow_engine_close (c->engine);

  if (rc < 0)
    crash_wrong ("it can't be closed: %s", strerror (-rc));
  cow_engine_free (c->engine);
  c->engine = NULL;
}

static void
work (struct checked *c)
{
  unsigned n = 0;

  while (cow_engine_step (c->engine, 0))
    if (++n > WORK_MAX)
      crash_wrong ("its background work does not end");
}

/* ------------------------------------------------------------ the origins */

static void
check_origins (struct checked *c)
{
  const struct state *s = c->s;

  for (unsigned v = 0; v < c->f->volumes; v++) {
    const int rc = cow_volume_read (c->volume[v], c->bytes,
                                    (uint32_t) c->f->size_bytes[v], 0);

    if (rc < 0)
      crash_wrong ("v%u can't be read: %s", v, strerror (-rc));
    for (unsigned u = 0; u < model.units[v]; u++) {
      uint64_t word;

      if (!model_word (c->bytes + (uint64_t) u * c->f->unit_bytes, &word))
        crash_wrong ("v%u is torn at unit %u", v, u);
      if (!model_origin_fits (v, u, word, s->when, s->kind))
        crash_wrong ("v%u has %llx at unit %u: not the last that was durable, "
                     "nor what came later",
                     v, (unsigned long long) word, u);
    }
  }
}

/* --------------------------------------------------------------- the sets */

/* How a set may be found. */
static bool
may_be_there (const struct mset *m, uint32_t when)
{
  return m->persistent && m->finish <= when && m->failed > when
         && m->ended > when;
}

static bool
must_be_there (const struct mset *m, uint32_t when)
{
  return m->persistent && m->finished <= when && m->end > when;
}

/* The members of a set that was found: which of them are alive. */
static unsigned
check_members (const struct mset *m, const struct cow_set_info *info)
{
  unsigned found = 0, alive = 0;

  for (unsigned i = 0; i < info->count; i++)
    for (unsigned v = 0; v < model.f->volumes; v++) {
      const struct cow_snapshot_info *snap = &info->snapshots[i];

      if (!(m->members & 1u << v)
          || !cow_id_equal (&snap->id, &m->snapshot[v])
          || strcmp (snap->volume, volume_name (v)) != 0)
        continue;
      found |= 1u << v;
      if (snap->end == COW_ALIVE)
        alive |= 1u << v;
      else if (!m->lost[v]
               && !(model.f->runs_full && snap->end == COW_LOST_STORE_FULL))
        crash_wrong ("a snapshot of v%u is lost for no reason: %s", v,
                     cow_snapshot_end_text (snap->end));
    }
  if (found != m->members)
    crash_wrong ("a set has members %x, not %x", found, m->members);
  return alive;
}

/* alive[i]: the members of set i that are alive. */
static void
check_list (struct checked *c, unsigned *alive, bool *are_there)
{
  struct cow_set_info *list;
  size_t count;
  bool there[SETS_MAX] = { false };

  memset (alive, 0, SETS_MAX * sizeof *alive);
  if (cow_engine_sets (c->engine, &list, &count) < 0)
    crash_wrong ("its sets can't be listed");
  for (size_t i = 0; i < count; i++) {
    const struct mset *m = model_find_set (&list[i].id);

    if (m == NULL)
      crash_wrong ("it has a set that nobody made");
    if (!may_be_there (m, c->s->when))
      crash_wrong ("it has set %u, which was not finished, or is deleted",
                   (unsigned) (m - model.set));
    there[m - model.set] = true;
    alive[m - model.set] = check_members (m, &list[i]);
  }
  free (list);
  for (unsigned i = 0; i < model.sets; i++)
    if (!there[i] && must_be_there (&model.set[i], c->s->when))
      crash_wrong ("it lacks set %u, which was finished", i);
  if (are_there != NULL)
    memcpy (are_there, there, sizeof there);
}

/* Those that wait for a decision; then they are told to have been aborted. */
static void
check_undecided (struct checked *c)
{
  bool there[SETS_MAX] = { false };
  struct cow_set_info *list;
  size_t count;

  if (cow_engine_undecided_sets (c->engine, &list, &count) < 0)
    crash_wrong ("its undecided sets can't be listed");
  for (size_t i = 0; i < count; i++) {
    const struct mset *m = model_find_set (&list[i].id);

    if (m != NULL)
      there[m - model.set] = true;
    if (cow_engine_resolve (c->engine, &list[i].id, false) < 0)
      crash_wrong ("an undecided set can't be resolved");
  }
  free (list);
  for (unsigned i = 0; i < model.sets; i++) {
    const struct mset *m = &model.set[i];

    if (!there[i] && m->prepared <= c->s->when && m->deciding > c->s->when
        && m->failed == NEVER)
      crash_wrong ("it lacks set %u, which waits for a decision", i);
  }
}

/* The same, whatever has been lost since. */
static void
list_again (struct checked *c, unsigned *alive)
{
  bool lost[SETS_MAX][VOLUMES_MAX];

  for (unsigned i = 0; i < model.sets; i++) {
    memcpy (lost[i], model.set[i].lost, sizeof lost[i]);
    for (unsigned v = 0; c->f->runs_full && v < VOLUMES_MAX; v++)
      model.set[i].lost[v] = true;
  }
  check_list (c, alive, NULL);
  for (unsigned i = 0; i < model.sets; i++)
    memcpy (model.set[i].lost, lost[i], sizeof lost[i]);
}

struct holes {
  const uint8_t *bytes;
  uint64_t next;
};

static int
check_extent (void *opaque, uint64_t offset, uint64_t len,
              enum cow_extent_kind kind)
{
  struct holes *h = opaque;

  if (offset != h->next)
    crash_wrong ("an extent of a snapshot begins at %llu, not %llu",
                 (unsigned long long) offset, (unsigned long long) h->next);
  h->next = offset + len;
  if (kind == COW_EXTENT_HOLE && len > 0
      && (h->bytes[offset] != 0
          || memcmp (h->bytes + offset, h->bytes + offset + 1, len - 1) != 0))
    crash_wrong ("a hole of a snapshot has data in the %llu bytes at %llu",
                 (unsigned long long) len, (unsigned long long) offset);
  return 0;
}

static void
compare_member (struct checked *c, struct mset *m, unsigned v,
                const char *when)
{
  const uint32_t len = (uint32_t) c->f->size_bytes[v];
  struct holes holes = { c->bytes, 0 };
  char text[COW_ID_TEXT_SIZE];
  struct cow_error err = COW_ERROR_INIT;
  struct cow_view *w = NULL;
  int rc;

  cow_id_format (&m->id, text);
  if (cow_view_open (c->volume[v], text, &err, &w) < 0)
    crash_wrong ("%s: a snapshot of v%u can't be opened: %s", when, v,
                 err.text);
  rc = cow_view_read (w, c->bytes, len, 0);
  if (rc < 0)
    crash_wrong ("%s: a snapshot of v%u can't be read: %s", when, v,
                 strerror (-rc));
  for (unsigned u = 0; u < model.units[v]; u++) {
    uint64_t word;

    if (!model_word (c->bytes + (uint64_t) u * c->f->unit_bytes, &word))
      crash_wrong ("%s: set %u of v%u is torn at unit %u", when,
                   (unsigned) (m - model.set), v, u);
    if (m->resolved ? word != m->words[v][u]
                    : !model_instant_fits (m, v, u, word))
      crash_wrong ("%s: set %u of v%u has %llx at unit %u, not %llx", when,
                   (unsigned) (m - model.set), v, (unsigned long long) word,
                   u, (unsigned long long) m->words[v][u]);
    m->words[v][u] = word;
  }
  rc = cow_view_extents (w, len, 0, check_extent, &holes);
  if (rc < 0 || holes.next != len)
    crash_wrong ("%s: the extents of a snapshot of v%u: %d", when, v, rc);
  cow_view_close (w);
  stats.sets++;
}

static void
compare_sets (struct checked *c, const unsigned *alive, const char *when)
{
  for (unsigned i = 0; i < model.sets; i++)
    for (unsigned v = 0; v < c->f->volumes; v++)
      if (alive[i] & 1u << v)
        compare_member (c, &model.set[i], v, when);
}

/* A small store may have run full meanwhile: those that were given up. */
static void
leave_out_lost (struct checked *c, unsigned *alive)
{
  for (unsigned i = 0; i < model.sets; i++) {
    struct cow_set_info info;

    if (!c->f->runs_full || !alive[i]
        || cow_engine_find_set (c->engine, &model.set[i].id, &info) < 0)
      continue;
    for (unsigned k = 0; k < info.count; k++)
      for (unsigned v = 0; v < c->f->volumes; v++)
        if (info.snapshots[k].end == COW_LOST_STORE_FULL
            && cow_id_equal (&info.snapshots[k].id, &model.set[i].snapshot[v]))
          alive[i] &= ~(1u << v);
  }
}

static bool
is_any (const unsigned *alive)
{
  for (unsigned i = 0; i < model.sets; i++)
    if (alive[i])
      return true;
  return false;
}

/* --------------------------------------------------------------- afterwards */

static void
rewrite_origins (struct checked *c)
{
  for (unsigned v = 0; v < c->f->volumes; v++) {
    for (unsigned u = 0; u < model.units[v]; u++) {
      const uint64_t word = model_rewritten (v, u);

      for (unsigned i = 0; i < c->f->unit_bytes; i += 8)
        memcpy (c->bytes + (uint64_t) u * c->f->unit_bytes + i, &word, 8);
    }
    /* Block by block: a small ring has room for no more. */
    for (uint64_t at = 0, n; at < c->f->size_bytes[v]; at += n) {
      n = COW_MIN (c->f->size_bytes[v] - at, (uint64_t) c->f->block_bytes);
      if (cow_volume_write (c->volume[v], c->bytes + at, (uint32_t) n, at, 0)
          < 0)
        crash_wrong ("v%u can't be rewritten", v);
      work (c);
    }
  }
}

/* Every exception serves somebody: what a sweep would free is a leak. */
static bool
serves (void *opaque, uint32_t predecessor, uint32_t epoch)
{
  if (cow_volume_live_max (opaque, epoch) <= predecessor)
    crash_wrong ("an exception of epoch %u after %u serves nobody", epoch,
                 predecessor);
  return true;
}

static void
check_leaks (struct checked *c)
{
  for (unsigned v = 0; v < c->f->volumes; v++) {
    const struct cow_sweep sweep = { .serves = serves,
                                     .opaque = c->volume[v] };

    if (cow_map_verify (c->volume[v]->map) < 0)
      crash_wrong ("the map of v%u is damaged", v);
    for (uint64_t r = 0; r < cow_map_regions (c->volume[v]->map); r++)
      cow_map_sweep (c->volume[v]->map, r, &sweep);
  }
}

static void
delete_all (struct checked *c)
{
  struct cow_engine_status status;
  struct cow_set_info *list;
  size_t count;

  if (cow_engine_sets (c->engine, &list, &count) < 0)
    crash_wrong ("its sets can't be listed");
  for (size_t i = 0; i < count; i++)
    if (cow_engine_delete_set (c->engine, &list[i].id) < 0)
      crash_wrong ("a set can't be deleted");
  free (list);
  work (c);
  cow_engine_status (c->engine, &status);
  if (status.exceptions != 0 || status.store_used_bytes != 0
      || c->engine->arena.live != 0)
    crash_wrong ("left over: %llu exceptions, %llu bytes of the store, %u "
                 "nodes",
                 (unsigned long long) status.exceptions,
                 (unsigned long long) status.store_used_bytes,
                 c->engine->arena.live);
}

/* -------------------------------------------------------------- a verdict */

/* Opened, with crashes in it. */
static struct state *
open_watched (struct checked *c, uint64_t seed, bool inside)
{
  struct state *states = NULL;
  struct watch w = {
    .seed = seed, .draws = 1, .kind = c->s->kind, .when = c->s->when,
    .last = &states,
  };

  snprintf (w.prefix, sizeof w.prefix, "%s", c->s->name);
  if (inside)
    sim_disk_observe (c->s->disk, watch_step, &w);
  open_engine (c);
  if (inside)
    work (c);
  sim_disk_observe (c->s->disk, NULL, NULL);
  return states;
}

void
check_state (struct state *s, unsigned depth, bool *are_there)
{
  static struct checked checked[DEPTH_MAX + 1];
  struct checked *c = &checked[depth];
  unsigned alive[SETS_MAX];
  uint64_t lots = run.seed ^ s->when;
  bool inside, reopen;
  struct state *states;

  for (const char *p = s->name; *p; p++)
    lots = lots * 31 + (unsigned char) *p;
  inside = depth < DEPTH_MAX
           && sim_random_below (&lots, INSIDE_ONE_IN) == 0;
  reopen = sim_random_below (&lots, REOPEN_ONE_IN) == 0;
  crash_now_checking (s->name);
  c->s = s;
  c->f = run.f;
  states = open_watched (c, sim_random_next (&lots), inside);
  check_origins (c);
  check_list (c, alive, are_there);
  compare_sets (c, alive, "at once");
  check_undecided (c);
  work (c);
  check_leaks (c);
  if (is_any (alive)) {
    rewrite_origins (c);
    leave_out_lost (c, alive);
    compare_sets (c, alive, "after the origin was rewritten");
    if (reopen) {
      unsigned again[SETS_MAX];

      close_engine (c);
      open_engine (c);
      list_again (c, again);
      if (!c->f->runs_full && memcmp (again, alive, sizeof again) != 0)
        crash_wrong ("opened again, it has other snapshots");
      compare_sets (c, alive, "opened again");
      work (c);
    }
    check_leaks (c);
  }
  delete_all (c);
  close_engine (c);
  sim_disk_free (s->disk);
  while (states != NULL) {
    struct state *next = states->next;

    check_state (states, depth + 1, NULL);
    states = next;
  }
  free (s);
}
