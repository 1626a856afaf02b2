#!/usr/bin/env bash
# qemu-img convert and compare on snapshots; the origins move on.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/sets.sh"

requires qemu-img qemu-io

head -c 8M /dev/urandom >"$tmp/a.img"
truncate -s 32M "$tmp/a.img"
cp "$tmp/a.img" "$tmp/a.then"
start_nbdkit "$tmp/a.img" store-limit=1G

take_set then a
snapshot=$(snapshot_uri then a)
same "$tmp/a.then" "$snapshot"
qemu-img convert -n -f raw -O raw -m 8 -W "$tmp/a.then" "$(export_uri a)"
same "$tmp/a.then" "$(export_uri a)"
qemu-io -f raw -c 'write -P 9 4M 16M' "$(export_uri a)" >/dev/null
if qemu-img compare -f raw -F raw "$tmp/a.then" "$(export_uri a)" >/dev/null
then
  fail "the origin has not moved on"
fi
same "$tmp/a.then" "$snapshot"

# Out to qcow2, whole and in parallel, and checked.
qemu-img convert -f raw -O qcow2 -m 8 -W -S 4k "$snapshot" "$tmp/out.qcow2"
qemu-img check -q "$tmp/out.qcow2"
qemu-img compare -f qcow2 -F raw "$tmp/out.qcow2" "$tmp/a.then" ||
  fail "the converted snapshot"
# Holes stay holes: the second half was one.
[ "$(stat -c %b "$tmp/out.qcow2")" -lt $((12 << 11)) ] ||
  fail "the converted snapshot has its holes filled"

# A snapshot takes no writes.
if qemu-io -f raw -c 'write 0 4k' "$snapshot" >/dev/null 2>&1; then
  fail "a snapshot can be written to"
fi
same "$tmp/a.then" "$snapshot"
stop_nbdkit
