/* store-log.c - the barrier: batches of blocks and records become durable.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Whoever has filled blocks that must last, or has entries for the journal,
 * waits at cow_store_barrier().  The first who finds nobody at the log leads:
 * it takes all that has gathered, writes the blocks where they belong in their
 * segments and one record beside, waits for these writes, syncs the file once,
 * and wakes the rest.  Meanwhile the next batch gathers.
 *
 * Invariants (tests cite them by number):
 *   L1  A ticket is reported durable only when the writes of its batch, and of
 *       every batch before it, were done before a sync began that has ended.
 *       One batch is under way at a time, so the order is that of the leaders.
 *   L2  A checkpoint is made between batches; what has been filled, and is not
 *       in a durable record, is not in it.
 *   L3  A lasting segment is FREE again only when a FREED entry for it is
 *       durable (T6).
 *   L4  Buffers and requests that the kernel may still have are not touched: a
 *       leader that gives up at its deadline leaves the log stuck for good.
 *
 * Failure: a failed write or sync is final.  The store has failed, everybody
 * gets -EIO, nothing is tried again.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/mutant.h"
#include "store/store-priv.h"

#define ZERO_RUNS_MAX 16384u
/* FREED items of one record. */
#define FREED_MAX 8192u
/* What the worker's own batches may take. */
#define LOG_TIMEOUT_NS (10 * COW_NS_PER_S)
/* Records of batches leave so much of an area to the engine's own entries,
 * which are how a full journal comes to be emptier.
 */
#define AREA_RESERVE_MAX (UINT64_C (256) << 10)

int
cow_log_init (struct cow_store *s)
{
  struct store_log *l = &s->log;
  size_t worst;

  for (unsigned i = 0; i < 2; i++) {
    struct gathering *g = &l->gather[i];

    if (g->blocks != NULL)
      continue;
    g->block_room = s->ring_segments * s->capacity;
    g->zero_room = ZERO_RUNS_MAX;
    g->blocks = calloc (g->block_room, sizeof *g->blocks);
    g->zeroes = malloc (g->zero_room * sizeof *g->zeroes);
    if (g->blocks == NULL || g->zeroes == NULL)
      return -ENOMEM;
  }
  /* The whole ring, a head for each segment; runs; the rest is the appends'. */
  worst = (size_t) s->ring_segments
            * (s->capacity * sizeof (struct disk_exception)
               + sizeof (struct disk_exceptions) + sizeof (struct disk_entry))
          + ZERO_RUNS_MAX * sizeof (struct disk_zeroes)
          + FREED_MAX * sizeof (struct disk_segment_ref) + 4096;
  if (cow_entries_reserve (&l->entries, worst) < 0)
    return -ENOMEM;
  if (l->queue == NULL
      && cow_queue_new (s->io, LOG_WRITES + 2, &l->queue) < 0)
    return -ENOMEM;
  return 0;
}

void
cow_log_clear (struct cow_store *s)
{
  struct store_log *l = &s->log;

  if (l->queue)
    cow_queue_free (l->queue);
  cow_entries_clear (&l->entries);
  for (unsigned i = 0; i < 2; i++) {
    free (l->gather[i].blocks);
    free (l->gather[i].zeroes);
  }
}

/* --------------------------------------------------------------- gathering */

cow_ticket
cow_log_blocks_locked (struct cow_store *s, const struct cow_piece *piece)
{
  struct store_log *l = &s->log;
  struct gathering *g = &l->gather[l->gathering];

  /* There can't be more pieces than blocks in the ring. */
  assert (g->block_count < g->block_room);
  g->blocks[g->block_count++] = (struct pending_blocks) {
    .place = piece->place,
    .blocks = piece->blocks,
    .buffer = piece->buffer,
  };
  return ++l->ticket;
}

static void lead_locked (struct cow_store *s, uint64_t deadline_ns)
  COW_REQUIRES (s->lock);

/* Wait for the leader, or be it. */
static bool
take_turn_locked (struct cow_store *s, uint64_t deadline_ns)
  COW_REQUIRES (s->lock)
{
  if (!s->log.busy) {
    lead_locked (s, deadline_ns);
    return true;
  }
  return cow_cond_wait_until (&s->log.turn, &s->lock, deadline_ns);
}

