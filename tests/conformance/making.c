/* making.c - rows 53 to 75: DoSnapshotSet.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "conformance.h"

static void
row_53 (void)
{
  struct cowset *c = ready ("plain");

  IS (cowset_do_snapshot_set (c, NULL), E_INVALIDARG);
  make (c);
  cowset_release (c);
}

static void
row_54 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_async *async;

  IS (cowset_do_snapshot_set (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_55 (void)
{
  struct cowset *c = with_set ("plain", VSS_CTX_BACKUP);
  struct cowset_async *async;

  add (c, "a");
  IS (cowset_do_snapshot_set (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_56 (void)
{
  struct cowset *c = in_context ("plain", VSS_CTX_BACKUP);
  struct cowset_async *async;
  struct cowset_id set;

  OK (cowset_set_backup_state (c, true, false, VSS_BT_FULL, false));
  IS (outcome (cowset_gather_writer_metadata, c), VSS_S_ASYNC_FINISHED);
  OK (cowset_start_snapshot_set (c, &set));
  add (c, "a");
  IS (cowset_do_snapshot_set (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_57 (void)
{
  struct cowset *c = ready ("plain");

  IS (outcome (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  cowset_release (c);
}

static void
row_58 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_async *async;
  cowset_hresult status;

  prepare (c);
  OK (cowset_do_snapshot_set (c, &async));
  OK (cowset_async_query_status (async, &status));
  EXPECT (status == VSS_S_ASYNC_PENDING || status == VSS_S_ASYNC_FINISHED);
  IS (end_of (async), VSS_S_ASYNC_FINISHED);
  cowset_release (c);
}

static void
row_59 (void)
{
  struct cowset *c = ready ("providers");
  struct cowset_async *async, *second;

  provider_rules ("hardware", "end-prepare slow 60000\n");
  async = start (cowset_do_snapshot_set, c);
  await_provider ("hardware", "end-prepare");
  IS (cowset_do_snapshot_set (c, &second), VSS_E_BAD_STATE);
  OK (cowset_async_cancel (async));
  cowset_async_free (async);
  cowset_release (c);
  providers_well ();
}

/* The outcome of a set of "a" whose provider behaves so; nothing is left. */
static void
expect_outcome (const char *rules, cowset_hresult expected)
{
  struct cowset *c;

  provider_rules ("hardware", rules);
  c = ready ("providers");
  IS (outcome (cowset_do_snapshot_set, c), expected);
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 0);
  cowset_release (c);
  EXPECT (write_volume ("providers", "a", 0, 1));
  providers_well ();
}

/* The store, which is the server's, cannot take what the set needs. */
static void
row_60 (void)
{
  struct cowset *c = ready ("tight");

  IS (outcome (cowset_do_snapshot_set, c), VSS_E_INSUFFICIENT_STORAGE);
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 0);
  cowset_release (c);
  expect_outcome ("end-prepare fail VSS_E_INSUFFICIENT_STORAGE\n",
                  VSS_E_INSUFFICIENT_STORAGE);
}

static void
row_61 (void)
{
  expect_outcome ("end-prepare fail VSS_E_PROVIDER_VETO\n",
                  VSS_E_PROVIDER_VETO);
}

static bool
log_says (const char *server, const char *text)
{
  char variable[64], line[1024];
  const char *path;
  bool found = false;
  FILE *fp;

  snprintf (variable, sizeof variable, "LOG_%s", server);
  path = getenv (variable);
  fp = path ? fopen (path, "r") : NULL;
  while (fp && !found && fgets (line, sizeof line, fp))
    found = strstr (line, text) != NULL;
  if (fp)
    fclose (fp);
  return found;
}

static void
row_62 (void)
{
  expect_outcome ("end-prepare fail E_FAIL\n",
                  VSS_E_UNEXPECTED_PROVIDER_ERROR);
  EXPECT (log_says ("providers", "E_FAIL"));
}

