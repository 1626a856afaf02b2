/* context.h - snapshot contexts: which are legal, and what follows from one.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A context is one of six combinations of attributes, or VSS_CTX_ALL (to look
 * and to delete, not to create), with modifiers that a requester may add.
 */
#ifndef PROTO_CONTEXT_H
#define PROTO_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/cowset-codes.h"

/* The attributes that a requester may add to a context. */
#define PROTO_CONTEXT_MODIFIERS \
  (VSS_VOLSNAP_ATTR_NO_AUTORECOVERY | VSS_VOLSNAP_ATTR_TRANSPORTABLE | \
   VSS_VOLSNAP_ATTR_NOT_TRANSACTED | VSS_VOLSNAP_ATTR_DIFFERENTIAL | \
   VSS_VOLSNAP_ATTR_PLEX | VSS_VOLSNAP_ATTR_ROLLBACK_RECOVERY | \
   VSS_VOLSNAP_ATTR_TXF_RECOVERY)

/* Whether SetContext takes it: a context that exists, DIFFERENTIAL and PLEX
 * not both, and no modifiers with the CLIENT_ACCESSIBLE ones.
 */
bool proto_context_valid (uint32_t context);

/* Of a valid context.  VSS_CTX_ALL has none of these. */
bool proto_context_has_writers (uint32_t context);
bool proto_context_persistent (uint32_t context);
bool proto_context_auto_release (uint32_t context);

/* Whether a query in context shows a snapshot that has these attributes: the
 * same context, whatever the modifiers, or VSS_CTX_ALL.
 */
bool proto_context_shows (uint32_t context, uint32_t attributes);

/* "backup", "app-rollback"; NULL if the context (its modifiers put aside) is
 * none of the six, nor VSS_CTX_ALL.
 */
const char *proto_context_name (uint32_t context);

/* The reverse, in any case, with '_' or '-', with or without "VSS_CTX_", and
 * with modifiers after '+' ("nas-rollback+differential").  False if it is not
 * a valid context; *context is then unchanged.
 */
bool proto_context_parse (const char *text, uint32_t *context);

#endif /* PROTO_CONTEXT_H */
