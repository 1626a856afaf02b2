/* killed.c - a requester dies by SIGKILL, at every step of making a set.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   killed [--rounds N] [--limit MS] URI VOLUME...
 *
 * A child goes as far as one step and is killed there, N times for each step;
 * then N times at any moment of cowset_do_snapshot_set().  Other clients write
 * to all volumes all the time.  After each death:
 *
 *   - no write waits for longer than the limit (1 s by default; the server's
 *     own limit of a hold has to be much longer, so that waiting for it shows);
 *   - what is listed on the way is whole, and in the end nothing is;
 *   - the volumes can be claimed by another set.
 */
#include "config.h"

#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "consistency/sets.h"
#include "cowset.h"
#include "protocol/id.h"

extern char **environ;

static const char *uri;
static const char *name[SETS_VOLUMES_MAX];
static unsigned volumes, rounds = 20;
static uint64_t limit_ns = UINT64_C (1000000000), state;

/* The steps in their order.  "-": the request is only sent, so that the child
 * may die before, while and after it is carried out.
 */
static const char *const steps[] = {
  "connect", "hello",       "set.start", "set.add",     "-set.prepare",
  "set.prepare", "-set.hold", "set.hold",  "-set.switch", "set.switch",
  "-set.settle", "set.settle", "-set.finish", "set.finish", "-delete",
  "delete",
};
#define STEPS (sizeof steps / sizeof steps[0])

/* ---- the child */

static void
say_and_wait (int fd)
{
  if (write (fd, "x", 1) != 1)
    _exit (1);
  for (;;)
    pause ();
}

static void
request (struct control *c, const char *op, const char *set, bool wait)
{
  char body[300];

  snprintf (body, sizeof body,
            strcmp (op, "set.start") == 0
              ? "{\"op\":\"%s\",\"set\":\"%s\",\"context\":16,"
                "\"auto_release\":true}"
            : strcmp (op, "delete") == 0
              ? "{\"op\":\"%s\",\"id\":\"%s\",\"type\":\"set\"}"
              : "{\"op\":\"%s\",\"set\":\"%s\"}",
            op, set);
  if (!wait)
    control_send (c, "%s", body);
  else if (control_call (c, "%s", body) < 0)
    fail ("%s: %s", op, control_answer (c));
}

static void
add_all (struct control *c, const char *set)
{
  for (unsigned v = 0; v < volumes; v++) {
    struct proto_id id = proto_id_new ();
    char text[PROTO_ID_TEXT_SIZE];

    proto_id_format (&id, text);
    if (control_call (c, "{\"op\":\"set.add\",\"set\":\"%s\",\"volume\":"
                         "\"%s\",\"snapshot\":\"%s\"}", set, name[v], text)
        < 0)
      fail ("set.add: %s", control_answer (c));
  }
}

/* As far as step number `last`. */
static void
child_steps (unsigned last, int fd)
{
  struct proto_id id = proto_id_new ();
  char set[PROTO_ID_TEXT_SIZE];
  struct control *c = NULL;

  proto_id_format (&id, set);
  if (last == 0) {
    open_export (uri, "@control");
    say_and_wait (fd);
  }
  for (unsigned i = 1; i <= last; i++) {
    const char *op = steps[i];

    if (*op == '-') {
      /* On the way, the one that waits for its answer does it. */
      if (i == last)
        request (c, op + 1, set, false);
    }
    else if (strcmp (op, "hello") == 0)
      c = control_open (uri);
    else if (strcmp (op, "set.add") == 0)
      add_all (c, set);
    else
      request (c, op, set, true);
  }
  say_and_wait (fd);
}

/* Sets without end; the first byte when it has begun. */
static void
child_whole (int fd)
{
  bool begun = false;

  for (;;) {
    struct taken *t;

    if (!begun && write (fd, "x", 1) != 1)
      _exit (1);
    begun = true;
    t = take_set (uri, name, volumes);
    release_set (t);
  }
}

