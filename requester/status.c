/* status.c - the server as a whole.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include "object.h"
#include "props.h"
#include "uri.h"

/* What cowset_get_status() gives out. */
struct whole {
  struct cowset_status status;
  json_t *answer;               /* what the strings point to */
  json_t *hello;
  struct cowset_volume_prop *volumes;
  const struct cowset_volume_prop **pointers;
};

void
cowset_status_free (struct cowset_status *status)
{
  struct whole *w = (struct whole *) status;

  if (w == NULL)
    return;
  for (size_t i = 0; w->volumes && i < w->status.volumes; ++i)
    free ((char *) w->volumes[i].uri);
  free ((char *) w->status.uri);
  free (w->pointers);
  free (w->volumes);
  json_decref (w->hello);
  json_decref (w->answer);
  free (w);
}

static bool
read_volumes (struct whole *w, const struct req_server *server)
{
  json_t *volumes = json_object_get (w->answer, "volumes"), *json;
  const size_t count = json_array_size (volumes);
  size_t i;

  w->volumes = calloc (count + 1, sizeof *w->volumes);
  w->pointers = calloc (count + 1, sizeof *w->pointers);
  if (w->volumes == NULL || w->pointers == NULL)
    return false;
  w->status.volumes = count;
  w->status.volume = w->pointers;
  json_array_foreach (volumes, i, json) {
    struct cowset_volume_prop *v = &w->volumes[i];
    const char *uri;

    w->pointers[i] = v;
    v->name = req_json_text (json, "name");
    v->path = req_json_text (json, "path");
    v->size_bytes = req_json_count (json, "size");
    v->readonly = json_is_true (json_object_get (json, "readonly"));
    v->snapshots = req_json_count (json, "snapshots");
    v->epoch = req_json_count (json, "epoch");
    v->exceptions_blocks = req_json_count (json, "exceptions");
    v->first_touches = req_json_count (json, "first_touches");
    v->copied_bytes = req_json_count (json, "copied_bytes");
    v->zero_bytes = req_json_count (json, "zero_bytes");
    v->waiting = req_json_count (json, "waiting");
    uri = json_string_value (json_object_get (json, REQ_SERVER_URI));
    v->uri = req_uri_export (uri ? uri : server->uri, v->name);
    if (v->uri == NULL)
      return false;
  }
  return true;
}

static void
read_server (struct cowset_status *s, json_t *hello, json_t *answer)
{
  json_t *store = json_object_get (answer, "store");
  json_t *memory = json_object_get (answer, "memory");

  s->server = req_json_text (hello, "server");
  s->machine = req_json_text (hello, "machine");
  req_json_id (hello, "instance", &s->instance);
  s->has_store = json_is_true (json_object_get (hello, "store"));
  s->hold_limit_ms = req_json_count (hello, "hold_limit_ms");
  s->flush_limit_ms = req_json_count (hello, "flush_limit_ms");
  s->io = req_json_text (answer, "io");
  s->uptime_ms = req_json_count (answer, "uptime_ms");
  s->sets = req_json_count (answer, "sets");
  s->sessions = req_json_count (answer, "sessions");
  s->store_limit_bytes = req_json_count (store, "limit_bytes");
  s->store_used_bytes = req_json_count (store, "used_bytes");
  s->store_file_bytes = req_json_count (store, "file_bytes");
  s->store_written_bytes = req_json_count (store, "written_bytes");
  s->copied_bytes = req_json_count (store, "copied_bytes");
  s->zero_bytes = req_json_count (store, "zero_bytes");
  s->exceptions_blocks = req_json_count (store, "exceptions");
  s->invalidated = req_json_count (store, "invalidated");
  s->store_fill_rate = req_json_count (store, "fill_rate");
  s->store_full_in_s = json_object_get (store, "full_in_s")
                         ? req_json_count (store, "full_in_s")
                         : UINT64_MAX;
  s->store_path = req_json_text (store, "path");
  s->store_failed = json_is_true (json_object_get (store, "failed"));
  s->ring_bytes = req_json_count (memory, "ring_bytes");
  s->ring_dirty_bytes = req_json_count (memory, "ring_dirty_bytes");
  s->map_bytes = req_json_count (memory, "map_bytes");
}

/* The volumes of the other servers go to the first one's. */
static cowset_hresult
add_others (struct cowset *c, json_t *answer, bool *all_have_store)
{
  json_t *volumes = json_object_get (answer, "volumes");
  const size_t count = c->server_count;

  for (size_t i = 1; i < count; ++i) {
    CLEANUP_JSON json_t *other = NULL;
    cowset_hresult hr = req_request (c->servers[i], NULL, &other, "volumes",
                                     "{}");
    json_t *volume;
    size_t k;

    if (COWSET_FAILED (hr))
      return hr;
    json_array_foreach (json_object_get (other, "volumes"), k, volume)
      json_object_set_new (volume, REQ_SERVER_URI,
                           json_string (c->servers[i]->uri));
    json_array_extend (volumes, json_object_get (other, "volumes"));
    *all_have_store &= req_server_has_store (c->servers[i]);
  }
  return S_OK;
}

cowset_hresult
cowset_get_status (struct cowset *c, struct cowset_status **out)
{
  CLEANUP_JSON json_t *answer = NULL;
  struct req_server *server;
  bool all_have_store = true;
  struct whole *w;
  cowset_hresult hr;

  if (c == NULL || out == NULL)
    return req_fail_null ("cowset_get_status", c ? "out" : "the object");
  server = c->servers[0];
  hr = req_request (server, NULL, &answer, "status", "{}");
  if (COWSET_SUCCEEDED (hr))
    hr = add_others (c, answer, &all_have_store);
  if (COWSET_FAILED (hr))
    return REQ_ONLY (hr, VSS_E_BAD_STATE);
  w = calloc (1, sizeof *w);
  if (w == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  w->answer = json_incref (answer);
  w->hello = json_incref (server->hello);
  read_server (&w->status, w->hello, answer);
  w->status.has_store &= all_have_store;
  w->status.uri = req_uri_export (server->uri, "");
  if (w->status.uri == NULL || !read_volumes (w, server)) {
    cowset_status_free (&w->status);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  *out = &w->status;
  return S_OK;
}
