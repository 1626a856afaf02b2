/* sessions.c - what belongs to a requester, and its end.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A connection to @control is a session.  It owns the sets that it makes.
 * When it ends, for whatever reason, its unfinished sets are aborted (which
 * opens gates that they held) and its auto-release sets are deleted: nothing
 * is held for a requester that is gone.
 *
 * A request of the session may be running on a thread of the pool at that
 * moment.  Aborting the set makes it return; the session's memory stays until
 * it has (each request has a reference), and session_unuse_set() ends once more
 * what the request may have brought about meanwhile:
 *
 *   S1  `ended` is set before the sets are walked.
 *   S2  A request marks its set finished before it looks at `ended`.
 *   So a set that is finished beside the end is deleted by one of the two (or
 *   by both, which does no harm).
 *
 * A session ends when nbdkit closes its connection; when a waiting read sees
 * that the connection has gone (control.c); and, unless it came over a Unix
 * socket, where the kernel tells when the peer dies, after 30 s of silence.
 *
 * A session that said in its hello that it is resumable leaves its finished
 * auto-release sets waiting for session-grace seconds, for a new session that
 * knows its id.
 *
 * Threads: any.  One thread of this file keeps time.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "sessions.h"

#define TICK_NS COW_NS_PER_S

/* What a lost session left behind. */
struct remains {
  struct remains *next;
  struct proto_id id;
  struct made *sets;            /* finished, auto-release, without users */
  uint64_t until_ns;
};

static struct {
  cow_mutex lock;
  cow_cond wake;                /* stop */

  /* All under lock. */
  struct session *sessions;
  unsigned count;               /* of sessions that count against the limit */
  struct remains *remains;
  bool stop;

  pthread_t thread;
  bool started, running;
} registry;

/* -------------------------------------------------------------- sessions */

struct session *
session_new (struct peer peer)
{
  struct session *s = calloc (1, sizeof *s);

  if (s == NULL) {
    nbdkit_error ("calloc: %m");
    return NULL;
  }
  s->id = proto_id_new ();
  s->peer = peer;
  s->refs = 1;
  s->heard_ns = cow_now_ns ();
  cow_mutex_init (&s->lock);
  cow_cond_init (&s->changed);
  for (unsigned i = 0; i < PROTO_SLOTS; ++i)
    s->slots[i].session = s;

  cow_mutex_lock (&registry.lock);
  s->next = registry.sessions;
  registry.sessions = s;
  cow_mutex_unlock (&registry.lock);
  return s;
}

/* Once ended, a session is not counted again: its end may be past that. */
static bool
has_ended (struct session *s)
{
  LOCK_FOR_SCOPE (&s->lock);
  return s->ended;
}

bool
session_admit (struct session *s)
{
  LOCK_FOR_SCOPE (&registry.lock);
  if (s->counted || has_ended (s))
    return true;
  if (registry.count >= settings.control_sessions)
    return false;
  registry.count++;
  s->counted = true;
  return true;
}

static bool
find_set (const struct session *but, const struct cow_id *id, bool unended)
{
  LOCK_FOR_SCOPE (&registry.lock);
  for (struct session *o = registry.sessions; o; o = o->next) {
    const struct made *m;
    bool has;

    if (o == but)
      continue;
    cow_mutex_lock (&o->lock);
    m = *made_find_locked (o, id);
    has = m && !(unended && m->ended && m->users == 0);
    cow_mutex_unlock (&o->lock);
    if (has)
      return true;
  }
  return false;
}

bool
sessions_have_set (const struct session *but, const struct cow_id *id)
{
  return find_set (but, id, false);
}

/* What has ended may still be in the hands of a request that was about to
 * finish it.
 */
bool
sessions_may_make (const struct session *but, const struct cow_id *id)
{
  return find_set (but, id, true);
}

void
session_get (struct session *s)
{
  s->refs++;
}

static void
session_free (struct session *s)
{
  while (s->sets) {
    struct made *m = s->sets;

    s->sets = m->next;
    assert (m->users == 0);
    made_free (m);
  }
  for (unsigned i = 0; i < PROTO_SLOTS; ++i) {
    free (s->slots[i].body);
    free (s->slots[i].answer);
    free (s->slots[i].frame);
  }
  cow_cond_destroy (&s->changed);
  cow_mutex_destroy (&s->lock);
  free (s);
}

void
session_put (struct session *s)
{
  if (--s->refs > 0)
    return;
  cow_mutex_lock (&registry.lock);
  for (struct session **p = &registry.sessions; *p; p = &(*p)->next)
    if (*p == s) {
      *p = s->next;
      break;
    }
  cow_mutex_unlock (&registry.lock);
  session_free (s);
}

