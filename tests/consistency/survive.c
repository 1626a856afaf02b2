/* survive.c - what was acknowledged is there after the server was killed.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   survive [--deaths N] URI VOLUME...
 *
 * Stamped writes, as in stamp.c, until the server dies, which somebody else
 * sees to: a line "writing" on standard output says that it may be killed.
 * Then this waits for the next server at the same place, and checks that the
 * volumes have every write that was acknowledged (of those that were not,
 * any sectors), and that no set is listed.  And so on, N times.
 */
#include "config.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "consistency/history.h"
#include "consistency/sets.h"
#include "consistency/writers.h"

#define LOG_ROOM 1000000

static const char *name[SETS_VOLUMES_MAX];
static struct writers w = {
  .name = name, .count = 2, .depth = 16, .may_die = true,
};

/* Until somebody serves there again: a minute at most. */
static void
wait_for_server (void)
{
  uint64_t deadline = now_ns () + UINT64_C (60000000000);
  struct nbd_handle *h;

  while ((h = try_export (w.uri, name[0])) == NULL) {
    if (now_ns () > deadline)
      fail ("no server for a minute: %s", nbd_get_error ());
    usleep (10000);
  }
  close_export (h);
}

static void
one_death (unsigned death)
{
  struct control *c;
  char what[50];

  writers_start (&w);
  puts ("writing");
  fflush (stdout);
  while (!atomic_load (&w.died))
    usleep (1000);
  writers_stop (&w);
  wait_for_server ();

  snprintf (what, sizeof what, "after death %u", death + 1);
  writers_check_volumes (&w, false, what);
  c = control_open (w.uri);
  if (control_call (c, "{\"op\":\"query\",\"context\":-1}") < 0
      || strstr (control_answer (c), "\"snapshot\"") != NULL)
    fail ("%s: sets are listed: %s", what, control_answer (c));
  control_close (c);
}

int
main (int argc, char **argv)
{
  static const struct option options[] = {
    { "deaths", required_argument, NULL, 'n' },
    { NULL, 0, NULL, 0 },
  };
  unsigned deaths = 10;
  int c;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    if (c == 'n')
      deaths = strtoul (optarg, NULL, 0);
    else
      return 2;
  if (argc - optind < 2 || argc - optind - 1 > SETS_VOLUMES_MAX)
    return 2;
  w.uri = argv[optind++];
  while (optind < argc)
    name[w.volumes++] = argv[optind++];
  w.seed = choose_seed ();
  set_repeat ("COWSET_SEED=%" PRIu64 " tests/consistency/test-survive.sh",
              w.seed);
  writers_measure (&w);
  w.history = history_new (w.volumes, w.sectors, w.count, LOG_ROOM);
  /* Of each life. */
  w.allowed = LOG_ROOM / deaths;
  for (unsigned i = 0; i < deaths; i++, w.seed++)
    one_death (i);
  printf ("%u deaths of the server, %" PRIu64 " changes: none that was "
          "acknowledged is lost\n",
          deaths, history_changes (w.history));
  history_free (w.history);
  return 0;
}
