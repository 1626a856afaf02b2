/* sweep.c - everything fails once, at each point where it can.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A scenario (scenario.c) is run once without a fault, which counts its I/Os
 * and allocations; then once for each of them, with the k-th failing.  What
 * must hold every time:
 *
 *   the volumes serve: a request fails only if an I/O of its own origin did
 *   (protect=snapshot: or the store), and never for the store's sake
 *   the origins, and their files at the end, are right
 *   a snapshot reads right, or EIO with a reason; it is lost only with one
 *   nothing hangs, and nothing is left behind (the sanitizers look, too)
 *
 * Some pairs of variant and mode are left out, unless asked for.  Under a
 * sanitizer, which makes each run ten times as long, only every fourth fault is
 * tried, from another one on in each pair; --every 1 tries all.
 *
 *   sweep [--all] [--mode NAME] [--variant NAME] [--first K] [--last K]
 *         [--every N] [--seed N]
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/sync.h"
#include "fault/scenario.h"

static const struct variant {
  const char *name;
  uint32_t direct, block_bytes;
  bool protect, persistent;
  unsigned level;               /* of the modes that are run, at most */
} variants[] = {
  { "cached", 0, 4096, false, false, 3 },
  { "direct", 512, 4096, false, false, 2 },
  { "large-blocks", 4096, 65536, false, false, 0 },
  { "protect", 0, 4096, true, false, 1 },
  { "named", 0, 4096, false, true, 2 },
};

#define WRITES (SIM_WRITE | SIM_ALLOCATE | SIM_ZERO | SIM_PUNCH)

static const struct mode {
  const char *name;
  unsigned level;               /* 0: with every variant */
  struct sim_fault fault;       /* its skip is swept */
  uint64_t allocations;         /* else so many of them fail */
} modes[] = {
  { "eio-once", 0, { .times = 1, .error = -EIO }, 0 },
  { "enospc-once", 2, { .ops = WRITES, .times = 1, .error = -ENOSPC }, 0 },
  { "partial-once", 2,
    { .ops = SIM_WRITE, .times = 1, .error = -EIO, .partial = true }, 0 },
  { "short-store-once", 1,
    { .ops = SIM_WRITE, .file = STORE_FILE, .times = 1, .error = -ENOSPC,
      .partial = true }, 0 },
  { "late", 3, { .times = 1, .delay_ns = 30 * COW_NS_PER_S }, 0 },
  { "late-and-eio", 3,
    { .times = 1, .error = -EIO, .delay_ns = 30 * COW_NS_PER_S }, 0 },
  { "eio-for-good", 2, { .error = -EIO }, 0 },
  { "store-for-good", 1, { .file = STORE_FILE, .error = -EIO }, 0 },
  { "store-late", 1,
    { .file = STORE_FILE, .delay_ns = 2 * COW_NS_PER_S }, 0 },
  { "origin-for-good", 2, { .file = "d0", .error = -EIO }, 0 },
  { "syncs-for-good", 1, { .ops = SIM_SYNC, .error = -EIO }, 0 },
  { "allocation-once", 0, { .ops = 0 }, 1 },
  { "allocation-for-good", 2, { .ops = 0 }, UINT64_MAX },
};

#ifdef __SANITIZE_ADDRESS__
#define EVERY 4
#else
#define EVERY 1
#endif

static struct {
  const char *program;
  uint64_t seed, every;
  uint64_t first, last;         /* first 0: the pair's own */
  const char *mode, *variant;
  bool all;
  /* What is running. */
  const struct mode *m;
  const struct variant *v;
  uint64_t k;
} d = { .seed = 1, .last = UINT64_MAX, .every = EVERY };

void
scenario_wrong (const char *fmt, ...)
{
  va_list args;

  fprintf (stderr, "sweep: %s, %s, fault %" PRIu64 ": ", d.v->name,
           d.m ? d.m->name : "no fault", d.k);
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fprintf (stderr, "\nrepeat it: %s --seed %" PRIu64 " --variant %s",
           d.program, d.seed, d.v->name);
  if (d.m)
    fprintf (stderr, " --mode %s --first %" PRIu64 " --last %" PRIu64,
             d.m->name, d.k, d.k);
  fprintf (stderr, "\n");
  fflush (NULL);
  _exit (1);
}

static void
run (const struct mode *m, const struct variant *v, uint64_t k,
     struct scenario_result *out)
{
  struct scenario s = {
    .seed = d.seed,
    .direct = v->direct,
    .block_bytes = v->block_bytes,
    .protect = v->protect,
    .persistent = v->persistent,
  };

