/* watch-qga.c - a guest as a writer, by the QEMU guest agent's socket.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The agent carries out one command after another and never forgets one: what
 * somebody before has sent, and an answer that nobody read, come first.  So
 * each dialogue begins with guest-sync-delimited, whose answer is known by its
 * number, and all before it is dropped; an abort thereby waits for a freeze
 * that is still under way.
 *
 * An agent may thaw by itself (Windows does after some seconds), and a guest
 * that was paused may answer late: before a thaw it is asked whether it is
 * still frozen.
 *
 * JSON is read into memory of the desk: nothing is allocated.
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#include "writers/watchdog.h"

/* ------------------------------------------------------------ memory for JSON */

static _Thread_local struct {
  char *start;
  size_t used, size;
} arena;

static void *
arena_malloc (size_t size)
{
  char *p;

  size = (size + 15) & ~(size_t) 15;
  if (size > arena.size - arena.used)
    return NULL;
  p = arena.start + arena.used;
  arena.used += size;
  return p;
}

static void
arena_free (void *p)
{
  (void) p;                     /* all at once, with the next answer */
}

static json_t *
load (struct desk *d, const char *text, size_t len)
{
  json_set_alloc_funcs (arena_malloc, arena_free);
  arena.start = d->arena;
  arena.used = 0;
  arena.size = sizeof d->arena;
  return json_loadb (text, len, JSON_DISABLE_EOF_CHECK, NULL);
}

/* --------------------------------------------------------------- the socket */

static void
disconnect (struct desk *d)
{
  if (d->fd != -1)
    close (d->fd);
  d->fd = -1;
  d->have = 0;
}

static cowset_hresult
lose (struct desk *d, struct job *j, const char *what, int err)
{
  disconnect (d);
  return job_fail (j, VSS_E_WRITER_NOT_RESPONDING, "%s: %s: %s", d->path,
                   what, err ? strerror (err) : "the connection was closed");
}

static cowset_hresult
late (struct desk *d, struct job *j, const char *what)
{
  return job_fail (j, VSS_E_WRITERERROR_TIMEOUT, "%s: the guest agent did not "
                   "answer %s in time", d->path, what);
}

static cowset_hresult
open_socket (struct desk *d, struct job *j)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };

  if (d->fd != -1)
    return S_OK;
  if (strlen (d->path) >= sizeof addr.sun_path)
    return job_fail (j, VSS_E_WRITERERROR_NONRETRYABLE, "%s: longer than the "
                     "path of a socket can be", d->path);
  memcpy (addr.sun_path, d->path, strlen (d->path));
  d->have = 0;
  d->fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (d->fd == -1)
    return lose (d, j, "socket", errno);
  /* EAGAIN: others wait to be let in. */
  while (connect (d->fd, (struct sockaddr *) &addr, sizeof addr) == -1) {
    struct job soon = { .deadline_ms = now_ms () + 100 };

    if (errno != EAGAIN)
      return lose (d, j, "connect", errno);
    if (now_ms () >= desk_deadline_ms (d, j))
      return late (d, j, "connect");
    desk_wait (d, &soon, -1, 0);
  }
  return S_OK;
}

static cowset_hresult
put (struct desk *d, struct job *j, const char *text, size_t len)
{
  while (len > 0) {
    const ssize_t n = send (d->fd, text, len, MSG_NOSIGNAL);

    if (n == -1 && errno == EAGAIN) {
      if (!desk_wait (d, j, d->fd, POLLOUT))
        return late (d, j, "a request");
    }
    else if (n == -1 && errno != EINTR)
      return lose (d, j, "write", errno);
    else if (n > 0) {
      text += n;
      len -= (size_t) n;
    }
  }
  return S_OK;
}

/* A line of input: S_OK, *line (valid until the next) and *len without the
 * end.
 */
static cowset_hresult
get_line (struct desk *d, struct job *j, const char *what, char **line,
          size_t *len)
{
  for (;;) {
    char *end = memchr (d->input, '\n', d->have);
    ssize_t n;

    if (end) {
      *line = d->input;
      *len = (size_t) (end - d->input);
      return S_OK;
    }
    if (d->have == sizeof d->input)
      return lose (d, j, what, EMSGSIZE);
    n = recv (d->fd, d->input + d->have, sizeof d->input - d->have, 0);
    if (n > 0)
      d->have += (size_t) n;
    else if (n == 0)
      return lose (d, j, what, 0);
    else if (errno == EAGAIN) {
      if (!desk_wait (d, j, d->fd, POLLIN))
        return late (d, j, what);
    }
    else if (errno != EINTR)
      return lose (d, j, what, errno);
  }
}

static void
drop_line (struct desk *d, size_t len)
{
  d->have -= len + 1;
  memmove (d->input, d->input + len + 1, d->have);
}

/* ---------------------------------------------------------------- a dialogue */

