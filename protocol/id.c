/* id.c - identifiers and their text, by libuuid.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <string.h>

#include <uuid/uuid.h>

#include "protocol/id.h"

_Static_assert (sizeof (uuid_t) == sizeof (struct proto_id), "uuid_t");
_Static_assert (UUID_STR_LEN == PROTO_ID_TEXT_SIZE, "UUID_STR_LEN");

struct proto_id
proto_id_new (void)
{
  struct proto_id id;

  uuid_generate_random (id.b);
  return id;
}

void
proto_id_format (const struct proto_id *id, char text[PROTO_ID_TEXT_SIZE])
{
  uuid_unparse_lower (id->b, text);
}

bool
proto_id_parse (const char *text, struct proto_id *id)
{
  uuid_t u;

  /* uuid_parse() of some versions accepts what follows the 36th character. */
  if (strlen (text) != PROTO_ID_TEXT_SIZE - 1 || uuid_parse (text, u) != 0)
    return false;
  memcpy (id->b, u, sizeof id->b);
  return true;
}

bool
proto_id_is_null (const struct proto_id *id)
{
  return uuid_is_null (id->b);
}

bool
proto_id_equal (const struct proto_id *a, const struct proto_id *b)
{
  return memcmp (a->b, b->b, sizeof a->b) == 0;
}
