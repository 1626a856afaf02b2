/* conformance.c - runs the rows, and counts.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 *   conformance [ROW...]    all, or these
 *   conformance --table     what each is, as text
 */
#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conformance.h"

#define ROWS 120
#define ROW_SECONDS 120         /* no healthy row comes near */

static const struct row *const sections[] = {
  life_rows, writer_rows, building_rows, making_rows, async_rows, after_rows,
  deletion_rows, NULL,
};

static const struct row *rows[ROWS + 1];

static const char *const kinds[] = {
  [REAL] = "real", [SCRIPTED] = "scripted", [NOW] = "now", [OPEN] = "open",
  [OUTSIDE] = "outside",
};

/* Every row, once. */
static void
collect (void)
{
  for (size_t s = 0; sections[s]; ++s)
    for (const struct row *row = sections[s]; row->number; ++row) {
      if (row->number < 1 || row->number > ROWS || rows[row->number]) {
        fprintf (stderr, "row %d: there twice, or no row\n", row->number);
        exit (EXIT_FAILURE);
      }
      if ((row->run == NULL && row->kind < OPEN) ||
          (row->run != NULL && row->kind == OUTSIDE) ||
          (row->why == NULL) != (row->kind == REAL)) {
        fprintf (stderr, "row %d: its kind and the rest do not agree\n",
                 row->number);
        exit (EXIT_FAILURE);
      }
      rows[row->number] = row;
    }
  for (int i = 1; i <= ROWS; ++i)
    if (rows[i] == NULL) {
      fprintf (stderr, "row %d is missing\n", i);
      exit (EXIT_FAILURE);
    }
}

static bool
has_server (const char *name)
{
  char variable[64];

  snprintf (variable, sizeof variable, "SERVER_%s", name);
  return getenv (variable) != NULL;
}

/* In a process of its own: a crash, a hang or a failure is that row's. */
static bool
run (const struct row *row)
{
  int status;
  pid_t pid;

  fflush (stdout);
  pid = fork ();
  if (pid == -1) {
    perror ("fork");
    return false;
  }
  if (pid == 0) {
    alarm (ROW_SECONDS);
    row->run ();
    /* With all that ends with a process, the leak checker too. */
    exit (EXIT_SUCCESS);
  }
  while (waitpid (pid, &status, 0) == -1)
    if (errno != EINTR)
      return false;
  if (WIFSIGNALED (status))
    printf ("      ended by %s\n", strsignal (WTERMSIG (status)));
  return WIFEXITED (status) && WEXITSTATUS (status) == 0;
}

static int
print_table (void)
{
  for (int i = 1; i <= ROWS; ++i)
    printf ("%3d  %-8s  %s%s%s%s\n", i, kinds[rows[i]->kind], rows[i]->text,
            rows[i]->why ? " (" : "", rows[i]->why ? rows[i]->why : "",
            rows[i]->why ? ")" : "");
  return EXIT_SUCCESS;
}

static bool
chosen (int number, int argc, char *argv[])
{
  if (argc < 2)
    return true;
  for (int i = 1; i < argc; ++i)
    if (atoi (argv[i]) == number)
      return true;
  return false;
}

int
main (int argc, char *argv[])
{
  unsigned passed = 0, failures = 0, open = 0, outside = 0;

  collect ();
  if (argc == 2 && strcmp (argv[1], "--table") == 0)
    return print_table ();
  for (int i = 1; i <= ROWS; ++i) {
    const struct row *row = rows[i];

    if (!chosen (i, argc, argv))
      continue;
    if (row->kind == OUTSIDE) {
      printf ("row %3d  outside  %s: %s\n", i, row->text, row->why);
      outside++;
    }
    else if (row->kind == OPEN || (row->needs && !has_server (row->needs))) {
      /* run-tests asks tests/allowed-skips about it. */
      printf ("row %3d  open     %s\n[SKIP] row %d: %s\n", i, row->text, i,
              row->kind == OPEN ? row->why : "needs a server with a store");
      open++;
    }
    else if (run (row)) {
      printf ("row %3d  pass     %s%s%s%s\n", i, row->text,
              row->why ? " [" : "", row->why ? kinds[row->kind] : "",
              row->why ? "]" : "");
      passed++;
    }
    else {
      printf ("row %3d  FAIL     %s\n", i, row->text);
      failures++;
    }
  }
  printf ("%u passed, %u failed, %u open, %u outside\n", passed, failures,
          open, outside);
  printf ("Counts: Tested: %u | Passing: %u\n", passed + failures, passed);
  return failures || passed == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
