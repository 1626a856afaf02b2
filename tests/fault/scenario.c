/* scenario.c - see scenario.h.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The model: for each volume, and each snapshot, the bytes; and for each page,
 * whether it may read as zeroes instead, because a trim of it was put off or
 * failed.  A change that failed leaves old and new bytes in any mixture; what
 * it has left is looked up in the file.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/sync.h"
#include "fault/allocations.h"
#include "fault/scenario.h"
#include "set/engine.h"
#include "sim/fibres.h"
#include "sim/random.h"

#define VOLUMES 2u
#define STORE VOLUMES           /* as a file */
#define FILES 3u
#define BLOCK 4096u             /* the scenario's; the engine's may be larger */
#define BLOCKS_MAX 320u
#define SIZE_MAX_BYTES (BLOCKS_MAX * BLOCK)
#define SETS 5u
#define STEPS_MAX 3000000u

struct bytes {
  uint8_t data[SIZE_MAX_BYTES];
  bool maybe[BLOCKS_MAX];       /* may be zero */
};

struct set {
  struct cow_id id, snapshot[VOLUMES];
  unsigned members;
  bool made, deleted, gone[VOLUMES];
  struct bytes then[VOLUMES];
};

/* I/Os of the store whose failure is the store's. */
#define STORE_CHANGES                                                   \
  (SIM_WRITE | SIM_ALLOCATE | SIM_PUNCH | SIM_ZERO | SIM_SYNC           \
   | SIM_SYNC_DIR | SIM_REMOVE)

static struct bytes volume[VOLUMES];
static struct set sets[SETS];
static uint8_t buf[SIZE_MAX_BYTES], reader_buf[64 << 10];

static struct {
  const struct scenario *s;
  struct scenario_result *out;
  struct sim_disk *disk;
  struct cow_engine *engine;
  struct cow_volume *volume[VOLUMES];
  uint64_t size[VOLUMES];
  bool done;

  /* What went wrong so far. */
  uint64_t failed[FILES];       /* I/Os */
  unsigned failed_ops[FILES];
  bool delayed;
  bool restarting;              /* nothing fails any more */
  bool unrecorded;              /* it was said that an end is nowhere */
} r;

/* ------------------------------------------------------ what went wrong */

static unsigned
file_of (const char *name)
{
  if (strcmp (name, "d0") == 0)
    return 0;
  if (strcmp (name, "d1") == 0)
    return 1;
  return STORE;
}

static void
observe (void *opaque, struct sim_disk *d, const struct sim_step *step)
{
  const struct sim_fault *f = &r.s->fault;
  const unsigned file = file_of (step->file);

  (void) opaque;
  (void) d;
  if (r.restarting)
    return;
  if (!step->after) {
    if ((f->ops == 0 || (f->ops & step->op))
        && (f->file == NULL || strcmp (f->file, step->file) == 0)) {
      const uint64_t n = r.out->matched++;

      if (r.s->faulty && n >= f->skip
          && (f->times == 0 || n < f->skip + f->times)) {
        r.out->hits++;
        r.delayed |= f->delay_ns > 0;
      }
    }
    return;
  }
  (file == STORE ? r.out->store_ios : r.out->origin_ios)[step->op]++;
  if (step->result < 0) {
    r.failed[file]++;
    r.failed_ops[file] |= step->op;
  }
}

/* Before something is tried: what had failed by then. */
struct before {
  uint64_t failed[FILES], allocations;
};

static struct before
now (void)
{
  struct before b;

  memcpy (b.failed, r.failed, sizeof b.failed);
  b.allocations = allocations.failed;
  return b;
}

static bool
out_of_memory (const struct before *b)
{
  return allocations.failed > b->allocations;
}

/* May a request to a volume's origin fail? */
static bool
may_refuse (const struct before *b, unsigned v, int rc, bool flushes)
{
  if (r.failed[v] > b->failed[v]
      || (flushes && (r.failed_ops[v] & SIM_SYNC) && rc == -EIO))
    return true;
  if (out_of_memory (b))
    return rc == -ENOMEM || r.s->protect;
  return r.s->protect && (rc == -EIO || rc == -ENOSPC)
         && (r.failed[STORE] > 0 || r.delayed || allocations.failed > 0);
}

