/* cowset.h - libcowset: snapshot sets of disks that cowset serves over NBD.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The calls, their order, states and result codes are those of a requester of
 * the Volume Shadow Copy Service (VSS); the page that each call follows is
 * named with it.  libcowset(3) has the order of the calls, an example, and
 * what differs.
 *
 * Results.  A negative cowset_hresult is a failure; cowset-codes.h has them
 * all.  cowset_error_message() says in words what went wrong.  Unless said
 * otherwise a call that fails has changed nothing, neither in the object nor
 * at the server, and has not written to its out parameters.  Any call that
 * asks the server may fail with
 *   VSS_E_UNEXPECTED    the connection was lost, or the server's answer makes
 *                       no sense.  Whether what was asked for happened is
 *                       unknown: query it over a new object.
 *   E_ACCESSDENIED      the server does not let this caller in
 *   E_OUTOFMEMORY       here or at the server
 * and any call with
 *   E_INVALIDARG        a pointer that is needed is NULL, a value is not valid
 *   VSS_E_BAD_STATE     not allowed in the object's state
 *
 * Threads.  Every call may be made from any thread, several at a time on one
 * object too, but for cowset_release() and the _free() calls, which must be
 * the last on what they release.  None may be made from a signal handler.
 * Threads that the library starts have all signals blocked.
 *
 * Strings are UTF-8.  What a call hands out as a pointer to a pointer belongs
 * to the caller, who gives it back with the _free() call named with it; the
 * structures grow at their end in later versions, so never copy them by size.
 */
#ifndef COWSET_H
#define COWSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cowset-codes.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------ small things */

/* "0.1.0", of the library. */
const char *cowset_version (void);

/* A GUID: 16 bytes in the order in which it is printed.  All zero is
 * GUID_NULL.
 */
struct cowset_id {
  uint8_t bytes[16];
};
#define COWSET_ID_TEXT_SIZE 37

bool cowset_id_parse (const char *text, struct cowset_id *id);
void cowset_id_format (const struct cowset_id *id,
                       char text[COWSET_ID_TEXT_SIZE]);
bool cowset_id_is_null (const struct cowset_id *id);
bool cowset_id_equal (const struct cowset_id *a, const struct cowset_id *b);

/* "VSS_E_BAD_STATE", or NULL for a value without a name; what it means; what
 * to do about it; and whether to try again.
 */
const char *cowset_result_name (cowset_hresult hr);
const char *cowset_result_cause (cowset_hresult hr);
const char *cowset_result_advice (cowset_hresult hr);
enum cowset_retry cowset_result_retry (cowset_hresult hr);

/* What went wrong in the last call of this thread that failed: one line for
 * people, which names the thing.  "" if none has.  Valid until the thread's
 * next call that fails.
 */
const char *cowset_error_message (void);

/* "nas-rollback+differential" to bits, false if it is no context; and the
 * context's name, without its modifiers (NULL if it has none).
 */
bool cowset_context_parse (const char *text, uint32_t *context);
const char *cowset_context_name (uint32_t context);

/* ------------------------------------------------- asynchronous operations */

/* What IVssAsync is.  The operation runs on a thread of the library. */
struct cowset_async;

/* *status is VSS_S_ASYNC_PENDING, VSS_S_ASYNC_FINISHED, VSS_S_ASYNC_CANCELLED,
 * or the failure that the operation ended with.  Never blocks.
 * VSS: IVssAsync::QueryStatus.  Returns S_OK, E_INVALIDARG.
 */
cowset_hresult cowset_async_query_status (struct cowset_async *async,
                                          cowset_hresult *status);

/* Wait until the operation has ended, or timeout_ms milliseconds
 * (VSS_INFINITE: without limit).  S_OK says only that the wait has ended: ask
 * for the status.  VSS: IVssAsync::Wait.
 * Returns S_OK (ended, cancelled, or time over); the operation's own failure
 * if it failed; E_INVALIDARG.
 */
cowset_hresult cowset_async_wait (struct cowset_async *async,
                                  uint32_t timeout_ms);

/* End the operation, wherever it is.  Blocks until it has ended and cleaned
 * up behind itself; it may still have finished before that.
 * VSS: IVssAsync::Cancel.  Returns
 *   S_OK                   it was running, and is now cancelled
 *   VSS_S_ASYNC_CANCELLED  it had been cancelled before
 *   VSS_S_ASYNC_FINISHED   it had finished, or did before it could be ended
 *   the operation's own failure, if it failed
 */
cowset_hresult cowset_async_cancel (struct cowset_async *async);

/* A descriptor that becomes readable when the operation has ended, and stays
 * so; for poll(2) and event loops.  It belongs to the async: only poll it.
 */
int cowset_async_fd (struct cowset_async *async);

/* What it is doing now, one word for people: "prepare", "commit", "settle",
 * "finish", "abort"; "" before and after.
 */
const char *cowset_async_phase (struct cowset_async *async);

/* As cowset_error_message(), of the operation.  "" unless it has failed.
 * Valid until the async is freed.
 */
const char *cowset_async_message (struct cowset_async *async);

/* Neither waits nor cancels: the operation goes on.  NULL is fine. */
void cowset_async_free (struct cowset_async *async);

/* -------------------------------------------- the backup components object */

/* What IVssBackupComponents is.  One object makes one set; a new set needs a
 * new object.
 */
