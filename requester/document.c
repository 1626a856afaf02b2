/* document.c - the backup components document: written, checked, read.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * DOCUMENT.md has the format; the tables below are the same, and every
 * document that is loaded goes through them before anything else sees it.  A
 * document may come from anywhere: sizes, counts and lengths are limited, and
 * what it says is never taken as a place in memory or in the file system.
 */
#include <config.h>

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "document.h"
#include "props.h"
#include "protocol/context.h"
#include "protocol/name.h"

#define DOCUMENT_FORMAT "cowset-backup-components"
#define DOCUMENT_VERSION 1

#define TEXT_MAX 4096           /* bytes of any text in it */
#define DOCUMENT_MAX (16 * 1024 * 1024) /* bytes */
#define SNAPSHOTS_MAX 64
#define SERVERS_MAX 64
#define WRITERS_MAX 1024
#define COMPONENTS_MAX 16384    /* of each writer */

/* ----------------------------------------------------------------- writing */

static json_t *
id_json (const struct cowset_id *id)
{
  const struct proto_id in = req_id_in (id);

  return req_id_json (&in);
}

/* A writer's text may come from a path or from a program: what is no UTF-8
 * loses its bytes beyond ASCII.
 */
static json_t *
text_json (const char *text)
{
  json_t *json = json_string (text);
  CLEANUP_FREE char *copy = json ? NULL : strdup (text);

  if (json || copy == NULL)
    return json;
  for (char *p = copy; *p; ++p)
    if ((unsigned char) *p >= 0x80)
      *p = '?';
  return json_string (copy);
}

static json_t *
component_json (const struct req_component *component)
{
  json_t *json = json_pack (
    "{s:i, s:o, s:o, s:o, s:b}", "type", (int) component->type, "path",
    text_json (component->path), "name", text_json (component->name),
    "caption", text_json (component->caption), "selected",
    (int) component->selected);

  /* Not said is not there. */
  if (json && component->succeeded != REQ_SUCCEEDED_UNSAID &&
      json_object_set_new (json, "succeeded",
                           json_boolean (component->succeeded ==
                                         REQ_SUCCEEDED_YES)) == -1) {
    json_decref (json);
    return NULL;
  }
  return json;
}

json_t *
req_document_writer (struct req_writer *w)
{
  json_t *components = json_array ();
  cowset_hresult failure;
  char message[256];
  const enum cowset_writer_state state = req_writer_state (w, &failure,
                                                           message);

  for (size_t i = 0; i < w->component_count; ++i)
    if (json_array_append_new (components,
                               component_json (&w->components[i])) == -1) {
      json_decref (components);
      return NULL;
    }
  return json_pack ("{s:o, s:o, s:o, s:s, s:i, s:i, s:i, s:b, s:i, s:I, s:o,"
                    " s:o}",
                    "writer", id_json (&w->class_id), "instance",
                    id_json (&w->instance_id), "name", text_json (w->name), "kind",
                    w->ops->kind, "level", (int) w->level, "usage",
                    (int) w->usage, "source", (int) w->source,
                    "transaction_manager", (int) w->transaction_manager,
                    "state", (int) state, "failure", (json_int_t) failure,
                    "message", text_json (message), "components", components);
}

json_t *
req_document_writers (struct cowset *c)
{
  json_t *array = json_array ();
  const bool gathered = req_gathered (c);

  for (size_t i = 0; gathered && i < c->writer_count; ++i)
    if (c->writers[i]->takes_part &&
        json_array_append_new (array,
                               req_document_writer (c->writers[i])) == -1) {
      json_decref (array);
      return NULL;
    }
  return array;
}

static json_t *
servers_json (struct cowset *c)
{
  json_t *array = json_array ();

  for (size_t i = 0; i < c->server_count; ++i)
    if (json_array_append_new (
          array, json_pack ("{s:s, s:s}", "uri", c->servers[i]->uri,
                            "machine",
                            req_server_machine (c->servers[i]))) == -1) {
      json_decref (array);
      return NULL;
    }
  return array;
}

static json_t *
members_json (struct cowset *c)
{
  json_t *array = json_array ();

  for (size_t i = 0; i < c->member_count; ++i)
    if (json_array_append_new (
          array, json_pack ("{s:o, s:s, s:s}", "snapshot",
                            req_id_json (&c->members[i].snapshot), "volume",
                            c->members[i].volume, "server",
                            c->members[i].server->uri)) == -1) {
      json_decref (array);
      return NULL;
    }
  return array;
}

