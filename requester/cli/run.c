/* run.c - cowset run: a command with a set around it.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The set is of an auto-release context: whatever becomes of this program, the
 * server deletes it with the connection.
 */
#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"

extern char **environ;

/* COWSET_URI_ and the volume's name in capitals, '_' for what is neither a
 * letter nor a digit.  To be freed.
 */
static char *
variable_of (const char *volume)
{
  char *name;

  if (asprintf (&name, "COWSET_URI_%s", volume) < 0)
    return NULL;
  for (char *p = name; *p; ++p)
    *p = isalnum ((unsigned char) *p) ? (char) toupper ((unsigned char) *p)
                                      : '_';
  return name;
}

/* One volume's variable.  Two volumes whose names differ in what a variable
 * cannot show have none; both are in COWSET_URIS.
 */
static void
export_volume (const struct cowset_set_prop *set, size_t i)
{
  char *name = variable_of (set->snapshot[i]->original_volume);
  bool alone = true;

  for (size_t k = 0; name && k < set->snapshots; ++k) {
    char *other = variable_of (set->snapshot[k]->original_volume);

    if (k != i && other && strcmp (other, name) == 0)
      alone = false;
    free (other);
  }
  if (name && alone)
    setenv (name, set->snapshot[i]->uri, 1);
  else if (name) {
    unsetenv (name);
    cli_say ("%s: %s would be ambiguous and is not set; use COWSET_URIS",
             set->snapshot[i]->original_volume, name);
  }
  free (name);
}

/* What the command is told. */
static int
export_set (struct cli *cli, const struct cowset_set_prop *set)
{
  char id[COWSET_ID_TEXT_SIZE];
  char *list = NULL;
  size_t len = 0;
  FILE *out = open_memstream (&list, &len);

  if (out == NULL)
    return cli_fail (E_OUTOFMEMORY, "out of memory");
  for (size_t i = 0; i < set->snapshots; ++i) {
    fprintf (out, "%s %s\n", set->snapshot[i]->original_volume,
             set->snapshot[i]->uri);
    export_volume (set, i);
  }
  if (fclose (out) != 0) {
    free (list);
    return cli_fail (E_OUTOFMEMORY, "out of memory");
  }
  cowset_id_format (&set->set_id, id);
  setenv ("COWSET_SET", id, 1);
  setenv ("COWSET_URIS", list, 1);
  setenv ("COWSET_URI", cli->uri, 1);
  free (list);
  return CLI_DONE;
}

/* Start the command with no signal blocked.  0, or its errno value. */
static int
start (char *argv[], pid_t *pid)
{
  posix_spawnattr_t attr;
  sigset_t none;
  int err;

  sigemptyset (&none);
  posix_spawnattr_init (&attr);
  posix_spawnattr_setsigmask (&attr, &none);
  posix_spawnattr_setflags (&attr, POSIX_SPAWN_SETSIGMASK);
  err = posix_spawnp (pid, argv[0], NULL, &attr, argv, environ);
  posix_spawnattr_destroy (&attr);
  return err;
}

/* Handle one signal: pass it on, or see whether the command has ended.  True
 * if it has; *status is then as of waitpid().
 */
static bool
handle (int signals, pid_t pid, int *status)
{
  struct signalfd_siginfo info;

  if (read (signals, &info, sizeof info) != sizeof info)
    return false;
  if (info.ssi_signo == SIGCHLD)
    return waitpid (pid, status, WNOHANG) == pid;
  /* What the terminal sends, it has sent to the command as well. */
  if (info.ssi_code != SI_KERNEL)
    kill (pid, (int) info.ssi_signo);
  return false;
}

/* Until the command has ended.  Returns its exit status, as a shell has it. */
static int
follow (struct cli *cli, const struct cowset_set_prop *set, int signals,
        pid_t pid)
{
  bool lost = false;
  int status = 0;

  for (;;) {
    struct pollfd fds[] = {
      { .fd = signals, .events = POLLIN },
      { .fd = lost ? -1 : cowset_connection_fd (cli->c), .events = POLLIN },
    };

    const int n = poll (fds, 2, lost ? -1 : CLI_LOOK_EVERY_MS);

    if (n == -1)
      continue;
    if (n == 0)
      lost = !cli_set_alive (cli, set);
    if (fds[1].revents & POLLIN) {
      cli_say ("the connection to the server was lost, and the set with it");
      lost = true;
    }
    if ((fds[0].revents & POLLIN) && handle (signals, pid, &status))
      break;
  }
  if (!lost)
    lost = !cli_set_alive (cli, set);
  if (WIFSIGNALED (status))
    return 128 + WTERMSIG (status);
  /* A command that did not notice has read what nobody can vouch for. */
  return lost && WEXITSTATUS (status) == 0 ? CLI_NO_SET
                                           : WEXITSTATUS (status);
}

static int
run_with (struct cli *cli, const struct cowset_set_prop *set, int signals,
          char *argv[])
{
  pid_t pid;
  int err;

  if (export_set (cli, set) != CLI_DONE)
    return CLI_NO_SET;
  err = start (argv, &pid);
  if (err != 0) {
    cli_say ("%s: %s", argv[0], strerror (err));
    return err == ENOENT ? 127 : 126;
  }
  return follow (cli, set, signals, pid);
}

int
cli_run (struct cli *cli, int argc, char *argv[])
{
  static const struct option options[] = {
    CLI_LONG_OPTIONS,
    CLI_PLAN_LONG_OPTIONS,
    { NULL, 0, NULL, 0 },
  };
  struct cli_plan plan = {
    .default_context = VSS_CTX_FILE_SHARE_BACKUP,
    .storeless_context = VSS_CTX_FILE_SHARE_BACKUP,
    .writers_context = VSS_CTX_BACKUP,
    .writers_storeless_context = VSS_CTX_BACKUP,
    .auto_release_only = true,
  };
  const struct cowset_set_prop *set;
  struct cowset_enum *sets;
  uint32_t context;
  int opt, status, signals, own = 1;

  /* Ours are the arguments before "--". */
  while (own < argc && strcmp (argv[own], "--") != 0)
    own++;
  while ((opt = getopt_long (own, argv,
                             CLI_SHORT_OPTIONS CLI_PLAN_SHORT_OPTIONS,
                             options, NULL)) != -1)
    if (!cli_plan_option (&plan, opt) && (status = cli_option (cli, opt)) >= 0)
      return status;
  if (cli->json)
    return cli_usage (cli, "--json: standard output is the command's");
  if (own + 1 >= argc)
    return cli_usage (cli, "which COMMAND? (VOLUME... -- COMMAND)");
  plan.volumes = argv + optind;
  plan.volume_count = (size_t) (own - optind);

  signals = cli_signals (true);
  if (signals == -1)
    return CLI_NO_SET;
  status = cli_make_set (cli, &plan, signals, &context, &sets, &set);
  if (status != CLI_DONE)
    return status == CLI_USAGE ? CLI_USAGE : CLI_NO_SET;
  status = run_with (cli, set, signals, argv + own + 1);
  if (status == 0)
    cli_complete (cli, context);
  cowset_enum_free (sets);
  return status;
}
