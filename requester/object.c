/* object.c - the backup components object: its life, and what it is set to.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "document.h"
#include "protocol/context.h"
#include "protocol/name.h"
#include "protocol/result.h"
#include "several.h"

#define HOLD_MS_MAX 10000

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

  if (c == NULL) {
    server->ops->close (server);
    return req_fail (E_OUTOFMEMORY, NULL);
  }
  c->servers[0] = server;
  c->server_count = 1;
  c->lost_fd = -1;
  pthread_mutex_init (&c->order_lock, NULL);
  pthread_mutex_init (&c->lock, NULL);
  req_raiser_init (&c->raiser);
  c->writer_prepare_ms = REQ_PREPARE_TIMEOUT_MS;
  c->writer_freeze_ms = REQ_FREEZE_TIMEOUT_MS;
  c->state = STATE_NEW;
  c->context = VSS_CTX_BACKUP;
  *out = c;
  return S_OK;
}

cowset_hresult
cowset_create (const char *uri, struct cowset **out)
{
  struct req_server *server;
  cowset_hresult hr;

  if (uri == NULL || out == NULL)
    return req_fail_null ("CreateVssBackupComponents", uri ? "out" : "uri");
  hr = req_connect (uri, &server);
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
  req_several_unwatch (c);

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
  req_raiser_clear (&c->raiser);
  pthread_mutex_destroy (&c->lock);
  pthread_mutex_destroy (&c->order_lock);
  if (c->lost_fd >= 0)
    close (c->lost_fd);
  free (c->asyncs);
  free (c->members);
  req_gather_clear (c);
  json_decref (c->document);
  free (c->label);
  free (c);
}

int
cowset_connection_fd (struct cowset *c)
{
  if (c == NULL)
    return -1;
  return c->lost_fd >= 0 ? c->lost_fd
                         : c->servers[0]->ops->lost_fd (c->servers[0]);
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
  if (document)
    hr = req_document_load (req_call_name (call), document, &c->document);
  if (COWSET_FAILED (hr))
    return hr;
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
  json = req_document_build (c);
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
cowset_set_restore_state (struct cowset *c, enum cowset_restore_type type)
{
  cowset_hresult hr;

  if (c == NULL)
    return req_fail_null ("SetRestoreState", "the object");
  LOCK_FOR_SCOPE (&c->lock);
  hr = req_check_state_locked (c, CALL_SET_RESTORE_STATE);
  if (COWSET_FAILED (hr))
    return hr;
  if ((int) type < VSS_RTYPE_UNDEFINED || (int) type > VSS_RTYPE_OTHER)
    return req_fail (E_INVALIDARG, "SetRestoreState: %d is no type of "
                     "restore", (int) type);
  c->restore_type = type;
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
