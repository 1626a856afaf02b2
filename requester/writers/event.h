/* event.h - what writers are told, in the order in which it comes.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef REQ_EVENT_H
#define REQ_EVENT_H

enum req_event {
  REQ_EVENT_IDENTIFY,
  REQ_EVENT_PREPARE_BACKUP,
  REQ_EVENT_PREPARE_SNAPSHOT,
  REQ_EVENT_FREEZE,
  REQ_EVENT_THAW,
  REQ_EVENT_POST_SNAPSHOT,
  REQ_EVENT_BACKUP_COMPLETE,
  REQ_EVENT_ABORT,              /* may come twice; its failure is ignored */
  REQ_EVENT_BACKUP_SHUTDOWN,    /* the last: the object goes */
  REQ_EVENT_COUNT,
};

/* "prepare-backup", "freeze", ... */
const char *req_event_name (enum req_event event);

#endif /* REQ_EVENT_H */
