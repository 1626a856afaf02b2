/* plugin.c - nbdkit's table; start, stop, and the log.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The plugin translates between nbdkit and cow-core and decides nothing.
 *
 * Start: .get_ready makes the engine and opens (and locks) the origins and the
 * store, where the user sees what is wrong; rings and threads come in .after_fork only,
 * since nbdkit may fork in between.  Stop: when .cleanup is called there are no
 * connections any more (but nbdkit has not closed all of them); the sessions
 * end, and the threads are told to stop and joined before the engine goes.
 * .cleanup may never come.
 *
 * Threads: one steps the engine (its background work), one keeps time for the
 * sessions (sessions.c), and pool.c has those that work for requesters.  All
 * signals are blocked in them: they are nbdkit's.
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "plugin.h"
#include "ops.h"
#include "pool.h"
#include "sessions.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

struct cow_engine *engine;

__attribute__ ((visibility ("default"))) int cowset_debug_io;
__attribute__ ((visibility ("default"))) int cowset_debug_store;
__attribute__ ((visibility ("default"))) int cowset_debug_set;
__attribute__ ((visibility ("default"))) int cowset_debug_volume;
__attribute__ ((visibility ("default"))) int cowset_debug_control;

/* ------------------------------------------------------------------- log */

/* A debug message "AREA: ..." is for those who asked for its area; others are
 * for everybody who runs nbdkit -v.
 */
static bool
debug_wanted (const char *text)
{
  static const struct {
    const char *prefix;
    const int *flag;
  } areas[] = {
    { "io: ", &cowset_debug_io },
    { "store: ", &cowset_debug_store },
    { "set: ", &cowset_debug_set },
    { "volume: ", &cowset_debug_volume },
  };

  for (size_t i = 0; i < sizeof areas / sizeof areas[0]; ++i)
    if (strncmp (text, areas[i].prefix, strlen (areas[i].prefix)) == 0)
      return *areas[i].flag;
  return true;
}

static void
log_hook (enum cow_log_level level, const char *text)
{
  switch (level) {
  case COW_LOG_ERROR:
    nbdkit_error ("%s", text);
    break;
  case COW_LOG_WARNING:
    nbdkit_error ("warning: %s", text);
    break;
  case COW_LOG_INFO:
    nbdkit_debug ("%s", text);
    break;
  case COW_LOG_DEBUG:
    if (debug_wanted (text))
      nbdkit_debug ("%s", text);
    break;
  }
}

static void
plugin_load (void)
{
  cow_log_set_hook (log_hook);
}

/* ----------------------------------------------------------------- start */

static int
add_volume (const struct volume_setting *v)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_volume *volume;
  int r;

  r = cow_volume_add (engine, v->name, v->path, settings.cache, false,
                      &err, &volume);
  if (r == -EACCES || r == -EROFS || r == -EPERM) {
    const char *why = strerror (-r);

    err = (struct cow_error) COW_ERROR_INIT;
    r = cow_volume_add (engine, v->name, v->path, settings.cache, true, &err,
                        &volume);
    if (r == 0)
      nbdkit_debug ("volume %s: %s: served read-only: %s", v->name, v->path,
                    why);
  }
  if (r < 0) {
    if (err.text[0])            /* has the path */
      nbdkit_error ("volume %s: %s", v->name, err.text);
    else
      nbdkit_error ("volume %s: %s: %s", v->name, v->path, strerror (-r));
    return -1;
  }
  return 0;
}

static int
plugin_get_ready (void)
{
  const struct cow_engine_options options = {
    .io = settings.io,
    .block_bytes = settings.block_bytes,
    .store_limit_bytes = settings.store_limit_bytes,
    .store_reserve_bytes = settings.store_reserve_bytes,
    .store_reserve_percent = settings.store_reserve_percent,
    .store_timeout_ns = settings.store_timeout_ns,
    .snapshot_limit = settings.snapshot_limit,
    .protect_snapshot = settings.protect_snapshot,
    .store_directory = settings.store,
    .state_directory = settings.state_dir,
    .force_origin = settings.force_origin,
    .run = apart_run,
  };
  struct cow_error err = COW_ERROR_INIT;
  int r;

  r = cow_engine_new (&options, &err, &engine);
  if (r < 0) {
    nbdkit_error ("%s", err.text[0] ? err.text : strerror (-r));
    engine = NULL;
    return -1;
  }
  for (size_t i = 0; i < settings.count; ++i)
    if (add_volume (&settings.volumes[i]) == -1)
      return -1;
  r = cow_engine_open (engine, &err);
  if (r < 0) {
    nbdkit_error ("%s", err.text[0] ? err.text : strerror (-r));
    return -1;
  }
  return 0;
}

