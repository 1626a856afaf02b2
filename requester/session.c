/* session.c - requests and answers over @control, as PROTOCOL.md has them.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A call takes a slot, writes its frame there, and reads the slot, which waits
 * for the answer.  Slot 0 is kept for pings and cancels, one at a time.
 *
 * Threads: any number of callers, each in its slot (beyond 15 they wait for
 * one); and the heart, which pings: so that the server does not take a silent
 * requester for a dead one; so that a dead server is noticed (a ping that is
 * not answered in time loses the link, which ends every call); and so that a
 * server that has been told to stop can: nbdkit waits for silent connections,
 * and answers one that talks with ESHUTDOWN, which loses the link as well.
 *
 * Failure: a link that is lost stays lost.  Whether a call whose answer never
 * came has happened is unknown; it fails with VSS_E_UNEXPECTED.
 */
#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "protocol/frame.h"
#include "session.h"

#define BEAT_MS 5000            /* over a network */
#define BEAT_LOCAL_MS 2000      /* over a Unix socket */
#define SILENCE_MS 30000

/* Read along with the header: most answers end within it. */
#define FIRST_READ_BYTES 65536

struct session {
  struct req_server base;
  struct req_link *link;

  /* Locks, in the order in which they may be taken. */
  pthread_mutex_t slot0_lock;   /* held over a ping or a cancel */
  pthread_mutex_t lock;

  pthread_cond_t slot_free;     /* lock: a bit of busy was cleared */
  unsigned busy;                /* lock; a bit for each slot in use */
  uint64_t ids[PROTO_SLOTS];    /* lock; request in each busy slot */
  uint64_t next_id;             /* lock */

  bool stop;                    /* lock */
  pthread_cond_t beat;          /* lock: stop was set */
  bool heart_started;
  pthread_t heart;
};

static cowset_hresult
fail_link (struct session *s, int err)
{
  if (err == -EINVAL || err == -EBUSY)
    return req_fail (VSS_E_UNEXPECTED, "%s: the server refused a request: %s",
                     s->base.uri, strerror (-err));
  return req_fail (VSS_E_UNEXPECTED,
                   "%s: the connection to the server was lost", s->base.uri);
}

static cowset_hresult
fail_between (struct session *s)
{
  return req_fail (VSS_E_REMOTE_SERVER_UNSUPPORTED,
                   "%s: something between here and the cowset plugin answers "
                   "reads by itself; serve without filters that keep data "
                   "(cache, cow, ...)", s->base.uri);
}

/* One request of one slot, from the first write to the last part. */
struct exchange {
  struct session *s;
  unsigned slot;
  uint64_t id;
  struct proto_id nonce;
  uint64_t deadline_ms;
  uint8_t *buf;                 /* of PROTO_SLOT_BYTES */
};

static int
write_frame (struct exchange *x, uint32_t kind, const char *body, size_t len,
             uint32_t part)
{
  const struct proto_frame f = {
    .version = PROTO_VERSION,
    .kind = kind,
    .id = x->id,
    .nonce = x->nonce,
    .length = (uint32_t) len,
    .total = (uint32_t) len,
    .part = part,
  };
  const size_t n = proto_frame_encode (&f, body, x->buf);

  return x->s->link->ops->write (x->s->link, x->buf, n,
                                 (uint64_t) x->slot * PROTO_SLOT_BYTES,
                                 x->deadline_ms);
}

/* Read the frame in the slot; *f has passed all checks but those of what it
 * is an answer to.
 */
static cowset_hresult
read_frame (struct exchange *x, struct proto_frame *f)
{
  struct req_link *link = x->s->link;
  const uint64_t offset = (uint64_t) x->slot * PROTO_SLOT_BYTES;
  enum proto_frame_status status;
  size_t have = FIRST_READ_BYTES;
  int err = link->ops->read (link, x->buf, have, offset, x->deadline_ms);

  if (err < 0)
    return fail_link (x->s, err);
  status = proto_frame_decode (x->buf, have, f);
  if (status == PROTO_FRAME_TRUNCATED) {
    const size_t end = PROTO_HEADER_BYTES + f->length;

    err = link->ops->read (link, x->buf + have, end - have, offset + have,
                           x->deadline_ms);
    if (err < 0)
      return fail_link (x->s, err);
    status = proto_frame_decode (x->buf, end, f);
  }
  if (status != PROTO_FRAME_OK)
    return req_fail (VSS_E_UNEXPECTED,
                     "%s: the server's answer makes no sense: %s",
                     x->s->base.uri, proto_frame_status_text (status));
  return S_OK;
}

