/* test-frame.c - frames, ids and names of the control channel.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <criterion/theories.h>

#include "protocol/frame.h"
#include "protocol/name.h"

TestSuite (frame, .timeout = 60);

/* Bytes that repeat with a period that is no power of two. */
static void
fill (uint8_t *p, size_t len, unsigned seed)
{
  for (size_t i = 0; i < len; ++i)
    p[i] = (uint8_t) ((i * 31 + seed) % 251);
}

/* A whole slot on the heap, so that the address sanitizer sees its end. */
static uint8_t *
new_slot (void)
{
  uint8_t *slot = calloc (1, PROTO_SLOT_BYTES);

  cr_assert_not_null (slot);
  return slot;
}

TheoryDataPoints (frame, decode_of_encode_is_the_identity) = {
  DataPoints (uint32_t, 0, 1, 63, 64, 65, 4095, 4096, 65536,
              PROTO_BODY_MAX - 1, PROTO_BODY_MAX),
  DataPoints (uint32_t, PROTO_REQUEST, PROTO_ANSWER, PROTO_GREETING),
  DataPoints (uint64_t, 0, 1, UINT32_MAX, UINT64_MAX),
};

Theory ((uint32_t length, uint32_t kind, uint64_t id), frame,
        decode_of_encode_is_the_identity)
{
  struct proto_frame f = { .version = PROTO_VERSION, .kind = kind, .id = id,
                           .length = length, .total = length }, g;
  uint8_t *body = malloc (length + 1), *slot = new_slot ();

  fill (f.nonce.b, sizeof f.nonce.b, 7);
  fill (body, length, 3);
  cr_assert_eq (proto_frame_encode (&f, body, slot),
                PROTO_HEADER_BYTES + length);

  /* With just its bytes there, and with the rest of the slot. */
  cr_assert_eq (proto_frame_decode (slot, PROTO_HEADER_BYTES + length, &g),
                PROTO_FRAME_OK);
  cr_assert_eq (proto_frame_decode (slot, PROTO_SLOT_BYTES, &g),
                PROTO_FRAME_OK);
  cr_assert_eq (g.version, f.version);
  cr_assert_eq (g.kind, f.kind);
  cr_assert_eq (g.id, f.id);
  cr_assert (proto_id_equal (&g.nonce, &f.nonce));
  cr_assert_eq (g.length, f.length);
  cr_assert_eq (g.total, f.total);
  cr_assert_eq (g.part, 0);
  cr_assert_arr_eq (slot + PROTO_HEADER_BYTES, body, length);
  free (body);
  free (slot);
}

/* The layout of PROTOCOL.md, byte by byte: a change here is a new version. */
Test (frame, bytes_are_those_of_the_page)
{
  const struct proto_frame f = {
    .version = 1, .kind = PROTO_REQUEST, .id = 0x0807060504030201,
    .nonce = { { 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
                 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf } },
    .length = 13, .total = 13,
  };
  static const uint8_t expected[] = {
    'C', 'O', 'W', 'S', 'E', 'T', '\r', '\n',
    1, 0, 0, 0, 1, 0, 0, 0,
    1, 2, 3, 4, 5, 6, 7, 8,
    0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
    0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
    13, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    /* By the installed libxxhash, over the other bytes made by hand. */
    0x4e, 0x30, 0x9b, 0x33, 0x4a, 0xc1, 0x1f, 0x4b,
    '{', '"', 'o', 'p', '"', ':', '"', 'p', 'i', 'n', 'g', '"', '}',
  };
  uint8_t out[PROTO_HEADER_BYTES + 13];

  cr_assert_eq (proto_frame_encode (&f, "{\"op\":\"ping\"}", out), sizeof out);
  cr_assert_eq (sizeof out, sizeof expected);
  cr_assert_arr_eq (out, expected, sizeof out);
}

Test (frame, any_flipped_bit_is_noticed)
{
  struct proto_frame f = { .version = 1, .kind = PROTO_REQUEST, .id = 5,
                           .length = 13, .total = 13 };
  uint8_t frame[PROTO_HEADER_BYTES + 13];
  size_t n = proto_frame_encode (&f, "{\"op\":\"ping\"}", frame);

  for (size_t bit = 0; bit < n * 8; ++bit) {
    frame[bit / 8] ^= (uint8_t) (1u << bit % 8);
    cr_assert_neq (proto_frame_decode (frame, n, &f), PROTO_FRAME_OK,
                   "bit %zu", bit);
    frame[bit / 8] ^= (uint8_t) (1u << bit % 8);
  }
  cr_assert_eq (proto_frame_decode (frame, n, &f), PROTO_FRAME_OK);
}

