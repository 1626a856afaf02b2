/* store-batch.c - what a batch's leader writes: blocks, a record, one sync.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads: the leader of the log (store-log.c), without the store's lock.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/mutant.h"
#include "store/store-priv.h"

/* Records of batches leave so much of an area to the engine's own entries,
 * which are how a full journal comes to be emptier.
 */
#define AREA_RESERVE_MAX (UINT64_C (256) << 10)

/* ------------------------------------------------------------ the record */

static int
by_place (const void *a, const void *b)
{
  const struct pending_blocks *x = a, *y = b;

  return x->place < y->place ? -1 : x->place > y->place;
}

int
cow_log_add_exceptions (struct cow_store *s, const struct buffer *b,
                        const struct positions *which,
                        struct cow_entries *out)
{
  const struct disk_segment *h = header_of (b);
  struct disk_exceptions *head;
  struct disk_exception *item;
  unsigned count = 0;

  for (unsigned i = 0; i < s->capacity; i++)
    count += positions_have (which, i) && from_le32 (h->record[i].flags) == 0;
  if (count == 0)
    return 0;
  head = cow_entries_add (out, COW_ENTRY_EXCEPTIONS,
                          sizeof *head + count * sizeof *item);
  if (head == NULL)
    return -ENOMEM;
  head->segment = to_le32 (b->segment);
  head->generation = to_le32 (s->segment[b->segment].generation);
  head->count = to_le32 (count);
  item = (struct disk_exception *) (head + 1);
  for (unsigned i = 0; i < s->capacity; i++) {
    const struct disk_record *r = &h->record[i];

    if (!positions_have (which, i) || from_le32 (r->flags) != 0)
      continue;
    *item++ = (struct disk_exception) {
      .checksum = r->checksum,
      .block = r->block,
      .epoch = r->epoch,
      .volume = r->volume,
      .position = to_le16 ((uint16_t) i),
    };
  }
  return 0;
}

static int
add_zeroes (const struct gathering *g, struct cow_entries *out)
{
  struct disk_list *list;
  struct disk_zeroes *item;

  if (g->zero_count == 0)
    return 0;
  list = cow_entries_add (out, COW_ENTRY_ZEROES,
                          sizeof *list + g->zero_count * sizeof *item);
  if (list == NULL)
    return -ENOMEM;
  list->count = to_le32 (g->zero_count);
  item = (struct disk_zeroes *) (list + 1);
  for (unsigned i = 0; i < g->zero_count; i++)
    item[i] = (struct disk_zeroes) {
      .block = to_le64 (g->zeroes[i].block),
      .blocks = to_le32 (g->zeroes[i].blocks),
      .epoch = to_le32 (g->zeroes[i].epoch),
      .volume = to_le32 (g->zeroes[i].volume),
    };
  return 0;
}

/* Of the list of segments that were given up: those that this batch frees. */
static int
add_freed (struct cow_store *s, uint32_t list, unsigned n,
           struct cow_entries *out)
{
  struct disk_list *head;
  struct disk_segment_ref *item;

  if (n == 0)
    return 0;
  head = cow_entries_add (out, COW_ENTRY_FREED,
                          sizeof *head + n * sizeof *item);
  if (head == NULL)
    return -ENOMEM;
  head->count = to_le32 (n);
  item = (struct disk_segment_ref *) (head + 1);
  for (unsigned i = 0; i < n; i++) {
    item[i].segment = to_le32 (list);
    item[i].generation = to_le32 (s->segment[list].generation);
    list = s->segment[list].next;
  }
  return 0;
}

/* What others have handed in.  One that there is no memory for is refused
 * alone.
 */
static void
add_appends (struct gathering *g, struct cow_entries *out)
{
  for (struct pending_append *a = g->appends; a != NULL; a = a->next) {
    const struct cow_entries *from = a->entries;

    a->result = cow_entries_reserve (out, out->used + from->used);
    if (a->result < 0)
      continue;
    memcpy (out->data + sizeof (struct disk_journal_record) + out->used,
            from->data + sizeof (struct disk_journal_record), from->used);
    out->used += from->used;
  }
}

/* ------------------------------------------------------------- a batch */

/* -ENOSPC is what a full journal is to its users, of which nothing has been
 * written.  That a write had no space is a failed write.
 */
static int
as_failure (int rc)
{
  return rc == -ENOSPC ? -EIO : rc;
}

int
cow_log_checkpoint_running (struct cow_store *s)
{
  int rc = cow_log_checkpoint (s);

  return cow_journal_failed (s->journal) ? as_failure (rc) : rc;
}

static void
write_done (struct cow_request *req, int result)
{
  struct store_log *l = req->opaque;

  if (result < 0 && l->result == 0)
    l->result = as_failure (result);
}

/* Until everything that is in flight is done.  -ETIMEDOUT: the log is stuck. */
static int
reap_all (struct cow_store *s, uint64_t deadline_ns)
{
  struct store_log *l = &s->log;

  while (l->queue->in_flight > 0) {
    int rc = cow_queue_reap (l->queue, l->queue->in_flight, deadline_ns);

    if (rc < 0)
      return rc;
    if (l->queue->in_flight > 0 && cow_now_ns () >= deadline_ns)
      return -ETIMEDOUT;
  }
  l->writes = 0;
  return l->result;
}