/* ---- clients that write */

/* When the last write that is done was begun, which is when the one before it
 * had ended.
 */
static _Atomic uint64_t done[SETS_VOLUMES_MAX];
static _Atomic bool stop;

static void *
write_all_the_time (void *arg)
{
  unsigned v = (uintptr_t) arg;
  struct nbd_handle *h = open_export (uri, name[v]);
  uint64_t mine = state + v, blocks = (uint64_t) nbd_get_size (h) / 4096;
  char buf[4096];

  while (!atomic_load (&stop)) {
    uint64_t start = now_ns ();

    memset (buf, (int) draw (&mine), sizeof buf);
    if (nbd_pwrite (h, buf, sizeof buf, below (&mine, blocks) * 4096, 0) < 0)
      fail ("writing to %s: %s", name[v], nbd_get_error ());
    atomic_store (&done[v], start);
  }
  close_export (h);
  return NULL;
}

/* How long after the death the last write that it may have held was done. */
static uint64_t
wait_for_writes (uint64_t death, const char *step)
{
  uint64_t longest = 0;

  for (unsigned v = 0; v < volumes; v++) {
    while (atomic_load (&done[v]) < death) {
      if (now_ns () - death > UINT64_C (60000000000))
        fail ("%s: a write to %s has been waiting for a minute", step,
              name[v]);
      usleep (200);
    }
    if (atomic_load (&done[v]) > death
        && atomic_load (&done[v]) - death > longest)
      longest = atomic_load (&done[v]) - death;
  }
  return longest;
}

/* ---- after a death */

/* What is listed has all of its snapshots.  Returns how many sets. */
static size_t
check_list (struct control *c, const char *step)
{
  json_t *answer, *set;
  size_t i, n;

  if (control_call (c, "{\"op\":\"query\",\"context\":-1}") < 0)
    fail ("%s: query: %s", step, control_answer (c));
  answer = json_loads (control_answer (c), 0, NULL);
  n = json_array_size (
    json_object_get (json_object_get (answer, "result"), "sets"));
  json_array_foreach (
    json_object_get (json_object_get (answer, "result"), "sets"), i, set)
    if (json_array_size (json_object_get (set, "snapshots")) != volumes)
      fail ("%s: a set is listed with %zu of %u snapshots", step,
            json_array_size (json_object_get (set, "snapshots")), volumes);
  json_decref (answer);
  return n;
}

/* Can another set have the volumes? */
static bool
can_claim (struct control *c, const char *step)
{
  struct proto_id id = proto_id_new ();
  char set[PROTO_ID_TEXT_SIZE];
  bool ok = true;

  proto_id_format (&id, set);
  request (c, "set.start", set, true);
  for (unsigned v = 0; v < volumes && ok; v++) {
    char text[PROTO_ID_TEXT_SIZE];
    int hr;

    id = proto_id_new ();
    proto_id_format (&id, text);
    hr = control_call (c, "{\"op\":\"set.add\",\"set\":\"%s\",\"volume\":"
                          "\"%s\",\"snapshot\":\"%s\"}", set, name[v], text);
    if (hr < 0 && hr != VSS_E_SNAPSHOT_SET_IN_PROGRESS)
      fail ("%s: set.add: %s", step, control_answer (c));
    ok = hr >= 0;
  }
  request (c, "set.abort", set, true);
  return ok;
}

static void
wait_until_clean (struct control *c, const char *step)
{
  uint64_t deadline = now_ns () + UINT64_C (60000000000);

  while (check_list (c, step) > 0 || !can_claim (c, step)) {
    if (now_ns () > deadline)
      fail ("%s: a minute after the death a set or a claim is left", step);
    usleep (500);
  }
}

