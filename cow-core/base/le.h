/* le.h - little-endian integers on disk and on the wire.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One-member structs, so that a forgotten conversion does not compile.  They
 * have the alignment of the integer: a format's struct needs no packing, and
 * STATIC_ASSERT (base/annotate.h) holds it to its page.
 */
#ifndef COW_BASE_LE_H
#define COW_BASE_LE_H

#include <endian.h>
#include <stdint.h>

#include "base/annotate.h"

typedef struct {
  uint16_t le;
} le16;

typedef struct {
  uint32_t le;
} le32;

typedef struct {
  uint64_t le;
} le64;

STATIC_ASSERT (sizeof (le16) == 2);
STATIC_ASSERT (sizeof (le32) == 4);
STATIC_ASSERT (sizeof (le64) == 8);

static inline le16
to_le16 (uint16_t n)
{
  return (le16) { htole16 (n) };
}

static inline le32
to_le32 (uint32_t n)
{
  return (le32) { htole32 (n) };
}

static inline le64
to_le64 (uint64_t n)
{
  return (le64) { htole64 (n) };
}

static inline uint16_t
from_le16 (le16 n)
{
  return le16toh (n.le);
}

static inline uint32_t
from_le32 (le32 n)
{
  return le32toh (n.le);
}

static inline uint64_t
from_le64 (le64 n)
{
  return le64toh (n.le);
}

#endif /* COW_BASE_LE_H */
