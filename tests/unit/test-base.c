/* test-base.c - locks, errors, ids, checksums, little-endian integers.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/theories.h>

#include "base/bits.h"
#include "base/checksum.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/id.h"
#include "base/le.h"
#include "base/sync.h"

TestSuite (base, .timeout = 60);

/* --------------------------------------------------------------- numbers */

Test (base, le_is_little_endian)
{
  const le16 a = to_le16 (0x0102);
  const le32 b = to_le32 (0x01020304);
  const le64 c = to_le64 (UINT64_C (0x0102030405060708));

  cr_assert_eq (memcmp (&a, "\2\1", 2), 0);
  cr_assert_eq (memcmp (&b, "\4\3\2\1", 4), 0);
  cr_assert_eq (memcmp (&c, "\10\7\6\5\4\3\2\1", 8), 0);
}

TheoryDataPoints (base, le_round_trip) = {
  DataPoints (uint64_t, 0, 1, 0x7f, 0x80, 0xffff, 0x10000, 0xfffffffe,
              UINT32_MAX, UINT64_C (1) << 32, INT64_MAX, UINT64_MAX),
};

Theory ((uint64_t n), base, le_round_trip)
{
  cr_assert_eq (from_le16 (to_le16 ((uint16_t) n)), (uint16_t) n);
  cr_assert_eq (from_le32 (to_le32 ((uint32_t) n)), (uint32_t) n);
  cr_assert_eq (from_le64 (to_le64 (n)), n);
}

TheoryDataPoints (base, rounding) = {
  DataPoints (uint64_t, 0, 1, 511, 512, 513, 4095, 4096, 4097,
              UINT64_C (1) << 40, (UINT64_C (1) << 40) + 1),
  DataPoints (uint64_t, 1, 2, 512, 4096, 1 << 20),
};

Theory ((uint64_t n, uint64_t align), base, rounding)
{
  const uint64_t down = cow_round_down (n, align);
  const uint64_t up = cow_round_up (n, align);

  cr_assert (down <= n && n - down < align && down % align == 0);
  cr_assert (up >= n && up - n < align && up % align == 0);
  cr_assert_eq (cow_is_aligned (n, align), up == down);
}

Test (base, log2_is_of_the_highest_bit)
{
  cr_assert_eq (cow_log2 (1), 0);
  cr_assert_eq (cow_log2 (4096), 12);
  cr_assert_eq (cow_log2 (8191), 12);
  cr_assert_eq (cow_log2 (UINT64_MAX), 63);
}

/* ------------------------------------------------------------- checksums */

Test (base, checksum_is_xxh3_64)
{
  /* From the specification's test vectors: empty input, seed 0. */
  cr_assert_eq (cow_checksum ("", 0, 0), UINT64_C (0x2D06800538D394C2));
  cr_assert_neq (cow_checksum ("a", 1, 0), cow_checksum ("a", 1, 1));
}

