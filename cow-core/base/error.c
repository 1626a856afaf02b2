/* error.c - reasons for people.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

int
cow_error_set (struct cow_error *err, int code, const char *fmt, ...)
{
  va_list ap;

  assert (code < 0);
  if (err == NULL || err->code != 0)
    return code;
  err->code = code;
  va_start (ap, fmt);
  vsnprintf (err->text, sizeof err->text, fmt, ap);
  va_end (ap);
  return code;
}

void
cow_error_prefix (struct cow_error *err, const char *fmt, ...)
{
  const size_t size = sizeof err->text;
  char text[2 * sizeof err->text];
  va_list ap;
  size_t len;

  if (err == NULL || err->code == 0)
    return;
  va_start (ap, fmt);
  vsnprintf (text, size - 2, fmt, ap);
  va_end (ap);
  len = strlen (text);
  memcpy (text + len, ": ", 2);
  memcpy (text + len + 2, err->text, size);
  /* Where both do not fit, the end of the message is lost. */
  memcpy (err->text, text, size - 1);
}