json_t *
req_document_build (struct cowset *c)
{
  json_t *servers = servers_json (c), *members = members_json (c);
  json_t *writers = req_document_writers (c);

  LOCK_FOR_SCOPE (&c->lock);
  /* Consumes all three, also where one is NULL, and is then NULL itself. */
  return json_pack (
    "{s:s, s:i, s:s, s:I, s:o, s:s, s:b, s:{s:b, s:b, s:i, s:b}, s:o, s:o,"
    " s:o}",
    "format", DOCUMENT_FORMAT, "version", DOCUMENT_VERSION, "library",
    PACKAGE_VERSION, "context", (json_int_t) c->context, "set", req_id_json (&c->set), "label",
    c->label ? c->label : "", "complete", (int) (c->state == STATE_COMPLETE),
    "backup", "select_components", (int) c->select_components,
    "bootable_state", (int) c->bootable, "type", (int) c->backup_type,
    "partial_files", (int) c->partial_files, "servers", servers, "snapshots",
    members, "writers", writers);
}

/* ---------------------------------------------------------------- checking */

enum kind { TEXT, ID, FLAG, NUMBER, OBJECT, LIST, END };

/* One member.  A number is from min to max, a text or list not longer than
 * max; `of' has the members of an object and of a list's items.
 */
struct rule {
  const char *name;
  enum kind kind;
  bool optional;
  json_int_t min, max;
  const struct rule *of;
};

static const struct rule backup_rules[] = {
  { "select_components", FLAG, false, 0, 0, NULL },
  { "bootable_state", FLAG, false, 0, 0, NULL },
  { "type", NUMBER, false, VSS_BT_UNDEFINED, VSS_BT_OTHER, NULL },
  { "partial_files", FLAG, false, 0, 0, NULL },
  { NULL, END, false, 0, 0, NULL },
};

static const struct rule server_rules[] = {
  { "uri", TEXT, false, 0, TEXT_MAX, NULL },
  { "machine", TEXT, false, 0, TEXT_MAX, NULL },
  { NULL, END, false, 0, 0, NULL },
};

static const struct rule snapshot_rules[] = {
  { "snapshot", ID, false, 0, 0, NULL },
  { "volume", TEXT, false, 0, PROTO_NAME_MAX, NULL },
  { "server", TEXT, false, 0, TEXT_MAX, NULL },
  { NULL, END, false, 0, 0, NULL },
};

static const struct rule component_rules[] = {
  { "type", NUMBER, false, VSS_CT_DATABASE, VSS_CT_FILEGROUP, NULL },
  { "path", TEXT, false, 0, TEXT_MAX, NULL },
  { "name", TEXT, false, 0, TEXT_MAX, NULL },
  { "caption", TEXT, false, 0, TEXT_MAX, NULL },
  { "selected", FLAG, false, 0, 0, NULL },
  { "succeeded", FLAG, true, 0, 0, NULL },
  { NULL, END, false, 0, 0, NULL },
};

static const struct rule writer_rules[] = {
  { "writer", ID, false, 0, 0, NULL },
  { "instance", ID, false, 0, 0, NULL },
  { "name", TEXT, false, 0, TEXT_MAX, NULL },
  { "kind", TEXT, false, 0, TEXT_MAX, NULL },
  { "level", NUMBER, false, VSS_APP_AUTO, VSS_APP_SYSTEM_RM, NULL },
  { "usage", NUMBER, false, VSS_UT_UNDEFINED, VSS_UT_OTHER, NULL },
  { "source", NUMBER, false, VSS_ST_UNDEFINED, VSS_ST_OTHER, NULL },
  { "transaction_manager", FLAG, false, 0, 0, NULL },
  { "state", NUMBER, false, VSS_WS_UNKNOWN, VSS_WS_FAILED_AT_BACKUPSHUTDOWN,
    NULL },
  { "failure", NUMBER, false, INT32_MIN, INT32_MAX, NULL },
  { "message", TEXT, false, 0, TEXT_MAX, NULL },
  { "components", LIST, false, 0, COMPONENTS_MAX, component_rules },
  { NULL, END, false, 0, 0, NULL },
};

static const struct rule document_rules[] = {
  { "library", TEXT, true, 0, TEXT_MAX, NULL },
  { "context", NUMBER, false, 0, UINT32_MAX, NULL },
  { "set", ID, false, 0, 0, NULL },
  { "label", TEXT, false, 0, PROTO_NAME_MAX, NULL },
  { "complete", FLAG, false, 0, 0, NULL },
  { "backup", OBJECT, false, 0, 0, backup_rules },
  { "servers", LIST, false, 0, SERVERS_MAX, server_rules },
  { "snapshots", LIST, false, 0, SNAPSHOTS_MAX, snapshot_rules },
  { "writers", LIST, false, 0, WRITERS_MAX, writer_rules },
  { NULL, END, false, 0, 0, NULL },
};