struct cowset;

/* Connect to the server at uri, whose export is ignored, and make an object.
 *
 * uri   an NBD URI: "nbd+unix:///?socket=/path", "nbd://host:port",
 *       "nbds://host", with libnbd's parameters.
 * *out  to be given back with cowset_release().
 *
 * Blocks for 30 s at most.  VSS: CreateVssBackupComponents.  Returns S_OK,
 * E_INVALIDARG, E_OUTOFMEMORY, or
 *   E_ACCESSDENIED                   control= of the server does not allow
 *                                    this caller, or nbdkit -r
 *   VSS_E_REMOTE_SERVER_UNAVAILABLE  nobody answers there
 *   VSS_E_REMOTE_SERVER_UNSUPPORTED  who answers has no control channel, or
 *                                    of another version, or a filter in
 *                                    between answers in its place
 */
cowset_hresult cowset_create (const char *uri, struct cowset **out);

/* The last use of the object: ends an operation that runs, aborts a set that
 * is not finished, deletes the snapshots of an auto-release context, and
 * closes the connection.  (A program that dies has the same done for it by
 * the server.)  Asyncs stay valid.  NULL is fine.
 * VSS: IVssBackupComponents::Release.
 */
void cowset_release (struct cowset *c);

/* Beyond VSS: one more server, whose volumes may be in the object's set; 16 at
 * most.  The set is then one instant over all of them, and exists at all of
 * them or at none.  Before cowset_start_snapshot_set(); later a server is added
 * by naming a volume by its URI in cowset_add_to_snapshot_set().  A server that
 * the object has already is no failure.
 *
 * A set that ends with its object ends as soon as one of its servers is gone.
 * Of one that lasts the first of its servers is the home, which decides whether
 * it is; see cowset_resolve_set().
 *
 * Blocks for 30 s at most.  Returns as cowset_create(), or
 *   VSS_E_BAD_STATE              too late
 *   VSS_E_OBJECT_ALREADY_EXISTS  it is a server that the object has, by
 *                                another address
 *   VSS_E_MAXIMUM_NUMBER_OF_REMOTE_MACHINES_REACHED
 */
cowset_hresult cowset_add_server (struct cowset *c, const char *uri);

/* A descriptor that becomes readable when a connection has been lost: all
 * that is left to do then is to release the object.  Only poll it, and ask for
 * it anew after cowset_add_server().
 */
int cowset_connection_fd (struct cowset *c);

/* Begin a backup.  document: NULL, or one of cowset_save_document(), whose
 * components cowset_get_writer_components() gives; it sets nothing in the
 * object.  It may come from anywhere: it is checked in all its members.
 * VSS: InitializeForBackup.  Returns S_OK, or
 *   VSS_E_BAD_STATE             initialised already
 *   VSS_E_INVALID_XML_DOCUMENT  the document is malformed, or of a version
 *                               that this library does not read
 */
cowset_hresult cowset_initialize_for_backup (struct cowset *c,
                                             const char *document);

/* Begin a restore, in which the calls that make a set are refused.
 * VSS: InitializeForRestore.  Returns as above.
 */
cowset_hresult cowset_initialize_for_restore (struct cowset *c,
                                              const char *document);

/* How the data will be restored, for the writers to know.  In a restore only.
 * VSS: SetRestoreState.  Returns S_OK, E_INVALIDARG (no such type),
 * VSS_E_BAD_STATE.
 */
cowset_hresult cowset_set_restore_state (struct cowset *c,
                                         enum cowset_restore_type type);

/* Which kind of set, VSS_CTX_*, with modifiers.  Once, before
 * cowset_start_snapshot_set(); without it VSS_CTX_BACKUP, whose snapshots go
 * with the object.  VSS: SetContext.  Returns S_OK, E_INVALIDARG (no such
 * context), VSS_E_BAD_STATE (not initialised, too late, or the second time).
 */
cowset_hresult cowset_set_context (struct cowset *c, uint32_t context);

/* VSS: SetBackupState.  Before cowset_prepare_for_backup(), which needs it.
 * Returns S_OK, E_INVALIDARG (no such type), VSS_E_BAD_STATE.
 */
cowset_hresult cowset_set_backup_state (struct cowset *c,
                                        bool select_components,
                                        bool backup_bootable_state,
                                        enum cowset_backup_type type,
                                        bool partial_file_support);

/* Beyond VSS: a name for the set, by which people open it ("NAME@LABEL"), of
 * 1 to 64 of [A-Za-z0-9_.-].  Before cowset_start_snapshot_set().
 * Returns S_OK, E_INVALIDARG (not such a name), VSS_E_BAD_STATE.
 */
cowset_hresult cowset_set_label (struct cowset *c, const char *label);

/* Beyond VSS: how long the server may hold writes (1 to 10000 ms), and take
 * to flush them.  0 leaves the server's own limit.  Before
 * cowset_do_snapshot_set().  Returns S_OK, E_INVALIDARG, VSS_E_BAD_STATE.
 */
cowset_hresult cowset_set_limits (struct cowset *c, uint32_t hold_ms,
                                  uint32_t flush_ms);

/* ----------------------------------------------------------------- writers */

