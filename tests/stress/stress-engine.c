/* stress-engine.c - many threads on few blocks, against what they know.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Writers change overlapping ranges of small volumes, readers read origins and
 * snapshots (load.c), makers take, abort and delete sets, of any volumes that
 * the other has not claimed, and one thread steps the engine.  Every set is
 * checked once, whole, by consistency/history.h; from then on it has to stay
 * the same, byte for byte, whenever it is read.  At the end nothing may be left
 * of the deleted sets, and the files have to be what the last acknowledged
 * writes made of them.
 *
 *   stress-engine [--seed N] [--sets N] [--io uring|sync|auto]
 *                 [--ring SEGMENTS] [--block BYTES] [--blocks N]
 *                 [--limit BYTES] [--direct] [--trims PERCENT]
 *
 * Without options: a few kinds of engine, one after another.  With --limit the
 * store is too small: then snapshots may be lost, but no write may fail.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "set/engine.h"
#include "stress/load.h"

#if defined __SANITIZE_THREAD__
#define THREAD_SANITIZED 1
#elif defined __has_feature
#if __has_feature (thread_sanitizer)
#define THREAD_SANITIZED 1
#endif
#endif
#ifndef THREAD_SANITIZED
#define THREAD_SANITIZED 0
#endif

static void *
step_all_the_time (void *arg)
{
  (void) arg;
  while (!atomic_load (&t.stop_stepping))
    cow_engine_step (t.engine, cow_now_ns () + 10 * COW_NS_PER_MS);
  return NULL;
}

/* ---- sets */

static void
delete_kept (struct kept *k)
{
  int rc;

  if (!k->used)
    return;
  atomic_store (&k->going, true);
  /* While readers are at it. */
  rc = cow_engine_delete_set (t.engine, &k->id);
  if (rc < 0)
    fail ("deleting a set: %s", strerror (-rc));
  pthread_rwlock_wrlock (&k->lock);
  for (unsigned v = 0; v < VOLUMES; v++) {
    free (k->data[v]);
    k->data[v] = NULL;
  }
  k->used = false;
  atomic_store (&k->going, false);
  pthread_rwlock_unlock (&k->lock);
}

/* Read a whole snapshot.  False: it was lost, which is allowed. */
static bool
read_whole (const struct cow_id *id, unsigned v, uint8_t *buf)
{
  struct cow_error err = COW_ERROR_INIT;
  char text[COW_ID_TEXT_SIZE];
  struct cow_view *w;
  int rc;

  cow_id_format (id, text);
  rc = cow_view_open (t.volume[v], text, &err, &w);
  if (rc == 0) {
    rc = cow_view_read (w, buf, t.size[v], 0);
    cow_view_close (w);
  }
  if (rc == -EIO && t.limit_bytes)
    return false;
  if (rc < 0)
    fail ("reading a new snapshot of volume %u: %s %s", v, strerror (-rc),
          err.text);
  return true;
}

/* Check a finished set and give it to the readers. */
static void
keep (struct kept *k, const struct cow_id *id, unsigned members, uint64_t from,
      uint64_t until)
{
  const uint8_t *known[VOLUMES] = { NULL };
  uint8_t *data[VOLUMES] = { NULL };
  char text[400];
  bool whole = true;

  for (unsigned v = 0; v < VOLUMES; v++)
    if (members & 1 << v) {
      data[v] = room (t.size[v]);
      if (read_whole (id, v, data[v]))
        known[v] = data[v];
      else {
        free (data[v]);
        data[v] = NULL;
        whole = false;
      }
    }
  t.lost += !whole;
  if (!history_check (t.history, known, from, until, true, text, sizeof text))
    fail ("set %lu: %s", atomic_load (&t.made), text);
  pthread_rwlock_wrlock (&k->lock);
  memcpy (k->data, data, sizeof data);
  k->id = *id;
  k->used = true;
  pthread_rwlock_unlock (&k->lock);
  t.made++;
}

