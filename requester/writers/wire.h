/* wire.h - what libcowset and its watchdog say to each other.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Both ends are of one build and on one machine: a message is this structure,
 * up to the end of its text, over a Unix socket that keeps messages apart.
 *
 *   library                              watchdog
 *      <------------- READY -----------------
 *      --- ADD (once for each writer) ------>
 *      --- SETENV, EVENT -------------------->  a thread for each writer
 *      <------------- DONE ------------------   (one for each EVENT)
 *      --- HURRY: end what is running soon -->
 *      --- END ------------------------------>  exits
 *
 * An end of the connection without END, and the death of the process at the
 * other end, are the same to the watchdog: every writer that is owed an abort
 * gets it.
 */
#ifndef REQ_WIRE_H
#define REQ_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WIRE_VERSION 1
#define WIRE_TEXT_MAX 4096      /* with the NUL */
#define WIRE_WRITERS_MAX 256

enum wire_op {
  WIRE_ADD = 1,                 /* text: "KIND:PATH" */
  WIRE_SETENV,                  /* text: "NAME=VALUE", for hooks; only while
                                 * no event is running */
  WIRE_EVENT,                   /* event, seq, timeout_ms (of a freeze: until
                                 * the thaw) */
  WIRE_HURRY,
  WIRE_END,

  WIRE_READY = 64,              /* text: the version of cowset */
  WIRE_DONE,                    /* event, seq, hr; text: what an identify
                                 * said, else why it failed */
};

enum {
  /* ADD: a watchdog before this one has died, and may have left it prepared,
   * and frozen.
   */
  WIRE_MAYBE_OWED = 1 << 0,
  WIRE_MAYBE_FROZEN = 1 << 1,
};

struct wire_message {
  uint32_t version;
  uint32_t op;
  uint32_t writer;              /* index, in the order of ADD */
  uint32_t event;               /* enum req_event */
  uint64_t seq;
  uint32_t timeout_ms;
  int32_t hr;
  uint32_t flags;
  uint32_t text_len;            /* without the NUL */
  char text[WIRE_TEXT_MAX];
};

/* Set the text, cut to what fits. */
void wire_set_text (struct wire_message *m, const char *text, size_t len);

/* 0, or -errno.  Does not wait: a peer that has stopped reading loses it. */
int wire_send (int fd, struct wire_message *m);

/* Waits.  1, 0 at the end of the connection, or -errno; -EPROTO if it is not
 * a message.  The text is terminated.
 */
int wire_receive (int fd, struct wire_message *m);

#endif /* REQ_WIRE_H */
