/* document.c - the backup components document, saved to a file.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The file is there as a whole, or is what it was before: the text goes to a
 * new one beside it, which takes its name when it is on the disk.  The new one
 * is opened before the set is made, so that a place where none can be is known
 * in time, and is written when nothing is frozen any more.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

bool
cli_document_begin (struct cli_document *d)
{
  mode_t mask;
  int n;

  if (d->path == NULL)
    return true;
  n = snprintf (d->beside, sizeof d->beside, "%s.XXXXXX", d->path);
  errno = ENAMETOOLONG;
  if (n > 0 && (size_t) n < sizeof d->beside)
    d->fd = mkostemp (d->beside, O_CLOEXEC);
  if (d->fd == -1) {
    cli_say ("--document %s: %s; no set was made", d->path, strerror (errno));
    return false;
  }
  mask = umask (0);
  umask (mask);
  fchmod (d->fd, 0666 & ~mask);
  return true;
}

void
cli_document_drop (struct cli_document *d)
{
  if (d->fd == -1)
    return;
  close (d->fd);
  unlink (d->beside);
  d->fd = -1;
}

static bool
write_all (int fd, const char *text, size_t len)
{
  while (len > 0) {
    const ssize_t n = write (fd, text, len);

    if (n == -1 && errno == EINTR)
      continue;
    if (n == -1)
      return false;
    text += n;
    len -= (size_t) n;
  }
  return true;
}

int
cli_document_end (struct cli *cli, struct cli_document *d)
{
  cowset_hresult hr;
  char *text;
  bool ok;

  if (d->fd == -1)
    return CLI_DONE;
  hr = cowset_save_document (cli->c, &text);
  if (COWSET_FAILED (hr)) {
    cli_document_drop (d);
    return cli_fail (hr, NULL);
  }
  ok = write_all (d->fd, text, strlen (text)) && write_all (d->fd, "\n", 1) &&
       fsync (d->fd) == 0 && rename (d->beside, d->path) == 0;
  free (text);
  if (ok) {
    close (d->fd);
    d->fd = -1;
    return CLI_DONE;
  }
  cli_say ("--document %s: %s; the set was made nevertheless", d->path,
           strerror (errno));
  cli_document_drop (d);
  return CLI_FAILED;
}
