/* test-set.c - the making, finding and deleting of snapshot sets.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Over a simulated disk (unit/served.h).  A body that runs as a fibre asserts
 * by assert().
 */
#include "config.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bits.h"
#include "set/engine.h"
#include "unit/served.h"

TestSuite (set, .timeout = 120);

#define BLOCK 4096u
#define MS COW_NS_PER_MS
#define S COW_NS_PER_S

static void
begin (unsigned volumes)
{
  served_begin (&(struct served_options) {
    .seed = 1, .volumes = volumes, .size_bytes = 16 * BLOCK,
  });
}

static struct cow_set *
new_set (void)
{
  const struct cow_set_options o = { .id = cow_id_new () };
  struct cow_set *set;

  assert (cow_set_new (served.engine, &o, NULL, &set) == 0);
  return set;
}

static int
add (struct cow_set *set, unsigned v)
{
  const struct cow_id id = cow_id_new ();

  return cow_set_add (set, served.volume[v], &id, NULL);
}

static size_t
listed (void)
{
  struct cow_set_info *sets;
  size_t count;

  assert (cow_engine_sets (served.engine, &sets, &count) == 0);
  free (sets);
  return count;
}

/* Nothing is held, claimed or copied, and nothing is left of what was. */
static void
expect_clean (const char *after)
{
  struct served_set s;

  for (unsigned v = 0; v < served.o.volumes; v++)
    cr_assert_eq (served_write (v, 0, 4 * BLOCK, 77, 0), 0, "%s", after);
  served_work ();
  cr_expect_eq (served_status ().exceptions, 0, "%s", after);
  cr_expect_eq (served_status ().store_used_bytes, 0, "%s", after);
  for (unsigned v = 0; v < served.o.volumes; v++) {
    struct cow_volume *volume = served.volume[v];
    struct cow_volume_status st;

    cow_volume_status (volume, &st);
    cr_expect_eq (st.snapshots, 0, "%s", after);
    cr_expect (cow_root_is_full (cow_volume_root (
                 volume, cow_gate_epoch (&volume->gate))), "%s", after);
  }
  cr_assert_eq (served_set (&s, 3), 0, "%s", after);
  cr_assert_eq (served_write (0, 0, 2 * BLOCK, 78, 0), 0);
  cr_expect_eq (served_check (&s, 0), 0, "%s", after);
  cr_expect_eq (served_check (&s, 1), 0, "%s", after);
  cr_assert_eq (served_delete (&s), 0);
  served_work ();
}

static const char *const state_names[] = {
  "open", "prepared", "held", "switched", "settled", "committed", "aborted",
  "gone",
};

/* A set of v0 and v1 in any state. */
static struct cow_set *
set_in (enum cow_set_state state, struct served_set *s)
{
  enum cow_set_state to = state;
  struct cow_set *set;

  if (state == COW_SET_ABORTED)
    to = COW_SET_PREPARED;
  if (state == COW_SET_GONE)
    to = COW_SET_COMMITTED;

  cr_assert_eq (served_set_to (s, 3, NULL, to, &set), 0);
  if (state == COW_SET_ABORTED)
    cr_assert_eq (cow_set_abort (set), 0);
  if (state == COW_SET_GONE)
    cr_assert_eq (cow_engine_delete_set (served.engine, &s->id), 0);
  cr_assert_eq (cow_set_state (set), state);
  return set;
}

/* -------------------------------------------------------------- the states */

enum move { ADD, PREPARE, HOLD, SWITCH, SETTLE, FINISH, ABORT, MOVES };

static int
make_move (struct cow_set *set, enum move move)
{
  struct cow_error err = COW_ERROR_INIT;
  int rc = 0;

  switch (move) {
  case ADD: return add (set, 2);
  case PREPARE: rc = cow_set_prepare (set, COW_NEVER, &err); break;
  case HOLD: rc = cow_set_hold (set, S, &err); break;
  case SWITCH: rc = cow_set_switch (set, &err); break;
  case SETTLE: rc = cow_set_settle (set, COW_NEVER, &err); break;
  case FINISH: rc = cow_set_finish (set, &err); break;
  case ABORT: return cow_set_abort (set);
  case MOVES: abort ();
  }
  /* A refusal says why. */
  assert ((rc < 0) == (err.code < 0));
  assert ((rc < 0) == (err.text[0] != '\0'));
  return rc;
}

Test (set, every_move_in_every_state)
{
  for (int state = COW_SET_OPEN; state <= COW_SET_GONE; state++)
    for (int move = ADD; move < MOVES; move++) {
      struct served_set s;
      struct cow_set *set;
      int rc, want_rc = -EINVAL, want_state = state;

      begin (3);
      set = set_in ((enum cow_set_state) state, &s);
      rc = make_move (set, (enum move) move);
      if (move == ABORT && state < COW_SET_COMMITTED) {
        want_rc = 0;
        want_state = COW_SET_ABORTED;
      }
      else if (state == COW_SET_ABORTED)
        want_rc = move == ABORT ? 0 : -ECANCELED;
      else if (state == COW_SET_OPEN && move == ADD)
        want_rc = 0;
      else if (state < COW_SET_COMMITTED && move - PREPARE == state) {
        want_rc = 0;
        want_state = state + 1;
      }
      cr_expect_eq (rc, want_rc, "move %d when %s: %d", move,
                    state_names[state], rc);
      cr_expect_eq ((int) cow_set_state (set), want_state, "move %d when %s",
                    move, state_names[state]);
      /* What was refused has done no harm: the set goes its way. */
      for (int next = cow_set_state (set); next < COW_SET_COMMITTED; next++)
        cr_expect_eq (make_move (set, (enum move) (PREPARE + next)), 0,
                      "after move %d when %s", move, state_names[state]);
      cow_set_put (set);
      if (cow_engine_delete_set (served.engine, &s.id) == 0)
        served_work ();
      expect_clean (state_names[state]);
      served_set_forget (&s);
      served_end ();
    }
}

