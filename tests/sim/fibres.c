/* fibres.c - the simulator of clients: contexts, clock, seeded choice.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Fibre 0 is the test itself: it starts a run and gets control back with the
 * verdict.  A fibre that makes a step asks who is next and changes to that
 * fibre's context at once; most often it is itself, and nothing changes.
 *
 * Waiting is polling by the simulator: a parked fibre can go on when the
 * number that it watches has changed, or the clock has reached its deadline.
 * cow_cond_signal() so wakes all who wait, which they must bear.
 *
 * The sanitizers are told of each change of stack.
 */
#include <config.h>

#include <assert.h>
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/sync.h"
#include "sim/fibres-priv.h"
#include "sim/fibres.h"
#include "sim/sanitizers.h"

#ifndef COW_SIM
#error "compile with -DCOW_SIM and link with libcowcore-sim"
#endif

#define STACK_BYTES (256 * 1024)
#define GUARD_BYTES 4096
#define STEPS_MAX UINT64_C (10000000)

/* The clock's beginning: not 0, which many take for "never yet". */
#define CLOCK_BEGIN_NS COW_NS_PER_S

enum state {
  UNUSED,
  READY,
  PARKED,
};

struct fibre {
  enum state state;
  const char *name;
  fibre_body body;
  void *opaque;
  bool yielded;                 /* and nobody else has run since */

  /* PARKED: until *turn differs from seen, or deadline_ns. */
  const unsigned *turn;
  unsigned seen;
  uint64_t deadline_ns;

  unsigned priority;            /* of the seed's policy "by priority" */

  ucontext_t context;
  struct sim_stack stack;
};

static struct {
  struct fibre fibre[FIBRES_MAX + 1];
  uint8_t current;
  bool begun;
  bool reporting;               /* a resumed fibre only says where it is */
  bool stays;                   /* the current one, at steps */
  enum fibres_verdict verdict;

  uint64_t now_ns, steps, steps_max;
  unsigned stall_one_in;

  uint64_t seed;
  uint64_t schedule_random;     /* who runs */
  uint64_t core_random;         /* what cow_random() gives */
  uint64_t test_random;         /* what fibres_draw() gives */

  fibres_chooser chooser;
  void (*describe) (void);

  /* The seed's policy. */
  unsigned switch_one_in;       /* 0: by priority */

  struct sigaction old_abort;
} sim;

/* ------------------------------------------------------------------ saying */

void
fibres_say (const char *text)
{
  if (write (STDERR_FILENO, text, strlen (text)) == -1)
    return;
}

void
fibres_say_number (uint64_t n)
{
  char text[21], *p = text + sizeof text - 1;

  *p = '\0';
  do
    *--p = (char) ('0' + n % 10);
  while ((n /= 10) > 0);
  fibres_say (p);
}

static void
say_seed (void)
{
  fibres_say ("seed ");
  fibres_say_number (sim.seed);
}

static void
say_run (const char *what)
{
  fibres_say ("fibres: ");
  fibres_say (what);
  fibres_say (" in ");
  fibres_say (fibre_name ());
  fibres_say (" at step ");
  fibres_say_number (sim.steps);
  fibres_say (" of ");
  (sim.describe ? sim.describe : say_seed) ();
  fibres_say ("\n");
}

static void
on_abort (int sig)
{
  (void) sig;
  say_run ("aborted");
}

/* --------------------------------------------------------------- contexts */

/* The fibre that has just got control finishes the change. */
static void
arrived (uint8_t from)
{
  sim_stack_arrived (&sim.fibre[sim.current].stack, &sim.fibre[from].stack);
}

static uint8_t last_current;

static void
change_to (uint8_t next, bool ending)
{
  struct fibre *prev = &sim.fibre[sim.current];

  last_current = sim.current;
  sim.current = next;
  sim_stack_leave (&prev->stack, &sim.fibre[next].stack, ending);
  if (ending)
    setcontext (&sim.fibre[next].context);
  else
    sim_swapcontext (&prev->context, &sim.fibre[next].context);
  arrived (last_current);
}

static void
report_here (void)
{
  void *frames[32];
  const int n = backtrace (frames, COW_ARRAY_SIZE (frames));

  backtrace_symbols_fd (frames, n, STDERR_FILENO);
}

static uint8_t pick (void);

/* Somebody may run now, perhaps the caller. */
static void
reschedule (void)
{
  const uint8_t self = sim.current;
  const uint8_t next = pick ();

  if (next == self)
    return;
  change_to (next, false);
  while (sim.reporting) {
    report_here ();
    change_to (0, false);
  }
}

static void
fibre_main (void)
{
  struct fibre *f = &sim.fibre[sim.current];

  arrived (last_current);
  if (!sim.reporting)
    f->body (f->opaque);
  f->state = UNUSED;
  change_to (sim.reporting ? 0 : pick (), true);
}

