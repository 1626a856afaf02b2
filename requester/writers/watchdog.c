/* watchdog.c - cowset-watchdog: freezes and thaws writers for libcowset, and
 * thaws them when libcowset's process has gone.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The library starts it before the first event.  It is a process of its own,
 * in a session of its own, so that what ends the requester does not end it: it
 * knows of every freeze from its beginning on, and is there to undo it.
 *
 * What has to hold:
 *   D1  A writer is marked as owing an end, and as frozen, before its freeze
 *       begins: whatever happens then, it is undone.
 *   D2  A writer is frozen for its window at most, whoever forgets about it.
 *       A thaw that is asked for after that fails: the instant may not have
 *       been in the window.
 *   D3  The death of the requester aborts every writer that is owed an end;
 *       this process ends only when that is done, or has failed for long.
 *   D4  From the first prepare on nothing is opened or allocated here, but
 *       what a kind has to (exec: a process).
 *
 * Threads: main() reads the socket; one for each writer carries its events
 * out.  One lock, which is not held over an event.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "writers/watchdog.h"

#define SOCKET_FD 3
#define PEER_FD 4
#define FIRST_FREE_FD 5

#define STACK_BYTES (256 * 1024)

/* How long a running event may go on when somebody wants it to end. */
#define HURRY_MS 5000
/* An abort that nobody asked for: how long, how often, and when it is given
 * up.
 */
#define ABORT_MS 60000
#define RETRY_MS 2000
#define RESCUE_MS 300000
#define SHUTDOWN_MS 30000

static struct {
  pthread_mutex_t lock;
  pthread_cond_t ended;         /* lock: a desk has ended a job */
  struct desk *desks[WIRE_WRITERS_MAX]; /* main's; desks never go */
  unsigned count;
} dog = { .lock = PTHREAD_MUTEX_INITIALIZER };