/* Has a snapshot of v reason to be lost in this way? */
static bool
may_be_lost (unsigned v, enum cow_snapshot_end end)
{
  if (r.s->protect)
    return false;
  switch (end) {
  case COW_LOST_STORE_FULL:     /* no space for its file */
    return r.failed_ops[STORE] & (SIM_ALLOCATE | SIM_WRITE);
  case COW_LOST_STORE_ERROR:
    return (r.failed_ops[STORE] & STORE_CHANGES)
           || (r.s->persistent && r.delayed) /* a record that came too late */
           || allocations.failed > 0;
  case COW_LOST_STORE_TIMEOUT:
    return r.delayed;
  case COW_LOST_ORIGIN_ERROR:
    return (r.failed_ops[v] & SIM_READ) || allocations.failed > 0;
  default:
    return false;
  }
}

static enum cow_snapshot_end
end_of (const struct set *s, unsigned v)
{
  struct cow_set_info info;

  if (cow_engine_find_set (r.engine, &s->id, &info) < 0)
    return COW_DELETED;
  for (unsigned i = 0; i < info.count; i++)
    if (cow_id_equal (&info.snapshots[i].id, &s->snapshot[v]))
      return info.snapshots[i].end;
  scenario_wrong ("a set has lost its snapshot of v%u", v);
}

/* ----------------------------------------------------------- comparing */

static void
compare_in_block (const char *what, const struct bytes *want,
                  const uint8_t *got, uint64_t offset, uint64_t len)
{
  const uint8_t *data = want->data + offset;

  if (memcmp (got, data, len) == 0)
    return;
  for (uint64_t i = 0; i < len; i++)
    if (got[i] != data[i] && !(want->maybe[offset / BLOCK] && got[i] == 0))
      scenario_wrong ("%s is wrong at %llu: %u, not %u", what,
                      (unsigned long long) (offset + i), got[i], data[i]);
}

static void
compare (const char *what, const struct bytes *want, const uint8_t *got,
         uint64_t offset, uint64_t len)
{
  for (uint64_t i = 0, n; i < len; i += n) {
    n = COW_MIN (BLOCK - (offset + i) % BLOCK, len - i);
    compare_in_block (what, want, got + i, offset + i, n);
  }
  r.out->compared++;
}

/* A part of a snapshot: right, or with a reason not to be had. */
static int
check_part (const struct set *s, unsigned v, uint8_t *to, uint64_t offset,
            uint32_t len)
{
  const struct before b = now ();
  struct cow_view *w = NULL;
  char text[COW_ID_TEXT_SIZE];
  enum cow_snapshot_end end;
  int rc;

  cow_id_format (&s->id, text);
  rc = cow_view_open (r.volume[v], text, NULL, &w);
  if (rc == 0)
    rc = cow_view_read (w, to, len, offset);
  cow_view_close (w);
  if (rc == 0) {
    compare ("a snapshot", &s->then[v], to, offset, len);
    return 0;
  }
  end = end_of (s, v);
  if (end == COW_ALIVE
      && !(r.failed[v] > b.failed[v] || r.failed[STORE] > b.failed[STORE]
           || out_of_memory (&b)))
    scenario_wrong ("a live snapshot of v%u can't be read: %s", v,
                    strerror (-rc));
  if (end == COW_DELETED && !s->deleted && !s->gone[v])
    scenario_wrong ("a snapshot of v%u is gone", v);
  if (end != COW_ALIVE && end != COW_DELETED && !may_be_lost (v, end))
    scenario_wrong ("a snapshot of v%u is lost for no reason: %s", v,
                    cow_snapshot_end_text (end));
  return rc;
}

static void
check_origin (unsigned v)
{
  const struct before b = now ();
  const int rc = cow_volume_read (r.volume[v], buf, (uint32_t) r.size[v], 0);

  if (rc == 0)
    compare ("an origin", &volume[v], buf, 0, r.size[v]);
  else if (r.failed[v] == b.failed[v]
           && !(rc == -ENOMEM && out_of_memory (&b)))
    scenario_wrong ("v%u can't be read: %s", v, strerror (-rc));
}

