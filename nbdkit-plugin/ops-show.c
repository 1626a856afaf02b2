/* ops-show.c - volumes, status, query, delete, providers.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Everything here is a copy of what the engine says at one moment.
 */
#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "protocol/context.h"
#include "protocol/result.h"

/* ----------------------------------------------------- volumes and status */

static json_t *
volumes (void)
{
  json_t *list = json_array ();

  for (unsigned i = 0; i < cow_engine_volumes (engine); ++i) {
    struct cow_volume *v = cow_engine_volume (engine, i);
    struct cow_volume_status st;
    json_t *o = json_object ();

    cow_volume_status (v, &st);
    json_object_set_new (o, "name", json_string (cow_volume_name (v)));
    json_object_set_new (o, "size", op_number (cow_volume_size (v)));
    json_object_set_new (o, "readonly", json_boolean (cow_volume_readonly (v)));
    json_object_set_new (o, "path", op_text (cow_volume_path (v)));
    json_object_set_new (o, "snapshots", json_integer (st.snapshots));
    json_object_set_new (o, "epoch", op_number (st.epoch));
    json_object_set_new (o, "exceptions", op_number (st.exceptions));
    json_object_set_new (o, "first_touches", op_number (st.first_touches));
    json_object_set_new (o, "copied_bytes", op_number (st.copied_bytes));
    json_object_set_new (o, "zero_bytes", op_number (st.zero_bytes));
    json_object_set_new (o, "waiting", op_number (st.waiting));
    json_array_append_new (list, o);
  }
  return list;
}

void
op_volumes (struct request *q)
{
  op_put (q, "volumes", volumes ());
}

void
op_status (struct request *q)
{
  CLEANUP_FREE struct cow_set_info *sets = NULL;
  struct cow_engine_status st;
  json_t *store = json_object (), *memory = json_object ();
  size_t count = 0;

  if (cow_engine_sets (engine, &sets, &count) < 0)
    count = 0;
  cow_engine_status (engine, &st);
  json_object_set_new (store, "limit_bytes", op_number (st.store_limit_bytes));
  json_object_set_new (store, "used_bytes", op_number (st.store_used_bytes));
  json_object_set_new (store, "file_bytes", op_number (st.store_file_bytes));
  json_object_set_new (store, "path",
                       op_text (cow_engine_store_path (engine)));
  json_object_set_new (store, "failed", json_boolean (st.store_failed));
  if (cow_engine_has_store (engine))
    json_object_set_new (store, "id", op_id (cow_engine_store_id (engine)));
  json_object_set_new (store, "fill_rate", op_number (st.store_fill_rate));
  if (st.store_full_in_s != UINT64_MAX)
    json_object_set_new (store, "full_in_s", op_number (st.store_full_in_s));
  json_object_set_new (store, "written_bytes",
                       op_number (st.store_written_bytes));
  json_object_set_new (store, "copied_bytes", op_number (st.copied_bytes));
  json_object_set_new (store, "zero_bytes", op_number (st.zero_bytes));
  json_object_set_new (store, "exceptions", op_number (st.exceptions));
  json_object_set_new (store, "invalidated",
                       op_number (st.invalidated_snapshots));
  json_object_set_new (memory, "ring_bytes", op_number (st.ring_bytes));
  json_object_set_new (memory, "ring_dirty_bytes",
                       op_number (st.ring_dirty_bytes));
  json_object_set_new (memory, "map_bytes", op_number (st.map_bytes));

  op_put (q, "volumes", volumes ());
  op_put (q, "store", store);
  op_put (q, "memory", memory);
  op_put (q, "io", json_string (cow_engine_io_name (engine)));
  op_put (q, "sets", op_number (count));
  op_put (q, "sessions", json_integer (sessions_count ()));
  op_put (q, "uptime_ms",
          op_number ((cow_now_ns () - started_ns) / COW_NS_PER_MS));
}

/* ----------------------------------------------------------------- query */

