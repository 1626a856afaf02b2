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
 *       in a durable record, is not in it (store-checkpoint.c).
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

/* Wait for the leader, or be it.  False when the time has come.  Nobody leads
 * without time: a batch that is not there at its leader's deadline is the
 * store's failure.
 */
static bool
take_turn_locked (struct cow_store *s, uint64_t deadline_ns)
  COW_REQUIRES (s->lock)
{
  if (!s->log.busy && cow_now_ns () >= deadline_ns)
    return false;
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

/* A run of blocks is in the file, and its record too. */
static void
count_logged_locked (struct cow_store *s, const struct pending_blocks *p)
  COW_REQUIRES (s->lock)
{
  struct buffer *b = &s->buffer[p->buffer];
  struct segment *g = &s->segment[b->segment];

  positions_add (&b->logged, position_of (p->place), p->blocks);
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
end_batch_locked (struct cow_store *s, struct log_batch *batch)
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
take_given_up_locked (struct cow_store *s, struct log_batch *batch)
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
return_given_up_locked (struct cow_store *s, struct log_batch *batch)
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
refuse_batch_locked (struct cow_store *s, struct log_batch *batch)
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
  struct log_batch batch = { .g = &l->gather[l->gathering] };
  int rc;

  assert (!l->busy);
  l->busy = true;
  batch.ticket = l->ticket;
  l->gathering ^= 1;
  take_given_up_locked (s, &batch);
  cow_mutex_unlock (&s->lock);

  rc = cow_log_write_batch (s, &batch, deadline_ns);
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
  rc = cow_log_checkpoint_running (s);
  if (rc < 0 && rc != -ENOSPC)
    cow_store_fail (s, rc, "writing a checkpoint");
  cow_mutex_lock (&s->lock);
  l->room_is_low = false;
  l->busy = false;
  cow_cond_broadcast (&l->turn);
  /* As after a batch: the next one may be what it takes to have room. */
  if (s->ring_waiters > 0)
    cow_cond_signal (&s->ring_free);
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
