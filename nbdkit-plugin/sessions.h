/* sessions.h - what belongs to a requester.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Locks of the plugin, in the order in which they may be taken:
 *
 *   registry (sessions.c)   which sessions there are
 *   session.lock            slots and sets of one
 *   pool (pool.c)           queued jobs
 *
 * The engine is called with none of them held, but for cow_set_state() and
 * cow_engine_find_volume(), which do not wait.
 */
#ifndef COWSET_SESSIONS_H
#define COWSET_SESSIONS_H

#include <jansson.h>

#include "plugin.h"
#include "pool.h"
#include "provider.h"
#include "protocol/frame.h"

/* An unfinished set that nobody has touched for so long is given up. */
#define CLAIM_LIMIT_NS (180 * COW_NS_PER_S)
/* A requester on TCP that says nothing for so long is taken to be gone. */
#define SILENCE_LIMIT_NS (30 * COW_NS_PER_S)
/* Unfinished sets of one session. */
#define SESSION_SETS_MAX 64

/* A set that a session makes or has made. */
struct made {
  /* Set when it is made, then read only. */
  struct cow_id id;
  struct cow_set *set;
  uint32_t context;
  bool auto_release;

  /* Who makes the snapshots, and how many: changed by set.add, read once the
   * first phase has begun.
   */
  struct made_provider {
    struct provider *provider;
    unsigned count;
  } providers[PROVIDERS_MAX];
  unsigned provider_count;

  json_t *note;                 /* of the busy request (notes.c); or NULL */

  /* session.lock. */
  struct made *next;
  unsigned users;               /* who uses it outside the lock */
  bool busy;                    /* one of them is a request that moves it on */
  bool finished;                /* committed and listed */
  bool voted;                   /* durable, and waits for its home's decision;
                                 * stays so when the session ends */
  bool ended;                   /* failed, aborted or given up */
  bool dropped;                 /* to be freed by its last user */
  bool begun;                   /* EndPrepareSnapshots was called */
  bool precommitted;            /* PreCommitSnapshots was */
  bool told;                    /* no phase is called any more, as the set was
                                 * aborted; the providers know if it had begun
                                 */
  uint64_t touched_ns;          /* when the last request on it ended */
  char why[256];                /* it ended, for people */
};

enum slot_state {
  SLOT_EMPTY,                   /* reads as a greeting */
  SLOT_BUSY,                    /* a request is being carried out */
  SLOT_ANSWERED,
};

struct slot {
  struct job job;
  struct session *session;

  /* Belongs to whoever made the slot BUSY, until it is answered. */
  char *body;                   /* owned */
  size_t length_bytes;

  /* session.lock. */
  enum slot_state state;
  uint64_t id;                  /* of the request, as is the nonce */
  struct proto_id nonce;
  bool cancelled;
  char *answer;                 /* all parts, owned */
  size_t answer_bytes;
  uint8_t *frame;               /* the part that can be read, owned */
  size_t frame_bytes;
};

struct session {
  /* Set when it is made, then read only. */
  struct proto_id id;           /* a secret between the two ends */
  struct peer peer;

  _Atomic unsigned refs;
  _Atomic uint64_t heard_ns;    /* when the requester last said something */

  /* Registry. */
  struct session *next;
  bool counted;                 /* against control-sessions */

  cow_mutex lock;
  /* All below: lock. */
  cow_cond changed;             /* a slot was answered or cancelled, a step or
                                 * a set has ended, or the session */
  bool greeted;                 /* hello has been said */
  bool resumable;
  bool complained;              /* about a bad frame */
  bool ended;
  const char *why;              /* it ended */
  struct slot slots[PROTO_SLOTS];
  struct made *sets;
};

/* The thread that keeps time.  0, or -1 after nbdkit_error. */
int sessions_start (void);
void sessions_stop (void);
/* When there are no more connections, and pool_stop() has returned. */
void sessions_free (void);

/* NULL after nbdkit_error. */
struct session *session_new (struct peer peer);
void session_get (struct session *s);
void session_put (struct session *s);
/* The session counts from now on: those that only look, as udev or a listing
 * do, do not.  False if there are control-sessions already.
 */
bool session_admit (struct session *s);

/* The connection has gone: end the session, and drop its reference. */
void session_close (struct session *s);

/* Abort what is unfinished, delete what is auto-release.  Once; later calls
 * do nothing.  why is a constant.
 */
void session_end (struct session *s, const char *why);

unsigned sessions_count (void);

/* Whether a session other than that one (NULL: any) has such a set. */
bool sessions_have_set (const struct session *but, const struct cow_id *id);
/* The same, and something may still become of it. */
bool sessions_may_make (const struct session *but, const struct cow_id *id);

/* ------------------------------------------------------------------ made.c */

/* Find a set of the session and become one of its users; with busy, also the
 * one that moves it on.  NULL if there is none; *in_use says that there is one,
 * but with somebody else moving it on.
 */
struct made *session_use_set (struct session *s, const struct cow_id *id,
                              bool busy, bool *in_use);
/* The reverse.  If the session has ended meanwhile, so does the set. */
void session_unuse_set (struct session *s, struct made *m, bool busy);

/* Put a new set into the session, as used and busy.  The set then belongs to
 * it.  -EEXIST: some session has it already; -EMFILE: too many are unfinished;
 * -ESHUTDOWN: the session has ended; -ENOMEM.  After a failure the set is still
 * the caller's.
 */
int session_add_set (struct session *s, const struct cow_id *id,
                     struct cow_set *set, uint32_t context, bool auto_release,
                     struct made **out);

void made_finished (struct session *s, struct made *m);
void made_voted (struct session *s, struct made *m);
/* Keeps the first reason.  The caller has aborted the engine's set. */
void made_ended (struct session *s, struct made *m, const char *why);
/* Forget it when its last user has gone. */
void made_drop (struct session *s, struct made *m);

/* The link to a set in the session's list; it points to NULL if there is no
 * such set.
 */
struct made **made_find_locked (struct session *s, const struct cow_id *id)
  COW_REQUIRES (s->lock);

/* Abort the engine's set, which opens gates that it holds; then tell its
 * providers, once and if they have to know.  0, or -EINVAL if it is committed.
 * Without locks, by a user.
 */
int made_abort (struct session *s, struct made *m);

/* Call each of the set's providers in a phase.  E_ABORT: the set was aborted
 * before or meanwhile.
 */
cowset_hresult made_run_phase (struct session *s, struct made *m,
                               enum provider_phase phase,
                               struct cow_error *err);

/* What the end of its session does to a set.  Without locks, by a user. */
void made_end (struct session *s, struct made *m);

/* Of a set that is in no list and has no users. */
void made_free (struct made *m);

/* -------------------------------------------------------------- sessions.c */

/* Take over the auto-release sets of a lost session that was resumable.
 * Returns whether there was one of that id.
 */
bool session_resume (struct session *s, const struct proto_id *lost);

/* The ids of all auto-release sets that are finished, sorted for bsearch()
 * with id_compare(); free with free().  -ENOMEM.
 */
int sessions_auto_release (struct cow_id **out, size_t *count);
int id_compare (const void *a, const void *b);

#endif /* COWSET_SESSIONS_H */
