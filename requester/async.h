/* async.h - operations on threads of their own.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef REQ_ASYNC_H
#define REQ_ASYNC_H

#include "server.h"
#include "util.h"

/* The work of an operation.  Returns S_OK, E_ABORT after a cancel, or its
 * failure with the thread's message set.
 */
typedef cowset_hresult (*req_operation) (struct cowset_async *async,
                                         void *opaque);

/* Start it.  *out has two references: the user's, and one for whoever calls
 * req_async_join().  E_OUTOFMEMORY: nothing was started.
 */
cowset_hresult req_async_start (req_operation run, void *opaque,
                                struct cowset_async **out);

/* Wait for the operation's thread, and drop the reference. */
void req_async_join (struct cowset_async *async);

bool req_async_ended (struct cowset_async *async);

/* For the operation itself. */
struct req_cancel *req_async_canceller (struct cowset_async *async);
void req_async_set_phase (struct cowset_async *async, const char *phase);

#endif /* REQ_ASYNC_H */
