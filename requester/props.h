/* props.h - the server's answers as the structures of cowset.h.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A list keeps the answer that it was made of: the strings point into it.
 */
#ifndef REQ_PROPS_H
#define REQ_PROPS_H

#include <stdatomic.h>

#include "server.h"
#include "util.h"

struct req_list {
  _Atomic unsigned refs;
  json_t *answer;
  size_t count;
  struct cowset_object_prop *items;

  /* What the items point to, beside the answer. */
  struct cowset_snapshot_prop *snapshots;
  const struct cowset_snapshot_prop **pointers;
  struct cowset_set_prop *sets;
  struct cowset_provider_prop *providers;
  char **strings;
  size_t string_count;
  void **blocks;                /* of the sets' writers */
  size_t block_count;
};

/* In a snapshot: its server, where there are several. */
#define REQ_SERVER_URI "server uri"

/* Lists of what the answers to "query" (its array "sets", consumed) and to
 * "providers" (consumed) have.  type is that of the items.  With one
 * reference.  VSS_E_UNEXPECTED if the answer makes no sense.
 */
cowset_hresult req_list_sets (const struct req_server *server, json_t *sets,
                              enum cowset_object_type type,
                              struct req_list **out);
cowset_hresult req_list_providers (const struct req_server *server,
                                   json_t *answer, struct req_list **out);

struct req_list *req_list_get (struct req_list *list);
void req_list_put (struct req_list *list);

/* A member's value; of another type, or missing: "" and 0. */
const char *req_json_text (json_t *object, const char *member);
uint64_t req_json_count (json_t *object, const char *member);
bool req_json_id (json_t *object, const char *member, struct cowset_id *id);

#endif /* REQ_PROPS_H */
