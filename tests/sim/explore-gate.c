/* explore-gate.c - writers at a gate that is closed twice, in every order.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Writers enter and leave; a switcher closes the gate, decides, and opens it,
 * twice, waiting each time for the writers of earlier epochs; or a deserter
 * closes it and never comes back.  Deadlines pass at any step, so that holds
 * expire under all parties.
 *
 * Checked: nobody is inside in an epoch that has been waited for (G1, G2) or
 * is admitted while the gate is closed for good (G3); nobody waits for ever
 * (G4: that would be a deadlock); a hold is either switched or expired.
 *
 *   explore-gate [--more N] [--seeds N] [--first SEED]
 *
 * --more adds to the preemptions of each case.
 */
#include <config.h>

#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/sync.h"
#include "gate/gate.h"
#include "sim/fibres.h"

#define EPOCH 5u
#define SWITCHES 2u

static struct {
  struct cow_gate gate;
  struct cow_hold hold;
  uint32_t drained;             /* of epochs below nobody is inside */
  bool decided;                 /* between a switch and the opening after it */
  unsigned switched, entered;
} t;

static void
writer (void *opaque)
{
  const unsigned times = *(const unsigned *) opaque;

  for (unsigned i = 0; i < times; i++) {
    struct cow_pass pass;

    cow_gate_enter (&t.gate, 0, 4095, &pass);
    assert (!t.decided || pass.epoch < EPOCH + t.switched);
    assert (pass.epoch >= t.drained);
    t.entered++;
    base_step ();
    assert (pass.epoch >= t.drained);
    cow_gate_leave (&t.gate, &pass);
  }
}

static void
switcher (void *opaque)
{
  (void) opaque;
  for (unsigned i = 0; i < SWITCHES; i++) {
    bool switched;

    cow_hold_begin (&t.hold, cow_now_ns () + COW_NS_PER_S);
    cow_gate_close (&t.gate, &t.hold);
    switched = cow_hold_switch (&t.hold);
    if (switched) {
      t.decided = true;
      t.switched++;
    }
    base_step ();
    t.decided = false;
    cow_gate_open (&t.gate, switched);
    cow_hold_end (&t.hold);
    assert (cow_gate_epoch (&t.gate) == EPOCH + t.switched);
    cow_slots_wait_below (t.gate.slots, EPOCH + t.switched, COW_NEVER);
    t.drained = EPOCH + t.switched;
  }
}

static void
deserter (void *opaque)
{
  (void) opaque;
  cow_hold_begin (&t.hold, cow_now_ns () + COW_NS_PER_S);
  cow_gate_close (&t.gate, &t.hold);
}

static void
setup (void *opaque)
{
  (void) opaque;
  memset (&t, 0, sizeof t);
  if (cow_gate_init (&t.gate, EPOCH) < 0)
    abort ();
  cow_hold_init (&t.hold);
}

static bool
check (void *opaque)
{
  const unsigned expected = *(const unsigned *) opaque;

  return t.entered == expected &&
         !cow_slots_below (t.gate.slots, UINT32_MAX) &&
         cow_gate_epoch (&t.gate) == EPOCH + t.switched &&
         atomic_load (&t.gate.held) == 0 &&
         atomic_load (&t.hold.waiters) == 0;
}

static void
teardown (void *opaque)
{
  (void) opaque;
  cow_gate_clear (&t.gate);
  cow_hold_destroy (&t.hold);
}

static unsigned once = 1, often = 3;

static const struct fibre_spec two_writers[] = {
  { "writer", writer, &once }, { "other writer", writer, &once },
  { "switcher", switcher, NULL },
};
static const struct fibre_spec one_writer[] = {
  { "writer", writer, &once }, { "switcher", switcher, NULL },
};
static const struct fibre_spec deserted[] = {
  { "writer", writer, &once }, { "other writer", writer, &once },
  { "deserter", deserter, NULL },
};
static const struct fibre_spec busy[] = {
  { "writer", writer, &often }, { "other writer", writer, &often },
  { "switcher", switcher, NULL },
};

static const struct {
  const char *name;
  const struct fibre_spec *fibres;
  unsigned count, entries;
  unsigned preemptions;
} cases[] = {
  { "two writers, two switches", two_writers, 3, 2, 2 },
  { "one writer, two switches", one_writer, 2, 1, 4 },
  { "two writers, a hold that is left", deserted, 3, 2, 2 },
};

static bool
told (const char *name, const char *how, const struct fibres_result *r)
{
  if (r->runs > 0)
    printf ("%s: %" PRIu64 " schedules %s, %" PRIu64 " steps each: %s\n",
            name, r->runs, how, r->steps / r->runs,
            r->right ? "right" : "WRONG");
  return r->right;
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "more", required_argument, NULL, 'm' },
    { "seeds", required_argument, NULL, 's' },
    { "first", required_argument, NULL, 'f' },
    { NULL, 0, NULL, 0 },
  };
  unsigned entries;
  struct fibres_case c = {
    .setup = setup, .check = check, .teardown = teardown, .opaque = &entries,
    .deadlines_pass = true,
  };
  uint64_t more = 0, seeds = 20000, first_seed = 1;
  struct fibres_result r;
  int opt;

  while ((opt = getopt_long (argc, argv, "", options, NULL)) != -1) {
    uint64_t *to = opt == 'm' ? &more : opt == 's' ? &seeds
                 : opt == 'f' ? &first_seed : NULL;

    if (to == NULL)
      return 2;
    *to = strtoull (optarg, NULL, 0);
  }

  for (size_t i = 0; i < COW_ARRAY_SIZE (cases); i++) {
    c.fibres = cases[i].fibres;
    c.count = cases[i].count;
    entries = cases[i].entries;
    r = fibres_explore (&c, cases[i].preemptions + (unsigned) more, 0);
    if (!told (cases[i].name, r.complete ? "(all within the bound)" : "", &r))
      return 1;
  }

  c.fibres = busy;
  c.count = 3;
  entries = 2 * often;
  r = fibres_sample (&c, first_seed, seeds);
  if (!told ("busy writers", "drawn", &r)) {
    printf ("repeat it: %s --seeds 1 --first %" PRIu64 "\n", argv[0],
            first_seed + r.runs - 1);
    return 1;
  }
  return 0;
}
