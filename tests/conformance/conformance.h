/* conformance.h - the protocol's acceptance matrix, row by row.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Each row is a line of a table with the function that tests it, run in a
 * process of its own: a function returns, or ends the process with the reason.
 * Servers are real ones, that test-conformance.sh has started; $SERVER_NAME is
 * the URI of each.
 */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libnbd.h>

#include "cowset.h"
#include "unit/fake-server.h"
#include "unit/fake-writer.h"

enum row_kind {
  REAL,                         /* against a real server */
  SCRIPTED,                     /* a scripted one below the seam: a real one
                                 * does not bring the condition about */
  NOW,                          /* what the call answers as long as no provider
                                 * can do the work */
  OPEN,                         /* not tested yet; why says what is missing */
  OUTSIDE,                      /* not part of this product; why says so */
};

struct row {
  int number;
  enum row_kind kind;
  const char *text;             /* given: call: expected */
  void (*run) (void);           /* not run if it is OPEN; or NULL, then and
                                 * for OUTSIDE */
  const char *why;              /* for all but REAL */
  const char *needs;            /* NULL, or a server that may not be there:
                                 * the row is then open */
};

extern const struct row life_rows[], writer_rows[], building_rows[],
  making_rows[], async_rows[], after_rows[], deletion_rows[];

/* --------------------------------------------------------------- asserting */

__attribute__ ((format (printf, 3, 4), noreturn))
void failed (const char *file, int line, const char *format, ...);

#define FAIL(...) failed (__FILE__, __LINE__, __VA_ARGS__)
#define EXPECT(condition)                                               \
  do {                                                                  \
    if (!(condition))                                                   \
      FAIL ("not so: %s", #condition);                                  \
  } while (0)
/* A call, and the code that it returns. */
#define IS(call, code)                                                  \
  do {                                                                  \
    const cowset_hresult is_ = (call);                                  \
                                                                        \
    if (is_ != (code))                                                  \
      FAIL ("%s: %s (0x%08x), not %s: %s", #call,                       \
            cowset_result_name (is_), (unsigned) is_,                   \
            cowset_result_name (code), cowset_error_message ());        \
    if (COWSET_FAILED (is_) && *cowset_error_message () == '\0')        \
      FAIL ("%s: without a message", #call);                            \
  } while (0)
#define OK(call) IS (call, S_OK)

/* ---------------------------------------------------------------- objects */

/* Its URI; the row fails if there is none. */
const char *server_uri (const char *server);

/* NEW; initialised; in this context; with a set started. */
struct cowset *new_object (const char *server);
struct cowset *init_b (const char *server);
struct cowset *init_r (const char *server);
struct cowset *in_context (const char *server, uint32_t context);
struct cowset *with_set (const char *server, uint32_t context);

/* With volume "a" in a set of the default context, the metadata gathered and
 * PrepareForBackup finished; c is initialised.
 */
void prepare (struct cowset *c);
/* In SET with "a" in FILE_SHARE_BACKUP, which has no writers. */
struct cowset *ready (const char *server);
/* The set made: in the default context over a prepared object, and without
 * writers.
 */
void make (struct cowset *c);
struct cowset *made (const char *server, uint32_t context,
                     struct cowset_id *snapshot);

struct cowset_id add (struct cowset *c, const char *volume);
struct cowset_id add_to (struct cowset *c, const char *volume,
                         const char *provider);
struct cowset_id id_of (const char *text);
/* An id that nothing has. */
extern const struct cowset_id unknown_id;

/* ------------------------------------------------------------------ asyncs */

typedef cowset_hresult (*async_call) (struct cowset *c,
                                      struct cowset_async **async);

/* Start it; wait for its end, and what that was. */
struct cowset_async *start (async_call call, struct cowset *c);
cowset_hresult end_of (struct cowset_async *async);
cowset_hresult outcome (async_call call, struct cowset *c);

/* Wait until it says that it is in this phase. */
void await_phase (struct cowset_async *async, const char *phase);

/* ----------------------------------------------------------------- looking */

/* How many a query of these gives. */
unsigned count_of (struct cowset *c, enum cowset_object_type type);
/* Whether an object of its own sees the snapshot, alive, in this context. */
bool listed (const char *server, uint32_t context,
             const struct cowset_id *snapshot);
/* State and failure of the only writer, or of writer index. */
enum cowset_writer_state writer_state (struct cowset *c, unsigned index,
                                       cowset_hresult *failure);

/* --------------------------------------------------------------- providers */

/* Of the server "providers". */
#define HARDWARE "11111111-0000-4000-8000-000000000001"
#define SOFTWARE "22222222-0000-4000-8000-000000000002"
#define SYSTEM "33333333-0000-4000-8000-000000000003"
#define COW "8f1f0c0a-6d9a-4d43-9c52-c0d5e7a3b001"

/* How "hardware", "software" or "system" behaves from here on (lines of
 * nbdkit-plugin/provider-test.c), with its log emptied.
 */
void provider_rules (const char *provider, const char *rules);
/* All go well again, with empty logs. */
void providers_well (void);
/* Of the line "CALL SET begin" of its log, or (end) of the one after the call:
 * the time in ns, or 0 if there is none.
 */
uint64_t provider_saw (const char *provider, const char *call, bool end);
void await_provider (const char *provider, const char *call);

/* -------------------------------------------------------------------- data */

/* Write 4 KiB to a volume at offset; ns of the clock when it was answered, or
 * 0 if it failed.
 */
uint64_t write_volume (const char *server, const char *volume,
                       uint64_t offset, uint8_t value);
/* The same in two steps; the handle is the caller's. */
struct nbd_handle *open_volume (const char *server, const char *volume);
bool write_block (struct nbd_handle *nbd, uint64_t offset, uint8_t value);
/* The byte at offset of an export, or -1. */
int read_export (const char *server, const char *export_name,
                 uint64_t offset);

#endif /* CONFORMANCE_H */