static uint64_t
one_death (struct control *c, unsigned step)
{
  const char *what = step < STEPS ? steps[step] : "any moment";
  char number[20], fd[20];
  char *argv[SETS_VOLUMES_MAX + 7] = {
    (char *) "killed", (char *) "--child", number, (char *) "--fd", fd,
    (char *) uri,
  };
  int pipes[2], status, rc;
  uint64_t death, longest;
  pid_t pid;
  char byte;

  if (pipe (pipes) < 0)
    fail ("no pipe");
  snprintf (number, sizeof number, "%u", step);
  snprintf (fd, sizeof fd, "%d", pipes[1]);
  memcpy (argv + 6, name, volumes * sizeof name[0]);
  rc = posix_spawn (&pid, "/proc/self/exe", NULL, NULL, argv, environ);
  if (rc != 0)
    fail ("no child: %s", strerror (rc));
  close (pipes[1]);
  if (read (pipes[0], &byte, 1) != 1)
    fail ("%s: the child ended by itself", what);
  close (pipes[0]);
  if (step >= STEPS)
    usleep (below (&state, 30000));
  else if (below (&state, 2))
    usleep (below (&state, 3000));
  kill (pid, SIGKILL);
  death = now_ns ();
  longest = wait_for_writes (death, what);
  if (waitpid (pid, &status, 0) != pid || !WIFSIGNALED (status))
    fail ("%s: the child ended by itself", what);
  if (longest > limit_ns)
    fail ("%s: after its death writes were held for %.3f s", what,
          (double) longest / 1e9);
  wait_until_clean (c, what);
  return longest;
}

static void
run (void)
{
  pthread_t writer[SETS_VOLUMES_MAX];
  struct control *c = control_open (uri);
  uint64_t worst = 0;

  for (unsigned v = 0; v < volumes; v++)
    if (pthread_create (&writer[v], NULL, write_all_the_time,
                        (void *) (uintptr_t) v) != 0)
      fail ("no thread");
  for (unsigned step = 0; step <= STEPS; step++) {
    uint64_t longest = 0;

    for (unsigned i = 0; i < rounds; i++) {
      uint64_t ns = one_death (c, step);

      longest = ns > longest ? ns : longest;
    }
    printf ("%-12s  %u deaths, writes go on after %.1f ms at most\n",
            step < STEPS ? steps[step] : "any moment", rounds,
            (double) longest / 1e6);
    fflush (stdout);
    worst = longest > worst ? longest : worst;
  }
  atomic_store (&stop, true);
  for (unsigned v = 0; v < volumes; v++)
    pthread_join (writer[v], NULL);
  control_close (c);
  printf ("%zu deaths: nothing was left, no write held for longer than %.1f "
          "ms\n",
          rounds * (STEPS + 1), (double) worst / 1e6);
}

int
main (int argc, char **argv)
{
  static const struct option options[] = {
    { "rounds", required_argument, NULL, 'n' },
    { "limit", required_argument, NULL, 'l' },
    { "child", required_argument, NULL, 'c' },
    { "fd", required_argument, NULL, 'f' },
    { NULL, 0, NULL, 0 },
  };
  int child = -1, fd = -1, c;
  uint64_t seed;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (c) {
    case 'n': rounds = strtoul (optarg, NULL, 0); break;
    case 'l': limit_ns = strtoull (optarg, NULL, 0) * 1000000; break;
    case 'c': child = atoi (optarg); break;
    case 'f': fd = atoi (optarg); break;
    default: return 2;
    }
  if (argc - optind < 2 || argc - optind - 1 > SETS_VOLUMES_MAX)
    return 2;
  uri = argv[optind++];
  while (optind < argc)
    name[volumes++] = argv[optind++];
  if (child >= 0) {
    if ((unsigned) child < STEPS)
      child_steps (child, fd);
    child_whole (fd);
  }
  seed = choose_seed ();
  state = seed;
  set_repeat ("COWSET_SEED=%" PRIu64 " tests/consistency/test-killed.sh",
              seed);
  run ();
  return 0;
}