cow_ticket
cow_store_note_zeroes (struct cow_store *s, uint32_t volume, uint32_t epoch,
                       uint64_t first, unsigned n)
{
  struct store_log *l = &s->log;
  struct gathering *g;
  LOCK_FOR_SCOPE (&s->lock);

  while (l->gather[l->gathering].zero_count == ZERO_RUNS_MAX && !s->failed)
    (void) take_turn_locked (s, COW_NEVER);
  if (s->failed)
    return ++l->ticket;         /* the barrier will say so */
  g = &l->gather[l->gathering];
  if (g->zero_count > 0) {
    struct pending_zeroes *last = &g->zeroes[g->zero_count - 1];

    if (last->volume == volume && last->epoch == epoch
        && last->block + last->blocks == first
        && last->blocks < UINT32_MAX - n) {
      last->blocks += n;
      return ++l->ticket;
    }
  }
  g->zeroes[g->zero_count++] = (struct pending_zeroes) {
    .block = first,
    .blocks = n,
    .epoch = epoch,
    .volume = volume,
  };
  return ++l->ticket;
}

/* ------------------------------------------------------------ the record */

static int
by_place (const void *a, const void *b)
{
  const struct pending_blocks *x = a, *y = b;

  return x->place < y->place ? -1 : x->place > y->place;
}

static bool
has_position (const struct positions *p, unsigned i)
{
  return p->word[i / 64] >> i % 64 & 1;
}

static void
add_positions (struct positions *p, unsigned from, unsigned n)
{
  for (unsigned i = from; i < from + n; i++)
    p->word[i / 64] |= UINT64_C (1) << i % 64;
}

/* The records in use at these positions of a buffer, as one EXCEPTIONS entry. */
static int
add_exceptions (struct cow_store *s, const struct buffer *b,
                const struct positions *which, struct cow_entries *out)
{
  const struct disk_segment *h = header_of (b);
  struct disk_exceptions *head;
  struct disk_exception *item;
  unsigned count = 0;

  for (unsigned i = 0; i < s->capacity; i++)
    count += has_position (which, i) && from_le32 (h->record[i].flags) == 0;
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

    if (!has_position (which, i) || from_le32 (r->flags) != 0)
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

/* What the leader takes with it. */
struct batch {
  struct gathering *g;
  cow_ticket ticket;
  uint32_t freed;               /* list */
  unsigned freed_count;
  uint64_t sequence;
  uint64_t bytes;
};

static void
write_done (struct cow_request *req, int result)
{
  struct store_log *l = req->opaque;

  if (result < 0 && l->result == 0)
    l->result = result;
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
write_blocks (struct cow_store *s, struct batch *batch, uint64_t deadline_ns)
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
make_record (struct cow_store *s, struct batch *batch, struct cow_request *w)
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
      add_positions (&which, position_of (g->blocks[to].place),
                     g->blocks[to].blocks);
    rc = add_exceptions (s, &s->buffer[g->blocks[i].buffer], &which, out);
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
    rc = cow_log_checkpoint (s);
    if (rc < 0)
      return rc;
  }
}

/* Everything of a batch but what is under the lock. */
static int
write_batch (struct cow_store *s, struct batch *batch, uint64_t deadline_ns)
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

/* A run of blocks is in the file, and its record too. */
static void
count_logged_locked (struct cow_store *s, const struct pending_blocks *p)
  COW_REQUIRES (s->lock)
{
  struct buffer *b = &s->buffer[p->buffer];
  struct segment *g = &s->segment[b->segment];

  add_positions (&b->logged, position_of (p->place), p->blocks);
  b->unlogged -= p->blocks;
  if (b->unlogged > 0 || g->state != SEGMENT_FULL)
    return;
  if (g->live == 0) {
    cow_store_to_limbo_locked (s, b->segment);
    cow_store_room_changed_locked (s);
    return;
  }
  s->full++;
  cow_cond_signal (&s->work);
}