static int
submit (struct cow_store *s, struct cow_request *req)
{
  req->done = write_done;
  req->opaque = &s->log;
  return cow_queue_submit (s->log.queue, req);
}

/* Write the runs of blocks that lie side by side, each once. */
static int
write_blocks (struct cow_store *s, struct log_batch *batch,
              uint64_t deadline_ns)
{
  const struct gathering *g = batch->g;
  struct store_log *l = &s->log;
  int rc = 0;

  for (unsigned i = 0, to; rc == 0 && i < g->block_count; i = to) {
    const struct pending_blocks *p = &g->blocks[i];
    const struct buffer *b = &s->buffer[p->buffer];
    size_t blocks = p->blocks, at = position_of (p->place);
    struct cow_request *w;

    for (to = i + 1; to < g->block_count && g->blocks[to].buffer == p->buffer
                     && g->blocks[to].place == p->place + blocks;
         to++)
      blocks += g->blocks[to].blocks;
    if (COW_MUTANT (short_write) && blocks > 1)
      blocks--;
    if (l->writes == LOG_WRITES)
      rc = reap_all (s, deadline_ns);
    if (rc < 0)
      break;
    w = &l->write[l->writes++];
    *w = (struct cow_request) {
      .op = COW_OP_WRITE,
      .file = s->file,
      .buf = b->mem + COW_SEGMENT_HEADER_BYTES + at * s->block_bytes,
      .len = blocks * s->block_bytes,
      .offset = segment_offset (s, b->segment) + COW_SEGMENT_HEADER_BYTES
                + at * s->block_bytes,
    };
    batch->bytes += w->len;
    rc = submit (s, w);
  }
  return rc;
}

/* Put the record together and into the journal, after a checkpoint if there is
 * no room for it.  The write is not submitted yet.
 */
static int
make_record (struct cow_store *s, struct log_batch *batch,
             struct cow_request *w)
{
  struct store_log *l = &s->log;
  struct gathering *g = batch->g;
  struct cow_entries *out = &l->entries;
  uint64_t reserve
    = g->appends ? 0 : COW_MIN (AREA_RESERVE_MAX, s->area_bytes / 4);
  int rc = 0;

  cow_entries_reset (out);
  for (unsigned i = 0, to; rc == 0 && i < g->block_count; i = to) {
    struct positions which = { { 0 } };

    for (to = i; to < g->block_count
                 && g->blocks[to].buffer == g->blocks[i].buffer;
         to++)
      positions_add (&which, position_of (g->blocks[to].place),
                     g->blocks[to].blocks);
    rc = cow_log_add_exceptions (s, &s->buffer[g->blocks[i].buffer], &which,
                                 out);
  }
  if (rc == 0)
    rc = add_zeroes (g, out);
  if (rc == 0)
    rc = add_freed (s, batch->freed, batch->freed_count, out);
  if (rc < 0)
    return rc;
  add_appends (g, out);
  if (out->used == 0)
    return 0;                   /* blocks that all hold nothing */
  for (bool made = false;; made = true) {
    rc = (l->must_checkpoint && !made)
             || cow_journal_room (s->journal) < reserve + out->used
           ? -ENOSPC
           : cow_journal_append (s->journal, out, w);
    if (rc != -ENOSPC || made)
      return rc < 0 ? rc : 1;
    rc = cow_log_checkpoint_running (s);
    if (rc < 0)
      return rc;
  }
}

int
cow_log_write_batch (struct cow_store *s, struct log_batch *batch,
                     uint64_t deadline_ns)
{
  struct store_log *l = &s->log;
  struct cow_request *record = &l->write[LOG_WRITES];
  struct gathering *g = batch->g;
  int rc, have;

  l->writes = 0;
  l->result = 0;
  batch->bytes = 0;
  qsort (g->blocks, g->block_count, sizeof *g->blocks, by_place);
  have = make_record (s, batch, record);
  if (have < 0)
    return have;
  rc = COW_MUTANT (record_before_data)
         ? 0
         : write_blocks (s, batch, deadline_ns);
  if (rc == 0 && have > 0) {
    batch->bytes += record->len;
    batch->sequence = cow_journal_sequence (s->journal);
    rc = submit (s, record);
  }
  if (rc == 0)
    rc = reap_all (s, deadline_ns);
  if (rc < 0)
    return rc;
  if (COW_MUTANT (no_sync_of_batch)) {
    if (have > 0)
      cow_journal_durable (s->journal, batch->sequence);
    return 0;
  }
  l->sync = (struct cow_request) { .op = COW_OP_SYNC, .file = s->file };
  rc = submit (s, &l->sync);
  if (rc == 0)
    rc = reap_all (s, deadline_ns);
  if (COW_MUTANT (record_before_data) && rc == 0) {
    rc = write_blocks (s, batch, deadline_ns);
    if (rc == 0)
      rc = reap_all (s, deadline_ns);
  }
  if (rc == 0 && have > 0)
    cow_journal_durable (s->journal, batch->sequence);
  return rc;
}
