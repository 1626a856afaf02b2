/* test-session.c - the requester's end of the control channel, over a scripted
 * link; and NBD URIs.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The link keeps 16 slots in memory and answers as PROTOCOL.md says, or in one
 * of many wrong ways.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "link.h"
#include "protocol/frame.h"
#include "session.h"
#include "uri.h"

TestSuite (session, .timeout = 60);
TestSuite (uri, .timeout = 60);

enum manner {
  GOOD,
  PLAIN_DISK,                   /* zeroes, and what was written */
  ECHO,                         /* greets, then reads back what was written */
  CACHED_GREETING,              /* greets for ever */
  OTHER_VERSION,                /* greets in version 2 */
  SPEAKS_OTHER,                 /* hello says version 2 */
  DENIES,                       /* E_ACCESSDENIED to everything */
  REFUSES,                      /* writes fail with EINVAL */
  GONE,                         /* everything fails */
  NEVER_ANSWERS,                /* after hello; until a cancel */
  LOSES,                        /* after hello; the link is lost */
  WRONG_NONCE, WRONG_ID, BAD_CHECKSUM, NO_JSON, NO_HR, HUGE_HR,
  PARTS,                        /* an answer of 2.5 slots */
  PARTS_CHANGE_TOTAL, PARTS_REPEAT,
  RUDE_MESSAGE,                 /* with control characters */
};

/* What the wrong manners after hello do wrong. */
struct slot {
  uint8_t *bytes;               /* what a read at its start gives */
  bool answered;
  uint64_t id;                  /* of the last request */
  char *body;                   /* the whole answer */
  size_t total;
};

struct fake_link {
  struct req_link base;
  enum manner manner;
  pthread_mutex_t lock;
  pthread_cond_t answered;
  struct slot slots[PROTO_SLOTS];
  unsigned writes, hellos, cancels, parts;
  unsigned pings;               /* lock */
  uint64_t ping_limit_ms;       /* lock; how long the last one may take */
  bool remote;
};

static bool link_closed;

static struct slot *
slot_at (struct fake_link *l, uint64_t offset)
{
  struct slot *slot = &l->slots[offset / PROTO_SLOT_BYTES];

  assert (offset < PROTO_EXPORT_BYTES);
  if (slot->bytes == NULL)
    slot->bytes = calloc (1, PROTO_SLOT_BYTES);
  assert (slot->bytes);
  return slot;
}

/* The frame of the answer, from offset part on, is what the slot reads as. */
static void
answer_part (struct fake_link *l, struct slot *slot,
             const struct proto_frame *f, size_t part)
{
  struct proto_id nonce = f->nonce;
  uint64_t id = f->id;
  size_t total = slot->total;
  const bool after_hello = l->hellos > 0 && l->writes > 1;

  if (after_hello && l->manner == WRONG_NONCE)
    nonce.b[3] ^= 1;
  if (after_hello && l->manner == WRONG_ID)
    id++;
  if (part > 0)
    l->parts++;
  if (part > 0 && l->manner == PARTS_CHANGE_TOTAL)
    total -= 100;
  if (part > 0 && l->manner == PARTS_REPEAT)
    part = 0;
  proto_answer_encode (id, &nonce, slot->body, total, part, slot->bytes);
  if (after_hello && l->manner == BAD_CHECKSUM)
    slot->bytes[70] ^= 1;
  slot->answered = true;
  pthread_cond_broadcast (&l->answered);
}

static void
set_body (struct slot *slot, const char *text)
{
  free (slot->body);
  slot->body = strdup (text);
  assert (slot->body);
  slot->total = strlen (text);
}

/* {"hr":0,"result":{"text":"xxx..."}} */
static void
set_long_body (struct slot *slot)
{
  const size_t len = 5 * (PROTO_SLOT_BYTES / 2);
  char *text = malloc (len + 1), *body;

  memset (text, 'x', len);
  text[len] = '\0';
  if (asprintf (&body, "{\"hr\":0,\"result\":{\"text\":\"%s\"}}", text) < 0)
    abort ();
  set_body (slot, body);
  free (body);
  free (text);
}

