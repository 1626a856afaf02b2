/* tools.c - what the rows are made of.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include "conformance.h"
#include "uri.h"

#define PATIENCE_MS 60000

const struct cowset_id unknown_id = { { 0xff, 1, 2, 3 } };

void
failed (const char *file, int line, const char *format, ...)
{
  const char *name = strrchr (file, '/');
  va_list args;

  printf ("      %s:%d: ", name ? name + 1 : file, line);
  va_start (args, format);
  vprintf (format, args);
  va_end (args);
  printf ("\n");
  fflush (stdout);
  _exit (EXIT_FAILURE);
}

/* ----------------------------------------------------------------- objects */

const char *
server_uri (const char *server)
{
  char variable[64];
  const char *uri;

  snprintf (variable, sizeof variable, "SERVER_%s", server);
  uri = getenv (variable);
  if (uri == NULL)
    FAIL ("$%s is not set: run it by test-conformance.sh", variable);
  return uri;
}

struct cowset *
new_object (const char *server)
{
  struct cowset *c;

  OK (cowset_create (server_uri (server), &c));
  return c;
}

struct cowset *
init_b (const char *server)
{
  struct cowset *c = new_object (server);

  OK (cowset_initialize_for_backup (c, NULL));
  return c;
}

struct cowset *
init_r (const char *server)
{
  struct cowset *c = new_object (server);

  OK (cowset_initialize_for_restore (c, fake_document));
  return c;
}

struct cowset *
in_context (const char *server, uint32_t context)
{
  struct cowset *c = init_b (server);

  OK (cowset_set_context (c, context));
  return c;
}

struct cowset *
with_set (const char *server, uint32_t context)
{
  struct cowset *c = in_context (server, context);
  struct cowset_id set;

  OK (cowset_start_snapshot_set (c, &set));
  return c;
}

struct cowset_id
id_of (const char *text)
{
  struct cowset_id id;

  EXPECT (cowset_id_parse (text, &id));
  return id;
}

struct cowset_id
add_to (struct cowset *c, const char *volume, const char *provider)
{
  const struct cowset_id id = id_of (provider);
  struct cowset_id snapshot;

  OK (cowset_add_to_snapshot_set (c, volume, &id, &snapshot));
  return snapshot;
}

struct cowset_id
add (struct cowset *c, const char *volume)
{
  struct cowset_id snapshot;

  OK (cowset_add_to_snapshot_set (c, volume, NULL, &snapshot));
  return snapshot;
}

void
prepare (struct cowset *c)
{
  struct cowset_id set;

  OK (cowset_set_backup_state (c, true, false, VSS_BT_FULL, false));
  IS (outcome (cowset_gather_writer_metadata, c), VSS_S_ASYNC_FINISHED);
  OK (cowset_start_snapshot_set (c, &set));
  add (c, "a");
  IS (outcome (cowset_prepare_for_backup, c), VSS_S_ASYNC_FINISHED);
}

struct cowset *
ready (const char *server)
{
  struct cowset *c = with_set (server, VSS_CTX_FILE_SHARE_BACKUP);

  add (c, "a");
  return c;
}

