/* name.h - which names volumes and labels may have.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef PROTO_NAME_H
#define PROTO_NAME_H

#include <stdbool.h>

#define PROTO_NAME_MAX 64       /* bytes */

/* 1 to PROTO_NAME_MAX of [A-Za-z0-9_.-], beginning with a letter or digit,
 * without "..", and not "latest", "control" or shaped like an id: so that
 * NAME@SET, NAME@SET+w and NAME@A..B mean one thing each.  NULL if the name
 * is fine, else what is wrong with it, for people ("is empty").
 */
const char *proto_name_check (const char *name);

#endif /* PROTO_NAME_H */
