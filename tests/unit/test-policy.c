/* test-policy.c - who pays when old data can't be preserved.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * By default a snapshot, with a reason, and never the volume; with
 * protect=snapshot the write, and never a snapshot.  The store is made full,
 * to fail, or to hang; bodies are fibres, beside one that steps the engine.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bits.h"
#include "set/engine.h"
#include "unit/served.h"

TestSuite (policy, .timeout = 120);

#define BLOCK 4096u
#define SEGMENT (254 * BLOCK)   /* data of a segment of the store */
#define MIB (1u << 20)
#define MS COW_NS_PER_MS

static struct served_set a, b, c;

static void
begin (unsigned volumes, unsigned store_segments, bool protect)
{
  served_begin (&(struct served_options) {
    .seed = 1, .volumes = volumes, .size_bytes = 8 * MIB,
    .engine = {
      .store_limit_bytes = (uint64_t) store_segments * MIB,
      .protect_snapshot = protect,
      .store_timeout_ns = COW_NS_PER_S,
    },
  });
}

static void
end (void)
{
  for (unsigned v = 0; v < served.o.volumes; v++)
    cr_expect (served_origin_right (v));
  served_set_forget (&a);
  served_set_forget (&b);
  served_set_forget (&c);
  served_end ();
}

static int
write_segments (unsigned v, unsigned first, unsigned n, uint32_t stamp)
{
  int rc = 0;

  for (unsigned i = first; rc == 0 && i < first + n; i++)
    rc = served_write (v, (uint64_t) i * SEGMENT, SEGMENT, stamp, 0);
  return rc;
}

/* ------------------------------------------------------------ a full store */

static void
fill_with_two_sets (void)
{
  assert (served_set (&a, 3) == 0);
  assert (write_segments (0, 0, 2, 1) == 0);
  assert (served_set (&b, 3) == 0);
  assert (write_segments (0, 2, 1, 1) == 0);
  assert (write_segments (1, 0, 1, 1) == 0);
  assert (served_ended (&a, 0) == COW_ALIVE);
}

static void
overfill (void)
{
  struct cow_view *w;
  uint8_t byte;

  fill_with_two_sets ();
  w = served_open (&a, 1);
  assert (w && cow_view_read (w, &byte, 1, 0) == 0);
  assert (write_segments (0, 3, 1, 2) == 0);
  assert (served_ended (&a, 0) == COW_LOST_STORE_FULL);
  assert (served_ended (&a, 1) == COW_LOST_STORE_FULL);
  assert (served_check (&a, 0) == -EIO && served_check (&a, 1) == -EIO);
  assert (cow_view_read (w, &byte, 1, 0) == -EIO);
  cow_view_close (w);
  assert (served_ended (&b, 0) == COW_ALIVE);
  assert (served_ended (&b, 1) == COW_ALIVE);
  assert (served_check (&b, 0) == 0 && served_check (&b, 1) == 0);
  assert (served_status ().invalidated_snapshots == 2);
  assert (!served_status ().store_failed);
}

Test (policy, a_full_store_costs_the_oldest_set_all_of_it)
{
  begin (2, 4, false);
  served_run (overfill);
  end ();
}

static void
overfill_one (void)
{
  assert (served_set (&a, 1) == 0);
  assert (write_segments (0, 0, 8, 1) == 0);
  assert (served_ended (&a, 0) == COW_LOST_STORE_FULL);
  /* The store is empty again, and of use. */
  assert (served_set (&b, 1) == 0);
  assert (write_segments (0, 0, 2, 2) == 0);
  assert (served_ended (&b, 0) == COW_ALIVE);
  assert (served_check (&b, 0) == 0);
}

Test (policy, a_full_store_costs_the_only_set_and_the_next_one_is_kept)
{
  begin (1, 3, false);
  served_run (overfill_one);
  end ();
}

#define MANY 12u

