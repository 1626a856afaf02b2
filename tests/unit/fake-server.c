/* fake-server.c - a scripted server for the tests of the requester.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "fake-server.h"
#include "protocol/context.h"
#include "several.h"

static const char provider_id[] = "8f1f0c0a-6d9a-4d43-9c52-c0d5e7a3b001";
static const char *const volumes[] = { "a", "b", "c" };

const char fake_document[] =
  "{\"format\":\"cowset-backup-components\",\"version\":1,\"context\":0,"
  "\"set\":\"11111111-1111-1111-1111-111111111111\",\"label\":\"nightly\","
  "\"complete\":true,\"backup\":{\"select_components\":true,"
  "\"bootable_state\":false,\"type\":1,\"partial_files\":false},"
  "\"servers\":[{\"uri\":\"nbd://host\",\"machine\":\"host\"}],"
  "\"snapshots\":[{\"snapshot\":\"22222222-2222-2222-2222-222222222222\","
  "\"volume\":\"a\",\"server\":\"nbd://host\"}],"
  "\"writers\":[{\"writer\":\"33333333-3333-3333-3333-333333333333\","
  "\"instance\":\"44444444-4444-4444-4444-444444444444\",\"name\":\"app\","
  "\"kind\":\"exec\",\"level\":3,\"usage\":3,\"source\":1,"
  "\"transaction_manager\":false,\"state\":1,\"failure\":0,\"message\":\"\","
  "\"components\":[{\"type\":1,\"path\":\"\",\"name\":\"kept\","
  "\"caption\":\"\",\"selected\":true,\"succeeded\":true},{\"type\":2,"
  "\"path\":\"p\",\"name\":\"left\",\"caption\":\"\",\"selected\":false}]}]}";

struct fake {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool store;
  json_t *open;                 /* set id -> what "query" will list */
  json_t *voted;                /* as open; that wait for their home */
  json_t *finished;             /* array, oldest first */
  json_t *counts;               /* op -> number */
  json_t *last;                 /* op -> request */
  char store_id[37];
  char fail_op[32], lose_op[32];
  cowset_hresult fail_hr;
  json_t *fail_result;
  char block_op[32];
  unsigned waiting;
  unsigned next_session;
};

struct session {
  struct req_server base;
  struct fake *f;
  unsigned number;
  bool cancelled;               /* f->lock: the request that waits ends */
};

struct fake *
fake_new (void)
{
  static _Atomic unsigned count;
  struct fake *f = calloc (1, sizeof *f);

  assert (f);
  snprintf (f->store_id, sizeof f->store_id,
            "55555555-5555-4555-8555-%012u", count++);
  pthread_mutex_init (&f->lock, NULL);
  req_cond_init (&f->changed);
  f->store = true;
  f->open = json_object ();
  f->voted = json_object ();
  f->finished = json_array ();
  f->counts = json_object ();
  f->last = json_object ();
  return f;
}

void
fake_free (struct fake *f)
{
  json_decref (f->open);
  json_decref (f->voted);
  json_decref (f->finished);
  json_decref (f->counts);
  json_decref (f->last);
  json_decref (f->fail_result);
  pthread_cond_destroy (&f->changed);
  pthread_mutex_destroy (&f->lock);
  free (f);
}

void
fake_without_store (struct fake *f)
{
  f->store = false;
}

void
fake_fail_with (struct fake *f, const char *op, cowset_hresult hr,
                json_t *result)
{
  LOCK_FOR_SCOPE (&f->lock);

  snprintf (f->fail_op, sizeof f->fail_op, "%s", op);
  f->fail_hr = hr;
  json_decref (f->fail_result);
  f->fail_result = result;
}

void
fake_fail (struct fake *f, const char *op, cowset_hresult hr)
{
  fake_fail_with (f, op, hr, NULL);
}

void
fake_lose_answer (struct fake *f, const char *op)
{
  LOCK_FOR_SCOPE (&f->lock);

  snprintf (f->lose_op, sizeof f->lose_op, "%s", op);
}

