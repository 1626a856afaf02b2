/* create.c - making a set, for create and run; cowset create.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Signals that end a command are blocked and read from a signalfd, so that an
 * interrupt at any moment takes the same ordered way out: the operation is
 * cancelled, or the set deleted, before the program ends.
 */
#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli.h"

#define PROGRESS_AFTER_MS 1000
#define PROGRESS_EVERY_MS 200

bool
cli_plan_option (struct cli_plan *plan, int opt)
{
  switch (opt) {
  case 'l': plan->label = optarg; return true;
  case 'x': plan->context = optarg; return true;
  case 'p': plan->provider = optarg; return true;
  case 'a': plan->all = true; return true;
  case 'w':
    /* One too many is said where they are looked at. */
    if (plan->writer_count < CLI_WRITERS_MAX)
      plan->writers[plan->writer_count] = optarg;
    plan->writer_count++;
    return true;
  case CLI_OPT_WRITER_FAILURE: plan->writer_failure = optarg; return true;
  case CLI_OPT_FREEZE_TIMEOUT: plan->freeze_timeout = optarg; return true;
  case CLI_OPT_RETRY:
    plan->retry = true;
    plan->retry_after = optarg;
    return true;
  default: return false;
  }
}

int
cli_signals (bool with_children)
{
  sigset_t set;
  int fd;

  sigemptyset (&set);
  sigaddset (&set, SIGINT);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGHUP);
  sigaddset (&set, SIGQUIT);
  if (with_children) {
    /* Ignored, as some parents leave it, children would vanish unseen. */
    signal (SIGCHLD, SIG_DFL);
    sigaddset (&set, SIGCHLD);
    sigaddset (&set, SIGUSR1);
    sigaddset (&set, SIGUSR2);
  }
  sigprocmask (SIG_BLOCK, &set, NULL);
  fd = signalfd (-1, &set, SFD_CLOEXEC);
  if (fd == -1)
    cli_say ("signalfd: %s", strerror (errno));
  return fd;
}

/* Whether a signal that ends the program has come. */
static bool
ending (int signals)
{
  struct signalfd_siginfo info;

  if (read (signals, &info, sizeof info) != sizeof info)
    return false;
  return info.ssi_signo == SIGINT || info.ssi_signo == SIGTERM ||
         info.ssi_signo == SIGHUP || info.ssi_signo == SIGQUIT;
}

/* ----------------------------------------------------------------- waiting */

/* On a terminal, a line that says what takes so long: which of the steps of
 * making a set, as a bar, and for how many seconds.
 */
static void
show_progress (struct cowset_async *async, uint64_t elapsed_ms)
{
  static const char *const steps[] = { "prepare", "commit", "settle",
                                       "finish" };
  const char *phase = cowset_async_phase (async);
  char bar[] = "[        ]";

  /* The terminal may be a file on what is frozen. */
  if (strcmp (phase, "freeze") == 0 || strcmp (phase, "commit") == 0 ||
      strcmp (phase, "thaw") == 0)
    return;
  for (size_t i = 0; i < sizeof steps / sizeof steps[0]; ++i)
    if (strcmp (phase, steps[i]) == 0) {
      memset (bar + 1, '#', 2 * i);
      bar[1 + 2 * i] = '>';
    }
  fprintf (stderr, "\r%s %-8s %4" PRIu64 " s", bar, phase,
           elapsed_ms / 1000);
}

static void
clear_progress (void)
{
  fprintf (stderr, "\r%30s\r", "");
}

/* Wait for the operation; a signal cancels it.  CLI_DONE, or the exit status
 * after a message.  The async is freed.
 */
static int
wait_for (struct cowset_async *async, int signals)
{
  const bool terminal = isatty (STDERR_FILENO) == 1;
  uint64_t elapsed_ms = 0;
  cowset_hresult status;
  bool shown = false, interrupted = false;
  int result = CLI_DONE;

  for (;;) {
    struct pollfd fds[] = {
      { .fd = cowset_async_fd (async), .events = POLLIN },
      { .fd = signals, .events = POLLIN },
    };
    const int n = poll (fds, 2, terminal ? PROGRESS_EVERY_MS : -1);

    if (n > 0 && (fds[0].revents & POLLIN))
      break;
    if (n > 0 && (fds[1].revents & POLLIN) && ending (signals)) {
      interrupted = true;
      cowset_async_cancel (async);
    }
    if (n == 0 && (elapsed_ms += PROGRESS_EVERY_MS) >= PROGRESS_AFTER_MS) {
      show_progress (async, elapsed_ms);
      shown = true;
    }
  }
  if (shown)
    clear_progress ();
  cowset_async_query_status (async, &status);
  /* The cancel may have come too late for the operation; the signal is not to
   * be forgotten.  A set that was made goes with the connection.
   */
  if (status == VSS_S_ASYNC_CANCELLED || interrupted) {
    cli_say ("interrupted, no set was made");
    result = CLI_FAILED;
  }
  else if (COWSET_FAILED (status))
    result = cli_fail (status, cowset_async_message (async));
  cowset_async_free (async);
  return result;
}