static void
make_context (struct fibre *f)
{
  if (f->stack.mapping == NULL) {
    char *map = mmap (NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

    if (map == MAP_FAILED || mprotect (map, GUARD_BYTES, PROT_NONE) == -1) {
      perror ("fibres: stack");
      abort ();
    }
    f->stack.mapping = map;
    f->stack.bottom = map + GUARD_BYTES;
    f->stack.bytes = STACK_BYTES;
  }
  sim_stack_fresh (&f->stack);
  getcontext (&f->context);
  f->context.uc_stack.ss_sp = (void *) f->stack.bottom;
  f->context.uc_stack.ss_size = STACK_BYTES;
  f->context.uc_link = NULL;
  makecontext (&f->context, fibre_main, 0);
}

/* ---------------------------------------------------------------- choosing */

static bool
can_go_on (const struct fibre *f)
{
  return f->state == READY ||
         (f->state == PARKED &&
          (*f->turn != f->seen || f->deadline_ns <= sim.now_ns));
}

/* By the seed: now and then another one, drawn; or the one of the highest
 * priority, which now and then loses it.
 */
static uint8_t
choose_by_seed (const struct fibres_choice *c)
{
  uint64_t *r = &sim.schedule_random;
  uint8_t best;

  if (sim.switch_one_in > 0) {
    if (c->current && sim_random_below (r, sim.switch_one_in) != 0)
      return c->current;
    return c->fibre[sim_random_below (r, c->count)];
  }
  if (c->current && sim_random_below (r, 64) == 0)
    sim.fibre[c->current].priority = 0;
  best = c->fibre[0];
  for (unsigned i = 1; i < c->count; i++) {
    if (sim.fibre[c->fibre[i]].priority > sim.fibre[best].priority)
      best = c->fibre[i];
  }
  if (sim.fibre[best].priority == 0 && sim_random_below (r, 16) == 0)
    sim.fibre[best].priority = 1 + (unsigned) sim_random_below (r, 1000);
  return best;
}

static void
gather (struct fibres_choice *c, bool with_yielded)
{
  c->count = c->late_count = 0;
  c->current = 0;
  for (uint8_t i = 1; i <= FIBRES_MAX; i++) {
    const struct fibre *f = &sim.fibre[i];

    if (can_go_on (f)) {
      if (f->yielded && !with_yielded)
        continue;
      c->fibre[c->count++] = i;
      if (i == sim.current)
        c->current = i;
    }
    else if (f->state == PARKED && f->deadline_ns != COW_NEVER)
      c->late[c->late_count++] = i;
  }
}

/* The next deadline becomes now. */
static void
jump (const struct fibres_choice *c)
{
  uint64_t next = COW_NEVER;

  for (unsigned i = 0; i < c->late_count; i++)
    next = COW_MIN (next, sim.fibre[c->late[i]].deadline_ns);
  sim.now_ns = COW_MAX (sim.now_ns, next);
}

static uint8_t
end_run (enum fibres_verdict verdict)
{
  sim.verdict = verdict;
  return 0;
}

static uint8_t
pick (void)
{
  struct fibres_choice c;
  uint8_t next;

  if (sim.steps++ >= sim.steps_max)
    return end_run (FIBRES_LIVELOCK);
  sim.now_ns += sim.chooser
                  ? 100
                  : 1 + sim_random_below (&sim.schedule_random, 200);

  gather (&c, false);
  if (c.late_count > 0 && sim.stall_one_in > 0 && !sim.chooser &&
      sim_random_below (&sim.schedule_random, sim.stall_one_in) == 0) {
    jump (&c);
    gather (&c, false);
  }
  /* Those who yielded get nowhere: time passes sooner than they run. */
  if (c.count == 0 && c.late_count > 0) {
    jump (&c);
    gather (&c, false);
  }
  if (c.count == 0)
    gather (&c, true);
  if (c.count == 0) {
    for (uint8_t i = 1; i <= FIBRES_MAX; i++) {
      if (sim.fibre[i].state != UNUSED)
        return end_run (FIBRES_DEADLOCK);
    }
    return end_run (FIBRES_DONE);
  }

  next = sim.chooser ? sim.chooser (&c) : choose_by_seed (&c);
  for (uint8_t i = 1; i <= FIBRES_MAX; i++)
    sim.fibre[i].yielded = false;
  if (!can_go_on (&sim.fibre[next]))
    sim.now_ns = sim.fibre[next].deadline_ns;
  return next;
}

/* --------------------------------------------------- what cow_sim is asked */

static int
sim_self (void)
{
  return sim.current;
}

static void
sim_step (void)
{
  if (sim.current != 0 && !sim.stays)
    reschedule ();
}

static void
sim_yield (void)
{
  if (sim.current == 0)
    return;
  sim.fibre[sim.current].yielded = true;
  reschedule ();
}

/* Outside of fibres time passes, and nothing else happens meanwhile. */
static bool
park_outside (const unsigned *turn, unsigned seen, uint64_t deadline_ns)
{
  if (*turn != seen)
    return true;
  if (deadline_ns == COW_NEVER) {
    fibres_say ("fibres: the simulator itself was made to wait\n");
    abort ();
  }
  sim.now_ns = COW_MAX (sim.now_ns, deadline_ns);
  return false;
}

static bool
sim_park (const unsigned *turn, unsigned seen, uint64_t deadline_ns)
{
  struct fibre *f = &sim.fibre[sim.current];
  bool stays;

  if (sim.current == 0)
    return park_outside (turn, seen, deadline_ns);
  f->turn = turn;
  f->seen = seen;
  f->deadline_ns = deadline_ns;
  f->state = PARKED;
  stays = fibres_stay (false);
  reschedule ();
  sim.stays = stays;
  f->state = READY;
  return *turn != seen;
}

static uint64_t
sim_now_ns (void)
{
  return sim.now_ns;
}

static void
sim_random (void *buf, size_t len)
{
  uint8_t *p = buf;

  for (size_t i = 0; i < len; i++)
    p[i] = (uint8_t) (sim_random_next (&sim.core_random) >> 32);
}

static const struct cow_sim_ops sim_ops = {
  .self = sim_self,
  .step = sim_step,
  .yield = sim_yield,
  .park = sim_park,
  .now_ns = sim_now_ns,
  .random = sim_random,
};

/* ------------------------------------------------------------- for the test */

void
fibres_begin_by (const struct fibres_options *options, fibres_chooser chooser,
                 void (*describe) (void))
{
  static const unsigned policies[] = { 1, 2, 8, 32, 0 };
  struct sigaction act = { .sa_handler = on_abort };
  uint64_t seed = options->seed;

  assert (!sim.begun && cow_sim == NULL);
  sim.begun = true;
  sim.seed = seed;
  sim.schedule_random = sim_random_next (&seed);
  sim.core_random = sim_random_next (&seed);
  sim.test_random = sim_random_next (&seed);
  sim.switch_one_in =
    policies[sim_random_below (&seed, COW_ARRAY_SIZE (policies))];
  sim.now_ns = CLOCK_BEGIN_NS;
  sim.steps = 0;
  sim.steps_max = options->steps_max ? options->steps_max : STEPS_MAX;
  sim.stall_one_in = options->stall_one_in;
  sim.chooser = chooser;
  sim.describe = describe;
  sim.current = 0;
  sim.stays = false;
  sim_sanitizers_init ();
  sim_stack_main (&sim.fibre[0].stack);
  sigaction (SIGABRT, &act, &sim.old_abort);
  cow_sim = &sim_ops;
}

void
fibres_begin (const struct fibres_options *options)
{
  fibres_begin_by (options, NULL, NULL);
}

void
fibre_spawn (const char *name, fibre_body body, void *opaque)
{
  struct fibre *f = &sim.fibre[1];

  assert (sim.begun);
  while (f->state != UNUSED) {
    f++;
    assert (f <= &sim.fibre[FIBRES_MAX]);
  }
  f->state = READY;
  f->name = name;
  f->body = body;
  f->opaque = opaque;
  f->yielded = false;
  f->priority = 1 + (unsigned) sim_random_below (&sim.schedule_random, 1000);
  make_context (f);
}

static void
report (void)
{
  static const char *const what[] = {
    [FIBRES_DEADLOCK] = "deadlock",
    [FIBRES_LIVELOCK] = "livelock",
  };

  say_run (what[sim.verdict]);
  for (uint8_t i = 1; i <= FIBRES_MAX; i++) {
    struct fibre *f = &sim.fibre[i];

    if (f->state == UNUSED)
      continue;
    fibres_say ("fibres: ");
    fibres_say (f->name);
    fibres_say (f->state == READY ? " could go on, in\n" : " waits, in\n");
    sim.reporting = true;
    change_to (i, false);
    sim.reporting = false;
  }
}

enum fibres_verdict
fibres_run (void)
{
  uint8_t next;

  assert (sim.begun && sim.current == 0);
  next = pick ();
  if (next != 0)
    change_to (next, false);
  if (sim.verdict == FIBRES_DEADLOCK || sim.verdict == FIBRES_LIVELOCK)
    report ();
  if (sim.verdict != FIBRES_DONE) {
    for (uint8_t i = 1; i <= FIBRES_MAX; i++)
      sim.fibre[i].state = UNUSED;
  }
  return sim.verdict;
}

void
fibres_stop (void)
{
  assert (sim.current != 0);
  sim.verdict = FIBRES_STOPPED;
  change_to (0, false);
  abort ();
}

void
fibres_end (void)
{
  assert (sim.begun && sim.current == 0);
  /* The stacks are kept for the next run. */
  for (uint8_t i = 1; i <= FIBRES_MAX; i++)
    sim.fibre[i].state = UNUSED;
  sigaction (SIGABRT, &sim.old_abort, NULL);
  cow_sim = NULL;
  sim.begun = false;
}

bool
fibres_stay (bool on)
{
  const bool was = sim.stays;

  sim.stays = on;
  return was;
}

bool
fibres_inside (void)
{
  return sim.begun && sim.current != 0;
}

const char *
fibre_name (void)
{
  return sim.current == 0 ? "the simulator" : sim.fibre[sim.current].name;
}

uint64_t
fibres_steps (void)
{
  return sim.steps;
}

uint64_t
fibres_now_ns (void)
{
  return sim.now_ns;
}

uint64_t
fibres_draw (uint64_t n)
{
  return sim_random_below (&sim.test_random, n);
}
