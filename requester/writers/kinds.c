/* kinds.c - the writers that the watchdog handles: exec, fsfreeze, qga.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What they do at an event is done there (watch-*.c); here is what they are.
 */
#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "object.h"
#include "writers/guard.h"
#include "writers/kinds.h"

#define PROGRAMS_MAX 64

/* Of the kinds; a program may name its own. */
static const char *const exec_class = "0d7f2a53-5a5e-4a0e-9a44-5b8f1c0e7a01";
static const char *const fsfreeze_class =
  "0d7f2a53-5a5e-4a0e-9a44-5b8f1c0e7a02";
static const char *const qga_class = "0d7f2a53-5a5e-4a0e-9a44-5b8f1c0e7a03";

struct guarded {
  struct req_writer base;       /* first: it is cast */
  struct req_guard *guard;      /* the object's */
  unsigned index;
  char *path;
};

static struct guarded *
guarded_of (struct req_writer *w)
{
  return (struct guarded *) w;
}

/* -------------------------------------------------------------------- events */

static cowset_hresult
tell (struct req_writer *w, enum req_event event,
      const struct req_occasion *occasion, const char **text)
{
  return req_guard_event (guarded_of (w)->guard, guarded_of (w)->index, event,
                          occasion->timeout_ms, text);
}

#define EVENT(function, event)                                          \
  static cowset_hresult                                                 \
  function (struct req_writer *w, const struct req_occasion *occasion)  \
  {                                                                     \
    return tell (w, event, occasion, NULL);                             \
  }
EVENT (on_identify, REQ_EVENT_IDENTIFY)
EVENT (on_prepare_backup, REQ_EVENT_PREPARE_BACKUP)
EVENT (on_prepare_snapshot, REQ_EVENT_PREPARE_SNAPSHOT)
EVENT (on_freeze, REQ_EVENT_FREEZE)
EVENT (on_thaw, REQ_EVENT_THAW)
EVENT (on_post_snapshot, REQ_EVENT_POST_SNAPSHOT)
EVENT (on_backup_complete, REQ_EVENT_BACKUP_COMPLETE)
EVENT (on_abort, REQ_EVENT_ABORT)
EVENT (on_backup_shutdown, REQ_EVENT_BACKUP_SHUTDOWN)
#undef EVENT

static void
on_hurry (struct req_writer *w)
{
  req_guard_hurry (guarded_of (w)->guard, guarded_of (w)->index);
}

static void
guarded_free (struct req_writer *w)
{
  free (guarded_of (w)->path);
  req_writer_clear (w);
  free (w);
}

/* ------------------------------------------- what a program says of itself */

static cowset_hresult
complain (const char *line)
{
  return req_fail (VSS_E_WRITERERROR_NONRETRYABLE, "identify says \"%.80s\", "
                   "which is not understood", line);
}

/* The index of text among the words, or -1. */
static int
word (const char *text, const char *const *words, size_t count)
{
  for (size_t i = 0; i < count; ++i)
    if (strcmp (text, words[i]) == 0)
      return (int) i;
  return -1;
}
#define WORD(text, words) word (text, words, sizeof words / sizeof words[0])

/* "database:PATH/NAME" or "filegroup:...", with "PATH/" left out at the top. */
static cowset_hresult
take_component (struct req_writer *w, char *value)
{
  static const char *const types[] = { "", "database", "filegroup" };
  char *full = strchr (value, ':'), *slash;
  int type;

  if (full == NULL || full[1] == '\0')
    return complain (value);
  *full++ = '\0';
  type = WORD (value, types);
  if (type <= 0)
    return complain (value);
  slash = strrchr (full, '/');
  if (slash == NULL)
    return req_writer_add_component (w, (enum cowset_component_type) type,
                                     NULL, full, NULL);
  *slash++ = '\0';
  return req_writer_add_component (w, (enum cowset_component_type) type, full,
                                   slash, NULL);
}

