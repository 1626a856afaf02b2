/* writers.c - cowset writers, and what became of those of a set.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <getopt.h>
#include <string.h>

#include "cli.h"

static const char *
level_name (const struct cowset_writer_metadata *m)
{
  if (m->transaction_manager)
    return "transaction-manager";
  switch (m->level) {
  case VSS_APP_SYSTEM: return "system";
  case VSS_APP_BACK_END: return "back-end";
  default: return "front-end";
  }
}

const char *
cli_writer_state (enum cowset_writer_state state)
{
  static const char *const names[] = {
    [VSS_WS_UNKNOWN] = "unknown",
    [VSS_WS_STABLE] = "stable",
    [VSS_WS_WAITING_FOR_FREEZE] = "waiting-for-freeze",
    [VSS_WS_WAITING_FOR_THAW] = "waiting-for-thaw",
    [VSS_WS_WAITING_FOR_POST_SNAPSHOT] = "waiting-for-post-snapshot",
    [VSS_WS_WAITING_FOR_BACKUP_COMPLETE] = "waiting-for-backup-complete",
    [VSS_WS_FAILED_AT_IDENTIFY] = "failed-at-identify",
    [VSS_WS_FAILED_AT_PREPARE_BACKUP] = "failed-at-prepare-backup",
    [VSS_WS_FAILED_AT_PREPARE_SNAPSHOT] = "failed-at-prepare-snapshot",
    [VSS_WS_FAILED_AT_FREEZE] = "failed-at-freeze",
    [VSS_WS_FAILED_AT_THAW] = "failed-at-thaw",
    [VSS_WS_FAILED_AT_POST_SNAPSHOT] = "failed-at-post-snapshot",
    [VSS_WS_FAILED_AT_BACKUP_COMPLETE] = "failed-at-backup-complete",
    [VSS_WS_FAILED_AT_PRE_RESTORE] = "failed-at-pre-restore",
    [VSS_WS_FAILED_AT_POST_RESTORE] = "failed-at-post-restore",
    [VSS_WS_FAILED_AT_BACKUPSHUTDOWN] = "failed-at-backup-shutdown",
  };

  return (size_t) state < sizeof names / sizeof names[0] ? names[state]
                                                         : "unknown";
}

/* Ask how they are; *count of them. */
static int
ask_all (struct cli *cli, unsigned *count)
{
  cowset_hresult hr;
  int status = cli_run_async (cli, cowset_gather_writer_status);

  if (status != CLI_DONE)
    return status;
  hr = cowset_get_writer_status_count (cli->c, count);
  return COWSET_FAILED (hr) ? cli_fail (hr, NULL) : CLI_DONE;
}

bool
cli_report_writers (struct cli *cli)
{
  struct cowset_writer_status *s;
  bool well = true;
  unsigned count;

  if (ask_all (cli, &count) != CLI_DONE)
    return false;
  for (unsigned i = 0; i < count; ++i) {
    if (COWSET_FAILED (cowset_get_writer_status (cli->c, i, &s)))
      return false;
    if (s->state >= VSS_WS_FAILED_AT_IDENTIFY) {
      cli_say ("writer %s: %s: %s (%s)", s->name, cli_writer_state (s->state),
               s->message, cowset_result_name (s->failure));
      well = false;
    }
    cowset_writer_status_free (s);
  }
  return well;
}

/* ------------------------------------------------------------------- writers */

static json_t *
json_writer (const struct cowset_writer_metadata *m,
             const struct cowset_writer_status *s)
{
  static const char *const types[] = { "undefined", "database", "filegroup" };
  json_t *components = json_array ();
  char id[COWSET_ID_TEXT_SIZE];

  for (size_t i = 0; i < m->components; ++i)
    json_array_append_new (
      components, json_pack ("{s:s, s:s, s:s}", "type",
                             types[m->component[i]->type], "path",
                             m->component[i]->logical_path, "name",
                             m->component[i]->name));
  cowset_id_format (&m->writer_id, id);
  return json_pack ("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "name",
                    m->name, "id", id, "kind", m->kind, "level",
                    level_name (m), "state", cli_writer_state (s->state), "failure",
                    s->failure == S_OK ? "" : cowset_result_name (s->failure),
                    "message", s->message, "components", components);
}

