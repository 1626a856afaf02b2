/* write-store.c - a life of a server with a store, for others to read.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   write-store DIR SEED STEPS VOLUMES BLOCK-BYTES close|die
 *
 * Serves DIR/v0.img ... with the store DIR/store, and does STEPS things that SEED
 * chooses: writes, zeroes, trims, sets over some of the volumes, persistent and
 * not, and deletions.  DIR/truth/SNAPSHOT is what the volume held when the
 * snapshot was made.  In the end it compares what the engine gives out with
 * that, writes the sets that it lists to DIR/sets, and closes the store in
 * order, or dies as it stands.  To be called again on the same DIR.
 *
 * Over real files and the real clock: what the page cache holds when it dies
 * stays there.  Exit status 3: a snapshot was given out with other bytes than it
 * had; 1: anything else that did not succeed.  Lines of DIR/sets: "set ID
 * LABEL", then one "snapshot ID VOLUME END" for each of the set's.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow.h"
#include "base/bits.h"
#include "sim/random.h"

#define VOLUMES_MAX 8u
#define VOLUME_BYTES(i) ((3u << 20) - 512u * (i))
#define LIVE_MAX 12u            /* persistent sets at a time */
#define S COW_NS_PER_S

static const char *dir;
static uint64_t rnd;
static struct cow_engine *engine;
static unsigned volumes;
static struct cow_volume *volume[VOLUMES_MAX];
static atomic_bool stopping;

static void
die (const char *what, int rc, const struct cow_error *err)
{
  fprintf (stderr, "write-store: %s: %s%s%s\n", what, strerror (-rc),
           err && err->code ? ": " : "", err && err->code ? err->text : "");
  _exit (1);
}

static char *
path_of (const char *fmt, const char *name)
{
  static char path[2][4096];
  static unsigned turn;
  char *p = path[turn++ % 2];
  int n = snprintf (p, sizeof path[0], fmt, dir, name);

  assert (n > 0 && (size_t) n < sizeof path[0]);
  return p;
}

static void *
step (void *opaque)
{
  (void) opaque;
  while (!atomic_load (&stopping))
    cow_engine_step (engine, cow_now_ns () + S / 20);
  return NULL;
}

/* ------------------------------------------------------------------- truth */

/* The whole of a volume or a snapshot. */
static uint8_t *
read_all (unsigned v, struct cow_view *w)
{
  const uint32_t size = VOLUME_BYTES (v);
  uint8_t *data = malloc (size);
  int rc;

  assert (data);
  rc = w ? cow_view_read (w, data, size, 0)
         : cow_volume_read (volume[v], data, size, 0);
  if (rc < 0)
    die ("reading", rc, NULL);
  return data;
}

static void
write_truth (unsigned v, const struct cow_id *snapshot)
{
  char id[COW_ID_TEXT_SIZE];
  uint8_t *data = read_all (v, NULL);
  FILE *f;

  cow_id_format (snapshot, id);
  f = fopen (path_of ("%s/truth/%s", id), "w");
  if (f == NULL || fwrite (data, VOLUME_BYTES (v), 1, f) != 1
      || fclose (f) != 0)
    die ("writing what is true", -errno, NULL);
  free (data);
}

static void
compare_truth (unsigned v, const struct cow_id *snapshot)
{
  struct cow_error err = COW_ERROR_INIT;
  char id[COW_ID_TEXT_SIZE];
  struct cow_view *w;
  uint8_t *data, *want = malloc (VOLUME_BYTES (v));
  FILE *f;
  int rc;

  cow_id_format (snapshot, id);
  rc = cow_view_open (volume[v], id, &err, &w);
  if (rc < 0)
    die ("opening a snapshot", rc, &err);
  data = read_all (v, w);
  f = fopen (path_of ("%s/truth/%s", id), "r");
  if (f == NULL || want == NULL || fread (want, VOLUME_BYTES (v), 1, f) != 1)
    die ("reading what is true", -errno, NULL);
  fclose (f);
  if (memcmp (data, want, VOLUME_BYTES (v)) != 0) {
    fprintf (stderr, "write-store: snapshot %s is not what it was\n", id);
    _exit (3);
  }
  free (data);
  free (want);
  cow_view_close (w);
}

