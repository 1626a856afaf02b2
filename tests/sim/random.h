/* random.h - numbers from a seed, the same on every machine.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SIM_RANDOM_H
#define SIM_RANDOM_H

#include <stdint.h>

/* splitmix64. */
static inline uint64_t
sim_random_next (uint64_t *state)
{
  uint64_t z = (*state += UINT64_C (0x9e3779b97f4a7c15));

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* Below n, which is not 0. */
static inline uint64_t
sim_random_below (uint64_t *state, uint64_t n)
{
  return sim_random_next (state) % n;
}

#endif /* SIM_RANDOM_H */
