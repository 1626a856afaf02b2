/* nested.c - what lies upon what: file systems that must not be frozen.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * From each file of the server downwards: the device of its file system, what
 * that device is made of (sysfs), the files that loop devices lie in, and so
 * on.  A file system that is met on the way must not be frozen.
 *
 * XXX What goes through user space (FUSE) is a dead end here, as sysfs says
 * nothing of it.
 */
#include <config.h>

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "object.h"
#include "writers/kinds.h"
#include "writers/nested.h"

#define DEPTH_MAX 16

/* A file system to be frozen: as files see it, and the device it is on (the
 * same, but where a file system has numbers of its own, as Btrfs has).
 */
struct target {
  dev_t files, device;
};

static bool
read_line (const char *path, char *line, size_t size)
{
  FILE *in = fopen (path, "re");
  bool ok;

  if (in == NULL)
    return false;
  ok = fgets (line, (int) size, in) != NULL;
  fclose (in);
  if (ok)
    line[strcspn (line, "\n")] = '\0';
  return ok;
}

/* The block device that the file system with these files is mounted from;
 * dev itself if that is one, or where it is not known.
 */
static dev_t
device_of (dev_t dev)
{
  char line[2 * PATH_MAX], source[PATH_MAX];
  FILE *in;
  dev_t found = dev;

  if (major (dev) != 0)
    return dev;
  in = fopen ("/proc/self/mountinfo", "re");
  while (in && fgets (line, sizeof line, in)) {
    const char *tail = strstr (line, " - ");
    unsigned ma, mi;
    struct stat st;

    if (tail && sscanf (line, "%*d %*d %u:%u ", &ma, &mi) == 2 &&
        makedev (ma, mi) == dev &&
        sscanf (tail, " - %*s %4095s", source) == 1 &&
        stat (source, &st) == 0 && S_ISBLK (st.st_mode)) {
      found = st.st_rdev;
      break;
    }
  }
  if (in)
    fclose (in);
  return found;
}

static bool lies_on (dev_t dev, const struct target *t, unsigned depth);

/* Devices by the files named "dev" in the folders of this one. */
static bool
any_below (const char *folder, const struct target *t, unsigned depth)
{
  DIR *dir = opendir (folder);
  struct dirent *entry;
  bool found = false;

  while (dir && !found && (entry = readdir (dir)) != NULL) {
    char path[PATH_MAX], line[64];
    unsigned ma, mi;

    if (entry->d_name[0] != '.' &&
        snprintf (path, sizeof path, "%s/%s/dev", folder,
                  entry->d_name) < (int) sizeof path &&
        read_line (path, line, sizeof line) &&
        sscanf (line, "%u:%u", &ma, &mi) == 2)
      found = lies_on (makedev (ma, mi), t, depth + 1);
  }
  if (dir)
    closedir (dir);
  return found;
}

/* Whether what is on this device, or the files with this number, lies on the
 * target.
 */
static bool
lies_on (dev_t dev, const struct target *t, unsigned depth)
{
  const dev_t device = device_of (dev);
  char base[64], path[PATH_MAX], line[PATH_MAX];
  unsigned ma, mi;
  struct stat st;

  if (dev == t->files || device == t->device)
    return true;
  if (depth >= DEPTH_MAX || major (device) == 0)
    return false;
  snprintf (base, sizeof base, "/sys/dev/block/%u:%u", major (device),
            minor (device));

  snprintf (path, sizeof path, "%s/loop/backing_file", base);
  if (read_line (path, line, sizeof line) && stat (line, &st) == 0)
    return lies_on (S_ISBLK (st.st_mode) ? st.st_rdev : st.st_dev, t,
                    depth + 1);
  snprintf (path, sizeof path, "%s/partition", base);
  if (access (path, F_OK) == 0) {
    snprintf (path, sizeof path, "%s/../dev", base);
    return read_line (path, line, sizeof line) &&
           sscanf (line, "%u:%u", &ma, &mi) == 2 &&
           lies_on (makedev (ma, mi), t, depth + 1);
  }
  snprintf (path, sizeof path, "%s/slaves", base);
  return any_below (path, t, depth);
}

static cowset_hresult
check_file (const char *mount, const struct target *t, const char *what,
            const char *path)
{
  struct stat st;

  if (path == NULL || stat (path, &st) == -1 ||
      !lies_on (S_ISBLK (st.st_mode) ? st.st_rdev : st.st_dev, t, 0))
    return S_OK;
  return req_fail (E_INVALIDARG, "fsfreeze:%s: %s %s lies on this file "
                   "system, so that the server would wait for itself while it "
                   "is frozen", mount, what, path);
}

/* ---------------------------------------------------------------- the server */

/* The path of the socket in the URI, or NULL; to be freed. */
static char *
socket_of (const char *uri)
{
  const char *p = strchr (uri, '?');
  char *path, *out;

  while (p && strncmp (p + 1, "socket=", 7) != 0)
    p = strchr (p + 1, '&');
  if (p == NULL || (path = strdup (p + 8)) == NULL)
    return NULL;
  path[strcspn (path, "&#")] = '\0';
  out = path;
  for (const char *in = path; *in; ) {
    unsigned byte;

    if (*in == '%' && sscanf (in + 1, "%2x", &byte) == 1) {
      *out++ = (char) byte;
      in += in[1] && in[2] ? 3 : 2;
    }
    else
      *out++ = *in++;
  }
  *out = '\0';
  return path;
}

/* Whether the paths that the server names are paths here. */
static bool
is_local (const struct req_server *server, const char *socket)
{
  char name[HOST_NAME_MAX + 1];

  if (socket)
    return true;
  return gethostname (name, sizeof name) == 0 &&
         strcmp (name, req_server_machine (server)) == 0;
}

static cowset_hresult
check_server (const char *mount, const struct target *t,
              struct req_server *server)
{
  CLEANUP_FREE char *socket = socket_of (server->uri);
  CLEANUP_JSON json_t *status = NULL;
  json_t *volumes, *volume, *store;
  cowset_hresult hr;
  size_t i;

  if (!is_local (server, socket))
    return S_OK;
  hr = check_file (mount, t, "the server's socket", socket);
  if (COWSET_SUCCEEDED (hr))
    hr = req_request (server, NULL, &status, "status", "{}");
  volumes = json_object_get (status, "volumes");
  json_array_foreach (volumes, i, volume)
    if (COWSET_SUCCEEDED (hr))
      hr = check_file (mount, t, "the origin",
                       json_string_value (json_object_get (volume, "path")));
  store = json_object_get (status, "store");
  if (COWSET_SUCCEEDED (hr))
    hr = check_file (mount, t, "the store",
                     json_string_value (json_object_get (store, "path")));
  return hr;
}

cowset_hresult
req_writers_check_nested (struct cowset *c)
{
  cowset_hresult hr = S_OK;

  for (size_t i = 0; COWSET_SUCCEEDED (hr) && i < c->writer_count; ++i) {
    const char *mount = req_kinds_mount (c->writers[i]);
    struct target t;
    struct stat st;

    /* What is not there fails by itself. */
    if (mount == NULL || stat (mount, &st) == -1)
      continue;
    t.files = st.st_dev;
    t.device = device_of (st.st_dev);
    for (size_t k = 0; COWSET_SUCCEEDED (hr) && k < c->server_count; ++k)
      hr = check_server (mount, &t, c->servers[k]);
  }
  return hr;
}
