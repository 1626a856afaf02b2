/* stamp.c - many writers at depth 16, stamped sectors, sets meanwhile.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   stamp [--sets N] [--writers N] [--depth N] URI VOLUME...
 *
 * Each writer has a connection to every volume and keeps so many writes in
 * flight over all of them, at random places, ranges of different writers
 * overlapping.  Each sector says which write it is of, and what was known to
 * be acknowledged when that was issued.  Sets are taken by the single steps of
 * the control channel, so that the times before the hold and after the switch
 * are known, and checked by history.c from both sides.
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

#include "consistency/history.h"
#include "consistency/sets.h"
#include "protocol/id.h"

#define WRITERS_MAX 16
#define DEPTH_MAX 64
#define LOG_ROOM 400000
#define SECTORS_MAX 64          /* of one write */

static const char *uri;
static const char *name[SETS_VOLUMES_MAX];
static unsigned volumes, sets = 60, writers = 3, depth = 16;
static uint64_t seed, sectors[SETS_VOLUMES_MAX];
static struct history *history;
static _Atomic unsigned taken;  /* sets */
static _Atomic bool stop;

/* ---- writers */

struct flight {
  unsigned writer;
  size_t number;
  bool busy;
  int64_t cookie;
  unsigned volume;
  uint8_t *buf;
};

static int
answered (void *opaque, int *error)
{
  struct flight *f = opaque;

  if (*error != 0)
    fail ("a write failed: %s", strerror (*error));
  history_acknowledge (history, f->writer, f->number);
  f->busy = false;
  return 1;
}

/* False: the log is full. */
static bool
issue (struct nbd_handle *const *h, struct flight *f, uint64_t *state)
{
  nbd_completion_callback done = { .callback = answered, .user_data = f };
  unsigned v = below (state, volumes), what = below (state, 64);
  uint32_t count = 1 + below (state, below (state, 4) ? 16 : SECTORS_MAX);
  /* Half of the writes go to an eighth of the volume. */
  uint64_t range = below (state, 2) ? sectors[v] : sectors[v] / 8;
  uint64_t first = below (state, range - count + 1);
  uint64_t offset;

  if (below (state, 2)) {
    first -= first % 8;
    count = (count + 7) / 8 * 8;
  }
  if (first + count > sectors[v])
    first = sectors[v] - count;
  offset = first * HISTORY_SECTOR;
  f->volume = v;
  f->busy = true;
  f->number = history_issue (history, f->writer,
                             what == 0 ? HISTORY_ZERO : HISTORY_WRITE, v,
                             first, count);
  if (f->number == SIZE_MAX)
    return f->busy = false;
  if (what == 0)
    f->cookie = nbd_aio_zero (h[v], count * HISTORY_SECTOR, offset, done, 0);
  else {
    history_stamp (history, f->writer, f->number, f->buf);
    f->cookie = nbd_aio_pwrite (h[v], f->buf, count * HISTORY_SECTOR, offset,
                                done, 0);
  }
  if (f->cookie < 0)
    fail ("a write was not issued: %s", nbd_get_error ());
  return true;
}

static void *
write_stamps (void *arg)
{
  unsigned me = (uintptr_t) arg;
  uint64_t state = seed * 100 + me;
  struct nbd_handle *h[SETS_VOLUMES_MAX];
  struct flight flight[DEPTH_MAX] = { { .writer = 0 } };
  bool going = true, busy = true, pause;
  uint64_t issued = 0, share = LOG_ROOM / (sets + 2);

  for (unsigned v = 0; v < volumes; v++)
    h[v] = open_export (uri, name[v]);
  for (unsigned i = 0; i < depth; i++) {
    flight[i].writer = me;
    flight[i].buf = malloc ((SECTORS_MAX + 8) * HISTORY_SECTOR);
    if (flight[i].buf == NULL)
      fail ("out of memory");
  }
  while (going || busy) {
    going = going && !atomic_load (&stop);
    busy = false;
    /* The log has to last until the last set. */
    pause = issued >= share * (atomic_load (&taken) + 2);
    for (unsigned i = 0; i < depth; i++) {
      if (!flight[i].busy && going && !pause && ++issued)
        going = issue (h, &flight[i], &state);
      busy = busy || flight[i].busy;
    }
    /* Whichever answers; a thread that polls one handle lets the others wait
     * for a millisecond at most.
     */
    for (unsigned v = 0; v < volumes && busy; v++)
      if (nbd_aio_in_flight (h[v]) > 0
          && nbd_poll (h[v], v == 0 ? 1 : 0) < 0)
        fail ("the connection to %s: %s", name[v], nbd_get_error ());
    if (pause && !busy)
      usleep (100);
  }
  for (unsigned v = 0; v < volumes; v++)
    close_export (h[v]);
  for (unsigned i = 0; i < depth; i++)
    free (flight[i].buf);
  return NULL;
}

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
  for (unsigned v = 0; v < volumes; v++)
    if (s->members & 1 << v) {
      char export[200];
      struct nbd_handle *h;

      snprintf (export, sizeof export, "%s@%s", name[v], s->id);
      h = open_export (uri, export);
      read_export (h, data[v], sectors[v] * HISTORY_SECTOR);
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
  for (unsigned v = 0; v < volumes; v++)
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
  for (unsigned v = 0; v < volumes; v++)
    for (uint64_t i = 0; (s->members & 1 << v) && i < sectors[v]; i++)
      if (memcmp (s->data[v] + i * HISTORY_SECTOR,
                  data[v] + i * HISTORY_SECTOR, HISTORY_SECTOR) != 0)
        fail ("set %u: sector %" PRIu64 " of %s has changed", set, i, name[v]);
}

