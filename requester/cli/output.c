/* output.c - what cowset(1) says and prints.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

int
cli_usage (const struct cli *cli, const char *format, ...)
{
  va_list args;

  fprintf (stderr, "cowset: %s: ", cli->command);
  va_start (args, format);
  vfprintf (stderr, format, args);
  va_end (args);
  fprintf (stderr, "; see: cowset %s --help\n", cli->command);
  return CLI_USAGE;
}

void
cli_say (const char *format, ...)
{
  va_list args;

  fputs ("cowset: ", stderr);
  va_start (args, format);
  vfprintf (stderr, format, args);
  va_end (args);
  fputc ('\n', stderr);
}

static cowset_hresult last_failure = S_OK;

cowset_hresult
cli_take_failure (void)
{
  const cowset_hresult hr = last_failure;

  last_failure = S_OK;
  return hr;
}

int
cli_fail (cowset_hresult hr, const char *message)
{
  const char *name = cowset_result_name (hr);
  const char *advice = cowset_result_advice (hr);

  last_failure = hr;
  if (message == NULL)
    message = cowset_error_message ();
  if (*message == '\0')
    message = cowset_result_cause (hr);
  fputs ("cowset: error: ", stderr);
  cli_print_text (stderr, message);
  fprintf (stderr, " (%s, 0x%08" PRIx32 ")\n", name ? name : "unknown code",
           (uint32_t) hr);
  /* The server's message may have ended with it. */
  if (strstr (message, advice) == NULL)
    cli_say ("what to do: %s", advice);
  return CLI_FAILED;
}

void
cli_print_text (FILE *out, const char *text)
{
  for (; *text; ++text)
    fputc (iscntrl ((unsigned char) *text) ? '?' : *text, out);
}

const char *
cli_size (uint64_t bytes, char *buf, size_t len)
{
  static const char *const units[] = {
    "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB",
  };
  double n = (double) bytes;
  unsigned unit = 0;

  while (n >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
    n /= 1024;
    unit++;
  }
  snprintf (buf, len, unit == 0 ? "%.0f %s" : "%.1f %s", n, units[unit]);
  return buf;
}

const char *
cli_time (int64_t ns, char *buf, size_t len)
{
  const time_t seconds = (time_t) (ns / 1000000000);
  struct tm tm;

  if (localtime_r (&seconds, &tm) == NULL ||
      strftime (buf, len, "%Y-%m-%d %H:%M:%S", &tm) == 0)
    snprintf (buf, len, "?");
  return buf;
}

/* RFC 3339, UTC. */
static json_t *
json_time (int64_t ns)
{
  const time_t seconds = (time_t) (ns / 1000000000);
  char date[32], text[64];
  struct tm tm;

  if (gmtime_r (&seconds, &tm) == NULL ||
      strftime (date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
    return json_null ();
  snprintf (text, sizeof text, "%s.%03dZ", date,
            (int) (ns / 1000000 % 1000));
  return json_string (text);
}

static json_t *
json_id (const struct cowset_id *id)
{
  char text[COWSET_ID_TEXT_SIZE];

  cowset_id_format (id, text);
  return json_string (text);
}

static json_t *
json_text (const char *text)
{
  return text ? json_string (text) : json_null ();
}

static json_t *
json_snapshot (const struct cowset_snapshot_prop *p)
{
  return json_pack ("{s:o, s:s, s:s, s:s, s:I, s:I, s:o, s:b, s:o, s:o, s:I}",
                    "snapshot", json_id (&p->snapshot_id), "volume",
                    p->original_volume, "export", p->device, "uri", p->uri,
                    "size", (json_int_t) p->size_bytes, "attributes",
                    (json_int_t) p->attributes, "provider",
                    json_id (&p->provider_id), "alive", (int) p->alive, "end",
                    json_text (p->end), "reason", json_text (p->reason),
                    "exceptions", (json_int_t) p->exceptions_blocks);
}

static json_t *
json_component (const struct cowset_component *p)
{
  return json_pack ("{s:i, s:s, s:s, s:b}", "type", (int) p->type, "path",
                    p->logical_path, "name", p->name, "selected",
                    (int) p->selected);
}

static json_t *
json_writer (const struct cowset_set_writer *p)
{
  json_t *components = json_array ();

  for (size_t i = 0; i < p->components; ++i)
    json_array_append_new (components, json_component (p->component[i]));
  return json_pack ("{s:o, s:o, s:s, s:s, s:s, s:o, s:s, s:o}", "writer",
                    json_id (&p->writer_id), "instance",
                    json_id (&p->instance_id), "name", p->name, "kind",
                    p->kind, "state", cli_writer_state (p->state),
                    "failure", COWSET_FAILED (p->failure)
                      ? json_text (cowset_result_name (p->failure))
                      : json_null (),
                    "message", p->message, "components", components);
}

json_t *
cli_json_set (const struct cowset_set_prop *p)
{
  json_t *snapshots = json_array (), *writers = json_array ();

  for (size_t i = 0; i < p->snapshots; ++i)
    json_array_append_new (snapshots, json_snapshot (p->snapshot[i]));
  for (size_t i = 0; i < p->writers; ++i)
    json_array_append_new (writers, json_writer (p->writer[i]));
  return json_pack ("{s:o, s:s, s:o, s:I, s:b, s:b, s:I, s:o, s:I, s:I, s:I,"
                    " s:i, s:s, s:s, s:o, s:o, s:b, s:o*, s:o*}",
                    "set", json_id (&p->set_id), "label", p->label,
                    "context", json_text (cowset_context_name (p->context)),
                    "attributes", (json_int_t) p->context, "persistent",
                    (int) p->persistent, "auto_release",
                    (int) p->auto_release, "number", (json_int_t) p->number,
                    "created", json_time (p->created_ns), "created_ns",
                    (json_int_t) p->created_ns, "hold_ns",
                    (json_int_t) p->hold_ns, "settle_ns",
                    (json_int_t) p->settle_ns, "count",
                    (int) p->snapshots_count, "machine", p->machine,
                    "consistency", p->consistency,
                    "snapshots", snapshots, "writers", writers, "in_doubt",
                    (int) p->in_doubt, "home",
                    p->in_doubt ? json_id (&p->home) : NULL, "home_uri",
                    p->in_doubt ? json_string (p->home_uri) : NULL);
}

int
cli_print_json (json_t *json)
{
  if (json == NULL)
    return cli_fail (E_OUTOFMEMORY, "out of memory");
  json_dumpf (json, stdout, JSON_INDENT (2));
  fputc ('\n', stdout);
  json_decref (json);
  return cli_flush ();
}

int
cli_flush (void)
{
  if (fflush (stdout) == 0 && !ferror (stdout))
    return CLI_DONE;
  cli_say ("standard output: %s", strerror (errno));
  return CLI_FAILED;
}
