/* test-restart.c - sets, notes and origins from one server to the next.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A server with a store goes, in order or not, and another one comes, over a
 * simulated disk.  tests/sim crashes at every I/O; here it is about what is
 * there afterwards, and what is refused.
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

TestSuite (restart, .timeout = 120);

#define BLOCK 4096u
#define MIB (1u << 20)

static struct served_set a, b, c;

static struct served_options
two_volumes (void)
{
  return (struct served_options) {
    .seed = 1, .volumes = 2, .size_bytes = 2 * MIB, .persistent = true,
    .engine = {
      .store_directory = STORE_DIRECTORY, .store_timeout_ns = COW_NS_PER_S,
      .store_limit_bytes = 32 * MIB,
    },
  };
}

static void
begin (void)
{
  const struct served_options o = two_volumes ();

  served_begin (&o);
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

static size_t
listed (void)
{
  struct cow_set_info *sets;
  size_t n;

  assert (cow_engine_sets (served.engine, &sets, &n) == 0);
  free (sets);
  return n;
}

/* All of both volumes. */
static void
write_all (uint32_t stamp)
{
  for (unsigned v = 0; v < 2; v++)
    assert (served_write (v, 0, 2 * MIB, stamp, COW_FUA) == 0);
}

static void
check_all (void)
{
  struct served_set *const sets[] = { &a, &b, &c };

  for (unsigned i = 0; i < COW_ARRAY_SIZE (sets); i++)
    for (unsigned v = 0; v < 2; v++)
      if (sets[i]->data[v])
        assert (served_check (sets[i], v) == 0);
}

/* ---------------------------------------------------- what is there after */

static void
make_two_sets (void)
{
  assert (served_set (&a, 3) == 0);
  assert (served_write (0, 5 * BLOCK, 3 * BLOCK, 1, 0) == 0);
  assert (served_write (1, BLOCK + 17, 5, 1, 0) == 0);
  assert (served_zero (1, 64 * BLOCK, 32 * BLOCK, COW_MAY_TRIM) == 0);
  assert (served_set (&b, 1) == 0);
  assert (served_write (0, 6 * BLOCK, 8 * BLOCK, 2, 0) == 0);
  assert (served_write (1, 64 * BLOCK, 40 * BLOCK, 2, COW_FUA) == 0);
  assert (served_write (0, 0, 1, 2, COW_FUA) == 0);
}

/* The whole of the volumes is written over; then a set is made, too. */
static void
check_and_go_on (void)
{
  assert (listed () == 2);
  check_all ();
  write_all (7);
  check_all ();
  assert (served_set (&c, 2) == 0);
  assert (served_write (1, 0, 40 * BLOCK, 8, COW_FUA) == 0);
  check_all ();
}

static void
check_three (void)
{
  assert (listed () == 3);
  check_all ();
  write_all (9);
  check_all ();
}

static void
two_servers_more (enum served_how how)
{
  begin ();
  served_run (make_two_sets);
  served_restart (how, 5);
  served_run (check_and_go_on);
  served_restart (how, 6);
  served_run (check_three);
  served_restart (how, 7);
  served_run (check_all);
  end ();
}

Test (restart, sets_are_there_after_an_orderly_stop)
{
  two_servers_more (SERVED_STOP);
}

Test (restart, sets_are_there_after_a_kill)
{
  two_servers_more (SERVED_KILL);
}

Test (restart, sets_are_there_after_a_power_loss)
{
  two_servers_more (SERVED_CRASH);
}

static void
make_labelled_set (void)
{
  struct cow_set *set;

  assert (served_set_to (&a, 3, "nightly", COW_SET_SETTLED, &set) == 0);
  assert (cow_set_annotate (set, "all is well", 11) == 0);
  assert (cow_set_finish (set, NULL) == 0);
  assert (cow_set_annotate (set, "too late", 8) == -EINVAL);
  cow_set_put (set);
}

