/* bits.c - see bits.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "map/bits.h"

static uint64_t
pages_of (uint64_t blocks)
{
  return (blocks + COW_BITS_PAGE_BLOCKS - 1) / COW_BITS_PAGE_BLOCKS;
}

static void *
map_zeroes (uint64_t bytes)
{
  void *p = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (p == MAP_FAILED)
    return NULL;
  /* A huge page would take 2 MiB for the first bit. */
  (void) madvise (p, bytes, MADV_NOHUGEPAGE);
  return p;
}

struct cow_root cow_root_full;

struct cow_root *
cow_root_new (uint64_t blocks, struct cow_bits_budget *budget)
{
  struct cow_root *r = calloc (1, sizeof *r);
  uint64_t pages = pages_of (blocks);

  if (r == NULL)
    return NULL;
  if (pages == 0)
    pages = 1;
  r->blocks = blocks;
  r->budget = budget;
  r->words = map_zeroes (pages * 4096);
  r->kept = map_zeroes (pages);
  if (r->words == NULL || r->kept == NULL) {
    cow_root_free (r);
    return NULL;
  }
  return r;
}

void
cow_root_free (struct cow_root *r)
{
  uint64_t pages;

  if (r == NULL || r == &cow_root_full)
    return;
  pages = pages_of (r->blocks);
  if (pages == 0)
    pages = 1;
  if (r->words)
    munmap ((void *) r->words, pages * 4096);
  if (r->kept)
    munmap ((void *) r->kept, pages);
  if (r->budget)
    atomic_fetch_add (&r->budget->pages_left, atomic_load (&r->pages));
  free (r);
}

uint64_t
cow_root_bytes (const struct cow_root *r)
{
  return atomic_load_explicit (&r->pages, memory_order_relaxed) * 4096;
}

bool
cow_root_test_range (const struct cow_root *r, uint64_t first, uint64_t n)
{
  uint64_t block = first, end = first + n;

  while (block < end) {
    unsigned shift = block % 64;
    uint64_t count = 64 - shift, mask, word;

    if (count > end - block)
      count = end - block;
    mask = (count == 64 ? UINT64_MAX : (UINT64_C (1) << count) - 1) << shift;
    base_step ();
    word = atomic_load_explicit (&r->words[block / 64], memory_order_acquire);
    if ((word & mask) != mask)
      return false;
    block += count;
  }
  return true;
}

/* May this page take memory?  Only the first bit of a page asks. */
static bool
keep_page (struct cow_root *r, uint64_t page)
{
  uint64_t left;
  uint8_t no = 0;

  if (COW_LIKELY (atomic_load_explicit (&r->kept[page],
                                        memory_order_relaxed)))
    return true;
  left = atomic_load (&r->budget->pages_left);
  do {
    if (left == 0)
      return false;
  } while (!atomic_compare_exchange_weak (&r->budget->pages_left, &left,
                                          left - 1));
  if (atomic_compare_exchange_strong (&r->kept[page], &no, 1))
    atomic_fetch_add_explicit (&r->pages, 1, memory_order_relaxed);
  else
    atomic_fetch_add (&r->budget->pages_left, 1);
  return true;
}

void
cow_root_set (struct cow_root *r, uint64_t block)
{
  if (!keep_page (r, block / COW_BITS_PAGE_BLOCKS))
    return;
  base_step ();
  atomic_fetch_or_explicit (&r->words[block / 64],
                            UINT64_C (1) << (block % 64),
                            memory_order_release);
}
