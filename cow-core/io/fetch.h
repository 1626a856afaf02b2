/* fetch.h - reads of old data by way of the page cache, a piece at a time.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Whoever reads old data (a snapshot's reader, a first touch) reads small
 * blocks here and there, and often, in the end, most of them.  One by one they
 * cost a wait for the disk each; the kernel's own read-ahead sees no order in
 * them, and where it sees one, brings large folios, into which small writes
 * are slow.  So the first block of a piece that is not in memory brings the
 * whole piece, behind the reader's back.
 *
 * What is brought has to be used: each piece costs credit, each later read of
 * it that is served from memory earns some, up to a bound.  Where reads are
 * too scattered for it (or the memory is too small) the credit ends, and only
 * what is asked for is read.
 *
 * Threads: any.  There are no locks; what it remembers is a hint.
 */
#ifndef COW_IO_FETCH_H
#define COW_IO_FETCH_H

#include "io/io.h"

struct cow_fetch;

/* For reading f from first_bytes on, in pieces of piece_bytes.  NULL where that
 * can't be done: f is then to be read itself.
 */
struct cow_fetch *cow_fetch_new (struct cow_file *f, uint64_t first_bytes,
                                 size_t piece_bytes);
void cow_fetch_free (struct cow_fetch *e);

/* Any length, offset and memory; 0 or -errno, as cow_file_pread. */
int cow_fetch_read (struct cow_fetch *e, void *buf, size_t len,
                    uint64_t offset);

/* A read at offset follows: begin to bring its piece. */
void cow_fetch_soon (struct cow_fetch *e, uint64_t offset);

#endif /* COW_IO_FETCH_H */
