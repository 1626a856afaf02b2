/* server.h - one server, as the backup components object sees it.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The seam between the object (order, states, codes) and the control channel:
 * session.c is the product's, the unit tests put a scripted one in its place.
 */
#ifndef REQ_SERVER_H
#define REQ_SERVER_H

#include "util.h"

/* How to end a request that is under way. */
struct req_ending {
  void (*end) (void *opaque, uint64_t id);
  void *opaque;
  uint64_t id;

  /* The canceller's lock. */
  unsigned running;             /* calls of end that are under way */
  struct req_ending *next;
};

/* What ends the requests of an operation, from another thread.  One belongs to
 * each asynchronous operation; several requests may be under way for it.
 */
struct req_cancel {
  pthread_mutex_t lock;
  bool cancelled;               /* lock */
  struct req_ending *endings;   /* lock; of the requests under way.  Called
                                 * without the lock, but never after
                                 * req_cancel_end() has returned */
  pthread_cond_t ended;         /* lock: a call of end has returned */
};

void req_cancel_init (struct req_cancel *cancel);
void req_cancel_clear (struct req_cancel *cancel);
bool req_cancel_cancelled (struct req_cancel *cancel);
/* The requests that run end with E_ABORT, as will every later one. */
void req_cancel_now (struct req_cancel *cancel);

/* Around the wait for an answer, with end, opaque and id of the ending set.
 * False if it is cancelled already: the caller then ends the request by itself,
 * and has no call of req_cancel_end() to make.
 */
bool req_cancel_begin (struct req_cancel *cancel, struct req_ending *ending);
void req_cancel_end (struct req_cancel *cancel, struct req_ending *ending);

struct req_server;

struct req_server_ops {
  /* Send a request and wait for its answer.  Any thread, several at a time.
   * request is not changed or kept.  cancel may be NULL.  *result (if not
   * NULL) is a new reference to the answer's "result", with success always,
   * with a failure if the answer has one.  Returns the answer's code, or
   * E_ABORT (cancelled), VSS_E_UNEXPECTED (lost, or no sensible answer); the
   * thread's message is set with a failure.
   */
  cowset_hresult (*call) (struct req_server *server, json_t *request,
                          struct req_cancel *cancel, json_t **result);
  int (*lost_fd) (struct req_server *server);
  /* Give the connection up: every call ends soon, with VSS_E_UNEXPECTED. */
  void (*lose) (struct req_server *server);
  /* No call is under way.  Frees the server. */
  void (*close) (struct req_server *server);
};

struct req_server {
  const struct req_server_ops *ops;
  char *uri;                    /* as given; owned */
  json_t *hello;                /* the answer to hello; owned */
};

/* What is known from hello. */
bool req_server_has_store (const struct req_server *server);
const char *req_server_machine (const struct req_server *server);

/* Frees what every server has. */
void req_server_clear (struct req_server *server);

#endif /* REQ_SERVER_H */
