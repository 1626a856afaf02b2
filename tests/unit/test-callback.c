/* test-callback.c - writers that are functions of the program: what they see,
 * what comes of one that fails or is late, and their components.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "answers.h"
#include "fake-server.h"

static struct fake *f;

/* A writer of the test. */
struct app {
  enum cowset_writer_event at;  /* where it does as it should not: */
  cowset_hresult failure;
  unsigned late_ms;

  pthread_mutex_t lock;
  char seen[256];               /* lock; a letter an event */
  struct cowset_id set;         /* lock; of the last */
};

static struct app app;

static void
setup (void)
{
  f = fake_new ();
  memset (&app, 0, sizeof app);
  app.at = (enum cowset_writer_event) -1;
  pthread_mutex_init (&app.lock, NULL);
}

static void
teardown (void)
{
  fake_free (f);
  pthread_mutex_destroy (&app.lock);
}

TestSuite (callback, .init = setup, .fini = teardown, .timeout = 60);

static cowset_hresult
on_event (void *opaque, enum cowset_writer_event event,
          const struct cowset_id *set)
{
  static const char letters[] = "IBSFTPCAD";
  struct app *a = opaque;
  const struct timespec late = { a->late_ms / 1000,
                                 a->late_ms % 1000 * 1000000L };

  pthread_mutex_lock (&a->lock);
  a->seen[strlen (a->seen)] = letters[event];
  if (event != COWSET_ON_IDENTIFY && event != COWSET_ON_BACKUP_SHUTDOWN)
    a->set = *set;
  pthread_mutex_unlock (&a->lock);
  if (event != a->at)
    return S_OK;
  nanosleep (&late, NULL);
  return a->failure;
}

static const struct cowset_writer_component components[] = {
  { VSS_CT_DATABASE, "top/half", "main", "the main one" },
  { VSS_CT_FILEGROUP, NULL, "logs", NULL },
};

static struct cowset_writer
description (void)
{
  struct cowset_writer w = {
    .name = "app",
    .level = VSS_APP_FRONT_END,
    .consistency = COWSET_CONSISTENCY_APPLICATION,
    .components = components,
    .component_count = 2,
    .event = on_event,
    .opaque = &app,
  };

  cr_assert (cowset_id_parse ("99999999-1111-4111-8111-111111111111",
                              &w.class_id));
  return w;
}

static cowset_hresult
finished (cowset_hresult (*call) (struct cowset *c,
                                  struct cowset_async **async),
          struct cowset *c)
{
  cowset_hresult status = S_OK;
  struct cowset_async *async;

  OK (call (c, &async));
  cowset_async_wait (async, VSS_INFINITE);
  OK (cowset_async_query_status (async, &status));
  cowset_async_free (async);
  return status;
}

/* An object with this writer, up to where DoSnapshotSet may come. */
static struct cowset *
prepared (const struct cowset_writer *w, enum cowset_writer_policy policy)
{
  struct cowset *c = fake_object (f);
  struct cowset_writer_metadata *m;
  struct cowset_id set, snapshot;

  OK (cowset_initialize_for_backup (c, NULL));
  OK (cowset_set_writer_policy (c, policy));
  OK (cowset_add_callback_writer (c, w));
  OK (cowset_set_backup_state (c, true, false, VSS_BT_FULL, false));
  IS (finished (cowset_gather_writer_metadata, c), VSS_S_ASYNC_FINISHED);
  OK (cowset_get_writer_metadata (c, 0, &m));
  OK (cowset_add_component (c, &m->instance_id, &m->writer_id,
                            VSS_CT_DATABASE, "top/half", "main"));
  cowset_writer_metadata_free (m);
  OK (cowset_start_snapshot_set (c, &set));
  OK (cowset_add_to_snapshot_set (c, "a", NULL, &snapshot));
  IS (finished (cowset_prepare_for_backup, c), VSS_S_ASYNC_FINISHED);
  return c;
}

static bool
saw (const char *events)
{
  bool same;

  pthread_mutex_lock (&app.lock);
  same = strcmp (app.seen, events) == 0;
  if (!same)
    cr_log_error ("it saw %s, not %s", app.seen, events);
  pthread_mutex_unlock (&app.lock);
  return same;
}

Test (callback, says_who_it_is)
{
  const struct cowset_writer w = description ();
  struct cowset *c = prepared (&w, COWSET_WRITERS_AS_VSS);
  struct cowset_writer_metadata *m;
  unsigned count;

  OK (cowset_get_writer_metadata_count (c, &count));
  cr_assert_eq (count, 1);
  OK (cowset_get_writer_metadata (c, 0, &m));
  cr_assert_str_eq (m->name, "app");
  cr_assert_str_eq (m->kind, "callback");
  cr_assert (cowset_id_equal (&m->writer_id, &w.class_id));
  cr_assert_eq (m->level, VSS_APP_FRONT_END);
  cr_assert_eq (m->components, 2);
  cr_assert_eq (m->component[0]->type, VSS_CT_DATABASE);
  cr_assert_str_eq (m->component[0]->logical_path, "top/half");
  cr_assert_str_eq (m->component[0]->name, "main");
  cr_assert_str_eq (m->component[0]->caption, "the main one");
  cr_assert (m->component[0]->selected);
  cr_assert_eq (m->component[1]->type, VSS_CT_FILEGROUP);
  cr_assert_str_eq (m->component[1]->logical_path, "");
  cr_assert_str_eq (m->component[1]->caption, "");
  cr_assert_not (m->component[1]->selected);
  cowset_writer_metadata_free (m);
  cowset_release (c);
}

