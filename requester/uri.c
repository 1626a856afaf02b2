/* uri.c - takes an NBD URI apart: SCHEME://AUTHORITY[/EXPORT][?QUERY][#...].
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "uri.h"
#include "util.h"

bool
req_uri_check (const char *uri)
{
  size_t scheme = strcspn (uri, ":/?#");

  return strncasecmp (uri, "nbd", 3) == 0 &&
         strncmp (uri + scheme, "://", 3) == 0;
}

/* Of the bytes of a path's segment, those that need no escape (RFC 3986). */
static bool
is_plain (char c)
{
  return strchr ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                 "0123456789-._~@:+", c) != NULL;
}

static void
escape (char *out, const char *name)
{
  for (; *name; ++name)
    if (is_plain (*name))
      *out++ = *name;
    else {
      snprintf (out, 4, "%%%02X", (unsigned char) *name);
      out += 3;
    }
  *out = '\0';
}

char *
req_uri_export (const char *uri, const char *export_name)
{
  CLEANUP_FREE char *name = malloc (strlen (export_name) * 3 + 1);
  const char *authority = strstr (uri, "://");
  const char *query;
  size_t head, tail;
  char *out;

  if (name == NULL)
    return NULL;
  escape (name, export_name);

  authority = authority ? authority + 3 : uri;
  head = (size_t) (authority - uri) + strcspn (authority, "/?#");
  query = uri + head;
  query += strcspn (query, "?#");
  tail = *query == '?' ? strcspn (query, "#") : 0;
  if (asprintf (&out, "%.*s/%s%.*s", (int) head, uri, name, (int) tail,
                query) < 0)
    return NULL;
  return out;
}

static int
hex (char c)
{
  const char *digits = "0123456789abcdef", *at;

  at = c ? strchr (digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;
  return at ? (int) (at - digits) : -1;
}

char *
req_uri_volume (const char *uri)
{
  const char *at = strstr (uri, "://");
  char *name, *out;
  size_t len;

  at = at ? at + 3 : uri;
  at += strcspn (at, "/?#");
  at += *at == '/';
  len = strcspn (at, "?#");
  name = out = malloc (len + 1);
  if (name == NULL)
    return NULL;
  for (const char *end = at + len; at < end; ++at)
    if (*at == '%' && hex (at[1]) >= 0 && hex (at[2]) >= 0) {
      *out++ = (char) (hex (at[1]) * 16 + hex (at[2]));
      at += 2;
    }
    else
      *out++ = *at;
  *out = '\0';
  return name;
}
