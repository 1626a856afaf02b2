/* decide.c - the decision about a set over several servers.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One of the set's servers, its home, decides: the set is there, at all of
 * them, if and only if it was finished there.  The others have voted for it
 * before: their parts are durable and hidden (the engine's UNDECIDED), and stay
 * so until somebody brings them the home's decision.  So the home keeps that
 * for as long as one of them may ask, also when the set itself is deleted:
 *
 *   D1  Before the set is finished a note by its id says whose answers are
 *       waited for, with "open": what counts is whether the set is there.
 *   D2  Before a set with such a note is deleted the note becomes "commit".
 *   D3  A store is taken off the list when it has carried the decision out,
 *       durably; with the last one the note goes.
 *   D4  "aborted" is said only of a set that is not there and that nobody
 *       makes: it can never come.  A set is there before its maker's session
 *       forgets it; so the sessions are looked at first.
 *
 * Threads: any.  Locks: decide.lock, over the engine's writing of a note, and
 * decide.resolving, over the engine's writing of a decision; no other is taken
 * in them.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "base/bits.h"
#include "protocol/result.h"

static struct {
  cow_mutex lock;               /* changing a note */
  cow_mutex resolving;          /* carrying a decision out */
} decide;

void
decide_init (void)
{
  cow_mutex_init (&decide.lock);
  cow_mutex_init (&decide.resolving);
}

/* ------------------------------------------------------------------- notes */

/* The note of a set, or NULL. */
static json_t *
read_note (const struct cow_id *id)
{
  void *text = NULL;
  size_t len = 0;
  json_t *note;

  if (cow_engine_note_get (engine, id, &text, &len) < 0)
    return NULL;
  note = json_loadb (text, len, 0, NULL);
  free (text);
  if (json_is_array (json_object_get (note, "waiting")))
    return note;
  json_decref (note);
  return NULL;
}

static int
write_note (const struct cow_id *id, json_t *note)
{
  char *text = note ? json_dumps (note, JSON_COMPACT) : NULL;
  int r = text ? cow_engine_note_put (engine, id, text, strlen (text))
               : -ENOMEM;

  free (text);
  return r;
}

static bool
says_commit (json_t *note)
{
  const char *decision = json_string_value (json_object_get (note,
                                                             "decision"));

  return decision && strcmp (decision, "commit") == 0;
}

static bool
is_there (const struct cow_id *id)
{
  CLEANUP_FREE struct cow_set_info *info = malloc (sizeof *info);

  return info && cow_engine_find_set (engine, id, info) == 0;
}

int
decide_begin (const struct cow_id *id, json_t *waiting)
{
  json_t *note = json_pack ("{s:s, s:O}", "decision", "open", "waiting",
                            waiting);
  int r;
  LOCK_FOR_SCOPE (&decide.lock);

  r = write_note (id, note);
  json_decref (note);
  return r;
}

void
decide_drop (const struct cow_id *id)
{
  LOCK_FOR_SCOPE (&decide.lock);

  /* Left behind it says nothing (D1). */
  (void) cow_engine_note_remove (engine, id);
}

int
decide_keep (const struct cow_id *id)
{
  json_t *note;
  int r = 0;
  LOCK_FOR_SCOPE (&decide.lock);

  note = read_note (id);
  if (note && !says_commit (note)) {
    json_object_set_new (note, "decision", json_string ("commit"));
    r = write_note (id, note);
  }
  json_decref (note);
  return r;
}

struct kept {
  struct cow_id id;
  json_t *note;                 /* owned; NULL: it is none of ours */
};

struct all_kept {
  struct kept *kept;
  size_t count, room;
  bool failed;
};

static int
gather (void *opaque, const struct cow_id *key, const void *data, size_t len)
{
  struct all_kept *all = opaque;

  if (all->count == all->room) {
    const size_t room = all->room ? 2 * all->room : 16;
    struct kept *bigger = realloc (all->kept, room * sizeof bigger[0]);

    all->failed = bigger == NULL;
    if (all->failed)
      return 1;
    all->kept = bigger;
    all->room = room;
  }
  all->kept[all->count++] = (struct kept) {
    .id = *key, .note = json_loadb (data, len, 0, NULL),
  };
  return 0;
}

/* To be cleared. */
static struct all_kept
gather_all (void)
{
  struct all_kept all = { NULL, 0, 0, false };

  cow_engine_notes (engine, gather, &all);
  return all;
}

static void
clear_all (struct all_kept *all)
{
  for (size_t i = 0; i < all->count; ++i)
    json_decref (all->kept[i].note);
  free (all->kept);
}

void
decide_clean (void)
{
  struct all_kept all;

  if (!cow_engine_has_store (engine))
    return;
  all = gather_all ();
  for (size_t i = 0; i < all.count; ++i)
    if (json_object_get (all.kept[i].note, "waiting") &&
        !says_commit (all.kept[i].note) && !is_there (&all.kept[i].id))
      decide_drop (&all.kept[i].id);
  clear_all (&all);
}

