/* standalone-main.c - runs a fuzz target over files, without libFuzzer.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Each argument is a file, given to the target whole.  So what a fuzzer once
 * found stays tested in builds that have none.
 */
#include <config.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

#define INPUT_MAX ((size_t) 64 << 20)

static int
run_file (const char *path)
{
  uint8_t *data = malloc (INPUT_MAX), *exact;
  FILE *f = fopen (path, "rb");
  size_t len;

  if (f == NULL || data == NULL) {
    fprintf (stderr, "%s: %m\n", path);
    return 1;
  }
  len = fread (data, 1, INPUT_MAX, f);
  if (ferror (f)) {
    fprintf (stderr, "%s: %m\n", path);
    return 1;
  }
  fclose (f);

  /* No byte more than there is, so that the address sanitizer sees the end. */
  exact = realloc (data, len > 0 ? len : 1);
  if (exact == NULL)
    return 1;
  LLVMFuzzerTestOneInput (exact, len);
  free (exact);
  return 0;
}

int
main (int argc, char *argv[])
{
  int status = 0;

  for (int i = 1; i < argc; ++i)
    status |= run_file (argv[i]);
  printf ("%d files\n", argc - 1);
  return argc > 1 ? status : 2;
}
