/* guard.c - starting the watchdog, asking it, and what follows its death.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "writers/guard.h"
#include "writers/wire.h"

extern char **environ;

#define READY_MS 10000
/* Beyond an event's own time: for what it takes to kill a program. */
#define SLACK_MS 10000

/* The place of one writer. */
struct seat {
  char *spec;

  bool owed, frozen;            /* lock: what a death would leave behind */
  uint64_t seq;                 /* lock; of the event that is asked for, or 0 */
  bool answered;                /* lock */
  cowset_hresult hr;            /* lock */
  char text[WIRE_TEXT_MAX];     /* lock, while seq is not 0 */
};

struct req_guard {
  struct seat *seats;           /* until req_guard_start(), then read only */
  unsigned count;
  bool started;
  pthread_t reader;

  pthread_mutex_t lock;
  pthread_cond_t changed;       /* lock: an answer, or lost or mourned */
  int fd;                       /* lock; -1 before and after */
  uint64_t next_seq;
  bool ending;                  /* it was told to end */
  bool lost;                    /* the watchdog has gone */
  bool mourned;                 /* and what it left has been ended */
  struct wire_message out;

  struct wire_message in;       /* the reader's */
};

/* ------------------------------------------------------------------ starting */

/* Where the program is: as the environment says (tests), beside the command in
 * a build tree, or where it was installed.
 */
static void
find_program (char path[PATH_MAX])
{
  const char *given = secure_getenv ("COWSET_WATCHDOG");
  char self[PATH_MAX];
  const ssize_t n = readlink ("/proc/self/exe", self, sizeof self - 1);
  char *slash;

  if (given && *given) {
    snprintf (path, PATH_MAX, "%s", given);
    return;
  }
  if (n > 0) {
    self[n] = '\0';
    slash = strrchr (self, '/');
    if (slash) {
      *slash = '\0';
      if (snprintf (path, PATH_MAX, "%s/../writers/cowset-watchdog",
                    self) < PATH_MAX && access (path, X_OK) == 0)
        return;
    }
  }
  snprintf (path, PATH_MAX, "%s/cowset-watchdog", PKGLIBEXECDIR);
}

/* The other end of *fd is the standard input of a new process. */
static int
spawn (const char *path, int *fd)
{
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attr;
  char parent[16];
  char *argv[] = { (char *) path, (char *) "0", parent, NULL };
  sigset_t none, all;
  int sv[2], err;
  pid_t pid;

  if (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) == -1)
    return errno;
  snprintf (parent, sizeof parent, "%d", (int) getpid ());
  sigemptyset (&none);
  sigfillset (&all);
  posix_spawnattr_init (&attr);
  posix_spawnattr_setsigmask (&attr, &none);
  posix_spawnattr_setsigdefault (&attr, &all);
  posix_spawnattr_setflags (&attr, POSIX_SPAWN_SETSIGMASK |
                            POSIX_SPAWN_SETSIGDEF);
  posix_spawn_file_actions_init (&actions);
  posix_spawn_file_actions_adddup2 (&actions, sv[1], 0);
  err = posix_spawn (&pid, path, &actions, &attr, argv, environ);
  posix_spawn_file_actions_destroy (&actions);
  posix_spawnattr_destroy (&attr);
  close (sv[1]);
  if (err != 0) {
    close (sv[0]);
    return err;
  }
  /* It puts another one in its place, and ends.  A program that ignores
   * SIGCHLD, or waits for all, has nothing left to wait for here.
   */
  while (waitpid (pid, NULL, 0) == -1 && errno == EINTR)
    ;
  *fd = sv[0];
  return 0;
}

static cowset_hresult
fail_start (const char *path, const char *why)
{
  return req_fail (VSS_E_WRITER_INFRASTRUCTURE, "%s: %s; without it no writer "
                   "can be frozen", path, why);
}

static cowset_hresult
start_process (int *out, struct wire_message *m)
{
  char path[PATH_MAX];
  struct pollfd pollfd = { .events = POLLIN };
  int fd = -1, err;

  find_program (path);
  err = spawn (path, &fd);
  if (err != 0)
    return fail_start (path, strerror (err));
  pollfd.fd = fd;
  if (poll (&pollfd, 1, READY_MS) != 1 || wire_receive (fd, m) != 1 ||
      m->op != WIRE_READY) {
    close (fd);
    return fail_start (path, "does not run");
  }
  if (strcmp (m->text, PACKAGE_VERSION) != 0) {
    close (fd);
    return fail_start (path, "is of another version of cowset");
  }
  *out = fd;
  return S_OK;
}

