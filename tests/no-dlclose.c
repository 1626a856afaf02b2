/* no-dlclose.c - lets a stock nbdkit end well under a sanitizer.
 *
 * Preloaded into nbdkit beside the sanitizer's library.
 *
 * nbdkit unloads its plugin before it exits; the leak checker looks after
 * that, and could no longer name the functions of the plugin in its report.
 *
 * With libasan preloaded (gcc 12, glibc 2.36), nbdkit's own messages with %m,
 * whatever the plugin, leave glibc's lock of the locale with one unlock too
 * many.  A library of TLS frees its locale when the process exits, and would
 * wait for that lock for ever.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <dlfcn.h>
#include <locale.h>

int
dlclose (void *handle)
{
  (void) handle;
  return 0;
}

void
freelocale (locale_t locale)
{
  (void) locale;
}
