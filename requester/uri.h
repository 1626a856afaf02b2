/* uri.h - NBD URIs of one server.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef REQ_URI_H
#define REQ_URI_H

#include <stdbool.h>

/* Whether it looks like an NBD URI; libnbd has the last word. */
bool req_uri_check (const char *uri);

/* The URI of another export of the server at uri: everything but the path
 * (the export's name) and a fragment is kept.  An empty name gives the
 * server's own.  To be freed; NULL without memory.
 */
char *req_uri_export (const char *uri, const char *export_name);

/* The name of the export at uri, without its escapes.  To be freed; NULL
 * without memory.
 */
char *req_uri_volume (const char *uri);

#endif /* REQ_URI_H */
