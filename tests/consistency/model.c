/* model.c - random operations against a model in memory, byte for byte.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One client, a few volumes, every kind of request, sets and deletions in
 * between, background work at random.  After each operation a random range of
 * the origin and of every live snapshot is compared; at the end all of
 * everything, and that nothing is left of the deleted: no exception, no block
 * of the store, no node of the map.
 *
 *   model [--seed N] [--ops N] [--io uring|sync|sim] [--block BYTES]
 *         [--ring SEGMENTS] [--direct] [--dir DIRECTORY]
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cow.h"
#include "set/engine.h"
#include "sim/simdisk.h"

#define VOLUMES 3
#define SETS_MAX 12

struct model_set {
  bool used;
  struct cow_id id;
  unsigned members;             /* bit for each volume */
  uint8_t *data[VOLUMES];
  uint8_t *maybe[VOLUMES];      /* as below, at the commit; NULL: resolved */
};

static struct {
  uint64_t seed, state;
  unsigned long ops;
  enum cow_io_kind io;
  const char *io_name;
  uint32_t block_bytes;
  unsigned ring;
  enum cow_cache cache;
  const char *dir;
  struct sim_disk *sim;         /* --io sim */

  struct cow_engine *engine;
  struct cow_volume *volume[VOLUMES];
  uint64_t size[VOLUMES];
  uint8_t *data[VOLUMES];
  /* 1: trimmed, and not written since: may read as zero from now on. */
  uint8_t *maybe[VOLUMES];
  struct model_set set[SETS_MAX];
  char path[VOLUMES][256];
} m = { .ops = 2000, .io = COW_IO_SYNC, .io_name = "sync", .ring = 4 };

static uint64_t
draw (void)
{
  uint64_t x = m.state += UINT64_C (0x9e3779b97f4a7c15);

  x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C (0x94d049bb133111eb);
  return x ^ x >> 31;
}

static uint64_t
below (uint64_t n)
{
  return draw () % n;
}

static void __attribute__ ((noreturn, format (printf, 1, 2)))
fail (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  fprintf (stderr, "model: ");
  vfprintf (stderr, fmt, args);
  va_end (args);
  fprintf (stderr,
           "\nrepeat with: tests/consistency/model --seed %llu --ops %lu "
           "--io %s --block %u --ring %u%s\n",
           (unsigned long long) m.seed, m.ops,
           m.io_name, m.block_bytes, m.ring,
           m.cache == COW_CACHE_NONE ? " --direct" : "");
  exit (1);
}

/* A range that likes to be short, and to begin or end at block boundaries. */
static void
draw_range (unsigned v, uint32_t max, uint64_t *offset, uint32_t *len)
{
  uint64_t size = m.size[v];

  *len = 1 + below (below (4) ? 3 * m.block_bytes : max);
  if (*len > size)
    *len = size;
  *offset = below (size - *len + 1);
  if (below (2)) {
    *offset -= *offset % m.block_bytes;
    if (below (2) && *len > m.block_bytes)
      *len -= *len % m.block_bytes;
  }
}

static void
compare_origin (unsigned v, uint64_t offset, uint32_t len)
{
  uint8_t *buf = malloc (len);
  int rc = cow_volume_read (m.volume[v], buf, len, offset);

  if (rc < 0)
    fail ("reading volume %u: %s", v, strerror (-rc));
  for (uint32_t i = 0; i < len; i++)
    if (buf[i] != m.data[v][offset + i]
        && !(m.maybe[v][offset + i] && buf[i] == 0))
      fail ("volume %u differs at %llu", v, (unsigned long long) offset + i);
  free (buf);
}

struct extent_check {
  const uint8_t *want;
  uint64_t next;
  unsigned long holes;
};

static int
check_extent (void *opaque, uint64_t offset, uint64_t len,
              enum cow_extent_kind kind)
{
  struct extent_check *c = opaque;

  if (offset != c->next)
    fail ("an extent begins at %llu, expected %llu",
          (unsigned long long) offset, (unsigned long long) c->next);
  if (kind == COW_EXTENT_HOLE) {
    c->holes++;
    for (uint64_t i = 0; i < len; i++)
      if (c->want[offset + i] != 0)
        fail ("a hole at %llu has data", (unsigned long long) offset + i);
  }
  c->next = offset + len;
  return 0;
}