static void
end_in_every_state (bool by_abort)
{
  for (int state = COW_SET_OPEN; state <= COW_SET_ABORTED; state++) {
    struct served_set s, older;
    struct cow_set *set;

    if (state == COW_SET_COMMITTED)
      continue;
    begin (2);
    cr_assert_eq (served_set (&older, 3), 0);
    set = set_in ((enum cow_set_state) state, &s);
    if (state != COW_SET_HELD)  /* there they would wait */
      cr_assert_eq (served_write (0, BLOCK, 3 * BLOCK, 5, 0), 0);
    if (by_abort) {
      cr_expect_eq (cow_set_abort (set), 0);
      cr_expect_eq (cow_set_state (set), COW_SET_ABORTED);
      cr_expect_eq (cow_set_abort (set), 0, "twice is no harm");
    }
    cow_set_put (set);
    cr_expect_eq (listed (), 1);
    cr_assert_eq (served_write (0, 2 * BLOCK, 3 * BLOCK, 6, 0), 0);
    cr_assert_eq (served_write (1, 2 * BLOCK, 3 * BLOCK, 6, 0), 0);
    cr_expect_eq (served_check (&older, 0), 0);
    cr_expect_eq (served_check (&older, 1), 0);
    cr_expect (served_origin_right (0) && served_origin_right (1));
    cr_assert_eq (served_delete (&older), 0);
    served_work ();
    expect_clean (state_names[state]);
    served_set_forget (&s);
    served_end ();
  }
}

Test (set, abort_in_every_state_leaves_nothing) { end_in_every_state (true); }

Test (set, put_without_finish_aborts) { end_in_every_state (false); }

/* ------------------------------------------------ from somebody else's side */

static struct {
  struct cow_set *set;
  int rc;
  bool begun, ended;
} other;

static void
run_phase (void)
{
  other.begun = true;
  other.rc = cow_set_state (other.set) == COW_SET_OPEN
               ? cow_set_prepare (other.set, COW_NEVER, NULL)
               : cow_set_settle (other.set, COW_NEVER, NULL);
  other.ended = true;
}

/* An abort, and what may not be done meanwhile. */
static void
abort_while_it_runs (void)
{
  struct cow_set *next;

  while (!other.begun)
    cow_sleep_ns (MS);
  cow_sleep_ns (20 * MS);
  assert (!other.ended);
  assert (cow_set_prepare (other.set, COW_NEVER, NULL) == -EINVAL);
  assert (cow_set_settle (other.set, COW_NEVER, NULL) == -EINVAL);
  assert (cow_set_abort (other.set) == 0);
  assert (cow_set_state (other.set) == COW_SET_ABORTED);
  /* Its volumes are free at once. */
  next = new_set ();
  assert (add (next, 0) == 0 && add (next, 1) == 0);
  cow_set_put (next);
}

static void
delay (unsigned op, const char *file, uint64_t delay_ns)
{
  const struct sim_fault fault = {
    .ops = op, .file = file, .times = 1, .delay_ns = delay_ns,
  };

  sim_disk_fault (served.disk, &fault);
}

static void
prepare_and_abort (unsigned number)
{
  if (number == 0)
    run_phase ();
  else
    abort_while_it_runs ();
}

Test (set, abort_while_prepare_runs)
{
  struct served_set s;

  begin (2);
  cr_assert_eq (served_set_to (&s, 3, NULL, COW_SET_OPEN, &other.set), 0);
  delay (SIM_SYNC, "d1", 300 * MS);
  served_run_all (2, prepare_and_abort);
  cr_expect_eq (other.rc, -ECANCELED);
  cow_set_put (other.set);
  cr_expect_eq (listed (), 0);
  expect_clean ("aborted");
  served_set_forget (&s);
  served_end ();
}

static bool written;
static struct served_set slow_set;

/* Number 2 is a writer from before the switch, whose write takes long. */
static void
settle_beside_a_slow_writer (unsigned number)
{
  if (number == 2) {
    assert (served_write (1, 0, BLOCK, 3, 0) == 0);
    written = true;
  }
  else if (number == 0) {
    cow_sleep_ns (5 * MS);      /* it is on its way now */
    assert (cow_set_hold (other.set, S, NULL) == 0);
    assert (cow_set_switch (other.set, NULL) == 0);
    run_phase ();
    assert (!written);
  }
  else
    abort_while_it_runs ();
}

Test (set, abort_while_settle_runs)
{
  begin (2);
  cr_assert_eq (served_set_to (&slow_set, 3, NULL, COW_SET_PREPARED,
                               &other.set), 0);
  delay (SIM_WRITE, "d1", 10 * S);
  served_run_all (3, settle_beside_a_slow_writer);
  cr_expect_eq (other.rc, -ECANCELED);
  cow_set_put (other.set);
  cr_expect_eq (listed (), 0);
  expect_clean ("aborted");
  served_set_forget (&slow_set);
  served_end ();
}

/* Number 1 was admitted before the instant: what it writes is in the set, so
 * nobody may copy the block before it is there.
 */
static void
touch_what_is_being_written (unsigned number)
{
  if (number == 1) {
    assert (served_write (0, 0, BLOCK, 3, 0) == 0);
    memcpy (slow_set.data[0], served.data[0], BLOCK);
    written = true;
    return;
  }
  cow_sleep_ns (5 * MS);
  assert (cow_set_hold (other.set, S, NULL) == 0);
  assert (cow_set_switch (other.set, NULL) == 0);
  assert (served_write (0, 2 * BLOCK, BLOCK, 4, 0) == 0);
  assert (!written);            /* other blocks have nothing to do with it */
  assert (served_write (0, 10, 20, 5, 0) == 0);
  assert (written);
  assert (cow_set_settle (other.set, COW_NEVER, NULL) == 0);
  assert (cow_set_finish (other.set, NULL) == 0);
}

Test (set, a_first_touch_waits_for_earlier_writers_of_its_blocks)
{
  begin (2);
  cr_assert_eq (served_set_to (&slow_set, 1, NULL, COW_SET_PREPARED,
                               &other.set), 0);
  served_set_note (&slow_set);
  delay (SIM_WRITE, "d0", 10 * S);
  served_run_all (2, touch_what_is_being_written);
  cow_set_put (other.set);
  cr_expect_eq (served_check (&slow_set, 0), 0);
  cr_expect (served_origin_right (0));
  served_set_forget (&slow_set);
  served_end ();
}

/* -------------------------------------------------------------- deadlines */

