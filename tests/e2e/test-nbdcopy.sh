#!/usr/bin/env bash
# nbdcopy out of snapshots and into volumes, on several connections.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/sets.sh"

requires nbdcopy cmp qemu-img

head -c 24M /dev/urandom >"$tmp/a.img"
# Sparse, and no multiple of the block.
truncate -s 20000001 "$tmp/b.img"
dd if=/dev/urandom of="$tmp/b.img" bs=1M seek=3 count=2 conv=notrunc status=none
for v in a b; do cp --sparse=always "$tmp/$v.img" "$tmp/$v.then"; done
head -c 24M /dev/urandom >"$tmp/a.new"
head -c 20000001 /dev/urandom >"$tmp/b.new"
start_nbdkit "$tmp/a.img" "$tmp/b.img" store-limit=1G

take_set then a b
for v in a b; do
  nbdcopy --connections=4 --flush "$tmp/$v.new" "$(export_uri $v)"
  nbdcopy --connections=4 "$(export_uri $v)" "$tmp/$v.read"
  cmp "$tmp/$v.read" "$tmp/$v.new" || fail "$v is not what was copied into it"
  nbdcopy --connections=4 "$(snapshot_uri then $v)" "$tmp/$v.read"
  cmp "$tmp/$v.read" "$tmp/$v.then" || fail "the snapshot of $v"
done
# From a snapshot to a volume, on the same server: back to what it was.
take_set new a b
for v in a b; do
  nbdcopy "$(snapshot_uri then $v)" "$(export_uri $v)"
  nbdcopy "$(export_uri $v)" "$tmp/$v.read"
  cmp "$tmp/$v.read" "$tmp/$v.then" || fail "$v after it was copied back"
  nbdcopy "$(snapshot_uri new $v)" "$tmp/$v.read"
  cmp "$tmp/$v.read" "$tmp/$v.new" || fail "the second snapshot of $v"
  nbdcopy "$(snapshot_uri then $v)" "$tmp/$v.read"
  cmp "$tmp/$v.read" "$tmp/$v.then" || fail "the first snapshot of $v"
done
drop_set then
nbdcopy "$(snapshot_uri new a)" "$tmp/a.read"
cmp "$tmp/a.read" "$tmp/a.new" || fail "the second snapshot without the first"
stop_nbdkit
for v in a b; do
  cmp "$tmp/$v.img" "$tmp/$v.then" || fail "the file of $v after the server"
done
