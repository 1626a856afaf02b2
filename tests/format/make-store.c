/* make-store.c - a small store, as an engine would leave it.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   make-store DIR SEED BLOCK-BYTES close|die
 *
 * DIR/store is made, with two sets of one volume: SEED chooses which blocks
 * were overwritten between them and after them.  DIR/v0.img is the volume now,
 * DIR/truth/SNAPSHOT what it was, DIR/sets the sets (lines "set ID LABEL" and
 * "snapshot ID VOLUME END").  The store is closed in order, or left as it is.
 */
#include <config.h>

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/sync.h"
#include "journal/journal.h"
#include "sim/random.h"
#include "store/store.h"

#define BLOCKS 128u
#define TAIL 512u               /* by which the last block is short */
#define SETS 2u
#define VOLUME 7u

static const char *dir;
static uint64_t rnd;
static uint32_t block_bytes;
static uint8_t *now;            /* the volume */
static struct cow_store *store;
static struct cow_id set_id[SETS], snapshot_id[SETS];
static unsigned sets;           /* made so far; the epoch, too */
static bool zero_in[SETS + 1][BLOCKS];

static void
require (int rc, const char *what)
{
  if (rc < 0) {
    fprintf (stderr, "make-store: %s: %s\n", what, strerror (-rc));
    exit (1);
  }
}

/* ------------------------------------------------------------------ entries */

static void
add_volume (struct cow_entries *e)
{
  struct disk_volume *v = cow_entries_add (e, COW_ENTRY_VOLUME, sizeof *v);

  assert (v);
  v->number = to_le32 (VOLUME);
  v->size = to_le64 ((uint64_t) BLOCKS * block_bytes - TAIL);
  v->epoch = to_le32 (SETS);
  v->name_length = to_le32 (2);
  memcpy (v->name, "v0", 2);
}

static void
add_set (struct cow_entries *e, unsigned i)
{
  static const char annotation[] = "what was said about it";
  const size_t bytes = sizeof (struct disk_set) + sizeof (struct disk_member);
  struct disk_set *s =
    cow_entries_add (e, COW_ENTRY_SET, bytes + sizeof annotation);
  struct disk_member *m = (void *) (s + 1);

  assert (s);
  memcpy (s->id, set_id[i].b, sizeof s->id);
  s->number = to_le64 (i + 1);
  s->created = to_le64 (cow_wall_ns ());
  s->state = to_le32 (COW_DISK_SET_COMMITTED);
  s->members = to_le32 (1);
  s->annotation = to_le32 (sizeof annotation);
  snprintf ((char *) s->label, sizeof s->label, "label-%u", i);
  memcpy (m->snapshot, snapshot_id[i].b, sizeof m->snapshot);
  m->volume = to_le32 (VOLUME);
  m->epoch = to_le32 (i + 1);
  memcpy (m + 1, annotation, sizeof annotation);
}

static void
add_zeroes (struct cow_entries *e)
{
  for (uint32_t epoch = 1; epoch <= SETS; epoch++)
    for (uint32_t b = 0; b < BLOCKS; b++) {
      struct disk_list *list;
      struct disk_zeroes *z;

      if (!zero_in[epoch][b])
        continue;
      list = cow_entries_add (e, COW_ENTRY_ZEROES, sizeof *list + sizeof *z);
      assert (list);
      list->count = to_le32 (1);
      z = (void *) (list + 1);
      z->block = to_le64 (b);
      z->blocks = to_le32 (1);
      z->epoch = to_le32 (epoch);
      z->volume = to_le32 (VOLUME);
    }
}

static int
checkpoint (void *opaque, bool first, struct cow_entries *e)
{
  struct disk_counters *c = cow_entries_add (e, COW_ENTRY_COUNTERS, sizeof *c);

  (void) opaque;
  (void) first;
  assert (c);
  c->set_number = to_le64 (sets);
  add_volume (e);
  for (unsigned i = 0; i < sets; i++)
    add_set (e, i);
  add_zeroes (e);
  return 0;
}

/* -------------------------------------------------------------------- steps */

static FILE *
create (const char *name)
{
  char path[4096];
  int n = snprintf (path, sizeof path, "%s/%s", dir, name);
  FILE *f;

  assert (n > 0 && (size_t) n < sizeof path);
  f = fopen (path, "w");
  if (f == NULL) {
    perror (path);
    exit (1);
  }
  return f;
}