/* ------------------------------------------------------------- the context */

static bool
is_persistent (uint32_t context)
{
  return context & VSS_VOLSNAP_ATTR_PERSISTENT;
}

static bool
is_auto_release (uint32_t context)
{
  return !(context & VSS_VOLSNAP_ATTR_NO_AUTO_RELEASE);
}

static bool
has_writers (uint32_t context)
{
  return !(context & VSS_VOLSNAP_ATTR_NO_WRITERS);
}

static bool
is_uri (const char *volume)
{
  return strncmp (volume, "nbd", 3) == 0 && strstr (volume, "://");
}

/* The servers of volumes that are given by URI: whether all have a store
 * matters for the context.
 */
static cowset_hresult
add_servers (struct cli *cli, const struct cli_plan *plan)
{
  cowset_hresult hr = S_OK;

  for (size_t i = 0; COWSET_SUCCEEDED (hr) && i < plan->volume_count; ++i)
    if (is_uri (plan->volumes[i]))
      hr = cowset_add_server (cli->c, plan->volumes[i]);
  return hr;
}

/* The context that was asked for, or the one that suits the server. */
static int
choose_context (struct cli *cli, const struct cli_plan *plan,
                const struct cowset_status *server, uint32_t *context)
{
  if (plan->context == NULL) {
    if (plan->writer_count > 0)
      *context = server->has_store ? plan->writers_context
                                   : plan->writers_storeless_context;
    else
      *context = server->has_store ? plan->default_context
                                   : plan->storeless_context;
    return CLI_DONE;
  }
  if (!cowset_context_parse (plan->context, context) ||
      *context == VSS_CTX_ALL)
    return cli_usage (cli, "--context %s: no such context", plan->context);
  if (plan->auto_release_only && !is_auto_release (*context))
    return cli_usage (cli, "--context %s: its sets outlive the command, "
                      "which deletes its set", plan->context);
  if (plan->writer_count > 0 && !has_writers (*context))
    return cli_usage (cli, "--context %s: no writer takes part in it",
                      plan->context);
  if (is_persistent (*context) && !server->has_store)
    return cli_fail (VSS_E_UNSUPPORTED_CONTEXT,
                     "the server has no store, and so makes no set that "
                     "lasts");
  return CLI_DONE;
}

/* ----------------------------------------------------------------- writers */

int
cli_add_writers (struct cli *cli, const struct cli_plan *plan)
{
  enum cowset_writer_policy policy = COWSET_WRITERS_REQUIRED;
  unsigned long seconds = 0;
  cowset_hresult hr;

  if (plan->writer_failure && strcmp (plan->writer_failure, "continue") == 0)
    policy = COWSET_WRITERS_OPTIONAL;
  else if (plan->writer_failure && strcmp (plan->writer_failure, "fail") != 0)
    return cli_usage (cli, "--writer-failure %s: is neither fail nor continue",
                      plan->writer_failure);
  if (plan->freeze_timeout) {
    char *end;

    seconds = strtoul (plan->freeze_timeout, &end, 10);
    if (*end || seconds < 1 || seconds > 3600)
      return cli_usage (cli, "--freeze-timeout %s: is not 1 to 3600 seconds",
                        plan->freeze_timeout);
  }
  if (plan->writer_count > CLI_WRITERS_MAX)
    return cli_usage (cli, "--writer: %d are the most", CLI_WRITERS_MAX);
  hr = cowset_set_writer_policy (cli->c, policy);
  if (COWSET_SUCCEEDED (hr))
    hr = cowset_set_writer_limits (cli->c, 0, (uint32_t) seconds * 1000);
  for (size_t i = 0; COWSET_SUCCEEDED (hr) && i < plan->writer_count; ++i)
    hr = cowset_add_writer (cli->c, plan->writers[i]);
  return COWSET_FAILED (hr) ? cli_fail (hr, NULL) : CLI_DONE;
}

/* ----------------------------------------------------------------- the set */

