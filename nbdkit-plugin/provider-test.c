/* provider-test.c - providers for tests: slow, failing, refusing.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   debug-provider=TYPE:ID:FILE
 *
 * registers a provider of TYPE (hardware, software, system) with that id.  Its
 * snapshots are those of the engine, as cow's are.  FILE, which need not exist,
 * is read anew at each call and says how the call goes; a line each:
 *
 *   CALL slow MS            it takes so long, or until AbortSnapshots
 *   CALL fail CODE [NAME]   it answers with that code (a name or a number);
 *                           with NAME: for that volume only
 *   is-supported no         it supports no volume
 *
 * CALL is one of is-supported, begin-prepare, end-prepare, pre-commit, commit,
 * post-commit, pre-final-commit, post-final-commit, abort (which is never
 * slow) and delete.  What is in no line goes well.  FILE.log gets two lines for
 * each call but is-supported:
 *
 *   NANOSECONDS CALL SET begin [VOLUME or COUNT]
 *   NANOSECONDS CALL SET CODE
 *
 * (of delete: the snapshot's id in the place of the set's; the time is
 * monotonic).
 *
 * Threads: any.  The lock is not held while a call is slow.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "provider.h"
#include "base/bits.h"
#include "protocol/result.h"

/* The snapshots that it remembers as its own, the newest ones. */
#define REMEMBERED 1024u
/* Sets whose abort may still meet a call that has not begun to be slow. */
#define ABORTED 64u

struct test_provider {
  struct provider base;
  char *file, *log;
  char name[48];

  cow_mutex lock;
  cow_cond aborted;             /* a set was */
  /* lock; rings. */
  struct cow_id snapshots[REMEMBERED];
  uint64_t snapshot_count;
  struct cow_id aborts[ABORTED];
  uint64_t abort_count;
};

static struct test_provider *all[PROVIDERS_MAX];
static unsigned all_count;

/* ------------------------------------------------------------------ rules */

struct rule {
  unsigned slow_ms;
  bool no;
  cowset_hresult hr;
};

static cowset_hresult
parse_code (const char *text)
{
  cowset_hresult hr;

  if (proto_result_parse (text, &hr))
    return hr;
  return (cowset_hresult) strtoul (text, NULL, 0);
}

static void
apply_line (const char *line, const char *call, const char *volume,
            struct rule *rule)
{
  char first[32], verb[16], arg[64] = "", name[COW_NAME_MAX + 1] = "";

  if (sscanf (line, "%31s %15s %63s %64s", first, verb, arg, name) < 2 ||
      strcmp (first, call) != 0)
    return;
  if (name[0] && (volume == NULL || strcmp (name, volume) != 0))
    return;
  if (strcmp (verb, "slow") == 0)
    rule->slow_ms = strtoul (arg, NULL, 10);
  else if (strcmp (verb, "fail") == 0)
    rule->hr = parse_code (arg);
  else if (strcmp (verb, "no") == 0)
    rule->no = true;
}

static struct rule
read_rule (const struct test_provider *t, const char *call,
           const char *volume)
{
  struct rule rule = { .hr = S_OK };
  FILE *f = fopen (t->file, "re");
  char line[256];

  if (f == NULL)
    return rule;
  while (fgets (line, sizeof line, f))
    apply_line (line, call, volume, &rule);
  fclose (f);
  return rule;
}

