/* watch-fsfreeze.c - a mounted file system as a writer.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * FIFREEZE writes out what is dirty, ends the journal's transaction and stops
 * every writer; the disk then has a file system that needs no replay.  It is
 * ours to undo only if it was ours to begin with: somebody else's freeze is a
 * failure, and is left alone.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "writers/watchdog.h"

static void
let_go (struct desk *d)
{
  if (d->fd != -1)
    close (d->fd);
  d->fd = -1;
}

/* The mount's root, which is held open only while it may be needed: it could
 * not be unmounted meanwhile.
 */
static cowset_hresult
open_mount (struct desk *d, struct job *j)
{
  struct statx st;

  if (d->fd != -1)
    return S_OK;
  d->fd = open (d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOATIME);
  if (d->fd == -1 && errno == EPERM)
    d->fd = open (d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (d->fd == -1)
    return job_fail (j, VSS_E_WRITERERROR_NONRETRYABLE, "%s: %s", d->path,
                     strerror (errno));
  if (statx (d->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) == 0 &&
      (st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) &&
      !(st.stx_attributes & STATX_ATTR_MOUNT_ROOT)) {
    let_go (d);
    return job_fail (j, VSS_E_WRITERERROR_NONRETRYABLE,
                     "%s: nothing is mounted there", d->path);
  }
  return S_OK;
}

static cowset_hresult
freeze (struct desk *d, struct job *j)
{
  const cowset_hresult hr = open_mount (d, j);

  if (COWSET_FAILED (hr))
    return hr;
  if (ioctl (d->fd, FIFREEZE, 0) == 0) {
    d->froze = true;
    return S_OK;
  }
  switch (errno) {
  case EBUSY:
    return job_fail (j, VSS_E_WRITERERROR_RETRYABLE, "%s: is frozen already, "
                     "by somebody else", d->path);
  case EOPNOTSUPP:
    return job_fail (j, VSS_E_WRITERERROR_NONRETRYABLE, "%s: this file system "
                     "cannot be frozen", d->path);
  case EPERM:
    return job_fail (j, VSS_E_WRITERERROR_NONRETRYABLE, "%s: only root may "
                     "freeze a file system", d->path);
  default:
    return job_fail (j, VSS_E_WRITERERROR_RETRYABLE, "%s: FIFREEZE: %s",
                     d->path, strerror (errno));
  }
}

/* With strict, that somebody else has thawed it is a failure: it was not
 * frozen all the time.
 */
static cowset_hresult
thaw (struct desk *d, struct job *j, bool strict)
{
  cowset_hresult hr;

  if (!d->froze) {
    let_go (d);
    return S_OK;
  }
  hr = open_mount (d, j);
  if (COWSET_FAILED (hr))
    return hr;
  if (ioctl (d->fd, FITHAW, 0) == -1) {
    if (errno != EINVAL)
      return job_fail (j, VSS_E_WRITERERROR_RETRYABLE, "%s: FITHAW: %s",
                       d->path, strerror (errno));
    if (strict)
      hr = job_fail (j, VSS_E_WRITERERROR_RETRYABLE, "%s: somebody else has "
                     "thawed it meanwhile", d->path);
  }
  d->froze = false;
  let_go (d);
  return hr;
}

static cowset_hresult
run (struct desk *d, struct job *j)
{
  cowset_hresult hr;

  switch (j->event) {
  case REQ_EVENT_IDENTIFY:
    hr = open_mount (d, j);
    let_go (d);
    return hr;
  case REQ_EVENT_PREPARE_SNAPSHOT:
    hr = open_mount (d, j);
    /* What is written now is not written while it is frozen. */
    if (COWSET_SUCCEEDED (hr) && syncfs (d->fd) == -1)
      hr = job_fail (j, VSS_E_WRITERERROR_RETRYABLE, "%s: syncfs: %s",
                     d->path, strerror (errno));
    return hr;
  case REQ_EVENT_FREEZE:
    return freeze (d, j);
  case REQ_EVENT_THAW:
    return thaw (d, j, true);
  case REQ_EVENT_ABORT:
    return thaw (d, j, false);
  default:
    return S_OK;
  }
}

const struct kind kind_fsfreeze = {
  .name = "fsfreeze",
  .run = run,
  .close = let_go,
};