/* The id of a provider by its id or its name. */
static int
find_provider (struct cli *cli, const char *text, struct cowset_id *id)
{
  struct cowset_object_prop item;
  struct cowset_enum *providers;
  char message[256];
  cowset_hresult hr;

  if (text == NULL || cowset_id_parse (text, id))
    return CLI_DONE;
  hr = cowset_query (cli->c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_PROVIDER,
                     &providers);
  if (COWSET_FAILED (hr))
    return cli_fail (hr, NULL);
  while (cowset_enum_next (providers, 1, &item, NULL) == S_OK)
    if (strcmp (item.u.provider->name, text) == 0) {
      *id = item.u.provider->provider_id;
      cowset_enum_free (providers);
      return CLI_DONE;
    }
  cowset_enum_free (providers);
  snprintf (message, sizeof message, "%s: the server has no such provider",
            text);
  return cli_fail (VSS_E_PROVIDER_NOT_REGISTERED, message);
}

static int
add_volumes (struct cli *cli, const struct cli_plan *plan,
             const struct cowset_status *server,
             const struct cowset_id *provider)
{
  const size_t count = plan->all ? server->volumes : plan->volume_count;
  cowset_hresult hr = S_OK;
  struct cowset_id snapshot;

  /* Two servers may have volumes of one name. */
  for (size_t i = 0; COWSET_SUCCEEDED (hr) && i < count; ++i)
    hr = cowset_add_to_snapshot_set (
      cli->c, !plan->all ? plan->volumes[i] : cli->more_count > 0
        ? server->volume[i]->uri : server->volume[i]->name,
      provider, &snapshot);
  return COWSET_FAILED (hr) ? cli_fail (hr, NULL) : CLI_DONE;
}

/* Run one asynchronous call of the object to its end. */
static int
run_async (struct cli *cli,
           cowset_hresult (*call) (struct cowset *c,
                                   struct cowset_async **async),
           int signals)
{
  struct cowset_async *async;
  cowset_hresult hr = call (cli->c, &async);

  return COWSET_FAILED (hr) ? cli_fail (hr, NULL)
                            : wait_for (async, signals);
}

int
cli_run_async (struct cli *cli,
               cowset_hresult (*call) (struct cowset *c,
                                       struct cowset_async **async))
{
  return run_async (cli, call, -1);
}

/* An interrupt may have come when the set was just made: one that lasts would
 * not go with the connection.
 */
static void
drop_finished (struct cli *cli, const struct cowset_id *set)
{
  struct cowset_id nondeleted;
  int32_t deleted;

  cowset_delete_snapshots (cli->c, set, VSS_OBJECT_SNAPSHOT_SET, true,
                           &deleted, &nondeleted);
}

/* What a requester of VSS does, in its order. */
static int
make_set (struct cli *cli, const struct cli_plan *plan, int signals,
          const struct cowset_status *server, uint32_t context,
          struct cowset_id *set)
{
  struct cowset_id provider = { { 0 } };
  const bool writers = has_writers (context);
  cowset_hresult hr;
  int status = find_provider (cli, plan->provider, &provider);

  if (status != CLI_DONE)
    return status;
  hr = cowset_set_context (cli->c, context);
  if (COWSET_SUCCEEDED (hr) && plan->label)
    hr = cowset_set_label (cli->c, plan->label);
  if (COWSET_SUCCEEDED (hr) && writers)
    hr = cowset_set_backup_state (cli->c, false, false, VSS_BT_COPY, false);
  if (COWSET_FAILED (hr))
    return cli_fail (hr, NULL);

  status = cli_add_writers (cli, plan);
  if (status == CLI_DONE && writers)
    status = run_async (cli, cowset_gather_writer_metadata, signals);
  if (status != CLI_DONE)
    return status;
  hr = cowset_start_snapshot_set (cli->c, set);
  if (COWSET_FAILED (hr))
    return cli_fail (hr, NULL);
  status = add_volumes (cli, plan, server, &provider);
  if (status == CLI_DONE && writers)
    status = run_async (cli, cowset_prepare_for_backup, signals);
  if (status == CLI_DONE) {
    status = run_async (cli, cowset_do_snapshot_set, signals);
    if (status != CLI_DONE)
      drop_finished (cli, set);
  }
  if (status == CLI_DONE && plan->writer_count > 0 &&
      !cli_report_writers (cli))
    cli_say ("the set was made nevertheless");
  return status;
}

void
cli_complete (struct cli *cli, uint32_t context)
{
  if (has_writers (context))
    run_async (cli, cowset_backup_complete, -1);
}