static void
check_labelled_set (void)
{
  struct cow_set_info *info;
  struct cow_view *w;
  size_t n, len;
  void *text;

  assert (cow_engine_sets (served.engine, &info, &n) == 0 && n == 1);
  assert (cow_id_equal (&info->id, &a.id));
  assert (strcmp (info->label, "nightly") == 0);
  assert (info->persistent && info->count == 2 && info->number == 1);
  assert (info->state == COW_SET_COMMITTED);
  assert (info->created_wall_ns > 0);
  assert (strcmp (info->snapshots[1].volume, "v1") == 0);
  assert (cow_id_equal (&info->snapshots[1].id, &a.snapshot[1]));
  assert (info->snapshots[1].end == COW_ALIVE);
  assert (info->annotation_bytes == 11);
  free (info);
  assert (cow_engine_annotation (served.engine, &a.id, &text, &len) == 0);
  assert (len == 11 && memcmp (text, "all is well", 11) == 0);
  free (text);
  assert (cow_view_open (served.volume[0], "nightly", NULL, &w) == 0);
  cow_view_close (w);
}

Test (restart, a_set_is_the_same_with_all_that_is_known_of_it)
{
  begin ();
  served_run (make_labelled_set);
  served_restart (SERVED_KILL, 0);
  served_run (check_labelled_set);
  served_restart (SERVED_STOP, 0);
  served_run (check_labelled_set);
  end ();
}

static void
make_and_delete (void)
{
  struct cow_id gone;

  make_two_sets ();
  assert (served_set (&c, 3) == 0);
  write_all (3);
  gone = a.id;
  assert (served_delete (&a) == 0);
  assert (cow_engine_delete_set (served.engine, &gone) == -ENOENT);
  assert (cow_engine_delete_snapshot (served.engine, &c.snapshot[0]) == 0);
}

static void
check_deleted (void)
{
  assert (listed () == 2);
  assert (served_check (&b, 0) == 0);
  assert (served_check (&c, 1) == 0);
  assert (served_check (&c, 0) == -ENOENT);
  write_all (4);
  assert (served_check (&b, 0) == 0);
  assert (served_check (&c, 1) == 0);
}

static void
delete_the_rest (void)
{
  check_deleted ();
  assert (served_delete (&b) == 0);
  assert (cow_engine_delete_snapshot (served.engine, &c.snapshot[1]) == 0);
  served_set_forget (&c);
  assert (listed () == 0);
}

static void
check_nothing (void)
{
  served_work ();
  assert (listed () == 0);
  assert (served_status ().exceptions == 0);
  assert (served_status ().store_used_bytes == 0);
}

Test (restart, what_was_deleted_stays_deleted)
{
  for (enum served_how how = SERVED_STOP; how <= SERVED_CRASH; how++) {
    begin ();
    served_run (make_and_delete);
    served_restart (how, 3);
    served_run (delete_the_rest);
    served_restart (how, 4);
    served_run (check_nothing);
    end ();
  }
}

static struct cow_set *unfinished;

static void
leave_one_unfinished (void)
{
  assert (served_set_to (&a, 3, NULL, COW_SET_SETTLED, &unfinished) == 0);
  write_all (1);
}

Test (restart, a_set_that_was_not_finished_leaves_nothing)
{
  for (enum served_how how = SERVED_KILL; how <= SERVED_CRASH; how++) {
    struct sim_disk *next;

    begin ();
    served_run (leave_one_unfinished);
    next = how == SERVED_KILL ? sim_disk_clone (served.disk)
                              : sim_disk_crash (served.disk, 1);
    /* What is done to take the dead server down reaches nobody. */
    sim_disk_power_off (served.disk);
    cow_set_put (unfinished);
    cow_engine_free (served.engine);
    sim_disk_free (served.disk);
    served.disk = next;
    cr_assert_eq (served_come_back (NULL), 0);
    served_run (check_nothing);
    served_set_forget (&a);
    served_end ();
  }
}

static void
make_one_that_does_not_last (void)
{
  served.o.persistent = false;
  assert (served_set (&a, 3) == 0);
  served.o.persistent = true;
  assert (served_write (0, 0, 8 * BLOCK, 1, COW_FUA) == 0);
  assert (served_set (&b, 3) == 0);
  write_all (2);
  check_all ();
}

static void
check_the_other (void)
{
  assert (listed () == 1);
  assert (served_check (&b, 0) == 0 && served_check (&b, 1) == 0);
  assert (served_check (&a, 0) == -ENOENT);
}