Test (frame, every_shorter_length_is_short_or_truncated)
{
  struct proto_frame f = { .version = 1, .kind = PROTO_REQUEST,
                           .length = 13, .total = 13 };
  uint8_t frame[PROTO_HEADER_BYTES + 13];
  size_t n = proto_frame_encode (&f, "{\"op\":\"ping\"}", frame);

  for (size_t len = 0; len < n; ++len) {
    /* A copy of just that length, for the address sanitizer. */
    uint8_t *copy = malloc (len + 1);

    memcpy (copy, frame, len);
    cr_assert_eq (proto_frame_decode (copy, len, &f),
                  len < PROTO_HEADER_BYTES ? PROTO_FRAME_SHORT
                                           : PROTO_FRAME_TRUNCATED);
    free (copy);
  }
}

struct bad {
  char name[40];
  struct proto_frame f;
  enum proto_frame_status expected;
};

ParameterizedTestParameters (frame, refuses)
{
  static const struct bad bad[] = {
    { "zero version", { .version = 0, .kind = 1 }, PROTO_FRAME_VERSION },
    { "next version", { .version = 2, .kind = 1 }, PROTO_FRAME_VERSION },
    { "kind 0", { .version = 1, .kind = 0 }, PROTO_FRAME_KIND },
    { "kind 5", { .version = 1, .kind = 5 }, PROTO_FRAME_KIND },
    { "request in parts", { .version = 1, .kind = 1, .total = 9 },
      PROTO_FRAME_LENGTH },
    { "request with an offset", { .version = 1, .kind = 1, .part = 1 },
      PROTO_FRAME_LENGTH },
    { "next part with a total", { .version = 1, .kind = 4, .total = 1 },
      PROTO_FRAME_LENGTH },
    { "answer beyond its total",
      { .version = 1, .kind = 2, .total = 8, .part = 9 },
      PROTO_FRAME_LENGTH },
    { "answer with a huge offset",
      { .version = 1, .kind = 2, .total = 8, .part = UINT32_MAX },
      PROTO_FRAME_LENGTH },
    { "answer with a huge total",
      { .version = 1, .kind = 2, .total = PROTO_ANSWER_MAX + 1 },
      PROTO_FRAME_LENGTH },
  };

  return cr_make_param_array (struct bad, (void *) bad,
                              sizeof bad / sizeof bad[0]);
}

ParameterizedTest (struct bad *bad, frame, refuses)
{
  uint8_t out[PROTO_HEADER_BYTES];
  struct proto_frame f;

  proto_frame_encode (&bad->f, NULL, out);
  cr_assert_eq (proto_frame_decode (out, sizeof out, &f), bad->expected,
                "%s", bad->name);
}

/* A length that is longer than a slot cannot be encoded, only forged. */
Test (frame, a_body_longer_than_a_slot_is_refused)
{
  struct proto_frame f = { .version = 1, .kind = PROTO_REQUEST };
  uint8_t *slot = new_slot ();

  proto_frame_encode (&f, NULL, slot);
  slot[42] = slot[46] = 0x10;   /* 1 MiB */
  cr_assert_eq (proto_frame_decode (slot, PROTO_SLOT_BYTES, &f),
                PROTO_FRAME_LENGTH);
  memset (slot + 40, 0xff, 8);
  cr_assert_eq (proto_frame_decode (slot, PROTO_SLOT_BYTES, &f),
                PROTO_FRAME_LENGTH);
  cr_assert_eq (f.length, 0);
  free (slot);
}

Test (frame, reserved_bytes_are_checked)
{
  struct proto_frame f = { .version = 1, .kind = PROTO_REQUEST };
  uint8_t out[PROTO_HEADER_BYTES];

  proto_frame_encode (&f, NULL, out);
  out[52] = 1;
  cr_assert_eq (proto_frame_decode (out, sizeof out, &f),
                PROTO_FRAME_RESERVED);
}

