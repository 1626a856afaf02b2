/* watch-exec.c - a program as a writer, called with the event's name.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * identify says in lines NAME=VALUE what it is.  A program that does not know
 * identify is one as the QEMU guest agent calls them: it gets freeze and thaw
 * alone, and thaw for an abort.
 *
 * A program that is too late is killed with its process group; what it leaves
 * running in the background on purpose is left alone when it ends in time.
 */
#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "writers/watchdog.h"

#define ALL_EVENTS ((1u << REQ_EVENT_COUNT) - 1)
#define QEMU_EVENTS (1u << REQ_EVENT_FREEZE | 1u << REQ_EVENT_THAW)

/* ---------------------------------------------------------------- the child */

/* In the child of a process with threads: nothing but system calls. */
static void
become (const char *path, const char *event, int out)
{
  char *const argv[] = { (char *) path, (char *) event, NULL };
  sigset_t none;
  struct sigaction dfl = { .sa_handler = SIG_DFL };

  setpgid (0, 0);
  /* With this process goes what it was doing; the next one thaws. */
  prctl (PR_SET_PDEATHSIG, SIGKILL);
  for (int i = 1; i < NSIG; ++i)
    sigaction (i, &dfl, NULL);
  sigemptyset (&none);
  sigprocmask (SIG_SETMASK, &none, NULL);
  if (dup2 (out, 1) == -1 || dup2 (out, 2) == -1)
    _exit (126);
  close_range (3, ~0u, 0);
  execv (path, argv);
  _exit (errno == ENOENT ? 127 : 126);
}

/* What has been said since goes behind j->text; what does not fit is dropped.
 * False at the end.
 */
static bool
read_all (struct job *j, int fd, size_t *len)
{
  char rest[512];
  ssize_t n;

  for (;;) {
    const size_t room = sizeof j->text - 1 - *len;

    n = room > 0 ? read (fd, j->text + *len, room)
                 : read (fd, rest, sizeof rest);
    if (n <= 0)
      return n == -1 && (errno == EAGAIN || errno == EINTR);
    if (room > 0)
      *len += (size_t) n;
    j->text[*len] = '\0';
  }
}

/* Read what it says until it has ended, or has to.  True: it has ended. */
static bool
attend (struct desk *d, struct job *j, pid_t pid, int pidfd, int out)
{
  size_t len = 0;
  bool open = true;

  for (;;) {
    struct pollfd fds[] = {
      { .fd = open ? out : -1, .events = POLLIN },
      { .fd = pidfd, .events = POLLIN },
      { .fd = d->hurry_fd, .events = POLLIN },
    };
    const uint64_t until_ms = desk_deadline_ms (d, j), now = now_ms ();
    /* Without a descriptor for the process it has to be asked. */
    const uint64_t most_ms = pidfd == -1 ? 20 : 60000;
    siginfo_t info = { .si_pid = 0 };
    uint64_t count, left_ms = now < until_ms ? until_ms - now : 0;

    poll (fds, 3, (int) (left_ms < most_ms ? left_ms : most_ms));
    if (fds[2].revents &&
        read (d->hurry_fd, &count, sizeof count) == sizeof count)
      continue;                 /* the deadline has changed */
    waitid (P_PID, (id_t) pid, &info, WEXITED | WNOWAIT | WNOHANG);
    open = open && read_all (j, out, &len);
    if (info.si_pid == pid)
      return true;
    if (left_ms == 0)
      return false;
  }
}

/* ---------------------------------------------------------------- the parent */

/* The last line that it said, for people. */
static void
keep_last_line (struct job *j)
{
  char *end = j->text + strlen (j->text), *start;

  while (end > j->text && isspace ((unsigned char) end[-1]))
    *--end = '\0';
  for (start = end; start > j->text && start[-1] != '\n'; )
    start--;
  if (end - start > 160)
    start[160] = '\0';
  memmove (j->text, start, strlen (start) + 1);
  for (char *p = j->text; *p; ++p)
    if (iscntrl ((unsigned char) *p))
      *p = '?';
}

static cowset_hresult
fail_as (struct desk *d, struct job *j, bool ended, int status)
{
  const char *name = strrchr (d->path, '/');
  char said[176], line[161];

  name = name ? name + 1 : d->path;
  keep_last_line (j);
  snprintf (line, sizeof line, "%.160s", j->text);
  snprintf (said, sizeof said, "%s%s", line[0] ? ": " : "", line);
  if (!ended)
    return job_fail (j, VSS_E_WRITERERROR_TIMEOUT, "%s %s: did not end in "
                     "time, and was killed%s", name,
                     req_event_name (j->event), said);
  if (WIFSIGNALED (status))
    return job_fail (j, VSS_E_UNEXPECTED_WRITER_ERROR, "%s %s: ended by "
                     "signal %d%s", name, req_event_name (j->event),
                     WTERMSIG (status), said);
  return job_fail (j, WEXITSTATUS (status) == EX_TEMPFAIL ?
                   VSS_E_WRITERERROR_RETRYABLE :
                   VSS_E_WRITERERROR_NONRETRYABLE, "%s %s: exit status %d%s",
                   name, req_event_name (j->event), WEXITSTATUS (status),
                   said);
}

