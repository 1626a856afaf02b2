#!/usr/bin/env bash
# An origin that lies on a volume of a cowset, by whatever is between, is in no
# set; one that lies on another server's disk may be.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq
talk=$tests_builddir/e2e/control-talk

truncate -s 8M "$tmp"/{outer,plain}.img
start_nbdkit -n outer "$tmp/outer.img"

# nested SERVER VOLUME: the code of every call that looks, and nothing is made.
nested ()
{
  local uri=uri_$1 status=0
  "$cowset" -c "${!uri}" create "$2" >"$tmp/out" 2>"$tmp/err" || status=$?
  [ $status = 1 ] || fail "$2 of $1: status $status"
  grep -q VSS_E_NESTED_VOLUME_LIMIT "$tmp/err" || fail "$(cat "$tmp/err")"
  printf '%s\n' 'call 1 {"op":"hello"}' \
    'call 1 {"op":"supported","context":0,"volume":"'"$2"'"}' |
    "$talk" "$(export_uri @control "$1")" | tail -n 1 |
    jq -e '.code == "VSS_E_NESTED_VOLUME_LIMIT"' >/dev/null ||
    fail "IsVolumeSupported of $2"
}
not_nested ()
{
  local uri=uri_$1
  "$cowset" -c "${!uri}" run "$2" -- true || fail "$2 of $1"
}

# --- as sysfs shows it: a device-mapper device upon a kernel NBD device.  The
# folder stands for /sys; the client of the device is a process that was called
# as nbd-client is.
numbers=$(stat -c %d "$tmp/plain.img")
numbers=$((numbers >> 8 & 0xfff)):$((numbers & 0xff | numbers >> 12 & 0xfff00))
mkdir -p "$tmp/sys/dev/block/$numbers/slaves/nbd0" "$tmp/sys/dev/block/43:0"
# shellcheck disable=SC2154
"$python" -c 'import time; time.sleep(600)' -unix "$sock_outer" /dev/nbd0 &
client=$!
at_exit "kill $client 2>/dev/null"
start_nbdkit -n sys "$tmp/plain.img" debug-sysfs="$tmp/sys"
not_nested sys plain
echo 43:0 >"$tmp/sys/dev/block/$numbers/slaves/nbd0/dev"
not_nested sys plain
echo $client >"$tmp/sys/dev/block/43:0/pid"
nested sys plain
# It becomes so between the adding and the making.
rm "$tmp/sys/dev/block/43:0/pid"
A=aaaaaaaa-0000-4000-8000-000000000001
{ echo 'call 1 {"op":"hello"}'
  echo 'call 1 {"op":"set.start","set":"'$A'","context":0}'
  echo 'call 1 {"op":"set.add","set":"'$A'","volume":"plain","snapshot":"'$A'"}'
  sleep 1
  echo $client >"$tmp/sys/dev/block/43:0/pid"
  echo 'call 1 {"op":"set.prepare","set":"'$A'"}'
} | "$talk" "$(export_uri @control sys)" | jq -r .code | tr '\n' ' ' >"$tmp/out"
[ "$(cat "$tmp/out")" = 'S_OK S_OK S_OK VSS_E_NESTED_VOLUME_LIMIT ' ] ||
  fail "prepare: $(cat "$tmp/out")"
# A client of a server that is no cowset.
kill $client
nbdkit -f -U "$tmp/memory.sock" -P "$tmp/memory.pid" memory 8M &
memory=$!
at_exit "kill $memory 2>/dev/null"
ready () { [ -s "$tmp/memory.pid" ]; }
eventually ready
"$python" -c 'import time; time.sleep(600)' -unix "$tmp/memory.sock" &
client=$!
at_exit "kill $client 2>/dev/null"
echo $client >"$tmp/sys/dev/block/43:0/pid"
not_nested sys plain
# shellcheck disable=SC2154
stop_nbdkit "$nbdkit_pid_sys"

# --- a file of nbdfuse, and a loop device upon it.
if command -v nbdfuse >/dev/null && [ -w /dev/fuse ]; then
  mkdir "$tmp/mnt" "$tmp/other"
  mount_fuse () # FOLDER URI
  {
    ( exec nbdfuse "$1/file" "$2" ) >"$tmp/nbdfuse.out" 2>&1 &
    at_exit "fusermount3 -u '$1' 2>/dev/null"
    there () { [ -s "$1/file" ]; }
    eventually there "$1"
  }
  mount_fuse "$tmp/mnt" "$(export_uri outer outer)"
  mount_fuse "$tmp/other" "nbd+unix:///?socket=$tmp/memory.sock"
  start_nbdkit -n fuse inner:"$tmp/mnt/file" other:"$tmp/other/file" \
    "$tmp/plain.img" store-limit=64M
  nested fuse inner
  not_nested fuse other
  not_nested fuse plain
  # shellcheck disable=SC2154
  stop_nbdkit "$nbdkit_pid_fuse"
  if [ "$(id -u)" -eq 0 ] && [ -w /dev/loop-control ] &&
      loop=$(losetup -f --show "$tmp/mnt/file" 2>"$tmp/err"); then
    at_exit "losetup -d $loop 2>/dev/null"
    start_nbdkit -n loop disk:"$loop" store-limit=64M
    nested loop disk
    # shellcheck disable=SC2154
    stop_nbdkit "$nbdkit_pid_loop"
    losetup -d "$loop"
  fi
  fusermount3 -u "$tmp/mnt"
  fusermount3 -u "$tmp/other"
fi
# shellcheck disable=SC2154
stop_nbdkit "$nbdkit_pid_outer"
