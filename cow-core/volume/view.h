/* view.h - an open snapshot, inside cow-core.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef COW_VOLUME_VIEW_H
#define COW_VOLUME_VIEW_H

#include "volume/volume.h"

struct cow_view {
  struct cow_snapshot *snapshot; /* counted */
  struct cow_volume *volume;
};

/* NULL: out of memory. */
struct cow_view *cow_view_new (struct cow_snapshot *s);

#endif /* COW_VOLUME_VIEW_H */
