#!/usr/bin/env bash
# Store and origin share a small file system, which runs full: no write to the
# origin fails for it, what is lost is said, and stays said; thresholds on the
# way.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/store.sh"

requires losetup mkfs.ext4 mount jq nbdcopy cmp
requires_python nbd
[ "$(id -u)" -eq 0 ] || skip "needs root, to mount"
[ -w /dev/loop-control ] || skip "no loop devices here"

fs=$tmp/fs
mkdir "$fs"
truncate -s 96M "$tmp/fs.img"
mkfs.ext4 -q -F -m 0 "$tmp/fs.img"
mount -o loop "$tmp/fs.img" "$fs" 2>"$tmp/mount.err" ||
  skip "no loop devices here"
# (Lazily: a server that is still there is ended after this.)
at_exit "umount -l '$fs'"

# rewrite SEED: every block of the volume, each written once.  Fails with the
# first write that does.
rewrite ()
{
  "$python" - "$(export_uri a)" "$1" <<'PY'
import random, sys, nbd
r = random.Random(int(sys.argv[2]))
h = nbd.NBD()
h.connect_uri(sys.argv[1])
size = h.get_size()
for at in range(0, size, 1 << 16):
    h.pwrite(r.randbytes(1 << 16), at)
h.flush()
h.shutdown()
PY
}
# is_as SEED FILE: what rewrite has left.
is_as ()
{
  "$python" - "$1" "$2" <<'PY'
import os, random, sys
r = random.Random(int(sys.argv[1]))
with open(sys.argv[2], "rb") as f:
    for at in range(0, os.path.getsize(sys.argv[2]), 1 << 16):
        if f.read(1 << 16) != r.randbytes(1 << 16):
            sys.exit("another content at %d" % at)
PY
}

# full NBDKIT-ARGUMENT...: there is room for the journal and some of what is
# preserved, and not for the rest.
full ()
{
  rm -rf "$fs/store" "$fs/a.img"
  mkdir "$fs/store"
  head -c 40M /dev/urandom >"$fs/a.img"
  start_nbdkit "a:$fs/a.img" "store=$fs/store" "$@"
  take before a
  rewrite 1
  [ "$(end_of before a)" = store-full ] || fail "$*: not lost, but: $(
    "$cowset" -c "$uri" info before)"
  grep -q 'is lost: the store is full' "$nbdkit_log" ||
    fail "$*: nothing is said"
  # A reader is told, and the volume goes on.
  if nbdcopy "$(export_uri a@before)" "$tmp/now" 2>/dev/null; then
    fail "$*: a lost snapshot is read"
  fi
  nbdcopy "$(export_uri a)" "$tmp/now"
  is_as 1 "$tmp/now"
  rewrite 2
  # It is still lost in the next life; a new one is made then.
  stop_nbdkit
  is_as 2 "$fs/a.img"
  start_nbdkit "a:$fs/a.img" "store=$fs/store" "$@"
  [ "$(end_of before a)" = store-full ] || fail "$*: forgotten"
  "$cowset" -c "$uri" delete before >/dev/null
  take again a
  overwrite a 3
  right again a
  stop_nbdkit
  cp "$fs/a.img" "$tmp/a.now"
}

# By the reserve (cowset stops before the file system is full), and by ENOSPC.
full store-reserve=8M
full store-reserve=0
# With protect=snapshot the snapshot is kept, and it is the writes that fail.
rm -rf "$fs/store"
mkdir "$fs/store"
start_nbdkit "a:$fs/a.img" "store=$fs/store" store-reserve=0 protect=snapshot
take kept a
if rewrite 4 2>"$tmp/err"; then fail "all was written without room"; fi
right kept a
stop_nbdkit
start_nbdkit "a:$fs/a.img" "store=$fs/store" store-reserve=0 protect=snapshot
right kept a
stop_nbdkit

# A threshold is said before it is too late.
mkdir "$tmp/store"
start_nbdkit "a:$fs/a.img" "store=$tmp/store" store-limit=56M
take slow a
rewrite 5
eventually grep -q 'the store is [789][0-9]*% full' "$nbdkit_log"
[ "$(end_of slow a)" = null ] || fail "it has not been full"
right slow a
stop_nbdkit