/* A writer is an application that is told before and after the instant, and
 * stops writing for it.  They are given to an object before it gathers their
 * metadata; they take part in contexts with writers.
 *
 * Writers of one level are told at once.  At a freeze the front-end comes
 * first, then the back-end, then the system (file systems), then transaction
 * managers; a thaw goes the other way round, and follows the release of held
 * writes at once.  A writer that saw a prepare or a freeze sees a thaw or an
 * abort, at least once, also if the program dies (but for callbacks, which die
 * with it).
 */

/* Add the writers that the text names:
 *
 *   exec:DIR            each program in the directory, called with the event's
 *                       name as its argument; see cowset(1)
 *   exec:PROGRAM        one program
 *   fsfreeze:MOUNT      the file system that is mounted there; needs root
 *   qga:SOCKET          the guest with a QEMU guest agent at this Unix socket
 *
 * They are run by a program of its own, cowset-watchdog, which thaws them if
 * this one dies.  Before cowset_gather_writer_metadata().
 * Returns S_OK, E_INVALIDARG (there is no such thing), E_OUTOFMEMORY,
 * VSS_E_BAD_STATE.  After a failure some of a directory's may have been added.
 */
cowset_hresult cowset_add_writer (struct cowset *c, const char *writer);

/* What writers are told; values may be added. */
enum cowset_writer_event {
  COWSET_ON_IDENTIFY,
  COWSET_ON_PREPARE_BACKUP,
  COWSET_ON_PREPARE_SNAPSHOT,
  COWSET_ON_FREEZE,
  COWSET_ON_THAW,
  COWSET_ON_POST_SNAPSHOT,
  COWSET_ON_BACKUP_COMPLETE,
  COWSET_ON_ABORT,
  COWSET_ON_BACKUP_SHUTDOWN,
};

/* How consistent what a set has of a writer is. */
enum cowset_consistency {
  COWSET_CONSISTENCY_CRASH,     /* as after a power cut */
  COWSET_CONSISTENCY_FILE_SYSTEM, /* its file systems need no replay */
  COWSET_CONSISTENCY_APPLICATION, /* as the application wants its data */
};

struct cowset_writer_component {
  enum cowset_component_type type;
  const char *path;             /* logical path; NULL: at the top */
  const char *name;
  const char *caption;          /* NULL: none */
};

/* A writer that is part of the program.  Zero what is not used. */
struct cowset_writer {
  const char *name;
  struct cowset_id class_id;
  enum cowset_application_level level;
  enum cowset_consistency consistency;
  uint32_t freeze_timeout_ms;   /* from freeze to thaw; 0: the object's */
  const struct cowset_writer_component *components;
  size_t component_count;

  /* Called for each event, one after another, by a thread of the library with
   * all signals blocked.  Calls nothing of the object.  From the freeze to the
   * thaw it must not wait for what is frozen.  Returns S_OK or one of
   * VSS_E_WRITERERROR_*; anything else that is a failure counts as
   * VSS_E_WRITERERROR_NONRETRYABLE.  One that is late is given up, but
   * cowset_release() waits for its return.  An abort may come twice.
   */
  cowset_hresult (*event) (void *opaque, enum cowset_writer_event event,
                           const struct cowset_id *set);
  void *opaque;
};

/* Add one; everything but event and opaque is copied.
 * Returns as cowset_add_writer().
 */
cowset_hresult
cowset_add_callback_writer (struct cowset *c,
                            const struct cowset_writer *writer);

/* What a writer that fails means for the set. */
enum cowset_writer_policy {
  COWSET_WRITERS_AS_VSS,        /* it fails with a failed freeze or thaw; a
                                 * failed prepare is the writer's own; one that
                                 * does not identify itself takes no part */
  COWSET_WRITERS_REQUIRED,      /* any failure up to the thaw fails it */
  COWSET_WRITERS_OPTIONAL,      /* none does; the set says that it is only
                                 * crash-consistent.  One that does not
                                 * identify itself is listed nevertheless */
};

/* Before cowset_gather_writer_metadata(); COWSET_WRITERS_AS_VSS else.
 * Returns S_OK, E_INVALIDARG, VSS_E_BAD_STATE.
 */
cowset_hresult cowset_set_writer_policy (struct cowset *c,
                                         enum cowset_writer_policy policy);

/* How long a writer may take for prepare-snapshot and post-snapshot (300 s
 * else), and from its freeze to its thaw (60 s else; a writer may know better);
 * 0 leaves the limit, 3600 s is the most.  A thaw itself may take as long as the
 * writer may be frozen, but 10 s at least and 60 s at most.  For writers that
 * are added after it.  Returns S_OK, E_INVALIDARG, VSS_E_BAD_STATE.
 */
cowset_hresult cowset_set_writer_limits (struct cowset *c,
                                         uint32_t prepare_ms,
                                         uint32_t freeze_ms);

/* Which writers take part, by the ids of their classes or of single instances.
 * Before cowset_gather_writer_metadata(); later they have no effect, and say
 * nothing.  ids may be NULL if count is 0.
 *
 * The first cowset_enable_writer_classes() makes earlier
 * cowset_disable_writer_classes() void: from then on only what was enabled
 * takes part; further ones add to it, and disabling takes away from it.
 *
 * VSS: EnableWriterClasses, DisableWriterClasses, DisableWriterInstances.
 * Return S_OK, E_INVALIDARG, E_OUTOFMEMORY, VSS_E_BAD_STATE (not initialised).
 */
