/* object.h - the backup components object, for the files that make it up.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   NEW --InitializeForBackup--> INIT-B --StartSnapshotSet--> SET
 *    |                                                         |
 *    +--InitializeForRestore--> INIT-R        PrepareForBackup |
 *                                                              v
 *                                                           PREPARED
 *   SET (without writers), PREPARED --DoSnapshotSet--> CREATING
 *   CREATING --finished--> CREATED --BackupComplete--> COMPLETE
 *      +--failed or cancelled--> FAILED
 *   SET, PREPARED, CREATING, FAILED --AbortBackup--> DONE
 *
 * Which call is allowed in which state is the table in states.c.
 */
#ifndef REQ_OBJECT_H
#define REQ_OBJECT_H

#include <stdatomic.h>

#include "async.h"
#include "server.h"
#include "util.h"
#include "writers/drive.h"
#include "writers/raise.h"
#include "writers/writer.h"

enum req_state {
  STATE_NEW,                    /* connected, and no more */
  STATE_INIT_B,                 /* initialised for a backup */
  STATE_SET,                    /* a set is open, volumes may be added */
  STATE_PREPARED,               /* writers know; volumes may be added */
  STATE_CREATING,               /* DoSnapshotSet runs */
  STATE_CREATED,                /* the set is finished */
  STATE_FAILED,                 /* nothing was made */
  STATE_COMPLETE,               /* writers know of the end */
  STATE_DONE,                   /* given up */
  STATE_INIT_R,                 /* initialised for a restore */
};

enum req_call {
  CALL_INITIALIZE_FOR_BACKUP,
  CALL_INITIALIZE_FOR_RESTORE,
  CALL_ADD_SERVER,
  CALL_SET_CONTEXT,
  CALL_SET_RESTORE_STATE,
  CALL_SET_BACKUP_STATE,
  CALL_SET_LABEL,
  CALL_SET_LIMITS,
  CALL_ENABLE_WRITER_CLASSES,
  CALL_DISABLE_WRITER_CLASSES,
  CALL_DISABLE_WRITER_INSTANCES,
  CALL_ADD_WRITER,
  CALL_GATHER_WRITER_METADATA,
  CALL_GET_WRITER_METADATA,
  CALL_FREE_WRITER_METADATA,
  CALL_GATHER_WRITER_STATUS,
  CALL_GET_WRITER_STATUS,
  CALL_FREE_WRITER_STATUS,
  CALL_ADD_COMPONENT,
  CALL_GET_WRITER_COMPONENTS,
  CALL_START_SNAPSHOT_SET,
  CALL_ADD_TO_SNAPSHOT_SET,
  CALL_IS_VOLUME_SUPPORTED,
  CALL_PREPARE_FOR_BACKUP,
  CALL_DO_SNAPSHOT_SET,
  CALL_GET_SNAPSHOT_PROPERTIES,
  CALL_QUERY,
  CALL_SET_BACKUP_SUCCEEDED,
  CALL_SAVE_DOCUMENT,
  CALL_BACKUP_COMPLETE,
  CALL_ABORT_BACKUP,
  CALL_DELETE_SNAPSHOTS,
  CALL_BREAK_SNAPSHOT_SET,
  CALL_EXPOSE_SNAPSHOT,
  CALL_UNEXPOSE_SNAPSHOT,
  CALL_REVERT_TO_SNAPSHOT,
  CALL_QUERY_REVERT_STATUS,
  CALL_COUNT,
};

#define REQ_SERVERS_MAX 16      /* of one object */

/* A volume of the set. */
struct req_member {
  struct req_server *server;
  struct proto_id snapshot;
  char *volume;
};

/* What one writer's status was when it was asked for. */
struct req_status {
  struct cowset_id instance_id, class_id;
  char *name;
  enum cowset_writer_state state;
  cowset_hresult failure;
  char message[256];
};

struct req_statuses {
  struct req_status *status;
  size_t count;
};

/* Which writers are not to take part.  Filled before the metadata are gathered,
 * then read only.
 */
struct req_filter {
  bool only;                    /* EnableWriterClasses: only these */
  struct cowset_id *enabled, *disabled, *disabled_instances;
  size_t enabled_count, disabled_count, disabled_instance_count;
};

struct cowset {
  /* Those up to the count are read only; one more is added with order_lock
   * held, and only while no operation of the object goes over them.
   */
  struct req_server *servers[REQ_SERVERS_MAX];
  _Atomic size_t server_count;
  int lost_fd;                  /* of an epoll; -1: there is one server */