/* What the set keeps of it is what it has answered. */
Test (callback, sees_each_event_in_order_and_is_kept_with_the_set)
{
  const struct cowset_writer w = description ();
  struct cowset *c = prepared (&w, COWSET_WRITERS_AS_VSS);
  json_t *note, *kept;

  IS (finished (cowset_do_snapshot_set, c), VSS_S_ASYNC_FINISHED);
  cr_assert (saw ("IBSFTP"));
  cr_assert_not (cowset_id_is_null (&app.set));
  IS (finished (cowset_backup_complete, c), VSS_S_ASYNC_FINISHED);
  note = fake_last (f, "set.note");
  cr_assert_str_eq (json_string_value (json_object_get (note, "consistency")),
                    "application");
  kept = json_array_get (json_object_get (note, "writers"), 0);
  cr_assert_str_eq (json_string_value (json_object_get (kept, "name")), "app");
  cr_assert_str_eq (json_string_value (json_object_get (kept, "kind")),
                    "callback");
  cr_assert_eq (json_integer_value (json_object_get (kept, "failure")), S_OK);
  cr_assert_eq (json_array_size (json_object_get (kept, "components")), 2);
  cowset_release (c);
  cr_assert (saw ("IBSFTPCD"));
}

static void
fail_at (enum cowset_writer_event at, enum cowset_writer_policy policy,
         cowset_hresult says, cowset_hresult status, const char *events)
{
  const struct cowset_writer w = description ();
  struct cowset_writer_status *s;
  struct cowset *c;

  memset (app.seen, 0, sizeof app.seen);
  app.at = at;
  app.failure = says;
  c = prepared (&w, policy);
  IS (finished (cowset_do_snapshot_set, c), status);
  cr_assert (saw (events));
  IS (finished (cowset_gather_writer_status, c), VSS_S_ASYNC_FINISHED);
  OK (cowset_get_writer_status (c, 0, &s));
  cr_assert_neq (s->failure, S_OK);
  cr_assert_eq (s->failure, COWSET_FAILED (says) &&
                  says != E_FAIL ? says : VSS_E_WRITERERROR_NONRETRYABLE);
  cowset_writer_status_free (s);
  cowset_release (c);
  cr_assert_eq (fake_open_sets (f), 0);
}

Test (callback, that_fails_in_its_freeze_is_told_to_abort)
{
  fail_at (COWSET_ON_FREEZE, COWSET_WRITERS_AS_VSS,
           VSS_E_WRITERERROR_RETRYABLE, VSS_E_UNEXPECTED, "IBSFA");
  cr_assert_eq (fake_finished_sets (f), 0);
  fail_at (COWSET_ON_FREEZE, COWSET_WRITERS_AS_VSS, E_FAIL, VSS_E_UNEXPECTED,
           "IBSFA");
}

Test (callback, that_fails_may_leave_the_set_crash_consistent)
{
  fail_at (COWSET_ON_FREEZE, COWSET_WRITERS_OPTIONAL,
           VSS_E_WRITERERROR_TIMEOUT, VSS_S_ASYNC_FINISHED, "IBSFA");
  cr_assert_str_eq (json_string_value (json_object_get (fake_last (
    f, "set.note"), "consistency")), "crash");
}

Test (callback, of_transactions_has_codes_of_its_own)
{
  struct cowset_writer w = description ();
  struct cowset *c;

  w.level = VSS_APP_SYSTEM_RM;
  app.at = COWSET_ON_THAW;
  app.failure = VSS_E_WRITERERROR_TIMEOUT;
  c = prepared (&w, COWSET_WRITERS_AS_VSS);
  IS (finished (cowset_do_snapshot_set, c), VSS_E_TRANSACTION_THAW_TIMEOUT);
  cowset_release (c);
  cr_assert_eq (fake_finished_sets (f), 0);
}

/* It is given up; its return is waited for at the release. */
Test (callback, that_is_late_is_given_up)
{
  struct cowset_writer w = description ();
  struct cowset *c;

  w.freeze_timeout_ms = 200;
  app.at = COWSET_ON_FREEZE;
  app.late_ms = 2000;
  c = prepared (&w, COWSET_WRITERS_AS_VSS);
  cr_assert (COWSET_FAILED (finished (cowset_do_snapshot_set, c)));
  cr_assert_eq (fake_finished_sets (f) + fake_open_sets (f), 0);
  cowset_release (c);
  pthread_mutex_lock (&app.lock);
  cr_assert (strchr (app.seen, 'A') != NULL, "it saw %s", app.seen);
  pthread_mutex_unlock (&app.lock);
}

Test (callback, that_makes_no_sense_is_refused)
{
  static const struct cowset_writer_component nameless = { .type =
                                                             VSS_CT_DATABASE };
  struct cowset *c = fake_object (f);
  struct cowset_writer w = description ();

  IS (cowset_add_callback_writer (c, &w), VSS_E_BAD_STATE);
  OK (cowset_initialize_for_backup (c, NULL));
  IS (cowset_add_callback_writer (NULL, &w), E_INVALIDARG);
  IS (cowset_add_callback_writer (c, NULL), E_INVALIDARG);
  w.event = NULL;
  IS (cowset_add_callback_writer (c, &w), E_INVALIDARG);
  w = description ();
  w.name = "";
  IS (cowset_add_callback_writer (c, &w), E_INVALIDARG);
  w = description ();
  w.level = (enum cowset_application_level) 77;
  IS (cowset_add_callback_writer (c, &w), E_INVALIDARG);
  w = description ();
  w.components = NULL;
  IS (cowset_add_callback_writer (c, &w), E_INVALIDARG);
  w.components = &nameless;
  w.component_count = 1;
  IS (cowset_add_callback_writer (c, &w), E_INVALIDARG);
  w = description ();
  OK (cowset_add_callback_writer (c, &w));
  cowset_release (c);
}