/* Sets that have a block each in the same segments: the end of one alone makes
 * no room.
 */
static void
overfill_with_many_small (void)
{
  struct served_set set[MANY];
  uint64_t began_ns, took_ns;

  for (unsigned i = 0; i < MANY; i++) {
    assert (served_set (&set[i], 3) == 0);
    assert (served_write (0, i * BLOCK, BLOCK, 1, 0) == 0);
    assert (served_write (1, i * BLOCK, BLOCK, 1, 0) == 0);
  }
  assert (write_segments (0, 1, 1, 1) == 0);
  assert (write_segments (1, 1, 1, 1) == 0);
  began_ns = cow_now_ns ();
  assert (write_segments (0, 2, 2, 1) == 0);
  took_ns = cow_now_ns () - began_ns;
  for (unsigned i = 0; i + 1 < MANY; i++)
    assert (served_ended (&set[i], 0) == COW_LOST_STORE_FULL);
  cr_expect (took_ns < 25 * MS, "waited for %llu us",
             (unsigned long long) took_ns / 1000);
  for (unsigned i = 0; i < MANY; i++)
    served_set_forget (&set[i]);
}

Test (policy, sets_that_make_room_only_together_are_not_waited_for_in_turn)
{
  begin (2, 3, false);
  served_run (overfill_with_many_small);
  end ();
}

static void
overfill_at_once (void)
{
  assert (served_set (&a, 1) == 0);
  assert (served_set (&b, 1) == 0);
  assert (served_set (&c, 1) == 0);
  /* What all three need is more than there is room for. */
  assert (served_write (0, 0, 8 * MIB, 1, 0) == 0);
  assert (served_ended (&a, 0) == COW_LOST_STORE_FULL);
  assert (served_ended (&b, 0) == COW_LOST_STORE_FULL);
  assert (served_ended (&c, 0) == COW_LOST_STORE_FULL);
}

Test (policy, a_write_that_no_store_could_hold_ends_all_sets)
{
  begin (1, 3, false);
  served_run (overfill_at_once);
  end ();
}

static void
overfill_by_a_provisional_set (void)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_set_info *sets;
  struct cow_set *set;
  size_t count;

  assert (served_set_to (&a, 1, NULL, COW_SET_SWITCHED, &set) == 0);
  assert (write_segments (0, 0, 5, 1) == 0);
  assert (cow_set_settle (set, COW_NEVER, &err) == -ENOSPC);
  assert (strstr (err.text, "full"));
  assert (cow_set_state (set) == COW_SET_ABORTED);
  cow_set_put (set);
  assert (cow_engine_sets (served.engine, &sets, &count) == 0);
  free (sets);
  assert (count == 0);
  served_set_forget (&a);
  assert (served_set_to (&a, 1, NULL, COW_SET_SETTLED, &set) == 0);
  assert (write_segments (0, 0, 5, 2) == 0);
  assert (cow_set_finish (set, NULL) == -ENOSPC);
  assert (cow_set_state (set) == COW_SET_ABORTED);
  cow_set_put (set);
  assert (served_check (&a, 0) == -ENOENT);
}

Test (policy, a_set_that_the_full_store_has_cost_is_never_finished)
{
  begin (1, 3, false);
  served_run (overfill_by_a_provisional_set);
  end ();
}

/* While its end is being recorded, the reason is known already. */
static void
finish_while_it_is_lost (void)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_set *set;

  assert (served_set_to (&a, 1, NULL, COW_SET_SETTLED, &set) == 0);
  atomic_store (&set->member[0].snapshot->ending, COW_LOST_STORE_FULL);
  assert (cow_set_finish (set, &err) == -ENOSPC);
  assert (strstr (err.text, "full"));
  atomic_store (&set->member[0].snapshot->ending, COW_ALIVE);
  cow_set_put (set);
}

