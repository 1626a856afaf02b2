/* ops-add.c - a volume for a set: set.add, and supported.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Which provider makes the snapshot is decided here, and whether there can be
 * one at all.
 */
#include <config.h>

#include <errno.h>
#include <string.h>

#include "ops.h"
#include "protocol/context.h"
#include "protocol/result.h"

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