static void
say (const struct test_provider *t, const char *call, const struct cow_id *id,
     const char *what, const char *detail)
{
  char text[COW_ID_TEXT_SIZE], line[256];
  int fd = open (t->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  int n;

  if (fd == -1) {
    nbdkit_debug ("%s: %m", t->log);
    return;
  }
  cow_id_format (id, text);
  n = snprintf (line, sizeof line, "%" PRIu64 " %s %s %s%s%s\n",
                cow_now_ns (), call, text, what, detail[0] ? " " : "",
                detail);
  if (write (fd, line, n) == -1)
    nbdkit_debug ("%s: %m", t->log);
  close (fd);
}

static void
say_end (const struct test_provider *t, const char *call,
         const struct cow_id *id, cowset_hresult hr)
{
  const char *name = proto_result_name (hr);
  char number[16];

  snprintf (number, sizeof number, "0x%08x", (unsigned) hr);
  say (t, call, id, name ? name : number, "");
}

/* ------------------------------------------------------------------ calls */

static bool
in_ring (const struct cow_id *ring, uint64_t count, unsigned size,
         const struct cow_id *id)
{
  for (unsigned i = 0; i < COW_MIN (count, (uint64_t) size); ++i)
    if (cow_id_equal (&ring[i], id))
      return true;
  return false;
}

static void
forget_locked (struct cow_id *ring, unsigned size, const struct cow_id *id)
{
  for (unsigned i = 0; i < size; ++i)
    if (cow_id_equal (&ring[i], id))
      memset (&ring[i], 0, sizeof ring[i]);
}

/* False if the set was aborted meanwhile, or before. */
static bool
be_slow (struct test_provider *t, const struct cow_id *set, unsigned ms)
{
  const uint64_t until = cow_now_ns () + ms * COW_NS_PER_MS;
  bool waiting = ms > 0, aborted;

  LOCK_FOR_SCOPE (&t->lock);
  for (;;) {
    aborted = in_ring (t->aborts, t->abort_count, ABORTED, set);
    if (aborted || !waiting)
      return !aborted;
    waiting = cow_cond_wait_until (&t->aborted, &t->lock, until);
  }
}

/* As the file says. */
static cowset_hresult
act (struct test_provider *t, const char *call, const struct cow_id *id,
     const char *volume, const char *detail, struct cow_error *why)
{
  const struct rule rule = read_rule (t, call, volume);
  cowset_hresult hr = rule.hr;

  say (t, call, id, "begin", detail);
  if (!be_slow (t, id, rule.slow_ms)) {
    cow_error_set (why, -EREMOTEIO, "the set was aborted");
    hr = VSS_E_PROVIDER_VETO;
  }
  else if (hr != S_OK)
    cow_error_set (why, -EREMOTEIO, "%s says so", t->file);
  say_end (t, call, id, hr);
  return hr;
}

static cowset_hresult
test_is_supported (struct provider *p, const char *volume, uint32_t context,
                   bool *supported, struct cow_error *why)
{
  struct test_provider *t = COW_CONTAINER_OF (p, struct test_provider, base);
  const struct rule rule = read_rule (t, "is-supported", volume);

  *supported = !rule.no && (p->type == VSS_PROV_HARDWARE ||
                            !(context & (VSS_VOLSNAP_ATTR_PLEX |
                                         VSS_VOLSNAP_ATTR_TRANSPORTABLE)));
  if (!*supported)
    cow_error_set (why, -EREMOTEIO, "provider %s does not support it", p->name);
  return rule.hr;
}

static cowset_hresult
test_begin_prepare (struct provider *p, const struct cow_id *set,
                    const struct cow_id *snapshot, const char *volume,
                    struct cow_error *why)
{
  struct test_provider *t = COW_CONTAINER_OF (p, struct test_provider, base);
  cowset_hresult hr;

  cow_mutex_lock (&t->lock);
  forget_locked (t->aborts, ABORTED, set); /* the id is used again */
  cow_mutex_unlock (&t->lock);
  hr = act (t, "begin-prepare", set, volume, volume, why);
  if (hr != S_OK)
    return hr;
  LOCK_FOR_SCOPE (&t->lock);
  t->snapshots[t->snapshot_count++ % REMEMBERED] = *snapshot;
  return S_OK;
}

static cowset_hresult
test_run (struct provider *p, enum provider_phase phase,
          const struct cow_id *set, unsigned count, struct cow_error *why)
{
  static const char *const calls[] = {
    [PROVIDER_END_PREPARE] = "end-prepare",
    [PROVIDER_PRE_COMMIT] = "pre-commit",
    [PROVIDER_COMMIT] = "commit",
    [PROVIDER_POST_COMMIT] = "post-commit",
    [PROVIDER_PRE_FINAL_COMMIT] = "pre-final-commit",
    [PROVIDER_POST_FINAL_COMMIT] = "post-final-commit",
  };
  struct test_provider *t = COW_CONTAINER_OF (p, struct test_provider, base);
  char detail[16];

  snprintf (detail, sizeof detail, "%u", count);
  return act (t, calls[phase], set, NULL, detail, why);
}

static cowset_hresult
test_abort (struct provider *p, const struct cow_id *set)
{
  struct test_provider *t = COW_CONTAINER_OF (p, struct test_provider, base);
  const struct rule rule = read_rule (t, "abort", NULL);

  say (t, "abort", set, "begin", "");
  cow_mutex_lock (&t->lock);
  t->aborts[t->abort_count++ % ABORTED] = *set;
  cow_cond_broadcast (&t->aborted);
  cow_mutex_unlock (&t->lock);
  say_end (t, "abort", set, rule.hr);
  return rule.hr;
}

static bool
test_has (struct provider *p, const struct cow_id *snapshot)
{
  struct test_provider *t = COW_CONTAINER_OF (p, struct test_provider, base);

  LOCK_FOR_SCOPE (&t->lock);
  return in_ring (t->snapshots, t->snapshot_count, REMEMBERED, snapshot);
}

static cowset_hresult
test_delete (struct provider *p, const struct cow_id *snapshot,
             const char *volume, struct cow_error *why)
{
  struct test_provider *t = COW_CONTAINER_OF (p, struct test_provider, base);
  cowset_hresult hr = act (t, "delete", snapshot, volume, volume, why);

  if (hr != S_OK)
    return hr;
  LOCK_FOR_SCOPE (&t->lock);
  forget_locked (t->snapshots, REMEMBERED, snapshot);
  return S_OK;
}

static const struct provider_ops test_ops = {
  .is_supported = test_is_supported,
  .begin_prepare = test_begin_prepare,
  .run = test_run,
  .abort = test_abort,
  .has = test_has,
  .delete = test_delete,
};

/* ----------------------------------------------------------------- set-up */

static const struct {
  const char *name;
  enum cowset_provider_type type;
} types[] = {
  { "hardware", VSS_PROV_HARDWARE },
  { "software", VSS_PROV_SOFTWARE },
  { "system", VSS_PROV_SYSTEM },
};

static void
test_free (struct test_provider *t)
{
  free (t->file);
  free (t->log);
  cow_cond_destroy (&t->aborted);
  cow_mutex_destroy (&t->lock);
  free (t);
}

/* TYPE:ID:FILE into t. */
static bool
parse (struct test_provider *t, const char *value)
{
  char type[16], id[PROTO_ID_TEXT_SIZE];
  int at = 0;

  if (sscanf (value, "%15[a-z]:%36[0-9a-fA-F-]:%n", type, id, &at) != 2 ||
      at == 0 || value[at] == '\0' || !proto_id_parse (id, &t->base.id))
    return false;
  for (size_t i = 0; i < COW_ARRAY_SIZE (types); ++i)
    if (strcmp (types[i].name, type) == 0)
      t->base.type = types[i].type;
  if (t->base.type == VSS_PROV_UNKNOWN)
    return false;
  snprintf (t->name, sizeof t->name, "test-%s-%u", type, all_count + 1);
  t->file = nbdkit_absolute_path (value + at);
  return t->file && asprintf (&t->log, "%s.log", t->file) != -1;
}

int
provider_test_config (const char *key, const char *value)
{
  struct test_provider *t = calloc (1, sizeof *t);

  if (t == NULL) {
    nbdkit_error ("calloc: %m");
    return -1;
  }
  cow_mutex_init (&t->lock);
  cow_cond_init (&t->aborted);
  t->base.ops = &test_ops;
  t->base.name = t->name;
  if (!parse (t, value) || provider_find (&t->base.id)) {
    nbdkit_error ("%s=%s: must be TYPE:ID:FILE, with TYPE hardware, software "
                  "or system, and an ID that no other provider has", key,
                  value);
    test_free (t);
    return -1;
  }
  if (provider_register (&t->base) == -1) {
    test_free (t);
    return -1;
  }
  all[all_count++] = t;
  return 0;
}

void
provider_test_free (void)
{
  while (all_count > 0)
    test_free (all[--all_count]);
}
