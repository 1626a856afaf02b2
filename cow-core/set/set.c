/* set.c - the making of a set: prepare, hold, switch, settle, abort.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The states and their moves are in STATES.md.  A phase that takes time works
 * outside the set's lock, so that an abort can pass it: the abort undoes what
 * there is, and the phase, when it comes back, finds the set ABORTED and
 * undoes what it had in hand itself.  How a set is finished is in finish.c.
 *
 * The instant: in prepare each volume got, for its next epoch, a root with all
 * bits clear and a snapshot in its live list.  Nobody asks for either before
 * the epoch has come.  So the switch publishes both, for a volume, with the
 * one store of its gate's word.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/mutant.h"
#include "set/set-priv.h"

#define BIT(state) (1u << (state))

static const uint16_t moves[] = {
  [COW_SET_OPEN] = BIT (COW_SET_PREPARED) | BIT (COW_SET_ABORTED),
  [COW_SET_PREPARED] = BIT (COW_SET_HELD) | BIT (COW_SET_ABORTED),
  [COW_SET_HELD] = BIT (COW_SET_SWITCHED) | BIT (COW_SET_ABORTED),
  [COW_SET_SWITCHED] = BIT (COW_SET_SETTLED) | BIT (COW_SET_ABORTED),
  [COW_SET_SETTLED] = BIT (COW_SET_COMMITTED) | BIT (COW_SET_UNDECIDED)
                      | BIT (COW_SET_ABORTED),
  [COW_SET_UNDECIDED] = BIT (COW_SET_COMMITTED) | BIT (COW_SET_ABORTED),
  [COW_SET_COMMITTED] = BIT (COW_SET_GONE),
  [COW_SET_ABORTED] = 0,
  [COW_SET_GONE] = 0,
};

static const char *const state_names[] = {
  [COW_SET_OPEN] = "open",           [COW_SET_PREPARED] = "prepared",
  [COW_SET_HELD] = "held",           [COW_SET_SWITCHED] = "switched",
  [COW_SET_SETTLED] = "settled",     [COW_SET_COMMITTED] = "committed",
  [COW_SET_ABORTED] = "aborted",     [COW_SET_GONE] = "gone",
  [COW_SET_UNDECIDED] = "undecided",
};

void
cow_set_move_locked (struct cow_set *s, enum cow_set_state to)
{
  assert (moves[s->state] & BIT (to));
  s->state = to;
}

/* Is the set where a phase begins, and nobody at work on it? */
int
cow_set_expect_locked (const struct cow_set *s, enum cow_set_state state,
               struct cow_error *err)
{
  if (s->state == COW_SET_ABORTED)
    return cow_error_set (err, -ECANCELED, "the set was aborted");
  if (s->state != state || s->busy)
    return cow_error_set (err, -EINVAL,
                          "the set is %s%s: expected a set that is %s",
                          state_names[s->state], s->busy ? " and busy" : "",
                          state_names[state]);
  return 0;
}

int
cow_set_new (struct cow_engine *e, const struct cow_set_options *options,
             struct cow_error *err, struct cow_set **out)
{
  struct cow_set *s;

  if (options->persistent && !cow_engine_has_store (e))
    return cow_error_set (err, -EOPNOTSUPP,
                          "a persistent set needs a server with a store");
  if (options->label && strlen (options->label) > COW_NAME_MAX)
    return cow_error_set (err, -EINVAL, "label: at most %d bytes",
                          COW_NAME_MAX);
  s = calloc (1, sizeof *s);
  if (s == NULL)
    return cow_error_set (err, -ENOMEM, "out of memory");
  s->engine = e;
  s->id = options->id;
  if (options->label)
    snprintf (s->label, sizeof s->label, "%s", options->label);
  s->attributes = options->attributes;
  s->persistent = options->persistent;
  atomic_init (&s->count, 1);
  cow_mutex_init (&s->lock);
  *out = s;
  return 0;
}

