/* components.c - which parts of the writers' data are backed up, and how it
 * went.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A component is part of the backup by a mark at the writer that has it; the
 * document and GetWriterComponents show those with a mark.
 */
#include <config.h>

#include <string.h>

#include "document.h"
#include "protocol/context.h"

static struct req_writer *
find_writer (struct cowset *c, const struct cowset_id *instance,
             const struct cowset_id *writer)
{
  for (size_t i = 0; i < c->writer_count; ++i)
    if (c->writers[i]->takes_part &&
        cowset_id_equal (&c->writers[i]->instance_id, instance) &&
        cowset_id_equal (&c->writers[i]->class_id, writer))
      return c->writers[i];
  return NULL;
}

/* A path of NULL is the one at the top, "". */
static struct req_component *
find_component (struct req_writer *w, enum cowset_component_type type,
                const char *path, const char *name)
{
  for (size_t i = 0; w && i < w->component_count; ++i)
    if (w->components[i].type == type &&
        strcmp (w->components[i].path, path ? path : "") == 0 &&
        strcmp (w->components[i].name, name) == 0)
      return &w->components[i];
  return NULL;
}

static cowset_hresult
check_arguments (const char *call, struct cowset *c,
                 const struct cowset_id *instance,
                 const struct cowset_id *writer,
                 enum cowset_component_type type, const char *name)
{
  if (c == NULL || instance == NULL || writer == NULL || name == NULL)
    return req_fail_null (call, c == NULL ? "the object" :
                          instance == NULL ? "instance" :
                          writer == NULL ? "writer" : "name");
  if (type != VSS_CT_DATABASE && type != VSS_CT_FILEGROUP)
    return req_fail (E_INVALIDARG, "%s: %d is no type of component", call,
                     (int) type);
  return S_OK;
}

static cowset_hresult
check_add_locked (struct cowset *c)
{
  cowset_hresult hr = req_check_state_locked (c, CALL_ADD_COMPONENT);

  if (COWSET_FAILED (hr))
    return hr;
  if (!proto_context_has_writers (c->context))
    return req_fail (VSS_E_BAD_STATE, "AddComponent: no writer takes part in "
                     "this context");
  if (!c->gathered)
    return req_fail (VSS_E_BAD_STATE, "AddComponent: the writers' metadata "
                     "have not been gathered");
  if (c->moving)
    return req_fail (VSS_E_BAD_STATE, "AddComponent: the writers are being "
                     "told of the backup already");
  if (c->backup_state_set && !c->select_components)
    return req_fail (VSS_E_BAD_STATE, "AddComponent: SetBackupState has said "
                     "that no components are selected");
  return S_OK;
}

cowset_hresult
cowset_add_component (struct cowset *c, const struct cowset_id *instance,
                      const struct cowset_id *writer,
                      enum cowset_component_type type,
                      const char *logical_path, const char *name)
{
  struct req_component *component;
  struct req_writer *w;
  cowset_hresult hr = check_arguments ("AddComponent", c, instance, writer,
                                       type, name);

  if (COWSET_FAILED (hr))
    return hr;
  LOCK_FOR_SCOPE (&c->order_lock);
  pthread_mutex_lock (&c->lock);
  hr = check_add_locked (c);
  pthread_mutex_unlock (&c->lock);
  if (COWSET_FAILED (hr))
    return hr;
  w = find_writer (c, instance, writer);
  if (w == NULL)
    return req_fail (E_INVALIDARG, "AddComponent: no such writer takes part");
  component = find_component (w, type, logical_path, name);
  if (component == NULL)
    return req_fail (E_INVALIDARG, "AddComponent: the writer \"%s\" has no "
                     "component \"%s\" of this type there", w->name, name);
  if (component->selected)
    return req_fail (VSS_E_OBJECT_ALREADY_EXISTS, "AddComponent: \"%s\" of "
                     "the writer \"%s\" was added before", name, w->name);
  component->selected = true;
  return S_OK;
}

