/* test-requester.c - the backup components object over a scripted server.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Cases named rNN are the rows of VSS's acceptance matrix; what is not here
 * needs writers, other providers or a real server.
 */
#include <config.h>

#include <poll.h>
#include <string.h>

#include <criterion/criterion.h>

#include "answers.h"
#include "fake-server.h"

static struct fake *f;

static void
setup (void)
{
  f = fake_new ();
}

static void
teardown (void)
{
  fake_free (f);
}

TestSuite (requester, .init = setup, .fini = teardown, .timeout = 60);
TestSuite (table, .init = setup, .fini = teardown, .timeout = 120);

/* --------------------------------------------------------------- shortcuts */

/* Wait for it; its status; it is freed. */
static cowset_hresult
outcome (struct cowset_async *async)
{
  cowset_hresult status = S_OK;

  cowset_async_wait (async, VSS_INFINITE);
  OK (cowset_async_query_status (async, &status));
  cowset_async_free (async);
  return status;
}

static cowset_hresult
finished (cowset_hresult (*call) (struct cowset *c,
                                  struct cowset_async **async),
          struct cowset *c)
{
  struct cowset_async *async;

  OK (call (c, &async));
  return outcome (async);
}

/* Initialised in this context. */
static struct cowset *
in_context (uint32_t context)
{
  struct cowset *c = fake_object (f);

  OK (cowset_initialize_for_backup (c, NULL));
  OK (cowset_set_context (c, context));
  return c;
}

/* With a set started. */
static struct cowset *
with_set (uint32_t context, struct cowset_id *set)
{
  struct cowset *c = in_context (context);

  OK (cowset_start_snapshot_set (c, set));
  return c;
}

static struct cowset_id
add (struct cowset *c, const char *volume)
{
  struct cowset_id snapshot;

  OK (cowset_add_to_snapshot_set (c, volume, NULL, &snapshot));
  return snapshot;
}

