/* object.c - the backup components object: its life, and what it is set to.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <stdarg.h>
#include <string.h>

#include "link.h"
#include "object.h"
#include "protocol/context.h"
#include "protocol/name.h"
#include "protocol/result.h"
#include "session.h"
#include "uri.h"

#define HOLD_MS_MAX 10000

#define DOCUMENT_FORMAT "cowset-backup-components"
#define DOCUMENT_VERSION 1

/* ---------------------------------------------------------------- requests */

cowset_hresult
req_request (struct req_server *server, struct req_cancel *cancel,
             json_t **result, const char *op, const char *format, ...)
{
  CLEANUP_JSON json_t *request = NULL;
  va_list args;

  va_start (args, format);
  request = json_vpack_ex (NULL, 0, format, args);
  va_end (args);
  if (request == NULL ||
      json_object_set_new (request, "op", json_string (op)) == -1)
    return req_fail (E_OUTOFMEMORY, NULL);
  return server->ops->call (server, request, cancel, result);
}

cowset_hresult
req_only (cowset_hresult hr, const cowset_hresult *listed, size_t count)
{
  const char *name = proto_result_name (hr);

  if (COWSET_SUCCEEDED (hr) || hr == E_ACCESSDENIED || hr == E_OUTOFMEMORY ||
      hr == E_INVALIDARG || hr == VSS_E_UNEXPECTED)
    return hr;
  for (size_t i = 0; i < count; ++i)
    if (listed[i] == hr)
      return hr;
  if (name)
    return req_fail (VSS_E_UNEXPECTED, "%s (%s)", cowset_error_message (),
                     name);
  return req_fail (VSS_E_UNEXPECTED, "%s (0x%08x)", cowset_error_message (),
                   (unsigned) hr);
}

/* -------------------------------------------------------------------- life */

