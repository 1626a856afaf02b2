/* checksum.h - checksums over content, place and generation.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * XXH3-64.  The seed carries where the data belongs: data that was read from
 * another place, store or generation fails its checksum, as damaged data does.
 * Both functions are part of the disk format.
 */
#ifndef COW_BASE_CHECKSUM_H
#define COW_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#include "base/id.h"

uint64_t cow_checksum (const void *data, size_t len, uint64_t seed);

/* The seed of what stands at a place (in bytes) of a store, in a generation:
 * XXH3-64 with seed 0 of the store's 16 bytes, then place and generation as
 * little-endian 64-bit numbers.
 */
uint64_t cow_seed (const struct cow_id *store, uint64_t place,
                   uint64_t generation);

#endif /* COW_BASE_CHECKSUM_H */