/* The batch is durable. */
static void
end_batch_locked (struct cow_store *s, struct batch *batch)
  COW_REQUIRES (s->lock)
{
  for (unsigned i = 0; i < batch->g->block_count; i++)
    count_logged_locked (s, &batch->g->blocks[i]);
  for (unsigned i = 0; i < batch->freed_count; i++) {
    uint32_t n = batch->freed;
    struct segment *g = &s->segment[n];

    batch->freed = g->next;
    g->state = SEGMENT_FREE;
    g->next = s->free_head;
    s->free_head = n;
    s->in_use--;
  }
  if (batch->freed_count > 0)
    cow_store_room_changed_locked (s);
  s->written_bytes += batch->bytes;
  s->log.durable = batch->ticket;
  if (cow_journal_room (s->journal) < s->log.room_after / 2) {
    s->log.room_is_low = s->woken = true;
    cow_cond_signal (&s->work);
  }
}

/* Segments that are to be freed with this batch, off the list. */
static void
take_given_up_locked (struct cow_store *s, struct batch *batch)
  COW_REQUIRES (s->lock)
{
  struct store_log *l = &s->log;
  uint32_t last = NO_SEGMENT;

  batch->freed = l->given_up;
  batch->freed_count = 0;
  while (l->given_up != NO_SEGMENT && batch->freed_count < FREED_MAX) {
    last = l->given_up;
    l->given_up = s->segment[last].next;
    batch->freed_count++;
  }
  l->given_up_count -= batch->freed_count;
  l->freeing = batch->freed_count;
}

/* Back on the list: the batch could not be written. */
static void
return_given_up_locked (struct cow_store *s, struct batch *batch)
  COW_REQUIRES (s->lock)
{
  while (batch->freed_count-- > 0) {
    uint32_t n = batch->freed;

    batch->freed = s->segment[n].next;
    s->segment[n].next = s->log.given_up;
    s->log.given_up = n;
    s->log.given_up_count++;
  }
}

/* The journal has no room, and a checkpoint would not fit: the batch is not
 * written.  Its blocks wait for the next one (their snapshots end, or there is
 * room then); whoever waited is told.
 */
static void
refuse_batch_locked (struct cow_store *s, struct batch *batch)
  COW_REQUIRES (s->lock)
{
  struct store_log *l = &s->log;
  struct gathering *now = &l->gather[l->gathering];

  for (unsigned i = 0; i < batch->g->block_count; i++) {
    assert (now->block_count < now->block_room);
    now->blocks[now->block_count++] = batch->g->blocks[i];
  }
  /* The zeroes are in the map: the checkpoint that has to come first has them. */
  l->must_checkpoint = true;
  return_given_up_locked (s, batch);
  l->refused = batch->ticket;
  l->ticket++;
}

static void
lead_locked (struct cow_store *s, uint64_t deadline_ns)
{
  struct store_log *l = &s->log;
  struct batch batch = { .g = &l->gather[l->gathering] };
  int rc;

  assert (!l->busy);
  l->busy = true;
  batch.ticket = l->ticket;
  l->gathering ^= 1;
  take_given_up_locked (s, &batch);
  cow_mutex_unlock (&s->lock);

  rc = write_batch (s, &batch, deadline_ns);
  if (rc < 0 && rc != -ENOSPC)
    cow_store_fail (s, rc, rc == -ETIMEDOUT ? "it does not answer"
                                            : "writing its journal");
  cow_mutex_lock (&s->lock);
  if (rc == 0)
    end_batch_locked (s, &batch);
  else if (rc == -ENOSPC)
    refuse_batch_locked (s, &batch);
  for (struct pending_append *a = batch.g->appends; a != NULL; a = a->next) {
    if (a->result == 0)
      a->result = rc;
    a->done = true;
  }
  l->freeing = 0;
  batch.g->appends = NULL;
  batch.g->block_count = batch.g->zero_count = 0;
  /* After a deadline the kernel may still have requests (L4). */
  if (l->queue->in_flight > 0)
    l->stuck = true;
  else
    l->busy = false;
  cow_cond_broadcast (&l->turn);
  /* Somebody who waits for the ring may have blocks in the next batch. */
  if (s->ring_waiters > 0)
    cow_cond_signal (&s->ring_free);
}

