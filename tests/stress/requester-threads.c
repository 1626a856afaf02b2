/* requester-threads.c - many threads on one backup components object.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Description: each round makes an object over the scripted server of the unit
 * tests; threads call whatever they like of it, in any order, and cancel what
 * they have started, until it is released.  Every call returns a code of its
 * page, and no set is left behind.  Run under the thread sanitizer.
 *
 * Usage: requester-threads [ROUNDS]
 */
#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "../unit/fake-server.h"

#define THREADS 6
#define CALLS 60

struct caller {
  struct cowset *c;
  uint64_t random;
  unsigned bad;                 /* calls that returned what they must not */
};

static uint64_t
next (uint64_t *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static void
expect (struct caller *a, cowset_hresult hr)
{
  switch (hr) {
  case S_OK:
  case S_FALSE:
  case VSS_S_ASYNC_FINISHED:
  case VSS_S_ASYNC_CANCELLED:
  case VSS_E_BAD_STATE:
  case VSS_E_OBJECT_NOT_FOUND:
  case VSS_E_OBJECT_ALREADY_EXISTS:
    return;
  default:
    fprintf (stderr, "%s: %s\n", cowset_result_name (hr),
             cowset_error_message ());
    a->bad++;
  }
}

static void
end_async (struct caller *a, cowset_hresult started,
           struct cowset_async *async)
{
  cowset_hresult status;

  expect (a, started);
  if (COWSET_FAILED (started))
    return;
  if (next (&a->random) % 3 == 0)
    expect (a, cowset_async_cancel (async));
  else if (next (&a->random) % 2 == 0)
    expect (a, cowset_async_wait (async, (uint32_t) (next (&a->random) % 3)));
  expect (a, cowset_async_query_status (async, &status));
  cowset_async_free (async);
}

static void
look (struct caller *a)
{
  struct cowset_object_prop item;
  struct cowset_enum *e;
  bool supported;
  const cowset_hresult hr = cowset_query (a->c, NULL, VSS_OBJECT_NONE,
                                          VSS_OBJECT_SNAPSHOT_SET, &e);

  expect (a, hr);
  if (COWSET_SUCCEEDED (hr)) {
    expect (a, cowset_enum_next (e, 1, &item, NULL));
    cowset_enum_free (e);
  }
  expect (a, cowset_is_volume_supported (a->c, NULL, "a", &supported));
}

static void *
run (void *opaque)
{
  static const char *const volumes[] = { "a", "b", "c" };
  struct caller *a = opaque;

  for (unsigned i = 0; i < CALLS; ++i) {
    struct cowset_async *async = NULL;
    struct cowset_id id;
    cowset_hresult hr;

    switch (next (&a->random) % 8) {
    case 0:
      expect (a, cowset_start_snapshot_set (a->c, &id));
      break;
    case 1:
    case 2:
      expect (a, cowset_add_to_snapshot_set (
                   a->c, volumes[next (&a->random) % 3], NULL, &id));
      break;
    case 3:
      hr = cowset_prepare_for_backup (a->c, &async);
      end_async (a, hr, async);
      break;
    case 4:
      hr = cowset_do_snapshot_set (a->c, &async);
      end_async (a, hr, async);
      break;
    case 5:
      if (next (&a->random) % 16 == 0)
        expect (a, cowset_abort_backup (a->c));
      break;
    case 6:
      hr = cowset_backup_complete (a->c, &async);
      end_async (a, hr, async);
      break;
    default:
      look (a);
    }
  }
  return NULL;
}

static unsigned
one_round (struct fake *f, uint64_t seed)
{
  struct caller callers[THREADS];
  pthread_t threads[THREADS];
  struct cowset *c = fake_object (f);
  struct cowset_async *async;
  unsigned bad = 0;

  if (cowset_initialize_for_backup (c, NULL) != S_OK ||
      cowset_set_backup_state (c, false, false, VSS_BT_FULL, false) != S_OK ||
      cowset_gather_writer_metadata (c, &async) != S_OK ||
      cowset_async_wait (async, VSS_INFINITE) != S_OK)
    return 1;
  cowset_async_free (async);
  for (unsigned i = 0; i < THREADS; ++i) {
    callers[i] = (struct caller) { .c = c, .random = seed * 31 + i + 1 };
    if (pthread_create (&threads[i], NULL, run, &callers[i]) != 0)
      abort ();
  }
  for (unsigned i = 0; i < THREADS; ++i) {
    pthread_join (threads[i], NULL);
    bad += callers[i].bad;
  }
  cowset_release (c);
  if (fake_open_sets (f) != 0 || fake_finished_sets (f) != 0) {
    fprintf (stderr, "%zu unfinished and %zu finished sets are left\n",
             fake_open_sets (f), fake_finished_sets (f));
    bad++;
  }
  return bad;
}

int
main (int argc, char *argv[])
{
  const unsigned rounds = argc > 1 ? (unsigned) strtoul (argv[1], NULL, 0)
                                   : 100;
  const char *text = getenv ("COWSET_SEED");
  const uint64_t seed = text ? strtoull (text, NULL, 0)
                             : (uint64_t) time (NULL) ^ (uint64_t) getpid ();
  struct fake *f = fake_new ();
  unsigned bad = 0;

  printf ("seed %" PRIu64 "; to repeat: COWSET_SEED=%" PRIu64 " %s %u\n",
          seed, seed, argv[0], rounds);
  for (unsigned i = 0; i < rounds && bad == 0; ++i)
    bad = one_round (f, seed + i);
  printf ("%u sets were made, %u given up\n", fake_count (f, "set.finish"),
          fake_count (f, "set.abort"));
  fake_free (f);
  return bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
