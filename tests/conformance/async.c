/* async.c - rows 76 to 81: cancel, query, wait.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include "conformance.h"

/* DoSnapshotSet of "a", in EndPrepareSnapshots until it is ended. */
static struct cowset_async *
blocked (struct cowset *c)
{
  struct cowset_async *async;

  provider_rules ("hardware", "end-prepare slow 60000\n");
  async = start (cowset_do_snapshot_set, c);
  await_provider ("hardware", "end-prepare");
  return async;
}

static void
row_76 (void)
{
  struct cowset *c = ready ("providers");
  struct cowset_async *async = blocked (c);
  cowset_hresult status;

  OK (cowset_async_query_status (async, &status));
  EXPECT (status == VSS_S_ASYNC_PENDING);
  OK (cowset_async_cancel (async));
  OK (cowset_async_query_status (async, &status));
  EXPECT (status == VSS_S_ASYNC_CANCELLED);
  cowset_async_free (async);
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 0);
  cowset_release (c);
  EXPECT (write_volume ("providers", "a", 0, 3));
  providers_well ();
}

static void
row_77 (void)
{
  struct cowset *c = ready ("plain");
  struct cowset_async *async = start (cowset_do_snapshot_set, c);

  OK (cowset_async_wait (async, VSS_INFINITE));
  IS (cowset_async_cancel (async), VSS_S_ASYNC_FINISHED);
  EXPECT (count_of (c, VSS_OBJECT_SNAPSHOT) == 1);
  cowset_async_free (async);
  cowset_release (c);
}

static void
row_78 (void)
{
  struct cowset *c = ready ("providers");
  struct cowset_async *async = blocked (c);

  OK (cowset_async_cancel (async));
  IS (cowset_async_cancel (async), VSS_S_ASYNC_CANCELLED);
  OK (cowset_async_wait (async, VSS_INFINITE));
  cowset_async_free (async);
  cowset_release (c);
  providers_well ();
}

static void
row_79 (void)
{
  struct cowset *c = init_b ("plain");
  struct cowset_async *async = start (cowset_gather_writer_metadata, c);

  IS (cowset_async_query_status (async, NULL), E_INVALIDARG);
  IS (end_of (async), VSS_S_ASYNC_FINISHED);
  cowset_release (c);
}

static void
row_80 (void)
{
  struct cowset *c = ready ("providers");
  struct cowset_async *async = blocked (c);
  cowset_hresult status;

  OK (cowset_async_wait (async, 20));
  OK (cowset_async_query_status (async, &status));
  EXPECT (status == VSS_S_ASYNC_PENDING);
  OK (cowset_async_cancel (async));
  cowset_async_free (async);
  cowset_release (c);
  providers_well ();
}

static void
row_81 (void)
{
  struct cowset *c = ready ("providers");
  struct cowset_async *async = blocked (c);

  OK (cowset_async_cancel (async));
  /* Beside the call that was blocked, which it ended. */
  EXPECT (provider_saw ("hardware", "abort", true));
  EXPECT (provider_saw ("hardware", "end-prepare", false));
  cowset_async_free (async);
  cowset_release (c);
  providers_well ();
}

const struct row async_rows[] = {
  { 76, REAL, "running: Cancel: S_OK, then CANCELLED, nothing made", row_76,
    NULL, NULL },
  { 77, REAL, "finished: Cancel: ASYNC_FINISHED", row_77, NULL, NULL },
  { 78, REAL, "cancelled: Cancel: ASYNC_CANCELLED", row_78, NULL, NULL },
  { 79, REAL, "QueryStatus (NULL): E_INVALIDARG", row_79, NULL, NULL },
  { 80, REAL, "running: Wait (short): S_OK, PENDING", row_80, NULL, NULL },
  { 81, REAL, "EndPrepareSnapshots blocked: Cancel: AbortSnapshots beside it",
    row_81, NULL, NULL },
  { 0, REAL, NULL, NULL, NULL, NULL },
};
