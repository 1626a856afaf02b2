/* crash.c - crashes at every I/O: of all short runs, and of runs by chance.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   crash
 *       some of both, as a part of the tests
 *   crash --exhaustive [--length N] [--first N] [--runs N]
 *       two volumes of four blocks with a snapshot; one client, every sequence
 *       of N operations
 *   crash --crowd [--seed N] [--runs N] [--lives N]
 *       the same with many clients on few blocks, and few crashes: what goes
 *       wrong between them is found by many runs
 *   crash --random [--seed N] [--runs N] [--lives N]
 *       what a run is like, and what happens in it, is drawn; after a crash
 *       life goes on
 *
 * --seconds N ends it after that time, --states N when so many distinct states
 * were judged; --jobs N: processes that share the runs (as many as processors); --life N --state NAME judges one state only.  A failure prints the line
 * that repeats it.  See crash.h for what is judged.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "sim/crash.h"
#include "sim/fibres.h"
#include "sim/random.h"

#define UNIT 512u
#define BLOCK 4096u
/* Of a run without arguments: states, and how long chance has at least. */
#define SOME_STATES 200000u
#define SOME_SECONDS 30u
#define CROWD_SECONDS 20u

static struct {
  const char *program;
  bool exhaustive, random, crowded;
  unsigned length;
  uint64_t first, runs, seconds, states, lives;
  bool states_too;              /* over when both are reached */
  unsigned jobs, job;           /* of several, this one */
  time_t began;
  char repeat[256];             /* the run, without the state */
  char checking[STATE_NAME_MAX];
} d = { .length = 2, .lives = 2 };

/* --------------------------------------------------------------- reports */

void
crash_now_checking (const char *state)
{
  snprintf (d.checking, sizeof d.checking, "%s", state);
}

static void
say_how_to_repeat (void)
{
  const bool in_state = d.checking[0] >= '0' && d.checking[0] <= '9';
  char text[512];
  int n;

  n = snprintf (text, sizeof text, "crash: in %s of life %u; repeat it: %s",
                d.checking, run.life, d.repeat);
  if (in_state)
    n += snprintf (text + n, sizeof text - (size_t) n, " --life %u --state %s",
                   run.life, d.checking);
  n += snprintf (text + n, sizeof text - (size_t) n, "\n");
  if (n > 0 && write (STDERR_FILENO, text, (size_t) n) < 0)
    _exit (2);
}

void
crash_wrong (const char *fmt, ...)
{
  va_list args;

  fflush (stdout);
  fprintf (stderr, "crash: ");
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fprintf (stderr, "\n");
  say_how_to_repeat ();
  _exit (1);
}

/* An assertion of the engine, or worse. */
static void
on_signal (int sig)
{
  signal (sig, SIG_DFL);
  say_how_to_repeat ();
  raise (sig);
}

void
crash_catch_signals (void)
{
  signal (SIGABRT, on_signal);
  signal (SIGSEGV, on_signal);
}

static bool
is_over (void)
{
  const bool late
    = d.seconds > 0 && (uint64_t) (time (NULL) - d.began) >= d.seconds;
  const bool enough = d.states > 0 && stats.distinct * d.jobs >= d.states;

  return d.states_too ? late && (enough || d.states == 0) : late || enough;
}

/* Of all runs each job does its share. */
static bool
is_mine (uint64_t n)
{
  return n % d.jobs == d.job;
}

/* ------------------------------------------------- every short sequence */

/* What a client may do, on one volume and one block, or on all. */
enum kind {
  WRITES, WRITES_A_PART, WRITES_FUA, WRITES_TWO, ZEROES, ZEROES_A_PART, TRIMS,
  FLUSHES, MAKES_A_SET, GIVES_UP_A_SET, DELETES_OLDEST, DELETES_NEWEST,
};

struct operation {
  enum kind kind;
  unsigned v, block;            /* or the set's members */
};

#define VOLUMES 2u
#define BLOCKS 4u

