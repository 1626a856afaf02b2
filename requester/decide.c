/* decide.c - sets that last, over several servers: the decision.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * When all servers have settled,
 *
 *   vote      all but the home make their parts durable, hidden as yet
 *   decide    the home finishes its part: that is the decision.  It notes with
 *             it whom it has to tell
 *   tell      the others show their parts
 *   forget    the home is told who knows, and keeps the decision for the others
 *
 * A failure before the home was asked to decide aborts the set everywhere: a
 * home that is not asked never commits.  Once it was asked, only its word
 * counts.  Whoever comes later and reaches both ends brings the decision:
 * req_bring_decisions().
 *
 * Stores are known by their ids, never by a URI.
 */
#include <config.h>

#include <string.h>
#include <time.h>

#include "props.h"
#include "several.h"

/* How long a home may be unable to say, as its requester's session ends. */
#define ASK_FOR_MS 5000
#define ASK_EVERY_MS 50

static const char *
store_of (const struct req_server *server)
{
  return req_json_text (server->hello, "store_id");
}

cowset_hresult
req_can_decide (const struct req_server *server)
{
  return *store_of (server)
           ? S_OK
           : req_fail (VSS_E_VOLUME_NOT_SUPPORTED, "%s: the server cannot "
                       "take part in a lasting set over several servers; it "
                       "needs store=, and a cowset that knows of them",
                       server->uri);
}

/* ------------------------------------------------------------ asking a home */

enum outcome { UNKNOWN, COMMITTED, ABORTED };

static enum outcome
ask (struct req_server *server, const struct proto_id *set)
{
  const uint64_t until_ms = req_now_ms () + ASK_FOR_MS;

  for (;;) {
    const struct timespec pause = { 0, ASK_EVERY_MS * 1000000L };
    CLEANUP_JSON json_t *answer = NULL;
    const cowset_hresult hr = req_request (server, NULL, &answer, "decision",
                                           "{s:o}", "set", req_id_json (set));
    const char *decision = req_json_text (answer, "decision");

    if (COWSET_FAILED (hr))
      return UNKNOWN;
    if (strcmp (decision, "committed") == 0)
      return COMMITTED;
    if (strcmp (decision, "aborted") == 0)
      return ABORTED;
    if (req_now_ms () >= until_ms)
      return UNKNOWN;
    nanosleep (&pause, NULL);
  }
}

/* On a connection of its own, where it is the same store that answers there. */
static enum outcome
ask_anew (const struct req_server *home, const struct proto_id *set)
{
  enum outcome outcome = UNKNOWN;
  struct req_server *server;

  if (COWSET_FAILED (req_connect (home->uri, &server)))
    return UNKNOWN;
  if (strcmp (store_of (server), store_of (home)) == 0)
    outcome = ask (server, set);
  server->ops->close (server);
  return outcome;
}

/* --------------------------------------------------------------- the steps */

static cowset_hresult
vote (struct req_crew *crew, uint64_t limit_ms)
{
  const struct req_server *home = req_crew_server (crew, 0);
  CLEANUP_JSON json_t *more = json_pack ("{s:s, s:s}", "home",
                                         store_of (home), "home_uri",
                                         home->uri);
  const struct req_order order = {
    .op = "set.vote", .more = more, .where = REQ_ELSEWHERE,
    .limit_ms = limit_ms, .late = VSS_E_UNEXPECTED,
  };

  return more ? req_crew_order (crew, &order)
              : req_fail (E_OUTOFMEMORY, NULL);
}

static json_t *
others_of (const struct req_crew *crew)
{
  json_t *stores = json_array ();

  for (size_t i = 1; i < req_crew_size (crew); ++i)
    json_array_append_new (stores, json_string (store_of (
      req_crew_server (crew, i))));
  return json_pack ("{s:o}", "members", stores);
}

/* What came of a decision that failed.  An abort that the home takes has
 * answered that, too.
 */
static enum outcome
look_after (struct cowset *c, struct req_crew *crew, uint64_t limit_ms)
{
  CLEANUP_FREE char *message = strdup (cowset_error_message ());
  struct req_order order = {
    .op = "set.abort", .where = REQ_AT_HOME, .limit_ms = limit_ms,
    .late = VSS_E_UNEXPECTED, .final = true,
  };
  CLEANUP_JSON json_t *answer = NULL;
  enum outcome outcome = UNKNOWN;
  const char *decision;

  if (req_crew_order (crew, &order) == S_OK)
    outcome = ABORTED;
  else {
    order.op = "decision";
    req_crew_order (crew, &order);
    req_crew_answer (crew, 0, &answer);
    decision = req_json_text (answer, "decision");
    if (strcmp (decision, "committed") == 0)
      outcome = COMMITTED;
    else if (strcmp (decision, "aborted") == 0)
      outcome = ABORTED;
    else
      outcome = ask_anew (req_crew_server (crew, 0), &c->set);
  }
  req_fail (S_OK, "%s", message ? message : "");
  return outcome;
}

