/* test-gate.c - slots, gate and hold.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads record and the test's own thread asserts.  Every schedule of a small
 * case is in tests/sim.
 */
#include "config.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <criterion/criterion.h>

#include "gate/gate.h"

#define MS COW_NS_PER_MS

Test (slots, ranges_and_numbers, .timeout = 10)
{
  struct cow_slots *s = cow_slots_new ();
  unsigned a, b;

  cr_assert (s);
  cr_expect (!cow_slots_below (s, UINT64_MAX));
  a = cow_slots_enter (s, 4);
  b = cow_slots_enter (s, 5);
  cr_expect_neq (a, b);
  cr_expect (!cow_slots_below (s, 4));
  cr_expect (cow_slots_below (s, 5));
  cr_expect (cow_slots_meet_below (s, 5, 1 << 20, 1 << 20),
             "a range that is not told is everything");
  cow_slots_range (s, a, 100, 199);
  cr_expect (cow_slots_meet_below (s, 5, 199, 300));
  cr_expect (!cow_slots_meet_below (s, 5, 200, 300));
  cr_expect (!cow_slots_meet_below (s, 5, 0, 99));
  cow_slots_leave (s, a);
  cr_expect (!cow_slots_below (s, 5));
  cr_expect (cow_slots_below (s, 6));
  cr_expect (!cow_slots_wait_below (s, 6, cow_now_ns () + MS));
  cow_slots_leave (s, b);
  cr_expect (cow_slots_wait_below (s, 6, cow_now_ns () + MS));
  cow_slots_free (s);
}

struct gate_case {
  struct cow_gate gate[2];
  struct cow_hold hold;
};

static struct gate_case g;

static void
make_gates (void)
{
  cr_assert_eq (cow_gate_init (&g.gate[0], 1), 0);
  cr_assert_eq (cow_gate_init (&g.gate[1], 1), 0);
  cow_hold_init (&g.hold);
}

static void
clear_gates (void)
{
  cow_gate_clear (&g.gate[0]);
  cow_gate_clear (&g.gate[1]);
  cow_hold_destroy (&g.hold);
}

TestSuite (gate, .init = make_gates, .fini = clear_gates, .timeout = 30);

Test (gate, a_switch_gives_the_next_epoch)
{
  struct cow_pass pass;

  cow_gate_enter (&g.gate[0], 0, 9, &pass);
  cr_expect_eq (pass.epoch, 1);
  cow_hold_begin (&g.hold, cow_now_ns () + 1000 * MS);
  cow_gate_close (&g.gate[0], &g.hold);
  cow_gate_close (&g.gate[1], &g.hold);
  cr_expect (cow_hold_switch (&g.hold));
  cow_gate_open (&g.gate[0], true);
  cow_gate_open (&g.gate[1], true);
  cow_hold_end (&g.hold);
  cr_expect_eq (cow_gate_epoch (&g.gate[0]), 2);
  cr_expect (cow_slots_below (g.gate[0].slots, 2), "the old writer is in");
  cow_gate_leave (&g.gate[0], &pass);
  cow_gate_enter (&g.gate[0], 0, 9, &pass);
  cr_expect_eq (pass.epoch, 2);
  cow_gate_leave (&g.gate[0], &pass);
}

Test (gate, a_switch_after_the_deadline_is_refused)
{
  struct cow_pass pass;

  cow_hold_begin (&g.hold, cow_now_ns () + 2 * MS);
  cow_gate_close (&g.gate[0], &g.hold);
  cow_sleep_ns (5 * MS);
  cr_expect (!cow_hold_switch (&g.hold));
  cow_gate_open (&g.gate[0], false);
  cow_hold_end (&g.hold);
  cow_gate_enter (&g.gate[0], 0, 9, &pass);
  cr_expect_eq (pass.epoch, 1, "an expired hold leaves the epoch");
  cow_gate_leave (&g.gate[0], &pass);
}

static uint64_t waited_ns;

static void *
enter_and_leave (void *gate)
{
  struct cow_pass pass;
  uint64_t begin = cow_now_ns ();

  cow_gate_enter (gate, 0, 9, &pass);
  waited_ns = cow_now_ns () - begin;
  cow_gate_leave (gate, &pass);
  return NULL;
}