static pthread_t step_thread;
static bool step_running;
static _Atomic bool step_stop;

static void *
step (void *arg)
{
  (void) arg;
  while (!step_stop)
    cow_engine_step (engine, cow_now_ns () + COW_NS_PER_S);
  return NULL;
}

static int
start_threads (void)
{
  int r = pthread_create (&step_thread, NULL, step, NULL);

  if (r != 0) {
    nbdkit_error ("pthread_create: %s", strerror (r));
    return -1;
  }
  step_running = true;
  if (pool_start (&pool_requests, settings.control_sessions + 16) == -1 ||
      pool_start (&pool_steps, settings.control_sessions + 16) == -1)
    return -1;
  return sessions_start ();
}

static int
plugin_after_fork (void)
{
  struct cow_error err = COW_ERROR_INIT;
  sigset_t all, before;
  int r;

  r = cow_engine_start (engine, &err);
  if (r < 0) {
    nbdkit_error ("%s", err.text[0] ? err.text : strerror (-r));
    return -1;
  }
  ops_init ();
  decide_clean ();
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  r = start_threads ();
  pthread_sigmask (SIG_SETMASK, &before, NULL);
  return r;
}

/* ------------------------------------------------------------------ stop */

static void
close_engine (void)
{
  int r = cow_engine_close (engine);

  if (r < 0)
    nbdkit_error ("store=%s: could not be closed in order: %s; nothing is "
                  "lost, the next start takes a little longer",
                  settings.store, strerror (-r));
  /* A step that hangs in the kernel still has it; the process ends anyway. */
  if (!apart_busy ())
    cow_engine_free (engine);
  engine = NULL;
}

static void
plugin_cleanup (void)
{
  exports_close_all ();
  sessions_stop ();
  pool_stop (&pool_requests);
  pool_stop (&pool_steps);
  sessions_free ();
  if (step_running) {
    step_stop = true;
    cow_engine_wake (engine);
    pthread_join (step_thread, NULL);
    step_running = false;
  }
  if (engine)
    close_engine ();
}

static void
plugin_unload (void)
{
  /* After .cleanup there is nothing left; without .after_fork no thread. */
  if (!step_running && engine) {
    cow_engine_free (engine);
    engine = NULL;
  }
  config_free ();
  cow_log_set_hook (NULL);
}

/* ------------------------------------------------------------- the table */

static void
plugin_dump (void)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_io *io;

  if (cow_io_new (settings.io, &err, &io) == 0) {
    printf ("cowset_io=%s\n", cow_io_name (io));
    cow_io_free (io);
  }
  else
    printf ("cowset_io=none\n");
  printf ("cowset_control_protocol=%d\n", PROTO_VERSION);
  printf ("cowset_store=yes\n");
  printf ("cowset_providers=cow\n");
  printf ("cowset_set_volumes_max=%d\n", COW_SET_VOLUMES_MAX);
}

static struct nbdkit_plugin plugin = {
  .name = "cowset",
  .longname = "cowset: snapshot sets of raw disks",
  .version = PACKAGE_VERSION,
  .description = "Serves disk images and block devices, and takes snapshot "
                 "sets of them:\none instant, across any number of disks, "
                 "while they are being written to.",
  .load = plugin_load,
  .unload = plugin_unload,
  .dump_plugin = plugin_dump,

  .magic_config_key = "volume",
  .config = config_set,
  .config_complete = config_complete,
  .config_help = config_help,

  .get_ready = plugin_get_ready,
  .after_fork = plugin_after_fork,
  .cleanup = plugin_cleanup,

  .list_exports = exports_list,
  .default_export = exports_default,
  .open = exports_open,
  .close = exports_close,
  .export_description = exports_description,

  .get_size = serve_get_size,
  .block_size = serve_block_size,
  .can_write = serve_can_write,
  .can_trim = serve_can_trim,
  .can_zero = serve_can_zero,
  .can_fast_zero = serve_can_fast_zero,
  .can_extents = serve_can_extents,
  .can_multi_conn = serve_can_multi_conn,
  .can_cache = serve_can_cache,
  .can_fua = serve_can_fua,

  .pread = serve_pread,
  .pwrite = serve_pwrite,
  .flush = serve_flush,
  .trim = serve_trim,
  .zero = serve_zero,
  .extents = serve_extents,
};

/* nbdkit looks it up by name; its header declares it nowhere. */
struct nbdkit_plugin *plugin_init (void);

NBDKIT_REGISTER_PLUGIN (plugin)
