/* wire.c - messages between libcowset and its watchdog.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "writers/wire.h"

#define HEAD offsetof (struct wire_message, text)

void
wire_set_text (struct wire_message *m, const char *text, size_t len)
{
  if (len > sizeof m->text - 1)
    len = sizeof m->text - 1;
  memcpy (m->text, text, len);
  m->text[len] = '\0';
  m->text_len = (uint32_t) len;
}

int
wire_send (int fd, struct wire_message *m)
{
  const size_t len = HEAD + m->text_len;
  ssize_t n;

  m->version = WIRE_VERSION;
  do
    n = send (fd, m, len, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (n == -1 && errno == EINTR);
  return n == -1 ? -errno : 0;
}

int
wire_receive (int fd, struct wire_message *m)
{
  ssize_t n;

  do
    n = recv (fd, m, sizeof *m, MSG_TRUNC);
  while (n == -1 && errno == EINTR);
  if (n == -1)
    return -errno;
  if (n == 0)
    return 0;
  if ((size_t) n < HEAD || (size_t) n > sizeof *m ||
      m->version != WIRE_VERSION || m->text_len != (size_t) n - HEAD ||
      m->text_len >= sizeof m->text)
    return -EPROTO;
  m->text[m->text_len] = '\0';
  return 1;
}