static struct cow_view *
open_view (const struct model_set *s, unsigned v)
{
  struct cow_error err = COW_ERROR_INIT;
  char text[COW_ID_TEXT_SIZE];
  struct cow_view *w;

  cow_id_format (&s->id, text);
  if (cow_view_open (m.volume[v], text, &err, &w) < 0)
    fail ("opening a snapshot: %s", err.text);
  return w;
}

/* A put-off trim may have come before the commit or not.  From the first look
 * on it is one of the two, for ever.
 */
static void
resolve (struct model_set *s, unsigned v)
{
  struct cow_view *w = open_view (s, v);
  uint8_t *buf = malloc (m.size[v]);
  int rc = cow_view_read (w, buf, m.size[v], 0);

  if (rc < 0)
    fail ("reading a snapshot of volume %u: %s", v, strerror (-rc));
  for (uint64_t i = 0; i < m.size[v]; i++)
    if (s->maybe[v][i] && buf[i] == 0)
      s->data[v][i] = 0;
  free (s->maybe[v]);
  s->maybe[v] = NULL;
  cow_view_close (w);
  free (buf);
}

static void
compare_snapshot (struct model_set *s, unsigned v, uint64_t offset,
                  uint32_t len)
{
  struct extent_check c = { .want = s->data[v], .next = offset };
  struct cow_view *w = open_view (s, v);
  uint8_t *buf = malloc (len);
  int rc = cow_view_read (w, buf, len, offset);

  if (rc < 0)
    fail ("reading a snapshot of volume %u: %s", v, strerror (-rc));
  for (uint32_t i = 0; i < len; i++)
    if (buf[i] != s->data[v][offset + i])
      fail ("a snapshot of volume %u differs at %llu", v,
            (unsigned long long) offset + i);
  rc = cow_view_extents (w, len, offset, check_extent, &c);
  if (rc < 0 || c.next != offset + len)
    fail ("extents of a snapshot: %d", rc);
  cow_view_close (w);
  free (buf);
}

static void
change (void)
{
  unsigned v = below (VOLUMES), op = below (10);
  uint64_t offset;
  uint32_t len;
  int rc;

  draw_range (v, op < 7 ? 3u << 20 : 1u << 20, &offset, &len);
  if (op < 7) {
    uint8_t *buf = malloc (len), fill = draw ();

    /* Some blocks of zeroes, some that repeat what is there. */
    if (below (8) == 0)
      memset (buf, 0, len);
    else
      for (uint32_t i = 0; i < len; i++)
        buf[i] = fill + i * 7 + (i >> 12);
    rc = cow_volume_write (m.volume[v], buf, len, offset,
                           below (50) ? 0 : COW_FUA);
    if (rc == 0) {
      memcpy (m.data[v] + offset, buf, len);
      memset (m.maybe[v] + offset, 0, len);
    }
    free (buf);
  }
  else if (op < 9) {
    unsigned flags = (below (2) ? COW_MAY_TRIM : 0)
                     | (below (4) ? 0 : COW_FAST_ZERO);

    rc = cow_volume_zero (m.volume[v], len, offset, flags);
    if (rc == -EOPNOTSUPP && (flags & COW_FAST_ZERO))
      return;
    if (rc == 0) {
      memset (m.data[v] + offset, 0, len);
      memset (m.maybe[v] + offset, 0, len);
    }
  }
  else {
    rc = cow_volume_trim (m.volume[v], len, offset, 0);
    if (rc == 0)
      memset (m.maybe[v] + offset, 1, len);
  }
  if (rc < 0)
    fail ("changing volume %u: %s", v, strerror (-rc));
}

static void
delete_one (struct model_set *s)
{
  int rc = cow_engine_delete_set (m.engine, &s->id);

  if (rc < 0)
    fail ("deleting a set: %s", strerror (-rc));
  for (unsigned v = 0; v < VOLUMES; v++) {
    free (s->data[v]);
    free (s->maybe[v]);
  }
  memset (s, 0, sizeof *s);
}

