/* crash-run.c - a life of an engine, and the states that crashes in it leave.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * States are drawn before and after each I/O: the disks after a kill, all kept,
 * the origins' changes kept and the store's lost, the reverse, and some at
 * random.  Those that are as one drawn before are left out, if nothing has
 * happened in the model meanwhile.
 */
#include "config.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/sync.h"
#include "sim/crash.h"
#include "sim/fibres.h"
#include "sim/random.h"

#define RUN_STEPS_MAX 20000000u
#define BASE_SEED UINT64_C (0x77)
#define HOLE_BYTES 8192u        /* each third of these is a hole */

struct run run;
struct crash_stats stats;
const char *only_state;
unsigned only_life;

/* ------------------------------------------------------- what was seen */

/* A set of numbers that grows. */
static struct {
  uint64_t *slot;
  size_t size, count;
} seen;

static bool
put_seen (uint64_t key)
{
  size_t at = (size_t) key & (seen.size - 1);

  while (seen.slot[at] != 0) {
    if (seen.slot[at] == key)
      return false;
    at = (at + 1) & (seen.size - 1);
  }
  seen.slot[at] = key;
  seen.count++;
  return true;
}

/* Whether the key is new. */
static bool
is_new (uint64_t key)
{
  if (seen.count * 2 >= seen.size) {
    const size_t size = seen.size;
    uint64_t *old = seen.slot;

    seen.size = size ? 2 * size : 1 << 16;
    seen.slot = calloc (seen.size, sizeof *seen.slot);
    if (seen.slot == NULL)
      abort ();
    seen.count = 0;
    for (size_t i = 0; i < size; i++)
      if (old[i] != 0)
        put_seen (old[i]);
    free (old);
  }
  return put_seen (key | 1);
}

/* ------------------------------------------------------------ the engine */

const char *
volume_name (unsigned v)
{
  static const char *const names[VOLUMES_MAX] = { "v0", "v1" };

  return names[v];
}

const char *
disk_name (unsigned v)
{
  static const char *const names[VOLUMES_MAX] = { "d0", "d1" };

  return names[v];
}

int
engine_start (const struct crash_features *f, struct sim_disk *d,
              struct cow_engine **e, struct cow_volume **volume,
              struct cow_error *err)
{
  const struct cow_engine_options o = {
    .use_io = sim_disk_io (d),
    .block_bytes = f->block_bytes,
    .store_path = STORE_PATH,
    .store_limit_bytes = f->store_limit_bytes,
    .ring_segments = f->ring_segments,
    .store_directory = f->persistent ? STORE_PATH : NULL,
    .journal_bytes = f->journal_bytes,
    .segment_blocks = f->segment_blocks,
  };
  int rc = cow_engine_new (&o, err, e);

  for (unsigned v = 0; rc == 0 && v < f->volumes; v++)
    rc = cow_volume_add (*e, volume_name (v), disk_name (v),
                         f->direct ? COW_CACHE_NONE : COW_CACHE_WRITEBACK,
                         false, err, &volume[v]);
  if (rc == 0)
    rc = cow_engine_start (*e, err);
  return rc;
}

/* The first disks: data, and holes among it. */
static struct sim_disk *
make_disks (const struct crash_features *f, uint64_t seed)
{
  const struct sim_disk_options options = {
    .seed = seed,
    .latency_min_ns = f->slow ? 1000 : 0,
    .latency_max_ns = f->slow ? 50000 : 0,
  };
  struct sim_disk *d = sim_disk_new (&options);
  uint64_t random = seed ^ BASE_SEED;
  uint8_t unit[4096];

  for (unsigned v = 0; v < f->volumes; v++) {
    const struct sim_file_options file = {
      .size_bytes = f->size_bytes[v],
      .direct_align_bytes = f->direct ? f->direct : 512,
    };

    sim_disk_create (d, disk_name (v), &file);
    for (unsigned u = 0; u < model.units[v]; u++) {
      const uint64_t at = (uint64_t) u * f->unit_bytes;
      const uint64_t word = sim_random_next (&random) | 1;

      if (f->holes && at / HOLE_BYTES % 3 == 1)
        continue;
      for (unsigned i = 0; i < f->unit_bytes; i += 8)
        memcpy (unit + i, &word, 8);
      sim_disk_poke (d, disk_name (v), at, unit, f->unit_bytes);
      model_base (v, u, word);
    }
  }
  return d;
}

/* ------------------------------------------------------------- the states */

static bool
is_wanted (const char *name)
{
  const size_t len = strlen (name);

  return only_state == NULL || run.life != only_life
         || strcmp (only_state, name) == 0
         || (strncmp (only_state, name, len) == 0 && only_state[len] == '/');
}

static void
add_state (struct watch *w, struct sim_disk *disk, enum crash_kind kind,
           const char *name)
{
  const uint32_t when = w->when ? w->when : model.now;
  const uint64_t digest = sim_disk_digest (disk);
  uint64_t key = digest ^ run.seed;
  struct state *s;

  stats.drawn++;
  /* What the model asks for depends on its time, and the kind of crash. */
  key += (uint64_t) when << 8 | kind | 0x10;
  if (!is_wanted (name) || !is_new (sim_random_next (&key))) {
    sim_disk_free (disk);
    return;
  }
  stats.judged++;
  key = digest;
  if (is_new (sim_random_next (&key))) {
    stats.distinct++;
    stats.inside += strchr (name, '/') != NULL;
  }
  s = calloc (1, sizeof *s);
  if (s == NULL)
    abort ();
  s->disk = disk;
  s->kind = kind;
  s->when = when;
  snprintf (s->name, sizeof s->name, "%s", name);
  *w->last = s;
  w->last = &s->next;
}