uint64_t
now_ms (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

static void
init_cond (pthread_cond_t *cond)
{
  pthread_condattr_t attr;

  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (cond, &attr);
  pthread_condattr_destroy (&attr);
}

/* Until signalled, or until_ms; the lock is held. */
static void
wait_for (pthread_cond_t *cond, uint64_t until_ms)
{
  const struct timespec until = {
    .tv_sec = (time_t) (until_ms / 1000),
    .tv_nsec = (long) (until_ms % 1000) * 1000000,
  };

  if (until_ms == NEVER)
    pthread_cond_wait (cond, &dog.lock);
  else
    pthread_cond_timedwait (cond, &dog.lock, &until);
}

/* ------------------------------------------------------------ for the kinds */

cowset_hresult
job_fail (struct job *j, cowset_hresult hr, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (j->text, sizeof j->text, format, args);
  va_end (args);
  return hr;
}

uint64_t
desk_deadline_ms (struct desk *d, const struct job *j)
{
  const uint64_t hurry_ms = atomic_load (&d->hurry_ms);

  return hurry_ms < j->deadline_ms ? hurry_ms : j->deadline_ms;
}

int
desk_wait (struct desk *d, const struct job *j, int fd, short events)
{
  for (;;) {
    struct pollfd fds[] = {
      { .fd = fd, .events = events },
      { .fd = d->hurry_fd, .events = POLLIN },
    };
    const uint64_t deadline_ms = desk_deadline_ms (d, j), now = now_ms ();
    uint64_t left_ms, count;

    if (now >= deadline_ms)
      return 0;
    left_ms = deadline_ms - now;
    if (poll (fds, 2, left_ms > 3600000 ? 3600000 : (int) left_ms) <= 0)
      continue;
    if (fds[1].revents &&
        read (d->hurry_fd, &count, sizeof count) == sizeof count)
      continue;                 /* the deadline has changed */
    if (fds[0].revents)
      return 1;
  }
}

/* -------------------------------------------------------------------- desks */

/* Whether there is something to do, and what; else *until is when to look
 * again.  The lock is held.
 */
static bool
choose (struct desk *d, uint64_t now, struct job *j, uint64_t *until)
{
  *until = NEVER;
  j->seq = 0;
  if (d->rescue || (d->frozen && now >= d->thaw_by_ms)) {
    if (!d->rescue)
      d->expired = true;
    if (d->owed && now < d->retry_ms) {
      *until = d->retry_ms;
      return false;
    }
    j->deadline_ms = now + (d->owed ? ABORT_MS : SHUTDOWN_MS);
    j->event = d->owed ? REQ_EVENT_ABORT : REQ_EVENT_BACKUP_SHUTDOWN;
    return d->owed || d->identified;
  }
  if (d->waiting) {
    d->waiting = false;
    j->event = d->next.event;
    j->seq = d->next.seq;
    j->deadline_ms = d->next.deadline_ms;
    return true;
  }
  if (d->frozen)
    *until = d->thaw_by_ms;
  return false;
}

/* Before the event is carried out (D1).  The lock is held.  False: it is not
 * to be, and *hr says what came of it.
 */
static bool
begin (struct desk *d, struct job *j, uint64_t now, cowset_hresult *hr)
{
  j->text[0] = '\0';
  switch (j->event) {
  case REQ_EVENT_PREPARE_BACKUP:
  case REQ_EVENT_PREPARE_SNAPSHOT:
    d->owed = true;
    break;
  case REQ_EVENT_FREEZE:
    d->owed = d->frozen = true;
    d->expired = false;
    d->retry_ms = 0;
    d->thaw_by_ms = now + d->window_ms;
    if (j->deadline_ms > d->thaw_by_ms)
      j->deadline_ms = d->thaw_by_ms;
    break;
  case REQ_EVENT_THAW:
    if (d->expired || !d->frozen) {
      *hr = job_fail (j, d->expired ? VSS_E_WRITERERROR_TIMEOUT
                                    : VSS_E_BAD_STATE, d->expired ?
                      "it was frozen for longer than %u ms, and thawed before "
                      "it was told to" : "it is not frozen", d->window_ms);
      return false;
    }
    break;
  case REQ_EVENT_ABORT:
    if (!d->owed) {
      *hr = S_OK;               /* it has had it, when its time was over */
      return false;
    }
    break;
  default:
    break;
  }
  return true;
}

/* What follows from how it ended.  The lock is held. */
static cowset_hresult
finish (struct desk *d, struct job *j, uint64_t now, cowset_hresult hr)
{
  const bool ok = COWSET_SUCCEEDED (hr);

  switch (j->event) {
  case REQ_EVENT_IDENTIFY:
    d->identified = ok;
    break;
  case REQ_EVENT_FREEZE:
    if (ok && now >= d->thaw_by_ms)
      hr = job_fail (j, VSS_E_WRITERERROR_TIMEOUT, "it took longer than %u ms "
                     "to freeze", d->window_ms);
    break;
  case REQ_EVENT_THAW:
    if (ok)
      d->owed = d->frozen = false;
    break;
  case REQ_EVENT_ABORT:
    /* What is not frozen needs no second attempt. */
    if (ok || !d->frozen)
      d->owed = d->frozen = false;
    else
      d->retry_ms = now + RETRY_MS;
    break;
  case REQ_EVENT_BACKUP_SHUTDOWN:
    d->identified = false;
    break;
  default:
    break;
  }
  return hr;
}

static void
answer (struct desk *d, const struct job *j, cowset_hresult hr)
{
  struct wire_message m = {
    .op = WIRE_DONE,
    .writer = d->index,
    .event = j->event,
    .seq = j->seq,
    .hr = hr,
  };

  wire_set_text (&m, j->text, strlen (j->text));
  wire_send (SOCKET_FD, &m);    /* nobody there: main() will see it, too */
}

static void *
desk_main (void *opaque)
{
  struct desk *d = opaque;
  struct job *j = &d->job;

  pthread_mutex_lock (&dog.lock);
  for (;;) {
    cowset_hresult hr;
    uint64_t until;

    if (!choose (d, now_ms (), j, &until)) {
      if (d->quit)
        break;
      wait_for (&d->wake, until);
      continue;
    }
    if (begin (d, j, now_ms (), &hr)) {
      d->running = true;
      pthread_mutex_unlock (&dog.lock);
      hr = d->kind->run (d, j);
      pthread_mutex_lock (&dog.lock);
      d->running = false;
      atomic_store (&d->hurry_ms, NEVER);
      hr = finish (d, j, now_ms (), hr);
    }
    if (j->seq != 0)
      answer (d, j, hr);
    pthread_cond_broadcast (&dog.ended);
  }
  pthread_mutex_unlock (&dog.lock);
  d->kind->close (d);
  return NULL;
}

/* The lock is held. */
static void
hurry (struct desk *d)
{
  const uint64_t one = 1;

  if (!d->running || d->job.event == REQ_EVENT_ABORT)
    return;
  atomic_store (&d->hurry_ms, now_ms () + HURRY_MS);
  if (write (d->hurry_fd, &one, sizeof one) == -1)
    return;                     /* it is full of such wishes already */
}

static const struct kind *const kinds[] = { &kind_exec, &kind_fsfreeze,
                                            &kind_qga };

/* NULL: no memory, or a kind that there is not. */
static struct desk *
make_desk (const struct wire_message *m)
{
  const char *colon = strchr (m->text, ':');
  struct desk *d = calloc (1, sizeof *d);

  for (size_t i = 0; d && colon && i < sizeof kinds / sizeof kinds[0]; ++i)
    if (strlen (kinds[i]->name) == (size_t) (colon - m->text) &&
        strncmp (kinds[i]->name, m->text, (size_t) (colon - m->text)) == 0)
      d->kind = kinds[i];
  if (d == NULL || d->kind == NULL || (d->path = strdup (colon + 1)) == NULL) {
    free (d);
    return NULL;
  }
  d->index = dog.count;
  d->fd = -1;
  d->hurry_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  atomic_init (&d->hurry_ms, NEVER);
  init_cond (&d->wake);
  d->owed = m->flags & WIRE_MAYBE_OWED;
  d->frozen = d->froze = m->flags & WIRE_MAYBE_FROZEN;
  d->thaw_by_ms = NEVER;
  return d;
}

static bool
add_desk (const struct wire_message *m)
{
  struct desk *d = dog.count < WIRE_WRITERS_MAX ? make_desk (m) : NULL;
  pthread_attr_t attr;
  int err;

  if (d == NULL || d->hurry_fd == -1)
    return false;
  pthread_attr_init (&attr);
  pthread_attr_setstacksize (&attr, STACK_BYTES);
  err = pthread_create (&d->thread, &attr, desk_main, d);
  pthread_attr_destroy (&attr);
  if (err != 0)
    return false;
  dog.desks[dog.count++] = d;
  return true;
}

/* ------------------------------------------------------------- the requester */

/* An event for a desk.  The library sends one only when the one before has
 * been answered, but for an abort.
 */
static void
take_event (const struct wire_message *m)
{
  struct desk *d = dog.desks[m->writer];

  /* Pages that are there need no memory, from which another thread could be
   * kept by what is frozen.  Failing for want of the right is no harm.
   */
  if (m->event == REQ_EVENT_PREPARE_SNAPSHOT)
    mlockall (MCL_CURRENT);

  pthread_mutex_lock (&dog.lock);
  d->waiting = true;
  d->next.event = (enum req_event) m->event;
  d->next.seq = m->seq;
  d->next.deadline_ms = now_ms () + m->timeout_ms;
  if (m->event == REQ_EVENT_FREEZE)
    d->window_ms = m->timeout_ms;
  if (m->event == REQ_EVENT_ABORT)
    hurry (d);
  pthread_cond_signal (&d->wake);
  pthread_mutex_unlock (&dog.lock);
}

/* False: it is the last, or makes no sense. */
static bool
take (struct wire_message *m)
{
  const bool names_writer = m->writer < dog.count;
  char *value;

  switch (m->op) {
  case WIRE_ADD:
    return add_desk (m);
  case WIRE_SETENV:
    value = strchr (m->text, '=');
    if (value == NULL)
      return false;
    *value++ = '\0';
    return setenv (m->text, value, 1) == 0;
  case WIRE_EVENT:
    if (!names_writer || m->event >= REQ_EVENT_COUNT)
      return false;
    take_event (m);
    return true;
  case WIRE_HURRY:
    if (!names_writer)
      return false;
    pthread_mutex_lock (&dog.lock);
    hurry (dog.desks[m->writer]);
    pthread_mutex_unlock (&dog.lock);
    return true;
  default:
    return false;
  }
}

/* Serve the requester until it has gone.  True: it said so. */
static bool
serve (void)
{
  static struct wire_message m;

  for (;;) {
    struct pollfd fds[] = {
      { .fd = SOCKET_FD, .events = POLLIN },
      { .fd = PEER_FD, .events = POLLIN },
    };

    if (poll (fds, 2, -1) == -1)
      continue;
    /* What it said last is still to be heard. */
    if (fds[0].revents) {
      if (wire_receive (SOCKET_FD, &m) != 1)
        return false;
      if (m.op == WIRE_END)
        return true;
      if (!take (&m))
        return false;
    }
    else if (fds[1].revents & POLLIN)
      return false;
    else if (fds[1].revents)
      close (PEER_FD);          /* never open: the socket has to do */
  }
}

/* ---------------------------------------------------------------- the rescue */

static bool
is_done (const struct desk *d)
{
  return !d->running && !d->owed && !d->identified;
}

/* Bring every writer to its end (D3).  Returns how many could not be. */
static unsigned
rescue (void)
{
  const uint64_t until_ms = now_ms () + RESCUE_MS;
  unsigned left;

  pthread_mutex_lock (&dog.lock);
  for (unsigned i = 0; i < dog.count; ++i) {
    struct desk *d = dog.desks[i];

    d->rescue = true;
    d->waiting = false;
    d->retry_ms = 0;
    hurry (d);
    pthread_cond_signal (&d->wake);
  }
  for (;;) {
    left = 0;
    for (unsigned i = 0; i < dog.count; ++i)
      left += !is_done (dog.desks[i]);
    if (left == 0 || now_ms () >= until_ms)
      break;
    wait_for (&dog.ended, until_ms);
  }
  pthread_mutex_unlock (&dog.lock);
  return left;
}

static bool
is_anybody_owed (void)
{
  bool owed = false;

  pthread_mutex_lock (&dog.lock);
  for (unsigned i = 0; i < dog.count; ++i)
    owed |= dog.desks[i]->owed || dog.desks[i]->running;
  pthread_mutex_unlock (&dog.lock);
  return owed;
}

/* Said when nothing is frozen any more: where it goes may be frozen. */
static void
say_what_came_of_it (pid_t peer)
{
  fprintf (stderr, "cowset-watchdog: process %d ended while writers were at "
           "work; they were told to abort", (int) peer);
  for (unsigned i = 0; i < dog.count; ++i)
    if (!is_done (dog.desks[i]))
      fprintf (stderr, "; %s:%s may still be frozen, thaw it by hand",
               dog.desks[i]->kind->name, dog.desks[i]->path);
  fputc ('\n', stderr);
}

/* -------------------------------------------------------------------- start */

/* Nothing of the requester's but its standard error and the two descriptors,
 * at known places; no signal of its terminal.
 */
static bool
settle_in (int sock, int peer)
{
  const int null = open ("/dev/null", O_RDWR | O_CLOEXEC);
  /* Out of the way of where they go. */
  const int high_sock = fcntl (sock, F_DUPFD_CLOEXEC, 16);
  const int high_peer = peer == -1 ? -1 : fcntl (peer, F_DUPFD_CLOEXEC, 16);
  static const int ignored[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE,
                                 SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP, SIGTTIN,
                                 SIGTTOU };

  if (null == -1 || high_sock == -1 || dup2 (null, 0) == -1 ||
      dup2 (null, 1) == -1 || dup3 (high_sock, SOCKET_FD, O_CLOEXEC) == -1)
    return false;
  close (PEER_FD);
  if (high_peer != -1)
    dup3 (high_peer, PEER_FD, O_CLOEXEC);
  close_range (FIRST_FREE_FD, ~0u, 0);

  setsid ();
  for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; ++i)
    signal (ignored[i], SIG_IGN);
  signal (SIGCHLD, SIG_DFL);
  prctl (PR_SET_NAME, "cowset-watchdog");
  return chdir ("/") == 0;
}

