/* test-fibres.c - the simulator of clients.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What fails here on purpose is reported on stderr: that is not an error.
 */
#include <config.h>

#include <assert.h>
#include <signal.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bits.h"
#include "base/sync.h"
#include "sim/fibres.h"

TestSuite (fibres, .timeout = 120);

static cow_mutex lock_a, lock_b;
static cow_cond cond;
static unsigned count, trace_len;
static char trace[256];

static void
mark (const char *what)
{
  assert (trace_len + 2 < sizeof trace);
  trace[trace_len++] = what[0];
  trace[trace_len] = '\0';
}

static void
begin (uint64_t seed)
{
  const struct fibres_options options = { .seed = seed };

  fibres_begin (&options);
  cow_mutex_init (&lock_a);
  cow_mutex_init (&lock_b);
  cow_cond_init (&cond);
  count = trace_len = 0;
  trace[0] = '\0';
}

/* ------------------------------------------------------------- seeded runs */

static void
increment_locked (void *opaque)
{
  for (unsigned i = 0; i < 10; i++) {
    unsigned seen;

    LOCK_FOR_SCOPE (&lock_a);
    seen = count;
    mark (opaque);
    base_step ();
    count = seen + 1;
  }
}

static enum fibres_verdict
run_three (uint64_t seed)
{
  enum fibres_verdict verdict;

  begin (seed);
  fibre_spawn ("a", increment_locked, (void *) "a");
  fibre_spawn ("b", increment_locked, (void *) "b");
  fibre_spawn ("c", increment_locked, (void *) "c");
  verdict = fibres_run ();
  fibres_end ();
  return verdict;
}

Test (fibres, a_lock_excludes)
{
  for (uint64_t seed = 0; seed < 200; seed++) {
    cr_assert_eq (run_three (seed), FIBRES_DONE);
    cr_assert_eq (count, 30, "seed %lu", (unsigned long) seed);
  }
}

Test (fibres, a_seed_repeats)
{
  char first[sizeof trace];
  unsigned different = 0;

  run_three (0);
  memcpy (first, trace, sizeof first);
  for (uint64_t seed = 1; seed < 20; seed++) {
    char once[sizeof trace];

    run_three (seed);
    memcpy (once, trace, sizeof once);
    run_three (seed);
    cr_assert_str_eq (once, trace);
    different += strcmp (once, first) != 0;
  }
  cr_assert (different > 10);
}

static uint8_t drawn[32];

static void
draw (void *opaque)
{
  (void) opaque;
  cow_random (drawn, sizeof drawn);
}

Test (fibres, random_numbers_repeat)
{
  uint8_t first[sizeof drawn];

  for (unsigned i = 0; i < 2; i++) {
    begin (7);
    fibre_spawn ("d", draw, NULL);
    cr_assert_eq (fibres_run (), FIBRES_DONE);
    fibres_end ();
    if (i == 0)
      memcpy (first, drawn, sizeof drawn);
  }
  cr_assert_arr_eq (first, drawn, sizeof drawn);
}

struct sleeper {
  const char *name;
  uint64_t ns;
};

static void
sleep_and_mark (void *opaque)
{
  const struct sleeper *s = opaque;
  const uint64_t before = cow_now_ns ();

  cow_sleep_ns (s->ns);
  assert (cow_now_ns () >= before + s->ns);
  mark (s->name);
}

Test (fibres, the_clock_jumps)
{
  static struct sleeper sleepers[] = {
    { "c", 3 * COW_NS_PER_S }, { "a", COW_NS_PER_S },
    { "d", 3600 * COW_NS_PER_S }, { "b", 2 * COW_NS_PER_S },
  };

  for (uint64_t seed = 0; seed < 20; seed++) {
    begin (seed);
    for (unsigned i = 0; i < 4; i++)
      fibre_spawn (sleepers[i].name, sleep_and_mark, &sleepers[i]);
    cr_assert_eq (fibres_run (), FIBRES_DONE);
    cr_assert_str_eq (trace, "abcd");
    fibres_end ();
  }
}

static void
wait_for_count (void *opaque)
{
  LOCK_FOR_SCOPE (&lock_a);

  while (count == 0) {
    if (!cow_cond_wait_until (&cond, &lock_a, *(uint64_t *) opaque)) {
      mark ("late");
      return;
    }
  }
  mark ("woken");
}