static void
settle_until (unsigned number)
{
  uint64_t began_ns;

  if (number == 1) {
    assert (served_write (0, 0, BLOCK, 3, 0) == 0);
    written = true;
    return;
  }
  cow_sleep_ns (5 * MS);
  assert (cow_set_hold (other.set, S, NULL) == 0);
  assert (cow_set_switch (other.set, NULL) == 0);
  began_ns = cow_now_ns ();
  assert (cow_set_settle (other.set, began_ns + S, NULL) == -ETIMEDOUT);
  assert (cow_now_ns () - began_ns >= S);
  assert (cow_now_ns () - began_ns < S + 100 * MS);
  assert (cow_set_state (other.set) == COW_SET_ABORTED);
  cow_set_put (other.set);

  /* The epoch that has begun has to settle before the next set. */
  other.set = new_set ();
  assert (add (other.set, 0) == 0);
  began_ns = cow_now_ns ();
  assert (cow_set_prepare (other.set, began_ns + S, NULL) == -ETIMEDOUT);
  assert (cow_now_ns () - began_ns < S + 100 * MS);
  cow_set_put (other.set);
  assert (!written);
}

Test (set, settling_has_a_deadline)
{
  begin (2);
  cr_assert_eq (served_set_to (&slow_set, 3, NULL, COW_SET_PREPARED,
                               &other.set), 0);
  delay (SIM_WRITE, "d0", 10 * S);
  served_run_all (2, settle_until);
  cr_expect_eq (listed (), 0);
  expect_clean ("too late");
  served_set_forget (&slow_set);
  served_end ();
}

static void
prepare_until (void)
{
  const uint64_t began_ns = cow_now_ns ();

  assert (cow_set_prepare (other.set, began_ns + S, NULL) == -ETIMEDOUT);
  assert (cow_set_state (other.set) == COW_SET_ABORTED);
  cow_set_put (other.set);
}

Test (set, a_sync_that_took_too_long_is_too_late)
{
  struct served_set s;

  begin (2);
  cr_assert_eq (served_set_to (&s, 3, NULL, COW_SET_OPEN, &other.set), 0);
  delay (SIM_SYNC, "d0", 2 * S);
  served_run (prepare_until);
  expect_clean ("too late");
  served_set_forget (&s);
  served_end ();
}

Test (set, a_failed_sync_of_one_volume_is_no_set_of_any)
{
  struct cow_error err = COW_ERROR_INIT;
  struct served_set s;

  begin (3);
  cr_assert_eq (served_set_to (&s, 7, NULL, COW_SET_OPEN, &other.set), 0);
  served_fault (SIM_SYNC, "d2", 0, 1, -EIO);
  cr_expect_eq (cow_set_prepare (other.set, COW_NEVER, &err), -EIO);
  cr_expect (strstr (err.text, "v2"), "%s", err.text);
  cow_set_put (other.set);
  expect_clean ("a failed sync");
  served_set_forget (&s);
  served_end ();
}

/* ------------------------------------------------------------------ holds */

static uint64_t held_since_ns, write_ended_ns;

static void
let_the_hold_expire (unsigned number)
{
  uint8_t byte;

  if (number == 0) {
    assert (cow_set_hold (other.set, S, NULL) == 0);
    held_since_ns = cow_now_ns ();
    cow_sleep_ns (3 * S);
    assert (cow_set_switch (other.set, NULL) == -ETIMEDOUT);
    assert (cow_set_state (other.set) == COW_SET_ABORTED);
    cow_set_put (other.set);
    return;
  }
  while (held_since_ns == 0)
    cow_sleep_ns (MS);
  assert (cow_volume_read (served.volume[0], &byte, 1, 0) == 0);
  assert (cow_now_ns () < held_since_ns + 100 * MS); /* reads don't wait */
  assert (served_write (number % 2, number * BLOCK, BLOCK, 3, 0) == 0);
  assert (cow_now_ns () >= held_since_ns + 900 * MS);
  assert (cow_now_ns () < held_since_ns + S + 100 * MS);
  write_ended_ns = cow_now_ns ();
}

Test (set, a_hold_ends_at_its_deadline_whatever_the_set_does)
{
  struct served_set s;

  begin (2);
  cr_assert_eq (served_set_to (&s, 3, NULL, COW_SET_PREPARED, &other.set), 0);
  held_since_ns = write_ended_ns = 0;
  served_run_all (5, let_the_hold_expire);
  cr_expect_gt (write_ended_ns, 0);
  cr_expect_eq (listed (), 0);
  cr_expect (served_origin_right (0) && served_origin_right (1));
  expect_clean ("expired");
  served_set_forget (&s);
  served_end ();
}

Test (set, a_switch_after_the_deadline_is_refused_with_nobody_waiting)
{
  struct served_set s;

  begin (2);
  cr_assert_eq (served_set_to (&s, 3, NULL, COW_SET_PREPARED, &other.set), 0);
  cr_assert_eq (cow_set_hold (other.set, S, NULL), 0);
  cow_sleep_ns (2 * S);
  cr_expect_eq (cow_set_switch (other.set, NULL), -ETIMEDOUT);
  cow_set_put (other.set);
  expect_clean ("expired");
  served_set_forget (&s);
  served_end ();
}

static void
write_while_held (unsigned number)
{
  struct cow_volume_status st;

  if (number > 0) {
    cow_sleep_ns (10 * MS);
    assert (served_write (0, number * BLOCK, BLOCK, 9, 0) == 0);
    assert (cow_set_state (other.set) >= COW_SET_SWITCHED);
    return;
  }
  assert (cow_set_hold (other.set, 10 * S, NULL) == 0);
  cow_sleep_ns (100 * MS);
  cow_volume_status (served.volume[0], &st);
  assert (st.waiting == 3);
  served_set_note (&slow_set);  /* none of theirs has come through */
  assert (cow_set_switch (other.set, NULL) == 0);
  assert (cow_set_settle (other.set, COW_NEVER, NULL) == 0);
  assert (cow_set_finish (other.set, NULL) == 0);
}

Test (set, writes_of_the_hold_are_not_in_the_set)
{
  struct cow_set_info info;

  begin (2);
  cr_assert_eq (served_set_to (&slow_set, 3, NULL, COW_SET_PREPARED,
                               &other.set), 0);
  served_run_all (4, write_while_held);
  cr_expect_eq (served_check (&slow_set, 0), 0);
  cr_expect (served_origin_right (0));
  cow_set_info (other.set, &info);
  cr_expect_geq (info.hold_ns, 90 * MS);
  cr_expect_lt (info.hold_ns, S);
  cow_set_put (other.set);
  served_set_forget (&slow_set);
  served_end ();
}

