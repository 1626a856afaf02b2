#!/usr/bin/env bash
# nbdkit's filters above the plugin: those that the manual names work, volumes
# and control channel; one that answers by itself is recognised by its echo.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq qemu-io nbdinfo

talk=$tests_builddir/e2e/control-talk
truncate -s 1M "$tmp/a.img"

# works NAME NBDKIT-OPTIONS PLUGIN-ARGUMENT...
works ()
{
  local name=$1 options=$2 got
  shift 2
  start_nbdkit -n "$name" -o "$options" "$tmp/a.img" "$@"
  got=$(printf '%s\n' 'call 1 {"op":"hello"}' 'call 0 {"op":"ping"}' |
        "$talk" "$(export_uri @control "$name")" | jq -r .code | tr '\n' ' ')
  [ "$got" = "S_OK S_OK " ] || fail "$name: $got"
  qemu-io -f raw -c 'write -P 3 0 64k' -c 'read -P 3 0 64k' -c 'discard 0 64k' \
    "$(export_uri a "$name")" >/dev/null || fail "$name: the volume"
  nbdinfo --map "$(export_uri a "$name")" >/dev/null || fail "$name: extents"
  local pid=nbdkit_pid_$name
  stop_nbdkit "${!pid}"
}

works plain ''
works threads '-t 1'
works log '--filter=log' logfile="$tmp/log"
works stats '--filter=stats' statsfile="$tmp/stats"
works rate '--filter=rate' rate=1G
works ip '--filter=ip' allow=all

start_nbdkit -n cow -o --filter=cow "$tmp/a.img"
got=$(printf '%s\n' 'call 1 {"op":"hello"}' |
      "$talk" "$(export_uri @control cow)" 2>&1) || true
case $got in
  'no answer: '*|'the answer of another'*|error:*) ;;
  *) fail "through the cow filter: $got" ;;
esac
stop_nbdkit "$nbdkit_pid_cow"
