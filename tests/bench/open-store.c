/* open-store.c - how long a store with many exceptions takes to open.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   open-store DIR [EXCEPTIONS] [random|ordered]
 *
 * Makes a store in DIR (default: 10 million exceptions, whose blocks come in
 * random order) with one set of a sparse volume of 64 GiB, opens it anew, and
 * prints how long that took and what memory the map has.  The old data itself
 * is left out, of each run of blocks all but the first: opening does not read
 * it.  Space is not preallocated.  Takes some 400 MB for 10 million.  A store that
 * is there from before is opened as it is.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/sync.h"
#include "io/engine.h"
#include "set/engine.h"
#include "store/layout.h"

#define BLOCK 4096u
#define BLOCKS_BITS 24
#define BLOCKS (UINT64_C (1) << BLOCKS_BITS)
#define S COW_NS_PER_S

static struct cow_io *io;
static struct cow_io_ops ops;
static const struct cow_io_ops *real_ops;
static struct cow_engine *engine;
static struct cow_volume *volume;
static char store_path[4096], image_path[4096];

static void
must (int rc, const char *what, const struct cow_error *err)
{
  if (rc >= 0)
    return;
  fprintf (stderr, "open-store: %s: %s\n", what,
           err && err->text[0] ? err->text : strerror (-rc));
  exit (1);
}

static int
no_space_taken (struct cow_file *f, uint64_t offset, uint64_t len)
{
  (void) f;
  (void) offset;
  (void) len;
  return -EOPNOTSUPP;
}

/* Runs of old data are larger than a header or the record of one. */
static int
submit_a_part (struct cow_queue *q, struct cow_request *req)
{
  if (req->op == COW_OP_WRITE && req->len >= 64 * BLOCK)
    req->len = BLOCK;
  return real_ops->submit (q, req);
}

static int
no_sync (struct cow_file *f)
{
  (void) f;
  return 0;
}

static void
begin (bool making)
{
  const struct cow_engine_options options = {
    .use_io = io, .store_directory = store_path,
  };
  struct cow_error err = COW_ERROR_INIT;

  ops = *real_ops;
  if (making) {
    ops.allocate = no_space_taken;
    ops.submit = submit_a_part;
    ops.sync = no_sync;
  }
  must (cow_engine_new (&options, &err, &engine), "new", &err);
  must (cow_volume_add (engine, "v", image_path, COW_CACHE_WRITEBACK, false,
                        &err, &volume),
        "volume", &err);
}

static void
make_set (void)
{
  const struct cow_set_options options = {
    .id = cow_id_new (), .persistent = true,
  };
  const struct cow_id snapshot = cow_id_new ();
  struct cow_error err = COW_ERROR_INIT;
  struct cow_set *s;

  must (cow_set_new (engine, &options, &err, &s), "set", &err);
  must (cow_set_add (s, volume, &snapshot, &err), "add", &err);
  must (cow_set_prepare (s, cow_now_ns () + 60 * S, &err), "prepare", &err);
  must (cow_set_hold (s, 10 * S, &err), "hold", &err);
  must (cow_set_switch (s, &err), "switch", &err);
  must (cow_set_settle (s, cow_now_ns () + 60 * S, &err), "settle", &err);
  must (cow_set_finish (s, &err), "finish", &err);
  cow_set_put (s);
}

/* The i-th block: each once, with no order to be seen. */
static uint64_t
mixed (uint64_t i)
{
  for (unsigned round = 0; round < 3; round++) {
    i = i * UINT64_C (0x9e3779b1) & (BLOCKS - 1);
    i ^= i >> (BLOCKS_BITS / 2);
  }
  return i;
}

/* As copiers would, in runs of a segment. */
static void
fill (uint64_t exceptions, bool ordered)
{
  struct cow_record record[COW_SEGMENT_RECORDS];
  const uint32_t epoch = cow_gate_epoch (&volume->gate);
  cow_ticket ticket = 0;

  memset (record, 0, sizeof record);
  for (uint64_t i = 0; i < exceptions;) {
    struct cow_piece piece;
    unsigned n = (unsigned) COW_MIN (exceptions - i,
                                     (uint64_t) COW_SEGMENT_RECORDS);

    must (cow_store_reserve (engine->store, n, true, cow_now_ns () + 10 * S,
                             &piece),
          "room", NULL);
    for (unsigned k = 0; k < piece.blocks; k++, i++)
      record[k] = (struct cow_record) {
        .block = ordered ? i : mixed (i), .epoch = epoch,
        .volume = volume->store_number,
      };
    memset (piece.data, 1, BLOCK);
    ticket = cow_store_filled_lasting (engine->store, &piece, record);
    must (cow_store_barrier (engine->store, ticket, cow_now_ns () + 10 * S),
          "barrier", NULL);
    cow_engine_step (engine, 0);
  }
}

static void
make_store (uint64_t exceptions, bool ordered)
{
  struct cow_error err = COW_ERROR_INIT;
  FILE *f = fopen (image_path, "w");

  if (f == NULL || ftruncate (fileno (f), (off_t) (BLOCKS * BLOCK)) < 0
      || fclose (f) != 0)
    must (-errno, image_path, NULL);
  begin (true);
  must (cow_engine_start (engine, &err), "start", &err);
  make_set ();
  fill (exceptions, ordered);
  must (cow_engine_close (engine), "close", NULL);
  cow_engine_free (engine);
}

static void
open_store (uint64_t exceptions)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_engine_status status;
  uint64_t began_ns;
  clock_t used;

  begin (false);
  began_ns = cow_now_ns ();
  used = clock ();
  must (cow_engine_start (engine, &err), "opening", &err);
  printf ("opened in %.2f s (%.2f of a processor)",
          (double) (cow_now_ns () - began_ns) / 1e9,
          (double) (clock () - used) / CLOCKS_PER_SEC);
  cow_engine_status (engine, &status);
  printf (", %" PRIu64 " exceptions, %.1f bytes of memory each\n",
          status.exceptions,
          (double) status.map_bytes / (double) status.exceptions);
  assert (status.exceptions == exceptions);
  cow_engine_free (engine);
}

int
main (int argc, char *argv[])
{
  const uint64_t exceptions
    = argc > 2 ? strtoull (argv[2], NULL, 0) : 10000000;
  const bool ordered = argc > 3 && strcmp (argv[3], "ordered") == 0;
  struct cow_error err = COW_ERROR_INIT;
  bool made;

  if (argc < 2 || exceptions == 0 || exceptions > BLOCKS) {
    fprintf (stderr, "usage: open-store DIR [EXCEPTIONS] [random|ordered]\n");
    return 2;
  }
  snprintf (store_path, sizeof store_path, "%s/store", argv[1]);
  snprintf (image_path, sizeof image_path, "%s/v.img", argv[1]);
  made = mkdir (store_path, 0700) == 0;
  if (!made && errno != EEXIST)
    must (-errno, store_path, NULL);
  must (cow_io_new (COW_IO_AUTO, &err, &io), "io", &err);
  real_ops = io->ops;
  io->ops = &ops;
  if (made)
    make_store (exceptions, ordered);
  for (unsigned i = 0; i < 3; i++)
    open_store (exceptions);
  io->ops = real_ops;
  cow_io_free (io);
  return 0;
}