static void
make_body (struct fake_link *l, struct slot *slot, const char *op)
{
  static const char hello[] =
    "{\"hr\":0,\"code\":\"S_OK\",\"result\":{\"server\":\"fake\","
    "\"version\":%d,\"flush_limit_ms\":60000}}";
  char text[256];

  if (l->manner == DENIES)
    set_body (slot, "{\"hr\":-2147024891,\"code\":\"E_ACCESSDENIED\","
                    "\"message\":\"you may not\"}");
  else if (strcmp (op, "hello") == 0) {
    snprintf (text, sizeof text, hello, l->manner == SPEAKS_OTHER ? 2 : 1);
    set_body (slot, text);
  }
  else if (l->manner == NO_JSON)
    set_body (slot, "hello");
  else if (l->manner == NO_HR)
    set_body (slot, "{\"result\":{}}");
  else if (l->manner == HUGE_HR)
    set_body (slot, "{\"hr\":4294967296}");
  else if (l->manner == RUDE_MESSAGE)
    set_body (slot, "{\"hr\":-2147467259,\"message\":\"a\\u001b[2Jb\\nc\"}");
  else if (l->manner == PARTS || l->manner == PARTS_CHANGE_TOTAL ||
           l->manner == PARTS_REPEAT)
    set_long_body (slot);
  else
    set_body (slot, "{\"hr\":0,\"code\":\"S_OK\",\"result\":{\"n\":7}}");
}

/* End the request that a cancel names, as the server does. */
static void
cancel_request (struct fake_link *l, json_t *request)
{
  const json_int_t k = json_integer_value (json_object_get (request, "slot"));
  struct slot *slot = &l->slots[k];
  struct proto_frame f;

  l->cancels++;
  assert (k >= 1 && k < PROTO_SLOTS && slot->bytes);
  if (proto_frame_decode (slot->bytes, PROTO_SLOT_BYTES, &f) !=
        PROTO_FRAME_OK ||
      (json_int_t) f.id != json_integer_value (json_object_get (request,
                                                                "id")))
    return;
  set_body (slot, "{\"hr\":-2147467260,\"code\":\"E_ABORT\"}");
  answer_part (l, slot, &f, 0);
}

static int
fake_write (struct req_link *base, const void *buf, size_t len,
            uint64_t offset, uint64_t deadline_ms)
{
  struct fake_link *l = (struct fake_link *) base;
  CLEANUP_JSON json_t *request = NULL;
  struct proto_frame f;
  struct slot *slot;
  const char *op;

  if (l->manner == REFUSES || l->manner == GONE)
    return l->manner == REFUSES ? -EINVAL : -ENOTCONN;
  assert (l->manner != PLAIN_DISK && l->manner != OTHER_VERSION);
  assert (offset % PROTO_SLOT_BYTES == 0);
  assert (proto_frame_decode (buf, len, &f) == PROTO_FRAME_OK);
  assert (len == PROTO_HEADER_BYTES + f.length);
  LOCK_FOR_SCOPE (&l->lock);
  slot = slot_at (l, offset);
  l->writes++;
  memcpy (slot->bytes, buf, len);
  if (l->manner == ECHO || l->manner == CACHED_GREETING) {
    if (l->manner == CACHED_GREETING) {
      memset (slot->bytes, 0, len);
      proto_greeting_encode (slot->bytes);
    }
    slot->answered = true;
    return 0;
  }
  slot->answered = false;
  slot->id = f.id;
  if (f.kind == PROTO_NEXT_PART) {
    answer_part (l, slot, &f, f.part);
    return 0;
  }
  request = json_loadb ((const char *) buf + PROTO_HEADER_BYTES, f.length, 0,
                        NULL);
  op = json_string_value (json_object_get (request, "op"));
  assert (op);
  if (strcmp (op, "cancel") == 0)
    cancel_request (l, request);
  else if (strcmp (op, "ping") == 0) {
    assert (offset == 0);
    l->pings++;
    l->ping_limit_ms = deadline_ms - req_now_ms ();
  }
  else if (l->hellos > 0 && l->manner == NEVER_ANSWERS)
    return 0;
  make_body (l, slot, op);
  answer_part (l, slot, &f, 0);
  l->hellos += strcmp (op, "hello") == 0;
  return 0;
}