static const char *
end_name (enum cow_snapshot_end end)
{
  switch (end) {
  case COW_ALIVE: return "alive";
  case COW_DELETED: return "deleted";
  case COW_LOST_STORE_FULL: return "store-full";
  case COW_LOST_STORE_ERROR: return "store-error";
  case COW_LOST_STORE_TIMEOUT: return "store-timeout";
  case COW_LOST_ORIGIN_ERROR: return "origin-error";
  case COW_LOST_ORIGIN_CHANGED: return "origin-changed";
  }
  return "unknown";
}

struct filter {
  uint32_t context;
  bool by_set, by_snapshot;
  struct cow_id set, snapshot;
  const struct cow_id *auto_release; /* sorted */
  size_t auto_release_count;
};

static json_t *
show_snapshot (const struct cow_set_info *set,
               const struct cow_snapshot_info *snapshot)
{
  char id[COW_ID_TEXT_SIZE], device[COW_NAME_MAX + COW_ID_TEXT_SIZE + 2];
  const bool alive = snapshot->end == COW_ALIVE;
  json_t *o = json_object ();

  cow_id_format (&set->id, id);
  snprintf (device, sizeof device, "%s@%s", snapshot->volume, id);
  json_object_set_new (o, "snapshot", op_id (&snapshot->id));
  json_object_set_new (o, "volume", op_text (snapshot->volume));
  json_object_set_new (o, "size", op_number (snapshot->size_bytes));
  json_object_set_new (o, "attributes", op_number (set->attributes));
  json_object_set_new (o, "provider",
                       op_proto_id (&provider_of (&snapshot->id)->id));
  json_object_set_new (o, "state", json_integer (VSS_SS_CREATED));
  json_object_set_new (o, "device", op_text (device));
  json_object_set_new (o, "alive", json_boolean (alive));
  if (!alive) {
    json_object_set_new (o, "end", json_string (end_name (snapshot->end)));
    json_object_set_new (o, "reason",
                         op_text (cow_snapshot_end_text (snapshot->end)));
  }
  json_object_set_new (o, "exceptions", op_number (snapshot->exceptions));
  return o;
}

static json_t *
show_set (const struct filter *f, const struct cow_set_info *set)
{
  const bool auto_release =
    f->auto_release_count > 0 &&
    bsearch (&set->id, f->auto_release, f->auto_release_count, sizeof set->id,
             id_compare) != NULL;
  json_t *o = json_object (), *snapshots = json_array ();
  json_t *note = note_of (&set->id);

  json_object_set_new (o, "set", op_id (&set->id));
  json_object_set_new (o, "label", op_text (set->label));
  json_object_set_new (o, "context", op_number (set->attributes));
  json_object_set_new (o, "persistent", json_boolean (set->persistent));
  json_object_set_new (o, "auto_release", json_boolean (auto_release));
  json_object_set_new (o, "number", op_number (set->number));
  json_object_set_new (o, "created", op_number (set->created_wall_ns));
  json_object_set_new (o, "hold_ns", op_number (set->hold_ns));
  json_object_set_new (o, "settle_ns", op_number (set->settle_ns));
  json_object_set_new (o, "count", json_integer (set->count));
  json_object_set_new (o, "machine", op_text (op_machine));
  json_object_set (o, "consistency", json_object_get (note, "consistency"));
  if (json_object_get (note, "writers"))
    json_object_set (o, "writers", json_object_get (note, "writers"));
  for (unsigned i = 0; i < set->count; ++i)
    if (!f->by_snapshot ||
        cow_id_equal (&set->snapshots[i].id, &f->snapshot))
      json_array_append_new (snapshots,
                             show_snapshot (set, &set->snapshots[i]));
  json_object_set_new (o, "snapshots", snapshots);
  if (set->state == COW_SET_UNDECIDED) {
    json_object_set (o, "home", json_object_get (note, "home"));
    json_object_set (o, "home_uri", json_object_get (note, "home_uri"));
  }
  json_decref (note);
  return o;
}

static bool
wanted (const struct filter *f, const struct cow_set_info *set)
{
  if (!proto_context_shows (f->context, set->attributes))
    return false;
  if (f->by_set && !cow_id_equal (&set->id, &f->set))
    return false;
  if (!f->by_snapshot)
    return true;
  for (unsigned i = 0; i < set->count; ++i)
    if (cow_id_equal (&set->snapshots[i].id, &f->snapshot))
      return true;
  return false;
}

