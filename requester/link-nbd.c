/* link-nbd.c - a connection to @control by libnbd.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One handle, since the connection is the session.  A blocking call of libnbd
 * would keep the handle for as long as the server takes to answer, and a
 * cancel could not pass it; so every request is an asynchronous one, and a
 * thread of the link's own moves the handle's state machine:
 *
 *   callers   nbd_aio_pread/pwrite, then wait on `done'
 *   thread    polls the socket and `wake', notifies libnbd, which calls
 *             complete() for each request that has ended
 *
 * libnbd locks the handle for the time of each call.  complete() runs with
 * that lock held and takes `lock': so nobody calls libnbd while holding `lock'.
 *
 * Failure: once the handle is dead every request in flight is completed by
 * libnbd with an error, and every later one refused.  A link that has to be
 * given up (a deadline has passed, the server says that it is stopping) has
 * its socket shut down, which has that effect.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libnbd.h>

#include "link.h"
#include "protocol/frame.h"
#include "uri.h"
#include "util.h"

#define CONNECT_LIMIT_MS 30000

struct nbd_link {
  struct req_link base;

  /* Set at connect, then read only. */
  struct nbd_handle *h;
  int socket_fd;                /* a duplicate of libnbd's, to shut down */
  int wake_fd, lost_fd;         /* eventfds */
  bool remote;
  bool thread_started;
  pthread_t thread;

  _Atomic bool lost, stop;

  pthread_mutex_t lock;
  pthread_cond_t done;          /* lock: some command's `done' was set */
};

struct command {
  struct nbd_link *link;
  bool done;                    /* link->lock */
  int error;                    /* link->lock; errno value of the server's */
};

static void
signal_fd (int fd)
{
  const uint64_t one = 1;

  /* Can only fail when the counter is full, and then it is readable. */
  if (write (fd, &one, sizeof one) == -1)
    return;
}

static int
complete (void *opaque, int *error)
{
  struct command *command = opaque;
  struct nbd_link *link = command->link;

  pthread_mutex_lock (&link->lock);
  command->error = *error;
  command->done = true;
  pthread_cond_broadcast (&link->done);
  pthread_mutex_unlock (&link->lock);
  return 1;                     /* libnbd may forget the command */
}

static bool
is_gone (struct nbd_handle *h)
{
  return nbd_aio_is_dead (h) != 0 || nbd_aio_is_closed (h) != 0;
}

/* Wait for the socket or wake_fd (-1: none) and let libnbd go on.  False when
 * timeout_ms has passed.
 */
static bool
turn (struct nbd_handle *h, int wake_fd, int timeout_ms)
{
  const unsigned direction = nbd_aio_get_direction (h);
  struct pollfd fds[2] = {
    { .fd = nbd_aio_get_fd (h) },
    { .fd = wake_fd, .events = POLLIN },
  };
  int n;

  if (direction & LIBNBD_AIO_DIRECTION_READ)
    fds[0].events |= POLLIN;
  if (direction & LIBNBD_AIO_DIRECTION_WRITE)
    fds[0].events |= POLLOUT;
  n = poll (fds, 2, timeout_ms);
  if (n <= 0)
    return n < 0;               /* EINTR: another turn */

  if (fds[1].revents & POLLIN) {
    uint64_t count;

    if (read (wake_fd, &count, sizeof count) == -1)
      return true;
  }
  /* Only one of the two: the first may have changed the state.  A refusal
   * means that another thread has, and is no error.
   */
  if ((direction & LIBNBD_AIO_DIRECTION_READ) &&
      (fds[0].revents & (POLLIN | POLLHUP | POLLERR)))
    nbd_aio_notify_read (h);
  else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) &&
           (fds[0].revents & (POLLOUT | POLLHUP | POLLERR)))
    nbd_aio_notify_write (h);
  return true;
}

static void *
run (void *opaque)
{
  struct nbd_link *link = opaque;

  while (!atomic_load (&link->stop) && !is_gone (link->h))
    turn (link->h, link->wake_fd, -1);
  atomic_store (&link->lost, true);
  signal_fd (link->lost_fd);
  return NULL;
}

/* Wait for a command that was given to libnbd, whose buffers stay in use
 * until it is done.
 */
static int
finish (struct nbd_link *link, struct command *command, uint64_t deadline_ms)
{
  bool in_time = true;

  signal_fd (link->wake_fd);
  pthread_mutex_lock (&link->lock);
  while (!command->done && in_time)
    in_time = req_cond_wait (&link->done, &link->lock, deadline_ms);
  if (!command->done) {
    pthread_mutex_unlock (&link->lock);
    shutdown (link->socket_fd, SHUT_RDWR);
    pthread_mutex_lock (&link->lock);
    while (!command->done)
      pthread_cond_wait (&link->done, &link->lock);
    command->error = ETIMEDOUT;
  }
  pthread_mutex_unlock (&link->lock);
  /* It is stopping, and waits for us to go. */
  if (command->error == ESHUTDOWN)
    shutdown (link->socket_fd, SHUT_RDWR);
  return -command->error;
}

static int
link_write (struct req_link *base, const void *buf, size_t len,
            uint64_t offset, uint64_t deadline_ms)
{
  struct nbd_link *link = (struct nbd_link *) base;
  struct command command = { .link = link };
  const nbd_completion_callback callback = { .callback = complete,
                                             .user_data = &command };

  if (nbd_aio_pwrite (link->h, buf, len, offset, callback, 0) == -1)
    return -ENOTCONN;
  return finish (link, &command, deadline_ms);
}

