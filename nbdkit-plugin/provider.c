/* provider.c - providers: which there are, and what they may answer.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads: any, once the command line has been read.
 */
#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "provider.h"
#include "base/bits.h"
#include "protocol/result.h"

/* -------------------------------------------------------------------- cow */

/* Copies that are apart from their origin, or can be carried elsewhere, are
 * not what it makes.
 */
static cowset_hresult
cow_is_supported (struct provider *p, const char *volume, uint32_t context,
                  bool *supported, struct cow_error *why)
{
  (void) p;
  (void) volume;
  *supported = !(context & (VSS_VOLSNAP_ATTR_PLEX |
                            VSS_VOLSNAP_ATTR_TRANSPORTABLE));
  if (!*supported)
    cow_error_set (why, -EREMOTEIO, "provider cow makes no %s snapshots; "
                   "leave that attribute out of the context",
                   context & VSS_VOLSNAP_ATTR_PLEX ? "plex" :
                   "transportable");
  return S_OK;
}

static const struct provider_ops cow_ops = {
  .is_supported = cow_is_supported,
};

struct provider provider_cow = {
  .ops = &cow_ops,
  .id = { {
    0x8f, 0x1f, 0x0c, 0x0a, 0x6d, 0x9a, 0x4d, 0x43,
    0x9c, 0x52, 0xc0, 0xd5, 0xe7, 0xa3, 0xb0, 0x01,
  } },
  .name = "cow",
  .type = VSS_PROV_SOFTWARE,
};

/* --------------------------------------------------------------- registry */

static struct provider *providers[PROVIDERS_MAX] = { &provider_cow };
static unsigned provider_count = 1;

int
provider_register (struct provider *p)
{
  if (provider_count == PROVIDERS_MAX) {
    nbdkit_error ("provider %s: there are %d already", p->name,
                  PROVIDERS_MAX);
    return -1;
  }
  providers[provider_count++] = p;
  return 0;
}

struct provider *
provider_at (unsigned i)
{
  return i < provider_count ? providers[i] : NULL;
}

struct provider *
provider_find (const struct proto_id *id)
{
  for (unsigned i = 0; i < provider_count; ++i)
    if (proto_id_equal (&providers[i]->id, id))
      return providers[i];
  return NULL;
}

struct provider *
provider_of (const struct cow_id *snapshot)
{
  for (unsigned i = 0; i < provider_count; ++i)
    if (providers[i]->ops->has && providers[i]->ops->has (providers[i],
                                                          snapshot))
      return providers[i];
  return &provider_cow;
}

/* ------------------------------------------------------------------ codes */

/* What a provider may answer in any call, and the restart that it may ask
 * for.
 */
static bool
is_legal (cowset_hresult hr)
{
  static const cowset_hresult legal[] = {
    S_OK, E_OUTOFMEMORY, E_INVALIDARG, E_ACCESSDENIED, VSS_E_BAD_STATE,
    VSS_E_OBJECT_NOT_FOUND, VSS_E_INSUFFICIENT_STORAGE,
    VSS_E_VOLUME_NOT_SUPPORTED, VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER,
    VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED, VSS_E_PROVIDER_VETO,
    VSS_E_CANNOT_REVERT_DISKID, VSS_E_REBOOT_REQUIRED,
    VSS_E_NESTED_VOLUME_LIMIT, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED,
    VSS_E_UNSUPPORTED_CONTEXT,
  };

  for (size_t i = 0; i < COW_ARRAY_SIZE (legal); ++i)
    if (legal[i] == hr)
      return true;
  return false;
}

/* What it may answer while the set is made. */
static bool
is_legal_phase (enum provider_phase phase, cowset_hresult hr)
{
  static const cowset_hresult legal[] = {
    S_OK, E_OUTOFMEMORY, E_INVALIDARG, VSS_E_OBJECT_NOT_FOUND,
    VSS_E_PROVIDER_VETO, VSS_E_REBOOT_REQUIRED,
  };

  for (size_t i = 0; i < COW_ARRAY_SIZE (legal); ++i)
    if (legal[i] == hr)
      return true;
  return phase == PROVIDER_END_PREPARE && hr == VSS_E_INSUFFICIENT_STORAGE;
}

/* The code for the requester; the log has what the provider said. */
static cowset_hresult
judge (struct provider *p, const char *call, cowset_hresult hr, bool legal,
       struct cow_error *why)
{
  const char *name = proto_result_name (hr);