void
fake_block (struct fake *f, const char *op)
{
  LOCK_FOR_SCOPE (&f->lock);

  snprintf (f->block_op, sizeof f->block_op, "%s", op ? op : "");
  pthread_cond_broadcast (&f->changed);
}

void
fake_await (struct fake *f)
{
  LOCK_FOR_SCOPE (&f->lock);

  while (f->waiting == 0)
    pthread_cond_wait (&f->changed, &f->lock);
}

unsigned
fake_count (struct fake *f, const char *op)
{
  LOCK_FOR_SCOPE (&f->lock);

  return (unsigned) json_integer_value (json_object_get (f->counts, op));
}

json_t *
fake_last (struct fake *f, const char *op)
{
  LOCK_FOR_SCOPE (&f->lock);

  return json_object_get (f->last, op);
}

size_t
fake_open_sets (struct fake *f)
{
  LOCK_FOR_SCOPE (&f->lock);

  return json_object_size (f->open);
}

size_t
fake_voted_sets (struct fake *f)
{
  LOCK_FOR_SCOPE (&f->lock);

  return json_object_size (f->voted);
}

size_t
fake_finished_sets (struct fake *f)
{
  LOCK_FOR_SCOPE (&f->lock);

  return json_array_size (f->finished);
}

/* ---------------------------------------------------------------- requests */

static const char *
text (json_t *object, const char *member)
{
  const char *s = json_string_value (json_object_get (object, member));

  return s ? s : "";
}

static bool
is_volume (const char *name)
{
  for (size_t i = 0; i < sizeof volumes / sizeof volumes[0]; ++i)
    if (strcmp (volumes[i], name) == 0)
      return true;
  return false;
}

/* The open set with the volume, or NULL. */
static json_t *
claimed (struct fake *f, const char *volume)
{
  const char *id;
  json_t *set, *snapshot;
  size_t i;

  json_object_foreach (f->open, id, set)
    json_array_foreach (json_object_get (set, "snapshots"), i, snapshot)
      if (strcmp (text (snapshot, "volume"), volume) == 0)
        return set;
  return NULL;
}

static cowset_hresult
set_start (struct session *s, json_t *q)
{
  struct fake *f = s->f;
  json_t *context = json_object_get (q, "context");

  if (proto_context_persistent ((uint32_t) json_integer_value (context)) &&
      !f->store)
    return req_fail (VSS_E_UNSUPPORTED_CONTEXT, "there is no store");
  json_object_set_new (
    f->open, text (q, "set"),
    json_pack ("{s:s, s:s, s:O, s:b, s:O, s:I, s:I, s:I, s:I, s:s, s:[],"
               " s:i, s:i}",
               "set", text (q, "set"), "label", text (q, "label"), "context",
               context, "persistent",
               proto_context_persistent (
                 (uint32_t) json_integer_value (context)),
               "auto_release", json_object_get (q, "auto_release"), "number",
               (json_int_t) 1, "created", (json_int_t) 1700000000000000000,
               "hold_ns", (json_int_t) 1000, "settle_ns", (json_int_t) 2000,
               "machine", "fakehost", "snapshots", "count", 0, "session",
               (int) s->number));
  return S_OK;
}

static cowset_hresult
set_add (struct session *s, json_t *q, json_t *set)
{
  const char *volume = text (q, "volume");
  const char *provider = text (q, "provider");
  json_t *snapshots = json_object_get (set, "snapshots");
  char device[256];

  if (!is_volume (volume))
    return req_fail (VSS_E_OBJECT_NOT_FOUND, "no volume %s", volume);
  if (*provider && strcmp (provider, provider_id) != 0)
    return req_fail (VSS_E_PROVIDER_NOT_REGISTERED, "no such provider");
  if (claimed (s->f, volume) == set)
    return req_fail (VSS_E_OBJECT_ALREADY_EXISTS, "it is in the set");
  if (claimed (s->f, volume))
    return req_fail (VSS_E_SNAPSHOT_SET_IN_PROGRESS, "another set has it");
  snprintf (device, sizeof device, "%s@%s", volume, text (q, "set"));
  json_array_append_new (
    snapshots,
    json_pack ("{s:s, s:s, s:i, s:O, s:s, s:i, s:s, s:b, s:i}", "snapshot",
               text (q, "snapshot"), "volume", volume, "size", 65536,
               "attributes", json_object_get (set, "context"), "provider",
               provider_id, "state", 12, "device", device, "alive", 1,
               "exceptions", 3));
  json_object_set_new (set, "count",
                       json_integer ((json_int_t)
                                     json_array_size (snapshots)));
  return S_OK;
}

