#!/usr/bin/env bash
# qemu-io: every kind of request, at odd places, seen by volume and snapshot.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/sets.sh"

requires qemu-io

# io EXPORT COMMAND...
io ()
{
  local export=$1 args=() c
  shift
  case $export in *@*) args+=(-r) ;; esac
  for c; do args+=(-c "$c"); done
  qemu-io -f raw "${args[@]}" "$(export_uri "$export")" >"$tmp/io.out" 2>&1 ||
    { cat "$tmp/io.out" >&2; fail "$export: $*"; }
  if grep -q 'verification failed\|rror' "$tmp/io.out"; then
    cat "$tmp/io.out" >&2
    fail "$export: $*"
  fi
}

# The last block is cut off in its middle, on no sector.
size=$((4 * 1024 * 1024 + 777))
for arguments in '' 'block-size=64K' 'io=sync' 'cache=none'; do
  rm -f "$tmp/a.img"
  truncate -s $size "$tmp/a.img"
  # shellcheck disable=SC2086
  start_nbdkit "$tmp/a.img" store-limit=1G $arguments
  io a 'write -P 1 0 4M' 'write -P 2 4M 777' flush
  take_set one a
  # Within a block, over several, over the end of the last.
  io a 'write -P 3 1000 1000' 'write -P 4 8191 2' 'write -P 5 100k 300k' \
    'write -P 6 4194400 681' 'write -f -P 7 1M 512'
  io a@one 'read -P 1 0 4M' 'read -P 2 4M 777'
  io a 'read -P 1 0 1000' 'read -P 3 1000 1000' 'read -P 1 2000 6191' \
    'read -P 4 8191 2' 'read -P 5 100k 300k' 'read -P 2 4M 96' \
    'read -P 6 4194400 681' 'read -P 7 1M 512'
  take_set two a
  # Zeroes: written, as a hole, of a part of a block; and a discard.
  io a 'write -z 0 64k' 'write -zu 100k 300k' 'write -z 1048600 100' \
    'discard 2M 1M' 'write -z 4194305 700'
  io a@two 'read -P 1 0 1000' 'read -P 3 1000 1000' 'read -P 4 8191 2' \
    'read -P 5 100k 300k' 'read -P 7 1M 512' 'read -P 1 2M 1M' \
    'read -P 6 4194400 681'
  io a 'read -P 0 0 64k' 'read -P 0 100k 300k' 'read -P 7 1M 24' \
    'read -P 0 1048600 100' 'read -P 7 1048700 388' 'read -P 2 4M 1' \
    'read -P 0 4194305 700' 'read -P 6 4195005 76'
  drop_set two
  io a@one 'read -P 1 0 4M' 'read -P 2 4M 777'
  take_set three a
  io a 'write -P 8 0 4M' 'write -P 8 4M 777'
  io a@three 'read -P 0 0 64k' 'read -P 0 4194305 700'
  io a@one 'read -P 1 0 4M' 'read -P 2 4M 777'
  drop_set one
  drop_set three
  io a 'read -P 8 0 4M' 'read -P 8 4M 777'
  stop_nbdkit
  [ "$(stat -c %s "$tmp/a.img")" = $size ] || fail "the file's size has changed"
done
