/* fuzz-answer.c - any JSON at all, taken for what a server answers.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The input is the "result" of every answer; each call that reads one is made,
 * and everything that it hands out is looked at.
 */
#include <config.h>

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "object.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

struct fuzz_server {
  struct req_server base;
  json_t *answer;
};

static cowset_hresult
answer_call (struct req_server *base, json_t *request,
             struct req_cancel *cancel, json_t **result)
{
  struct fuzz_server *server = (struct fuzz_server *) base;

  (void) request;
  (void) cancel;
  if (result)
    *result = json_incref (server->answer);
  return S_OK;
}

static int
lost_fd (struct req_server *server)
{
  (void) server;
  return -1;
}

static void
lose (struct req_server *server)
{
  (void) server;
}

static void
close_server (struct req_server *base)
{
  struct fuzz_server *server = (struct fuzz_server *) base;

  json_decref (server->answer);
  req_server_clear (base);
  free (server);
}

static const struct req_server_ops ops = {
  .call = answer_call,
  .lost_fd = lost_fd,
  .lose = lose,
  .close = close_server,
};

/* Read every byte of a string, for the address sanitizer; NULL is fine. */
static size_t
look (const char *text)
{
  return text ? strlen (text) : 0;
}

static void
look_at_snapshot (const struct cowset_snapshot_prop *p)
{
  assert (p->device && p->uri && p->original_volume &&
          p->originating_machine && p->service_machine);
  look (p->device);
  look (p->uri);
  look (p->original_volume);
  look (p->originating_machine);
  look (p->end);
  look (p->reason);
}

static void
look_at_list (struct cowset *c, enum cowset_object_type type)
{
  struct cowset_object_prop item;
  struct cowset_enum *e;

  if (COWSET_FAILED (cowset_query (c, NULL, VSS_OBJECT_NONE, type, &e)))
    return;
  while (cowset_enum_next (e, 1, &item, NULL) == S_OK) {
    assert (item.type == type);
    if (type == VSS_OBJECT_SNAPSHOT)
      look_at_snapshot (item.u.snapshot);
    else if (type == VSS_OBJECT_PROVIDER)
      look (item.u.provider->name);
    else {
      look (item.u.set->label);
      for (size_t i = 0; i < item.u.set->snapshots; ++i)
        look_at_snapshot (item.u.set->snapshot[i]);
    }
  }
  cowset_enum_free (e);
}

static void
look_at_all (struct cowset *c)
{
  const struct cowset_id id = { { 0x11, 0x11 } };
  struct cowset_snapshot_prop *prop;
  struct cowset_status *status;
  struct cowset_id nondeleted;
  bool supported;
  int32_t deleted;

  look_at_list (c, VSS_OBJECT_SNAPSHOT_SET);
  look_at_list (c, VSS_OBJECT_SNAPSHOT);
  look_at_list (c, VSS_OBJECT_PROVIDER);
  if (COWSET_SUCCEEDED (cowset_get_snapshot_properties (c, &id, &prop))) {
    look_at_snapshot (prop);
    cowset_snapshot_prop_free (prop);
  }
  if (COWSET_SUCCEEDED (cowset_get_status (c, &status))) {
    for (size_t i = 0; i < status->volumes; ++i)
      look (status->volume[i]->uri);
    cowset_status_free (status);
  }
  cowset_is_volume_supported (c, NULL, "a", &supported);
  cowset_delete_snapshots (c, &id, VSS_OBJECT_SNAPSHOT, false, &deleted,
                           &nondeleted);
  cowset_break_snapshot_set (c, &id);
  cowset_revert_to_snapshot (c, &id, false);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  json_t *answer = json_loadb ((const char *) data, size, 0, NULL);
  struct fuzz_server *server;
  struct cowset *c;

  if (answer == NULL)
    return 0;
  server = calloc (1, sizeof *server);
  assert (server);
  server->base.ops = &ops;
  server->base.uri = strdup ("nbd://fuzz");
  server->base.hello = json_incref (answer);
  server->answer = answer;
  if (COWSET_FAILED (req_object_new (&server->base, &c)))
    return 0;
  cowset_initialize_for_backup (c, NULL);
  look_at_all (c);
  cowset_release (c);
  return 0;
}