/* The finished auto-release sets go to the registry, to wait. */
static void
leave_remains (struct session *s)
{
  struct remains *r = calloc (1, sizeof *r);

  if (r == NULL)
    return;                     /* session_end() deletes them instead */
  r->id = s->id;
  r->until_ns = cow_now_ns () + settings.session_grace_ms * COW_NS_PER_MS;

  cow_mutex_lock (&registry.lock);
  cow_mutex_lock (&s->lock);
  for (struct made **p = &s->sets; *p;) {
    struct made *m = *p;

    if (m->finished && m->auto_release && m->users == 0) {
      *p = m->next;
      m->next = r->sets;
      r->sets = m;
    }
    else
      p = &m->next;
  }
  if (r->sets) {
    r->next = registry.remains;
    registry.remains = r;
    r = NULL;
  }
  cow_mutex_unlock (&s->lock);
  cow_mutex_unlock (&registry.lock);
  free (r);
}

void
session_end (struct session *s, const char *why)
{
  bool was_ended, resumable;

  cow_mutex_lock (&s->lock);
  was_ended = s->ended;
  s->ended = true;
  if (!was_ended)
    s->why = why;
  resumable = s->resumable;
  cow_cond_broadcast (&s->changed);
  cow_mutex_unlock (&s->lock);
  if (was_ended)
    return;

  cow_mutex_lock (&registry.lock);
  if (s->counted)
    registry.count--;
  s->counted = false;
  cow_mutex_unlock (&registry.lock);

  if (resumable)
    leave_remains (s);
  /* Nothing is added to the list any more (S1), and what is in it stays there
   * until it has no users: so the walk may let go of the lock.
   */
  cow_mutex_lock (&s->lock);
  for (struct made *m = s->sets; m; m = m->next) {
    m->users++;
    cow_mutex_unlock (&s->lock);
    made_end (s, m);
    made_ended (s, m, why);
    cow_mutex_lock (&s->lock);
    m->users--;
  }
  cow_mutex_unlock (&s->lock);
}

void
session_close (struct session *s)
{
  session_end (s, "its connection was closed");
  session_put (s);
}

unsigned
sessions_count (void)
{
  LOCK_FOR_SCOPE (&registry.lock);
  return registry.count;
}

/* --------------------------------------------------------------- remains */

bool
session_resume (struct session *s, const struct proto_id *lost)
{
  struct remains *r = NULL;
  bool ended;

  cow_mutex_lock (&registry.lock);
  for (struct remains **p = &registry.remains; *p; p = &(*p)->next)
    if (proto_id_equal (&(*p)->id, lost)) {
      r = *p;
      *p = r->next;
      break;
    }
  cow_mutex_unlock (&registry.lock);
  if (r == NULL)
    return false;

  cow_mutex_lock (&s->lock);
  ended = s->ended;
  while (!ended && r->sets) {
    struct made *m = r->sets;

    r->sets = m->next;
    m->next = s->sets;
    s->sets = m;
  }
  cow_mutex_unlock (&s->lock);
  if (ended) {                  /* beside the end of s: leave them waiting */
    cow_mutex_lock (&registry.lock);
    r->next = registry.remains;
    registry.remains = r;
    cow_mutex_unlock (&registry.lock);
  }
  else
    free (r);
  return true;
}

static void
remains_free (struct remains *r)
{
  while (r->sets) {
    struct made *m = r->sets;

    r->sets = m->next;
    cow_engine_delete_set (engine, &m->id);
    made_free (m);
  }
  free (r);
}

int
id_compare (const void *a, const void *b)
{
  return memcmp (a, b, sizeof (struct cow_id));
}

struct ids {
  struct cow_id *ids;
  size_t count, room;
};

static int
gather (struct ids *to, const struct made *m)
{
  for (; m; m = m->next) {
    if (!m->finished || !m->auto_release)
      continue;
    if (to->count == to->room) {
      const size_t room = to->room ? 2 * to->room : 16;
      struct cow_id *bigger = realloc (to->ids, room * sizeof to->ids[0]);

      if (bigger == NULL)
        return -ENOMEM;
      to->ids = bigger;
      to->room = room;
    }
    to->ids[to->count++] = m->id;
  }
  return 0;
}

