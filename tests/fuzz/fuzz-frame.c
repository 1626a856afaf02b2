/* fuzz-frame.c - any bytes at all, taken for a frame.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The decoder reads nothing beyond what it is given, and what it accepts,
 * encoded again, is the same bytes.  So that the fuzzer gets past the
 * checksum, the input is also tried with its checksum put right (which the
 * encoder does: the header's fields are free of it).
 */
#include <config.h>

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/frame.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
check (const uint8_t *data, size_t size)
{
  struct proto_frame f;
  enum proto_frame_status status = proto_frame_decode (data, size, &f);

  assert (proto_frame_status_text (status) != NULL);
  if (status == PROTO_FRAME_OK || status == PROTO_FRAME_VERSION ||
      status == PROTO_FRAME_KIND) {
    uint8_t *again = malloc (PROTO_HEADER_BYTES + f.length);
    size_t n;

    assert (f.length <= PROTO_BODY_MAX);
    assert (f.length <= size - PROTO_HEADER_BYTES);
    n = proto_frame_encode (&f, data + PROTO_HEADER_BYTES, again);
    assert (n == PROTO_HEADER_BYTES + f.length);
    assert (memcmp (again, data, n) == 0);
    free (again);
  }
  else if (status == PROTO_FRAME_TRUNCATED)
    assert (f.length > size - PROTO_HEADER_BYTES);
  else
    assert (f.length == 0 && f.total == 0 && f.part == 0);
}

static uint32_t
get32 (const uint8_t *p)
{
  return p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 |
         (uint32_t) p[3] << 24;
}

/* The same frame with magic, length and checksum as they should be. */
static void
check_repaired (const uint8_t *data, size_t size)
{
  struct proto_frame f = {
    .version = get32 (data + 8),
    .kind = get32 (data + 12),
    .length = (uint32_t) (size - PROTO_HEADER_BYTES),
    .total = get32 (data + 44),
    .part = get32 (data + 48),
  };
  uint8_t *copy = malloc (size);

  proto_frame_encode (&f, data + PROTO_HEADER_BYTES, copy);
  check (copy, size);
  free (copy);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  check (data, size);
  if (size >= PROTO_HEADER_BYTES && size <= PROTO_SLOT_BYTES)
    check_repaired (data, size);
  return 0;
}
