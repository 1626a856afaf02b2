/* mutant.c - which planted bug is at work.  See mutant.h.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include "base/mutant.h"

#ifdef COW_MUTANTS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum cow_mutant cow_mutant;

/* Before main; an unknown name is an end. */
static void __attribute__ ((constructor))
choose (void)
{
  static const char *const names[] = {
    "",
#define X(name, what) #name,
    COW_MUTANTS_LIST (X)
#undef X
  };
  const char *wanted = getenv ("COWSET_MUTANT");

  if (wanted == NULL)
    return;
  for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp (names[i], wanted) == 0) {
      cow_mutant = (enum cow_mutant) i;
      return;
    }
  fprintf (stderr, "COWSET_MUTANT=%s: no such mutant\n", wanted);
  exit (99);
}
#else
typedef int cow_mutant_is_empty;        /* ISO C wants a declaration */
#endif