Test (restart, a_set_that_is_not_persistent_goes)
{
  for (enum served_how how = SERVED_STOP; how <= SERVED_CRASH; how++) {
    begin ();
    served_run (make_one_that_does_not_last);
    served_restart (how, 8);
    served_run (check_the_other);
    end ();
  }
}

/* ------------------------------------------------------------ what is lost */

static void
overfill (void)
{
  assert (served_set (&a, 3) == 0);
  write_all (1);
  assert (served_set (&b, 3) == 0);
  assert (served_write (0, 0, 2 * MIB, 2, COW_FUA) == 0);
  assert (served_ended (&a, 0) == COW_LOST_STORE_FULL);
  assert (served_ended (&b, 0) == COW_ALIVE);
}

static void
check_overfilled (void)
{
  assert (listed () == 2);
  assert (served_ended (&a, 0) == COW_LOST_STORE_FULL);
  assert (served_ended (&a, 1) == COW_LOST_STORE_FULL);
  assert (served_check (&a, 0) == -EIO);
  assert (served_check (&b, 0) == 0 && served_check (&b, 1) == 0);
}

static void
delete_the_lost (void)
{
  check_overfilled ();
  assert (served_delete (&a) == 0);
  assert (listed () == 1);
}

static void
check_the_lost_is_gone (void)
{
  assert (listed () == 1);
  assert (served_check (&b, 0) == 0 && served_check (&b, 1) == 0);
}

Test (restart, a_lost_set_is_listed_with_its_reason_until_it_is_deleted)
{
  struct served_options o = two_volumes ();

  o.engine.store_limit_bytes = 6 * MIB;
  served_begin (&o);
  served_run (overfill);
  served_restart (SERVED_KILL, 0);
  served_run (check_overfilled);
  served_restart (SERVED_STOP, 0);
  served_run (delete_the_lost);
  served_restart (SERVED_STOP, 0);
  served_run (check_the_lost_is_gone);
  end ();
}

static void
fail_the_journal (void)
{
  assert (served_set (&a, 3) == 0);
  assert (served_write (0, 0, BLOCK, 1, COW_FUA) == 0);
  served_fault (SIM_WRITE, LASTING_FILE, 0, 1, -EIO);
  /* Never an error for a client. */
  assert (served_write (0, 4 * BLOCK, BLOCK, 1, COW_FUA) == 0);
  assert (served_ended (&a, 0) != COW_ALIVE);
  write_all (2);
  while (served_ended (&a, 1) == COW_ALIVE)
    cow_sleep_ns (COW_NS_PER_MS);
  write_all (3);
}

static void
check_failed (void)
{
  assert (listed () == 1);
  assert (served_ended (&a, 0) == COW_LOST_STORE_ERROR);
  assert (served_ended (&a, 1) == COW_LOST_STORE_ERROR);
  assert (served_check (&a, 0) == -EIO && served_check (&a, 1) == -EIO);
  assert (served_set (&b, 3) == 0);
  write_all (4);
  assert (served_check (&b, 0) == 0);
}

Test (restart, a_failed_journal_loses_the_sets_for_good)
{
  for (enum served_how how = SERVED_KILL; how <= SERVED_CRASH; how++) {
    begin ();
    served_run (fail_the_journal);
    served_restart (how, 2);
    served_run (check_failed);
    end ();
  }
}

/* Every write and sync of the store fails: only LIVE is left, then only the
 * mark.
 */
static void
fail_the_store_for_good (void)
{
  assert (served_set (&a, 3) == 0);
  assert (served_write (0, 0, BLOCK, 1, COW_FUA) == 0);
  served_fault (SIM_WRITE | SIM_SYNC, LASTING_FILE, 0, 0, -EIO);
  assert (served_write (0, 4 * BLOCK, BLOCK, 1, COW_FUA) == 0);
  while (served_ended (&a, 1) == COW_ALIVE)
    cow_sleep_ns (COW_NS_PER_MS);
  write_all (2);
}

static void
fail_its_directory_too (void)
{
  served_fault (SIM_REMOVE | SIM_SYNC_DIR, NULL, 0, 0, -EIO);
  fail_the_store_for_good ();
}

static void
check_lost (void)
{
  assert (listed () == 1);
  assert (served_ended (&a, 0) > COW_DELETED);
  assert (served_ended (&a, 1) > COW_DELETED);
  assert (served_check (&a, 0) == -EIO && served_check (&a, 1) == -EIO);
}

