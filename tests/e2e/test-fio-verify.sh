#!/usr/bin/env bash
# fio, several connections, every read checked, while sets come and go.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/sets.sh"

requires fio nbdcopy cmp
fio --enghelp 2>/dev/null | grep -qw nbd || skip "this fio has no nbd engine"

truncate -s 16M "$tmp/a.img" "$tmp/b.img"
start_nbdkit -o "-t 64" "$tmp/a.img" "$tmp/b.img" store-limit=2G
choose_seed

# job VOLUME NUMBER: two jobs to a volume, each with its half.
jobs=()
for v in a b; do
  for half in 0 1; do
    jobs+=(--name="$v$half" --uri="$(export_uri $v)" --offset=$((half * 8))M
           --size=8M)
  done
done
( exec fio --output="$tmp/fio.out" --ioengine=nbd --thread --iodepth=16 \
    --randseed="$seed" --verify=crc32c --verify_fatal=1 --verify_backlog=256 \
    --verify_state_save=0 --bssplit=512/10:4k/60:24k/20:128k/10 \
    --rw=randwrite --fsync=500 --loops="$(scaled 10)" "${jobs[@]}" ) &
fio=$!
at_exit "kill $fio 2>/dev/null"

# Sets of both, read twice while they are written to: they do not change.
sets=0
while ! is_zombie $fio; do
  "$cowset" -c "$uri" run a b -- sh -e -c '
    for i in 1 2; do
      nbdcopy "$COWSET_URI_A" "$0/a.$i" & nbdcopy "$COWSET_URI_B" "$0/b.$i"
      wait
    done
    cmp "$0/a.1" "$0/a.2" && cmp "$0/b.1" "$0/b.2"' "$tmp" ||
    fail "set $sets"
  sets=$((sets + 1))
done
wait $fio || { cat "$tmp/fio.out" >&2; fail "fio"; }
if grep -q 'verify.*bad\|err=[^ 0]*[1-9]' "$tmp/fio.out"; then
  cat "$tmp/fio.out" >&2
  fail "fio has found a difference"
fi
echo "$sets sets while fio wrote"
[ "$("$cowset" -c "$uri" list --json)" = "[]" ] || fail "sets are left"
stop_nbdkit