int
sessions_auto_release (struct cow_id **out, size_t *count)
{
  struct ids all = { NULL, 0, 0 };
  int r = 0;

  LOCK_FOR_SCOPE (&registry.lock);
  for (struct session *s = registry.sessions; s && r == 0; s = s->next) {
    cow_mutex_lock (&s->lock);
    r = gather (&all, s->sets);
    cow_mutex_unlock (&s->lock);
  }
  for (struct remains *m = registry.remains; m && r == 0; m = m->next)
    r = gather (&all, m->sets);
  if (r < 0) {
    free (all.ids);
    return r;
  }
  if (all.count)
    qsort (all.ids, all.count, sizeof all.ids[0], id_compare);
  *out = all.ids;
  *count = all.count;
  return 0;
}

/* ------------------------------------------------------------------ time */

/* Give up the claims of s that nobody uses. */
static void
give_up_claims (struct session *s, uint64_t now)
{
  cow_mutex_lock (&s->lock);
  for (struct made *m = s->sets; m; m = m->next) {
    if (m->finished || m->voted || m->ended || m->users > 0 ||
        now - m->touched_ns < CLAIM_LIMIT_NS)
      continue;
    m->users++;
    m->busy = true;
    cow_mutex_unlock (&s->lock);
    made_abort (s, m);
    made_ended (s, m, "was not touched for 180 s and given up");
    cow_mutex_lock (&s->lock);
    m->busy = false;
    m->users--;
  }
  cow_mutex_unlock (&s->lock);
}

static void
tick_session (struct session *s)
{
  const uint64_t now = cow_now_ns ();

  if (!s->peer.is_unix && now - s->heard_ns > SILENCE_LIMIT_NS)
    session_end (s, "nothing was heard of the requester for 30 s");
  give_up_claims (s, now);
}

static struct remains *
take_expired (void)
{
  const uint64_t now = cow_now_ns ();
  struct remains *expired = NULL;

  LOCK_FOR_SCOPE (&registry.lock);
  for (struct remains **p = &registry.remains; *p;) {
    struct remains *r = *p;

    if (now >= r->until_ns) {
      *p = r->next;
      r->next = expired;
      expired = r;
    }
    else
      p = &r->next;
  }
  return expired;
}

static void
tick (void)
{
  CLEANUP_FREE struct session **all = NULL;
  struct remains *expired;
  size_t n = 0, count = 0;

  cow_mutex_lock (&registry.lock);
  for (struct session *s = registry.sessions; s; s = s->next)
    count++;
  all = malloc ((count ? count : 1) * sizeof all[0]);
  if (all)
    /* A session without references is about to leave the list. */
    for (struct session *s = registry.sessions; s; s = s->next) {
      unsigned refs = s->refs;

      while (refs > 0 &&
             !atomic_compare_exchange_weak (&s->refs, &refs, refs + 1))
        ;
      if (refs > 0)
        all[n++] = s;
    }
  cow_mutex_unlock (&registry.lock);
  for (size_t i = 0; i < n; ++i) {
    tick_session (all[i]);
    session_put (all[i]);
  }

  expired = take_expired ();
  while (expired) {
    struct remains *r = expired;

    expired = r->next;
    remains_free (r);
  }
}

static void *
keep_time (void *arg)
{
  (void) arg;
  cow_mutex_lock (&registry.lock);
  while (!registry.stop) {
    const uint64_t until = cow_now_ns () + TICK_NS;

    while (!registry.stop &&
           cow_cond_wait_until (&registry.wake, &registry.lock, until))
      ;
    if (registry.stop)
      break;
    cow_mutex_unlock (&registry.lock);
    tick ();
    cow_mutex_lock (&registry.lock);
  }
  cow_mutex_unlock (&registry.lock);
  return NULL;
}

int
sessions_start (void)
{
  int r;

  cow_mutex_init (&registry.lock);
  cow_cond_init (&registry.wake);
  registry.started = true;
  r = pthread_create (&registry.thread, NULL, keep_time, NULL);
  if (r != 0) {
    nbdkit_error ("pthread_create: %s", strerror (r));
    return -1;
  }
  registry.running = true;
  return 0;
}

void
sessions_stop (void)
{
  if (!registry.running)
    return;
  cow_mutex_lock (&registry.lock);
  registry.stop = true;
  cow_cond_broadcast (&registry.wake);
  cow_mutex_unlock (&registry.lock);
  pthread_join (registry.thread, NULL);
  registry.running = false;
}

void
sessions_free (void)
{
  if (!registry.started)
    return;
  assert (registry.sessions == NULL);
  while (registry.remains) {
    struct remains *r = registry.remains;

    registry.remains = r->next;
    remains_free (r);
  }
  cow_cond_destroy (&registry.wake);
  cow_mutex_destroy (&registry.lock);
  registry.started = false;
}