static int
link_read (struct req_link *base, void *buf, size_t len, uint64_t offset,
           uint64_t deadline_ms)
{
  struct nbd_link *link = (struct nbd_link *) base;
  struct command command = { .link = link };
  const nbd_completion_callback callback = { .callback = complete,
                                             .user_data = &command };

  if (nbd_aio_pread (link->h, buf, len, offset, callback, 0) == -1)
    return -ENOTCONN;
  return finish (link, &command, deadline_ms);
}

static void
link_lose (struct req_link *base)
{
  shutdown (((struct nbd_link *) base)->socket_fd, SHUT_RDWR);
}

static int
link_lost_fd (struct req_link *base)
{
  return ((struct nbd_link *) base)->lost_fd;
}

static bool
link_is_lost (struct req_link *base)
{
  return atomic_load (&((struct nbd_link *) base)->lost);
}

static bool
link_is_remote (struct req_link *base)
{
  return ((struct nbd_link *) base)->remote;
}

static void
link_close (struct req_link *base)
{
  struct nbd_link *link = (struct nbd_link *) base;

  if (link->thread_started) {
    /* The polite way; the server needs no more than the end of the stream. */
    nbd_aio_disconnect (link->h, 0);
    atomic_store (&link->stop, true);
    signal_fd (link->wake_fd);
    pthread_join (link->thread, NULL);
  }
  nbd_close (link->h);
  if (link->socket_fd >= 0)
    close (link->socket_fd);
  if (link->wake_fd >= 0)
    close (link->wake_fd);
  if (link->lost_fd >= 0)
    close (link->lost_fd);
  pthread_cond_destroy (&link->done);
  pthread_mutex_destroy (&link->lock);
  free (link);
}

static const struct req_link_ops ops = {
  .write = link_write,
  .read = link_read,
  .lose = link_lose,
  .lost_fd = link_lost_fd,
  .is_lost = link_is_lost,
  .is_remote = link_is_remote,
  .close = link_close,
};

/* libnbd's message without the name of its function. */
static const char *
nbd_reason (void)
{
  const char *text = nbd_get_error ();
  const char *colon;

  if (text == NULL)
    return "the server does not answer";
  colon = strncmp (text, "nbd_", 4) == 0 ? strstr (text, ": ") : NULL;
  return colon ? colon + 2 : text;
}

/* Why there is no connection: nobody is there, or somebody who speaks NBD but
 * has no such export.
 */
static cowset_hresult
fail_connect (const char *uri)
{
  const char *reason = nbd_reason ();

  if (strncmp (reason, "handshake:", 10) != 0)
    return req_fail (VSS_E_REMOTE_SERVER_UNAVAILABLE, "%s: %s", uri, reason);
  return req_fail (VSS_E_REMOTE_SERVER_UNSUPPORTED,
                   "%s: %s; is it nbdkit with the cowset plugin, and without "
                   "control=off?", uri, reason);
}

static cowset_hresult
handshake (struct nbd_handle *h, const char *uri, const char *control)
{
  const uint64_t deadline_ms = req_now_ms () + CONNECT_LIMIT_MS;

  nbd_set_uri_allow_local_file (h, true);
  if (nbd_aio_connect_uri (h, control) == -1)
    return fail_connect (uri);
  while (nbd_aio_is_ready (h) != 1) {
    const uint64_t now_ms = req_now_ms ();

    if (is_gone (h))
      return fail_connect (uri);
    if (now_ms >= deadline_ms)
      return req_fail (VSS_E_REMOTE_SERVER_UNAVAILABLE,
                       "%s: no answer within %d s", uri,
                       CONNECT_LIMIT_MS / 1000);
    turn (h, -1, (int) (deadline_ms - now_ms));
  }

  if (nbd_get_size (h) != (int64_t) PROTO_EXPORT_BYTES)
    return req_fail (VSS_E_REMOTE_SERVER_UNSUPPORTED,
                     "%s: what is served there is no control channel; is it "
                     "nbdkit with the cowset plugin?", uri);
  if (nbd_is_read_only (h) != 0)
    return req_fail (E_ACCESSDENIED,
                     "%s: the server is read-only (nbdkit -r), nothing can "
                     "be asked of it", uri);
  return S_OK;
}

static bool
is_unix_socket (int fd)
{
  struct sockaddr_storage address;
  socklen_t len = sizeof address;

  return getsockname (fd, (struct sockaddr *) &address, &len) == 0 &&
         address.ss_family == AF_UNIX;
}

cowset_hresult
req_link_connect (const char *uri, struct req_link **out)
{
  CLEANUP_FREE char *control = req_uri_export (uri, PROTO_EXPORT);
  struct nbd_link *link = calloc (1, sizeof *link);
  cowset_hresult hr;

  if (control == NULL || link == NULL || (link->h = nbd_create ()) == NULL) {
    free (link);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  link->base.ops = &ops;
  link->socket_fd = -1;
  pthread_mutex_init (&link->lock, NULL);
  req_cond_init (&link->done);
  link->wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  link->lost_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (link->wake_fd == -1 || link->lost_fd == -1) {
    hr = req_fail (E_OUTOFMEMORY, "eventfd: %m");
    goto err;
  }

  hr = handshake (link->h, uri, control);
  if (COWSET_FAILED (hr))
    goto err;
  link->socket_fd = fcntl (nbd_aio_get_fd (link->h), F_DUPFD_CLOEXEC, 3);
  if (link->socket_fd == -1 ||
      req_thread_start (&link->thread, run, link) != 0) {
    hr = req_fail (E_OUTOFMEMORY, "%s: no descriptor or thread for the "
                   "connection", uri);
    goto err;
  }
  link->thread_started = true;
  link->remote = !is_unix_socket (link->socket_fd);
  *out = &link->base;
  return S_OK;

 err:
  link_close (&link->base);
  return hr;
}