cowset_hresult cowset_enable_writer_classes (struct cowset *c,
                                             const struct cowset_id *ids,
                                             unsigned count);
cowset_hresult cowset_disable_writer_classes (struct cowset *c,
                                              const struct cowset_id *ids,
                                              unsigned count);
cowset_hresult cowset_disable_writer_instances (struct cowset *c,
                                                const struct cowset_id *ids,
                                                unsigned count);

/* Ask the writers what they have.  Once; a context with writers needs it.  A
 * writer that does not answer takes no part; see cowset_set_writer_policy().
 * VSS: GatherWriterMetadata.  Returns S_OK (started), E_INVALIDARG,
 * E_OUTOFMEMORY, VSS_E_BAD_STATE.
 */
cowset_hresult cowset_gather_writer_metadata (struct cowset *c,
                                              struct cowset_async **async);

/* VSS: GetWriterMetadataCount.  Returns S_OK, E_INVALIDARG, VSS_E_BAD_STATE
 * (not gathered).
 */
cowset_hresult cowset_get_writer_metadata_count (struct cowset *c,
                                                 unsigned *count);

/* What a writer can have backed up by itself. */
struct cowset_component {
  enum cowset_component_type type;
  const char *logical_path;     /* "" at the top */
  const char *name;
  const char *caption;          /* for people, or "" */
  bool selected;                /* part of the backup */
  bool backup_known;            /* cowset_set_backup_succeeded() was called, */
  bool backup_succeeded;        /* and said so */
};

/* What a writer says of itself. */
struct cowset_writer_metadata {
  struct cowset_id instance_id;
  struct cowset_id writer_id;   /* its class */
  const char *name;
  const char *kind;             /* how it is reached: "exec", "fsfreeze", ... */
  enum cowset_application_level level;
  enum cowset_usage_type usage;
  enum cowset_source_type source;
  bool transaction_manager;     /* left out with NOT_TRANSACTED */
  size_t components;
  const struct cowset_component *const *component;
};

/* Writer index of those that take part, from 0; *metadata is to be given back
 * with cowset_writer_metadata_free(), also after the object is released.
 * VSS: GetWriterMetadata.  Returns S_OK, E_INVALIDARG, E_OUTOFMEMORY,
 * VSS_E_BAD_STATE (not gathered, or freed), VSS_E_OBJECT_NOT_FOUND (there are
 * not so many).
 */
cowset_hresult
cowset_get_writer_metadata (struct cowset *c, unsigned index,
                            struct cowset_writer_metadata **metadata);
void cowset_writer_metadata_free (struct cowset_writer_metadata *metadata);

/* From here on the two calls above are refused; the writers take part as
 * before.  VSS: FreeWriterMetadata.  Returns S_OK, VSS_E_BAD_STATE (not
 * gathered, or freed before).
 */
cowset_hresult cowset_free_writer_metadata (struct cowset *c);

/* Ask how the writers are, as often as wanted; each time the earlier answer is
 * forgotten.  VSS: GatherWriterStatus.  Returns S_OK (started), E_INVALIDARG,
 * E_OUTOFMEMORY, VSS_E_BAD_STATE (not initialised).
 */
cowset_hresult cowset_gather_writer_status (struct cowset *c,
                                            struct cowset_async **async);

/* As many as have metadata.  VSS: GetWriterStatusCount.  Returns S_OK,
 * E_INVALIDARG, VSS_E_BAD_STATE (not gathered, or freed).
 */
cowset_hresult cowset_get_writer_status_count (struct cowset *c,
                                               unsigned *count);

/* How a writer was when it was asked. */
struct cowset_writer_status {
  struct cowset_id instance_id;
  struct cowset_id writer_id;
  const char *name;
  enum cowset_writer_state state;
  cowset_hresult failure;       /* the first; S_OK: none */
  const char *message;          /* of the failure, or "" */
};

/* Writer index, in the order of the metadata; *status is to be given back with
 * cowset_writer_status_free().  VSS: GetWriterStatus(Ex).  Returns S_OK,
 * E_INVALIDARG, E_OUTOFMEMORY, VSS_E_BAD_STATE (not gathered, or freed),
 * VSS_E_OBJECT_NOT_FOUND (there are not so many).
 * failure is S_OK, VSS_E_WRITERERROR_*, VSS_E_WRITER_NOT_RESPONDING, ...;
 * cowset_result_advice() says what to do.
 */
cowset_hresult cowset_get_writer_status (struct cowset *c, unsigned index,
                                         struct cowset_writer_status **status);
void cowset_writer_status_free (struct cowset_writer_status *status);

/* VSS: FreeWriterStatus.  Returns S_OK, VSS_E_BAD_STATE (not gathered). */
cowset_hresult cowset_free_writer_status (struct cowset *c);

/* Make a component, as the metadata have it, part of the backup.  Contexts with
 * writers only; after the metadata, before cowset_prepare_for_backup(), which
 * tells the writer.  A NULL path is "".  VSS: AddComponent.  Returns S_OK,
 * E_INVALIDARG (no such writer or component), VSS_E_BAD_STATE (also where
 * cowset_set_backup_state() has said that none are selected),
 * VSS_E_OBJECT_ALREADY_EXISTS (added before).
 */
cowset_hresult cowset_add_component (struct cowset *c,
                                     const struct cowset_id *instance,
                                     const struct cowset_id *writer,
                                     enum cowset_component_type type,
                                     const char *logical_path,
                                     const char *name);

