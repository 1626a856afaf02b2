/* building.c - rows 35 to 52: from StartSnapshotSet to PrepareForBackup.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include "conformance.h"

static cowset_hresult
add_result (struct cowset *c, const char *volume, const char *provider)
{
  struct cowset_id id, snapshot;

  if (provider)
    id = id_of (provider);
  return cowset_add_to_snapshot_set (c, volume, provider ? &id : NULL,
                                     &snapshot);
}

static void
row_35 (void)
{
  struct cowset *c = init_b ("plain");

  IS (add_result (c, "a", NULL), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_36 (void)
{
  struct cowset *c = init_b ("plain");

  IS (cowset_start_snapshot_set (c, NULL), E_INVALIDARG);
  cowset_release (c);
}

/* Sets of disjoint volumes are made side by side: it is the volume that is
 * refused, by AddToSnapshotSet.
 */
static void
row_37 (void)
{
  struct cowset *first = ready ("plain");
  struct cowset *second = with_set ("plain", VSS_CTX_FILE_SHARE_BACKUP);

  IS (add_result (second, "a", NULL), VSS_E_SNAPSHOT_SET_IN_PROGRESS);
  OK (add_result (second, "b", NULL));
  cowset_release (second);
  cowset_release (first);
}

static void
row_38 (void)
{
  struct cowset *second;

  cowset_release (ready ("plain"));
  second = ready ("plain");
  make (second);
  cowset_release (second);
}

static void
row_39 (void)
{
  struct cowset *c = with_set ("plain", VSS_CTX_FILE_SHARE_BACKUP);

  IS (add_result (c, "missing", NULL), VSS_E_OBJECT_NOT_FOUND);
  cowset_release (c);
}

static void
row_40 (void)
{
  struct cowset *c = with_set ("plain", VSS_CTX_FILE_SHARE_BACKUP);

  IS (add_result (c, "a", "99999999-0000-4000-8000-000000000009"),
      VSS_E_PROVIDER_NOT_REGISTERED);
  OK (add_result (c, "a", COW));
  cowset_release (c);
}

static void
row_41 (void)
{
  struct cowset *c = with_set ("providers", VSS_CTX_FILE_SHARE_BACKUP);

  provider_rules ("hardware", "is-supported no\n");
  IS (add_result (c, "a", HARDWARE), VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER);
  cowset_release (c);
  providers_well ();
}

static void
row_42 (void)
{
  struct cowset *c = with_set ("plain", VSS_CTX_FILE_SHARE_BACKUP |
                                          VSS_VOLSNAP_ATTR_PLEX);

  /* A technique that nobody has. */
  IS (add_result (c, "a", NULL), VSS_E_VOLUME_NOT_SUPPORTED);
  cowset_release (c);
}

static void
row_43 (void)
{
  struct cowset *c = with_set ("many", VSS_CTX_FILE_SHARE_BACKUP);
  char name[16];

  for (int i = 0; i < 64; ++i) {
    snprintf (name, sizeof name, "v%d", i);
    OK (add_result (c, name, NULL));
  }
  IS (add_result (c, "v64", NULL), VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED);
  cowset_release (c);
}

static void
row_44 (void)
{
  struct cowset *first = made ("one", VSS_CTX_FILE_SHARE_BACKUP, NULL);
  struct cowset *second = with_set ("one", VSS_CTX_FILE_SHARE_BACKUP);

  IS (add_result (second, "a", NULL),
      VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED);
  cowset_release (second);
  cowset_release (first);
}

static void
row_45 (void)
{
  struct cowset *first = made ("one", VSS_CTX_FILE_SHARE_BACKUP, NULL);
  struct cowset *second = in_context ("one", VSS_CTX_FILE_SHARE_BACKUP);
  bool supported = false;

  OK (cowset_is_volume_supported (second, NULL, "a", &supported));
  EXPECT (supported);
  cowset_release (second);
  cowset_release (first);
}

/* The set has the volume that the other one's disk lies on. */
static void
row_46 (void)
{
  struct cowset *c = in_context ("plain", VSS_CTX_FILE_SHARE_BACKUP);
  struct cowset_id set;

  OK (cowset_add_server (c, server_uri ("nested")));
  OK (cowset_start_snapshot_set (c, &set));
  add (c, "a");
  IS (add_result (c, "inner", NULL), VSS_E_NESTED_VOLUME_LIMIT);
  cowset_release (c);
}

static void
row_47 (void)
{
  struct cowset *c = with_set ("providers", VSS_CTX_FILE_SHARE_BACKUP);

  provider_rules ("hardware", "begin-prepare fail VSS_E_PROVIDER_VETO\n");
  IS (add_result (c, "a", NULL), VSS_E_PROVIDER_VETO);
  provider_rules ("hardware", "begin-prepare fail E_FAIL\n");
  IS (add_result (c, "a", NULL), VSS_E_UNEXPECTED_PROVIDER_ERROR);
  providers_well ();
  OK (add_result (c, "a", NULL));
  cowset_release (c);
}

