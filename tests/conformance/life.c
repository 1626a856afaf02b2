/* life.c - rows 1 to 16: the object's life, and what it is set to.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include "conformance.h"

static void
row_1 (void)
{
  IS (cowset_create (server_uri ("plain"), NULL), E_INVALIDARG);
}

static void
row_2 (void)
{
  struct cowset *c;

  /* control=unix lets nobody in over TCP. */
  IS (cowset_create (server_uri ("tcp"), &c), E_ACCESSDENIED);
}

static void
row_3 (void)
{
  struct cowset *c = new_object ("plain");

  IS (cowset_set_context (c, VSS_CTX_BACKUP), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_4 (void)
{
  struct cowset *c = new_object ("plain");
  struct cowset_async *async;

  IS (cowset_gather_writer_metadata (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_5 (void)
{
  struct cowset *c = new_object ("plain");

  OK (cowset_initialize_for_backup (c, NULL));
  OK (cowset_set_context (c, VSS_CTX_BACKUP));
  cowset_release (c);
}

static void
row_6 (void)
{
  struct cowset *c = new_object ("plain");

  IS (cowset_initialize_for_backup (c, "<not xml"),
      VSS_E_INVALID_XML_DOCUMENT);
  /* Still in NEW. */
  OK (cowset_initialize_for_backup (c, fake_document));
  cowset_release (c);
}

static void
row_7 (void)
{
  struct cowset *c = init_b ("plain");

  IS (cowset_initialize_for_backup (c, NULL), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_8 (void)
{
  struct cowset *c = init_b ("plain");

  IS (cowset_initialize_for_restore (c, fake_document), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_9 (void)
{
  struct cowset *c = init_b ("plain");

  IS (cowset_set_context (c, 0x00000005), E_INVALIDARG);
  OK (cowset_set_context (c, VSS_CTX_NAS_ROLLBACK));
  cowset_release (c);
}

static void
row_10 (void)
{
  struct cowset *c = init_b ("plain");

  IS (cowset_set_context (c, VSS_VOLSNAP_ATTR_DIFFERENTIAL |
                               VSS_VOLSNAP_ATTR_PLEX), E_INVALIDARG);
  cowset_release (c);
}

static void
row_11 (void)
{
  struct cowset *c = in_context ("plain", VSS_CTX_FILE_SHARE_BACKUP);

  IS (cowset_set_context (c, VSS_CTX_FILE_SHARE_BACKUP), VSS_E_BAD_STATE);
  IS (cowset_set_context (c, VSS_CTX_ALL), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_12 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_object_prop item;
  struct cowset_enum *e;

  prepare (c);
  make (c);
  OK (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, &e));
  OK (cowset_enum_next (e, 1, &item, NULL));
  EXPECT (item.u.snapshot->attributes == 0);
  EXPECT (cowset_enum_next (e, 1, &item, NULL) == S_FALSE);
  cowset_enum_free (e);
  cowset_release (c);
}

static void
row_13 (void)
{
  struct cowset *c = in_context ("plain", VSS_CTX_ALL);
  struct cowset_id set;

  IS (cowset_start_snapshot_set (c, &set), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_14 (void)
{
  struct cowset *c = init_r ("plain");

  IS (cowset_set_backup_state (c, true, false, VSS_BT_FULL, false),
      VSS_E_BAD_STATE);
  OK (cowset_set_restore_state (c, VSS_RTYPE_BY_COPY));
  cowset_release (c);
}

static void
row_15 (void)
{
  struct cowset *c = init_b ("plain");

  IS (cowset_set_restore_state (c, VSS_RTYPE_BY_COPY), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_16 (void)
{
  struct cowset *c = init_b ("plain");

  prepare (c);
  IS (cowset_set_backup_state (c, true, false, VSS_BT_COPY, false),
      VSS_E_BAD_STATE);
  cowset_release (c);
}

const struct row life_rows[] = {
  { 1, REAL, "CreateVssBackupComponents (NULL): E_INVALIDARG", row_1, NULL,
    NULL },
  { 2, REAL, "without the right: CreateVssBackupComponents: E_ACCESSDENIED",
    row_2, NULL, NULL },
  { 3, REAL, "NEW: SetContext (BACKUP): BAD_STATE", row_3, NULL, NULL },
  { 4, REAL, "NEW: GatherWriterMetadata: BAD_STATE", row_4, NULL, NULL },
  { 5, REAL, "NEW: InitializeForBackup (NULL): S_OK, INIT-B", row_5, NULL,
    NULL },
  { 6, REAL, "NEW: InitializeForBackup (\"<not xml\"): INVALID_XML_DOCUMENT",
    row_6, NULL, NULL },
  { 7, REAL, "INIT-B: InitializeForBackup again: BAD_STATE", row_7, NULL,
    NULL },
  { 8, REAL, "INIT-B: InitializeForRestore: BAD_STATE", row_8, NULL, NULL },
  { 9, REAL, "INIT-B: SetContext (0x5): E_INVALIDARG", row_9, NULL, NULL },
  { 10, REAL, "INIT-B: SetContext (DIFFERENTIAL + PLEX): E_INVALIDARG",
    row_10, NULL, NULL },
  { 11, REAL, "SetContext done: SetContext again: BAD_STATE", row_11, NULL,
    NULL },
  { 12, REAL, "no SetContext: StartSnapshotSet...: attributes 0 (BACKUP)",
    row_12, NULL, NULL },
  { 13, REAL, "SetContext (ALL): StartSnapshotSet: BAD_STATE", row_13, NULL,
    NULL },
  { 14, REAL, "INIT-R: SetBackupState: BAD_STATE", row_14, NULL, NULL },
  { 15, REAL, "INIT-B: SetRestoreState (BY_COPY): BAD_STATE", row_15, NULL,
    NULL },
  { 16, REAL, "PREPARED: SetBackupState: BAD_STATE", row_16, NULL, NULL },
  { 0, REAL, NULL, NULL, NULL, NULL },
};
