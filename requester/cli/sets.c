/* sets.c - connecting, finding sets; list, info, delete.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

int
cli_connect (struct cli *cli, const uint32_t *context)
{
  cowset_hresult hr;

  if (cli->uri == NULL || *cli->uri == '\0')
    return cli_usage (cli, "no server given: use -c URI or set COWSET_URI");
  hr = cowset_create (cli->uri, &cli->c);
  for (size_t i = 0; COWSET_SUCCEEDED (hr) && i < cli->more_count; ++i)
    hr = cowset_add_server (cli->c, cli->more[i]);
  if (COWSET_SUCCEEDED (hr))
    hr = cowset_initialize_for_backup (cli->c, NULL);
  if (COWSET_SUCCEEDED (hr) && context)
    hr = cowset_set_context (cli->c, *context);
  if (hr == E_INVALIDARG)
    return cli_usage (cli, "%s", cowset_error_message ());
  return COWSET_FAILED (hr) ? cli_fail (hr, NULL) : CLI_DONE;
}

static int
connect_to_all (struct cli *cli)
{
  const uint32_t all = VSS_CTX_ALL;

  return cli_connect (cli, &all);
}

int
cli_sets (struct cli *cli, struct cowset_enum **sets)
{
  cowset_hresult hr = cowset_query (cli->c, NULL, VSS_OBJECT_NONE,
                                    VSS_OBJECT_SNAPSHOT_SET, sets);

  return COWSET_FAILED (hr) ? cli_fail (hr, NULL) : CLI_DONE;
}

/* The next set, or NULL. */
static const struct cowset_set_prop *
next_set (struct cowset_enum *sets)
{
  struct cowset_object_prop item;

  return cowset_enum_next (sets, 1, &item, NULL) == S_OK ? item.u.set : NULL;
}

/* The snapshot of this id in set, or NULL. */
static const struct cowset_snapshot_prop *
find_snapshot (const struct cowset_set_prop *set, const struct cowset_id *id)
{
  for (size_t i = 0; i < set->snapshots; ++i)
    if (cowset_id_equal (&set->snapshot[i]->snapshot_id, id))
      return set->snapshot[i];
  return NULL;
}

int
cli_find_set (struct cli *cli, const char *text, struct cowset_enum **sets,
              const struct cowset_set_prop **set,
              const struct cowset_snapshot_prop **snapshot)
{
  const struct cowset_set_prop *s;
  struct cowset_id id;
  const bool is_id = cowset_id_parse (text, &id);
  int status = cli_sets (cli, sets);
  char message[256];

  if (status != CLI_DONE)
    return status;
  *snapshot = NULL;
  while ((s = next_set (*sets)) != NULL) {
    *set = s;
    if (is_id && !cowset_id_equal (&s->set_id, &id) &&
        (*snapshot = find_snapshot (s, &id)) == NULL)
      continue;
    if (is_id || strcmp (text, "latest") == 0 || strcmp (text, s->label) == 0)
      return CLI_DONE;
  }
  cowset_enum_free (*sets);
  *sets = NULL;
  snprintf (message, sizeof message,
            "%s: there is no set of this id or label", text);
  return cli_fail (VSS_E_OBJECT_NOT_FOUND, message);
}

/* One in doubt, by its id. */
static bool
find_doubtful (struct cli *cli, const char *text, struct cowset_enum **sets,
               const struct cowset_set_prop **set)
{
  const struct cowset_set_prop *s;
  struct cowset_id id;

  if (!cowset_id_parse (text, &id) ||
      COWSET_FAILED (cowset_query_doubtful (cli->c, sets)))
    return false;
  while ((s = next_set (*sets)) != NULL)
    if (cowset_id_equal (&s->set_id, &id)) {
      *set = s;
      return true;
    }
  cowset_enum_free (*sets);
  return false;
}

/* -------------------------------------------------------------------- list */