static int
fake_read (struct req_link *base, void *buf, size_t len, uint64_t offset,
           uint64_t deadline_ms)
{
  struct fake_link *l = (struct fake_link *) base;
  const size_t start = offset % PROTO_SLOT_BYTES;
  struct slot *slot;

  (void) deadline_ms;
  if (l->manner == GONE)
    return -ENOTCONN;
  assert (start + len <= PROTO_SLOT_BYTES);
  LOCK_FOR_SCOPE (&l->lock);
  slot = slot_at (l, offset);
  if (l->manner == LOSES && l->hellos > 0 && l->writes > 1)
    return -ENOTCONN;
  if (l->writes == 0 && l->manner != PLAIN_DISK) {
    uint8_t greeting[PROTO_GREETING_MAX] = { 0 };
    size_t n = proto_greeting_encode (greeting);

    if (l->manner == OTHER_VERSION) {
      const struct proto_frame f = { .version = 2, .kind = PROTO_GREETING };

      n = proto_frame_encode (&f, NULL, greeting);
    }
    assert (start == 0 && len >= n);
    memset (buf, 0, len);
    memcpy (buf, greeting, n);
    return 0;
  }
  while (start == 0 && l->writes > 0 && !slot->answered)
    pthread_cond_wait (&l->answered, &l->lock);
  memcpy (buf, slot->bytes + start, len);
  return 0;
}

static int
fake_lost_fd (struct req_link *base)
{
  (void) base;
  return -1;
}

static void
fake_lose (struct req_link *base)
{
  ((struct fake_link *) base)->manner = GONE;
}

static bool
fake_is_lost (struct req_link *base)
{
  return ((struct fake_link *) base)->manner == GONE;
}

static bool
fake_is_remote (struct req_link *base)
{
  return ((struct fake_link *) base)->remote;
}

static void
fake_close (struct req_link *base)
{
  struct fake_link *l = (struct fake_link *) base;

  for (unsigned i = 0; i < PROTO_SLOTS; ++i) {
    free (l->slots[i].bytes);
    free (l->slots[i].body);
  }
  pthread_cond_destroy (&l->answered);
  pthread_mutex_destroy (&l->lock);
  free (l);
  link_closed = true;
}

static const struct req_link_ops ops = {
  .write = fake_write,
  .read = fake_read,
  .lost_fd = fake_lost_fd,
  .lose = fake_lose,
  .is_lost = fake_is_lost,
  .is_remote = fake_is_remote,
  .close = fake_close,
};

static struct fake_link *
new_link (enum manner manner)
{
  struct fake_link *l = calloc (1, sizeof *l);

  assert (l);
  l->base.ops = &ops;
  l->manner = manner;
  pthread_mutex_init (&l->lock, NULL);
  req_cond_init (&l->answered);
  link_closed = false;
  return l;
}

static cowset_hresult
connect_to (enum manner manner, struct req_server **server,
            struct fake_link **link)
{
  struct fake_link *l = new_link (manner);

  if (link)
    *link = l;
  return req_session_new (&l->base, "nbd://fake", server);
}

static cowset_hresult
ask (struct req_server *server, json_t **result)
{
  CLEANUP_JSON json_t *request = json_pack ("{s:s}", "op", "volumes");

  return server->ops->call (server, request, NULL, result);
}

/* ------------------------------------------------------------------- hello */

struct greeting_case {
  char name[32];
  enum manner manner;
  cowset_hresult expected;
};

ParameterizedTestParameters (session, connecting)
{
  static const struct greeting_case cases[] = {
    { "good", GOOD, S_OK },
    { "plain disk", PLAIN_DISK, VSS_E_REMOTE_SERVER_UNSUPPORTED },
    { "echo", ECHO, VSS_E_REMOTE_SERVER_UNSUPPORTED },
    { "cached greeting", CACHED_GREETING, VSS_E_REMOTE_SERVER_UNSUPPORTED },
    { "greets in version 2", OTHER_VERSION,
      VSS_E_REMOTE_SERVER_UNSUPPORTED },
    { "says version 2", SPEAKS_OTHER, VSS_E_REMOTE_SERVER_UNSUPPORTED },
    { "denies", DENIES, E_ACCESSDENIED },
    { "refuses", REFUSES, VSS_E_UNEXPECTED },
    { "gone", GONE, VSS_E_REMOTE_SERVER_UNAVAILABLE },
  };

  return cr_make_param_array (struct greeting_case, (void *) cases,
                              sizeof cases / sizeof cases[0]);
}