static cowset_hresult
query (struct session *s, json_t *q, json_t **result)
{
  const json_int_t context = json_integer_value (json_object_get (q,
                                                                  "context"));
  json_t *sets = json_array ();

  for (size_t i = json_array_size (s->f->finished); i-- > 0;) {
    json_t *set = json_array_get (s->f->finished, i), *snapshot;
    json_t *bits = json_object_get (set, "context");
    bool has = *text (q, "snapshot") == '\0';
    size_t k;

    json_array_foreach (json_object_get (set, "snapshots"), k, snapshot)
      has |= strcmp (text (snapshot, "snapshot"), text (q, "snapshot")) == 0;
    if (has && (*text (q, "set") == '\0' ||
                strcmp (text (q, "set"), text (set, "set")) == 0) &&
        (context == -1 ||
         proto_context_shows ((uint32_t) context,
                              (uint32_t) json_integer_value (bits))))
      json_array_append_new (sets, json_deep_copy (set));
  }
  *result = json_pack ("{s:o}", "sets", sets);
  return S_OK;
}

static cowset_hresult
delete_one (struct session *s, json_t *q, json_t **result)
{
  const bool is_set = strcmp (text (q, "type"), "set") == 0;
  json_t *set, *snapshot;
  size_t i, k;

  json_array_foreach (s->f->finished, i, set) {
    json_t *snapshots = json_object_get (set, "snapshots");

    if (is_set && strcmp (text (set, "set"), text (q, "id")) == 0) {
      *result = json_pack ("{s:I, s:s}", "deleted",
                           (json_int_t) json_array_size (snapshots),
                           "nondeleted",
                           "00000000-0000-0000-0000-000000000000");
      json_array_remove (s->f->finished, i);
      return S_OK;
    }
    json_array_foreach (snapshots, k, snapshot)
      if (!is_set && strcmp (text (snapshot, "snapshot"),
                             text (q, "id")) == 0) {
        json_array_remove (snapshots, k);
        *result = json_pack ("{s:i, s:s}", "deleted", 1, "nondeleted",
                             "00000000-0000-0000-0000-000000000000");
        return S_OK;
      }
  }
  return req_fail (VSS_E_OBJECT_NOT_FOUND, "there is none");
}

static bool
is_finished (struct fake *f, const char *id)
{
  json_t *set;
  size_t i;

  json_array_foreach (f->finished, i, set)
    if (strcmp (text (set, "set"), id) == 0)
      return true;
  return false;
}

/* What a home is asked, and those who wait for it. */
static cowset_hresult
on_decision (struct fake *f, json_t *q, const char *op, json_t **result)
{
  const char *id = text (q, "set"), *key;
  json_t *set = json_object_get (f->voted, id), *list;

  if (strcmp (op, "decision") == 0)
    *result = json_pack ("{s:s}", "decision",
                         is_finished (f, id) ? "committed" :
                         json_object_get (f->open, id) ? "undecided"
                                                       : "aborted");
  else if (strcmp (op, "decisions") == 0)
    *result = json_pack ("{s:[]}", "decisions");
  else if (strcmp (op, "undecided") == 0) {
    list = json_array ();
    json_object_foreach (f->voted, key, set)
      json_array_append (list, set);
    *result = json_pack ("{s:o}", "sets", list);
  }
  else if (strcmp (op, "resolve") == 0) {
    if (set == NULL)
      return req_fail (VSS_E_OBJECT_NOT_FOUND, "nothing waits");
    if (json_is_true (json_object_get (q, "commit")))
      json_array_append (f->finished, set);
    json_object_del (f->voted, id);
  }
  return S_OK;
}

