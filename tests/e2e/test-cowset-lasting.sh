#!/usr/bin/env bash
# cowset create over two servers that have a store: the set lasts; and in each
# late phase a server or the requester dies: afterwards it is everywhere or
# nowhere, nothing is held, and no doubt is left once both are reached.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq nbdcopy cmp
requires_python nbd

hard=11111111-0000-4000-8000-000000000001
mkdir "$tmp"/store.{one,two}
head -c 1M /dev/urandom >"$tmp/a.img"
head -c 1M /dev/urandom >"$tmp/b.img"
flush_limit=60
declare -A volume_of=([one]=a [two]=b)
serve ()
{
  start_nbdkit -n "$1" "$tmp/${volume_of[$1]}.img" store="$tmp/store.$1" \
    store-reserve=0 hold-limit=2 flush-limit=$flush_limit debug-provider=hardware:$hard:"$tmp/hard.$1"
}
crash ()
{
  local p=nbdkit_pid_$1
  kill -KILL "${!p}" 2>/dev/null || true
  bury "$1"
}
bury ()
{
  local p=nbdkit_pid_$1
  nbdkit_pids=$(printf ' %s ' "$nbdkit_pids" | sed "s/ ${!p} / /")
  wait "${!p}" 2>/dev/null || true
}
# A server that goes on after it was given up; nbdkit of some versions aborts.
revive ()
{
  local p=nbdkit_pid_$1 i
  for ((i = 0; i < 20; i++)); do
    if is_zombie "${!p}"; then bury "$1"; serve "$1"; return; fi
    sleep 0.05
  done
}
both () { "$cowset" -c "$uri_one" -c "$uri_two" "$@"; }
sets () { "$cowset" -c "$1" list --json | jq -r 'map(.set) | sort | .[]'; }
# fill NAME BYTE: all of it, acknowledged.
fill ()
{
  "$python" - "$(export_uri "${volume_of[$1]}" "$1")" "$2" <<'PY'
import sys, nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(sys.argv[2].encode() * h.get_size(), 0)
h.flush()
h.shutdown()
PY
}
# right SET: as they were when it was made.
right ()
{
  local s
  for s in one two; do
    nbdcopy "$(export_uri "${volume_of[$s]}@$1" $s)" "$tmp/now"
    cmp "$tmp/now" "$tmp/$s.was"
  done
}
remember ()
{
  local s
  for s in one two; do
    nbdcopy "$(export_uri "${volume_of[$s]}" $s)" "$tmp/$s.was"
  done
}

serve one
serve two

# --- made, listed as one, there after a stop and after a crash.
remember
both create --label first a b >"$tmp/out"
[ "$(wc -l <"$tmp/out")" = 3 ] || fail "create: $(cat "$tmp/out")"
first=$(head -n 1 "$tmp/out")
both info --json first | jq -e '.persistent and (.in_doubt | not) and
  (.snapshots | length) == 2' >/dev/null || fail 'info'
fill one x
fill two x
stop_nbdkit "$nbdkit_pid_one"
crash two
serve one
serve two
fill one y
fill two y
right "$first"
both delete first >/dev/null
[ -z "$(sets "$uri_one")$(sets "$uri_two")" ] || fail 'it is left'

saw () { grep -q " $2 .* begin" "$tmp/hard.$1.log" 2>/dev/null; }
takes_writes () { fill one z; fill two z; }

# cell PHASE AT VICTIM OUTCOME: while the server AT is in PHASE the victim dies
# or (cancel) the requester is interrupted.
cell ()
{
  local what="$1 at $2, $3" pid status=0 s at=nbdkit_pid_$2
  rm -f "$tmp"/hard.*.log
  : >"$tmp/hard.one"
  : >"$tmp/hard.two"
  remember
  # Where another is to die it goes on by itself.
  case $3 in
    "$2"|cancel|requester|hang) echo "$1 slow 60000" >"$tmp/hard.$2" ;;
    *) echo "$1 slow 1500" >"$tmp/hard.$2" ;;
  esac
  "$cowset" -c "$uri_one" -c "$uri_two" create --label cell a b \
    >"$tmp/out" 2>"$tmp/err" &
  pid=$!
  at_exit "kill -KILL $pid 2>/dev/null"
  eventually saw "$2" "$1"
  case $3 in
    requester) kill -KILL $pid ;;
    cancel) kill -INT $pid ;;
    hang) kill -STOP "${!at}" ;;
    *) crash "$3" ;;
  esac
  wait $pid || status=$?
  [ $status != 0 ] || fail "$what: create did not fail"
  [ $4 = nowhere ] || grep -q "is made all the same" "$tmp/err" ||
    fail "$what: $(cat "$tmp/err")"
  : >"$tmp/hard.$2"
  case $3 in
    one|two) serve "$3" ;;
    hang) kill -CONT "${!at}"; revive "$2" ;;
  esac
  takes_writes
  both list >"$tmp/out"
  s=$(sets "$uri_one")
  [ "$s" = "$(sets "$uri_two")" ] || fail "$what: it is at one of them only"
  both list --json | jq -e 'any(.[]; .in_doubt) | not' >/dev/null ||
    fail "$what: a doubt is left"
  case $4 in
    nowhere) [ -z "$s" ] || fail "$what: it was made" ;;
    everywhere)
      [ -n "$s" ] || fail "$what: it was not made"
      right "$s"
      both delete "$s" >/dev/null ;;
  esac
  # A requester that was killed leaves its volumes as the servers notice.
  eventually both create --label next a b >/dev/null 2>&1
  both delete next >/dev/null
}

# Settling, before any vote.
for who in one two requester cancel; do
  cell pre-final-commit one $who nowhere
done
# The vote.
for who in one two requester cancel; do
  cell post-final-commit two $who nowhere
done
# The home decides; the other has voted.
for who in one requester cancel; do
  cell post-final-commit one $who nowhere
done
cell post-final-commit one two everywhere

# One that hangs is given up after its limit (HANG_HOME=1: also the home, which
# takes a while, as it is looked for again).
stop_nbdkit "$nbdkit_pid_one"
stop_nbdkit "$nbdkit_pid_two"
flush_limit=1
serve one
serve two
cell post-final-commit two hang nowhere
[ -z "${HANG_HOME:-}" ] || cell post-final-commit one hang nowhere

stop_nbdkit "$nbdkit_pid_one"
stop_nbdkit "$nbdkit_pid_two"