/* All sets, or the one that was asked for: that is much shorter. */
static int
get_sets (const struct filter *f, struct cow_set_info **sets, size_t *count)
{
  int r;

  if (!f->by_set)
    return cow_engine_sets (engine, sets, count);
  *count = 0;
  *sets = malloc (sizeof **sets);
  if (*sets == NULL)
    return -ENOMEM;
  r = cow_engine_find_set (engine, &f->set, *sets);
  if (r == 0)
    *count = 1;
  return r == -ENOENT ? 0 : r;
}

void
op_query (struct request *q)
{
  CLEANUP_FREE struct cow_set_info *sets = NULL;
  CLEANUP_FREE struct cow_id *auto_release = NULL;
  struct filter f = { .context = VSS_CTX_ALL };
  struct proto_id set, snapshot;
  json_t *list;
  size_t count;
  int r;

  if (!op_get_bits (q, "context", &f.context) ||
      !op_opt_id (q, "set", &set, &f.by_set) ||
      !op_opt_id (q, "snapshot", &snapshot, &f.by_snapshot))
    return;
  if (f.by_set)
    f.set = id_to_cow (&set);
  if (f.by_snapshot)
    f.snapshot = id_to_cow (&snapshot);
  r = sessions_auto_release (&auto_release, &f.auto_release_count);
  if (r == 0)
    r = get_sets (&f, &sets, &count);
  if (r < 0) {
    op_fail_engine (q, r == -ENOMEM ? E_OUTOFMEMORY : VSS_E_UNEXPECTED,
                    "query", r, NULL);
    return;
  }
  f.auto_release = auto_release;
  list = json_array ();
  for (size_t i = 0; i < count; ++i)
    if (wanted (&f, &sets[i]))
      json_array_append_new (list, show_set (&f, &sets[i]));
  op_put (q, "sets", list);
}

/* Those of which another server knows whether they are. */
void
op_undecided (struct request *q)
{
  CLEANUP_FREE struct cow_set_info *sets = NULL;
  const struct filter f = { .context = VSS_CTX_ALL };
  json_t *list = json_array ();
  size_t count = 0;
  int r = cow_engine_undecided_sets (engine, &sets, &count);

  for (size_t i = 0; i < count; ++i)
    json_array_append_new (list, show_set (&f, &sets[i]));
  op_put (q, "sets", list);
  if (r < 0)
    op_fail_engine (q, E_OUTOFMEMORY, "undecided", r, NULL);
}

/* ---------------------------------------------------------------- delete */

static void
deleted (struct request *q, unsigned count, const struct cow_id *nondeleted)
{
  static const struct cow_id null;

  op_put (q, "deleted", json_integer (count));
  op_put (q, "nondeleted", op_id (nondeleted ? nondeleted : &null));
}

static void
delete_failed (struct request *q, const char *what, const struct cow_id *id,
               int r)
{
  char text[COW_ID_TEXT_SIZE];

  cow_id_format (id, text);
  if (r == -ENOENT)
    op_fail (q, VSS_E_OBJECT_NOT_FOUND, "%s %s: there is none of that id; "
             "cowset list shows what there is", what, text);
  else
    op_fail_engine (q, VSS_E_UNEXPECTED, what, r, NULL);
}

/* Its provider first, who may refuse. */
static bool
let_delete (struct request *q, const struct cow_snapshot_info *snapshot)
{
  struct cow_error err = COW_ERROR_INIT;
  cowset_hresult hr = provider_delete (provider_of (&snapshot->id),
                                       &snapshot->id, snapshot->volume, &err);
  char text[COW_ID_TEXT_SIZE];

  if (COWSET_SUCCEEDED (hr))
    return true;
  cow_id_format (&snapshot->id, text);
  op_fail (q, hr, "delete snapshot %s: %s; %s", text, err.text,
           proto_result_advice (hr));
  return false;
}

/* Whether a provider other than cow has to be asked. */
static bool
asks_provider (const struct cow_set_info *set)
{
  for (unsigned i = 0; i < set->count; ++i)
    if (provider_of (&set->snapshots[i].id)->ops->delete)
      return true;
  return false;
}