static cowset_hresult
fail_in_doubt (struct cowset *c, const struct req_server *home)
{
  char set[PROTO_ID_TEXT_SIZE];

  proto_id_format (&c->set, set);
  return req_fail (VSS_E_UNEXPECTED, "set %s: its home, %s, was lost while it "
                   "decided whether the set is; bring its word to the other "
                   "servers when it is back: cowset -c URI -c URI resolve %s",
                   set, home->uri, set);
}

static cowset_hresult
decide (struct cowset *c, struct req_crew *crew, uint64_t limit_ms,
        bool *in_doubt)
{
  CLEANUP_JSON json_t *more = others_of (crew);
  const struct req_order order = {
    .op = "set.finish", .more = more, .where = REQ_AT_HOME,
    .limit_ms = limit_ms, .late = VSS_E_UNEXPECTED,
  };
  cowset_hresult hr = more ? req_crew_order (crew, &order)
                           : req_fail (E_OUTOFMEMORY, NULL);

  if (COWSET_SUCCEEDED (hr))
    return hr;
  switch (look_after (c, crew, limit_ms)) {
  case COMMITTED:
    return S_OK;
  case ABORTED:
    return hr;
  case UNKNOWN:
    break;
  }
  *in_doubt = true;
  return fail_in_doubt (c, req_crew_server (crew, 0));
}

/* Who cannot be told now is told by somebody else, later. */
static void
tell (struct req_crew *crew, uint64_t limit_ms)
{
  CLEANUP_JSON json_t *more = json_pack ("{s:b}", "commit", 1);
  struct req_order order = {
    .op = "resolve", .more = more, .where = REQ_ELSEWHERE,
    .limit_ms = limit_ms, .late = VSS_E_UNEXPECTED, .final = true,
  };
  bool knows[REQ_SERVERS_MAX];

  if (more == NULL)
    return;
  req_crew_order (crew, &order);
  for (size_t i = 1; i < req_crew_size (crew); ++i)
    knows[i] = COWSET_SUCCEEDED (req_crew_answer (crew, i, NULL));
  order.op = "acknowledge";
  order.where = REQ_AT_HOME;
  for (size_t i = 1; i < req_crew_size (crew); ++i) {
    CLEANUP_JSON json_t *store = json_pack (
      "{s:s}", "store", store_of (req_crew_server (crew, i)));

    order.more = store;
    if (knows[i] && store)
      req_crew_order (crew, &order);
  }
}

cowset_hresult
req_decide (struct cowset *c, struct req_crew *crew, uint64_t limit_ms,
            bool *in_doubt)
{
  cowset_hresult hr = vote (crew, limit_ms);

  if (COWSET_SUCCEEDED (hr))
    hr = decide (c, crew, limit_ms, in_doubt);
  if (COWSET_SUCCEEDED (hr))
    tell (crew, limit_ms);
  return hr;
}

/* ---------------------------------------------------- bringing it afterwards */

/* The object's server with that store, or NULL. */
static struct req_server *
find_store (struct cowset *c, const char *store)
{
  const size_t count = c->server_count;

  for (size_t i = 0; *store && i < count; ++i)
    if (strcmp (store_of (c->servers[i]), store) == 0)
      return c->servers[i];
  return NULL;
}

static cowset_hresult
resolve (struct req_server *server, const struct proto_id *set, bool commit)
{
  return req_request (server, NULL, NULL, "resolve", "{s:o, s:b}", "set",
                      req_id_json (set), "commit", (int) commit);
}

static void
acknowledge (struct req_server *home, const struct proto_id *set,
             const char *store)
{
  req_request (home, NULL, NULL, "acknowledge", "{s:o, s:s}", "set",
               req_id_json (set), "store", store);
}

/* What the home says, to a server that waits for it. */
static cowset_hresult
bring (struct cowset *c, struct req_server *server, json_t *part, bool abort,
       enum cowset_decision *decision)
{
  const char *store = req_json_text (part, "home");
  struct req_server *home = find_store (c, store);
  enum outcome outcome = ABORTED;
  struct cowset_id id;
  struct proto_id set;
  cowset_hresult hr;