/* Say whether a component of the backup was copied: for the document.  When
 * the set has been made, before cowset_backup_complete().
 * VSS: SetBackupSucceeded.  Returns S_OK, E_INVALIDARG, VSS_E_BAD_STATE,
 * VSS_E_OBJECT_NOT_FOUND (it is not in the backup).
 */
cowset_hresult cowset_set_backup_succeeded (struct cowset *c,
                                            const struct cowset_id *instance,
                                            const struct cowset_id *writer,
                                            enum cowset_component_type type,
                                            const char *logical_path,
                                            const char *name, bool succeeded);

/* The writers that have components in the backup, with these alone; of the
 * document, in a restore and until the metadata are gathered.
 * VSS: GetWriterComponentsCount, GetWriterComponents.  Return S_OK,
 * E_INVALIDARG, E_OUTOFMEMORY, VSS_E_BAD_STATE (not initialised),
 * VSS_E_OBJECT_NOT_FOUND (there are not so many).
 */
cowset_hresult cowset_get_writer_components_count (struct cowset *c,
                                                   unsigned *count);
cowset_hresult
cowset_get_writer_components (struct cowset *c, unsigned index,
                              struct cowset_writer_metadata **components);

/* ------------------------------------------------------------ making a set */

/* Open a set; *set is its id.  VSS: StartSnapshotSet.  Returns S_OK, or
 *   VSS_E_BAD_STATE            not initialised for backup, a set was started
 *                              before, or the context is VSS_CTX_ALL
 *   VSS_E_UNSUPPORTED_CONTEXT  a persistent context, and the server has no
 *                              store (VSS has no such case)
 */
cowset_hresult cowset_start_snapshot_set (struct cowset *c,
                                          struct cowset_id *set);

/* Add a volume by its name, or by its NBD URI; where several servers have one
 * of this name, only by its URI (E_INVALIDARG).  *snapshot is the id that its snapshot will have.
 * From here until the set is finished or aborted no other set may have it.
 * provider: NULL or GUID_NULL lets the server choose.
 * VSS: AddToSnapshotSet.  Returns S_OK, or
 *   VSS_E_BAD_STATE                       no set was started, or it is made
 *   VSS_E_OBJECT_NOT_FOUND                there is no such volume
 *   VSS_E_OBJECT_ALREADY_EXISTS           the set has it already
 *   VSS_E_SNAPSHOT_SET_IN_PROGRESS        another set being made has it
 *   VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED    64
 *   VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED  of this volume
 *   VSS_E_PROVIDER_NOT_REGISTERED         there is no such provider
 *   VSS_E_VOLUME_NOT_SUPPORTED            no provider supports this volume
 *   VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER  the one that was named does not
 *   VSS_E_NESTED_VOLUME_LIMIT, VSS_E_PROVIDER_VETO,
 *   VSS_E_UNEXPECTED_PROVIDER_ERROR
 */
cowset_hresult cowset_add_to_snapshot_set (struct cowset *c,
                                           const char *volume,
                                           const struct cowset_id *provider,
                                           struct cowset_id *snapshot);

/* Whether a snapshot of the volume could be made in this context, by this
 * provider (NULL or GUID_NULL: by any); that it has too many just now does
 * not count.  VSS: IsVolumeSupported.  Returns S_OK, VSS_E_BAD_STATE (not
 * initialised), VSS_E_OBJECT_NOT_FOUND (there is no such volume).
 */
cowset_hresult cowset_is_volume_supported (struct cowset *c,
                                           const struct cowset_id *provider,
                                           const char *volume,
                                           bool *supported);

/* Tell the writers that a backup begins.  Contexts with writers only, after
 * cowset_set_backup_state() and the metadata.  VSS: PrepareForBackup.
 * Returns S_OK (started), E_INVALIDARG, E_OUTOFMEMORY, VSS_E_BAD_STATE.
 */
cowset_hresult cowset_prepare_for_backup (struct cowset *c,
                                          struct cowset_async **async);

/* Make the set: one instant over all of its volumes.  S_OK says that it was
 * started; the async has the outcome.  In a context with writers
 * cowset_prepare_for_backup() has to have finished.
 *
 * A failure or a cancel leaves nothing: no snapshot, no volume held; the
 * object can then only be aborted or released.  VSS: DoSnapshotSet.
 * Returns S_OK, E_INVALIDARG, E_OUTOFMEMORY, VSS_E_BAD_STATE.
 * The async ends with VSS_S_ASYNC_FINISHED, VSS_S_ASYNC_CANCELLED, or
 *   VSS_E_FLUSH_WRITES_TIMEOUT       earlier writes took too long
 *   VSS_E_HOLD_WRITES_TIMEOUT        the hold had expired
 *   VSS_E_INSUFFICIENT_STORAGE       the store has no room
 *   VSS_E_PROVIDER_VETO              the provider refuses; the server's log
 *                                    says why
 *   VSS_E_UNEXPECTED_PROVIDER_ERROR  the provider failed
 *   VSS_E_REBOOT_REQUIRED            the server has to be restarted first
 *   VSS_E_NESTED_VOLUME_LIMIT, VSS_E_TRANSACTION_FREEZE_TIMEOUT,
 *   VSS_E_TRANSACTION_THAW_TIMEOUT, E_OUTOFMEMORY, E_ACCESSDENIED,
 *   VSS_E_UNEXPECTED                 the connection was lost (unknown whether
 *                                    the set exists: query it)
 */
