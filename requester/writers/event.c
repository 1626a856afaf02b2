/* event.c - the names of what writers are told.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include "writers/event.h"

static const char *const names[REQ_EVENT_COUNT] = {
  [REQ_EVENT_IDENTIFY] = "identify",
  [REQ_EVENT_PREPARE_BACKUP] = "prepare-backup",
  [REQ_EVENT_PREPARE_SNAPSHOT] = "prepare-snapshot",
  [REQ_EVENT_FREEZE] = "freeze",
  [REQ_EVENT_THAW] = "thaw",
  [REQ_EVENT_POST_SNAPSHOT] = "post-snapshot",
  [REQ_EVENT_BACKUP_COMPLETE] = "backup-complete",
  [REQ_EVENT_ABORT] = "abort",
  [REQ_EVENT_BACKUP_SHUTDOWN] = "backup-shutdown",
};

const char *
req_event_name (enum req_event event)
{
  return names[event];
}
