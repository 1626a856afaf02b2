/* crash-model.c - what is known about bytes, changes and sets.  See crash.h.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Each change has a number, and each unit of bytes the list of the changes
 * that met it.  A change may be what a unit shows unless a later one (issued
 * after it had returned) is certain to be there: after a kill one that was
 * done, after a loss of power one that was durable.  A trim may take effect at
 * any time until the next change, or never: it is certain never.
 */
#include "config.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "sim/crash.h"
#include "sim/random.h"

struct change {
  enum model_change kind;
  unsigned v;
  uint64_t seed;                /* of the words that it writes */
  uint32_t issued, returned;
  uint32_t done, durable;       /* NEVER: it failed, or not yet */
};

/* The changes of a unit, by number; 0 stands for what was there at first. */
struct history {
  uint32_t *change;
  unsigned count, room;
};

struct model model;

static struct {
  struct change *change;
  unsigned changes, room;
  uint64_t base[VOLUMES_MAX][UNITS_MAX];
  struct history unit[VOLUMES_MAX][UNITS_MAX];
} m;

static unsigned
add_change (const struct change *c)
{
  if (m.changes == m.room) {
    m.room = m.room ? 2 * m.room : 64;
    m.change = realloc (m.change, m.room * sizeof *m.change);
    if (m.change == NULL)
      abort ();
  }
  m.change[m.changes] = *c;
  return m.changes++;
}

static void
forget_changes (void)
{
  for (unsigned v = 0; v < VOLUMES_MAX; v++)
    for (unsigned u = 0; u < UNITS_MAX; u++)
      m.unit[v][u].count = 0;
  m.changes = 0;
  add_change (&(struct change) { .kind = CHANGE_WRITE });
}

void
model_begin (const struct crash_features *f)
{
  memset (&model, 0, sizeof model);
  model.f = f;
  model.now = 1;
  for (unsigned v = 0; v < f->volumes; v++) {
    model.units[v] = (unsigned) (f->size_bytes[v] / f->unit_bytes);
    assert (model.units[v] <= UNITS_MAX);
  }
  memset (m.base, 0, sizeof m.base);
  forget_changes ();
}

static void
clear_set (struct mset *s)
{
  for (unsigned v = 0; v < VOLUMES_MAX; v++)
    free (s->words[v]);
  memset (s, 0, sizeof *s);
}

void
model_end (void)
{
  for (unsigned i = 0; i < model.sets; i++)
    clear_set (&model.set[i]);
  model.sets = 0;
}

uint32_t
model_tick (void)
{
  return ++model.now;
}

void
model_base (unsigned v, unsigned unit, uint64_t word)
{
  m.base[v][unit] = word;
}

/* What a change makes of a unit: never 0, but where it makes zeroes. */
static uint64_t
word_of (unsigned number, unsigned v, unsigned unit)
{
  uint64_t seed;

  if (number == 0)
    return m.base[v][unit];
  if (m.change[number].kind != CHANGE_WRITE)
    return 0;
  seed = ((uint64_t) number << 32 | v << 24 | unit) ^ m.change[number].seed << 13;
  return sim_random_next (&seed) | 1;
}

uint64_t
model_rewritten (unsigned v, unsigned unit)
{
  uint64_t seed = UINT64_C (0x5a5a5a5a00000000) | v << 24 | unit;

  return sim_random_next (&seed) | 1;
}

unsigned
model_issue (enum model_change kind, unsigned v, unsigned first, unsigned n,
             uint8_t *buf)
{
  const struct change c = {
    .kind = kind, .v = v, .seed = run.seed, .issued = model_tick (), .returned = NEVER,
    .done = NEVER, .durable = NEVER,
  };
  const unsigned number = add_change (&c);

  assert (first + n <= model.units[v]);
  for (unsigned u = first; u < first + n; u++) {
    struct history *h = &m.unit[v][u];
    const uint64_t word = word_of (number, v, u);

    if (h->count == h->room) {
      h->room = h->room ? 2 * h->room : 8;
      h->change = realloc (h->change, h->room * sizeof *h->change);
      if (h->change == NULL)
        abort ();
    }
    h->change[h->count++] = number;
    for (unsigned i = 0; buf != NULL && i < model.f->unit_bytes; i += 8)
      memcpy (buf + (u - first) * model.f->unit_bytes + i, &word, 8);
  }
  return number;
}

void
model_returned (unsigned number, bool done, bool durable)
{
  struct change *c = &m.change[number];

  c->returned = model_tick ();
  if (done && c->kind != CHANGE_TRIM)
    c->done = c->returned;
  if (done && durable && c->kind != CHANGE_TRIM)
    c->durable = c->returned;
}

void
model_flushed (unsigned v, uint32_t issued)
{
  const uint32_t now = model_tick ();

  for (unsigned i = 1; i < m.changes; i++) {
    struct change *c = &m.change[i];

    if (c->v == v && c->done < issued && c->durable == NEVER)
      c->durable = now;
  }
}

/* Is a change, which returned at `returned`, certain to be gone at `when`? */
static bool
is_over (unsigned v, unsigned unit, uint32_t returned, uint32_t when,
         enum crash_kind kind)
{
  const struct history *h = &m.unit[v][unit];

