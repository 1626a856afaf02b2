/* image.h - a sparse array of bytes in memory.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Kept in chunks of 4 KiB, each absent (a hole), unwritten (a hole for which
 * there is space), or data.  Up to 256 TiB.
 */
#ifndef SIM_IMAGE_H
#define SIM_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_CHUNK_BYTES 4096

struct sim_image {
  void *root;
  unsigned levels;              /* of the tree; 0: there is none */
  uint64_t chunks;              /* data or unwritten */
};

void sim_image_read (const struct sim_image *im, uint64_t offset, void *buf,
                     size_t len);
void sim_image_write (struct sim_image *im, uint64_t offset, const void *buf,
                      size_t len);

/* Whole chunks become absent, parts of others zero. */
void sim_image_punch (struct sim_image *im, uint64_t offset, uint64_t len);

/* Zeroes; absent and whole chunks become unwritten. */
void sim_image_zero (struct sim_image *im, uint64_t offset, uint64_t len);

/* Absent chunks become unwritten. */
void sim_image_allocate (struct sim_image *im, uint64_t offset, uint64_t len);

/* How many chunks a write there would add. */
uint64_t sim_image_missing (const struct sim_image *im, uint64_t offset,
                            uint64_t len);

/* Whether there is data at offset, and where that changes (limit at most). */
bool sim_image_extent (const struct sim_image *im, uint64_t offset,
                       uint64_t limit, uint64_t *end);

/* The next chunk with data from *offset on: where it is, and its bytes, until
 * the next change.  False if there is none.
 */
bool sim_image_next_data (const struct sim_image *im, uint64_t *offset,
                          const uint8_t **data);

/* Costs next to nothing: what is the same is shared.  An image and its copies
 * are for one thread at a time.
 */
void sim_image_copy (struct sim_image *to, const struct sim_image *from);
void sim_image_clear (struct sim_image *im);

#endif /* SIM_IMAGE_H */
