/* replay.c - what a store has becomes the engine's again.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * While the store is opened its entries are gathered; when all are there
 * (settle_all) they are matched with the volumes that are served, what is not
 * to be believed ends, and sets and live lists are built.  Then exceptions
 * come, and go to the maps unless nobody can need them.  Nothing is written
 * before cow_store_begin(), so a refusal changes nothing.
 *
 * Threads: one, before the engine is in use.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/mutant.h"
#include "set/engine.h"

/* Volumes are numbered one after the other: more is no number of ours. */
#define NUMBERS_MAX (1u << 20)
#define INSERT_BLOCKS 256u

struct gathered_set {
  struct cow_set_record r;
  struct gathered_set *next;
};

struct gathered_volume {
  struct cow_volume_record r;
  bool there;
  struct cow_slot_of_volume *slot; /* NULL: not served */
  uint32_t epoch_max;
  uint32_t oldest_live;         /* epoch; UINT32_MAX: nothing is live */
};

struct cow_reopening {
  struct cow_error *err;
  struct gathered_set *sets;    /* by number, the lowest first */
  struct gathered_volume *volume; /* by number */
  uint32_t numbers;
  bool settled;
};

static int
out_of_memory (struct cow_engine *e, struct cow_error *err)
{
  return cow_error_set (err, -ENOMEM, "store=%s: out of memory",
                        e->store_directory);
}

static int
malformed (struct cow_engine *e, struct cow_error *err, const char *what)
{
  return cow_error_set (err, -EUCLEAN,
                        "store=%s: a record of %s makes no sense; run "
                        "cowset-check",
                        e->store_directory, what);
}

/* --------------------------------------------------------------- gathering */

static struct gathered_volume *
volume_of (struct cow_reopening *o, uint32_t number)
{
  return number < o->numbers && o->volume[number].there ? &o->volume[number]
                                                         : NULL;
}

static int
gather_volume (struct cow_engine *e, const void *body, size_t body_bytes,
               struct cow_error *err)
{
  struct cow_reopening *o = e->reopening;
  struct cow_volume_record r;

  if (cow_record_read_volume (body, body_bytes, &r) < 0
      || r.number >= NUMBERS_MAX)
    return malformed (e, err, "a volume");
  if (r.number >= o->numbers) {
    uint32_t n = r.number + 1;
    struct gathered_volume *p = realloc (o->volume, n * sizeof *p);

    if (p == NULL)
      return out_of_memory (e, err);
    memset (p + o->numbers, 0, (n - o->numbers) * sizeof *p);
    o->volume = p;
    o->numbers = n;
  }
  o->volume[r.number].r = r;
  o->volume[r.number].there = true;
  o->volume[r.number].oldest_live = UINT32_MAX;
  o->volume[r.number].epoch_max
    = COW_MAX (o->volume[r.number].epoch_max, r.epoch);
  return 0;
}

static int
gather_set (struct cow_engine *e, const void *body, size_t body_bytes,
            struct cow_error *err)
{
  struct cow_reopening *o = e->reopening;
  struct gathered_set *g = malloc (sizeof *g), **link;
  int rc;

  if (g == NULL)
    return out_of_memory (e, err);
  rc = cow_record_read_set (body, body_bytes, &g->r);
  if (rc < 0) {
    free (g);
    return rc == -ENOMEM ? out_of_memory (e, err)
                         : malformed (e, err, "a set");
  }
  for (link = &o->sets; *link; link = &(*link)->next)
    if (cow_id_equal (&(*link)->r.id, &g->r.id)) {
      struct gathered_set *old = *link;

      *link = old->next;
      free (old->r.annotation);
      free (old);
      break;
    }
  for (link = &o->sets; *link && (*link)->r.number < g->r.number;
       link = &(*link)->next)
    ;
  g->next = *link;
  *link = g;
  e->last_number = COW_MAX (e->last_number, g->r.number);
  return 0;
}

