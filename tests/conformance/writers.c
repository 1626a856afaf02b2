/* writers.c - rows 17 to 34: metadata, status, components, failing writers.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include "conformance.h"

/* Names of the writers that take part, in order, each with a space. */
static void
expect_writers (struct cowset *c, const char *names)
{
  char found[256] = "";
  unsigned count;

  OK (cowset_get_writer_metadata_count (c, &count));
  for (unsigned i = 0; i < count; ++i) {
    struct cowset_writer_metadata *m;
    const size_t n = strlen (found);

    OK (cowset_get_writer_metadata (c, i, &m));
    snprintf (found + n, sizeof found - n, "%s ", m->name);
    cowset_writer_metadata_free (m);
  }
  if (strcmp (found, names) != 0)
    FAIL ("writers \"%s\", not \"%s\"", found, names);
}

static void
gather (struct cowset *c)
{
  IS (outcome (cowset_gather_writer_metadata, c), VSS_S_ASYNC_FINISHED);
}

static void
row_17 (void)
{
  struct cowset *c = init_b ("plain");

  IS (cowset_gather_writer_metadata (c, NULL), E_INVALIDARG);
  gather (c);
  cowset_release (c);
}

static void
row_18 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_async *async;

  gather (c);
  IS (cowset_gather_writer_metadata (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_19 (void)
{
  struct cowset *c = init_b ("plain");
  unsigned count;

  IS (cowset_get_writer_metadata_count (c, &count), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_20 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_writer_metadata *m;

  fake_writer (c, "w1");
  fake_writer (c, "w2");
  gather (c);
  IS (cowset_get_writer_metadata (c, 2, &m), VSS_E_OBJECT_NOT_FOUND);
  OK (cowset_get_writer_metadata (c, 1, &m));
  EXPECT (strcmp (m->name, "w2") == 0);
  EXPECT (m->components == 2);
  cowset_writer_metadata_free (m);
  cowset_release (c);
}

static void
row_21 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_writer_metadata *m;

  fake_writer (c, "w");
  gather (c);
  OK (cowset_free_writer_metadata (c));
  IS (cowset_get_writer_metadata (c, 0, &m), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_22 (void)
{
  struct cowset *c = init_b ("plain");
  struct fake_writer *w = fake_writer (c, "w");

  gather (c);
  OK (cowset_disable_writer_classes (c, fake_writer_class (w), 1));
  OK (cowset_disable_writer_instances (c, fake_writer_instance (w), 1));
  expect_writers (c, "w ");
  cowset_release (c);
}

static void
row_23 (void)
{
  struct cowset *c = init_b ("plain");
  struct fake_writer *w1 = fake_writer (c, "w1");

  fake_writer (c, "w2");
  OK (cowset_enable_writer_classes (c, fake_writer_class (w1), 1));
  gather (c);
  expect_writers (c, "w1 ");
  cowset_release (c);
}

static void
row_24 (void)
{
  struct cowset *c = init_b ("plain");
  struct fake_writer *w1 = fake_writer (c, "w1"), *w2 = fake_writer (c, "w2");
  const struct cowset_id both[] = { *fake_writer_class (w1),
                                    *fake_writer_class (w2) };

  fake_writer (c, "w3");
  /* What was disabled before is void: w1 too. */
  OK (cowset_disable_writer_classes (c, both, 2));
  OK (cowset_enable_writer_classes (c, fake_writer_class (w1), 1));
  gather (c);
  expect_writers (c, "w1 ");
  cowset_release (c);
}

static void
row_25 (void)
{
  struct cowset *c = init_b ("plain");
  struct fake_writer *w1 = fake_writer (c, "w1"), *w2 = fake_writer (c, "w2");
  const struct cowset_id both[] = { *fake_writer_class (w1),
                                    *fake_writer_class (w2) };

  OK (cowset_enable_writer_classes (c, both, 2));
  OK (cowset_disable_writer_classes (c, fake_writer_class (w2), 1));
  gather (c);
  expect_writers (c, "w1 ");
  cowset_release (c);
}

/* The program that freezes writers, and thaws them if this one dies, is not
 * there.
 */
static void
row_26 (void)
{
  struct cowset *c = init_b ("plain");

  EXPECT (setenv ("COWSET_WATCHDOG", "/nonexistent/watchdog", 1) == 0);
  OK (cowset_add_writer (c, "exec:/bin/true"));
  IS (outcome (cowset_gather_writer_metadata, c),
      VSS_E_WRITER_INFRASTRUCTURE);
  cowset_release (c);
}

static void
row_27 (void)
{
  struct cowset *c = init_b ("plain");
  unsigned count;

  gather (c);
  IS (cowset_get_writer_status_count (c, &count), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_28 (void)
{
  struct cowset *c = init_b ("plain");
  struct fake_writer *bad;
  unsigned metadata, status;

  fake_writer (c, "w1");
  bad = fake_writer (c, "w2");
  fake_writer (c, "w3");
  /* Without metadata it takes no part. */
  fake_writer_fail (bad, REQ_EVENT_IDENTIFY, VSS_E_WRITERERROR_NONRETRYABLE);
  gather (c);
  OK (cowset_get_writer_metadata_count (c, &metadata));
  IS (outcome (cowset_gather_writer_status, c), VSS_S_ASYNC_FINISHED);
  OK (cowset_get_writer_status_count (c, &status));
  EXPECT (metadata == 2 && status == metadata);
  cowset_release (c);
}

static void
row_29 (void)
{
  struct cowset *c = init_b ("plain");
  struct fake_writer *w = fake_writer (c, "w");
  cowset_hresult failure;

  fake_writer_fail (w, REQ_EVENT_PREPARE_SNAPSHOT,
                    VSS_E_WRITERERROR_RETRYABLE);
  prepare (c);
  make (c);
  EXPECT (writer_state (c, 0, &failure) == VSS_WS_FAILED_AT_PREPARE_SNAPSHOT);
  EXPECT (failure == VSS_E_WRITERERROR_RETRYABLE);
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 1);
  cowset_release (c);
}

static void
row_30 (void)
{
  struct cowset *c = init_b ("plain");
  struct fake_writer *bad;

  fake_writer (c, "w1");
  bad = fake_writer (c, "w2");
  fake_writer (c, "w3");
  fake_writer_fail (bad, REQ_EVENT_FREEZE, VSS_E_WRITERERROR_NONRETRYABLE);
  prepare (c);
  EXPECT (COWSET_FAILED (outcome (cowset_do_snapshot_set, c)));
  EXPECT (writer_state (c, 1, NULL) == VSS_WS_FAILED_AT_FREEZE);
  EXPECT (fake_log_count ("w1:abort") >= 1);
  EXPECT (fake_log_count ("w2:abort") >= 1);
  EXPECT (fake_log_count ("w3:abort") >= 1);
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 0);
  cowset_release (c);
}

static void
row_31 (void)
{
  struct cowset *c = init_b ("plain");
  struct fake_writer *w = fake_writer (c, "w");

  fake_writer_fail (w, REQ_EVENT_POST_SNAPSHOT, VSS_E_WRITERERROR_RETRYABLE);
  prepare (c);
  make (c);
  EXPECT (writer_state (c, 0, NULL) == VSS_WS_FAILED_AT_POST_SNAPSHOT);
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 1);
  cowset_release (c);
  EXPECT (fake_log_count ("w:abort") == 0);
}

/* The set is held up in CommitSnapshots, with the writer frozen. */
static void
row_32 (void)
{
  struct cowset *c = init_b ("providers");
  struct fake_writer *w = fake_writer (c, "w");
  cowset_hresult failure;

  providers_well ();
  provider_rules ("hardware", "commit slow 2000\n");
  fake_writer_window (w, 1000);
  prepare (c);
  EXPECT (COWSET_FAILED (outcome (cowset_do_snapshot_set, c)));
  EXPECT (fake_log_count ("w:abort") >= 1);
  EXPECT (fake_log_count ("w:thaw") == 0);
  writer_state (c, 0, &failure);
  EXPECT (failure == VSS_E_WRITERERROR_TIMEOUT);
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 0);
  cowset_release (c);
  providers_well ();
}

static void
row_33 (void)
{
  struct cowset *c = init_b ("plain");
  struct fake_writer *w = fake_writer (c, "w");
  const struct cowset_id *instance = fake_writer_instance (w);
  const struct cowset_id *class_id = fake_writer_class (w);

  OK (cowset_set_backup_state (c, true, false, VSS_BT_FULL, false));
  gather (c);
  OK (cowset_add_component (c, instance, class_id, VSS_CT_DATABASE, NULL,
                            "one"));
  IS (cowset_add_component (c, instance, class_id, VSS_CT_DATABASE, "",
                            "one"), VSS_E_OBJECT_ALREADY_EXISTS);
  IS (cowset_add_component (c, instance, class_id, VSS_CT_DATABASE, NULL,
                            "none"), E_INVALIDARG);
  OK (cowset_add_component (c, instance, class_id, VSS_CT_DATABASE, NULL,
                            "two"));
  cowset_release (c);
}

static void
row_34 (void)
{
  struct cowset *c = in_context ("plain", VSS_CTX_FILE_SHARE_BACKUP);
  struct fake_writer *w = fake_writer (c, "w");

  gather (c);
  IS (cowset_add_component (c, fake_writer_instance (w),
                            fake_writer_class (w), VSS_CT_DATABASE, NULL,
                            "one"), VSS_E_BAD_STATE);
  cowset_release (c);
}

const struct row writer_rows[] = {
  { 17, REAL, "GatherWriterMetadata (NULL): E_INVALIDARG", row_17, NULL,
    NULL },
  { 18, REAL, "gathered: GatherWriterMetadata again: BAD_STATE", row_18, NULL,
    NULL },
  { 19, REAL, "not gathered: GetWriterMetadataCount: BAD_STATE", row_19, NULL,
    NULL },
  { 20, REAL, "n writers: GetWriterMetadata (n): OBJECT_NOT_FOUND", row_20,
    NULL, NULL },
  { 21, REAL, "metadata freed: GetWriterMetadata (0): BAD_STATE", row_21,
    NULL, NULL },
  { 22, REAL, "gathered: DisableWriterClasses (W): S_OK, W takes part",
    row_22, NULL, NULL },
  { 23, REAL, "EnableWriterClasses (W1): only W1", row_23, NULL, NULL },
  { 24, REAL, "Disable (W1, W2), Enable (W1): Disable is void, only W1",
    row_24, NULL, NULL },
  { 25, REAL, "Enable (W1, W2), Disable (W2): only W1", row_25, NULL, NULL },
  { 26, REAL, "no event infrastructure: Gather...: WRITER_INFRASTRUCTURE",
    row_26, NULL, NULL },
  { 27, REAL, "status not gathered: GetWriterStatusCount: BAD_STATE", row_27,
    NULL, NULL },
  { 28, REAL, "as many statuses as metadata", row_28, NULL, NULL },
  { 29, REAL, "a writer refuses PrepareSnapshot: the set is made",
    row_29, NULL, NULL },
  { 30, REAL, "a writer fails Freeze: no set, each writer sees Abort",
    row_30, NULL, NULL },
  { 31, REAL, "a writer fails PostSnapshot: the set is made, no Abort",
    row_31, NULL, NULL },
  { 32, REAL, "a writer is frozen for too long: Abort, no set",
    row_32, NULL, NULL },
  { 33, REAL, "AddComponent (c) twice: OBJECT_ALREADY_EXISTS", row_33, NULL,
    NULL },
  { 34, REAL, "no writers in the context: AddComponent: BAD_STATE", row_34,
    NULL, NULL },
  { 0, REAL, NULL, NULL, NULL, NULL },
};