cowset_hresult
req_object_new (struct req_server *server, struct cowset **out)
{
  struct cowset *c = calloc (1, sizeof *c);
  struct req_server **servers = calloc (1, sizeof *servers);

  if (c == NULL || servers == NULL) {
    free (c);
    free (servers);
    server->ops->close (server);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  servers[0] = server;
  c->servers = servers;
  c->server_count = 1;
  pthread_mutex_init (&c->order_lock, NULL);
  pthread_mutex_init (&c->lock, NULL);
  c->state = STATE_NEW;
  c->context = VSS_CTX_BACKUP;
  *out = c;
  return S_OK;
}

cowset_hresult
cowset_create (const char *uri, struct cowset **out)
{
  struct req_server *server;
  struct req_link *link;
  cowset_hresult hr;

  if (uri == NULL || out == NULL)
    return req_fail_null ("CreateVssBackupComponents", uri ? "out" : "uri");
  if (!req_uri_check (uri))
    return req_fail (E_INVALIDARG,
                     "%s: not an NBD URI; it has the form "
                     "nbd+unix:///?socket=/path or nbd://host:port", uri);
  hr = req_link_connect (uri, &link);
  if (COWSET_FAILED (hr))
    return hr;
  hr = req_session_new (link, uri, &server);
  if (COWSET_FAILED (hr))
    return hr;
  return req_object_new (server, out);
}

/* Nobody else uses the object any more. */
void
cowset_release (struct cowset *c)
{
  bool open, release;
  CLEANUP_JSON json_t *set = NULL;

  if (c == NULL)
    return;
  for (size_t i = 0; i < c->async_count; ++i) {
    if (!req_async_ended (c->asyncs[i]))
      cowset_async_cancel (c->asyncs[i]);
    req_async_join (c->asyncs[i]);
  }

  open = c->state == STATE_SET || c->state == STATE_PREPARED;
  release = (c->state == STATE_CREATED || c->state == STATE_COMPLETE) &&
            proto_context_auto_release (c->context);
  set = req_id_json (&c->set);
  if (open)
    req_writers_abort (c);
  for (size_t i = 0; set && i < c->server_count; ++i) {
    /* Failures leave it to the server, for which the session ends now. */
    if (open)
      req_request (c->servers[i], NULL, NULL, "set.abort", "{s:O}", "set",
                   set);
    else if (release)
      req_request (c->servers[i], NULL, NULL, "delete", "{s:s, s:O, s:b}",
                   "type", "set", "id", set, "force", 1);
  }

  req_writers_free (c);
  for (size_t i = 0; i < c->server_count; ++i)
    c->servers[i]->ops->close (c->servers[i]);
  for (size_t i = 0; i < c->member_count; ++i)
    free (c->members[i].volume);
  pthread_mutex_destroy (&c->lock);
  pthread_mutex_destroy (&c->order_lock);
  free (c->asyncs);
  free (c->members);
  free (c->servers);
  free (c->label);
  free (c);
}

int
cowset_connection_fd (struct cowset *c)
{
  return c ? c->servers[0]->ops->lost_fd (c->servers[0]) : -1;
}

cowset_hresult
req_object_start (struct cowset *c, req_operation run, void *opaque,
                  struct cowset_async **out)
{
  struct cowset_async **asyncs;
  size_t kept = 0;
  cowset_hresult hr;

  /* Those that have ended need no more waiting for. */
  for (size_t i = 0; i < c->async_count; ++i)
    if (req_async_ended (c->asyncs[i]))
      req_async_join (c->asyncs[i]);
    else
      c->asyncs[kept++] = c->asyncs[i];
  c->async_count = kept;

  asyncs = realloc (c->asyncs, (kept + 1) * sizeof *asyncs);
  if (asyncs == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  c->asyncs = asyncs;
  hr = req_async_start (run, opaque, &asyncs[kept]);
  if (COWSET_SUCCEEDED (hr)) {
    c->async_count++;
    *out = asyncs[kept];
  }
  return hr;
}

/* --------------------------------------------------------------- documents */

static bool
document_is_valid (const char *text)
{
  CLEANUP_JSON json_t *document = json_loads (text, JSON_REJECT_DUPLICATES,
                                              NULL);
  const char *format = json_string_value (json_object_get (document,
                                                           "format"));
  json_t *version = json_object_get (document, "version");

  return format && strcmp (format, DOCUMENT_FORMAT) == 0 &&
         json_integer_value (version) == DOCUMENT_VERSION;
}

static cowset_hresult
initialize (struct cowset *c, enum req_call call, enum req_state state,
            const char *document)
{
  cowset_hresult hr;

  if (c == NULL)
    return req_fail_null (req_call_name (call), "the object");
  LOCK_FOR_SCOPE (&c->lock);
  hr = req_check_state_locked (c, call);
  if (COWSET_FAILED (hr))
    return hr;
  if (document && !document_is_valid (document))
    return req_fail (VSS_E_INVALID_XML_DOCUMENT,
                     "%s: the document is not one of a backup that this "
                     "version has saved", req_call_name (call));
  c->state = state;
  return S_OK;
}

cowset_hresult
cowset_initialize_for_backup (struct cowset *c, const char *document)
{
  return initialize (c, CALL_INITIALIZE_FOR_BACKUP, STATE_INIT_B, document);
}

cowset_hresult
cowset_initialize_for_restore (struct cowset *c, const char *document)
{
  if (document == NULL)
    return req_fail_null ("InitializeForRestore", "document");
  return initialize (c, CALL_INITIALIZE_FOR_RESTORE, STATE_INIT_R, document);
}

/* The members of the set, as the document has them. */
static json_t *
members_json (struct cowset *c)
{
  json_t *array = json_array ();

  for (size_t i = 0; i < c->member_count; ++i)
    json_array_append_new (
      array, json_pack ("{s:o, s:s, s:s}", "snapshot",
                        req_id_json (&c->members[i].snapshot), "volume",
                        c->members[i].volume, "server",
                        c->members[i].server->uri));
  return array;
}

cowset_hresult
cowset_save_document (struct cowset *c, char **document)
{
  CLEANUP_JSON json_t *json = NULL;
  cowset_hresult hr;
  char *text;

  if (c == NULL || document == NULL)
    return req_fail_null ("SaveAsXML", c ? "document" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_SAVE_DOCUMENT);
  if (COWSET_FAILED (hr))
    return hr;
  pthread_mutex_lock (&c->lock);
  json = json_pack ("{s:s, s:i, s:I, s:o, s:s, s:b, s:b, s:i, s:b, s:o}",
                    "format", DOCUMENT_FORMAT, "version", DOCUMENT_VERSION,
                    "context", (json_int_t) c->context, "set",
                    req_id_json (&c->set), "label", c->label ? c->label : "",
                    "select_components", c->select_components,
                    "bootable_state", c->bootable, "backup_type",
                    (int) c->backup_type, "partial_files", c->partial_files,
                    "snapshots", members_json (c));
  pthread_mutex_unlock (&c->lock);
  text = json ? json_dumps (json, JSON_INDENT (2)) : NULL;
  if (text == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  *document = text;
  return S_OK;
}

/* ---------------------------------------------------------------- settings */

cowset_hresult
cowset_set_context (struct cowset *c, uint32_t context)
{
  cowset_hresult hr;

  if (c == NULL)
    return req_fail_null ("SetContext", "the object");
  LOCK_FOR_SCOPE (&c->lock);
  hr = req_check_state_locked (c, CALL_SET_CONTEXT);
  if (COWSET_FAILED (hr))
    return hr;
  if (c->context_set)
    return req_fail (VSS_E_BAD_STATE, "SetContext: the context was set "
                     "before; it can be set once");
  if (!proto_context_valid (context))
    return req_fail (E_INVALIDARG, "SetContext: 0x%08x is no context",
                     (unsigned) context);
  c->context = context;
  c->context_set = true;
  return S_OK;
}

cowset_hresult
cowset_set_backup_state (struct cowset *c, bool select_components,
                         bool backup_bootable_state,
                         enum cowset_backup_type type,
                         bool partial_file_support)
{
  cowset_hresult hr;

  if (c == NULL)
    return req_fail_null ("SetBackupState", "the object");
  LOCK_FOR_SCOPE (&c->lock);
  hr = req_check_state_locked (c, CALL_SET_BACKUP_STATE);
  if (COWSET_FAILED (hr))
    return hr;
  if ((int) type <= VSS_BT_UNDEFINED || (int) type > VSS_BT_OTHER)
    return req_fail (E_INVALIDARG, "SetBackupState: %d is no type of backup",
                     (int) type);
  c->select_components = select_components;
  c->bootable = backup_bootable_state;
  c->backup_type = type;
  c->partial_files = partial_file_support;
  c->backup_state_set = true;
  return S_OK;
}

cowset_hresult
cowset_set_label (struct cowset *c, const char *label)
{
  const char *wrong;
  cowset_hresult hr;
  char *copy;

  if (c == NULL || label == NULL)
    return req_fail_null ("cowset_set_label", c ? "label" : "the object");
  LOCK_FOR_SCOPE (&c->lock);
  hr = req_check_state_locked (c, CALL_SET_LABEL);
  if (COWSET_FAILED (hr))
    return hr;
  wrong = proto_name_check (label);
  if (wrong)
    return req_fail (E_INVALIDARG, "the label \"%s\" %s", label, wrong);
  copy = strdup (label);
  if (copy == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  free (c->label);
  c->label = copy;
  return S_OK;
}

cowset_hresult
cowset_set_limits (struct cowset *c, uint32_t hold_ms, uint32_t flush_ms)
{
  cowset_hresult hr;

  if (c == NULL)
    return req_fail_null ("cowset_set_limits", "the object");
  LOCK_FOR_SCOPE (&c->lock);
  hr = req_check_state_locked (c, CALL_SET_LIMITS);
  if (COWSET_FAILED (hr))
    return hr;
  if (hold_ms > HOLD_MS_MAX)
    return req_fail (E_INVALIDARG, "writes can be held for %d ms at most",
                     HOLD_MS_MAX);
  c->hold_ms = hold_ms;
  c->flush_ms = flush_ms;
  return S_OK;
}

/* ----------------------------------------------------------------- writers */

/* A writer that does not answer takes no part; that is its own failure. */
static cowset_hresult
gather (struct cowset_async *async, void *opaque)
{
  struct req_cancel *cancel = req_async_canceller (async);
  struct cowset *c = opaque;

  req_writers_raise (c, REQ_EVENT_IDENTIFY, cancel);
  if (req_cancel_cancelled (cancel))
    return req_fail (E_ABORT, NULL);
  for (size_t i = 0; i < c->writer_count; ++i)
    c->writers[i]->takes_part =
      req_writer_state (c->writers[i], NULL, NULL) == VSS_WS_STABLE;
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

cowset_hresult
cowset_get_writer_metadata_count (struct cowset *c, unsigned *count)
{
  cowset_hresult hr;

  if (c == NULL || count == NULL)
    return req_fail_null ("GetWriterMetadataCount",
                          c ? "count" : "the object");
  LOCK_FOR_SCOPE (&c->lock);
  hr = req_check_state_locked (c, CALL_GET_WRITER_METADATA);
  if (COWSET_FAILED (hr))
    return hr;
  if (!c->gathered)
    return req_fail (VSS_E_BAD_STATE, "GetWriterMetadataCount: they have not "
                     "been gathered");
  *count = 0;
  for (size_t i = 0; i < c->writer_count; ++i)
    *count += c->writers[i]->takes_part;
  return S_OK;
}
