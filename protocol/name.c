/* name.c - the syntax of names and labels.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <string.h>

#include "protocol/id.h"
#include "protocol/name.h"

/* Not isalnum(): the locale has no say in this. */
#define ALNUM \
  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

const char *
proto_name_check (const char *name)
{
  struct proto_id id;
  size_t len = strlen (name);

  if (len == 0)
    return "is empty";
  if (len > PROTO_NAME_MAX)
    return "is longer than 64 characters";
  if (strspn (name, ALNUM) == 0)
    return "does not begin with a letter or a digit";
  if (strspn (name, ALNUM "_.-") != len)
    return "has a character other than letters, digits, '_', '.' and '-'";
  if (strstr (name, "..") != NULL)
    return "has \"..\" in it";
  if (strcmp (name, "latest") == 0 || strcmp (name, "control") == 0)
    return "is reserved";
  if (proto_id_parse (name, &id))
    return "has the form of an id";
  return NULL;
}
