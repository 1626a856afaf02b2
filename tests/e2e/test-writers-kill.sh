#!/usr/bin/env bash
# The requester is killed in each of its phases, and so is the watchdog: every
# writer that was told to prepare or to freeze is told to thaw or to abort.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/writers.sh"

truncate -s 4M "$tmp/a.img"
export SLOW_SYNC=$tmp/slow
slow=$tests_builddir/.libs/libslow-sync.so
[ -z "$sanitize_preload" ] || sanitize_preload="$sanitize_preload $slow"
LD_PRELOAD=$slow start_nbdkit "$tmp/a.img" flush-limit=50
at_exit 'rm -f "$SLOW_SYNC"'
export COWSET_URI=$uri

make_hook app
make_hook base level=system
# As the guest agent has them: thaw is what it has for an abort.
cat >"$tmp/hooks/agent" <<END
#!/bin/sh
case \$1 in
  freeze|thaw) echo "agent \$1" >>"$tmp/seen" ;;
  *) exit 1 ;;
esac
END
chmod 755 "$tmp/hooks/agent"

is_over () { grep -qx "$1 \(abort\|thaw\)" "$tmp/seen"; }
# After FIRST, there is an end for whoever has begun.
all_over ()
{
  local w
  for w in app base agent; do
    if grep -qx "$w \(prepare-.*\|freeze\)" "$tmp/seen" && ! is_over "$w"; then
      return 1
    fi
  done
}
is_clean () { [ "$("$cowset" list --json | tr -d '[:space:]')" = '[]' ]; }

# start: a requester in the background; it is $maker.
start ()
{
  "$cowset" create --writer "exec:$tmp/hooks" a >"$tmp/out" 2>"$tmp/err" &
  maker=$!
}
die ()
{
  kill -KILL "$maker"
  wait "$maker" 2>/dev/null || true
}

for phase in prepare-backup prepare-snapshot freeze thaw post-snapshot; do
  for w in app base; do
    forget
    touch "$tmp/block.$w.$phase"
    start
    eventually has_seen "$w" "$phase"
    die
    rm "$tmp/block.$w.$phase"
    case $phase in
      post-snapshot) ;;         # all are thawed already
      *) eventually all_over
         is_over "$w" || fail "killed at $w's $phase: $(cat "$tmp/seen")" ;;
    esac
    eventually is_clean
    eventually has_seen app backup-shutdown
  done
done

# In a request to the server, which waits.
forget
touch "$SLOW_SYNC"
start
eventually has_seen base prepare-snapshot
sleep 0.2
die
eventually all_over
rm -f "$SLOW_SYNC"
is_over app || fail "killed at the server's prepare: $(cat "$tmp/seen")"
eventually is_clean

# While a program hangs at its freeze for good: it is killed, then told.
forget
touch "$tmp/block.app.freeze"
start
eventually has_seen app freeze
die
eventually has_seen app abort
! grep -qx 'app freeze done' "$tmp/done" || fail "it was not killed"
rm -f "$tmp/block.app.freeze"

# The requester hangs instead: nobody is frozen for longer than it may be, and
# the set that comes of it fails.
forget
touch "$tmp/block.base.thaw"
"$cowset" create --freeze-timeout 2 --writer "exec:$tmp/hooks" a \
  >"$tmp/out" 2>"$tmp/err" &
maker=$!
eventually has_seen base thaw
kill -STOP "$maker"
eventually has_seen app abort
rm "$tmp/block.base.thaw"
kill -CONT "$maker"
status=0
wait "$maker" || status=$?
[ "$status" = 1 ] || fail "frozen for too long: $status"
grep -q 'VSS_E_WRITERERROR_TIMEOUT' "$tmp/err" || fail "$(cat "$tmp/err")"
is_clean || fail "a late set"

# The watchdog is killed: another takes its place, and the set fails.
watchdog_of ()
{
  local p
  for p in /proc/[0-9]*; do
    if [ "$(cat "$p/comm" 2>/dev/null)" = cowset-watchdog ] &&
       tr '\0' ' ' <"$p/cmdline" 2>/dev/null | grep -q " $1 \$"; then
      echo "${p#/proc/}"
    fi
  done
}
for event in prepare-snapshot freeze thaw; do
  forget
  touch "$tmp/block.base.$event"
  start
  eventually has_seen base "$event"
  dog=$(watchdog_of "$maker")
  [ -n "$dog" ] || fail "no watchdog"
  kill -KILL "$dog"
  eventually all_over
  rm "$tmp/block.base.$event"
  status=0
  wait "$maker" || status=$?
  [ "$status" = 1 ] || fail "watchdog killed at $event: $status"
  is_over app || fail "watchdog killed at $event: $(cat "$tmp/seen")"
  is_over base || fail "watchdog killed at $event: $(cat "$tmp/seen")"
  grep -q 'watchdog has died' "$tmp/err" || fail "$(cat "$tmp/err")"
  is_clean || fail "a set that nobody was frozen for"
done
stop_nbdkit
