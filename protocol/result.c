/* result.c - the table of result codes.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * In numeric order, so that lookups are binary.  Codes that nothing here
 * produces are in it too: a newer server may send them, and a person who
 * comes from VSS will look for them.
 */
#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "protocol/result.h"

struct code {
  cowset_hresult hr;
  const char *name;
  enum cowset_retry retry;
  const char *cause;
  const char *advice;           /* NULL: by retry */
};

/* Short, so that the table can be read. */
#define CODE(hr) hr, #hr
#define NONE COWSET_RETRY_NONE
#define NEVER COWSET_RETRY_NEVER
#define LATER COWSET_RETRY_LATER
#define WHEN_FREE COWSET_RETRY_WHEN_FREE
#define AFTER_DELETE COWSET_RETRY_AFTER_DELETE
#define AFTER_RESTART COWSET_RETRY_AFTER_RESTART
#define UNKNOWN COWSET_RETRY_UNKNOWN

static const struct code codes[] = {
  { CODE (S_OK), NONE,
    "done",
    NULL },
  { CODE (S_FALSE), NONE,
    "done, with nothing or less to do than was asked for",
    NULL },
  { CODE (VSS_S_ASYNC_PENDING), NONE,
    "the operation is still running",
    NULL },
  { CODE (VSS_S_ASYNC_FINISHED), NONE,
    "the operation has finished",
    NULL },
  { CODE (VSS_S_ASYNC_CANCELLED), NONE,
    "the operation was cancelled",
    NULL },
  { CODE (VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED), NONE,
    "a part of the set was not imported",
    NULL },
  { CODE (E_NOTIMPL), NEVER,
    "this version does not have that operation",
    "use versions of the command and the server that match, and that have it" },
  { CODE (E_POINTER), NEVER,
    "a pointer that is needed is NULL",
    NULL },
  { CODE (E_ABORT), UNKNOWN,
    "the operation was ended before it was done",
    "start again if it is still wanted" },
  { CODE (E_FAIL), UNKNOWN,
    "the operation failed, or the connection to the server was lost",
    "see whether the server runs and what it has logged, then try again" },
  { CODE (E_UNEXPECTED), UNKNOWN,
    "an unexpected error",
    "see what the server has logged" },
  { CODE (VSS_E_BAD_STATE), NEVER,
    "called in the wrong order, or in a state that does not allow it",
    "keep to the order of calls in libcowset(3)" },
  { CODE (VSS_E_UNEXPECTED), UNKNOWN,
    "an unexpected error",
    "see what the server has logged" },
  { CODE (VSS_E_PROVIDER_ALREADY_REGISTERED), NEVER,
    "a provider with this id is registered already",
    NULL },
  { CODE (VSS_E_PROVIDER_NOT_REGISTERED), NEVER,
    "no provider with this id or name is registered",
    "leave the provider out, or choose one that the server lists" },
  { CODE (VSS_E_PROVIDER_VETO), LATER,
    "the provider cannot do this",
    "see what the server has logged; if it is not for good, wait ten minutes "
    "and try again, up to three times" },
  { CODE (VSS_E_PROVIDER_IN_USE), WHEN_FREE,
    "the provider has snapshots or is being used",
    "delete its snapshots first" },
  { CODE (VSS_E_OBJECT_NOT_FOUND), NEVER,
    "there is no such volume, set or snapshot",
    "see which there are with 'cowset status' and 'cowset list'" },
  { CODE (VSS_E_VOLUME_NOT_SUPPORTED), NEVER,
    "no provider supports this volume with this context",
    "choose another context, or leave the volume out" },
  { CODE (VSS_E_OBJECT_ALREADY_EXISTS), NEVER,
    "it is there already",
    "name each volume once, and give every set an id of its own" },
  { CODE (VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER), NEVER,
    "the provider that was named does not support this volume",
    "leave the provider out, or choose another" },
  { CODE (VSS_E_UNEXPECTED_PROVIDER_ERROR), LATER,
    "the provider failed in a way that it should not",
    "see what the server has logged; wait ten minutes and try again, up to "
    "three times" },
  { CODE (VSS_E_CORRUPT_XML_DOCUMENT), NEVER,
    "the stored document is damaged",
    NULL },
  { CODE (VSS_E_INVALID_XML_DOCUMENT), NEVER,
    "the stored document is malformed or does not match the schema",
    "use a document that this version has saved, or none" },
  { CODE (VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED), NEVER,
    "a set has at most 64 volumes",
    "make several sets" },
  { CODE (VSS_E_FLUSH_WRITES_TIMEOUT), LATER,
    "writes could not be flushed in time",
    "the disks are busy: wait ten minutes and try again, up to three times, "
    "or raise flush-limit=" },
  { CODE (VSS_E_HOLD_WRITES_TIMEOUT), LATER,
    "writes could not be held for as long as the set needed",
    "the server is busy: wait ten minutes and try again, up to three times, "
    "or raise hold-limit=" },
  { CODE (VSS_E_UNEXPECTED_WRITER_ERROR), UNKNOWN,
    "an unexpected error while calling the writers",
    "see what the writers have logged" },
  { CODE (VSS_E_SNAPSHOT_SET_IN_PROGRESS), WHEN_FREE,
    "another requester is making a set of this volume",
    "try again when it has finished" },
  { CODE (VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED), AFTER_DELETE,
    "the volume has as many snapshots as it may have",
    "delete old ones, or raise snapshot-limit=" },
  { CODE (VSS_E_WRITER_INFRASTRUCTURE), UNKNOWN,
    "the writers cannot be reached",
    NULL },
  { CODE (VSS_E_WRITER_NOT_RESPONDING), UNKNOWN,
    "a writer does not answer",
    NULL },
  { CODE (VSS_E_WRITER_ALREADY_SUBSCRIBED), NEVER,
    "the writer is subscribed already",
    NULL },
  { CODE (VSS_E_UNSUPPORTED_CONTEXT), NEVER,
    "the context is not supported here",
    "persistent sets need a server with store=DIR; without one, use an "
    "auto-release context" },
  { CODE (VSS_E_VOLUME_IN_USE), WHEN_FREE,
    "the volume is in use",
    "close whatever has it open" },
  { CODE (VSS_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED), NEVER,
    "no more stores can be added",
    NULL },
  { CODE (VSS_E_INSUFFICIENT_STORAGE), AFTER_DELETE,
    "the store has no room for the set",
    "delete old snapshots, make room on the store's file system, or raise "
    "store-limit=; then try again" },
  { CODE (VSS_E_NO_SNAPSHOTS_IMPORTED), UNKNOWN,
    "nothing of the set was imported",
    NULL },
  { CODE (VSS_E_SOME_SNAPSHOTS_NOT_IMPORTED), UNKNOWN,
    "a part of the set was not imported",
    NULL },
  { CODE (VSS_E_MAXIMUM_NUMBER_OF_REMOTE_MACHINES_REACHED), NEVER,
    "too many servers in one set",
    "make several sets" },
  { CODE (VSS_E_REMOTE_SERVER_UNAVAILABLE), UNKNOWN,
    "the server cannot be reached",
    "see that it runs, and that the URI is right" },
  { CODE (VSS_E_REMOTE_SERVER_UNSUPPORTED), NEVER,
    "who answers there is no cowset server that can be asked",
    "serve the disks by nbdkit's cowset plugin, of a version that fits, and "
    "without filters that keep data" },
  { CODE (VSS_E_REVERT_IN_PROGRESS), WHEN_FREE,
    "the volume is being reverted",
    "wait until that has finished" },
  { CODE (VSS_E_REVERT_VOLUME_LOST), UNKNOWN,
    "the volume was lost while it was reverted",
    NULL },
  { CODE (VSS_E_REBOOT_REQUIRED), AFTER_RESTART,
    "the server has to be restarted first",
    "restart the server, then try again" },
  { CODE (VSS_E_TRANSACTION_FREEZE_TIMEOUT), UNKNOWN,
    "a transaction manager did not freeze in time",
    "see what keeps its transactions open, then try again" },
  { CODE (VSS_E_TRANSACTION_THAW_TIMEOUT), UNKNOWN,
    "a transaction manager did not thaw in time",
    "see what it has logged, then try again" },
  { CODE (VSS_E_UNSELECTED_VOLUME), NEVER,
    "a volume that was not chosen would be overwritten too",
    NULL },
  { CODE (VSS_E_SNAPSHOT_NOT_IN_SET), NEVER,
    "the snapshot is not in this set",
    NULL },
  { CODE (VSS_E_NESTED_VOLUME_LIMIT), NEVER,
    "the volume lies on another volume of the same kind",
    "leave one of the two out" },
  { CODE (VSS_E_VOLUME_NOT_LOCAL), NEVER,
    "the volume belongs to another machine",
    NULL },
  { CODE (VSS_E_CLUSTER_TIMEOUT), UNKNOWN,
    "a shared volume could not be prepared in time",
    NULL },
  { CODE (VSS_E_NOT_SUPPORTED), NEVER,
    "this kind of volume is not supported",
    NULL },
  { CODE (VSS_E_WRITERERROR_PARTIAL_FAILURE), UNKNOWN,
    "some components of a writer failed",
    NULL },
  { CODE (VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT), NEVER,
    "the set lacks volumes that a writer needs",
    "add all volumes that hold the writer's data" },
  { CODE (VSS_E_WRITERERROR_OUTOFRESOURCES), LATER,
    "a writer ran out of memory or the like",
    "wait ten minutes and try again, up to three times" },
  { CODE (VSS_E_WRITERERROR_TIMEOUT), LATER,
    "a writer was frozen for longer than it allows",
    "wait ten minutes and try again, up to three times" },
  { CODE (VSS_E_WRITERERROR_RETRYABLE), LATER,
    "a writer failed, and may not the next time",
    "wait ten minutes and try again, up to three times" },
  { CODE (VSS_E_WRITERERROR_NONRETRYABLE), NEVER,
    "a writer failed, and would again",
    "see what the writer has logged" },
  { CODE (VSS_E_WRITERERROR_RECOVERY_FAILED), UNKNOWN,
    "a writer could not recover the snapshot",
    NULL },
  { CODE (VSS_E_BREAK_REVERT_ID_FAILED), NEVER,
    "the identity of a disk could not be changed back",
    "detach the original first" },
  { CODE (VSS_E_LEGACY_PROVIDER), NEVER,
    "the provider is too old for this",
    NULL },
  { CODE (VSS_E_MISSING_DISK), UNKNOWN,
    "a disk that was expected is missing",
    NULL },
  { CODE (VSS_E_MISSING_HIDDEN_VOLUME), UNKNOWN,
    "a hidden volume that was expected is missing",
    NULL },
  { CODE (VSS_E_MISSING_VOLUME), UNKNOWN,
    "a volume that was expected is missing",
    NULL },
  { CODE (VSS_E_AUTORECOVERY_FAILED), UNKNOWN,
    "the recovery of the snapshot failed",
    NULL },
  { CODE (VSS_E_DYNAMIC_DISK_ERROR), UNKNOWN,
    "dynamic disks could not be processed",
    NULL },
  { CODE (VSS_E_NONTRANSPORTABLE_BCD), NEVER,
    "the document is of a set that cannot be transported",
    NULL },
  { CODE (VSS_E_CANNOT_REVERT_DISKID), UNKNOWN,
    "the identity of a disk could not be set",
    NULL },
  { CODE (VSS_E_RESYNC_IN_PROGRESS), WHEN_FREE,
    "another resynchronisation is running",
    "wait until that has finished" },
  { CODE (VSS_E_CLUSTER_ERROR), UNKNOWN,
    "the disks of the cluster could not be listed",
    NULL },
  { CODE (VSS_E_ASRERROR_DISK_ASSIGNMENT_FAILED), UNKNOWN,
    "the disks are too few or too small for the restore",
    NULL },
  { CODE (VSS_E_ASRERROR_DISK_RECREATION_FAILED), UNKNOWN,
    "a disk could not be made anew",
    NULL },
  { CODE (VSS_E_ASRERROR_NO_ARCPATH), AFTER_RESTART,
    "a restart is needed to finish preparing a disk",
    NULL },
  { CODE (VSS_E_ASRERROR_MISSING_DYNDISK), UNKNOWN,
    "a disk of a dynamic volume is missing",
    NULL },
  { CODE (VSS_E_ASRERROR_SHARED_CRIDISK), UNKNOWN,
    "a critical volume lies on a shared disk",
    NULL },
  { CODE (VSS_E_ASRERROR_DATADISK_RDISK0), UNKNOWN,
    "a data disk is the firmware's boot disk",
    NULL },
  { CODE (VSS_E_ASRERROR_RDISK0_TOOSMALL), UNKNOWN,
    "the boot disk is too small for the old system disk",
    NULL },
  { CODE (VSS_E_ASRERROR_CRITICAL_DISKS_TOO_SMALL), UNKNOWN,
    "there are not enough disks for all critical ones",
    NULL },
  { CODE (VSS_E_WRITER_STATUS_NOT_AVAILABLE), UNKNOWN,
    "a writer's status has been lost",
    NULL },
  { CODE (VSS_E_ASRERROR_DYNAMIC_VHD_NOT_SUPPORTED), UNKNOWN,
    "a critical dynamic disk is a virtual disk",
    NULL },
  { CODE (VSS_E_CRITICAL_VOLUME_ON_INVALID_DISK), UNKNOWN,
    "a critical volume lies on a disk that cannot be saved",
    NULL },
  { CODE (VSS_E_ASRERROR_RDISK_FOR_SYSTEM_DISK_NOT_FOUND), UNKNOWN,
    "no disk can be the system disk",
    NULL },
  { CODE (VSS_E_ASRERROR_NO_PHYSICAL_DISK_AVAILABLE), UNKNOWN,
    "there is no fixed disk",
    NULL },
  { CODE (VSS_E_ASRERROR_FIXED_PHYSICAL_DISK_AVAILABLE_AFTER_DISK_EXCLUSION),
    UNKNOWN,
    "no disk is left after the exclusions",
    NULL },
  { CODE (VSS_E_ASRERROR_CRITICAL_DISK_CANNOT_BE_EXCLUDED), UNKNOWN,
    "a disk that was excluded is critical",
    NULL },
  { CODE (VSS_E_ASRERROR_SYSTEM_PARTITION_HIDDEN), UNKNOWN,
    "the system partition is hidden",
    NULL },
  { CODE (VSS_E_FSS_TIMEOUT), UNKNOWN,
    "the file server's agent took too long",
    NULL },
  { CODE (FSRVP_E_TIMEOUT), UNKNOWN,
    "the file server took too long",
    NULL },
  { CODE (FSRVP_E_SHADOWCOPYSET_ID_MISMATCH), NEVER,
    "the file server knows no such set",
    NULL },
  { CODE (E_ACCESSDENIED), NEVER,
    "the server does not let this caller make or delete sets",
    "connect over the server's Unix socket as its user or as root; see "
    "control= in nbdkit-cowset-plugin(1)" },
  { CODE (E_OUTOFMEMORY), UNKNOWN,
    "out of memory",
    "free memory, here or on the server, then try again" },
  { CODE (E_INVALIDARG), NEVER,
    "an argument is not valid",
    "mend the argument that the message names" },
};