static void
make_count (void *opaque)
{
  cow_sleep_ns (*(uint64_t *) opaque);
  LOCK_FOR_SCOPE (&lock_a);

  count = 1;
  cow_cond_broadcast (&cond);
}

Test (fibres, a_wait_ends_with_its_cause_or_deadline)
{
  for (uint64_t seed = 0; seed < 20; seed++) {
    for (unsigned late = 0; late < 2; late++) {
      uint64_t deadline, after = COW_NS_PER_S;

      begin (seed);
      deadline = fibres_now_ns () + (late ? 1 : 2) * COW_NS_PER_S;
      if (late)
        after = 2 * COW_NS_PER_S;
      fibre_spawn ("waiter", wait_for_count, &deadline);
      fibre_spawn ("maker", make_count, &after);
      cr_assert_eq (fibres_run (), FIBRES_DONE);
      cr_assert_str_eq (trace, late ? "l" : "w");
      fibres_end ();
    }
  }
}

static void
spawn_another (void *opaque)
{
  mark ("1");
  fibre_spawn ("second", increment_locked, opaque);
}

Test (fibres, a_fibre_spawns_another)
{
  begin (0);
  fibre_spawn ("first", spawn_another, (void *) "2");
  cr_assert_eq (fibres_run (), FIBRES_DONE);
  cr_assert_str_eq (trace, "12222222222");
  fibres_end ();
}

static void
stop_in_the_middle (void *opaque)
{
  (void) opaque;
  mark ("s");
  fibres_stop ();
}

Test (fibres, stop_leaves_the_others)
{
  static uint64_t never = COW_NEVER;

  begin (0);
  fibre_spawn ("waiter", wait_for_count, &never);
  fibre_spawn ("stopper", stop_in_the_middle, NULL);
  cr_assert_eq (fibres_run (), FIBRES_STOPPED);
  cr_assert_str_eq (trace, "s");
  cr_assert_eq (fibres_run (), FIBRES_DONE);
  fibres_end ();
}

/* -------------------------------------------------------------- what is wrong */

static void
spin (void *opaque)
{
  (void) opaque;
  for (;;)
    cow_yield ();
}

Test (fibres, livelock_is_noticed)
{
  const struct fibres_options options = { .seed = 1, .steps_max = 1000 };

  fibres_begin (&options);
  fibre_spawn ("spinner", spin, NULL);
  cr_assert_eq (fibres_run (), FIBRES_LIVELOCK);
  fibres_end ();
}

static void
take_a (void *opaque)
{
  (void) opaque;
  cow_mutex_lock (&lock_a);
}

static void
give_a (void *opaque)
{
  (void) opaque;
  cow_sleep_ns (1000000);
  cow_mutex_unlock (&lock_a);
}

Test (fibres, unlock_by_another_aborts, .signal = SIGABRT)
{
  begin (0);
  fibre_spawn ("taker", take_a, NULL);
  fibre_spawn ("giver", give_a, NULL);
  fibres_run ();
}

static void
take_a_twice (void *opaque)
{
  (void) opaque;
  cow_mutex_lock (&lock_a);
  cow_mutex_lock (&lock_a);
}

Test (fibres, lock_twice_aborts, .signal = SIGABRT)
{
  begin (0);
  fibre_spawn ("taker", take_a_twice, NULL);
  fibres_run ();
}

/* ------------------------------------------------------------- exploration */

static void
setup (void *opaque)
{
  (void) opaque;
  cow_mutex_init (&lock_a);
  cow_mutex_init (&lock_b);
  cow_cond_init (&cond);
  count = trace_len = 0;
  trace[0] = '\0';
}

static void
two_steps (void *opaque)
{
  base_step ();
  mark (opaque);
  base_step ();
}