static void
make_set (struct kept *mine, uint64_t *state)
{
  struct kept *k = &mine[below (state, SETS_MAX)];
  struct cow_set_options o = { .id = cow_id_new () };
  struct cow_error err = COW_ERROR_INIT;
  uint64_t deadline_ns = cow_now_ns () + 100 * COW_NS_PER_S;
  uint64_t from = 0, until;
  unsigned members = 1 + below (state, (1 << VOLUMES) - 1);
  unsigned abort_at = below (state, 24);
  struct cow_set *set;
  int rc;

  if (cow_set_new (t.engine, &o, &err, &set) < 0)
    fail ("%s", err.text);
  for (unsigned v = 0; v < VOLUMES; v++) {
    struct cow_id id = cow_id_new ();

    rc = members & 1 << v ? cow_set_add (set, t.volume[v], &id, &err) : 0;
    if (rc == -EBUSY) {
      t.claimed++;
      cow_set_put (set);
      return;
    }
    if (rc < 0)
      fail ("%s", err.text);
  }
  delete_kept (k);
  rc = cow_set_prepare (set, deadline_ns, &err);
  if (rc < 0 && !(rc == -ENOSPC && t.limit_bytes))
    fail ("prepare: %s", err.text);
  if (rc < 0 || abort_at == 0)
    goto aborted;
  from = history_begin (t.history);
  if (cow_set_hold (set, 10 * COW_NS_PER_S, &err) < 0)
    fail ("hold: %s", err.text);
  if (abort_at == 1)
    goto aborted;
  if (abort_at >= 20)
    cow_sleep_ns (below (state, 1000) * 1000);
  if (cow_set_switch (set, &err) < 0)
    fail ("switch: %s", err.text);
  until = history_now (t.history);
  if (abort_at == 2)
    goto aborted;
  rc = cow_set_settle (set, deadline_ns, &err);
  if (rc < 0 && !((rc == -EIO || rc == -ENOSPC) && t.limit_bytes))
    fail ("settle: %s", err.text);
  if (rc < 0 || abort_at == 3)
    goto aborted;
  rc = cow_set_finish (set, &err);
  if (rc < 0 && !(rc == -EIO && t.limit_bytes))
    fail ("finish: %s", err.text);
  if (rc < 0)
    goto aborted;
  cow_set_put (set);
  keep (k, &o.id, members, from, until);
  return;

aborted:
  t.aborted++;
  if (from != 0)
    history_cancel (t.history, from);
  cow_set_put (set);
}

/* ---- beginning and end */

static void
set_up (void)
{
  struct cow_error err = COW_ERROR_INIT;
  uint64_t state = t.seed, count[VOLUMES];
  const char *tmp = getenv ("TMPDIR");

  snprintf (t.dir, sizeof t.dir, "%s/stress.XXXXXX", tmp ? tmp : "/var/tmp");
  if (mkdtemp (t.dir) == NULL)
    fail ("%s: %s", t.dir, strerror (errno));
  t.options.store_path = t.dir;
  t.options.store_limit_bytes = t.limit_bytes ? t.limit_bytes
                                              : UINT64_C (4) << 30;
  if (cow_engine_new (&t.options, &err, &t.engine) < 0)
    fail ("%s", err.text);
  for (unsigned v = 0; v < VOLUMES; v++) {
    char name[16];
    int fd;

    snprintf (name, sizeof name, "v%u", v);
    snprintf (t.path[v], sizeof t.path[v], "%s/%s.img", t.dir, name);
    /* One of a whole number of blocks, the other not. */
    t.size[v] = t.blocks * t.options.block_bytes;
    if (v > 0)
      t.size[v] -= HISTORY_SECTOR
                   * below (&state, t.options.block_bytes / HISTORY_SECTOR);
    fd = open (t.path[v], O_CREAT | O_RDWR, 0600);
    if (fd < 0 || ftruncate (fd, t.size[v]) < 0)
      fail ("%s: %s", t.path[v], strerror (errno));
    close (fd);
    count[v] = sectors (v);
    if (cow_volume_add (t.engine, name, t.path[v], t.cache, false, &err,
                        &t.volume[v])
        < 0)
      fail ("%s", err.text);
  }
  if (cow_engine_start (t.engine, &err) < 0)
    fail ("%s", err.text);
  t.history = history_new (VOLUMES, count, WRITERS, LOG_ROOM);
  for (unsigned i = 0; i < MAKERS * SETS_MAX; i++)
    pthread_rwlock_init (&t.kept[i].lock, NULL);
}

