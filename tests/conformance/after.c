/* after.c - rows 82 to 97: properties, BackupComplete, release, AbortBackup.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include "conformance.h"

static void
row_82 (void)
{
  struct cowset_snapshot_prop *prop;
  struct cowset_id snapshot;
  struct cowset *c = made ("plain", VSS_CTX_FILE_SHARE_BACKUP |
                                      VSS_VOLSNAP_ATTR_DIFFERENTIAL,
                           &snapshot);

  OK (cowset_get_snapshot_properties (c, &snapshot, &prop));
  EXPECT (prop->status == VSS_SS_CREATED && (int) prop->status == 12);
  EXPECT (prop->attributes == (VSS_CTX_FILE_SHARE_BACKUP |
                               VSS_VOLSNAP_ATTR_DIFFERENTIAL));
  EXPECT (strncmp (prop->device, "a@", 2) == 0);
  EXPECT (strchr (prop->device, '\\') == NULL);
  EXPECT (prop->snapshots_count == 1);
  EXPECT (read_export ("plain", prop->device, 0) >= 0);
  cowset_snapshot_prop_free (prop);
  cowset_release (c);
}

static void
row_83 (void)
{
  struct cowset *c = with_set ("providers", VSS_CTX_FILE_SHARE_BACKUP);
  const struct cowset_id snapshot = add (c, "a");
  struct cowset_snapshot_prop *prop;
  struct cowset_async *async;

  provider_rules ("hardware", "post-commit slow 60000\n");
  async = start (cowset_do_snapshot_set, c);
  await_provider ("hardware", "post-commit");
  IS (cowset_get_snapshot_properties (c, &snapshot, &prop),
      VSS_E_OBJECT_NOT_FOUND);
  OK (cowset_async_cancel (async));
  cowset_async_free (async);
  cowset_release (c);
  providers_well ();
}

static void
row_84 (void)
{
  struct cowset *c = made ("plain", VSS_CTX_FILE_SHARE_BACKUP, NULL);
  struct cowset_snapshot_prop *prop;

  IS (cowset_get_snapshot_properties (c, &unknown_id, &prop),
      VSS_E_OBJECT_NOT_FOUND);
  cowset_release (c);
}

/* CREATED in the default context, with component "one" of *w in the backup. */
static struct cowset *
created (struct fake_writer **w)
{
  struct cowset *c = init_b ("plain");
  struct cowset_id set;

  *w = fake_writer (c, "w");
  OK (cowset_set_backup_state (c, true, false, VSS_BT_FULL, false));
  IS (outcome (cowset_gather_writer_metadata, c), VSS_S_ASYNC_FINISHED);
  OK (cowset_add_component (c, fake_writer_instance (*w),
                            fake_writer_class (*w), VSS_CT_DATABASE, NULL,
                            "one"));
  OK (cowset_start_snapshot_set (c, &set));
  add (c, "a");
  IS (outcome (cowset_prepare_for_backup, c), VSS_S_ASYNC_FINISHED);
  make (c);
  return c;
}

static cowset_hresult
succeeded (struct cowset *c, struct fake_writer *w, const char *component)
{
  return cowset_set_backup_succeeded (c, fake_writer_instance (w),
                                      fake_writer_class (w), VSS_CT_DATABASE,
                                      NULL, component, true);
}

static void
row_85 (void)
{
  struct fake_writer *w;
  struct cowset *c = created (&w);

  IS (succeeded (c, w, "none"), VSS_E_OBJECT_NOT_FOUND);
  /* The writer has it, the backup does not. */
  IS (succeeded (c, w, "two"), VSS_E_OBJECT_NOT_FOUND);
  OK (succeeded (c, w, "one"));
  cowset_release (c);
}

static void
row_86 (void)
{
  struct fake_writer *w;
  struct cowset *c = created (&w);

  IS (cowset_backup_complete (c, NULL), E_INVALIDARG);
  cowset_release (c);
}

