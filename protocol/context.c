/* context.c - the table of contexts and modifiers.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "protocol/context.h"

struct name {
  const char *name;
  uint32_t bits;
};

static const struct name contexts[] = {
  { "backup", VSS_CTX_BACKUP },
  { "file-share-backup", VSS_CTX_FILE_SHARE_BACKUP },
  { "nas-rollback", VSS_CTX_NAS_ROLLBACK },
  { "app-rollback", VSS_CTX_APP_ROLLBACK },
  { "client-accessible", VSS_CTX_CLIENT_ACCESSIBLE },
  { "client-accessible-writers", VSS_CTX_CLIENT_ACCESSIBLE_WRITERS },
  { "all", VSS_CTX_ALL },
};

static const struct name modifiers[] = {
  { "no-autorecovery", VSS_VOLSNAP_ATTR_NO_AUTORECOVERY },
  { "transportable", VSS_VOLSNAP_ATTR_TRANSPORTABLE },
  { "not-transacted", VSS_VOLSNAP_ATTR_NOT_TRANSACTED },
  { "differential", VSS_VOLSNAP_ATTR_DIFFERENTIAL },
  { "plex", VSS_VOLSNAP_ATTR_PLEX },
  { "rollback-recovery", VSS_VOLSNAP_ATTR_ROLLBACK_RECOVERY },
  { "txf-recovery", VSS_VOLSNAP_ATTR_TXF_RECOVERY },
};

#define COUNT(array) (sizeof (array) / sizeof (array)[0])

static const struct name *
find_bits (uint32_t context)
{
  uint32_t base = context;

  if (context != VSS_CTX_ALL)
    base &= ~PROTO_CONTEXT_MODIFIERS;
  for (size_t i = 0; i < COUNT (contexts); ++i)
    if (contexts[i].bits == base)
      return &contexts[i];
  return NULL;
}

bool
proto_context_valid (uint32_t context)
{
  const uint32_t both = VSS_VOLSNAP_ATTR_DIFFERENTIAL | VSS_VOLSNAP_ATTR_PLEX;

  if (find_bits (context) == NULL)
    return false;
  if (context == VSS_CTX_ALL)
    return true;
  if ((context & both) == both)
    return false;
  return !((context & VSS_VOLSNAP_ATTR_CLIENT_ACCESSIBLE) &&
           (context & PROTO_CONTEXT_MODIFIERS));
}

bool
proto_context_has_writers (uint32_t context)
{
  return context != VSS_CTX_ALL && !(context & VSS_VOLSNAP_ATTR_NO_WRITERS);
}

bool
proto_context_persistent (uint32_t context)
{
  return context != VSS_CTX_ALL && (context & VSS_VOLSNAP_ATTR_PERSISTENT);
}

bool
proto_context_auto_release (uint32_t context)
{
  return context != VSS_CTX_ALL &&
         !(context & VSS_VOLSNAP_ATTR_NO_AUTO_RELEASE);
}

bool
proto_context_shows (uint32_t context, uint32_t attributes)
{
  const uint32_t bits = VSS_VOLSNAP_ATTR_PERSISTENT |
                        VSS_VOLSNAP_ATTR_CLIENT_ACCESSIBLE |
                        VSS_VOLSNAP_ATTR_NO_AUTO_RELEASE |
                        VSS_VOLSNAP_ATTR_NO_WRITERS;

  return context == VSS_CTX_ALL || (context & bits) == (attributes & bits);
}

const char *
proto_context_name (uint32_t context)
{
  const struct name *n = find_bits (context);

  return n ? n->name : NULL;
}

/* Compare len bytes of text with a name; '_' and '-' are the same. */
static bool
is_name (const char *text, size_t len, const char *name)
{
  if (strlen (name) != len)
    return false;
  for (size_t i = 0; i < len; ++i) {
    int c = tolower ((unsigned char) text[i]);

    if ((c == '_' ? '-' : c) != name[i])
      return false;
  }
  return true;
}

static bool
find_name (const struct name *table, size_t count, const char *text,
           size_t len, uint32_t *bits)
{
  for (size_t i = 0; i < count; ++i)
    if (is_name (text, len, table[i].name)) {
      *bits |= table[i].bits;
      return true;
    }
  return false;
}

bool
proto_context_parse (const char *text, uint32_t *context)
{
  uint32_t bits = 0;
  size_t len;

  if (strncasecmp (text, "VSS_CTX_", 8) == 0)
    text += 8;
  len = strcspn (text, "+");
  if (!find_name (contexts, COUNT (contexts), text, len, &bits))
    return false;
  for (text += len; *text == '+'; text += len) {
    text++;
    len = strcspn (text, "+");
    if (bits == VSS_CTX_ALL ||
        !find_name (modifiers, COUNT (modifiers), text, len, &bits))
      return false;
  }
  if (!proto_context_valid (bits))
    return false;
  *context = bits;
  return true;
}