/* One by one, up to the first that can't be: the requester learns how many
 * went, and which did not.  False if that came to an end.
 */
static bool
delete_members (struct request *q, const struct cow_set_info *set,
                unsigned *count)
{
  for (unsigned i = 0; i < set->count; ++i) {
    const struct cow_snapshot_info *snapshot = &set->snapshots[i];

    if (snapshot->end == COW_DELETED)
      continue;
    if (!let_delete (q, snapshot)) {
      deleted (q, *count, &snapshot->id);
      return false;
    }
    if (cow_engine_delete_snapshot (engine, &snapshot->id) == 0)
      ++*count;                 /* else somebody else was quicker */
  }
  return true;
}

static void
delete_set (struct request *q, const struct cow_id *id)
{
  CLEANUP_FREE struct cow_set_info *set = malloc (sizeof *set);
  unsigned count = 0;
  int r = set ? cow_engine_find_set (engine, id, set) : -ENOMEM;

  if (r == 0)
    r = decide_keep (id);
  if (r < 0) {
    delete_failed (q, "delete set", id, r);
    return;
  }
  if (!asks_provider (set))
    for (unsigned i = 0; i < set->count; ++i)
      count += set->snapshots[i].end != COW_DELETED;
  else if (!delete_members (q, set, &count))
    return;
  r = cow_engine_delete_set (engine, id);
  /* -ENOENT: it went with the last of them. */
  if (r < 0 && (r != -ENOENT || count == 0))
    delete_failed (q, "delete set", id, r);
  else
    deleted (q, count, NULL);
}

static bool
find_snapshot (const struct cow_id *id, struct cow_snapshot_info *out,
               struct cow_id *set)
{
  CLEANUP_FREE struct cow_set_info *sets = NULL;
  size_t count = 0;

  if (cow_engine_sets (engine, &sets, &count) < 0)
    return false;
  for (size_t i = 0; i < count; ++i)
    for (unsigned k = 0; k < sets[i].count; ++k)
      if (cow_id_equal (&sets[i].snapshots[k].id, id)) {
        *out = sets[i].snapshots[k];
        *set = sets[i].id;
        return true;
      }
  return false;
}

static void
delete_snapshot (struct request *q, const struct cow_id *id)
{
  struct cow_snapshot_info snapshot;
  struct cow_id set;
  const bool found = find_snapshot (id, &snapshot, &set);
  int r = 0;

  if (found && snapshot.end != COW_DELETED && !let_delete (q, &snapshot)) {
    deleted (q, 0, id);
    return;
  }
  /* The set may go with it. */
  if (found)
    r = decide_keep (&set);
  if (r == 0)
    r = cow_engine_delete_snapshot (engine, id);
  if (r == 0)
    deleted (q, 1, NULL);
  else
    delete_failed (q, "delete snapshot", id, r);
}

void
op_delete (struct request *q)
{
  struct proto_id proto;
  struct cow_id id;
  const char *type;
  bool force = false;

  if (!op_get_text (q, "type", &type) || !op_get_id (q, "id", &proto) ||
      !op_opt_bool (q, "force", &force))
    return;
  id = id_to_cow (&proto);
  if (strcmp (type, "set") == 0)
    delete_set (q, &id);
  else if (strcmp (type, "snapshot") == 0)
    delete_snapshot (q, &id);
  else
    op_fail (q, E_INVALIDARG,
             "member \"type\": must be \"set\" or \"snapshot\"");
}

/* ------------------------------------------------------------- providers */

void
op_providers (struct request *q)
{
  json_t *list = json_array ();
  struct provider *p;

  for (unsigned i = 0; (p = provider_at (i)) != NULL; ++i) {
    json_t *o = json_object ();

    json_object_set_new (o, "id", op_proto_id (&p->id));
    json_object_set_new (o, "name", json_string (p->name));
    json_object_set_new (o, "type", json_integer (p->type));
    json_object_set_new (o, "version", json_string (PACKAGE_VERSION));
    json_array_append_new (list, o);
  }
  op_put (q, "providers", list);
}
