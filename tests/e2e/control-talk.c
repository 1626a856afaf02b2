/* control-talk.c - speak the control channel by hand.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   control-talk URI < commands
 *
 * URI names the export @control.  A command a line:
 *
 *   call SLOT JSON     a request, then its answer's body on a line of its own
 *   send SLOT JSON     only the request
 *   wait SLOT          only the answer of the last request on that slot
 *   wrong WHAT SLOT    a frame with something wrong in it (see wrong_frame)
 *   greeting SLOT      "greeting", "answer" or "nothing": what can be read
 *   part SLOT OFFSET   the answer's body from OFFSET on, "OFFSET LENGTH TOTAL"
 *   ping COUNT         so many on slot 0; prints the mean in microseconds
 *   sleep MS
 *
 * Ids count from 1, one for each request that the server took.  What it
 * refuses (an NBD error) is printed as "error: NAME".  The program does not use
 * libcowset, so as to test the server with requests that the library would
 * never send.
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libnbd.h>

#include "protocol/frame.h"

#define FIRST_READ 4096

static struct nbd_handle *nbd;
static struct proto_frame last[PROTO_SLOTS];
static uint8_t *frame;          /* of PROTO_SLOT_BYTES */

static void
die (const char *what)
{
  fprintf (stderr, "control-talk: %s: %s\n", what, nbd_get_error ());
  exit (1);
}

static bool
refused (int r)
{
  if (r == 0)
    return false;
  printf ("error: %s\n", nbd_get_errno () == EINVAL ? "EINVAL" :
          nbd_get_errno () == EPERM ? "EPERM" :
          nbd_get_errno () == ESHUTDOWN ? "ESHUTDOWN" : nbd_get_error ());
  return true;
}

static uint64_t
offset_of (unsigned slot)
{
  return slot * (uint64_t) PROTO_SLOT_BYTES;
}

static bool
send_frame (unsigned slot, uint32_t kind, uint32_t version, const char *body)
{
  static uint64_t next_id;
  struct proto_frame f = {
    .version = version,
    .kind = kind,
    .id = next_id + 1,
    .nonce = proto_id_new (),
    .length = strlen (body),
    .total = strlen (body),
  };

  if (refused (nbd_pwrite (nbd, frame, proto_frame_encode (&f, body, frame),
                           offset_of (slot), 0)))
    return false;
  next_id++;
  last[slot] = f;
  return true;
}

/* Read what can be read at the slot's start; a second read where the first was
 * too short.
 */
static enum proto_frame_status
read_frame (unsigned slot, struct proto_frame *f)
{
  enum proto_frame_status status;

  memset (frame, 0, PROTO_SLOT_BYTES);
  if (refused (nbd_pread (nbd, frame, FIRST_READ, offset_of (slot), 0)))
    return PROTO_FRAME_SHORT;
  status = proto_frame_decode (frame, FIRST_READ, f);
  if (status != PROTO_FRAME_TRUNCATED)
    return status;
  if (nbd_pread (nbd, frame + FIRST_READ, PROTO_SLOT_BYTES - FIRST_READ,
                 offset_of (slot) + FIRST_READ, 0) == -1)
    die ("read");
  return proto_frame_decode (frame, PROTO_SLOT_BYTES, f);
}

static bool
read_part (unsigned slot, struct proto_frame *f)
{
  const enum proto_frame_status status = read_frame (slot, f);

  if (status == PROTO_FRAME_SHORT)
    return false;
  if (status != PROTO_FRAME_OK || f->kind != PROTO_ANSWER) {
    printf ("no answer: %s\n", proto_frame_status_text (status));
    return false;
  }
  if (f->id != last[slot].id ||
      !proto_id_equal (&f->nonce, &last[slot].nonce)) {
    printf ("the answer of another request\n");
    return false;
  }
  return true;
}

static bool
ask_for_part (unsigned slot, uint32_t part)
{
  struct proto_frame f = last[slot];

  f.version = PROTO_VERSION;
  f.kind = PROTO_NEXT_PART;
  f.length = f.total = 0;
  f.part = part;
  return !refused (nbd_pwrite (nbd, frame, proto_frame_encode (&f, "", frame),
                               offset_of (slot), 0));
}

static void
wait_for (unsigned slot)
{
  struct proto_frame f;
  uint32_t have = 0;

  for (;;) {
    if (!read_part (slot, &f))
      return;
    fwrite (frame + PROTO_HEADER_BYTES, 1, f.length, stdout);
    have += f.length;
    if (have >= f.total)
      break;
    if (!ask_for_part (slot, have))
      return;
  }
  putchar ('\n');
}

