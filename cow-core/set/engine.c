/* engine.c - an engine's life, its volumes, its figures.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bits.h"
#include "set/engine.h"

#define BLOCK_BYTES_DEFAULT 4096u
#define BLOCK_BYTES_MAX (1u << 20)
#define RING_DEFAULT 96u
/* A tenth of small volumes would not last through one copy of a large file, so
 * they may be preserved whole, up to this much.
 */
#define STORE_LIMIT_SMALL (UINT64_C (1) << 30)
#define STORE_LIMIT_MIN (UINT64_C (64) << 20)
#define TIMEOUT_DEFAULT (10 * COW_NS_PER_S)
#define SNAPSHOTS_DEFAULT 4096u
/* Bitmaps of the newest epochs: 1 GiB of them cover 32 TiB touched at random.
 */
#define BITS_PAGES_MAX ((UINT64_C (1) << 30) / 4096)

static int
check_options (struct cow_engine_options *o, struct cow_error *err)
{
  if (o->block_bytes == 0)
    o->block_bytes = BLOCK_BYTES_DEFAULT;
  if (o->block_bytes < BLOCK_BYTES_DEFAULT || o->block_bytes > BLOCK_BYTES_MAX
      || !cow_is_power_of_2 (o->block_bytes))
    return cow_error_set (err, -EINVAL,
                          "block-size=%u: expected a power of two from %u to "
                          "%u",
                          o->block_bytes, BLOCK_BYTES_DEFAULT,
                          BLOCK_BYTES_MAX);
  if (o->ring_segments == 0)
    o->ring_segments = RING_DEFAULT;
  if (o->ring_segments < 2)
    o->ring_segments = 2;
  if (o->store_timeout_ns == 0)
    o->store_timeout_ns = TIMEOUT_DEFAULT;
  if (o->snapshot_limit == 0)
    o->snapshot_limit = SNAPSHOTS_DEFAULT;
  return 0;
}

int
cow_engine_new (const struct cow_engine_options *options,
                struct cow_error *err, struct cow_engine **out)
{
  struct cow_engine *e = aligned_alloc (
    COW_CACHE_LINE, cow_round_up (sizeof *e, COW_CACHE_LINE));
  const char *path;
  int rc;

  if (e == NULL)
    return cow_error_set (err, -ENOMEM, "out of memory");
  memset (e, 0, sizeof *e);
  e->options = *options;
  cow_mutex_init (&e->sets_lock);
  cow_cond_init (&e->swept);
  for (unsigned i = 0; i < COW_HOLDS; i++)
    cow_hold_init (&e->hold[i]);
  atomic_init (&e->bits_budget.pages_left, BITS_PAGES_MAX);
  atomic_init (&e->watch.full_in_s, UINT64_MAX);

  rc = check_options (&e->options, err);
  if (options->store_directory)
    e->store_directory = strdup (options->store_directory);
  if (options->state_directory)
    e->state_directory = strdup (options->state_directory);
  path = options->store_path ? options->store_path : getenv ("TMPDIR");
  e->store_path = strdup (path && *path ? path : "/var/tmp");
  if (rc == 0
      && (e->store_path == NULL
          || (options->store_directory && e->store_directory == NULL)
          || (options->state_directory && e->state_directory == NULL)))
    rc = cow_error_set (err, -ENOMEM, "out of memory");
  if (rc == 0) {
    if (options->use_io != NULL)
      e->io = options->use_io;
    else {
      rc = cow_io_new (options->io, err, &e->io);
      e->own_io = rc == 0;
    }
  }
  if (rc < 0) {
    cow_engine_free (e);
    return rc;
  }
  *out = e;
  return 0;
}

/* The bound of the map's memory: all exceptions that the store can hold at 24
 * bytes each, a floor for the many that need no room there (holes, zeroes),
 * and no more than what a server may be expected to have.
 */
static uint64_t
map_limit (const struct cow_engine *e, uint64_t store_limit)
{
  uint64_t bytes = store_limit / e->options.block_bytes * 24;

  bytes += UINT64_C (256) << 20;
  return COW_MIN (bytes, UINT64_C (64) << 30);
}

/* Without store-limit.  A store that lasts is meant to keep sets for long. */
static uint64_t
default_limit (const struct cow_engine *e)
{
  uint64_t total = 0, whole, limit;

  for (unsigned i = 0; i < e->volumes; i++)
    total += e->volume[i]->volume->size_bytes;
  /* An eighth more than all of a small volume: for headers and segments that
   * are partly free.
   */
  whole = total + total / 8;
  if (e->store_directory)
    limit = COW_MAX (whole, STORE_LIMIT_SMALL);
  else
    limit = COW_MAX (total / 10, COW_MIN (whole, STORE_LIMIT_SMALL));
  return COW_MAX (limit, STORE_LIMIT_MIN);
}

