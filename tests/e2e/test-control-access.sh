#!/usr/bin/env bash
# control=: who may use @control.  Who may not can open it, but does not find
# it in the list, and is told E_ACCESSDENIED.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires nbdinfo jq

talk=$tests_builddir/e2e/control-talk
truncate -s 1M "$tmp/a.img"

# start_tcp NAME ARGUMENT...: a server on a port of 127.0.0.1, $uri_NAME.
start_tcp ()
{
  local name=$1 port i pid
  shift
  for _ in 1 2 3 4 5; do
    port=$((20000 + RANDOM))
    ( exec_nbdkit -f -i 127.0.0.1 -p $port -P "$tmp/$name.pid" "$plugin" "$@" ) \
      </dev/null >>"$tmp/nbdkit_$name.log" 2>&1 &
    pid=$!
    for ((i = 0; i < patience * 20; i++)); do
      if [ -s "$tmp/$name.pid" ]; then
        nbdkit_pids="$nbdkit_pids $pid"
        printf -v "port_$name" %s "$port"
        return 0
      fi
      if is_zombie "$pid"; then break; fi
      sleep 0.05
    done
    wait "$pid" || true
  done
  fail "no free port found"
}

# listed URI, code URI
listed ()
{
  nbdinfo --list --json "$1" |
    jq -e 'any(.exports[]["export-name"]; . == "@control")' >/dev/null
}
code ()
{
  printf '%s\n' 'call 0 {"op":"ping"}' 'call 1 {"op":"hello"}' | "$talk" "$1" |
    jq -r .code | tr '\n' ' '
}

start_nbdkit "$tmp/a.img"
listed "$uri" || fail "unix: not in the list"
[ "$(code "$(export_uri @control)")" = "S_OK S_OK " ] || fail "unix: refused"
stop_nbdkit

start_tcp tcp "$tmp/a.img"
if listed "nbd://127.0.0.1:$port_tcp"; then fail "unix: in the list on TCP"; fi
[ "$(code "nbd://127.0.0.1:$port_tcp/@control")" \
    = "E_ACCESSDENIED E_ACCESSDENIED " ] || fail "unix: let in over TCP"
printf '%s\n' 'greeting 1' 'call 1 {"op":"hello"}' 'greeting 1' |
  "$talk" "nbd://127.0.0.1:$port_tcp/@control" >"$tmp/out"
[ "$(sed -n 1p "$tmp/out")" = greeting ] || fail "no greeting over TCP"
sed -n 2p "$tmp/out" | jq -r .message | grep -q 'Unix socket' ||
  fail "the message does not say what to do"
[ "$(nbdinfo --size "nbd://127.0.0.1:$port_tcp/a")" = 1048576 ] ||
  fail "the volume is not served over TCP"
end_process "$(cat "$tmp/tcp.pid")"

start_tcp any "$tmp/a.img" control=any
listed "nbd://127.0.0.1:$port_any" || fail "any: not in the list"
[ "$(code "nbd://127.0.0.1:$port_any/@control")" = "S_OK S_OK " ] ||
  fail "any: refused"
end_process "$(cat "$tmp/any.pid")"

start_nbdkit -n off "$tmp/a.img" control=off
if listed "$uri_off"; then fail "off: in the list"; fi
if nbdinfo "$(export_uri @control off)" >/dev/null 2>&1; then
  fail "off: can be opened"
fi
stop_nbdkit "$nbdkit_pid_off"