bool
cow_log_push_locked (struct cow_store *s, uint64_t deadline_ns)
{
  const struct store_log *l = &s->log;

  if (!s->named || l->busy || l->queue == NULL
      || l->gather[l->gathering].block_count == 0)
    return false;
  lead_locked (s, deadline_ns);
  return true;
}

/* ------------------------------------------------------------ for everybody */

int
cow_store_barrier (struct cow_store *s, cow_ticket ticket,
                   uint64_t deadline_ns)
{
  struct store_log *l = &s->log;
  LOCK_FOR_SCOPE (&s->lock);

  while (l->durable < ticket) {
    if (s->failed)
      return l->stuck ? -ETIMEDOUT : -EIO;
    if (l->refused >= ticket)
      return -ENOSPC;
    if (COW_MUTANT (ack_before_sync) && l->busy)
      return 0;
    if (!take_turn_locked (s, deadline_ns))
      return -ETIMEDOUT;
  }
  return 0;
}

int
cow_store_append (struct cow_store *s, struct cow_entries *entries,
                  uint64_t deadline_ns)
{
  struct store_log *l = &s->log;
  struct pending_append a = { .entries = entries };
  struct pending_append **link;
  LOCK_FOR_SCOPE (&s->lock);

  link = &l->gather[l->gathering].appends;
  while (*link != NULL)
    link = &(*link)->next;
  *link = &a;
  l->ticket++;
  /* The entries are on the stack of the caller: until a leader has taken them
   * they can be taken back, after that they are the leader's.
   */
  while (!a.done) {
    if (!s->failed && take_turn_locked (s, deadline_ns))
      continue;
    if (a.done)
      break;
    for (link = &l->gather[l->gathering].appends; *link != NULL && *link != &a;
         link = &(*link)->next)
      ;
    if (*link == &a) {
      *link = a.next;
      a.done = true;
      a.result = s->failed ? -EIO : -ETIMEDOUT;
    }
    else
      cow_cond_wait_until (&l->turn, &s->lock, COW_NEVER);
  }
  cow_entries_reset (entries);
  return a.result;
}

cow_ticket
cow_store_ticket (struct cow_store *s)
{
  LOCK_FOR_SCOPE (&s->lock);

  return s->log.ticket;
}

/* A checkpoint while the area still has room: better here than in a client's
 * write.
 */
static bool
checkpoint_early_locked (struct cow_store *s)
  COW_REQUIRES (s->lock)
{
  struct store_log *l = &s->log;
  int rc;

  l->busy = true;
  cow_mutex_unlock (&s->lock);
  rc = cow_log_checkpoint (s);
  if (rc < 0 && rc != -ENOSPC)
    cow_store_fail (s, rc, "writing a checkpoint");
  cow_mutex_lock (&s->lock);
  l->room_is_low = false;
  l->busy = false;
  cow_cond_broadcast (&l->turn);
  return rc == 0;
}

bool
cow_log_work (struct cow_store *s)
{
  struct store_log *l = &s->log;
  bool did = false;
  LOCK_FOR_SCOPE (&s->lock);

  if (!s->named || l->queue == NULL)
    return false;
  if (l->given_up != NO_SEGMENT && !l->busy && !s->failed) {
    lead_locked (s, cow_now_ns () + LOG_TIMEOUT_NS);
    did = true;
  }
  if (l->room_is_low && !l->busy && !s->failed)
    did |= checkpoint_early_locked (s);
  return did;
}

/* --------------------------------------------------------- a checkpoint */

struct checkpoint {
  struct cow_store *s;
  struct disk_segment_ref *refs; /* full segments, their headers written */
  size_t count, at;
  struct cow_entries rest;      /* what is logged of the others */
  enum {
    CHECK_COUNTERS,
    CHECK_SEGMENTS,
    CHECK_REST,
    CHECK_ENGINE,
  } stage;
  bool began;
};

