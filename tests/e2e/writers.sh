# writers.sh - programs as writers, for the tests of writers.
#
#   make_hook NAME [IDENTITY-LINE...]
#
# makes $tmp/hooks/NAME, which writes each event that it sees to $tmp/seen as
# "NAME EVENT", and then does as files of the test's directory say:
#
#   fail.NAME.EVENT     exits with the status in it
#   block.NAME.EVENT    waits until the file has gone
#
# SPDX-License-Identifier: BSD-3-Clause

mkdir -p "$tmp/hooks"

make_hook ()
{
  local name=$1
  shift
  {
    echo "#!/bin/sh"
    echo "tmp='$tmp' me='$name'"
    cat <<'END'
echo "$me $1" >>"$tmp/seen"
if [ "$1" = identify ]; then
END
    printf '  echo "%s"\n' "name=$name" "$@"
    cat <<'END'
fi
while [ -e "$tmp/block.$me.$1" ]; do sleep 0.05; done
[ ! -e "$tmp/fail.$me.$1" ] || {
  echo "as the test wants it"
  exit "$(cat "$tmp/fail.$me.$1")"
}
echo "$me $1 done" >>"$tmp/done"
END
  } >"$tmp/hooks/$name"
  chmod 755 "$tmp/hooks/$name"
}

# What a hook has seen since forget, without identify and backup-shutdown, in
# one line.
seen_by ()
{
  sed -n "s/^$1 //p" "$tmp/seen" | grep -vx 'identify\|backup-shutdown' |
    tr '\n' ' '
}
forget () { : >"$tmp/seen"; : >"$tmp/done"; rm -f "$tmp"/fail.* "$tmp"/block.*; }
has_seen () { grep -qx "$1 $2" "$tmp/seen"; }

# mount_volume NAME [-n SERVER]: the volume's ext4, over nbdfuse and a loop
# device, at $tmp/NAME.mnt; skips where that cannot be.  The file system has to
# be on the disk already.
mount_volume ()
{
  local name=$1 server=${2:-} fuse loop i
  [ "$(id -u)" -eq 0 ] || skip "needs root, to mount"
  [ -w /dev/fuse ] || skip "no FUSE here"
  [ -w /dev/loop-control ] || skip "no loop devices here"
  mkdir "$tmp/$name.fuse" "$tmp/$name.mnt"
  ( exec nbdfuse "$tmp/$name.fuse/disk" "$(export_uri "$name" $server)" ) \
    >"$tmp/$name.nbdfuse.out" 2>&1 &
  fuse=$!
  at_exit "fusermount3 -u '$tmp/$name.fuse' 2>/dev/null; wait $fuse"
  for ((i = 0; i < patience * 10; i++)); do
    if is_zombie $fuse; then cat "$tmp/$name.nbdfuse.out" >&2; fail nbdfuse; fi
    [ ! -s "$tmp/$name.fuse/disk" ] || break
    sleep 0.1
  done
  loop=$(losetup -f --show "$tmp/$name.fuse/disk" 2>"$tmp/losetup.err") ||
    skip "no loop devices here"
  at_exit "losetup -d $loop 2>/dev/null"
  mount -t ext4 "$loop" "$tmp/$name.mnt" 2>/dev/null ||
    skip "mount is not allowed here"
  # What a failed test has left frozen would never be unmounted.
  at_exit "fsfreeze -u '$tmp/$name.mnt' 2>/dev/null; umount '$tmp/$name.mnt'"
}

# Whether a file can be written there, in a time in which one can that is not
# frozen.
can_write ()
{
  timeout -s KILL 20 sh -c "echo x >'$1/probe' && sync -f '$1/probe'"
}