static void
check_empty (void)
{
  struct cow_engine_status status;

  while (cow_engine_step (t.engine, 0))
    ;
  cow_engine_status (t.engine, &status);
  if (status.exceptions != 0 || status.store_used_bytes != 0
      || t.engine->arena.live != 0)
    fail ("left over: %llu exceptions, %llu bytes of the store, %u nodes",
          (unsigned long long) status.exceptions,
          (unsigned long long) status.store_used_bytes,
          t.engine->arena.live);
}

static void
tear_down (void)
{
  uint64_t now = history_begin (t.history);
  uint8_t *data[VOLUMES];
  char text[400];

  cow_engine_free (t.engine);
  for (unsigned v = 0; v < VOLUMES; v++) {
    int fd = open (t.path[v], O_RDONLY);

    data[v] = room (t.size[v]);
    if (fd < 0 || pread (fd, data[v], t.size[v], 0) != (ssize_t) t.size[v])
      fail ("%s: %s", t.path[v], strerror (errno));
    close (fd);
    unlink (t.path[v]);
  }
  if (!history_check (t.history, (const uint8_t *const *) data, now, now,
                      true, text, sizeof text))
    fail ("the files at the end: %s", text);
  for (unsigned v = 0; v < VOLUMES; v++)
    free (data[v]);
  for (unsigned i = 0; i < MAKERS * SETS_MAX; i++)
    pthread_rwlock_destroy (&t.kept[i].lock);
  history_free (t.history);
  if (rmdir (t.dir) < 0)
    fail ("%s: %s", t.dir, strerror (errno));
}

static void
begin (pthread_t *thread, void *(*fn) (void *), uintptr_t arg)
{
  if (pthread_create (thread, NULL, fn, (void *) arg) != 0)
    fail ("no thread");
}

static void *
make_all_the_time (void *arg)
{
  uintptr_t me = (uintptr_t) arg;
  struct kept *mine = &t.kept[me * SETS_MAX];
  uint64_t state = ~t.seed - me;
  unsigned long round = 0;

  while (t.made + t.aborted < t.sets
         && history_changes (t.history) < WRITERS * LOG_ROOM / 2) {
    make_set (mine, &state);
    if (below (&state, 4) == 0)
      delete_kept (&mine[below (&state, SETS_MAX)]);
    /* For a while none at all: then nothing is copied, and what was put off is
     * done.
     */
    round++;
    for (unsigned i = 0; i < SETS_MAX && round % 8 < 2; i++)
      delete_kept (&mine[i]);
    if (below (&state, 8) == 0 || round % 8 == 0)
      cow_sleep_ns (below (&state, 5000) * 1000);
  }
  for (unsigned i = 0; i < SETS_MAX; i++)
    delete_kept (&mine[i]);
  return NULL;
}

static void
run (void)
{
  pthread_t stepper, writer[WRITERS], reader[READERS], maker[MAKERS];

  set_up ();
  begin (&stepper, step_all_the_time, 0);
  for (unsigned i = 0; i < WRITERS; i++)
    begin (&writer[i], write_all_the_time, i);
  for (unsigned i = 0; i < READERS; i++)
    begin (&reader[i], read_all_the_time, i);
  for (unsigned i = 0; i < MAKERS; i++)
    begin (&maker[i], make_all_the_time, i);

  for (unsigned i = 0; i < MAKERS; i++)
    pthread_join (maker[i], NULL);
  atomic_store (&t.stop, true);
  for (unsigned i = 0; i < WRITERS; i++)
    pthread_join (writer[i], NULL);
  for (unsigned i = 0; i < READERS; i++)
    pthread_join (reader[i], NULL);
  atomic_store (&t.stop_stepping, true);
  cow_engine_wake (t.engine);
  pthread_join (stepper, NULL);
  check_empty ();
  printf ("seed %llu, %s, ring %u, block %u, %llu blocks%s%s: %lu sets, "
          "%lu aborted, %lu refused for a claim, %lu lost; %lu changes, %lu "
          "reads, %lu of snapshots\n",
          (unsigned long long) t.seed, cow_engine_io_name (t.engine),
          t.options.ring_segments, t.options.block_bytes,
          (unsigned long long) t.blocks,
          t.cache == COW_CACHE_NONE ? ", direct" : "",
          t.limit_bytes ? ", a small store" : "", t.made, t.aborted,
          t.claimed, t.lost, t.writes, t.origin_reads, t.snapshot_reads);
  fflush (stdout);
  if (t.made == 0)
    fail ("no set was made");
  tear_down ();
}

