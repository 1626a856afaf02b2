/* set-priv.h - between set.c and finish.c.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef COW_SET_PRIV_H
#define COW_SET_PRIV_H

#include "set/engine.h"

/* The move to another state; an illegal one is a failed assertion. */
void cow_set_move_locked (struct cow_set *s, enum cow_set_state to)
  COW_REQUIRES (s->lock);
/* Is the set where a phase begins, and nobody at work on it? */
int cow_set_expect_locked (const struct cow_set *s, enum cow_set_state state,
                           struct cow_error *err);
void cow_set_abort_locked (struct cow_set *s) COW_REQUIRES (s->lock);
/* A phase has failed: undo, unless an abort did meanwhile.  Returns rc. */
int cow_set_fail_phase (struct cow_set *s, int rc);
/* All or none: has a snapshot of the set been lost on the way? */
int cow_set_check_alive (struct cow_set *s, struct cow_error *err);
/* The same, and is none on its way down? */
int cow_set_check_ending (struct cow_set *s, struct cow_error *err);
void cow_set_drop_claims (struct cow_set *s);
void cow_set_log (const struct cow_set *s, const char *what);

#endif /* COW_SET_PRIV_H */
