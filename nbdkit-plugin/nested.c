/* nested.c - origins that lie on a volume of a cowset.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A snapshot of such a volume would need the one below to take writes while
 * that may be held, and would be kept twice; VSS refuses it, and so is it
 * refused here (VSS_E_NESTED_VOLUME_LIMIT).
 *
 * From the origin downwards: the device of its file system, what that device
 * is made of (partition, device-mapper, RAID: sysfs), the file that a loop
 * device lies in, and so on.  Who serves a kernel NBD device or a file of
 * nbdfuse is found by what its process was called with; whether that is a
 * cowset, by asking it for an export "@control".
 *
 * What cannot be found out (no permission, a device that was set up through
 * netlink and has no process, another host's disks, control=off) counts as not
 * nested.
 *
 * Threads: any.
 */
#include <config.h>

#include <ctype.h>
#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "plugin.h"
#include "protocol/frame.h"

#define DEPTH_MAX 16
#define PATIENCE_S 2            /* for an answer of who serves it */

static const char *sysfs = "/sys";

int
nested_config (const char *key, const char *value)
{
  (void) key;
  sysfs = value;                /* nbdkit's, as long as the server */
  return 0;
}

/* -------------------------------------------------- is that server a cowset */

static bool
send_all (int fd, const void *buf, size_t len)
{
  return send (fd, buf, len, MSG_NOSIGNAL) == (ssize_t) len;
}

static bool
receive_all (int fd, void *buf, size_t len)
{
  return recv (fd, buf, len, MSG_WAITALL) == (ssize_t) len;
}

#define PACKED __attribute__ ((packed))

/* Open "@control" by the fixed newstyle handshake: NBD_OPT_GO.  True if there
 * is an export of that name, and of that size: some servers have any name.
 */
static bool
open_control (int fd)
{
  static const char name[] = PROTO_EXPORT;
  const uint32_t name_len = sizeof name - 1;
  struct {
    uint64_t magic, option_magic;
    uint16_t flags;
  } PACKED hello;
  struct {
    uint32_t client_flags;
    uint64_t magic;
    uint32_t option, len, name_len;
    char name[sizeof name - 1];
    uint16_t infos;
  } PACKED ask = {
    .client_flags = htobe32 (1), .magic = htobe64 (0x49484156454F5054),
    .option = htobe32 (7), .len = htobe32 (4 + name_len + 2),
    .name_len = htobe32 (name_len),
  };
  struct {
    uint64_t magic;
    uint32_t option, type, len;
  } PACKED reply;
  struct {
    uint16_t type;
    uint64_t size;
    uint16_t flags;
  } PACKED info;
  bool right_size = false;

  memcpy (ask.name, name, name_len);
  if (!receive_all (fd, &hello, sizeof hello) ||
      be64toh (hello.magic) != 0x4e42444d41474943 ||
      be64toh (hello.option_magic) != 0x49484156454F5054 ||
      !send_all (fd, &ask, sizeof ask))
    return false;
  for (unsigned i = 0; i < 16; ++i) {
    char other[512];
    uint32_t len;

    if (!receive_all (fd, &reply, sizeof reply) ||
        be64toh (reply.magic) != 0x3e889045565a9)
      return false;
    len = be32toh (reply.len);
    if (be32toh (reply.type) == 1) /* NBD_REP_ACK */
      return right_size;
    if (be32toh (reply.type) != 3 || len > sizeof other ||
        !receive_all (fd, other, len))
      return false;
    if (len == sizeof info) {   /* NBD_INFO_EXPORT */
      memcpy (&info, other, sizeof info);
      right_size |= info.type == 0 && be64toh (info.size) ==
                    PROTO_EXPORT_BYTES;
    }
  }
  return false;
}

/* Whether it greets as a control channel does. */
static bool
is_greeted (int fd)
{
  struct {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t len;
  } PACKED command = {
    .magic = htobe32 (0x25609513), .offset = htobe64 (PROTO_SLOT_BYTES),
    .len = htobe32 (PROTO_GREETING_MAX),
  };
  struct {
    uint32_t magic, error;
    uint64_t cookie;
  } PACKED reply;
  uint8_t greeting[PROTO_GREETING_MAX];
  struct proto_frame frame;
  bool yes = send_all (fd, &command, sizeof command) &&
             receive_all (fd, &reply, sizeof reply) && reply.error == 0 &&
             receive_all (fd, greeting, sizeof greeting) &&
             proto_frame_decode (greeting, sizeof greeting, &frame) ==
               PROTO_FRAME_OK &&
             frame.kind == PROTO_GREETING;

  command.type = htobe16 (2);   /* NBD_CMD_DISC */
  send_all (fd, &command, sizeof command);
  return yes;
}

