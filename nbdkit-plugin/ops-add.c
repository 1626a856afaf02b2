/* ops-add.c - a set begins, and gets its volumes: set.start, set.add; and
 * supported.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Which provider makes the snapshot is decided here, and whether there can be
 * one at all.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "protocol/context.h"
#include "protocol/name.h"
#include "protocol/result.h"

/* ------------------------------------------------------------------ start */

struct start {
  struct proto_id id;
  const char *label;
  uint32_t context;
  bool auto_release;
};

static bool
get_start (struct request *q, struct start *st)
{
  const char *why;

  *st = (struct start) { .label = NULL };
  if (!op_get_id (q, "set", &st->id) ||
      !op_opt_text (q, "label", &st->label) ||
      !op_get_bits (q, "context", &st->context))
    return false;
  st->auto_release = proto_context_auto_release (st->context);
  if (!op_opt_bool (q, "auto_release", &st->auto_release))
    return false;
  if (proto_id_is_null (&st->id)) {
    op_fail (q, E_INVALIDARG, "member \"set\": must not be the null id");
    return false;
  }
  if (st->label && st->label[0] == '\0')
    st->label = NULL;
  why = st->label ? proto_name_check (st->label) : NULL;
  if (why) {
    op_fail (q, E_INVALIDARG, "label \"%s\": %s; use 1 to 64 of A-Z, a-z, "
             "0-9, _, . and -", st->label, why);
    return false;
  }
  if (st->context == VSS_CTX_ALL || !proto_context_valid (st->context)) {
    op_fail (q, VSS_E_UNSUPPORTED_CONTEXT, "context 0x%x: no set can be made "
             "in it; use backup (0) or file-share-backup (0x10)", st->context);
    return false;
  }
  if (proto_context_persistent (st->context) &&
      !cow_engine_has_store (engine)) {
    op_fail (q, VSS_E_UNSUPPORTED_CONTEXT, "context 0x%x: this server has no "
             "store, so that its snapshots end with it; use backup (0) or "
             "file-share-backup (0x10)", st->context);
    return false;
  }
  return true;
}

static void
start_failed (struct request *q, const char *id, int r,
              const struct cow_error *err)
{
  switch (r) {
  case -EEXIST:
    op_fail (q, VSS_E_OBJECT_ALREADY_EXISTS, "set %s: there is a set of that "
             "id; choose a new one at random", id);
    break;
  case -EMFILE:
    op_fail (q, E_OUTOFMEMORY, "set %s: this session has %d unfinished sets; "
             "finish or abort one", id, SESSION_SETS_MAX);
    break;
  case -ESHUTDOWN:
    op_fail (q, E_ABORT, "set %s: the session has ended", id);
    break;
  case -ENOMEM:
    op_fail (q, E_OUTOFMEMORY, "set %s: the server is out of memory", id);
    break;
  case -EOPNOTSUPP:
    op_fail_engine (q, VSS_E_UNSUPPORTED_CONTEXT, "set.start", r, err);
    break;
  default:
    op_fail_engine (q, VSS_E_UNEXPECTED, "set.start", r, err);
    break;
  }
}

void
op_set_start (struct request *q)
{
  CLEANUP_FREE struct cow_set_info *info = malloc (sizeof *info);
  struct cow_error err = COW_ERROR_INIT;
  struct cow_set_options options;
  char text[PROTO_ID_TEXT_SIZE];
  struct start start;
  struct cow_set *set;
  struct made *m;
  int r;

  if (!get_start (q, &start))
    return;
  proto_id_format (&start.id, text);
  options = (struct cow_set_options) {
    .id = id_to_cow (&start.id),
    .label = start.label,
    .attributes = start.context,
    .persistent = proto_context_persistent (start.context),
  };
  if (info == NULL)
    r = -ENOMEM;
  else if (cow_engine_find_set (engine, &options.id, info) == 0)
    r = -EEXIST;
  else
    r = cow_set_new (engine, &options, &err, &set);
  if (r == 0) {
    r = session_add_set (q->session, &options.id, set, start.context,
                         start.auto_release, &m);
    if (r == 0)
      session_unuse_set (q->session, m, true);
    else
      cow_set_put (set);
  }
  if (r < 0)
    start_failed (q, text, r, &err);
}

/* -------------------------------------------------------------------- add */

static void
add_failed (struct step *step, int r, const struct cow_error *err)
{
  cowset_hresult hr;

  switch (r) {
  case -EBUSY: hr = VSS_E_SNAPSHOT_SET_IN_PROGRESS; break;
  case -EEXIST: hr = VSS_E_OBJECT_ALREADY_EXISTS; break;
  case -EDQUOT: hr = VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED; break;
  case -ENOSPC: hr = VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED; break;
  case -ENOMEM: hr = E_OUTOFMEMORY; break;
  case -ECANCELED: hr = E_ABORT; break;
  default: hr = VSS_E_UNEXPECTED; break;
  }
  op_fail_engine (step->q, hr, step->name, r, err);
}