/* An end of a set that is gone by now is nothing to wonder about. */
static void
gather_end (struct cow_reopening *o, const struct cow_end_record *end)
{
  for (struct gathered_set *g = o->sets; g != NULL; g = g->next)
    for (unsigned i = 0; i < g->r.members; i++)
      if (cow_id_equal (&g->r.member[i].snapshot, &end->snapshot))
        g->r.member[i].end = end->end;
}

static bool
is_gone (const struct cow_set_record *r)
{
  for (unsigned i = 0; i < r->members; i++)
    if (r->member[i].end != COW_DELETED)
      return false;
  return true;
}

static void
drop_gone (struct cow_reopening *o)
{
  for (struct gathered_set **link = &o->sets; *link;) {
    struct gathered_set *g = *link;

    if (!is_gone (&g->r)) {
      link = &g->next;
      continue;
    }
    *link = g->next;
    free (g->r.annotation);
    free (g);
  }
}

static int
gather_note (struct cow_engine *e, const void *body, size_t body_bytes,
             struct cow_error *err)
{
  const void *data;
  struct cow_id key;
  size_t len;
  int rc;

  if (cow_record_read_note (body, body_bytes, &key, &data, &len) < 0)
    return malformed (e, err, "a note");
  cow_mutex_lock (&e->sets_lock);
  rc = cow_note_set_locked (e, &key, data, len);
  cow_mutex_unlock (&e->sets_lock);
  return rc < 0 && rc != -ENOENT ? out_of_memory (e, err) : 0;
}

static int
gather_entry (void *opaque, unsigned type, unsigned flags, const void *body,
              size_t body_bytes, struct cow_error *err)
{
  struct cow_engine *e = opaque;
  struct cow_end_record end;
  uint64_t number;

  switch (type) {
  case COW_ENTRY_SET:
    return gather_set (e, body, body_bytes, err);
  case COW_ENTRY_END:
    for (unsigned i = 0; cow_record_read_end (body, body_bytes, i, &end); i++)
      gather_end (e->reopening, &end);
    drop_gone (e->reopening);
    return 0;
  case COW_ENTRY_VOLUME:
    return gather_volume (e, body, body_bytes, err);
  case COW_ENTRY_NOTE:
    return gather_note (e, body, body_bytes, err);
  case COW_ENTRY_COUNTERS:
    if (cow_record_read_counters (body, body_bytes, &number) < 0)
      return malformed (e, err, "its counters");
    e->last_number = COW_MAX (e->last_number, number);
    return 0;
  default:
    if (flags & COW_ENTRY_MUST_KNOW)
      return cow_error_set (err, -EPROTONOSUPPORT,
                            "store=%s: has records of kind %u, which are of a "
                            "newer cowset: use that",
                            e->store_directory, type);
    return 0;
  }
}

/* ---------------------------------------------------------------- settling */

/* Those of a volume that are alive end.  How many. */
static unsigned
end_of_volume (struct cow_reopening *o, uint32_t number,
               enum cow_snapshot_end end)
{
  unsigned n = 0;

  for (struct gathered_set *g = o->sets; g != NULL; g = g->next)
    for (unsigned i = 0; i < g->r.members; i++)
      if (g->r.member[i].volume == number && g->r.member[i].end == COW_ALIVE) {
        g->r.member[i].end = end;
        n++;
      }
  return n;
}

static int
gather_ended (void *opaque, unsigned end, const uint32_t *volumes,
              unsigned count)
{
  struct cow_engine *e = opaque;
  struct cow_reopening *o = e->reopening;

  for (unsigned i = 0; i < count; i++)
    (void) end_of_volume (o, volumes[i], (enum cow_snapshot_end) end);
  for (uint32_t n = 0; count == 0 && n < o->numbers; n++)
    (void) end_of_volume (o, n, (enum cow_snapshot_end) end);
  return 0;
}