/* The place that is being checked, for the message. */
struct place {
  const struct place *in;
  const char *name;             /* NULL: an item of a list */
  size_t index;
};

static size_t
place_text (const struct place *place, char *text, size_t size)
{
  size_t n = place->in ? place_text (place->in, text, size) : 0;
  int more;

  if (n >= size)
    return n;
  if (place->name)
    more = snprintf (text + n, size - n, "%s%s", n ? "." : "", place->name);
  else
    more = snprintf (text + n, size - n, "[%zu]", place->index);
  return n + (more > 0 ? (size_t) more : 0);
}

static bool
wrong (const struct place *place, const char *what)
{
  char text[128];

  place_text (place, text, sizeof text);
  req_fail (VSS_E_INVALID_XML_DOCUMENT, "\"%s\" %s", text, what);
  return false;
}

static bool check_object (const struct place *place, json_t *json,
                          const struct rule *rules);

static bool
check_list (const struct place *place, json_t *json, const struct rule *rule)
{
  json_t *item;
  size_t i;

  if (!json_is_array (json))
    return wrong (place, "is not an array");
  if (json_array_size (json) > (size_t) rule->max)
    return wrong (place, "has too many items");
  json_array_foreach (json, i, item) {
    const struct place at = { place, NULL, i };

    if (!check_object (&at, item, rule->of))
      return false;
  }
  return true;
}

static bool
check_member (const struct place *place, json_t *json,
              const struct rule *rule)
{
  struct cowset_id id;

  switch (rule->kind) {
  case TEXT:
    if (!json_is_string (json))
      return wrong (place, "is not a text");
    return json_string_length (json) <= (size_t) rule->max ||
           wrong (place, "is too long");
  case ID:
    return cowset_id_parse (json_string_value (json), &id) ||
           wrong (place, "is not an id");
  case FLAG:
    return json_is_boolean (json) || wrong (place, "is not true or false");
  case NUMBER:
    if (!json_is_integer (json))
      return wrong (place, "is not an integer");
    return (json_integer_value (json) >= rule->min &&
            json_integer_value (json) <= rule->max) ||
           wrong (place, "is out of range");
  case OBJECT:
    return check_object (place, json, rule->of);
  case LIST:
    return check_list (place, json, rule);
  case END:
    break;
  }
  return false;
}

/* in is NULL for the document itself: names in messages begin below it. */
static bool
check_members (const struct place *in, json_t *json, const struct rule *rules)
{
  for (const struct rule *rule = rules; rule->name; ++rule) {
    const struct place at = { in, rule->name, 0 };
    json_t *member = json_object_get (json, rule->name);

    if (member == NULL && rule->optional)
      continue;
    if (member == NULL)
      return wrong (&at, "is missing");
    if (!check_member (&at, member, rule))
      return false;
  }
  return true;
}

static bool
check_object (const struct place *place, json_t *json,
              const struct rule *rules)
{
  return json_is_object (json) ? check_members (place, json, rules)
                               : wrong (place, "is not an object");
}

/* What no rule of one member can say. */
static bool
check_whole (json_t *document)
{
  const struct place context = { NULL, "context", 0 };
  const struct place label = { NULL, "label", 0 };
  const char *text = req_json_text (document, "label");
  json_t *snapshots = json_object_get (document, "snapshots");
  const uint32_t bits = (uint32_t) req_json_count (document, "context");

  if (!proto_context_valid (bits) || bits == VSS_CTX_ALL)
    return wrong (&context, "is not one in which a set can be made");
  if (*text && proto_name_check (text))
    return wrong (&label, "is not a label");
  for (size_t i = 0; i < json_array_size (snapshots); ++i)
    for (size_t k = 0; k < i; ++k) {
      const struct place list = { NULL, "snapshots", 0 };
      const struct place at = { &list, NULL, i };

      if (strcmp (req_json_text (json_array_get (snapshots, i), "snapshot"),
                  req_json_text (json_array_get (snapshots, k),
                                 "snapshot")) == 0)
        return wrong (&at, "is there twice");
    }
  return true;
}

