#!/usr/bin/env bash
# With the load paused for the instant, a set is what the files were then, and
# still is after the origins were overwritten.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/sets.sh"

requires fio qemu-img qemu-io cmp
fio --enghelp 2>/dev/null | grep -qw nbd || skip "this fio has no nbd engine"

# One is no multiple of the block, or of a sector.
truncate -s 16M "$tmp/a.img"
truncate -s 11111111 "$tmp/b.img"
start_nbdkit -o "-t 64" "$tmp/a.img" "$tmp/b.img" store-limit=2G

( exec fio --output="$tmp/fio.out" --ioengine=nbd --thread --iodepth=16 \
    --rw=randwrite --bssplit=4k/70:32k/30 --time_based --runtime=600 \
    --name=a --uri="$(export_uri a)" --size=16M \
    --name=b --uri="$(export_uri b)" --size=10M ) &
fio=$!
at_exit "kill -CONT $fio; kill $fio"

sum () { cat "$tmp/a.img" "$tmp/b.img" | md5sum; }
written ()
{
  "$cowset" -c "$uri" status --json |
    jq -e 'all (.volumes[]; .first_touches > 100)' >/dev/null
}

take_set zero a b
eventually written
for i in 1 2 3; do
  kill -STOP $fio
  # What fio has sent already may still be on its way.
  before=
  while [ "$before" != "$(sum)" ]; do
    before=$(sum)
    sleep 0.3
  done
  take_set "s$i" a b
  for v in a b; do cp --sparse=always "$tmp/$v.img" "$tmp/$v.$i"; done
  kill -CONT $fio
  sleep 0.5
  for v in a b; do same "$tmp/$v.$i" "$(snapshot_uri "s$i" $v)"; done
done
if cmp -s "$tmp/a.1" "$tmp/a.2"; then fail "nothing was written meanwhile"; fi
kill $fio
wait $fio || true

qemu-io -f raw -c 'write -P 1 0 16M' "$(export_uri a)" >/dev/null
qemu-io -f raw -c 'write -P 2 0 11111111' "$(export_uri b)" >/dev/null
for i in 1 2 3; do
  for v in a b; do same "$tmp/$v.$i" "$(snapshot_uri "s$i" $v)"; done
done
# Without the oldest and the middle one as well.
drop_set zero
drop_set s2
for v in a b; do
  same "$tmp/$v.1" "$(snapshot_uri s1 $v)"
  same "$tmp/$v.3" "$(snapshot_uri s3 $v)"
done
stop_nbdkit