/* The provider that is named; *out is NULL if none is.  False after the
 * request has failed.
 */
static bool
get_provider (struct request *q, struct provider **out)
{
  struct proto_id id;
  char text[PROTO_ID_TEXT_SIZE];
  bool named;

  *out = NULL;
  if (!op_opt_id (q, "provider", &id, &named))
    return false;
  if (!named || proto_id_is_null (&id))
    return true;
  *out = provider_find (&id);
  if (*out)
    return true;
  proto_id_format (&id, text);
  op_fail (q, VSS_E_PROVIDER_NOT_REGISTERED, "provider %s: there is none of "
           "that id; leave it out, or ask for the list", text);
  return false;
}

static void
provider_failed (struct request *q, const char *what, const char *volume,
                 cowset_hresult hr, const struct cow_error *err)
{
  op_fail (q, hr, "%s: volume \"%.100s\": %s; %s", what, volume,
           err->text[0] ? err->text : proto_result_cause (hr),
           proto_result_advice (hr));
}

static bool
is_nested (struct request *q, const char *what, const struct cow_volume *v)
{
  if (!nested_origin (cow_volume_path (v)))
    return false;
  op_fail (q, VSS_E_NESTED_VOLUME_LIMIT, "%s: volume \"%s\": its origin %s "
           "lies on a volume that a cowset serves; take the set there",
           what, cow_volume_name (v), cow_volume_path (v));
  return true;
}

/* The provider has one snapshot more. */
static void
count_provider (struct made *m, struct provider *p)
{
  unsigned i;

  for (i = 0; i < m->provider_count; ++i)
    if (m->providers[i].provider == p)
      break;
  if (i == m->provider_count)
    m->providers[m->provider_count++] =
      (struct made_provider) { .provider = p };
  m->providers[i].count++;
}

/* The provider is asked before the volume is claimed: a claim can't be taken
 * back, while a provider has to take it that nothing follows a
 * BeginPrepareSnapshot.
 */
static void
add (struct step *step, struct cow_volume *v, struct provider *named,
     const struct cow_id *snapshot)
{
  const char *volume = cow_volume_name (v);
  struct cow_error err = COW_ERROR_INIT;
  struct made *m = step->m;
  struct provider *p;
  cowset_hresult hr;
  int r;

  if (is_nested (step->q, step->name, v))
    return;
  hr = provider_choose (named, volume, m->context, &p, &err);
  if (COWSET_SUCCEEDED (hr))
    hr = provider_begin (p, &m->id, snapshot, volume, &err);
  if (COWSET_FAILED (hr)) {
    provider_failed (step->q, step->name, volume, hr, &err);
    return;
  }
  r = cow_set_add (m->set, v, snapshot, &err);
  if (r < 0)
    add_failed (step, r, &err);
  else
    count_provider (m, p);
}

/* A failure leaves the set as it was. */
void
op_set_add (struct request *q)
{
  struct proto_id snapshot;
  struct provider *named;
  struct cow_volume *v;
  struct cow_id id;
  const char *volume;
  struct step step;

  if (!op_get_text (q, "volume", &volume) ||
      !op_get_id (q, "snapshot", &snapshot) || !get_provider (q, &named))
    return;
  if (proto_id_is_null (&snapshot)) {
    op_fail (q, E_INVALIDARG, "member \"snapshot\": must not be the null id");
    return;
  }
  if (!op_begin_step (&step, q, COW_SET_OPEN))
    return;
  id = id_to_cow (&snapshot);
  v = cow_engine_find_volume (engine, volume);
  if (v)
    add (&step, v, named, &id);
  else
    op_fail (q, VSS_E_OBJECT_NOT_FOUND, "%s: volume \"%.100s\": there is none "
             "of that name; cowset status lists them", step.name, volume);
  op_end_step (&step);
}

/* Nothing is claimed. */
void
op_supported (struct request *q)
{
  struct cow_error err = COW_ERROR_INIT;
  struct provider *named, *p;
  struct cow_volume *v;
  const char *volume;
  uint32_t context;
  cowset_hresult hr;

  if (!op_get_text (q, "volume", &volume) ||
      !op_get_bits (q, "context", &context) || !get_provider (q, &named))
    return;
  v = cow_engine_find_volume (engine, volume);
  if (v == NULL) {
    op_fail (q, VSS_E_OBJECT_NOT_FOUND, "volume \"%.100s\": there is none of "
             "that name; cowset status lists them", volume);
    return;
  }
  if (is_nested (q, "supported", v))
    return;
  hr = provider_choose (named, volume, context, &p, &err);
  if (hr == VSS_E_VOLUME_NOT_SUPPORTED ||
      hr == VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER)
    op_put (q, "supported", json_false ());
  else if (COWSET_FAILED (hr))
    provider_failed (q, "supported", volume, hr, &err);
  else
    op_put (q, "supported",
            json_boolean (cow_engine_has_store (engine) ||
                          !proto_context_persistent (context)));
}