/* How many sets there are, and how each snapshot is. */
static void
check_list (void)
{
  const struct before b = now ();
  struct cow_set_info *list;
  size_t count, made = 0;

  for (unsigned i = 0; i < SETS; i++) {
    made += sets[i].made && !sets[i].deleted;
    for (unsigned v = 0; sets[i].made && v < VOLUMES; v++) {
      enum cow_snapshot_end end;

      if (!(sets[i].members >> v & 1) || sets[i].deleted || sets[i].gone[v])
        continue;
      end = end_of (&sets[i], v);
      if (end != COW_ALIVE && !may_be_lost (v, end))
        scenario_wrong ("a snapshot of v%u is lost for no reason: %s", v,
                        cow_snapshot_end_text (end));
    }
  }
  if (cow_engine_sets (r.engine, &list, &count) < 0) {
    if (!out_of_memory (&b))
      scenario_wrong ("the sets can't be listed");
    return;
  }
  if (count != made)
    scenario_wrong ("%u sets are listed, not %u", (unsigned) count,
                    (unsigned) made);
  free (list);
}

static void
check_all (void)
{
  for (unsigned i = 0; i < SETS; i++)
    for (unsigned v = 0; sets[i].made && v < VOLUMES; v++)
      if ((sets[i].members >> v & 1) && !sets[i].deleted && !sets[i].gone[v])
        (void) check_part (&sets[i], v, buf, 0, (uint32_t) r.size[v]);
  for (unsigned v = 0; v < VOLUMES; v++)
    check_origin (v);
  check_list ();
}

/* ------------------------------------------------------------- requests */

static void
refused (const struct before *b, unsigned v, int rc, bool flushes,
         const char *what)
{
  r.out->refused++;
  if (!may_refuse (b, v, rc, flushes))
    scenario_wrong ("%s of v%u failed for no reason: %s", what, v,
                    strerror (-rc));
}

static void
peek (unsigned v, uint64_t offset, uint8_t *to, uint64_t len)
{
  char name[8];

  snprintf (name, sizeof name, "d%u", v);
  sim_disk_peek (r.disk, name, offset, to, len);
}

/* A change of [offset, offset + len) has failed: what is there now? */
static void
adopt (unsigned v, uint64_t offset, uint64_t len, const uint8_t *new)
{
  static uint8_t left[SIZE_MAX_BYTES];

  peek (v, offset, left, len);
  for (uint64_t i = 0; i < len; i++) {
    uint8_t *old = &volume[v].data[offset + i];

    if (left[i] != *old && left[i] != (new ? new[i] : 0)
        && !(volume[v].maybe[(offset + i) / BLOCK] && left[i] == 0))
      scenario_wrong ("a failed write has left %u at %llu of v%u", left[i],
                      (unsigned long long) (offset + i), v);
    *old = left[i];
  }
}

/* What was put off for a block is called off when it is written to, so that
 * what the rest of it holds then is what it holds.
 */
static void
changed (unsigned v, uint64_t offset, uint64_t len)
{
  const uint64_t end = offset + len;

  for (uint64_t b = offset / BLOCK; b * BLOCK < end; b++) {
    uint8_t left[BLOCK];

    if (!volume[v].maybe[b])
      continue;
    if (b * BLOCK < offset || (b + 1) * BLOCK > end) {
      peek (v, b * BLOCK, left, BLOCK);
      compare_in_block ("a written block", &volume[v], left, b * BLOCK, BLOCK);
      memcpy (volume[v].data + b * BLOCK, left, BLOCK);
    }
    volume[v].maybe[b] = false;
  }
}

static void
write_some (unsigned v, uint64_t offset, uint32_t len, uint32_t stamp,
            unsigned flags)
{
  static uint8_t new[SIZE_MAX_BYTES + 8];
  const struct before b = now ();
  uint64_t random = stamp;
  int rc;

  for (uint32_t i = 0; i < len; i += 8) {
    const uint64_t word = sim_random_next (&random);

    memcpy (new + i, &word, sizeof word);
  }
  rc = cow_volume_write (r.volume[v], new, len, offset, flags);
  if (rc < 0) {
    refused (&b, v, rc, flags & COW_FUA, "a write");
    adopt (v, offset, len, new);
    return;
  }
  memcpy (volume[v].data + offset, new, len);
  changed (v, offset, len);
}

static void
zero_some (unsigned v, uint64_t offset, uint32_t len, unsigned flags)
{
  const struct before b = now ();
  const int rc = cow_volume_zero (r.volume[v], len, offset, flags);

  if (rc == -EOPNOTSUPP && (flags & COW_FAST_ZERO))
    return;
  if (rc < 0) {
    refused (&b, v, rc, false, "a zeroing");
    adopt (v, offset, len, NULL);
    return;
  }
  memset (volume[v].data + offset, 0, len);
  changed (v, offset, len);
}

