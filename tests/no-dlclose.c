/* no-dlclose.c - keeps a plugin loaded until the process ends.
 *
 * Preloaded into a stock nbdkit beside a sanitizer's library.  nbdkit unloads
 * its plugin before it exits; the leak checker looks after that, and could no
 * longer name the functions of the plugin in its report.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

extern int dlclose (void *handle);

int
dlclose (void *handle)
{
  (void) handle;
  return 0;
}