/* A finished set of this context, without writers. */
static struct cowset *
created (uint32_t context, struct cowset_id *set, struct cowset_id *snapshot)
{
  struct cowset *c = with_set (context, set);

  *snapshot = add (c, "a");
  IS (finished (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  return c;
}

/* What PrepareForBackup needs. */
static void
gather (struct cowset *c)
{
  OK (cowset_set_backup_state (c, true, false, VSS_BT_FULL, false));
  IS (finished (cowset_gather_writer_metadata, c), VSS_S_ASYNC_FINISHED);
}

static unsigned
count_of (struct cowset *c, enum cowset_object_type type)
{
  struct cowset_object_prop item;
  struct cowset_enum *e;
  unsigned n = 0;

  OK (cowset_query (c, NULL, VSS_OBJECT_NONE, type, &e));
  while (cowset_enum_next (e, 1, &item, NULL) == S_OK) {
    cr_assert_eq (item.type, type);
    n++;
  }
  cowset_enum_free (e);
  return n;
}

/* ------------------------------------------ the table of states and calls */

/* Put a new object, in the default context (with writers), into a state. */
static struct cowset *
drive (enum req_state state, bool gathered)
{
  struct cowset *c = fake_object (f);
  struct cowset_async *async;
  struct cowset_id id;

  if (state == STATE_NEW)
    return c;
  if (state == STATE_INIT_R) {
    OK (cowset_initialize_for_restore (c, fake_document));
    if (gathered)
      IS (finished (cowset_gather_writer_metadata, c), VSS_S_ASYNC_FINISHED);
    return c;
  }
  OK (cowset_initialize_for_backup (c, NULL));
  if (gathered)
    gather (c);
  if (state == STATE_INIT_B)
    return c;
  OK (cowset_start_snapshot_set (c, &id));
  add (c, "a");
  if (state == STATE_DONE)
    OK (cowset_abort_backup (c));
  if (state == STATE_SET || state == STATE_DONE)
    return c;
  IS (finished (cowset_prepare_for_backup, c), VSS_S_ASYNC_FINISHED);
  if (state == STATE_PREPARED)
    return c;
  if (state == STATE_FAILED)
    fake_fail (f, "set.commit", VSS_E_HOLD_WRITES_TIMEOUT);
  if (state == STATE_CREATING)
    fake_block (f, "set.settle");
  OK (cowset_do_snapshot_set (c, &async));
  if (state == STATE_CREATING) {
    fake_await (f);
    cowset_async_free (async);
    return c;
  }
  outcome (async);
  if (state == STATE_COMPLETE)
    IS (finished (cowset_backup_complete, c), VSS_S_ASYNC_FINISHED);
  return c;
}

/* Make the call with arguments that are all right. */
static cowset_hresult
make_call (struct cowset *c, enum req_call call)
{
  const struct cowset_id id = { { 1 } };
  struct cowset_async *async = NULL;
  struct cowset_snapshot_prop *prop;
  struct cowset_id out;
  struct cowset_enum *e;
  cowset_hresult hr = S_OK;
  char *document;
  unsigned count;
  int32_t deleted;
  bool supported;

  switch (call) {
  case CALL_INITIALIZE_FOR_BACKUP:
    return cowset_initialize_for_backup (c, NULL);
  case CALL_INITIALIZE_FOR_RESTORE:
    return cowset_initialize_for_restore (c, fake_document);
  case CALL_ADD_SERVER:
    return cowset_add_server (c, c->servers[0]->uri);
  case CALL_SET_CONTEXT:
    return cowset_set_context (c, VSS_CTX_BACKUP);
  case CALL_SET_RESTORE_STATE:
    return cowset_set_restore_state (c, VSS_RTYPE_BY_COPY);
  case CALL_SET_BACKUP_STATE:
    return cowset_set_backup_state (c, true, true, VSS_BT_FULL, true);
  case CALL_SET_LABEL:
    return cowset_set_label (c, "label");
  case CALL_SET_LIMITS:
    return cowset_set_limits (c, 1, 1);
  case CALL_ADD_WRITER:
    return cowset_add_writer (c, "exec:/bin/true");
  case CALL_ENABLE_WRITER_CLASSES:
    return cowset_enable_writer_classes (c, &id, 1);
  case CALL_DISABLE_WRITER_CLASSES:
    return cowset_disable_writer_classes (c, &id, 1);
  case CALL_DISABLE_WRITER_INSTANCES:
    return cowset_disable_writer_instances (c, &id, 1);
  case CALL_GATHER_WRITER_METADATA:
    hr = cowset_gather_writer_metadata (c, &async);
    break;
  case CALL_GET_WRITER_METADATA:
    return cowset_get_writer_metadata_count (c, &count);
  case CALL_FREE_WRITER_METADATA:
    return cowset_free_writer_metadata (c);
  case CALL_GATHER_WRITER_STATUS:
    hr = cowset_gather_writer_status (c, &async);
    break;
  case CALL_GET_WRITER_STATUS:
  case CALL_FREE_WRITER_STATUS:
    /* Where it can be gathered it is there. */
    if (COWSET_SUCCEEDED (cowset_gather_writer_status (c, &async)))
      outcome (async);
    return call == CALL_GET_WRITER_STATUS
             ? cowset_get_writer_status_count (c, &count)
             : cowset_free_writer_status (c);
  case CALL_ADD_COMPONENT:
    return cowset_add_component (c, &id, &id, VSS_CT_DATABASE, NULL, "c");
  case CALL_GET_WRITER_COMPONENTS:
    return cowset_get_writer_components_count (c, &count);
  case CALL_SET_BACKUP_SUCCEEDED:
    return cowset_set_backup_succeeded (c, &id, &id, VSS_CT_DATABASE, NULL,
                                        "c", true);
  case CALL_START_SNAPSHOT_SET:
    return cowset_start_snapshot_set (c, &out);
  case CALL_ADD_TO_SNAPSHOT_SET:
    return cowset_add_to_snapshot_set (c, "b", NULL, &out);
  case CALL_IS_VOLUME_SUPPORTED:
    return cowset_is_volume_supported (c, NULL, "a", &supported);
  case CALL_PREPARE_FOR_BACKUP:
    hr = cowset_prepare_for_backup (c, &async);
    break;
  case CALL_DO_SNAPSHOT_SET:
    hr = cowset_do_snapshot_set (c, &async);
    break;
  case CALL_GET_SNAPSHOT_PROPERTIES:
    return cowset_get_snapshot_properties (c, &id, &prop);
  case CALL_QUERY:
    hr = cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, &e);
    if (COWSET_SUCCEEDED (hr))
      cowset_enum_free (e);
    return hr;
  case CALL_SAVE_DOCUMENT:
    hr = cowset_save_document (c, &document);
    if (COWSET_SUCCEEDED (hr))
      free (document);
    return hr;
  case CALL_BACKUP_COMPLETE:
    hr = cowset_backup_complete (c, &async);
    break;
  case CALL_ABORT_BACKUP:
    return cowset_abort_backup (c);
  case CALL_DELETE_SNAPSHOTS:
    return cowset_delete_snapshots (c, &id, VSS_OBJECT_SNAPSHOT, false,
                                    &deleted, &out);
  case CALL_BREAK_SNAPSHOT_SET:
    return cowset_break_snapshot_set (c, &id);
  case CALL_EXPOSE_SNAPSHOT:
    return cowset_expose_snapshot (c, &id, NULL,
                                   VSS_VOLSNAP_ATTR_EXPOSED_LOCALLY, "/mnt",
                                   &document);
  case CALL_UNEXPOSE_SNAPSHOT:
    return cowset_unexpose_snapshot (c, &id);
  case CALL_REVERT_TO_SNAPSHOT:
    return cowset_revert_to_snapshot (c, &id, false);
  case CALL_QUERY_REVERT_STATUS:
    return cowset_query_revert_status (c, "a", &async);
  case CALL_COUNT:
    break;
  }
  cowset_async_free (async);
  return hr;
}

/* The reference's table, with a column for each state in the order of enum
 * req_state: NEW INIT-B SET PREPARED CREATING CREATED FAILED COMPLETE DONE
 * INIT-R.
 */
static const struct {
  enum req_call call;
  const char *allowed;
  bool ungathered;              /* the call needs metadata not gathered */
} cells[] = {
  { CALL_INITIALIZE_FOR_BACKUP,   "Y---------", false },
  { CALL_INITIALIZE_FOR_RESTORE,  "Y---------", false },
  { CALL_SET_CONTEXT,             "-Y--------", false },
  { CALL_SET_RESTORE_STATE,       "---------Y", false },
  { CALL_SET_BACKUP_STATE,        "-YY-------", false },
  { CALL_ENABLE_WRITER_CLASSES,   "-YYYYYYYYY", false },
  { CALL_DISABLE_WRITER_CLASSES,  "-YYYYYYYYY", false },
  { CALL_DISABLE_WRITER_INSTANCES, "-YYYYYYYYY", false },
  { CALL_GATHER_WRITER_METADATA,  "-YY------Y", true },
  { CALL_GET_WRITER_METADATA,     "-YYYYYYY-Y", false },
  { CALL_FREE_WRITER_METADATA,    "-YYYYYYY-Y", false },
  { CALL_GATHER_WRITER_STATUS,    "-YYYYYYYYY", false },
  { CALL_ADD_COMPONENT,           "-YY-------", false },
  { CALL_SET_BACKUP_SUCCEEDED,    "-----Y----", false },
  { CALL_START_SNAPSHOT_SET,      "-Y--------", false },
  { CALL_ADD_TO_SNAPSHOT_SET,     "--YY------", false },
  { CALL_PREPARE_FOR_BACKUP,      "--Y-------", false },
  { CALL_DO_SNAPSHOT_SET,         "---Y------", false },
  { CALL_GET_SNAPSHOT_PROPERTIES, "-YYYYYYYY-", false },
  { CALL_QUERY,                   "-YYYYYYYY-", false },
  { CALL_SAVE_DOCUMENT,           "-----Y-Y--", false },
  { CALL_BACKUP_COMPLETE,         "-----Y----", false },
  { CALL_ABORT_BACKUP,            "-YYYYYYYYY", false },
  { CALL_DELETE_SNAPSHOTS,        "-YYYYYYYYY", false },
  { CALL_BREAK_SNAPSHOT_SET,      "-YYYYYYYYY", false },
  { CALL_EXPOSE_SNAPSHOT,         "-YYY-YYYY-", false },
  { CALL_UNEXPOSE_SNAPSHOT,       "-YYY-YYYY-", false },
  { CALL_REVERT_TO_SNAPSHOT,      "-YYY-YYYY-", false },
  { CALL_QUERY_REVERT_STATUS,     "-YYY-YYYY-", false },
  /* Not in the reference's table. */
  { CALL_GET_WRITER_STATUS,       "-YYYYYYYYY", false },
  { CALL_FREE_WRITER_STATUS,      "-YYYYYYYYY", false },
  { CALL_GET_WRITER_COMPONENTS,   "-YYYYYYYYY", false },
  { CALL_IS_VOLUME_SUPPORTED,     "-YYYYYYYY-", false },
  { CALL_ADD_WRITER,              "-YY-------", true },
  { CALL_ADD_SERVER,              "YY--------", false },
  { CALL_SET_LABEL,               "-Y--------", false },
  { CALL_SET_LIMITS,              "-YYY------", false },
};
_Static_assert (sizeof cells / sizeof cells[0] == CALL_COUNT, "every call");

Test (table, every_call_in_every_state)
{
  for (size_t i = 0; i < sizeof cells / sizeof cells[0]; ++i)
    for (int state = STATE_NEW; state <= STATE_INIT_R; ++state) {
      const bool early = state <= STATE_SET || state == STATE_INIT_R;
      struct cowset *c = drive (state, !(cells[i].ungathered && early));
      const cowset_hresult hr = make_call (c, cells[i].call);
      const bool allowed = cells[i].allowed[state] == 'Y';

      cr_assert_eq (hr != VSS_E_BAD_STATE, allowed, "%s in \"%s\": %s",
                    req_call_name (cells[i].call), req_state_name (state),
                    cowset_result_name (hr));
      cowset_release (c);
      fake_block (f, NULL);
      cr_assert_eq (fake_open_sets (f), 0);
      cr_assert_eq (fake_finished_sets (f), 0);
    }
}

/* A call that is out of order has changed nothing, and asked nothing. */
Test (table, out_of_order_asks_the_server_nothing)
{
  struct cowset *c = drive (STATE_NEW, false);

  for (int call = 0; call < CALL_COUNT; ++call)
    if (!req_state_allows (STATE_NEW, call))
      IS (make_call (c, call), VSS_E_BAD_STATE);
  OK (cowset_initialize_for_backup (c, NULL));
  cowset_release (c);
  cr_assert_eq (fake_count (f, "query"), 0);
  cr_assert_eq (fake_count (f, "set.start"), 0);
}

/* ------------------------------------------------------ object and context */

Test (requester, r01_create_without_out)
{
  IS (cowset_create ("nbd+unix:///?socket=/nowhere", NULL), E_INVALIDARG);
  IS (cowset_create (NULL, NULL), E_INVALIDARG);
}

Test (requester, create_with_what_is_no_nbd_uri)
{
  struct cowset *c;

  IS (cowset_create ("/tmp/disk.img", &c), E_INVALIDARG);
  IS (cowset_create ("http://localhost/", &c), E_INVALIDARG);
  IS (cowset_create ("", &c), E_INVALIDARG);
}

Test (requester, create_where_nobody_listens)
{
  struct cowset *c;

  IS (cowset_create ("nbd+unix:///?socket=/nonexistent/socket", &c),
      VSS_E_REMOTE_SERVER_UNAVAILABLE);
}

Test (requester, r03_r04_new_refuses)
{
  struct cowset *c = fake_object (f);
  struct cowset_async *async;

  IS (cowset_set_context (c, VSS_CTX_BACKUP), VSS_E_BAD_STATE);
  IS (cowset_gather_writer_metadata (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

Test (requester, r05_r07_r08_initialized_once)
{
  struct cowset *c = fake_object (f);

  OK (cowset_initialize_for_backup (c, NULL));
  IS (cowset_initialize_for_backup (c, NULL), VSS_E_BAD_STATE);
  IS (cowset_initialize_for_restore (c, "{}"), VSS_E_BAD_STATE);
  cowset_release (c);
}

Test (requester, r06_malformed_document)
{
  struct cowset *c = fake_object (f);

  IS (cowset_initialize_for_backup (c, "<not xml"),
      VSS_E_INVALID_XML_DOCUMENT);
  IS (cowset_initialize_for_backup (c, "{\"format\":\"other\"}"),
      VSS_E_INVALID_XML_DOCUMENT);
  OK (cowset_initialize_for_backup (c, NULL));
  cowset_release (c);
}

Test (requester, r09_r10_no_such_context)
{
  struct cowset *c = fake_object (f);

  OK (cowset_initialize_for_backup (c, NULL));
  IS (cowset_set_context (c, 0x00000005), E_INVALIDARG);
  IS (cowset_set_context (c, VSS_VOLSNAP_ATTR_DIFFERENTIAL |
                               VSS_VOLSNAP_ATTR_PLEX), E_INVALIDARG);
  OK (cowset_set_context (c, VSS_CTX_APP_ROLLBACK));
  cowset_release (c);
}

Test (requester, r11_context_twice)
{
  struct cowset *c = in_context (VSS_CTX_BACKUP);

  IS (cowset_set_context (c, VSS_CTX_BACKUP), VSS_E_BAD_STATE);
  IS (cowset_set_context (c, 0x5), VSS_E_BAD_STATE);
  cowset_release (c);
}

Test (requester, r12_default_context_has_attributes_0)
{
  struct cowset *c = drive (STATE_CREATED, true);
  struct cowset_object_prop item;
  struct cowset_enum *e;

  OK (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, &e));
  OK (cowset_enum_next (e, 1, &item, NULL));
  cr_assert_eq (item.u.snapshot->attributes, 0);
  cowset_enum_free (e);
  cowset_release (c);
}

Test (requester, r13_no_set_in_context_all)
{
  struct cowset *c = in_context (VSS_CTX_ALL);
  struct cowset_id set;

  IS (cowset_start_snapshot_set (c, &set), VSS_E_BAD_STATE);
  cr_assert_eq (fake_count (f, "set.start"), 0);
  cowset_release (c);
}

Test (requester, r14_r16_backup_state)
{
  struct cowset *c = drive (STATE_INIT_R, false);

  IS (cowset_set_backup_state (c, false, false, VSS_BT_FULL, false),
      VSS_E_BAD_STATE);
  cowset_release (c);
  c = drive (STATE_PREPARED, true);
  IS (cowset_set_backup_state (c, false, false, VSS_BT_FULL, false),
      VSS_E_BAD_STATE);
  cowset_release (c);
  c = drive (STATE_INIT_B, false);
  IS (cowset_set_backup_state (c, false, false, 99, false), E_INVALIDARG);
  cowset_release (c);
}

/* ----------------------------------------------------------------- writers */

Test (requester, r17_r18_r19_gather)
{
  struct cowset *c = drive (STATE_INIT_B, false);
  struct cowset_async *async;
  unsigned count = 99;

  IS (cowset_gather_writer_metadata (c, NULL), E_INVALIDARG);
  IS (cowset_get_writer_metadata_count (c, &count), VSS_E_BAD_STATE);
  IS (finished (cowset_gather_writer_metadata, c), VSS_S_ASYNC_FINISHED);
  IS (cowset_gather_writer_metadata (c, &async), VSS_E_BAD_STATE);
  OK (cowset_get_writer_metadata_count (c, &count));
  cr_assert_eq (count, 0);
  cowset_release (c);
}

/* -------------------------------------------------------- building the set */

Test (requester, r35_r36_start)
{
  struct cowset *c = in_context (VSS_CTX_FILE_SHARE_BACKUP);
  struct cowset_id id;

  IS (cowset_add_to_snapshot_set (c, "a", NULL, &id), VSS_E_BAD_STATE);
  IS (cowset_start_snapshot_set (c, NULL), E_INVALIDARG);
  cowset_release (c);
}

/* As the design has it, a set in progress bars its volumes, not all sets. */
Test (requester, r37_a_volume_is_in_one_set_at_a_time)
{
  struct cowset_id id;
  struct cowset *c = with_set (VSS_CTX_FILE_SHARE_BACKUP, &id);
  struct cowset *other = with_set (VSS_CTX_FILE_SHARE_BACKUP, &id);

  add (c, "a");
  IS (cowset_add_to_snapshot_set (other, "a", NULL, &id),
      VSS_E_SNAPSHOT_SET_IN_PROGRESS);
  add (other, "b");
  IS (finished (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  IS (finished (cowset_do_snapshot_set, other), VSS_S_ASYNC_FINISHED);
  cowset_release (c);
  cowset_release (other);
}

Test (requester, r38_released_before_the_set_was_made)
{
  struct cowset_id id;
  struct cowset *c = with_set (VSS_CTX_FILE_SHARE_BACKUP, &id), *other;

  add (c, "a");
  cowset_release (c);
  cr_assert_eq (fake_count (f, "set.abort"), 1);
  other = with_set (VSS_CTX_FILE_SHARE_BACKUP, &id);
  add (other, "a");
  cowset_release (other);
}

Test (requester, r39_to_r47_codes_of_add)
{
  static const cowset_hresult listed[] = {
    VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER, VSS_E_VOLUME_NOT_SUPPORTED,
    VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED,
    VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED, VSS_E_NESTED_VOLUME_LIMIT,
    VSS_E_PROVIDER_VETO, VSS_E_UNEXPECTED_PROVIDER_ERROR, E_ACCESSDENIED,
    E_OUTOFMEMORY, VSS_E_UNEXPECTED,
  };
  const struct cowset_id unknown = { { 1 } };
  struct cowset_id id = { { 9 } };
  struct cowset *c = with_set (VSS_CTX_FILE_SHARE_BACKUP, &id);

  IS (cowset_add_to_snapshot_set (c, "missing", NULL, &id),
      VSS_E_OBJECT_NOT_FOUND);
  IS (cowset_add_to_snapshot_set (c, "a", &unknown, &id),
      VSS_E_PROVIDER_NOT_REGISTERED);
  for (size_t i = 0; i < sizeof listed / sizeof listed[0]; ++i) {
    fake_fail (f, "set.add", listed[i]);
    IS (cowset_add_to_snapshot_set (c, "a", NULL, &id), listed[i]);
  }
  /* A code that its page does not list. */
  fake_fail (f, "set.add", VSS_E_MISSING_DISK);
  IS (cowset_add_to_snapshot_set (c, "a", NULL, &id), VSS_E_UNEXPECTED);
  cr_assert_not_null (strstr (cowset_error_message (), "VSS_E_MISSING_DISK"));

  IS (cowset_add_to_snapshot_set (c, NULL, NULL, &id), E_INVALIDARG);
  IS (cowset_add_to_snapshot_set (c, "a", NULL, NULL), E_INVALIDARG);
  add (c, "a");
  IS (cowset_add_to_snapshot_set (c, "a", NULL, &id),
      VSS_E_OBJECT_ALREADY_EXISTS);
  IS (finished (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  cowset_release (c);
}

Test (requester, r45_is_volume_supported)
{
  const struct cowset_id unknown = { { 1 } };
  struct cowset *c = in_context (VSS_CTX_NAS_ROLLBACK);
  struct cowset_id cow;
  bool supported = false;

  OK (cowset_is_volume_supported (c, NULL, "a", &supported));
  cr_assert (supported);
  cowset_id_parse ("8f1f0c0a-6d9a-4d43-9c52-c0d5e7a3b001", &cow);
  OK (cowset_is_volume_supported (c, &cow, "a", &supported));
  cr_assert (supported);
  OK (cowset_is_volume_supported (c, &unknown, "a", &supported));
  cr_assert_not (supported);
  IS (cowset_is_volume_supported (c, NULL, "missing", &supported),
      VSS_E_OBJECT_NOT_FOUND);
  IS (cowset_is_volume_supported (c, NULL, "a", NULL), E_INVALIDARG);
  cowset_release (c);

  c = in_context (VSS_CTX_BACKUP | VSS_VOLSNAP_ATTR_PLEX);
  OK (cowset_is_volume_supported (c, NULL, "a", &supported));
  cr_assert_not (supported);
  cowset_release (c);

  fake_without_store (f);
  c = in_context (VSS_CTX_NAS_ROLLBACK);
  OK (cowset_is_volume_supported (c, NULL, "a", &supported));
  cr_assert_not (supported);
  cowset_release (c);
}

Test (requester, r48_r49_r50_r51_prepare_for_backup)
{
  struct cowset *c = drive (STATE_SET, false);
  struct cowset_async *async;
  struct cowset_id id;

  IS (cowset_prepare_for_backup (c, &async), VSS_E_BAD_STATE);
  gather (c);
  IS (cowset_prepare_for_backup (c, NULL), E_INVALIDARG);
  IS (finished (cowset_prepare_for_backup, c), VSS_S_ASYNC_FINISHED);
  IS (cowset_start_snapshot_set (c, &id), VSS_E_BAD_STATE);
  cowset_release (c);

  c = with_set (VSS_CTX_FILE_SHARE_BACKUP, &id);
  gather (c);
  IS (cowset_prepare_for_backup (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

Test (requester, persistent_without_a_store)
{
  struct cowset_id set;
  struct cowset *c;

  fake_without_store (f);
  c = in_context (VSS_CTX_NAS_ROLLBACK);
  IS (cowset_start_snapshot_set (c, &set), VSS_E_UNSUPPORTED_CONTEXT);
  cowset_release (c);
}

Test (requester, labels_and_limits_reach_the_server)
{
  struct cowset *c = in_context (VSS_CTX_NAS_ROLLBACK);
  struct cowset_id set;

  IS (cowset_set_label (c, "a/b"), E_INVALIDARG);
  IS (cowset_set_label (c, "latest"), E_INVALIDARG);
  IS (cowset_set_label (c, NULL), E_INVALIDARG);
  OK (cowset_set_label (c, "first"));
  OK (cowset_set_label (c, "nightly"));
  IS (cowset_set_limits (c, 10001, 0), E_INVALIDARG);
  OK (cowset_set_limits (c, 1500, 7000));
  OK (cowset_start_snapshot_set (c, &set));
  add (c, "a");
  IS (finished (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  cr_assert_str_eq (json_string_value (json_object_get (
                      fake_last (f, "set.start"), "label")), "nightly");
  cr_assert_eq (json_integer_value (json_object_get (
                  fake_last (f, "set.start"), "context")),
                VSS_CTX_NAS_ROLLBACK);
  cr_assert (json_is_false (json_object_get (fake_last (f, "set.start"),
                                             "auto_release")));
  cr_assert_eq (json_integer_value (json_object_get (
                  fake_last (f, "set.commit"), "hold_ms")), 1500);
  cr_assert_eq (json_integer_value (json_object_get (
                  fake_last (f, "set.prepare"), "timeout_ms")), 7000);
  cr_assert_eq (json_integer_value (json_object_get (
                  fake_last (f, "set.settle"), "timeout_ms")), 7000);
  cowset_release (c);
}

/* ----------------------------------------------------------- DoSnapshotSet */

Test (requester, r53_to_r56_preconditions)
{
  struct cowset *c = drive (STATE_PREPARED, true);
  struct cowset_async *async;
  struct cowset_id id;

  IS (cowset_do_snapshot_set (c, NULL), E_INVALIDARG);
  cowset_release (c);
  c = drive (STATE_INIT_B, true);
  IS (cowset_do_snapshot_set (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
  c = drive (STATE_SET, false); /* never gathered */
  IS (cowset_do_snapshot_set (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
  c = drive (STATE_SET, true);  /* not prepared */
  IS (cowset_do_snapshot_set (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
  c = with_set (VSS_CTX_FILE_SHARE_BACKUP, &id); /* no volume, no writers */
  IS (cowset_do_snapshot_set (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

Test (requester, r57_r58_r59_running)
{
  struct cowset_id id;
  struct cowset *c = with_set (VSS_CTX_FILE_SHARE_BACKUP, &id);
  struct cowset_async *async, *second;
  cowset_hresult status;

  add (c, "a");
  fake_block (f, "set.prepare");
  OK (cowset_do_snapshot_set (c, &async));
  fake_await (f);
  OK (cowset_async_query_status (async, &status));
  IS (status, VSS_S_ASYNC_PENDING);
  cr_assert_str_eq (cowset_async_phase (async), "prepare");
  IS (cowset_do_snapshot_set (c, &second), VSS_E_BAD_STATE);
  fake_block (f, NULL);
  IS (outcome (async), VSS_S_ASYNC_FINISHED);
  cowset_release (c);
}

/* Codes come through QueryStatus, whichever step they arise in, and leave
 * nothing behind.
 */
Test (requester, r60_to_r69_outcomes)
{
  static const cowset_hresult listed[] = {
    VSS_E_INSUFFICIENT_STORAGE, VSS_E_PROVIDER_VETO,
    VSS_E_UNEXPECTED_PROVIDER_ERROR, VSS_E_FLUSH_WRITES_TIMEOUT,
    VSS_E_HOLD_WRITES_TIMEOUT, VSS_E_TRANSACTION_FREEZE_TIMEOUT,
    VSS_E_TRANSACTION_THAW_TIMEOUT, VSS_E_REBOOT_REQUIRED,
    VSS_E_NESTED_VOLUME_LIMIT, E_ACCESSDENIED, E_OUTOFMEMORY,
    VSS_E_UNEXPECTED,
  };
  static const char *const steps[] = { "set.prepare", "set.commit",
                                       "set.settle", "set.finish" };

  for (size_t i = 0; i < sizeof listed / sizeof listed[0]; ++i)
    for (size_t k = 0; k < 4; ++k) {
      const unsigned aborts = fake_count (f, "set.abort");
      struct cowset_async *async;
      struct cowset_id id;
      struct cowset *c = with_set (VSS_CTX_NAS_ROLLBACK, &id);

      add (c, "a");
      add (c, "b");
      fake_fail (f, steps[k], listed[i]);
      OK (cowset_do_snapshot_set (c, &async));
      IS (cowset_async_wait (async, VSS_INFINITE), listed[i]);
      cr_assert_str_eq (cowset_async_message (async), "scripted");
      IS (outcome (async), listed[i]);
      cr_assert_eq (fake_count (f, "set.abort"), aborts + 1);
      cr_assert_eq (fake_open_sets (f), 0);
      cr_assert_eq (fake_finished_sets (f), 0);
      IS (cowset_do_snapshot_set (c, &async), VSS_E_BAD_STATE);
      cowset_release (c);
    }
}

Test (requester, codes_that_the_page_does_not_list_are_unexpected)
{
  static const cowset_hresult unlisted[] = {
    E_FAIL, E_NOTIMPL, E_ABORT, VSS_E_OBJECT_NOT_FOUND, VSS_E_MISSING_DISK,
    COWSET_HRESULT (0x80049999),
  };

  for (size_t i = 0; i < sizeof unlisted / sizeof unlisted[0]; ++i) {
    struct cowset_id id;
    struct cowset *c = with_set (VSS_CTX_NAS_ROLLBACK, &id);

    add (c, "a");
    fake_fail (f, "set.settle", unlisted[i]);
    IS (finished (cowset_do_snapshot_set, c), VSS_E_UNEXPECTED);
    cowset_release (c);
  }
}

Test (requester, r70_a_set_of_no_volume_for_its_writers)
{
  struct cowset *c = drive (STATE_INIT_B, true);
  struct cowset_id id;

  OK (cowset_start_snapshot_set (c, &id));
  IS (finished (cowset_prepare_for_backup, c), VSS_S_ASYNC_FINISHED);
  IS (finished (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  cr_assert_eq (fake_open_sets (f), 0);
  cr_assert_eq (count_of (c, VSS_OBJECT_SNAPSHOT), 0);
  IS (finished (cowset_backup_complete, c), VSS_S_ASYNC_FINISHED);
  cowset_release (c);
}

Test (requester, r73_r75_after_the_end)
{
  struct cowset *c = drive (STATE_FAILED, true);
  struct cowset_async *async;
  struct cowset_id id;

  IS (cowset_backup_complete (c, &async), VSS_E_BAD_STATE);
  OK (cowset_abort_backup (c));
  cowset_release (c);
  c = drive (STATE_CREATED, true);
  IS (cowset_add_to_snapshot_set (c, "b", NULL, &id), VSS_E_BAD_STATE);
  cowset_release (c);
}

/* ------------------------------------------------------------------- async */

Test (requester, r76_r78_r81_cancel_in_every_step)
{
  static const char *const steps[] = { "set.prepare", "set.commit",
                                       "set.settle" };

  for (size_t i = 0; i < 3; ++i) {
    struct cowset_async *async;
    cowset_hresult status;
    struct cowset_id id;
    struct cowset *c = with_set (VSS_CTX_NAS_ROLLBACK, &id);

    add (c, "a");
    fake_block (f, steps[i]);
    OK (cowset_do_snapshot_set (c, &async));
    fake_await (f);
    OK (cowset_async_cancel (async));
    OK (cowset_async_query_status (async, &status));
    IS (status, VSS_S_ASYNC_CANCELLED);
    IS (cowset_async_cancel (async), VSS_S_ASYNC_CANCELLED);
    OK (cowset_async_wait (async, VSS_INFINITE));
    cr_assert_str_eq (cowset_async_message (async), "");
    fake_block (f, NULL);
    cr_assert_eq (fake_open_sets (f), 0);
    cr_assert_eq (fake_finished_sets (f), 0);
    OK (cowset_abort_backup (c));
    cowset_async_free (async);
    cowset_release (c);
  }
}

Test (requester, r77_cancel_what_has_finished_or_failed)
{
  struct cowset_async *async;
  struct cowset_id id;
  struct cowset *c = with_set (VSS_CTX_NAS_ROLLBACK, &id);

  add (c, "a");
  OK (cowset_do_snapshot_set (c, &async));
  OK (cowset_async_wait (async, VSS_INFINITE));
  IS (cowset_async_cancel (async), VSS_S_ASYNC_FINISHED);
  IS (outcome (async), VSS_S_ASYNC_FINISHED);
  cr_assert_eq (fake_finished_sets (f), 1);
  cowset_release (c);

  c = with_set (VSS_CTX_NAS_ROLLBACK, &id);
  add (c, "a");
  fake_fail (f, "set.commit", VSS_E_HOLD_WRITES_TIMEOUT);
  OK (cowset_do_snapshot_set (c, &async));
  cowset_async_wait (async, VSS_INFINITE);
  IS (cowset_async_cancel (async), VSS_E_HOLD_WRITES_TIMEOUT);
  IS (outcome (async), VSS_E_HOLD_WRITES_TIMEOUT);
  cowset_release (c);
}

Test (requester, r79_query_status_without_out)
{
  struct cowset *c = drive (STATE_INIT_B, false);
  struct cowset_async *async;
  cowset_hresult status;

  OK (cowset_gather_writer_metadata (c, &async));
  IS (cowset_async_query_status (async, NULL), E_INVALIDARG);
  IS (cowset_async_query_status (NULL, &status), E_INVALIDARG);
  cowset_async_free (async);
  cowset_release (c);
}

Test (requester, r80_wait_ends_with_its_time)
{
  struct cowset_async *async;
  struct pollfd poll_fd = { .events = POLLIN };
  cowset_hresult status;
  struct cowset_id id;
  struct cowset *c = with_set (VSS_CTX_NAS_ROLLBACK, &id);

  add (c, "a");
  fake_block (f, "set.settle");
  OK (cowset_do_snapshot_set (c, &async));
  fake_await (f);
  OK (cowset_async_wait (async, 0));
  OK (cowset_async_wait (async, 10));
  OK (cowset_async_query_status (async, &status));
  IS (status, VSS_S_ASYNC_PENDING);
  poll_fd.fd = cowset_async_fd (async);
  cr_assert_eq (poll (&poll_fd, 1, 0), 0);
  fake_block (f, NULL);
  cr_assert_eq (poll (&poll_fd, 1, -1), 1);
  OK (cowset_async_query_status (async, &status));
  IS (status, VSS_S_ASYNC_FINISHED);
  cr_assert_eq (poll (&poll_fd, 1, 0), 1);
  cowset_async_free (async);
  cowset_release (c);
}

Test (requester, an_async_outlives_its_object_and_the_reverse)
{
  struct cowset_async *async;
  cowset_hresult status;
  struct cowset_id id;
  struct cowset *c = with_set (VSS_CTX_NAS_ROLLBACK, &id);

  add (c, "a");
  fake_block (f, "set.settle");
  OK (cowset_do_snapshot_set (c, &async));
  fake_await (f);
  cowset_release (c);           /* cancels it */
  OK (cowset_async_query_status (async, &status));
  IS (status, VSS_S_ASYNC_CANCELLED);
  cowset_async_free (async);
  fake_block (f, NULL);
  cr_assert_eq (fake_open_sets (f), 0);

  c = with_set (VSS_CTX_NAS_ROLLBACK, &id);
  add (c, "a");
  fake_block (f, "set.settle");
  OK (cowset_do_snapshot_set (c, &async));
  cowset_async_free (async);    /* the operation goes on */
  fake_await (f);
  fake_block (f, NULL);
  while (fake_finished_sets (f) == 0)
    poll (NULL, 0, 1);
  cowset_release (c);
  cr_assert_eq (fake_finished_sets (f), 1);
}

/* ------------------------------------------------------------------ after */

Test (requester, r82_properties)
{
  struct cowset_snapshot_prop *p;
  struct cowset_id set, snapshot;
  struct cowset *c = created (VSS_CTX_NAS_ROLLBACK |
                                VSS_VOLSNAP_ATTR_DIFFERENTIAL,
                              &set, &snapshot);
  char text[COWSET_ID_TEXT_SIZE], device[64], uri[128];

  OK (cowset_get_snapshot_properties (c, &snapshot, &p));
  cowset_id_format (&set, text);
  snprintf (device, sizeof device, "a@%s", text);
  snprintf (uri, sizeof uri, "nbd+unix:///%s?socket=/fake-0", device);
  cr_assert (cowset_id_equal (&p->snapshot_id, &snapshot));
  cr_assert (cowset_id_equal (&p->set_id, &set));
  cr_assert_eq (p->snapshots_count, 1);
  cr_assert_str_eq (p->device, device);
  cr_assert_str_eq (p->uri, uri);
  cr_assert_str_eq (p->original_volume, "a");
  cr_assert_str_eq (p->originating_machine, "fakehost");
  cr_assert_str_eq (p->service_machine, "fakehost");
  cr_assert_null (p->exposed_name);
  cr_assert_null (p->exposed_path);
  cr_assert_eq (p->attributes, VSS_CTX_NAS_ROLLBACK |
                                 VSS_VOLSNAP_ATTR_DIFFERENTIAL);
  cr_assert_eq (p->status, VSS_SS_CREATED);
  cr_assert_eq (p->created_ns, INT64_C (1700000000000000000));
  /* 2023-11-14 22:13:20 UTC as a FILETIME. */
  cr_assert_eq (p->creation_timestamp, INT64_C (133444736000000000));
  cr_assert (p->alive);
  cr_assert_null (p->end);
  cowset_snapshot_prop_free (p);
  IS (cowset_get_snapshot_properties (c, &snapshot, NULL), E_INVALIDARG);
  cowset_release (c);
}

Test (requester, r83_r84_no_properties_yet_or_at_all)
{
  const struct cowset_id unknown = { { 1 } };
  struct cowset_snapshot_prop *p;
  struct cowset_async *async;
  struct cowset_id id;
  struct cowset *c = with_set (VSS_CTX_NAS_ROLLBACK, &id);
  const struct cowset_id snapshot = add (c, "a");

  fake_block (f, "set.settle");
  OK (cowset_do_snapshot_set (c, &async));
  fake_await (f);
  IS (cowset_get_snapshot_properties (c, &snapshot, &p),
      VSS_E_OBJECT_NOT_FOUND);
  IS (cowset_get_snapshot_properties (c, &unknown, &p),
      VSS_E_OBJECT_NOT_FOUND);
  fake_block (f, NULL);
  IS (outcome (async), VSS_S_ASYNC_FINISHED);
  cowset_release (c);
}

Test (requester, r86_r87_r88_backup_complete)
{
  struct cowset *c = drive (STATE_CREATED, true);
  struct cowset_async *async;

  IS (cowset_backup_complete (c, NULL), E_INVALIDARG);
  IS (finished (cowset_backup_complete, c), VSS_S_ASYNC_FINISHED);
  IS (cowset_backup_complete (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
  c = drive (STATE_SET, true);
  IS (cowset_backup_complete (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
  c = drive (STATE_INIT_R, false);
  IS (cowset_backup_complete (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

Test (requester, backup_complete_without_writers)
{
  struct cowset_id set, snapshot;
  struct cowset *c = created (VSS_CTX_NAS_ROLLBACK, &set, &snapshot);
  struct cowset_async *async;

  IS (cowset_backup_complete (c, &async), VSS_E_BAD_STATE);
  cowset_release (c);
}

Test (requester, r91_r92_r93_who_stays_and_who_is_shown)
{
  struct cowset_id set, snapshot;
  struct cowset *c = created (VSS_CTX_FILE_SHARE_BACKUP, &set, &snapshot);
  struct cowset *all = in_context (VSS_CTX_ALL);
  struct cowset *backup = in_context (VSS_CTX_BACKUP);
  struct cowset *nas = in_context (VSS_CTX_NAS_ROLLBACK);

  cr_assert_eq (count_of (all, VSS_OBJECT_SNAPSHOT), 1);
  cowset_release (c);
  cr_assert_eq (count_of (all, VSS_OBJECT_SNAPSHOT), 0);

  c = created (VSS_CTX_NAS_ROLLBACK, &set, &snapshot);
  cowset_release (c);
  cr_assert_eq (count_of (all, VSS_OBJECT_SNAPSHOT), 1);
  cr_assert_eq (count_of (all, VSS_OBJECT_SNAPSHOT_SET), 1);
  cr_assert_eq (count_of (nas, VSS_OBJECT_SNAPSHOT), 1);
  cr_assert_eq (count_of (backup, VSS_OBJECT_SNAPSHOT), 0);
  cr_assert_eq (count_of (backup, VSS_OBJECT_PROVIDER), 1);
  cowset_release (all);
  cowset_release (backup);
  cowset_release (nas);
}

Test (requester, r94_query_of_what_cannot_be_asked)
{
  const struct cowset_id id = { { 1 } };
  struct cowset *c = in_context (VSS_CTX_ALL);
  struct cowset_enum *e;

  IS (cowset_query (c, &id, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, &e),
      E_INVALIDARG);
  IS (cowset_query (c, NULL, VSS_OBJECT_SNAPSHOT, VSS_OBJECT_SNAPSHOT, &e),
      E_INVALIDARG);
  IS (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_NONE, &e),
      E_INVALIDARG);
  IS (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, NULL),
      E_INVALIDARG);
  cowset_release (c);
}

Test (requester, r95_r96_r97_abort)
{
  struct cowset *c = fake_object (f), *other;
  struct cowset_id id;

  IS (cowset_abort_backup (c), VSS_E_BAD_STATE);
  OK (cowset_initialize_for_backup (c, NULL));
  OK (cowset_abort_backup (c));
  cr_assert_eq (fake_count (f, "set.abort"), 0);
  OK (cowset_start_snapshot_set (c, &id)); /* ignored, so not over */
  cowset_release (c);

  c = drive (STATE_PREPARED, true);
  OK (cowset_abort_backup (c));
  cr_assert_eq (fake_open_sets (f), 0);
  other = with_set (VSS_CTX_FILE_SHARE_BACKUP, &id);
  add (other, "a");
  cowset_release (other);
  cowset_release (c);
}

Test (requester, abort_ends_what_is_being_made)
{
  struct cowset *c = drive (STATE_CREATING, true);

  OK (cowset_abort_backup (c));
  cr_assert_eq (fake_open_sets (f), 0);
  cr_assert_eq (c->state, STATE_DONE);
  cowset_release (c);
}

/* -------------------------------------------------------------- the lists */

Test (requester, enumerator)
{
  struct cowset_id set, snapshot;
  struct cowset *c = with_set (VSS_CTX_NAS_ROLLBACK, &set);
  struct cowset_object_prop items[5];
  struct cowset_enum *e, *copy;
  unsigned n;

  add (c, "a");
  add (c, "b");
  snapshot = add (c, "c");
  IS (finished (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  OK (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, &e));
  OK (cowset_enum_next (e, 2, items, &n));
  cr_assert_eq (n, 2);
  OK (cowset_enum_clone (e, &copy));
  IS (cowset_enum_next (e, 5, items, &n), S_FALSE);
  cr_assert_eq (n, 1);
  cr_assert (cowset_id_equal (&items[0].u.snapshot->snapshot_id, &snapshot));
  IS (cowset_enum_next (e, 1, items, NULL), S_FALSE);
  OK (cowset_enum_reset (e));
  OK (cowset_enum_skip (e, 3));
  IS (cowset_enum_skip (e, 1), S_FALSE);
  IS (cowset_enum_next (e, 2, items, NULL), E_POINTER);
  IS (cowset_enum_next (e, 1, NULL, NULL), E_POINTER);
  cowset_enum_free (e);
  /* The copy was at its own place, and keeps what it points to. */
  IS (cowset_enum_next (copy, 5, items, &n), S_FALSE);
  cr_assert_eq (n, 1);
  cr_assert_str_eq (items[0].u.snapshot->original_volume, "c");
  cowset_enum_free (copy);

  OK (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT_SET, &e));
  OK (cowset_enum_next (e, 1, items, NULL));
  cr_assert_eq (items[0].u.set->snapshots, 3);
  cr_assert_eq (items[0].u.set->snapshots_count, 3);
  cr_assert_str_eq (items[0].u.set->snapshot[1]->original_volume, "b");
  cr_assert (items[0].u.set->persistent);
  cowset_enum_free (e);
  cowset_release (c);
}

/* ---------------------------------------------------------------- deletion */

Test (requester, r98_r100_delete)
{
  const struct cowset_id unknown = { { 1 } };
  struct cowset_id set, nondeleted = { { 1 } };
  struct cowset *c = with_set (VSS_CTX_NAS_ROLLBACK, &set);
  int32_t deleted = -1;

  add (c, "a");
  add (c, "b");
  add (c, "c");
  IS (finished (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  IS (cowset_delete_snapshots (c, &unknown, VSS_OBJECT_SNAPSHOT_SET, false,
                               &deleted, &nondeleted),
      VSS_E_OBJECT_NOT_FOUND);
  IS (cowset_delete_snapshots (c, &set, VSS_OBJECT_PROVIDER, false, &deleted,
                               &nondeleted), E_INVALIDARG);
  OK (cowset_delete_snapshots (c, &set, VSS_OBJECT_SNAPSHOT_SET, false,
                               &deleted, &nondeleted));
  cr_assert_eq (deleted, 3);
  cr_assert (cowset_id_is_null (&nondeleted));
  cr_assert_eq (fake_finished_sets (f), 0);
  cowset_release (c);
}

Test (requester, r99_delete_that_stops_half_way)
{
  struct cowset_id set, snapshot, nondeleted, b;
  struct cowset *c = created (VSS_CTX_NAS_ROLLBACK, &set, &snapshot);
  int32_t deleted = -1;

  cowset_id_parse ("11111111-2222-4333-8444-555555555555", &b);
  fake_fail_with (f, "delete", VSS_E_PROVIDER_VETO,
                  json_pack ("{s:i, s:s}", "deleted", 1, "nondeleted",
                             "11111111-2222-4333-8444-555555555555"));
  IS (cowset_delete_snapshots (c, &set, VSS_OBJECT_SNAPSHOT_SET, false,
                               &deleted, &nondeleted), VSS_E_PROVIDER_VETO);
  cr_assert_eq (deleted, 1);
  cr_assert (cowset_id_equal (&nondeleted, &b));
  cowset_release (c);
}

Test (requester, delete_reaches_its_own_context_only)
{
  struct cowset_id set, snapshot, nondeleted;
  struct cowset *c = created (VSS_CTX_NAS_ROLLBACK, &set, &snapshot);
  struct cowset *backup = in_context (VSS_CTX_BACKUP);
  struct cowset *all = in_context (VSS_CTX_ALL);
  int32_t deleted;

  IS (cowset_delete_snapshots (backup, &set, VSS_OBJECT_SNAPSHOT_SET, true,
                               &deleted, &nondeleted),
      VSS_E_OBJECT_NOT_FOUND);
  OK (cowset_delete_snapshots (all, &snapshot, VSS_OBJECT_SNAPSHOT, true,
                               &deleted, &nondeleted));
  cr_assert_eq (deleted, 1);
  cowset_release (all);
  cowset_release (backup);
  cowset_release (c);
}

Test (requester, r101_r103_break)
{
  const struct cowset_id unknown = { { 1 } };
  struct cowset_id set, snapshot;
  struct cowset *c = created (VSS_CTX_NAS_ROLLBACK, &set, &snapshot);
  struct cowset_async *async;

  IS (cowset_break_snapshot_set (c, &set), VSS_E_PROVIDER_VETO);
  IS (cowset_break_snapshot_set (c, &unknown), VSS_E_OBJECT_NOT_FOUND);
  OK (cowset_break_snapshot_set_ex (c, &set, 0, &async));
  IS (outcome (async), VSS_E_PROVIDER_VETO);
  OK (cowset_break_snapshot_set_ex (c, &unknown, 2, &async));
  IS (outcome (async), VSS_E_OBJECT_NOT_FOUND);
  IS (cowset_break_snapshot_set_ex (c, &set, 0x10, &async), E_INVALIDARG);
  IS (cowset_break_snapshot_set_ex (c, &set, 0xc, &async), E_INVALIDARG);
  IS (cowset_break_snapshot_set_ex (c, &set, 0x3, &async), E_INVALIDARG);
  IS (cowset_break_snapshot_set_ex (c, &set, 0, NULL), E_INVALIDARG);
  cr_assert_eq (fake_finished_sets (f), 1);
  cowset_release (c);
}

Test (requester, r104_revert)
{
  const struct cowset_id unknown = { { 1 } };
  struct cowset_id set, snapshot;
  struct cowset *c = created (VSS_CTX_FILE_SHARE_BACKUP, &set, &snapshot);

  IS (cowset_revert_to_snapshot (c, &snapshot, false),
      VSS_E_UNSUPPORTED_CONTEXT);
  IS (cowset_revert_to_snapshot (c, &unknown, false),
      VSS_E_OBJECT_NOT_FOUND);
  cowset_release (c);
  c = created (VSS_CTX_NAS_ROLLBACK, &set, &snapshot);
  IS (cowset_revert_to_snapshot (c, &snapshot, false), E_NOTIMPL);
  cowset_release (c);
}

/* ---------------------------------------------------------------- document */

Test (requester, a_saved_document_can_be_loaded)
{
  struct cowset *c = drive (STATE_CREATED, true), *other = fake_object (f);
  char *document;

  OK (cowset_save_document (c, &document));
  OK (cowset_initialize_for_restore (other, document));
  free (document);
  IS (cowset_save_document (c, NULL), E_INVALIDARG);
  cowset_release (other);
  cowset_release (c);
}

/* Answers that make no sense are failures, never crashes. */
Test (requester, nonsense_in_lists)
{
  struct cowset_id set, snapshot;
  struct cowset *c = created (VSS_CTX_NAS_ROLLBACK, &set, &snapshot);
  struct cowset_enum *e;

  fake_fail (f, "query", E_FAIL);
  IS (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, &e),
      VSS_E_UNEXPECTED);
  fake_fail_with (f, "query", S_OK, json_pack ("{s:i}", "sets", 3));
  IS (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, &e),
      VSS_E_UNEXPECTED);
  fake_fail_with (f, "query", S_OK, json_pack ("{s:[{s:s}]}", "sets", "set",
                                               "no id"));
  IS (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT, &e),
      VSS_E_UNEXPECTED);
  fake_fail_with (f, "query", S_OK,
                  json_pack ("{s:[{s:s, s:[i, {s:s}]}]}", "sets", "set",
                             "11111111-2222-4333-8444-555555555555",
                             "snapshots", 7, "snapshot", "x"));
  IS (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_SNAPSHOT_SET, &e),
      VSS_E_UNEXPECTED);
  fake_fail_with (f, "providers", S_OK,
                  json_pack ("{s:[i]}", "providers", 1));
  IS (cowset_query (c, NULL, VSS_OBJECT_NONE, VSS_OBJECT_PROVIDER, &e),
      VSS_E_UNEXPECTED);
  cowset_release (c);
}

Test (requester, null_objects_are_refused)
{
  struct cowset_async *async;
  struct cowset_id id = { { 1 } };

  IS (cowset_initialize_for_backup (NULL, NULL), E_INVALIDARG);
  IS (cowset_set_context (NULL, 0), E_INVALIDARG);
  IS (cowset_start_snapshot_set (NULL, &id), E_INVALIDARG);
  IS (cowset_do_snapshot_set (NULL, &async), E_INVALIDARG);
  IS (cowset_abort_backup (NULL), E_INVALIDARG);
  IS (cowset_break_snapshot_set (NULL, &id), E_INVALIDARG);
  IS (cowset_async_wait (NULL, 0), E_INVALIDARG);
  IS (cowset_async_cancel (NULL), E_INVALIDARG);
  cowset_release (NULL);
  cowset_async_free (NULL);
  cowset_enum_free (NULL);
  cowset_snapshot_prop_free (NULL);
  cowset_status_free (NULL);
}

/* ---------------------------------------------------------- several servers */

static struct fake *second;

static void
setup_two (void)
{
  f = fake_new ();
  second = fake_new ();
}

static void
teardown_two (void)
{
  fake_free (f);
  fake_free (second);
}

TestSuite (several, .init = setup_two, .fini = teardown_two, .timeout = 60);

/* With a set of volume a of the one and b of the other server. */
static struct cowset *
over_two (struct cowset_id *snapshot)
{
  struct cowset *c = in_context (VSS_CTX_FILE_SHARE_BACKUP);
  struct cowset_id set;
  char uri[64];

  OK (fake_add (c, second));
  OK (cowset_start_snapshot_set (c, &set));
  snapshot[0] = add (c, "nbd+unix:///a?socket=/fake-0");
  snprintf (uri, sizeof uri, "%s", c->servers[1]->uri);
  cr_assert_str_eq (uri, "nbd+unix:///?socket=/fake-1");
  snapshot[1] = add (c, "nbd+unix:///%62?socket=/fake-1");
  return c;
}

static void
nothing_anywhere (void)
{
  cr_assert_eq (fake_open_sets (f) + fake_open_sets (second), 0);
  cr_assert_eq (fake_finished_sets (f) + fake_finished_sets (second), 0);
}

Test (several, one_set_at_both)
{
  struct cowset_snapshot_prop *prop;
  struct cowset_id snapshot[2], left;
  struct cowset *c = over_two (snapshot);
  int32_t deleted;

  IS (finished (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  cr_assert_eq (fake_count (f, "set.commit"), 0);
  for (int i = 0; i < 2; ++i) {
    struct fake *each = i ? second : f;

    cr_assert_eq (fake_count (each, "set.hold"), 1);
    cr_assert_eq (fake_count (each, "set.switch"), 1);
    cr_assert_eq (fake_finished_sets (each), 1);
    OK (cowset_get_snapshot_properties (c, &snapshot[i], &prop));
    cr_assert_str_eq (prop->original_volume, i ? "b" : "a");
    cr_assert (strstr (prop->uri, i ? "/fake-1" : "/fake-0"));
    cowset_snapshot_prop_free (prop);
  }
  cr_assert_eq (count_of (c, VSS_OBJECT_SNAPSHOT_SET), 1);
  cr_assert_eq (count_of (c, VSS_OBJECT_SNAPSHOT), 2);
  OK (cowset_get_snapshot_properties (c, &snapshot[0], &prop));
  OK (cowset_delete_snapshots (c, &prop->set_id, VSS_OBJECT_SNAPSHOT_SET,
                               false, &deleted, &left));
  cowset_snapshot_prop_free (prop);
  cr_assert_eq (deleted, 2);
  nothing_anywhere ();
  cowset_release (c);
}

/* Wherever the second one fails, nothing is left at the first. */
Test (several, a_failure_at_one_is_one_of_all)
{
  static const struct {
    const char *op;
    cowset_hresult hr;
  } cases[] = {
    { "set.prepare", VSS_E_INSUFFICIENT_STORAGE },
    { "set.precommit", VSS_E_PROVIDER_VETO },
    { "set.hold", VSS_E_HOLD_WRITES_TIMEOUT },
    { "set.switch", VSS_E_HOLD_WRITES_TIMEOUT },
    { "set.settle", VSS_E_FLUSH_WRITES_TIMEOUT },
    { "set.finish", VSS_E_UNEXPECTED_PROVIDER_ERROR },
  };

  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i)
    for (int where = 0; where < 2; ++where) {
      struct cowset_id snapshot[2];
      struct cowset *c;

      teardown_two ();
      setup_two ();
      c = in_context (VSS_CTX_FILE_SHARE_BACKUP);
      OK (fake_add (c, second));
      OK (cowset_start_snapshot_set (c, &snapshot[0]));
      for (int k = 0; k < 2; ++k) {
        char uri[64];

        snprintf (uri, sizeof uri, "nbd+unix:///a?%s",
                  strchr (c->servers[k]->uri, '?') + 1);
        snapshot[k] = add (c, uri);
      }
      fake_fail (where ? second : f, cases[i].op, cases[i].hr);
      IS (finished (cowset_do_snapshot_set, c), cases[i].hr);
      nothing_anywhere ();
      cowset_release (c);
    }
}

Test (several, a_cancel_reaches_all)
{
  static const char *const ops[] = {
    "set.prepare", "set.precommit", "set.hold", "set.switch", "set.settle",
    "set.finish",
  };

  for (size_t i = 0; i < sizeof ops / sizeof ops[0]; ++i) {
    struct cowset_id snapshot;
    struct cowset_async *async;
    struct cowset *c;
    char uri[64];

    teardown_two ();
    setup_two ();
    c = in_context (VSS_CTX_FILE_SHARE_BACKUP);
    OK (fake_add (c, second));
    OK (cowset_start_snapshot_set (c, &snapshot));
    for (int k = 0; k < 2; ++k) {
      snprintf (uri, sizeof uri, "nbd+unix:///a?%s",
                strchr (c->servers[k]->uri, '?') + 1);
      add (c, uri);
    }
    fake_block (second, ops[i]);
    OK (cowset_do_snapshot_set (c, &async));
    fake_await (second);
    OK (cowset_async_cancel (async));
    IS (outcome (async), VSS_S_ASYNC_CANCELLED);
    nothing_anywhere ();
    cowset_release (c);
  }
}

/* ------------------------------------------------- several, and it lasts */

/* With a set of volume a of both. */
static struct cowset *
lasting_over_two (struct cowset_id *set)
{
  struct cowset *c = in_context (VSS_CTX_NAS_ROLLBACK);

  OK (fake_add (c, second));
  OK (cowset_start_snapshot_set (c, set));
  for (int k = 0; k < 2; ++k) {
    char uri[64];

    snprintf (uri, sizeof uri, "nbd+unix:///a?%s",
              strchr (c->servers[k]->uri, '?') + 1);
    add (c, uri);
  }
  return c;
}

static void
expect_sets (size_t at_home, size_t at_other, size_t in_doubt)
{
  cr_assert_eq (fake_finished_sets (f), at_home);
  cr_assert_eq (fake_finished_sets (second), at_other);
  cr_assert_eq (fake_voted_sets (second), in_doubt);
  cr_assert_eq (fake_open_sets (f) + fake_open_sets (second), 0);
}

Test (several, a_lasting_set_is_decided_by_its_home)
{
  struct cowset_id set;
  struct cowset *c = lasting_over_two (&set);
  json_t *members;

  IS (finished (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  expect_sets (1, 1, 0);
  cr_assert_eq (fake_count (f, "set.vote"), 0);
  cr_assert_eq (fake_count (second, "set.vote"), 1);
  cr_assert_eq (fake_count (f, "set.finish"), 1);
  cr_assert_eq (fake_count (second, "set.finish"), 0);
  cr_assert_eq (fake_count (second, "resolve"), 1);
  cr_assert_eq (fake_count (f, "acknowledge"), 1);
  members = json_object_get (fake_last (f, "set.finish"), "members");
  cr_assert_eq (json_array_size (members), 1);
  cr_assert_str_eq (
    json_string_value (json_array_get (members, 0)),
    json_string_value (json_object_get (fake_last (f, "acknowledge"),
                                        "store")));
  cowset_release (c);
  expect_sets (1, 1, 0);
}

Test (several, a_lasting_set_that_fails_is_nowhere)
{
  static const struct {
    const char *op;
    bool at_home;
    cowset_hresult hr;
  } cases[] = {
    { "set.settle", true, VSS_E_FLUSH_WRITES_TIMEOUT },
    { "set.settle", false, VSS_E_FLUSH_WRITES_TIMEOUT },
    { "set.vote", false, VSS_E_INSUFFICIENT_STORAGE },
    { "set.finish", true, VSS_E_INSUFFICIENT_STORAGE },
    { "set.finish", true, VSS_E_UNEXPECTED }, /* perhaps never heard */
  };

  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    struct cowset_id set;
    struct cowset *c = lasting_over_two (&set);

    fake_fail (cases[i].at_home ? f : second, cases[i].op, cases[i].hr);
    IS (finished (cowset_do_snapshot_set, c), cases[i].hr);
    expect_sets (0, 0, 0);
    cr_assert_eq (fake_count (second, "resolve"), 0);
    cowset_release (c);
  }
}

/* The home has decided, whatever was heard of it. */
Test (several, a_lasting_set_whose_answer_is_lost_is_asked_for)
{
  struct cowset_id set;
  struct cowset *c = lasting_over_two (&set);

  fake_lose_answer (f, "set.finish");
  IS (finished (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  expect_sets (1, 1, 0);
  cowset_release (c);
}

Test (several, a_lasting_set_is_made_also_where_that_cannot_be_told)
{
  struct cowset_id set;
  struct cowset *c = lasting_over_two (&set);

  fake_fail (second, "resolve", VSS_E_UNEXPECTED);
  IS (finished (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  expect_sets (1, 0, 1);
  cr_assert_eq (fake_count (f, "acknowledge"), 0);
  /* Whoever looks brings it. */
  cr_assert_eq (count_of (c, VSS_OBJECT_SNAPSHOT_SET), 1);
  expect_sets (1, 1, 0);
  cr_assert_eq (fake_count (f, "acknowledge"), 1);
  cowset_release (c);
}

Test (several, a_set_in_doubt_is_left_as_it_is)
{
  enum cowset_decision decision;
  struct cowset_id set;
  struct cowset *c = lasting_over_two (&set);

  fake_lose_answer (f, "set.finish");
  fake_fail (f, "decision", VSS_E_UNEXPECTED);
  IS (finished (cowset_do_snapshot_set, c), VSS_E_UNEXPECTED);
  expect_sets (1, 0, 1);
  cowset_release (c);
  expect_sets (1, 0, 1);

  /* Without its home nothing; with --abort's word, dropped. */
  c = fake_object (second);
  OK (cowset_initialize_for_backup (c, NULL));
  IS (cowset_resolve_set (c, &set, false, &decision),
      VSS_E_REMOTE_SERVER_UNAVAILABLE);
  expect_sets (1, 0, 1);
  OK (fake_add (c, f));
  /* The home is there: its word counts. */
  OK (cowset_resolve_set (c, &set, true, &decision));
  cr_assert_eq (decision, COWSET_DECIDED_COMMIT);
  expect_sets (1, 1, 0);
  IS (cowset_resolve_set (c, &set, false, &decision), VSS_E_OBJECT_NOT_FOUND);
  cowset_release (c);
}

Test (several, a_lasting_set_needs_a_store_everywhere)
{
  struct cowset *c = in_context (VSS_CTX_NAS_ROLLBACK);
  struct cowset_id set;

  fake_without_store (second);
  OK (fake_add (c, second));
  IS (cowset_start_snapshot_set (c, &set), VSS_E_UNSUPPORTED_CONTEXT);
  cowset_release (c);
}

Test (several, which_volume_is_meant)
{
  struct cowset *c = in_context (VSS_CTX_FILE_SHARE_BACKUP);
  struct cowset_id id;

  OK (fake_add (c, second));
  OK (cowset_start_snapshot_set (c, &id));
  IS (cowset_add_to_snapshot_set (c, "a", NULL, &id), E_INVALIDARG);
  IS (cowset_add_to_snapshot_set (c, "nix", NULL, &id),
      VSS_E_OBJECT_NOT_FOUND);
  IS (cowset_add_to_snapshot_set (c, "nbd+unix:///a?socket=/no/such/socket",
                                  NULL, &id), VSS_E_REMOTE_SERVER_UNAVAILABLE);
  cowset_release (c);
  nothing_anywhere ();
}

Test (several, no_more_than_sixteen)
{
  struct cowset *c = in_context (VSS_CTX_FILE_SHARE_BACKUP);

  for (int i = 1; i < REQ_SERVERS_MAX; ++i)
    OK (fake_add (c, second));
  IS (fake_add (c, second), VSS_E_MAXIMUM_NUMBER_OF_REMOTE_MACHINES_REACHED);
  cowset_release (c);
}
