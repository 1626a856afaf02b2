/* fake-server.h - a scripted server for the tests of the requester.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Behaves as PROTOCOL.md says, in this process and without disks: volumes
 * "a", "b", "c", one provider, a store.  Objects over one fake are sessions of
 * the same server.  Any request can be made to fail or to wait.
 */
#ifndef FAKE_SERVER_H
#define FAKE_SERVER_H

#include "object.h"

struct fake;

struct fake *fake_new (void);
/* All of its objects have been released. */
void fake_free (struct fake *f);

/* Without a store: for objects made from here on. */
void fake_without_store (struct fake *f);

/* A new session, and an object over it in state NEW. */
struct cowset *fake_object (struct fake *f);

/* One more server for an object. */
cowset_hresult fake_add (struct cowset *c, struct fake *f);

/* The next request of this op fails with hr (and does nothing). */
void fake_fail (struct fake *f, const char *op, cowset_hresult hr);
/* The same, with a "result" (consumed) in the answer. */
void fake_fail_with (struct fake *f, const char *op, cowset_hresult hr,
                     json_t *result);

/* The next request of this op is done, and its answer lost. */
void fake_lose_answer (struct fake *f, const char *op);

/* Requests of this op wait until they are cancelled; NULL: none does. */
void fake_block (struct fake *f, const char *op);
/* Wait until one does. */
void fake_await (struct fake *f);

/* A backup components document that is valid: one snapshot, one writer "app"
 * with the components "kept" (selected and copied) and "left".
 */
extern const char fake_document[];

/* How many requests of this op there were. */
unsigned fake_count (struct fake *f, const char *op);

/* The last request of this op, borrowed, or NULL. */
json_t *fake_last (struct fake *f, const char *op);

/* Unfinished sets, and finished ones. */
size_t fake_open_sets (struct fake *f);
size_t fake_finished_sets (struct fake *f);
/* Those that wait for their home. */
size_t fake_voted_sets (struct fake *f);

#endif /* FAKE_SERVER_H */