/* Takes fd. */
static bool
ask (int fd, const struct sockaddr *addr, socklen_t len)
{
  const struct timeval patience = { .tv_sec = PATIENCE_S };
  bool yes;

  if (fd == -1)
    return false;
  setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  yes = connect (fd, addr, len) == 0 && open_control (fd) &&
        is_greeted (fd);
  close (fd);
  return yes;
}

static bool
is_cowset_unix (const char *path)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };

  if (strlen (path) >= sizeof addr.sun_path)
    return false;
  memcpy (addr.sun_path, path, strlen (path) + 1);
  return ask (socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
              (struct sockaddr *) &addr, sizeof addr);
}

static bool
is_cowset_tcp (const char *host, const char *port)
{
  const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
  struct addrinfo *found;
  bool yes;

  if (getaddrinfo (host, port, &hints, &found) != 0)
    return false;
  yes = ask (socket (found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0),
             found->ai_addr, found->ai_addrlen);
  freeaddrinfo (found);
  return yes;
}

/* nbd+unix://...?socket=PATH, nbd://HOST[:PORT]/... */
static bool
is_cowset_uri (const char *uri)
{
  char text[PATH_MAX];
  const char *at = strstr (uri, "socket=");
  char *colon;

  if (at) {
    snprintf (text, sizeof text, "%s", at + 7);
    text[strcspn (text, "&#")] = '\0';
    return is_cowset_unix (text);
  }
  at = strstr (uri, "://");
  snprintf (text, sizeof text, "%s", at + 3);
  text[strcspn (text, "/?#")] = '\0';
  colon = strrchr (text, ':');
  if (colon)
    *colon++ = '\0';
  return is_cowset_tcp (text, colon ? colon : "10809");
}

/* ------------------------------------------------- what a process talks to */

static bool
is_number (const char *text)
{
  return *text && text[strspn (text, "0123456789")] == '\0';
}

/* One argument of a client of NBD, and the one after it. */
static bool
names_cowset (const char *arg, const char *next)
{
  struct stat st;

  if (strncmp (arg, "nbd", 3) == 0 && strstr (arg, "://"))
    return is_cowset_uri (arg);
  if (arg[0] == '/')
    return stat (arg, &st) == 0 && S_ISSOCK (st.st_mode) &&
           is_cowset_unix (arg);
  return arg[0] != '-' && next && is_number (next) &&
         is_cowset_tcp (arg, next);
}

/* The arguments of a process, each with a NUL behind it and one more at the
 * end; to be freed.
 */
static char *
arguments (const char *pid, size_t *len)
{
  char path[64], *text = calloc (1, 65537);
  ssize_t n = -1;
  int fd;

  snprintf (path, sizeof path, "/proc/%.20s/cmdline", pid);
  fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd >= 0 && text)
    n = read (fd, text, 65535);
  if (fd >= 0)
    close (fd);
  if (n <= 0) {
    free (text);
    return NULL;
  }
  *len = n;
  return text;
}

static bool
talks_to_cowset (const char *pid)
{
  size_t len;
  CLEANUP_FREE char *text = arguments (pid, &len);
  const char *arg = text ? text + strlen (text) + 1 : NULL;

  while (text && arg < text + len) {
    const char *next = arg + strlen (arg) + 1;

    if (names_cowset (arg, next < text + len ? next : NULL))
      return true;
    arg = next;
  }
  return false;
}

/* Whether it is the nbdfuse that is mounted there. */
static bool
is_nbdfuse_at (const char *pid, const char *mount)
{
  char link[64], cwd[PATH_MAX], path[2 * PATH_MAX];
  size_t len;
  CLEANUP_FREE char *text = arguments (pid, &len);
  const char *name = text ? strrchr (text, '/') : NULL;
  ssize_t n;

  if (text == NULL || !strstr (name ? name : text, "nbdfuse"))
    return false;
  snprintf (link, sizeof link, "/proc/%.20s/cwd", pid);
  n = readlink (link, cwd, sizeof cwd - 1);
  cwd[n > 0 ? n : 0] = '\0';
  for (const char *arg = text; arg < text + len; arg += strlen (arg) + 1) {
    snprintf (path, sizeof path, "%s%s%s", arg[0] == '/' ? "" : cwd,
              arg[0] == '/' ? "" : "/", arg);
    if (strncmp (path, mount, strlen (mount)) == 0 &&
        (path[strlen (mount)] == '\0' || path[strlen (mount)] == '/'))
      return true;
  }
  return false;
}