Test (set, as_many_sets_may_hold_at_once_as_there_are_holds)
{
  struct cow_set *set[COW_HOLDS + 1];

  begin (COW_HOLDS + 1);
  for (unsigned i = 0; i <= COW_HOLDS; i++) {
    set[i] = new_set ();
    cr_assert_eq (add (set[i], i), 0);
    cr_assert_eq (cow_set_prepare (set[i], COW_NEVER, NULL), 0);
    cr_expect_eq (cow_set_hold (set[i], S, NULL),
                  i < COW_HOLDS ? 0 : -EAGAIN);
  }
  cr_expect_eq (cow_set_state (set[COW_HOLDS]), COW_SET_PREPARED);
  for (unsigned i = 0; i <= COW_HOLDS; i++) {
    if (i == COW_HOLDS)
      cr_expect_eq (cow_set_hold (set[i], S, NULL), 0, "now there is one");
    cr_expect_eq (cow_set_switch (set[i], NULL), 0);
    cr_expect_eq (cow_set_settle (set[i], COW_NEVER, NULL), 0);
    cr_expect_eq (cow_set_finish (set[i], NULL), 0);
    cow_set_put (set[i]);
  }
  cr_expect_eq (listed (), COW_HOLDS + 1);
  served_end ();
}

/* ----------------------------------------------------- claims and limits */

Test (set, a_volume_is_in_one_unfinished_set_at_a_time)
{
  struct cow_set *set, *second;

  begin (2);
  set = new_set ();
  second = new_set ();
  cr_assert_eq (add (set, 0), 0);
  cr_expect_eq (add (set, 0), -EEXIST);
  cr_expect_eq (add (second, 0), -EBUSY);
  cr_expect_eq (add (second, 1), 0);
  cr_expect_eq (add (set, 1), -EBUSY);
  cr_assert_eq (cow_set_abort (set), 0);
  cr_expect_eq (add (second, 0), 0, "an abort gives it free");
  cow_set_put (set);

  set = new_set ();
  cr_expect_eq (add (set, 0), -EBUSY);
  for (int move = PREPARE; move <= FINISH; move++)
    cr_assert_eq (make_move (second, (enum move) move), 0);
  cr_expect_eq (add (set, 0), 0, "so does the finish");
  cow_set_put (set);
  set = new_set ();
  cr_expect_eq (add (set, 0), 0, "and a put");
  cow_set_put (set);
  cow_set_put (second);
  served_end ();
}

Test (set, an_id_means_one_snapshot)
{
  const struct cow_id id = cow_id_new (), next = cow_id_new ();
  struct cow_set *set;

  begin (3);
  set = new_set ();
  cr_assert_eq (cow_set_add (set, served.volume[0], &id, NULL), 0);
  cr_expect_eq (cow_set_add (set, served.volume[1], &id, NULL), -EEXIST);
  for (int move = PREPARE; move <= FINISH; move++)
    cr_assert_eq (make_move (set, (enum move) move), 0);
  cow_set_put (set);
  set = new_set ();
  cr_expect_eq (cow_set_add (set, served.volume[0], &id, NULL), -EEXIST);
  cr_expect_eq (cow_set_add (set, served.volume[0], &next, NULL), 0);
  cow_set_put (set);
  served_end ();
}

Test (set, a_volume_has_a_limit_of_snapshots)
{
  struct served_set s[3], more;
  struct cow_error err = COW_ERROR_INIT;
  struct cow_set *set;
  struct cow_id id = cow_id_new ();

  served_begin (&(struct served_options) {
    .seed = 1, .volumes = 2, .size_bytes = 16 * BLOCK,
    .engine = { .snapshot_limit = 3 },
  });
  for (unsigned i = 0; i < 3; i++)
    cr_assert_eq (served_set (&s[i], 1), 0);
  set = new_set ();
  cr_expect_eq (cow_set_add (set, served.volume[0], &id, &err), -EDQUOT);
  cr_expect (strstr (err.text, "3"), "%s", err.text);
  cr_expect_eq (add (set, 1), 0, "the other volume has none");
  cow_set_put (set);
  cr_assert_eq (served_delete (&s[1]), 0);
  cr_expect_eq (served_set (&more, 1), 0);
  cr_expect_eq (served_set (&s[1], 1), -EDQUOT);
  served_set_forget (&s[0]);
  served_set_forget (&s[2]);
  served_set_forget (&more);
  served_end ();
}

Test (set, a_set_has_64_volumes_and_no_more)
{
  struct cow_set *set;
  struct cow_set_info info;

  begin (COW_SET_VOLUMES_MAX + 1);
  set = new_set ();
  for (unsigned v = 0; v < COW_SET_VOLUMES_MAX; v++)
    cr_assert_eq (add (set, v), 0);
  cr_expect_eq (add (set, COW_SET_VOLUMES_MAX), -ENOSPC);
  for (int move = PREPARE; move <= FINISH; move++)
    cr_assert_eq (make_move (set, (enum move) move), 0);
  cow_set_info (set, &info);
  cr_expect_eq (info.count, COW_SET_VOLUMES_MAX);
  for (unsigned v = 0; v < COW_SET_VOLUMES_MAX; v++) {
    char name[16];

    snprintf (name, sizeof name, "v%u", v);
    cr_expect_str_eq (info.snapshots[v].volume, name);
    cr_expect_eq (served_write (v, 0, BLOCK, 1, 0), 0);
  }
  cow_set_put (set);
  cr_expect_eq (served_status ().exceptions, COW_SET_VOLUMES_MAX);
  served_end ();
}

Test (set, what_cannot_be_a_set_is_refused)
{
  char label[COW_NAME_MAX + 2];
  struct cow_set_options o = { .id = cow_id_new (), .persistent = true };
  struct cow_error err = COW_ERROR_INIT;
  struct cow_set *set;

  begin (1);
  cr_expect_eq (cow_set_new (served.engine, &o, &err, &set), -EOPNOTSUPP);
  cr_expect_neq (err.text[0], '\0');
  memset (label, 'x', sizeof label);
  label[COW_NAME_MAX + 1] = '\0';
  o.persistent = false;
  o.label = label;
  cr_expect_eq (cow_set_new (served.engine, &o, NULL, &set), -EINVAL);
  label[COW_NAME_MAX] = '\0';
  cr_expect_eq (cow_set_new (served.engine, &o, NULL, &set), 0);
  cow_set_put (set);
  cow_set_put (NULL);
  served_end ();
}

/* --------------------------------------------------- listing and finding */

