/* crash-draw.c - what a run by chance is like.  See crash.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>

#include "base/bits.h"
#include "sim/crash.h"
#include "sim/random.h"

/* One run in four has something that fails, once or for good. */
static void
draw_fault (uint64_t *r, struct crash_features *f)
{
  static const unsigned ops[] = { SIM_SYNC, SIM_SYNC, SIM_WRITE };
  static const char *const files[] = { "d0", "d1" };

  if (sim_random_below (r, 4) > 0)
    return;
  f->fault = (struct sim_fault) {
    .ops = ops[sim_random_below (r, COW_ARRAY_SIZE (ops))],
    .file = files[sim_random_below (r, f->volumes)],
    .skip = sim_random_below (r, 12),
    .times = sim_random_below (r, 2),
    .error = -EIO,
    .partial = sim_random_below (r, 2),
  };
}

void
draw_features (uint64_t seed, struct crash_features *f)
{
  static const uint32_t blocks[] = { 4096, 4096, 4096, 16384, 65536 };
  static const uint32_t directs[] = { 0, 0, 512, 4096 };
  uint64_t r = seed, segment;

  *f = (struct crash_features) {
    .volumes = 1 + (unsigned) sim_random_below (&r, VOLUMES_MAX),
    .block_bytes = blocks[sim_random_below (&r, COW_ARRAY_SIZE (blocks))],
    .unit_bytes = sim_random_below (&r, 4) ? 512 : 128,
    .direct = directs[sim_random_below (&r, COW_ARRAY_SIZE (directs))],
    .ring_segments = 2 + (unsigned) sim_random_below (&r, 2),
    .persistent = sim_random_below (&r, 4) > 0,
    .segment_blocks = 1 + (unsigned) sim_random_below (&r, 12),
    .journal_bytes = (20 + sim_random_below (&r, 12)) << 12,
    .holes = sim_random_below (&r, 2),
    .trims = sim_random_below (&r, 2),
    .zeroes = sim_random_below (&r, 2),
    .clients = 1 + (unsigned) sim_random_below (&r, 3),
    .operations = 4 + (unsigned) sim_random_below (&r, 12),
    .reader = sim_random_below (&r, 2),
    .canceller = sim_random_below (&r, 4) == 0,
    .undecided = sim_random_below (&r, 3) == 0,
    .slow = sim_random_below (&r, 2),
    .draws = 2,
  };
  for (unsigned v = 0; v < f->volumes; v++) {
    const uint64_t most = f->block_bytes > 16384 ? 3 : 12;
    const uint64_t size =
      (1 + sim_random_below (&r, most)) * f->block_bytes;
    const uint64_t less =
      sim_random_below (&r, 2) ? 0 : sim_random_below (&r, 8);

    f->size_bytes[v] = size - less * f->unit_bytes;
  }
  /* One in four has a store that runs full. */
  segment = 8192 + (uint64_t) f->segment_blocks * f->block_bytes;
  f->runs_full = sim_random_below (&r, 4) == 0;
  f->store_limit_bytes =
    segment * (f->runs_full ? 2 + sim_random_below (&r, 4) : 256);
  draw_fault (&r, f);
}

/* Who gets in whose way is a matter of the order of steps, so these runs are
 * short and many: few blocks for many clients, tiny segments that are used
 * again soon, and only now and then a crash.
 */
void
draw_crowd (uint64_t seed, struct crash_features *f)
{
  uint64_t r = ~seed;

  *f = (struct crash_features) {
    .volumes = VOLUMES_MAX,
    .block_bytes = 4096,
    .unit_bytes = sim_random_below (&r, 4) ? 512 : 128,
    .ring_segments = 2 + (unsigned) sim_random_below (&r, 2),
    .persistent = sim_random_below (&r, 3) > 0,
    .segment_blocks = 1 + (unsigned) sim_random_below (&r, 3),
    .journal_bytes = (16 + sim_random_below (&r, 6)) << 12,
    .holes = sim_random_below (&r, 3) == 0,
    .trims = sim_random_below (&r, 3) == 0,
    .zeroes = sim_random_below (&r, 3) == 0,
    .clients = 2 + (unsigned) sim_random_below (&r, 3),
    .operations = 6 + (unsigned) sim_random_below (&r, 12),
    .reader = sim_random_below (&r, 3) > 0,
    .canceller = sim_random_below (&r, 3) == 0,
    .undecided = sim_random_below (&r, 4) == 0,
    .slow = sim_random_below (&r, 2),
    .flushes = sim_random_below (&r, 3) == 0,
    .crash_one_in = 48,
    .draws = 1,
  };
  for (unsigned v = 0; v < f->volumes; v++)
    f->size_bytes[v] = (1 + sim_random_below (&r, 3)) * f->block_bytes
                       - sim_random_below (&r, 2) * f->unit_bytes;
  f->runs_full = sim_random_below (&r, 8) == 0;
  f->store_limit_bytes = (8192 + f->segment_blocks * f->block_bytes)
                         * (f->runs_full ? 6 : 256);
  draw_fault (&r, f);
}
