/* served.c - see served.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/sync.h"
#include "set/engine.h"
#include "sim/random.h"
#include "store/store-priv.h"
#include "unit/served.h"

struct served served;

static void
must (int rc, const char *what)
{
  if (rc < 0) {
    fprintf (stderr, "served: %s: %s\n", what, strerror (-rc));
    abort ();
  }
}

static void *
take (size_t bytes)
{
  void *p = malloc (bytes > 0 ? bytes : 1);

  assert (p);
  return p;
}

static void
count (void *opaque, struct sim_disk *d, const struct sim_step *step)
{
  (void) opaque;
  (void) d;
  if (!step->after)
    return;
  if (strcmp (step->file, STORE_FILE) == 0
      || strcmp (step->file, LASTING_FILE) == 0)
    served.store_ios[step->op]++;
  else
    served.origin_ios[step->op]++;
}

void
served_stamp (uint8_t *buf, size_t len, uint64_t offset, uint32_t stamp)
{
  for (size_t i = 0; i < len; i++) {
    const uint64_t at = offset + i;

    /* Never zero, so that holes and data are told apart. */
    buf[i] = (uint8_t) (1 + (at * 7 + (at >> 9) + stamp * 101u) % 255);
  }
}

static void
make_disk (unsigned v)
{
  struct sim_file_options file = served.o.file;
  char path[16];

  snprintf (path, sizeof path, "d%u", v);
  file.size_bytes = served.o.size_bytes;
  file.direct_align_bytes = served.o.direct ? served.o.direct : 512;
  sim_disk_create (served.disk, path, &file);
  served.data[v] = take (file.size_bytes);
  memset (served.data[v], 0, file.size_bytes);
  if (!served.o.holes) {
    served_stamp (served.data[v], file.size_bytes, 0, 1000 + v);
    sim_disk_poke (served.disk, path, 0, served.data[v], file.size_bytes);
  }
}

static void
add_volume (unsigned v)
{
  struct cow_error err = COW_ERROR_INIT;
  char name[16], path[16];

  snprintf (name, sizeof name, "v%u", v);
  snprintf (path, sizeof path, "d%u", v);
  must (cow_volume_add (served.engine, name, path,
                        served.o.direct ? COW_CACHE_NONE : COW_CACHE_WRITEBACK,
                        false, &err, &served.volume[v]),
        err.text);
}

void
served_begin (const struct served_options *options)
{
  const struct fibres_options fibres = {
    .seed = options->seed, .steps_max = options->steps_max,
  };
  struct cow_engine_options *e = &served.o.engine;

  memset (&served, 0, sizeof served);
  served.o = *options;
  if (served.o.volumes == 0)
    served.o.volumes = 1;
  fibres_begin (&fibres);
  served.o.disk.seed = options->seed;
  served.disk = sim_disk_new (&served.o.disk);
  sim_disk_observe (served.disk, count, NULL);
  if (e->store_path == NULL)
    e->store_path = "/store";
  if (e->ring_segments == 0)
    e->ring_segments = 8;
  for (unsigned v = 0; v < served.o.volumes; v++)
    make_disk (v);
  must (served_come_back (NULL), "start");
}

void
served_go (enum served_how how, uint64_t seed)
{
  struct sim_disk *next = NULL;

  if (how == SERVED_STOP)
    must (cow_engine_close (served.engine), "close");
  else {
    next = how == SERVED_KILL ? sim_disk_clone (served.disk)
                              : sim_disk_crash (served.disk, seed);
    sim_disk_power_off (served.disk);
  }
  cow_engine_free (served.engine);
  served.engine = NULL;
  if (next == NULL)
    return;
  sim_disk_free (served.disk);
  served.disk = next;
  sim_disk_observe (served.disk, count, NULL);
}

int
served_come_back (struct cow_error *err)
{
  int rc;

  served.o.engine.use_io = sim_disk_io (served.disk);
  must (cow_engine_new (&served.o.engine, NULL, &served.engine), "engine");
  for (unsigned v = 0; v < served.o.volumes; v++)
    add_volume (v);
  rc = cow_engine_open (served.engine, err);
  if (rc == 0)
    rc = cow_engine_start (served.engine, err);
  if (rc < 0) {
    cow_engine_free (served.engine);
    served.engine = NULL;
  }
  return rc;
}

