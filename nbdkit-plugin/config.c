/* config.c - the parameters of the command line.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Each key has one line in the table below.  Whatever is wrong is said with
 * the key and the value, and the server does not start.  Paths are made
 * absolute here, for the server may change its directory later.
 *
 * Threads: none yet.
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "plugin.h"
#include "provider.h"
#include "base/bits.h"
#include "protocol/name.h"

#define GIB (UINT64_C (1) << 30)

struct settings settings = {
  .cache = COW_CACHE_WRITEBACK,
  .io = COW_IO_AUTO,
  .block_bytes = 4096,
  .store_reserve_bytes = GIB,
  .store_reserve_percent = 5,
  .store_timeout_ns = 10 * COW_NS_PER_S,
  .snapshot_limit = 4096,
  .hold_limit_ms = 2000,
  .flush_limit_ms = 60000,
  .control_sessions = 64,
  .session_grace_ms = 60000,
  .control = CONTROL_UNIX,
};

const char config_help[] =
  "[volume=][NAME:]PATH     (required) A disk image or block device to\n"
  "                         serve; NAME defaults to the file's name less\n"
  "                         its extension.  Any number of volumes.\n"
  "cache=writeback|none     Through the page cache (default), or direct I/O.\n"
  "block-size=SIZE          Unit of copying, a power of 2 from 4K (default)\n"
  "                         to 1M.\n"
  "store=DIR                Keep old data in this directory, and with it sets\n"
  "                         that outlive the server.  Without it old data is\n"
  "                         in $TMPDIR or /var/tmp, and ends with the server.\n"
  "store-limit=SIZE         Space for old data (default: a tenth of the\n"
  "                         volumes; with store=, as much as all of them).\n"
  "store-reserve=SIZE       Leave that much free in the file system of the\n"
  "                         store (default: 5%, at least 1G).\n"
  "store-timeout=SECONDS    A store silent for longer has failed (default\n"
  "                         10).\n"
  "force-origin=BOOL        Keep snapshots though their volume seems to have\n"
  "                         been changed without the store.\n"
  "state-dir=DIR            Where the marks of block devices are kept.\n"
  "protect=origin|snapshot  What goes on when the store fails or is full\n"
  "                         (default: origin).\n"
  "io=auto|uring|sync       How the disks are read and written.\n"
  "snapshot-limit=N         Snapshots of each volume (default 4096).\n"
  "hold-limit=SECONDS       Longest hold of writes (default 2, at most 10).\n"
  "flush-limit=SECONDS      Longest wait for writes before and after a\n"
  "                         snapshot (default 60).\n"
  "control=unix|any|off     Who may use the export @control (default: unix:\n"
  "                         the server's own user and root, over a Unix\n"
  "                         socket).\n"
  "control-sessions=N       Requesters at once (default 64).\n"
  "session-grace=SECONDS    How long the auto-release sets of a lost session\n"
  "                         that asked to be resumable wait for it\n"
  "                         (default 60).";

/* The part of a path that names an export: what follows the last slash, less
 * its last extension.
 */
static char *
default_name (const char *path)
{
  const char *base = strrchr (path, '/');
  const char *dot;

  base = base ? base + 1 : path;
  dot = strrchr (base, '.');
  return strndup (base, dot ? (size_t) (dot - base) : strlen (base));
}

/* A "NAME:" in front is recognised only if it fits the syntax of names, so
 * that /dev/disk/by-path/pci-0000:00:1f.2-ata-1 is a path.  Returns the name,
 * and the path in *path.
 */
static char *
split_name (const char *value, const char **path)
{
  const char *colon = strchr (value, ':');

  *path = value;
  if (colon) {
    char *name = strndup (value, colon - value);

    if (name == NULL || proto_name_check (name) == NULL) {
      *path = colon + 1;
      return name;
    }
    free (name);
  }
  return default_name (value);
}

