/* ops.c - a request's way from JSON to JSON.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The table below has all operations, each with what it needs.  The texts of
 * failures say what, which, why, and what to do.
 *
 * Requests are hostile until proved otherwise: every member is looked at for
 * its type and range, nothing is kept of a request that failed, and the size
 * of a request is bounded by its slot.
 *
 * Threads: one for each request; they share what sessions.h has locks for.
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ops.h"
#include "base/bits.h"
#include "protocol/result.h"

uint64_t started_ns;

static struct proto_id instance;
char op_machine[256];

void
ops_init (void)
{
  started_ns = cow_now_ns ();
  instance = proto_id_new ();
  json_object_seed (0);
  decide_init ();
  if (gethostname (op_machine, sizeof op_machine - 1) == -1)
    snprintf (op_machine, sizeof op_machine, "localhost");
}

/* -------------------------------------------------------------- failures */

void
op_fail (struct request *q, cowset_hresult hr, const char *fmt, ...)
{
  va_list ap;

  q->hr = hr;
  va_start (ap, fmt);
  vsnprintf (q->message, sizeof q->message, fmt, ap);
  va_end (ap);
}

void
op_fail_engine (struct request *q, cowset_hresult hr, const char *what, int r,
                const struct cow_error *err)
{
  op_fail (q, hr, "%s: %s; %s", what,
           err && err->text[0] ? err->text : strerror (-r),
           proto_result_advice (hr));
}

/* --------------------------------------------------- members, in and out */

static bool
wrong_member (struct request *q, const char *name, const char *wanted)
{
  op_fail (q, E_INVALIDARG, "member \"%s\": must be %s", name, wanted);
  return false;
}

static json_t *
member (struct request *q, const char *name)
{
  json_t *v = json_object_get (q->in, name);

  return json_is_null (v) ? NULL : v;
}

bool
op_opt_id (struct request *q, const char *name, struct proto_id *out,
           bool *there)
{
  json_t *v = member (q, name);

  *there = v != NULL;
  if (v == NULL)
    return true;
  if (!json_is_string (v) || !proto_id_parse (json_string_value (v), out))
    return wrong_member (q, name, "an id of 36 characters");
  return true;
}

bool
op_get_id (struct request *q, const char *name, struct proto_id *out)
{
  bool there;

  if (!op_opt_id (q, name, out, &there))
    return false;
  return there || wrong_member (q, name, "an id of 36 characters");
}

bool
op_opt_text (struct request *q, const char *name, const char **out)
{
  json_t *v = member (q, name);

  if (v == NULL)
    return true;
  if (!json_is_string (v))
    return wrong_member (q, name, "a string");
  *out = json_string_value (v);
  return true;
}

bool
op_get_text (struct request *q, const char *name, const char **out)
{
  *out = NULL;
  if (!op_opt_text (q, name, out))
    return false;
  return *out || wrong_member (q, name, "a string");
}

/* -1 stands for all of them. */
bool
op_get_bits (struct request *q, const char *name, uint32_t *out)
{
  json_t *v = member (q, name);
  json_int_t n;

  if (!json_is_integer (v))
    return wrong_member (q, name, "an integer of 32 bits");
  n = json_integer_value (v);
  if (n < -1 || n > (json_int_t) UINT32_MAX)
    return wrong_member (q, name, "an integer of 32 bits");
  *out = (uint32_t) n;
  return true;
}

bool
op_opt_bool (struct request *q, const char *name, bool *out)
{
  json_t *v = member (q, name);

  if (v == NULL)
    return true;
  if (!json_is_boolean (v))
    return wrong_member (q, name, "true or false");
  *out = json_is_true (v);
  return true;
}

bool
op_opt_ms (struct request *q, const char *name, unsigned *out)
{
  json_t *v = member (q, name);

  if (v == NULL)
    return true;
  if (!json_is_integer (v) || json_integer_value (v) < 1 ||
      json_integer_value (v) > 24 * 3600 * 1000)
    return wrong_member (q, name, "milliseconds, from 1 to 86400000");
  *out = json_integer_value (v);
  return true;
}

void
op_put (struct request *q, const char *name, json_t *value)
{
  json_object_set_new (q->out, name, value);
}

json_t *
op_number (uint64_t n)
{
  return json_integer (n > INT64_MAX ? INT64_MAX : (json_int_t) n);
}

/* JSON is UTF-8; a path may be anything. */
json_t *
op_text (const char *text)
{
  CLEANUP_FREE char *copy = NULL;
  json_t *r = json_string (text);

  if (r)
    return r;
  copy = strdup (text);
  if (copy == NULL)
    return NULL;
  for (char *p = copy; *p; ++p)
    if ((unsigned char) *p >= 0x80)
      *p = '?';
  return json_string (copy);
}