cowset_hresult cowset_do_snapshot_set (struct cowset *c,
                                       struct cowset_async **async);

/* Tell the writers that the backup was made.  Contexts with writers only,
 * after the set was; not after a failed one.  VSS: BackupComplete.
 * Returns S_OK (started), E_INVALIDARG, E_OUTOFMEMORY, VSS_E_BAD_STATE.
 * The async ends with VSS_S_ASYNC_FINISHED (a writer that refused has that in
 * its status), VSS_S_ASYNC_CANCELLED, or VSS_E_UNEXPECTED_WRITER_ERROR: a
 * writer crashed; the others know, and the call can be repeated.
 */
cowset_hresult cowset_backup_complete (struct cowset *c,
                                       struct cowset_async **async);

/* Give up a set that is not finished; a running cowset_do_snapshot_set() is
 * cancelled first.  Finished snapshots stay.  VSS: AbortBackup.
 * Returns S_OK (also where there is nothing to give up), VSS_E_BAD_STATE (not
 * initialised).
 */
cowset_hresult cowset_abort_backup (struct cowset *c);

/* The backup components document: JSON (DOCUMENT.md has the format), to be
 * given back with free().  When the set has been made.  VSS: SaveAsXML.  Returns S_OK, E_INVALIDARG,
 * E_OUTOFMEMORY, VSS_E_BAD_STATE.
 */
cowset_hresult cowset_save_document (struct cowset *c, char **document);

/* ----------------------------------------------------------------- looking */

/* VSS_SNAPSHOT_PROP, and what VSS has no field for. */
struct cowset_snapshot_prop {
  struct cowset_id snapshot_id;
  struct cowset_id set_id;
  int32_t snapshots_count;      /* of the set when it was made */
  const char *device;           /* export name: "NAME@SET-ID" */
  const char *original_volume;
  const char *originating_machine;
  const char *service_machine;
  const char *exposed_name;     /* NULL: not exposed */
  const char *exposed_path;
  struct cowset_id provider_id;
  uint32_t attributes;          /* VSS_VOLSNAP_ATTR_* */
  int64_t creation_timestamp;   /* 100 ns since 1601 UTC, as in VSS */
  enum cowset_snapshot_state status;

  const char *uri;              /* where an NBD client opens it */
  int64_t created_ns;           /* since 1970 UTC */
  uint64_t size_bytes;
  uint64_t exceptions_blocks;   /* preserved in its own epoch */
  bool alive;                   /* false: its data was lost */
  const char *end;              /* then: how, one word; else NULL */
  const char *reason;           /* and why, for people; else NULL */
};

/* Beyond VSS: a writer of a set that was made. */
struct cowset_set_writer {
  struct cowset_id writer_id;   /* its class */
  struct cowset_id instance_id;
  const char *name;
  const char *kind;
  enum cowset_writer_state state;
  cowset_hresult failure;       /* the first; S_OK: none */
  const char *message;          /* of the failure, or "" */
  size_t components;            /* captions are not kept */
  const struct cowset_component *const *component;
};

/* Beyond VSS: a set. */
struct cowset_set_prop {
  struct cowset_id set_id;
  const char *label;            /* "": none */
  uint32_t context;             /* attributes of all of its snapshots */
  bool persistent;
  bool auto_release;
  uint64_t number;              /* grows with each set of a server */
  int64_t created_ns;           /* since 1970 UTC */
  uint64_t hold_ns, settle_ns;  /* how long making it took */
  int32_t snapshots_count;      /* when it was made */
  const char *machine;
  size_t snapshots;             /* now */
  const struct cowset_snapshot_prop *const *snapshot; /* in order of adding */
  const char *consistency;      /* "crash", "file-system" or "application": what
                                 * its writers made of it */
  size_t writers;               /* that took part; what each had answered by
                                 * the thaw */
  const struct cowset_set_writer *const *writer;
  bool in_doubt;                /* a part of a set over several servers, which
                                 * waits for the decision of its home: */
  struct cowset_id home;        /* the store there */
  const char *home_uri;         /* where its requester reached it, or "";
                                 * NULL: not in doubt */
};

/* VSS_PROVIDER_PROP. */
struct cowset_provider_prop {
  struct cowset_id provider_id;
  const char *name;
  enum cowset_provider_type type;
  const char *version;
};

void cowset_snapshot_prop_free (struct cowset_snapshot_prop *prop);

/* The properties of a finished snapshot.  VSS: GetSnapshotProperties.
 * Returns S_OK, or
 *   VSS_E_OBJECT_NOT_FOUND  there is none, or it is not finished yet
 *   VSS_E_BAD_STATE         not initialised for backup
 */
cowset_hresult
cowset_get_snapshot_properties (struct cowset *c,
                                const struct cowset_id *snapshot,
                                struct cowset_snapshot_prop **prop);

/* VSS_OBJECT_PROP.  Which member is set goes by type. */
struct cowset_object_prop {
  enum cowset_object_type type;
  union {
    const struct cowset_snapshot_prop *snapshot;
    const struct cowset_set_prop *set;
    const struct cowset_provider_prop *provider;
  } u;
};

/* What IVssEnumObject is: a list as it was at the time of the query. */
struct cowset_enum;