static cowset_hresult
take_value (struct req_writer *w, const char *name, char *value)
{
  static const char *const levels[] = { "", "system", "back-end", "front-end",
                                        "transaction-manager" };
  static const char *const consistencies[] = { "crash", "file-system",
                                               "application" };
  int i;

  if (strcmp (name, "name") == 0) {
    char *copy = *value ? strdup (value) : NULL;

    if (copy == NULL)
      return *value ? req_fail (E_OUTOFMEMORY, NULL) : complain (name);
    free (w->name);
    w->name = copy;
  }
  else if (strcmp (name, "id") == 0)
    return cowset_id_parse (value, &w->class_id) ? S_OK : complain (value);
  else if (strcmp (name, "level") == 0) {
    i = WORD (value, levels);
    if (i <= 0)
      return complain (value);
    w->level = (enum cowset_application_level) i;
    w->transaction_manager = i == VSS_APP_SYSTEM_RM;
  }
  else if (strcmp (name, "consistency") == 0) {
    i = WORD (value, consistencies);
    if (i < 0)
      return complain (value);
    w->consistency = (enum req_consistency) i;
  }
  else if (strcmp (name, "freeze-timeout") == 0) {
    char *end;
    const unsigned long s = strtoul (value, &end, 10);

    if (*end || s < 1 || s > 3600)
      return complain (value);
    w->freeze_timeout_ms = (uint32_t) s * 1000;
  }
  else if (strcmp (name, "component") == 0)
    return take_component (w, value);
  return S_OK;                  /* a later version may know it */
}

/* Lines NAME=VALUE; what a QEMU hook says is not of that form, and empty here.
 */