json_t *
op_proto_id (const struct proto_id *id)
{
  char text[PROTO_ID_TEXT_SIZE];

  proto_id_format (id, text);
  return json_string (text);
}

json_t *
op_id (const struct cow_id *id)
{
  struct proto_id p;

  memcpy (p.b, id->b, sizeof p.b);
  return op_proto_id (&p);
}

/* ------------------------------------------------------ hello, ping, cancel */

/* The session takes part from now on; before its first set nothing else can
 * be resumed into it.
 */
static void
op_hello (struct request *q)
{
  struct session *s = q->session;
  bool resumable = false, resume;
  struct proto_id lost;

  if (!op_opt_bool (q, "resumable", &resumable) ||
      !op_opt_id (q, "resume", &lost, &resume))
    return;
  if (!session_admit (s)) {
    op_fail (q, E_OUTOFMEMORY, "hello: %u requesters are connected "
             "(control-sessions=%u); wait until one has finished",
             settings.control_sessions, settings.control_sessions);
    return;
  }
  if (resume && !session_resume (s, &lost)) {
    op_fail (q, VSS_E_OBJECT_NOT_FOUND, "hello: no lost session of that id "
             "waits; its auto-release sets are gone");
    return;
  }
  cow_mutex_lock (&s->lock);
  s->greeted = true;
  s->resumable = resumable;
  cow_mutex_unlock (&s->lock);

  op_put (q, "server", json_string ("cowset " PACKAGE_VERSION));
  op_put (q, "version", json_integer (PROTO_VERSION));
  op_put (q, "machine", op_text (op_machine));
  op_put (q, "instance", op_proto_id (&instance));
  op_put (q, "store", json_boolean (cow_engine_has_store (engine)));
  if (cow_engine_has_store (engine))
    op_put (q, "store_id", op_id (cow_engine_store_id (engine)));
  op_put (q, "hold_limit_ms", json_integer (settings.hold_limit_ms));
  op_put (q, "flush_limit_ms", json_integer (settings.flush_limit_ms));
  op_put (q, "session_grace_ms", json_integer (settings.session_grace_ms));
  op_put (q, "session", op_proto_id (&s->id));
  op_put (q, "volumes", json_integer (cow_engine_volumes (engine)));
}

static void
op_ping (struct request *q)
{
  (void) q;
}

static void
op_cancel (struct request *q)
{
  struct session *s = q->session;
  const json_t *k = json_object_get (q->in, "slot");
  const json_t *id = json_object_get (q->in, "id");
  struct slot *slot;

  if (!json_is_integer (k) || json_integer_value (k) < 1 ||
      json_integer_value (k) >= PROTO_SLOTS) {
    wrong_member (q, "slot", "from 1 to 15");
    return;
  }
  if (!json_is_integer (id)) {
    wrong_member (q, "id", "an integer");
    return;
  }
  slot = &s->slots[json_integer_value (k)];

  LOCK_FOR_SCOPE (&s->lock);
  if (slot->state != SLOT_BUSY ||
      slot->id != (uint64_t) json_integer_value (id)) {
    q->hr = S_FALSE;
    return;
  }
  slot->cancelled = true;
  cow_cond_broadcast (&s->changed);
}

/* ----------------------------------------------------------------- table */

enum {
  BEFORE_HELLO = 1 << 0,        /* may come before hello */
  ON_SLOT_0 = 1 << 1,           /* never waits, and may come there */
};

static const struct op {
  const char *name;
  unsigned flags;
  void (*run) (struct request *q);
} ops[] = {
  { "hello", BEFORE_HELLO, op_hello },
  { "ping", BEFORE_HELLO | ON_SLOT_0, op_ping },
  { "cancel", ON_SLOT_0, op_cancel },
  { "volumes", 0, op_volumes },
  { "status", 0, op_status },
  { "query", 0, op_query },
  { "undecided", 0, op_undecided },
  { "delete", 0, op_delete },
  { "providers", 0, op_providers },
  { "supported", 0, op_supported },
  { "set.start", 0, op_set_start },
  { "set.add", 0, op_set_add },
  { "set.prepare", 0, op_set_prepare },
  { "set.precommit", 0, op_set_precommit },
  { "set.commit", 0, op_set_commit },
  { "set.hold", 0, op_set_hold },
  { "set.switch", 0, op_set_switch },
  { "set.note", 0, op_set_note },
  { "set.settle", 0, op_set_settle },
  { "set.vote", 0, op_set_vote },
  { "set.finish", 0, op_set_finish },
  { "set.abort", 0, op_set_abort },
  { "decision", 0, op_decision },
  { "decisions", 0, op_decisions },
  { "resolve", 0, op_resolve },
  { "acknowledge", 0, op_acknowledge },
};

