/* chain.c - one writer's numbers across volumes have no hole in any set.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   chain [--sets N] URI VOLUME...
 *
 * URI is the server's; a VOLUME may also be a URI of its own, so that the
 * volumes are of several servers.
 *
 * One client writes increasing numbers, number k to volume k mod V, each only
 * when the one before has been acknowledged.  Meanwhile sets are taken by
 * libcowset.  Each set must have exactly the numbers 0..M for some M, which
 * grows; and still the same when it is read again, before it is released.
 *
 * A number has eight bytes of its own, at a place that spreads neighbours over
 * the whole volume, so that first touches are everywhere.
 */
#include "config.h"

#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "consistency/sets.h"

/* Numbers that a volume has room for; a power of two. */
#define ROOM (UINT64_C (1) << 18)
#define BYTES (ROOM * 8)
/* Sets that are kept, to be read again when they go. */
#define KEPT 6

static const char *uri;
static const char *name[SETS_VOLUMES_MAX];
static unsigned volumes;
static uint64_t odd;            /* from the seed: where numbers go */
static _Atomic uint64_t acknowledged; /* so many numbers */
static _Atomic unsigned taken;  /* sets */
static uint64_t share;          /* numbers for each of them */
static _Atomic bool stop;
static uint64_t longest_hold_ns, sum_hold_ns;

/* A permutation of 0..ROOM-1. */
static uint64_t
place (uint64_t k)
{
  return k / volumes * odd % ROOM;
}

static void *
write_numbers (void *arg)
{
  struct nbd_handle *h[SETS_VOLUMES_MAX];

  (void) arg;
  for (unsigned v = 0; v < volumes; v++)
    h[v] = open_export (uri, name[v]);
  for (uint64_t k = 0; k < ROOM * volumes && !atomic_load (&stop); k++) {
    uint64_t word = k + 1;      /* zero: never written */

    /* So that they last until the last set, however fast they are written. */
    while (k >= share * (atomic_load (&taken) + 2) && !atomic_load (&stop))
      usleep (100);
    if (nbd_pwrite (h[k % volumes], &word, sizeof word, place (k) * 8, 0) < 0)
      fail ("writing number %" PRIu64 ": %s", k, nbd_get_error ());
    atomic_store (&acknowledged, k + 1);
  }
  for (unsigned v = 0; v < volumes; v++)
    close_export (h[v]);
  return NULL;
}

/* The numbers of a set: how many, 0..count-1; none may be missing. */
static uint64_t
count_numbers (const struct taken *t, unsigned set, uint64_t *words)
{
  uint64_t first_missing = UINT64_MAX, last = 0;
  bool any = false;

  for (unsigned v = 0; v < volumes; v++) {
    struct nbd_handle *h = open_export (uri, t->export[v]);

    read_export (h, (uint8_t *) words, BYTES);
    close_export (h);
    for (uint64_t k = v; k < ROOM * volumes; k += volumes) {
      uint64_t word = words[place (k)];

      if (word == k + 1) {
        any = true;
        if (k > last)
          last = k;
      }
      else if (word != 0)
        fail ("set %u: %s has %" PRIx64 " in the place of number %" PRIu64,
              set, name[v], word, k);
      else if (k < first_missing)
        first_missing = k;
    }
  }
  if (any && first_missing <= last)
    fail ("set %u has number %" PRIu64 " of %s, but not number %" PRIu64
          " of %s, which was acknowledged before that was issued",
          set, last, name[last % volumes], first_missing,
          name[first_missing % volumes]);
  return any ? last + 1 : 0;
}

struct kept {
  struct taken *set;
  uint64_t count;
};

static void
check_again (struct kept *k, unsigned set, uint64_t *words)
{
  uint64_t count;

  if (k->set == NULL)
    return;
  count = count_numbers (k->set, set, words);
  if (count != k->count)
    fail ("set %u had the numbers below %" PRIu64 ", and now below %" PRIu64,
          set, k->count, count);
  release_set (k->set);
  k->set = NULL;
}

static uint64_t
take_and_check (unsigned sets, uint64_t *words)
{
  struct kept kept[KEPT] = { { NULL, 0 } };
  uint64_t last = 0;

  for (unsigned i = 0; i < sets; i++) {
    struct kept *k = &kept[i % KEPT];
    uint64_t before, after;

    check_again (k, i - KEPT, words);
    before = atomic_load (&acknowledged);
    k->set = take_set (uri, name, volumes);
    after = atomic_load (&acknowledged);
    sum_hold_ns += k->set->hold_ns;
    if (k->set->hold_ns > longest_hold_ns)
      longest_hold_ns = k->set->hold_ns;
    k->count = count_numbers (k->set, i, words);
    /* One may have been under way. */
    if (k->count < before || k->count > after + 1)
      fail ("set %u has the numbers below %" PRIu64 "; acknowledged were %"
            PRIu64 " before and %" PRIu64 " after it", i, k->count, before,
            after);
    if (k->count < last)
      fail ("set %u is older than the one before", i);
    last = k->count;
    atomic_store (&taken, i + 1);
  }
  for (unsigned i = sets < KEPT ? 0 : sets - KEPT; i < sets; i++)
    check_again (&kept[i % KEPT], i, words);
  return last;
}

int
main (int argc, char **argv)
{
  static const struct option options[] = {
    { "sets", required_argument, NULL, 'n' },
    { NULL, 0, NULL, 0 },
  };
  unsigned sets = 200;
  uint64_t seed = choose_seed (), *words = malloc (BYTES), last;
  pthread_t writer;
  int c;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    if (c == 'n')
      sets = strtoul (optarg, NULL, 0);
    else
      return 2;
  if (argc - optind < 2 || argc - optind - 1 > SETS_VOLUMES_MAX
      || words == NULL)
    return 2;
  uri = argv[optind++];
  while (optind < argc)
    name[volumes++] = argv[optind++];
  set_repeat ("COWSET_SEED=%" PRIu64 " tests/consistency/test-chain.sh", seed);
  odd = draw (&seed) | 1;
  share = ROOM * volumes / (sets + 2);

  if (pthread_create (&writer, NULL, write_numbers, NULL) != 0)
    fail ("no thread");
  /* So that there is something to lose. */
  while (atomic_load (&acknowledged) < 100)
    usleep (1000);
  last = take_and_check (sets, words);
  atomic_store (&stop, true);
  pthread_join (writer, NULL);
  free (words);
  if (last >= ROOM * volumes)
    fail ("the numbers ran out before the sets");
  printf ("%u sets over %u volumes: each has exactly the numbers up to its "
          "last; %" PRIu64 " were written, the last set has %" PRIu64 "\n",
          sets, volumes, atomic_load (&acknowledged), last);
  printf ("held for %" PRIu64 " us on average, %" PRIu64 " us at most\n",
          sum_hold_ns / sets / 1000, longest_hold_ns / 1000);
  return 0;
}