Test (policy, a_set_that_is_being_lost_is_not_finished_and_the_reason_is_told)
{
  served_begin (&(struct served_options) {
    .seed = 1, .size_bytes = MIB, .persistent = true,
    .engine = { .store_directory = STORE_DIRECTORY },
  });
  served_run (finish_while_it_is_lost);
  end ();
}

static void
fill_the_map (void)
{
  struct cow_arena *arena = &served.engine->arena;

  assert (served_set (&a, 1) == 0);
  for (unsigned i = 0; i < 200; i++)
    assert (served_write (0, i * 7 % 300 * BLOCK, 1, 1, 0) == 0);
  assert (served_set (&b, 1) == 0);
  arena->limit = arena->used + 1; /* no node more */
  for (unsigned i = 0; i < 90; i++)
    assert (served_write (0, (1000 + i * 11 % 100) * BLOCK, 1, 2, 0) == 0);
  assert (served_ended (&a, 0) == COW_LOST_STORE_FULL);
  assert (served_ended (&b, 0) == COW_ALIVE);
  assert (served_check (&b, 0) == 0);
}

Test (policy, a_full_map_counts_as_a_full_store)
{
  begin (1, 16, false);
  served_run (fill_the_map);
  end ();
}

static void
fill_the_map_protected (void)
{
  struct cow_arena *arena = &served.engine->arena;
  int rc = 0;

  assert (served_set (&a, 1) == 0);
  assert (served_write (0, 0, BLOCK, 1, 0) == 0);
  arena->limit = arena->used + 1;
  for (unsigned i = 1; rc == 0 && i < 2000; i++)
    rc = served_write (0, i * BLOCK, BLOCK, 1, 0);
  assert (rc == -ENOSPC);
  assert (served_ended (&a, 0) == COW_ALIVE);
  assert (served_check (&a, 0) == 0);
}

Test (policy, protected_a_full_map_fails_the_write)
{
  begin (1, 16, true);
  served_run (fill_the_map_protected);
  end ();
}

static void
overfill_protected (void)
{
  struct cow_engine_status st;

  fill_with_two_sets ();
  assert (write_segments (0, 3, 1, 2) == -ENOSPC);
  assert (served_check (&a, 0) == 0 && served_check (&a, 1) == 0);
  assert (served_check (&b, 0) == 0 && served_check (&b, 1) == 0);
  assert (write_segments (0, 2, 1, 3) == 0); /* preserved already */
  assert (served_write (0, 8 * MIB - 1, 1, 3, 0) == -ENOSPC);
  st = served_status ();
  assert (st.invalidated_snapshots == 0 && !st.store_failed);
  /* Somebody deletes the older one, and writes go on. */
  assert (served_delete (&a) == 0);
  while (served_status ().store_file_bytes == 4 * MIB)
    cow_sleep_ns (MS);
  assert (write_segments (0, 3, 1, 2) == 0);
  assert (served_check (&b, 0) == 0 && served_check (&b, 1) == 0);
}

Test (policy, protected_a_full_store_fails_the_write)
{
  begin (2, 4, true);
  served_run (overfill_protected);
  end ();
}

/* --------------------------------------------------------- a failing store */

static void
fail_the_store (void)
{
  struct cow_error err = COW_ERROR_INIT;
  const struct cow_set_options o = { .id = cow_id_new () };
  struct cow_set *set;

  assert (served_set (&a, 3) == 0);
  assert (served_set (&b, 1) == 0);
  assert (write_segments (0, 0, 1, 1) == 0);
  while (!served_status ().store_failed)
    cow_sleep_ns (MS);
  /* Writes go on, and never fail; also before anybody has noticed. */
  assert (write_segments (0, 0, 8, 2) == 0);
  assert (write_segments (1, 0, 8, 2) == 0);
  while (served_ended (&a, 1) == COW_ALIVE)
    cow_sleep_ns (MS);
  assert (served_ended (&a, 0) == COW_LOST_STORE_ERROR);
  assert (served_ended (&a, 1) == COW_LOST_STORE_ERROR);
  assert (served_ended (&b, 0) == COW_LOST_STORE_ERROR);
  assert (served_check (&a, 1) == -EIO);
  assert (served_status ().invalidated_snapshots == 3);

  /* For good. */
  sim_disk_heal (served.disk);
  assert (cow_set_new (served.engine, &o, NULL, &set) == 0);
  assert (cow_set_add (set, served.volume[0], &o.id, NULL) == 0);
  assert (cow_set_prepare (set, COW_NEVER, &err) == -EIO);
  assert (strstr (err.text, "restart"));
  assert (cow_set_state (set) == COW_SET_ABORTED);
  cow_set_put (set);
}