static bool
check_document (json_t *document)
{
  json_t *version = json_object_get (document, "version");

  if (!json_is_object (document) ||
      strcmp (req_json_text (document, "format"), DOCUMENT_FORMAT) != 0) {
    req_fail (VSS_E_INVALID_XML_DOCUMENT, "it is not a backup components "
              "document: \"format\" would have to be \"" DOCUMENT_FORMAT "\"");
    return false;
  }
  if (!json_is_integer (version) ||
      json_integer_value (version) != DOCUMENT_VERSION) {
    req_fail (VSS_E_INVALID_XML_DOCUMENT, "it is of another version; this "
              "library reads version %d", DOCUMENT_VERSION);
    return false;
  }
  if (!check_members (NULL, document, document_rules))
    return false;
  return check_whole (document);
}

cowset_hresult
req_document_load (const char *call, const char *text, json_t **out)
{
  json_t *document;
  json_error_t error;

  if (strnlen (text, DOCUMENT_MAX + 1) > DOCUMENT_MAX)
    return req_fail (VSS_E_INVALID_XML_DOCUMENT,
                     "%s: the document is longer than %d bytes", call,
                     DOCUMENT_MAX);
  document = json_loads (text, JSON_REJECT_DUPLICATES, &error);
  if (document == NULL)
    return json_error_code (&error) == json_error_out_of_memory ?
      req_fail (E_OUTOFMEMORY, NULL) :
      req_fail (VSS_E_INVALID_XML_DOCUMENT,
                "%s: the document is not JSON: line %d: %s", call, error.line,
                error.text);
  if (!check_document (document)) {
    json_decref (document);
    req_fail_prefix ("the document");
    req_fail_prefix (call);
    return VSS_E_INVALID_XML_DOCUMENT;
  }
  *out = document;
  return S_OK;
}

/* ----------------------------------------------------------------- reading */

/* What is given out as a struct cowset_writer_metadata. */
struct whole {
  struct cowset_writer_metadata metadata;
  json_t *writer;               /* what the texts point to */
  struct cowset_component *components;
  const struct cowset_component **pointers;
};

void
cowset_writer_metadata_free (struct cowset_writer_metadata *metadata)
{
  struct whole *w = (struct whole *) metadata;

  if (w) {
    free (w->pointers);
    free (w->components);
    json_decref (w->writer);
    free (w);
  }
}

static int
small (json_t *object, const char *member)
{
  return (int) json_integer_value (json_object_get (object, member));
}

static bool
selected (json_t *component)
{
  return json_is_true (json_object_get (component, "selected"));
}

bool
req_document_has_selected (json_t *writer)
{
  json_t *component;
  size_t i;

  json_array_foreach (json_object_get (writer, "components"), i, component)
    if (selected (component))
      return true;
  return false;
}

static void
read_component (json_t *json, struct cowset_component *component)
{
  json_t *succeeded = json_object_get (json, "succeeded");

  component->type = (enum cowset_component_type) small (json, "type");
  component->logical_path = req_json_text (json, "path");
  component->name = req_json_text (json, "name");
  component->caption = req_json_text (json, "caption");
  component->selected = selected (json);
  component->backup_known = succeeded != NULL;
  component->backup_succeeded = json_is_true (succeeded);
}

cowset_hresult
req_document_metadata (json_t *writer, bool selected_only,
                       struct cowset_writer_metadata **out)
{
  json_t *components = json_object_get (writer, "components"), *component;
  const size_t count = json_array_size (components);
  struct whole *w = calloc (1, sizeof *w);
  size_t i;

  if (w == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  w->writer = json_incref (writer);
  w->components = calloc (count + 1, sizeof *w->components);
  w->pointers = calloc (count + 1, sizeof *w->pointers);
  if (w->components == NULL || w->pointers == NULL) {
    cowset_writer_metadata_free (&w->metadata);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  req_json_id (writer, "writer", &w->metadata.writer_id);
  req_json_id (writer, "instance", &w->metadata.instance_id);
  w->metadata.name = req_json_text (writer, "name");
  w->metadata.kind = req_json_text (writer, "kind");
  w->metadata.level = (enum cowset_application_level) small (writer, "level");
  w->metadata.usage = (enum cowset_usage_type) small (writer, "usage");
  w->metadata.source = (enum cowset_source_type) small (writer, "source");
  w->metadata.transaction_manager =
    json_is_true (json_object_get (writer, "transaction_manager"));
  w->metadata.component = w->pointers;
  json_array_foreach (components, i, component)
    if (!selected_only || selected (component)) {
      struct cowset_component *to =
        &w->components[w->metadata.components];

      read_component (component, to);
      w->pointers[w->metadata.components++] = to;
    }
  *out = &w->metadata;
  return S_OK;
}
