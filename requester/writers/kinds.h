/* kinds.h - making writers of each kind.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef REQ_KINDS_H
#define REQ_KINDS_H

#include "writers/writer.h"

/* Add to the object what the text names: "exec:DIR" (a writer for each program
 * in it), "exec:PROGRAM", "fsfreeze:MOUNT-POINT" or "qga:SOCKET".
 * E_INVALIDARG with what is wrong with it; some of a directory's may have been
 * added then.
 */
cowset_hresult req_kinds_add (struct cowset *c, const char *text);

/* The mount point of a writer of kind fsfreeze, else NULL. */
const char *req_kinds_mount (const struct req_writer *w);

#endif /* REQ_KINDS_H */
