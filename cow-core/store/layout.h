/* layout.h - the store's file, byte by byte, but for the journal's records.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * FORMAT.md has the same as tables, and how to read them.  A file without a
 * name has segments only, from its beginning on.
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

/* ---- in front of the segments, in a file with a name */

#define COW_STORE_FILE "cowset.store"
#define COW_STORE_LIVE "LIVE"
#define COW_STORE_MAGIC "COWSET\r\n"
#define COW_STORE_VERSION 1u
#define COW_STORE_PAGE 4096u

struct disk_superblock {
  uint8_t magic[8];             /*  0 */
  le64 checksum;                /*  8 */
  le32 version;                 /* 16 */
  le32 block_bytes;             /* 20 */
  le64 features_refuse;         /* 24  unknown bit: do not open */
  le64 features_ignore;         /* 32  unknown bit: no matter */
  le64 features_clear;          /* 40  unknown bit: clear before writing */
  uint8_t store[16];            /* 48 */
  le64 area_bytes;              /* 64 */
  le32 segment_bytes;           /* 72 */
  le32 capacity;                /* 76 */
  le64 created;                 /* 80  ns since 1970 UTC */
  uint8_t reserved[4008];       /* 88  zero */
};
_Static_assert (sizeof (struct disk_superblock) == COW_STORE_PAGE,
                "superblock");
_Static_assert (offsetof (struct disk_superblock, created) == 80,
                "superblock");

#define COW_CLEAN_OFFSET 8192u
#define COW_CLEAN_MAGIC "COWCLEAN"

struct disk_clean {             /* one sector; the rest of the page is zero */
  uint8_t magic[8];             /*  0 */
  le64 checksum;                /*  8  of bytes 16..63 */
  le64 lap;                     /* 16 */
  le64 sequence;                /* 24 */
  uint8_t reserved[480];        /* 32  zero */
};
_Static_assert (sizeof (struct disk_clean) == 512, "clean mark");

#define COW_SLOTS_OFFSET 16384u
#define COW_SLOTS_COUNT 8u
#define COW_SLOT_MAGIC "COWENDS\n"
#define COW_SLOT_VOLUMES 120u

struct disk_slot {              /* one sector; the rest of the page is zero */
  uint8_t magic[8];             /*  0 */
  le64 checksum;                /*  8  of bytes 16..511 */
  le64 lap;                     /* 16 */
  le32 end;                     /* 24 */
  le32 count;                   /* 28  0: all volumes */
  le32 volume[COW_SLOT_VOLUMES]; /* 32 */
};
_Static_assert (sizeof (struct disk_slot) == 512, "invalidation slot");

#define COW_JOURNAL_OFFSET 65536u

#endif /* COW_STORE_LAYOUT_H */
