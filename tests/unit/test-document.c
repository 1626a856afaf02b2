/* test-document.c - the backup components document, written, checked and read.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <string.h>

#include <criterion/criterion.h>

#include "answers.h"
#include "fake-server.h"
#include "fake-writer.h"

static struct fake *f;

static void
setup (void)
{
  f = fake_new ();
}

static void
teardown (void)
{
  fake_free (f);
}

TestSuite (document, .init = setup, .fini = teardown, .timeout = 60);

static cowset_hresult
load (const char *text)
{
  struct cowset *c = fake_object (f);
  const cowset_hresult hr = cowset_initialize_for_restore (c, text);

  cowset_release (c);
  return hr;
}

/* Loads as this says, with a message that has this in it. */
static void
is_invalid (const char *text, const char *message)
{
  cr_assert_eq (load (text), VSS_E_INVALID_XML_DOCUMENT, "%s", text);
  cr_assert (strstr (cowset_error_message (), message), "%s: %s", message,
             cowset_error_message ());
}

static json_t *
valid (void)
{
  json_t *document = json_loads (fake_document, 0, NULL);

  cr_assert (document);
  return document;
}

static void
is_invalid_json (json_t *document, const char *message)
{
  char *text = json_dumps (document, 0);

  is_invalid (text, message);
  free (text);
}

static void
finish (cowset_hresult (*call) (struct cowset *c, struct cowset_async **async),
        struct cowset *c)
{
  struct cowset_async *async;

  OK (call (c, &async));
  OK (cowset_async_wait (async, VSS_INFINITE));
  cowset_async_free (async);
}

/* --------------------------------------------------------------- what is ok */

Test (document, valid_and_with_more_members)
{
  json_t *document = valid ();
  char *text;

  OK (load (fake_document));
  json_object_set_new (document, "later", json_pack ("[[i]]", 1));
  json_object_del (document, "library");
  text = json_dumps (document, 0);
  OK (load (text));
  free (text);
  json_decref (document);
}

Test (document, what_is_loaded_is_given_out)
{
  struct cowset *c = fake_object (f);
  struct cowset_writer_metadata *writer;
  unsigned count;

  OK (cowset_initialize_for_restore (c, fake_document));
  OK (cowset_get_writer_components_count (c, &count));
  cr_assert_eq (count, 1);
  OK (cowset_get_writer_components (c, 0, &writer));
  cr_assert_eq (cowset_get_writer_components (c, 1, &writer),
                VSS_E_OBJECT_NOT_FOUND);
  cowset_release (c);

  /* Only what is in the backup; and it outlives the object. */
  cr_assert_str_eq (writer->name, "app");
  cr_assert_eq (writer->level, VSS_APP_FRONT_END);
  cr_assert_eq (writer->components, 1);
  cr_assert_str_eq (writer->component[0]->name, "kept");
  cr_assert (writer->component[0]->selected);
  cr_assert (writer->component[0]->backup_known);
  cr_assert (writer->component[0]->backup_succeeded);
  cowset_writer_metadata_free (writer);
}

/* A whole backup, of which the document has everything. */
Test (document, saved_and_loaded)
{
  struct cowset *c = fake_object (f), *other = fake_object (f);
  struct fake_writer *w = fake_writer (c, "database \xff");
  struct cowset_writer_metadata *meta;
  struct cowset_id set, snapshot;
  struct cowset_async *async;
  json_t *document;
  char *text;

  OK (cowset_initialize_for_backup (c, NULL));
  OK (cowset_set_label (c, "nightly"));
  OK (cowset_set_backup_state (c, true, false, VSS_BT_FULL, false));
  finish (cowset_gather_writer_metadata, c);
  OK (cowset_add_component (c, fake_writer_instance (w), fake_writer_class (w),
                            VSS_CT_DATABASE, "", "one"));
  OK (cowset_start_snapshot_set (c, &set));
  OK (cowset_add_to_snapshot_set (c, "a", NULL, &snapshot));
  finish (cowset_prepare_for_backup, c);
  OK (cowset_do_snapshot_set (c, &async));
  OK (cowset_async_wait (async, VSS_INFINITE));
  cowset_async_free (async);
  OK (cowset_set_backup_succeeded (c, fake_writer_instance (w),
                                   fake_writer_class (w), VSS_CT_DATABASE,
                                   NULL, "one", false));
  finish (cowset_backup_complete, c);
  OK (cowset_save_document (c, &text));

  document = json_loads (text, 0, NULL);
  cr_assert (json_is_true (json_object_get (document, "complete")));
  cr_assert_str_eq (json_string_value (json_object_get (document, "label")),
                    "nightly");
  cr_assert_eq (json_array_size (json_object_get (document, "snapshots")), 1);
  json_decref (document);

  OK (cowset_initialize_for_backup (other, text));
  OK (cowset_get_writer_components (other, 0, &meta));
  /* A name that is no UTF-8 was made to be. */
  cr_assert_str_eq (meta->name, "database ?");
  cr_assert_eq (meta->components, 1);
  cr_assert_str_eq (meta->component[0]->name, "one");
  cr_assert (meta->component[0]->backup_known);
  cr_assert_not (meta->component[0]->backup_succeeded);
  cowset_writer_metadata_free (meta);
  free (text);
  cowset_release (other);
  cowset_release (c);
}

/* -------------------------------------------------------------- what is not */

