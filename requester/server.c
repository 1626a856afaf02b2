/* server.c - what every server has: cancels, and what hello said.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include "server.h"

void
req_cancel_init (struct req_cancel *cancel)
{
  pthread_mutex_init (&cancel->lock, NULL);
  req_cond_init (&cancel->ended);
  cancel->cancelled = false;
  cancel->endings = NULL;
}

void
req_cancel_clear (struct req_cancel *cancel)
{
  pthread_cond_destroy (&cancel->ended);
  pthread_mutex_destroy (&cancel->lock);
}

bool
req_cancel_cancelled (struct req_cancel *cancel)
{
  LOCK_FOR_SCOPE (&cancel->lock);

  return cancel->cancelled;
}

void
req_cancel_now (struct req_cancel *cancel)
{
  struct req_ending *e;

  pthread_mutex_lock (&cancel->lock);
  cancel->cancelled = true;
  /* Nobody is added any more, and who is being called stays. */
  for (e = cancel->endings; e; e = e->next) {
    e->running++;
    pthread_mutex_unlock (&cancel->lock);
    e->end (e->opaque, e->id);
    pthread_mutex_lock (&cancel->lock);
    e->running--;
    pthread_cond_broadcast (&cancel->ended);
  }
  pthread_mutex_unlock (&cancel->lock);
}

bool
req_cancel_begin (struct req_cancel *cancel, struct req_ending *ending)
{
  LOCK_FOR_SCOPE (&cancel->lock);

  if (cancel->cancelled)
    return false;
  ending->running = 0;
  ending->next = cancel->endings;
  cancel->endings = ending;
  return true;
}

void
req_cancel_end (struct req_cancel *cancel, struct req_ending *ending)
{
  LOCK_FOR_SCOPE (&cancel->lock);

  while (ending->running > 0)
    pthread_cond_wait (&cancel->ended, &cancel->lock);
  for (struct req_ending **p = &cancel->endings; *p; p = &(*p)->next)
    if (*p == ending) {
      *p = ending->next;
      break;
    }
}

bool
req_server_has_store (const struct req_server *server)
{
  return json_is_true (json_object_get (server->hello, "store"));
}

const char *
req_server_machine (const struct req_server *server)
{
  const char *machine = json_string_value (json_object_get (server->hello,
                                                            "machine"));

  return machine ? machine : "";
}

void
req_server_clear (struct req_server *server)
{
  free (server->uri);
  json_decref (server->hello);
}