/* Store and arena, once the volumes are known: the store's limit depends on
 * them.
 */
int
cow_engine_open (struct cow_engine *e, struct cow_error *err)
{
  struct cow_store_options o = {
    .directory = e->store_directory ? e->store_directory : e->store_path,
    .block_bytes = e->options.block_bytes,
    .limit_bytes = e->options.store_limit_bytes,
    .reserve_bytes = e->options.store_reserve_bytes,
    .area_bytes = e->options.journal_bytes,
    .segment_blocks = e->options.segment_blocks,
    .reserve_percent = e->options.store_reserve_percent,
    .ring_segments = e->options.ring_segments,
  };
  int rc;

  assert (!e->opened);
  if (o.limit_bytes == 0)
    o.limit_bytes = default_limit (e);
  if (cow_arena_init (&e->arena, map_limit (e, o.limit_bytes)) < 0)
    return cow_error_set (err, -ENOMEM, "no address space for the map");
  if (e->store_directory)
    rc = cow_engine_reopen (e, &o, err);
  else {
    rc = cow_engine_unmark (e, err);
    if (rc == 0)
      rc = cow_store_new (e->io, &o, err, &e->store);
  }
  if (rc < 0)
    return rc;
  for (unsigned i = 0; i < e->volumes; i++)
    e->volume[i]->volume->store = e->store;
  if (e->store_directory)
    cow_engine_mark (e);
  e->opened = true;
  return 0;
}

/* Snapshots that are there copy from the first write on, and the journal is for
 * more than them.
 */
static int
prepare_store (struct cow_engine *e, struct cow_error *err)
{
  struct cow_error why = COW_ERROR_INIT;
  int rc = 0;

  if (cow_engine_has_store (e))
    rc = cow_store_prepare (e->store, &why);
  /* Full: the oldest set makes room when it is needed. */
  if (rc == -ENOSPC)
    rc = 0;
  return rc < 0 ? cow_error_set (err, rc, "%s", why.text) : 0;
}

int
cow_engine_start (struct cow_engine *e, struct cow_error *err)
{
  int rc = 0;

  assert (!e->started);
  if (!e->opened)
    rc = cow_engine_open (e, err);
  if (rc == 0)
    rc = prepare_store (e, err);
  if (rc < 0)
    return rc;
  e->started = true;
  return 0;
}

const char *
cow_engine_store_path (const struct cow_engine *e)
{
  return e->store_directory ? e->store_directory : e->store_path;
}

bool
cow_engine_has_store (const struct cow_engine *e)
{
  return e->store_directory != NULL;
}

const struct cow_id *
cow_engine_store_id (const struct cow_engine *e)
{
  return cow_store_id (e->store);
}

/* Those that go with the engine: of a store that lasts, not the persistent
 * ones, which are only forgotten.
 */
static void
forget_sets (struct cow_engine *e)
{
  while (e->newest != NULL) {
    struct cow_set *s = e->newest;

    e->newest = s->older;
    for (unsigned i = 0; i < s->members; i++)
      if (!s->persistent)
        cow_volume_live_end (s->member[i].volume, s->member[i].snapshot,
                             COW_DELETED);
    cow_set_drop (s);
  }
}

static void
end_not_persistent (struct cow_engine *e)
{
  for (;;) {
    struct cow_set *s;
    struct cow_id id;

    cow_mutex_lock (&e->sets_lock);
    for (s = e->newest; s != NULL && s->persistent; s = s->older)
      ;
    if (s != NULL)
      id = s->id;
    cow_mutex_unlock (&e->sets_lock);
    if (s == NULL || cow_engine_delete_set (e, &id) < 0)
      return;
  }
}

/* The origin is at rest, on stable storage, and is known again by this. */
static void
note_stopped (struct cow_engine *e)
{
  bool stopped = true;

  for (unsigned i = 0; i < e->volumes; i++)
    stopped &= cow_volume_flush (e->volume[i]->volume) == 0;
  /* Its times, too. */
  cow_engine_mark (e);
  cow_mutex_lock (&e->sets_lock);
  for (unsigned i = 0; i < e->volumes; i++)
    stopped &= cow_file_identity (e->volume[i]->volume->file,
                                  &e->volume[i]->record.identity)
               == 0;
  e->stopping = stopped;
  cow_mutex_unlock (&e->sets_lock);
}

int
cow_engine_close (struct cow_engine *e)
{
  if (!e->started || !cow_engine_has_store (e))
    return 0;
  end_not_persistent (e);
  cow_engine_sweep_all (e);
  note_stopped (e);
  return cow_store_close (e->store);
}