static void
print_row (const struct cowset_set_prop *s)
{
  char id[COWSET_ID_TEXT_SIZE], created[32];
  size_t lost = 0;

  cowset_id_format (&s->set_id, id);
  printf ("%s  %-16s  %s  %-10s  ", id, *s->label ? s->label : "-",
          cli_time (s->created_ns, created, sizeof created),
          s->in_doubt ? "in doubt" : s->persistent ? "persistent" : s->auto_release ? "session"
                                                         : "memory");
  for (size_t i = 0; i < s->snapshots; ++i) {
    fputs (i > 0 ? "," : "", stdout);
    cli_print_text (stdout, s->snapshot[i]->original_volume);
    lost += !s->snapshot[i]->alive;
  }
  if (lost > 0)
    printf ("  (%zu lost)", lost);
  fputc ('\n', stdout);
}

/* Those in doubt come last. */
static int
print_json (struct cowset_enum *sets, struct cowset_enum *doubtful)
{
  const struct cowset_set_prop *s;
  json_t *array = json_array ();

  while ((s = next_set (sets)) != NULL || (s = next_set (doubtful)) != NULL)
    json_array_append_new (array, cli_json_set (s));
  return cli_print_json (array);
}

static int
print_table (struct cowset_enum *sets, struct cowset_enum *doubtful)
{
  const struct cowset_set_prop *s;

  printf ("%-36s  %-16s  %-19s  %-10s  %s\n", "SET", "LABEL", "CREATED",
          "KIND", "VOLUMES");
  while ((s = next_set (sets)) != NULL || (s = next_set (doubtful)) != NULL)
    print_row (s);
  return cli_flush ();
}

int
cli_list (struct cli *cli, int argc, char *argv[])
{
  struct cowset_enum *sets = NULL, *doubtful = NULL;
  int status = cli_options (cli, argc, argv);

  if (status >= 0)
    return status;
  if (optind < argc)
    return cli_usage (cli, "%s: it takes no argument", argv[optind]);
  status = connect_to_all (cli);
  if (status == CLI_DONE)
    status = cli_doubtful_sets (cli, &doubtful);
  if (status == CLI_DONE)
    status = cli_sets (cli, &sets);
  if (status == CLI_DONE)
    status = cli->json ? print_json (sets, doubtful)
                       : print_table (sets, doubtful);
  cowset_enum_free (sets);
  cowset_enum_free (doubtful);
  return status;
}

/* -------------------------------------------------------------------- info */

static void
print_snapshot (const struct cowset_snapshot_prop *p)
{
  char id[COWSET_ID_TEXT_SIZE], size[32];

  cowset_id_format (&p->snapshot_id, id);
  fputs ("\nvolume     ", stdout);
  cli_print_text (stdout, p->original_volume);
  printf ("\n  snapshot %s\n  size     %s\n", id,
          cli_size (p->size_bytes, size, sizeof size));
  printf ("  uri      %s\n", p->uri);
  printf ("  kept     %" PRIu64 " blocks of its own time\n",
          p->exceptions_blocks);
  if (!p->alive) {
    fputs ("  lost     ", stdout);
    cli_print_text (stdout, p->reason ? p->reason : p->end ? p->end : "");
    fputc ('\n', stdout);
  }
}

static const char *
component_type (enum cowset_component_type type)
{
  return type == VSS_CT_DATABASE ? "database"
         : type == VSS_CT_FILEGROUP ? "files" : "component";
}

static void
print_writer (const struct cowset_set_writer *w)
{
  const char *failure = cowset_result_name (w->failure);
  char id[COWSET_ID_TEXT_SIZE];

  cowset_id_format (&w->writer_id, id);
  fputs ("\nwriter     ", stdout);
  cli_print_text (stdout, w->name);
  fputs (" (", stdout);
  cli_print_text (stdout, w->kind);
  printf (")\n  id       %s\n  state    %s", id,
          cli_writer_state (w->state));
  if (COWSET_FAILED (w->failure)) {
    printf (", %s: ", failure ? failure : "unknown code");
    cli_print_text (stdout, w->message);
  }
  fputc ('\n', stdout);
  for (size_t i = 0; i < w->components; ++i) {
    const struct cowset_component *p = w->component[i];

    printf ("  %-8s ", component_type (p->type));
    cli_print_text (stdout, p->logical_path);
    fputs (*p->logical_path ? "\\" : "", stdout);
    cli_print_text (stdout, p->name);
    fputs (p->selected ? "\n" : ", not selected\n", stdout);
  }
}

