/* frame.c - the header of a frame, written and checked.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The table of PROTOCOL.md is the enum below; put32() to get64() are the only
 * place where byte order is crossed.
 */
#include <config.h>

#include <assert.h>
#include <string.h>

/* All of XXH3 in this file: its streaming state can then be on the stack,
 * whichever version of the library is installed.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "protocol/frame.h"

enum {
  OFFSET_MAGIC = 0,
  OFFSET_VERSION = 8,
  OFFSET_KIND = 12,
  OFFSET_ID = 16,
  OFFSET_NONCE = 24,
  OFFSET_LENGTH = 40,
  OFFSET_TOTAL = 44,
  OFFSET_PART = 48,
  OFFSET_RESERVED = 52,
  OFFSET_CHECKSUM = 56,
};
_Static_assert (OFFSET_CHECKSUM + 8 == PROTO_HEADER_BYTES, "header");

static const uint8_t magic[8] = { 'C', 'O', 'W', 'S', 'E', 'T', '\r', '\n' };

#define CHECKSUM_SEED UINT64_C (0x636f77736574) /* "cowset" */

static const char greeting[] = "{\"control\":\"cowset\",\"versions\":[1]}";
_Static_assert (PROTO_HEADER_BYTES + sizeof greeting <= PROTO_GREETING_MAX,
                "greeting");

static void
put32 (uint8_t *p, uint32_t n)
{
  for (unsigned i = 0; i < 4; ++i)
    p[i] = (uint8_t) (n >> (8 * i));
}

static void
put64 (uint8_t *p, uint64_t n)
{
  put32 (p, (uint32_t) n);
  put32 (p + 4, (uint32_t) (n >> 32));
}

static uint32_t
get32 (const uint8_t *p)
{
  return p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 |
         (uint32_t) p[3] << 24;
}

static uint64_t
get64 (const uint8_t *p)
{
  return get32 (p) | (uint64_t) get32 (p + 4) << 32;
}

static uint64_t
checksum (const uint8_t *frame, size_t body_len)
{
  XXH3_state_t state;

  XXH3_INITSTATE (&state);
  XXH3_64bits_reset_withSeed (&state, CHECKSUM_SEED);
  XXH3_64bits_update (&state, frame, OFFSET_CHECKSUM);
  XXH3_64bits_update (&state, frame + PROTO_HEADER_BYTES, body_len);
  return XXH3_64bits_digest (&state);
}

const char *
proto_frame_status_text (enum proto_frame_status status)
{
  switch (status) {
  case PROTO_FRAME_OK: return "it is valid";
  case PROTO_FRAME_SHORT: return "it is shorter than a header";
  case PROTO_FRAME_MAGIC: return "it does not begin as a frame does";
  case PROTO_FRAME_RESERVED: return "reserved bytes are not zero";
  case PROTO_FRAME_LENGTH: return "its lengths contradict each other";
  case PROTO_FRAME_TRUNCATED: return "its end is missing";
  case PROTO_FRAME_CHECKSUM: return "the checksum does not match";
  case PROTO_FRAME_VERSION: return "it is of another version";
  case PROTO_FRAME_KIND: return "its kind is not known";
  }
  return "unknown";
}

size_t
proto_frame_encode (const struct proto_frame *f, const void *body, void *out)
{
  uint8_t *p = out;

  assert (f->length <= PROTO_BODY_MAX);

  if (f->length > 0)
    memmove (p + PROTO_HEADER_BYTES, body, f->length);
  memcpy (p + OFFSET_MAGIC, magic, sizeof magic);
  put32 (p + OFFSET_VERSION, f->version);
  put32 (p + OFFSET_KIND, f->kind);
  put64 (p + OFFSET_ID, f->id);
  memcpy (p + OFFSET_NONCE, f->nonce.b, sizeof f->nonce.b);
  put32 (p + OFFSET_LENGTH, f->length);
  put32 (p + OFFSET_TOTAL, f->total);
  put32 (p + OFFSET_PART, f->part);
  put32 (p + OFFSET_RESERVED, 0);
  put64 (p + OFFSET_CHECKSUM, checksum (p, f->length));
  return PROTO_HEADER_BYTES + f->length;
}

/* Only answers come in parts; a request for a part has no body. */
static bool
lengths_fit (const struct proto_frame *f)
{
  if (f->length > PROTO_BODY_MAX)
    return false;
  switch (f->kind) {
  case PROTO_ANSWER:
    return f->total <= PROTO_ANSWER_MAX && f->part <= f->total &&
           f->length <= f->total - f->part;
  case PROTO_NEXT_PART:
    return f->length == 0 && f->total == 0;
  default:
    return f->part == 0 && f->total == f->length;
  }
}

enum proto_frame_status
proto_frame_decode (const void *buf, size_t len, struct proto_frame *f)
{
  const uint8_t *p = buf;

  memset (f, 0, sizeof *f);
  if (len < PROTO_HEADER_BYTES)
    return PROTO_FRAME_SHORT;
  if (memcmp (p + OFFSET_MAGIC, magic, sizeof magic) != 0)
    return PROTO_FRAME_MAGIC;
  if (get32 (p + OFFSET_RESERVED) != 0)
    return PROTO_FRAME_RESERVED;

  f->version = get32 (p + OFFSET_VERSION);
  f->kind = get32 (p + OFFSET_KIND);
  f->id = get64 (p + OFFSET_ID);
  memcpy (f->nonce.b, p + OFFSET_NONCE, sizeof f->nonce.b);
  f->length = get32 (p + OFFSET_LENGTH);
  f->total = get32 (p + OFFSET_TOTAL);
  f->part = get32 (p + OFFSET_PART);

  if (!lengths_fit (f)) {
    memset (f, 0, sizeof *f);
    return PROTO_FRAME_LENGTH;
  }
  if (f->length > len - PROTO_HEADER_BYTES)
    return PROTO_FRAME_TRUNCATED;
  if (get64 (p + OFFSET_CHECKSUM) != checksum (p, f->length)) {
    memset (f, 0, sizeof *f);
    return PROTO_FRAME_CHECKSUM;
  }
  if (f->version != PROTO_VERSION)
    return PROTO_FRAME_VERSION;
  if (f->kind < PROTO_REQUEST || f->kind > PROTO_NEXT_PART)
    return PROTO_FRAME_KIND;
  return PROTO_FRAME_OK;
}

size_t
proto_answer_encode (uint64_t id, const struct proto_id *nonce,
                     const void *body, size_t total, size_t part, void *out)
{
  struct proto_frame f = {
    .version = PROTO_VERSION,
    .kind = PROTO_ANSWER,
    .id = id,
    .nonce = *nonce,
    .total = (uint32_t) total,
  };

  assert (total <= PROTO_ANSWER_MAX);

  if (part > total)
    part = total;
  f.part = (uint32_t) part;
  f.length = total - part < PROTO_BODY_MAX ? (uint32_t) (total - part)
                                           : PROTO_BODY_MAX;
  return proto_frame_encode (&f, (const uint8_t *) body + part, out);
}

size_t
proto_greeting_encode (void *out)
{
  const struct proto_frame f = {
    .version = PROTO_VERSION,
    .kind = PROTO_GREETING,
    .length = sizeof greeting - 1,
    .total = sizeof greeting - 1,
  };

  return proto_frame_encode (&f, greeting, out);
}
