#!/usr/bin/env bash
# A file system in use, on a loop device over nbdfuse: each set of it is one
# that a crash could have left, and recovers without loss of what was synced.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/sets.sh"

requires nbdfuse fusermount3 mke2fs e2fsck debugfs losetup mount nbdcopy
[ "$(id -u)" -eq 0 ] || skip "needs root, to mount"
[ -w /dev/fuse ] || skip "no FUSE here"
[ -w /dev/loop-control ] || skip "no loop devices here"

truncate -s 64M "$tmp/a.img"
mke2fs -q -F -t ext4 "$tmp/a.img"
start_nbdkit "$tmp/a.img" store-limit=1G

mkdir "$tmp/fuse" "$tmp/fs"
( exec nbdfuse "$tmp/fuse/disk" "$(export_uri a)" ) >"$tmp/nbdfuse.out" 2>&1 &
fuse=$!
at_exit "fusermount3 -u '$tmp/fuse' 2>/dev/null"
mounted ()
{
  if is_zombie $fuse; then cat "$tmp/nbdfuse.out" >&2; fail "nbdfuse"; fi
  [ -s "$tmp/fuse/disk" ]
}
eventually mounted
loop=$(losetup -f --show "$tmp/fuse/disk" 2>"$tmp/losetup.err") ||
  skip "no loop devices here"
at_exit "losetup -d $loop 2>/dev/null"
mount -t ext4 "$loop" "$tmp/fs" 2>/dev/null || skip "mount is not allowed here"
at_exit "umount '$tmp/fs' 2>/dev/null"

# Files that come and go, and every so often one that is synced.
(
  trap 'exit 0' TERM
  n=0
  while :; do
    n=$((n + 1))
    mkdir -p "$tmp/fs/d$((n % 7))"
    head -c $((n * 997 % 100000)) /dev/urandom >"$tmp/fs/d$((n % 7))/f$n"
    rm -f "$tmp/fs/d$(((n - 40) % 7))/f$((n - 40))" 2>/dev/null
    if [ $((n % 10)) -eq 0 ]; then
      echo "$n" >"$tmp/fs/synced.new"
      sync -f "$tmp/fs/synced.new"
      mv "$tmp/fs/synced.new" "$tmp/fs/synced"
      sync -f "$tmp/fs"
      echo "$n" >"$tmp/synced.new"
      mv "$tmp/synced.new" "$tmp/synced"
    fi
  done
) &
writer=$!
at_exit "kill $writer 2>/dev/null; wait $writer 2>/dev/null"
some_synced () { [ -s "$tmp/synced" ]; }
eventually some_synced

for i in $(seq "$(scaled 6)"); do
  before=$(cat "$tmp/synced")
  take_set "s$i" a
  nbdcopy "$(snapshot_uri "s$i" a)" "$tmp/then"
  # The journal is played back; nothing may be left to mend after that.
  status=0
  e2fsck -fy -E journal_only "$tmp/then" >"$tmp/fsck.out" 2>&1 || status=$?
  [ $status -le 1 ] || { cat "$tmp/fsck.out" >&2; fail "the journal of set $i"; }
  e2fsck -fn "$tmp/then" >"$tmp/fsck.out" 2>&1 ||
    { cat "$tmp/fsck.out" >&2; fail "the file system of set $i"; }
  then=$(debugfs -R 'cat /synced' "$tmp/then" 2>/dev/null)
  [ "$then" -ge "$before" ] ||
    fail "set $i has '$then', but $before was synced before it was taken"
  drop_set "s$i"
  sleep "0.$((RANDOM % 4))"
done
kill $writer
wait $writer || true
echo "$(cat "$tmp/synced") files, the last set had synced $then"
umount "$tmp/fs"
losetup -d "$loop"
fusermount3 -u "$tmp/fuse"
wait $fuse || fail "nbdfuse ended with status $?"
stop_nbdkit
e2fsck -fn "$tmp/a.img" >"$tmp/fsck.out" 2>&1 ||
  { cat "$tmp/fsck.out" >&2; fail "the file system at the end"; }