#define COUNT (sizeof codes / sizeof codes[0])

static const char *const general_advice[] = {
  [COWSET_RETRY_NONE] = "nothing",
  [COWSET_RETRY_NEVER] = "mend the caller; the same again would fail again",
  [COWSET_RETRY_LATER] =
    "wait ten minutes and try again, up to three times",
  [COWSET_RETRY_WHEN_FREE] = "try again when the other one has finished",
  [COWSET_RETRY_AFTER_DELETE] = "delete old snapshots, then try again",
  [COWSET_RETRY_AFTER_RESTART] = "restart the server, then try again",
  [COWSET_RETRY_UNKNOWN] = "see what the server has logged",
};

static int
compare (const void *key, const void *element)
{
  const uint32_t a = (uint32_t) *(const cowset_hresult *) key;
  const uint32_t b = (uint32_t) ((const struct code *) element)->hr;

  return a < b ? -1 : a > b;
}

static const struct code *
find (cowset_hresult hr)
{
  return bsearch (&hr, codes, COUNT, sizeof codes[0], compare);
}

const char *
proto_result_name (cowset_hresult hr)
{
  const struct code *c = find (hr);

  return c ? c->name : NULL;
}

bool
proto_result_parse (const char *name, cowset_hresult *hr)
{
  for (size_t i = 0; i < COUNT; ++i)
    if (strcmp (codes[i].name, name) == 0) {
      *hr = codes[i].hr;
      return true;
    }
  return false;
}

const char *
proto_result_cause (cowset_hresult hr)
{
  const struct code *c = find (hr);

  if (c)
    return c->cause;
  return COWSET_FAILED (hr) ? "a failure that this version does not know"
                            : "a success that this version does not know";
}

const char *
proto_result_advice (cowset_hresult hr)
{
  const struct code *c = find (hr);

  if (c && c->advice)
    return c->advice;
  return general_advice[proto_result_retry (hr)];
}

enum cowset_retry
proto_result_retry (cowset_hresult hr)
{
  const struct code *c = find (hr);

  if (c)
    return c->retry;
  return COWSET_FAILED (hr) ? COWSET_RETRY_UNKNOWN : COWSET_RETRY_NONE;
}

bool
proto_result_at (unsigned i, cowset_hresult *hr)
{
  if (i >= COUNT)
    return false;
  *hr = codes[i].hr;
  return true;
}
