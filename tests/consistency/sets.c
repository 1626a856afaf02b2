/* sets.c - see sets.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "consistency/sets.h"
#include "cowset.h"
#include "protocol/frame.h"

static char repeat[1000];

void
set_repeat (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  vsnprintf (repeat, sizeof repeat, fmt, args);
  va_end (args);
  printf ("to repeat: %s\n", repeat);
  fflush (stdout);
}

void
fail (const char *fmt, ...)
{
  va_list args;

  flockfile (stderr);
  fputs ("FAIL: ", stderr);
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fprintf (stderr, "\nto repeat: %s\n", repeat);
  fflush (stdout);
  _exit (1);
}

uint64_t
choose_seed (void)
{
  const char *seed = getenv ("COWSET_SEED");

  return seed && *seed ? strtoull (seed, NULL, 0) : now_ns () % 1000000007;
}

uint64_t
draw (uint64_t *state)
{
  uint64_t x = *state += UINT64_C (0x9e3779b97f4a7c15);

  x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C (0x94d049bb133111eb);
  return x ^ x >> 31;
}

uint64_t
below (uint64_t *state, uint64_t n)
{
  return draw (state) % n;
}

uint64_t
now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

/* ---- exports */

static bool
is_uri (const char *export)
{
  return strncmp (export, "nbd", 3) == 0 && strstr (export, "://");
}

struct nbd_handle *
try_export (const char *uri, const char *export)
{
  struct nbd_handle *h = nbd_create ();
  const char *query = strchr (uri, '?');
  char *full;

  if (is_uri (export)) {
    full = strdup (export);
    if (h == NULL || full == NULL)
      fail ("out of memory");
  }
  else if (h == NULL || query == NULL
      || asprintf (&full, "%.*s%s%s", (int) (query - uri), uri, export, query)
           < 0)
    fail ("%s: cannot open %s", uri, export);
  if (nbd_connect_uri (h, full) < 0) {
    nbd_close (h);
    h = NULL;
  }
  free (full);
  return h;
}

struct nbd_handle *
open_export (const char *uri, const char *export)
{
  struct nbd_handle *h = try_export (uri, export);

  if (h == NULL)
    fail ("%s of %s: %s", export, uri, nbd_get_error ());
  return h;
}

void
close_export (struct nbd_handle *h)
{
  nbd_shutdown (h, 0);
  nbd_close (h);
}

void
read_export (struct nbd_handle *h, uint8_t *buf, uint64_t len)
{
  for (uint64_t at = 0; at < len;) {
    uint64_t n = len - at < (4u << 20) ? len - at : 4u << 20;

    if (nbd_pread (h, buf + at, n, at, 0) < 0)
      fail ("reading: %s", nbd_get_error ());
    at += n;
  }
}

/* ---- libcowset */

#define MUST(call)                                                            \
  do {                                                                        \
    cowset_hresult hr_ = (call);                                              \
    if (COWSET_FAILED (hr_))                                                  \
      fail ("%s: %s: %s", #call, cowset_result_name (hr_),                    \
            cowset_error_message ());                                         \
  } while (0)

static void
get_hold (struct taken *t, const struct cowset_id *set)
{
  struct cowset_object_prop item;
  struct cowset_enum *sets;

  MUST (cowset_query (t->c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT_SET,
                      &sets));
  while (cowset_enum_next (sets, 1, &item, NULL) == S_OK)
    if (cowset_id_equal (&item.u.set->set_id, set)) {
      t->hold_ns = item.u.set->hold_ns;
      if ((unsigned) item.u.set->snapshots != t->volumes)
        fail ("a set of %u volumes has %zu snapshots", t->volumes,
              item.u.set->snapshots);
    }
  cowset_enum_free (sets);
}

