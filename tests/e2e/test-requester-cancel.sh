#!/usr/bin/env bash
# An interrupt while a set is being made, most often while it waits for an
# origin's sync: the set is given up, and its volume is free for the next.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq

truncate -s 8M "$tmp/a.img"
export SLOW_SYNC=$tmp/slow
slow=$tests_builddir/.libs/libslow-sync.so
[ -z "$sanitize_preload" ] || sanitize_preload="$sanitize_preload $slow"
LD_PRELOAD=$slow start_nbdkit "$tmp/a.img" flush-limit=50
at_exit 'rm -f "$SLOW_SYNC"'
export COWSET_URI=$uri

# Wherever the interrupt finds it, the outcome is the same.
for delay in 0 0.02 0.1 0.5; do
  touch "$SLOW_SYNC"
  "$cowset" create a >"$tmp/out" 2>"$tmp/err" &
  maker=$!
  sleep $delay
  # Before the command has blocked its signals an interrupt ends it the plain
  # way; it has once it talks to the server.
  while kill -0 "$maker" 2>/dev/null &&
        [ "$(sed -n 's/^SigBlk:[[:space:]]*//p' "/proc/$maker/status")" = \
          0000000000000000 ]; do
    sleep 0.01
  done
  kill -TERM "$maker"
  sleep 0.2
  rm "$SLOW_SYNC"
  status=0
  wait "$maker" || status=$?
  [ "$status" = 1 ] || fail "interrupted after $delay s: $status"
  grep -q 'interrupted, no set was made' "$tmp/err" ||
    fail "after $delay s: $(cat "$tmp/err")"
  [ ! -s "$tmp/out" ] || fail "it printed $(cat "$tmp/out")"
  [ "$("$cowset" list --json | jq length)" = 0 ] || fail "it left a set"
  "$cowset" run a -- true
done
stop_nbdkit

# The flush takes longer than it may.
LD_PRELOAD=$slow start_nbdkit "$tmp/a.img" flush-limit=0.2
touch "$SLOW_SYNC"
( sleep 1; rm -f "$SLOW_SYNC" ) &
status=0
"$cowset" run a -- true 2>"$tmp/err" || status=$?
wait "$!"
[ "$status" = 125 ] || fail "over its limit: $status"
grep -q 'VSS_E_FLUSH_WRITES_TIMEOUT, 0x80042313' "$tmp/err" ||
  fail "$(cat "$tmp/err")"
grep -q 'ten minutes' "$tmp/err" || fail "no advice: $(cat "$tmp/err")"
"$cowset" run a -- true