/* ---- options */

static void
run_all (void)
{
  static const struct {
    enum cow_io_kind io;
    unsigned ring;
    uint32_t block_bytes;
    uint64_t blocks, limit_bytes;
    enum cow_cache cache;
    unsigned trims;
  } kinds[] = {
    { COW_IO_SYNC, 2, 4096, 40, 0, COW_CACHE_WRITEBACK, 5 },
    { COW_IO_AUTO, 2, 4096, 30, 0, COW_CACHE_WRITEBACK, 35 },
    { COW_IO_URING, 2, 4096, 600, 0, COW_CACHE_WRITEBACK, 5 },
    { COW_IO_AUTO, 4, 65536, 20, 0, COW_CACHE_WRITEBACK, 5 },
    { COW_IO_AUTO, 2, 4096, 200, 0, COW_CACHE_NONE, 5 },
    { COW_IO_AUTO, 3, 4096, 1200, 6 << 20, COW_CACHE_WRITEBACK, 5 },
  };
  uint64_t seed = t.seed;
  unsigned sets = t.sets;

  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    memset (&t, 0, sizeof t);
    t.seed = seed + i;
    t.sets = sets;
    t.options.io = kinds[i].io;
    t.options.ring_segments = kinds[i].ring;
    t.options.block_bytes = kinds[i].block_bytes;
    t.limit_bytes = kinds[i].limit_bytes;
    t.blocks = kinds[i].blocks;
    t.cache = kinds[i].cache;
    t.trims = kinds[i].trims;
    run ();
  }
}

int
main (int argc, char **argv)
{
  static const struct option options[] = {
    { "seed", required_argument, NULL, 's' },
    { "sets", required_argument, NULL, 'n' },
    { "io", required_argument, NULL, 'i' },
    { "ring", required_argument, NULL, 'r' },
    { "block", required_argument, NULL, 'b' },
    { "blocks", required_argument, NULL, 'B' },
    { "limit", required_argument, NULL, 'l' },
    { "direct", no_argument, NULL, 'd' },
    { "trims", required_argument, NULL, 't' },
    { NULL, 0, NULL, 0 },
  };
  const char *seed = getenv ("COWSET_SEED");
  bool all = true;
  int c;

  t.seed = seed ? strtoull (seed, NULL, 0)
                : (uint64_t) time (NULL) * 1000 + (uint64_t) getpid () % 1000;
  t.sets = THREAD_SANITIZED ? 60 : 200;
  t.blocks = 40;
  t.trims = 5;
  t.options.ring_segments = 2;
  t.options.block_bytes = 4096;
  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1) {
    all = all && (c == 's' || c == 'n');
    switch (c) {
    case 's': t.seed = strtoull (optarg, NULL, 0); break;
    case 'n': t.sets = strtoul (optarg, NULL, 0); break;
    case 'i':
      t.options.io = *optarg == 'u'   ? COW_IO_URING
                     : *optarg == 's' ? COW_IO_SYNC : COW_IO_AUTO;
      break;
    case 'r': t.options.ring_segments = strtoul (optarg, NULL, 0); break;
    case 'b': t.options.block_bytes = strtoul (optarg, NULL, 0); break;
    case 'B': t.blocks = strtoull (optarg, NULL, 0); break;
    case 'l': t.limit_bytes = strtoull (optarg, NULL, 0); break;
    case 'd': t.cache = COW_CACHE_NONE; break;
    case 't': t.trims = strtoul (optarg, NULL, 0); break;
    default: return 2;
    }
  }
  printf ("stress-engine: seed %llu; to repeat: stress/stress-engine "
          "--seed %llu --sets %u\n",
          (unsigned long long) t.seed, (unsigned long long) t.seed, t.sets);
  fflush (stdout);
  if (all)
    run_all ();
  else
    run ();
  return 0;
}