struct taken *
take_set (const char *uri, const char *const *names, unsigned volumes)
{
  struct taken *t = calloc (1, sizeof *t);
  struct cowset_id set, snapshot[SETS_VOLUMES_MAX];
  struct cowset_async *async;
  cowset_hresult status;

  if (t == NULL)
    fail ("out of memory");
  MUST (cowset_create (uri, &t->c));
  MUST (cowset_initialize_for_backup (t->c, NULL));
  MUST (cowset_set_context (t->c, VSS_CTX_FILE_SHARE_BACKUP));
  MUST (cowset_start_snapshot_set (t->c, &set));
  for (unsigned v = 0; v < volumes; v++)
    MUST (cowset_add_to_snapshot_set (t->c, names[v], NULL, &snapshot[v]));
  MUST (cowset_do_snapshot_set (t->c, &async));
  MUST (cowset_async_wait (async, VSS_INFINITE));
  MUST (cowset_async_query_status (async, &status));
  if (status != VSS_S_ASYNC_FINISHED)
    fail ("the set was not made: %s", cowset_async_message (async));
  cowset_async_free (async);

  cowset_id_format (&set, t->id);
  t->volumes = volumes;
  for (unsigned v = 0; v < volumes; v++) {
    struct cowset_snapshot_prop *prop;

    MUST (cowset_get_snapshot_properties (t->c, &snapshot[v], &prop));
    if (prop->status != VSS_SS_CREATED || !prop->alive)
      fail ("a new snapshot is not alive: %s",
            prop->reason ? prop->reason : "no reason given");
    t->export[v] = strdup (is_uri (names[v]) ? prop->uri : prop->device);
    cowset_snapshot_prop_free (prop);
  }
  get_hold (t, &set);
  return t;
}

void
release_set (struct taken *t)
{
  if (t == NULL)
    return;
  cowset_release (t->c);
  for (unsigned v = 0; v < t->volumes; v++)
    free (t->export[v]);
  free (t);
}

/* ---- the control channel */

#define SLOT 1

struct control {
  struct nbd_handle *h;
  uint64_t id;
  struct proto_frame last;
  uint8_t *frame;               /* of PROTO_SLOT_BYTES */
  char answer[65536];
};

struct control *
control_open (const char *uri)
{
  struct control *c = calloc (1, sizeof *c);

  if (c == NULL || (c->frame = calloc (1, PROTO_SLOT_BYTES)) == NULL)
    fail ("out of memory");
  c->h = open_export (uri, PROTO_EXPORT);
  if (control_call (c, "{\"op\":\"hello\",\"client\":\"tests\"}") < 0)
    fail ("hello: %s", c->answer);
  return c;
}

void
control_close (struct control *c)
{
  close_export (c->h);
  free (c->frame);
  free (c);
}

static void
control_send_body (struct control *c, const char *body)
{
  const size_t len = strlen (body);

  c->last = (struct proto_frame) {
    .version = PROTO_VERSION,
    .kind = PROTO_REQUEST,
    .id = ++c->id,
    .nonce = proto_id_new (),
    .length = len,
    .total = len,
  };
  if (nbd_pwrite (c->h, c->frame,
                  proto_frame_encode (&c->last, body, c->frame),
                  (uint64_t) SLOT * PROTO_SLOT_BYTES, 0)
      < 0)
    fail ("%s: %s", body, nbd_get_error ());
}

static char *
format (const char *fmt, va_list args)
{
  char *body;

  if (vasprintf (&body, fmt, args) < 0)
    fail ("out of memory");
  return body;
}

void
control_send (struct control *c, const char *fmt, ...)
{
  va_list args;
  char *body;

  va_start (args, fmt);
  body = format (fmt, args);
  va_end (args);
  control_send_body (c, body);
  free (body);
}

int
control_call (struct control *c, const char *fmt, ...)
{
  struct proto_frame f;
  const char *hr;
  va_list args;
  char *body;

  va_start (args, fmt);
  body = format (fmt, args);
  va_end (args);
  control_send_body (c, body);
  if (nbd_pread (c->h, c->frame, sizeof c->answer,
                 (uint64_t) SLOT * PROTO_SLOT_BYTES, 0)
      < 0)
    fail ("%s: %s", body, nbd_get_error ());
  if (proto_frame_decode (c->frame, sizeof c->answer, &f) != PROTO_FRAME_OK
      || f.kind != PROTO_ANSWER || f.id != c->last.id || f.length != f.total)
    fail ("%s: not answered by a frame of its own", body);
  free (body);
  memcpy (c->answer, c->frame + PROTO_HEADER_BYTES, f.length);
  c->answer[f.length] = '\0';
  hr = strstr (c->answer, "\"hr\":");
  if (hr == NULL)
    fail ("an answer without \"hr\": %s", c->answer);
  return atoi (hr + 5);
}

const char *
control_answer (const struct control *c)
{
  return c->answer;
}