static const struct op *
find_op (const char *name)
{
  for (size_t i = 0; i < COW_ARRAY_SIZE (ops); ++i)
    if (strcmp (name, ops[i].name) == 0)
      return &ops[i];
  return NULL;
}

static void
run (struct request *q)
{
  const struct op *op;
  const char *name;
  bool greeted, cancelled;

  if (!op_get_text (q, "op", &name))
    return;
  op = find_op (name);
  if (op == NULL) {
    op_fail (q, E_NOTIMPL, "op \"%s\": not known to this server (cowset "
             PACKAGE_VERSION ")", name);
    return;
  }
  if (q->slot == &q->session->slots[0] && !(op->flags & ON_SLOT_0)) {
    op_fail (q, E_INVALIDARG, "op \"%s\": slot 0 takes only ping and cancel",
             name);
    return;
  }
  cow_mutex_lock (&q->session->lock);
  greeted = q->session->greeted;
  cancelled = q->slot->cancelled;
  cow_mutex_unlock (&q->session->lock);
  if (!greeted && !(op->flags & BEFORE_HELLO)) {
    op_fail (q, VSS_E_BAD_STATE, "op \"%s\": comes before hello", name);
    return;
  }
  if (cancelled) {
    op_fail (q, E_ABORT, "op \"%s\": cancelled before it began", name);
    return;
  }
  op->run (q);
  if (cowset_debug_control)
    nbdkit_debug ("control: %s: %s%s%s", name, proto_result_name (q->hr),
                  q->message[0] ? ": " : "", q->message);
}

static char *
answer_text (struct request *q)
{
  const char *code = proto_result_name (q->hr);
  json_t *answer = json_object ();
  char *text;

  json_object_set_new (answer, "hr", json_integer (q->hr));
  json_object_set_new (answer, "code", json_string (code ? code : "?"));
  /* After a failure: where it says how far it came. */
  if (COWSET_SUCCEEDED (q->hr) || json_object_size (q->out) > 0)
    json_object_set (answer, "result", q->out);
  if (COWSET_FAILED (q->hr))
    json_object_set_new (answer, "message", op_text (q->message));
  text = json_dumps (answer, JSON_COMPACT);
  json_decref (answer);
  return text;
}

static char *
request_end (struct request *q)
{
  char *text = answer_text (q);

  if (text == NULL || strlen (text) > PROTO_ANSWER_MAX) {
    free (text);
    op_fail (q, E_OUTOFMEMORY, "the answer is too long; ask for less");
    text = answer_text (q);
  }
  json_decref (q->in);
  json_decref (q->out);
  return text;
}

char *
ops_run (struct session *s, struct slot *slot, const char *body, size_t len)
{
  struct request q = { .session = s, .slot = slot, .hr = S_OK };
  json_error_t error;

  q.out = json_object ();
  q.in = json_loadb (body, len, JSON_REJECT_DUPLICATES, &error);
  if (q.in == NULL)
    op_fail (&q, E_INVALIDARG, "the body is no JSON: byte %d: %s",
             error.position, error.text);
  else if (!json_is_object (q.in))
    op_fail (&q, E_INVALIDARG, "the body is no JSON object");
  else
    run (&q);
  return request_end (&q);
}

/* -------------------------------------------------------------- refusals */

char *
ops_refuse (struct session *s)
{
  struct request q = { .session = s, .hr = S_OK };
  bool ended;
  const char *why;

  cow_mutex_lock (&s->lock);
  ended = s->ended;
  why = s->why;
  cow_mutex_unlock (&s->lock);

  if (!s->peer.allowed)
    op_fail (&q, E_ACCESSDENIED, "@control: this connection may not use it; "
             "connect over the server's Unix socket as the server's user or "
             "as root, or start the server with control=any");
  else if (ended)
    op_fail (&q, VSS_E_BAD_STATE, "the session has ended: %s; connect again",
             why);
  else
    return NULL;
  return request_end (&q);
}

char *
ops_wrong_version (uint32_t version)
{
  struct request q = { .hr = S_OK };
  json_t *answer, *versions = json_array ();
  char *text;

  op_fail (&q, E_NOTIMPL, "version %" PRIu32 " of the control channel is not "
           "spoken here", version);
  text = request_end (&q);
  answer = text ? json_loads (text, 0, NULL) : NULL;
  free (text);
  json_array_append_new (versions, json_integer (PROTO_VERSION));
  json_object_set_new (answer, "versions", versions);
  text = answer ? json_dumps (answer, JSON_COMPACT) : NULL;
  json_decref (answer);
  return text;
}
