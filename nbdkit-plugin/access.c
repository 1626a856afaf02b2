/* access.c - who may use the control channel.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * control=unix lets in whoever comes over a Unix socket as the server's own
 * user or as root: the kernel vouches for that.  Everybody else may still open
 * the export, but each frame is answered with E_ACCESSDENIED: a refused open
 * would reach the requester as "no such export".
 *
 * Threads: those of connections; nbdkit knows which connection is meant.
 */
#include <config.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "plugin.h"

static bool
is_unix_socket (void)
{
  struct sockaddr_storage addr;
  socklen_t len = sizeof addr;

  if (nbdkit_peer_name ((struct sockaddr *) &addr, &len) == -1)
    return false;
  return addr.ss_family == AF_UNIX;
}

struct peer
access_peer (void)
{
  struct peer peer = { .is_unix = is_unix_socket (), .allowed = false };
  int64_t uid;

  switch (settings.control) {
  case CONTROL_OFF:
    break;
  case CONTROL_ANY:
    peer.allowed = true;
    break;
  case CONTROL_UNIX:
    if (peer.is_unix) {
      uid = nbdkit_peer_uid ();
      peer.allowed = uid == 0 || (uid > 0 && (uid_t) uid == geteuid ());
    }
    break;
  }
  return peer;
}