static void
show_part (unsigned slot, uint32_t part)
{
  struct proto_frame f;

  if (ask_for_part (slot, part) && read_part (slot, &f))
    printf ("%" PRIu32 " %" PRIu32 " %" PRIu32 "\n", f.part, f.length, f.total);
}

static void
wrong_frame (const char *what, unsigned slot)
{
  struct proto_frame f = {
    .version = PROTO_VERSION, .kind = PROTO_REQUEST, .id = 1,
  };
  const char body[] = "{\"op\":\"ping\"}";
  uint64_t offset = offset_of (slot);
  size_t len;

  f.length = f.total = strlen (body);
  if (strcmp (what, "kind") == 0)
    f.kind = PROTO_GREETING;
  len = proto_frame_encode (&f, body, frame);
  if (strcmp (what, "magic") == 0)
    frame[0] ^= 1;
  else if (strcmp (what, "checksum") == 0)
    frame[len - 1] ^= 1;
  else if (strcmp (what, "short") == 0)
    len = 10;
  else if (strcmp (what, "cut") == 0)
    len--;
  else if (strcmp (what, "long") == 0)
    frame[len++] = 0;
  else if (strcmp (what, "offset") == 0)
    offset += 512;
  if (!refused (nbd_pwrite (nbd, frame, len, offset, 0)))
    printf ("taken\n");
}

static void
greeting (unsigned slot)
{
  struct proto_frame f;

  if (read_frame (slot, &f) != PROTO_FRAME_OK)
    printf ("nothing\n");
  else
    printf ("%s\n", f.kind == PROTO_GREETING ? "greeting" : "answer");
}

static void
ping (unsigned count)
{
  struct timespec t0, t1;
  struct proto_frame f;

  clock_gettime (CLOCK_MONOTONIC, &t0);
  for (unsigned i = 0; i < count; ++i)
    if (!send_frame (0, PROTO_REQUEST, PROTO_VERSION, "{\"op\":\"ping\"}") ||
        !read_part (0, &f))
      return;
  clock_gettime (CLOCK_MONOTONIC, &t1);
  printf ("%.1f\n", ((t1.tv_sec - t0.tv_sec) * 1e6 +
                     (t1.tv_nsec - t0.tv_nsec) / 1e3) / (count ? count : 1));
}

static void
command (const char *line)
{
  char word[32];
  unsigned n, part;
  int at = 0;

  if (sscanf (line, "call %u %n", &n, &at) == 1 && n < PROTO_SLOTS) {
    if (send_frame (n, PROTO_REQUEST, PROTO_VERSION, line + at))
      wait_for (n);
  }
  else if (sscanf (line, "send %u %n", &n, &at) == 1 && n < PROTO_SLOTS)
    send_frame (n, PROTO_REQUEST, PROTO_VERSION, line + at);
  else if (sscanf (line, "wait %u", &n) == 1 && n < PROTO_SLOTS)
    wait_for (n);
  else if (sscanf (line, "wrong version %u", &n) == 1 && n < PROTO_SLOTS) {
    if (send_frame (n, PROTO_REQUEST, 77, "{}"))
      wait_for (n);
  }
  else if (sscanf (line, "wrong %31s %u", word, &n) == 2 && n < PROTO_SLOTS)
    wrong_frame (word, n);
  else if (sscanf (line, "greeting %u", &n) == 1 && n < PROTO_SLOTS)
    greeting (n);
  else if (sscanf (line, "part %u %u", &n, &part) == 2 && n < PROTO_SLOTS)
    show_part (n, part);
  else if (sscanf (line, "ping %u", &n) == 1)
    ping (n);
  else if (sscanf (line, "sleep %u", &n) == 1)
    nanosleep (&(struct timespec) { n / 1000, n % 1000 * 1000000L }, NULL);
  else {
    fprintf (stderr, "control-talk: no command: %s\n", line);
    exit (2);
  }
  fflush (stdout);
}

int
main (int argc, char *argv[])
{
  char *line = NULL;
  size_t size = 0;
  ssize_t len;

  if (argc != 2) {
    fprintf (stderr, "usage: control-talk URI < commands\n");
    return 2;
  }
  frame = malloc (PROTO_SLOT_BYTES);
  nbd = nbd_create ();
  if (frame == NULL || nbd == NULL)
    die ("start");
  if (nbd_connect_uri (nbd, argv[1]) == -1)
    die (argv[1]);
  while ((len = getline (&line, &size, stdin)) > 0) {
    if (line[len - 1] == '\n')
      line[len - 1] = '\0';
    if (line[0] && line[0] != '#')
      command (line);
  }
  nbd_shutdown (nbd, 0);
  nbd_close (nbd);
  free (line);
  free (frame);
  return 0;
}
