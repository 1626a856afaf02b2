/* log.c - the log: the hook's, or stderr.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads: any.  The hook is set before there is a second one.
 */
#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"

static cow_log_hook log_hook;

void
cow_log_set_hook (cow_log_hook hook)
{
  log_hook = hook;
}

void
cow_log (enum cow_log_level level, const char *fmt, ...)
{
  const int saved_errno = errno;
  char text[1024];
  va_list ap;

  va_start (ap, fmt);
  vsnprintf (text, sizeof text, fmt, ap);
  va_end (ap);

  if (log_hook)
    log_hook (level, text);
  else if (level <= COW_LOG_WARNING)
    fprintf (stderr, "cowset: %s: %s\n",
             level == COW_LOG_ERROR ? "error" : "warning", text);
  errno = saved_errno;
}
