#!/usr/bin/env bash
# nbdkit -r: nothing can be written, neither to volumes nor to @control.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires nbdinfo qemu-io jq

talk=$tests_builddir/e2e/control-talk
truncate -s 1M "$tmp/a.img"
start_nbdkit -o -r "$tmp/a.img"

[ "$(nbdinfo --json "$uri" | jq .exports[0].is_read_only)" = true ] ||
  fail "the volume is writable"
if qemu-io -f raw -c 'write 0 4k' "$uri" >/dev/null 2>&1; then
  fail "a write to the volume succeeded"
fi
qemu-io -f raw -r -c 'read -P 0 0 1M' "$uri" >/dev/null

# The requester finds a greeting, and that nothing can be written.
printf '%s\n' 'greeting 0' 'call 1 {"op":"hello"}' |
  "$talk" "$(export_uri @control)" >"$tmp/out" 2>&1 || true
[ "$(sed -n 1p "$tmp/out")" = greeting ] || fail "no greeting"
grep -q '^error: ' "$tmp/out" || { cat "$tmp/out"; fail "a frame was taken"; }
