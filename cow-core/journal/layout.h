/* layout.h - the journal's records and entries, byte by byte.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * ../store/FORMAT.md has the same as tables, and what makes a record valid.
 */
#ifndef COW_JOURNAL_LAYOUT_H
#define COW_JOURNAL_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/le.h"

#define COW_JOURNAL_MAGIC "COWJRNL\n"
#define COW_JOURNAL_PAGE 4096u

#define COW_JOURNAL_CHECKPOINT 1u       /* flags of a record */
#define COW_JOURNAL_CHECKPOINT_END 2u

struct disk_journal_record {
  uint8_t magic[8];             /*  0 */
  le64 checksum;                /*  8 */
  le64 sequence;                /* 16 */
  le64 attested;                /* 24 */
  le64 lap;                     /* 32 */
  le32 length;                  /* 40 */
  le32 used;                    /* 44 */
  le32 flags;                   /* 48 */
  le32 reserved[3];             /* 52  zero */
  /* entries from 64 on */
};
STATIC_ASSERT (sizeof (struct disk_journal_record) == 64);
STATIC_ASSERT (offsetof (struct disk_journal_record, flags) == 48);

enum cow_entry_type {
  COW_ENTRY_EXCEPTIONS = 1,
  COW_ENTRY_ZEROES = 2,
  COW_ENTRY_SEGMENTS = 3,
  COW_ENTRY_FREED = 4,
  COW_ENTRY_SET = 5,
  COW_ENTRY_END = 6,
  COW_ENTRY_VOLUME = 7,
  COW_ENTRY_COUNTERS = 8,
  COW_ENTRY_NOTE = 9,
  COW_ENTRY_MOVED = 10,
};

#define COW_ENTRY_MUST_KNOW 1u  /* flags of an entry */

struct disk_entry {
  le16 type;                    /*  0 */
  le16 flags;                   /*  2 */
  le32 length;                  /*  4  this head included, a multiple of 8 */
};
STATIC_ASSERT (sizeof (struct disk_entry) == 8);

struct disk_exceptions {        /* EXCEPTIONS, then count items */
  le32 segment;                 /*  0 */
  le32 generation;              /*  4 */
  le32 count;                   /*  8 */
  le32 reserved;                /* 12  zero */
};
struct disk_exception {
  le64 checksum;                /*  0 */
  le64 block;                   /*  8 */
  le32 epoch;                   /* 16 */
  le32 volume;                  /* 20 */
  le16 position;                /* 24 */
  le16 reserved[3];             /* 26  zero */
};
STATIC_ASSERT (sizeof (struct disk_exceptions) == 16);
STATIC_ASSERT (sizeof (struct disk_exception) == 32);

struct disk_list {              /* ZEROES, SEGMENTS, FREED, END: then items */
  le32 count;                   /*  0 */
  le32 reserved;                /*  4  zero */
};
struct disk_zeroes {
  le64 block;                   /*  0  the first */
  le32 blocks;                  /*  8 */
  le32 epoch;                   /* 12 */
  le32 volume;                  /* 16 */
  le32 reserved;                /* 20  zero */
};
struct disk_segment_ref {       /* SEGMENTS, FREED */
  le32 segment;                 /*  0 */
  le32 generation;              /*  4 */
};
struct disk_end {
  uint8_t snapshot[16];         /*  0 */
  le32 end;                     /* 16  enum cow_snapshot_end */
  le32 reserved;                /* 20  zero */
};
STATIC_ASSERT (sizeof (struct disk_list) == 8);
STATIC_ASSERT (sizeof (struct disk_zeroes) == 24);
STATIC_ASSERT (sizeof (struct disk_segment_ref) == 8);
STATIC_ASSERT (sizeof (struct disk_end) == 24);

#define COW_DISK_SET_PREPARED 1u        /* states of a set */
#define COW_DISK_SET_COMMITTED 2u

#define COW_DISK_SET_MEMBERS 64u        /* at most */

struct disk_set {               /* SET, then members, then the annotation */
  uint8_t id[16];               /*   0 */
  le64 number;                  /*  16 */
  le64 created;                 /*  24 */
  le64 hold;                    /*  32 */
  le64 settle;                  /*  40 */
  le32 attributes;              /*  48 */
  le32 state;                   /*  52 */
  le32 members;                 /*  56 */
  le32 annotation;              /*  60  its length */
  uint8_t label[64];            /*  64 */
};
struct disk_member {
  uint8_t snapshot[16];         /*  0 */
  le32 volume;                  /* 16 */
  le32 epoch;                   /* 20 */
  le32 end;                     /* 24 */
  le32 reserved;                /* 28  zero */
  le64 exceptions;              /* 32 */
};
STATIC_ASSERT (sizeof (struct disk_set) == 128);
STATIC_ASSERT (sizeof (struct disk_member) == 40);

#define COW_DISK_VOLUME_MARKED 1u       /* flags of a volume */
#define COW_DISK_VOLUME_STOPPED 2u

struct disk_volume {            /* VOLUME */
  le32 number;                  /*   0 */
  le32 flags;                   /*   4 */
  le64 size;                    /*   8 */
  le64 device;                  /*  16 */
  le64 inode;                   /*  24 */
  le64 modified;                /*  32 */
  le64 changed;                 /*  40 */
  le32 epoch;                   /*  48 */
  le32 name_length;             /*  52 */
  uint8_t name[64];             /*  56 */
  le64 reserved;                /* 120  zero */
};
STATIC_ASSERT (sizeof (struct disk_volume) == 128);
STATIC_ASSERT (offsetof (struct disk_volume, name) == 56);

struct disk_counters {          /* COUNTERS */
  le64 set_number;              /*  0 */
  le32 generation;              /*  8 */
  le32 reserved;                /* 12  zero */
};
STATIC_ASSERT (sizeof (struct disk_counters) == 16);

struct disk_note {              /* NOTE, then its bytes */
  uint8_t key[16];              /*  0 */
  le32 length;                  /* 16 */
  le32 reserved;                /* 20  zero */
};
STATIC_ASSERT (sizeof (struct disk_note) == 24);

struct disk_moved {             /* MOVED */
  le64 lap;
};
STATIC_ASSERT (sizeof (struct disk_moved) == 8);

#endif /* COW_JOURNAL_LAYOUT_H */
