/* gather.c - what writers say of themselves: which take part, metadata, status.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <stdio.h>
#include <string.h>

#include "document.h"

/* ----------------------------------------------------------------- filters */

static bool
is_in (const struct cowset_id *id, const struct cowset_id *list, size_t count)
{
  for (size_t i = 0; i < count; ++i)
    if (cowset_id_equal (id, &list[i]))
      return true;
  return false;
}

static bool
append (struct cowset_id **list, size_t *count, const struct cowset_id *ids,
        unsigned n)
{
  struct cowset_id *grown = realloc (*list, (*count + n + 1) * sizeof **list);

  if (grown == NULL)
    return false;
  *list = grown;
  for (unsigned i = 0; i < n; ++i)
    if (!is_in (&ids[i], grown, *count))
      grown[(*count)++] = ids[i];
  return true;
}

static void
take_out (struct cowset_id *list, size_t *count, const struct cowset_id *ids,
          unsigned n)
{
  size_t kept = 0;

  for (size_t i = 0; i < *count; ++i)
    if (!is_in (&list[i], ids, n))
      list[kept++] = list[i];
  *count = kept;
}

/* *now: the metadata have not been asked for yet, so that it has an effect. */
static cowset_hresult
check_filter (struct cowset *c, enum req_call call,
              const struct cowset_id *ids, unsigned count, bool *now)
{
  cowset_hresult hr;

  if (ids == NULL && count > 0)
    return req_fail_null (req_call_name (call), "ids");
  hr = req_check_state (c, call);
  *now = COWSET_SUCCEEDED (hr) && !c->gather_started;
  return hr;
}

