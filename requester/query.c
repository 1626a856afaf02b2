/* query.c - what there is: GetSnapshotProperties, Query and its enumerator.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <inttypes.h>
#include <string.h>

#include "object.h"
#include "props.h"
#include "several.h"

/* The sets of one server. */
static cowset_hresult
query_server (struct req_server *server, json_t *request, json_t **sets)
{
  CLEANUP_JSON json_t *answer = NULL;
  cowset_hresult hr = server->ops->call (server, request, NULL, &answer);
  json_t *array = json_object_get (answer, "sets");

  if (COWSET_FAILED (hr))
    return hr;
  if (!json_is_array (array))
    return req_fail (VSS_E_UNEXPECTED,
                     "%s: the server's answer has no list of sets",
                     server->uri);
  *sets = json_incref (array);
  return S_OK;
}

/* The set of the same id, or NULL. */
static json_t *
find_set (json_t *sets, json_t *like)
{
  const char *id = req_json_text (like, "set");
  json_t *set;
  size_t i;

  json_array_foreach (sets, i, set)
    if (strcmp (req_json_text (set, "set"), id) == 0)
      return set;
  return NULL;
}

/* A set over several servers is one: of its parts the first says what all have
 * in common; the longest hold counts.
 */
static void
merge_set (json_t *sets, json_t *part)
{
  json_t *set = find_set (sets, part);

  if (set == NULL) {
    json_array_append (sets, part);
    return;
  }
  json_array_extend (json_object_get (set, "snapshots"),
                     json_object_get (part, "snapshots"));
  json_object_set_new (set, "count",
                       json_integer ((json_int_t)
                                     (req_json_count (set, "count") +
                                      req_json_count (part, "count"))));
  if (req_json_count (part, "hold_ns") > req_json_count (set, "hold_ns"))
    json_object_set (set, "hold_ns", json_object_get (part, "hold_ns"));
}

static void
note_server (json_t *set, const struct req_server *server)
{
  json_t *snapshot;
  size_t i;

  json_array_foreach (json_object_get (set, "snapshots"), i, snapshot)
    json_object_set_new (snapshot, REQ_SERVER_URI, json_string (server->uri));
}

/* Of one that has no store nothing is in doubt. */
static bool
knows (const struct req_server *server, json_t *request)
{
  return strcmp (req_json_text (request, "op"), "undecided") != 0 ||
         json_object_get (server->hello, "store_id") != NULL;
}

static cowset_hresult
query_all (struct cowset *c, json_t *request, json_t **sets)
{
  CLEANUP_JSON json_t *all = json_array ();
  const size_t count = c->server_count;

  for (size_t i = 0; i < count; ++i) {
    CLEANUP_JSON json_t *some = NULL;
    cowset_hresult hr;
    json_t *part;
    size_t k;

    if (!knows (c->servers[i], request))
      continue;
    hr = query_server (c->servers[i], request, &some);
    if (COWSET_FAILED (hr))
      return hr;
    json_array_foreach (some, k, part) {
      note_server (part, c->servers[i]);
      merge_set (all, part);
    }
  }
  *sets = json_incref (all);
  return S_OK;
}

cowset_hresult
req_query_sets (struct cowset *c, uint32_t context,
                const struct proto_id *set, const struct proto_id *snapshot,
                json_t **sets)
{
  CLEANUP_JSON json_t *request =
    json_pack ("{s:s, s:I}", "op", "query", "context",
               context == VSS_CTX_ALL ? (json_int_t) -1
                                      : (json_int_t) context);

  if (request == NULL ||
      (set && json_object_set_new (request, "set", req_id_json (set))) ||
      (snapshot && json_object_set_new (request, "snapshot",
                                        req_id_json (snapshot))))
    return req_fail (E_OUTOFMEMORY, NULL);
  if (c->server_count == 1)
    return query_server (c->servers[0], request, sets);
  return query_all (c, request, sets);
}

cowset_hresult
req_doubtful_sets (struct cowset *c, json_t **sets)
{
  CLEANUP_JSON json_t *request = json_pack ("{s:s}", "op", "undecided");

  return request ? query_all (c, request, sets)
                 : req_fail (E_OUTOFMEMORY, NULL);
}

