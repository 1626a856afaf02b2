/* several.h - one set over several servers.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef REQ_SEVERAL_H
#define REQ_SEVERAL_H

#include "object.h"

/* ------------------------------------------------------- the servers it has */

/* Connect to one more, and open the object's set there if it has one.  Codes
 * of cowset_create() and set.start, or
 * VSS_E_MAXIMUM_NUMBER_OF_REMOTE_MACHINES_REACHED.  c->order_lock is held.
 */
cowset_hresult req_several_add (struct cowset *c, const char *uri,
                                struct req_server **out);

/* The same for a server that is there; it is the object's from here on, also
 * on failure.
 */
cowset_hresult req_several_take (struct cowset *c, struct req_server *server);

/* Which server has this volume, and what it is called there (to be freed).
 * A name is looked for at all servers; a URI names its server, which is added
 * if add.  VSS_E_OBJECT_NOT_FOUND; E_INVALIDARG: two have one of that name.
 * c->order_lock is held if add.
 */
cowset_hresult req_several_find (struct cowset *c, const char *volume,
                                 bool add, struct req_server **server,
                                 char **name);

/* ----------------------------------------------------- the steps of a set */

/* The servers that have volumes of the set, each with a thread, for the time
 * in which it is made.
 */
struct req_crew;

/* cancel is the operation's. */
cowset_hresult req_crew_new (struct cowset *c, struct req_cancel *cancel,
                             struct req_crew **out);
void req_crew_free (struct req_crew *crew);
size_t req_crew_size (const struct req_crew *crew);

/* One request, {"set":ID} and (if option) {option: value}, at all servers at
 * once.  Returns when all have answered.
 *
 * The first failure ends the others' requests; it is what is returned, with
 * its message.  A server that has not answered after limit_ms, or 5 s after a
 * failure or a cancel, is given up: its connection is closed, with which the
 * server ends what it has of the set.  Then late is returned.
 */
cowset_hresult req_crew_step (struct req_crew *crew, const char *op,
                              const char *option, uint32_t value,
                              uint64_t limit_ms, cowset_hresult late);

/* The same in full.  The home of a set is the first of its servers; it decides
 * about one that lasts (decide.c).
 */
struct req_order {
  const char *op;
  const char *option;
  uint32_t value;
  json_t *more;                 /* further members, borrowed; or NULL */
  enum { REQ_EVERYWHERE, REQ_AT_HOME, REQ_ELSEWHERE } where;
  uint64_t limit_ms;
  cowset_hresult late;
  bool final;                   /* neither a cancel nor another's failure ends
                                 * it */
};
cowset_hresult req_crew_order (struct req_crew *crew,
                               const struct req_order *order);

struct req_server *req_crew_server (const struct req_crew *crew, size_t i);
/* What the i-th has answered to the last step of a crew of several: S_FALSE if
 * it was not asked.  *result is a new reference, or NULL.
 */
cowset_hresult req_crew_answer (struct req_crew *crew, size_t i,
                                json_t **result);

/* --------------------------------------------------------- sets that last */

/* Whether all servers of the set can take part in one that lasts; else
 * VSS_E_VOLUME_NOT_SUPPORTED.
 */
cowset_hresult req_can_decide (const struct req_server *server);

/* The last steps, instead of set.finish, of a set that lasts and is over
 * several servers.  S_OK: it was decided that the set is; a server that was
 * lost meanwhile learns of it later.  A failure: that it is not, and it has to
 * be aborted; but *in_doubt says that the home was lost while it decided, and
 * nothing must be done.
 */
cowset_hresult req_decide (struct cowset *c, struct req_crew *crew,
                           uint64_t limit_ms, bool *in_doubt);

/* Bring what the object's servers have decided to those of them that wait for
 * it, as far as possible.
 */
void req_bring_decisions (struct cowset *c);

/* The sets that are in doubt at the object's servers: a new reference to an
 * array like that of req_query_sets().
 */
cowset_hresult req_doubtful_sets (struct cowset *c, json_t **sets);

/* End the set at all servers, whatever it is there, finished included.  Not
 * to be cancelled.  The thread's message is left alone.
 */
void req_crew_abort (struct req_crew *crew);

/* ----------------------------------------------------------- afterwards */

/* A set that ends with its object is over as soon as one of its servers has
 * gone: the others then delete what they have of it.
 */
cowset_hresult req_several_watch (struct cowset *c);
void req_several_unwatch (struct cowset *c);

#endif /* REQ_SEVERAL_H */
