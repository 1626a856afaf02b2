/* finish.c - a set that has settled becomes one that lasts, or not.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Of a persistent set: its origins are synced, so that the instant is what a
 * crash leaves; then one record is made durable.  Until that is on its way the
 * set is provisional, and an abort forgets it without I/O.  From then on it may
 * be there after a crash, whatever we are told: so it ends only as a committed
 * one does, by a record of its own or an invalidation, and its exceptions are
 * kept until then.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mutant.h"
#include "set/set-priv.h"

static int
sync_origins (struct cow_set *s, struct cow_error *err)
{
  for (unsigned i = 0; i < s->members; i++) {
    struct cow_volume *v = s->member[i].volume;
    int rc = v->readonly || COW_MUTANT (instant_not_synced)
               ? 0
               : cow_volume_flush (v);

    if (rc < 0)
      return cow_error_set (err, rc, "%s: flushing it: %s", v->name,
                            strerror (-rc));
  }
  return 0;
}

/* The point of no return: the set is in the catalogue, hidden, and its record
 * is as good as on its way.
 */
static int
submit_locked (struct cow_set *s, bool undecided, struct cow_entries *entries,
               struct cow_error *err)
{
  struct cow_engine *e = s->engine;
  int rc;
  LOCK_FOR_SCOPE (&e->sets_lock);

  rc = cow_set_check_ending (s, err);
  if (rc < 0)
    return rc;
  s->undecided = undecided;
  s->number = e->last_number + 1;
  if (cow_set_add_records_locked (e, s, entries) < 0)
    return cow_error_set (err, -ENOMEM, "no memory for the set's record");
  cow_catalogue_enter_locked (e, s);
  s->recording = COW_RECORD_SUBMITTED;
  s->submitted = true;
  return 0;
}

static void
record_is_over (struct cow_set *s)
{
  struct cow_engine *e = s->engine;
  LOCK_FOR_SCOPE (&e->sets_lock);

  s->recording = COW_RECORD_DURABLE;
  cow_cond_broadcast (&e->swept);
}

/* It may be durable all the same: it ends as a committed one would. */
static void
take_back (struct cow_set *s)
{
  struct cow_snapshot *snaps[COW_SET_VOLUMES_MAX];
  struct cow_engine *e = s->engine;

  for (unsigned i = 0; i < s->members; i++)
    snaps[i] = s->member[i].snapshot;
  (void) cow_engine_lose (e, snaps, s->members, COW_DELETED);
  if (cow_catalogue_remove (e, s))
    cow_set_drop (s);
}

/* All of a persistent set that takes time.  The set is busy. */
static int
make_durable (struct cow_set *s, bool undecided, struct cow_error *err)
{
  struct cow_entries entries = COW_ENTRIES_INIT;
  struct cow_engine *e = s->engine;
  int rc = sync_origins (s, err);

  if (rc < 0)
    return cow_set_fail_phase (s, rc);
  cow_mutex_lock (&s->lock);
  rc = s->state == COW_SET_ABORTED
         ? cow_error_set (err, -ECANCELED, "the set was aborted")
         : submit_locked (s, undecided, &entries, err);
  cow_mutex_unlock (&s->lock);
  if (rc < 0) {
    cow_entries_clear (&entries);
    return cow_set_fail_phase (s, rc);
  }
  if (!COW_MUTANT (commit_not_awaited))
    rc = cow_store_append (e->store, &entries,
                           cow_now_ns () + e->options.store_timeout_ns);
  cow_entries_clear (&entries);
  record_is_over (s);
  if (rc == 0)
    return 0;
  cow_error_set (err, rc, "the set could not be recorded in the store: %s",
                 strerror (-rc));
  take_back (s);
  return cow_set_fail_phase (s, rc);
}

