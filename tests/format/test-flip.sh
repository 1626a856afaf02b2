#!/usr/bin/env bash
# A single bit that flips in a store that was closed in order is always found.
#
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
requires_python xxhash

seed=${COWSET_SEED:-$RANDOM}
echo "to repeat: COWSET_SEED=$seed tests/format/test-flip.sh"

mkdir "$tmp/store" "$tmp/truth"
"$top_builddir/tests/format/make-store" "$tmp" "$seed" 4096 close ||
  fail "making a store"
"$python" -B "$top_srcdir/tests/format/flip.py" "$tmp" \
  "$top_builddir/requester/check/cowset-check" "$seed" \
  "${COWSET_FLIP:-60}" || fail "a flipped bit was not found"
