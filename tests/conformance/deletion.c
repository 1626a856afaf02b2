/* deletion.c - rows 98 to 120: delete, break, revert, expose, and the store.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include "conformance.h"

/* A set of a, b, c; their ids in order. */
static struct cowset *
three (const char *server, struct cowset_id *set,
       struct cowset_id snapshots[3])
{
  struct cowset *c = in_context (server, VSS_CTX_FILE_SHARE_BACKUP);

  OK (cowset_start_snapshot_set (c, set));
  snapshots[0] = add (c, "a");
  snapshots[1] = add (c, "b");
  snapshots[2] = add (c, "c");
  make (c);
  return c;
}

static void
row_98 (void)
{
  struct cowset_id set, snapshots[3], left = unknown_id;
  struct cowset *c = three ("plain", &set, snapshots);
  int32_t deleted = -1;

  OK (cowset_delete_snapshots (c, &set, VSS_OBJECT_SNAPSHOT_SET, false,
                               &deleted, &left));
  EXPECT (deleted == 3);
  EXPECT (cowset_id_is_null (&left));
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 0);
  cowset_release (c);
}

static void
row_99 (void)
{
  struct cowset_id set, snapshots[3], left;
  struct cowset *c;
  int32_t deleted = -1;

  providers_well ();
  c = three ("providers", &set, snapshots);
  provider_rules ("hardware", "delete fail VSS_E_PROVIDER_VETO b\n");
  IS (cowset_delete_snapshots (c, &set, VSS_OBJECT_SNAPSHOT_SET, false,
                               &deleted, &left), VSS_E_PROVIDER_VETO);
  EXPECT (deleted == 1);
  EXPECT (cowset_id_equal (&left, &snapshots[1]));
  EXPECT (!listed ("providers", VSS_CTX_ALL, &snapshots[0]));
  EXPECT (listed ("providers", VSS_CTX_ALL, &snapshots[1]));
  EXPECT (listed ("providers", VSS_CTX_ALL, &snapshots[2]));
  providers_well ();
  cowset_release (c);
}

static void
row_100 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_id left;
  int32_t deleted;

  IS (cowset_delete_snapshots (c, &unknown_id, VSS_OBJECT_SNAPSHOT, false,
                               &deleted, &left), VSS_E_OBJECT_NOT_FOUND);
  IS (cowset_delete_snapshots (c, &unknown_id, VSS_OBJECT_SNAPSHOT_SET, false,
                               &deleted, &left), VSS_E_OBJECT_NOT_FOUND);
  EXPECT (deleted == 0);
  cowset_release (c);
}

static struct cowset_async *
break_ex (struct cowset *c, const struct cowset_id *set, uint32_t flags)
{
  struct cowset_async *async;

  OK (cowset_break_snapshot_set_ex (c, set, flags, &async));
  return async;
}

static void
row_101 (void)
{
  struct cowset_id set, snapshots[3];
  struct cowset *c = three ("plain", &set, snapshots);

  IS (cowset_break_snapshot_set (c, &set), VSS_E_PROVIDER_VETO);
  IS (end_of (break_ex (c, &set, 0)), VSS_E_PROVIDER_VETO);
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 3);
  cowset_release (c);
}

static void
row_102 (void)
{
  const uint32_t all = VSS_BREAKEX_FLAG_REVERT_IDENTITY_ALL;
  struct cowset_id set, snapshots[3];
  struct cowset_async *async;
  struct cowset *c;

  providers_well ();
  c = three ("providers", &set, snapshots);
  IS (cowset_break_snapshot_set_ex (
        c, &set, all | VSS_BREAKEX_FLAG_REVERT_IDENTITY_NONE, &async),
      E_INVALIDARG);
  IS (cowset_break_snapshot_set_ex (
        c, &set, VSS_BREAKEX_FLAG_MASK_LUNS | all, &async), E_INVALIDARG);
  IS (cowset_break_snapshot_set_ex (c, &set, 0x100, &async), E_INVALIDARG);
  IS (end_of (break_ex (c, &set, all)), VSS_E_PROVIDER_VETO);
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 3);
  cowset_release (c);
}