/* ---------------------------------------------------------- what is decided */

static bool
is_undecided (const struct cow_id *id)
{
  CLEANUP_FREE struct cow_set_info *sets = NULL;
  size_t count = 0;

  if (cow_engine_undecided_sets (engine, &sets, &count) < 0)
    return true;
  for (size_t i = 0; i < count; ++i)
    if (cow_id_equal (&sets[i].id, id))
      return true;
  return false;
}

/* D4 */
static const char *
decision_of (const struct cow_id *id)
{
  const bool is_made = sessions_may_make (NULL, id);
  const char *decision = "aborted";
  json_t *note;

  if (is_there (id))
    return "committed";
  note = read_note (id);
  if (says_commit (note))
    decision = "committed";
  else if (is_made || is_undecided (id))
    decision = "undecided";
  json_decref (note);
  return decision;
}

void
op_decision (struct request *q)
{
  struct proto_id proto;
  struct cow_id id;

  if (!op_get_id (q, "set", &proto))
    return;
  id = id_to_cow (&proto);
  op_put (q, "decision", json_string (decision_of (&id)));
}

/* All that somebody has still to hear of. */
void
op_decisions (struct request *q)
{
  struct all_kept all = gather_all ();
  json_t *list = json_array ();

  for (size_t i = 0; i < all.count; ++i) {
    const struct cow_id *id = &all.kept[i].id;
    json_t *waiting = json_object_get (all.kept[i].note, "waiting");

    if (json_is_array (waiting) &&
        strcmp (decision_of (id), "committed") == 0)
      json_array_append_new (list, json_pack ("{s:o, s:O}", "set", op_id (id),
                                              "waiting", waiting));
  }
  if (all.failed)
    op_fail (q, E_OUTOFMEMORY, "decisions: the server is out of memory");
  clear_all (&all);
  op_put (q, "decisions", list);
}

/* A store has carried the decision out. */
void
op_acknowledge (struct request *q)
{
  struct proto_id proto, store;
  char text[PROTO_ID_TEXT_SIZE];
  json_t *note, *waiting, *one;
  struct cow_id id;
  size_t i, n;
  int r = 0;

  if (!op_get_id (q, "set", &proto) || !op_get_id (q, "store", &store))
    return;
  id = id_to_cow (&proto);
  proto_id_format (&store, text);
  LOCK_FOR_SCOPE (&decide.lock);

  note = read_note (&id);
  waiting = json_object_get (note, "waiting");
  n = json_array_size (waiting);
  json_array_foreach (waiting, i, one)
    if (json_is_string (one) && strcmp (json_string_value (one), text) == 0) {
      json_array_remove (waiting, i);
      break;
    }
  if (json_array_size (waiting) < n)
    r = n == 1 ? cow_engine_note_remove (engine, &id)
               : write_note (&id, note);
  json_decref (note);
  if (r < 0)
    op_fail_engine (q, r == -ENOMEM ? E_OUTOFMEMORY : VSS_E_UNEXPECTED,
                    "acknowledge", r, NULL);
}

/* -------------------------------------------------- what others have decided */

int
decide_resolve (const struct cow_id *id, bool commit)
{
  LOCK_FOR_SCOPE (&decide.resolving);

  return cow_engine_resolve (engine, id, commit);
}

/* The maker's own session need not know of it any more. */
static void
forget (struct request *q, const struct cow_id *id)
{
  bool in_use;
  struct made *m = session_use_set (q->session, id, false, &in_use);

  if (m == NULL)
    return;
  made_drop (q->session, m);
  session_unuse_set (q->session, m, false);
}

void
op_resolve (struct request *q)
{
  char text[PROTO_ID_TEXT_SIZE];
  struct proto_id proto;
  bool commit = false;
  struct cow_id id;
  int r;

  if (!op_get_id (q, "set", &proto) || !op_opt_bool (q, "commit", &commit))
    return;
  id = id_to_cow (&proto);
  proto_id_format (&proto, text);
  if (sessions_may_make (q->session, &id)) {
    op_fail (q, VSS_E_BAD_STATE, "set %s: its requester is still at it; wait "
             "until it has ended", text);
    return;
  }
  r = decide_resolve (&id, commit);
  if (r == 0)
    forget (q, &id);
  else if (r == -ENOENT && is_there (&id)) {
    if (!commit)
      op_fail (q, VSS_E_BAD_STATE, "set %s: it is finished; delete it instead",
               text);
  }
  else if (r == -ENOENT)
    op_fail (q, VSS_E_OBJECT_NOT_FOUND, "set %s: nothing of it waits for a "
             "decision here", text);
  else
    op_fail_engine (q, r == -ENOMEM ? E_OUTOFMEMORY : VSS_E_UNEXPECTED,
                    "resolve", r, NULL);
}