Test (restart, a_store_that_takes_nothing_loses_the_sets_for_good)
{
  for (enum served_how how = SERVED_KILL; how <= SERVED_CRASH; how++) {
    begin ();
    served_run (fail_the_store_for_good);
    served_restart (how, 2);
    served_run (check_lost);
    end ();
    begin ();
    served_run (fail_its_directory_too);
    served_restart (how, 2);
    served_run (check_lost);
    end ();
  }
}

static void
fail_the_record (void)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_set *set;

  assert (served_set_to (&a, 3, NULL, COW_SET_SETTLED, &set) == 0);
  served_fault (SIM_SYNC, LASTING_FILE, 0, 1, -EIO);
  assert (cow_set_finish (set, &err) == -EIO);
  assert (strstr (err.text, "recorded"));
  assert (cow_set_state (set) == COW_SET_ABORTED);
  assert (cow_set_abort (set) == 0);
  cow_set_put (set);
  assert (listed () == 0);
  write_all (1);
}

static void
check_never_finished (void)
{
  /* If its record is there it is lost, not right or wrong. */
  assert (served_check (&a, 0) == -ENOENT || served_check (&a, 0) == -EIO);
  assert (served_check (&a, 1) == -ENOENT || served_check (&a, 1) == -EIO);
}

Test (restart, a_set_whose_record_failed_never_comes_back)
{
  for (uint64_t seed = 1; seed <= 20; seed++) {
    begin ();
    served_run (fail_the_record);
    served_restart (seed == 1 ? SERVED_KILL : SERVED_CRASH, seed);
    served_run (check_never_finished);
    end ();
  }
}

/* --------------------------------------------------------------- decisions */

static void
leave_undecided (void)
{
  struct cow_set_info *sets;
  struct cow_set *set;
  size_t n;

  assert (served_set_to (&a, 3, "x", COW_SET_SETTLED, &set) == 0);
  assert (cow_set_finish_undecided (set, NULL) == 0);
  assert (cow_set_state (set) == COW_SET_UNDECIDED);
  assert (cow_set_abort (set) == -EINVAL);
  cow_set_put (set);
  assert (listed () == 0);
  assert (cow_engine_undecided_sets (served.engine, &sets, &n) == 0);
  assert (n == 1 && cow_id_equal (&sets->id, &a.id));
  assert (sets->state == COW_SET_UNDECIDED);
  free (sets);
  assert (served_check (&a, 0) == -ENOENT);
  assert (cow_engine_delete_set (served.engine, &a.id) == -ENOENT);
  write_all (1);
  /* It does not stand in the way. */
  assert (served_set (&b, 3) == 0);
  write_all (2);
}

static void
commit_it (void)
{
  write_all (3);
  assert (served_check (&a, 0) == -ENOENT);
  assert (cow_engine_resolve (served.engine, &a.id, true) == 0);
  assert (cow_engine_resolve (served.engine, &a.id, false) == -ENOENT);
  assert (listed () == 2);
  check_all ();
}

static void
abort_it (void)
{
  write_all (3);
  assert (cow_engine_resolve (served.engine, &a.id, false) == 0);
  assert (cow_engine_resolve (served.engine, &a.id, true) == -ENOENT);
  served_set_forget (&a);
  assert (listed () == 1);
  check_all ();
}

static void
check_both (void)
{
  assert (listed () == 2);
  check_all ();
}

static void
check_one (void)
{
  struct cow_set_info *sets;
  size_t n;

  assert (listed () == 1);
  assert (cow_engine_undecided_sets (served.engine, &sets, &n) == 0);
  assert (n == 0);
  free (sets);
  check_all ();
}

static void
decide (enum served_how how, void (*decision) (void), void (*check) (void))
{
  begin ();
  served_run (leave_undecided);
  served_restart (how, 1);
  served_run (decision);
  served_restart (how, 2);
  served_run (check);
  end ();
}

Test (restart, an_undecided_set_waits_for_its_decision)
{
  for (enum served_how how = SERVED_STOP; how <= SERVED_CRASH; how++) {
    decide (how, commit_it, check_both);
    decide (how, abort_it, check_one);
  }
}