static void
fail_by (unsigned op, int error)
{
  begin (2, 64, false);
  served_fault (op, STORE_FILE, 0, 1, error);
  served_run (fail_the_store);
  end ();
}

Test (policy, a_failing_store_costs_all_snapshots_and_no_write)
{
  fail_by (SIM_WRITE, -EIO);
  fail_by (SIM_WRITE, -ENOSPC);
}

static void
fail_before_the_finish (void)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_set *set;

  assert (served_set_to (&a, 3, NULL, COW_SET_SWITCHED, &set) == 0);
  assert (write_segments (0, 0, 1, 1) == 0);
  while (served_status ().invalidated_snapshots < 2)
    cow_sleep_ns (MS);
  assert (cow_set_settle (set, COW_NEVER, &err) == -EIO);
  assert (strstr (err.text, "store"));
  assert (cow_set_state (set) == COW_SET_ABORTED);
  cow_set_put (set);
  assert (served_check (&a, 0) == -ENOENT);
}

Test (policy, a_set_that_the_failing_store_has_cost_is_never_finished)
{
  begin (2, 64, false);
  served_fault (SIM_WRITE, STORE_FILE, 0, 1, -EIO);
  served_run (fail_before_the_finish);
  end ();
}

static void
fail_protected (void)
{
  assert (served_set (&a, 3) == 0);
  assert (write_segments (0, 0, 1, 1) == 0);
  while (!served_status ().store_failed)
    cow_sleep_ns (MS);
  assert (write_segments (0, 4, 1, 2) == -EIO);
  assert (write_segments (1, 0, 1, 2) == -EIO);
  assert (write_segments (0, 0, 1, 2) == 0); /* preserved already */
  cow_sleep_ns (COW_NS_PER_S);
  assert (served_status ().invalidated_snapshots == 0);
  assert (served_check (&a, 0) == 0 && served_check (&a, 1) == 0);
  assert (served_delete (&a) == 0);
  assert (write_segments (0, 0, 8, 3) == 0);
}

Test (policy, protected_a_failing_store_fails_writes_and_no_snapshot)
{
  begin (2, 64, true);
  served_fault (SIM_WRITE, STORE_FILE, 0, 1, -EIO);
  served_run (fail_protected);
  end ();
}

static void
unreadable_protected (void)
{
  assert (served_set (&a, 1) == 0);
  served_fault (SIM_READ, "d0", 0, 1, -EIO);
  assert (write_segments (0, 0, 1, 1) == -EIO);
  assert (served_check (&a, 0) == 0);
  assert (write_segments (0, 0, 1, 1) == 0);
  assert (served_check (&a, 0) == 0);
}

Test (policy, protected_old_data_that_cannot_be_read_fails_the_write)
{
  begin (1, 64, true);
  served_run (unreadable_protected);
  end ();
}

/* One file system for all, and it runs full: what is allocated stays
 * writable.
 */
