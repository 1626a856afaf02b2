/* plugin.h - what the files of the plugin share.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   plugin.c    nbdkit's table, start and stop, the log
 *   config.c    parameters, into `settings`
 *   apart.c     steps that may block for ever
 *   exports.c   names: the list, and what is behind each
 *   serve.c     NBD requests on volumes and snapshots
 *   nested.c    origins that lie on a volume of a cowset
 *   access.c    who may use the control channel
 *   control.c   NBD requests on @control: slots and frames
 *   sessions.c  requesters, and their end;  made.c: the sets they make
 *   pool.c      the threads that do what requesters ask for
 *   ops.c       what they ask for;  also ops-show.c, ops-add.c,
 *               ops-set.c, ops-wait.c, notes.c, decide.c
 *   provider.c  who makes snapshots;  provider-test.c: for tests
 *
 * Callbacks of nbdkit run in its threads, many at once; the locks are listed
 * in sessions.h.
 */
#ifndef COWSET_PLUGIN_H
#define COWSET_PLUGIN_H

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cow.h"
#include "base/cleanup.h"
#include "base/sync.h"

#include "protocol/id.h"

/* ---------------------------------------------------------------- config */

enum control_access {
  CONTROL_UNIX,                 /* Unix socket, the server's user or root */
  CONTROL_ANY,
  CONTROL_OFF,                  /* there is no such export */
};

struct volume_setting {
  char *name;
  char *path;                   /* absolute */
  dev_t dev;                    /* what it is, however it is called: of a */
  ino_t ino;                    /* block device its number and 0 */
};

/* Written while the command line is read, then read only. */
struct settings {
  struct volume_setting *volumes;
  size_t count;
  enum cow_cache cache;
  enum cow_io_kind io;
  uint32_t block_bytes;
  char *store, *state_dir;      /* absolute, or NULL */
  bool force_origin;
  uint64_t store_limit_bytes;   /* 0: as the engine has it */
  uint64_t store_reserve_bytes;
  unsigned store_reserve_percent;
  uint64_t store_timeout_ns;
  bool protect_snapshot;
  unsigned snapshot_limit;
  unsigned hold_limit_ms;
  unsigned flush_limit_ms;
  unsigned control_sessions;
  unsigned session_grace_ms;
  enum control_access control;
};
extern struct settings settings;

extern const char config_help[];

/* nbdkit's callbacks of these names. */
int config_set (const char *key, const char *value);
int config_complete (void);

void config_free (void);

/* ---------------------------------------------------------------- plugin */

/* From .get_ready to .unload. */
extern struct cow_engine *engine;

/* The flags of -D cowset.NAME=1: each shows the engine's debug messages that
 * begin with "NAME: ".
 */
extern int cowset_debug_io;
extern int cowset_debug_store;
extern int cowset_debug_set;
extern int cowset_debug_volume;
extern int cowset_debug_control;

/* cow_engine_options.run: in a thread of its own. */
int apart_run (void *opaque, int (*step) (void *arg), void (*done) (void *arg),
               void *arg, uint64_t deadline_ns);
/* Is a step still at it that nobody waits for any more? */
bool apart_busy (void);

/* --------------------------------------------------------------- exports */

enum export_kind {
  EXPORT_VOLUME,
  EXPORT_SNAPSHOT,
  EXPORT_CONTROL,
};

struct session;

/* One NBD connection. */
struct handle {
  struct handle *next, **link;  /* exports.c */
  enum export_kind kind;
  struct cow_volume *volume;    /* also of the snapshot */
  struct cow_view *view;
  struct session *session;
  const char *description;      /* nbdkit's, as long as the connection */

  /* Errors of requests are said at most once a second and connection. */
  _Atomic uint64_t said_ns;
  _Atomic unsigned unsaid;
};

int exports_list (int readonly, int is_tls, struct nbdkit_exports *exports);
const char *exports_default (int readonly, int is_tls);
void *exports_open (int readonly);
void exports_close (void *handle);
/* When there are no more connections: nbdkit does not close the handles of
 * those that were there when it was told to stop.
 */
void exports_close_all (void);
const char *exports_description (void *handle);

/* ----------------------------------------------------------------- serve */

int64_t serve_get_size (void *handle);
int serve_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
                      uint32_t *maximum);
int serve_can_write (void *handle);
int serve_can_trim (void *handle);
int serve_can_zero (void *handle);
int serve_can_fast_zero (void *handle);
int serve_can_extents (void *handle);
int serve_can_multi_conn (void *handle);
int serve_can_cache (void *handle);
int serve_can_fua (void *handle);
int serve_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
                 uint32_t flags);
int serve_pwrite (void *handle, const void *buf, uint32_t count,
                  uint64_t offset, uint32_t flags);
int serve_flush (void *handle, uint32_t flags);
int serve_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags);
int serve_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags);
int serve_extents (void *handle, uint32_t count, uint64_t offset,
                   uint32_t flags, struct nbdkit_extents *extents);

/* ---------------------------------------------------------------- nested */

/* Whether the origin lies, through whatever is between, on a volume that a
 * cowset on this host serves.  May wait for a few seconds.
 */
bool nested_origin (const char *path);
/* debug-sysfs=DIR, instead of /sys. */
int nested_config (const char *key, const char *value);

/* ---------------------------------------------------------------- access */

/* Where the present connection comes from.  In connected callbacks only. */
struct peer {
  bool is_unix;                 /* the kernel tells when it dies */
  bool allowed;                 /* may use the control channel */
};
struct peer access_peer (void);

/* --------------------------------------------------------------- control */

int control_pread (struct session *s, void *buf, uint32_t count,
                   uint64_t offset);
int control_pwrite (struct session *s, const void *buf, uint32_t count,
                    uint64_t offset);

/* ------------------------------------------------------------------- ids */

static inline struct cow_id
id_to_cow (const struct proto_id *id)
{
  struct cow_id r;

  memcpy (r.b, id->b, sizeof r.b);
  return r;
}

#endif /* COWSET_PLUGIN_H */