static cowset_hresult
on_set (struct session *s, json_t *q, const char *op)
{
  struct fake *f = s->f;
  json_t *set = json_object_get (f->open, text (q, "set"));

  if (strcmp (op, "set.abort") == 0 &&
      json_object_del (f->voted, text (q, "set")) == 0)
    return S_OK;
  if (set == NULL ||
      json_integer_value (json_object_get (set, "session")) != s->number)
    return req_fail (VSS_E_OBJECT_NOT_FOUND, "no such set");
  if (strcmp (op, "set.add") == 0)
    return set_add (s, q, set);
  if (strcmp (op, "set.finish") == 0)
    json_array_append (f->finished, set);
  if (strcmp (op, "set.vote") == 0) {
    json_object_set (set, "home", json_object_get (q, "home"));
    json_object_set (f->voted, text (q, "set"), set);
  }
  if (strcmp (op, "set.finish") == 0 || strcmp (op, "set.abort") == 0 ||
      strcmp (op, "set.vote") == 0)
    json_object_del (f->open, text (q, "set"));
  return S_OK;
}

static cowset_hresult
serve (struct session *s, json_t *q, json_t **result)
{
  const char *op = text (q, "op");

  if (strcmp (op, "set.start") == 0)
    return set_start (s, q);
  if (strncmp (op, "set.", 4) == 0)
    return on_set (s, q, op);
  if (strcmp (op, "decision") == 0 || strcmp (op, "decisions") == 0 ||
      strcmp (op, "undecided") == 0 || strcmp (op, "resolve") == 0 ||
      strcmp (op, "acknowledge") == 0)
    return on_decision (s->f, q, op, result);
  if (strcmp (op, "query") == 0)
    return query (s, q, result);
  if (strcmp (op, "delete") == 0)
    return delete_one (s, q, result);
  if (strcmp (op, "volumes") == 0) {
    *result = json_pack ("{s:[{s:s}, {s:s}, {s:s}]}", "volumes", "name", "a",
                         "name", "b", "name", "c");
    return S_OK;
  }
  if (strcmp (op, "providers") == 0) {
    *result = json_pack ("{s:[{s:s, s:s, s:i, s:s}]}", "providers", "id",
                         provider_id, "name", "cow", "type", 2, "version",
                         "1");
    return S_OK;
  }
  if (strcmp (op, "supported") == 0) {
    const char *volume = text (q, "volume"), *id = text (q, "provider");
    const json_int_t context =
      json_integer_value (json_object_get (q, "context"));

    if (strlen (volume) != 1 || !strchr ("abc", volume[0]))
      return req_fail (VSS_E_OBJECT_NOT_FOUND, "no such volume");
    if (id && *id && strcmp (id, provider_id) != 0)
      return req_fail (VSS_E_PROVIDER_NOT_REGISTERED, "no such provider");
    *result = json_pack ("{s:b}", "supported",
                         !(context & (VSS_VOLSNAP_ATTR_PLEX |
                                      VSS_VOLSNAP_ATTR_TRANSPORTABLE)) &&
                         (s->f->store ||
                          !(context & VSS_VOLSNAP_ATTR_PERSISTENT)));
    return S_OK;
  }
  return req_fail (E_NOTIMPL, "%s: unknown", op);
}

/* The cancel of whoever waits. */
static void
end_wait (void *opaque, uint64_t id)
{
  struct session *s = opaque;

  (void) id;
  LOCK_FOR_SCOPE (&s->f->lock);
  s->cancelled = true;
  pthread_cond_broadcast (&s->f->changed);
}