static const struct crash_features small = {
  .volumes = VOLUMES,
  .size_bytes = { BLOCKS * BLOCK, BLOCKS * BLOCK - UNIT },
  .block_bytes = BLOCK, .unit_bytes = UNIT,
  .ring_segments = 2, .store_limit_bytes = 8u << 20,
  .holes = true, .persistent = true, .journal_bytes = 64 << 10,
  .segment_blocks = 4,
  .draws = 3,
};

static struct operation operation[80];
static unsigned operations;
static unsigned sequence[8], sequence_length;

static void
list_operations (void)
{
  for (unsigned kind = WRITES; kind <= FLUSHES; kind++)
    for (unsigned v = 0; v < VOLUMES; v++)
      for (unsigned block = 0; block < BLOCKS; block++) {
        if (kind == FLUSHES && block > 0)
          continue;
        if ((kind == WRITES_TWO || kind == WRITES_FUA) && block % 2 == 1)
          continue;
        operation[operations++] = (struct operation) { kind, v, block };
      }
  for (unsigned members = 1; members < 1u << VOLUMES; members++)
    operation[operations++]
      = (struct operation) { MAKES_A_SET, members, 0 };
  operation[operations++] = (struct operation) { GIVES_UP_A_SET, 3, 5 };
  operation[operations++] = (struct operation) { DELETES_OLDEST, 0, 0 };
  operation[operations++] = (struct operation) { DELETES_NEWEST, 0, 0 };
  assert (operations <= COW_ARRAY_SIZE (operation));
}

static void
delete_one (bool newest)
{
  struct mset *found = NULL;

  for (unsigned i = 0; i < model.sets; i++)
    if (model.set[i].finished != NEVER && model.set[i].end == NEVER
        && (newest || found == NULL))
      found = &model.set[i];
  if (found != NULL)
    client_delete_set (found);
}

static void
operate (const struct operation *o)
{
  const unsigned block = BLOCK / UNIT, at = o->block * block;
  const unsigned rest = COW_MIN (block, o->kind <= TRIMS
                                          ? model.units[o->v] - at : block);

  switch (o->kind) {
  case WRITES:
    client_change (CHANGE_WRITE, o->v, at, rest, 0);
    break;
  case WRITES_A_PART:
    client_change (CHANGE_WRITE, o->v, at + 2, 3, 0);
    break;
  case WRITES_FUA:
    client_change (CHANGE_WRITE, o->v, at, rest, COW_FUA);
    break;
  case WRITES_TWO:
    client_change (CHANGE_WRITE, o->v, at + 4, block, 0);
    break;
  case ZEROES:
    client_change (CHANGE_ZERO, o->v, at, rest, COW_MAY_TRIM);
    break;
  case ZEROES_A_PART:
    client_change (CHANGE_ZERO, o->v, at + 1, 2, 0);
    break;
  case TRIMS:
    client_change (CHANGE_TRIM, o->v, at, rest, 0);
    break;
  case FLUSHES:
    client_flush (o->v);
    break;
  case MAKES_A_SET:
    client_make_set (o->v, run.f->persistent, 0);
    break;
  case GIVES_UP_A_SET:
    client_make_set (o->v, run.f->persistent, o->block);
    break;
  case DELETES_OLDEST:
  case DELETES_NEWEST:
    delete_one (o->kind == DELETES_NEWEST);
    break;
  }
}

static void
one_by_one (void *opaque)
{
  (void) opaque;
  client_make_set (3, run.f->persistent, 0);
  run.watching = true;
  for (unsigned i = 0; i < sequence_length; i++)
    operate (&operation[sequence[i]]);
  client_read_all ();
  run.done = true;
  cow_engine_wake (run.engine);
}

static void
spawn_one (void)
{
  fibre_spawn ("client", one_by_one, NULL);
}