static void
run_out_of_disk (void)
{
  assert (served_set (&a, 3) == 0);
  assert (write_segments (0, 0, 8, 1) == 0);
  assert (write_segments (1, 0, 8, 1) == 0);
  assert (served_ended (&a, 0) == COW_LOST_STORE_FULL);
  assert (served_ended (&a, 1) == COW_LOST_STORE_FULL);
  /* Full is not failed: its space is given back, and the next set is made. */
  assert (!served_status ().store_failed);
  assert (served_set (&b, 3) == 0);
  assert (write_segments (0, 0, 1, 2) == 0);
  assert (served_check (&b, 0) == 0 && served_check (&b, 1) == 0);
}

Test (policy, a_full_file_system_costs_the_snapshots_and_no_allocated_block)
{
  served_begin (&(struct served_options) {
    .seed = 1, .volumes = 2, .size_bytes = 8 * MIB,
    .disk = { .capacity_bytes = 18 * MIB },
    .engine = { .store_limit_bytes = 64 * MIB },
  });
  served_run (run_out_of_disk);
  end ();
}

/* --------------------------------------------------------- a hanging store */

static void
hang (void)
{
  const struct sim_fault fault = {
    .ops = SIM_WRITE, .file = STORE_FILE, .delay_ns = COW_NEVER,
  };

  sim_disk_fault (served.disk, &fault);
}

static void
begin_small_ring (bool protect)
{
  served_begin (&(struct served_options) {
    .seed = 1, .volumes = 2, .size_bytes = 8 * MIB,
    .engine = {
      .ring_segments = 2, .store_timeout_ns = COW_NS_PER_S,
      .store_limit_bytes = 64 * MIB, .protect_snapshot = protect,
    },
  });
  hang ();
}

static void
wait_for_a_hanging_store (void)
{
  uint64_t began_ns, took_ns;

  assert (served_set (&a, 3) == 0);
  assert (write_segments (0, 0, 2, 1) == 0); /* the ring has room for it */
  began_ns = cow_now_ns ();
  assert (write_segments (0, 2, 6, 1) == 0);
  took_ns = cow_now_ns () - began_ns;
  assert (took_ns >= COW_NS_PER_S);
  assert (took_ns < COW_NS_PER_S + 50 * MS);
  assert (served_ended (&a, 0) == COW_LOST_STORE_TIMEOUT);
  assert (served_check (&a, 0) == -EIO);
  assert (served_ended (&a, 1) == COW_ALIVE); /* it has not had to wait */
  assert (served_check (&a, 1) == 0);
  assert (!served_status ().store_failed);

  /* It answers after all. */
  sim_disk_heal (served.disk);
  assert (write_segments (1, 0, 8, 1) == 0);
  assert (served_check (&a, 1) == 0);
  assert (served_set (&b, 1) == 0);
  assert (write_segments (0, 0, 8, 2) == 0);
  assert (served_check (&b, 0) == 0);
}

Test (policy, a_hanging_store_is_waited_for_no_longer_than_its_timeout)
{
  begin_small_ring (false);
  served_run (wait_for_a_hanging_store);
  end ();
}

/* What may block for ever, beside its caller. */
struct apart {
  int (*step) (void *arg);
  void (*done) (void *arg);
  void *arg;
  bool over;
  int result;
};

static unsigned apart_busy;

static void
apart (void *opaque)
{
  struct apart *r = opaque;

  r->result = r->step (r->arg);
  r->done (r->arg);
  r->over = true;
  apart_busy--;
}

static int
run_apart (void *opaque, int (*step) (void *arg), void (*done) (void *arg),
           void *arg, uint64_t deadline_ns)
{
  static struct apart all[16];
  static unsigned used;
  struct apart *r = &all[used++ % COW_ARRAY_SIZE (all)];

  (void) opaque;
  *r = (struct apart) { .step = step, .done = done, .arg = arg };
  apart_busy++;
  fibre_spawn ("apart", apart, r);
  while (!r->over && cow_now_ns () < deadline_ns)
    cow_sleep_ns (MS);
  return r->over ? r->result : -ETIMEDOUT;
}

static unsigned hanging;        /* so many of the rungs hang, too */

