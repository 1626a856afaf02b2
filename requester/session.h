/* session.h - requests and answers over @control.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef REQ_SESSION_H
#define REQ_SESSION_H

#include "link.h"
#include "server.h"
#include "util.h"

/* A server over a link, which it owns from here on, also if it fails.  Checks
 * that a control channel is at the other end (before the first byte is
 * written, so that a URI of somebody's disk harms nothing) and says hello.
 * S_OK, or the codes of cowset_create(), with the message set.
 */
cowset_hresult req_session_new (struct req_link *link, const char *uri,
                                struct req_server **out);

#endif /* REQ_SESSION_H */
