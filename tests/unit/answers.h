/* answers.h - what a call of libcowset answers, for tests with Criterion.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef UNIT_ANSWERS_H
#define UNIT_ANSWERS_H

#include <criterion/criterion.h>

#include "cowset.h"

/* A failure has a message. */
#define OK(call) cr_assert_eq ((call), S_OK, "%s", cowset_error_message ())
#define IS(call, code)                                                  \
  do {                                                                  \
    const cowset_hresult is_ = (call);                                  \
                                                                        \
    cr_assert_eq (is_, (code), "%s, not %s: %s",                        \
                  cowset_result_name (is_), cowset_result_name (code),  \
                  cowset_error_message ());                             \
    cr_assert (COWSET_SUCCEEDED (is_) || *cowset_error_message ());     \
  } while (0)

#endif /* UNIT_ANSWERS_H */
