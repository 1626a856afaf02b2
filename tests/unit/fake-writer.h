/* fake-writer.h - a writer that notes what it was told, and fails when asked.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * It has two components, the databases "one" and "two", at level front-end.
 */
#ifndef FAKE_WRITER_H
#define FAKE_WRITER_H

#include "object.h"

struct fake_writer;

/* A new one, of a class of its own, in the object's list; aborts if it is not
 * taken.  It is the object's.
 */
struct fake_writer *fake_writer (struct cowset *c, const char *name);

const struct cowset_id *fake_writer_class (const struct fake_writer *w);
const struct cowset_id *fake_writer_instance (const struct fake_writer *w);

void fake_writer_level (struct fake_writer *w,
                        enum cowset_application_level level);

/* Each of this event fails with this, and does nothing. */
void fake_writer_fail (struct fake_writer *w, enum req_event event,
                       cowset_hresult failure);

/* Each of this event takes so long. */
void fake_writer_slow (struct fake_writer *w, enum req_event event,
                       unsigned ms);

/* How long it may be frozen. */
void fake_writer_window (struct fake_writer *w, uint32_t freeze_timeout_ms);

void fake_writer_transactions (struct fake_writer *w);

/* The events that all have been told since fake_log_clear(), as
 * "name:event name:event ", in order; valid until the next event.  The last
 * ones (backup-shutdown) are there after the object is released.
 */
const char *fake_log (void);
void fake_log_clear (void);

/* How often "name:event" is in it. */
unsigned fake_log_count (const char *entry);

#endif /* FAKE_WRITER_H */
