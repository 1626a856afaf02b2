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

  rc = check_options (&e->options, err);
  path = options->store_path ? options->store_path : getenv ("TMPDIR");
  e->store_path = strdup (path && *path ? path : "/var/tmp");
  if (rc == 0 && e->store_path == NULL)
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

/* Store and arena, once the first volume is known: the store's limit depends
 * on the volumes, so it is set at start.
 */
static int
make_store (struct cow_engine *e, struct cow_error *err)
{
  struct cow_store_options o = {
    .directory = e->store_path,
    .block_bytes = e->options.block_bytes,
    .limit_bytes = e->options.store_limit_bytes,
    .reserve_bytes = e->options.store_reserve_bytes,
    .reserve_percent = e->options.store_reserve_percent,
    .ring_segments = e->options.ring_segments,
  };

  if (o.limit_bytes == 0) {
    uint64_t total = 0;

    for (unsigned i = 0; i < e->volumes; i++)
      total += e->volume[i]->volume->size_bytes;
    /* An eighth more than all of a small volume: for headers and segments that
     * are partly free.
     */
    o.limit_bytes = COW_MAX (total / 10, COW_MIN (total + total / 8,
                                                  STORE_LIMIT_SMALL));
    o.limit_bytes = COW_MAX (o.limit_bytes, STORE_LIMIT_MIN);
  }
  if (cow_arena_init (&e->arena, map_limit (e, o.limit_bytes)) < 0)
    return cow_error_set (err, -ENOMEM, "no address space for the map");
  return cow_store_new (e->io, &o, err, &e->store);
}

int
cow_engine_start (struct cow_engine *e, struct cow_error *err)
{
  int rc;

  assert (!e->started);
  rc = make_store (e, err);
  if (rc < 0)
    return rc;
  for (unsigned i = 0; i < e->volumes; i++)
    e->volume[i]->volume->store = e->store;
  e->started = true;
  return 0;
}

void
cow_engine_free (struct cow_engine *e)
{
  if (e == NULL)
    return;
  while (e->newest != NULL) {
    struct cow_id id = e->newest->id;

    cow_engine_delete_set (e, &id);
  }
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
