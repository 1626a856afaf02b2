/* drive.h - the writers' part in making a set, for make.c.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   PrepareForBackup   req_writers_prepare_backup
 *   DoSnapshotSet      req_writers_prepare_snapshot
 *                        (the providers prepare)
 *                      req_writers_freeze
 *                        (hold, switch, release)
 *                      req_writers_thaw          at once, before settling
 *                        (settle, finish)
 *                      req_writers_post_snapshot
 *   a failure          req_writers_abort         anywhere before post-snapshot
 *
 * None does anything in a context without writers.
 */
#ifndef REQ_DRIVE_H
#define REQ_DRIVE_H

#include "writers/raise.h"

/* Start the watchdog, and ask them who they are.  S_OK, E_ABORT, E_INVALIDARG
 * (what one would freeze must not be), VSS_E_WRITER_INFRASTRUCTURE, or with
 * COWSET_WRITERS_REQUIRED the failure of a writer.
 */
cowset_hresult req_writers_identify (struct cowset *c,
                                     struct req_cancel *cancel);

cowset_hresult req_writers_prepare_backup (struct cowset *c,
                                           struct req_cancel *cancel);

/* S_OK, E_ABORT, or with COWSET_WRITERS_REQUIRED the failure of a writer. */
cowset_hresult req_writers_prepare_snapshot (struct cowset *c,
                                             struct req_cancel *cancel);

/* Freeze them, rank by rank.  S_OK: all are frozen, or the policy lets the set
 * go on.  Else the set is to be aborted: E_ABORT, a writer's failure, or
 * VSS_E_TRANSACTION_FREEZE_TIMEOUT.  Takes the memory beforehand that the
 * calling thread needs until the thaw.
 */
cowset_hresult req_writers_freeze (struct cowset *c,
                                   struct req_cancel *cancel);

/* Thaw them; not to be cancelled.  S_OK: each was frozen from its freeze to
 * here, or the policy lets the set go on.  Else the set is to be aborted: the
 * failure, or VSS_E_TRANSACTION_THAW_TIMEOUT.
 */
cowset_hresult req_writers_thaw (struct cowset *c);

/* Failures are the writers' own. */
void req_writers_post_snapshot (struct cowset *c, struct req_cancel *cancel);

/* After the thaw: "crash", "file-system" or "application". */
const char *req_writers_consistency (struct cowset *c);

#endif /* REQ_DRIVE_H */