/* Until the agent has answered this call and no other. */
static cowset_hresult
sync_agent (struct desk *d, struct job *j)
{
  const uint64_t id = ++d->next_id + ((uint64_t) getpid () << 20);
  char text[128];
  int len;
  cowset_hresult hr = open_socket (d, j);

  if (COWSET_FAILED (hr))
    return hr;
  /* The 0xff ends whatever somebody has left half written. */
  len = snprintf (text, sizeof text, "\xff{\"execute\":\"guest-sync-delimited\","
                  "\"arguments\":{\"id\":%" PRIu64 "}}\n", id);
  hr = put (d, j, text, (size_t) len);
  while (COWSET_SUCCEEDED (hr)) {
    char *line, *start;
    size_t n;
    json_t *answer, *value;
    bool mine;

    hr = get_line (d, j, "guest-sync-delimited", &line, &n);
    if (COWSET_FAILED (hr))
      break;
    start = memrchr (line, 0xff, n);
    start = start ? start + 1 : line;
    answer = load (d, start, n - (size_t) (start - line));
    value = json_object_get (answer, "return");
    mine = json_is_integer (value) &&
           (uint64_t) json_integer_value (value) == id;
    drop_line (d, n);
    if (mine)
      return S_OK;
  }
  return hr;
}

/* Send a command; its answer's "return" in *value, until the next. */
static cowset_hresult
command (struct desk *d, struct job *j, const char *name, json_t **value)
{
  char text[128], *line;
  size_t n;
  json_t *answer;
  cowset_hresult hr;
  const int len = snprintf (text, sizeof text, "{\"execute\":\"%s\"}\n", name);

  hr = put (d, j, text, (size_t) len);
  if (COWSET_SUCCEEDED (hr))
    hr = get_line (d, j, name, &line, &n);
  if (COWSET_FAILED (hr))
    return hr;
  answer = load (d, line, n);
  drop_line (d, n);
  *value = json_object_get (answer, "return");
  if (*value == NULL) {
    json_t *error = json_object_get (answer, "error");
    const char *desc = json_string_value (json_object_get (error, "desc"));

    return job_fail (j, VSS_E_WRITERERROR_RETRYABLE, "%s: %s: %.160s",
                     d->path, name, desc ? desc :
                     "the guest agent's answer makes no sense");
  }
  return S_OK;
}

static cowset_hresult
is_frozen (struct desk *d, struct job *j, bool *frozen)
{
  json_t *value;
  const char *text;
  cowset_hresult hr = command (d, j, "guest-fsfreeze-status", &value);

  if (COWSET_FAILED (hr))
    return hr;
  text = json_string_value (value);
  *frozen = text && strcmp (text, "frozen") == 0;
  return S_OK;
}

/* ------------------------------------------------------------------- events */

static cowset_hresult
identify (struct desk *d, struct job *j)
{
  bool frozen;
  cowset_hresult hr = sync_agent (d, j);

  if (COWSET_SUCCEEDED (hr))
    hr = is_frozen (d, j, &frozen);
  disconnect (d);               /* it serves one at a time */
  return hr;
}

static cowset_hresult
prepare (struct desk *d, struct job *j)
{
  bool frozen;
  cowset_hresult hr = sync_agent (d, j);

  if (COWSET_SUCCEEDED (hr))
    hr = is_frozen (d, j, &frozen);
  if (COWSET_SUCCEEDED (hr) && frozen)
    hr = job_fail (j, VSS_E_WRITERERROR_RETRYABLE, "%s: the guest is frozen "
                   "already, by somebody else", d->path);
  return hr;
}

static cowset_hresult
freeze (struct desk *d, struct job *j)
{
  cowset_hresult hr = prepare (d, j);
  json_t *value;

  if (COWSET_FAILED (hr))
    return hr;
  d->froze = true;              /* whatever comes back */
  hr = command (d, j, "guest-fsfreeze-freeze", &value);
  if (COWSET_SUCCEEDED (hr) && json_integer_value (value) <= 0)
    hr = job_fail (j, VSS_E_WRITERERROR_NONRETRYABLE, "%s: the guest has "
                   "frozen no file system", d->path);
  return hr;
}

/* strict: that it was not frozen any more is a failure. */
static cowset_hresult
thaw (struct desk *d, struct job *j, bool strict)
{
  cowset_hresult hr = S_OK;
  bool frozen = true;
  json_t *value;

  if (!d->froze) {
    disconnect (d);
    return S_OK;
  }
  /* A connection on which an answer is still due serves as well as a new one,
   * and the agent has no other before it is closed.
   */
  hr = sync_agent (d, j);
  if (COWSET_SUCCEEDED (hr) && strict)
    hr = is_frozen (d, j, &frozen);
  /* Also if it says that it is thawed: once more harms nothing. */
  if (COWSET_SUCCEEDED (hr))
    hr = command (d, j, "guest-fsfreeze-thaw", &value);
  if (COWSET_FAILED (hr)) {
    disconnect (d);
    return hr;
  }
  d->froze = false;
  disconnect (d);
  return frozen ? S_OK :
         job_fail (j, VSS_E_WRITERERROR_TIMEOUT, "%s: the guest has thawed by "
                   "itself meanwhile", d->path);
}

static cowset_hresult
run (struct desk *d, struct job *j)
{
  switch (j->event) {
  case REQ_EVENT_IDENTIFY: return identify (d, j);
  case REQ_EVENT_PREPARE_SNAPSHOT: return prepare (d, j);
  case REQ_EVENT_FREEZE: return freeze (d, j);
  case REQ_EVENT_THAW: return thaw (d, j, true);
  case REQ_EVENT_ABORT: return thaw (d, j, false);
  default: return S_OK;
  }
}

const struct kind kind_qga = {
  .name = "qga",
  .run = run,
  .close = disconnect,
};
