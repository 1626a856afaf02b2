/* stress-engine.c - many threads on few blocks, against what they know.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Writers change overlapping ranges of small volumes, readers read origins and
 * snapshots, makers take, abort and delete sets, of any volumes that the other
 * has not claimed, and one thread steps the engine.  Every set is checked once, whole, by consistency/history.h; from
 * then on it has to stay the same, byte for byte, whenever it is read.  At the
 * end nothing may be left of the deleted sets, and the files have to be what
 * the last acknowledged writes made of them.
 *
 *   stress-engine [--seed N] [--sets N] [--io uring|sync|auto] [--ring SEGMENTS]
 *                 [--block BYTES] [--blocks N] [--limit BYTES] [--direct]
 *                 [--trims PERCENT]
 *
 * Without options: a few kinds of engine, one after another.  With --limit the
 * store is too small: then snapshots may be lost, but no write may fail.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "consistency/history.h"
#include "cow.h"
#include "set/engine.h"

#define VOLUMES 2
#define WRITERS 4
#define READERS 2
#define MAKERS 2
#define SETS_MAX 4              /* kept by each of them */
#define LOG_ROOM 200000

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

/* A set that the readers may look at. */
struct kept {
  pthread_rwlock_t lock;        /* written by the maker only */
  bool used;                    /* lock */
  struct cow_id id;             /* lock */
  uint8_t *data[VOLUMES];       /* lock; NULL: not a member */
  /* Set before it is deleted: from then on a read may fail. */
  _Atomic bool going;
};

static struct {
  uint64_t seed;
  unsigned sets;
  struct cow_engine_options options;
  enum cow_cache cache;
  uint64_t blocks;
  uint64_t limit_bytes;         /* of the store; 0: no snapshot may be lost */
  unsigned trims;               /* percent of the changes; as many zeroes */
  char dir[256];

  struct cow_engine *engine;
  struct cow_volume *volume[VOLUMES];
  uint64_t size[VOLUMES];
  char path[VOLUMES][300];
  struct history *history;
  struct kept kept[MAKERS * SETS_MAX];
  _Atomic bool stop, stop_stepping;
  _Atomic unsigned long writes, origin_reads, snapshot_reads;
  _Atomic unsigned long made, aborted, claimed, lost;
} t;

static void __attribute__ ((noreturn, format (printf, 1, 2)))
fail (const char *fmt, ...)
{
  va_list args;

  flockfile (stderr);
  va_start (args, fmt);
  fprintf (stderr, "stress-engine: ");
  vfprintf (stderr, fmt, args);
  va_end (args);
  fprintf (stderr,
           "\nrepeat with: stress/stress-engine --seed %llu --sets %u --io %s"
           " --ring %u --block %u --blocks %llu --limit %llu --trims %u%s\n",
           (unsigned long long) t.seed, t.sets,
           t.options.io == COW_IO_URING  ? "uring"
           : t.options.io == COW_IO_SYNC ? "sync" : "auto",
           t.options.ring_segments, t.options.block_bytes,
           (unsigned long long) t.blocks,
           (unsigned long long) t.limit_bytes, t.trims,
           t.cache == COW_CACHE_NONE ? " --direct" : "");
  _exit (1);
}

static uint64_t
draw (uint64_t *state)
{
  uint64_t x = *state += UINT64_C (0x9e3779b97f4a7c15);

  x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C (0x94d049bb133111eb);
  return x ^ x >> 31;
}

static uint64_t
below (uint64_t *state, uint64_t n)
{
  return draw (state) % n;
}

static uint8_t *
room (uint64_t len)
{
  uint8_t *p = aligned_alloc (4096, (len + 4095) & ~UINT64_C (4095));

  if (p == NULL)
    fail ("out of memory");
  return p;
}

static uint64_t
sectors (unsigned v)
{
  return t.size[v] / HISTORY_SECTOR;
}

/* A range of sectors that likes a few hot blocks. */
static void
draw_range (uint64_t *state, unsigned v, uint64_t *first, uint32_t *count)
{
  uint64_t block = t.options.block_bytes / HISTORY_SECTOR;
  uint64_t all = sectors (v);

  *count = 1 + below (state, below (state, 16) ? 3 * block : 64 * block);
  if (*count > all)
    *count = all;
  /* What is longer is admitted in pieces, and may be in a set in part. */
  if (*count > (1 << 20) / HISTORY_SECTOR)
    *count = (1 << 20) / HISTORY_SECTOR;
  *first = below (state, below (state, 2) ? all : 4 * block);
  if (below (state, 2))
    *first -= *first % block;
  if (*first + *count > all)
    *first = all - *count;
}

/* ---- threads */