static void
row_103 (void)
{
  struct cowset *c = init_b ("plain");

  IS (end_of (break_ex (c, &unknown_id, 0)), VSS_E_OBJECT_NOT_FOUND);
  IS (cowset_break_snapshot_set (c, &unknown_id), VSS_E_OBJECT_NOT_FOUND);
  cowset_release (c);
}

static void
row_104 (void)
{
  struct cowset_id snapshot;
  struct cowset *c = made ("plain", VSS_CTX_FILE_SHARE_BACKUP, &snapshot);

  IS (cowset_revert_to_snapshot (c, &snapshot, false),
      VSS_E_UNSUPPORTED_CONTEXT);
  IS (cowset_revert_to_snapshot (c, &unknown_id, false),
      VSS_E_OBJECT_NOT_FOUND);
  cowset_release (c);
}

/* A persistent snapshot is refused with the code for a provider that cannot,
 * and is there afterwards.
 */
static void
revert_refused (bool force)
{
  struct cowset_id snapshot, left;
  struct cowset *c = made ("store", VSS_CTX_NAS_ROLLBACK, &snapshot);
  struct cowset_async *async;
  int32_t deleted;

  IS (cowset_revert_to_snapshot (c, &snapshot, force), E_NOTIMPL);
  IS (cowset_query_revert_status (c, "a", &async), E_NOTIMPL);
  EXPECT (listed ("store", VSS_CTX_NAS_ROLLBACK, &snapshot));
  OK (cowset_delete_snapshots (c, &snapshot, VSS_OBJECT_SNAPSHOT, false,
                               &deleted, &left));
  cowset_release (c);
}

static void
row_105 (void)
{
  revert_refused (false);
}

static void
row_106 (void)
{
  revert_refused (true);
}

static void
row_107 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_async *async;

  IS (cowset_query_revert_status (c, "no-volume", &async),
      VSS_E_OBJECT_NOT_FOUND);
  IS (cowset_query_revert_status (c, "a", NULL), E_POINTER);
  IS (cowset_query_revert_status (c, NULL, &async), E_POINTER);
  cowset_release (c);
}

static cowset_hresult
expose (struct cowset *c, const struct cowset_id *snapshot, const char *path,
        uint32_t attributes, const char *name)
{
  char *exposed = NULL;
  const cowset_hresult hr = cowset_expose_snapshot (c, snapshot, path,
                                                    attributes, name,
                                                    &exposed);

  EXPECT (exposed == NULL);
  return hr;
}

/* The arguments, and the kinds of snapshots that are never exposed. */
static void
row_108 (void)
{
  const uint32_t locally = VSS_VOLSNAP_ATTR_EXPOSED_LOCALLY;
  const uint32_t remotely = VSS_VOLSNAP_ATTR_EXPOSED_REMOTELY;
  struct cowset_id snapshot;
  struct cowset *c = made ("plain", VSS_CTX_FILE_SHARE_BACKUP, &snapshot);

  IS (expose (c, &snapshot, "sub", locally, "/mnt"), E_INVALIDARG);
  IS (expose (c, &snapshot, NULL, locally, NULL), E_INVALIDARG);
  IS (expose (c, &snapshot, NULL, locally | remotely, "/mnt"), E_INVALIDARG);
  IS (expose (c, &snapshot, NULL, 0, "/mnt"), E_INVALIDARG);
  /* Only persistent ones. */
  IS (expose (c, &snapshot, NULL, locally, "/mnt"), E_INVALIDARG);
  IS (expose (c, &unknown_id, NULL, locally, "/mnt"), VSS_E_OBJECT_NOT_FOUND);
  cowset_release (c);
}

static void
row_109 (void)
{
  struct cowset_id snapshot;
  struct cowset *c = made ("plain", VSS_CTX_FILE_SHARE_BACKUP, &snapshot);

  IS (expose (c, &snapshot, NULL, VSS_VOLSNAP_ATTR_EXPOSED_REMOTELY, NULL),
      VSS_E_PROVIDER_VETO);
  IS (cowset_unexpose_snapshot (c, &snapshot), VSS_E_OBJECT_NOT_FOUND);
  IS (cowset_unexpose_snapshot (c, &unknown_id), VSS_E_OBJECT_NOT_FOUND);
  cowset_release (c);
}

