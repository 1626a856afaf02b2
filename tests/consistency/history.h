/* history.h - who wrote what and when, and whether a set can have come of it.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Several writers change sectors of several volumes; each change is entered
 * before it is issued and when it is acknowledged, with times of one clock
 * that only counts.  What is written names its change, so that whoever reads
 * a sector knows which change is there, and what the writer knew when it
 * issued it: that every change with an acknowledgement before its own time of
 * issue was done.
 *
 * What is checked of a set (or of a volume as it is now):
 *
 *   H1  Every change acknowledged before `from` is in it.
 *   H2  None issued after `until` is.
 *   H3  If B is in it, so is every A that was acknowledged before B was
 *       issued, on any volume, by any writer.
 *   H4  A change is in it whole: on all of its sectors or on none.
 *
 * "Is in it" means that each of its sectors has that change, or one that did
 * not end before it began.  A sector that is neither all of one change nor
 * zeroes is wrong, but where two changes of it were under way at once.
 *
 * Threads: each writer uses its own log; checking may go on meanwhile.
 */
#ifndef TESTS_HISTORY_H
#define TESTS_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_SECTOR 512u
#define HISTORY_NEVER UINT64_MAX

enum history_kind {
  HISTORY_WRITE,
  HISTORY_ZERO,
  HISTORY_TRIM,                 /* leaves zeroes, or what was there */
};

struct history;

/* volumes with so many whole sectors each; a log of so many changes for each
 * writer.  Volumes are zero at first.  Exits when out of memory.
 */
struct history *history_new (unsigned volumes, const uint64_t *sectors,
                             unsigned writers, size_t changes);
void history_free (struct history *h);

/* The next point in time: never the same twice. */
uint64_t history_now (struct history *h);

/* Enter a change that is about to be issued.  Returns its number in the
 * writer's log; SIZE_MAX when the log is full.
 */
size_t history_issue (struct history *h, unsigned writer,
                      enum history_kind kind, unsigned volume, uint64_t sector,
                      uint32_t count);
void history_acknowledge (struct history *h, unsigned writer, size_t number);

/* What the change writes: count sectors of it. */
void history_stamp (const struct history *h, unsigned writer, size_t number,
                    void *buf);

/* Begin a check: the time `from`, before what is checked is read or its set
 * held.  To be given to history_check() or history_cancel().  At most 16 at a
 * time.
 */
uint64_t history_begin (struct history *h);
void history_cancel (struct history *h, uint64_t from);

/* Check what was read of the volumes: data[v] are all whole sectors of v, NULL
 * for one that is not in the set.  until is a time of history_now().
 * instant: H3 and H4 as well (not of what was read while it changed).
 * On failure false, and what is wrong in `text`.
 */
bool history_check (struct history *h, const uint8_t *const *data,
                    uint64_t from, uint64_t until, bool instant, char *text,
                    size_t len);

/* So many changes were issued. */
uint64_t history_changes (struct history *h);

#endif /* TESTS_HISTORY_H */