int
main (int argc, char *argv[])
{
  static struct wire_message ready = { .op = WIRE_READY };
  pid_t requester;
  bool ended;
  int peer;

  if (argc != 3) {
    fprintf (stderr, "cowset-watchdog: is started by libcowset, for the time "
             "of a backup; there is nothing to start by hand\n");
    return 2;
  }
  requester = (pid_t) atoi (argv[2]);
  peer = (int) syscall (SYS_pidfd_open, requester, 0);
  /* The number can have become another's only after our parent's death. */
  if (getppid () != requester)
    return 1;
  /* The requester waits for this process, and has no other child of us. */
  switch (fork ()) {
  case -1: return 1;
  case 0: break;
  default: _exit (0);
  }
  if (!settle_in (atoi (argv[1]), peer))
    return 1;
  init_cond (&dog.ended);
  wire_set_text (&ready, PACKAGE_VERSION, strlen (PACKAGE_VERSION));
  wire_send (SOCKET_FD, &ready);

  ended = serve ();
  if (ended && !is_anybody_owed ())
    return 0;
  if (is_anybody_owed ()) {
    const unsigned left = rescue ();

    if (!ended || left > 0)
      say_what_came_of_it (requester);
  }
  else
    rescue ();                  /* backup-shutdown is all there is to say */
  return 0;
}
