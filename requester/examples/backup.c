/* backup.c - copy volumes of a server as they were at one instant.
 *
 *   backup nbd+unix:///?socket=/run/disks.sock /srv/backup root data
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <cowset.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char **environ;

static void
check (const char *what, cowset_hresult hr)
{
  if (COWSET_SUCCEEDED (hr))
    return;
  fprintf (stderr, "%s: %s: %s\n", what, cowset_result_name (hr),
           cowset_error_message ());
  exit (EXIT_FAILURE);          /* the server aborts an unfinished set */
}

static int
copy (const struct cowset_snapshot_prop *snapshot, const char *dir)
{
  char path[4096];
  char *argv[] = { (char *) "nbdcopy", (char *) snapshot->uri, path, NULL };
  int status;
  pid_t pid;

  snprintf (path, sizeof path, "%s/%s.img", dir, snapshot->original_volume);
  return posix_spawnp (&pid, argv[0], NULL, NULL, argv, environ) == 0 &&
         waitpid (pid, &status, 0) == pid && status == 0;
}

int
main (int argc, char *argv[])
{
  struct cowset_id set, snapshots[64];
  struct cowset_async *async;
  struct cowset *c;
  int failures = 0;

  if (argc < 4 || argc - 3 > 64)
    return EXIT_FAILURE;
  check ("connect", cowset_create (argv[1], &c));
  check ("initialize", cowset_initialize_for_backup (c, NULL));
  check ("context", cowset_set_context (c, VSS_CTX_FILE_SHARE_BACKUP));
  check ("start", cowset_start_snapshot_set (c, &set));
  for (int i = 3; i < argc; ++i)
    check (argv[i], cowset_add_to_snapshot_set (c, argv[i], NULL,
                                                &snapshots[i - 3]));
  check ("make", cowset_do_snapshot_set (c, &async));
  check ("make", cowset_async_wait (async, VSS_INFINITE));
  cowset_async_free (async);

  for (int i = 3; i < argc; ++i) {
    struct cowset_snapshot_prop *snapshot;

    check (argv[i], cowset_get_snapshot_properties (c, &snapshots[i - 3],
                                                    &snapshot));
    failures += !copy (snapshot, argv[2]);
    cowset_snapshot_prop_free (snapshot);
  }
  cowset_release (c);           /* and so the snapshots go */
  return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
