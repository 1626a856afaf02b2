/* bits.h - small arithmetic that every module needs.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Alignments are powers of two.  Nothing here checks for overflow: callers
 * have bounded their offsets by the size of a file (at most INT64_MAX).
 */
#ifndef COW_BASE_BITS_H
#define COW_BASE_BITS_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COW_BIT(n) (UINT64_C (1) << (n))

#define COW_ARRAY_SIZE(a) (sizeof (a) / sizeof ((a)[0]))

#define COW_MIN(a, b)                                                   \
  __extension__ ({                                                      \
    __typeof__ (a) cow_min_a_ = (a);                                    \
    __typeof__ (b) cow_min_b_ = (b);                                    \
    cow_min_a_ < cow_min_b_ ? cow_min_a_ : cow_min_b_;                  \
  })

#define COW_MAX(a, b)                                                   \
  __extension__ ({                                                      \
    __typeof__ (a) cow_max_a_ = (a);                                    \
    __typeof__ (b) cow_max_b_ = (b);                                    \
    cow_max_a_ > cow_max_b_ ? cow_max_a_ : cow_max_b_;                  \
  })

/* The struct of which ptr points to a member. */
#define COW_CONTAINER_OF(ptr, type, member)                             \
  ((type *) (void *) ((char *) (ptr) - offsetof (type, member)))

static inline bool
cow_is_power_of_2 (uint64_t n)
{
  return n != 0 && (n & (n - 1)) == 0;
}

static inline uint64_t
cow_round_down (uint64_t n, uint64_t align)
{
  assert (cow_is_power_of_2 (align));
  return n & ~(align - 1);
}

static inline uint64_t
cow_round_up (uint64_t n, uint64_t align)
{
  return cow_round_down (n + align - 1, align);
}

static inline bool
cow_is_aligned (uint64_t n, uint64_t align)
{
  assert (cow_is_power_of_2 (align));
  return (n & (align - 1)) == 0;
}

/* The exponent of the highest power of two in n, which is not 0. */
static inline unsigned
cow_log2 (uint64_t n)
{
  assert (n != 0);
  return 63 - (unsigned) __builtin_clzll (n);
}

#endif /* COW_BASE_BITS_H */