Test (set, the_list_has_finished_sets_newest_first)
{
  struct cow_set_info *sets, info;
  struct served_set s[4];
  struct cow_set *set;
  size_t count;

  begin (2);
  for (unsigned i = 0; i < 4; i++) {
    char label[8];

    snprintf (label, sizeof label, "l%u", i);
    cr_assert_eq (served_set_to (&s[i], 1 + i % 3, i ? label : NULL,
                                 COW_SET_COMMITTED, &set), 0);
    cow_set_put (set);
    cow_sleep_ns (S);
  }
  cr_assert_eq (served_delete (&s[2]), 0);
  cr_assert_eq (served_set_to (&s[2], 3, "unfinished", COW_SET_SETTLED, &set),
                0);
  cr_assert_eq (cow_engine_sets (served.engine, &sets, &count), 0);
  cr_assert_eq (count, 3);
  for (unsigned i = 0; i < 3; i++) {
    const unsigned which = i == 0 ? 3 : 2 - i;

    cr_expect (cow_id_equal (&sets[i].id, &s[which].id), "set %u", i);
    cr_expect_eq (sets[i].state, COW_SET_COMMITTED);
    cr_expect_eq (sets[i].count, which == 0 || which == 3 || which == 1 ? 1u
                                                                        : 2u);
    cr_expect_eq (sets[i].snapshots[0].end, COW_ALIVE);
    cr_expect_eq (sets[i].snapshots[0].size_bytes, 16 * BLOCK);
    if (i > 0) {
      cr_expect_lt (sets[i].number, sets[i - 1].number);
      cr_expect_leq (sets[i].created_wall_ns + S,
                     sets[i - 1].created_wall_ns);
    }
  }
  cr_expect_str_eq (sets[0].label, "l3");
  cr_expect_str_eq (sets[2].label, "");
  free (sets);
  cr_expect_eq (cow_engine_find_set (served.engine, &s[1].id, &info), 0);
  cr_expect_str_eq (info.label, "l1");
  cr_expect_str_eq (info.snapshots[0].volume, "v1");
  cr_expect_eq (cow_engine_find_set (served.engine, &s[2].id, &info),
                -ENOENT);
  cow_set_put (set);
  for (unsigned i = 0; i < 4; i++)
    served_set_forget (&s[i]);
  served_end ();
}

/* Which of the sets `which` means for a volume: its number, or -errno. */
static int
found (unsigned v, const char *which, const struct served_set *s, unsigned n)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_view *w;
  int rc = cow_view_open (served.volume[v], which, &err, &w);

  if (rc < 0) {
    cr_expect_eq (err.code, rc);
    cr_expect (strstr (err.text, which), "%s", err.text);
    return rc;
  }
  rc = -1000;
  for (unsigned i = 0; i < n; i++)
    if (cow_id_equal (cow_view_snapshot (w), &s[i].snapshot[v]))
      rc = (int) i;
  cr_expect_eq (cow_view_size (w), 16 * BLOCK);
  cow_view_close (w);
  return rc;
}

static void
make_labelled (struct served_set *s, uint64_t members, const char *label)
{
  struct cow_set *set;

  cr_assert_eq (served_set_to (s, members, label, COW_SET_COMMITTED, &set), 0);
  cow_set_put (set);
}

Test (set, a_name_means_the_newest_that_fits)
{
  struct served_set s[5];
  char text[COW_ID_TEXT_SIZE];

  begin (2);
  cr_expect_eq (found (0, "latest", s, 0), -ENOENT);
  make_labelled (&s[0], 3, "nightly");
  make_labelled (&s[1], 3, "nightly");
  make_labelled (&s[2], 2, "nightly"); /* v1 alone */
  make_labelled (&s[3], 1, "other");
  make_labelled (&s[4], 3, NULL);
  cr_expect_eq (found (0, "nightly", s, 5), 1);
  cr_expect_eq (found (1, "nightly", s, 5), 2);
  cr_expect_eq (found (0, "other", s, 5), 3);
  cr_expect_eq (found (1, "other", s, 5), -ENOENT);
  cr_expect_eq (found (0, "latest", s, 5), 4);
  cr_expect_eq (found (0, "", s, 5), -ENOENT, "no label is no name");
  cr_expect_eq (found (0, "Nightly", s, 5), -ENOENT, "case counts");

  /* Ids of sets and snapshots, in any case. */
  for (unsigned i = 0; i < 4; i++) {
    cow_id_format (i % 2 ? &s[0].id : &s[0].snapshot[1], text);
    for (char *p = text; i >= 2 && *p; p++)
      *p = (char) toupper ((unsigned char) *p);
    cr_expect_eq (found (1, text, s, 5), 0);
  }
  cr_expect_eq (found (0, text, s, 5), 0, "the set's id, for the other");
  cow_id_format (&s[0].snapshot[1], text);
  cr_expect_eq (found (0, text, s, 5), -ENOENT, "of another volume");
  text[5] ^= 1;
  cr_expect_eq (found (1, text, s, 5), -ENOENT);

  /* What is deleted is not meant any more. */
  cr_assert_eq (cow_engine_delete_set (served.engine, &s[4].id), 0);
  cr_expect_eq (found (0, "latest", s, 5), 3);
  cr_assert_eq (cow_engine_delete_snapshot (served.engine, &s[1].snapshot[0]),
                0);
  cr_expect_eq (found (0, "nightly", s, 5), 0);
  cr_assert_eq (cow_engine_delete_set (served.engine, &s[2].id), 0);
  cr_expect_eq (found (1, "nightly", s, 5), 1);

  /* What is lost is meant by its name, but is not the latest. */
  served_fault (SIM_READ, "d1", 0, 1, -EIO);
  cr_assert_eq (served_write (1, 0, 1, 1, 0), 0);
  cr_expect_eq (found (1, "nightly", s, 5), -EIO);
  cr_expect_eq (found (1, "latest", s, 5), -ENOENT);
  cr_expect_eq (found (0, "latest", s, 5), 3);
  for (unsigned i = 0; i < 5; i++)
    served_set_forget (&s[i]);
  served_end ();
}

