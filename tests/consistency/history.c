/* history.c - see history.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"

struct change {
  uint64_t issued;
  _Atomic uint64_t acknowledged; /* HISTORY_NEVER until it is */
  uint64_t sector;
  uint32_t count;
  uint16_t volume;
  uint16_t kind;
};

struct log {
  struct change *change;
  _Atomic size_t count;
  size_t folded;                /* lock; that many are in the needs */
};

/* Of a sector: the last time of issue among the changes that have to be there,
 * and which that is; and the last time at which one that may be there, and
 * leaves zeroes, was acknowledged.
 */
struct need {
  uint64_t issued, zeroed;
  uint32_t writer;
  size_t number;
};

#define CHECKS_MAX 16

struct history {
  _Atomic uint64_t clock;
  unsigned volumes, writers;
  size_t room;
  uint64_t *sectors;
  struct log *log;

  pthread_mutex_t lock;
  uint64_t from[CHECKS_MAX];    /* lock; of the checks that have begun, or 0 */
  struct need **need;           /* lock; of what every check will need */
};

/* The head of a sector; what follows depends on it. */
struct stamp {
  char magic[8];
  uint32_t volume, writer;
  uint64_t sector, number;
  uint64_t known;               /* acknowledged before: had been done */
  uint64_t fill;
};
static const char magic[8] = "history";

static void *
take (size_t n, size_t size)
{
  void *p = calloc (n, size);

  if (p == NULL) {
    fprintf (stderr, "out of memory\n");
    exit (1);
  }
  return p;
}

struct history *
history_new (unsigned volumes, const uint64_t *sectors, unsigned writers,
             size_t changes)
{
  struct history *h = take (1, sizeof *h);

  h->volumes = volumes;
  h->writers = writers;
  h->room = changes;
  h->sectors = take (volumes, sizeof *sectors);
  memcpy (h->sectors, sectors, volumes * sizeof *sectors);
  h->log = take (writers, sizeof *h->log);
  for (unsigned w = 0; w < writers; w++)
    h->log[w].change = take (changes, sizeof (struct change));
  h->need = take (volumes, sizeof *h->need);
  for (unsigned v = 0; v < volumes; v++)
    h->need[v] = take (sectors[v] + 1, sizeof **h->need);
  pthread_mutex_init (&h->lock, NULL);
  atomic_init (&h->clock, 1);
  return h;
}

void
history_free (struct history *h)
{
  for (unsigned w = 0; w < h->writers; w++)
    free (h->log[w].change);
  for (unsigned v = 0; v < h->volumes; v++)
    free (h->need[v]);
  pthread_mutex_destroy (&h->lock);
  free (h->need);
  free (h->log);
  free (h->sectors);
  free (h);
}

uint64_t
history_now (struct history *h)
{
  return atomic_fetch_add (&h->clock, 1);
}

size_t
history_issue (struct history *h, unsigned writer, enum history_kind kind,
               unsigned volume, uint64_t sector, uint32_t count)
{
  struct log *log = &h->log[writer];
  size_t number = atomic_load_explicit (&log->count, memory_order_relaxed);
  struct change *c;

  assert (volume < h->volumes && count > 0
          && sector + count <= h->sectors[volume]);
  if (number == h->room)
    return SIZE_MAX;
  c = &log->change[number];
  c->kind = kind;
  c->volume = volume;
  c->sector = sector;
  c->count = count;
  atomic_store_explicit (&c->acknowledged, HISTORY_NEVER,
                         memory_order_relaxed);
  c->issued = history_now (h);
  atomic_store (&log->count, number + 1);
  return number;
}

void
history_acknowledge (struct history *h, unsigned writer, size_t number)
{
  atomic_store (&h->log[writer].change[number].acknowledged, history_now (h));
}

static uint64_t
fill_of (const struct stamp *s)
{
  uint64_t x = s->number * UINT64_C (0x9e3779b97f4a7c15) + s->sector * 31
               + ((uint64_t) s->writer << 48) + s->known;

  return x ^ x >> 29;
}

void
history_stamp (const struct history *h, unsigned writer, size_t number,
               void *buf)
{
  const struct change *c = &h->log[writer].change[number];
  uint8_t *out = buf;

  for (uint32_t i = 0; i < c->count; i++, out += HISTORY_SECTOR) {
    struct stamp s = {
      .volume = c->volume,
      .writer = writer,
      .sector = c->sector + i,
      .number = number,
      .known = c->issued,
    };

    memcpy (s.magic, magic, sizeof magic);
    s.fill = fill_of (&s);
    memcpy (out, &s, sizeof s);
    for (size_t at = sizeof s; at < HISTORY_SECTOR; at += 8)
      memcpy (out + at, &s.fill, 8);
  }
}

uint64_t
history_changes (struct history *h)
{
  uint64_t sum = 0;

  for (unsigned w = 0; w < h->writers; w++)
    sum += atomic_load (&h->log[w].count);
  return sum;
}

/* ---- checking */