/* Nobody ends the hold: the held writer lets itself go. */
Test (gate, a_held_writer_goes_on_at_the_deadline)
{
  pthread_t thread;

  cow_hold_begin (&g.hold, cow_now_ns () + 100 * MS);
  cow_gate_close (&g.gate[0], &g.hold);
  cow_gate_close (&g.gate[1], &g.hold);
  pthread_create (&thread, NULL, enter_and_leave, &g.gate[0]);
  pthread_join (thread, NULL);
  cr_expect_geq (waited_ns, 50 * MS);
  cr_expect (!cow_hold_switch (&g.hold), "too late for all of them");
  cow_gate_open (&g.gate[0], false);
  cow_gate_open (&g.gate[1], false);
  cow_hold_end (&g.hold);
  cr_expect_eq (cow_gate_epoch (&g.gate[0]), 1);
  cr_expect_eq (cow_gate_epoch (&g.gate[1]), 1);
}

Test (gate, a_cancelled_hold_lets_go_at_once)
{
  pthread_t thread;

  cow_hold_begin (&g.hold, cow_now_ns () + 20000 * MS);
  cow_gate_close (&g.gate[0], &g.hold);
  pthread_create (&thread, NULL, enter_and_leave, &g.gate[0]);
  cow_sleep_ns (20 * MS);
  cow_hold_cancel (&g.hold);
  cow_gate_open (&g.gate[0], false);
  cow_hold_end (&g.hold);
  pthread_join (thread, NULL);
  cr_expect_lt (waited_ns, 10000 * MS);
}

/* Writers count into the cell of their epoch; a switch must find every earlier
 * writer gone after settling, and none may count into an old cell later.
 */
#define WRITERS 3
#define SWITCHES 400
static _Atomic unsigned long counted[2][SWITCHES + 2];
static _Atomic bool stop;

static void *
count_epochs (void *arg)
{
  unsigned n = 0;

  (void) arg;
  while (!atomic_load (&stop)) {
    struct cow_gate *gate = &g.gate[n++ % 2];
    struct cow_pass pass;

    cow_gate_enter (gate, n % 7, n % 7 + 1, &pass);
    atomic_fetch_add (&counted[gate - g.gate][pass.epoch], 1);
    cow_gate_leave (gate, &pass);
    if (n % 1000 == 0)
      cow_yield ();
  }
  return NULL;
}

Test (gate, no_writer_of_an_old_epoch_after_settling, .timeout = 60)
{
  unsigned long before[2][SWITCHES + 2] = { { 0 } };
  pthread_t thread[WRITERS];
  unsigned unsettled = 0, late = 0, refused = 0;

  for (unsigned i = 0; i < WRITERS; i++)
    pthread_create (&thread[i], NULL, count_epochs, NULL);
  for (unsigned n = 1; n <= SWITCHES; n++) {
    cow_hold_begin (&g.hold, cow_now_ns () + 10000 * MS);
    for (unsigned k = 0; k < 2; k++)
      cow_gate_close (&g.gate[k], &g.hold);
    refused += !cow_hold_switch (&g.hold);
    for (unsigned k = 0; k < 2; k++)
      cow_gate_open (&g.gate[k], true);
    cow_hold_end (&g.hold);
    for (unsigned k = 0; k < 2; k++) {
      unsettled += !cow_slots_wait_below (g.gate[k].slots, n + 1,
                                          cow_now_ns () + 10000 * MS);
      before[k][n] = atomic_load (&counted[k][n]);
    }
  }
  atomic_store (&stop, true);
  for (unsigned i = 0; i < WRITERS; i++)
    pthread_join (thread[i], NULL);
  for (unsigned n = 1; n <= SWITCHES; n++)
    for (unsigned k = 0; k < 2; k++)
      late += atomic_load (&counted[k][n]) != before[k][n];
  cr_expect_eq (refused, 0);
  cr_expect_eq (unsettled, 0);
  cr_expect_eq (late, 0, "%u epochs got a writer after settling", late);
}