/* -------------------------------------------------------------------- steps */

static void
change (void)
{
  static uint8_t data[512 << 10];
  const unsigned v = (unsigned) sim_random_below (&rnd, volumes);
  const uint32_t unit = sim_random_below (&rnd, 2) ? 4096 : 1;
  uint64_t offset = sim_random_below (&rnd, VOLUME_BYTES (v));
  uint32_t len;
  int rc;

  offset = offset / unit * unit;
  len = (uint32_t) (1 + sim_random_below (&rnd, 30)) * unit
        * (sim_random_below (&rnd, 8) == 0 ? 4 : 1);
  len = (uint32_t) COW_MIN (len, VOLUME_BYTES (v) - offset);
  switch (sim_random_below (&rnd, 8)) {
  case 0:
    rc = cow_volume_zero (volume[v], len, offset, COW_MAY_TRIM);
    break;
  case 1:
    rc = cow_volume_trim (volume[v], len, offset, 0);
    break;
  case 2:
    rc = cow_volume_flush (volume[v]);
    break;
  default:
    memset (data, (int) (1 + sim_random_below (&rnd, 255)), len);
    memcpy (data, &rnd, COW_MIN ((size_t) len, sizeof rnd));
    rc = cow_volume_write (volume[v], data, len, offset, 0);
  }
  if (rc < 0)
    die ("changing a volume", rc, NULL);
}

static void
make_set (void)
{
  struct cow_set_options options = {
    .id = cow_id_new (), .persistent = sim_random_below (&rnd, 4) > 0,
    .attributes = (uint32_t) sim_random_next (&rnd),
  };
  struct cow_error err = COW_ERROR_INIT;
  struct cow_id snapshot[VOLUMES_MAX];
  struct cow_set *s;
  unsigned mask = 1 + (unsigned) sim_random_below (&rnd, (1u << volumes) - 1);
  int rc;

  options.label = sim_random_below (&rnd, 2) ? "nightly" : NULL;
  rc = cow_set_new (engine, &options, &err, &s);
  for (unsigned v = 0; rc == 0 && v < volumes; v++)
    if (mask >> v & 1) {
      snapshot[v] = cow_id_new ();
      rc = cow_set_add (s, volume[v], &snapshot[v], &err);
    }
  if (rc == 0)
    rc = cow_set_prepare (s, cow_now_ns () + 60 * S, &err);
  if (rc == 0)
    rc = cow_set_hold (s, 10 * S, &err);
  /* Not before: a trim that was put off is done at any time. */
  for (unsigned v = 0; rc == 0 && v < volumes; v++)
    if (mask >> v & 1)
      write_truth (v, &snapshot[v]);
  if (rc == 0)
    rc = cow_set_switch (s, &err);
  if (rc == 0)
    rc = cow_set_settle (s, cow_now_ns () + 60 * S, &err);
  if (rc == 0)
    rc = cow_set_finish (s, &err);
  if (rc < 0)
    die ("making a set", rc, &err);
  cow_set_put (s);
}

static void
delete_one (void)
{
  struct cow_set_info *sets;
  const struct cow_set_info *s;
  size_t n;
  int rc = cow_engine_sets (engine, &sets, &n);

  if (rc == 0 && n > 0) {
    s = &sets[sim_random_below (&rnd, n)];
    if (sim_random_below (&rnd, 3) == 0) {
      const unsigned k = (unsigned) sim_random_below (&rnd, s->count);

      rc = cow_engine_delete_snapshot (engine, &s->snapshots[k].id);
      if (rc == -ENOENT)
        rc = 0;                 /* that one had gone before */
    } else {
      rc = cow_engine_delete_set (engine, &s->id);
    }
  }
  if (rc < 0)
    die ("deleting", rc, NULL);
  free (sets);
}

static size_t
count_sets (void)
{
  struct cow_set_info *sets;
  size_t n;
  int rc = cow_engine_sets (engine, &sets, &n);

  if (rc < 0)
    die ("listing", rc, NULL);
  free (sets);
  return n;
}

/* ------------------------------------------------------------------- result */