void
cow_engine_free (struct cow_engine *e)
{
  if (e == NULL)
    return;
  forget_sets (e);
  cow_notes_clear (e);
  for (unsigned i = 0; i < e->volumes; i++) {
    cow_volume_close (e->volume[i]->volume);
    free (e->volume[i]);
  }
  free (e->volume);
  cow_store_free (e->store);
  cow_arena_clear (&e->arena);
  if (e->own_io)
    cow_io_free (e->io);
  for (unsigned i = 0; i < COW_HOLDS; i++)
    cow_hold_destroy (&e->hold[i]);
  cow_cond_destroy (&e->swept);
  cow_mutex_destroy (&e->sets_lock);
  free (e->state_directory);
  free (e->store_directory);
  free (e->store_path);
  free (e);
}

const char *
cow_engine_io_name (const struct cow_engine *e)
{
  return cow_io_name (e->io);
}

int
cow_volume_add (struct cow_engine *e, const char *name, const char *path,
                enum cow_cache cache, bool readonly, struct cow_error *err,
                struct cow_volume **out)
{
  struct cow_volume_options o = {
    .name = name,
    .path = path,
    .cache = cache,
    .readonly = readonly,
    .protect_snapshot = e->options.protect_snapshot,
    .number = e->volumes,
    .block_bytes = e->options.block_bytes,
    .store_timeout_ns = e->options.store_timeout_ns,
    .io = e->io,
    .arena = &e->arena,
    .bits_budget = &e->bits_budget,
  };
  struct cow_slot_of_volume *slot, **grown;
  int rc;

  assert (!e->started);
  if (strlen (name) > COW_NAME_MAX)
    return cow_error_set (err, -EINVAL, "%s: a name has at most %d bytes",
                          name, COW_NAME_MAX);
  if (cow_engine_find_volume (e, name) != NULL)
    return cow_error_set (err, -EEXIST, "%s: two volumes of that name", name);
  grown = realloc (e->volume, (e->volumes + 1) * sizeof *grown);
  if (grown == NULL)
    return cow_error_set (err, -ENOMEM, "%s: out of memory", name);
  e->volume = grown;
  slot = calloc (1, sizeof *slot);
  if (slot == NULL)
    return cow_error_set (err, -ENOMEM, "%s: out of memory", name);
  rc = cow_volume_open (&o, err, &slot->volume);
  if (rc < 0) {
    free (slot);
    return rc;
  }
  slot->volume->relieve = cow_engine_relieve;
  slot->volume->swept = cow_engine_swept;
  slot->volume->opaque = e;
  e->volume[e->volumes++] = slot;
  *out = slot->volume;
  return 0;
}

unsigned
cow_engine_volumes (const struct cow_engine *e)
{
  return e->volumes;
}

struct cow_volume *
cow_engine_volume (const struct cow_engine *e, unsigned i)
{
  return i < e->volumes ? e->volume[i]->volume : NULL;
}

struct cow_volume *
cow_engine_find_volume (const struct cow_engine *e, const char *name)
{
  for (unsigned i = 0; i < e->volumes; i++)
    if (strcmp (e->volume[i]->volume->name, name) == 0)
      return e->volume[i]->volume;
  return NULL;
}

struct cow_slot_of_volume *
cow_engine_slot (struct cow_engine *e, const struct cow_volume *v)
{
  assert (e->volume[v->number]->volume == v);
  return e->volume[v->number];
}

void
cow_engine_status (struct cow_engine *e, struct cow_engine_status *out)
{
  struct cow_store_status store;

  memset (out, 0, sizeof *out);
  out->has_store = cow_engine_has_store (e);
  out->store_fill_rate = atomic_load (&e->watch.rate);
  out->store_full_in_s = atomic_load (&e->watch.full_in_s);
  cow_store_status (e->store, &store);
  out->store_limit_bytes = store.limit_bytes;
  out->store_used_bytes = store.used_bytes;
  out->store_file_bytes = store.file_bytes;
  out->ring_bytes = store.ring_bytes;
  out->ring_dirty_bytes = store.ring_dirty_bytes;
  out->store_written_bytes = store.written_bytes;
  out->store_failed = store.failed;
  out->map_bytes = cow_arena_bytes (&e->arena)
                   + (BITS_PAGES_MAX
                      - atomic_load (&e->bits_budget.pages_left))
                       * 4096;
  out->invalidated_snapshots = atomic_load (&e->invalidated);
  for (unsigned i = 0; i < e->volumes; i++) {
    struct cow_volume *v = e->volume[i]->volume;

    out->exceptions += cow_map_exceptions (v->map);
    out->copied_bytes += atomic_load (&v->copied_bytes);
    out->zero_bytes += atomic_load (&v->zero_bytes);
    out->first_touches += atomic_load (&v->first_touches);
  }
}