/* Whole blocks. */
static void
trim_some (unsigned v, uint64_t offset, uint32_t len)
{
  const struct before b = now ();
  int rc;

  memset (volume[v].maybe + offset / BLOCK, true, len / BLOCK);
  rc = cow_volume_trim (r.volume[v], len, offset, 0);
  if (rc < 0)
    refused (&b, v, rc, false, "a trim");
}

static void
flush (unsigned v)
{
  const struct before b = now ();
  const int rc = cow_volume_flush (r.volume[v]);

  if (rc < 0)
    refused (&b, v, rc, true, "a flush");
  else if (r.failed_ops[v] & SIM_SYNC)
    scenario_wrong ("a flush of v%u succeeded after a failed one", v);
}

/* -------------------------------------------------------------- sets */

static unsigned
file_of_volume (const char *name)
{
  return name[1] - '0';
}

/* A phase has failed: a sync, the store, memory, or a snapshot on its way. */
static void
phase_failed (struct cow_set *set, const struct before *b, unsigned members,
              int rc)
{
  static struct cow_set_info info;
  bool reason = out_of_memory (b) || r.failed[STORE] > b->failed[STORE]
                || (r.failed_ops[STORE] & STORE_CHANGES)
                || (r.s->persistent && r.delayed);

  r.out->refused++;
  for (unsigned v = 0; v < VOLUMES; v++)
    if (members >> v & 1)
      reason |= r.failed[v] > b->failed[v] || (r.failed_ops[v] & SIM_SYNC);
  if (set != NULL) {
    cow_set_info (set, &info);
    if (info.state != COW_SET_ABORTED && info.state != COW_SET_OPEN)
      scenario_wrong ("a set whose phase failed is in state %d", info.state);
    for (unsigned i = 0; i < info.count; i++)
      reason |= info.snapshots[i].end > COW_DELETED
                && may_be_lost (file_of_volume (info.snapshots[i].volume),
                                info.snapshots[i].end);
  }
  if (!reason && !(allocations.failed > 0 && rc == -EIO))
    scenario_wrong ("a set failed for no reason: %s", strerror (-rc));
}

/* What the snapshot shows of what may be zero is what it shows for ever. */
static void
resolve (struct set *s)
{
  for (unsigned v = 0; v < VOLUMES; v++) {
    if (!(s->members >> v & 1)
        || check_part (s, v, buf, 0, (uint32_t) r.size[v]) < 0)
      continue;
    memcpy (s->then[v].data, buf, r.size[v]);
    memset (s->then[v].maybe, false, sizeof s->then[v].maybe);
  }
}

static void
make_set (unsigned n, unsigned members, bool to_be_aborted)
{
  struct set *s = &sets[n];
  const struct before b = now ();
  const struct cow_set_options o = {
    .id = cow_id_new (),
    .persistent = r.s->persistent,
  };
  struct cow_set *set = NULL;
  int rc = cow_set_new (r.engine, &o, NULL, &set);

  s->id = o.id;
  s->members = members;
  for (unsigned v = 0; rc == 0 && v < VOLUMES; v++)
    if (members >> v & 1) {
      s->snapshot[v] = cow_id_new ();
      rc = cow_set_add (set, r.volume[v], &s->snapshot[v], NULL);
    }
  if (rc == 0)
    rc = cow_set_prepare (set, COW_NEVER, NULL);
  if (rc == 0)
    rc = cow_set_hold (set, 10 * COW_NS_PER_S, NULL);
  if (rc == 0) {
    memcpy (s->then, volume, sizeof volume);
    rc = cow_set_switch (set, NULL);
  }
  if (rc == 0 && to_be_aborted) {
    write_some (0, 17 * BLOCK, 3 * BLOCK, 100, 0);
    rc = cow_set_abort (set);
    if (rc < 0)
      scenario_wrong ("an abort failed: %s", strerror (-rc));
    cow_set_put (set);
    return;
  }
  if (rc == 0)
    rc = cow_set_settle (set, COW_NEVER, NULL);
  if (rc == 0)
    rc = cow_set_finish (set, NULL);
  if (rc < 0)
    phase_failed (set, &b, members, rc);
  cow_set_put (set);
  if (rc == 0) {
    s->made = true;
    resolve (s);
  }
}