static const char *const origins[] = { "d0", "d1", NULL };
static const char *const all_but_origins[] = {
  STORE_FILE, STORE_PATH "/LIVE", NULL,
};

void
watch_step (void *opaque, struct sim_disk *d, const struct sim_step *step)
{
  struct watch *w = opaque;
  uint64_t seed = w->seed + step->number * 2 + step->after;
  char name[STATE_NAME_MAX];
  struct sim_disk *made;

  if (step->op == SIM_READ || !run.watching)
    return;
  if (w->steps_max > 0 && sim_random_below (&seed, w->steps_max) > 0)
    return;
  for (unsigned draw = 0; draw < 3 + w->draws; draw++) {
    enum crash_kind kind = CRASH_POWER;

    snprintf (name, sizeof name, "%.60s%s%u%c%u", w->prefix,
              *w->prefix ? "/" : "", (unsigned) step->number,
              step->after ? 'b' : 'a', draw);
    if (!is_wanted (name))
      continue;
    switch (draw) {
    case 0:
      made = sim_disk_clone (d);
      kind = w->kind;
      break;
    case 1:
      made = sim_disk_crash_keeping (d, origins, seed);
      break;
    case 2:
      made = sim_disk_crash_keeping (d, all_but_origins, seed);
      break;
    default:
      made = sim_disk_crash (d, sim_random_next (&seed));
    }
    add_state (w, made, kind, name);
  }
}

/* ----------------------------------------------------------------- a life */

static void
note_failure (const struct sim_step *step)
{
  for (unsigned v = 0; v < VOLUMES_MAX; v++)
    if (strcmp (step->file, disk_name (v)) == 0) {
      run.origin_failed[v] = true;
      return;
    }
  run.store_failed = true;
}

static void
observe (void *opaque, struct sim_disk *d, const struct sim_step *step)
{
  const bool stayed = fibres_stay (true);

  if (step->after && step->result < 0)
    note_failure (step);
  order_step (d, step);
  watch_step (opaque, d, step);
  fibres_stay (stayed);
}

static void
quiet (enum cow_log_level level, const char *text)
{
  if (getenv ("CRASH_LOG"))
    fprintf (stderr, "[%d] %s\n", (int) level, text);
}

static void
stepper (void *opaque)
{
  (void) opaque;
  while (!run.done)
    cow_engine_step (run.engine, cow_now_ns () + 10 * COW_NS_PER_MS);
}

/* After a failed sync what the cache holds never becomes stable, and who opens
 * the file next is not told: no engine could live on with that.
 */
static bool
can_go_on (const struct state *s)
{
  return s->kind != CRASH_KILL
         || (!run.origin_failed[0] && !run.origin_failed[1]
             && !run.store_failed);
}

static void
judge_all (struct state **keep, struct state *all)
{
  unsigned count = 0, chosen, i = 0;
  uint64_t lot = run.seed;
  bool are_there[SETS_MAX];

  for (const struct state *s = all; s != NULL; s = s->next)
    count += can_go_on (s);
  chosen = keep && count > 0 ? (unsigned) sim_random_below (&lot, count)
                             : count;
  while (all != NULL) {
    struct state *s = all, copy = *s;
    const bool stays = can_go_on (s) && i++ == chosen;

    all = s->next;
    if (stays)
      copy.disk = sim_disk_clone (s->disk);
    check_state (s, 0, are_there);
    if (stays) {
      *keep = malloc (sizeof copy);
      if (*keep == NULL)
        abort ();
      **keep = copy;
      model_rebase (&copy, are_there);
      keep = NULL;
      /* Those left are judged by what the model no longer knows. */
      while (all != NULL) {
        s = all;
        all = s->next;
        sim_disk_free (s->disk);
        free (s);
      }
    }
  }
}

void
run_life (const struct crash_features *f, uint64_t seed, unsigned life,
          struct sim_disk *disk, void (*spawn) (void), struct state **keep)
{
  const struct fibres_options fibres = {
    .seed = seed + life, .steps_max = RUN_STEPS_MAX,
  };
  struct state *states = NULL;
  struct watch watch = {
    .seed = seed + life, .draws = f->draws, .kind = CRASH_KILL, .last = &states,
    .steps_max = f->crash_one_in,
  };
  struct cow_error err = COW_ERROR_INIT;
  int rc;

  run = (struct run) { .seed = seed + life, .life = life, .f = f };
  order_begin ();
  cow_log_set_hook (quiet);
  fibres_begin (&fibres);
  crash_catch_signals ();
  run.disk = disk ? disk : make_disks (f, seed);
  rc = engine_start (f, run.disk, &run.engine, run.volume, &err);
  if (rc < 0)
    crash_wrong ("the engine does not start: %s", err.text);
  sim_disk_observe (run.disk, observe, &watch);
  if (f->fault.ops != 0)
    sim_disk_fault (run.disk, &f->fault);
  fibre_spawn ("stepper", stepper, NULL);
  spawn ();
  crash_now_checking ("the run");
  if (fibres_run () != FIBRES_DONE)
    crash_wrong ("the run does not end");
  crash_now_checking ("the stop");
  rc = cow_engine_close (run.engine);
  if (rc < 0 && !run.store_failed && !run.origin_failed[0]
      && !run.origin_failed[1])
    crash_wrong ("it can't be closed: %s", strerror (-rc));
  cow_engine_free (run.engine);
  run.engine = NULL;
  sim_disk_heal (run.disk);
  sim_disk_observe (run.disk, NULL, NULL);
  stats.runs++;
  stats.steps += sim_disk_steps (run.disk);
  judge_all (keep, states);
  sim_disk_free (run.disk);
  fibres_end ();
}
