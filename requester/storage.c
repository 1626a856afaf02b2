/* storage.c - where old data goes: the association of a volume and its store.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * In VSS a volume's differential area is on a volume of the caller's choice,
 * with a maximum.  Here each volume of a server has one already, the server's
 * store, which all of them share, and whose maximum is the server's store-limit=.
 */
#include <config.h>

#include <inttypes.h>
#include <string.h>

#include "several.h"
#include "props.h"

/* As store-limit= has it. */
#define AREA_BYTES_MIN (1024 * 1024)

/* What "volumes" says of the volume: *json is borrowed from *answer. */
static cowset_hresult
find_volume (struct cowset *c, const char *volume, json_t **answer,
             json_t **json)
{
  CLEANUP_FREE char *name = NULL;
  struct req_server *server;
  json_t *found;
  cowset_hresult hr;
  size_t i;

  hr = req_several_find (c, volume, false, &server, &name);
  if (COWSET_SUCCEEDED (hr))
    hr = req_request (server, NULL, answer, "volumes", "{}");
  if (COWSET_FAILED (hr))
    return hr;
  json_array_foreach (json_object_get (*answer, "volumes"), i, found)
    if (strcmp (req_json_text (found, "name"), name) == 0) {
      *json = found;
      return S_OK;
    }
  return req_fail (VSS_E_OBJECT_NOT_FOUND,
                   "%s: the server has no volume of this name", volume);
}

static cowset_hresult
check_bytes (const char *call, uint64_t max_bytes)
{
  if (max_bytes >= AREA_BYTES_MIN)
    return S_OK;
  return req_fail (E_INVALIDARG, "%s: %" PRIu64 " bytes: a store has %d at "
                   "least", call, max_bytes, AREA_BYTES_MIN);
}

cowset_hresult
cowset_add_diff_area (struct cowset *c, const char *volume,
                      uint64_t max_bytes)
{
  CLEANUP_JSON json_t *answer = NULL;
  json_t *json;
  cowset_hresult hr;

  if (c == NULL || volume == NULL)
    return req_fail_null ("AddDiffArea", c ? "volume" : "the object");
  hr = check_bytes ("AddDiffArea", max_bytes);
  if (COWSET_SUCCEEDED (hr))
    hr = find_volume (c, volume, &answer, &json);
  if (hr == VSS_E_OBJECT_NOT_FOUND)
    return req_fail (VSS_E_VOLUME_NOT_SUPPORTED, "%s",
                     cowset_error_message ());
  if (COWSET_FAILED (hr))
    return REQ_ONLY (hr, VSS_E_NESTED_VOLUME_LIMIT, VSS_E_PROVIDER_VETO);
  return req_fail (VSS_E_OBJECT_ALREADY_EXISTS, "%s: its old data goes to its "
                   "server's store already", volume);
}

cowset_hresult
cowset_change_diff_area_maximum_size (struct cowset *c, const char *volume,
                                      uint64_t max_bytes)
{
  CLEANUP_JSON json_t *answer = NULL;
  uint64_t snapshots;
  json_t *json;
  cowset_hresult hr = S_OK;

  if (c == NULL || volume == NULL)
    return req_fail_null ("ChangeDiffAreaMaximumSize",
                          c ? "volume" : "the object");
  if (max_bytes != VSS_ASSOC_REMOVE)
    hr = check_bytes ("ChangeDiffAreaMaximumSize", max_bytes);
  if (COWSET_SUCCEEDED (hr))
    hr = find_volume (c, volume, &answer, &json);
  if (COWSET_FAILED (hr))
    return REQ_ONLY (hr, VSS_E_OBJECT_NOT_FOUND, VSS_E_PROVIDER_VETO);
  if (max_bytes != VSS_ASSOC_REMOVE)
    return req_fail (VSS_E_PROVIDER_VETO, "%s: the size of a store is set when "
                     "its server is started; start it with another "
                     "store-limit=", volume);
  snapshots = req_json_count (json, "snapshots");
  if (snapshots > 0)
    return req_fail (VSS_E_VOLUME_IN_USE, "%s: %" PRIu64 " snapshots have "
                     "their old data in the store; delete them first", volume,
                     snapshots);
  return req_fail (VSS_E_PROVIDER_VETO, "%s: its server has one store for all "
                   "of its volumes, which none can be taken out of", volume);
}
