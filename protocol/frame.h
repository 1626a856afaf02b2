/* frame.h - the frames of the control channel, as PROTOCOL.md has them.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Pure functions on byte buffers: no I/O, no allocation, no locks; safe from
 * any thread.  Whatever comes in is hostile until proto_frame_decode() has
 * said PROTO_FRAME_OK, and its body even then (it is checked JSON text's
 * bytes, not JSON).
 */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "protocol/id.h"

#define PROTO_EXPORT "@control"
#define PROTO_VERSION 1

#define PROTO_SLOTS 16
#define PROTO_SLOT_BYTES (UINT32_C (1) << 20)
#define PROTO_EXPORT_BYTES (PROTO_SLOTS * PROTO_SLOT_BYTES)

#define PROTO_HEADER_BYTES 64
#define PROTO_BODY_MAX (PROTO_SLOT_BYTES - PROTO_HEADER_BYTES)

/* The longest answer over all of its parts.  16,384 snapshots fit. */
#define PROTO_ANSWER_MAX (UINT32_C (64) << 20)

enum proto_frame_kind {
  PROTO_REQUEST = 1,
  PROTO_ANSWER = 2,
  PROTO_GREETING = 3,
  PROTO_NEXT_PART = 4,
};

struct proto_frame {
  uint32_t version;             /* PROTO_VERSION */
  uint32_t kind;                /* enum proto_frame_kind */
  uint64_t id;
  struct proto_id nonce;
  uint32_t length;              /* of the body that follows, in bytes */
  uint32_t total;               /* of the body over all parts */
  uint32_t part;                /* offset of this part in the whole body */
};

/* What is wrong with a frame, in the order in which it is looked for. */
enum proto_frame_status {
  PROTO_FRAME_OK,
  PROTO_FRAME_SHORT,            /* fewer bytes than a header */
  PROTO_FRAME_MAGIC,            /* no frame at all */
  PROTO_FRAME_RESERVED,         /* reserved bytes are not zero */
  PROTO_FRAME_LENGTH,           /* lengths that contradict the kind */
  PROTO_FRAME_TRUNCATED,        /* a good header, but not all of its body */
  PROTO_FRAME_CHECKSUM,
  PROTO_FRAME_VERSION,          /* sound, but of another version */
  PROTO_FRAME_KIND,             /* sound, but of a kind that is not known */
};

/* For people: "the checksum does not match". */
const char *proto_frame_status_text (enum proto_frame_status status);

/* Write the header for *f and the body of f->length bytes (which may overlap
 * its place, out + PROTO_HEADER_BYTES) to out.  Returns the bytes written,
 * PROTO_HEADER_BYTES + f->length.  f->version is written as it stands, so that
 * tests can speak other versions.
 */
size_t proto_frame_encode (const struct proto_frame *f, const void *body,
                           void *out);

/* Take apart the frame at buf, of which len bytes are there (more than the
 * frame has is fine: a slot is longer than what it holds).  With OK, VERSION
 * and KIND all of *f is set and the body is at buf + PROTO_HEADER_BYTES; with
 * TRUNCATED all of *f is set, and nothing in it is to be trusted but for
 * asking for the rest; with the others *f is zero.
 */
enum proto_frame_status proto_frame_decode (const void *buf, size_t len,
                                            struct proto_frame *f);

/* The answer to one request: write it to out, which has room for a slot,
 * beginning at offset part of body.  A part that is beyond the body gives an
 * empty one.  Returns the bytes written.
 */
size_t proto_answer_encode (uint64_t id, const struct proto_id *nonce,
                            const void *body, size_t total, size_t part,
                            void *out);

/* What a slot without a request reads as; the rest of the slot is zero.
 * Returns the bytes written, at most PROTO_GREETING_MAX.
 */
#define PROTO_GREETING_MAX 256
size_t proto_greeting_encode (void *out);

#endif /* PROTO_FRAME_H */