/* May the end of a snapshot be refused?  For want of memory or room only. */
static bool
may_not_be_recorded (int rc)
{
  return r.s->persistent
         && ((rc == -ENOMEM && allocations.failed > 0)
             || (rc == -ENOSPC && (r.failed_ops[STORE] & STORE_CHANGES)));
}

static void
delete_set (unsigned n)
{
  struct set *s = &sets[n];
  int rc;

  if (!s->made || s->deleted)
    return;
  s->deleted = true;
  rc = cow_engine_delete_set (r.engine, &s->id);
  if (rc < 0 && may_not_be_recorded (rc))
    s->deleted = false;
  else if (rc < 0)
    scenario_wrong ("a deletion failed: %s", strerror (-rc));
}

static void
delete_snapshot (unsigned n, unsigned v)
{
  int rc;

  if (!sets[n].made)
    return;
  sets[n].gone[v] = true;
  rc = cow_engine_delete_snapshot (r.engine, &sets[n].snapshot[v]);
  if (rc < 0 && may_not_be_recorded (rc))
    sets[n].gone[v] = false;
  else if (rc < 0)
    scenario_wrong ("a deletion failed: %s", strerror (-rc));
}

/* ----------------------------------------------------------- the fibres */

static int
any_extent (void *opaque, uint64_t offset, uint64_t len,
            enum cow_extent_kind kind)
{
  static const uint8_t zeroes[BLOCK];
  const struct bytes *want = opaque;

  for (uint64_t i = 0, n; kind == COW_EXTENT_HOLE && i < len; i += n) {
    n = COW_MIN (BLOCK - (offset + i) % BLOCK, len - i);
    if (!want->maybe[(offset + i) / BLOCK]
        && memcmp (want->data + offset + i, zeroes, n) != 0)
      scenario_wrong ("a hole at %llu has data",
                      (unsigned long long) (offset + i));
  }
  return 0;
}

static void
look_at_extents (unsigned v)
{
  const int rc = cow_volume_extents (r.volume[v], (uint32_t) r.size[v], 0,
                                     any_extent, &volume[v]);

  if (rc < 0)
    scenario_wrong ("extents of v%u: %s", v, strerror (-rc));
}

static void
first_half (void)
{
  make_set (0, 3, false);
  write_some (0, 0, 256 * BLOCK, 1, 0);
  write_some (1, 5000, 10000, 2, 0);
  make_set (1, 1, false);
  write_some (0, 700, 3, 3, 0);
  write_some (0, 100 * BLOCK + 17, 30000, 4, 0);
  zero_some (0, 50 * BLOCK, 20 * BLOCK + 100, COW_MAY_TRIM);
  zero_some (1, 30 * BLOCK, 2 * BLOCK, 0);
  zero_some (1, 0, BLOCK, COW_FAST_ZERO);
  trim_some (1, 60 * BLOCK, 40 * BLOCK);
  trim_some (0, 50 * BLOCK, 4 * BLOCK);
  check_all ();
  write_some (1, 70 * BLOCK, BLOCK, 5, 0);
  write_some (1, 75 * BLOCK + 9, 1, 5, 0);
  write_some (0, 2 * BLOCK, BLOCK, 6, COW_FUA);
  flush (1);
  make_set (2, 3, true);
}

static void
second_half (void)
{
  make_set (3, 3, false);
  write_some (0, 0, (uint32_t) r.size[0], 7, 0);
  write_some (1, 0, (uint32_t) r.size[1], 8, 0);
  check_all ();
  look_at_extents (0);
  look_at_extents (1);
  delete_set (0);
  trim_some (1, 200 * BLOCK, 30 * BLOCK);
  trim_some (0, 200 * BLOCK, 30 * BLOCK);
  make_set (4, 2, false);
  write_some (1, 190 * BLOCK, 20 * BLOCK, 9, 0);
  delete_snapshot (3, 0);
  flush (0);
  check_all ();
}

static void
client (void *opaque)
{
  (void) opaque;
  first_half ();
  second_half ();
  for (unsigned i = 0; i < SETS && !r.s->persistent; i++)
    delete_set (i);
  /* What was put off is done, or not; a change that came later stays. */
  cow_sleep_ns (100 * COW_NS_PER_MS);
  write_some (1, 203 * BLOCK, BLOCK, 10, COW_FUA);
  cow_sleep_ns (100 * COW_NS_PER_MS);
  check_all ();
  r.done = true;
  cow_engine_wake (r.engine);
}