static int
check_file (const char *value, struct volume_setting *v)
{
  struct stat st;

  if (stat (v->path, &st) == -1) {
    nbdkit_error ("volume=%s: %s: %m", value, v->path);
    return -1;
  }
  if (S_ISDIR (st.st_mode)) {
    nbdkit_error ("volume=%s: %s: is a directory; give a disk image or a "
                  "block device", value, v->path);
    return -1;
  }
  if (!S_ISREG (st.st_mode) && !S_ISBLK (st.st_mode)) {
    nbdkit_error ("volume=%s: %s: is neither a file nor a block device",
                  value, v->path);
    return -1;
  }
  v->dev = S_ISBLK (st.st_mode) ? st.st_rdev : st.st_dev;
  v->ino = S_ISBLK (st.st_mode) ? 0 : st.st_ino;
  return 0;
}

/* Two names for one disk would fight for its lock later, with a message that
 * puzzles.
 */
static int
check_others (const char *value, const struct volume_setting *v)
{
  for (size_t i = 0; i < settings.count; ++i) {
    const struct volume_setting *other = &settings.volumes[i];

    if (v->dev == other->dev && v->ino == other->ino) {
      nbdkit_error ("volume=%s: is the same disk as %s:%s", value,
                    other->name, other->path);
      return -1;
    }
    if (strcmp (v->name, other->name) == 0) {
      nbdkit_error ("volume=%s: the name \"%s\" is taken by %s; give one of "
                    "them another, as in volume=NAME:%s",
                    value, v->name, other->path, v->path);
      return -1;
    }
  }
  return 0;
}

static int
set_volume (const char *key, const char *value)
{
  CLEANUP_FREE char *name = NULL;
  CLEANUP_FREE char *absolute = NULL;
  struct volume_setting v;
  struct volume_setting *bigger;
  const char *path, *why;

  (void) key;
  v.name = name = split_name (value, &path);
  if (name == NULL) {
    nbdkit_error ("strdup: %m");
    return -1;
  }
  if (*path == '\0') {
    nbdkit_error ("volume=%s: names no file; give [NAME:]PATH", value);
    return -1;
  }
  v.path = absolute = nbdkit_absolute_path (path);
  if (absolute == NULL || check_file (value, &v) == -1)
    return -1;
  why = proto_name_check (name);
  if (why) {
    nbdkit_error ("volume=%s: \"%s\" %s; give the volume a name, as in "
                  "volume=NAME:%s", value, name, why, path);
    return -1;
  }
  if (check_others (value, &v) == -1)
    return -1;

  bigger = realloc (settings.volumes,
                    (settings.count + 1) * sizeof settings.volumes[0]);
  if (bigger == NULL) {
    nbdkit_error ("realloc: %m");
    return -1;
  }
  settings.volumes = bigger;
  settings.volumes[settings.count++] = v;
  name = absolute = NULL;
  return 0;
}

/* One of words, which ends with NULL: its index, or -1 after the message. */
static int
choose (const char *key, const char *value, const char *const words[])
{
  char list[128] = "";

  for (int i = 0; words[i]; ++i) {
    size_t used = strlen (list);

    if (strcmp (value, words[i]) == 0)
      return i;
    snprintf (list + used, sizeof list - used, "%s%s", i ? " or " : "",
              words[i]);
  }
  nbdkit_error ("%s=%s: must be %s", key, value, list);
  return -1;
}

static int
parse_size (const char *key, const char *value, uint64_t *bytes)
{
  int64_t r = nbdkit_parse_size (value);

  if (r == -1) {
    nbdkit_error ("%s=%s: is no size", key, value);
    return -1;
  }
  *bytes = r;
  return 0;
}