static void
hang_rungs (void)
{
  const struct sim_fault writes = {
    .ops = SIM_WRITE, .file = LASTING_FILE, .delay_ns = COW_NEVER,
  };
  const struct sim_fault live = {
    .ops = SIM_REMOVE, .file = STORE_DIRECTORY "/LIVE", .delay_ns = COW_NEVER,
  };
  uint64_t began_ns, took_ns;

  assert (served_set (&a, 15) == 0);
  sim_disk_fault (served.disk, &writes);
  if (hanging > 1)
    sim_disk_fault (served.disk, &live);
  began_ns = cow_now_ns ();
  for (unsigned v = 0; v < 4; v++)
    assert (served_write (v, 0, BLOCK, 1, 0) == 0);
  took_ns = cow_now_ns () - began_ns;
  /* The store has its time, and then each rung that hangs; all volumes of it at
   * once.
   */
  assert (took_ns >= COW_NS_PER_S * (1 + 2 * hanging));
  cr_expect (took_ns < COW_NS_PER_S * (1 + 2 * hanging) + 100 * MS,
             "%u rungs hang: %llu ms", hanging,
             (unsigned long long) (took_ns / MS));
  assert (cow_io_exists (sim_disk_io (served.disk), STORE_DIRECTORY "/LIVE")
          == (hanging > 1));
  for (unsigned v = 0; v < 4; v++)
    assert (served_ended (&a, v) != COW_ALIVE && served_check (&a, v) == -EIO);
}

/* The disk comes back, and with it whoever was left waiting for it. */
static void
heal_rungs (void)
{
  sim_disk_heal (served.disk);
  while (apart_busy > 0)
    cow_sleep_ns (MS);
}

static void
hang_and_heal (void)
{
  hang_rungs ();
  heal_rungs ();
}

Test (policy, each_way_to_record_an_end_has_its_time)
{
  for (hanging = 1; hanging <= 2; hanging++) {
    served_begin (&(struct served_options) {
      .seed = hanging, .volumes = 4, .size_bytes = MIB, .persistent = true,
      .engine = {
        .store_directory = STORE_DIRECTORY, .run = run_apart,
        .store_timeout_ns = COW_NS_PER_S,
      },
    });
    served_run (hang_and_heal);
    served_restart (SERVED_KILL, 1);
    for (unsigned v = 0; v < 4; v++)
      cr_expect_neq (served_ended (&a, v), COW_ALIVE);
    end ();
  }
}

static void
wait_protected (void)
{
  uint64_t began_ns;

  assert (served_set (&a, 1) == 0);
  assert (write_segments (0, 0, 2, 1) == 0);
  began_ns = cow_now_ns ();
  assert (write_segments (0, 2, 1, 1) == -EIO);
  assert (cow_now_ns () - began_ns < COW_NS_PER_S + 50 * MS);
  assert (served_check (&a, 0) == 0);
  sim_disk_heal (served.disk);
  assert (write_segments (0, 2, 6, 1) == 0);
  assert (served_check (&a, 0) == 0);
}

Test (policy, protected_a_hanging_store_fails_the_write)
{
  begin_small_ring (true);
  served_run (wait_protected);
  end ();
}

static bool waiting;
static unsigned others_done;

/* Number 0 waits for the store; nobody else has anything to do with that. */
static void
wait_beside_others (unsigned number)
{
  if (number == 0) {
    const uint64_t began_ns = cow_now_ns ();

    waiting = true;
    assert (served_write (0, 4 * MIB, BLOCK, 2, 0) == 0);
    assert (cow_now_ns () - began_ns >= COW_NS_PER_S);
    assert (others_done == 3);
    return;
  }
  while (!waiting)
    cow_sleep_ns (MS);
  cow_sleep_ns (10 * MS);
  for (unsigned i = 0; i < 20; i++) {
    uint8_t byte;

    if (number == 1)            /* preserved already */
      assert (served_write (0, i * BLOCK, BLOCK, 3, 0) == 0);
    else if (number == 2)
      assert (cow_volume_read (served.volume[0], &byte, 1, 4 * MIB + i) == 0);
    else
      assert (served_check (&a, 0) == 0);
  }
  others_done++;
}