/* ------------------------------------------------------------ one snapshot */

/* What cowset_get_snapshot_properties() gives out. */
struct one {
  struct cowset_snapshot_prop prop;
  struct req_list *list;        /* owns what the strings point to */
};

cowset_hresult
cowset_get_snapshot_properties (struct cowset *c,
                                const struct cowset_id *snapshot,
                                struct cowset_snapshot_prop **prop)
{
  char text[COWSET_ID_TEXT_SIZE];
  struct req_list *list;
  struct proto_id id;
  struct one *one;
  json_t *sets;
  cowset_hresult hr;

  if (c == NULL || snapshot == NULL || prop == NULL)
    return req_fail_null ("GetSnapshotProperties", c == NULL ? "the object" :
                          snapshot == NULL ? "snapshot" : "prop");
  hr = req_check_state (c, CALL_GET_SNAPSHOT_PROPERTIES);
  if (COWSET_FAILED (hr))
    return hr;
  id = req_id_in (snapshot);
  hr = req_query_sets (c, VSS_CTX_ALL, NULL, &id, &sets);
  if (COWSET_SUCCEEDED (hr))
    hr = req_list_sets (c->servers[0], sets, VSS_OBJECT_SNAPSHOT, &list);
  if (COWSET_FAILED (hr))
    return REQ_ONLY (hr, VSS_E_BAD_STATE, VSS_E_OBJECT_NOT_FOUND,
                     VSS_E_PROVIDER_VETO, VSS_E_UNEXPECTED_PROVIDER_ERROR);

  for (size_t i = 0; i < list->count; ++i)
    if (cowset_id_equal (&list->snapshots[i].snapshot_id, snapshot)) {
      one = malloc (sizeof *one);
      if (one == NULL) {
        req_list_put (list);
        return req_fail (E_OUTOFMEMORY, NULL);
      }
      one->prop = list->snapshots[i];
      one->list = list;
      *prop = &one->prop;
      return S_OK;
    }
  req_list_put (list);
  cowset_id_format (snapshot, text);
  return req_fail (VSS_E_OBJECT_NOT_FOUND,
                   "%s: there is no finished snapshot of this id", text);
}

void
cowset_snapshot_prop_free (struct cowset_snapshot_prop *prop)
{
  struct one *one = (struct one *) prop;

  if (one) {
    req_list_put (one->list);
    free (one);
  }
}

/* ------------------------------------------------------------------- lists */

struct cowset_enum {
  pthread_mutex_t lock;
  size_t next;                  /* lock */
  struct req_list *list;
};

