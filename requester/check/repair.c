/* repair.c - what can be put right without guessing.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Every repair is durable before the next finding is looked for.  A failed
 * write ends the check: what is there then is not known.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "check.h"

static int
write_bytes (struct image *im, struct finding *f, const void *data,
             uint64_t offset, uint64_t bytes)
{
  int rc = cow_file_pwrite (im->file, data, bytes, offset);

  if (rc == 0)
    rc = cow_file_sync (im->file);
  if (rc == 0)
    report_repaired (im->report, f);
  return rc;
}

int
repair_superblock (struct image *im, struct finding *f)
{
  if (!im->writable || f == NULL)
    return 0;
  return write_bytes (im, f, &im->super,
                      (uint64_t) im->super_damaged * COW_STORE_PAGE,
                      sizeof im->super);
}

int
repair_zero (struct image *im, struct finding *f, uint64_t offset,
             uint64_t bytes)
{
  CLEANUP_FREE uint8_t *zeroes = NULL;

  if (!im->writable || f == NULL)
    return 0;
  zeroes = calloc (1, bytes);
  if (zeroes == NULL)
    return -ENOMEM;
  return write_bytes (im, f, zeroes, offset, bytes);
}
