/* writers.c - see writers.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "consistency/writers.h"

#define SECTORS_MAX 64          /* of one write */

struct flight {
  struct writers *w;
  unsigned writer;
  size_t number;
  bool busy;
  uint8_t *buf;
};

static int
answered (void *opaque, int *error)
{
  struct flight *f = opaque;

  if (*error == 0)
    history_acknowledge (f->w->history, f->writer, f->number);
  else if (f->w->may_die)
    atomic_store (&f->w->died, true);
  else
    fail ("a write failed: %s", strerror (*error));
  f->busy = false;
  return 1;
}

/* Half of the writes go to an eighth of the volume; half are whole blocks. */
static void
choose_range (const struct writers *w, unsigned v, uint64_t *state,
              uint64_t *first, uint32_t *count)
{
  uint64_t range = below (state, 2) ? w->sectors[v] : w->sectors[v] / 8;

  *count = 1 + below (state, below (state, 4) ? 16 : SECTORS_MAX);
  *first = below (state, range - *count + 1);
  if (below (state, 2)) {
    *first -= *first % 8;
    *count = (*count + 7) / 8 * 8;
  }
  if (*first + *count > w->sectors[v])
    *first = w->sectors[v] - *count;
}

/* False: the log is full. */
static bool
issue (struct nbd_handle *const *h, struct flight *f, uint64_t *state)
{
  const nbd_completion_callback done = { .callback = answered,
                                         .user_data = f };
  unsigned v = below (state, f->w->volumes);
  bool zero = below (state, 64) == 0;
  uint64_t first;
  uint32_t count;
  int64_t cookie;

  choose_range (f->w, v, state, &first, &count);
  f->number = history_issue (f->w->history, f->writer,
                             zero ? HISTORY_ZERO : HISTORY_WRITE, v, first,
                             count);
  if (f->number == SIZE_MAX)
    return false;
  f->busy = true;
  if (zero)
    cookie = nbd_aio_zero (h[v], (uint64_t) count * HISTORY_SECTOR,
                           first * HISTORY_SECTOR, done, 0);
  else {
    history_stamp (f->w->history, f->writer, f->number, f->buf);
    cookie = nbd_aio_pwrite (h[v], f->buf, (size_t) count * HISTORY_SECTOR,
                             first * HISTORY_SECTOR, done, 0);
  }
  if (cookie < 0) {
    if (!f->w->may_die)
      fail ("a write was not issued: %s", nbd_get_error ());
    atomic_store (&f->w->died, true);
    f->busy = false;
  }
  return true;
}

/* Whichever answers; while one handle is polled the others wait for a
 * millisecond at most.
 */
static void
move (struct writers *w, struct nbd_handle *const *h)
{
  for (unsigned v = 0; v < w->volumes; v++)
    if (nbd_aio_in_flight (h[v]) > 0 && nbd_poll (h[v], v == 0 ? 1 : 0) < 0) {
      if (!w->may_die)
        fail ("the connection to %s: %s", w->name[v], nbd_get_error ());
      atomic_store (&w->died, true);
    }
}

static void *
write_stamps (void *arg)
{
  struct writers *w = arg;
  unsigned me = atomic_fetch_add (&w->next, 1);
  uint64_t state = w->seed * 100 + me, issued = 0;
  struct nbd_handle *h[SETS_VOLUMES_MAX];
  struct flight flight[WRITERS_DEPTH_MAX] = { { .writer = 0 } };
  bool going = true, busy = true;

  for (unsigned v = 0; v < w->volumes; v++)
    h[v] = open_export (w->uri, w->name[v]);
  for (unsigned i = 0; i < w->depth; i++) {
    flight[i].w = w;
    flight[i].writer = me;
    flight[i].buf = malloc ((SECTORS_MAX + 8) * HISTORY_SECTOR);
    if (flight[i].buf == NULL)
      fail ("out of memory");
  }
  while (going || busy) {
    bool pause = issued >= atomic_load (&w->allowed);

    going = going && !atomic_load (&w->stop) && !atomic_load (&w->died);
    busy = false;
    for (unsigned i = 0; i < w->depth; i++) {
      if (!flight[i].busy && going && !pause) {
        going = issue (h, &flight[i], &state);
        issued++;
      }
      busy = busy || flight[i].busy;
    }
    if (busy)
      move (w, h);
    else if (pause)
      usleep (100);
  }
  for (unsigned v = 0; v < w->volumes; v++)
    close_export (h[v]);
  for (unsigned i = 0; i < w->depth; i++)
    free (flight[i].buf);
  return NULL;
}

void
writers_measure (struct writers *w)
{
  for (unsigned v = 0; v < w->volumes; v++) {
    struct nbd_handle *h = open_export (w->uri, w->name[v]);
    int64_t size = nbd_get_size (h);

    if (size < 1 << 20)
      fail ("%s is too small", w->name[v]);
    w->sectors[v] = (uint64_t) size / HISTORY_SECTOR;
    close_export (h);
  }
}

void
writers_start (struct writers *w)
{
  atomic_store (&w->stop, false);
  atomic_store (&w->died, false);
  atomic_store (&w->next, 0);
  for (unsigned i = 0; i < w->count; i++)
    if (pthread_create (&w->thread[i], NULL, write_stamps, w) != 0)
      fail ("no thread");
}

void
writers_stop (struct writers *w)
{
  atomic_store (&w->stop, true);
  for (unsigned i = 0; i < w->count; i++)
    pthread_join (w->thread[i], NULL);
}

void
writers_check_volumes (struct writers *w, bool instant, const char *what)
{
  const uint8_t *data[SETS_VOLUMES_MAX] = { NULL };
  uint8_t *buf[SETS_VOLUMES_MAX];
  uint64_t now = history_begin (w->history);
  char text[500];

  for (unsigned v = 0; v < w->volumes; v++) {
    struct nbd_handle *h = open_export (w->uri, w->name[v]);

    data[v] = buf[v] = malloc (w->sectors[v] * HISTORY_SECTOR);
    if (buf[v] == NULL)
      fail ("out of memory");
    read_export (h, buf[v], w->sectors[v] * HISTORY_SECTOR);
    close_export (h);
  }
  if (!history_check (w->history, data, now, now, instant, text, sizeof text))
    fail ("%s: %s", what, text);
  for (unsigned v = 0; v < w->volumes; v++)
    free (buf[v]);
}