void
make (struct cowset *c)
{
  IS (outcome (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
}

struct cowset *
made (const char *server, uint32_t context, struct cowset_id *snapshot)
{
  struct cowset *c = with_set (server, context);
  const struct cowset_id id = add (c, "a");

  if (snapshot)
    *snapshot = id;
  make (c);
  return c;
}

/* ------------------------------------------------------------------ asyncs */

struct cowset_async *
start (async_call call, struct cowset *c)
{
  struct cowset_async *async;

  OK (call (c, &async));
  return async;
}

cowset_hresult
end_of (struct cowset_async *async)
{
  cowset_hresult status;

  cowset_async_wait (async, VSS_INFINITE);
  OK (cowset_async_query_status (async, &status));
  if (COWSET_FAILED (status) && *cowset_async_message (async) == '\0')
    FAIL ("%s without a message", cowset_result_name (status));
  cowset_async_free (async);
  return status;
}

cowset_hresult
outcome (async_call call, struct cowset *c)
{
  return end_of (start (call, c));
}

static void
pause_ms (unsigned ms)
{
  nanosleep (&(struct timespec) { ms / 1000, (long) (ms % 1000) * 1000000 },
             NULL);
}

void
await_phase (struct cowset_async *async, const char *phase)
{
  for (unsigned i = 0; i < PATIENCE_MS / 10; ++i) {
    if (strcmp (cowset_async_phase (async), phase) == 0)
      return;
    pause_ms (10);
  }
  FAIL ("never in phase \"%s\"", phase);
}

/* ----------------------------------------------------------------- looking */

unsigned
count_of (struct cowset *c, enum cowset_object_type type)
{
  struct cowset_object_prop item;
  struct cowset_enum *e;
  unsigned n = 0;

  OK (cowset_query (c, NULL, VSS_OBJECT_NONE, type, &e));
  while (cowset_enum_next (e, 1, &item, NULL) == S_OK) {
    EXPECT (item.type == type);
    n++;
  }
  cowset_enum_free (e);
  return n;
}

bool
listed (const char *server, uint32_t context,
        const struct cowset_id *snapshot)
{
  struct cowset *c = in_context (server, context);
  struct cowset_object_prop item;
  struct cowset_enum *e;
  bool found = false;

  OK (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, &e));
  while (cowset_enum_next (e, 1, &item, NULL) == S_OK)
    found |= item.u.snapshot->alive &&
             cowset_id_equal (&item.u.snapshot->snapshot_id, snapshot);
  cowset_enum_free (e);
  cowset_release (c);
  return found;
}

enum cowset_writer_state
writer_state (struct cowset *c, unsigned index, cowset_hresult *failure)
{
  struct cowset_writer_status *status;
  enum cowset_writer_state state;

  IS (outcome (cowset_gather_writer_status, c), VSS_S_ASYNC_FINISHED);
  OK (cowset_get_writer_status (c, index, &status));
  state = status->state;
  if (failure)
    *failure = status->failure;
  cowset_writer_status_free (status);
  return state;
}

/* --------------------------------------------------------------- providers */

static void
provider_file (const char *provider, const char *suffix, char path[512])
{
  const char *dir = getenv ("CONFORMANCE_DIR");

  if (dir == NULL)
    FAIL ("$CONFORMANCE_DIR is not set");
  snprintf (path, 512, "%s/%s%s", dir, provider, suffix);
}

void
provider_rules (const char *provider, const char *rules)
{
  char path[512], new_path[512];
  FILE *fp;

  provider_file (provider, ".log", path);
  unlink (path);
  /* It may be read at any moment: there at once or not at all. */
  provider_file (provider, ".new", new_path);
  provider_file (provider, "", path);
  fp = fopen (new_path, "w");
  if (fp == NULL || fputs (rules, fp) == EOF || fclose (fp) != 0 ||
      rename (new_path, path) == -1)
    FAIL ("%s: cannot be written", path);
}

void
providers_well (void)
{
  provider_rules ("hardware", "");
  provider_rules ("software", "");
  provider_rules ("system", "");
}

uint64_t
provider_saw (const char *provider, const char *call, bool end)
{
  char path[512], line[512], name[64], set[64], rest[64];
  uint64_t when, found = 0;
  FILE *fp;

  provider_file (provider, ".log", path);
  fp = fopen (path, "r");
  if (fp == NULL)
    return 0;
  while (found == 0 && fgets (line, sizeof line, fp))
    if (sscanf (line, "%" SCNu64 " %63s %63s %63s", &when, name, set,
                rest) == 4 &&
        strcmp (name, call) == 0 && (strcmp (rest, "begin") != 0) == end)
      found = when;
  fclose (fp);
  return found;
}

void
await_provider (const char *provider, const char *call)
{
  for (unsigned i = 0; i < PATIENCE_MS / 10; ++i) {
    if (provider_saw (provider, call, false))
      return;
    pause_ms (10);
  }
  FAIL ("the provider never saw %s", call);
}

/* -------------------------------------------------------------------- data */

static struct nbd_handle *
open_export (const char *server, const char *export_name)
{
  char *uri = req_uri_export (server_uri (server), export_name);
  struct nbd_handle *nbd = nbd_create ();

  if (uri == NULL || nbd == NULL)
    FAIL ("no memory");
  if (nbd_connect_uri (nbd, uri) == -1) {
    nbd_close (nbd);
    nbd = NULL;
  }
  free (uri);
  return nbd;
}

struct nbd_handle *
open_volume (const char *server, const char *volume)
{
  struct nbd_handle *nbd = open_export (server, volume);

  if (nbd == NULL)
    FAIL ("%s: %s", volume, nbd_get_error ());
  return nbd;
}

bool
write_block (struct nbd_handle *nbd, uint64_t offset, uint8_t value)
{
  char data[4096];

  memset (data, value, sizeof data);
  return nbd_pwrite (nbd, data, sizeof data, offset, 0) != -1;
}

uint64_t
write_volume (const char *server, const char *volume, uint64_t offset,
              uint8_t value)
{
  struct nbd_handle *nbd = open_volume (server, volume);
  struct timespec now;
  const int r = write_block (nbd, offset, value) ? 0 : -1;

  clock_gettime (CLOCK_MONOTONIC, &now);
  nbd_shutdown (nbd, 0);
  nbd_close (nbd);
  return r == -1 ? 0 :
         (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
}

int
read_export (const char *server, const char *export_name, uint64_t offset)
{
  struct nbd_handle *nbd = open_export (server, export_name);
  uint8_t byte;
  int r;

  if (nbd == NULL)
    return -1;
  r = nbd_pread (nbd, &byte, 1, offset, 0);
  nbd_shutdown (nbd, 0);
  nbd_close (nbd);
  return r == -1 ? -1 : byte;
}
