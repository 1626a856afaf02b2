/* ops.h - what a requester can ask for.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef COWSET_OPS_H
#define COWSET_OPS_H

#include <jansson.h>

#include "sessions.h"
#include "protocol/cowset-codes.h"

/* One request, while it is carried out. */
struct request {
  struct session *session;
  struct slot *slot;
  json_t *in;                   /* an object */

  /* The answer: hr and a message where it failed, or members of out. */
  cowset_hresult hr;
  char message[768];
  json_t *out;
};

/* Once, when the server starts. */
void ops_init (void);

/* Carry out a request: its body (not terminated) in, the answer's text out, to
 * be freed; NULL if there was no memory.  May wait for as long as the request
 * allows, except for slot 0.
 */
char *ops_run (struct session *s, struct slot *slot, const char *body,
               size_t len);

/* The answer to whatever comes over a session that may not, or not any more,
 * ask for anything; NULL if it may.
 */
char *ops_refuse (struct session *s);

/* The answer to a frame of another version. */
char *ops_wrong_version (uint32_t version);

/* --------------------------------------------------------- for ops*.c only */

/* The request fails. */
void op_fail (struct request *q, cowset_hresult hr, const char *fmt, ...)
  COW_PRINTF (3, 4);

/* The request fails for a reason that the engine gave; the advice that belongs
 * to the code is added.  err may be without text.
 */
void op_fail_engine (struct request *q, cowset_hresult hr, const char *what,
                     int r, const struct cow_error *err);

/* Members of the request.  False after op_fail(): E_INVALIDARG, with the name
 * of the member.  Optional ones leave *out alone where they are missing or
 * null.
 */
bool op_get_id (struct request *q, const char *name, struct proto_id *out);
bool op_opt_id (struct request *q, const char *name, struct proto_id *out,
                bool *there);
bool op_get_text (struct request *q, const char *name, const char **out);
bool op_opt_text (struct request *q, const char *name, const char **out);
bool op_get_bits (struct request *q, const char *name, uint32_t *out);
bool op_opt_bool (struct request *q, const char *name, bool *out);
bool op_opt_ms (struct request *q, const char *name, unsigned *out);

/* Members of the answer. */
void op_put (struct request *q, const char *name, json_t *value);
json_t *op_number (uint64_t n);
json_t *op_text (const char *text); /* whatever bytes it has */
json_t *op_id (const struct cow_id *id);
json_t *op_proto_id (const struct proto_id *id);

/* ops-show.c */
void op_volumes (struct request *q);
void op_status (struct request *q);
void op_query (struct request *q);
void op_undecided (struct request *q);
void op_delete (struct request *q);
void op_providers (struct request *q);

/* ops-wait.c */

/* A step of a set, while it runs. */
struct running {
  struct session *session;
  struct made *m;
  struct cow_error err;         /* why it failed */

  /* session.lock. */
  uint64_t limit_ns;            /* nobody waits for longer: */
  cowset_hresult late;          /* this is the answer then, */
  const char *what;             /* and this what was too slow */
};

/* From here on the step has until limit_ns; then it has failed with late,
 * since what did not answer in time.
 */
void op_limit (struct running *run, uint64_t limit_ns, cowset_hresult late,
               const char *what);

/* Carry out a step of the set that may wait, on a thread of its own.  Returns
 * its result; or, when it has not ended by itself, run->late soon after its
 * limit, and E_ABORT as soon as the request is cancelled, the set aborted, or
 * the session ended.  The caller then aborts the set; the step, if it is stuck,
 * ends later, and nobody waits for it.
 */
cowset_hresult op_wait (struct request *q, struct made *m,
                        cowset_hresult (*step) (struct running *run,
                                                uint64_t arg_ns),
                        uint64_t arg_ns, struct cow_error *err);

/* The same at once, in the caller's thread: for steps that do not wait. */
cowset_hresult op_now (struct request *q, struct made *m,
                       cowset_hresult (*step) (struct running *run,
                                               uint64_t arg_ns),
                       uint64_t arg_ns, struct cow_error *err);

/* notes.c */

/* Who decides about a set that is being made, by a busy request; durable where
 * the set is.  0 or -errno of cow_set_annotate().
 */
int note_home (struct made *m, const struct proto_id *home, const char *uri);
/* All that is noted of a set that is finished or undecided: a new object, with
 * "consistency" in it.
 */
json_t *note_of (const struct cow_id *id);

/* decide.c */

void decide_init (void);
/* Forget what a crash has left of sets that were not finished.  Once the engine
 * has started.
 */
void decide_clean (void);
/* Before a set is finished that this server decides about: whose answers are
 * waited for (ids of stores).  Durable.  0 or -errno of cow_engine_note_put().
 */
int decide_begin (const struct cow_id *id, json_t *waiting);
/* It was not finished. */
void decide_drop (const struct cow_id *id);
/* Before a set is deleted, whichever it is: that it was finished is still known
 * afterwards, for as long as somebody may ask.  Durable.  0 or -errno; then the
 * set has to stay.
 */
int decide_keep (const struct cow_id *id);

/* As cow_engine_resolve(), but that -ENOENT says that nobody else is just about
 * to: who had it has carried it out, durably.
 */
int decide_resolve (const struct cow_id *id, bool commit);

void op_decision (struct request *q);
void op_decisions (struct request *q);
void op_acknowledge (struct request *q);
void op_resolve (struct request *q);

/* ops-set.c */

/* A set that a request has in its hands. */
struct step {
  struct request *q;
  struct made *m;
  char name[16 + PROTO_ID_TEXT_SIZE]; /* "set ID", for messages */
};

/* Take the set that the request names, for a step that is legal in wanted
 * only.  False after the request has failed.
 */
bool op_begin_step (struct step *step, struct request *q,
                    enum cow_set_state wanted);
void op_end_step (struct step *step);

void op_set_start (struct request *q);

/* ops-add.c */
void op_set_add (struct request *q);
void op_supported (struct request *q);

void op_set_prepare (struct request *q);
void op_set_note (struct request *q);
void op_set_precommit (struct request *q);
void op_set_commit (struct request *q);
void op_set_hold (struct request *q);
void op_set_switch (struct request *q);
void op_set_settle (struct request *q);
void op_set_finish (struct request *q);
void op_set_vote (struct request *q);
void op_set_abort (struct request *q);

/* Of ops_init(): when the server began, monotonic; and where. */
extern uint64_t started_ns;
extern char op_machine[256];

#endif /* COWSET_OPS_H */