/* Tell a watchdog who there is. */
static int
introduce (struct req_guard *g, int fd, struct wire_message *m, bool after)
{
  int r = 0;

  for (unsigned i = 0; r == 0 && i < g->count; ++i) {
    struct seat *s = &g->seats[i];

    *m = (struct wire_message) { .op = WIRE_ADD, .writer = i };
    if (after)
      m->flags = (s->owed ? WIRE_MAYBE_OWED : 0) |
                 (s->frozen ? WIRE_MAYBE_FROZEN : 0);
    wire_set_text (m, s->spec, strlen (s->spec));
    r = wire_send (fd, m);
  }
  return r;
}

/* --------------------------------------------------------------- the reader */

/* Have another end what the first may have left, and wait until it has. */
static void
mourn (struct req_guard *g)
{
  bool owed = false;
  int fd;

  for (unsigned i = 0; i < g->count; ++i)
    owed |= g->seats[i].owed;
  if (owed && COWSET_SUCCEEDED (start_process (&fd, &g->in))) {
    struct wire_message *m = &g->in;

    if (introduce (g, fd, m, true) == 0) {
      *m = (struct wire_message) { .op = WIRE_END };
      wire_send (fd, m);
    }
    while (wire_receive (fd, m) == 1)
      ;
    close (fd);
  }
}

static void *
read_answers (void *opaque)
{
  struct req_guard *g = opaque;
  struct wire_message *m = &g->in;
  bool ending;

  while (wire_receive (g->fd, m) == 1) {
    struct seat *s;

    if (m->op != WIRE_DONE || m->writer >= g->count)
      continue;
    s = &g->seats[m->writer];
    pthread_mutex_lock (&g->lock);
    if (s->seq != 0 && m->seq == s->seq) {
      s->hr = m->hr;
      memcpy (s->text, m->text, m->text_len + 1);
      s->answered = true;
      pthread_cond_broadcast (&g->changed);
    }
    pthread_mutex_unlock (&g->lock);
  }

  pthread_mutex_lock (&g->lock);
  g->lost = true;
  ending = g->ending;
  pthread_cond_broadcast (&g->changed);
  pthread_mutex_unlock (&g->lock);
  if (!ending)
    mourn (g);
  pthread_mutex_lock (&g->lock);
  g->mourned = true;
  pthread_cond_broadcast (&g->changed);
  pthread_mutex_unlock (&g->lock);
  return NULL;
}

/* -------------------------------------------------------------------- events */

