/* cli.h - cowset(1), for the files that it is made of.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "cowset.h"

/* Exit statuses. */
enum {
  CLI_DONE = 0,
  CLI_FAILED = 1,
  CLI_USAGE = 2,
  CLI_NO_SET = 125,             /* of run: there was none, or it was lost */
};

#define CLI_SERVERS_MAX 16

struct cli {
  const char *command;
  const char *uri;              /* the first -c, or $COWSET_URI, or NULL */
  const char *more[CLI_SERVERS_MAX - 1]; /* the other -c */
  size_t more_count;
  bool uri_given;               /* by -c */
  bool json;
  struct cowset *c;             /* once connected */
};

/* ---------------------------------------------------------------- commands */

/* Each gets its own arguments, argv[0] being its name, and returns the exit
 * status.  The object is released by main().
 */
int cli_create (struct cli *cli, int argc, char *argv[]);
int cli_run (struct cli *cli, int argc, char *argv[]);
int cli_list (struct cli *cli, int argc, char *argv[]);
int cli_info (struct cli *cli, int argc, char *argv[]);
int cli_resolve (struct cli *cli, int argc, char *argv[]);
int cli_delete (struct cli *cli, int argc, char *argv[]);
int cli_status (struct cli *cli, int argc, char *argv[]);
int cli_writers (struct cli *cli, int argc, char *argv[]);

/* Options that every command takes: the short and the long ones for
 * getopt_long(), to put in front of a command's own, and what to do with one.
 */
#define CLI_SHORT_OPTIONS "c:hj"
#define CLI_LONG_OPTIONS                        \
  { "connect", required_argument, NULL, 'c' },  \
  { "help", no_argument, NULL, 'h' },           \
  { "json", no_argument, NULL, 'j' }

/* -1 to go on, else the exit status to end with. */
int cli_option (struct cli *cli, int opt);

/* For commands with no other options: parse these, leave optind at the first
 * argument.  As cli_option().
 */
int cli_options (struct cli *cli, int argc, char *argv[]);

/* ----------------------------------------------------------------- talking */

/* "cowset: COMMAND: ..." on stderr; returns CLI_USAGE. */
int cli_usage (const struct cli *cli, const char *format, ...)
  __attribute__ ((format (printf, 2, 3)));

/* One line on stderr. */
void cli_say (const char *format, ...)
  __attribute__ ((format (printf, 1, 2)));

/* The failure of the last call: message, name and value of the code, and what
 * to do, on stderr; returns CLI_FAILED.  message NULL: the library's.
 */
int cli_fail (cowset_hresult hr, const char *message);

/* The code of the last cli_fail(); S_OK: there was none since this was called
 * before.
 */
cowset_hresult cli_take_failure (void);

/* -------------------------------------------------------------- connecting */

/* Connect to the server and initialise for a backup in this context (NULL:
 * leave the default).  CLI_DONE, or the exit status after a message.
 */
int cli_connect (struct cli *cli, const uint32_t *context);

/* All sets, newest first; cowset_enum_free() gives them back. */
int cli_sets (struct cli *cli, struct cowset_enum **sets);

/* The sets in doubt, as cli_sets(); and, of one, what info says of that. */
int cli_doubtful_sets (struct cli *cli, struct cowset_enum **sets);
void cli_print_doubt (const struct cowset_set_prop *set);

/* The set that text names: its id or a snapshot's, its label (the newest of
 * that label), or "latest".  If it was a snapshot's id, *snapshot is that
 * snapshot, else NULL.  What they point to belongs to *sets.
 */
int cli_find_set (struct cli *cli, const char *text,
                  struct cowset_enum **sets,
                  const struct cowset_set_prop **set,
                  const struct cowset_snapshot_prop **snapshot);

/* ------------------------------------------------------------- making sets */

#define CLI_WRITERS_MAX 64