static void *
write_all_the_time (void *arg)
{
  unsigned me = (uintptr_t) arg;
  uint64_t state = t.seed * 1000 + me;
  uint8_t *buf = room (t.size[0] + t.size[1]);

  while (!atomic_load (&t.stop)) {
    unsigned v = below (&state, VOLUMES), what = below (&state, 100);
    enum history_kind kind = what < t.trims       ? HISTORY_TRIM
                             : what < 2 * t.trims ? HISTORY_ZERO
                                                  : HISTORY_WRITE;
    uint64_t first;
    uint32_t count;
    size_t number;
    int rc;

    draw_range (&state, v, &first, &count);
    number = history_issue (t.history, me, kind, v, first, count);
    if (number == SIZE_MAX)
      break;
    if (kind == HISTORY_WRITE) {
      history_stamp (t.history, me, number, buf);
      rc = cow_volume_write (t.volume[v], buf, count * HISTORY_SECTOR,
                             first * HISTORY_SECTOR,
                             below (&state, 400) ? 0 : COW_FUA);
    }
    else if (kind == HISTORY_ZERO)
      rc = cow_volume_zero (t.volume[v], count * HISTORY_SECTOR,
                            first * HISTORY_SECTOR,
                            below (&state, 2) ? COW_MAY_TRIM : 0);
    else
      rc = cow_volume_trim (t.volume[v], count * HISTORY_SECTOR,
                            first * HISTORY_SECTOR, 0);
    if (rc < 0)
      fail ("changing volume %u: %s", v, strerror (-rc));
    history_acknowledge (t.history, me, number);
    atomic_fetch_add (&t.writes, 1);
  }
  free (buf);
  return NULL;
}

static void
read_origin (uint64_t *state, uint8_t *buf)
{
  unsigned v = below (state, VOLUMES);
  const uint8_t *data[VOLUMES] = { NULL };
  char text[400];
  uint64_t from = history_begin (t.history);
  int rc = cow_volume_read (t.volume[v], buf, t.size[v], 0);

  if (rc < 0)
    fail ("reading volume %u: %s", v, strerror (-rc));
  data[v] = buf;
  if (!history_check (t.history, data, from, history_now (t.history), false,
                      text, sizeof text))
    fail ("volume %u as it is: %s", v, text);
  atomic_fetch_add (&t.origin_reads, 1);
}

struct holes {
  const uint8_t *data;
  uint64_t next;
  uint64_t wrong;               /* where there is data in a hole, or NOWHERE */
};
#define NOWHERE UINT64_MAX

static int
check_extent (void *opaque, uint64_t offset, uint64_t len,
              enum cow_extent_kind kind)
{
  struct holes *h = opaque;

  if (offset != h->next)
    fail ("an extent begins at %llu, not at %llu",
          (unsigned long long) offset, (unsigned long long) h->next);
  h->next += len;
  for (uint64_t i = 0; kind == COW_EXTENT_HOLE && i < len; i++)
    if (h->data[offset + i] != 0 && h->wrong == NOWHERE)
      h->wrong = offset + i;
  return 0;
}

static void
read_snapshot (uint64_t *state, uint8_t *buf)
{
  struct kept *k = &t.kept[below (state, MAKERS * SETS_MAX)];
  unsigned v = below (state, VOLUMES);
  struct cow_error err = COW_ERROR_INIT;
  char text[COW_ID_TEXT_SIZE];
  struct cow_view *w;
  uint64_t offset;
  uint32_t len;
  int rc;

  pthread_rwlock_rdlock (&k->lock);
  if (!k->used || k->data[v] == NULL)
    goto out;
  cow_id_format (&k->id, text);
  rc = cow_view_open (t.volume[v], text, &err, &w);
  if (rc < 0) {
    if (!atomic_load (&k->going) && !(rc == -EIO && t.limit_bytes))
      fail ("opening a snapshot: %s", err.text);
    goto out;
  }
  len = 1 + below (state, t.size[v]);
  offset = below (state, t.size[v] - len + 1);
  rc = cow_view_read (w, buf, len, offset);
  if (rc == 0) {
    if (memcmp (buf, k->data[v] + offset, len) != 0)
      for (uint64_t i = 0;; i++)
        if (buf[i] != k->data[v][offset + i])
          fail ("a snapshot of volume %u has changed, at %llu", v,
                (unsigned long long) (offset + i));
    if (below (state, 8) == 0) {
      struct holes h = { .data = k->data[v], .next = offset,
                         .wrong = NOWHERE };

      rc = cow_view_extents (w, len, offset, check_extent, &h);
      if (rc == 0 && h.next != offset + len)
        fail ("the extents of a snapshot end early");
      if (rc == 0 && h.wrong != NOWHERE)
        fail ("a snapshot of volume %u has data in a hole, at %llu", v,
              (unsigned long long) h.wrong);
    }
  }
  if (rc < 0
      && !(rc == -EIO && (atomic_load (&k->going) || t.limit_bytes)))
    fail ("reading a snapshot: %s", strerror (-rc));
  cow_view_close (w);
  atomic_fetch_add (&t.snapshot_reads, 1);
out:
  pthread_rwlock_unlock (&k->lock);
}

static void *
read_all_the_time (void *arg)
{
  uint64_t state = t.seed * 1000 + 500 + (uintptr_t) arg;
  uint8_t *buf = room (t.size[0] + t.size[1]);

  while (!atomic_load (&t.stop))
    if (below (&state, 64) == 0)
      read_origin (&state, buf);
    else
      read_snapshot (&state, buf);
  free (buf);
  return NULL;
}

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
