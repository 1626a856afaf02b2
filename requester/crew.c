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
  cowset_hresult hr;            /* of the last one, in which S_FALSE says that */
  json_t *result;               /* it was not asked; owned, or NULL */
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
  struct req_order order;       /* of the step */
  uint64_t limit_ms;            /* monotonic */
  cowset_hresult failure;       /* the first of this step */
  char message[REQ_MESSAGE_MAX];
};

/* -------------------------------------------------------------- the hands */

static cowset_hresult
request (struct req_server *server, const struct proto_id *set,
         struct req_cancel *cancel, const struct req_order *order,
         json_t **result)
{
  CLEANUP_JSON json_t *body =
    strcmp (order->op, "delete") == 0
      ? json_pack ("{s:s, s:s, s:o, s:b}", "op", order->op, "type", "set",
                   "id", req_id_json (set), "force", 1)
      : json_pack ("{s:s, s:o}", "op", order->op, "set", req_id_json (set));

  if (body == NULL ||
      (order->option && order->value > 0 &&
       json_object_set_new (body, order->option,
                            json_integer (order->value)) == -1) ||
      (order->more && json_object_update (body, order->more) == -1))
    return req_fail (E_OUTOFMEMORY, NULL);
  return server->ops->call (server, body, cancel, result);
}

static bool
is_asked (const struct hand *hand, const struct req_order *order)
{
  const bool home = hand == &hand->crew->hands[0];

  return order->where == REQ_EVERYWHERE ||
         (order->where == REQ_AT_HOME) == home;
}

/* The first one decides, and ends the others'. */
static void
report (struct hand *hand, cowset_hresult hr)
{
  struct req_crew *crew = hand->crew;
  bool first = false, final;

  pthread_mutex_lock (&crew->lock);
  final = crew->order.final;
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
    struct req_order order;
    json_t *result = NULL;
    cowset_hresult hr = S_FALSE;

    while (!crew->stop && hand->rounds == crew->round)
      pthread_cond_wait (&crew->work, &crew->lock);
    if (crew->stop)
      break;
    order = crew->order;
    pthread_mutex_unlock (&crew->lock);

    if (is_asked (hand, &order)) {
      hr = request (hand->server, crew->set,
                    order.final ? NULL : &crew->cancel, &order, &result);
      report (hand, hr);
    }

    pthread_mutex_lock (&crew->lock);
    hand->hr = hr;
    json_decref (hand->result);
    hand->result = result;
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
  if (!crew->order.final && crew->limit_ms > req_now_ms () + MERCY_MS)
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
  for (size_t i = 0; i < crew->size; ++i)
    json_decref (crew->hands[i].result);
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

struct req_server *
req_crew_server (const struct req_crew *crew, size_t i)
{
  return crew->hands[i].server;
}

cowset_hresult
req_crew_answer (struct req_crew *crew, size_t i, json_t **result)
{
  LOCK_FOR_SCOPE (&crew->lock);

  if (result)
    *result = json_incref (crew->hands[i].result);
  return crew->hands[i].hr;
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
step (struct req_crew *crew, const struct req_order *order)
{
  char message[REQ_MESSAGE_MAX];
  cowset_hresult hr;

  pthread_mutex_lock (&crew->lock);
  crew->order = *order;
  crew->failure = S_OK;
  crew->limit_ms = req_now_ms () + order->limit_ms;
  crew->left = crew->size;
  crew->round++;
  pthread_cond_broadcast (&crew->work);
  while (crew->left > 0)
    if (!req_cond_wait (&crew->done, &crew->lock, crew->limit_ms) &&
        req_now_ms () >= crew->limit_ms)
      give_up_locked (crew, order->late);
  crew->limit_ms = UINT64_MAX;
  hr = crew->failure;
  memcpy (message, crew->message, sizeof message);
  pthread_mutex_unlock (&crew->lock);
  return COWSET_FAILED (hr) ? req_fail (hr, "%s", message) : S_OK;
}

cowset_hresult
req_crew_order (struct req_crew *crew, const struct req_order *order)
{
  if (crew->size == 1)
    return request (crew->hands[0].server, crew->set,
                    order->final ? NULL : crew->whole, order, NULL);
  if (!order->final && req_cancel_cancelled (crew->whole))
    return req_fail (E_ABORT, NULL);
  return step (crew, order);
}

cowset_hresult
req_crew_step (struct req_crew *crew, const char *op, const char *option,
               uint32_t value, uint64_t limit_ms, cowset_hresult late)
{
  const struct req_order order = {
    .op = op, .option = option, .value = value, .limit_ms = limit_ms,
    .late = late,
  };

  return req_crew_order (crew, &order);
}

void
req_crew_abort (struct req_crew *crew)
{
  CLEANUP_FREE char *message = strdup (cowset_error_message ());
  struct req_order order = {
    .op = "set.abort", .limit_ms = 2 * MERCY_MS, .late = VSS_E_UNEXPECTED,
    .final = true,
  };
  bool finished = false;

  req_crew_order (crew, &order);
  for (size_t i = 0; crew->size > 1 && i < crew->size; ++i)
    finished |= crew->hands[i].hr == VSS_E_BAD_STATE ||
                crew->hands[i].hr == VSS_E_OBJECT_NOT_FOUND;
  /* Where it was finished already while another server failed. */
  if (finished) {
    order.op = "delete";
    req_crew_order (crew, &order);
  }
  req_fail (S_OK, "%s", message ? message : "");
}
