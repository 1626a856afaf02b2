/* fuzz-document.c - backup components documents from anywhere.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Whatever is loaded can be read in full, and is still valid when it is
 * written again.
 */
#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "document.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
read_all (json_t *document)
{
  json_t *writers = json_object_get (document, "writers"), *writer;
  size_t i;

  json_array_foreach (writers, i, writer) {
    struct cowset_writer_metadata *m;

    if (COWSET_FAILED (req_document_metadata (writer, false, &m)))
      continue;
    if (m->name == NULL || m->kind == NULL)
      abort ();
    for (size_t k = 0; k < m->components; ++k)
      if (m->component[k]->name == NULL ||
          m->component[k]->logical_path == NULL ||
          (m->component[k]->selected && !req_document_has_selected (writer)))
        abort ();
    cowset_writer_metadata_free (m);
  }
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  json_t *document, *again;
  char *text = malloc (size + 1);

  if (text == NULL)
    return 0;
  memcpy (text, data, size);
  text[size] = '\0';
  if (COWSET_SUCCEEDED (req_document_load ("fuzz", text, &document))) {
    char *written = json_dumps (document, 0);

    read_all (document);
    if (written == NULL ||
        COWSET_FAILED (req_document_load ("fuzz", written, &again)))
      abort ();
    free (written);
    json_decref (again);
    json_decref (document);
  }
  free (text);
  return 0;
}