void
cow_set_drop (struct cow_set *s)
{
  if (atomic_fetch_sub (&s->count, 1) != 1)
    return;
  for (unsigned i = 0; i < s->members; i++)
    cow_snapshot_put (s->member[i].snapshot);
  cow_mutex_destroy (&s->lock);
  free (s->annotation);
  free (s);
}

void
cow_set_put (struct cow_set *s)
{
  if (s == NULL)
    return;
  cow_set_abort (s);            /* no effect on one that is finished */
  cow_set_drop (s);
}

int
cow_set_annotate (struct cow_set *s, const void *data, size_t len)
{
  void *copy;
  LOCK_FOR_SCOPE (&s->lock);

  if (len > COW_ANNOTATION_MAX)
    return -E2BIG;
  if (s->state > COW_SET_SETTLED || s->submitted)
    return -EINVAL;
  copy = malloc (len > 0 ? len : 1);
  if (copy == NULL)
    return -ENOMEM;
  memcpy (copy, data, len);
  free (s->annotation);
  s->annotation = copy;
  s->annotation_bytes = len;
  return 0;
}

/* Is there a snapshot of that id in a finished set? */
static bool
is_known_locked (const struct cow_engine *e, const struct cow_id *id)
{
  for (const struct cow_set *s = e->newest; s != NULL; s = s->older)
    for (unsigned i = 0; i < s->members; i++)
      if (cow_id_equal (&s->member[i].snapshot->id, id))
        return true;
  return false;
}

int
cow_set_add (struct cow_set *s, struct cow_volume *v,
             const struct cow_id *snapshot, struct cow_error *err)
{
  struct cow_engine *e = s->engine;
  struct cow_slot_of_volume *slot = cow_engine_slot (e, v);
  struct cow_snapshot *snap;
  int rc;
  LOCK_FOR_SCOPE (&s->lock);

  rc = cow_set_expect_locked (s, COW_SET_OPEN, err);
  if (rc < 0)
    return rc;
  for (unsigned i = 0; i < s->members; i++) {
    if (s->member[i].volume == v)
      return cow_error_set (err, -EEXIST, "%s: is in the set already",
                            v->name);
    if (cow_id_equal (&s->member[i].snapshot->id, snapshot))
      return cow_error_set (err, -EEXIST,
                            "%s: another snapshot of the set has its id",
                            v->name);
  }
  if (s->members == COW_SET_VOLUMES_MAX)
    return cow_error_set (err, -ENOSPC, "a set has at most %d volumes",
                          COW_SET_VOLUMES_MAX);
  if (cow_volume_lives (v) >= e->options.snapshot_limit)
    return cow_error_set (err, -EDQUOT,
                          "%s: has %u snapshots, its limit; delete some",
                          v->name, e->options.snapshot_limit);
  snap = calloc (1, sizeof *snap);
  if (snap == NULL)
    return cow_error_set (err, -ENOMEM, "out of memory");
  snap->id = *snapshot;
  snap->volume = v;
  snap->set = s;
  snap->persistent = s->persistent;
  atomic_init (&snap->end, COW_ALIVE);
  atomic_init (&snap->ending, COW_ALIVE);
  atomic_init (&snap->count, 1);

  cow_mutex_lock (&e->sets_lock);
  if (is_known_locked (e, snapshot))
    rc = cow_error_set (err, -EEXIST, "%s: there is a snapshot of that id",
                        v->name);
  else if (slot->claim == NULL)
    slot->claim = s;
  else
    rc = cow_error_set (err, -EBUSY, "%s: another set of it is being made",
                        v->name);
  cow_mutex_unlock (&e->sets_lock);
  if (rc < 0) {
    free (snap);
    return rc;
  }
  s->member[s->members++] = (struct cow_member) {
    .volume = v,
    .snapshot = snap,
  };
  return 0;
}