/* The set's properties, which its object's context shows. */
static int
look_up (struct cli *cli, uint32_t context, const struct cowset_id *set,
         struct cowset_enum **sets, const struct cowset_set_prop **out)
{
  struct cowset_object_prop item;
  char id[COWSET_ID_TEXT_SIZE];
  int status = cli_sets (cli, sets);

  if (status != CLI_DONE && is_persistent (context)) {
    cowset_id_format (set, id);
    cli_say ("the set %s is made all the same, and stays", id);
  }
  if (status != CLI_DONE)
    return status;
  while (cowset_enum_next (*sets, 1, &item, NULL) == S_OK)
    if (cowset_id_equal (&item.u.set->set_id, set)) {
      *out = item.u.set;
      return CLI_DONE;
    }
  cowset_enum_free (*sets);
  return cli_fail (VSS_E_OBJECT_NOT_FOUND, "the set was lost right after it "
                   "was made");
}

/* One try, with an object of its own. */
static int
try_to_make (struct cli *cli, const struct cli_plan *plan, int signals,
             uint32_t *context, struct cowset_enum **sets,
             const struct cowset_set_prop **set)
{
  struct cowset_status *server;
  struct cowset_id id;
  cowset_hresult hr;
  int status = cli_connect (cli, NULL);

  if (status != CLI_DONE)
    return status;
  hr = add_servers (cli, plan);
  if (COWSET_SUCCEEDED (hr))
    hr = cowset_get_status (cli->c, &server);
  if (COWSET_FAILED (hr))
    return cli_fail (hr, NULL);
  status = choose_context (cli, plan, server, context);
  if (status == CLI_DONE)
    status = make_set (cli, plan, signals, server, *context, &id);
  cowset_status_free (server);
  if (status == CLI_DONE)
    status = look_up (cli, *context, &id, sets, set);
  return status;
}

/* VSS's advice for failures that pass: wait ten minutes, repeat, three times
 * at most.  A requester of VSS begins with a new object each time.
 */
#define RETRIES 3
#define RETRY_AFTER_S 600

static int
parse_retry (struct cli *cli, const char *text, unsigned *seconds)
{
  char *end;

  *seconds = RETRY_AFTER_S;
  if (text == NULL)
    return CLI_DONE;
  errno = 0;
  *seconds = (unsigned) strtoul (text, &end, 10);
  if (errno || *text < '0' || *text > '9' || *end || *seconds > 86400)
    return cli_usage (cli, "--retry=%s: seconds, from 0 to 86400", text);
  return CLI_DONE;
}

/* False if a signal ends the wait. */
static bool
wait_to_retry (unsigned seconds, unsigned attempt, int signals)
{
  struct pollfd fd = { .fd = signals, .events = POLLIN };

  cli_say ("trying again in %u s (%u of %d)", seconds, attempt, RETRIES);
  while (poll (&fd, 1, (int) seconds * 1000) > 0)
    if (ending (signals))
      return false;
  return true;
}

int
cli_make_set (struct cli *cli, const struct cli_plan *plan, int signals,
              uint32_t *context, struct cowset_enum **sets,
              const struct cowset_set_prop **set)
{
  unsigned seconds;
  int status = parse_retry (cli, plan->retry_after, &seconds);

  if (status != CLI_DONE)
    return status;
  if (plan->all ? plan->volume_count > 0 : plan->volume_count == 0)
    return cli_usage (cli, plan->all ? "either --all or VOLUME, not both"
                                     : "which VOLUME? (--all: all of them)");
  /* A volume's URI names a server, too. */
  if ((cli->uri == NULL || cli->uri[0] == '\0') && plan->volume_count > 0 &&
      is_uri (plan->volumes[0]))
    cli->uri = plan->volumes[0];
  status = try_to_make (cli, plan, signals, context, sets, set);
  for (unsigned i = 1; status == CLI_FAILED && plan->retry && i <= RETRIES &&
         cowset_result_retry (cli_take_failure ()) == COWSET_RETRY_LATER; ++i) {
    cowset_release (cli->c);
    cli->c = NULL;
    if (!wait_to_retry (seconds, i, signals))
      return CLI_FAILED;
    status = try_to_make (cli, plan, signals, context, sets, set);
  }
  return status;
}

int
cli_drop_set (struct cli *cli, const struct cowset_set_prop *set)
{
  struct cowset_id nondeleted;
  int32_t deleted;
  cowset_hresult hr =
    cowset_delete_snapshots (cli->c, &set->set_id, VSS_OBJECT_SNAPSHOT_SET,
                             true, &deleted, &nondeleted);

  /* Somebody else may have deleted it, which is as good. */
  return COWSET_FAILED (hr) && hr != VSS_E_OBJECT_NOT_FOUND
           ? cli_fail (hr, NULL) : CLI_DONE;
}

