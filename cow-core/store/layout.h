/* layout.h - a segment, byte by byte.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A segment of the store's file: a header of 8 KiB, then its blocks, one after
 * the other.  All integers are little-endian.  A record's checksum is XXH3-64
 * of the block's content, seeded with store id, place and generation; the
 * header's is over bytes 16..8191 of the header, seeded with store id, the
 * segment's first place and its generation.
 */
#ifndef COW_STORE_LAYOUT_H
#define COW_STORE_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/le.h"

#define COW_SEGMENT_HEADER_BYTES 8192u
#define COW_SEGMENT_RECORDS 254u
#define COW_SEGMENT_PLACES 256u /* places are numbered in steps of this */
#define COW_SEGMENT_BYTES (1u << 20)    /* unless one block needs more */

#define COW_RECORD_UNUSED 1u

struct disk_record {
  le64 checksum;                /*  0 */
  le64 block;                   /*  8  in its volume */
  le32 epoch;                   /* 16 */
  le32 volume;                  /* 20 */
  le32 flags;                   /* 24  COW_RECORD_* */
  le32 reserved;                /* 28  zero */
};

struct disk_segment {
  uint8_t magic[8];             /*  0  "COWSEG\r\n" */
  le64 checksum;                /*  8 */
  uint8_t store[16];            /* 16  the store's id */
  le64 segment;                 /* 32  its number in the file */
  le32 generation;              /* 40 */
  le32 blocks;                  /* 44  records in use */
  le32 block_bytes;             /* 48 */
  le32 reserved[3];             /* 52  zero */
  struct disk_record record[COW_SEGMENT_RECORDS]; /* 64 */
};
_Static_assert (sizeof (struct disk_record) == 32, "record");
_Static_assert (offsetof (struct disk_segment, record) == 64, "records");
_Static_assert (sizeof (struct disk_segment) == COW_SEGMENT_HEADER_BYTES,
                "header");

#define COW_SEGMENT_MAGIC "COWSEG\r\n"

#endif /* COW_STORE_LAYOUT_H */
