#!/usr/bin/env bash
# nbdinfo --map tells the truth of volumes and snapshots: what qemu-img map says
# of the file, as it is and as it was.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/sets.sh"

requires nbdinfo qemu-img qemu-io jq

# Holes and data in pieces of odd sizes; the size is no multiple of the block.
img=$tmp/a.img
size=16777000
truncate -s $size "$img"
for place in 0:4 16:256 1028:4 2000:1000; do
  dd if=/dev/urandom of="$img" bs=4K seek=$((${place%:*} / 4)) \
    count=$((${place#*:} / 4)) conv=notrunc status=none
done

# Both as lines "offset length zero", neighbours of one kind merged.
merge ()
{
  awk '{ if (NR > 1 && $3 == z) l += $2
         else { if (NR > 1) print o, l, z; o = $1; l = $2; z = $3 } }
       END { if (NR) print o, l, z }'
}
# qemu-img counts in sectors, beyond the end.
map_of_file ()
{
  qemu-img map -U -f raw --output=json "$img" |
    jq -r --argjson size "$size" '.[] | select (.start < $size) |
      "\(.start) \([.length, $size - .start] | min) \(.zero)"' | merge
}
map_of_export ()
{
  nbdinfo --map --json "$(export_uri "$1")" |
    jq -r '.[] | "\(.offset) \(.length) \(.type == 3)"' | merge
}
# same_map EXPORT FILE WHAT
same_map ()
{
  map_of_export "$1" >"$tmp/map"
  diff "$2" "$tmp/map" >&2 || fail "the map of $3"
}

map_of_file >"$tmp/before"
[ "$(wc -l <"$tmp/before")" -ge 6 ] || skip "this file system has no holes"
start_nbdkit "$img"
same_map a "$tmp/before" "the volume"

take_set then a
same_map a@then "$tmp/before" "a new snapshot"

# Data into holes, holes into data; a part of a block as well.
qemu-io -f raw -c 'write -P 1 1M 64k' -c 'write -P 2 5000000 100' \
  -c 'discard 2000k 500k' -c 'write -z 64k 64k' "$(export_uri a)" >/dev/null
map_of_file >"$tmp/after"
if cmp -s "$tmp/before" "$tmp/after"; then fail "nothing has changed"; fi
same_map a "$tmp/after" "the volume after writes"
same_map a@then "$tmp/before" "the snapshot after writes"

# Overwritten wholly: the volume has no hole any more, the snapshot has all.
qemu-io -f raw -c 'write -P 7 0 16777000' "$(export_uri a)" >/dev/null
map_of_file >"$tmp/after"
same_map a "$tmp/after" "the volume, overwritten"
same_map a@then "$tmp/before" "the snapshot of what was overwritten"

# And a second set has no hole, though an older one has.
take_set now a
same_map a@now "$tmp/after" "the second snapshot"
stop_nbdkit