static cowset_hresult
take_identity (struct req_writer *w, const char *text)
{
  CLEANUP_FREE char *copy = strdup (text);
  char *rest = copy;
  cowset_hresult hr = S_OK;

  if (copy == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  while (COWSET_SUCCEEDED (hr) && rest && *rest) {
    char *line = strsep (&rest, "\n"), *value = strchr (line, '=');

    if (value) {
      *value++ = '\0';
      hr = take_value (w, line, value);
    }
  }
  return hr;
}

static cowset_hresult
on_identify_program (struct req_writer *w,
                     const struct req_occasion *occasion)
{
  const char *text;
  cowset_hresult hr = tell (w, REQ_EVENT_IDENTIFY, occasion, &text);

  return COWSET_FAILED (hr) ? hr : take_identity (w, text);
}

/* --------------------------------------------------------------------- kinds */

#define EVENTS                                                          \
  [REQ_EVENT_PREPARE_BACKUP] = on_prepare_backup,                       \
  [REQ_EVENT_PREPARE_SNAPSHOT] = on_prepare_snapshot,                   \
  [REQ_EVENT_FREEZE] = on_freeze,                                       \
  [REQ_EVENT_THAW] = on_thaw,                                           \
  [REQ_EVENT_POST_SNAPSHOT] = on_post_snapshot,                         \
  [REQ_EVENT_BACKUP_COMPLETE] = on_backup_complete,                     \
  [REQ_EVENT_ABORT] = on_abort,                                         \
  [REQ_EVENT_BACKUP_SHUTDOWN] = on_backup_shutdown

static const struct req_writer_ops exec_ops = {
  .kind = "exec",
  .keeps_window = true,
  .on = { [REQ_EVENT_IDENTIFY] = on_identify_program, EVENTS },
  .hurry = on_hurry,
  .free = guarded_free,
};

static const struct req_writer_ops fsfreeze_ops = {
  .kind = "fsfreeze",
  .keeps_window = true,
  .on = { [REQ_EVENT_IDENTIFY] = on_identify, EVENTS },
  .hurry = on_hurry,
  .free = guarded_free,
};

static const struct req_writer_ops qga_ops = {
  .kind = "qga",
  .keeps_window = true,
  .on = { [REQ_EVENT_IDENTIFY] = on_identify, EVENTS },
  .hurry = on_hurry,
  .free = guarded_free,
};

static cowset_hresult
add_one (struct cowset *c, const struct req_writer_ops *ops,
         const char *class_text, const char *path, const char *name)
{
  struct guarded *g = calloc (1, sizeof *g);
  CLEANUP_FREE char *spec = NULL;
  cowset_hresult hr = S_OK;

  if (g == NULL || asprintf (&spec, "%s:%s", ops->kind, path) < 0) {
    free (g);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  hr = req_writer_init (&g->base, ops, name ? name : spec);
  if (COWSET_FAILED (hr)) {
    free (g);
    return hr;
  }
  cowset_id_parse (class_text, &g->base.class_id);
  if (ops != &exec_ops) {
    g->base.level = VSS_APP_SYSTEM;
    g->base.consistency = REQ_FILE_SYSTEM;
  }
  g->base.freeze_timeout_ms = c->writer_freeze_ms;
  g->path = strdup (path);
  hr = g->path ? S_OK : req_fail (E_OUTOFMEMORY, NULL);
  if (COWSET_SUCCEEDED (hr) && c->guard == NULL)
    hr = req_guard_new (&c->guard);
  if (COWSET_SUCCEEDED (hr))
    hr = req_guard_add (c->guard, spec, &g->index);
  if (COWSET_FAILED (hr)) {
    guarded_free (&g->base);
    return hr;
  }
  g->guard = c->guard;
  return req_writers_add_locked (c, &g->base);
}

/* ---------------------------------------------------------------- a directory */

/* What editors and package managers leave beside a program is not one. */
static int
is_program_name (const struct dirent *entry)
{
  static const char *const leftovers[] = { "~", ".bak", ".sample", ".swp",
                                           ".orig", ".rej", ".dpkg-old",
                                           ".dpkg-dist", ".dpkg-new",
                                           ".dpkg-tmp", ".rpmsave", ".rpmnew",
                                           ".rpmorig", ".md", ".conf" };
  const size_t len = strlen (entry->d_name);

  if (entry->d_name[0] == '.')
    return 0;
  for (size_t i = 0; i < sizeof leftovers / sizeof leftovers[0]; ++i) {
    const size_t end = strlen (leftovers[i]);

    if (len > end && strcmp (entry->d_name + len - end, leftovers[i]) == 0)
      return 0;
  }
  return 1;
}

/* In the order of the bytes of their names, whatever the locale. */
static int
by_bytes (const struct dirent **a, const struct dirent **b)
{
  return strcmp ((*a)->d_name, (*b)->d_name);
}

static bool
is_executable (const char *path)
{
  struct stat st;

  return stat (path, &st) == 0 && S_ISREG (st.st_mode) &&
         access (path, X_OK) == 0;
}

static cowset_hresult
add_directory (struct cowset *c, const char *dir)
{
  struct dirent **entries;
  const int n = scandir (dir, &entries, is_program_name, by_bytes);
  unsigned programs = 0;
  cowset_hresult hr = S_OK;

  if (n == -1)
    return req_fail (E_INVALIDARG, "exec:%s: %m", dir);
  for (int i = 0; i < n; ++i) {
    char path[PATH_MAX];

    if (COWSET_SUCCEEDED (hr) &&
        snprintf (path, sizeof path, "%s/%s", dir,
                  entries[i]->d_name) < (int) sizeof path &&
        is_executable (path)) {
      hr = ++programs > PROGRAMS_MAX ?
             req_fail (E_INVALIDARG, "exec:%s: more than %d programs", dir,
                       PROGRAMS_MAX) :
             add_one (c, &exec_ops, exec_class, path, entries[i]->d_name);
    }
    free (entries[i]);
  }
  free (entries);
  if (COWSET_SUCCEEDED (hr) && programs == 0)
    hr = req_fail (E_INVALIDARG, "exec:%s: there is no program in it that can "
                   "be run", dir);
  return hr;
}

static cowset_hresult
add_programs (struct cowset *c, const char *path)
{
  struct stat st;
  const char *slash = strrchr (path, '/');

  if (stat (path, &st) == -1)
    return req_fail (E_INVALIDARG, "exec:%s: %m", path);
  if (S_ISDIR (st.st_mode))
    return add_directory (c, path);
  if (!is_executable (path))
    return req_fail (E_INVALIDARG, "exec:%s: is neither a directory nor a "
                     "program that can be run", path);
  return add_one (c, &exec_ops, exec_class, path, slash ? slash + 1 : path);
}

cowset_hresult
req_kinds_add (struct cowset *c, const char *text)
{
  const char *colon = strchr (text, ':');
  const size_t len = colon ? (size_t) (colon - text) : 0;
  char path[PATH_MAX];
  bool exec, fsfreeze, qga;

  exec = len == 4 && strncmp (text, "exec", len) == 0;
  fsfreeze = len == 8 && strncmp (text, "fsfreeze", len) == 0;
  qga = len == 3 && strncmp (text, "qga", len) == 0;
  if (!exec && !fsfreeze && !qga)
    return req_fail (E_INVALIDARG, "writer \"%s\": is none of exec:DIR, "
                     "fsfreeze:MOUNT-POINT and qga:SOCKET", text);
  /* The watchdog is in another directory. */
  if (realpath (colon + 1, path) == NULL)
    return req_fail (E_INVALIDARG, "writer \"%s\": %m", text);
  if (exec)
    return add_programs (c, path);
  if (qga)
    return add_one (c, &qga_ops, qga_class, path, NULL);
  return add_one (c, &fsfreeze_ops, fsfreeze_class, path, NULL);
}

const char *
req_kinds_mount (const struct req_writer *w)
{
  return w->ops == &fsfreeze_ops ? ((const struct guarded *) w)->path : NULL;
}
