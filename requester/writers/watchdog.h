/* watchdog.h - cowset-watchdog, for the files that it is made of.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A desk is where one writer's events are carried out, one after another, by a
 * thread of its own, so that a writer that is stuck holds up no other.
 */
#ifndef REQ_WATCHDOG_H
#define REQ_WATCHDOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cowset-codes.h"
#include "writers/event.h"
#include "writers/wire.h"

#define NEVER UINT64_MAX

struct desk;

/* One event at one writer. */
struct job {
  enum req_event event;
  uint64_t seq;                 /* 0: nobody waits for the answer */
  uint64_t deadline_ms;         /* by now_ms() */

  /* Why it failed, or what identify said.  Ends with a NUL. */
  char text[WIRE_TEXT_MAX];
};

struct kind {
  const char *name;

  /* Carries an event out; by the desk's thread, without the lock.  Returns by
   * the job's deadline where it can.  An abort undoes a freeze in whatever
   * state that was left, and succeeds where there is nothing to undo.
   * Returns a code; with a failure the job has the text.
   */
  cowset_hresult (*run) (struct desk *d, struct job *j);

  void (*close) (struct desk *d);
};

extern const struct kind kind_exec, kind_fsfreeze, kind_qga;

struct desk {
  /* Set by ADD, then read only. */
  unsigned index;
  const struct kind *kind;
  char *path;
  pthread_t thread;

  /* Ends a running event: the time by which it has to, and an eventfd that
   * the kinds poll, to look at it anew.
   */
  _Atomic uint64_t hurry_ms;
  int hurry_fd;

  pthread_cond_t wake;          /* the lock of watchdog.c, as what follows */
  bool waiting;                 /* job is there, and not taken */
  struct job next;              /* its event, seq and deadline */
  bool running;
  bool owed;                    /* it saw a prepare or freeze, and no end */
  bool frozen;                  /* it may be, from the freeze's start on */
  bool expired;                 /* and was thawed since it was for too long */
  bool identified;
  bool rescue;                  /* nobody is there any more: bring it to an
                                 * end */
  bool quit;
  uint32_t window_ms;           /* how long it may be frozen */
  uint64_t thaw_by_ms;          /* while frozen */
  uint64_t retry_ms;            /* rescue: the next attempt */

  /* The thread's own, for its kind. */
  struct job job;
  unsigned events;              /* exec: those that the program knows */
  bool qemu_style;              /* exec: it knows freeze and thaw alone */
  int fd;                       /* fsfreeze: the mount; qga: the socket; -1 */
  bool froze;                   /* fsfreeze, qga: and nothing has undone it */
  uint64_t next_id;             /* qga */
  size_t have;                  /* qga: bytes of input */
  char input[8192];
  char arena[32768];            /* qga: memory for JSON */
};

/* ------------------------------------------------------------- for the kinds */

uint64_t now_ms (void);         /* monotonic */

/* Set the text of a failure, and return it. */
cowset_hresult job_fail (struct job *j, cowset_hresult hr, const char *format,
                         ...) __attribute__ ((format (printf, 3, 4)));

/* Wait until fd has one of the events (fd -1: for nothing but the time), the
 * deadline passes, or somebody wants this to end.  1 (ready), 0 (over).
 */
int desk_wait (struct desk *d, const struct job *j, int fd, short events);

/* The time by which the job has to end, hurry included. */
uint64_t desk_deadline_ms (struct desk *d, const struct job *j);

#endif /* REQ_WATCHDOG_H */
