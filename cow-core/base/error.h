/* error.h - reasons for people, and the log.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Functions of cow-core return 0 or -errno.  Where a person will read the
 * reason, a last argument `struct cow_error *err` (may be NULL) keeps the
 * first message; callers may add context in front, never replace it.
 */
#ifndef COW_BASE_ERROR_H
#define COW_BASE_ERROR_H

#include "base/annotate.h"

struct cow_error {
  int code;                     /* -errno, 0 when nothing was set */
  char text[512];
};

#define COW_ERROR_INIT { 0, { 0 } }

/* Keep the message unless one is there already.  Returns code. */
int cow_error_set (struct cow_error *err, int code, const char *fmt, ...)
  COW_PRINTF (3, 4);

/* Put "context: " in front of the message, if there is one. */
void cow_error_prefix (struct cow_error *err, const char *fmt, ...)
  COW_PRINTF (2, 3);

enum cow_log_level {
  COW_LOG_ERROR,                /* somebody must look */
  COW_LOG_WARNING,              /* somebody should know */
  COW_LOG_INFO,                 /* once per event: a set made, an engine chosen */
  COW_LOG_DEBUG,
};

/* The plugin installs a hook; without one ERROR and WARNING go to stderr.
 * The hook is set before any other use of cow-core, from one thread.
 */
typedef void (*cow_log_hook) (enum cow_log_level level, const char *text);
void cow_log_set_hook (cow_log_hook hook);
void cow_log (enum cow_log_level level, const char *fmt, ...) COW_PRINTF (2, 3);

#endif /* COW_BASE_ERROR_H */