static void
run_exhaustive (unsigned length)
{
  uint64_t count = 1;

  sequence_length = length;
  for (unsigned i = 0; i < length; i++)
    count *= operations;
  for (uint64_t n = d.first; n < count && !is_over (); n++) {
    uint64_t rest = n;

    if (d.runs > 0 && n >= d.first + d.runs)
      break;
    if (!is_mine (n))
      continue;
    for (unsigned i = 0; i < length; i++, rest /= operations)
      sequence[i] = (unsigned) (rest % operations);
    snprintf (d.repeat, sizeof d.repeat,
              "%s --exhaustive --length %u --first %" PRIu64 " --runs 1",
              d.program, length, n);
    model_begin (&small);
    run_life (&small, (uint64_t) length << 32 | n, 0, NULL,
              spawn_one, NULL);
    model_end ();
  }
}

/* --------------------------------------------------------- runs by chance */

static void
run_random (uint64_t seed)
{
  struct crash_features f;
  struct state *left = NULL;

  snprintf (d.repeat, sizeof d.repeat,
            "%s --%s --seed %" PRIu64 " --runs 1 --lives %" PRIu64,
            d.program, d.crowded ? "crowd" : "random", seed, d.lives);
  (d.crowded ? draw_crowd : draw_features) (seed, &f);
  model_begin (&f);
  for (uint64_t life = 0; life < d.lives; life++) {
    struct sim_disk *disk = left ? left->disk : NULL;

    if (life > 0 && left == NULL)
      break;
    free (left);
    left = NULL;
    run_life (&f, seed * 16, (unsigned) life, disk, clients_spawn,
              life + 1 < d.lives ? &left : NULL);
  }
  model_end ();
}

/* ------------------------------------------------------------------- main */

static void
report (const char *what)
{
  printf ("%s: %" PRIu64 " runs of %" PRIu64 " I/Os, %" PRIu64 " states drawn, "
          "%" PRIu64 " judged, %" PRIu64 " distinct (%" PRIu64 " within "
          "recovery), "
          "%" PRIu64 " snapshots compared, %ld s\n",
          what, stats.runs, stats.steps, stats.drawn, stats.judged,
          stats.distinct,
          stats.inside, stats.sets, (long) (time (NULL) - d.began));
  fflush (stdout);
}

static void
work (void)
{
  if (d.exhaustive)
    run_exhaustive (d.length);
  for (uint64_t n = 0;
       (d.random || d.crowded) && (d.runs == 0 || n < d.runs) && !is_over (); n++)
    if (is_mine (n))
      run_random (d.first + n);
}

static void
add_stats (const struct crash_stats *s)
{
  stats.runs += s->runs;
  stats.steps += s->steps;
  stats.drawn += s->drawn;
  stats.distinct += s->distinct;
  stats.judged += s->judged;
  stats.inside += s->inside;
  stats.sets += s->sets;
}

/* Each job in a process of its own: whether all is right. */
static bool
work_in_jobs (void)
{
  bool right = true;
  int ends[2];

  if (pipe (ends) == -1)
    return false;
  fflush (stdout);
  for (d.job = 0; d.job < d.jobs; d.job++)
    if (fork () == 0) {
      prctl (PR_SET_PDEATHSIG, SIGKILL);
      work ();
      _exit (write (ends[1], &stats, sizeof stats)
             == (ssize_t) sizeof stats ? 0 : 2);
    }
  close (ends[1]);
  for (unsigned i = 0; i < d.jobs; i++) {
    struct crash_stats s;
    int status;

    right &= wait (&status) > 0 && status == 0;
    if (read (ends[0], &s, sizeof s) == (ssize_t) sizeof s)
      add_stats (&s);
  }
  close (ends[0]);
  return right;
}

static bool
work_and_report (const char *what)
{
  bool right = true;

  memset (&stats, 0, sizeof stats);
  d.began = time (NULL);
  if (d.jobs > 1)
    right = work_in_jobs ();
  else
    work ();
  report (what);
  return right;
}

#if defined __SANITIZE_ADDRESS__
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* Crowds that found something, as long as what is drawn for them stays as it is:
 * a set that was lost and did not say why; a writer who waited for the ring
 * after a checkpoint, with what it took to make room in his own hands.
 */
static const uint64_t once_wrong[] = { 5638, 40743 };

