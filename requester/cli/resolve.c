/* resolve.c - cowset resolve; and sets in doubt, for list and info.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <getopt.h>

#include "cli.h"

int
cli_doubtful_sets (struct cli *cli, struct cowset_enum **sets)
{
  cowset_hresult hr = cowset_query_doubtful (cli->c, sets);

  return COWSET_FAILED (hr) ? cli_fail (hr, NULL) : CLI_DONE;
}

void
cli_print_doubt (const struct cowset_set_prop *set)
{
  char home[COWSET_ID_TEXT_SIZE], id[COWSET_ID_TEXT_SIZE];

  cowset_id_format (&set->home, home);
  cowset_id_format (&set->set_id, id);
  printf ("home       store %s, reached as ", home);
  cli_print_text (stdout, *set->home_uri ? set->home_uri : "?");
  printf ("\nin doubt   its home knows whether the set is; ask it, together "
          "with this server:\n           cowset -c URI -c URI resolve %s\n",
          id);
}

static int
report (struct cli *cli, const char *set, bool abort,
        enum cowset_decision decision)
{
  const bool commit = decision == COWSET_DECIDED_COMMIT;

  if (cli->json)
    return cli_print_json (json_pack ("{s:s, s:s}", "set", set, "decision",
                                      commit ? "commit" : "abort"));
  printf ("%s %s\n", set, commit ? "is made" : "was not made");
  if (abort && commit)
    cli_say ("its home was reached, and had decided: --abort was not heeded");
  return cli_flush ();
}

int
cli_resolve (struct cli *cli, int argc, char *argv[])
{
  static const struct option options[] = {
    CLI_LONG_OPTIONS,
    { "abort", no_argument, NULL, 'A' },
    { NULL, 0, NULL, 0 },
  };
  const uint32_t all = VSS_CTX_ALL;
  enum cowset_decision decision;
  struct cowset_id id;
  bool abort = false;
  cowset_hresult hr;
  int opt, status;

  while ((opt = getopt_long (argc, argv, CLI_SHORT_OPTIONS, options,
                             NULL)) != -1)
    if (opt == 'A')
      abort = true;
    else if ((status = cli_option (cli, opt)) >= 0)
      return status;
  if (optind + 1 != argc)
    return cli_usage (cli, optind == argc ? "which SET?" : "one SET at a "
                      "time");
  if (!cowset_id_parse (argv[optind], &id))
    return cli_usage (cli, "%s: is no id of a set", argv[optind]);
  status = cli_connect (cli, &all);
  if (status != CLI_DONE)
    return status;
  hr = cowset_resolve_set (cli->c, &id, abort, &decision);
  if (COWSET_FAILED (hr))
    return cli_fail (hr, NULL);
  return report (cli, argv[optind], abort, decision);
}