cowset_hresult
cowset_set_backup_succeeded (struct cowset *c,
                             const struct cowset_id *instance,
                             const struct cowset_id *writer,
                             enum cowset_component_type type,
                             const char *logical_path, const char *name,
                             bool succeeded)
{
  struct req_component *component;
  cowset_hresult hr = check_arguments ("SetBackupSucceeded", c, instance,
                                       writer, type, name);

  if (COWSET_FAILED (hr))
    return hr;
  LOCK_FOR_SCOPE (&c->order_lock);
  pthread_mutex_lock (&c->lock);
  hr = req_check_state_locked (c, CALL_SET_BACKUP_SUCCEEDED);
  if (COWSET_SUCCEEDED (hr) && c->moving)
    hr = req_fail (VSS_E_BAD_STATE, "SetBackupSucceeded: BackupComplete has "
                   "been called");
  pthread_mutex_unlock (&c->lock);
  if (COWSET_FAILED (hr))
    return hr;
  component = find_component (find_writer (c, instance, writer), type,
                              logical_path, name);
  if (component == NULL || !component->selected)
    return req_fail (VSS_E_OBJECT_NOT_FOUND, "SetBackupSucceeded: \"%s\" is "
                     "not a component of this backup", name);
  component->succeeded = succeeded ? REQ_SUCCEEDED_YES : REQ_SUCCEEDED_NO;
  return S_OK;
}

/* ----------------------------------------------------------------- looking */

static bool
is_restore (struct cowset *c)
{
  LOCK_FOR_SCOPE (&c->lock);

  return c->state == STATE_INIT_R;
}

/* The writers with a component in the backup: a new array.  Those of the
 * document in a restore, and as long as nothing newer is known.  order_lock is
 * held.
 */
static json_t *
with_components (struct cowset *c)
{
  json_t *array = json_array (), *loaded, *writer;
  const bool gathered = req_gathered (c);
  size_t i;

  if (c->document && (!gathered || is_restore (c))) {
    loaded = json_object_get (c->document, "writers");
    json_array_foreach (loaded, i, writer)
      if (req_document_has_selected (writer) &&
          json_array_append (array, writer) == -1)
        goto no_memory;
    return array;
  }
  for (i = 0; gathered && i < c->writer_count; ++i) {
    if (!c->writers[i]->takes_part)
      continue;
    writer = req_document_writer (c->writers[i]);
    if (writer && !req_document_has_selected (writer))
      json_decref (writer);
    else if (json_array_append_new (array, writer) == -1)
      goto no_memory;
  }
  return array;

 no_memory:
  json_decref (array);
  return NULL;
}

cowset_hresult
cowset_get_writer_components_count (struct cowset *c, unsigned *count)
{
  CLEANUP_JSON json_t *writers = NULL;
  cowset_hresult hr;

  if (c == NULL || count == NULL)
    return req_fail_null ("GetWriterComponentsCount",
                          c ? "count" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_GET_WRITER_COMPONENTS);
  if (COWSET_FAILED (hr))
    return hr;
  writers = with_components (c);
  if (writers == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  *count = (unsigned) json_array_size (writers);
  return S_OK;
}

cowset_hresult
cowset_get_writer_components (struct cowset *c, unsigned index,
                              struct cowset_writer_metadata **components)
{
  CLEANUP_JSON json_t *writers = NULL;
  cowset_hresult hr;

  if (c == NULL || components == NULL)
    return req_fail_null ("GetWriterComponents",
                          c ? "components" : "the object");
  LOCK_FOR_SCOPE (&c->order_lock);
  hr = req_check_state (c, CALL_GET_WRITER_COMPONENTS);
  if (COWSET_FAILED (hr))
    return hr;
  writers = with_components (c);
  if (writers == NULL)
    return req_fail (E_OUTOFMEMORY, NULL);
  if (index >= json_array_size (writers))
    return req_fail (VSS_E_OBJECT_NOT_FOUND, "GetWriterComponents: there is "
                     "no writer %u with components in the backup", index);
  return req_document_metadata (json_array_get (writers, index), true,
                                components);
}
