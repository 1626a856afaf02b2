/* checksum.c - XXH3-64, by libxxhash.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <xxhash.h>

#include "base/checksum.h"
#include "base/le.h"

uint64_t
cow_checksum (const void *data, size_t len, uint64_t seed)
{
  return XXH3_64bits_withSeed (data, len, seed);
}

uint64_t
cow_seed (const struct cow_id *store, uint64_t place, uint64_t generation)
{
  const struct {
    struct cow_id store;
    le64 place;
    le64 generation;
  } key = { *store, to_le64 (place), to_le64 (generation) };
  STATIC_ASSERT (sizeof key == 32);

  return cow_checksum (&key, sizeof key, 0);
}