static void
reader (void *opaque)
{
  (void) opaque;
  for (unsigned i = 0; i < 12 && !r.done; i++) {
    const unsigned v = (unsigned) fibres_draw (VOLUMES);
    const uint32_t len = 1 + (uint32_t) fibres_draw (sizeof reader_buf);

    cow_sleep_ns (200000);
    if (sets[0].made)
      (void) check_part (&sets[0], v, reader_buf,
                         fibres_draw (r.size[v] - len), len);
  }
}

static void
stepper (void *opaque)
{
  (void) opaque;
  while (!r.done)
    cow_engine_step (r.engine, cow_now_ns () + 10 * COW_NS_PER_MS);
}

/* -------------------------------------------------------------- the run */

static void
quiet (enum cow_log_level level, const char *text)
{
  (void) level;
  if (strstr (text, "REMOVE THE STORE") != NULL)
    r.unrecorded = true;
}

static void
make_origins (void)
{
  uint64_t random = 7;

  for (unsigned v = 0; v < VOLUMES; v++) {
    const struct sim_file_options o = {
      /* A whole number of blocks, and not. */
      .size_bytes = r.size[v] = v == 0 ? 300 * BLOCK : 260 * BLOCK + 777,
      .direct_align_bytes = r.s->direct ? r.s->direct : 512,
    };
    char name[8];

    memset (&volume[v], 0, sizeof volume[v]);
    for (uint64_t i = 0; i < 256 * BLOCK; i += 8) {
      const uint64_t word = sim_random_next (&random);

      memcpy (volume[v].data + i, &word, sizeof word);
    }
    snprintf (name, sizeof name, "d%u", v);
    sim_disk_create (r.disk, name, &o);
    sim_disk_poke (r.disk, name, 0, volume[v].data, 256 * BLOCK);
  }
}

/* 0, or what kept the engine from starting. */
static int
start (void)
{
  const struct cow_engine_options o = {
    .use_io = sim_disk_io (r.disk),
    .block_bytes = r.s->block_bytes,
    .store_path = STORE_PATH,
    .store_limit_bytes = 8u << 20,
    .ring_segments = 2,
    .store_timeout_ns = COW_NS_PER_S,
    .protect_snapshot = r.s->protect,
    .store_directory = r.s->persistent ? STORE_PATH : NULL,
    .journal_bytes = 256u << 10,
  };
  const struct before b = now ();
  int rc = cow_engine_new (&o, NULL, &r.engine);

  for (unsigned v = 0; rc == 0 && v < VOLUMES; v++) {
    char name[8], path[8];

    snprintf (name, sizeof name, "v%u", v);
    snprintf (path, sizeof path, "d%u", v);
    rc = cow_volume_add (r.engine, name, path,
                         r.s->direct ? COW_CACHE_NONE : COW_CACHE_WRITEBACK,
                         false, NULL, &r.volume[v]);
  }
  if (rc == 0)
    rc = cow_engine_start (r.engine, NULL);
  if (rc < 0) {
    r.out->refused++;
    if (!out_of_memory (&b) && r.failed[0] + r.failed[1] == 0
        && !(r.s->persistent && r.failed[STORE] > 0))
      scenario_wrong ("the engine does not start: %s", strerror (-rc));
  }
  return rc;
}

static void
check_end (void)
{
  struct cow_engine_status st;

  for (unsigned i = 0; i < 1000 && cow_engine_step (r.engine, 0); i++)
    ;
  cow_engine_status (r.engine, &st);
  r.out->lost = (unsigned) st.invalidated_snapshots;
  if (st.exceptions != 0 || st.store_used_bytes != 0)
    scenario_wrong ("left over: %llu exceptions, %llu bytes of the store",
                    (unsigned long long) st.exceptions,
                    (unsigned long long) st.store_used_bytes);
}

/* --------------------------------------------------------- the next server */

