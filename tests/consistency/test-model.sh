#!/bin/bash
# test-model.sh - the model test over every engine, cache mode and extreme of
# the ring and the block.  A run prints its seed.
# SPDX-License-Identifier: BSD-3-Clause
. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

ops=600
[ -z "$sanitizers" ] || ops=80
while read -r args; do
  # shellcheck disable=SC2086
  "$tests_builddir/consistency/model" --ops $ops --dir "$tmp" $args
done <<'CASES'
--io uring --ring 96
--io sync --ring 96
--io sim --ring 96
--io uring --ring 2 --direct
--io sync --ring 2
--io sim --ring 2 --direct
--io uring --ring 3 --block 65536
--io sync --ring 4 --block 1048576 --direct
--io uring --ring 300 --block 8192
CASES

# A fast zero that was refused for its second half had zeroed the first.  (It
# takes minutes under a sanitizer, and is not about memory.)
[ -n "$sanitizers" ] || "$tests_builddir/consistency/model" --ops 600 --dir "$tmp" \
  --seed 1795328582975796 --io sync --block 1048576 --ring 4