static unsigned
alive_of_volume (const struct cow_reopening *o, uint32_t number)
{
  unsigned n = 0;

  for (const struct gathered_set *g = o->sets; g != NULL; g = g->next)
    for (unsigned i = 0; i < g->r.members; i++)
      n += g->r.member[i].volume == number
           && g->r.member[i].end == COW_ALIVE;
  return n;
}

/* Match the volumes of the store with those served, by name.  A new one gets a
 * number that none had.
 */
static int
match_volumes (struct cow_engine *e, struct cow_error *err)
{
  struct cow_reopening *o = e->reopening;
  uint32_t next = o->numbers;

  for (uint32_t n = 0; n < o->numbers; n++) {
    struct gathered_volume *g = &o->volume[n];
    struct cow_volume *v;

    if (!g->there)
      continue;
    v = cow_engine_find_volume (e, g->r.name);
    if (v != NULL) {
      g->slot = cow_engine_slot (e, v);
      v->store_number = n;
      g->slot->record = g->r;
      continue;
    }
    if (alive_of_volume (o, n) > 0)
      return cow_error_set (
        err, -ENODEV,
        "store=%s: has snapshots of the volume %s, which is not served: "
        "serve it too (volume=%s:PATH), or take another store",
        e->store_directory, g->r.name, g->r.name);
  }
  for (unsigned i = 0; i < e->volumes; i++) {
    struct cow_slot_of_volume *slot = e->volume[i];

    if (slot->record.name[0] != '\0')
      continue;
    slot->volume->store_number = next;
    slot->record.number = next++;
    snprintf (slot->record.name, sizeof slot->record.name, "%s",
              slot->volume->name);
  }
  return 0;
}

/* Is the origin what the store left? */
static void
check_origin (struct cow_engine *e, struct gathered_volume *g)
{
  struct cow_volume *v = g->slot->volume;
  const char *sign = cow_origin_sign (e, v, &g->r);
  unsigned lost;

  if (sign == NULL)
    return;
  if (g->r.identity.size_bytes == v->size_bytes && e->options.force_origin) {
    cow_log (COW_LOG_WARNING,
             "%s: %s; its snapshots are kept (force-origin)", v->name, sign);
    return;
  }
  lost = end_of_volume (e->reopening, g->r.number, COW_LOST_ORIGIN_CHANGED);
  if (lost > 0)
    cow_log (COW_LOG_ERROR,
             "%s: %s: its %u snapshots are lost; force-origin=true keeps them "
             "where the content is known to be the same",
             v->name, sign, lost);
  atomic_fetch_add (&e->invalidated, lost);
}

static int
add_member (struct cow_engine *e, struct cow_set *s,
            const struct cow_member_record *r, struct cow_error *err)
{
  struct gathered_volume *g = volume_of (e->reopening, r->volume);
  struct cow_snapshot *snap;
  struct cow_volume *v;

  if (g == NULL)
    return malformed (e, err, "a set");
  if (g->slot == NULL)
    return 0;                   /* it has ended, with its volume */
  v = g->slot->volume;
  snap = calloc (1, sizeof *snap);
  if (snap == NULL || cow_volume_live_reserve (v) < 0) {
    free (snap);
    return out_of_memory (e, err);
  }
  snap->id = r->snapshot;
  snap->volume = v;
  snap->set = s;
  snap->epoch = r->epoch;
  snap->persistent = true;
  atomic_init (&snap->end, (int) r->end);
  atomic_init (&snap->ending, COW_ALIVE);
  atomic_init (&snap->count, 1);
  atomic_init (&snap->open, true);
  atomic_init (&snap->exceptions, r->exceptions);
  s->member[s->members++] = (struct cow_member) { .volume = v,
                                                  .snapshot = snap };
  if (r->end != COW_ALIVE)
    return 0;
  if (v->lives > 0 && v->live[v->lives - 1]->epoch >= r->epoch)
    return malformed (e, err, "a set");
  cow_volume_live_add (v, snap);
  g->oldest_live = COW_MIN (g->oldest_live, r->epoch);
  return 0;
}