cowset_hresult
cowset_enable_writer_classes (struct cowset *c, const struct cowset_id *ids,
                              unsigned count)
{
  struct req_filter *filter;
  cowset_hresult hr;
  bool now;

  if (c == NULL)
    return req_fail_null ("EnableWriterClasses", "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = check_filter (c, CALL_ENABLE_WRITER_CLASSES, ids, count, &now);
  if (COWSET_FAILED (hr) || !now)
    return hr;
  filter = &c->filter;
  if (!append (&filter->enabled, &filter->enabled_count, ids, count))
    return req_fail (E_OUTOFMEMORY, NULL);
  /* The first one makes what was disabled before it void. */
  if (!filter->only)
    filter->disabled_count = 0;
  filter->only = true;
  return S_OK;
}

cowset_hresult
cowset_disable_writer_classes (struct cowset *c, const struct cowset_id *ids,
                               unsigned count)
{
  struct req_filter *filter;
  cowset_hresult hr;
  bool now;

  if (c == NULL)
    return req_fail_null ("DisableWriterClasses", "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = check_filter (c, CALL_DISABLE_WRITER_CLASSES, ids, count, &now);
  if (COWSET_FAILED (hr) || !now)
    return hr;
  filter = &c->filter;
  if (filter->only)
    take_out (filter->enabled, &filter->enabled_count, ids, count);
  else if (!append (&filter->disabled, &filter->disabled_count, ids, count))
    return req_fail (E_OUTOFMEMORY, NULL);
  return S_OK;
}

cowset_hresult
cowset_disable_writer_instances (struct cowset *c,
                                 const struct cowset_id *ids, unsigned count)
{
  cowset_hresult hr;
  bool now;

  if (c == NULL)
    return req_fail_null ("DisableWriterInstances", "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = check_filter (c, CALL_DISABLE_WRITER_INSTANCES, ids, count, &now);
  if (COWSET_FAILED (hr) || !now)
    return hr;
  if (!append (&c->filter.disabled_instances,
               &c->filter.disabled_instance_count, ids, count))
    return req_fail (E_OUTOFMEMORY, NULL);
  return S_OK;
}

static bool
enabled (const struct req_filter *filter, const struct req_writer *w)
{
  if (is_in (&w->instance_id, filter->disabled_instances,
             filter->disabled_instance_count))
    return false;
  if (filter->only)
    return is_in (&w->class_id, filter->enabled, filter->enabled_count);
  return !is_in (&w->class_id, filter->disabled, filter->disabled_count);
}

/* ---------------------------------------------------------------- metadata */

/* A writer that does not answer takes no part; that is its own failure, unless
 * the policy says otherwise.
 */
static cowset_hresult
gather (struct cowset_async *async, void *opaque)
{
  struct cowset *c = opaque;
  cowset_hresult hr;

  req_async_set_phase (async, "identify");
  hr = req_writers_identify (c, req_async_canceller (async));
  if (COWSET_FAILED (hr))
    return hr == E_ABORT ? hr : REQ_ONLY (hr, VSS_E_BAD_STATE,
                                          VSS_E_WRITER_INFRASTRUCTURE);
  for (size_t i = 0; i < c->writer_count; ++i) {
    struct req_writer *w = c->writers[i];

    /* One that may fail is listed with its failure. */
    w->takes_part = (req_writer_state (w, NULL, NULL) == VSS_WS_STABLE ||
                     c->writer_policy == COWSET_WRITERS_OPTIONAL) &&
                    enabled (&c->filter, w);
  }
  LOCK_FOR_SCOPE (&c->lock);
  c->gathered = true;
  return S_OK;
}

cowset_hresult
cowset_gather_writer_metadata (struct cowset *c, struct cowset_async **async)
{
  cowset_hresult hr;

  if (c == NULL || async == NULL)
    return req_fail_null ("GatherWriterMetadata",
                          c ? "async" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_GATHER_WRITER_METADATA);
  if (COWSET_FAILED (hr))
    return hr;
  if (c->gather_started)
    return req_fail (VSS_E_BAD_STATE, "GatherWriterMetadata: an object can "
                     "gather them once");
  hr = req_object_start (c, gather, c, async);
  if (COWSET_SUCCEEDED (hr))
    c->gather_started = true;
  return hr;
}

bool
req_gathered (struct cowset *c)
{
  LOCK_FOR_SCOPE (&c->lock);

  return c->gathered;
}

/* c->lock is held. */
static cowset_hresult
check_gathered_locked (struct cowset *c, enum req_call call, const char *name)
{
  cowset_hresult hr = req_check_state_locked (c, call);

  if (COWSET_FAILED (hr))
    return hr;
  if (!c->gathered)
    return req_fail (VSS_E_BAD_STATE, "%s: the writers' metadata have not "
                     "been gathered", name);
  if (c->metadata_freed)
    return req_fail (VSS_E_BAD_STATE, "%s: the writers' metadata were freed",
                     name);
  return S_OK;
}

cowset_hresult
cowset_get_writer_metadata_count (struct cowset *c, unsigned *count)
{
  unsigned n = 0;
  cowset_hresult hr;

  if (c == NULL || count == NULL)
    return req_fail_null ("GetWriterMetadataCount",
                          c ? "count" : "the object");
  LOCK_FOR_SCOPE (&c->lock);
  hr = check_gathered_locked (c, CALL_GET_WRITER_METADATA,
                              "GetWriterMetadataCount");
  if (COWSET_FAILED (hr))
    return hr;
  for (size_t i = 0; i < c->writer_count; ++i)
    n += c->writers[i]->takes_part;
  *count = n;
  return S_OK;
}

/* The one of those that take part, or NULL. */
static struct req_writer *
taking_part (struct cowset *c, unsigned index)
{
  for (size_t i = 0; i < c->writer_count; ++i)
    if (c->writers[i]->takes_part && index-- == 0)
      return c->writers[i];
  return NULL;
}

cowset_hresult
cowset_get_writer_metadata (struct cowset *c, unsigned index,
                            struct cowset_writer_metadata **metadata)
{
  CLEANUP_JSON json_t *json = NULL;
  struct req_writer *w;
  cowset_hresult hr;

  if (c == NULL || metadata == NULL)
    return req_fail_null ("GetWriterMetadata", c ? "metadata" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  pthread_mutex_lock (&c->lock);
  hr = check_gathered_locked (c, CALL_GET_WRITER_METADATA,
                              "GetWriterMetadata");
  pthread_mutex_unlock (&c->lock);
  if (COWSET_FAILED (hr))
    return hr;
  w = taking_part (c, index);
  if (w == NULL)
    return req_fail (VSS_E_OBJECT_NOT_FOUND, "GetWriterMetadata: there is no "
                     "writer %u", index);
  json = req_document_writer (w);
  return json ? req_document_metadata (json, false, metadata)
              : req_fail (E_OUTOFMEMORY, NULL);
}

cowset_hresult
cowset_free_writer_metadata (struct cowset *c)
{
  cowset_hresult hr;

  if (c == NULL)
    return req_fail_null ("FreeWriterMetadata", "the object");
  LOCK_FOR_SCOPE (&c->lock);
  hr = check_gathered_locked (c, CALL_FREE_WRITER_METADATA,
                              "FreeWriterMetadata");
  if (COWSET_SUCCEEDED (hr))
    c->metadata_freed = true;
  return hr;
}

/* ------------------------------------------------------------------ status */

static void
free_statuses (struct req_statuses *statuses)
{
  for (size_t i = 0; i < statuses->count; ++i)
    free (statuses->status[i].name);
  free (statuses->status);
  *statuses = (struct req_statuses) { NULL, 0 };
}

static bool
read_statuses (struct cowset *c, struct req_statuses *statuses)
{
  statuses->count = 0;
  statuses->status = calloc (c->writer_count + 1, sizeof *statuses->status);
  if (statuses->status == NULL)
    return false;
  for (size_t i = 0; i < c->writer_count; ++i) {
    struct req_writer *w = c->writers[i];
    struct req_status *status = &statuses->status[statuses->count];

    if (!w->takes_part)
      continue;
    status->class_id = w->class_id;
    status->instance_id = w->instance_id;
    status->state = req_writer_state (w, &status->failure, status->message);
    status->name = strdup (w->name);
    if (status->name == NULL) {
      free_statuses (statuses);
      return false;
    }
    statuses->count++;
  }
  return true;
}

static cowset_hresult
gather_status (struct cowset_async *async, void *opaque)
{
  struct req_statuses statuses = { NULL, 0 };
  struct cowset *c = opaque;

  if (req_cancel_cancelled (req_async_canceller (async)))
    return req_fail (E_ABORT, NULL);
  LOCK_FOR_SCOPE (&c->lock);
  /* Before that none takes part. */
  if (c->gathered && !read_statuses (c, &statuses))
    return req_fail (E_OUTOFMEMORY, NULL);
  free_statuses (&c->statuses);
  c->statuses = statuses;
  c->status_gathered = true;
  return S_OK;
}

cowset_hresult
cowset_gather_writer_status (struct cowset *c, struct cowset_async **async)
{
  cowset_hresult hr;

  if (c == NULL || async == NULL)
    return req_fail_null ("GatherWriterStatus", c ? "async" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_GATHER_WRITER_STATUS);
  return COWSET_FAILED (hr) ? hr :
         req_object_start (c, gather_status, c, async);
}

/* c->lock is held. */
static cowset_hresult
check_status_locked (struct cowset *c, enum req_call call, const char *name)
{
  cowset_hresult hr = req_check_state_locked (c, call);

  if (COWSET_SUCCEEDED (hr) && !c->status_gathered)
    hr = req_fail (VSS_E_BAD_STATE, "%s: the writers' status has not been "
                   "gathered, or was freed", name);
  return hr;
}

cowset_hresult
cowset_get_writer_status_count (struct cowset *c, unsigned *count)
{
  cowset_hresult hr;

  if (c == NULL || count == NULL)
    return req_fail_null ("GetWriterStatusCount", c ? "count" : "the object");
  LOCK_FOR_SCOPE (&c->lock);
  hr = check_status_locked (c, CALL_GET_WRITER_STATUS,
                            "GetWriterStatusCount");
  if (COWSET_SUCCEEDED (hr))
    *count = (unsigned) c->statuses.count;
  return hr;
}

/* What is given out as a struct cowset_writer_status. */
struct whole {
  struct cowset_writer_status status;
  char *name, *message;
};

void
cowset_writer_status_free (struct cowset_writer_status *status)
{
  struct whole *w = (struct whole *) status;

  if (w) {
    free (w->name);
    free (w->message);
    free (w);
  }
}

cowset_hresult
cowset_get_writer_status (struct cowset *c, unsigned index,
                          struct cowset_writer_status **status)
{
  const struct req_status *from;
  struct whole *w;
  cowset_hresult hr;

  if (c == NULL || status == NULL)
    return req_fail_null ("GetWriterStatus", c ? "status" : "the object");
  LOCK_FOR_SCOPE (&c->lock);
  hr = check_status_locked (c, CALL_GET_WRITER_STATUS, "GetWriterStatus");
  if (COWSET_FAILED (hr))
    return hr;
  if (index >= c->statuses.count)
    return req_fail (VSS_E_OBJECT_NOT_FOUND, "GetWriterStatus: there is no "
                     "writer %u", index);
  from = &c->statuses.status[index];
  w = calloc (1, sizeof *w);
  if (w == NULL || (w->name = strdup (from->name)) == NULL ||
      (w->message = strdup (from->message)) == NULL) {
    cowset_writer_status_free (w ? &w->status : NULL);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  w->status = (struct cowset_writer_status) {
    .instance_id = from->instance_id,
    .writer_id = from->class_id,
    .name = w->name,
    .state = from->state,
    .failure = from->failure,
    .message = w->message,
  };
  *status = &w->status;
  return S_OK;
}

cowset_hresult
cowset_free_writer_status (struct cowset *c)
{
  cowset_hresult hr;

  if (c == NULL)
    return req_fail_null ("FreeWriterStatus", "the object");
  LOCK_FOR_SCOPE (&c->lock);
  hr = check_status_locked (c, CALL_FREE_WRITER_STATUS, "FreeWriterStatus");
  if (COWSET_SUCCEEDED (hr)) {
    free_statuses (&c->statuses);
    c->status_gathered = false;
  }
  return hr;
}

void
req_gather_clear (struct cowset *c)
{
  free_statuses (&c->statuses);
  free (c->filter.enabled);
  free (c->filter.disabled);
  free (c->filter.disabled_instances);
}
