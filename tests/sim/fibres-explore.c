/* fibres-explore.c - every schedule of a small case, or a sample of them.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A run is decided by its choices: at each step, which of those that can go on
 * does.  The first run always takes the first alternative (the fibre that was
 * running, if it can).  The next run repeats the choices up to the last one
 * that has an alternative left within the bound, takes that, and goes on with
 * first ones; and so depth-first until none is left.
 *
 * What costs a preemption: to let a fibre that could go on wait for another,
 * and to let a deadline pass while somebody could go on.
 */
#include <config.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/sync.h"
#include "sim/fibres-priv.h"
#include "sim/fibres.h"

#define CASE_STEPS_MAX 100000

/* A choice with more than one alternative. */
struct point {
  uint8_t fibre[FIBRES_MAX];    /* what may be chosen, the first first */
  uint8_t count;
  uint8_t free_count;           /* so many of them cost nothing */
  uint8_t taken;                /* index into fibre[] */
  unsigned spent;               /* preemptions before this point */
};

static struct {
  struct point *point;
  size_t count, room;
  size_t at;                    /* the next one of this run */
  unsigned spent, max_preemptions;
  bool deadlines_pass;
  const struct fibres_case *c;
} dfs;

static void
new_point (const struct fibres_choice *choice)
{
  struct point *p;

  if (dfs.count == dfs.room) {
    dfs.room = dfs.room ? 2 * dfs.room : 1024;
    dfs.point = realloc (dfs.point, dfs.room * sizeof *dfs.point);
    assert (dfs.point);
  }
  p = &dfs.point[dfs.count++];
  *p = (struct point) { .spent = dfs.spent };
  if (choice->current)
    p->fibre[p->count++] = choice->current;
  for (unsigned i = 0; i < choice->count; i++) {
    if (choice->fibre[i] != choice->current)
      p->fibre[p->count++] = choice->fibre[i];
  }
  p->free_count = choice->current ? 1 : p->count;
  if (dfs.deadlines_pass) {
    for (unsigned i = 0; i < choice->late_count; i++)
      p->fibre[p->count++] = choice->late[i];
  }
}

static uint8_t
choose (const struct fibres_choice *choice)
{
  const unsigned late = dfs.deadlines_pass ? choice->late_count : 0;
  const struct point *p;

  if (choice->count + late == 1)
    return choice->fibre[0];
  if (dfs.at == dfs.count)
    new_point (choice);
  p = &dfs.point[dfs.at++];
  /* Else the bodies depend on more than their steps. */
  assert (p->spent == dfs.spent && p->count == choice->count + late);
  dfs.spent += p->taken >= p->free_count;
  return p->fibre[p->taken];
}

/* Turn to the next schedule; false when there is none. */
static bool
next_schedule (void)
{
  while (dfs.count > 0) {
    struct point *p = &dfs.point[dfs.count - 1];

    p->taken++;
    if (p->taken < p->count &&
        (p->taken < p->free_count || p->spent < dfs.max_preemptions))
      return true;
    dfs.count--;
  }
  return false;
}

/* The choices of this run so far, as numbers of fibres. */
static void
describe_schedule (void)
{
  fibres_say ("the schedule");
  for (size_t i = 0; i < dfs.at; i++) {
    fibres_say (" ");
    fibres_say_number (dfs.point[i].fibre[dfs.point[i].taken]);
  }
  fibres_say (" (1 is ");
  fibres_say (dfs.c->fibres[0].name);
  fibres_say (")");
}

static bool
run_once (const struct fibres_case *c, const struct fibres_options *options,
          fibres_chooser chooser, void (*describe) (void),
          struct fibres_result *result)
{
  enum fibres_verdict verdict;
  bool right;

  fibres_begin_by (options, chooser, describe);
  if (c->setup)
    c->setup (c->opaque);
  for (unsigned i = 0; i < c->count; i++)
    fibre_spawn (c->fibres[i].name, c->fibres[i].body, c->fibres[i].opaque);
  verdict = fibres_run ();
  right = verdict == FIBRES_DONE;
  if (right && c->check && !c->check (c->opaque)) {
    right = false;
    fibres_say ("fibres: wrong after ");
    if (describe)
      describe ();
    else {
      fibres_say ("seed ");
      fibres_say_number (options->seed);
    }
    fibres_say ("\n");
  }
  /* What stuck fibres hold can't be taken down. */
  if (c->teardown && verdict == FIBRES_DONE)
    c->teardown (c->opaque);
  result->runs++;
  result->steps += fibres_steps ();
  fibres_end ();
  return right;
}

static uint64_t
steps_max (const struct fibres_case *c)
{
  return c->steps_max ? c->steps_max : CASE_STEPS_MAX;
}

struct fibres_result
fibres_explore (const struct fibres_case *c, unsigned max_preemptions,
                uint64_t runs_max)
{
  const struct fibres_options options = { .steps_max = steps_max (c) };
  struct fibres_result result = { .right = true };

  assert (c->count > 0);
  dfs.c = c;
  dfs.count = 0;
  dfs.max_preemptions = max_preemptions;
  dfs.deadlines_pass = c->deadlines_pass;
  do {
    if (runs_max > 0 && result.runs == runs_max)
      goto out;
    dfs.at = 0;
    dfs.spent = 0;
    result.right =
      run_once (c, &options, choose, describe_schedule, &result);
    if (!result.right)
      goto out;
  } while (next_schedule ());
  result.complete = true;
 out:
  free (dfs.point);
  dfs.point = NULL;
  dfs.count = dfs.room = 0;
  return result;
}

struct fibres_result
fibres_sample (const struct fibres_case *c, uint64_t first, uint64_t runs)
{
  struct fibres_options options = {
    .steps_max = steps_max (c),
    .stall_one_in = c->deadlines_pass ? 64 : 0,
  };
  struct fibres_result result = { .right = true };

  while (result.runs < runs && result.right) {
    options.seed = first + result.runs;
    result.right = run_once (c, &options, NULL, NULL, &result);
  }
  return result;
}