static int
make_set (struct cow_engine *e, struct gathered_set *g, struct cow_error *err)
{
  struct cow_set *s = calloc (1, sizeof *s);
  int rc = 0;

  if (s == NULL)
    return out_of_memory (e, err);
  s->engine = e;
  s->id = g->r.id;
  memcpy (s->label, g->r.label, sizeof s->label);
  s->attributes = g->r.attributes;
  s->persistent = true;
  s->number = g->r.number;
  s->created_wall_ns = g->r.created_wall_ns;
  s->hold_ns = g->r.hold_ns;
  s->settle_ns = g->r.settle_ns;
  s->annotation = COW_STEAL (g->r.annotation);
  s->annotation_bytes = g->r.annotation_bytes;
  s->state = g->r.prepared ? COW_SET_UNDECIDED : COW_SET_COMMITTED;
  s->recording = COW_RECORD_DURABLE;
  s->undecided = g->r.prepared;
  s->listed = !g->r.prepared || COW_MUTANT (uncommitted_applied);
  cow_mutex_init (&s->lock);
  atomic_init (&s->count, 1);
  for (unsigned i = 0; rc == 0 && i < g->r.members; i++)
    rc = add_member (e, s, &g->r.member[i], err);
  if (rc < 0 || s->members == 0) {
    cow_set_drop (s);
    return rc;
  }
  s->older = e->newest;
  e->newest = s;
  return 0;
}

/* All entries are there. */
static int
settle_all (struct cow_engine *e)
{
  struct cow_reopening *o = e->reopening;
  int rc;

  if (o->settled)
    return 0;
  o->settled = true;
  drop_gone (o);
  rc = match_volumes (e, o->err);
  for (unsigned i = 0; rc == 0 && i < e->volumes; i++)
    if (e->volume[i]->volume->readonly)
      rc = cow_error_set (o->err, -EROFS,
                          "%s: can't be written, and there is a store for it: "
                          "make it writable, or serve it without store=",
                          e->volume[i]->volume->path);
  for (uint32_t n = 0; rc == 0 && n < o->numbers; n++)
    if (o->volume[n].slot != NULL)
      check_origin (e, &o->volume[n]);
  for (struct gathered_set *g = o->sets; rc == 0 && g != NULL; g = g->next) {
    for (unsigned i = 0; i < g->r.members; i++) {
      struct gathered_volume *v = volume_of (o, g->r.member[i].volume);

      if (v != NULL)
        v->epoch_max = COW_MAX (v->epoch_max, g->r.member[i].epoch);
    }
    rc = make_set (e, g, o->err);
  }
  return rc;
}

/* ------------------------------------------------------------- exceptions */

/* File n exceptions; how many there were already. */
static int
file_exceptions (struct cow_map *map, uint64_t block, unsigned n,
                 uint32_t epoch, const cow_place *places)
{
  int rc = cow_map_insert (map, block, n, epoch, places);
  int known = 0;

  if (rc != -EEXIST)
    return rc;
  for (unsigned i = 0; i < n; i++) {
    rc = cow_map_insert (map, block + i, 1, epoch, &places[i]);
    if (rc < 0 && rc != -EEXIST)
      return rc;
    known += rc == -EEXIST;
  }
  return known;
}

