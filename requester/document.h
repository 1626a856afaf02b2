/* document.h - the backup components document, and what is read from it.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * DOCUMENT.md has the format.
 */
#ifndef REQ_DOCUMENT_H
#define REQ_DOCUMENT_H

#include "object.h"

/* The object's document.  c->order_lock is held, c->lock is not.  NULL without
 * memory.
 */
json_t *req_document_build (struct cowset *c);

/* Parse a document that may come from anywhere.  *out is valid in all its
 * members.  VSS_E_INVALID_XML_DOCUMENT, naming what is wrong, with call in
 * front; E_OUTOFMEMORY.
 */
cowset_hresult req_document_load (const char *call, const char *text,
                                  json_t **out);

/* The writers that take part, as the document has them; NULL without memory.
 * order_lock is held, or it is DoSnapshotSet's thread that asks.
 */
json_t *req_document_writers (struct cowset *c);

/* A writer as the document has it; NULL without memory.  order_lock is held. */
json_t *req_document_writer (struct req_writer *w);

/* The public form of such a writer (borrowed), with all of its components or
 * only those that are part of the backup.
 */
cowset_hresult req_document_metadata (json_t *writer, bool selected_only,
                                      struct cowset_writer_metadata **out);

/* Whether a component of it is part of the backup. */
bool req_document_has_selected (json_t *writer);

#endif /* REQ_DOCUMENT_H */