cowset_hresult
req_guard_new (struct req_guard **out)
{
  struct req_guard *g = calloc (1, sizeof *g);

  if (g == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  g->fd = -1;
  g->next_seq = 1;
  pthread_mutex_init (&g->lock, NULL);
  req_cond_init (&g->changed);
  *out = g;
  return S_OK;
}

cowset_hresult
req_guard_add (struct req_guard *g, const char *spec, unsigned *index)
{
  struct seat *seats, *s;

  if (g->count == WIRE_WRITERS_MAX)
    return req_fail (E_INVALIDARG, "%s: %d writers are the most that there "
                     "can be", spec, WIRE_WRITERS_MAX);
  seats = realloc (g->seats, (g->count + 1) * sizeof *seats);
  if (seats == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  g->seats = seats;
  s = &seats[g->count];
  memset (s, 0, sizeof *s);
  s->spec = strdup (spec);
  if (s->spec == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  *index = g->count++;
  return S_OK;
}

cowset_hresult
req_guard_start (struct req_guard *g)
{
  cowset_hresult hr;

  if (g->started)
    return S_OK;
  hr = start_process (&g->fd, &g->out);
  if (COWSET_FAILED (hr))
    return hr;
  if (introduce (g, g->fd, &g->out, false) < 0 ||
      req_thread_start (&g->reader, read_answers, g) != 0) {
    close (g->fd);
    g->fd = -1;
    return req_fail (VSS_E_WRITER_INFRASTRUCTURE, "the watchdog ended as it "
                     "had started");
  }
  g->started = true;
  return S_OK;
}

static cowset_hresult
fail_lost (void)
{
  return req_fail (VSS_E_WRITER_INFRASTRUCTURE, "the watchdog has died; another "
                   "one told the writers to abort");
}

cowset_hresult
req_guard_setenv (struct req_guard *g, const char *name, const char *value)
{
  int n, r;

  LOCK_FOR_SCOPE (&g->lock);
  if (!g->started || g->lost)
    return fail_lost ();
  g->out = (struct wire_message) { .op = WIRE_SETENV };
  n = snprintf (g->out.text, sizeof g->out.text, "%s=%s", name, value);
  if (n < 0 || (size_t) n >= sizeof g->out.text)
    return req_fail (E_INVALIDARG, "%s: too long for a writer's environment",
                     name);
  g->out.text_len = (uint32_t) n;
  r = wire_send (g->fd, &g->out);
  return r < 0 ? fail_lost () : S_OK;
}

/* g->lock is held, from the sending to the answer but for the wait. */
static cowset_hresult
ask_locked (struct req_guard *g, unsigned index, enum req_event event,
            uint32_t timeout_ms)
{
  const uint64_t deadline_ms = req_now_ms () + timeout_ms + SLACK_MS;
  struct seat *s = &g->seats[index];
  bool in_time = true;

  s->seq = g->next_seq++;
  s->answered = false;
  g->out.op = WIRE_EVENT;
  g->out.writer = index;
  g->out.event = event;
  g->out.seq = s->seq;
  g->out.timeout_ms = timeout_ms;
  g->out.flags = 0;
  wire_set_text (&g->out, "", 0);
  /* That it has gone is for the reader to find. */
  wire_send (g->fd, &g->out);
  while (!s->answered && !g->lost && in_time)
    in_time = req_cond_wait (&g->changed, &g->lock, deadline_ms);
  if (s->answered)
    return COWSET_FAILED (s->hr) ? req_fail (s->hr, "%s", s->text) : s->hr;
  if (g->lost)
    return fail_lost ();
  return req_fail (VSS_E_WRITER_NOT_RESPONDING, "%s: %s has not ended in time",
                   s->spec, req_event_name (event));
}

cowset_hresult
req_guard_event (struct req_guard *g, unsigned index, enum req_event event,
                 uint32_t timeout_ms, const char **text)
{
  struct seat *s = &g->seats[index];
  const bool ends = event == REQ_EVENT_ABORT ||
                    event == REQ_EVENT_BACKUP_SHUTDOWN;
  cowset_hresult hr;

  LOCK_FOR_SCOPE (&g->lock);
  if (!g->started)
    return ends ? S_OK : fail_lost ();
  if (!g->lost) {
    if (event >= REQ_EVENT_PREPARE_BACKUP && event <= REQ_EVENT_FREEZE)
      s->owed = true;
    if (event == REQ_EVENT_FREEZE)
      s->frozen = true;
    hr = ask_locked (g, index, event, timeout_ms);
    s->seq = 0;
    if (COWSET_SUCCEEDED (hr) &&
        (event == REQ_EVENT_THAW || event == REQ_EVENT_ABORT))
      s->owed = s->frozen = false;
  }
  else
    hr = fail_lost ();
  if (g->lost && ends) {
    while (!g->mourned)
      pthread_cond_wait (&g->changed, &g->lock);
    hr = S_OK;
  }
  if (text)
    *text = s->text;
  return hr;
}

void
req_guard_hurry (struct req_guard *g, unsigned index)
{
  LOCK_FOR_SCOPE (&g->lock);

  if (!g->started || g->lost)
    return;
  g->out.op = WIRE_HURRY;
  g->out.writer = index;
  wire_set_text (&g->out, "", 0);
  wire_send (g->fd, &g->out);
}

void
req_guard_free (struct req_guard *g)
{
  if (g == NULL)
    return;
  if (g->started) {
    pthread_mutex_lock (&g->lock);
    g->ending = true;
    g->out.op = WIRE_END;
    wire_set_text (&g->out, "", 0);
    wire_send (g->fd, &g->out);
    /* What could not be thawed is the watchdog's, which goes on trying. */
    for (unsigned i = 0; i < g->count; ++i)
      if (g->seats[i].owed)
        shutdown (g->fd, SHUT_RD);
    pthread_mutex_unlock (&g->lock);
    /* The reader ends when the watchdog has. */
    pthread_join (g->reader, NULL);
    close (g->fd);
  }
  for (unsigned i = 0; i < g->count; ++i)
    free (g->seats[i].spec);
  free (g->seats);
  pthread_cond_destroy (&g->changed);
  pthread_mutex_destroy (&g->lock);
  free (g);
}