Test (set, an_unfinished_set_has_no_name)
{
  for (int state = COW_SET_OPEN; state < COW_SET_COMMITTED; state++) {
    struct served_set s;
    struct cow_set *set;
    char text[COW_ID_TEXT_SIZE];

    begin (2);
    cr_assert_eq (served_set_to (&s, 3, "label", (enum cow_set_state) state,
                                 &set), 0);
    cow_id_format (&s.id, text);
    cr_expect_eq (found (0, text, &s, 1), -ENOENT);
    cow_id_format (&s.snapshot[0], text);
    cr_expect_eq (found (0, text, &s, 1), -ENOENT);
    cr_expect_eq (found (0, "label", &s, 1), -ENOENT);
    cr_expect_eq (found (0, "latest", &s, 1), -ENOENT);
    cr_expect_eq (cow_engine_delete_set (served.engine, &s.id), -ENOENT);
    cr_expect_eq (cow_engine_delete_snapshot (served.engine, &s.snapshot[0]),
                  -ENOENT);
    cow_set_put (set);
    served_set_forget (&s);
    served_end ();
  }
}

/* --------------------------------------------------------------- deleting */

Test (set, the_set_goes_with_its_last_snapshot)
{
  struct served_set s;
  struct cow_set_info info;
  struct cow_set *set;

  begin (3);
  cr_assert_eq (served_set_to (&s, 7, NULL, COW_SET_COMMITTED, &set), 0);
  for (unsigned v = 0; v < 3; v++)
    cr_assert_eq (served_write (v, 0, 4 * BLOCK, 1, 0), 0);
  for (unsigned v = 0; v < 3; v++) {
    cr_expect_eq (served_check (&s, v), 0);
    cr_expect_eq (cow_engine_delete_snapshot (served.engine, &s.snapshot[v]),
                  0);
    cr_expect_eq (cow_engine_delete_snapshot (served.engine, &s.snapshot[v]),
                  -ENOENT);
    cr_expect_eq (served_check (&s, v), -ENOENT);
    cr_expect_eq (cow_set_state (set), v < 2 ? COW_SET_COMMITTED
                                             : COW_SET_GONE);
    cr_expect_eq (cow_engine_find_set (served.engine, &s.id, &info),
                  v < 2 ? 0 : -ENOENT);
    if (v == 0) {
      cr_expect_eq (info.count, 3, "as many as it was made with");
      cr_expect_eq (info.snapshots[0].end, COW_DELETED);
      cr_expect_eq (info.snapshots[1].end, COW_ALIVE);
    }
    served_work ();
    cr_expect_eq (served_status ().exceptions, (2 - v) * 4);
  }
  cow_set_put (set);
  expect_clean ("deleted");
  served_set_forget (&s);
  served_end ();
}

Test (set, a_lost_snapshot_can_be_deleted)
{
  struct served_set s;

  begin (2);
  cr_assert_eq (served_set (&s, 3), 0);
  served_fault (SIM_READ, "d0", 0, 1, -EIO);
  cr_assert_eq (served_write (0, 0, 1, 1, 0), 0);
  cr_expect_eq (served_ended (&s, 0), COW_LOST_ORIGIN_ERROR);
  cr_expect_eq (cow_engine_delete_snapshot (served.engine, &s.snapshot[0]),
                0);
  cr_expect_eq (served_ended (&s, 0), COW_DELETED);
  cr_expect_eq (served_check (&s, 1), 0);
  cr_expect_eq (cow_engine_delete_snapshot (served.engine, &s.snapshot[1]),
                0);
  cr_expect_eq (listed (), 0);
  expect_clean ("deleted");
  served_set_forget (&s);
  served_end ();
}

Test (set, a_set_that_is_lost_is_listed_until_it_is_deleted)
{
  struct served_set s;

  begin (2);
  cr_assert_eq (served_set (&s, 1), 0);
  served_fault (SIM_READ, "d0", 0, 1, -EIO);
  cr_assert_eq (served_write (0, 0, 1, 1, 0), 0);
  cr_expect_eq (listed (), 1);
  cr_expect_eq (cow_engine_delete_set (served.engine, &s.id), 0);
  cr_expect_eq (cow_engine_delete_set (served.engine, &s.id), -ENOENT);
  cr_expect_eq (listed (), 0);
  expect_clean ("deleted");
  served_set_forget (&s);
  served_end ();
}

Test (set, every_end_has_a_text)
{
  for (int end = COW_ALIVE; end <= COW_LOST_ORIGIN_ERROR; end++) {
    const char *text
      = cow_snapshot_end_text ((enum cow_snapshot_end) end);

    cr_expect_str_neq (text, "unknown");
    for (int more = COW_ALIVE; more < end; more++)
      cr_expect_str_neq (text, cow_snapshot_end_text (
                                 (enum cow_snapshot_end) more));
  }
}

static int
no_extent (void *opaque, uint64_t offset, uint64_t len,
           enum cow_extent_kind kind)
{
  (void) opaque;
  (void) offset;
  (void) len;
  (void) kind;
  return 0;
}

Test (set, an_open_view_of_what_is_deleted_reads_EIO)
{
  struct served_set s, older;
  struct cow_view *w, *of_older;
  uint8_t byte;

  begin (2);
  cr_assert_eq (served_set (&older, 1), 0);
  cr_assert_eq (served_set (&s, 1), 0);
  cr_assert_eq (served_write (0, 0, 2 * BLOCK, 1, 0), 0);
  w = served_open (&s, 0);
  of_older = served_open (&older, 0);
  cr_assert (w && of_older);
  cr_expect_eq (served_check_view (w, s.data[0], 16 * BLOCK), 0);
  cr_assert_eq (served_delete (&s), 0);
  for (unsigned block = 0; block < 4; block++) {
    cr_expect_eq (cow_view_read (w, &byte, 1, block * BLOCK), -EIO);
    cr_expect_eq (cow_view_extents (w, BLOCK, block * BLOCK, no_extent, NULL),
                  -EIO);
  }
  served_work ();
  cr_assert_eq (served_write (0, 0, 4 * BLOCK, 2, 0), 0);
  served_work ();
  cr_expect_eq (cow_view_read (w, &byte, 1, 0), -EIO);
  cr_expect_eq (served_check_view (of_older, older.data[0], 16 * BLOCK), 0);
  cow_view_close (w);
  cow_view_close (of_older);
  cow_view_close (NULL);
  served_set_forget (&older);
  served_end ();
}

static struct served_set kept, dropped;