static void
write_now (const char *name)
{
  FILE *f = create (name);

  if (fwrite (now, (size_t) BLOCKS * block_bytes - TAIL, 1, f) != 1
      || fclose (f) != 0) {
    perror (name);
    exit (1);
  }
}

static void
make_set (void)
{
  struct cow_entries e = COW_ENTRIES_INIT;
  char id[COW_ID_TEXT_SIZE], name[64];

  set_id[sets] = cow_id_new ();
  snapshot_id[sets] = cow_id_new ();
  cow_id_format (&snapshot_id[sets], id);
  snprintf (name, sizeof name, "truth/%s", id);
  write_now (name);
  add_set (&e, sets++);
  require (cow_store_append (store, &e, cow_now_ns () + 10 * COW_NS_PER_S),
           "appending a set");
  cow_entries_clear (&e);
}

static void
preserve (uint32_t b)
{
  const uint8_t *old = now + (size_t) b * block_bytes;
  const struct cow_record record = {
    .block = b, .epoch = sets, .volume = VOLUME,
  };
  struct cow_piece piece;
  cow_ticket ticket;

  if (old[0] == 0 && memcmp (old, old + 1, block_bytes - 1) == 0) {
    zero_in[sets][b] = true;
    ticket = cow_store_note_zeroes (store, VOLUME, sets, b, 1);
  } else {
    require (cow_store_reserve (store, 1, true,
                                cow_now_ns () + 10 * COW_NS_PER_S, &piece),
             "claiming room");
    memcpy (piece.data, old, block_bytes);
    ticket = cow_store_filled_lasting (store, &piece, &record);
  }
  require (cow_store_barrier (store, ticket,
                              cow_now_ns () + 10 * COW_NS_PER_S),
           "the barrier");
}

/* Overwrite some blocks of this epoch, each once. */
static void
overwrite (void)
{
  for (uint32_t b = 0; b < BLOCKS; b++) {
    const size_t bytes = block_bytes - (b == BLOCKS - 1 ? TAIL : 0);

    if (sim_random_below (&rnd, 4) > 0)
      continue;
    preserve (b);
    for (size_t i = 0; i < bytes; i++)
      now[(size_t) b * block_bytes + i] = (uint8_t) sim_random_next (&rnd);
    if (sim_random_below (&rnd, 4) == 0)
      memset (now + (size_t) b * block_bytes, 0, bytes);
  }
}

static void
tell (void)
{
  FILE *f = create ("sets");
  char id[COW_ID_TEXT_SIZE];

  for (unsigned i = 0; i < SETS; i++) {
    cow_id_format (&set_id[i], id);
    fprintf (f, "set %s label-%u\n", id, i);
    cow_id_format (&snapshot_id[i], id);
    fprintf (f, "snapshot %s v0 0\n", id);
  }
  if (fclose (f) != 0) {
    perror ("sets");
    exit (1);
  }
}

int
main (int argc, char *argv[])
{
  static const struct cow_store_hooks hooks = { .checkpoint = checkpoint };
  struct cow_store_options options = {
    .named = true,
    .hooks = &hooks,
    .limit_bytes = 32u << 20,
    .area_bytes = 256u << 10,
    .ring_segments = 4,
  };
  struct cow_error err = COW_ERROR_INIT;
  char path[4096];
  struct cow_io *io;

  if (argc != 5) {
    fprintf (stderr, "usage: make-store DIR SEED BLOCK-BYTES close|die\n");
    return 2;
  }
  dir = argv[1];
  rnd = strtoull (argv[2], NULL, 0);
  options.block_bytes = block_bytes = (uint32_t) strtoul (argv[3], NULL, 0);
  snprintf (path, sizeof path, "%s/store", dir);
  options.directory = path;
  now = calloc (BLOCKS, block_bytes);
  assert (now);
  for (size_t i = 0; i < (size_t) BLOCKS / 2 * block_bytes; i++)
    now[i] = (uint8_t) sim_random_next (&rnd);
  require (cow_io_new (COW_IO_AUTO, &err, &io), "starting");
  if (cow_store_open (io, &options, &err, &store) < 0
      || cow_store_begin (store, &err) < 0
      || cow_store_prepare (store, &err) < 0)
    require (err.code, err.text);
  while (sets < SETS) {
    make_set ();
    overwrite ();
  }
  write_now ("v0.img");
  tell ();
  if (strcmp (argv[4], "die") == 0)
    _exit (0);
  require (cow_store_close (store), "closing");
  cow_store_free (store);
  cow_io_free (io);
  free (now);
  return 0;
}