/* Touched, each sync of the server "slow" waits. */
static void
row_63 (void)
{
  const char *slow = getenv ("SLOW_SYNC");
  struct cowset *c = ready ("slow");
  cowset_hresult hr;
  int fd;

  EXPECT (slow);
  EXPECT (write_volume ("slow", "a", 0, 1));
  fd = open (slow, O_CREAT | O_WRONLY, 0600);
  EXPECT (fd != -1);
  close (fd);
  hr = outcome (cowset_do_snapshot_set, c);
  unlink (slow);
  IS (hr, VSS_E_FLUSH_WRITES_TIMEOUT);
  cowset_release (c);
}

struct writing {
  const char *server;
  pthread_t thread;
  uint64_t answered_ns;
};

static void *
write_one (void *opaque)
{
  struct writing *w = opaque;

  w->answered_ns = write_volume (w->server, "a", 0, 7);
  return NULL;
}

/* The provider would take longer than the row has.  That the write is answered
 * while CommitSnapshots is still at it shows that the hold ended by itself.
 */
static void
row_64 (void)
{
  struct writing w = { "providers", 0, 0 };
  struct cowset *c = ready ("providers");
  struct cowset_async *async;

  provider_rules ("hardware", "commit slow 11000\n");
  async = start (cowset_do_snapshot_set, c);
  await_provider ("hardware", "commit");
  EXPECT (pthread_create (&w.thread, NULL, write_one, &w) == 0);
  IS (end_of (async), VSS_E_HOLD_WRITES_TIMEOUT);
  pthread_join (w.thread, NULL);
  EXPECT (w.answered_ns);
  EXPECT (provider_saw ("hardware", "commit", false) < w.answered_ns);
  /* Before the provider would have been done: the hold's limit is 10 s. */
  EXPECT (w.answered_ns - provider_saw ("hardware", "commit", false) >=
          UINT64_C (9000000000));
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 0);
  cowset_release (c);
  providers_well ();
}

/* A transaction manager that does not freeze in the time that it has, or cannot
 * be thawed; what DoSnapshotSet comes to.
 */
static cowset_hresult
with_transactions (uint32_t context, enum req_event event)
{
  struct cowset *c = in_context ("plain", context);
  struct fake_writer *w = fake_writer (c, "w");
  cowset_hresult hr;

  fake_writer (c, "other");
  fake_writer_transactions (w);
  fake_writer_window (w, 500);
  if (event == REQ_EVENT_FREEZE)
    fake_writer_slow (w, event, 1500);
  else
    fake_writer_fail (w, event, VSS_E_WRITERERROR_TIMEOUT);
  prepare (c);
  hr = outcome (cowset_do_snapshot_set, c);
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == (hr == VSS_S_ASYNC_FINISHED));
  cowset_release (c);
  /* Each is told of the end, whoever failed. */
  EXPECT (fake_log_count ("other:freeze") ==
          (fake_log_count ("other:thaw") || fake_log_count ("other:abort")));
  return hr;
}

static void
row_65 (void)
{
  IS (with_transactions (VSS_CTX_BACKUP, REQ_EVENT_FREEZE),
      VSS_E_TRANSACTION_FREEZE_TIMEOUT);
}

static void
row_66 (void)
{
  IS (with_transactions (VSS_CTX_BACKUP | VSS_VOLSNAP_ATTR_NOT_TRANSACTED,
                         REQ_EVENT_FREEZE), VSS_S_ASYNC_FINISHED);
  EXPECT (fake_log_count ("w:freeze") == 0);
}

static void
row_67 (void)
{
  IS (with_transactions (VSS_CTX_BACKUP, REQ_EVENT_THAW),
      VSS_E_TRANSACTION_THAW_TIMEOUT);
}

static void
row_68 (void)
{
  expect_outcome ("end-prepare fail VSS_E_REBOOT_REQUIRED\n",
                  VSS_E_REBOOT_REQUIRED);
}

