#!/usr/bin/env bash
# A reader written from FORMAT.md alone agrees with the engine on random stores.
#
# Several lives on one store, each ending in order or not; after each, the
# reader's list of sets and every snapshot's bytes are compared with what was
# true, and cowset-check finds nothing.
#
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
requires_python xxhash

seed=${COWSET_SEED:-$RANDOM}
echo "to repeat: COWSET_SEED=$seed tests/format/test-lives.sh"
RANDOM=$seed
writer=$top_builddir/tests/format/write-store
check=$top_builddir/requester/check/cowset-check

for store in 1 2 3; do
  dir=$tmp/$store
  mkdir -p "$dir/store" "$dir/truth"
  volumes=$((1 + RANDOM % 4))
  block=$((4096 << (RANDOM % 3)))
  for life in 1 2 3 4; do
    end=$([ $((RANDOM % 3)) -eq 0 ] && echo die || echo close)
    life_seed=$RANDOM
    steps=$((RANDOM % 600))
    echo "store $store: write-store $life_seed $steps $volumes $block $end"
    "$writer" "$dir" "$life_seed" "$steps" "$volumes" "$block" "$end" ||
      fail "the engine"
    "$python" -B "$top_srcdir/tests/format/compare.py" "$dir" ||
      fail "the reader does not agree"
    status=0
    "$check" "$dir/store" >"$tmp/out" || status=$?
    if [ "$end" = close ]; then want=0; else want=1; fi
    [ "$status" -eq "$want" ] || { cat "$tmp/out"; fail "cowset-check: $status"; }
  done
done