  d.m = k > 0 ? m : NULL;
  d.v = v;
  d.k = k;
  if (m != NULL)
    s.fault = m->fault;
  if (v->persistent && s.fault.file && strcmp (s.fault.file, STORE_FILE) == 0)
    s.fault.file = NAMED_STORE_FILE;
  if (k > 0 && m->allocations > 0) {
    s.alloc_skip = k - 1;
    s.alloc_times = m->allocations;
  }
  else if (k > 0) {
    s.fault.skip = k - 1;
    s.faulty = true;
  }
  scenario_run (&s, out);
}

/* Without a fault: it is a scenario in which everything happens. */
static void
check_scenario (const struct variant *v)
{
  static const enum sim_op origin[] = { SIM_READ, SIM_WRITE, SIM_SYNC,
                                        SIM_PUNCH, SIM_ZERO, SIM_OPEN };
  static const enum sim_op store[] = { SIM_READ, SIM_WRITE, SIM_ALLOCATE,
                                       SIM_OPEN };
  struct scenario_result out;

  run (NULL, v, 0, &out);
  if (out.hits + out.refused + out.lost > 0)
    scenario_wrong ("%u refused, %u lost", out.refused, out.lost);
  for (unsigned i = 0; i < COW_ARRAY_SIZE (origin); i++)
    if (out.origin_ios[origin[i]] == 0)
      scenario_wrong ("no I/O of kind %d on an origin", origin[i]);
  for (unsigned i = 0; i < COW_ARRAY_SIZE (store); i++)
    if (out.store_ios[store[i]] == 0)
      scenario_wrong ("no I/O of kind %d on the store", store[i]);
}

static void
sweep (const struct mode *m, const struct variant *v)
{
  struct scenario_result out;
  const uint64_t first = d.first ? d.first : 1 + (m - modes) % d.every;
  uint64_t points, runs = 0, compared = 0, missed = 0;
  unsigned refused = 0, lost = 0;

  run (m, v, 0, &out);
  points = m->allocations > 0 ? out.allocations : out.matched;
  for (uint64_t k = first; k <= COW_MIN (points, d.last); k += d.every) {
    run (m, v, k, &out);
    runs++;
    missed += out.hits == 0;
    refused += out.refused;
    lost += out.lost;
    compared += out.compared;
  }
  printf ("%-12s %-20s %4" PRIu64 " faults: %5u refused, %4u lost, %6" PRIu64
          " compared\n",
          v->name, m->name, runs, refused, lost, compared);
  fflush (stdout);
  d.m = m;
  if (missed > 0)
    scenario_wrong ("%" PRIu64 " faults did not come about", missed);
}

static bool
is_wanted (const struct mode *m, const struct variant *v)
{
  if (d.mode != NULL && strcmp (d.mode, m->name) != 0)
    return false;
  return d.all || d.mode != NULL || m->level <= v->level;
}

static const struct option options[] = {
  { "all", no_argument, NULL, 'a' },
  { "mode", required_argument, NULL, 'm' },
  { "variant", required_argument, NULL, 'v' },
  { "first", required_argument, NULL, 'f' },
  { "last", required_argument, NULL, 'l' },
  { "every", required_argument, NULL, 'e' },
  { "seed", required_argument, NULL, 's' },
  { NULL, 0, NULL, 0 },
};

int
main (int argc, char *argv[])
{
  int c;

  d.program = argv[0];
  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (c) {
    case 'a': d.all = true; break;
    case 'm': d.mode = optarg; break;
    case 'v': d.variant = optarg; break;
    case 'f': d.first = strtoull (optarg, NULL, 0); break;
    case 'l': d.last = strtoull (optarg, NULL, 0); break;
    case 'e': d.every = strtoull (optarg, NULL, 0); break;
    case 's': d.seed = strtoull (optarg, NULL, 0); break;
    default: return 2;
    }
  if (d.every == 0)
    return 2;
  printf ("seed %" PRIu64 "\n", d.seed);
  for (unsigned v = 0; v < COW_ARRAY_SIZE (variants); v++) {
    if (d.variant && strcmp (d.variant, variants[v].name) != 0)
      continue;
    check_scenario (&variants[v]);
    for (unsigned m = 0; m < COW_ARRAY_SIZE (modes); m++)
      if (is_wanted (&modes[m], &variants[v]))
        sweep (&modes[m], &variants[v]);
  }
  return 0;
}