  /* Locks, in the order in which they may be taken. */

  /* Held over the whole of a call that moves the object, its requests to the
   * server included: such calls go one after another.
   */
  pthread_mutex_t order_lock;
  struct req_member *members;   /* order_lock; DoSnapshotSet's thread reads
                                 * them in CREATING, when nobody writes */
  size_t member_count;
  bool watching;                /* DoSnapshotSet's thread, then release; */
  pthread_t watcher;            /* of several.c */
  int stop_fd;
  struct cowset_async **asyncs; /* order_lock; for whom to wait at the end */
  size_t async_count;
  bool gather_started;          /* order_lock */
  struct req_writer **writers;  /* order_lock until gather_started, then read
                                 * only */
  size_t writer_count;
  struct req_filter filter;     /* order_lock */
  json_t *document;             /* set by initialising, then read only; NULL:
                                 * none was loaded */
  struct req_guard *guard;      /* as writers; NULL: none that needs it */
  enum cowset_writer_policy writer_policy; /* as writers */
  uint32_t writer_prepare_ms, writer_freeze_ms; /* as writers */
  struct req_raiser raiser;

  /* Never held over a request. */
  pthread_mutex_t lock;
  enum req_state state;         /* lock, and so all that follows */
  bool context_set;
  uint32_t context;
  bool backup_state_set;
  bool select_components, bootable, partial_files;
  enum cowset_backup_type backup_type;
  bool gathered;
  bool metadata_freed;
  bool status_gathered;
  struct req_statuses statuses;
  enum cowset_restore_type restore_type;
  bool moving;                  /* PrepareForBackup or BackupComplete runs */
  struct proto_id set;
  char *label;
  uint32_t hold_ms, flush_ms;
};

/* Connect and say hello.  As cowset_create(). */
cowset_hresult req_connect (const char *uri, struct req_server **out);

/* Open the object's set at one server: set.start. */
cowset_hresult req_open_set (struct cowset *c, struct req_server *server);

/* An object over this server, which it owns from here on, also on failure. */
cowset_hresult req_object_new (struct req_server *server,
                               struct cowset **out);

/* ------------------------------------------------------------------ states */

const char *req_call_name (enum req_call call);
const char *req_state_name (enum req_state state);
bool req_state_allows (enum req_state state, enum req_call call);

/* S_OK, or VSS_E_BAD_STATE with a message that names call and state.  c->lock
 * is held for the _locked one.
 */
cowset_hresult req_check_state_locked (struct cowset *c, enum req_call call);
cowset_hresult req_check_state (struct cowset *c, enum req_call call);

/* ---------------------------------------------------------------- requests */

/* Send {"op": op, ...} made by json_pack() of format and what follows, which
 * is consumed.  As req_server_ops.call; E_OUTOFMEMORY if it cannot be made.
 */
cowset_hresult req_request (struct req_server *server,
                            struct req_cancel *cancel, json_t **result,
                            const char *op, const char *format, ...);

/* hr if the page of the call lists it, else VSS_E_UNEXPECTED, with the code in
 * the message.  Every list has E_ACCESSDENIED, E_OUTOFMEMORY, E_INVALIDARG and
 * VSS_E_UNEXPECTED in it anyhow.
 */
cowset_hresult req_only (cowset_hresult hr, const cowset_hresult *listed,
                         size_t count);
#define REQ_ONLY(hr, ...)                                               \
  req_only (hr, (const cowset_hresult[]) { __VA_ARGS__ },               \
            sizeof ((const cowset_hresult[]) { __VA_ARGS__ }) /         \
              sizeof (cowset_hresult))

/* Start an operation, which the object's release will wait for.
 * c->order_lock is held.
 */
cowset_hresult req_object_start (struct cowset *c, req_operation run,
                                 void *opaque, struct cowset_async **out);

/* What finished sets and snapshots there are, as the server lists them: a new
 * reference to the array "sets".  set and snapshot may be NULL.
 */
cowset_hresult req_query_sets (struct cowset *c, uint32_t context,
                               const struct proto_id *set,
                               const struct proto_id *snapshot,
                               json_t **sets);

/* Whether the answer to "volumes" has one of that name. */
bool req_has_volume (json_t *answer, const char *name);

/* ----------------------------------------------------------------- writers */

/* Whether GatherWriterMetadata has finished: only then may takes_part be
 * looked at.  c->lock is not held.
 */
bool req_gathered (struct cowset *c);

/* Frees what gather.c has in the object. */
void req_gather_clear (struct cowset *c);

#endif /* REQ_OBJECT_H */