Test (frame, an_answer_in_parts_is_put_together_again)
{
  const size_t total = 2 * PROTO_BODY_MAX + 17;
  const struct proto_id nonce = proto_id_new ();
  uint8_t *body = malloc (total), *slot = new_slot ();
  size_t have = 0;
  unsigned parts = 0;

  fill (body, total, 11);
  while (have < total) {
    size_t n = proto_answer_encode (42, &nonce, body, total, have, slot);
    struct proto_frame f;

    cr_assert_eq (proto_frame_decode (slot, n, &f), PROTO_FRAME_OK);
    cr_assert_eq (f.kind, PROTO_ANSWER);
    cr_assert_eq (f.id, 42);
    cr_assert (proto_id_equal (&f.nonce, &nonce));
    cr_assert_eq (f.total, total);
    cr_assert_eq (f.part, have);
    cr_assert_gt (f.length, 0);
    cr_assert_eq (memcmp (slot + PROTO_HEADER_BYTES, body + have, f.length),
                  0);
    have += f.length;
    parts++;
  }
  cr_assert_eq (parts, 3);

  /* Beyond the end: an empty part. */
  cr_assert_eq (proto_answer_encode (42, &nonce, body, total, total + 1, slot),
                PROTO_HEADER_BYTES);
  free (body);
  free (slot);
}

Test (frame, the_greeting_is_a_valid_frame)
{
  uint8_t out[PROTO_GREETING_MAX];
  struct proto_frame f;
  size_t n = proto_greeting_encode (out);

  cr_assert_leq (n, sizeof out);
  cr_assert_eq (proto_frame_decode (out, n, &f), PROTO_FRAME_OK);
  cr_assert_eq (f.kind, PROTO_GREETING);
  cr_assert_eq (out[PROTO_HEADER_BYTES], '{');
  cr_assert_eq (out[n - 1], '}');
}

Test (frame, zeroes_are_no_frame)
{
  uint8_t *slot = new_slot ();
  struct proto_frame f;

  cr_assert_eq (proto_frame_decode (slot, PROTO_SLOT_BYTES, &f),
                PROTO_FRAME_MAGIC);
  free (slot);
}

TestSuite (id, .timeout = 60);

Test (id, text_and_back)
{
  struct proto_id id, other = { { 0 } };
  char text[PROTO_ID_TEXT_SIZE];

  cr_assert (proto_id_parse ("8f1f0c0a-6d9a-4d43-9c52-c0d5e7a3b001", &id));
  cr_assert_eq (id.b[0], 0x8f);
  cr_assert_eq (id.b[15], 0x01);
  proto_id_format (&id, text);
  cr_assert_str_eq (text, "8f1f0c0a-6d9a-4d43-9c52-c0d5e7a3b001");
  for (char *p = text; *p; ++p)
    *p = (char) toupper ((unsigned char) *p);
  cr_assert (proto_id_parse (text, &other));
  cr_assert (proto_id_equal (&id, &other));
}

Test (id, what_is_not_one)
{
  static const char *const bad[] = {
    "", "latest", "8f1f0c0a6d9a4d439c52c0d5e7a3b001",
    "8f1f0c0a-6d9a-4d43-9c52-c0d5e7a3b00",
    "8f1f0c0a-6d9a-4d43-9c52-c0d5e7a3b0011",
    "8f1f0c0a-6d9a-4d43-9c52-c0d5e7a3b00g",
    "{8f1f0c0a-6d9a-4d43-9c52-c0d5e7a3b001}",
    "8f1f0c0a_6d9a-4d43-9c52-c0d5e7a3b001",
  };
  struct proto_id id = { { 1 } };

  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i)
    cr_assert_not (proto_id_parse (bad[i], &id), "%s", bad[i]);
  cr_assert_eq (id.b[0], 1);
}

Test (id, new_ones_differ_and_are_not_null)
{
  struct proto_id a = proto_id_new (), b = proto_id_new (),
                  null = { { 0 } };

  cr_assert_not (proto_id_equal (&a, &b));
  cr_assert_not (proto_id_is_null (&a));
  cr_assert (proto_id_is_null (&null));
}

TestSuite (name, .timeout = 60);

Test (name, good_and_bad)
{
  static const char *const good[] = {
    "a", "0", "disk0", "vm-1.root_fs", "A.B", "latest2", "Control",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
  };
  static const char *const bad[] = {
    "", ".a", "-a", "_a", "a b", "a..b", "a/b", "a@b", "a+w", "latest",
    "control", "8F1F0C0A-6D9A-4D43-9C52-C0D5E7A3B001", "d\xc3\xa9",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
  };

  for (size_t i = 0; i < sizeof good / sizeof good[0]; ++i)
    cr_assert_null (proto_name_check (good[i]), "%s", good[i]);
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i)
    cr_assert_not_null (proto_name_check (bad[i]), "%s", bad[i]);
}