/* Three pieces of two fibres each: 6 over 3 orders. */
Test (fibres, every_order_is_explored_once)
{
  static const struct fibre_spec two[] = {
    { "x", two_steps, (void *) "x" }, { "y", two_steps, (void *) "y" },
  };
  const struct fibres_case c = { .setup = setup, .fibres = two, .count = 2 };
  struct fibres_result r = fibres_explore (&c, 100, 0);

  cr_assert (r.right && r.complete);
  cr_assert_eq (r.runs, 20);
  /* Without preemption one runs to its end, then the other. */
  r = fibres_explore (&c, 0, 0);
  cr_assert (r.right && r.complete);
  cr_assert_eq (r.runs, 2);
  r = fibres_explore (&c, 100, 7);
  cr_assert (r.right && !r.complete);
  cr_assert_eq (r.runs, 7);
}

static void
increment_unlocked (void *opaque)
{
  const unsigned seen = count;

  (void) opaque;
  base_step ();
  count = seen + 1;
}

static bool
count_is_2 (void *opaque)
{
  (void) opaque;
  return count == 2;
}

Test (fibres, a_lost_update_is_found)
{
  static const struct fibre_spec two[] = {
    { "x", increment_unlocked, NULL }, { "y", increment_unlocked, NULL },
  };
  const struct fibres_case c = {
    .setup = setup, .check = count_is_2, .fibres = two, .count = 2,
  };

  cr_assert (fibres_explore (&c, 0, 0).right);
  cr_assert_not (fibres_explore (&c, 1, 0).right);
  cr_assert_not (fibres_sample (&c, 0, 1000).right);
}

static void
lock_a_then_b (void *opaque)
{
  (void) opaque;
  LOCK_FOR_SCOPE (&lock_a);
  LOCK_FOR_SCOPE (&lock_b);

  count++;
}

static void
lock_b_then_a (void *opaque)
{
  (void) opaque;
  LOCK_FOR_SCOPE (&lock_b);
  LOCK_FOR_SCOPE (&lock_a);

  count++;
}

Test (fibres, a_deadlock_is_found)
{
  static const struct fibre_spec wrong[] = {
    { "ab", lock_a_then_b, NULL }, { "ba", lock_b_then_a, NULL },
  };
  static const struct fibre_spec right[] = {
    { "ab", lock_a_then_b, NULL }, { "ab too", lock_a_then_b, NULL },
  };
  struct fibres_case c = {
    .setup = setup, .check = count_is_2, .fibres = wrong, .count = 2,
  };
  struct fibres_result r;

  cr_assert (fibres_explore (&c, 0, 0).right);
  cr_assert_not (fibres_explore (&c, 1, 0).right);
  c.fibres = right;
  r = fibres_explore (&c, 10, 0);
  cr_assert (r.right && r.complete);
}

static void
spin_for_count (void *opaque)
{
  (void) opaque;
  while (count == 0)
    cow_yield ();
  count++;
}

static void
count_later (void *opaque)
{
  (void) opaque;
  for (unsigned i = 0; i < 3; i++)
    base_step ();
  count = 1;
}

Test (fibres, a_spinner_lets_others_go_on)
{
  static const struct fibre_spec two[] = {
    { "spinner", spin_for_count, NULL }, { "other", count_later, NULL },
  };
  const struct fibres_case c = {
    .setup = setup, .check = count_is_2, .fibres = two, .count = 2,
    .steps_max = 1000,
  };
  const struct fibres_result r = fibres_explore (&c, 3, 0);

  cr_assert (r.right && r.complete);
}

static void
wait_a_second (void *opaque)
{
  (void) opaque;
  LOCK_FOR_SCOPE (&lock_a);
  const uint64_t deadline = cow_now_ns () + COW_NS_PER_S;

  while (count == 0 && cow_cond_wait_until (&cond, &lock_a, deadline))
    ;
  if (count == 1)
    count = 2;
}

static void
wake (void *opaque)
{
  (void) opaque;
  base_step ();
  LOCK_FOR_SCOPE (&lock_a);

  count = 1;
  cow_cond_broadcast (&cond);
}

/* The waiter is late only if its deadline may pass while the other could go
 * on.
 */
Test (fibres, deadlines_pass_if_allowed)
{
  static const struct fibre_spec two[] = {
    { "waiter", wait_a_second, NULL }, { "waker", wake, NULL },
  };
  struct fibres_case c = {
    .setup = setup, .check = count_is_2, .fibres = two, .count = 2,
  };

  cr_assert (fibres_explore (&c, 2, 0).right);
  c.deadlines_pass = true;
  cr_assert_not (fibres_explore (&c, 2, 0).right);
}
