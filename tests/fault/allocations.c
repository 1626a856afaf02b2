/* allocations.c - see allocations.h.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Fibres change places inside the simulated disk, so each has its own count of
 * how deep in there it is.
 */
#include "config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/sync.h"
#include "fault/allocations.h"
#include "sim/fibres.h"

struct allocations allocations;

static struct {
  bool armed;
  uint64_t skip, times;
  unsigned exempt[FIBRES_MAX + 1];
} a;

void
allocations_arm (uint64_t skip, uint64_t times)
{
  allocations = (struct allocations) { 0, 0 };
  a.armed = true;
  a.skip = skip;
  a.times = times;
}

void
allocations_disarm (void)
{
  a.armed = false;
}

static unsigned *
depth (void)
{
  return &a.exempt[cow_sim ? cow_sim->self () : 0];
}

static bool
fails (void)
{
  if (!a.armed || *depth () > 0)
    return false;
  if (allocations.asked++ < a.skip || allocations.failed >= a.times)
    return false;
  allocations.failed++;
  return true;
}

/* ----------------------------------------------------- what is asked for */

void *__real_malloc (size_t size);
void *__real_calloc (size_t n, size_t size);
void *__real_realloc (void *p, size_t size);
void *__real_aligned_alloc (size_t align, size_t size);
char *__real_strdup (const char *s);
void *__real_mmap (void *at, size_t len, int prot, int flags, int fd,
                   off_t offset);

void *__wrap_malloc (size_t size);
void *__wrap_calloc (size_t n, size_t size);
void *__wrap_realloc (void *p, size_t size);
void *__wrap_aligned_alloc (size_t align, size_t size);
char *__wrap_strdup (const char *s);
void *__wrap_mmap (void *at, size_t len, int prot, int flags, int fd,
                   off_t offset);

void *
__wrap_malloc (size_t size)
{
  return fails () ? NULL : __real_malloc (size);
}

void *
__wrap_calloc (size_t n, size_t size)
{
  return fails () ? NULL : __real_calloc (n, size);
}

void *
__wrap_realloc (void *p, size_t size)
{
  return fails () ? NULL : __real_realloc (p, size);
}

void *
__wrap_aligned_alloc (size_t align, size_t size)
{
  return fails () ? NULL : __real_aligned_alloc (align, size);
}

char *
__wrap_strdup (const char *s)
{
  return fails () ? NULL : __real_strdup (s);
}

void *
__wrap_mmap (void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
  return fails () ? MAP_FAILED
                  : __real_mmap (at, len, prot, flags, fd, offset);
}

/* ------------------------------------------------------- what is exempt */

static const struct cow_io_ops *real;

#define EXEMPT(call)                                                    \
  __extension__ ({                                                      \
    unsigned *exempt_ = depth ();                                       \
    ++*exempt_;                                                         \
    __typeof__ (call) result_ = (call);                                 \
    --*exempt_;                                                         \
    result_;                                                            \
  })

static int
io_open (struct cow_io *io, const char *path, unsigned flags,
         struct cow_error *err, struct cow_file **out)
{
  return EXEMPT (real->open (io, path, flags, err, out));
}

static int
io_lock (struct cow_file *f, uint64_t first, uint64_t len, bool exclusive)
{
  return EXEMPT (real->lock (f, first, len, exclusive));
}

static int
io_pread (struct cow_file *f, void *buf, size_t len, uint64_t offset)
{
  return EXEMPT (real->pread (f, buf, len, offset));
}

static int
io_pwrite (struct cow_file *f, const void *buf, size_t len, uint64_t offset)
{
  return EXEMPT (real->pwrite (f, buf, len, offset));
}

static int
io_sync (struct cow_file *f)
{
  return EXEMPT (real->sync (f));
}

static int
io_punch (struct cow_file *f, uint64_t offset, uint64_t len)
{
  return EXEMPT (real->punch (f, offset, len));
}

static int
io_zero (struct cow_file *f, uint64_t offset, uint64_t len, bool may_punch)
{
  return EXEMPT (real->zero (f, offset, len, may_punch));
}

static int
io_allocate (struct cow_file *f, uint64_t offset, uint64_t len)
{
  return EXEMPT (real->allocate (f, offset, len));
}

static int
io_submit (struct cow_queue *q, struct cow_request *req)
{
  return EXEMPT (real->submit (q, req));
}

static int
io_reap (struct cow_queue *q, unsigned min, uint64_t deadline_ns)
{
  return EXEMPT (real->reap (q, min, deadline_ns));
}

/* Making a queue is left out: its failure is a case of its own. */
void
allocations_exempt (struct cow_io *io)
{
  static struct cow_io_ops ops;

  if (real == NULL)
    real = io->ops;
  ops = *real;
  ops.open = io_open;
  ops.lock = io_lock;
  ops.pread = io_pread;
  ops.pwrite = io_pwrite;
  ops.sync = io_sync;
  ops.punch = io_punch;
  ops.zero = io_zero;
  ops.allocate = io_allocate;
  ops.submit = io_submit;
  ops.reap = io_reap;
  io->ops = &ops;
}