static void
overfill_beside_undecided (void)
{
  struct cow_set_info *sets;
  struct cow_set *set;
  size_t n;

  assert (served_set (&a, 3) == 0);
  assert (served_write (1, 0, BLOCK, 1, 0) == 0);
  assert (served_set_to (&b, 3, NULL, COW_SET_SETTLED, &set) == 0);
  assert (cow_set_finish_undecided (set, NULL) == 0);
  cow_set_put (set);
  write_all (1);
  assert (served_set (&c, 3) == 0);
  assert (served_write (0, 0, 2 * MIB, 2, COW_FUA) == 0);
  /* The older one that is committed would have been next. */
  assert (cow_engine_undecided_sets (served.engine, &sets, &n) == 0);
  assert (n == 1 && sets->snapshots[0].end == COW_LOST_STORE_FULL);
  free (sets);
}

Test (restart, an_undecided_set_is_the_first_that_a_full_store_costs)
{
  struct served_options o = two_volumes ();

  o.engine.store_limit_bytes = 6 * MIB;
  served_begin (&o);
  served_run (overfill_beside_undecided);
  end ();
}

/* ------------------------------------------------------------------- notes */

static const struct cow_id key1 = { { 1 } }, key2 = { { 2 } };

static void
put_notes (void)
{
  struct cow_engine *e = served.engine;

  assert (cow_engine_note_put (e, &key2, "two", 3) == 0);
  assert (cow_engine_note_put (e, &key1, "one", 3) == 0);
  assert (cow_engine_note_put (e, &key1, "first", 5) == 0);
}

static void
check_notes (void)
{
  void *data;
  size_t len;

  assert (cow_engine_note_get (served.engine, &key1, &data, &len) == 0);
  assert (len == 5 && memcmp (data, "first", 5) == 0);
  free (data);
  assert (cow_engine_note_get (served.engine, &key2, &data, &len) == 0);
  assert (len == 3 && memcmp (data, "two", 3) == 0);
  free (data);
}

static void
remove_a_note (void)
{
  check_notes ();
  assert (cow_engine_note_remove (served.engine, &key2) == 0);
  assert (cow_engine_note_remove (served.engine, &key2) == -ENOENT);
}

static void
check_removed (void)
{
  void *data;
  size_t len;

  assert (cow_engine_note_get (served.engine, &key1, &data, &len) == 0);
  free (data);
  assert (cow_engine_note_get (served.engine, &key2, &data, &len) == -ENOENT);
}

Test (restart, notes_are_there)
{
  for (enum served_how how = SERVED_STOP; how <= SERVED_CRASH; how++) {
    begin ();
    served_run (put_notes);
    served_restart (how, 1);
    served_run (remove_a_note);
    served_restart (how, 2);
    served_run (check_removed);
    end ();
  }
}

static void
put_without_a_store (void)
{
  assert (cow_engine_note_put (served.engine, &key1, "one", 3)
          == -EOPNOTSUPP);
}

Test (restart, without_a_store_there_are_no_notes)
{
  served_begin (&(struct served_options) { .size_bytes = MIB });
  served_run (put_without_a_store);
  end ();
}

/* ----------------------------------------------------------------- origins */

static void
check_changed (void)
{
  assert (listed () == 1);
  assert (served_ended (&a, 0) == COW_LOST_ORIGIN_CHANGED);
  assert (served_ended (&a, 1) == COW_ALIVE);
  assert (served_check (&a, 0) == -EIO);
  assert (served_check (&a, 1) == 0);
  write_all (5);
  assert (served_check (&a, 1) == 0);
}

static void
make_one_set (void)
{
  assert (served_set (&a, 3) == 0);
  assert (served_write (0, 0, BLOCK, 1, COW_FUA) == 0);
}

Test (restart, an_origin_that_was_changed_behind_the_store_costs_its_sets)
{
  uint8_t byte = 1;

  begin ();
  served_run (make_one_set);
  served_go (SERVED_STOP, 0);
  byte = served.data[0][100] ^ 1;
  sim_disk_poke (served.disk, "d0", 100, &byte, 1);
  served.data[0][100] = byte;
  cr_assert_eq (served_come_back (NULL), 0);
  served_run (check_changed);
  served_restart (SERVED_STOP, 0);
  served_run (check_changed);
  end ();
}

