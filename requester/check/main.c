/* main.c - cowset-check: verify a store that no server has open.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static struct options {
  bool json, repair, dump, quiet;
  const char *directory;
} options;

static void
usage (FILE *to)
{
  fputs ("usage: cowset-check [--json] [--quiet] [--repair] STORE\n"
         "       cowset-check dump STORE\n"
         "STORE is the directory that the server is given as store=.\n",
         to);
}

/* Status, or -1 to go on. */
static int
parse (int argc, char *argv[])
{
  static const struct option longs[] = {
    { "help", no_argument, NULL, 'h' },
    { "json", no_argument, NULL, 'j' },
    { "quiet", no_argument, NULL, 'q' },
    { "repair", no_argument, NULL, 'r' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
  };
  int c;

  while ((c = getopt_long (argc, argv, "hjqrV", longs, NULL)) != -1)
    switch (c) {
    case 'h':
      usage (stdout);
      return STATUS_CLEAN;
    case 'j':
      options.json = true;
      break;
    case 'q':
      options.quiet = true;
      break;
    case 'r':
      options.repair = true;
      break;
    case 'V':
      puts (PACKAGE_STRING);
      return STATUS_CLEAN;
    default:
      usage (stderr);
      return STATUS_USAGE;
    }
  if (argc - optind == 2 && strcmp (argv[optind], "dump") == 0) {
    options.dump = true;
    optind++;
  }
  if (argc - optind != 1 || (options.dump && options.repair)) {
    usage (stderr);
    return STATUS_USAGE;
  }
  options.directory = argv[optind];
  return -1;
}

static int
check (struct image *im, struct report *report, struct cow_error *err)
{
  int rc = image_open (im, options.directory, options.repair, report, err);

  if (rc == 0)
    rc = verify_marks (im);
  if (rc == 0)
    rc = verify_segments (im);
  if (rc == 0)
    rc = verify_meaning (im);
  if (rc == 0)
    rc = verify_unused (im);
  /* Said in the report. */
  if (rc == -EUCLEAN)
    return 0;
  return rc < 0 ? cow_error_set (err, rc, "%s: %s", options.directory,
                                 strerror (-rc))
                : 0;
}

int
main (int argc, char *argv[])
{
  struct cow_error err = COW_ERROR_INIT;
  struct report report = { .kept = 0 };
  struct image im;
  int status = parse (argc, argv);

  if (status >= 0)
    return status;
  if (check (&im, &report, &err) < 0) {
    fprintf (stderr, "cowset-check: %s\n", err.text);
    status = STATUS_UNKNOWN;
  } else {
    status = report_status (&report);
    if (options.dump)
      print_dump (&im, stdout);
    else if (options.json)
      print_json (&im, status, stdout);
    else if (!options.quiet)
      print_text (&im, stdout);
  }
  image_close (&im);
  report_clear (&report);
  if (fflush (stdout) != 0 || ferror (stdout)) {
    fprintf (stderr, "cowset-check: writing: %s\n", strerror (errno));
    return STATUS_UNKNOWN;
  }
  return status;
}
