#!/usr/bin/env bash
# A mounted file system as a writer: in the set it is clean, with no journal to
# replay; it is thawed whatever comes of the set, and one that the server needs
# is refused.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/writers.sh"

requires nbdfuse fusermount3 mke2fs e2fsck dumpe2fs debugfs losetup mount \
  fsfreeze nbdcopy jq

truncate -s 48M "$tmp/a.img"
mke2fs -q -F -t ext4 "$tmp/a.img"
start_nbdkit "$tmp/a.img" store-limit=1G
export COWSET_URI=$uri
mount_volume a

# Somebody who writes all the time.
(
  trap 'exit 0' TERM
  n=0
  while :; do
    n=$((n + 1))
    head -c $((n * 997 % 50000)) /dev/urandom >"$tmp/a.mnt/f$((n % 50))"
    mv "$tmp/a.mnt/f$((n % 50))" "$tmp/a.mnt/g$((n % 50))"
    sleep 0.01
  done
) &
busy=$!
at_exit "kill $busy 2>/dev/null; wait $busy 2>/dev/null"

needs_replay ()
{
  dumpe2fs -h "$tmp/then" 2>/dev/null | grep '^Filesystem features:' |
    grep -q needs_recovery
}
# Without the writer the journal is needed: this test could fail.
"$cowset" run a -- sh -c "nbdcopy \"\$COWSET_URI_A\" '$tmp/then'"
needs_replay || fail "a mounted file system that needs no replay"

for i in 1 2 3; do
  before=frozen-$i
  echo "$before" >"$tmp/a.mnt/before"   # not synced: the freeze does that
  "$cowset" run --writer "fsfreeze:$tmp/a.mnt" a -- \
    sh -c "nbdcopy \"\$COWSET_URI_A\" '$tmp/then'; nbdinfo --size \"\$COWSET_URI_A\" >/dev/null"
  ! needs_replay || fail "set $i: the journal has to be replayed"
  e2fsck -fn "$tmp/then" >"$tmp/fsck.out" 2>&1 ||
    { cat "$tmp/fsck.out" >&2; fail "set $i: fsck"; }
  [ "$(debugfs -R 'cat /before' "$tmp/then" 2>/dev/null)" = "$before" ] ||
    fail "set $i: what was written before is missing"
  can_write "$tmp/a.mnt" || fail "set $i: it was left frozen"
done

# Frozen by somebody else: a failure, and left as it is.
fsfreeze -f "$tmp/a.mnt"
status=0
"$cowset" run --writer "fsfreeze:$tmp/a.mnt" a -- true 2>"$tmp/err" ||
  status=$?
[ "$status" = 125 ] || fail "frozen twice: $status"
grep -q 'frozen already' "$tmp/err" || fail "$(cat "$tmp/err")"
fsfreeze -u "$tmp/a.mnt" || fail "somebody else's freeze was undone"

# Killed while it is frozen: whoever freezes after it hangs.
make_hook late level=transaction-manager
for event in freeze thaw; do
  forget
  touch "$tmp/block.late.$event"
  "$cowset" create --writer "fsfreeze:$tmp/a.mnt" --writer "exec:$tmp/hooks" \
    a >"$tmp/out" 2>"$tmp/err" &
  maker=$!
  eventually has_seen late "$event"
  ! fsfreeze -f "$tmp/a.mnt" 2>/dev/null || {
    fsfreeze -u "$tmp/a.mnt"
    fail "not frozen at the other's $event"
  }
  kill -KILL "$maker"
  wait "$maker" 2>/dev/null || true
  can_write "$tmp/a.mnt" || fail "killed at $event: it was left frozen"
  rm -f "$tmp/block.late.$event"
done

# Interrupted, and failed.
forget
touch "$tmp/block.late.freeze"
"$cowset" create --writer "fsfreeze:$tmp/a.mnt" --writer "exec:$tmp/hooks" \
  a >"$tmp/out" 2>"$tmp/err" &
maker=$!
eventually has_seen late freeze
kill -INT "$maker"
status=0
wait "$maker" || status=$?
[ "$status" = 1 ] || fail "interrupted: $status"
can_write "$tmp/a.mnt" || fail "interrupted: it was left frozen"
forget
echo 1 >"$tmp/fail.late.freeze"
status=0
"$cowset" run --writer "fsfreeze:$tmp/a.mnt" --writer "exec:$tmp/hooks" \
  a -- true 2>"$tmp/err" || status=$?
[ "$status" = 125 ] || fail "failed: $status"
grep -q VSS_E_TRANSACTION_FREEZE_TIMEOUT "$tmp/err" || fail "$(cat "$tmp/err")"
can_write "$tmp/a.mnt" || fail "failed: it was left frozen"

# What the server needs: its origin on the file system itself, and in a file on
# a loop device upon it.
refused ()
{
  local status=0
  "$cowset" -c "$uri_b" run --writer "fsfreeze:$tmp/a.mnt" b -- true \
    2>"$tmp/err" || status=$?
  [ "$status" = 125 ] || fail "$1: not refused ($status)"
  grep -q 'lies on this file system' "$tmp/err" || fail "$1: $(cat "$tmp/err")"
  can_write "$tmp/a.mnt" || fail "$1: frozen"
}
truncate -s 8M "$tmp/a.mnt/b.img"
start_nbdkit -n b "$tmp/a.mnt/b.img" store-limit=1M
refused "an origin on it"
stop_nbdkit "$nbdkit_pid_b"
# Its store, with a name and without.
mkdir "$tmp/a.mnt/store"
truncate -s 8M "$tmp/b.img"
start_nbdkit -n b "$tmp/b.img" store="$tmp/a.mnt/store" store-limit=8M \
  store-reserve=0
refused "a store on it"
grep -q "the store $tmp/a.mnt/store lies" "$tmp/err" || fail "$(cat "$tmp/err")"
stop_nbdkit "$nbdkit_pid_b"
TMPDIR=$tmp/a.mnt start_nbdkit -n b "$tmp/b.img" store-limit=1M
refused "an unnamed store on it"
stop_nbdkit "$nbdkit_pid_b"
mke2fs -q -F -t ext4 "$tmp/a.mnt/b.img"
mkdir "$tmp/inner"
inner=$(losetup -f --show "$tmp/a.mnt/b.img")
at_exit "losetup -d $inner 2>/dev/null"
mount -t ext4 "$inner" "$tmp/inner"
at_exit "umount '$tmp/inner'"
truncate -s 1M "$tmp/inner/b.img"
start_nbdkit -n b "$tmp/inner/b.img" store-limit=1M
refused "an origin on a loop device upon it"
stop_nbdkit "$nbdkit_pid_b"

kill $busy
wait $busy || true