static void
read_what_is_being_deleted (unsigned number)
{
  if (number == 0) {
    for (uint32_t i = 0; i < 12; i++)
      assert (served_write (0, i % 16 * BLOCK, BLOCK, i, 0) == 0);
    assert (cow_engine_delete_set (served.engine, &dropped.id) == 0);
    for (uint32_t i = 0; i < 30; i++)
      assert (served_write (0, i % 16 * BLOCK, BLOCK, 99 + i, 0) == 0);
    return;
  }
  for (unsigned i = 0; i < 8; i++) {
    struct cow_view *w = served_open (&dropped, 0);
    int rc;

    /* Right (or the comparison aborts), until it is gone. */
    if (w != NULL) {
      rc = served_check_view (w, dropped.data[0], 16 * BLOCK);
      assert (rc == 0 || rc == -EIO);
      cow_view_close (w);
    }
    assert (served_check (&kept, 0) == 0);
  }
}

Test (set, what_is_read_during_the_deletion_is_right_or_EIO)
{
  for (uint64_t seed = 1; seed <= 40; seed++) {
    served_begin (&(struct served_options) {
      .seed = seed, .volumes = 2, .size_bytes = 16 * BLOCK,
      .disk = { .latency_min_ns = 100, .latency_max_ns = 20000 },
    });
    cr_assert_eq (served_set (&kept, 1), 0);
    cr_assert_eq (served_write (0, 0, 3 * BLOCK, 1, 0), 0);
    cr_assert_eq (served_set (&dropped, 1), 0);
    served_run_all (4, read_what_is_being_deleted);
    served_work ();
    cr_expect_eq (served_check (&kept, 0), 0, "seed %u", (unsigned) seed);
    served_set_forget (&kept);
    served_set_forget (&dropped);
    served_end ();
  }
}

/* ------------------------------------------------------------ side by side */

static struct served_set beside[2];

/* Each makes sets of a volume of its own, which nobody else writes to. */
static void
make_sets_of_ones_own (unsigned number)
{
  for (uint32_t i = 0; i < 10; i++) {
    struct served_set *s = &beside[number];

    assert (served_set (s, 1u << number) == 0);
    assert (served_write (number, i * BLOCK, 3 * BLOCK, i, 0) == 0);
    assert (served_check (s, number) == 0);
    assert (served_delete (s) == 0);
  }
}

Test (set, sets_over_disjoint_volumes_go_on_side_by_side)
{
  for (uint64_t seed = 1; seed <= 20; seed++) {
    served_begin (&(struct served_options) {
      .seed = seed, .volumes = 2, .size_bytes = 16 * BLOCK,
      .disk = { .latency_min_ns = 100, .latency_max_ns = 5000 },
    });
    served_run_all (2, make_sets_of_ones_own);
    served_work ();
    expect_clean ("side by side");
    served_end ();
  }
}

Test (set, two_sets_hold_side_by_side)
{
  struct served_set s[2];
  struct cow_set *set[2];

  begin (3);
  for (unsigned i = 0; i < 2; i++)
    cr_assert_eq (served_set_to (&s[i], i == 0 ? 3 : 4, NULL, COW_SET_HELD,
                                 &set[i]), 0);
  cr_expect_eq (cow_set_switch (set[1], NULL), 0);
  cr_expect_eq (served_write (2, 0, BLOCK, 1, 0), 0, "its gate is open");
  cr_expect_eq (cow_set_abort (set[0]), 0);
  cr_expect_eq (cow_set_settle (set[1], COW_NEVER, NULL), 0);
  cr_expect_eq (cow_set_finish (set[1], NULL), 0);
  cow_set_put (set[0]);
  cow_set_put (set[1]);
  cr_expect_eq (listed (), 1);
  served_set_forget (&s[0]);
  served_set_forget (&s[1]);
  served_end ();
}

/* ------------------------------------------------------------- the instant */

#define CHAINS 2u
#define LINKS 40u

static struct {
  uint8_t acked[CHAINS];        /* the last link that was acknowledged */
  unsigned running;
} chain;

/* A chain goes over both volumes in turn: link n is written when n - 1 has
 * been acknowledged.  Then come sets, whose chains may have no link without
 * the one before.
 */
static void
write_chains_or_make_sets (unsigned number)
{
  if (number < CHAINS) {
    for (unsigned n = 1; n <= LINKS; n++) {
      const uint8_t byte = (uint8_t) n;

      assert (cow_volume_write (served.volume[n % 2], &byte, 1,
                                number * BLOCK, 0) == 0);
      chain.acked[number] = byte;
    }
    chain.running--;
    return;
  }
  while (chain.running > 0) {
    struct cow_view *w[2];
    struct served_set s;
    uint8_t before[CHAINS], after[CHAINS];
    struct cow_set *set;

    assert (served_set_to (&s, 3, NULL, COW_SET_PREPARED, &set) == 0);
    memcpy (before, chain.acked, sizeof before);
    assert (cow_set_hold (set, 10 * S, NULL) == 0);
    assert (cow_set_switch (set, NULL) == 0);
    memcpy (after, chain.acked, sizeof after);
    assert (cow_set_settle (set, COW_NEVER, NULL) == 0);
    assert (cow_set_finish (set, NULL) == 0);
    cow_set_put (set);
    w[0] = served_open (&s, 0);
    w[1] = served_open (&s, 1);
    assert (w[0] && w[1]);
    for (unsigned c = 0; c < CHAINS; c++) {
      uint8_t even, odd, newest;

      assert (cow_view_read (w[0], &even, 1, c * BLOCK) == 0);
      assert (cow_view_read (w[1], &odd, 1, c * BLOCK) == 0);
      newest = COW_MAX (even, odd);
      assert (newest == 0 || newest == 1
              || COW_MIN (even, odd) == newest - 1);
      assert (newest >= before[c]);
      /* One may have been admitted, and not acknowledged. */
      assert (newest <= after[c] + 1);
    }
    cow_view_close (w[0]);
    cow_view_close (w[1]);
    assert (served_delete (&s) == 0);
  }
}

Test (set, a_set_has_no_link_of_a_chain_without_the_one_before)
{
  for (uint64_t seed = 1; seed <= 60; seed++) {
    served_begin (&(struct served_options) {
      .seed = seed, .volumes = 2, .size_bytes = 16 * BLOCK, .holes = true,
      .disk = { .latency_min_ns = 100, .latency_max_ns = 20000 },
    });
    memset (&chain, 0, sizeof chain);
    chain.running = CHAINS;
    served_run_all (CHAINS + 1, write_chains_or_make_sets);
    served_end ();
  }
}

static struct cow_set *making[3];
static unsigned makers;

