/* main.c - cowset(1): options, help, and which command it is.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <fcntl.h>
#include <getopt.h>
#include <unistd.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char usage[] =
  "cowset - snapshot sets of disks that nbdkit's cowset plugin serves\n"
  "\n"
  "  cowset [-c URI] create [OPTION]... VOLUME...\n"
  "  cowset [-c URI] run [OPTION]... VOLUME... -- COMMAND [ARGUMENT]...\n"
  "  cowset [-c URI] list\n"
  "  cowset [-c URI] info SET\n"
  "  cowset [-c URI] delete SET...\n"
  "  cowset [-c URI]... resolve SET\n"
  "  cowset [-c URI] status\n"
  "  cowset [-c URI] writers [--try] WRITER...\n"
  "\n"
  "  -c, --connect URI  the server, as nbd+unix:///?socket=/path or\n"
  "                     nbd://host:port (default: $COWSET_URI); given\n"
  "                     more than once: a set over all of these servers\n"
  "  -j, --json         JSON on standard output, of every command but run\n"
  "  -h, --help         this, or the help of a command\n"
  "  -V, --version      the version\n"
  "\n"
  "VOLUME is the name of a disk that a server has, or its URI; SET is an id, a\n"
  "label (the newest of that label), or \"latest\".\n"
  "\n"
  "Exit status: 0 done, 1 failed, 2 wrong usage.\n"
  "More: cowset COMMAND --help; man cowset.\n";

#define WRITER_HELP \
    "  -w, --writer W       freeze for the instant: exec:DIR (programs),\n" \
    "                       fsfreeze:MOUNT-POINT, qga:SOCKET (a guest)\n" \
    "      --writer-failure fail|continue\n" \
    "                       continue: the set is then only crash-consistent\n" \
    "      --freeze-timeout SECONDS\n" \
    "                       how long a writer may be frozen (60)\n"

static const struct command {
  const char *name;
  int (*run) (struct cli *cli, int argc, char *argv[]);
  const char *help;
} commands[] = {
  { "create", cli_create,
    "cowset [-c URI] create [OPTION]... VOLUME...\n"
    "\n"
    "Make a set: one instant over all of these volumes.  Prints the set's id\n"
    "and, a line each, where an NBD client opens its snapshots.\n"
    "\n"
    "With a store at the server the set is persistent, and the command\n"
    "returns.  Without one the set lasts for as long as the command, which\n"
    "stays until it is interrupted (Ctrl-C, SIGTERM), and then deletes it.\n"
    "\n"
    "  -a, --all            all volumes of the server\n"
    "  -l, --label LABEL    a name: the snapshots open as VOLUME@LABEL\n"
    "  -x, --context C      backup, file-share-backup (both until the command\n"
    "                       ends), nas-rollback, app-rollback (both lasting)\n"
    "  -p, --provider P     name or id; default: the server's choice\n"
    "      --retry[=S]      after a failure that may pass wait ten minutes (or\n"
    "                       S seconds) and try again, three times at most\n"
    "      --document FILE  save the backup components document there\n"
    WRITER_HELP },
  { "run", cli_run,
    "cowset [-c URI] run [OPTION]... VOLUME... -- COMMAND [ARGUMENT]...\n"
    "\n"
    "Make a set, run the command, delete the set.  The command finds in its\n"
    "environment\n"
    "\n"
    "  COWSET_SET           the set's id\n"
    "  COWSET_URI_NAME      for each volume, where its snapshot opens: NAME\n"
    "                       in capitals, '_' for what is no letter or digit\n"
    "  COWSET_URIS          all of them: a line each, the name, a space, the\n"
    "                       URI\n"
    "  COWSET_URI           the server\n"
    "\n"
    "  -a, --all            all volumes of the server\n"
    "  -l, --label LABEL    a name for the set\n"
    "  -x, --context C      backup or file-share-backup\n"
    "  -p, --provider P     name or id; default: the server's choice\n"
    "      --retry[=S]      after a failure that may pass wait ten minutes (or\n"
    "                       S seconds) and try again, three times at most\n"
    WRITER_HELP
    "\n"
    "Signals are passed on.  Exit status: the command's (128 + N if signal N\n"
    "ended it, 127 if it was not found, 126 if it could not be run), or 125\n"
    "if there was no set, or it was lost before the command succeeded.\n" },
  { "list", cli_list,
    "cowset [-c URI] list [--json]\n"
    "\n"
    "List the sets that the server has, newest first.\n" },
  { "info", cli_info,
    "cowset [-c URI] info [--json] SET\n"
    "\n"
    "All that is known of a set and its snapshots.\n" },
  { "delete", cli_delete,
    "cowset [-c URI] delete [--force] [--json] SET...\n"
    "\n"
    "Delete sets with all of their snapshots, or single snapshots by their\n"
    "id.\n"
    "\n"
    "  -f, --force          delete what somebody uses, too\n" },
  { "resolve", cli_resolve,
    "cowset -c URI -c URI... resolve [--abort] [--json] SET\n"
    "\n"
    "A set over several servers that was cut off while it was made may be in\n"
    "doubt at some of them.  This asks its home, which decides, and carries\n"
    "that out at the other servers that are named.  SET is an id.\n"
    "\n"
    "      --abort          the home is gone for good: drop the parts that are\n"
    "                       in doubt at these servers\n" },
  { "status", cli_status,
    "cowset [-c URI] status [--json]\n"
    "\n"
    "The server, its volumes, and the store of their snapshots.\n" },
  { "writers", cli_writers,
    "cowset [-c URI] writers [--try] [--json] WRITER...\n"
    "\n"
    "What these writers say of themselves: exec:DIR, fsfreeze:MOUNT-POINT,\n"
    "qga:SOCKET.\n"
    "\n"
    "  -t, --try            freeze and thaw them once, without a set\n"
    "      --freeze-timeout SECONDS\n"
    "                       how long a writer may be frozen (60)\n" },
};

static const struct command *
find_command (const char *name)
{
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; ++i)
    if (strcmp (commands[i].name, name) == 0)
      return &commands[i];
  return NULL;
}

/* Planned, and known from the documentation. */
static bool
is_later (const char *name)
{
  static const char *const later[] = {
    "backup", "break", "diff", "expose", "restore", "revert",
    "scrub", "unexpose", "verify",
  };

  for (size_t i = 0; i < sizeof later / sizeof later[0]; ++i)
    if (strcmp (later[i], name) == 0)
      return true;
  return false;
}