static void
check_kept (void)
{
  assert (served_ended (&a, 0) == COW_ALIVE);
  assert (served_check (&a, 0) == 0 && served_check (&a, 1) == 0);
}

Test (restart, force_origin_keeps_them)
{
  begin ();
  served_run (make_one_set);
  served_go (SERVED_STOP, 0);
  /* The time changes, nothing else does. */
  sim_disk_poke (served.disk, "d0", 100, served.data[0] + 100, 1);
  served.o.engine.force_origin = true;
  cr_assert_eq (served_come_back (NULL), 0);
  served_run (check_kept);
  end ();
}

static void
write_a_block (void)
{
  assert (served_write (0, 50 * BLOCK, BLOCK, 6, COW_FUA) == 0);
}

static void
serve_without_the_store (enum served_how how)
{
  begin ();
  served_run (make_one_set);
  served_go (how, 1);
  served.o.engine.store_directory = NULL;
  served.o.volumes = 1;
  cr_assert_eq (served_come_back (NULL), 0);
  served_run (write_a_block);
  served_go (SERVED_KILL, 1);
  served.o.engine.store_directory = STORE_DIRECTORY;
  served.o.volumes = 2;
  cr_assert_eq (served_come_back (NULL), 0);
  served_run (check_changed);
  end ();
}

Test (restart, an_origin_that_was_served_without_its_store_costs_its_sets)
{
  serve_without_the_store (SERVED_STOP);
  serve_without_the_store (SERVED_KILL);
  serve_without_the_store (SERVED_CRASH);
}

static void
serve_with_another_store (enum served_how how)
{
  begin ();
  served_run (make_one_set);
  served_go (how, 1);
  served.o.engine.store_directory = "/other";
  served.o.volumes = 1;
  cr_assert_eq (served_come_back (NULL), 0);
  served_run (write_a_block);
  served_go (how, 2);
  served.o.engine.store_directory = STORE_DIRECTORY;
  served.o.volumes = 2;
  cr_assert_eq (served_come_back (NULL), 0);
  served_run (check_changed);
  end ();
}

Test (restart, an_origin_that_was_served_with_another_store_costs_its_sets)
{
  serve_with_another_store (SERVED_STOP);
  serve_with_another_store (SERVED_KILL);
}

/* A file beside the origin says it where the origin can't. */
Test (restart, an_origin_that_can_not_be_marked_has_a_file_beside_it)
{
  struct served_options o = two_volumes ();

  o.file.no_mark = true;
  served_begin (&o);
  cr_assert (sim_disk_has (served.disk, "d0.cowset"));
  served_run (make_one_set);
  served_restart (SERVED_KILL, 1);
  served_run (check_kept);
  served_go (SERVED_KILL, 1);
  served.o.engine.store_directory = NULL;
  served.o.volumes = 1;
  cr_assert_eq (served_come_back (NULL), 0);
  cr_assert_not (sim_disk_has (served.disk, "d0.cowset"));
  served_run (write_a_block);
  served_go (SERVED_KILL, 1);
  served.o.engine.store_directory = STORE_DIRECTORY;
  served.o.volumes = 2;
  cr_assert_eq (served_come_back (NULL), 0);
  served_run (check_changed);
  end ();
}

/* ---------------------------------------------------------------- refusals */

Test (restart, a_store_with_snapshots_of_another_volume_is_refused)
{
  struct cow_error err = COW_ERROR_INIT;

  begin ();
  served_run (make_one_set);
  served_go (SERVED_KILL, 0);
  served.o.volumes = 1;
  cr_assert_eq (served_come_back (&err), -ENODEV);
  cr_assert (strstr (err.text, "v1"), "%s", err.text);
  cr_assert (strstr (err.text, "serve it too"), "%s", err.text);
  served.o.volumes = 2;
  cr_assert_eq (served_come_back (NULL), 0);
  served_run (check_kept);
  end ();
}

Test (restart, a_persistent_set_without_a_store_is_refused)
{
  struct cow_error err = COW_ERROR_INIT;
  const struct cow_set_options o = { .persistent = true };
  struct cow_set *set;

  served_begin (&(struct served_options) { .size_bytes = MIB });
  cr_assert_eq (cow_set_new (served.engine, &o, &err, &set), -EOPNOTSUPP);
  cr_assert (strstr (err.text, "store"), "%s", err.text);
  end ();
}
