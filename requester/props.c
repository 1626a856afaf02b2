/* props.c - reads what the server lists, with distrust.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * An id that is missing or malformed makes the answer nonsense; anything else
 * that is missing is empty or 0, so that an older server's answer can be read.
 */
#include <config.h>

#include <string.h>

#include "props.h"
#include "uri.h"

/* 1601 to 1970, in units of 100 ns. */
#define FILETIME_OF_1970 INT64_C (116444736000000000)

const char *
req_json_text (json_t *object, const char *member)
{
  const char *text = json_string_value (json_object_get (object, member));

  return text ? text : "";
}

uint64_t
req_json_count (json_t *object, const char *member)
{
  const json_int_t n = json_integer_value (json_object_get (object, member));

  return n > 0 ? (uint64_t) n : 0;
}

bool
req_json_id (json_t *object, const char *member, struct cowset_id *id)
{
  return cowset_id_parse (json_string_value (json_object_get (object,
                                                              member)), id);
}

static bool
flag (json_t *object, const char *member)
{
  return json_is_true (json_object_get (object, member));
}

/* NULL where the text is not there. */
static const char *
optional (json_t *object, const char *member)
{
  return json_string_value (json_object_get (object, member));
}

static void
list_free (struct req_list *list)
{
  for (size_t i = 0; i < list->string_count; ++i)
    free (list->strings[i]);
  for (size_t i = 0; i < list->block_count; ++i)
    free (list->blocks[i]);
  json_decref (list->answer);
  free (list->blocks);
  free (list->strings);
  free (list->providers);
  free (list->sets);
  free (list->pointers);
  free (list->snapshots);
  free (list->items);
  free (list);
}

struct req_list *
req_list_get (struct req_list *list)
{
  atomic_fetch_add_explicit (&list->refs, 1, memory_order_relaxed);
  return list;
}

void
req_list_put (struct req_list *list)
{
  if (list &&
      atomic_fetch_sub_explicit (&list->refs, 1, memory_order_acq_rel) == 1)
    list_free (list);
}

static cowset_hresult
nonsense (const struct req_server *server, const char *what)
{
  return req_fail (VSS_E_UNEXPECTED,
                   "%s: the server's list of %s makes no sense", server->uri,
                   what);
}

static bool
read_snapshot (const struct req_server *server, struct req_list *list,
               json_t *set, json_t *json, struct cowset_snapshot_prop *p)
{
  const char *uri;

  if (!req_json_id (json, "snapshot", &p->snapshot_id) ||
      !req_json_id (set, "set", &p->set_id))
    return false;
  /* The provider may be one that this version does not know. */
  req_json_id (json, "provider", &p->provider_id);
  p->snapshots_count = (int32_t) req_json_count (set, "count");
  p->device = req_json_text (json, "device");
  p->original_volume = req_json_text (json, "volume");
  p->originating_machine = req_json_text (set, "machine");
  p->service_machine = req_server_machine (server);
  p->attributes = (uint32_t) req_json_count (json, "attributes");
  p->created_ns = (int64_t) req_json_count (set, "created");
  p->creation_timestamp = p->created_ns / 100 + FILETIME_OF_1970;
  p->status = (enum cowset_snapshot_state) req_json_count (json, "state");
  p->size_bytes = req_json_count (json, "size");
  p->exceptions_blocks = req_json_count (json, "exceptions");
  p->alive = flag (json, "alive");
  p->end = p->alive ? NULL : optional (json, "end");
  p->reason = p->alive ? NULL : optional (json, "reason");

  uri = optional (json, REQ_SERVER_URI);
  p->uri = req_uri_export (uri ? uri : server->uri, p->device);
  if (p->uri)
    list->strings[list->string_count++] = (char *) p->uri;
  return true;
}

static void
read_component (json_t *json, struct cowset_component *p)
{
  p->type = (enum cowset_component_type) req_json_count (json, "type");
  p->logical_path = req_json_text (json, "path");
  p->name = req_json_text (json, "name");
  p->caption = "";
  p->selected = flag (json, "selected");
}

static void
read_writer (json_t *json, struct cowset_set_writer *p,
             struct cowset_component *components,
             const struct cowset_component **pointers)
{
  json_t *array = json_object_get (json, "components"), *component;
  size_t i;

  req_json_id (json, "writer", &p->writer_id);
  req_json_id (json, "instance", &p->instance_id);
  p->name = req_json_text (json, "name");
  p->kind = req_json_text (json, "kind");
  p->state = (enum cowset_writer_state) req_json_count (json, "state");
  p->failure =
    (cowset_hresult) json_integer_value (json_object_get (json, "failure"));
  p->message = req_json_text (json, "message");
  p->components = json_array_size (array);
  p->component = pointers;
  json_array_foreach (array, i, component) {
    read_component (component, &components[i]);
    pointers[i] = &components[i];
  }
}

/* Memory that goes with the list. */
static void *
take (struct req_list *list, size_t count, size_t size)
{
  void *block = calloc (count, size);

  if (block)
    list->blocks[list->block_count++] = block;
  return block;
}