  if (!req_json_id (part, "set", &id))
    return req_fail (VSS_E_UNEXPECTED, "%s: the server's list of sets makes "
                     "no sense", server->uri);
  set = req_id_in (&id);
  if (home == NULL && !abort)
    return req_fail (VSS_E_REMOTE_SERVER_UNAVAILABLE, "set %s: the server "
                     "that decides about it, with the store %s, is none of "
                     "those that were named; its requester reached it as %s",
                     req_json_text (part, "set"), store,
                     req_json_text (part, "home_uri"));
  if (home)
    outcome = ask (home, &set);
  if (outcome == UNKNOWN)
    return req_fail (VSS_E_BAD_STATE, "set %s: %s does not say yet whether it "
                     "is; its requester is still at it",
                     req_json_text (part, "set"), home->uri);
  hr = resolve (server, &set, outcome == COMMITTED);
  if (COWSET_FAILED (hr))
    return hr;
  if (outcome == COMMITTED)
    acknowledge (home, &set, store_of (server));
  *decision = outcome == COMMITTED ? COWSET_DECIDED_COMMIT
                                   : COWSET_DECIDED_ABORT;
  return S_OK;
}

/* All parts of that set (NULL: of every one) at one server.  *found is added
 * to.
 */
static cowset_hresult
bring_to (struct cowset *c, struct req_server *server,
          const struct cowset_id *set, bool abort,
          enum cowset_decision *decision, size_t *found)
{
  CLEANUP_JSON json_t *answer = NULL;
  cowset_hresult hr, first = S_OK;
  struct cowset_id id;
  json_t *part;
  size_t i;

  if (*store_of (server) == '\0')
    return S_OK;
  hr = req_request (server, NULL, &answer, "undecided", "{}");
  if (COWSET_FAILED (hr))
    return hr;
  json_array_foreach (json_object_get (answer, "sets"), i, part) {
    if (set && !(req_json_id (part, "set", &id) && cowset_id_equal (&id, set)))
      continue;
    ++*found;
    hr = bring (c, server, part, abort, decision);
    if (COWSET_SUCCEEDED (first))
      first = hr;
  }
  return first;
}

/* What a home keeps for servers that need it no more, or never got it. */
static void
bring_from (struct cowset *c, struct req_server *home)
{
  CLEANUP_JSON json_t *answer = NULL;
  json_t *decision, *store;
  size_t i, k;

  if (*store_of (home) == '\0' ||
      COWSET_FAILED (req_request (home, NULL, &answer, "decisions", "{}")))
    return;
  json_array_foreach (json_object_get (answer, "decisions"), i, decision)
    json_array_foreach (json_object_get (decision, "waiting"), k, store) {
      const char *text = json_string_value (store);
      struct req_server *server = find_store (c, text ? text : "");
      struct cowset_id id;
      struct proto_id set;
      cowset_hresult hr;

      if (server == NULL || !req_json_id (decision, "set", &id))
        continue;
      set = req_id_in (&id);
      hr = resolve (server, &set, true);
      if (COWSET_SUCCEEDED (hr) || hr == VSS_E_OBJECT_NOT_FOUND)
        acknowledge (home, &set, text);
    }
}

void
req_bring_decisions (struct cowset *c)
{
  const size_t count = c->server_count;
  enum cowset_decision decision;
  size_t found = 0;

  for (size_t i = 0; count > 1 && i < count; ++i) {
    bring_from (c, c->servers[i]);
    bring_to (c, c->servers[i], NULL, false, &decision, &found);
  }
}

cowset_hresult
cowset_resolve_set (struct cowset *c, const struct cowset_id *set, bool abort,
                    enum cowset_decision *decision)
{
  cowset_hresult hr = S_OK;
  size_t count, found = 0;

  if (c == NULL || set == NULL || decision == NULL)
    return req_fail_null ("cowset_resolve_set", c == NULL ? "the object" :
                          set == NULL ? "set" : "decision");
  hr = req_check_state (c, CALL_DELETE_SNAPSHOTS);
  count = c->server_count;
  for (size_t i = 0; COWSET_SUCCEEDED (hr) && i < count; ++i)
    hr = bring_to (c, c->servers[i], set, abort, decision, &found);
  if (COWSET_SUCCEEDED (hr) && found == 0) {
    char text[COWSET_ID_TEXT_SIZE];

    cowset_id_format (set, text);
    hr = req_fail (VSS_E_OBJECT_NOT_FOUND, "set %s: nothing of it is in doubt "
                   "at these servers", text);
  }
  return REQ_ONLY (hr, VSS_E_OBJECT_NOT_FOUND, VSS_E_BAD_STATE,
                   VSS_E_REMOTE_SERVER_UNAVAILABLE);
}
