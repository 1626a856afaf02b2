/* made.c - the sets that a session makes or has made.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A set is in its session's list from set.start until nobody needs to know of
 * it any more: it was aborted by its requester, or finished and does not end
 * with the session.  Requests use it outside the session's lock; it is freed
 * when it is dropped and the last of them has gone.
 *
 * Threads: any.
 */
#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "sessions.h"

void
made_free (struct made *m)
{
  cow_set_put (m->set);
  json_decref (m->note);
  free (m);
}

struct made **
made_find_locked (struct session *s, const struct cow_id *id)
{
  struct made **p;

  for (p = &s->sets; *p; p = &(*p)->next)
    if (!(*p)->dropped && cow_id_equal (&(*p)->id, id))
      break;
  return p;
}

/* Free, with the lock held for the list only, what nobody uses any more and is
 * no longer wanted.
 */
static void
free_dropped (struct session *s)
{
  struct made *gone = NULL;

  cow_mutex_lock (&s->lock);
  for (struct made **p = &s->sets; *p;) {
    struct made *m = *p;

    if (m->dropped && m->users == 0) {
      *p = m->next;
      m->next = gone;
      gone = m;
    }
    else
      p = &m->next;
  }
  cow_mutex_unlock (&s->lock);
  while (gone) {
    struct made *m = gone;

    gone = m->next;
    made_free (m);
  }
}

struct made *
session_use_set (struct session *s, const struct cow_id *id, bool busy,
                 bool *in_use)
{
  struct made *m;

  LOCK_FOR_SCOPE (&s->lock);
  *in_use = false;
  m = *made_find_locked (s, id);
  if (m == NULL)
    return NULL;
  if (busy && m->busy) {
    *in_use = true;
    return NULL;
  }
  m->users++;
  if (busy)
    m->busy = true;
  return m;
}

/* ------------------------------------------------------------- providers */

int
made_abort (struct session *s, struct made *m)
{
  const int r = cow_set_abort (m->set);
  bool tell;

  if (r == -EINVAL)
    return r;
  cow_mutex_lock (&s->lock);
  tell = m->begun && !m->told;
  m->told = true;
  cow_mutex_unlock (&s->lock);
  for (unsigned i = 0; tell && i < m->provider_count; ++i)
    provider_abort (m->providers[i].provider, &m->id);
  return 0;
}

/* Whether a phase may be called; from the first on, an abort is told. */
static bool
may_go_on (struct session *s, struct made *m)
{
  LOCK_FOR_SCOPE (&s->lock);
  if (m->told)
    return false;
  m->begun = true;
  return true;
}

cowset_hresult
made_run_phase (struct session *s, struct made *m, enum provider_phase phase,
                struct cow_error *err)
{
  cowset_hresult hr = S_OK;

  for (unsigned i = 0; COWSET_SUCCEEDED (hr) && i < m->provider_count; ++i) {
    const struct made_provider *mp = &m->providers[i];

    if (!may_go_on (s, m))
      return E_ABORT;
    hr = provider_run (mp->provider, phase, &m->id, mp->count, err);
  }
  /* What a provider says of an abort is nothing for the requester. */
  return may_go_on (s, m) ? hr : E_ABORT;
}

void
made_end (struct session *s, struct made *m)
{
  bool finished;

  cow_mutex_lock (&s->lock);
  finished = m->finished;
  cow_mutex_unlock (&s->lock);
  if (!finished)
    made_abort (s, m);
  else if (m->auto_release)
    cow_engine_delete_set (engine, &m->id);
}

void
session_unuse_set (struct session *s, struct made *m, bool busy)
{
  bool ended, dropped;

  cow_mutex_lock (&s->lock);
  ended = s->ended;
  cow_mutex_unlock (&s->lock);
  if (ended)
    made_end (s, m);

  cow_mutex_lock (&s->lock);
  m->users--;
  m->touched_ns = cow_now_ns ();
  if (busy)
    m->busy = false;
  dropped = m->dropped && m->users == 0;
  cow_mutex_unlock (&s->lock);
  if (dropped)
    free_dropped (s);
}

int
session_add_set (struct session *s, const struct cow_id *id,
                 struct cow_set *set, uint32_t context, bool auto_release,
                 struct made **out)
{
  struct made *m;
  unsigned unfinished = 0;

  if (sessions_have_set (s, id))
    return -EEXIST;
  m = calloc (1, sizeof *m);
  if (m == NULL)
    return -ENOMEM;
  m->id = *id;
  m->set = set;
  m->context = context;
  m->auto_release = auto_release;
  m->users = 1;
  m->busy = true;
  m->touched_ns = cow_now_ns ();

  cow_mutex_lock (&s->lock);
  for (struct made *o = s->sets; o; o = o->next)
    if (!o->finished && !o->dropped) {
      /* Those that have ended are kept to say why, while there is room. */
      if (o->ended && unfinished >= SESSION_SETS_MAX / 2)
        o->dropped = true;
      else
        unfinished++;
    }
  if (s->ended || *made_find_locked (s, id) ||
      unfinished >= SESSION_SETS_MAX) {
    int r = s->ended ? -ESHUTDOWN :
            unfinished >= SESSION_SETS_MAX ? -EMFILE : -EEXIST;

    cow_mutex_unlock (&s->lock);
    free (m);
    return r;
  }
  m->next = s->sets;
  s->sets = m;
  cow_mutex_unlock (&s->lock);
  free_dropped (s);
  *out = m;
  return 0;
}

void
made_finished (struct session *s, struct made *m)
{
  LOCK_FOR_SCOPE (&s->lock);
  m->finished = true;
  if (!m->auto_release)
    m->dropped = true;          /* nothing depends on the session any more */
}

void
made_voted (struct session *s, struct made *m)
{
  LOCK_FOR_SCOPE (&s->lock);
  m->voted = true;
}

void
made_ended (struct session *s, struct made *m, const char *why)
{
  LOCK_FOR_SCOPE (&s->lock);
  if (m->ended)
    return;
  m->ended = true;
  cow_cond_broadcast (&s->changed);
  snprintf (m->why, sizeof m->why, "%s", why);
}

void
made_drop (struct session *s, struct made *m)
{
  LOCK_FOR_SCOPE (&s->lock);
  m->dropped = true;
}