/* What the segments hold, at one moment: a segment that is written meanwhile is
 * in the one part or in the other.
 */
static int
look_at_segments (struct checkpoint *c)
{
  struct cow_store *s = c->s;
  int rc = 0;
  LOCK_FOR_SCOPE (&s->lock);

  c->refs = malloc (((size_t) s->segments + 1) * sizeof *c->refs);
  if (c->refs == NULL)
    return -ENOMEM;
  for (uint32_t n = 0; rc == 0 && n < s->segments; n++) {
    const struct segment *g = &s->segment[n];

    if (!g->lasting || g->state == SEGMENT_FREE || g->state == SEGMENT_LIMBO
        || g->state == SEGMENT_GIVEN_UP)
      continue;
    if (g->state == SEGMENT_STORED) {
      c->refs[c->count].segment = to_le32 (n);
      c->refs[c->count++].generation = to_le32 (g->generation);
    }
    else
      rc = add_exceptions (s, &s->buffer[g->buffer],
                           &s->buffer[g->buffer].logged, &c->rest);
  }
  return rc;
}

static int
fill_counters (struct checkpoint *c, struct cow_entries *out)
{
  struct disk_counters *counters
    = cow_entries_add (out, COW_ENTRY_COUNTERS, sizeof *counters);
  LOCK_FOR_SCOPE (&c->s->lock);

  if (counters == NULL)
    return -ENOMEM;
  counters->generation = to_le32 (c->s->generation);
  return 1;
}

static int
fill_segments (struct checkpoint *c, struct cow_entries *out)
{
  size_t n = COW_MIN (c->count - c->at,
                      COW_CHECKPOINT_BYTES / sizeof *c->refs);
  struct disk_list *list;

  if (n == 0)
    return 0;
  list = cow_entries_add (out, COW_ENTRY_SEGMENTS,
                          sizeof *list + n * sizeof *c->refs);
  if (list == NULL)
    return -ENOMEM;
  list->count = to_le32 ((uint32_t) n);
  memcpy (list + 1, c->refs + c->at, n * sizeof *c->refs);
  c->at += n;
  return 1;
}

static int
fill_rest (struct checkpoint *c, struct cow_entries *out)
{
  const size_t head = sizeof (struct disk_journal_record);

  if (c->rest.used == 0)
    return 0;
  if (cow_entries_reserve (out, out->used + c->rest.used) < 0)
    return -ENOMEM;
  memcpy (out->data + head + out->used, c->rest.data + head, c->rest.used);
  out->used += c->rest.used;
  c->rest.used = 0;
  return 1;
}

static int
fill_checkpoint (void *opaque, struct cow_entries *out)
{
  struct checkpoint *c = opaque;
  int rc;

  for (;;) {
    switch (c->stage) {
    case CHECK_COUNTERS:
      c->stage = CHECK_SEGMENTS;
      return fill_counters (c, out);
    case CHECK_SEGMENTS:
      rc = fill_segments (c, out);
      break;
    case CHECK_REST:
      rc = fill_rest (c, out);
      break;
    default:
      if (c->s->hooks.checkpoint == NULL)
        return 0;
      rc = c->s->hooks.checkpoint (c->s->hooks.opaque, !c->began, out);
      c->began = true;
      return rc;
    }
    if (rc != 0)
      return rc;
    c->stage++;
  }
}

int
cow_log_checkpoint (struct cow_store *s)
{
  struct checkpoint c = { .s = s };
  int rc = look_at_segments (&c);

  /* The headers that were written before the look. */
  if (rc == 0)
    rc = cow_file_sync (s->file);
  if (rc == 0)
    rc = cow_journal_checkpoint (s->journal, fill_checkpoint, &c);
  if (rc == 0) {
    s->log.must_checkpoint = false;
    s->log.room_after = cow_journal_room (s->journal);
  }
  /* Also of one that failed: it may be complete in the file. */
  cow_mutex_lock (&s->lock);
  s->lap = cow_journal_lap_begun (s->journal);
  cow_mutex_unlock (&s->lock);
  free (c.refs);
  cow_entries_clear (&c.rest);
  return rc;
}