static void
print_set (const struct cowset_set_prop *s)
{
  const char *context = cowset_context_name (s->context);
  char id[COWSET_ID_TEXT_SIZE], created[32];

  cowset_id_format (&s->set_id, id);
  printf ("set        %s\n", id);
  printf ("label      %s\n", *s->label ? s->label : "-");
  printf ("created    %s\n", cli_time (s->created_ns, created,
                                       sizeof created));
  printf ("context    %s (0x%08" PRIx32 ")%s\n", context ? context : "?",
          s->context, s->auto_release ? ", until its maker ends" : "");
  printf ("consistent ");
  cli_print_text (stdout, s->consistency);
  printf ("\nmachine    ");
  cli_print_text (stdout, s->machine);
  printf ("\nheld for   %.3f ms\nsettled in %.3f ms\n",
          (double) s->hold_ns / 1e6, (double) s->settle_ns / 1e6);
  printf ("snapshots  %zu of %d\n", s->snapshots, (int) s->snapshots_count);
  for (size_t i = 0; i < s->snapshots; ++i)
    print_snapshot (s->snapshot[i]);
  for (size_t i = 0; i < s->writers; ++i)
    print_writer (s->writer[i]);
  if (s->in_doubt)
    cli_print_doubt (s);
}

int
cli_info (struct cli *cli, int argc, char *argv[])
{
  const struct cowset_snapshot_prop *snapshot;
  const struct cowset_set_prop *set;
  struct cowset_enum *sets;
  int status = cli_options (cli, argc, argv);

  if (status >= 0)
    return status;
  if (optind + 1 != argc)
    return cli_usage (cli, optind == argc ? "which SET?" : "one SET at a "
                      "time");
  status = connect_to_all (cli);
  if (status == CLI_DONE && !find_doubtful (cli, argv[optind], &sets, &set))
    status = cli_find_set (cli, argv[optind], &sets, &set, &snapshot);
  if (status != CLI_DONE)
    return status;
  if (cli->json)
    status = cli_print_json (cli_json_set (set));
  else {
    print_set (set);
    status = cli_flush ();
  }
  cowset_enum_free (sets);
  return status;
}

/* ------------------------------------------------------------------ delete */

/* Delete one; the number of snapshots that went is added to *count. */
static int
delete_one (struct cli *cli, const char *text, bool force, int32_t *count)
{
  const struct cowset_snapshot_prop *snapshot;
  const struct cowset_set_prop *set;
  struct cowset_id nondeleted;
  struct cowset_enum *sets;
  int32_t deleted = 0;
  int status = cli_find_set (cli, text, &sets, &set, &snapshot);
  cowset_hresult hr;

  if (status != CLI_DONE)
    return status;
  if (snapshot)
    hr = cowset_delete_snapshots (cli->c, &snapshot->snapshot_id,
                                  VSS_OBJECT_SNAPSHOT, force, &deleted,
                                  &nondeleted);
  else
    hr = cowset_delete_snapshots (cli->c, &set->set_id,
                                  VSS_OBJECT_SNAPSHOT_SET, force, &deleted,
                                  &nondeleted);
  *count += deleted;
  cowset_enum_free (sets);
  return COWSET_FAILED (hr) ? cli_fail (hr, NULL) : CLI_DONE;
}

int
cli_delete (struct cli *cli, int argc, char *argv[])
{
  static const struct option options[] = {
    CLI_LONG_OPTIONS,
    { "force", no_argument, NULL, 'f' },
    { NULL, 0, NULL, 0 },
  };
  bool force = false;
  int32_t count = 0;
  int opt, status;

  while ((opt = getopt_long (argc, argv, CLI_SHORT_OPTIONS "f", options,
                             NULL)) != -1)
    if (opt == 'f')
      force = true;
    else if ((status = cli_option (cli, opt)) >= 0)
      return status;
  if (optind == argc)
    return cli_usage (cli, "which SET?");
  status = connect_to_all (cli);
  for (int i = optind; status == CLI_DONE && i < argc; ++i)
    status = delete_one (cli, argv[i], force, &count);
  if (cli->json && cli->c) {
    const int printed =
      cli_print_json (json_pack ("{s:i}", "deleted", (int) count));

    return status == CLI_DONE ? printed : status;
  }
  if (status == CLI_DONE)
    printf ("%d snapshot%s deleted\n", (int) count, count == 1 ? "" : "s");
  return status == CLI_DONE ? cli_flush () : status;
}
