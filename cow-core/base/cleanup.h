/* cleanup.h - what ends with its scope.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Error paths are plain returns because of these.  Locks: LOCK_FOR_SCOPE in
 * base/sync.h.
 */
#ifndef COW_BASE_CLEANUP_H
#define COW_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void
cow_cleanup_free_ (void *ptr)
{
  free (*(void **) ptr);
}

static inline void
cow_cleanup_close_ (int *fd)
{
  if (*fd >= 0)
    close (*fd);
}

#define CLEANUP_FREE __attribute__ ((cleanup (cow_cleanup_free_)))

/* Of a file descriptor, -1 when there is none. */
#define CLEANUP_CLOSE __attribute__ ((cleanup (cow_cleanup_close_)))

/* Give up ownership: the pointer's value, and NULL is left behind. */
#define COW_STEAL(ptr)                                                  \
  __extension__ ({                                                      \
    __typeof__ (ptr) cow_steal_ = (ptr);                                \
    (ptr) = NULL;                                                       \
    cow_steal_;                                                         \
  })

#endif /* COW_BASE_CLEANUP_H */