static void
copy_model (struct model_set *s)
{
  for (unsigned v = 0; v < VOLUMES && s->data[v] == NULL; v++) {
    s->data[v] = malloc (m.size[v]);
    memcpy (s->data[v], m.data[v], m.size[v]);
    s->maybe[v] = malloc (m.size[v]);
    memcpy (s->maybe[v], m.maybe[v], m.size[v]);
  }
}

static void
snapshot (void)
{
  struct model_set *s = &m.set[below (SETS_MAX)];
  struct cow_set_options o = { .id = cow_id_new () };
  struct cow_error err = COW_ERROR_INIT;
  uint64_t deadline_ns = cow_now_ns () + 60 * COW_NS_PER_S;
  struct cow_set *set;
  unsigned members = 1 + below ((1 << VOLUMES) - 1), abort_at = below (20);

  if (s->used)
    delete_one (s);
  if (cow_set_new (m.engine, &o, &err, &set) < 0)
    fail ("%s", err.text);
  for (unsigned v = 0; v < VOLUMES; v++) {
    struct cow_id id = cow_id_new ();

    if ((members & 1 << v) && cow_set_add (set, m.volume[v], &id, &err) < 0)
      fail ("%s", err.text);
  }
  if (cow_set_prepare (set, deadline_ns, &err) < 0)
    fail ("%s", err.text);
  if (abort_at == 0)
    goto out;
  if (cow_set_hold (set, COW_NS_PER_S, &err) < 0)
    fail ("%s", err.text);
  if (abort_at == 1)
    goto out;
  if (cow_set_switch (set, &err) < 0)
    fail ("%s", err.text);
  if (abort_at == 2)
    goto out;
  for (unsigned i = below (4); i > 0; i--) {
    /* Between the instant and the end of settling: not in the set, so the
     * model is copied first.
     */
    copy_model (s);
    change ();
  }
  if (cow_set_settle (set, deadline_ns, &err) < 0)
    fail ("%s", err.text);
  if (cow_set_finish (set, &err) < 0)
    fail ("%s", err.text);
  s->used = true;
  s->id = o.id;
  s->members = members;
  copy_model (s);
  for (unsigned v = 0; v < VOLUMES; v++)
    if (members & 1 << v)
      resolve (s, v);
out:
  cow_set_put (set);
}

static void
delete_some (void)
{
  struct model_set *s = &m.set[below (SETS_MAX)];

  if (s->used)
    delete_one (s);
}

static void
look_around (uint32_t max)
{
  for (unsigned v = 0; v < VOLUMES; v++) {
    uint64_t offset;
    uint32_t len;

    draw_range (v, max, &offset, &len);
    compare_origin (v, offset, len);
    for (unsigned i = 0; i < SETS_MAX; i++)
      if (m.set[i].used && (m.set[i].members & 1 << v))
        compare_snapshot (&m.set[i], v, offset, len);
  }
}

static void
compare_all (void)
{
  for (unsigned v = 0; v < VOLUMES; v++) {
    compare_origin (v, 0, m.size[v]);
    for (unsigned i = 0; i < SETS_MAX; i++)
      if (m.set[i].used && (m.set[i].members & 1 << v))
        compare_snapshot (&m.set[i], v, 0, m.size[v]);
  }
}

/* One thread steps all the time, so that a writer who waits for the ring gets
 * on; who wants quiet takes the lock.
 */
static pthread_mutex_t step_lock = PTHREAD_MUTEX_INITIALIZER;
static bool stop_stepping;

static void *
step_all_the_time (void *arg)
{
  bool stop = false;

  (void) arg;
  while (!stop) {
    pthread_mutex_lock (&step_lock);
    cow_engine_step (m.engine, cow_now_ns () + COW_NS_PER_MS);
    stop = stop_stepping;
    pthread_mutex_unlock (&step_lock);
    cow_sleep_ns (10000);
  }
  return NULL;
}

static void
work_until_idle (void)
{
  pthread_mutex_lock (&step_lock);
  while (cow_engine_step (m.engine, 0))
    ;
  pthread_mutex_unlock (&step_lock);
}