/* What there is: VSS_OBJECT_SNAPSHOT, VSS_OBJECT_PROVIDER, or (beyond VSS)
 * VSS_OBJECT_SNAPSHOT_SET; newest first.  Sets and snapshots are finished ones
 * of the object's context, of any with VSS_CTX_ALL.  queried_id is NULL or
 * GUID_NULL and queried_type VSS_OBJECT_NONE, as in VSS.
 * VSS: Query.  Returns S_OK (also for an empty list), E_INVALIDARG (another
 * id or type), VSS_E_BAD_STATE (not initialised for backup).
 */
cowset_hresult cowset_query (struct cowset *c,
                             const struct cowset_id *queried_id,
                             enum cowset_object_type queried_type,
                             enum cowset_object_type returned_type,
                             struct cowset_enum **out);

/* Beyond VSS: the parts of sets over several servers that wait, at the object's
 * servers, for a decision (in_doubt).  They are not in cowset_query(), nor can
 * they be opened.  What the object's servers know is brought to those that
 * wait before it looks.  Returns as cowset_query().
 */
cowset_hresult cowset_query_doubtful (struct cowset *c,
                                      struct cowset_enum **out);

/* The next count of them.  What the items point to is valid until the enum is
 * freed.  fetched may be NULL if count is 1.  VSS: IVssEnumObject::Next.
 * Returns S_OK (count items), S_FALSE (fewer: the end), E_POINTER.
 */
cowset_hresult cowset_enum_next (struct cowset_enum *e, unsigned count,
                                 struct cowset_object_prop *items,
                                 unsigned *fetched);
/* VSS: IVssEnumObject::Skip.  S_OK, S_FALSE (there were fewer). */
cowset_hresult cowset_enum_skip (struct cowset_enum *e, unsigned count);
cowset_hresult cowset_enum_reset (struct cowset_enum *e);
/* A second one, at the same place.  The items of each go with it. */
cowset_hresult cowset_enum_clone (struct cowset_enum *e,
                                  struct cowset_enum **out);
void cowset_enum_free (struct cowset_enum *e);

/* ---------------------------------------------------------------- deleting */

/* Delete a finished set or snapshot of the object's context (of any, with
 * VSS_CTX_ALL).  Open NBD connections to it read errors from then on.
 *
 * type          VSS_OBJECT_SNAPSHOT_SET or VSS_OBJECT_SNAPSHOT
 * force         delete what somebody uses, too
 * *deleted      how many snapshots went, also after a failure
 * *nondeleted   the id that could not be deleted, or GUID_NULL
 *
 * VSS: DeleteSnapshots.  Returns S_OK, VSS_E_OBJECT_NOT_FOUND, or
 * VSS_E_PROVIDER_VETO (some are still there).
 */
cowset_hresult cowset_delete_snapshots (struct cowset *c,
                                        const struct cowset_id *id,
                                        enum cowset_object_type type,
                                        bool force, int32_t *deleted,
                                        struct cowset_id *nondeleted);

enum cowset_decision {
  COWSET_DECIDED_COMMIT = 1,    /* the set is */
  COWSET_DECIDED_ABORT,         /* it is as if it had never been */
};

/* Beyond VSS: end the doubt about a set over several servers at those of them
 * that the object has.  A set that lasts is finished at its home first, which is
 * the decision, and then at the others.  Where that was cut off (a server or the
 * requester died) the others keep their parts, hidden, until a requester that
 * reaches them and the home brings what the home says.  cowset_query() and
 * cowset_start_snapshot_set() do that by the way for all sets; this call for one,
 * and says what came of it.
 *
 * abort      where none of the object's servers is the home: the parts are
 *            dropped.  For a home that is gone for good; if it comes back and
 *            has the set, its part is there alone.
 * *decision  what was decided
 *
 * Returns S_OK, or
 *   VSS_E_OBJECT_NOT_FOUND           nothing of it is in doubt here
 *   VSS_E_REMOTE_SERVER_UNAVAILABLE  none of the object's servers is its home
 *   VSS_E_BAD_STATE                  its requester is still at it
 */
cowset_hresult cowset_resolve_set (struct cowset *c,
                                   const struct cowset_id *set, bool abort,
                                   enum cowset_decision *decision);

/* Cut a set loose from the server.  Sets of a software provider, which all of
 * this version are, cannot be.  VSS: BreakSnapshotSetEx.  Returns S_OK
 * (started), E_INVALIDARG (flags); the async ends with
 *   VSS_E_OBJECT_NOT_FOUND  there is no such set
 *   VSS_E_PROVIDER_VETO     it is a software provider's (nothing changed)
 */
cowset_hresult cowset_break_snapshot_set_ex (struct cowset *c,
                                             const struct cowset_id *set,
                                             uint32_t flags,
                                             struct cowset_async **async);

/* The same at once.  VSS: BreakSnapshotSet. */
cowset_hresult cowset_break_snapshot_set (struct cowset *c,
                                          const struct cowset_id *set);

/* Turn the volume back to the snapshot.  VSS: RevertToSnapshot.  Returns
 *   E_NOTIMPL                  no provider of this version can
 *   VSS_E_OBJECT_NOT_FOUND     there is no such snapshot
 *   VSS_E_UNSUPPORTED_CONTEXT  it is not persistent
 */