/* Seconds, with up to three decimals, within [min_ms, max_ms]. */
static int
parse_seconds (const char *key, const char *value, unsigned min_ms,
               unsigned max_ms, unsigned *ms)
{
  uint64_t n = 0;
  unsigned decimals = 0;
  bool point = false, digits = false;
  const char *p;

  for (p = value; *p && n <= UINT32_MAX; ++p) {
    if (*p == '.' && !point)
      point = true;
    else if (*p >= '0' && *p <= '9' && decimals < 3) {
      n = n * 10 + (*p - '0');
      decimals += point;
      digits = true;
    }
    else
      break;
  }
  for (; decimals < 3; ++decimals)
    n *= 10;
  if (*p || !digits || n < min_ms || n > max_ms) {
    nbdkit_error ("%s=%s: must be a number of seconds from %g to %g",
                  key, value, min_ms / 1000.0, max_ms / 1000.0);
    return -1;
  }
  *ms = n;
  return 0;
}

static int
parse_count (const char *key, const char *value, unsigned min, unsigned max,
             unsigned *count)
{
  unsigned n;

  if (nbdkit_parse_unsigned (key, value, &n) == -1)
    return -1;
  if (n < min || n > max) {
    nbdkit_error ("%s=%s: must be from %u to %u", key, value, min, max);
    return -1;
  }
  *count = n;
  return 0;
}

static int
set_cache (const char *key, const char *value)
{
  static const char *const words[] = { "writeback", "none", NULL };
  int i = choose (key, value, words);

  settings.cache = i == 1 ? COW_CACHE_NONE : COW_CACHE_WRITEBACK;
  return i == -1 ? -1 : 0;
}

static int
set_block_size (const char *key, const char *value)
{
  uint64_t bytes;

  if (parse_size (key, value, &bytes) == -1)
    return -1;
  if (!cow_is_power_of_2 (bytes) || bytes < 4096 || bytes > 1 << 20) {
    nbdkit_error ("%s=%s: must be a power of 2 from 4K to 1M", key, value);
    return -1;
  }
  settings.block_bytes = bytes;
  return 0;
}

/* A directory that is there: none is made for a name that may be mistyped. */
static int
set_directory (const char *key, const char *value, char **directory)
{
  struct stat st;
  char *absolute = nbdkit_absolute_path (value);

  if (absolute == NULL)
    return -1;
  if (stat (absolute, &st) == -1)
    nbdkit_error ("%s=%s: %m%s", key, value,
                  errno == ENOENT ? "; make the directory first" : "");
  else if (!S_ISDIR (st.st_mode))
    nbdkit_error ("%s=%s: is not a directory", key, value);
  else {
    free (*directory);
    *directory = absolute;
    return 0;
  }
  free (absolute);
  return -1;
}

static int
set_store (const char *key, const char *value)
{
  if (settings.store) {
    nbdkit_error ("%s=%s: there is one store for all volumes, and %s was "
                  "given already", key, value, settings.store);
    return -1;
  }
  return set_directory (key, value, &settings.store);
}

static int
set_state_dir (const char *key, const char *value)
{
  return set_directory (key, value, &settings.state_dir);
}

static int
set_force_origin (const char *key, const char *value)
{
  int r = nbdkit_parse_bool (value);

  if (r == -1) {
    nbdkit_error ("%s=%s: must be true or false", key, value);
    return -1;
  }
  settings.force_origin = r;
  return 0;
}

static int
set_store_limit (const char *key, const char *value)
{
  uint64_t bytes;

  if (parse_size (key, value, &bytes) == -1)
    return -1;
  if (bytes < 1 << 20) {
    nbdkit_error ("%s=%s: must be 1M or more", key, value);
    return -1;
  }
  settings.store_limit_bytes = bytes;
  return 0;
}

static int
set_store_reserve (const char *key, const char *value)
{
  if (parse_size (key, value, &settings.store_reserve_bytes) == -1)
    return -1;
  settings.store_reserve_percent = 0;
  return 0;
}

static int
set_store_timeout (const char *key, const char *value)
{
  unsigned ms;

  if (parse_seconds (key, value, 100, 3600 * 1000, &ms) == -1)
    return -1;
  settings.store_timeout_ns = ms * COW_NS_PER_MS;
  return 0;
}