bool
cli_set_alive (struct cli *cli, const struct cowset_set_prop *set)
{
  for (size_t i = 0; i < set->snapshots; i++) {
    struct cowset_snapshot_prop *now;
    const char *volume = set->snapshot[i]->original_volume;
    cowset_hresult hr = cowset_get_snapshot_properties (
      cli->c, &set->snapshot[i]->snapshot_id, &now);
    bool alive;

    if (hr == VSS_E_OBJECT_NOT_FOUND) {
      cli_say ("the snapshot of %s was deleted by somebody else", volume);
      return false;
    }
    if (COWSET_FAILED (hr))
      return true;              /* the connection's end is seen elsewhere */
    alive = now->alive;
    if (!alive)
      cli_say ("the snapshot of %s was lost: %s", volume,
               now->reason ? now->reason : "the server does not say why");
    cowset_snapshot_prop_free (now);
    if (!alive)
      return false;
  }
  return true;
}

/* ------------------------------------------------------------------ create */

static int
print_made (struct cli *cli, const struct cowset_set_prop *set)
{
  char id[COWSET_ID_TEXT_SIZE];

  if (cli->json)
    return cli_print_json (cli_json_set (set));
  cowset_id_format (&set->set_id, id);
  printf ("%s\n", id);
  for (size_t i = 0; i < set->snapshots; ++i)
    printf ("%s\n", set->snapshot[i]->uri);
  return cli_flush ();
}

/* Hold on to the set until a signal ends that, or the server does, or it is
 * not whole any more.
 */
static int
stay (struct cli *cli, const struct cowset_set_prop *set, int signals)
{
  for (;;) {
    struct pollfd fds[] = {
      { .fd = signals, .events = POLLIN },
      { .fd = cowset_connection_fd (cli->c), .events = POLLIN },
    };

    const int n = poll (fds, 2, CLI_LOOK_EVERY_MS);

    if (n == -1)
      continue;
    if (n == 0) {
      if (cli_set_alive (cli, set))
        continue;
      cli_drop_set (cli, set);
      return CLI_FAILED;
    }
    if (fds[1].revents & POLLIN) {
      cli_say ("the connection to the server was lost, and the set with it");
      return CLI_FAILED;
    }
    if ((fds[0].revents & POLLIN) && ending (signals))
      return cli_drop_set (cli, set);
  }
}

enum { OPT_DOCUMENT = 2000 };

int
cli_create (struct cli *cli, int argc, char *argv[])
{
  static const struct option options[] = {
    CLI_LONG_OPTIONS,
    CLI_PLAN_LONG_OPTIONS,
    { "document", required_argument, NULL, OPT_DOCUMENT },
    { NULL, 0, NULL, 0 },
  };
  struct cli_document document = { .path = NULL, .fd = -1 };
  struct cli_plan plan = {
    .default_context = VSS_CTX_NAS_ROLLBACK,
    .storeless_context = VSS_CTX_FILE_SHARE_BACKUP,
    .writers_context = VSS_CTX_APP_ROLLBACK,
    .writers_storeless_context = VSS_CTX_BACKUP,
  };
  const struct cowset_set_prop *set;
  struct cowset_enum *sets;
  uint32_t context;
  int opt, status, signals;

  while ((opt = getopt_long (argc, argv,
                             CLI_SHORT_OPTIONS CLI_PLAN_SHORT_OPTIONS,
                             options, NULL)) != -1)
    if (opt == OPT_DOCUMENT)
      document.path = optarg;
    else if (!cli_plan_option (&plan, opt) &&
             (status = cli_option (cli, opt)) >= 0)
      return status;
  plan.volumes = argv + optind;
  plan.volume_count = (size_t) (argc - optind);

  signals = cli_signals (false);
  if (signals == -1 || !cli_document_begin (&document))
    return CLI_FAILED;
  status = cli_make_set (cli, &plan, signals, &context, &sets, &set);
  if (status != CLI_DONE) {
    cli_document_drop (&document);
    return status;
  }
  cli_complete (cli, context);
  status = cli_document_end (cli, &document);
  if (print_made (cli, set) != CLI_DONE)
    status = CLI_FAILED;
  if (status == CLI_DONE && is_auto_release (context)) {
    cli_say (plan.context ? "the set lasts until this command is interrupted"
                          : "the server has no store: the set lasts until "
                            "this command is interrupted (Ctrl-C)");
    status = stay (cli, set, signals);
  }
  cowset_enum_free (sets);
  return status;
}
