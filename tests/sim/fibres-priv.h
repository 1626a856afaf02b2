/* fibres-priv.h - between fibres.c and fibres-explore.c.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SIM_FIBRES_PRIV_H
#define SIM_FIBRES_PRIV_H

#include "sim/fibres.h"
#include "sim/random.h"

/* Who may run next. */
struct fibres_choice {
  uint8_t fibre[FIBRES_MAX];    /* those that can go on, by number */
  unsigned count;               /* at least 1 */
  uint8_t late[FIBRES_MAX];     /* those that wait with a deadline to come */
  unsigned late_count;
  uint8_t current;              /* the one that asks, 0 if it can't go on */
};

/* Takes a fibre of the choice; one of `late` makes the clock jump. */
typedef uint8_t (*fibres_chooser) (const struct fibres_choice *choice);

/* As fibres_begin; chooser NULL: by the seed.  `describe` writes to stderr
 * how a failed run is repeated; it is called from a signal handler, too.
 */
void fibres_begin_by (const struct fibres_options *options,
                      fibres_chooser chooser, void (*describe) (void));

/* Write text to stderr with write(2). */
void fibres_say (const char *text);
void fibres_say_number (uint64_t n);

#endif /* SIM_FIBRES_PRIV_H */
