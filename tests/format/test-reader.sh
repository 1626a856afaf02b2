#!/usr/bin/env bash
# A reader written from FORMAT.md alone agrees with what is true of a store,
# and cowset-check finds nothing in it.
#
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
requires_python xxhash

seed=${COWSET_SEED:-$RANDOM}
echo "to repeat: COWSET_SEED=$seed tests/format/test-reader.sh"
check=$top_builddir/requester/check/cowset-check

for block in 4096 8192 16384; do
  for end in close die; do
    dir=$tmp/$block-$end
    mkdir -p "$dir/store" "$dir/truth"
    "$top_builddir/tests/format/make-store" "$dir" "$seed" $block $end ||
      fail "making a store"
    "$python" -B "$top_srcdir/tests/format/compare.py" "$dir" ||
      fail "the reader does not agree"
    status=0
    "$check" "$dir/store" >"$tmp/out" || status=$?
    if [ $end = close ]; then want=0; else want=1; fi
    [ $status -eq $want ] || { cat "$tmp/out"; fail "cowset-check: $status"; }
    rm -r "$dir"
  done
done