static void
row_69 (void)
{
  struct cowset *c;

  providers_well ();
  provider_rules ("software", "commit fail VSS_E_PROVIDER_VETO\n");
  c = with_set ("providers", VSS_CTX_FILE_SHARE_BACKUP);
  add_to (c, "a", HARDWARE);
  add_to (c, "b", SOFTWARE);
  IS (outcome (cowset_do_snapshot_set, c), VSS_E_PROVIDER_VETO);
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 0);
  EXPECT (provider_saw ("hardware", "abort", true));
  EXPECT (provider_saw ("software", "abort", true));
  cowset_release (c);
  EXPECT (write_volume ("providers", "a", 0, 2));
  EXPECT (write_volume ("providers", "b", 0, 2));
  providers_well ();
}

/* A write that comes in the hold is answered while the provider is still in
 * PostCommit.
 */
static void
row_72 (void)
{
  struct writing w = { "providers", 0, 0 };
  struct cowset *c = ready ("providers");
  struct cowset_async *async;

  provider_rules ("hardware", "commit slow 1000\npost-commit slow 60000\n");
  async = start (cowset_do_snapshot_set, c);
  await_provider ("hardware", "commit");
  EXPECT (pthread_create (&w.thread, NULL, write_one, &w) == 0);
  await_provider ("hardware", "post-commit");
  pthread_join (w.thread, NULL);
  EXPECT (w.answered_ns);
  EXPECT (provider_saw ("hardware", "commit", true));
  EXPECT (provider_saw ("hardware", "post-commit", true) == 0);
  OK (cowset_async_cancel (async));
  cowset_async_free (async);
  cowset_release (c);
  providers_well ();
}

/* An object in FAILED, of a context with writers; then the call is made. */
static struct cowset *
in_failed (struct fake_writer **w)
{
  struct cowset *c = init_b ("providers");

  provider_rules ("hardware", "end-prepare fail VSS_E_PROVIDER_VETO\n");
  *w = fake_writer (c, "w");
  prepare (c);
  IS (outcome (cowset_do_snapshot_set, c), VSS_E_PROVIDER_VETO);
  providers_well ();
  return c;
}

static void
row_73 (void)
{
  struct fake_writer *w;
  struct cowset *c = in_failed (&w);
  struct cowset_async *async;

  IS (cowset_backup_complete (c, &async), VSS_E_BAD_STATE);
  OK (cowset_abort_backup (c));
  cowset_release (c);
}

