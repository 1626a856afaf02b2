/* id.h - the 128-bit identifiers that travel over the control channel.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Sixteen bytes in the order in which a UUID is printed (RFC 9562), as in the
 * frames; all zero is the null id, VSS's GUID_NULL.
 */
#ifndef PROTO_ID_H
#define PROTO_ID_H

#include <stdbool.h>
#include <stdint.h>

struct proto_id {
  uint8_t b[16];
};

#define PROTO_ID_TEXT_SIZE 37   /* 36 characters and the terminator */

/* A random one, version 4. */
struct proto_id proto_id_new (void);

/* Lower case, as in JSON and in the names of exports. */
void proto_id_format (const struct proto_id *id,
                      char text[PROTO_ID_TEXT_SIZE]);

/* The 36-character text in either case, and nothing else.  False if it is not
 * one; *id is then unchanged.
 */
bool proto_id_parse (const char *text, struct proto_id *id);

bool proto_id_is_null (const struct proto_id *id);
bool proto_id_equal (const struct proto_id *a, const struct proto_id *b);

#endif /* PROTO_ID_H */