/* ------------------------------------------------ the store, when it fills */

static bool
is_alive (struct cowset *c, const struct cowset_id *snapshot)
{
  struct cowset_snapshot_prop *prop;
  bool alive;

  OK (cowset_get_snapshot_properties (c, snapshot, &prop));
  alive = prop->alive;
  EXPECT (alive || prop->reason);
  cowset_snapshot_prop_free (prop);
  return alive;
}

/* Overwrite "a" from its beginning, in order, for as long as writes succeed and
 * the snapshot lives; false if a write failed.
 */
static bool
fill (const char *server, struct cowset *c, const struct cowset_id *watched,
      bool *alive)
{
  const uint64_t blocks = 2048; /* 8 MiB, all of it */
  struct nbd_handle *nbd = open_volume (server, "a");
  bool written = true;

  *alive = true;
  for (uint64_t i = 0; i < blocks && written && *alive; ++i) {
    written = write_block (nbd, i * 4096, 0xa5);
    if (i % 64 == 63)
      *alive = is_alive (c, watched);
  }
  nbd_shutdown (nbd, 0);
  nbd_close (nbd);
  return written;
}

static void
row_112 (void)
{
  struct cowset_id old_one, new_one;
  struct cowset *first = made ("small", VSS_CTX_FILE_SHARE_BACKUP, &old_one);
  struct nbd_handle *nbd = open_volume ("small", "a");
  struct cowset_snapshot_prop *prop;
  struct cowset *second;
  char device[64];
  bool alive;

  /* What the first one alone keeps. */
  for (uint64_t i = 0; i < 256; ++i)
    EXPECT (write_block (nbd, i * 4096, 0x11));
  nbd_shutdown (nbd, 0);
  nbd_close (nbd);
  second = made ("small", VSS_CTX_FILE_SHARE_BACKUP, &new_one);
  EXPECT (fill ("small", second, &old_one, &alive));
  EXPECT (!alive);
  EXPECT (is_alive (second, &new_one));
  OK (cowset_get_snapshot_properties (second, &new_one, &prop));
  snprintf (device, sizeof device, "%s", prop->device);
  cowset_snapshot_prop_free (prop);
  EXPECT (read_export ("small", device, 0) == 0x11);
  cowset_release (second);
  cowset_release (first);
}

static void
row_113 (void)
{
  struct cowset_id snapshot;
  struct cowset *c = made ("protected", VSS_CTX_FILE_SHARE_BACKUP, &snapshot);
  bool alive;

  EXPECT (!fill ("protected", c, &snapshot, &alive));
  EXPECT (is_alive (c, &snapshot));
  cowset_release (c);
}

static void
row_110 (void)
{
  struct cowset *c = init_b ("plain"), *snapshots;

  /* Without snapshots it is refused as well, but not for them. */
  IS (cowset_change_diff_area_maximum_size (c, "a", VSS_ASSOC_REMOVE),
      VSS_E_PROVIDER_VETO);
  snapshots = made ("plain", VSS_CTX_FILE_SHARE_BACKUP, NULL);
  IS (cowset_change_diff_area_maximum_size (c, "a", VSS_ASSOC_REMOVE),
      VSS_E_VOLUME_IN_USE);
  IS (cowset_change_diff_area_maximum_size (c, "none", VSS_ASSOC_REMOVE),
      VSS_E_OBJECT_NOT_FOUND);
  IS (cowset_change_diff_area_maximum_size (c, "a", 4096), E_INVALIDARG);
  cowset_release (snapshots);
  cowset_release (c);
}

