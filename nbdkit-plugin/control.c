/* control.c - NBD requests on @control: slots and frames.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * protocol/PROTOCOL.md has the rules.  A slot goes
 *
 *   EMPTY --request--> BUSY --answer--> ANSWERED --request--> BUSY ...
 *
 * A request is checked here and handed to a thread of the pool; the callback
 * that wrote it returns at once.  Slot 0 is served in the callback itself: its
 * two operations never wait, and so a cancel passes whatever the pool is
 * waiting for.
 *
 * A read at the start of a BUSY slot waits for the answer.  It wakes with the
 * answer, and looks every 250 ms whether its connection is still there; if it
 * is not, it ends the session, so that a requester that died in the middle of
 * a wait holds nothing for longer.
 *
 * Threads: nbdkit's, many at once on one session, and those of the pool.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "sessions.h"
#include "base/bits.h"

#define HANGUP_CHECK_NS (250 * COW_NS_PER_MS)

static int
fail (int err)
{
  nbdkit_set_error (err);
  return -1;
}

/* --------------------------------------------------------------- answers */

/* Make the part of the answer that begins at offset part readable. */
static int
show_part_locked (struct slot *slot, size_t part)
{
  const size_t rest = slot->answer_bytes > part ?
                      slot->answer_bytes - part : 0;
  uint8_t *frame = malloc (PROTO_HEADER_BYTES +
                           COW_MIN (rest, (size_t) PROTO_BODY_MAX));

  if (frame == NULL)
    return -ENOMEM;
  free (slot->frame);
  slot->frame = frame;
  slot->frame_bytes = proto_answer_encode (slot->id, &slot->nonce,
                                           slot->answer, slot->answer_bytes,
                                           part, frame);
  return 0;
}

/* Takes text, which may be NULL (no memory: the slot goes back to EMPTY, and
 * the requester, who finds a greeting, knows that there is no answer).
 */
static void
answer_locked (struct slot *slot, char *text)
{
  struct session *s = slot->session;

  free (slot->answer);
  slot->answer = text;
  slot->answer_bytes = text ? strlen (text) : 0;
  slot->state = text && show_part_locked (slot, 0) == 0 ?
                SLOT_ANSWERED : SLOT_EMPTY;
  cow_cond_broadcast (&s->changed);
}

/* -------------------------------------------------------------- requests */

static void
answer (struct slot *slot, char *text)
{
  LOCK_FOR_SCOPE (&slot->session->lock);
  answer_locked (slot, text);
}

/* The slot is the caller's until it is answered.  0, or -1: it was BUSY. */
static int
begin (struct slot *slot, const struct proto_frame *f)
{
  LOCK_FOR_SCOPE (&slot->session->lock);
  if (slot->state == SLOT_BUSY)
    return fail (EBUSY);
  slot->state = SLOT_BUSY;
  slot->id = f->id;
  slot->nonce = f->nonce;
  slot->cancelled = false;
  free (slot->answer);
  slot->answer = NULL;
  slot->answer_bytes = 0;
  free (slot->frame);
  slot->frame = NULL;
  slot->frame_bytes = 0;
  return 0;
}

/* Takes text. */
static int
answer_at_once (struct slot *slot, const struct proto_frame *f, char *text)
{
  if (begin (slot, f) == -1) {
    free (text);
    return -1;
  }
  answer (slot, text);
  return 0;
}

/* A thread of the pool. */
static void
run_request (struct job *job)
{
  struct slot *slot = COW_CONTAINER_OF (job, struct slot, job);
  struct session *s = slot->session;
  CLEANUP_FREE char *body = COW_STEAL (slot->body);

  answer (slot, ops_run (s, slot, body, slot->length_bytes));
  session_put (s);
}

static int
take_request (struct slot *slot, const struct proto_frame *f,
              const void *body)
{
  struct session *s = slot->session;
  char *copy = malloc (f->length ? f->length : 1);

  if (copy == NULL)
    return fail (ENOMEM);
  memcpy (copy, body, f->length);
  if (begin (slot, f) == -1) {
    free (copy);
    return -1;
  }
  slot->body = copy;
  slot->length_bytes = f->length;
  slot->job.run = run_request;
  session_get (s);
  pool_submit (&pool_requests, &slot->job);
  return 0;
}

static int
next_part (struct slot *slot, const struct proto_frame *f)
{
  struct session *s = slot->session;

  LOCK_FOR_SCOPE (&s->lock);
  if (slot->state == SLOT_BUSY)
    return fail (EBUSY);
  if (slot->state != SLOT_ANSWERED || f->id != slot->id ||
      !proto_id_equal (&f->nonce, &slot->nonce))
    return fail (EINVAL);
  if (show_part_locked (slot, f->part) < 0)
    return fail (ENOMEM);
  return 0;
}

