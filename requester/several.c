/* several.c - the servers of an object: adding one, finding a volume's, and
 * what happens when one goes.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "link.h"
#include "protocol/context.h"
#include "session.h"
#include "several.h"
#include "uri.h"

/* ------------------------------------------------------------------ adding */

static struct req_server *
known (struct cowset *c, const char *uri)
{
  CLEANUP_FREE char *base = req_uri_export (uri, "");

  for (size_t i = 0; base && i < c->server_count; ++i) {
    CLEANUP_FREE char *other = req_uri_export (c->servers[i]->uri, "");

    if (other && strcmp (base, other) == 0)
      return c->servers[i];
  }
  return NULL;
}

cowset_hresult
req_connect (const char *uri, struct req_server **out)
{
  struct req_link *link;
  cowset_hresult hr;

  if (!req_uri_check (uri))
    return req_fail (E_INVALIDARG,
                     "%s: not an NBD URI; it has the form "
                     "nbd+unix:///?socket=/path or nbd://host:port", uri);
  hr = req_link_connect (uri, &link);
  return COWSET_FAILED (hr) ? hr : req_session_new (link, uri, out);
}

/* Its loss is seen by whoever polls cowset_connection_fd(). */
static void
poll_too (struct cowset *c, struct req_server *server)
{
  struct epoll_event event = { .events = EPOLLIN };

  epoll_ctl (c->lost_fd, EPOLL_CTL_ADD, server->ops->lost_fd (server),
             &event);
}

static bool
is_twice (struct cowset *c, struct req_server *server)
{
  const char *instance =
    json_string_value (json_object_get (server->hello, "instance"));

  for (size_t i = 0; instance && i < c->server_count; ++i) {
    const char *other = json_string_value (
      json_object_get (c->servers[i]->hello, "instance"));

    if (other && strcmp (instance, other) == 0)
      return true;
  }
  return false;
}

cowset_hresult
req_several_take (struct cowset *c, struct req_server *server)
{
  enum req_state state;
  cowset_hresult hr = S_OK;

  pthread_mutex_lock (&c->lock);
  state = c->state;
  pthread_mutex_unlock (&c->lock);
  if (c->server_count == REQ_SERVERS_MAX)
    hr = req_fail (VSS_E_MAXIMUM_NUMBER_OF_REMOTE_MACHINES_REACHED,
                   "%s: the object has %d servers already", server->uri,
                   REQ_SERVERS_MAX);
  else if (is_twice (c, server))
    hr = req_fail (VSS_E_OBJECT_ALREADY_EXISTS, "%s: is a server that the "
                   "object has already, by another address", server->uri);
  else if (c->lost_fd == -1) {
    c->lost_fd = epoll_create1 (EPOLL_CLOEXEC);
    if (c->lost_fd == -1)
      hr = req_fail (E_OUTOFMEMORY, "epoll_create1: %m");
    else
      poll_too (c, c->servers[0]);
  }
  if (COWSET_SUCCEEDED (hr) &&
      (state == STATE_SET || state == STATE_PREPARED))
    hr = req_open_set (c, server);
  if (COWSET_FAILED (hr)) {
    server->ops->close (server);
    return hr;
  }
  poll_too (c, server);
  /* Readers of the list look at the count first. */
  c->servers[c->server_count] = server;
  c->server_count++;
  return S_OK;
}

cowset_hresult
req_several_add (struct cowset *c, const char *uri, struct req_server **out)
{
  struct req_server *server = known (c, uri);
  cowset_hresult hr;

  if (server == NULL) {
    hr = req_connect (uri, &server);
    if (COWSET_SUCCEEDED (hr))
      hr = req_several_take (c, server);
    if (COWSET_FAILED (hr))
      return hr;
  }
  *out = server;
  return S_OK;
}

cowset_hresult
cowset_add_server (struct cowset *c, const char *uri)
{
  struct req_server *server;
  cowset_hresult hr;

  if (c == NULL || uri == NULL)
    return req_fail_null ("cowset_add_server", c ? "uri" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_ADD_SERVER);
  return COWSET_FAILED (hr) ? hr : req_several_add (c, uri, &server);
}

