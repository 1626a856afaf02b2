/* status.c - cowset status.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <getopt.h>
#include <inttypes.h>

#include "cli.h"

static json_t *
json_volume (const struct cowset_volume_prop *v)
{
  return json_pack ("{s:s, s:s, s:s, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I,"
                    " s:I}",
                    "name", v->name, "path", v->path, "uri", v->uri, "size",
                    (json_int_t) v->size_bytes, "readonly",
                    (int) v->readonly, "snapshots",
                    (json_int_t) v->snapshots, "epoch",
                    (json_int_t) v->epoch, "exceptions",
                    (json_int_t) v->exceptions_blocks, "first_touches",
                    (json_int_t) v->first_touches, "copied_bytes",
                    (json_int_t) v->copied_bytes, "zero_bytes",
                    (json_int_t) v->zero_bytes, "waiting",
                    (json_int_t) v->waiting);
}

static json_t *
json_status (const struct cowset_status *s)
{
  json_t *volumes = json_array ();
  char instance[COWSET_ID_TEXT_SIZE];

  cowset_id_format (&s->instance, instance);
  for (size_t i = 0; i < s->volumes; ++i)
    json_array_append_new (volumes, json_volume (s->volume[i]));
  return json_pack (
    "{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b,"
    " s:{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o*, s:b},"
    " s:{s:I, s:I, s:I}, s:o}",
    "server", s->server, "machine", s->machine, "uri", s->uri, "instance",
    instance, "io", s->io, "uptime_ms", (json_int_t) s->uptime_ms,
    "hold_limit_ms", (json_int_t) s->hold_limit_ms, "flush_limit_ms",
    (json_int_t) s->flush_limit_ms, "sets", (json_int_t) s->sets, "sessions",
    (json_int_t) s->sessions, "has_store", (int) s->has_store,
    "store", "path", s->store_path, "limit_bytes", (json_int_t) s->store_limit_bytes, "used_bytes",
    (json_int_t) s->store_used_bytes, "file_bytes",
    (json_int_t) s->store_file_bytes, "written_bytes",
    (json_int_t) s->store_written_bytes, "copied_bytes",
    (json_int_t) s->copied_bytes, "zero_bytes", (json_int_t) s->zero_bytes,
    "exceptions", (json_int_t) s->exceptions_blocks, "invalidated",
    (json_int_t) s->invalidated, "fill_rate",
    (json_int_t) s->store_fill_rate, "full_in_s",
    s->store_full_in_s == UINT64_MAX
      ? NULL
      : json_integer ((json_int_t) s->store_full_in_s),
    "failed", (int) s->store_failed,
    "memory", "ring_bytes", (json_int_t) s->ring_bytes, "ring_dirty_bytes",
    (json_int_t) s->ring_dirty_bytes, "map_bytes", (json_int_t) s->map_bytes,
    "volumes", volumes);
}

static void
print_status (const struct cowset_status *s)
{
  char a[32], b[32], c[32];

  fputs ("server     ", stdout);
  cli_print_text (stdout, s->server);
  fputs (" on ", stdout);
  cli_print_text (stdout, s->machine);
  printf (", %s, up %" PRIu64 " s\n", s->io, s->uptime_ms / 1000);
  printf ("sets       %" PRIu64 "%s\n", s->sets,
          s->has_store ? "" : ", none of which outlives its maker (no store)");
  printf ("store      %s of %s used, %s on disk%s\n",
          cli_size (s->store_used_bytes, a, sizeof a),
          cli_size (s->store_limit_bytes, b, sizeof b),
          cli_size (s->store_file_bytes, c, sizeof c),
          s->store_failed ? ", FAILED" : "");
  if (*s->store_path) {
    fputs ("           in ", stdout);
    cli_print_text (stdout, s->store_path);
    fputs (s->has_store ? "\n" : ", without a name\n", stdout);
  }
  if (s->store_full_in_s != UINT64_MAX)
    printf ("filling    %s a second, full in %" PRIu64 " s at that rate\n",
            cli_size (s->store_fill_rate, a, sizeof a), s->store_full_in_s);
  if (s->invalidated > 0)
    printf ("lost       %" PRIu64 " snapshots since the start\n",
            s->invalidated);
  printf ("memory     %s waiting to be written, %s of map\n",
          cli_size (s->ring_dirty_bytes, a, sizeof a),
          cli_size (s->map_bytes, b, sizeof b));

  printf ("\n%-20s  %10s  %9s  %10s  %s\n", "VOLUME", "SIZE", "SNAPSHOTS",
          "PRESERVED", "PATH");
  for (size_t i = 0; i < s->volumes; ++i) {
    const struct cowset_volume_prop *v = s->volume[i];

    printf ("%-20s  %10s  %9" PRIu64 "  %10s  ", v->name,
            cli_size (v->size_bytes, a, sizeof a), v->snapshots,
            cli_size (v->copied_bytes, b, sizeof b));
    cli_print_text (stdout, v->path);
    printf ("%s\n", v->readonly ? " (read-only)" : "");
  }
}

int
cli_status (struct cli *cli, int argc, char *argv[])
{
  struct cowset_status *s;
  int status = cli_options (cli, argc, argv);
  cowset_hresult hr;

  if (status >= 0)
    return status;
  if (optind < argc)
    return cli_usage (cli, "%s: it takes no argument", argv[optind]);
  status = cli_connect (cli, NULL);
  if (status != CLI_DONE)
    return status;
  hr = cowset_get_status (cli->c, &s);
  if (COWSET_FAILED (hr))
    return cli_fail (hr, NULL);
  if (cli->json)
    status = cli_print_json (json_status (s));
  else {
    print_status (s);
    status = cli_flush ();
  }
  cowset_status_free (s);
  return status;
}
