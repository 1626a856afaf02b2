/* crash-memory.c - the memory of engines that come and go.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A state's engine lives for some hundred microseconds, and mapping its memory
 * took half of that.  So what it unmaps is kept for the next one (the linker
 * puts these in the place of mmap, munmap and madvise, see Makefile.am).  It is
 * given out as zeroes, as the kernel gives it: what was touched is cleared.
 * One thread.
 */
#include "config.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"

#define PAGE 4096u
#define KEPT_MAX 64u
/* What is larger is asked which of its pages are there. */
#define CLEARED_WHOLE (UINT64_C (256) << 10)
#define PAGES_AT_ONCE 1024u
#define ASK_ALL_ONE_IN 64u

void *__real_mmap (void *at, size_t bytes, int prot, int flags, int fd,
                   off_t offset);
int __real_munmap (void *at, size_t bytes);
int __real_madvise (void *at, size_t bytes, int advice);
void *__wrap_mmap (void *at, size_t bytes, int prot, int flags, int fd,
                   off_t offset);
int __wrap_munmap (void *at, size_t bytes);
int __wrap_madvise (void *at, size_t bytes, int advice);

static struct {
  uint8_t *at;
  size_t bytes;
} kept[KEPT_MAX];
static unsigned kept_count;

/* Only pages that are there can have been touched.  Asking takes time, and
 * what is that large is used from its beginning on: behind a long stretch that
 * was never touched it is only now and then looked whether that is so.
 */
static void
clear_touched (uint8_t *at, size_t bytes)
{
  static unsigned calls;
  const bool to_the_end = ++calls % ASK_ALL_ONE_IN == 0;
  bool gap = false;
  static unsigned char there[PAGES_AT_ONCE];

  for (size_t done = 0, n; done < bytes; done += n) {
    const unsigned char *next = there, *end;

    n = COW_MIN (bytes - done, (size_t) PAGES_AT_ONCE * PAGE);
    end = there + n / PAGE;
    if (mincore (at + done, n, there) == -1)
      abort ();
    if (memchr (there, 1, n / PAGE) == NULL) {
      gap = true;
      if (to_the_end)
        continue;
      return;
    }
    if (gap)
      abort ();
    while ((next = memchr (next, 1, (size_t) (end - next))) != NULL)
      memset (at + done + (size_t) (next++ - there) * PAGE, 0, PAGE);
  }
}

static bool
is_plain (const void *at, int prot, int flags, int fd)
{
  return at == NULL && fd == -1 && prot == (PROT_READ | PROT_WRITE)
         && (flags & (MAP_PRIVATE | MAP_ANONYMOUS))
              == (MAP_PRIVATE | MAP_ANONYMOUS)
         && !(flags & MAP_STACK);
}

void *
__wrap_mmap (void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
  if (!is_plain (at, prot, flags, fd))
    return __real_mmap (at, bytes, prot, flags, fd, offset);
  bytes = (size_t) cow_round_up (bytes, PAGE);
  for (unsigned i = 0; i < kept_count; i++)
    if (kept[i].bytes == bytes) {
      uint8_t *p = kept[i].at;

      kept[i] = kept[--kept_count];
      return p;
    }
  at = __real_mmap (at, bytes, prot, flags, fd, offset);
  /* There would be 2 MiB to clear for the first byte. */
  if (at != MAP_FAILED)
    (void) __real_madvise (at, bytes, MADV_NOHUGEPAGE);
  return at;
}

/* Of memory that is shared between uses no advice is taken. */
int
__wrap_madvise (void *at, size_t bytes, int advice)
{
  (void) at;
  (void) bytes;
  (void) advice;
  return 0;
}

/* Only what the engine has mapped by the above comes here. */
int
__wrap_munmap (void *at, size_t bytes)
{
  bytes = (size_t) cow_round_up (bytes, PAGE);
  if (kept_count == KEPT_MAX) {
    /* The one that has been here longest, more or less. */
    if (__real_munmap (kept[0].at, kept[0].bytes) == -1)
      return -1;
    kept[0] = kept[--kept_count];
  }
  if (bytes <= CLEARED_WHOLE)
    memset (at, 0, bytes);
  else
    clear_touched (at, bytes);
  kept[kept_count].at = at;
  kept[kept_count++].bytes = bytes;
  return 0;
}