void
served_restart (enum served_how how, uint64_t seed)
{
  struct cow_error err = COW_ERROR_INIT;

  served_go (how, seed);
  if (served_come_back (&err) < 0) {
    fprintf (stderr, "served: restart: %s\n", err.text);
    abort ();
  }
}

void
served_end (void)
{
  cow_engine_free (served.engine);
  sim_disk_free (served.disk);
  for (unsigned v = 0; v < served.o.volumes; v++)
    free (served.data[v]);
  fibres_end ();
}

void
served_work (void)
{
  const struct cow_store *s = served.engine->store;

  while (cow_engine_step (served.engine, 0)
         || (s->queue && s->queue->in_flight > 0))
    ;
}

/* ------------------------------------------------------------------ fibres */

static struct {
  void (*alone) (void);
  void (*one_of) (unsigned);
  unsigned left;
} running;

static void
step_all_the_time (void *opaque)
{
  (void) opaque;
  while (running.left > 0)
    cow_engine_step (served.engine, cow_now_ns () + 10 * COW_NS_PER_MS);
}

static void
run_one (void *opaque)
{
  const unsigned number = (unsigned) (uintptr_t) opaque;

  if (running.alone)
    running.alone ();
  else
    running.one_of (number);
  if (--running.left == 0)
    cow_engine_wake (served.engine);
}

static void
run (unsigned n)
{
  running.left = n;
  for (unsigned i = 0; i < n; i++)
    fibre_spawn ("client", run_one, (void *) (uintptr_t) i);
  fibre_spawn ("stepper", step_all_the_time, NULL);
  if (fibres_run () != FIBRES_DONE)
    abort ();
}

void
served_run (void (*body) (void))
{
  running.alone = body;
  run (1);
}

void
served_run_all (unsigned n, void (*body) (unsigned number))
{
  running.alone = NULL;
  running.one_of = body;
  run (n);
}

/* ---------------------------------------------------------------- requests */

int
served_write (unsigned v, uint64_t offset, uint32_t len, uint32_t stamp,
              unsigned flags)
{
  uint8_t *buf = take (len);
  int rc;

  served_stamp (buf, len, offset, stamp);
  rc = cow_volume_write (served.volume[v], buf, len, offset, flags);
  if (rc == 0)
    memcpy (served.data[v] + offset, buf, len);
  free (buf);
  return rc;
}

void
served_note_zero (unsigned v, uint64_t offset, uint64_t len)
{
  memset (served.data[v] + offset, 0, len);
}

int
served_zero (unsigned v, uint64_t offset, uint32_t len, unsigned flags)
{
  int rc = cow_volume_zero (served.volume[v], len, offset, flags);

  if (rc == 0)
    served_note_zero (v, offset, len);
  return rc;
}

static bool
same (const char *what, unsigned v, const uint8_t *got, const uint8_t *want,
      uint64_t size)
{
  for (uint64_t i = 0; i < size; i++)
    if (got[i] != want[i]) {
      fprintf (stderr, "served: %s of volume %u differs at %llu: %u, not %u\n",
               what, v, (unsigned long long) i, got[i], want[i]);
      return false;
    }
  return true;
}

bool
served_origin_right (unsigned v)
{
  const uint64_t size = served.o.size_bytes;
  uint8_t *buf = take (size);
  char path[16];
  bool right;

  must (cow_volume_read (served.volume[v], buf, (uint32_t) size, 0), "read");
  right = same ("the origin", v, buf, served.data[v], size);
  snprintf (path, sizeof path, "d%u", v);
  sim_disk_peek (served.disk, path, 0, buf, size);
  right = right && same ("the file", v, buf, served.data[v], size);
  free (buf);
  return right;
}

/* -------------------------------------------------------------------- sets */

void
served_set_note (struct served_set *s)
{
  const uint64_t size = served.o.size_bytes;

  for (unsigned v = 0; v < served.o.volumes; v++) {
    if (v >= 64 || !(s->members >> v & 1))
      continue;
    if (s->data[v] == NULL)
      s->data[v] = take (size);
    memcpy (s->data[v], served.data[v], size);
  }
}

void
served_set_forget (struct served_set *s)
{
  for (unsigned v = 0; v < SERVED_MAX; v++)
    free (s->data[v]);
  memset (s, 0, sizeof *s);
}

