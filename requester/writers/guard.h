/* guard.h - the library's end of the watchdog.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One for each object that has writers of the kinds exec, fsfreeze and qga.
 * The watchdog does what they have to do, so that it is known there if this
 * process dies; this end asks and waits.
 *
 * If the watchdog dies, what it was doing fails, and another is started at
 * once, which ends every freeze that the first may have left.  After that this
 * guard is of no more use: every event fails with VSS_E_WRITER_INFRASTRUCTURE,
 * and an abort has nothing to do.
 */
#ifndef REQ_GUARD_H
#define REQ_GUARD_H

#include "util.h"
#include "writers/event.h"

struct req_guard;

/* Starts nothing yet.  E_OUTOFMEMORY. */
cowset_hresult req_guard_new (struct req_guard **out);

/* A writer "KIND:PATH", and *index by which it is named.  Before
 * req_guard_start().
 */
cowset_hresult req_guard_add (struct req_guard *g, const char *spec,
                              unsigned *index);

/* Start the watchdog.  Once; VSS_E_WRITER_INFRASTRUCTURE if it cannot be. */
cowset_hresult req_guard_start (struct req_guard *g);

/* For the environment of programs.  No event is running. */
cowset_hresult req_guard_setenv (struct req_guard *g, const char *name,
                                 const char *value);

/* Have an event carried out, and wait for its end: timeout_ms and some seconds
 * at most.  A freeze's is the time until the thaw as well.  One thread at a time for a writer.  Allocates nothing.  *text (may
 * be NULL) is what an identify said, until the writer's next event.
 */
cowset_hresult req_guard_event (struct req_guard *g, unsigned index,
                                enum req_event event, uint32_t timeout_ms,
                                const char **text);

/* Whatever this writer is at is to end soon.  Any thread. */
void req_guard_hurry (struct req_guard *g, unsigned index);

/* No event is running.  The watchdog ends; g may be NULL. */
void req_guard_free (struct req_guard *g);

#endif /* REQ_GUARD_H */