static void
row_111 (void)
{
  struct cowset *c = init_b ("plain");

  IS (cowset_add_diff_area (c, "a", UINT64_C (320) << 20),
      VSS_E_OBJECT_ALREADY_EXISTS);
  IS (cowset_add_diff_area (c, "a", VSS_ASSOC_NO_MAX_SPACE),
      VSS_E_OBJECT_ALREADY_EXISTS);
  IS (cowset_add_diff_area (c, "none", VSS_ASSOC_NO_MAX_SPACE),
      VSS_E_VOLUME_NOT_SUPPORTED);
  IS (cowset_add_diff_area (c, "a", 4096), E_INVALIDARG);
  cowset_release (c);
}

#define FSRVP "MS-FSRVP is no part of this product"

const struct row deletion_rows[] = {
  { 98, REAL, "a set of 3: DeleteSnapshots: S_OK, 3, GUID_NULL", row_98, NULL,
    NULL },
  { 99, REAL, "the middle one cannot be deleted: 1, its id, the rest stays",
    row_99, NULL, NULL },
  { 100, REAL, "unknown id: DeleteSnapshots: OBJECT_NOT_FOUND", row_100, NULL,
    NULL },
  { 101, REAL, "software set: BreakSnapshotSet(Ex): PROVIDER_VETO", row_101,
    NULL, NULL },
  { 102, NOW, "hardware set: BreakSnapshotSetEx (REVERT_IDENTITY_ALL): "
    "BREAK_REVERT_ID_FAILED", row_102,
    "no provider breaks: flags are checked, PROVIDER_VETO", NULL },
  { 103, REAL, "unknown set: BreakSnapshotSetEx: OBJECT_NOT_FOUND", row_103,
    NULL, NULL },
  { 104, REAL, "not persistent: RevertToSnapshot: UNSUPPORTED_CONTEXT",
    row_104, NULL, NULL },
  { 105, NOW, "volume in use, no force: RevertToSnapshot: VOLUME_IN_USE",
    row_105, "no provider reverts: E_NOTIMPL", "store" },
  { 106, NOW, "revert running: RevertToSnapshot: REVERT_IN_PROGRESS", row_106,
    "no provider reverts: E_NOTIMPL", "store" },
  { 107, REAL, "no volume: QueryRevertStatus: OBJECT_NOT_FOUND", row_107,
    NULL, NULL },
  { 108, REAL, "ExposeSnapshot (locally, path not NULL): E_INVALIDARG",
    row_108, NULL, NULL },
  { 109, NOW, "exposed: UnexposeSnapshot twice: S_OK, OBJECT_NOT_FOUND",
    row_109, "no provider exposes: PROVIDER_VETO, then OBJECT_NOT_FOUND",
    NULL },
  { 110, REAL, "snapshots there: ChangeDiffAreaMaximumSize (0): "
    "VOLUME_IN_USE", row_110, NULL, NULL },
  { 111, REAL, "association exists: AddDiffArea: OBJECT_ALREADY_EXISTS",
    row_111, NULL, NULL },
  { 112, REAL, "store full, two snapshots, protect=origin: the oldest goes, "
    "the newer one is usable, the write succeeds", row_112, NULL, NULL },
  { 113, REAL, "store full, protect=snapshot: the write fails, the snapshot "
    "is kept", row_113, NULL, NULL },
  { 114, OUTSIDE, "two imports at once: ImportSnapshots", NULL,
    "sets are not transported, so none is imported", NULL },
  { 115, OUTSIDE, "no context: StartShadowCopySet", NULL, FSRVP, NULL },
  { 116, OUTSIDE, "Started for over 180 s: AddToShadowCopySet", NULL, FSRVP,
    NULL },
  { 117, OUTSIDE, "a volume twice: AddToShadowCopySet", NULL, FSRVP, NULL },
  { 118, OUTSIDE, "Started: CommitShadowCopySet", NULL, FSRVP, NULL },
  { 119, OUTSIDE, "Committed: GetShareMapping (level 2)", NULL, FSRVP, NULL },
  { 120, OUTSIDE, "Exposed: RecoveryComplete, then Abort", NULL, FSRVP,
    NULL },
  { 0, REAL, NULL, NULL, NULL, NULL },
};