/* Run it to its end, or to the deadline. */
static cowset_hresult
call (struct desk *d, struct job *j, enum req_event event)
{
  const char *name = req_event_name (event);
  int out[2], pidfd, status = 0;
  bool ended;
  pid_t pid;

  if (pipe2 (out, O_CLOEXEC) == -1)
    return job_fail (j, VSS_E_WRITERERROR_OUTOFRESOURCES, "pipe: %s",
                     strerror (errno));
  fcntl (out[0], F_SETFL, O_NONBLOCK);
  pid = fork ();
  if (pid == 0)
    become (d->path, name, out[1]);
  close (out[1]);
  if (pid == -1) {
    close (out[0]);
    return job_fail (j, VSS_E_WRITERERROR_OUTOFRESOURCES, "fork: %s",
                     strerror (errno));
  }
  setpgid (pid, pid);           /* whoever is first */
  pidfd = (int) syscall (SYS_pidfd_open, pid, 0);
  ended = attend (d, j, pid, pidfd, out[0]);
  if (!ended)
    kill (-pid, SIGKILL);
  while (waitpid (pid, &status, 0) == -1 && errno == EINTR)
    ;
  if (pidfd != -1)
    close (pidfd);
  close (out[0]);
  if (ended && WIFEXITED (status) && WEXITSTATUS (status) == 0)
    return S_OK;
  return fail_as (d, j, ended, status);
}

/* Who may write to what root runs is root. */
static cowset_hresult
check (struct desk *d, struct job *j)
{
  struct stat st;

  if (stat (d->path, &st) == -1)
    return job_fail (j, VSS_E_WRITERERROR_NONRETRYABLE, "%s: %s", d->path,
                     strerror (errno));
  if (!S_ISREG (st.st_mode) || access (d->path, X_OK) == -1)
    return job_fail (j, VSS_E_WRITERERROR_NONRETRYABLE, "%s: is not a program "
                     "that can be run", d->path);
  if ((st.st_mode & S_IWOTH) || (st.st_uid != 0 && st.st_uid != geteuid ()))
    return job_fail (j, VSS_E_WRITERERROR_NONRETRYABLE, "%s: others may "
                     "change it; make it yours or root's, and not writable by "
                     "everybody", d->path);
  return S_OK;
}

/* ------------------------------------------------------------------ identify */

/* The value of "name=" at the start of a line, or NULL. */
static const char *
find_line (const char *text, const char *name)
{
  const size_t len = strlen (name);

  for (const char *line = text; line; ) {
    if (strncmp (line, name, len) == 0 && line[len] == '=')
      return line + len + 1;
    line = strchr (line, '\n');
    if (line)
      line++;
  }
  return NULL;
}

/* The events that stand in the line, which spaces part. */
static unsigned
parse_events (const char *list)
{
  unsigned events = 0;

  while (*list && *list != '\n') {
    const size_t len = strcspn (list, " ,\n");

    for (int i = 0; i < REQ_EVENT_COUNT; ++i)
      if (strlen (req_event_name (i)) == len &&
          strncmp (list, req_event_name (i), len) == 0)
        events |= 1u << i;
    list += len;
    list += strspn (list, " ,");
  }
  return events;
}

static cowset_hresult
identify (struct desk *d, struct job *j)
{
  const char *events;
  cowset_hresult hr = check (d, j);

  if (COWSET_FAILED (hr))
    return hr;
  hr = call (d, j, REQ_EVENT_IDENTIFY);
  if (hr == VSS_E_WRITERERROR_TIMEOUT)
    return hr;
  if (COWSET_FAILED (hr) || find_line (j->text, "name") == NULL) {
    d->events = QEMU_EVENTS;
    j->text[0] = '\0';
    return S_OK;
  }
  events = find_line (j->text, "events");
  d->events = events ? parse_events (events) | QEMU_EVENTS : ALL_EVENTS;
  return S_OK;
}

/* The event by which the program knows this one, or REQ_EVENT_COUNT.  After
 * another watchdog's death it is not known what it knows, but for thaw.
 */
static enum req_event
translate (const struct desk *d, enum req_event event)
{
  if (d->events & (1u << event))
    return event;
  return event == REQ_EVENT_ABORT && d->froze ? REQ_EVENT_THAW
                                              : REQ_EVENT_COUNT;
}

static cowset_hresult
run (struct desk *d, struct job *j)
{
  enum req_event event;
  cowset_hresult hr = S_OK;

  if (j->event == REQ_EVENT_IDENTIFY)
    return identify (d, j);
  if (d->events == 0 && !d->froze && j->event == REQ_EVENT_ABORT)
    identify (d, j);
  event = translate (d, j->event);
  if (event == REQ_EVENT_COUNT)
    return S_OK;
  if (event == REQ_EVENT_FREEZE)
    d->froze = true;            /* in part, whatever comes of it */
  if (event < REQ_EVENT_THAW)
    hr = check (d, j);
  if (COWSET_SUCCEEDED (hr))
    hr = call (d, j, event);
  if (COWSET_SUCCEEDED (hr)) {
    j->text[0] = '\0';
    if (event == REQ_EVENT_THAW || event == REQ_EVENT_ABORT)
      d->froze = false;
  }
  return hr;
}

static void
close_exec (struct desk *d)
{
  (void) d;
}

const struct kind kind_exec = {
  .name = "exec",
  .run = run,
  .close = close_exec,
};