cowset_hresult cowset_revert_to_snapshot (struct cowset *c,
                                          const struct cowset_id *snapshot,
                                          bool force_dismount);

/* How far a revert of the volume is.  VSS: QueryRevertStatus.  Returns
 *   E_NOTIMPL               no provider of this version can revert
 *   E_POINTER               volume or async is NULL
 *   VSS_E_OBJECT_NOT_FOUND  there is no such volume
 */
cowset_hresult cowset_query_revert_status (struct cowset *c,
                                           const char *volume,
                                           struct cowset_async **async);

/* Make a snapshot reachable other than over NBD.
 *
 * path_from_root  VSS_VOLSNAP_ATTR_EXPOSED_REMOTELY: a directory of it, NULL
 *                 for all; NULL otherwise
 * attributes      VSS_VOLSNAP_ATTR_EXPOSED_LOCALLY (mounted at name) or
 *                 VSS_VOLSNAP_ATTR_EXPOSED_REMOTELY (shared as name, which may
 *                 be NULL)
 * *exposed        where it is, to be given back with free()
 *
 * VSS: ExposeSnapshot.  Returns
 *   VSS_E_PROVIDER_VETO     no provider of this version does
 *   VSS_E_OBJECT_NOT_FOUND  there is no such snapshot
 *   E_INVALIDARG            the arguments do not go together, or it is a
 *                           snapshot that is not exposed: client-accessible,
 *                           or, locally, not persistent
 */
cowset_hresult cowset_expose_snapshot (struct cowset *c,
                                       const struct cowset_id *snapshot,
                                       const char *path_from_root,
                                       uint32_t attributes, const char *name,
                                       char **exposed);

/* The end of that.  VSS: UnexposeSnapshot.  Returns S_OK, or
 * VSS_E_OBJECT_NOT_FOUND (there is no such snapshot, or it is not exposed).
 */
cowset_hresult cowset_unexpose_snapshot (struct cowset *c,
                                         const struct cowset_id *snapshot);

/* ------------------------------------------------------ where old data goes */

/* Give a volume a differential area.  Each has one already: its server's store,
 * which is why there is no argument for where it is to be.
 *
 * max_bytes  1 MiB or more; VSS_ASSOC_NO_MAX_SPACE: without limit
 *
 * In any state.  VSS: AddDiffArea.  Returns E_INVALIDARG, or
 *   VSS_E_OBJECT_ALREADY_EXISTS  it has
 *   VSS_E_VOLUME_NOT_SUPPORTED   there is no such volume
 */
cowset_hresult cowset_add_diff_area (struct cowset *c, const char *volume,
                                     uint64_t max_bytes);

/* Change the most that a volume's old data may take, or (VSS_ASSOC_REMOVE) take
 * its area away.  In any state.  VSS: ChangeDiffAreaMaximumSize.  Returns
 * E_INVALIDARG, or
 *   VSS_E_VOLUME_IN_USE     it cannot be taken away from the volume's snapshots
 *   VSS_E_PROVIDER_VETO     the store is of all the server's volumes, and its
 *                           size is the store-limit= that it was started with
 *   VSS_E_OBJECT_NOT_FOUND  there is no such volume
 */
cowset_hresult
cowset_change_diff_area_maximum_size (struct cowset *c, const char *volume,
                                      uint64_t max_bytes);

/* -------------------------------------------------------------- the server */

/* Beyond VSS: a volume that the server has. */
struct cowset_volume_prop {
  const char *name;
  const char *path;             /* at the server */
  const char *uri;              /* where an NBD client opens the origin */
  uint64_t size_bytes;
  bool readonly;
  uint64_t snapshots;           /* live */
  uint64_t epoch;
  uint64_t exceptions_blocks;
  uint64_t first_touches;
  uint64_t copied_bytes;        /* old data preserved */
  uint64_t zero_bytes;          /* of it zeroes and holes, not stored */
  uint64_t waiting;             /* writes that wait now */
};

/* Beyond VSS: the server as a whole. */
struct cowset_status {
  const char *server;           /* name and version */
  const char *machine;
  const char *uri;              /* of the server, without an export */
  struct cowset_id instance;    /* new with each of its starts */
  bool has_store;               /* persistent sets can be made */
  const char *io;               /* "io_uring" or "sync" */
  uint64_t uptime_ms;
  uint64_t hold_limit_ms, flush_limit_ms;
  uint64_t sets, sessions;

  uint64_t store_limit_bytes, store_used_bytes, store_file_bytes;
  uint64_t store_written_bytes, copied_bytes, zero_bytes;
  uint64_t exceptions_blocks;
  uint64_t invalidated;         /* snapshots lost since the start */
  uint64_t store_fill_rate;     /* bytes a second of late, 0: not growing */
  uint64_t store_full_in_s;     /* seconds, at that rate; UINT64_MAX: never */
  bool store_failed;
  uint64_t ring_bytes, ring_dirty_bytes, map_bytes;

  size_t volumes;
  const struct cowset_volume_prop *const *volume;
  const char *store_path;       /* at the server, the directory where old data
                                 * is kept; "" of an older one */
};

/* In any state.  To be given back with cowset_status_free(). */
cowset_hresult cowset_get_status (struct cowset *c,
                                  struct cowset_status **out);
void cowset_status_free (struct cowset_status *status);

#ifdef __cplusplus
}
#endif

#endif /* COWSET_H */