  for (unsigned i = 0; i < h->count; i++) {
    const struct change *c = &m.change[h->change[i]];

    if (c->issued > returned
        && (kind == CRASH_KILL ? c->done : c->durable) <= when)
      return true;
  }
  return false;
}

static bool
fits (unsigned v, unsigned unit, uint64_t word, uint32_t begun, uint32_t when,
      enum crash_kind kind)
{
  const struct history *h = &m.unit[v][unit];

  for (unsigned i = h->count + 1; i-- > 0;) {
    const unsigned number = i == 0 ? 0 : h->change[i - 1];
    const struct change *c = &m.change[number];

    if (c->issued <= begun && word_of (number, v, unit) == word
        && !is_over (v, unit, c->returned, when, kind))
      return true;
  }
  return false;
}

bool
model_origin_fits (unsigned v, unsigned unit, uint64_t word, uint32_t when,
                   enum crash_kind kind)
{
  return fits (v, unit, word, when, when, kind);
}

bool
model_instant_fits (const struct mset *s, unsigned v, unsigned unit,
                    uint64_t word)
{
  return fits (v, unit, word, s->switched, s->hold, CRASH_KILL);
}

/* The issue of the first change that may be what is seen, 0 if it is none. */
static uint32_t
issue_of (unsigned v, unsigned unit, uint64_t word)
{
  const struct history *h = &m.unit[v][unit];

  if (word == word_of (0, v, unit))
    return 0;
  for (unsigned i = 0; i < h->count; i++)
    if (word_of (h->change[i], v, unit) == word)
      return m.change[h->change[i]].issued;
  return 0;
}

bool
model_is_one_instant (const struct mset *s)
{
  uint32_t latest = s->hold;

  for (unsigned pass = 0; pass < 2; pass++)
    for (unsigned v = 0; v < model.f->volumes; v++)
      for (unsigned u = 0; (s->members & 1u << v) && u < model.units[v]; u++) {
        if (pass == 0)
          latest = COW_MAX (latest, issue_of (v, u, s->words[v][u]));
        else if (!fits (v, u, s->words[v][u], s->switched, latest,
                        CRASH_KILL))
          return false;
      }
  return true;
}

struct mset *
model_set_new (void)
{
  struct mset *s;

  if (model.sets == SETS_MAX)
    return NULL;
  s = &model.set[model.sets++];
  memset (s, 0, sizeof *s);
  s->hold = s->switched = s->finish = s->finished = s->failed = NEVER;
  s->end = s->ended = s->prepared = s->deciding = NEVER;
  for (unsigned v = 0; v < model.f->volumes; v++) {
    s->words[v] = calloc (model.units[v], sizeof (uint64_t));
    if (s->words[v] == NULL)
      abort ();
  }
  return s;
}

struct mset *
model_find_set (const struct cow_id *id)
{
  for (unsigned i = 0; i < model.sets; i++)
    if (cow_id_equal (&model.set[i].id, id))
      return &model.set[i];
  return NULL;
}

bool
model_word (const uint8_t *unit, uint64_t *word)
{
  memcpy (word, unit, sizeof *word);
  return memcmp (unit, unit + 8, model.f->unit_bytes - 8) == 0;
}

/* What came after `when` never was; what was under way came to no end. */
static void
forget_after (uint32_t when)
{
  unsigned kept = 1;

  while (kept < m.changes && m.change[kept].issued <= when) {
    struct change *c = &m.change[kept++];

    c->returned = COW_MIN (c->returned, when);
    if (c->done > when)
      c->done = NEVER;
    if (c->durable > when)
      c->durable = NEVER;
  }
  m.changes = kept;
  for (unsigned v = 0; v < model.f->volumes; v++)
    for (unsigned u = 0; u < model.units[v]; u++) {
      struct history *h = &m.unit[v][u];

      while (h->count > 0 && h->change[h->count - 1] >= kept)
        h->count--;
    }
  model.now = when + 1;
}

static void
begin_with (struct sim_disk *d)
{
  static uint8_t bytes[SIZE_MAX_BYTES];

  forget_changes ();
  model.now = 1;
  for (unsigned v = 0; v < model.f->volumes; v++) {
    sim_disk_peek (d, disk_name (v), 0, bytes, model.f->size_bytes[v]);
    for (unsigned u = 0; u < model.units[v]; u++)
      memcpy (&m.base[v][u], bytes + (uint64_t) u * model.f->unit_bytes, 8);
  }
}

void
model_rebase (const struct state *s, const bool *are_there)
{
  unsigned kept = 0;

  if (s->kind == CRASH_KILL)
    forget_after (s->when);
  else
    begin_with (s->disk);
  for (unsigned i = 0; i < model.sets; i++) {
    struct mset set = model.set[i];

    if (!are_there[i]) {
      clear_set (&model.set[i]);
      continue;
    }
    set.hold = set.switched = set.finish = set.finished = 0;
    set.failed = set.end = set.ended = NEVER;
    set.prepared = set.deciding = NEVER;
    set.resolved = true;        /* check_state() has seen it */
    memset (&model.set[i], 0, sizeof set);
    model.set[kept++] = set;
  }
  model.sets = kept;
}