/* False without memory. */
static bool
read_writers (struct req_list *list, json_t *json, struct cowset_set_prop *p)
{
  json_t *array = json_object_get (json, "writers"), *writer;
  const size_t count = json_array_size (array);
  size_t i, total = 0, n = 0;
  struct cowset_set_writer *writers;
  const struct cowset_set_writer **pointers;
  struct cowset_component *components;
  const struct cowset_component **component_pointers;

  if (count == 0)
    return true;
  json_array_foreach (array, i, writer)
    total += json_array_size (json_object_get (writer, "components"));
  writers = take (list, count, sizeof *writers);
  pointers = take (list, count, sizeof *pointers);
  components = take (list, total + 1, sizeof *components);
  component_pointers = take (list, total + 1, sizeof *component_pointers);
  if (!writers || !pointers || !components || !component_pointers)
    return false;
  json_array_foreach (array, i, writer) {
    read_writer (writer, &writers[i], components + n, component_pointers + n);
    pointers[i] = &writers[i];
    n += writers[i].components;
  }
  p->writers = count;
  p->writer = pointers;
  return true;
}

static bool
read_set (struct req_list *list, json_t *json, struct cowset_set_prop *p)
{
  if (!req_json_id (json, "set", &p->set_id))
    return false;
  p->label = req_json_text (json, "label");
  p->context = (uint32_t) req_json_count (json, "context");
  p->persistent = flag (json, "persistent");
  p->auto_release = flag (json, "auto_release");
  p->number = req_json_count (json, "number");
  p->created_ns = (int64_t) req_json_count (json, "created");
  p->hold_ns = req_json_count (json, "hold_ns");
  p->settle_ns = req_json_count (json, "settle_ns");
  p->snapshots_count = (int32_t) req_json_count (json, "count");
  p->machine = req_json_text (json, "machine");
  p->consistency = optional (json, "consistency");
  if (p->consistency == NULL)
    p->consistency = "crash";
  if (!read_writers (list, json, p))
    return false;
  p->in_doubt = req_json_id (json, "home", &p->home);
  p->home_uri = p->in_doubt ? req_json_text (json, "home_uri") : NULL;
  p->snapshots = json_array_size (json_object_get (json, "snapshots"));
  return true;
}

/* Room for everything, so that pointers into it stay valid. */
static struct req_list *
list_new (size_t sets, size_t snapshots, size_t providers)
{
  struct req_list *list = calloc (1, sizeof *list);

  if (list == NULL)
    return NULL;
  atomic_init (&list->refs, 1);
  list->items = calloc (sets + snapshots + providers + 1,
                        sizeof *list->items);
  list->snapshots = calloc (snapshots + 1, sizeof *list->snapshots);
  list->pointers = calloc (snapshots + 1, sizeof *list->pointers);
  list->strings = calloc (snapshots + 1, sizeof *list->strings);
  list->sets = calloc (sets + 1, sizeof *list->sets);
  list->blocks = calloc (4 * sets + 1, sizeof *list->blocks);
  list->providers = calloc (providers + 1, sizeof *list->providers);
  if (list->items && list->snapshots && list->pointers && list->strings &&
      list->sets && list->blocks && list->providers)
    return list;
  list_free (list);
  return NULL;
}

cowset_hresult
req_list_sets (const struct req_server *server, json_t *sets,
               enum cowset_object_type type, struct req_list **out)
{
  struct req_list *list;
  size_t i, k, total = 0, n = 0;
  json_t *set, *json;

  json_array_foreach (sets, i, set)
    total += json_array_size (json_object_get (set, "snapshots"));
  list = list_new (json_array_size (sets), total, 0);
  if (list == NULL) {
    json_decref (sets);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  list->answer = sets;

  json_array_foreach (sets, i, set) {
    struct cowset_set_prop *p = &list->sets[i];

    if (!read_set (list, set, p))
      goto bad;
    p->snapshot = list->pointers + n;
    json_array_foreach (json_object_get (set, "snapshots"), k, json) {
      if (!read_snapshot (server, list, set, json, &list->snapshots[n]))
        goto bad;
      list->pointers[n] = &list->snapshots[n];
      if (type == VSS_OBJECT_SNAPSHOT) {
        list->items[n].type = type;
        list->items[n].u.snapshot = &list->snapshots[n];
      }
      n++;
    }
    if (type == VSS_OBJECT_SNAPSHOT_SET) {
      list->items[i].type = type;
      list->items[i].u.set = p;
    }
  }
  list->count = type == VSS_OBJECT_SNAPSHOT ? n : json_array_size (sets);
  if (list->string_count < n) {
    list_free (list);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  *out = list;
  return S_OK;

 bad:
  list_free (list);
  return nonsense (server, "sets");
}

cowset_hresult
req_list_providers (const struct req_server *server, json_t *answer,
                    struct req_list **out)
{
  json_t *providers = json_object_get (answer, "providers"), *json;
  struct req_list *list = list_new (0, 0, json_array_size (providers));
  size_t i;

  if (list == NULL) {
    json_decref (answer);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  list->answer = answer;
  json_array_foreach (providers, i, json) {
    struct cowset_provider_prop *p = &list->providers[i];

    if (!req_json_id (json, "id", &p->provider_id)) {
      list_free (list);
      return nonsense (server, "providers");
    }
    p->name = req_json_text (json, "name");
    p->type = (enum cowset_provider_type) req_json_count (json, "type");
    p->version = req_json_text (json, "version");
    list->items[i].type = VSS_OBJECT_PROVIDER;
    list->items[i].u.provider = p;
    list->count++;
  }
  *out = list;
  return S_OK;
}