/* A share of everything, within the time that a test has: every operation and
 * every pair of them, crowds, chance.  A slow machine takes longer; a sanitizer's
 * program does less.
 */
static bool
do_some (void)
{
  uint64_t distinct;
  bool right;

  d.exhaustive = true;
  d.length = 1;
  right = work_and_report ("every operation");
  distinct = stats.distinct;
  d.length = 2;
  d.seconds = SANITIZED ? 20 : 0;
  right = right && work_and_report ("every pair of operations");
  distinct += stats.distinct;
  d.exhaustive = false;
  d.first = 1;
  printf ("seed %" PRIu64 "\n", d.first);
  d.crowded = true;
  for (unsigned i = 0; right && i < COW_ARRAY_SIZE (once_wrong); i++)
    run_random (once_wrong[i]);
  d.seconds = CROWD_SECONDS;
  right = right && work_and_report ("crowds");
  distinct += stats.distinct;
  d.crowded = false;
  d.random = true;
  d.seconds = SANITIZED ? 20 : SOME_SECONDS;
  d.states_too = !SANITIZED;
  d.states = distinct < SOME_STATES ? SOME_STATES - distinct : 0;
  right = right && work_and_report ("by chance");
  distinct += stats.distinct;
  printf ("together: %" PRIu64 " distinct states\n", distinct);
  return right;
}

static const struct option options[] = {
  { "exhaustive", no_argument, NULL, 'e' },
  { "random", no_argument, NULL, 'r' },
  { "crowd", no_argument, NULL, 'c' },
  { "length", required_argument, NULL, 'l' },
  { "first", required_argument, NULL, 'f' },
  { "seed", required_argument, NULL, 'f' },
  { "runs", required_argument, NULL, 'n' },
  { "lives", required_argument, NULL, 'L' },
  { "jobs", required_argument, NULL, 'j' },
  { "seconds", required_argument, NULL, 's' },
  { "states", required_argument, NULL, 'S' },
  { "life", required_argument, NULL, 'i' },
  { "state", required_argument, NULL, 'o' },
  { NULL, 0, NULL, 0 },
};

int
main (int argc, char *argv[])
{
  int c;

  d.program = argv[0];
  d.jobs = (unsigned) sysconf (_SC_NPROCESSORS_ONLN);
  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (c) {
    case 'e': d.exhaustive = true; break;
    case 'r': d.random = true; break;
    case 'c': d.crowded = true; break;
    case 'l': d.length = (unsigned) strtoul (optarg, NULL, 0); break;
    case 'f': d.first = strtoull (optarg, NULL, 0); break;
    case 'n': d.runs = strtoull (optarg, NULL, 0); break;
    case 'L': d.lives = strtoull (optarg, NULL, 0); break;
    case 'j': d.jobs = (unsigned) strtoul (optarg, NULL, 0); break;
    case 's': d.seconds = strtoull (optarg, NULL, 0); break;
    case 'S': d.states = strtoull (optarg, NULL, 0); break;
    case 'i': only_life = (unsigned) strtoul (optarg, NULL, 0); break;
    case 'o': only_state = optarg; break;
    default: return 2;
    }
  if (d.length == 0 || d.length > COW_ARRAY_SIZE (sequence))
    return 2;
  /* Engines come and go by the thousand: their memory stays. */
  mallopt (M_MMAP_THRESHOLD, 1 << 30);
  mallopt (M_TRIM_THRESHOLD, 1 << 30);
  mallopt (M_TOP_PAD, 64 << 20);
  crash_catch_signals ();
  list_operations ();
  if (only_state != NULL || d.runs == 1)
    d.jobs = 1;
  if (d.jobs == 0)
    d.jobs = 1;
  if (!d.exhaustive && !d.random && !d.crowded)
    return do_some () ? 0 : 1;
  printf ("seed %" PRIu64 "\n", d.first);
  return work_and_report (d.exhaustive ? "every sequence"
                          : d.crowded  ? "crowds"
                                       : "by chance")
           ? 0
           : 1;
}
