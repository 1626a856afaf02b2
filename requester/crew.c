/* crew.c - one step of a set at all of its servers at once.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Each server has a thread for the time in which the set is made, so that a
 * step takes as long as the slowest server and not as all of them, and that
 * nothing has to be started while volumes are held.  A set of one server has
 * none: its steps are plain requests.
 *
 * What is done about servers that are slow, hang, or have died:
 *
 *   - the first failure cancels what the other servers are doing for this step;
 *   - who has not answered when the step's limit has passed, or a while after a
 *     failure or a cancel, loses its connection.  The server ends what it has
 *     of the set as soon as it finds out; a hold ends by itself.
 *
 * So a step always ends, at all servers, and what is left to do after a failure
 * is to abort the set where there is still somebody to talk to.
 *
 * Locks: crew.lock, never held over a request.
 */
#include <config.h>

#include <string.h>

#include "several.h"

/* How long the others have to end their requests after a failure. */
#define MERCY_MS 5000

struct hand {
  struct req_crew *crew;
  struct req_server *server;
  pthread_t thread;

  /* crew.lock. */
  unsigned rounds;              /* done */
  cowset_hresult hr;            /* of the last one */
};

struct req_crew {
  const struct proto_id *set;
  struct req_cancel *whole;     /* the operation's */
  struct req_cancel cancel;     /* ends the requests of all hands */
  struct req_ending ending;     /* of this crew, in whole */
  bool registered;

  size_t size, started;
  struct hand hands[REQ_SERVERS_MAX];

  pthread_mutex_t lock;
  pthread_cond_t work, done;
  /* lock. */
  unsigned round;               /* the step that is to be done */
  bool stop;
  size_t left;                  /* hands that have not done it */
  const char *op, *option;
  uint32_t value;
  bool final;                   /* not to be cancelled */
  uint64_t limit_ms;            /* monotonic */
  cowset_hresult failure;       /* the first of this step */
  char message[REQ_MESSAGE_MAX];
};

/* -------------------------------------------------------------- the hands */

static cowset_hresult
request (struct req_server *server, const struct proto_id *set,
         struct req_cancel *cancel, const char *op, const char *option,
         uint32_t value)
{
  if (strcmp (op, "delete") == 0)
    return req_request (server, cancel, NULL, op, "{s:s, s:o, s:b}", "type",
                        "set", "id", req_id_json (set), "force", 1);
  if (option && value > 0)
    return req_request (server, cancel, NULL, op, "{s:o, s:I}", "set",
                        req_id_json (set), option, (json_int_t) value);
  return req_request (server, cancel, NULL, op, "{s:o}", "set",
                      req_id_json (set));
}

/* The first one decides, and ends the others'. */
static void
report (struct hand *hand, cowset_hresult hr)
{
  struct req_crew *crew = hand->crew;
  bool first = false, final;

  pthread_mutex_lock (&crew->lock);
  final = crew->final;
  if (COWSET_FAILED (hr) && COWSET_SUCCEEDED (crew->failure)) {
    first = true;
    crew->failure = hr;
    memcpy (crew->message, cowset_error_message (), sizeof crew->message);
    if (!final && crew->limit_ms > req_now_ms () + MERCY_MS)
      crew->limit_ms = req_now_ms () + MERCY_MS;
    pthread_cond_broadcast (&crew->done);
  }
  pthread_mutex_unlock (&crew->lock);
  if (first && !final)
    req_cancel_now (&crew->cancel);
}

static void *
run_hand (void *opaque)
{
  struct hand *hand = opaque;
  struct req_crew *crew = hand->crew;

  pthread_mutex_lock (&crew->lock);
  for (;;) {
    const char *op, *option;
    cowset_hresult hr;
    uint32_t value;
    bool final;

    while (!crew->stop && hand->rounds == crew->round)
      pthread_cond_wait (&crew->work, &crew->lock);
    if (crew->stop)
      break;
    op = crew->op;
    option = crew->option;
    value = crew->value;
    final = crew->final;
    pthread_mutex_unlock (&crew->lock);

    hr = request (hand->server, crew->set, final ? NULL : &crew->cancel, op,
                  option, value);
    report (hand, hr);

    pthread_mutex_lock (&crew->lock);
    hand->hr = hr;
    hand->rounds = crew->round;
    crew->left--;
    pthread_cond_broadcast (&crew->done);
  }
  pthread_mutex_unlock (&crew->lock);
  return NULL;
}

/* The operation is cancelled. */
static void
end_all (void *opaque, uint64_t id)
{
  struct req_crew *crew = opaque;

  (void) id;
  pthread_mutex_lock (&crew->lock);
  if (!crew->final && crew->limit_ms > req_now_ms () + MERCY_MS)
    crew->limit_ms = req_now_ms () + MERCY_MS;
  pthread_cond_broadcast (&crew->done);
  pthread_mutex_unlock (&crew->lock);
  req_cancel_now (&crew->cancel);
}

/* --------------------------------------------------------------- the crew */

static bool
has_member (const struct cowset *c, const struct req_server *server)
{
  for (size_t i = 0; i < c->member_count; ++i)
    if (c->members[i].server == server)
      return true;
  return false;
}