static void
check_structure (void)
{
  for (unsigned v = 0; v < VOLUMES; v++)
    if (cow_map_verify (m.volume[v]->map) < 0)
      fail ("the map of volume %u is damaged", v);
}

/* Every exception serves somebody: what a sweep would free is a leak. */
static bool
serves (void *opaque, uint32_t predecessor, uint32_t epoch)
{
  if (cow_volume_live_max (opaque, epoch) <= predecessor)
    fail ("an exception of epoch %u after %u serves nobody", epoch,
          predecessor);
  return true;
}

static void
check_leaks (void)
{
  for (unsigned v = 0; v < VOLUMES; v++) {
    const struct cow_sweep sweep = { .serves = serves,
                                     .opaque = m.volume[v] };

    for (uint64_t r = 0; r < cow_map_regions (m.volume[v]->map); r++)
      cow_map_sweep (m.volume[v]->map, r, &sweep);
  }
}

static void
check_empty (void)
{
  struct cow_engine_status status;

  for (unsigned i = 0; i < SETS_MAX; i++)
    if (m.set[i].used)
      delete_one (&m.set[i]);
  work_until_idle ();
  cow_engine_status (m.engine, &status);
  for (unsigned v = 0; v < VOLUMES; v++)
    if (m.volume[v]->trims.count != 0)
      fail ("trims of volume %u are put off for nobody", v);
  if (status.exceptions != 0 || status.store_used_bytes != 0
      || m.engine->arena.live != 0)
    fail ("left over: %llu exceptions, %llu bytes of the store, %u nodes",
          (unsigned long long) status.exceptions,
          (unsigned long long) status.store_used_bytes,
          m.engine->arena.live);
  for (unsigned v = 0; v < VOLUMES; v++)
    if (!cow_root_is_full (cow_volume_root (
          m.volume[v], cow_gate_epoch (&m.volume[v]->gate))))
      fail ("volume %u still copies", v);
}

/* The first half of a volume has data, the rest is a hole. */
static void
make_origin (unsigned v)
{
  int fd;

  for (uint64_t i = 0; i < m.size[v] / 2; i++)
    m.data[v][i] = i * 31 + (i >> 12) + v;
  if (m.sim) {
    const struct sim_file_options o = {
      .size_bytes = m.size[v],
      .direct_align_bytes = 512,
    };

    sim_disk_create (m.sim, m.path[v], &o);
    sim_disk_poke (m.sim, m.path[v], 0, m.data[v], m.size[v] / 2);
    return;
  }
  fd = open (m.path[v], O_CREAT | O_RDWR | O_TRUNC, 0600);
  if (fd < 0 || ftruncate (fd, m.size[v]) < 0
      || pwrite (fd, m.data[v], m.size[v] / 2, 0)
           != (ssize_t) (m.size[v] / 2))
    fail ("%s: %s", m.path[v], strerror (errno));
  close (fd);
}

static void
set_up (void)
{
  const struct sim_disk_options sim = { .seed = m.seed, .stable = true };
  struct cow_engine_options o = {
    .io = m.io,
    .block_bytes = m.block_bytes,
    .ring_segments = m.ring,
    .store_path = m.dir,
    .store_limit_bytes = UINT64_C (4) << 30,
  };
  struct cow_error err = COW_ERROR_INIT;

  if (strcmp (m.io_name, "sim") == 0) {
    m.sim = sim_disk_new (&sim);
    o.use_io = sim_disk_io (m.sim);
  }
  if (cow_engine_new (&o, &err, &m.engine) < 0)
    fail ("%s", err.text);
  for (unsigned v = 0; v < VOLUMES; v++) {
    char name[16];

    snprintf (name, sizeof name, "v%u", v);
    snprintf (m.path[v], sizeof m.path[v], "%s/model-%d-%u.img", m.dir,
              (int) getpid (), v);
    /* One of a whole number of blocks, the others not. */
    m.size[v] = ((2 + below (4)) << 20) + (v ? below (9000) : 0);
    m.data[v] = calloc (1, m.size[v]);
    m.maybe[v] = calloc (1, m.size[v]);
    make_origin (v);
    if (cow_volume_add (m.engine, name, m.path[v], m.cache, false, &err,
                        &m.volume[v])
        < 0)
      fail ("%s", err.text);
  }
  if (cow_engine_start (m.engine, &err) < 0)
    fail ("%s", err.text);
}