/* The part of the answer that begins at have is in the slot. */
static cowset_hresult
check_answer (struct exchange *x, const struct proto_frame *f, size_t have,
              size_t total)
{
  const bool mine = f->id == x->id && proto_id_equal (&f->nonce, &x->nonce);

  if (f->kind == PROTO_GREETING || (f->kind != PROTO_ANSWER && mine))
    return fail_between (x->s);
  if (f->kind != PROTO_ANSWER || !mine)
    return req_fail (VSS_E_UNEXPECTED,
                     "%s: the server answered another request",
                     x->s->base.uri);
  if (f->part != have || (have > 0 && f->total != total) ||
      (f->length == 0 && f->total > have))
    return req_fail (VSS_E_UNEXPECTED,
                     "%s: the parts of the server's answer do not fit",
                     x->s->base.uri);
  return S_OK;
}

/* Put the answer together from its parts: *body of *len bytes, to be freed. */
static cowset_hresult
read_answer (struct exchange *x, char **body, size_t *len)
{
  size_t have = 0, total = 0;
  cowset_hresult hr = S_OK;
  char *text = NULL;

  do {
    struct proto_frame f;
    int err = 0;

    if (have > 0)
      err = write_frame (x, PROTO_NEXT_PART, NULL, 0, (uint32_t) have);
    hr = err < 0 ? fail_link (x->s, err) : read_frame (x, &f);
    if (COWSET_SUCCEEDED (hr))
      hr = check_answer (x, &f, have, total);
    if (COWSET_FAILED (hr))
      break;
    total = f.total;
    if (text == NULL && (text = malloc (total + 1)) == NULL) {
      hr = req_fail (E_OUTOFMEMORY, NULL);
      break;
    }
    memcpy (text + have, x->buf + PROTO_HEADER_BYTES, f.length);
    have += f.length;
  } while (have < total);

  if (COWSET_FAILED (hr)) {
    free (text);
    return hr;
  }
  *body = text;
  *len = total;
  return S_OK;
}

/* A message goes to terminals and logs: one line, no control characters. */
static void
set_message (cowset_hresult hr, const char *text)
{
  char clean[REQ_MESSAGE_MAX];
  size_t i;

  for (i = 0; text[i] && i < sizeof clean - 1; ++i)
    clean[i] = iscntrl ((unsigned char) text[i]) ? '?' : text[i];
  clean[i] = '\0';
  req_fail (hr, "%s", clean);
}

/* Take {"hr":...,"result":...} apart. */
static cowset_hresult
open_answer (struct session *s, const char *body, size_t len,
             json_t **result)
{
  CLEANUP_JSON json_t *answer = json_loadb (body, len, 0, NULL);
  json_t *hr_json = json_object_get (answer, "hr");
  const char *text;
  cowset_hresult hr;

  if (!json_is_integer (hr_json) ||
      json_integer_value (hr_json) < INT32_MIN ||
      json_integer_value (hr_json) > INT32_MAX)
    return req_fail (VSS_E_UNEXPECTED,
                     "%s: the server's answer has no result code",
                     s->base.uri);
  hr = (cowset_hresult) json_integer_value (hr_json);
  text = json_string_value (json_object_get (answer, "message"));
  if (COWSET_FAILED (hr)) {
    if (text)
      set_message (hr, text);
    else
      req_fail (hr, NULL);
  }
  if (result) {
    *result = json_incref (json_object_get (answer, "result"));
    if (*result == NULL && COWSET_SUCCEEDED (hr) &&
        (*result = json_object ()) == NULL)
      return req_fail (E_OUTOFMEMORY, NULL);
  }
  return hr;
}

static void end_request (void *opaque, uint64_t id);