cowset_hresult
req_crew_new (struct cowset *c, struct req_cancel *cancel,
              struct req_crew **out)
{
  struct req_crew *crew = calloc (1, sizeof *crew);

  if (crew == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  crew->set = &c->set;
  crew->whole = cancel;
  req_cancel_init (&crew->cancel);
  pthread_mutex_init (&crew->lock, NULL);
  req_cond_init (&crew->work);
  req_cond_init (&crew->done);
  crew->limit_ms = UINT64_MAX;
  for (size_t i = 0; i < c->server_count; ++i)
    if (has_member (c, c->servers[i])) {
      struct hand *hand = &crew->hands[crew->size++];

      hand->crew = crew;
      hand->server = c->servers[i];
    }
  while (crew->size > 1 && crew->started < crew->size) {
    struct hand *hand = &crew->hands[crew->started];

    if (req_thread_start (&hand->thread, run_hand, hand) != 0) {
      req_crew_free (crew);
      return req_fail (E_OUTOFMEMORY, "no thread for the set's servers");
    }
    crew->started++;
  }
  crew->ending = (struct req_ending) { .end = end_all, .opaque = crew };
  crew->registered = req_cancel_begin (cancel, &crew->ending);
  if (!crew->registered)
    req_cancel_now (&crew->cancel);
  *out = crew;
  return S_OK;
}

void
req_crew_free (struct req_crew *crew)
{
  if (crew->registered)
    req_cancel_end (crew->whole, &crew->ending);
  pthread_mutex_lock (&crew->lock);
  crew->stop = true;
  pthread_cond_broadcast (&crew->work);
  pthread_mutex_unlock (&crew->lock);
  for (size_t i = 0; i < crew->started; ++i)
    pthread_join (crew->hands[i].thread, NULL);
  pthread_cond_destroy (&crew->done);
  pthread_cond_destroy (&crew->work);
  pthread_mutex_destroy (&crew->lock);
  req_cancel_clear (&crew->cancel);
  free (crew);
}

size_t
req_crew_size (const struct req_crew *crew)
{
  return crew->size;
}

/* Who has not answered has had its time. */
static void
give_up_locked (struct req_crew *crew, cowset_hresult late)
{
  for (size_t i = 0; i < crew->size; ++i) {
    struct req_server *server = crew->hands[i].server;

    if (crew->hands[i].rounds == crew->round)
      continue;
    if (COWSET_SUCCEEDED (crew->failure)) {
      crew->failure = late;
      snprintf (crew->message, sizeof crew->message, "%s: the server did not "
                "answer in time, and was given up", server->uri);
    }
    server->ops->lose (server);
  }
  crew->limit_ms = UINT64_MAX;
}

static cowset_hresult
step (struct req_crew *crew, const char *op, const char *option,
      uint32_t value, uint64_t limit_ms, cowset_hresult late, bool final)
{
  char message[REQ_MESSAGE_MAX];
  cowset_hresult hr;

  pthread_mutex_lock (&crew->lock);
  crew->op = op;
  crew->option = option;
  crew->value = value;
  crew->final = final;
  crew->failure = S_OK;
  crew->limit_ms = req_now_ms () + limit_ms;
  crew->left = crew->size;
  crew->round++;
  pthread_cond_broadcast (&crew->work);
  while (crew->left > 0)
    if (!req_cond_wait (&crew->done, &crew->lock, crew->limit_ms) &&
        req_now_ms () >= crew->limit_ms)
      give_up_locked (crew, late);
  crew->limit_ms = UINT64_MAX;
  hr = crew->failure;
  memcpy (message, crew->message, sizeof message);
  pthread_mutex_unlock (&crew->lock);
  return COWSET_FAILED (hr) ? req_fail (hr, "%s", message) : S_OK;
}

cowset_hresult
req_crew_step (struct req_crew *crew, const char *op, const char *option,
               uint32_t value, uint64_t limit_ms, cowset_hresult late)
{
  if (crew->size == 1)
    return request (crew->hands[0].server, crew->set, crew->whole, op, option,
                    value);
  if (req_cancel_cancelled (crew->whole))
    return req_fail (E_ABORT, NULL);
  return step (crew, op, option, value, limit_ms, late, false);
}

void
req_crew_abort (struct req_crew *crew)
{
  CLEANUP_FREE char *message = strdup (cowset_error_message ());
  bool finished = false;

  if (crew->size == 1)
    request (crew->hands[0].server, crew->set, NULL, "set.abort", NULL, 0);
  else {
    step (crew, "set.abort", NULL, 0, 2 * MERCY_MS, VSS_E_UNEXPECTED, true);
    for (size_t i = 0; i < crew->size; ++i)
      finished |= crew->hands[i].hr == VSS_E_BAD_STATE ||
                  crew->hands[i].hr == VSS_E_OBJECT_NOT_FOUND;
    /* Where it was finished already while another server failed. */
    if (finished)
      step (crew, "delete", NULL, 0, 2 * MERCY_MS, VSS_E_UNEXPECTED, true);
  }
  req_fail (S_OK, "%s", message ? message : "");
}