Test (base, seed_is_made_as_the_format_says)
{
  struct cow_id store;
  uint8_t key[32];

  for (unsigned i = 0; i < 16; i++)
    store.b[i] = key[i] = (uint8_t) (i * 17);
  memcpy (key + 16, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
  memcpy (key + 24, "\x01\0\0\0\0\0\0\0", 8);
  cr_assert_eq (cow_seed (&store, UINT64_C (0x1122334455667788), 1),
                cow_checksum (key, 32, 0));
}

Test (base, seed_depends_on_store_place_and_generation)
{
  struct cow_id a = cow_id_new (), b = a;
  uint64_t seed;

  b.b[15] ^= 1;
  seed = cow_seed (&a, 4096, 7);
  cr_assert_eq (seed, cow_seed (&a, 4096, 7));
  cr_assert_neq (seed, cow_seed (&b, 4096, 7));
  cr_assert_neq (seed, cow_seed (&a, 8192, 7));
  cr_assert_neq (seed, cow_seed (&a, 4096, 8));
  cr_assert_neq (cow_seed (&a, 7, 4096), seed);
}

/* ------------------------------------------------------------------- ids */

Test (base, id_is_version_4)
{
  const struct cow_id id = cow_id_new ();
  const struct cow_id other = cow_id_new ();

  cr_assert_eq (id.b[6] >> 4, 4);
  cr_assert_eq (id.b[8] >> 6, 2);
  cr_assert (cow_id_equal (&id, &id));
  cr_assert_not (cow_id_equal (&id, &other));
}

Test (base, id_is_printed_in_order)
{
  struct cow_id id;
  char text[COW_ID_TEXT_SIZE];

  for (unsigned i = 0; i < 16; i++)
    id.b[i] = (uint8_t) (0xa0 + i);
  cow_id_format (&id, text);
  cr_assert_str_eq (text, "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf");
}

/* ---------------------------------------------------------------- errors */

Test (base, error_keeps_the_first_message)
{
  struct cow_error err = COW_ERROR_INIT;

  cow_error_prefix (&err, "nothing to put it before");
  cr_assert_eq (err.code, 0);
  cr_assert_str_empty (err.text);
  cr_assert_eq (cow_error_set (&err, -EIO, "disk %d: broken", 3), -EIO);
  cr_assert_eq (cow_error_set (&err, -ENOSPC, "later"), -ENOSPC);
  cow_error_prefix (&err, "store %s", "a");
  cr_assert_eq (err.code, -EIO);
  cr_assert_str_eq (err.text, "store a: disk 3: broken");
}

Test (base, error_may_be_null)
{
  cr_assert_eq (cow_error_set (NULL, -EIO, "x"), -EIO);
  cow_error_prefix (NULL, "x");
}

Test (base, error_too_long_loses_its_end)
{
  struct cow_error err = COW_ERROR_INIT;
  char text[2 * sizeof err.text];

  memset (text, 'y', sizeof text);
  text[sizeof text - 1] = '\0';
  cow_error_set (&err, -EIO, "%s", text);
  cr_assert_eq (strlen (err.text), sizeof err.text - 1);
  cow_error_prefix (&err, "ab");
  cr_assert_eq (strlen (err.text), sizeof err.text - 1);
  cr_assert_eq (strncmp (err.text, "ab: yyy", 7), 0);
  cow_error_prefix (&err, "%s", text);
  cr_assert_eq (strlen (err.text), sizeof err.text - 1);
  cr_assert_eq (err.text[0], 'y');
}

static char logged[64];
static enum cow_log_level logged_level;

static void
log_hook (enum cow_log_level level, const char *text)
{
  logged_level = level;
  snprintf (logged, sizeof logged, "%s", text);
  errno = EPERM;
}

Test (base, log_goes_to_the_hook)
{
  cow_log_set_hook (log_hook);
  errno = ENOSPC;
  cow_log (COW_LOG_INFO, "%d volumes: %m", 2);
  cr_assert_eq (errno, ENOSPC);
  cr_assert_eq (logged_level, COW_LOG_INFO);
  cr_assert_str_eq (logged, "2 volumes: No space left on device");
}

/* ----------------------------------------------------------------- locks */

Test (base, wait_ends_at_its_deadline)
{
  cow_mutex m;
  cow_cond c;
  uint64_t deadline;

  cow_mutex_init (&m);
  cow_cond_init (&c);
  cow_mutex_lock (&m);
  cr_assert_not (cow_cond_wait_until (&c, &m, 0));
  deadline = cow_now_ns () + 5 * COW_NS_PER_MS;
  while (cow_cond_wait_until (&c, &m, deadline))
    ;
  cr_assert (cow_now_ns () >= deadline);
  cow_mutex_unlock (&m);
  cow_cond_destroy (&c);
  cow_mutex_destroy (&m);
}

struct turns {
  cow_mutex lock;
  cow_cond cond;
  unsigned turn, rounds;
};

static void *
take_turns (void *opaque)
{
  struct turns *t = opaque;

  for (unsigned i = 0; i < t->rounds; i++) {
    LOCK_FOR_SCOPE (&t->lock);

    while (t->turn % 2 == 0)
      cow_cond_wait_until (&t->cond, &t->lock, COW_NEVER);
    t->turn++;
    cow_cond_signal (&t->cond);
  }
  return NULL;
}

Test (base, two_threads_take_turns)
{
  struct turns t = { .rounds = 1000 };
  pthread_t thread;

  cow_mutex_init (&t.lock);
  cow_cond_init (&t.cond);
  cr_assert_eq (pthread_create (&thread, NULL, take_turns, &t), 0);
  for (unsigned i = 0; i < t.rounds; i++) {
    LOCK_FOR_SCOPE (&t.lock);

    while (t.turn % 2 == 1)
      cow_cond_wait_until (&t.cond, &t.lock, COW_NEVER);
    t.turn++;
    cow_cond_signal (&t.cond);
  }
  pthread_join (thread, NULL);
  cr_assert_eq (t.turn, 2 * t.rounds);
  cow_cond_destroy (&t.cond);
  cow_mutex_destroy (&t.lock);
}

#ifndef NDEBUG
Test (base, unlock_of_a_free_lock_aborts, .signal = SIGABRT)
{
  cow_mutex m;

  cow_mutex_init (&m);
  cow_mutex_unlock (&m);
}

Test (base, lock_of_an_own_lock_aborts, .signal = SIGABRT)
{
  cow_mutex m;

  cow_mutex_init (&m);
  cow_mutex_lock (&m);
  cow_mutex_lock (&m);
}
#endif

Test (base, clocks)
{
  const uint64_t before = cow_now_ns ();

  cow_sleep_ns (COW_NS_PER_MS);
  cow_yield ();
  cr_assert (cow_now_ns () - before >= COW_NS_PER_MS);
  /* After 2020. */
  cr_assert (cow_wall_ns () > UINT64_C (1577836800) * COW_NS_PER_S);
}

Test (base, random_fills_everything)
{
  static const uint8_t zeroes[16];
  uint8_t buf[4096 + 1];

  memset (buf, 0, sizeof buf);
  cow_random (buf, sizeof buf - 1);
  for (size_t i = 0; i < sizeof buf - 1; i += 16)
    cr_assert_neq (memcmp (buf + i, zeroes, 16), 0);
  cr_assert_eq (buf[sizeof buf - 1], 0);
}