struct cli_plan {
  const char *label;
  const char *context;          /* as given; NULL: the command's choice */
  const char *provider;         /* name or id */
  bool all;
  char **volumes;
  size_t volume_count;
  uint32_t default_context;     /* with a store ... */
  uint32_t storeless_context;   /* ... and without one */
  uint32_t writers_context, writers_storeless_context; /* with --writer */
  bool auto_release_only;
  bool retry;
  const char *retry_after;      /* seconds, as given; NULL: ten minutes */
  const char *writers[CLI_WRITERS_MAX];
  size_t writer_count;
  const char *writer_failure;   /* "fail" or "continue"; NULL: fail */
  const char *freeze_timeout;   /* seconds, as given; NULL: the writers' */
};

/* Options of create and run. */
#define CLI_PLAN_SHORT_OPTIONS "l:x:p:aw:"
enum { CLI_OPT_WRITER_FAILURE = 1000, CLI_OPT_FREEZE_TIMEOUT, CLI_OPT_RETRY };
#define CLI_PLAN_LONG_OPTIONS                   \
  { "label", required_argument, NULL, 'l' },    \
  { "context", required_argument, NULL, 'x' },  \
  { "provider", required_argument, NULL, 'p' }, \
  { "all", no_argument, NULL, 'a' },            \
  { "writer", required_argument, NULL, 'w' },   \
  { "writer-failure", required_argument, NULL, CLI_OPT_WRITER_FAILURE }, \
  { "freeze-timeout", required_argument, NULL, CLI_OPT_FREEZE_TIMEOUT }, \
  { "retry", optional_argument, NULL, CLI_OPT_RETRY }
/* Whether opt was one of them. */
bool cli_plan_option (struct cli_plan *plan, int opt);

/* Signals that end a command, blocked from here on and read from this
 * descriptor.  -1 after a message.
 */
int cli_signals (bool with_children);

/* Give the object the writers of the plan.  CLI_DONE, or the exit status after
 * a message.
 */
int cli_add_writers (struct cli *cli, const struct cli_plan *plan);

/* Connect and make the set.  Interrupted by a signal, or after a failure,
 * there is none, and this has said so.  *set belongs to *sets.
 */
int cli_make_set (struct cli *cli, const struct cli_plan *plan, int signals,
                  uint32_t *context, struct cowset_enum **sets,
                  const struct cowset_set_prop **set);

/* Run one asynchronous call of the object to its end, without regard to
 * signals.  CLI_DONE, or the exit status after a message.
 */
int cli_run_async (struct cli *cli,
                   cowset_hresult (*call) (struct cowset *c,
                                           struct cowset_async **async));

/* "stable". */
const char *cli_writer_state (enum cowset_writer_state state);

/* Say which writers have failed, and why; whether none has. */
bool cli_report_writers (struct cli *cli);

/* Tell the writers, if the context has some, that the backup was made.  A
 * failure is said.
 */
void cli_complete (struct cli *cli, uint32_t context);

/* Delete the set, of the object's own context, saying what fails. */
/* How often a command that stays looks whether its set is still there. */
#define CLI_LOOK_EVERY_MS 2000

/* Whether all snapshots of the set can still be read; says so if not. */
bool cli_set_alive (struct cli *cli, const struct cowset_set_prop *set);

int cli_drop_set (struct cli *cli, const struct cowset_set_prop *set);

/* The backup components document, for a file.  Without a path nothing is done.
 */
struct cli_document {
  const char *path;
  int fd;                       /* -1: not begun */
  char beside[4096];            /* where it is until it is whole */
};
/* False after a message: no file can be there. */
bool cli_document_begin (struct cli_document *d);
/* Save it, of the set that was made.  CLI_DONE, or the exit status after a
 * message.
 */
int cli_document_end (struct cli *cli, struct cli_document *d);
/* There is none. */
void cli_document_drop (struct cli_document *d);

/* ---------------------------------------------------------------- printing */

/* Text of a server, with control characters replaced. */
void cli_print_text (FILE *out, const char *text);

/* "1.5 GiB". */
const char *cli_size (uint64_t bytes, char *buf, size_t len);
/* Local time, "2024-05-01 12:00:00". */
const char *cli_time (int64_t ns, char *buf, size_t len);

json_t *cli_json_set (const struct cowset_set_prop *set);

/* Print and free it. */
int cli_print_json (json_t *json);

/* Everything has reached stdout; else CLI_FAILED after a message. */
int cli_flush (void);

#endif /* CLI_H */
