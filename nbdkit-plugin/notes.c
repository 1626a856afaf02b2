/* notes.c - what is kept with a set for its users: how consistent it is.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The engine keeps bytes with a set, durably where the set is: here a JSON
 * object, {"consistency":"application"}, of which members that are not known
 * are passed over.  A set that nobody has said anything of is
 * crash-consistent, as far as is known.
 *
 * Threads: any.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "ops.h"

bool
note_is_valid (const char *consistency)
{
  return strcmp (consistency, "crash") == 0 ||
         strcmp (consistency, "file-system") == 0 ||
         strcmp (consistency, "application") == 0;
}

int
note_keep (struct cow_set *set, const char *consistency)
{
  json_t *o = json_pack ("{s:s}", "consistency", consistency);
  char *text = o ? json_dumps (o, JSON_COMPACT) : NULL;
  int r = text ? cow_set_annotate (set, text, strlen (text)) : -ENOMEM;

  free (text);
  json_decref (o);
  return r;
}

const char *
note_of (const struct cow_id *id, char out[NOTE_MAX])
{
  const char *consistency;
  void *text = NULL;
  size_t len = 0;
  json_t *o = NULL;

  memcpy (out, "crash", sizeof "crash");
  if (cow_engine_annotation (engine, id, &text, &len) == 0 && len > 0)
    o = json_loadb (text, len, 0, NULL);
  consistency = json_string_value (json_object_get (o, "consistency"));
  if (consistency && note_is_valid (consistency))
    memcpy (out, consistency, strlen (consistency) + 1);
  json_decref (o);
  free (text);
  return out;
}