static void
fill_the_ring (void)
{
  assert (served_set (&a, 1) == 0);
  assert (write_segments (0, 0, 2, 1) == 0);
}

Test (policy, who_waits_for_the_store_makes_nobody_else_wait)
{
  begin_small_ring (false);
  served_run (fill_the_ring);
  waiting = false;
  others_done = 0;
  served_run_all (4, wait_beside_others);
  cr_expect_eq (served_ended (&a, 0), COW_LOST_STORE_TIMEOUT);
  sim_disk_heal (served.disk);
  end ();
}

/* ----------------------------------------------- all of it, and many times */

#define SETS 4u

static struct {
  struct served_set set[SETS];
  bool used[SETS], protect;
  unsigned lost, refused;
} r;

static void
check_all (void)
{
  for (unsigned i = 0; i < SETS; i++)
    for (unsigned v = 0; r.used[i] && v < 2; v++) {
      int rc = served_check (&r.set[i], v);

      assert (rc == 0 || (rc == -EIO && !r.protect));
      assert ((rc == 0) == (served_ended (&r.set[i], v) == COW_ALIVE));
      r.lost += rc != 0;
    }
}

static void
write_more_than_fits (void)
{
  for (uint32_t step = 0; step < 60; step++) {
    const unsigned v = (unsigned) fibres_draw (2);
    const unsigned i = (unsigned) fibres_draw (SETS);
    const uint64_t size = served.o.size_bytes;
    const uint64_t offset = fibres_draw (size);
    const uint64_t len = 1 + fibres_draw (COW_MIN (size - offset, 400u << 10));
    int rc;

    if (step % 6 == 0) {
      if (r.used[i])
        assert (served_delete (&r.set[i]) == 0);
      rc = served_set (&r.set[i], 3);
      assert (rc == 0 || (rc == -ENOSPC && r.protect));
      r.used[i] = rc == 0;
    }
    rc = served_write (v, offset, (uint32_t) len, step, 0);
    assert (rc == 0 || (rc == -ENOSPC && r.protect));
    r.refused += rc != 0;
    if (step % 10 == 9)
      check_all ();
  }
  for (unsigned i = 0; i < SETS; i++)
    if (r.used[i])
      assert (served_delete (&r.set[i]) == 0);
}

static void
overfill_at_random (bool protect)
{
  unsigned lost = 0, refused = 0;

  for (uint64_t seed = 1; seed <= 8; seed++) {
    memset (&r, 0, sizeof r);
    r.protect = protect;
    served_begin (&(struct served_options) {
      .seed = seed, .volumes = 2, .size_bytes = 3 * MIB,
      .disk = { .latency_min_ns = 1000, .latency_max_ns = 100000 },
      .engine = {
        .ring_segments = (unsigned) (2 + seed % 3),
        .store_limit_bytes = (3 + seed % 3) * MIB,
        .protect_snapshot = protect,
      },
    });
    served_run (write_more_than_fits);
    served_work ();
    cr_expect (served_origin_right (0) && served_origin_right (1),
               "seed %u", (unsigned) seed);
    cr_expect_eq (served_status ().exceptions, 0);
    cr_expect_eq (served_status ().store_used_bytes, 0);
    served_end ();
    lost += r.lost;
    refused += r.refused;
  }
  cr_expect (protect ? refused > 0 && lost == 0 : lost > 0 && refused == 0,
             "lost %u, refused %u", lost, refused);
}

Test (policy, a_store_that_is_always_too_small) { overfill_at_random (false); }

Test (policy, protected_a_store_that_is_always_too_small)
{
  overfill_at_random (true);
}