static unsigned
find_volume (const char *name)
{
  unsigned v = 0;

  while (strcmp (cow_volume_name (volume[v]), name) != 0)
    v++;
  return v;
}

static void
tell (void)
{
  FILE *f = fopen (path_of ("%s/%s", "sets"), "w");
  struct cow_set_info *sets;
  char id[COW_ID_TEXT_SIZE];
  size_t n;
  int rc = cow_engine_sets (engine, &sets, &n);

  if (rc < 0 || f == NULL)
    die ("telling", rc < 0 ? rc : -errno, NULL);
  for (size_t i = n; i-- > 0;) {
    for (unsigned k = 0; k < sets[i].count; k++)
      if (sets[i].snapshots[k].end == COW_ALIVE)
        compare_truth (find_volume (sets[i].snapshots[k].volume),
                       &sets[i].snapshots[k].id);
    if (!sets[i].persistent)
      continue;
    cow_id_format (&sets[i].id, id);
    fprintf (f, "set %s %s\n", id, sets[i].label);
    for (unsigned k = 0; k < sets[i].count; k++) {
      const struct cow_snapshot_info *s = &sets[i].snapshots[k];

      cow_id_format (&s->id, id);
      fprintf (f, "snapshot %s %s %d\n", id, s->volume, (int) s->end);
    }
  }
  free (sets);
  if (fclose (f) != 0)
    die ("telling", -errno, NULL);
}

static void
open_engine (uint32_t block_bytes)
{
  const struct cow_engine_options options = {
    .io = COW_IO_AUTO,
    .block_bytes = block_bytes,
    .store_directory = path_of ("%s/%s", "store"),
    .store_limit_bytes = 256u << 20,
    .ring_segments = 8,
  };
  struct cow_error err = COW_ERROR_INIT;
  char name[16];
  int rc = cow_engine_new (&options, &err, &engine);

  for (unsigned v = 0; rc == 0 && v < volumes; v++) {
    snprintf (name, sizeof name, "v%u", v);
    if (access (path_of ("%s/%s.img", name), F_OK) != 0) {
      FILE *f = fopen (path_of ("%s/%s.img", name), "w");

      if (f == NULL || ftruncate (fileno (f), VOLUME_BYTES (v)) < 0
          || fclose (f) != 0)
        die (name, -errno, NULL);
    }
    rc = cow_volume_add (engine, name, path_of ("%s/%s.img", name),
                         COW_CACHE_WRITEBACK, false, &err, &volume[v]);
  }
  if (rc == 0)
    rc = cow_engine_open (engine, &err);
  if (rc == 0)
    rc = cow_engine_start (engine, &err);
  if (rc < 0)
    die ("starting", rc, &err);
}

int
main (int argc, char *argv[])
{
  pthread_t stepper;
  uint64_t steps;
  int rc;

  if (argc != 7) {
    fprintf (stderr, "usage: write-store DIR SEED STEPS VOLUMES BLOCK-BYTES "
                     "close|die\n");
    return 2;
  }
  dir = argv[1];
  rnd = strtoull (argv[2], NULL, 0);
  steps = strtoull (argv[3], NULL, 0);
  volumes = (unsigned) strtoul (argv[4], NULL, 0);
  assert (volumes > 0 && volumes <= VOLUMES_MAX);
  open_engine ((uint32_t) strtoul (argv[5], NULL, 0));
  if (pthread_create (&stepper, NULL, step, NULL) != 0)
    die ("starting a thread", -EAGAIN, NULL);
  tell ();                      /* what an earlier life left is right */
  for (uint64_t i = 0; i < steps; i++) {
    const uint64_t what = sim_random_below (&rnd, 24);

    if (what == 0 && count_sets () < LIVE_MAX)
      make_set ();
    else if (what == 1)
      delete_one ();
    else
      change ();
  }
  tell ();
  if (strcmp (argv[6], "die") == 0)
    _exit (0);
  atomic_store (&stopping, true);
  cow_engine_wake (engine);
  pthread_join (stepper, NULL);
  rc = cow_engine_close (engine);
  if (rc < 0)
    die ("closing", rc, NULL);
  cow_engine_free (engine);
  return 0;
}
