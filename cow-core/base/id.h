/* id.h - 128-bit identifiers of sets, snapshots and stores.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Sixteen bytes in the order in which a UUID is printed (RFC 9562).  They come
 * from cow_random(), as version 4.
 */
#ifndef COW_BASE_ID_H
#define COW_BASE_ID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct cow_id {
  uint8_t b[16];
};

#define COW_ID_TEXT_SIZE 37     /* 36 characters and the terminator */

struct cow_id cow_id_new (void);
void cow_id_format (const struct cow_id *id, char text[COW_ID_TEXT_SIZE]);

static inline bool
cow_id_equal (const struct cow_id *a, const struct cow_id *b)
{
  return memcmp (a->b, b->b, sizeof a->b) == 0;
}

#endif /* COW_BASE_ID_H */