static void
read_origin (unsigned v, uint8_t *buf)
{
  int fd;

  if (m.sim) {
    sim_disk_peek (m.sim, m.path[v], 0, buf, m.size[v]);
    return;
  }
  fd = open (m.path[v], O_RDONLY);
  if (pread (fd, buf, m.size[v], 0) != (ssize_t) m.size[v])
    fail ("%s: %s", m.path[v], strerror (errno));
  close (fd);
  unlink (m.path[v]);
}

static void
tear_down (void)
{
  cow_engine_free (m.engine);
  for (unsigned v = 0; v < VOLUMES; v++) {
    uint8_t *buf = malloc (m.size[v]);

    /* The origin alone is complete. */
    read_origin (v, buf);
    for (uint64_t i = 0; i < m.size[v]; i++)
      if (buf[i] != m.data[v][i] && !(m.maybe[v][i] && buf[i] == 0))
        fail ("the file of volume %u is not what was written, at %llu", v,
              (unsigned long long) i);
    free (buf);
    free (m.data[v]);
    free (m.maybe[v]);
  }
  if (m.sim)
    sim_disk_free (m.sim);
}

static void
parse (int argc, char **argv)
{
  static const struct option options[] = {
    { "seed", required_argument, NULL, 's' },
    { "ops", required_argument, NULL, 'n' },
    { "io", required_argument, NULL, 'i' },
    { "block", required_argument, NULL, 'b' },
    { "ring", required_argument, NULL, 'r' },
    { "direct", no_argument, NULL, 'd' },
    { "dir", required_argument, NULL, 'D' },
    { NULL, 0, NULL, 0 },
  };
  int c;

  m.seed = (uint64_t) time (NULL) * 1000003 + (uint64_t) getpid ();
  m.dir = getenv ("TMPDIR");
  if (m.dir == NULL)
    m.dir = "/var/tmp";
  m.block_bytes = 4096;
  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (c) {
    case 's': m.seed = strtoull (optarg, NULL, 0); break;
    case 'n': m.ops = strtoul (optarg, NULL, 0); break;
    case 'i':
      m.io_name = optarg;
      m.io = strcmp (optarg, "uring") == 0 ? COW_IO_URING : COW_IO_SYNC;
      break;
    case 'b': m.block_bytes = strtoul (optarg, NULL, 0); break;
    case 'r': m.ring = strtoul (optarg, NULL, 0); break;
    case 'd': m.cache = COW_CACHE_NONE; break;
    case 'D': m.dir = optarg; break;
    default: exit (2);
    }
  m.state = m.seed;
}

int
main (int argc, char **argv)
{
  pthread_t stepper;

  parse (argc, argv);
  printf ("model: --seed %llu --ops %lu --io %s --block %u --ring %u%s\n",
          (unsigned long long) m.seed, m.ops,
          m.io_name, m.block_bytes, m.ring,
          m.cache == COW_CACHE_NONE ? " --direct" : "");
  fflush (stdout);
  set_up ();
  if (pthread_create (&stepper, NULL, step_all_the_time, NULL) != 0)
    fail ("no thread");
  for (unsigned long i = 0; i < m.ops; i++) {
    unsigned op = below (100);

    if (op < 80)
      change ();
    else if (op < 86)
      snapshot ();
    else if (op < 89)
      delete_some ();
    look_around (64u << 10);
    if (i % 500 == 499) {
      compare_all ();
      work_until_idle ();
      check_structure ();
      check_leaks ();
    }
  }
  compare_all ();
  check_empty ();
  pthread_mutex_lock (&step_lock);
  stop_stepping = true;
  pthread_mutex_unlock (&step_lock);
  pthread_join (stepper, NULL);
  tear_down ();
  puts ("model: all equal");
  return 0;
}