/* Sets, of which some are aborted by somebody else at any moment. */
static void
make_and_abort (unsigned number)
{
  if (number == 3) {
    while (makers > 0) {
      struct cow_set *set = making[fibres_draw (3)];

      cow_sleep_ns (fibres_draw (50000));
      /* The makers put them when nobody aborts any more. */
      if (set != NULL)
        (void) cow_set_abort (set);
    }
    return;
  }
  for (unsigned i = 0; i < 6; i++) {
    struct served_set s;
    const struct cow_set_options o = { .id = cow_id_new () };
    struct cow_set *set, *old;
    int rc = 0;

    assert (cow_set_new (served.engine, &o, NULL, &set) == 0);
    old = making[number];
    making[number] = set;
    /* An abort may be at the old one: it holds the set's lock then, and ends
     * before this one has made a few steps.
     */
    cow_sleep_ns (COW_NS_PER_S);
    cow_set_put (old);
    for (unsigned v = 0; v < 2 && rc == 0; v++)
      if ((number + i + v) % 3 != 0)
        rc = add (set, v);
    assert (rc == 0 || rc == -EBUSY || rc == -ECANCELED);
    for (int move = PREPARE; rc == 0 && move <= FINISH; move++) {
      rc = make_move (set, (enum move) move);
      assert (rc == 0 || rc == -ECANCELED);
      cow_sleep_ns (fibres_draw (100000));
    }
    assert (served_write (number % 2, number * BLOCK, BLOCK, i, 0) == 0);
    if (rc == 0) {
      s.id = o.id;
      (void) cow_engine_delete_set (served.engine, &s.id);
    }
  }
  makers--;
}

Test (set, aborts_at_any_moment)
{
  for (uint64_t seed = 1; seed <= 60; seed++) {
    served_begin (&(struct served_options) {
      .seed = seed, .volumes = 2, .size_bytes = 16 * BLOCK,
      .disk = { .latency_min_ns = 100, .latency_max_ns = 20000 },
    });
    memset (making, 0, sizeof making);
    makers = 3;
    served_run_all (4, make_and_abort);
    for (unsigned i = 0; i < 3; i++)
      cow_set_put (making[i]);
    cr_expect (served_origin_right (0) && served_origin_right (1));
    cr_expect_eq (listed (), 0);
    expect_clean ("aborted");
    served_end ();
  }
}

/* -------------------------------------------------------------- the engine */

Test (set, what_cannot_be_served_is_refused)
{
  struct sim_disk *d = sim_disk_new (&(struct sim_disk_options) { .seed = 1 });
  struct cow_engine_options o = { .use_io = sim_disk_io (d),
                                  .store_path = "/store" };
  char name[COW_NAME_MAX + 2];
  struct cow_error err = COW_ERROR_INIT;
  struct cow_engine *e;
  struct cow_volume *v;

  sim_disk_create (d, "d", &(struct sim_file_options) { .size_bytes = 9 });
  sim_disk_create (d, "buffered", &(struct sim_file_options) {
                     .size_bytes = 9 });
  for (uint32_t bytes = 1; bytes != 0; bytes <<= 1) {
    o.block_bytes = bytes;
    cr_expect_eq (cow_engine_new (&o, NULL, &e),
                  bytes < 4096 || bytes > 1u << 20 ? -EINVAL : 0);
    if (bytes >= 4096 && bytes <= 1u << 20)
      cow_engine_free (e);
    o.block_bytes = bytes + 1;
    cr_expect_eq (cow_engine_new (&o, &err, &e), -EINVAL);
  }
  cr_expect (strstr (err.text, "block-size="), "%s", err.text);
  o.block_bytes = 0;
  cr_assert_eq (cow_engine_new (&o, NULL, &e), 0);
  memset (name, 'x', sizeof name);
  name[COW_NAME_MAX + 1] = '\0';
  cr_expect_eq (cow_volume_add (e, name, "d", COW_CACHE_WRITEBACK, false,
                                NULL, &v), -EINVAL);
  cr_expect_eq (cow_volume_add (e, "v", "none", COW_CACHE_WRITEBACK, false,
                                NULL, &v), -ENOENT);
  cr_expect_eq (cow_volume_add (e, "v", "buffered", COW_CACHE_NONE, false,
                                NULL, &v), -EINVAL, "no O_DIRECT there");
  cr_expect_eq (cow_engine_volumes (e), 0);
  cr_expect_eq (cow_volume_add (e, "v", "d", COW_CACHE_WRITEBACK, false,
                                NULL, &v), 0);
  cr_expect_eq (cow_volume_add (e, "v", "buffered", COW_CACHE_WRITEBACK,
                                false, NULL, &v), -EEXIST);
  cr_expect_eq (cow_engine_volumes (e), 1);
  cr_expect_eq (cow_engine_find_volume (e, "v"), cow_engine_volume (e, 0));
  cr_expect_null (cow_engine_find_volume (e, "w"));
  cr_expect_null (cow_engine_volume (e, 1));
  cr_expect_str_eq (cow_engine_io_name (e), "simulated");
  cow_engine_free (e);
  cow_engine_free (NULL);
  sim_disk_free (d);
}

Test (set, one_origin_is_served_once)
{
  const struct cow_engine_options o = { .store_path = "/store" };
  struct sim_disk *d;
  struct cow_engine_options with = o;
  struct cow_engine *first, *second;
  struct cow_volume *v;

  /* The simulated clock: who comes second waits five seconds. */
  fibres_begin (&(struct fibres_options) { .seed = 1 });
  d = sim_disk_new (&(struct sim_disk_options) { .seed = 1 });
  sim_disk_create (d, "d", &(struct sim_file_options) { .size_bytes = 9 });
  with.use_io = sim_disk_io (d);
  cr_assert_eq (cow_engine_new (&with, NULL, &first), 0);
  cr_assert_eq (cow_engine_new (&with, NULL, &second), 0);
  cr_assert_eq (cow_volume_add (first, "v", "d", COW_CACHE_WRITEBACK, true,
                                NULL, &v), 0);
  cr_expect_eq (cow_volume_add (second, "v", "d", COW_CACHE_WRITEBACK, false,
                                NULL, &v), -EBUSY);
  cr_expect_eq (cow_volume_add (second, "v", "d", COW_CACHE_WRITEBACK, true,
                                NULL, &v), 0, "readers share");
  cow_engine_free (first);
  cow_engine_free (second);
  sim_disk_free (d);
  fibres_end ();
}