void
cow_set_drop_claims (struct cow_set *s)
{
  struct cow_engine *e = s->engine;
  LOCK_FOR_SCOPE (&e->sets_lock);

  for (unsigned i = 0; i < s->members; i++) {
    struct cow_slot_of_volume *slot
      = cow_engine_slot (e, s->member[i].volume);

    if (slot->claim == s)
      slot->claim = NULL;
  }
}

void
cow_set_log (const struct cow_set *s, const char *what)
{
  char text[COW_ID_TEXT_SIZE];

  cow_id_format (&s->id, text);
  cow_log (COW_LOG_DEBUG,
           "set: %s of %u volumes %s: held %llu us, settled %llu us", text,
           s->members, what, (unsigned long long) s->hold_ns / 1000,
           (unsigned long long) s->settle_ns / 1000);
}

static void
give_hold (struct cow_set *s)
{
  struct cow_engine *e = s->engine;
  LOCK_FOR_SCOPE (&e->sets_lock);

  e->holds_taken &= ~COW_BIT (s->hold - e->hold);
  s->hold = NULL;
}

/* The gates of a hold that did not become a switch. */
static void
let_go_locked (struct cow_set *s)
{
  cow_hold_cancel (s->hold);
  for (unsigned i = 0; i < s->members; i++)
    cow_gate_open (&s->member[i].volume->gate, false);
  cow_hold_end (s->hold);
  give_hold (s);
}

void
cow_set_abort_locked (struct cow_set *s)
{
  bool switched = s->state == COW_SET_SWITCHED || s->state == COW_SET_SETTLED;

  if (s->state == COW_SET_HELD)
    let_go_locked (s);
  for (unsigned i = 0; i < s->members; i++) {
    struct cow_member *m = &s->member[i];

    if (!m->live)
      continue;
    cow_volume_live_end (m->volume, m->snapshot, COW_DELETED);
    m->live = false;
    if (!switched) {
      /* The epoch that this root was for has not come, so nobody has it. */
      uint32_t next = cow_gate_epoch (&m->volume->gate) + 1;

      cow_root_free (
        atomic_exchange (&m->volume->root[next & 1], &cow_root_full));
    }
  }
  cow_set_move_locked (s, COW_SET_ABORTED);
  cow_set_drop_claims (s);
  cow_set_log (s, "is aborted");
}

int
cow_set_abort (struct cow_set *s)
{
  LOCK_FOR_SCOPE (&s->lock);

  if (s->state == COW_SET_ABORTED)
    return 0;
  if (s->state == COW_SET_COMMITTED || s->state == COW_SET_UNDECIDED
      || s->state == COW_SET_GONE
      || (s->submitted && !COW_MUTANT (cancel_forgets)))
    return -EINVAL;
  cow_set_abort_locked (s);
  return 0;
}

/* A phase has failed: undo, unless an abort did meanwhile. */
int
cow_set_fail_phase (struct cow_set *s, int rc)
{
  LOCK_FOR_SCOPE (&s->lock);

  s->busy = false;
  if (s->state != COW_SET_ABORTED)
    cow_set_abort_locked (s);
  return rc;
}

static bool
is_aborted (struct cow_set *s)
{
  LOCK_FOR_SCOPE (&s->lock);

  return s->state == COW_SET_ABORTED;
}

/* Wait for earlier writers of a volume in slices, so that an abort is seen. */
static int
settle_member (struct cow_set *s, struct cow_volume *v, uint64_t deadline_ns)
{
  for (;;) {
    uint64_t now_ns = cow_now_ns ();
    uint64_t slice_ns = now_ns + 50 * COW_NS_PER_MS;

    if (cow_engine_settle_volume (v, COW_MIN (slice_ns, deadline_ns)))
      return 0;
    if (is_aborted (s))
      return -ECANCELED;
    if (cow_now_ns () >= deadline_ns)
      return -ETIMEDOUT;
  }
}