/* What a check works with. */
struct checking {
  struct history *h;
  uint64_t from, until;
  uint64_t newest;              /* time of issue of what can be seen, or from */
  size_t *count;                /* of each log, as it was at the start */
  size_t *folded;               /* of each log: what is in need already */
  bool **seen;                  /* of each log, from folded on: can be seen */
  struct need **need;
  char *text;
  size_t len;
};

enum content { STAMPED, ZEROES, TORN };

static bool
is_filled (const uint8_t *p, size_t from, uint64_t word)
{
  for (size_t at = from; at < HISTORY_SECTOR; at += 8)
    if (memcmp (p + at, &word, 8) != 0)
      return false;
  return true;
}

static enum content
content_of (const uint8_t *p, struct stamp *s)
{
  memcpy (s, p, sizeof *s);
  if (memcmp (s->magic, magic, sizeof magic) == 0 && s->fill == fill_of (s)
      && is_filled (p, sizeof *s, s->fill))
    return STAMPED;
  return is_filled (p, 0, 0) ? ZEROES : TORN;
}

static struct change *
change_of (struct checking *k, unsigned writer, size_t number)
{
  return &k->h->log[writer].change[number];
}

static uint64_t
acknowledged (const struct change *c)
{
  return atomic_load (&c->acknowledged);
}

static bool
covers (const struct change *c, unsigned v, uint64_t sector)
{
  return c->volume == v && c->sector <= sector
         && sector < c->sector + c->count;
}

static const char *const kinds[] = { "write", "zero", "trim" };

#define SAY(k, ...) (snprintf ((k)->text, (k)->len, __VA_ARGS__), false)

/* First look: which changes can be seen, and what nobody can have written. */
static bool
look (struct checking *k, const uint8_t *const *data)
{
  struct stamp s;

  for (unsigned v = 0; v < k->h->volumes; v++)
    for (uint64_t i = 0; data[v] && i < k->h->sectors[v]; i++) {
      const struct change *c;

      if (content_of (data[v] + i * HISTORY_SECTOR, &s) != STAMPED)
        continue;
      if (s.volume != v || s.sector != i)
        return SAY (k, "sector %" PRIu64 " of volume %u has what was written "
                       "to sector %" PRIu64 " of volume %u",
                    i, v, s.sector, s.volume);
      if (s.writer >= k->h->writers || s.number >= k->count[s.writer])
        return SAY (k, "sector %" PRIu64 " of volume %u: nobody wrote that",
                    i, v);
      c = change_of (k, s.writer, s.number);
      if (c->kind != HISTORY_WRITE || !covers (c, v, i)
          || c->issued != s.known)
        return SAY (k, "sector %" PRIu64 " of volume %u: nobody wrote that "
                       "there",
                    i, v);
      if (c->issued > k->until)
        return SAY (k, "H2: sector %" PRIu64 " of volume %u has change %u/%"
                       PRIu64 ", issued at %" PRIu64 ", after %" PRIu64,
                    i, v, s.writer, s.number, c->issued, k->until);
      if (c->issued > k->newest)
        k->newest = c->issued;
      if (s.number >= k->folded[s.writer])
        k->seen[s.writer][s.number - k->folded[s.writer]] = true;
    }
  return true;
}

static void
enter_change (struct need *need, const struct change *c, uint32_t writer,
              size_t number, bool needed, bool zeroes)
{
  uint64_t ended = acknowledged (c);

  if (zeroes && ended > need->zeroed)
    need->zeroed = ended;
  if (needed && c->issued > need->issued) {
    need->issued = c->issued;
    need->writer = writer;
    need->number = number;
  }
}

/* What was done before `done` has to be there (H1; for an instant, H3: before
 * the newest change that can be seen was issued), and what can be seen (H4).
 */
static void
gather_needs (struct checking *k, const uint8_t *const *data, bool instant)
{
  uint64_t done = instant ? k->newest : k->from;

  for (unsigned w = 0; w < k->h->writers; w++)
    for (size_t n = k->folded[w]; n < k->count[w]; n++) {
      const struct change *c = change_of (k, w, n);
      bool needed = c->kind != HISTORY_TRIM
                    && (acknowledged (c) < done
                        || (instant && k->seen[w][n - k->folded[w]]));
      bool zeroes = c->kind != HISTORY_WRITE && c->issued <= k->until;

      if (data[c->volume] == NULL || (!needed && !zeroes))
        continue;
      for (uint32_t i = 0; i < c->count; i++)
        enter_change (&k->need[c->volume][c->sector + i], c, w, n, needed,
                      zeroes);
    }
}

/* Changes that every check from now on needs go to the history's own needs, so
 * that no check has to look at all of them.
 */
static void
fold_locked (struct history *h)
{
  uint64_t bound = HISTORY_NEVER;

  for (unsigned i = 0; i < CHECKS_MAX; i++)
    if (h->from[i] != 0 && h->from[i] < bound)
      bound = h->from[i];
  for (unsigned w = 0; w < h->writers; w++) {
    struct log *log = &h->log[w];
    size_t count = atomic_load (&log->count);

    for (; log->folded < count; log->folded++) {
      const struct change *c = &log->change[log->folded];

      if (acknowledged (c) >= bound)
        break;
      for (uint32_t i = 0; i < c->count; i++)
        enter_change (&h->need[c->volume][c->sector + i], c, w, log->folded,
                      c->kind != HISTORY_TRIM, c->kind != HISTORY_WRITE);
    }
  }
}