static cowset_hresult
exchange (struct session *s, unsigned slot, uint64_t id, json_t *request,
          uint64_t deadline_ms, struct req_cancel *cancel, json_t **result)
{
  CLEANUP_FREE char *text = json_dumps (request, JSON_COMPACT);
  CLEANUP_FREE uint8_t *buf = malloc (PROTO_SLOT_BYTES);
  CLEANUP_FREE char *body = NULL;
  struct exchange x = {
    .s = s, .slot = slot, .id = id, .nonce = proto_id_new (),
    .deadline_ms = deadline_ms, .buf = buf,
  };
  struct req_ending ending = { .end = end_request, .opaque = s, .id = id };
  bool registered = false;
  size_t len;
  cowset_hresult hr;
  int err;

  if (text == NULL || buf == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  if (strlen (text) > PROTO_BODY_MAX)
    return req_fail (E_INVALIDARG, "the request is longer than 1 MiB");
  err = write_frame (&x, PROTO_REQUEST, text, strlen (text), 0);
  if (err < 0)
    return fail_link (s, err);

  /* Only now does the server know of a request that a cancel could name. */
  if (cancel) {
    registered = req_cancel_begin (cancel, &ending);
    if (!registered)
      end_request (s, id);
  }
  hr = read_answer (&x, &body, &len);
  if (registered)
    req_cancel_end (cancel, &ending);
  return COWSET_FAILED (hr) ? hr : open_answer (s, body, len, result);
}

/* How long a ping or a cancel may take.  A server with few threads answers it
 * only when the request before it is done: over a Unix socket, where silence
 * cannot mean a broken line, that much patience costs nothing.
 */
static uint64_t
silence_ms (struct session *s)
{
  json_t *limit = json_object_get (s->base.hello, "flush_limit_ms");
  const json_int_t ms = json_integer_value (limit);

  if (s->link->ops->is_remote (s->link) || ms < 0 || ms > 3600000)
    return SILENCE_MS;
  return SILENCE_MS + (uint64_t) ms;
}

/* Slot 0: pings and cancels.  One that is not answered in time loses the
 * link.
 */
static cowset_hresult
exchange0 (struct session *s, json_t *request)
{
  uint64_t id;

  LOCK_FOR_SCOPE (&s->slot0_lock);
  pthread_mutex_lock (&s->lock);
  id = s->next_id++;
  pthread_mutex_unlock (&s->lock);
  return exchange (s, 0, id, request, req_now_ms () + silence_ms (s), NULL,
                   NULL);
}

/* Have the server end request id.  Its own answer says what came of it. */
static void
end_request (void *opaque, uint64_t id)
{
  struct session *s = opaque;
  unsigned slot;

  pthread_mutex_lock (&s->lock);
  for (slot = 1; slot < PROTO_SLOTS; ++slot)
    if ((s->busy & (1u << slot)) && s->ids[slot] == id)
      break;
  pthread_mutex_unlock (&s->lock);
  if (slot < PROTO_SLOTS) {
    CLEANUP_JSON json_t *request =
      json_pack ("{s:s, s:i, s:I}", "op", "cancel", "slot", (int) slot, "id",
                 (json_int_t) id);

    if (request)
      exchange0 (s, request);
  }
}

static unsigned
take_slot (struct session *s, uint64_t *id)
{
  const unsigned all = (1u << PROTO_SLOTS) - 2; /* without slot 0 */
  unsigned slot;

  LOCK_FOR_SCOPE (&s->lock);
  while ((s->busy & all) == all)
    pthread_cond_wait (&s->slot_free, &s->lock);
  slot = (unsigned) __builtin_ctz (~s->busy & all);
  s->busy |= 1u << slot;
  *id = s->ids[slot] = s->next_id++;
  return slot;
}

static void
give_slot (struct session *s, unsigned slot)
{
  LOCK_FOR_SCOPE (&s->lock);

  s->busy &= ~(1u << slot);
  pthread_cond_signal (&s->slot_free);
}

static cowset_hresult
call_by (struct session *s, json_t *request, uint64_t deadline_ms,
         struct req_cancel *cancel, json_t **result)
{
  cowset_hresult hr;
  uint64_t id;
  unsigned slot;

  if (cancel && req_cancel_cancelled (cancel))
    return req_fail (E_ABORT, NULL);
  slot = take_slot (s, &id);
  hr = exchange (s, slot, id, request, deadline_ms, cancel, result);
  give_slot (s, slot);
  return hr;
}

static cowset_hresult
session_call (struct req_server *server, json_t *request,
              struct req_cancel *cancel, json_t **result)
{
  return call_by ((struct session *) server, request, UINT64_MAX, cancel,
                  result);
}

static int
session_lost_fd (struct req_server *server)
{
  struct session *s = (struct session *) server;

  return s->link->ops->lost_fd (s->link);
}

static void
session_lose (struct req_server *server)
{
  struct session *s = (struct session *) server;

  s->link->ops->lose (s->link);
}

static void *
beat (void *opaque)
{
  struct session *s = opaque;
  CLEANUP_JSON json_t *ping = json_pack ("{s:s}", "op", "ping");
  const uint64_t every_ms =
    s->link->ops->is_remote (s->link) ? BEAT_MS : BEAT_LOCAL_MS;

  pthread_mutex_lock (&s->lock);
  while (ping && !s->stop && !s->link->ops->is_lost (s->link)) {
    const uint64_t next_ms = req_now_ms () + every_ms;

    while (!s->stop && req_cond_wait (&s->beat, &s->lock, next_ms))
      ;
    if (s->stop)
      break;
    pthread_mutex_unlock (&s->lock);
    exchange0 (s, ping);
    pthread_mutex_lock (&s->lock);
  }
  pthread_mutex_unlock (&s->lock);
  return NULL;
}

static void
session_close (struct req_server *server)
{
  struct session *s = (struct session *) server;

  if (s->heart_started) {
    pthread_mutex_lock (&s->lock);
    s->stop = true;
    pthread_cond_signal (&s->beat);
    pthread_mutex_unlock (&s->lock);
    pthread_join (s->heart, NULL);
  }
  s->link->ops->close (s->link);
  pthread_cond_destroy (&s->beat);
  pthread_cond_destroy (&s->slot_free);
  pthread_mutex_destroy (&s->lock);
  pthread_mutex_destroy (&s->slot0_lock);
  req_server_clear (server);
  free (s);
}

static const struct req_server_ops ops = {
  .call = session_call,
  .lost_fd = session_lost_fd,
  .lose = session_lose,
  .close = session_close,
};

/* A plain disk may be what the URI names: look before writing anything. */
static cowset_hresult
check_greeting (struct session *s, uint64_t deadline_ms)
{
  uint8_t buf[PROTO_GREETING_MAX];
  struct proto_frame f;
  int err = s->link->ops->read (s->link, buf, sizeof buf, PROTO_SLOT_BYTES,
                                deadline_ms);
  enum proto_frame_status status;

  if (err < 0)
    return req_fail (VSS_E_REMOTE_SERVER_UNAVAILABLE,
                     "%s: the server closed the connection, or did not "
                     "answer", s->base.uri);
  status = proto_frame_decode (buf, sizeof buf, &f);
  if (status == PROTO_FRAME_VERSION)
    return req_fail (VSS_E_REMOTE_SERVER_UNSUPPORTED,
                     "%s: the server speaks version %" PRIu32 " of the "
                     "control channel, this library version %d",
                     s->base.uri, f.version, PROTO_VERSION);
  if (status != PROTO_FRAME_OK || f.kind != PROTO_GREETING)
    return req_fail (VSS_E_REMOTE_SERVER_UNSUPPORTED,
                     "%s: what is served there is no control channel; is it "
                     "nbdkit with the cowset plugin, and no filter that "
                     "changes data?", s->base.uri);
  return S_OK;
}

static cowset_hresult
say_hello (struct session *s, uint64_t deadline_ms)
{
  CLEANUP_JSON json_t *request =
    json_pack ("{s:s, s:s}", "op", "hello", "client",
               "cowset " PACKAGE_VERSION);
  json_t *version;
  cowset_hresult hr;

  if (request == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  hr = call_by (s, request, deadline_ms, NULL, &s->base.hello);
  if (COWSET_FAILED (hr))
    return hr;
  version = json_object_get (s->base.hello, "version");
  if (json_integer_value (version) != PROTO_VERSION)
    return req_fail (VSS_E_REMOTE_SERVER_UNSUPPORTED,
                     "%s: the server speaks another version of the control "
                     "channel", s->base.uri);
  return S_OK;
}

cowset_hresult
req_session_new (struct req_link *link, const char *uri,
                 struct req_server **out)
{
  const uint64_t deadline_ms = req_now_ms () + SILENCE_MS;
  struct session *s = calloc (1, sizeof *s);
  cowset_hresult hr;

  if (s == NULL) {
    link->ops->close (link);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  s->base.ops = &ops;
  s->link = link;
  s->next_id = 1;
  pthread_mutex_init (&s->slot0_lock, NULL);
  pthread_mutex_init (&s->lock, NULL);
  req_cond_init (&s->slot_free);
  req_cond_init (&s->beat);

  s->base.uri = strdup (uri);
  hr = s->base.uri ? S_OK : req_fail (E_OUTOFMEMORY, NULL);
  if (COWSET_SUCCEEDED (hr))
    hr = check_greeting (s, deadline_ms);
  if (COWSET_SUCCEEDED (hr))
    hr = say_hello (s, deadline_ms);
  if (COWSET_SUCCEEDED (hr)) {
    if (req_thread_start (&s->heart, beat, s) == 0)
      s->heart_started = true;
    else
      hr = req_fail (E_OUTOFMEMORY, "no thread for the session");
  }
  if (COWSET_FAILED (hr)) {
    session_close (&s->base);
    return hr;
  }
  *out = &s->base;
  return S_OK;
}
