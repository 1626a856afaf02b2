#!/usr/bin/env bash
# A set over two servers: one instant, listed as one; it is made at both or at
# none, whatever becomes of one of them and when; and it ends with either.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq nbdcopy
requires_python nbd

hard=11111111-0000-4000-8000-000000000001

truncate -s 8M "$tmp"/{a,b,c}.img
start_nbdkit -n one "$tmp/a.img" "$tmp/b.img" hold-limit=1
start_two ()
{
  start_nbdkit -n two "$tmp/c.img" a2:"$tmp/b.img.2" hold-limit=1 \
    debug-provider=hardware:$hard:"$tmp/hard"
}
truncate -s 8M "$tmp/b.img.2"
start_two
# shellcheck disable=SC2154
both=(-c "$uri_one" -c "$uri_two")

# writes EXPORT SERVER: it takes one.
writes ()
{
  "$python" - "$(export_uri "$1" "$2")" <<'END2'
import nbd
import sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(b"1" * 4096, 0)
h.shutdown()
END2
}
sets () { "$cowset" -c "$1" list --json | jq -r length; }
none () { [ "$(sets "$1")" = 0 ]; }

# --- one set, seen as one.
"$cowset" "${both[@]}" run --label both a c -- sh -c '
  '"$cowset"' -c "'"$uri_one"'" -c "'"$uri_two"'" list --json >'"$tmp"'/list
  '"$cowset"' -c "'"$uri_two"'" list --json >'"$tmp"'/list.two
  echo "$COWSET_URIS" | while read -r name uri; do
    [ -z "$name" ] || nbdcopy "$uri" '"$tmp"'/$name.copy || exit 1
  done'
jq -e 'length == 1 and .[0].label == "both" and
  (.[0].snapshots | length) == 2' "$tmp/list" >/dev/null ||
  fail "the list: $(cat "$tmp/list")"
jq -e '.[0].snapshots | length == 1' "$tmp/list.two" >/dev/null ||
  fail "the list of one server: $(cat "$tmp/list.two")"
cmp "$tmp/a.img" "$tmp/a.copy"
cmp "$tmp/c.img" "$tmp/c.copy"
none "$uri_one" || fail 'the set is left at the first server'
none "$uri_two" || fail 'the set is left at the second server'

# Volumes by their URIs need no -c; --all is all of all servers.
"$cowset" run "$(export_uri b one)" "$(export_uri a2 two)" -- \
  sh -c 'echo "$COWSET_URIS" | grep -c . >'"$tmp/count"
[ "$(cat "$tmp/count")" = 2 ] || fail 'by URIs'
"$cowset" "${both[@]}" run --all -- \
  sh -c 'echo "$COWSET_URIS" | grep -c . >'"$tmp/count"
[ "$(cat "$tmp/count")" = 4 ] || fail '--all'
if "$cowset" "${both[@]}" run nix -- true 2>"$tmp/err"; then
  fail 'a volume that nobody has'
fi
grep -q 'none of the servers has' "$tmp/err" || fail "$(cat "$tmp/err")"
if "$cowset" "${both[@]}" -c "$uri_one" run a c -- true; then :; else
  fail 'the same server twice'
fi

# It was killed; or it has aborted, which nbdkit of some versions does when a
# client leaves with several answers in flight, as one does that gives it up.
forget_two ()
{
  wait "$nbdkit_pid_two" 2>/dev/null || true
  nbdkit_pids=$(printf ' %s ' "$nbdkit_pids" | sed "s/ $nbdkit_pid_two / /")
}
revive_two ()
{
  local i
  for ((i = 0; i < 20; i++)); do
    if ! kill -0 "$nbdkit_pid_two" 2>/dev/null || is_zombie "$nbdkit_pid_two"
    then
      forget_two
      start_two
      return
    fi
    sleep 0.05
  done
}

# --- in each phase the second server fails, hangs, or dies.
saw () { grep -q " $1 .* begin" "$tmp/hard.log" 2>/dev/null; }
for phase in end-prepare pre-commit commit post-commit pre-final-commit \
    post-final-commit; do
  for what in fail slow stop kill; do
    case $phase:$what in
      *:kill|end-prepare:*|commit:*|post-final-commit:*) ;;
      *) continue ;;
    esac
    rm -f "$tmp/hard.log"
    case $what in
      fail) echo "$phase fail VSS_E_PROVIDER_VETO" >"$tmp/hard" ;;
      *) echo "$phase slow 100000" >"$tmp/hard" ;;
    esac
    "$cowset" "${both[@]}" create a c >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    at_exit "kill -KILL $pid 2>/dev/null"
    eventually saw $phase
    # shellcheck disable=SC2154
    case $what in
      slow) [ $phase = commit ] || kill -INT $pid ;;
      stop) kill -STOP "$nbdkit_pid_two"; [ $phase = commit ] || kill -INT $pid ;;
      kill) kill -KILL "$nbdkit_pid_two" ;;
    esac
    # Nobody stays held.
    writes a one
    status=0
    wait $pid || status=$?
    [ $status = 1 ] || fail "$phase, $what: status $status, $(cat "$tmp/err")"
    none "$uri_one" || fail "$phase, $what: a set is left at the first server"
    if [ $what = stop ]; then
      kill -CONT "$nbdkit_pid_two"
    fi
    [ $what = fail ] || [ $what = slow ] || revive_two
    writes c two
    eventually none "$uri_two"
    : >"$tmp/hard"
    "$cowset" "${both[@]}" run a c -- true ||
      fail "$phase, $what: the volumes are not free"
  done
done

# --- the set ends with either of its servers.
"$cowset" "${both[@]}" create a c >"$tmp/out" 2>"$tmp/err" &
pid=$!
at_exit "kill -KILL $pid 2>/dev/null"
made () { [ "$(wc -l <"$tmp/out")" -ge 3 ]; }
eventually made
[ "$(sets "$uri_one")" = 1 ] || fail 'no set at the first server'
kill -KILL "$nbdkit_pid_two"
eventually none "$uri_one"
status=0
wait $pid || status=$?
[ $status = 1 ] || fail "create, whose server has gone, ended with $status"
forget_two

# shellcheck disable=SC2154
stop_nbdkit "$nbdkit_pid_one"