static void
row_74 (void)
{
  struct fake_writer *w;
  struct cowset *c = in_failed (&w);

  IS (cowset_set_backup_succeeded (c, fake_writer_instance (w),
                                   fake_writer_class (w), VSS_CT_DATABASE,
                                   NULL, "one", true), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_75 (void)
{
  struct cowset *c = made ("plain", VSS_CTX_FILE_SHARE_BACKUP, NULL);
  struct cowset_id snapshot;

  IS (cowset_add_to_snapshot_set (c, "b", NULL, &snapshot), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_70 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_id set;

  fake_writer (c, "w");
  OK (cowset_set_backup_state (c, true, false, VSS_BT_FULL, false));
  IS (outcome (cowset_gather_writer_metadata, c), VSS_S_ASYNC_FINISHED);
  OK (cowset_start_snapshot_set (c, &set));
  IS (outcome (cowset_prepare_for_backup, c), VSS_S_ASYNC_FINISHED);
  make (c);
  IS (outcome (cowset_backup_complete, c), VSS_S_ASYNC_FINISHED);
  cowset_release (c);
  if (strcmp (fake_log (), "w:identify w:prepare-backup w:prepare-snapshot "
              "w:freeze w:thaw w:post-snapshot w:backup-complete "
              "w:backup-shutdown ") != 0)
    FAIL ("the writer saw: %s", fake_log ());
}

static size_t
position (const char *entry)
{
  const char *at = strstr (fake_log (), entry);

  if (at == NULL)
    FAIL ("no %s in: %s", entry, fake_log ());
  return (size_t) (at - fake_log ());
}

static void
row_71 (void)
{
  struct cowset *c = init_b ("plain");

  fake_writer_level (fake_writer (c, "system"), VSS_APP_SYSTEM);
  fake_writer_level (fake_writer (c, "front"), VSS_APP_FRONT_END);
  fake_writer_level (fake_writer (c, "back"), VSS_APP_BACK_END);
  prepare (c);
  make (c);
  EXPECT (position ("front:freeze") < position ("back:freeze"));
  EXPECT (position ("back:freeze") < position ("system:freeze"));
  cowset_release (c);
}

const struct row making_rows[] = {
  { 53, REAL, "DoSnapshotSet (NULL): E_INVALIDARG", row_53, NULL, NULL },
  { 54, REAL, "INIT-B: DoSnapshotSet: BAD_STATE", row_54, NULL, NULL },
  { 55, REAL, "writers, metadata not gathered: DoSnapshotSet: BAD_STATE",
    row_55, NULL, NULL },
  { 56, REAL, "writers, not prepared: DoSnapshotSet: BAD_STATE", row_56, NULL,
    NULL },
  { 57, REAL, "no writers, SET: DoSnapshotSet: FINISHED", row_57, NULL,
    NULL },
  { 58, REAL, "PREPARED: DoSnapshotSet, QueryStatus: PENDING or FINISHED",
    row_58, NULL, NULL },
  { 59, REAL, "running: DoSnapshotSet again: BAD_STATE", row_59, NULL, NULL },
  { 60, REAL, "no room: DoSnapshotSet: qs INSUFFICIENT_STORAGE", row_60, NULL,
    NULL },
  { 61, REAL, "EndPrepareSnapshots PROVIDER_VETO: qs PROVIDER_VETO", row_61,
    NULL, NULL },
  { 62, REAL, "EndPrepareSnapshots E_FAIL: qs UNEXPECTED_PROVIDER_ERROR, in "
    "the log", row_62, NULL, NULL },
  { 63, REAL, "flush over its limit: qs FLUSH_WRITES_TIMEOUT", row_63, NULL,
    NULL },
  { 64, REAL, "CommitSnapshots of 11 s: qs HOLD_WRITES_TIMEOUT, writes go on "
    "at 10 s", row_64, NULL, NULL },
  { 65, REAL, "a transaction manager does not freeze: "
    "TRANSACTION_FREEZE_TIMEOUT",
    row_65, NULL, NULL },
  { 66, REAL, "the same, NOT_TRANSACTED: not that code",
    row_66, NULL, NULL },
  { 67, REAL, "a transaction manager does not thaw: "
    "TRANSACTION_THAW_TIMEOUT",
    row_67, NULL, NULL },
  { 68, REAL, "the provider wants a restart: qs REBOOT_REQUIRED", row_68,
    NULL, NULL },
  { 69, REAL, "the second provider fails in Commit: nothing left, both see "
    "AbortSnapshots", row_69, NULL, NULL },
  { 70, REAL, "no volume, writers: made, all events seen",
    row_70, NULL, NULL },
  { 71, REAL, "front-end, back-end, system are frozen in this order",
    row_71, NULL, NULL },
  { 72, REAL, "held writes are released before PostCommit", row_72, NULL,
    NULL },
  { 73, REAL, "FAILED: BackupComplete: BAD_STATE", row_73, NULL, NULL },
  { 74, REAL, "FAILED: SetBackupSucceeded: BAD_STATE", row_74, NULL, NULL },
  { 75, REAL, "CREATED: AddToSnapshotSet: BAD_STATE", row_75, NULL, NULL },
  { 0, REAL, NULL, NULL, NULL, NULL },
};