/* Outside the lock: everything of prepare that takes time. */
static int
prepare_member (struct cow_set *s, struct cow_member *m, uint64_t deadline_ns,
                struct cow_error *err)
{
  struct cow_volume *v = m->volume;
  int rc;

  rc = settle_member (s, v, deadline_ns);
  if (rc == 0 && !v->readonly)
    rc = cow_volume_flush (v);
  if (rc == 0 && cow_now_ns () >= deadline_ns)
    rc = -ETIMEDOUT;
  if (rc == -ETIMEDOUT)
    return cow_error_set (err, rc, "%s: its writes could not be flushed in "
                                   "time", v->name);
  if (rc < 0)
    return cow_error_set (err, rc, "%s: flushing it: %s", v->name,
                          strerror (-rc));
  m->next_root = cow_root_new (v->blocks, &s->engine->bits_budget);
  if (m->next_root == NULL || cow_volume_live_reserve (v) < 0)
    return cow_error_set (err, -ENOMEM, "%s: no memory for a snapshot",
                          v->name);
  return 0;
}

int
cow_set_prepare (struct cow_set *s, uint64_t deadline_ns,
                 struct cow_error *err)
{
  int rc;

  cow_mutex_lock (&s->lock);
  rc = cow_set_expect_locked (s, COW_SET_OPEN, err);
  s->busy = rc == 0 ? true : s->busy;
  cow_mutex_unlock (&s->lock);
  if (rc < 0)
    return rc;

  rc = cow_engine_take_store (s->engine, deadline_ns, err);
  for (unsigned i = 0; rc == 0 && i < s->members; i++)
    rc = is_aborted (s)
           ? cow_error_set (err, -ECANCELED, "the set was aborted")
           : prepare_member (s, &s->member[i], deadline_ns, err);

  cow_mutex_lock (&s->lock);
  if (rc == 0 && s->state == COW_SET_ABORTED)
    rc = cow_error_set (err, -ECANCELED, "the set was aborted");
  for (unsigned i = 0; i < s->members; i++) {
    struct cow_member *m = &s->member[i];
    uint32_t next = cow_gate_epoch (&m->volume->gate) + 1;

    if (rc < 0) {
      cow_root_free (m->next_root);
      m->next_root = NULL;
      continue;
    }
    m->snapshot->epoch = next;
    cow_trims_open (&m->volume->trims);
    atomic_store_explicit (&m->volume->root[next & 1], m->next_root,
                           memory_order_release);
    m->next_root = NULL;
    cow_volume_live_add (m->volume, m->snapshot);
    m->live = true;
  }
  if (rc == 0) {
    s->busy = false;
    cow_set_move_locked (s, COW_SET_PREPARED);
  }
  cow_mutex_unlock (&s->lock);
  return rc < 0 ? cow_set_fail_phase (s, rc) : 0;
}

static struct cow_hold *
take_hold (struct cow_engine *e)
{
  LOCK_FOR_SCOPE (&e->sets_lock);

  for (unsigned i = 0; i < COW_HOLDS; i++)
    if (!(e->holds_taken & COW_BIT (i))) {
      e->holds_taken |= COW_BIT (i);
      return &e->hold[i];
    }
  return NULL;
}

int
cow_set_hold (struct cow_set *s, uint64_t limit_ns, struct cow_error *err)
{
  int rc;
  LOCK_FOR_SCOPE (&s->lock);

  rc = cow_set_expect_locked (s, COW_SET_PREPARED, err);
  if (rc < 0)
    return rc;
  s->hold = take_hold (s->engine);
  if (s->hold == NULL)
    return cow_error_set (err, -EAGAIN, "%u sets hold writes already",
                          COW_HOLDS);
  cow_set_move_locked (s, COW_SET_HELD);
  /* From here to the opening: no I/O, no allocation, no message. */
  s->held_since_ns = cow_now_ns ();
  cow_hold_begin (s->hold, s->held_since_ns + limit_ns);
  for (unsigned i = 0; i < s->members; i++) {
    cow_gate_close (&s->member[i].volume->gate, s->hold);
    if (COW_MUTANT (early_release))
      cow_gate_open (&s->member[i].volume->gate, true);
  }
  return 0;
}

