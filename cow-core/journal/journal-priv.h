/* journal-priv.h - between journal.c and replay.c.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef COW_JOURNAL_JOURNAL_PRIV_H
#define COW_JOURNAL_JOURNAL_PRIV_H

#include "journal/journal.h"

struct cow_journal {
  struct cow_journal_options options;

  uint64_t lap;                 /* of the last record; 0: there is none yet */
  uint64_t lap_begun;           /* the highest that anything was written with */
  uint64_t sequence;            /* of the last record */
  uint64_t durable;             /* up to here records are */
  uint64_t position;            /* in its area: where the last record ends */

  /* By area: no byte from here on is other than zero.  Not kept less than what
   * may be there, also in the cache of a process that died.
   */
  uint64_t dirty_end[2];

  bool begun;                   /* a lap of our own: records may be appended */
  bool failed;                  /* a checkpoint left it in between */
  bool torn;                    /* replay dropped records */
};

/* Where the area of a lap begins in the file. */
static inline uint64_t
area_begin (const struct cow_journal *j, uint64_t lap)
{
  return j->options.first_area + lap % 2 * j->options.area_bytes;
}

#endif /* COW_JOURNAL_JOURNAL_PRIV_H */