/* What the store has of a set when nothing fails any more. */
static void
check_after_restart (struct set *s, const enum cow_snapshot_end *before)
{
  char text[COW_ID_TEXT_SIZE];

  cow_id_format (&s->id, text);
  for (unsigned v = 0; v < VOLUMES; v++) {
    struct cow_view *w = NULL;
    enum cow_snapshot_end end;
    int rc;

    if (!(s->members >> v & 1))
      continue;
    end = end_of (s, v);
    if (end != COW_ALIVE) {
      if (before[v] == COW_ALIVE && r.failed[STORE] + r.failed[v] == 0
          && allocations.failed == 0)
        scenario_wrong ("a restart has lost a snapshot of v%u: %s", v,
                        cow_snapshot_end_text (end));
      continue;
    }
    /* If all files failed for good, the end could only be told to people. */
    if (before[v] != COW_ALIVE && r.unrecorded && r.s->fault.file == NULL
        && r.s->fault.times == 0)
      continue;
    if (before[v] != COW_ALIVE)
      scenario_wrong ("a snapshot of v%u that was lost is back", v);
    rc = cow_view_open (r.volume[v], text, NULL, &w);
    if (rc == 0)
      rc = cow_view_read (w, buf, (uint32_t) r.size[v], 0);
    if (rc < 0)
      scenario_wrong ("after a restart a snapshot of v%u can't be read: %s",
                      v, strerror (-rc));
    cow_view_close (w);
    compare ("a snapshot after a restart", &s->then[v], buf, 0, r.size[v]);
  }
}

/* Of a set that was not made nothing is known, but how it was left. */
static enum cow_snapshot_end
end_now (const struct set *s, unsigned v)
{
  if (!s->made || s->deleted || s->gone[v] || !(s->members >> v & 1))
    return COW_DELETED;
  return end_of (s, v);
}

/* After the stop, or a kill: a server for which nothing fails. */
static void
restart (bool in_order)
{
  enum cow_snapshot_end before[SETS][VOLUMES];
  struct cow_set_info *list;
  size_t count;

  for (unsigned i = 0; i < SETS; i++)
    for (unsigned v = 0; v < VOLUMES; v++)
      before[i][v] = end_now (&sets[i], v);
  if (in_order)
    (void) cow_engine_close (r.engine);
  r.restarting = true;
  cow_engine_free (r.engine);
  r.engine = NULL;
  sim_disk_heal (r.disk);
  allocations_disarm ();
  if (start () < 0)
    scenario_wrong ("the next server does not start");
  for (unsigned i = 0; i < SETS; i++)
    if (sets[i].made)
      check_after_restart (&sets[i], before[i]);
  for (unsigned v = 0; v < VOLUMES; v++)
    check_origin (v);
  if (cow_engine_sets (r.engine, &list, &count) < 0)
    scenario_wrong ("the sets can't be listed");
  for (size_t i = 0; i < count; i++)
    if (cow_engine_delete_set (r.engine, &list[i].id) < 0)
      scenario_wrong ("after a restart a set can't be deleted");
  free (list);
}

void
scenario_run (const struct scenario *s, struct scenario_result *out)
{
  const struct fibres_options fibres = {
    .seed = s->seed, .steps_max = STEPS_MAX,
  };
  const struct sim_disk_options disk = {
    .seed = s->seed, .stable = true,
    .latency_min_ns = 1000, .latency_max_ns = 20000,
  };
  static uint8_t file[SIZE_MAX_BYTES];

  memset (&r, 0, sizeof r);
  memset (out, 0, sizeof *out);
  for (unsigned i = 0; i < SETS; i++)
    sets[i].made = sets[i].deleted = sets[i].gone[0] = sets[i].gone[1] = false;
  r.s = s;
  r.out = out;
  cow_log_set_hook (quiet);
  fibres_begin (&fibres);
  r.disk = sim_disk_new (&disk);
  make_origins ();
  allocations_exempt (sim_disk_io (r.disk));
  sim_disk_observe (r.disk, observe, NULL);
  fibre_spawn ("client", client, NULL);
  fibre_spawn ("reader", reader, NULL);
  fibre_spawn ("stepper", stepper, NULL);
  if (s->faulty)
    sim_disk_fault (r.disk, &s->fault);

  allocations_arm (s->alloc_skip, s->alloc_times);
  if (start () == 0) {
    if (fibres_run () != FIBRES_DONE)
      scenario_wrong ("it does not end");
    if (s->persistent)
      restart (out->hits == 0 || (s->fault.skip + s->alloc_skip) % 2 == 0);
    check_end ();
  }
  cow_engine_free (r.engine);
  allocations_disarm ();
  out->allocations = allocations.asked;
  out->hits += allocations.failed;
  for (unsigned v = 0; v < VOLUMES; v++) {
    peek (v, 0, file, r.size[v]);
    compare ("a file", &volume[v], file, 0, r.size[v]);
  }
  sim_disk_free (r.disk);
  fibres_end ();
}
