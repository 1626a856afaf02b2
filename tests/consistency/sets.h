/* sets.h - how the consistency checkers reach a server: sets by libcowset and
 * by single steps of the control channel, reads and writes by libnbd.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Whatever goes wrong ends the program with a message, unless said otherwise.
 * Each thread uses its own handles.
 */
#ifndef TESTS_SETS_H
#define TESTS_SETS_H

#include <stdint.h>

#include <libnbd.h>

#define SETS_VOLUMES_MAX 8

/* Ends the program: prints the message, and how to repeat the run. */
void fail (const char *fmt, ...)
  __attribute__ ((noreturn, format (printf, 1, 2)));
/* What fail() adds: the whole command line, with the seed. */
void set_repeat (const char *fmt, ...) __attribute__ ((format (printf, 1, 2)));

/* $COWSET_SEED, or a new one. */
uint64_t choose_seed (void);
/* Random numbers: the state of each thread begins at another number. */
uint64_t draw (uint64_t *state);
uint64_t below (uint64_t *state, uint64_t n);

uint64_t now_ns (void);

/* A handle that is connected to an export of the server at uri, which names
 * no export ("nbd+unix:///?socket=...").
 */
/* An export may also be a whole URI, of any server; so may a name below. */
struct nbd_handle *open_export (const char *uri, const char *export);
/* The same; NULL if nobody serves it. */
struct nbd_handle *try_export (const char *uri, const char *export);
void close_export (struct nbd_handle *h);
/* Read or write all of it, in pieces. */
void read_export (struct nbd_handle *h, uint8_t *buf, uint64_t len);

/* ---- by libcowset */

struct taken {
  struct cowset *c;
  unsigned volumes;
  char id[37];
  char *export[SETS_VOLUMES_MAX]; /* "NAME@ID", or the URI */
  uint64_t hold_ns;             /* the longest that a server held */
};

/* A set of all these volumes, in the context that goes with its object. */
struct taken *take_set (const char *uri, const char *const *names,
                        unsigned volumes);
/* The set goes with it. */
void release_set (struct taken *t);

/* ---- by single steps of the control channel */

struct control;

struct control *control_open (const char *uri);
void control_close (struct control *c);

/* Send a request (JSON, as printf) on slot 1 and wait for the answer's hr. */
int control_call (struct control *c, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));
/* The same without waiting for the answer. */
void control_send (struct control *c, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));
/* The answer's body, as it came; valid until the next call. */
const char *control_answer (const struct control *c);

#endif /* TESTS_SETS_H */