Test (document, no_document)
{
  is_invalid ("", "not JSON");
  is_invalid ("<not xml", "not JSON");
  is_invalid ("[]", "not a backup components document");
  is_invalid ("null", "not JSON");
  is_invalid ("{}", "not a backup components document");
  is_invalid ("{\"format\":\"cowset-backup-components\",\"version\":2}",
              "another version");
  is_invalid ("{\"format\":\"cowset-backup-components\",\"version\":\"1\"}",
              "another version");
  is_invalid ("{\"format\":\"cowset-backup-components\",\"version\":1}",
              "\"context\" is missing");
}

/* Each member, at every depth: missing, and of another type. */
static void
spoil_members (json_t *document, json_t *json)
{
  json_t *names = json_copy (json), *value, *copy;
  const char *name;
  size_t i;

  json_object_foreach (names, name, value) {
    if (strcmp (name, "succeeded") != 0) {
      json_object_del (json, name);
      is_invalid_json (document, strcmp (name, "format") == 0 ? "format" :
                       strcmp (name, "version") == 0 ? "version" :
                       "is missing");
    }
    json_object_set_new (json, name, json_real (0.5));
    is_invalid_json (document, strcmp (name, "version") == 0 ? "version"
                                                             : name);
    json_object_set (json, name, value);
    spoil_members (document, value);
  }
  json_decref (names);
  json_array_foreach (json, i, value) {
    copy = json_incref (value);
    json_array_set_new (json, i, json_integer (1));
    is_invalid_json (document, "is not an object");
    json_array_set (json, i, copy);
    spoil_members (document, copy);
    json_decref (copy);
  }
}

Test (document, every_member_is_needed_and_has_its_type)
{
  json_t *document = valid ();

  spoil_members (document, document);
  OK (load (fake_document));
  json_decref (document);
}

/* Both sides of each limit. */
static const struct {
  const char *list, *member;    /* of the first item, or of the document */
  json_int_t low, high;
} numbers[] = {
  { "writers", "level", VSS_APP_AUTO, VSS_APP_SYSTEM_RM },
  { "writers", "usage", 0, 4 },
  { "writers", "source", 0, 3 },
  { "writers", "state", 0, 15 },
  { "writers", "failure", INT32_MIN, INT32_MAX },
  { NULL, "type", 0, 6 },
};

Test (document, numbers_have_limits)
{
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; ++i) {
    json_t *document = valid ();
    json_t *in = numbers[i].list ?
      json_array_get (json_object_get (document, numbers[i].list), 0) :
      json_object_get (document, "backup");
    const json_int_t tries[] = { numbers[i].low, numbers[i].high,
                                 numbers[i].low - 1, numbers[i].high + 1 };

    for (int k = 0; k < 4; ++k) {
      char *text;

      json_object_set_new (in, numbers[i].member, json_integer (tries[k]));
      text = json_dumps (document, 0);
      cr_assert_eq (load (text), k < 2 ? S_OK : VSS_E_INVALID_XML_DOCUMENT,
                    "%s %lld", numbers[i].member, (long long) tries[k]);
      free (text);
    }
    json_decref (document);
  }
}

Test (document, contexts_in_which_no_set_is_made)
{
  static const json_int_t bad[] = { 5, -1, UINT32_MAX, 0x100000000, 0x60000 };

  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    json_t *document = valid ();

    json_object_set_new (document, "context", json_integer (bad[i]));
    is_invalid_json (document, "context");
    json_decref (document);
  }
}

Test (document, too_many_and_too_long)
{
  json_t *document = valid ();
  json_t *snapshots = json_object_get (document, "snapshots");
  char *big = malloc (17 * 1024 * 1024 + 1);

  for (int i = 0; i < 64; ++i)
    json_array_append_new (snapshots,
                           json_deep_copy (json_array_get (snapshots, 0)));
  is_invalid_json (document, "\"snapshots\" has too many items");
  json_array_remove (snapshots, 64);
  is_invalid_json (document, "\"snapshots[1]\" is there twice");
  json_decref (document);

  cr_assert (big);
  memset (big, 'x', 65);
  big[65] = '\0';
  document = valid ();
  json_object_set_new (document, "label", json_string (big));
  is_invalid_json (document, "\"label\" is too long");
  json_object_set_new (document, "label", json_string ("a/b"));
  is_invalid_json (document, "\"label\" is not a label");
  json_decref (document);

  memset (big, ' ', 17 * 1024 * 1024);
  big[17 * 1024 * 1024] = '\0';
  is_invalid (big, "longer than");
  /* Nested deeper than any parser's stack. */
  memset (big, '[', 1024 * 1024);
  big[1024 * 1024] = '\0';
  is_invalid (big, "not JSON");
  free (big);
}

Test (document, texts_that_are_no_texts)
{
  json_t *document = valid ();
  char *text, *at;

  /* The same name twice; bytes that are no UTF-8; a null byte. */
  text = json_dumps (document, 0);
  at = strstr (text, "\"label\"");
  cr_assert (at);
  memcpy (at + 1, "conte", 5);
  is_invalid (text, "missing");
  at = strstr (text, "nightly");
  *at = '\xff';
  is_invalid (text, "not JSON");
  free (text);
  is_invalid ("{\"format\":\"cowset-backup-components\",\"version\":1,"
              "\"version\":1}", "not JSON");
  is_invalid ("{\"format\":\"cowset-backup-components\\u0000\"}", "not JSON");
  json_decref (document);
}