int
served_set_to (struct served_set *s, uint64_t members, const char *label,
               enum cow_set_state to, struct cow_set **out)
{
  const uint64_t deadline_ns = cow_now_ns () + 60 * COW_NS_PER_S;
  struct cow_set_options o = {
    .label = label, .persistent = served.o.persistent,
  };
  struct cow_set *set;
  int rc;

  memset (s, 0, sizeof *s);
  s->members = members;
  s->id = o.id = cow_id_new ();
  *out = NULL;
  rc = cow_set_new (served.engine, &o, NULL, &set);
  if (rc < 0)
    return rc;
  for (unsigned v = 0; rc == 0 && v < served.o.volumes && v < 64; v++)
    if (members >> v & 1) {
      s->snapshot[v] = cow_id_new ();
      rc = cow_set_add (set, served.volume[v], &s->snapshot[v], NULL);
    }
  if (rc == 0 && to >= COW_SET_PREPARED)
    rc = cow_set_prepare (set, deadline_ns, NULL);
  if (rc == 0 && to >= COW_SET_HELD)
    rc = cow_set_hold (set, COW_NS_PER_S, NULL);
  if (rc == 0 && to >= COW_SET_SWITCHED) {
    served_set_note (s);
    rc = cow_set_switch (set, NULL);
  }
  if (rc == 0 && to >= COW_SET_SETTLED)
    rc = cow_set_settle (set, deadline_ns, NULL);
  if (rc == 0 && to >= COW_SET_COMMITTED)
    rc = cow_set_finish (set, NULL);
  if (rc < 0) {
    cow_set_put (set);
    served_set_forget (s);
  }
  else
    *out = set;
  return rc;
}

int
served_set (struct served_set *s, uint64_t members)
{
  struct cow_set *set;
  int rc = served_set_to (s, members, NULL, COW_SET_COMMITTED, &set);

  cow_set_put (set);
  return rc;
}

int
served_delete (struct served_set *s)
{
  int rc = cow_engine_delete_set (served.engine, &s->id);

  served_set_forget (s);
  return rc;
}

struct cow_view *
served_open (const struct served_set *s, unsigned v)
{
  char text[COW_ID_TEXT_SIZE];
  struct cow_view *w;

  cow_id_format (&s->id, text);
  return cow_view_open (served.volume[v], text, NULL, &w) < 0 ? NULL : w;
}

int
served_check_view (struct cow_view *w, const uint8_t *want, uint64_t size)
{
  uint8_t *buf = take (size);
  /* In pieces of no particular length, the second time at once. */
  const uint64_t pieces[] = { COW_MAX (size / 3 + 5, 1u), size };
  int rc = 0;

  for (unsigned round = 0; round < 2 && rc == 0; round++) {
    for (uint64_t at = 0; at < size && rc == 0;) {
      const uint64_t n = COW_MIN (pieces[round], size - at);

      rc = cow_view_read (w, buf + at, (uint32_t) n, at);
      at += n;
    }
    if (rc == 0 && !same ("a snapshot", 0, buf, want, size))
      abort ();
  }
  free (buf);
  return rc;
}

int
served_check (const struct served_set *s, unsigned v)
{
  char text[COW_ID_TEXT_SIZE];
  struct cow_view *w;
  int rc;

  cow_id_format (&s->id, text);
  rc = cow_view_open (served.volume[v], text, NULL, &w);
  if (rc < 0)
    return rc;
  rc = served_check_view (w, s->data[v], served.o.size_bytes);
  cow_view_close (w);
  return rc;
}

enum cow_snapshot_end
served_ended (const struct served_set *s, unsigned v)
{
  struct cow_set_info *info = take (sizeof *info);
  enum cow_snapshot_end end = COW_DELETED;

  if (cow_engine_find_set (served.engine, &s->id, info) == 0)
    for (unsigned i = 0; i < info->count; i++)
      if (cow_id_equal (&info->snapshots[i].id, &s->snapshot[v]))
        end = info->snapshots[i].end;
  free (info);
  return end;
}

struct cow_engine_status
served_status (void)
{
  struct cow_engine_status st;

  cow_engine_status (served.engine, &st);
  return st;
}

void
served_fault (unsigned ops, const char *file, uint64_t skip, uint64_t times,
              int error)
{
  const struct sim_fault fault = {
    .ops = ops, .file = file, .skip = skip, .times = times, .error = error,
  };

  sim_disk_fault (served.disk, &fault);
}