/* The link asserts that nothing is written where no greeting was. */
ParameterizedTest (struct greeting_case *g, session, connecting)
{
  struct req_server *server = NULL;
  const cowset_hresult hr = connect_to (g->manner, &server, NULL);

  cr_assert_eq (hr, g->expected, "%s: %s: %s", g->name,
                cowset_result_name (hr), cowset_error_message ());
  if (server)
    server->ops->close (server);
  cr_assert (link_closed);
}

/* ----------------------------------------------------------------- answers */

Test (session, a_call_gives_the_result)
{
  struct req_server *server;
  json_t *result = NULL;

  cr_assert_eq (connect_to (GOOD, &server, NULL), S_OK);
  for (unsigned i = 0; i < 40; ++i) {
    cr_assert_eq (ask (server, &result), S_OK);
    cr_assert_eq (json_integer_value (json_object_get (result, "n")), 7);
    json_decref (result);
    cr_assert_eq (ask (server, NULL), S_OK);
  }
  server->ops->close (server);
}

Test (session, wrong_answers_are_unexpected)
{
  static const enum manner wrong[] = {
    WRONG_NONCE, WRONG_ID, BAD_CHECKSUM, NO_JSON, NO_HR, HUGE_HR, LOSES,
    PARTS_CHANGE_TOTAL, PARTS_REPEAT,
  };

  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
    struct req_server *server;
    json_t *result = NULL;

    cr_assert_eq (connect_to (wrong[i], &server, NULL), S_OK, "%zu", i);
    cr_assert_eq (ask (server, &result), VSS_E_UNEXPECTED, "%zu: %s", i,
                  cowset_error_message ());
    cr_assert_null (result);
    server->ops->close (server);
  }
}

Test (session, a_long_answer_comes_in_parts)
{
  struct fake_link *link;
  struct req_server *server;
  json_t *result = NULL;

  cr_assert_eq (connect_to (PARTS, &server, &link), S_OK);
  cr_assert_eq (ask (server, &result), S_OK, "%s", cowset_error_message ());
  cr_assert_eq (json_string_length (json_object_get (result, "text")),
                5 * (PROTO_SLOT_BYTES / 2));
  cr_assert_eq (link->parts, 2);
  json_decref (result);
  server->ops->close (server);
}

Test (session, a_message_is_one_harmless_line)
{
  struct req_server *server;

  cr_assert_eq (connect_to (RUDE_MESSAGE, &server, NULL), S_OK);
  cr_assert_eq (ask (server, NULL), E_FAIL);
  cr_assert_str_eq (cowset_error_message (), "a?[2Jb?c");
  server->ops->close (server);
}

/* ------------------------------------------------------------------ cancel */

struct asker {
  struct req_server *server;
  struct req_cancel cancel;
  cowset_hresult hr;
};

static void *
run_asker (void *opaque)
{
  struct asker *a = opaque;
  CLEANUP_JSON json_t *request = json_pack ("{s:s}", "op", "volumes");

  a->hr = a->server->ops->call (a->server, request, &a->cancel, NULL);
  return NULL;
}

