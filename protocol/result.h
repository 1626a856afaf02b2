/* result.h - what a result code is called, means, and asks for.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The strings are constants; safe from any thread.
 */
#ifndef PROTO_RESULT_H
#define PROTO_RESULT_H

#include <stdbool.h>

#include "protocol/cowset-codes.h"

/* "VSS_E_BAD_STATE".  NULL for a value that has no name here. */
const char *proto_result_name (cowset_hresult hr);

/* The reverse; false if there is no such name. */
bool proto_result_parse (const char *name, cowset_hresult *hr);

/* One line for people, lower case, no full stop: what happened ("the server
 * could not hold writes long enough"), and what to do about it ("wait ten
 * minutes and try again, up to three times").  Never NULL; a value without a
 * name gets a general line.
 */
const char *proto_result_cause (cowset_hresult hr);
const char *proto_result_advice (cowset_hresult hr);

enum cowset_retry proto_result_retry (cowset_hresult hr);

/* The i-th code of the table, in numeric order as unsigned numbers, and true;
 * false beyond the last.
 */
bool proto_result_at (unsigned i, cowset_hresult *hr);

#endif /* PROTO_RESULT_H */