static int
help (const char *name)
{
  const struct command *command = name ? find_command (name) : NULL;

  fputs (command ? command->help : usage, stdout);
  return cli_flush ();
}

int
cli_option (struct cli *cli, int opt)
{
  switch (opt) {
  case 'c':
    if (!cli->uri_given)
      cli->uri = optarg;
    else if (cli->more_count < CLI_SERVERS_MAX - 1)
      cli->more[cli->more_count++] = optarg;
    else
      return cli_usage (cli, "-c %s: more than %d servers", optarg,
                        CLI_SERVERS_MAX);
    cli->uri_given = true;
    return -1;
  case 'j':
    cli->json = true;
    return -1;
  case 'h':
    return help (cli->command);
  default:
    /* getopt_long() has said what is wrong. */
    cli_say ("see: cowset %s%s--help", cli->command ? cli->command : "",
             cli->command ? " " : "");
    return CLI_USAGE;
  }
}

int
cli_options (struct cli *cli, int argc, char *argv[])
{
  static const struct option options[] = {
    CLI_LONG_OPTIONS,
    { NULL, 0, NULL, 0 },
  };
  int opt, status;

  while ((opt = getopt_long (argc, argv, CLI_SHORT_OPTIONS, options,
                             NULL)) != -1) {
    status = cli_option (cli, opt);
    if (status >= 0)
      return status;
  }
  return -1;
}

/* Options before the command.  -1 to go on. */
static int
first_options (struct cli *cli, int argc, char *argv[])
{
  static const struct option options[] = {
    CLI_LONG_OPTIONS,
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
  };
  int opt, status;

  while ((opt = getopt_long (argc, argv, "+" CLI_SHORT_OPTIONS "V", options,
                             NULL)) != -1) {
    if (opt == 'V') {
      printf ("cowset %s\n", cowset_version ());
      return cli_flush ();
    }
    status = cli_option (cli, opt);
    if (status >= 0)
      return status;
  }
  return -1;
}

static int
run_command (struct cli *cli, int argc, char *argv[])
{
  const struct command *command;
  int status;

  if (strcmp (argv[0], "help") == 0)
    return help (argv[1]);
  command = find_command (argv[0]);
  if (command == NULL && is_later (argv[0])) {
    cli_say ("%s: not supported by this version", argv[0]);
    return CLI_FAILED;
  }
  if (command == NULL) {
    cli_say ("%s: no such command; see: cowset --help", argv[0]);
    return CLI_USAGE;
  }

  cli->command = command->name;
  optind = 0;                   /* getopt_long() begins anew */
  status = command->run (cli, argc, argv);
  cowset_release (cli->c);
  return status;
}

int
main (int argc, char *argv[])
{
  struct cli cli = { .uri = getenv ("COWSET_URI") };
  int status;

  /* A closed standard stream must not become the connection to the server. */
  while ((status = open ("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && status < 3)
    if (fcntl (status, F_SETFD, 0) == -1)
      return CLI_FAILED;
  if (status >= 3)
    close (status);

  status = first_options (&cli, argc, argv);

  if (status >= 0)
    return status;
  if (optind == argc) {
    fputs (usage, stderr);
    return CLI_USAGE;
  }
  return run_command (&cli, argc - optind, argv + optind);
}
