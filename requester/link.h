/* link.h - the bytes of @control: what a session needs of a connection.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The seam between the session (frames and slots) and NBD: link-nbd.c is the
 * one implementation of the product, the tests have others.
 */
#ifndef REQ_LINK_H
#define REQ_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cowset-codes.h"

struct req_link;

/* All but close may be called from any thread, several at a time; reads and
 * writes of different threads are in flight at the same time.
 */
struct req_link_ops {
  /* One NBD request.  Blocks until it is answered, the link is lost, or
   * deadline_ms has passed (monotonic; UINT64_MAX: never), which loses the
   * link, as -ESHUTDOWN does (the server is stopping).  0 or -errno; the
   * buffer is free to be used again in any case.
   */
  int (*write) (struct req_link *link, const void *buf, size_t len,
                uint64_t offset, uint64_t deadline_ms);
  int (*read) (struct req_link *link, void *buf, size_t len, uint64_t offset,
               uint64_t deadline_ms);

  /* Lose it: what is in flight ends soon, with an error. */
  void (*lose) (struct req_link *link);

  /* Readable once the link is lost. */
  int (*lost_fd) (struct req_link *link);
  bool (*is_lost) (struct req_link *link);

  /* Whether a silent peer may be a dead one: not on a Unix socket. */
  bool (*is_remote) (struct req_link *link);

  /* Nothing is in flight any more.  Frees the link. */
  void (*close) (struct req_link *link);
};

struct req_link {
  const struct req_link_ops *ops;
};

/* Connect to @control of the server at uri.  S_OK, or the codes of
 * cowset_create(), with this thread's message set.
 */
cowset_hresult req_link_connect (const char *uri, struct req_link **out);

#endif /* REQ_LINK_H */
