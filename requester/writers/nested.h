/* nested.h - file systems that must not be frozen.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef REQ_NESTED_H
#define REQ_NESTED_H

#include "util.h"

struct cowset;

/* E_INVALIDARG if a writer of kind fsfreeze would freeze what a server of this
 * machine has its socket, an origin or its store on, directly or through loop
 * devices, partitions and what is stacked upon them: the set would wait for
 * itself.
 */
cowset_hresult req_writers_check_nested (struct cowset *c);

#endif /* REQ_NESTED_H */