/* Fifteen requests wait, each in its slot; every one can be cancelled. */
Test (session, cancels_pass_waits)
{
  struct asker askers[PROTO_SLOTS - 1];
  pthread_t threads[PROTO_SLOTS - 1];
  struct fake_link *link;
  struct req_server *server;

  cr_assert_eq (connect_to (NEVER_ANSWERS, &server, &link), S_OK);
  for (unsigned i = 0; i < PROTO_SLOTS - 1; ++i) {
    askers[i].server = server;
    req_cancel_init (&askers[i].cancel);
    cr_assert_eq (pthread_create (&threads[i], NULL, run_asker, &askers[i]),
                  0);
  }
  /* In whichever state each of them is: not begun, written, waiting. */
  for (unsigned i = PROTO_SLOTS - 1; i-- > 0;)
    req_cancel_now (&askers[i].cancel);
  for (unsigned i = 0; i < PROTO_SLOTS - 1; ++i) {
    pthread_join (threads[i], NULL);
    cr_assert_eq (askers[i].hr, E_ABORT);
    req_cancel_clear (&askers[i].cancel);
  }
  server->ops->close (server);
}

Test (session, cancelled_before_it_began)
{
  struct fake_link *link;
  struct asker asker;
  unsigned writes;

  cr_assert_eq (connect_to (GOOD, &asker.server, &link), S_OK);
  req_cancel_init (&asker.cancel);
  req_cancel_now (&asker.cancel);
  writes = link->writes;
  run_asker (&asker);
  cr_assert_eq (asker.hr, E_ABORT);
  cr_assert_eq (link->writes, writes);
  req_cancel_clear (&asker.cancel);
  asker.server->ops->close (asker.server);
}

/* --------------------------------------------------------------- heartbeat */

static void
expect_ping (bool remote, uint64_t limit_ms)
{
  struct fake_link *link = new_link (GOOD);
  struct req_server *server;

  link->remote = remote;
  cr_assert_eq (req_session_new (&link->base, "nbd://fake", &server), S_OK);
  pthread_mutex_lock (&link->lock);
  while (link->pings == 0)
    pthread_cond_wait (&link->answered, &link->lock);
  /* A ping that is not answered within this loses the link. */
  cr_assert_leq (link->ping_limit_ms, limit_ms);
  cr_assert_gt (link->ping_limit_ms, limit_ms / 2);
  pthread_mutex_unlock (&link->lock);
  server->ops->close (server);
}

Test (session, an_idle_session_pings_over_a_network)
{
  expect_ping (true, 30000);
}

Test (session, an_idle_session_pings_over_a_unix_socket)
{
  expect_ping (false, 30000 + 60000); /* and the server's flush limit */
}

/* -------------------------------------------------------------------- URIs */

struct uri_case {
  char uri[64], name[24], expected[96];
};

ParameterizedTestParameters (uri, export)
{
  static const struct uri_case cases[] = {
    { "nbd+unix:///?socket=/s", "@control", "nbd+unix:///@control?socket=/s" },
    { "nbd+unix://?socket=/s", "a", "nbd+unix:///a?socket=/s" },
    { "nbd+unix:///old?socket=/s#x", "a", "nbd+unix:///a?socket=/s" },
    { "nbd://host", "a@latest", "nbd://host/a@latest" },
    { "nbd://host:10809/old/er", "a", "nbd://host:10809/a" },
    { "nbd://[::1]:10809/", "", "nbd://[::1]:10809/" },
    { "nbds://u@h/?tls-psk-file=/k", "a", "nbds://u@h/a?tls-psk-file=/k" },
    { "nbd://host/x#frag", "a", "nbd://host/a" },
    { "nbd://host", "a b%c/d", "nbd://host/a%20b%25c%2Fd" },
    { "nbd://host", "d\xc3\xa9", "nbd://host/d%C3%A9" },
  };

  return cr_make_param_array (struct uri_case, (void *) cases,
                              sizeof cases / sizeof cases[0]);
}

ParameterizedTest (struct uri_case *u, uri, export)
{
  CLEANUP_FREE char *got = req_uri_export (u->uri, u->name);

  cr_assert_str_eq (got, u->expected);
}

Test (uri, what_looks_like_one)
{
  cr_assert (req_uri_check ("nbd://host"));
  cr_assert (req_uri_check ("NBD+unix:///?socket=/s"));
  cr_assert (req_uri_check ("nbds+vsock://1"));
  cr_assert_not (req_uri_check ("nbd:unix:/s"));
  cr_assert_not (req_uri_check ("http://nbd://"));
  cr_assert_not (req_uri_check ("/dev/nbd0"));
  cr_assert_not (req_uri_check (""));
}