uint64_t
history_begin (struct history *h)
{
  uint64_t from = 0;

  pthread_mutex_lock (&h->lock);
  for (unsigned i = 0; i < CHECKS_MAX && from == 0; i++)
    if (h->from[i] == 0)
      from = h->from[i] = history_now (h);
  pthread_mutex_unlock (&h->lock);
  assert (from != 0);
  return from;
}

void
history_cancel (struct history *h, uint64_t from)
{
  pthread_mutex_lock (&h->lock);
  for (unsigned i = 0; i < CHECKS_MAX; i++)
    if (h->from[i] == from)
      h->from[i] = 0;
  pthread_mutex_unlock (&h->lock);
}

/* Two changes of the sector under way at once, the later of which may be in
 * the set?
 */
static bool
may_be_torn (struct checking *k, unsigned v, uint64_t sector)
{
  uint64_t need = k->need[v][sector].issued;
  unsigned found = 0;

  for (unsigned w = 0; w < k->h->writers; w++)
    for (size_t n = 0; n < k->count[w]; n++) {
      const struct change *c = change_of (k, w, n);

      found += covers (c, v, sector) && c->issued <= k->until
               && acknowledged (c) >= need;
    }
  return found >= 2;
}

static bool
check_sector (struct checking *k, const uint8_t *p, unsigned v, uint64_t i)
{
  const struct need *need = &k->need[v][i];
  const struct change *c;
  struct stamp s;

  switch (content_of (p, &s)) {
  case TORN:
    if (may_be_torn (k, v, i))
      return true;
    return SAY (k, "sector %" PRIu64 " of volume %u is of no one change", i,
                v);
  case ZEROES:
    /* At first it was; and a zero or a trim that did not end before what has
     * to be there began leaves it so.
     */
    if (need->issued == 0 || need->zeroed >= need->issued)
      return true;
    return SAY (k, "sector %" PRIu64 " of volume %u is zero; change %u/%zu, "
                   "issued at %" PRIu64 ", is missing",
                i, v, need->writer, need->number, need->issued);
  case STAMPED:
    break;
  }
  c = change_of (k, s.writer, s.number);
  if (acknowledged (c) >= need->issued)
    return true;
  {
    const struct change *m = change_of (k, need->writer, need->number);

    return SAY (
      k, "%s: sector %" PRIu64 " of volume %u has write %u/%" PRIu64
      ", %" PRIu64 "..%" PRIu64 "; %s %u/%zu of sectors %" PRIu64 "+%u, %"
      PRIu64 "..%" PRIu64 ", is missing (from %" PRIu64 ", until %" PRIu64 ")",
      acknowledged (m) < k->from ? "H1" : "H3 or H4", i, v, s.writer, s.number,
      c->issued, acknowledged (c), kinds[m->kind], need->writer, need->number,
      m->sector, m->count, m->issued, acknowledged (m), k->from, k->until);
  }
}

static void
begin_check (struct checking *k)
{
  struct history *h = k->h;

  k->count = take (h->writers, sizeof *k->count);
  k->folded = take (h->writers, sizeof *k->folded);
  k->seen = take (h->writers, sizeof *k->seen);
  k->need = take (h->volumes, sizeof *k->need);
  for (unsigned v = 0; v < h->volumes; v++)
    k->need[v] = take (h->sectors[v] + 1, sizeof **k->need);
  pthread_mutex_lock (&h->lock);
  fold_locked (h);
  for (unsigned w = 0; w < h->writers; w++) {
    k->folded[w] = h->log[w].folded;
    k->count[w] = atomic_load (&h->log[w].count);
    k->seen[w] = take (k->count[w] - k->folded[w] + 1, sizeof **k->seen);
  }
  for (unsigned v = 0; v < h->volumes; v++)
    memcpy (k->need[v], h->need[v], h->sectors[v] * sizeof **k->need);
  pthread_mutex_unlock (&h->lock);
}

static void
end_check (struct checking *k)
{
  history_cancel (k->h, k->from);
  for (unsigned v = 0; v < k->h->volumes; v++)
    free (k->need[v]);
  for (unsigned w = 0; w < k->h->writers; w++)
    free (k->seen[w]);
  free (k->need);
  free (k->seen);
  free (k->folded);
  free (k->count);
}

bool
history_check (struct history *h, const uint8_t *const *data, uint64_t from,
               uint64_t until, bool instant, char *text, size_t len)
{
  struct checking k = { .h = h, .from = from, .until = until, .newest = from,
                        .text = text, .len = len };
  bool ok;

  begin_check (&k);
  ok = look (&k, data);
  if (ok) {
    gather_needs (&k, data, instant);
    for (unsigned v = 0; ok && v < h->volumes; v++)
      for (uint64_t i = 0; ok && data[v] && i < h->sectors[v]; i++)
        ok = check_sector (&k, data[v] + i * HISTORY_SECTOR, v, i);
  }
  end_check (&k);
  return ok;
}
