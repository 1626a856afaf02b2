/* id.c - new identifiers, and their text.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <uuid/uuid.h>

#include "base/annotate.h"
#include "base/id.h"
#include "base/sync.h"

STATIC_ASSERT (sizeof (uuid_t) == sizeof (struct cow_id));
STATIC_ASSERT (UUID_STR_LEN == COW_ID_TEXT_SIZE);

struct cow_id
cow_id_new (void)
{
  struct cow_id id;

  cow_random (id.b, sizeof id.b);
  id.b[6] = (id.b[6] & 0x0f) | 0x40; /* version 4: random */
  id.b[8] = (id.b[8] & 0x3f) | 0x80; /* variant of RFC 9562 */
  return id;
}

void
cow_id_format (const struct cow_id *id, char text[COW_ID_TEXT_SIZE])
{
  uuid_unparse_lower (id->b, text);
}