static int
bad_frame (struct session *s, uint64_t offset, const char *why)
{
  bool complained;

  cow_mutex_lock (&s->lock);
  complained = s->complained;
  s->complained = true;
  cow_mutex_unlock (&s->lock);
  if (!complained)              /* one line for each session will do */
    nbdkit_error (PROTO_EXPORT ": write at %" PRIu64 ": bad frame: %s",
                  offset, why);
  return fail (EINVAL);
}

static int
take_frame (struct slot *slot, const struct proto_frame *f, const void *body)
{
  struct session *s = slot->session;
  char *refusal = ops_refuse (s);

  if (refusal)
    return answer_at_once (slot, f, refusal);
  if (f->version != PROTO_VERSION)
    return answer_at_once (slot, f, ops_wrong_version (f->version));
  if (f->kind == PROTO_NEXT_PART)
    return next_part (slot, f);
  if (slot == &s->slots[0]) {
    if (begin (slot, f) == -1)
      return -1;
    answer (slot, ops_run (s, slot, body, f->length));
    return 0;
  }
  return take_request (slot, f, body);
}

int
control_pwrite (struct session *s, const void *buf, uint32_t count,
                uint64_t offset)
{
  struct slot *slot = &s->slots[offset / PROTO_SLOT_BYTES];
  enum proto_frame_status status;
  struct proto_frame f;

  s->heard_ns = cow_now_ns ();
  if (offset % PROTO_SLOT_BYTES != 0)
    return bad_frame (s, offset, "not at the start of a slot");
  status = proto_frame_decode (buf, count, &f);
  if (status != PROTO_FRAME_OK && status != PROTO_FRAME_VERSION)
    return bad_frame (s, offset, proto_frame_status_text (status));
  if (count != PROTO_HEADER_BYTES + (uint64_t) f.length)
    return bad_frame (s, offset, "more bytes than the frame has");
  if (status == PROTO_FRAME_OK &&
      f.kind != PROTO_REQUEST && f.kind != PROTO_NEXT_PART)
    return bad_frame (s, offset, "a frame of a kind that servers write");
  return take_frame (slot, &f, (const uint8_t *) buf + PROTO_HEADER_BYTES);
}

/* ----------------------------------------------------------------- reads */

/* Until the slot is not BUSY: 0, or -1 when the connection or the session has
 * gone.  With the lock held, except while it waits.
 */
static int
wait_for_answer_locked (struct session *s, struct slot *slot)
  COW_REQUIRES (s->lock)
{
  uint64_t check_ns = cow_now_ns () + HANGUP_CHECK_NS;

  while (slot->state == SLOT_BUSY) {
    if (s->ended)
      return fail (ESHUTDOWN);
    cow_cond_wait_until (&s->changed, &s->lock, check_ns);
    if (slot->state == SLOT_BUSY && cow_now_ns () >= check_ns) {
      int r;

      cow_mutex_unlock (&s->lock);
      r = nbdkit_nanosleep (0, 0);
      if (r == -1)
        session_end (s, "its connection was lost");
      cow_mutex_lock (&s->lock);
      if (r == -1)
        return fail (ESHUTDOWN);
      check_ns = cow_now_ns () + HANGUP_CHECK_NS;
    }
  }
  return 0;
}

/* What can be read of a slot, from offset at on. */
static void
copy_slot_locked (const struct slot *slot, uint8_t *buf, size_t len, size_t at)
{
  uint8_t greeting[PROTO_GREETING_MAX];
  const uint8_t *frame = slot->frame;
  size_t bytes = slot->frame_bytes;

  memset (buf, 0, len);
  if (slot->state == SLOT_EMPTY) {
    bytes = proto_greeting_encode (greeting);
    frame = greeting;
  }
  if (frame && at < bytes)
    memcpy (buf, frame + at, COW_MIN (len, bytes - at));
}

int
control_pread (struct session *s, void *buf, uint32_t count, uint64_t offset)
{
  uint8_t *to = buf;

  s->heard_ns = cow_now_ns ();
  LOCK_FOR_SCOPE (&s->lock);
  if (offset % PROTO_SLOT_BYTES == 0 && count > 0 &&
      wait_for_answer_locked (s, &s->slots[offset / PROTO_SLOT_BYTES]) == -1)
    return -1;
  while (count > 0) {
    const size_t at = offset % PROTO_SLOT_BYTES;
    const size_t len = COW_MIN (count, PROTO_SLOT_BYTES - at);

    copy_slot_locked (&s->slots[offset / PROTO_SLOT_BYTES], to, len, at);
    to += len;
    offset += len;
    count -= len;
  }
  return 0;
}
