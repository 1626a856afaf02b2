#!/usr/bin/env bash
# A snapshot as a file, by nbdfuse: its file system is in order, and its files
# are what they were.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/sets.sh"

requires nbdfuse fusermount3 mke2fs e2fsck debugfs qemu-io
[ -w /dev/fuse ] || skip "no FUSE here"

# A file system made of a real tree.
mkdir "$tmp/tree"
for d in cow-core protocol nbdkit-plugin requester; do
  mkdir "$tmp/tree/$d"
  find -L "$top_srcdir/$d" -name '*.[ch]' -exec cp {} "$tmp/tree/$d" \;
done
truncate -s 32M "$tmp/a.img"
mke2fs -q -F -t ext4 -d "$tmp/tree" "$tmp/a.img"
start_nbdkit "$tmp/a.img" store-limit=1G
take_set then a
qemu-io -f raw -c 'write -P 5 0 32M' "$(export_uri a)" >/dev/null

mkdir "$tmp/mnt"
( exec nbdfuse -r "$tmp/mnt/then.img" "$(snapshot_uri then a)" ) \
  >"$tmp/nbdfuse.out" 2>&1 &
fuse=$!
at_exit "fusermount3 -u '$tmp/mnt' 2>/dev/null"
mounted ()
{
  if is_zombie $fuse; then cat "$tmp/nbdfuse.out" >&2; fail "nbdfuse"; fi
  [ -s "$tmp/mnt/then.img" ]
}
eventually mounted
e2fsck -fn "$tmp/mnt/then.img" >"$tmp/fsck.out" 2>&1 ||
  { cat "$tmp/fsck.out" >&2; fail "e2fsck of the snapshot"; }
mkdir "$tmp/out"
debugfs -R "rdump / $tmp/out" "$tmp/mnt/then.img" >"$tmp/debugfs.out" 2>&1
rm -rf "$tmp/out/lost+found"
diff -r "$tmp/tree" "$tmp/out" >&2 || fail "files of the snapshot differ"
fusermount3 -u "$tmp/mnt"
wait $fuse || fail "nbdfuse ended with status $?"
stop_nbdkit