  if (hr == S_OK)
    return S_OK;
  if (why->text[0] == '\0')
    cow_error_set (why, -EREMOTEIO, "%s", proto_result_cause (hr));
  cow_error_prefix (why, "provider %s: %s", p->name, call);
  nbdkit_error ("%s: %s (0x%08x)", why->text, name ? name : "no known code",
                (unsigned) hr);
  return legal ? hr : VSS_E_UNEXPECTED_PROVIDER_ERROR;
}

/* ------------------------------------------------------------------ calls */

static cowset_hresult
ask_supported (struct provider *p, const char *volume, uint32_t context,
               bool *supported, struct cow_error *why)
{
  cowset_hresult hr;

  *supported = false;
  hr = p->ops->is_supported (p, volume, context, supported, why);
  return judge (p, "IsVolumeSupported", hr, is_legal (hr), why);
}

cowset_hresult
provider_choose (struct provider *named, const char *volume, uint32_t context,
                 struct provider **out, struct cow_error *why)
{
  static const enum cowset_provider_type order[] = {
    VSS_PROV_HARDWARE, VSS_PROV_SOFTWARE, VSS_PROV_SYSTEM,
  };
  cowset_hresult hr;
  bool supported;

  if (named) {
    hr = ask_supported (named, volume, context, &supported, why);
    if (COWSET_FAILED (hr))
      return hr;
    *out = named;
    return supported ? S_OK : VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER;
  }
  for (size_t k = 0; k < COW_ARRAY_SIZE (order); ++k)
    for (unsigned i = 0; i < provider_count; ++i) {
      if (providers[i]->type != order[k])
        continue;
      hr = ask_supported (providers[i], volume, context, &supported, why);
      if (COWSET_FAILED (hr))
        return hr;
      if (supported) {
        *out = providers[i];
        return S_OK;
      }
    }
  return VSS_E_VOLUME_NOT_SUPPORTED;
}

cowset_hresult
provider_begin (struct provider *p, const struct cow_id *set,
                const struct cow_id *snapshot, const char *volume,
                struct cow_error *why)
{
  cowset_hresult hr;

  if (p->ops->begin_prepare == NULL)
    return S_OK;
  hr = p->ops->begin_prepare (p, set, snapshot, volume, why);
  return judge (p, "BeginPrepareSnapshot", hr, is_legal (hr), why);
}

const char *
provider_phase_name (enum provider_phase phase)
{
  static const char *const names[] = {
    [PROVIDER_END_PREPARE] = "EndPrepareSnapshots",
    [PROVIDER_PRE_COMMIT] = "PreCommitSnapshots",
    [PROVIDER_COMMIT] = "CommitSnapshots",
    [PROVIDER_POST_COMMIT] = "PostCommitSnapshots",
    [PROVIDER_PRE_FINAL_COMMIT] = "PreFinalCommitSnapshots",
    [PROVIDER_POST_FINAL_COMMIT] = "PostFinalCommitSnapshots",
  };

  return names[phase];
}

cowset_hresult
provider_run (struct provider *p, enum provider_phase phase,
              const struct cow_id *set, unsigned count, struct cow_error *why)
{
  cowset_hresult hr;

  if (p->ops->run == NULL)
    return S_OK;
  hr = p->ops->run (p, phase, set, count, why);
  hr = judge (p, provider_phase_name (phase), hr, is_legal_phase (phase, hr),
              why);
  /* Where DoSnapshotSet has no such code: an expected failure, as VSS says of
   * providers that answer so for want of a better one.
   */
  return hr == VSS_E_OBJECT_NOT_FOUND ? VSS_E_PROVIDER_VETO : hr;
}

/* Nothing follows from a failure, but somebody should know. */
void
provider_abort (struct provider *p, const struct cow_id *set)
{
  struct cow_error why = COW_ERROR_INIT;

  if (p->ops->abort)
    judge (p, "AbortSnapshots", p->ops->abort (p, set), true, &why);
}

cowset_hresult
provider_delete (struct provider *p, const struct cow_id *snapshot,
                 const char *volume, struct cow_error *why)
{
  cowset_hresult hr;

  if (p->ops->delete == NULL)
    return S_OK;
  hr = p->ops->delete (p, snapshot, volume, why);
  return judge (p, "DeleteSnapshots", hr, is_legal (hr), why);
}