static void
print_writer (const struct cowset_writer_metadata *m,
              const struct cowset_writer_status *s)
{
  static const char *const types[] = { "?", "database", "filegroup" };

  cli_print_text (stdout, m->name);
  printf ("\n  kind       %s\n  level      %s\n  state      %s\n", m->kind,
          level_name (m), cli_writer_state (s->state));
  if (s->failure != S_OK) {
    printf ("  failure    %s: ", cowset_result_name (s->failure));
    cli_print_text (stdout, s->message);
    putchar ('\n');
  }
  for (size_t i = 0; i < m->components; ++i) {
    printf ("  component  %s ", types[m->component[i]->type]);
    if (*m->component[i]->logical_path) {
      cli_print_text (stdout, m->component[i]->logical_path);
      putchar ('/');
    }
    cli_print_text (stdout, m->component[i]->name);
    putchar ('\n');
  }
}

/* All of them; 1 if one has failed. */
static int
print_all (struct cli *cli)
{
  json_t *list = cli->json ? json_array () : NULL;
  unsigned count;
  int result = CLI_DONE, status = ask_all (cli, &count);

  for (unsigned i = 0; status == CLI_DONE && i < count; ++i) {
    struct cowset_writer_metadata *m;
    struct cowset_writer_status *s;
    cowset_hresult hr = cowset_get_writer_metadata (cli->c, i, &m);

    if (COWSET_FAILED (hr))
      status = cli_fail (hr, NULL);
    else if (COWSET_FAILED (hr = cowset_get_writer_status (cli->c, i, &s))) {
      cowset_writer_metadata_free (m);
      status = cli_fail (hr, NULL);
    }
    else {
      if (s->failure != S_OK)
        result = CLI_FAILED;
      if (list)
        json_array_append_new (list, json_writer (m, s));
      else
        print_writer (m, s);
      cowset_writer_status_free (s);
      cowset_writer_metadata_free (m);
    }
  }
  if (list && status == CLI_DONE)
    status = cli_print_json (list);
  else if (list)
    json_decref (list);
  else if (status == CLI_DONE)
    status = cli_flush ();
  return status == CLI_DONE ? result : status;
}

/* A set without volumes: the events, and nothing else. */
static int
rehearse (struct cli *cli)
{
  struct cowset_id set;
  cowset_hresult hr = cowset_set_backup_state (cli->c, false, false,
                                               VSS_BT_COPY, false);
  int status;

  if (COWSET_SUCCEEDED (hr))
    hr = cowset_start_snapshot_set (cli->c, &set);
  if (COWSET_FAILED (hr))
    return cli_fail (hr, NULL);
  status = cli_run_async (cli, cowset_prepare_for_backup);
  if (status == CLI_DONE)
    status = cli_run_async (cli, cowset_do_snapshot_set);
  if (status == CLI_DONE)
    status = cli_run_async (cli, cowset_backup_complete);
  return status;
}

int
cli_writers (struct cli *cli, int argc, char *argv[])
{
  static const struct option options[] = {
    CLI_LONG_OPTIONS,
    { "freeze-timeout", required_argument, NULL, CLI_OPT_FREEZE_TIMEOUT },
    { "try", no_argument, NULL, 't' },
    { NULL, 0, NULL, 0 },
  };
  struct cli_plan plan = { .writer_failure = "continue" }; /* all are shown */
  const uint32_t context = VSS_CTX_BACKUP;
  bool try = false;
  int opt, status;

  while ((opt = getopt_long (argc, argv, CLI_SHORT_OPTIONS "t", options,
                             NULL)) != -1)
    if (opt == 't')
      try = true;
    else if (opt == CLI_OPT_FREEZE_TIMEOUT)
      plan.freeze_timeout = optarg;
    else if ((status = cli_option (cli, opt)) >= 0)
      return status;
  if (optind == argc)
    return cli_usage (cli, "which WRITER? (exec:DIR, fsfreeze:MOUNT-POINT, "
                      "qga:SOCKET)");
  for (int i = optind; i < argc; ++i) {
    if (plan.writer_count == CLI_WRITERS_MAX)
      return cli_usage (cli, "%d writers are the most", CLI_WRITERS_MAX);
    plan.writers[plan.writer_count++] = argv[i];
  }
  status = cli_connect (cli, &context);
  if (status == CLI_DONE)
    status = cli_add_writers (cli, &plan);
  if (status == CLI_DONE)
    status = cli_run_async (cli, cowset_gather_writer_metadata);
  if (status == CLI_DONE && try)
    status = rehearse (cli);
  return status == CLI_DONE ? print_all (cli) : status;
}