int
cow_set_switch (struct cow_set *s, struct cow_error *err)
{
  int rc;
  LOCK_FOR_SCOPE (&s->lock);

  rc = cow_set_expect_locked (s, COW_SET_HELD, err);
  if (rc < 0)
    return rc;
  if (!cow_hold_switch (s->hold)) {
    cow_set_abort_locked (s);
    return cow_error_set (err, -ETIMEDOUT,
                          "writes could not be held until all was ready");
  }
  for (unsigned i = 0; i < s->members && !COW_MUTANT (early_release); i++)
    cow_gate_open (&s->member[i].volume->gate, true);
  cow_hold_end (s->hold);
  s->switched_ns = cow_now_ns ();
  s->hold_ns = s->switched_ns - s->held_since_ns;
  give_hold (s);
  s->created_wall_ns = cow_wall_ns ();
  cow_set_move_locked (s, COW_SET_SWITCHED);
  return 0;
}

static int
say_end (const struct cow_volume *v, int end, struct cow_error *err)
{
  if (end == COW_ALIVE)
    return 0;
  return cow_error_set (err, end == COW_LOST_STORE_FULL ? -ENOSPC : -EIO,
                        "%s: %s", v->name,
                        cow_snapshot_end_text ((enum cow_snapshot_end) end));
}

/* All or none: has a snapshot of the set been lost on the way? */
int
cow_set_check_alive (struct cow_set *s, struct cow_error *err)
{
  int rc = 0;

  for (unsigned i = 0; rc == 0 && i < s->members; i++)
    rc = say_end (s->member[i].volume,
                  atomic_load (&s->member[i].snapshot->end), err);
  return rc;
}

/* Nor is one on its way down. */
int
cow_set_check_ending (struct cow_set *s, struct cow_error *err)
{
  int rc = cow_set_check_alive (s, err);

  for (unsigned i = 0; rc == 0 && i < s->members; i++)
    rc = say_end (s->member[i].volume,
                  atomic_load (&s->member[i].snapshot->ending), err);
  return rc;
}

int
cow_set_settle (struct cow_set *s, uint64_t deadline_ns,
                struct cow_error *err)
{
  int rc;

  cow_mutex_lock (&s->lock);
  rc = cow_set_expect_locked (s, COW_SET_SWITCHED, err);
  s->busy = rc == 0 ? true : s->busy;
  cow_mutex_unlock (&s->lock);
  if (rc < 0)
    return rc;

  for (unsigned i = 0;
       rc == 0 && i < s->members && !COW_MUTANT (no_settling); i++) {
    rc = settle_member (s, s->member[i].volume, deadline_ns);
    if (rc == -ETIMEDOUT)
      cow_error_set (err, rc, "%s: writes from before the instant did not "
                              "end in time",
                     s->member[i].volume->name);
  }
  if (rc == 0)
    rc = cow_set_check_alive (s, err);
  /* An abort ends its snapshots, too. */
  if (rc < 0 && is_aborted (s))
    rc = cow_error_set (err, -ECANCELED, "the set was aborted");
  if (rc < 0)
    return cow_set_fail_phase (s, rc);

  LOCK_FOR_SCOPE (&s->lock);
  s->busy = false;
  if (s->state == COW_SET_ABORTED)
    return cow_error_set (err, -ECANCELED, "the set was aborted");
  s->settle_ns = cow_now_ns () - s->switched_ns;
  cow_set_move_locked (s, COW_SET_SETTLED);
  return 0;
}

enum cow_set_state
cow_set_state (const struct cow_set *s)
{
  struct cow_set *set = (struct cow_set *) s;
  LOCK_FOR_SCOPE (&set->lock);

  return set->state;
}