static void
take_and_check (uint64_t *state)
{
  struct control *c = control_open (uri);
  uint8_t *again[SETS_VOLUMES_MAX];
  struct seen s = { .members = 0 };

  for (unsigned v = 0; v < volumes; v++) {
    s.data[v] = malloc (sectors[v] * HISTORY_SECTOR);
    again[v] = malloc (sectors[v] * HISTORY_SECTOR);
    if (s.data[v] == NULL || again[v] == NULL)
      fail ("out of memory");
  }
  for (unsigned i = 0; i < sets; i++) {
    const uint8_t *data[SETS_VOLUMES_MAX] = { NULL };
    uint64_t from, until;
    char text[500];

    /* Mostly all volumes. */
    s.members = below (state, 4) ? (1u << volumes) - 1
                                 : 1 + below (state, (1u << volumes) - 1);
    take (c, &s, state, &from, &until);
    read_members (&s, s.data);
    for (unsigned v = 0; v < volumes; v++)
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
    atomic_store (&taken, i + 1);
  }
  for (unsigned v = 0; v < volumes; v++) {
    free (s.data[v]);
    free (again[v]);
  }
  control_close (c);
}

/* At the end the volumes have what was acknowledged. */
static void
check_volumes (void)
{
  const uint8_t *data[SETS_VOLUMES_MAX] = { NULL };
  uint8_t *buf[SETS_VOLUMES_MAX];
  uint64_t now = history_begin (history);
  char text[500];

  for (unsigned v = 0; v < volumes; v++) {
    struct nbd_handle *h = open_export (uri, name[v]);

    data[v] = buf[v] = malloc (sectors[v] * HISTORY_SECTOR);
    if (buf[v] == NULL)
      fail ("out of memory");
    read_export (h, buf[v], sectors[v] * HISTORY_SECTOR);
    close_export (h);
  }
  if (!history_check (history, data, now, now, true, text, sizeof text))
    fail ("the volumes at the end: %s", text);
  for (unsigned v = 0; v < volumes; v++)
    free (buf[v]);
}

static void
measure_volumes (void)
{
  for (unsigned v = 0; v < volumes; v++) {
    struct nbd_handle *h = open_export (uri, name[v]);
    int64_t size = nbd_get_size (h);

    if (size < 1 << 20)
      fail ("%s is too small", name[v]);
    sectors[v] = (uint64_t) size / HISTORY_SECTOR;
    close_export (h);
  }
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
    case 'w': writers = strtoul (optarg, NULL, 0); break;
    case 'd': depth = strtoul (optarg, NULL, 0); break;
    default: return -1;
    }
  if (argc - optind < 2 || argc - optind - 1 > SETS_VOLUMES_MAX
      || writers > WRITERS_MAX || depth > DEPTH_MAX)
    return -1;
  uri = argv[optind++];
  while (optind < argc)
    name[volumes++] = argv[optind++];
  return 0;
}

int
main (int argc, char **argv)
{
  pthread_t writer[WRITERS_MAX];
  uint64_t state;

  if (parse (argc, argv) < 0)
    return 2;
  seed = choose_seed ();
  set_repeat ("COWSET_SEED=%" PRIu64 " tests/consistency/test-stamp.sh", seed);
  measure_volumes ();
  history = history_new (volumes, sectors, writers, LOG_ROOM);
  for (unsigned i = 0; i < writers; i++)
    if (pthread_create (&writer[i], NULL, write_stamps,
                        (void *) (uintptr_t) i) != 0)
      fail ("no thread");
  while (history_changes (history) < 1000)
    usleep (1000);
  state = ~seed;
  take_and_check (&state);
  if (history_changes (history) >= (uint64_t) LOG_ROOM * writers)
    fail ("the log was too short");
  atomic_store (&stop, true);
  for (unsigned i = 0; i < writers; i++)
    pthread_join (writer[i], NULL);
  check_volumes ();
  printf ("%u sets, %" PRIu64 " changes by %u writers at depth %u on %u "
          "volumes: every set has what was acknowledged before its hold, "
          "nothing issued after its release, and no effect without its "
          "cause\n",
          sets, history_changes (history), writers, depth, volumes);
  history_free (history);
  return 0;
}