static bool
is_cowset_fuse (const char *mount)
{
  DIR *proc = opendir ("/proc");
  struct dirent *entry;
  bool yes = false;

  while (proc && !yes && (entry = readdir (proc)) != NULL)
    yes = is_number (entry->d_name) && is_nbdfuse_at (entry->d_name, mount) &&
          talks_to_cowset (entry->d_name);
  if (proc)
    closedir (proc);
  return yes;
}

/* ------------------------------------------------------- what lies on what */

/* The mount of the file system with these files. */
struct mount {
  char point[PATH_MAX], type[64], source[PATH_MAX];
};

static bool
find_mount (dev_t dev, struct mount *m)
{
  CLEANUP_FREE char *line = malloc (4 * PATH_MAX);
  FILE *in = fopen ("/proc/self/mountinfo", "re");
  bool found = false;

  while (in && line && !found && fgets (line, 4 * PATH_MAX, in)) {
    const char *tail = strstr (line, " - ");
    unsigned ma, mi;

    found = tail &&
            sscanf (line, "%*d %*d %u:%u %*s %4095s", &ma, &mi,
                    m->point) == 3 &&
            makedev (ma, mi) == dev &&
            sscanf (tail, " - %63s %4095s", m->type, m->source) == 2;
  }
  if (in)
    fclose (in);
  return found;
}

/* The first line of a file of sysfs about a device. */
static bool
read_attribute (dev_t dev, const char *name, char *line, size_t size)
{
  char path[PATH_MAX];
  bool ok;
  FILE *in;

  snprintf (path, sizeof path, "%s/dev/block/%u:%u/%s", sysfs, major (dev),
            minor (dev), name);
  in = fopen (path, "re");
  ok = in && fgets (line, (int) size, in);
  if (in)
    fclose (in);
  if (ok)
    line[strcspn (line, "\n")] = '\0';
  return ok;
}

static bool
read_device (dev_t dev, const char *name, dev_t *out)
{
  char line[64];
  unsigned ma, mi;

  if (!read_attribute (dev, name, line, sizeof line) ||
      sscanf (line, "%u:%u", &ma, &mi) != 2)
    return false;
  *out = makedev (ma, mi);
  return true;
}

static bool lies_on_cowset (dev_t dev, unsigned depth);

/* Device-mapper, RAID: the devices below. */
static bool
any_slave (dev_t dev, unsigned depth)
{
  char path[PATH_MAX], name[PATH_MAX];
  struct dirent *entry;
  bool yes = false;
  dev_t below;
  DIR *dir;

  snprintf (path, sizeof path, "%s/dev/block/%u:%u/slaves", sysfs,
            major (dev), minor (dev));
  dir = opendir (path);
  while (dir && !yes && (entry = readdir (dir)) != NULL) {
    snprintf (name, sizeof name, "slaves/%s/dev", entry->d_name);
    yes = entry->d_name[0] != '.' && read_device (dev, name, &below) &&
          lies_on_cowset (below, depth + 1);
  }
  if (dir)
    closedir (dir);
  return yes;
}

/* A block device, or the number that a file system's files have. */
static bool
lies_on_cowset (dev_t dev, unsigned depth)
{
  CLEANUP_FREE struct mount *m = malloc (sizeof *m);
  char line[PATH_MAX];
  struct stat st;
  dev_t below;

  if (depth >= DEPTH_MAX || m == NULL)
    return false;
  if (major (dev) == 0 && find_mount (dev, m)) {
    if (strncmp (m->type, "fuse", 4) == 0)
      return is_cowset_fuse (m->point);
    if (stat (m->source, &st) == 0 && S_ISBLK (st.st_mode))
      return lies_on_cowset (st.st_rdev, depth + 1);
  }
  if (read_attribute (dev, "pid", line, sizeof line))
    return is_number (line) && talks_to_cowset (line);
  if (read_attribute (dev, "loop/backing_file", line, sizeof line))
    return stat (line, &st) == 0 &&
           lies_on_cowset (S_ISBLK (st.st_mode) ? st.st_rdev : st.st_dev,
                           depth + 1);
  if (read_attribute (dev, "partition", line, sizeof line))
    return read_device (dev, "../dev", &below) &&
           lies_on_cowset (below, depth + 1);
  return any_slave (dev, depth);
}

bool
nested_origin (const char *path)
{
  struct stat st;

  return stat (path, &st) == 0 &&
         lies_on_cowset (S_ISBLK (st.st_mode) ? st.st_rdev : st.st_dev, 0);
}