/* Wait for as long as the op is blocked.  True if it was cancelled. */
static bool
wait_locked (struct session *s, const char *op, struct req_cancel *cancel)
{
  struct req_ending ending = { .end = end_wait, .opaque = s, .id = 1 };
  struct fake *f = s->f;

  if (strcmp (f->block_op, op) != 0)
    return false;
  assert (cancel);
  s->cancelled = false;
  pthread_mutex_unlock (&f->lock);
  if (!req_cancel_begin (cancel, &ending)) {
    pthread_mutex_lock (&f->lock);
    return true;
  }
  pthread_mutex_lock (&f->lock);
  f->waiting++;
  pthread_cond_broadcast (&f->changed);
  while (!s->cancelled && strcmp (f->block_op, op) == 0)
    pthread_cond_wait (&f->changed, &f->lock);
  f->waiting--;
  pthread_mutex_unlock (&f->lock);
  req_cancel_end (cancel, &ending);
  pthread_mutex_lock (&f->lock);
  return s->cancelled;
}

static cowset_hresult
call (struct req_server *server, json_t *q, struct req_cancel *cancel,
      json_t **result)
{
  struct session *s = (struct session *) server;
  struct fake *f = s->f;
  const char *op = text (q, "op");
  json_t *answer = NULL;
  cowset_hresult hr;

  if (cancel && req_cancel_cancelled (cancel))
    return req_fail (E_ABORT, NULL);
  pthread_mutex_lock (&f->lock);
  json_object_set_new (
    f->counts, op,
    json_integer (json_integer_value (json_object_get (f->counts, op)) + 1));
  json_object_set_new (f->last, op, json_deep_copy (q));
  if (wait_locked (s, op, cancel))
    hr = req_fail (E_ABORT, NULL);
  else if (strcmp (f->fail_op, op) == 0) {
    f->fail_op[0] = '\0';
    hr = req_fail (f->fail_hr, "scripted");
    answer = f->fail_result;
    f->fail_result = NULL;
  }
  else
    hr = serve (s, q, &answer);
  if (strcmp (f->lose_op, op) == 0) {
    f->lose_op[0] = '\0';
    hr = req_fail (VSS_E_UNEXPECTED, "the answer was lost");
  }
  pthread_mutex_unlock (&f->lock);

  if (answer == NULL && COWSET_SUCCEEDED (hr))
    answer = json_object ();
  if (result)
    *result = answer;
  else
    json_decref (answer);
  return hr;
}

/* The session's end, as the server sees it. */
static void
close_session (struct req_server *server)
{
  struct session *s = (struct session *) server;
  json_t *set;
  const char *id;
  void *tmp;

  pthread_mutex_lock (&s->f->lock);
  json_object_foreach_safe (s->f->open, tmp, id, set)
    if (json_integer_value (json_object_get (set, "session")) == s->number)
      json_object_del (s->f->open, id);
  for (size_t i = json_array_size (s->f->finished); i-- > 0;) {
    set = json_array_get (s->f->finished, i);
    if (json_integer_value (json_object_get (set, "session")) == s->number &&
        json_is_true (json_object_get (set, "auto_release")))
      json_array_remove (s->f->finished, i);
  }
  pthread_mutex_unlock (&s->f->lock);
  req_server_clear (server);
  free (s);
}

static int
lost_fd (struct req_server *server)
{
  (void) server;
  return -1;
}

static void
lose (struct req_server *server)
{
  end_wait (server, 0);
}

static const struct req_server_ops ops = {
  .call = call,
  .lost_fd = lost_fd,
  .lose = lose,
  .close = close_session,
};

static struct req_server *
new_session (struct fake *f)
{
  struct session *s = calloc (1, sizeof *s);
  static _Atomic unsigned count;

  assert (s);
  s->base.ops = &ops;
  if (asprintf (&s->base.uri, "nbd+unix:///?socket=/fake-%u", count++) == -1)
    abort ();
  s->base.hello = json_pack ("{s:b, s:s}", "store", (int) f->store,
                             "machine", "fakehost");
  if (f->store)
    json_object_set_new (s->base.hello, "store_id",
                         json_string (f->store_id));
  s->f = f;
  s->number = ++f->next_session;
  return &s->base;
}

struct cowset *
fake_object (struct fake *f)
{
  struct cowset *c;

  if (COWSET_FAILED (req_object_new (new_session (f), &c)))
    abort ();
  return c;
}

cowset_hresult
fake_add (struct cowset *c, struct fake *f)
{
  return req_several_take (c, new_session (f));
}
