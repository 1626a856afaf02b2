#!/usr/bin/env bash
# A block device as an origin.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/sets.sh"

requires losetup qemu-img qemu-io nbdcopy cmp
[ "$(id -u)" -eq 0 ] || skip "needs root, for a loop device"
[ -w /dev/loop-control ] || skip "no loop devices here"

# No multiple of the block: 10 MiB and a sector.
head -c $((10 * 1048576 + 512)) /dev/urandom >"$tmp/disk"
for arguments in '' 'cache=none' 'io=sync'; do
  cp "$tmp/disk" "$tmp/file"
  loop=$(losetup -f --show "$tmp/file" 2>"$tmp/losetup.err") ||
    skip "no loop devices here"
  at_exit "losetup -d $loop 2>/dev/null"
  # shellcheck disable=SC2086
  start_nbdkit "disk:$loop" store-limit=1G $arguments
  [ "$(nbdinfo --size "$(export_uri disk)")" = $((10 * 1048576 + 512)) ] ||
    fail "the size of the device"
  same "$tmp/disk" "$(export_uri disk)"
  take_set then disk
  qemu-io -f raw -c 'write -P 1 0 5M' -c 'write -zu 6M 1M' \
    -c 'write -f -P 2 10M 512' "$(export_uri disk)" >/dev/null
  same "$tmp/disk" "$(snapshot_uri then disk)"
  qemu-io -f raw -c 'read -P 1 0 5M' -c 'read -P 0 6M 1M' \
    -c 'read -P 2 10M 512' "$(export_uri disk)" >"$tmp/io.out"
  if grep -q 'verification failed' "$tmp/io.out"; then fail "the volume"; fi
  nbdcopy "$(export_uri disk)" "$tmp/now"
  drop_set then
  stop_nbdkit
  cmp "$tmp/now" "$loop" || fail "the device after the server"
  losetup -d "$loop"
done
