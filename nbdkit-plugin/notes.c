/* notes.c - what is kept with a set for its users.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The engine keeps bytes with a set, durably where the set is: here a JSON
 * object, of which members that are not known are passed over.
 *
 *   "consistency"          crash, file-system or application.  A set that
 *                          nobody has said anything of is crash-consistent, as
 *                          far as is known.
 *   "writers"              what each writer answered, see PROTOCOL.md
 *   "home", "home_uri"     of a part of a set over several servers: the store
 *                          that decides about it, and where that was
 *
 * Threads: any; made.note belongs to the busy request.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "base/bits.h"

#define WRITERS_MAX 256
#define TEXT_MAX_BYTES 1024

static bool
is_consistency (const char *text)
{
  return text && (strcmp (text, "crash") == 0 ||
                  strcmp (text, "file-system") == 0 ||
                  strcmp (text, "application") == 0);
}

/* --------------------------------------------------------------- checking */

struct member {
  const char *name;
  json_type type;               /* JSON_TRUE: true or false */
};

static const struct member writer_members[] = {
  { "writer", JSON_STRING },    { "instance", JSON_STRING },
  { "name", JSON_STRING },      { "kind", JSON_STRING },
  { "state", JSON_INTEGER },    { "failure", JSON_INTEGER },
  { "message", JSON_STRING },
};

static const struct member component_members[] = {
  { "type", JSON_INTEGER },     { "path", JSON_STRING },
  { "name", JSON_STRING },      { "selected", JSON_TRUE },
};

static bool
fits (json_t *v, json_type type)
{
  if (type == JSON_TRUE)
    return json_is_boolean (v);
  return json_typeof (v) == type &&
         (type != JSON_STRING || json_string_length (v) <= TEXT_MAX_BYTES);
}

/* What is known of an object, and as it should be.  NULL without memory. */
static json_t *
copy_members (json_t *from, const struct member *members, size_t count)
{
  json_t *to = json_object ();

  for (size_t i = 0; to && i < count; ++i) {
    json_t *v = json_object_get (from, members[i].name);

    if (v && fits (v, members[i].type))
      json_object_set (to, members[i].name, v);
  }
  return to;
}

static json_t *
copy_writer (json_t *from, bool with_components)
{
  json_t *to = copy_members (from, writer_members,
                             COW_ARRAY_SIZE (writer_members));
  json_t *list = json_object_get (from, "components"), *component;
  json_t *components = with_components ? json_array () : NULL;
  size_t i;

  if (components)
    json_array_foreach (list, i, component)
      json_array_append_new (components,
                             copy_members (component, component_members,
                                           COW_ARRAY_SIZE
                                             (component_members)));
  if (components)
    json_object_set_new (to, "components", components);
  return to;
}

static json_t *
copy_writers (json_t *from, bool with_components)
{
  json_t *to = json_array (), *writer;
  size_t i;

  json_array_foreach (from, i, writer)
    if (i < WRITERS_MAX && json_is_object (writer))
      json_array_append_new (to, copy_writer (writer, with_components));
  return to;
}

/* ---------------------------------------------------------------- keeping */

static int
keep (struct made *m)
{
  char *text = json_dumps (m->note, JSON_COMPACT);
  int r = text ? cow_set_annotate (m->set, text, strlen (text)) : -ENOMEM;

  free (text);
  return r;
}

int
note_home (struct made *m, const struct proto_id *home, const char *uri)
{
  if (m->note == NULL)
    m->note = json_object ();
  json_object_set_new (m->note, "home", op_proto_id (home));
  if (uri[0])
    json_object_set_new (m->note, "home_uri", op_text (uri));
  return keep (m);
}

/* Components are left out where they would be too much. */
static int
keep_said (struct made *m, const char *consistency, json_t *writers)
{
  int r = -E2BIG;

  json_decref (m->note);
  m->note = json_pack ("{s:s}", "consistency", consistency);
  if (m->note == NULL)
    return -ENOMEM;
  if (json_array_size (writers) == 0)
    return keep (m);
  for (int with = 1; r == -E2BIG && with >= 0; --with) {
    json_object_set_new (m->note, "writers", copy_writers (writers, with));
    r = keep (m);
  }
  if (r == -E2BIG) {
    json_object_del (m->note, "writers");
    r = keep (m);
  }
  return r;
}

/* Between the switch and the settling, for which writers do not wait. */
void
op_set_note (struct request *q)
{
  json_t *writers = json_object_get (q->in, "writers");
  const char *consistency;
  struct step step;

  if (!op_get_text (q, "consistency", &consistency))
    return;
  if (!is_consistency (consistency)) {
    op_fail (q, E_INVALIDARG, "member \"consistency\": is none of crash, "
             "file-system and application");
    return;
  }
  if (writers && !json_is_null (writers) && !json_is_array (writers)) {
    op_fail (q, E_INVALIDARG, "member \"writers\": must be an array");
    return;
  }
  if (!op_begin_step (&step, q, COW_SET_SWITCHED))
    return;
  if (keep_said (step.m, consistency, writers) < 0)
    op_fail (q, E_OUTOFMEMORY, "%s: the server is out of memory", step.name);
  op_end_step (&step);
}

/* ----------------------------------------------------------------- reading */

json_t *
note_of (const struct cow_id *id)
{
  void *text = NULL;
  size_t len = 0;
  json_t *note = NULL;

  if (cow_engine_annotation (engine, id, &text, &len) == 0 && len > 0)
    note = json_loadb (text, len, 0, NULL);
  free (text);
  if (!json_is_object (note)) {
    json_decref (note);
    note = json_object ();
  }
  if (!is_consistency (json_string_value (json_object_get (note,
                                                           "consistency"))))
    json_object_set_new (note, "consistency", json_string ("crash"));
  return note;
}