static cowset_hresult
enum_new (struct req_list *list, size_t next, struct cowset_enum **out)
{
  struct cowset_enum *e = calloc (1, sizeof *e);

  if (e == NULL) {
    req_list_put (list);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  pthread_mutex_init (&e->lock, NULL);
  e->next = next;
  e->list = list;
  *out = e;
  return S_OK;
}

static cowset_hresult
query_list (struct cowset *c, uint32_t context, enum cowset_object_type type,
            struct req_list **list)
{
  CLEANUP_JSON json_t *answer = NULL;
  cowset_hresult hr;

  if (type == VSS_OBJECT_PROVIDER)
    hr = req_request (c->servers[0], NULL, &answer, "providers", "{}");
  else
    hr = req_query_sets (c, context, NULL, NULL, &answer);
  if (COWSET_FAILED (hr))
    return hr;
  json_incref (answer);
  return type == VSS_OBJECT_PROVIDER
           ? req_list_providers (c->servers[0], answer, list)
           : req_list_sets (c->servers[0], answer, type, list);
}

cowset_hresult
cowset_query (struct cowset *c, const struct cowset_id *queried_id,
              enum cowset_object_type queried_type,
              enum cowset_object_type returned_type, struct cowset_enum **out)
{
  struct req_list *list;
  uint32_t context;
  cowset_hresult hr;

  if (c == NULL || out == NULL)
    return req_fail_null ("Query", c ? "out" : "the object");
  pthread_mutex_lock (&c->lock);
  hr = req_check_state_locked (c, CALL_QUERY);
  context = c->context;
  pthread_mutex_unlock (&c->lock);
  if (COWSET_FAILED (hr))
    return hr;
  if (queried_id && !cowset_id_is_null (queried_id))
    return req_fail (E_INVALIDARG, "Query: the id to ask for has to be "
                     "GUID_NULL");
  if (queried_type != VSS_OBJECT_NONE)
    return req_fail (E_INVALIDARG, "Query: the type to ask for has to be "
                     "VSS_OBJECT_NONE");
  if (returned_type != VSS_OBJECT_SNAPSHOT &&
      returned_type != VSS_OBJECT_SNAPSHOT_SET &&
      returned_type != VSS_OBJECT_PROVIDER)
    return req_fail (E_INVALIDARG, "Query: nothing of type %d can be listed",
                     (int) returned_type);
  req_bring_decisions (c);
  hr = query_list (c, context, returned_type, &list);
  if (COWSET_FAILED (hr))
    return REQ_ONLY (hr, VSS_E_BAD_STATE, VSS_E_OBJECT_NOT_FOUND,
                     VSS_E_PROVIDER_VETO, VSS_E_UNEXPECTED_PROVIDER_ERROR);
  return enum_new (list, 0, out);
}

cowset_hresult
cowset_query_doubtful (struct cowset *c, struct cowset_enum **out)
{
  struct req_list *list;
  json_t *sets;
  cowset_hresult hr;

  if (c == NULL || out == NULL)
    return req_fail_null ("cowset_query_doubtful", c ? "out" : "the object");
  hr = req_check_state (c, CALL_QUERY);
  if (COWSET_FAILED (hr))
    return hr;
  req_bring_decisions (c);
  hr = req_doubtful_sets (c, &sets);
  if (COWSET_SUCCEEDED (hr))
    hr = req_list_sets (c->servers[0], sets, VSS_OBJECT_SNAPSHOT_SET, &list);
  return COWSET_FAILED (hr) ? REQ_ONLY (hr, VSS_E_BAD_STATE)
                            : enum_new (list, 0, out);
}

cowset_hresult
cowset_enum_next (struct cowset_enum *e, unsigned count,
                  struct cowset_object_prop *items, unsigned *fetched)
{
  unsigned n = 0;

  if (e == NULL || items == NULL || (fetched == NULL && count != 1))
    return req_fail (E_POINTER, "Next: %s is NULL", e == NULL ? "the list" :
                     items == NULL ? "items" : "fetched");
  LOCK_FOR_SCOPE (&e->lock);
  while (n < count && e->next < e->list->count)
    items[n++] = e->list->items[e->next++];
  if (fetched)
    *fetched = n;
  return n == count ? S_OK : S_FALSE;
}

cowset_hresult
cowset_enum_skip (struct cowset_enum *e, unsigned count)
{
  size_t left;

  if (e == NULL)
    return req_fail (E_POINTER, "Skip: the list is NULL");
  LOCK_FOR_SCOPE (&e->lock);
  left = e->list->count - e->next;
  e->next += count < left ? count : left;
  return count <= left ? S_OK : S_FALSE;
}

cowset_hresult
cowset_enum_reset (struct cowset_enum *e)
{
  if (e == NULL)
    return req_fail (E_POINTER, "Reset: the list is NULL");
  LOCK_FOR_SCOPE (&e->lock);
  e->next = 0;
  return S_OK;
}

cowset_hresult
cowset_enum_clone (struct cowset_enum *e, struct cowset_enum **out)
{
  if (e == NULL || out == NULL)
    return req_fail (E_POINTER, "Clone: %s is NULL",
                     e ? "out" : "the list");
  LOCK_FOR_SCOPE (&e->lock);
  return enum_new (req_list_get (e->list), e->next, out);
}

void
cowset_enum_free (struct cowset_enum *e)
{
  if (e) {
    req_list_put (e->list);
    pthread_mutex_destroy (&e->lock);
    free (e);
  }
}
