/* stamp.c - many writers at depth 16, stamped sectors, sets meanwhile.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   stamp [--sets N] [--writers N] [--depth N] URI VOLUME...
 *
 * Each sector says which write it is of, and what was known to be acknowledged
 * when that was issued (writers.h).  Sets are taken by the single steps of the
 * control channel, so that the times before the hold and after the switch are
 * known, and checked by history.c from both sides.
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
#include "protocol/id.h"

#define LOG_ROOM 400000         /* changes of one writer */

static const char *name[SETS_VOLUMES_MAX];
static unsigned sets = 60;
static struct writers w = { .name = name, .count = 3, .depth = 16 };
static struct history *history;

/* ---- sets */

static void
must (struct control *c, int hr, const char *step)
{
  if (hr < 0)
    fail ("%s: %s", step, control_answer (c));
}

struct seen {
  char id[PROTO_ID_TEXT_SIZE];
  unsigned members;
  uint8_t *data[SETS_VOLUMES_MAX];
};

static void
read_members (struct seen *s, uint8_t *const *data)
{
  for (unsigned v = 0; v < w.volumes; v++)
    if (s->members & 1 << v) {
      char export[200];
      struct nbd_handle *h;

      snprintf (export, sizeof export, "%s@%s", name[v], s->id);
      h = open_export (w.uri, export);
      read_export (h, data[v], w.sectors[v] * HISTORY_SECTOR);
      close_export (h);
    }
}

/* Prepare, hold, switch and so on, one way or the other. */
static void
take (struct control *c, struct seen *s, uint64_t *state, uint64_t *from,
      uint64_t *until)
{
  struct proto_id id = proto_id_new ();

  proto_id_format (&id, s->id);
  must (c,
        control_call (c, "{\"op\":\"set.start\",\"set\":\"%s\","
                         "\"context\":16,\"auto_release\":true}", s->id),
        "set.start");
  for (unsigned v = 0; v < w.volumes; v++)
    if (s->members & 1 << v) {
      char text[PROTO_ID_TEXT_SIZE];

      id = proto_id_new ();
      proto_id_format (&id, text);
      must (c,
            control_call (c, "{\"op\":\"set.add\",\"set\":\"%s\","
                             "\"volume\":\"%s\",\"snapshot\":\"%s\"}", s->id,
                          name[v], text),
            "set.add");
    }
#define STEP(what)                                                            \
  must (c, control_call (c, "{\"op\":\"" what "\",\"set\":\"%s\"}", s->id),   \
        what)
  STEP ("set.prepare");
  *from = history_begin (history);
  if (below (state, 2))
    STEP ("set.commit");
  else {
    STEP ("set.hold");
    /* While it holds, writers pile up. */
    if (below (state, 2))
      usleep (below (state, 5000));
    STEP ("set.switch");
  }
  *until = history_now (history);
  STEP ("set.settle");
  STEP ("set.finish");
}

static void
check_same (const struct seen *s, uint8_t *const *data, unsigned set)
{
  for (unsigned v = 0; v < w.volumes; v++)
    for (uint64_t i = 0; (s->members & 1 << v) && i < w.sectors[v]; i++)
      if (memcmp (s->data[v] + i * HISTORY_SECTOR,
                  data[v] + i * HISTORY_SECTOR, HISTORY_SECTOR) != 0)
        fail ("set %u: sector %" PRIu64 " of %s has changed", set, i, name[v]);
}

static void
take_and_check (uint64_t *state)
{
  struct control *c = control_open (w.uri);
  uint8_t *again[SETS_VOLUMES_MAX];
  struct seen s = { .members = 0 };
  uint64_t share = LOG_ROOM / (sets + 2);

  for (unsigned v = 0; v < w.volumes; v++) {
    s.data[v] = malloc (w.sectors[v] * HISTORY_SECTOR);
    again[v] = malloc (w.sectors[v] * HISTORY_SECTOR);
    if (s.data[v] == NULL || again[v] == NULL)
      fail ("out of memory");
  }
  for (unsigned i = 0; i < sets; i++) {
    const uint8_t *data[SETS_VOLUMES_MAX] = { NULL };
    uint64_t from, until;
    char text[500];

    /* Mostly all volumes. */
    s.members = below (state, 4) ? (1u << w.volumes) - 1
                                 : 1 + below (state, (1u << w.volumes) - 1);
    take (c, &s, state, &from, &until);
    read_members (&s, s.data);
    for (unsigned v = 0; v < w.volumes; v++)
      if (s.members & 1 << v)
        data[v] = s.data[v];
    if (!history_check (history, data, from, until, true, text, sizeof text))
      fail ("set %u: %s", i, text);
    read_members (&s, again);
    check_same (&s, again, i);
    if (control_call (c, "{\"op\":\"delete\",\"type\":\"set\",\"id\":\"%s\"}",
                      s.id)
        < 0)
      fail ("delete: %s", control_answer (c));
    atomic_store (&w.allowed, share * (i + 3));
  }
  for (unsigned v = 0; v < w.volumes; v++) {
    free (s.data[v]);
    free (again[v]);
  }
  control_close (c);
}

static int
parse (int argc, char **argv)
{
  static const struct option options[] = {
    { "sets", required_argument, NULL, 'n' },
    { "writers", required_argument, NULL, 'w' },
    { "depth", required_argument, NULL, 'd' },
    { NULL, 0, NULL, 0 },
  };
  int c;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (c) {
    case 'n': sets = strtoul (optarg, NULL, 0); break;
    case 'w': w.count = strtoul (optarg, NULL, 0); break;
    case 'd': w.depth = strtoul (optarg, NULL, 0); break;
    default: return -1;
    }
  if (argc - optind < 2 || argc - optind - 1 > SETS_VOLUMES_MAX
      || w.count > WRITERS_MAX || w.depth > WRITERS_DEPTH_MAX)
    return -1;
  w.uri = argv[optind++];
  while (optind < argc)
    name[w.volumes++] = argv[optind++];
  return 0;
}

int
main (int argc, char **argv)
{
  uint64_t state;

  if (parse (argc, argv) < 0)
    return 2;
  w.seed = choose_seed ();
  set_repeat ("COWSET_SEED=%" PRIu64 " tests/consistency/test-stamp.sh",
              w.seed);
  writers_measure (&w);
  history = history_new (w.volumes, w.sectors, w.count, LOG_ROOM);
  w.history = history;
  /* The log has to last until the last set, however fast the writers are. */
  w.allowed = LOG_ROOM / (sets + 2) * 2;
  writers_start (&w);
  while (history_changes (history) < 1000)
    usleep (1000);
  state = ~w.seed;
  take_and_check (&state);
  writers_stop (&w);
  writers_check_volumes (&w, true, "the volumes at the end");
  printf ("%u sets, %" PRIu64 " changes by %u writers at depth %u on %u "
          "volumes: every set has what was acknowledged before its hold, "
          "nothing issued after its release, and no effect without its "
          "cause\n",
          sets, history_changes (history), w.count, w.depth, w.volumes);
  history_free (history);
  return 0;
}