static int
finish (struct cow_set *s, bool undecided, struct cow_error *err)
{
  struct cow_engine *e = s->engine;
  int rc;

  cow_mutex_lock (&s->lock);
  rc = cow_set_expect_locked (s, COW_SET_SETTLED, err);
  if (rc == 0)
    rc = cow_set_check_alive (s, err);
  if (rc < 0 && s->state == COW_SET_SETTLED && !s->busy)
    cow_set_abort_locked (s);
  if (rc == 0)
    s->busy = true;
  cow_mutex_unlock (&s->lock);
  if (rc == 0 && s->persistent)
    rc = make_durable (s, undecided, err);
  if (rc < 0)
    return rc;

  LOCK_FOR_SCOPE (&s->lock);
  s->busy = s->submitted = false;
  if (s->state == COW_SET_ABORTED)
    return cow_error_set (err, -ECANCELED, "the set was aborted");
  cow_set_move_locked (s, undecided ? COW_SET_UNDECIDED : COW_SET_COMMITTED);
  cow_mutex_lock (&e->sets_lock);
  if (!s->persistent) {
    s->number = e->last_number + 1;
    cow_catalogue_enter_locked (e, s);
  }
  if (!undecided)
    cow_catalogue_show_locked (e, s);
  cow_mutex_unlock (&e->sets_lock);
  cow_set_drop_claims (s);
  cow_set_log (s, undecided ? "is prepared" : "is made");
  return 0;
}

int
cow_set_finish (struct cow_set *s, struct cow_error *err)
{
  return finish (s, false, err);
}

int
cow_set_finish_undecided (struct cow_set *s, struct cow_error *err)
{
  if (!s->persistent)
    return cow_error_set (err, -EOPNOTSUPP,
                          "a set that is not persistent has nothing to wait "
                          "for");
  return finish (s, true, err);
}

/* ---------------------------------------------------------------- deciding */

/* The undecided set of that id, with a count. */
static struct cow_set *
take_undecided (struct cow_engine *e, const struct cow_id *id)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  for (struct cow_set *s = e->newest; s != NULL; s = s->older)
    if (s->undecided && !s->listed && s->recording == COW_RECORD_DURABLE
        && cow_id_equal (&s->id, id)) {
      atomic_fetch_add (&s->count, 1);
      return s;
    }
  return NULL;
}

static int
commit_undecided (struct cow_set *s)
{
  struct cow_entries entries = COW_ENTRIES_INIT;
  struct cow_engine *e = s->engine;
  int rc;

  cow_mutex_lock (&e->sets_lock);
  if (!s->undecided || s->recording != COW_RECORD_DURABLE) {
    cow_mutex_unlock (&e->sets_lock);
    return -ENOENT;             /* somebody else has decided, or does */
  }
  s->undecided = false;
  s->recording = COW_RECORD_SUBMITTED;
  rc = cow_set_add_records_locked (e, s, &entries);
  cow_mutex_unlock (&e->sets_lock);
  if (rc == 0)
    rc = cow_store_append (e->store, &entries,
                           cow_now_ns () + e->options.store_timeout_ns);
  cow_entries_clear (&entries);

  LOCK_FOR_SCOPE (&s->lock);
  cow_mutex_lock (&e->sets_lock);
  s->recording = COW_RECORD_DURABLE;
  cow_cond_broadcast (&e->swept);
  /* The decision is known here, and asked for again if need be. */
  s->undecided = rc < 0;
  if (rc == 0)
    cow_catalogue_show_locked (e, s);
  cow_mutex_unlock (&e->sets_lock);
  if (rc == 0 && s->state == COW_SET_UNDECIDED)
    cow_set_move_locked (s, COW_SET_COMMITTED);
  return rc;
}

static int
abort_undecided (struct cow_set *s)
{
  struct cow_snapshot *snaps[COW_SET_VOLUMES_MAX];
  struct cow_engine *e = s->engine;
  int rc;

  for (unsigned i = 0; i < s->members; i++)
    snaps[i] = s->member[i].snapshot;
  rc = cow_engine_delete (e, snaps, s->members);
  if (rc < 0)
    return rc;
  if (cow_catalogue_remove (e, s))
    cow_set_drop (s);
  cow_mutex_lock (&s->lock);
  if (s->state == COW_SET_UNDECIDED)
    cow_set_move_locked (s, COW_SET_ABORTED);
  cow_mutex_unlock (&s->lock);
  return 0;
}

int
cow_engine_resolve (struct cow_engine *e, const struct cow_id *id, bool commit)
{
  struct cow_set *s = take_undecided (e, id);
  int rc;

  if (s == NULL)
    return -ENOENT;
  rc = commit ? commit_undecided (s) : abort_undecided (s);
  cow_set_drop (s);
  return rc;
}