static void
row_48 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_async *async;
  struct cowset_id set;

  IS (outcome (cowset_gather_writer_metadata, c), VSS_S_ASYNC_FINISHED);
  OK (cowset_start_snapshot_set (c, &set));
  IS (cowset_prepare_for_backup (c, &async), VSS_E_BAD_STATE);
  OK (cowset_set_backup_state (c, true, false, VSS_BT_FULL, false));
  IS (outcome (cowset_prepare_for_backup, c), VSS_S_ASYNC_FINISHED);
  cowset_release (c);
}

static void
row_49 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_id set;

  OK (cowset_set_backup_state (c, true, false, VSS_BT_FULL, false));
  IS (outcome (cowset_gather_writer_metadata, c), VSS_S_ASYNC_FINISHED);
  OK (cowset_start_snapshot_set (c, &set));
  IS (cowset_prepare_for_backup (c, NULL), E_INVALIDARG);
  cowset_release (c);
}

static void
row_50 (void)
{
  struct cowset *c = ready ("plain");
  struct cowset_async *async;

  OK (cowset_set_backup_state (c, true, false, VSS_BT_FULL, false));
  IS (cowset_prepare_for_backup (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
row_51 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_id set;

  prepare (c);
  IS (cowset_start_snapshot_set (c, &set), VSS_E_BAD_STATE);
  cowset_release (c);
}

static void
expect_provider (struct cowset *c, const struct cowset_id *snapshot,
                 const char *provider)
{
  const struct cowset_id id = id_of (provider);
  struct cowset_snapshot_prop *prop;

  OK (cowset_get_snapshot_properties (c, snapshot, &prop));
  EXPECT (cowset_id_equal (&prop->provider_id, &id));
  cowset_snapshot_prop_free (prop);
}

static void
row_52 (void)
{
  struct cowset_id snapshot;
  struct cowset *c;

  providers_well ();
  c = made ("providers", VSS_CTX_FILE_SHARE_BACKUP, &snapshot);
  expect_provider (c, &snapshot, HARDWARE);
  cowset_release (c);

  /* And what comes after it, where it does not support the volume. */
  provider_rules ("hardware", "is-supported no\n");
  c = with_set ("providers", VSS_CTX_FILE_SHARE_BACKUP);
  snapshot = add (c, "a");
  make (c);
  expect_provider (c, &snapshot, COW);
  cowset_release (c);
  providers_well ();
}

const struct row building_rows[] = {
  { 35, REAL, "no StartSnapshotSet: AddToSnapshotSet: BAD_STATE", row_35,
    NULL, NULL },
  { 36, REAL, "StartSnapshotSet (NULL): E_INVALIDARG", row_36, NULL, NULL },
  { 37, REAL, "another object in SET: SNAPSHOT_SET_IN_PROGRESS, from "
    "AddToSnapshotSet of a volume that it has", row_37, NULL, NULL },
  { 38, REAL, "the other object was released: StartSnapshotSet: S_OK", row_38,
    NULL, NULL },
  { 39, REAL, "AddToSnapshotSet (missing volume): OBJECT_NOT_FOUND", row_39,
    NULL, NULL },
  { 40, REAL, "AddToSnapshotSet (unknown provider): PROVIDER_NOT_REGISTERED",
    row_40, NULL, NULL },
  { 41, REAL, "AddToSnapshotSet (provider that does not support it): "
    "VOLUME_NOT_SUPPORTED_BY_PROVIDER", row_41, NULL, NULL },
  { 42, REAL, "no provider supports it: AddToSnapshotSet: "
    "VOLUME_NOT_SUPPORTED", row_42, NULL, NULL },
  { 43, REAL, "64 volumes: AddToSnapshotSet: MAXIMUM_NUMBER_OF_VOLUMES",
    row_43, NULL, NULL },
  { 44, REAL, "at its limit: AddToSnapshotSet: MAXIMUM_NUMBER_OF_SNAPSHOTS",
    row_44, NULL, NULL },
  { 45, REAL, "at its limit: IsVolumeSupported: TRUE", row_45, NULL, NULL },
  { 46, REAL, "a nested device and its host: NESTED_VOLUME_LIMIT",
    row_46, NULL, NULL },
  { 47, REAL, "the provider refuses: AddToSnapshotSet: PROVIDER_VETO", row_47,
    NULL, NULL },
  { 48, REAL, "no SetBackupState: PrepareForBackup: BAD_STATE", row_48, NULL,
    NULL },
  { 49, REAL, "PrepareForBackup (NULL): E_INVALIDARG", row_49, NULL, NULL },
  { 50, REAL, "no writers in the context: PrepareForBackup: BAD_STATE",
    row_50, NULL, NULL },
  { 51, REAL, "PREPARED: StartSnapshotSet: BAD_STATE", row_51, NULL, NULL },
  { 52, REAL, "hardware, software, system: AddToSnapshotSet: by hardware",
    row_52, NULL, NULL },
  { 0, REAL, NULL, NULL, NULL, NULL },
};