static void
row_87 (void)
{
  struct cowset *c = with_set ("plain", VSS_CTX_BACKUP);
  struct cowset_async *async;

  IS (cowset_backup_complete (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_88 (void)
{
  struct cowset *c = init_r ("plain");
  struct cowset_async *async;

  IS (cowset_backup_complete (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_89 (void)
{
  struct fake_writer *w;
  struct cowset *c = created (&w);

  fake_writer_fail (w, REQ_EVENT_BACKUP_COMPLETE,
                    VSS_E_UNEXPECTED_WRITER_ERROR);
  IS (outcome (cowset_backup_complete, c), VSS_E_UNEXPECTED_WRITER_ERROR);
  EXPECT (writer_state (c, 0, NULL) == VSS_WS_FAILED_AT_BACKUP_COMPLETE);
  cowset_release (c);
}

static void
row_90 (void)
{
  struct fake_writer *w;
  struct cowset *c = created (&w);

  IS (outcome (cowset_backup_complete, c), VSS_S_ASYNC_FINISHED);
  IS (succeeded (c, w, "one"), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_91 (void)
{
  struct cowset *c = init_b ("plain"), *other = init_b ("plain");

  fake_writer (c, "w");
  prepare (c);
  make (c);
  EXPECT (count_of (other, VSS_OBJECT_SNAPSHOT) == 1);
  cowset_release (c);
  EXPECT (count_of (other, VSS_OBJECT_SNAPSHOT) == 0);
  EXPECT (fake_log_count ("w:backup-shutdown") == 1);
  cowset_release (other);
}

/* Give back what outlives its object. */
static void
delete_snapshot (const char *server, const struct cowset_id *snapshot)
{
  struct cowset *c = in_context (server, VSS_CTX_ALL);
  struct cowset_id left;
  int32_t deleted;

  OK (cowset_delete_snapshots (c, snapshot, VSS_OBJECT_SNAPSHOT, true,
                               &deleted, &left));
  EXPECT (deleted == 1);
  cowset_release (c);
}

/* A snapshot of APP_ROLLBACK, whose object is released. */
static struct cowset_id
kept (void)
{
  struct cowset *c = in_context ("store", VSS_CTX_APP_ROLLBACK);
  struct cowset_object_prop item;
  struct cowset_id snapshot;
  struct cowset_enum *e;

  prepare (c);
  make (c);
  OK (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, &e));
  OK (cowset_enum_next (e, 1, &item, NULL));
  snapshot = item.u.snapshot->snapshot_id;
  cowset_enum_free (e);
  cowset_release (c);
  return snapshot;
}

static void
row_92 (void)
{
  const struct cowset_id snapshot = kept ();

  EXPECT (listed ("store", VSS_CTX_APP_ROLLBACK, &snapshot));
  EXPECT (listed ("store", VSS_CTX_ALL, &snapshot));
  delete_snapshot ("store", &snapshot);
}

static void
row_93 (void)
{
  const struct cowset_id snapshot = kept ();

  EXPECT (!listed ("store", VSS_CTX_BACKUP, &snapshot));
  EXPECT (!listed ("store", VSS_CTX_NAS_ROLLBACK, &snapshot));
  delete_snapshot ("store", &snapshot);
  EXPECT (!listed ("store", VSS_CTX_ALL, &snapshot));
}

static void
row_94 (void)
{
  struct cowset_id snapshot;
  struct cowset *c = made ("plain", VSS_CTX_FILE_SHARE_BACKUP, &snapshot);
  struct cowset_enum *e;

  IS (cowset_query (c, &snapshot, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, &e),
      E_INVALIDARG);
  IS (cowset_query (c, NULL, VSS_OBJECT_SNAPSHOT, VSS_OBJECT_SNAPSHOT, &e),
      E_INVALIDARG);
  IS (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_NONE, &e),
      E_INVALIDARG);
  IS (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, NULL),
      E_INVALIDARG);
  cowset_release (c);
}

static void
row_95 (void)
{
  struct cowset *c = new_object ("plain");

  IS (cowset_abort_backup (c), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_96 (void)
{
  struct cowset *c = init_b ("plain");

  fake_writer (c, "w");
  OK (cowset_abort_backup (c));
  EXPECT (*fake_log () == '\0');
  cowset_release (c);
}

static void
row_97 (void)
{
  struct cowset *c = init_b ("plain"), *other;

  fake_writer (c, "w");
  prepare (c);
  OK (cowset_abort_backup (c));
  EXPECT (fake_log_count ("w:abort") == 1);
  other = ready ("plain");
  make (other);
  cowset_release (other);
  cowset_release (c);
}

const struct row after_rows[] = {
  { 82, REAL, "CREATED: GetSnapshotProperties: CREATED (12), device, "
    "attributes", row_82, NULL, NULL },
  { 83, REAL, "CREATING: GetSnapshotProperties: OBJECT_NOT_FOUND", row_83,
    NULL, NULL },
  { 84, REAL, "unknown id: GetSnapshotProperties: OBJECT_NOT_FOUND", row_84,
    NULL, NULL },
  { 85, REAL, "SetBackupSucceeded (unknown component): OBJECT_NOT_FOUND",
    row_85, NULL, NULL },
  { 86, REAL, "BackupComplete (NULL): E_INVALIDARG", row_86, NULL, NULL },
  { 87, REAL, "SET: BackupComplete: BAD_STATE", row_87, NULL, NULL },
  { 88, REAL, "INIT-R: BackupComplete: BAD_STATE", row_88, NULL, NULL },
  { 89, REAL, "a writer crashes: BackupComplete: UNEXPECTED_WRITER_ERROR",
    row_89, NULL, NULL },
  { 90, REAL, "COMPLETE: SetBackupSucceeded: BAD_STATE", row_90, NULL, NULL },
  { 91, REAL, "BACKUP, released: the snapshot is gone, OnBackupShutdown",
    row_91, NULL, NULL },
  { 92, REAL, "APP_ROLLBACK, released: the snapshot is there", row_92, NULL,
    "store" },
  { 93, REAL, "APP_ROLLBACK: Query in BACKUP: not listed", row_93, NULL,
    "store" },
  { 94, REAL, "Query (an id, or other types): E_INVALIDARG", row_94, NULL,
    NULL },
  { 95, REAL, "NEW: AbortBackup: BAD_STATE", row_95, NULL, NULL },
  { 96, REAL, "INIT-B: AbortBackup: S_OK, no event", row_96, NULL, NULL },
  { 97, REAL, "PREPARED: AbortBackup: OnAbort, and another can begin", row_97,
    NULL, NULL },
  { 0, REAL, NULL, NULL, NULL, NULL },
};