/* ----------------------------------------------------------------- finding */

static cowset_hresult
ask_all (struct cowset *c, const char *name, struct req_server **out)
{
  *out = NULL;
  for (size_t i = 0; i < c->server_count; ++i) {
    CLEANUP_JSON json_t *answer = NULL;
    cowset_hresult hr = req_request (c->servers[i], NULL, &answer, "volumes",
                                     "{}");

    if (COWSET_FAILED (hr))
      return hr;
    if (!req_has_volume (answer, name))
      continue;
    if (*out)
      return req_fail (E_INVALIDARG, "%s: %s and %s both have a volume of "
                       "this name; give its URI", name, (*out)->uri,
                       c->servers[i]->uri);
    *out = c->servers[i];
  }
  if (*out == NULL)
    return req_fail (VSS_E_OBJECT_NOT_FOUND, "%s: none of the servers has a "
                     "volume of this name", name);
  return S_OK;
}

cowset_hresult
req_several_find (struct cowset *c, const char *volume, bool add,
                  struct req_server **server, char **name)
{
  const bool is_uri = req_uri_check (volume);
  CLEANUP_FREE char *found = is_uri ? req_uri_volume (volume)
                                    : strdup (volume);
  cowset_hresult hr = S_OK;

  if (found == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  if (is_uri && add)
    hr = req_several_add (c, volume, server);
  else if (is_uri) {
    *server = known (c, volume);
    if (*server == NULL)
      hr = req_fail (VSS_E_OBJECT_NOT_FOUND, "%s: the object has no such "
                     "server", volume);
  }
  else if (c->server_count == 1)
    *server = c->servers[0];
  else
    hr = ask_all (c, volume, server);
  if (COWSET_FAILED (hr))
    return hr;
  *name = found;
  found = NULL;
  return S_OK;
}

/* -------------------------------------------------------------- afterwards */

static bool
is_lost (struct req_server *server)
{
  struct pollfd fd = { .fd = server->ops->lost_fd (server),
                       .events = POLLIN };

  return fd.fd >= 0 && poll (&fd, 1, 0) == 1;
}

/* Until one of the set's servers is lost, or the object goes. */
static void *
watch (void *opaque)
{
  struct cowset *c = opaque;
  struct pollfd fds[REQ_SERVERS_MAX + 1] = {
    { .fd = c->stop_fd, .events = POLLIN },
  };
  const size_t count = c->server_count;

  for (size_t i = 0; i < count; ++i)
    fds[i + 1] = (struct pollfd) {
      .fd = c->servers[i]->ops->lost_fd (c->servers[i]), .events = POLLIN,
    };
  while (poll (fds, count + 1, -1) <= 0)
    ;
  if (fds[0].revents & POLLIN)
    return NULL;
  for (size_t i = 0; i < count; ++i)
    if (!is_lost (c->servers[i]))
      req_request (c->servers[i], NULL, NULL, "delete", "{s:s, s:o, s:b}",
                   "type", "set", "id", req_id_json (&c->set), "force", 1);
  return NULL;
}

cowset_hresult
req_several_watch (struct cowset *c)
{
  if (c->watching || c->server_count == 1 ||
      !proto_context_auto_release (c->context))
    return S_OK;
  c->stop_fd = eventfd (0, EFD_CLOEXEC);
  if (c->stop_fd == -1)
    return req_fail (E_OUTOFMEMORY, "eventfd: %m");
  if (req_thread_start (&c->watcher, watch, c) != 0) {
    close (c->stop_fd);
    return req_fail (E_OUTOFMEMORY, "no thread to watch the servers");
  }
  c->watching = true;
  return S_OK;
}

void
req_several_unwatch (struct cowset *c)
{
  const uint64_t one = 1;

  if (!c->watching)
    return;
  while (write (c->stop_fd, &one, sizeof one) == -1)
    ;
  pthread_join (c->watcher, NULL);
  close (c->stop_fd);
  c->watching = false;
}