static int
set_protect (const char *key, const char *value)
{
  static const char *const words[] = { "origin", "snapshot", NULL };
  int i = choose (key, value, words);

  settings.protect_snapshot = i == 1;
  return i == -1 ? -1 : 0;
}

static int
set_io (const char *key, const char *value)
{
  static const char *const words[] = { "auto", "uring", "sync", NULL };
  static const enum cow_io_kind kinds[] = {
    COW_IO_AUTO, COW_IO_URING, COW_IO_SYNC,
  };
  int i = choose (key, value, words);

  if (i != -1)
    settings.io = kinds[i];
  return i == -1 ? -1 : 0;
}

static int
set_snapshot_limit (const char *key, const char *value)
{
  return parse_count (key, value, 1, 65536, &settings.snapshot_limit);
}

static int
set_hold_limit (const char *key, const char *value)
{
  return parse_seconds (key, value, 1, 10 * 1000, &settings.hold_limit_ms);
}

static int
set_flush_limit (const char *key, const char *value)
{
  return parse_seconds (key, value, 1, 3600 * 1000, &settings.flush_limit_ms);
}

static int
set_control_sessions (const char *key, const char *value)
{
  return parse_count (key, value, 1, 1024, &settings.control_sessions);
}

static int
set_session_grace (const char *key, const char *value)
{
  return parse_seconds (key, value, 0, 3600 * 1000,
                        &settings.session_grace_ms);
}

static int
not_supported (const char *key, const char *value)
{
  nbdkit_error ("%s=%s: not supported by this version of cowset", key, value);
  return -1;
}

static int
set_control (const char *key, const char *value)
{
  static const char *const words[] = { "unix", "tls", "any", "off", NULL };

  switch (choose (key, value, words)) {
  case 0: settings.control = CONTROL_UNIX; return 0;
  case 1: return not_supported (key, value);
  case 2: settings.control = CONTROL_ANY; return 0;
  case 3: settings.control = CONTROL_OFF; return 0;
  default: return -1;
  }
}

/* A secret has no place in a message. */
static int
set_control_secret (const char *key, const char *value)
{
  (void) value;
  return not_supported (key, "...");
}

static const struct {
  const char *key;
  int (*set) (const char *key, const char *value);
} keys[] = {
  { "volume", set_volume },
  { "cache", set_cache },
  { "block-size", set_block_size },
  { "store-limit", set_store_limit },
  { "store-reserve", set_store_reserve },
  { "store-timeout", set_store_timeout },
  { "protect", set_protect },
  { "io", set_io },
  { "snapshot-limit", set_snapshot_limit },
  { "hold-limit", set_hold_limit },
  { "flush-limit", set_flush_limit },
  { "control", set_control },
  { "control-sessions", set_control_sessions },
  { "session-grace", set_session_grace },
  { "control-secret", set_control_secret },
  { "debug-provider", provider_test_config },
  { "debug-sysfs", nested_config },
  { "store", set_store },
  { "state-dir", set_state_dir },
  { "clone-dir", not_supported },
  { "force-origin", set_force_origin },
};

int
config_set (const char *key, const char *value)
{
  for (size_t i = 0; i < COW_ARRAY_SIZE (keys); ++i)
    if (strcmp (key, keys[i].key) == 0)
      return keys[i].set (key, value);
  nbdkit_error ("unknown parameter %s=%s; nbdkit cowset --help lists them",
                key, value);
  return -1;
}

int
config_complete (void)
{
  if (settings.count == 0) {
    nbdkit_error ("no volume: give at least one disk image or block device, "
                  "as in nbdkit cowset disk.img");
    return -1;
  }
  return 0;
}

void
config_free (void)
{
  for (size_t i = 0; i < settings.count; ++i) {
    free (settings.volumes[i].name);
    free (settings.volumes[i].path);
  }
  free (settings.store);
  free (settings.state_dir);
  settings.store = settings.state_dir = NULL;
  free (settings.volumes);
  settings.volumes = NULL;
  settings.count = 0;
  provider_test_free ();
}
