/* writer.h - a writer: an application that is frozen while a set is made.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The object has a list of writers, each of some kind (exec, fsfreeze, qga,
 * callback).  A kind is a table of what it does at an event; that a writer's
 * state follows from how its events ended is the same for all kinds, and is
 * done here, by req_writer_raise().
 *
 *   STABLE --prepare-backup, prepare-snapshot--> WAITING_FOR_FREEZE
 *          --freeze--> WAITING_FOR_THAW --thaw--> WAITING_FOR_POST_SNAPSHOT
 *          --post-snapshot--> WAITING_FOR_BACKUP_COMPLETE
 *          --backup-complete, backup-shutdown--> STABLE
 *   any --abort--> STABLE, or stays at the FAILED_AT_... that it has
 *
 * A failed state is kept until the object's end, and with it its first failure.
 */
#ifndef REQ_WRITER_H
#define REQ_WRITER_H

#include "server.h"
#include "util.h"
#include "writers/event.h"

/* What a writer is told beside the event. */
struct req_occasion {
  uint32_t context;             /* VSS_CTX_*, with modifiers */
  struct proto_id set;          /* null before StartSnapshotSet */
  enum cowset_backup_type backup_type;
  uint32_t timeout_ms;          /* by when it has to be done */
};

/* What a writer can have backed up by itself.  Texts belong to it. */
struct req_component {
  enum cowset_component_type type;
  char *path;                   /* logical path, "" at the top */
  char *name;
  char *caption;                /* for people, or "" */

  /* The object's order_lock.  What the requester said of it. */
  bool selected;                /* AddComponent: it is part of the backup */
  enum req_succeeded {
    REQ_SUCCEEDED_UNSAID,
    REQ_SUCCEEDED_NO,
    REQ_SUCCEEDED_YES,
  } succeeded;                  /* SetBackupSucceeded */
};

struct req_writer;

struct req_writer_ops {
  const char *kind;             /* "exec", "fsfreeze", "qga", "callback" */
  bool keeps_window;            /* it thaws by itself what was frozen for
                                 * freeze_timeout_ms, and ends what takes too
                                 * long */

  /* What it does at each event; NULL: nothing, which succeeds.  Returns S_OK,
   * or a failure with the thread's message set; VSS_E_WRITERERROR_* say how it
   * failed, VSS_E_WRITER_NOT_RESPONDING that it gave no answer in time.
   * identify fills in what the writer is.  Called by the writer's worker alone
   * (raise.c), without any lock; from freeze to thaw it allocates nothing and
   * touches no file.
   */
  cowset_hresult (*on[REQ_EVENT_COUNT]) (struct req_writer *w,
                                         const struct req_occasion *occasion);

  /* Have what on[] is at end soon.  Any thread; NULL: it cannot be. */
  void (*hurry) (struct req_writer *w);

  /* The last call: frees what the kind has, and the writer. */
  void (*free) (struct req_writer *w);
};

#define REQ_FREEZE_TIMEOUT_MS 60000
#define REQ_PREPARE_TIMEOUT_MS 300000

/* How consistent what a set has of it is, if it was frozen and thawed. */
enum req_consistency {
  REQ_CRASH,                    /* as after a power cut */
  REQ_FILE_SYSTEM,              /* its file systems need no replay */
  REQ_APPLICATION,              /* its data are what it calls consistent */
};

struct req_worker;

struct req_writer {
  const struct req_writer_ops *ops;

  /* Set when it is added, and by identify; then read only. */
  struct cowset_id class_id;    /* of the application */
  struct cowset_id instance_id; /* of this one of it; new for each object */
  char *name;
  enum cowset_application_level level;
  enum cowset_usage_type usage;
  enum cowset_source_type source;
  bool transaction_manager;     /* skipped with NOT_TRANSACTED */
  uint32_t freeze_timeout_ms;   /* from freeze to thaw */
  enum req_consistency consistency; /* application */
  struct req_component *components;
  size_t component_count;

  /* Set by GatherWriterMetadata: it has answered, and is not disabled.  Only
   * these see the other events.
   */
  bool takes_part;

  struct req_worker *worker;    /* raise.c's, from the first event on */

  pthread_mutex_t lock;         /* the last lock of all */
  enum cowset_writer_state state; /* lock, and so all that follows */
  cowset_hresult failure;       /* S_OK: none */
  char message[256];            /* of the failure, "" */
  bool owed_end;                /* it saw prepare-backup or a later event, and
                                 * neither thaw nor abort since */
};

/* Sets all that every writer has: no components, a new instance id, state
 * STABLE, level front-end.  name is copied.  E_OUTOFMEMORY: nothing to clear.
 */
cowset_hresult req_writer_init (struct req_writer *w,
                                const struct req_writer_ops *ops,
                                const char *name);
void req_writer_clear (struct req_writer *w);

/* For identify.  Texts are copied; path and caption may be NULL. */
cowset_hresult req_writer_add_component (struct req_writer *w,
                                         enum cowset_component_type type,
                                         const char *path, const char *name,
                                         const char *caption);

/* Raise an event at one writer, and move its state on.  Returns what the
 * writer did, with the thread's message.
 */
cowset_hresult req_writer_raise (struct req_writer *w, enum req_event event,
                                 const struct req_occasion *occasion);

/* It failed at an event without having been asked, or late (a time-out). */
void req_writer_failed (struct req_writer *w, enum req_event event,
                        cowset_hresult failure, const char *message);

/* Its state, and what it failed with; message may be NULL. */
enum cowset_writer_state req_writer_state (struct req_writer *w,
                                           cowset_hresult *failure,
                                           char message[256]);

/* -------------------------------------------- the list that the object has */

struct cowset;

/* Take the writer over, also on failure.  VSS_E_BAD_STATE once the metadata
 * have been asked for.
 */
cowset_hresult req_writers_add (struct cowset *c, struct req_writer *w);
/* The same with c->order_lock held. */
cowset_hresult req_writers_add_locked (struct cowset *c,
                                       struct req_writer *w);

/* The rank of its level: they are frozen from 0 up, and thawed the other way
 * round.  Transaction managers are the last to freeze.
 */
#define REQ_RANKS 4
#define REQ_RANK_TRANSACTIONS 3
int req_writer_rank (const struct req_writer *w);

/* Whether it sees events after identify. */
bool req_writer_sees (const struct req_writer *w, uint32_t context);

/* backup-shutdown to those that took part; then all are freed. */
void req_writers_free (struct cowset *c);

#endif /* REQ_WRITER_H */