static int
take_exception (void *opaque, uint32_t volume, uint64_t block, unsigned n,
                uint32_t epoch, uint64_t place)
{
  struct cow_engine *e = opaque;
  struct gathered_volume *g;
  cow_place places[INSERT_BLOCKS];
  int rc = settle_all (e), known = 0;

  if (rc < 0)
    return rc;
  g = volume_of (e->reopening, volume);
  if (g == NULL)
    return (int) n;             /* of a set that was never finished */
  g->epoch_max = COW_MAX (g->epoch_max, epoch);
  if (g->oldest_live > epoch)
    return (int) n;
  if (block >= g->slot->volume->blocks
      || n > g->slot->volume->blocks - block)
    return malformed (e, e->reopening->err, "old data");
  for (unsigned done = 0, some; done < n; done += some) {
    some = COW_MIN (n - done, INSERT_BLOCKS);
    for (unsigned i = 0; i < some; i++)
      places[i] = place == COW_PLACE_ZERO ? place : place + done + i;
    rc = file_exceptions (g->slot->volume->map, block + done, some, epoch,
                          places);
    if (rc == -ENOSPC)
      return cow_error_set (e->reopening->err, -ENOMEM,
                            "store=%s: has more old data than the memory for "
                            "its map may hold; raise store-limit",
                            e->store_directory);
    if (rc < 0)
      return rc;
    known += rc;
  }
  return known;
}

/* ----------------------------------------------------------------- opening */

/* The epoch to come has seen no write: what is in the map is what has been
 * preserved, and its bits are found by first touches.
 */
static int
begin_volume (struct cow_engine *e, struct cow_slot_of_volume *slot,
              uint32_t epoch, struct cow_error *err)
{
  struct cow_volume *v = slot->volume;

  cow_gate_begin (&v->gate, epoch);
  atomic_store (&v->settled, epoch);
  slot->record.epoch = epoch;
  slot->record.stopped = false;
  if (cow_file_identity (v->file, &slot->record.identity) < 0)
    slot->record.identity = (struct cow_identity) { 0 };
  slot->record.identity.size_bytes = v->size_bytes;
  if (v->lives > 0 && !COW_MUTANT (no_root_after_restart)) {
    struct cow_root *root = cow_root_new (v->blocks, &e->bits_budget);

    if (root == NULL)
      return out_of_memory (e, err);
    atomic_store (&v->root[epoch & 1], root);
    cow_trims_open (&v->trims);
  }
  /* What serves nobody any more was read all the same. */
  atomic_fetch_add (&slot->sweeps_wanted, 1);
  return 0;
}

static int
begin_volumes (struct cow_engine *e, struct cow_error *err)
{
  struct cow_reopening *o = e->reopening;
  int rc = 0;

  for (unsigned i = 0; rc == 0 && i < e->volumes; i++) {
    struct cow_slot_of_volume *slot = e->volume[i];
    const struct gathered_volume *g
      = volume_of (o, slot->volume->store_number);

    if (g != NULL && g->epoch_max == UINT32_MAX)
      return malformed (e, err, "a volume");
    rc = begin_volume (e, slot, g ? g->epoch_max + 1 : 1, err);
  }
  return rc;
}

static void
forget_reopening (struct cow_engine *e)
{
  struct cow_reopening *o = e->reopening;

  while (o->sets) {
    struct gathered_set *g = o->sets;

    o->sets = g->next;
    free (g->r.annotation);
    free (g);
  }
  free (o->volume);
  free (o);
  e->reopening = NULL;
}

int
cow_engine_reopen (struct cow_engine *e,
                   const struct cow_store_options *options,
                   struct cow_error *err)
{
  struct cow_error why = COW_ERROR_INIT;
  struct cow_store_options o = *options;
  const struct cow_store_hooks hooks = {
    .entry = gather_entry,
    .ended = gather_ended,
    .exception = take_exception,
    .checkpoint = cow_engine_checkpoint,
    .opaque = e,
  };
  int rc;

  e->reopening = calloc (1, sizeof *e->reopening);
  if (e->reopening == NULL)
    return out_of_memory (e, err);
  e->reopening->err = &why;
  o.named = true;
  o.hooks = &hooks;
  rc = cow_store_open (e->io, &o, &why, &e->store);
  if (rc == 0)
    rc = settle_all (e);
  if (rc == 0)
    rc = begin_volumes (e, &why);
  forget_reopening (e);
  if (rc == 0)
    rc = cow_store_begin (e->store, &why);
  return rc < 0 ? cow_error_set (err, rc, "%s",
                                 why.text[0] ? why.text : strerror (-rc))
                : 0;
}
