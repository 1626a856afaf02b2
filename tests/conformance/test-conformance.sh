#!/usr/bin/env bash
# The acceptance matrix of the protocol, row by row, against real servers.
#
#   test-conformance.sh [ROW...]
#
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

# serve NAME ARGUMENT...: a server of images of its own, a.img b.img c.img.
serve ()
{
  local name=$1 volume
  shift
  mkdir -p "$tmp/$name"
  # Zeroes take no space in a store.
  for volume in a b c; do
    head -c 8M /dev/urandom >"$tmp/$name/$volume.img"
  done
  start_nbdkit -n "$name" "$tmp/$name"/{a,b,c}.img "$@"
  export_server "$name"
}
export_server ()
{
  local uri=uri_$1 log=nbdkit_log_$1
  export "SERVER_$1=${!uri}" "LOG_$1=${!log}"
}

export CONFORMANCE_DIR=$tmp
serve plain hold-limit=10
serve one snapshot-limit=1
serve tight store-reserve=1000000G
serve small store-limit=4M
serve protected store-limit=4M protect=snapshot
serve providers hold-limit=10 \
  debug-provider=hardware:11111111-0000-4000-8000-000000000001:"$tmp/hardware" \
  debug-provider=software:22222222-0000-4000-8000-000000000002:"$tmp/software" \
  debug-provider=system:33333333-0000-4000-8000-000000000003:"$tmp/system"

mkdir "$tmp/many"
for ((i = 0; i < 65; i++)); do truncate -s 64K "$tmp/many/v$i.img"; done
start_nbdkit -n many "$tmp"/many/v*.img
export_server many

# control=unix allows nobody over TCP.
truncate -s 1M "$tmp/tcp.img"
for _ in 1 2 3 4 5; do
  port=$((20000 + RANDOM))
  ( exec_nbdkit -f -i 127.0.0.1 -p $port -P "$tmp/tcp.pid" "$plugin" \
      "$tmp/tcp.img" ) </dev/null >>"$tmp/nbdkit_tcp.log" 2>&1 &
  pid=$!
  for ((i = 0; i < patience * 20; i++)); do
    if [ -s "$tmp/tcp.pid" ] || is_zombie $pid; then break; fi
    sleep 0.05
  done
  [ ! -s "$tmp/tcp.pid" ] || break
done
nbdkit_pids="$nbdkit_pids $pid"
export "SERVER_tcp=nbd://127.0.0.1:$port"

# The volume "inner" lies on a disk of the server "plain": the folder stands for
# /sys, a process that was called as nbd-client is for that.
numbers=$(stat -c %d "$tmp")
numbers=$((numbers >> 8 & 0xfff)):$((numbers & 0xff | numbers >> 12 & 0xfff00))
mkdir -p "$tmp/sys/dev/block/$numbers/slaves/nbd0" "$tmp/sys/dev/block/43:0"
echo 43:0 >"$tmp/sys/dev/block/$numbers/slaves/nbd0/dev"
# shellcheck disable=SC2154
"$python" -c 'import time; time.sleep(1000)' -unix "$sock_plain" /dev/nbd0 &
client=$!
at_exit "kill $client 2>/dev/null"
echo $client >"$tmp/sys/dev/block/43:0/pid"
truncate -s 1M "$tmp/inner.img"
start_nbdkit -n nested "$tmp/inner.img" debug-sysfs="$tmp/sys"
export_server nested

# Where syncs wait while the file is there.
export SLOW_SYNC=$tmp/slow-sync
slow=$tests_builddir/.libs/libslow-sync.so
saved=$sanitize_preload
[ -z "$sanitize_preload" ] || sanitize_preload="$sanitize_preload $slow"
LD_PRELOAD=$slow serve slow flush-limit=0.5
sanitize_preload=$saved
at_exit 'rm -f "$SLOW_SYNC"'

# Persistent sets, where the plugin makes them.
mkdir "$tmp/store"
if ! run_nbdkit --dump-plugin "$plugin" | grep -q '^cowset_store=no'; then
  serve store store="$tmp/store"
fi

"$tests_builddir/conformance/conformance" "$@"
