/* allocations.h - failing the allocations of cow-core.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The program is linked with --wrap for malloc, calloc, realloc, aligned_alloc,
 * strdup and mmap (tests/Makefile.am), so that what its objects ask for comes
 * through here.  Only what is asked for between allocations_arm() and
 * allocations_disarm() counts, and nothing that the simulated disk asks for.
 */
#ifndef FAULT_ALLOCATIONS_H
#define FAULT_ALLOCATIONS_H

#include <stdint.h>

#include "io/io.h"

struct allocations {
  uint64_t asked, failed;
};
extern struct allocations allocations;

/* Count from 0; so many pass first, then so many fail (0: none). */
void allocations_arm (uint64_t skip, uint64_t times);
void allocations_disarm (void);

/* From now on what io's functions ask for does not count.  For one engine of
 * the simulated disk at a time, before its first use.
 */
void allocations_exempt (struct cow_io *io);

#endif /* FAULT_ALLOCATIONS_H */
