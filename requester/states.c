/* states.c - which call is allowed in which state.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The table of VSS, as far as this version has the calls.  Beside it a call
 * looks at the flags (metadata gathered, backup state set, context); those
 * checks stand with the call.
 */
#include <config.h>

#include "object.h"

#define BIT(state) (1u << STATE_##state)
#define ALL (BIT (INIT_B) | BIT (SET) | BIT (PREPARED) | BIT (CREATING) |      \
             BIT (CREATED) | BIT (FAILED) | BIT (COMPLETE) | BIT (DONE) |      \
             BIT (INIT_R))

static const struct {
  const char *name;
  unsigned states;
} calls[CALL_COUNT] = {
  [CALL_INITIALIZE_FOR_BACKUP] =
    { "InitializeForBackup", BIT (NEW) },
  [CALL_INITIALIZE_FOR_RESTORE] =
    { "InitializeForRestore", BIT (NEW) },
  [CALL_ADD_SERVER] =
    { "cowset_add_server", BIT (NEW) | BIT (INIT_B) },
  [CALL_SET_CONTEXT] =
    { "SetContext", BIT (INIT_B) },
  [CALL_SET_RESTORE_STATE] =
    { "SetRestoreState", BIT (INIT_R) },
  [CALL_SET_BACKUP_STATE] =
    { "SetBackupState", BIT (INIT_B) | BIT (SET) },
  [CALL_SET_LABEL] =
    { "cowset_set_label", BIT (INIT_B) },
  [CALL_SET_LIMITS] =
    { "cowset_set_limits", BIT (INIT_B) | BIT (SET) | BIT (PREPARED) },
  [CALL_ENABLE_WRITER_CLASSES] =
    { "EnableWriterClasses", ALL },
  [CALL_DISABLE_WRITER_CLASSES] =
    { "DisableWriterClasses", ALL },
  [CALL_DISABLE_WRITER_INSTANCES] =
    { "DisableWriterInstances", ALL },
  [CALL_ADD_WRITER] =
    { "cowset_add_writer", BIT (INIT_B) | BIT (SET) },
  [CALL_GATHER_WRITER_METADATA] =
    { "GatherWriterMetadata", BIT (INIT_B) | BIT (SET) | BIT (INIT_R) },
  [CALL_GET_WRITER_METADATA] =
    { "GetWriterMetadata", ALL & ~BIT (DONE) },
  [CALL_FREE_WRITER_METADATA] =
    { "FreeWriterMetadata", ALL & ~BIT (DONE) },
  [CALL_GATHER_WRITER_STATUS] =
    { "GatherWriterStatus", ALL },
  [CALL_GET_WRITER_STATUS] =
    { "GetWriterStatus", ALL },
  [CALL_FREE_WRITER_STATUS] =
    { "FreeWriterStatus", ALL },
  [CALL_ADD_COMPONENT] =
    { "AddComponent", BIT (INIT_B) | BIT (SET) },
  [CALL_GET_WRITER_COMPONENTS] =
    { "GetWriterComponents", ALL },
  [CALL_START_SNAPSHOT_SET] =
    { "StartSnapshotSet", BIT (INIT_B) },
  [CALL_ADD_TO_SNAPSHOT_SET] =
    { "AddToSnapshotSet", BIT (SET) | BIT (PREPARED) },
  [CALL_IS_VOLUME_SUPPORTED] =
    { "IsVolumeSupported", ALL & ~BIT (INIT_R) },
  [CALL_PREPARE_FOR_BACKUP] =
    { "PrepareForBackup", BIT (SET) },
  [CALL_DO_SNAPSHOT_SET] =
    { "DoSnapshotSet", BIT (SET) | BIT (PREPARED) },
  [CALL_GET_SNAPSHOT_PROPERTIES] =
    { "GetSnapshotProperties", ALL & ~BIT (INIT_R) },
  [CALL_QUERY] =
    { "Query", ALL & ~BIT (INIT_R) },
  [CALL_SET_BACKUP_SUCCEEDED] =
    { "SetBackupSucceeded", BIT (CREATED) },
  [CALL_SAVE_DOCUMENT] =
    { "SaveAsXML", BIT (CREATED) | BIT (COMPLETE) },
  [CALL_BACKUP_COMPLETE] =
    { "BackupComplete", BIT (CREATED) },
  [CALL_ABORT_BACKUP] =
    { "AbortBackup", ALL },
  [CALL_DELETE_SNAPSHOTS] =
    { "DeleteSnapshots", ALL },
  [CALL_BREAK_SNAPSHOT_SET] =
    { "BreakSnapshotSet", ALL },
  [CALL_EXPOSE_SNAPSHOT] =
    { "ExposeSnapshot", ALL & ~BIT (CREATING) & ~BIT (INIT_R) },
  [CALL_UNEXPOSE_SNAPSHOT] =
    { "UnexposeSnapshot", ALL & ~BIT (CREATING) & ~BIT (INIT_R) },
  [CALL_REVERT_TO_SNAPSHOT] =
    { "RevertToSnapshot", ALL & ~BIT (CREATING) & ~BIT (INIT_R) },
  [CALL_QUERY_REVERT_STATUS] =
    { "QueryRevertStatus", ALL & ~BIT (CREATING) & ~BIT (INIT_R) },
};

static const char *const states[] = {
  [STATE_NEW] = "not initialised",
  [STATE_INIT_B] = "initialised for backup, with no set started",
  [STATE_SET] = "at a set that is started",
  [STATE_PREPARED] = "at a set whose writers are prepared",
  [STATE_CREATING] = "making its set",
  [STATE_CREATED] = "at a set that is made",
  [STATE_FAILED] = "at a set that could not be made",
  [STATE_COMPLETE] = "at a backup that is complete",
  [STATE_DONE] = "aborted",
  [STATE_INIT_R] = "initialised for restore",
};

const char *
req_call_name (enum req_call call)
{
  return calls[call].name;
}

const char *
req_state_name (enum req_state state)
{
  return states[state];
}

bool
req_state_allows (enum req_state state, enum req_call call)
{
  return (calls[call].states & (1u << state)) != 0;
}

cowset_hresult
req_check_state_locked (struct cowset *c, enum req_call call)
{
  if (req_state_allows (c->state, call))
    return S_OK;
  return req_fail (VSS_E_BAD_STATE, "%s: not allowed here: the object is %s",
                   calls[call].name, states[c->state]);
}

cowset_hresult
req_check_state (struct cowset *c, enum req_call call)
{
  LOCK_FOR_SCOPE (&c->lock);

  return req_check_state_locked (c, call);
}
