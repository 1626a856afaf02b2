/* fetch.c - reads of old data by way of the page cache.  See fetch.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "io/fetch.h"

/* Pieces that are remembered as brought.  A piece forgotten may be brought
 * again, if there is credit.
 */
#define REMEMBERED 4096u
/* What may be brought in vain. */
#define CREDIT_BYTES (INT64_C (1) << 28)
/* What is read of a brought piece pays for so many times as much: bringing
 * goes on where an eighth of it is used.
 */
#define EARNS 8
/* After so many reads that had to wait, a piece that was brought has left the
 * memory again.
 */
#define MISSES 32u

struct cow_fetch {
  struct cow_file *file;
  uint64_t first_bytes;
  size_t piece_bytes;
  _Atomic bool blind;           /* the file system can't tell what it has */
  _Atomic int64_t credit;
  /* By hash: (the piece's number + 1) << 8, and how many reads have had to
   * wait since; 0: none.
   */
  _Atomic uint64_t brought[REMEMBERED];
};

struct cow_fetch *
cow_fetch_new (struct cow_file *f, uint64_t first_bytes, size_t piece_bytes)
{
  struct cow_fetch *e = calloc (1, sizeof *e);

  if (e == NULL)
    return NULL;
  if (cow_file_open_cached (f, &e->file) < 0) {
    free (e);
    return NULL;
  }
  e->first_bytes = first_bytes;
  e->piece_bytes = piece_bytes;
  atomic_init (&e->credit, CREDIT_BYTES);
  return e;
}

void
cow_fetch_free (struct cow_fetch *e)
{
  if (e == NULL)
    return;
  cow_file_close (e->file);
  free (e);
}

static uint64_t
piece_of (const struct cow_fetch *e, uint64_t offset)
{
  assert (offset >= e->first_bytes);
  return (offset - e->first_bytes) / e->piece_bytes;
}

static _Atomic uint64_t *
remembered (struct cow_fetch *e, uint64_t piece)
{
  return &e->brought[piece % REMEMBERED];
}

/* A read of the piece has been served from memory. */
static void
earn (struct cow_fetch *e, uint64_t piece, size_t len)
{
  if (atomic_load_explicit (&e->credit, memory_order_relaxed) < CREDIT_BYTES
      && atomic_load_explicit (remembered (e, piece), memory_order_relaxed)
             >> 8 == piece + 1)
    atomic_fetch_add_explicit (&e->credit, EARNS * (int64_t) len,
                               memory_order_relaxed);
}

/* Something of the piece is not in memory, or not yet. */
static void
bring (struct cow_fetch *e, uint64_t piece)
{
  _Atomic uint64_t *at = remembered (e, piece);
  uint64_t was = atomic_load_explicit (at, memory_order_relaxed);
  uint64_t now = (piece + 1) << 8;

  if (was >> 8 == piece + 1) {
    /* Of two that count at once one may be lost. */
    now = (was & 255) == MISSES ? 0 : was + 1;
    atomic_store_explicit (at, now, memory_order_relaxed);
    return;
  }
  if (atomic_load_explicit (&e->credit, memory_order_relaxed)
        < (int64_t) e->piece_bytes
      || !atomic_compare_exchange_strong_explicit (
        at, &was, now, memory_order_relaxed, memory_order_relaxed))
    return;
  atomic_fetch_sub_explicit (&e->credit, (int64_t) e->piece_bytes,
                             memory_order_relaxed);
  cow_file_prefetch (e->file, e->first_bytes + piece * e->piece_bytes,
                     e->piece_bytes);
}

int
cow_fetch_read (struct cow_fetch *e, void *buf, size_t len, uint64_t offset)
{
  uint64_t piece = piece_of (e, offset);
  int64_t had;

  if (atomic_load_explicit (&e->blind, memory_order_relaxed))
    return cow_file_pread (e->file, buf, len, offset);
  had = cow_file_pread_cached (e->file, buf, len, offset);
  if (had == (int64_t) len) {
    earn (e, piece, len);
    return 0;
  }
  if (had < 0) {
    if (had == -EOPNOTSUPP)
      atomic_store_explicit (&e->blind, true, memory_order_relaxed);
    had = 0;
  }
  /* A read that is large needs no help. */
  if (len < e->piece_bytes / 4)
    bring (e, piece);
  return cow_file_pread (e->file, (uint8_t *) buf + had, len - (size_t) had,
                         offset + (uint64_t) had);
}

void
cow_fetch_soon (struct cow_fetch *e, uint64_t offset)
{
  uint64_t piece = piece_of (e, offset);

  if (!atomic_load_explicit (&e->blind, memory_order_relaxed)
      && atomic_load_explicit (remembered (e, piece), memory_order_relaxed)
             >> 8 != piece + 1)
    bring (e, piece);
}
