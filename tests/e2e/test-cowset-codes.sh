#!/usr/bin/env bash
# Each code that making a set can end with: what brings it about, what the
# command says of it, and whether it tries again.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq
requires_python nbd

hard=11111111-0000-4000-8000-000000000001
truncate -s 8M "$tmp/a.img"
export SLOW_SYNC=$tmp/slow
slow=$tests_builddir/.libs/libslow-sync.so
[ -z "$sanitize_preload" ] || sanitize_preload="$sanitize_preload $slow"
LD_PRELOAD=$slow start_nbdkit "$tmp/a.img" hold-limit=0.5 flush-limit=0.5 \
  debug-provider=hardware:$hard:"$tmp/hard"
at_exit 'rm -f "$SLOW_SYNC"'

# code NAME VALUE TRIES [OPTION...]: what create says, and how often it tried.
tries () { grep -c ' begin-prepare .* begin' "$tmp/hard.log" || true; }
code ()
{
  local name=$1 value=$2 wanted=$3 status=0
  shift 3
  rm -f "$tmp/hard.log"
  "$cowset" -c "$uri" create "$@" a >"$tmp/out" 2>"$tmp/err" || status=$?
  [ $status = 1 ] || fail "$name: status $status: $(cat "$tmp/err")"
  grep -q "($name, $value)" "$tmp/err" || fail "$name: $(cat "$tmp/err")"
  # What to do is on a line of its own, or at the message's end.
  grep -qE 'what to do: .|; [a-z].* \('"$name" "$tmp/err" ||
    fail "$name: no advice: $(cat "$tmp/err")"
  [ "$(tries)" = "$wanted" ] || fail "$name: $(tries) tries, not $wanted"
}

# The four that pass are tried again, thrice, if that is asked for.
touch "$SLOW_SYNC"
code VSS_E_FLUSH_WRITES_TIMEOUT 0x80042313 1
code VSS_E_FLUSH_WRITES_TIMEOUT 0x80042313 4 --retry=0
rm "$SLOW_SYNC"
echo 'commit slow 60000' >"$tmp/hard"
code VSS_E_HOLD_WRITES_TIMEOUT 0x80042314 1
code VSS_E_HOLD_WRITES_TIMEOUT 0x80042314 4 --retry=0
echo 'end-prepare fail VSS_E_PROVIDER_VETO' >"$tmp/hard"
code VSS_E_PROVIDER_VETO 0x80042306 4 --retry=0
echo 'end-prepare slow 60000' >"$tmp/hard"
code VSS_E_PROVIDER_VETO 0x80042306 1
echo 'post-commit fail E_FAIL' >"$tmp/hard"
code VSS_E_UNEXPECTED_PROVIDER_ERROR 0x8004230f 4 --retry=0

# The others are not.
echo 'end-prepare fail VSS_E_REBOOT_REQUIRED' >"$tmp/hard"
code VSS_E_REBOOT_REQUIRED 0x80042327 1 --retry=0
echo 'end-prepare fail VSS_E_INSUFFICIENT_STORAGE' >"$tmp/hard"
code VSS_E_INSUFFICIENT_STORAGE 0x8004231f 1 --retry=0
echo 'pre-commit fail E_OUTOFMEMORY' >"$tmp/hard"
code E_OUTOFMEMORY 0x8007000e 1 --retry=0

# It goes well the second time.
rm -f "$tmp/hard.log"
echo 'end-prepare fail VSS_E_PROVIDER_VETO' >"$tmp/hard"
"$cowset" -c "$uri" run --retry=2 a -- true 2>"$tmp/err" &
pid=$!
at_exit "kill $pid 2>/dev/null"
said () { grep -q "trying again in $1 s (1 of 3)" "$tmp/err"; }
eventually said 2
rm "$tmp/hard"
wait $pid || fail "not better the second time: $(cat "$tmp/err")"
[ "$(tries)" = 2 ] || fail "$(tries) tries"

# A signal ends the wait.
echo 'end-prepare fail VSS_E_PROVIDER_VETO' >"$tmp/hard"
"$cowset" -c "$uri" create --retry a 2>"$tmp/err" &
pid=$!
at_exit "kill $pid 2>/dev/null"
eventually said 600
kill -INT $pid
status=0
wait $pid || status=$?
[ $status = 1 ] || fail "interrupted: status $status"
for wrong in -1 x 1x 90000; do
  status=0
  "$cowset" -c "$uri" create --retry=$wrong a 2>"$tmp/err" || status=$?
  [ $status = 2 ] || fail "--retry=$wrong: status $status"
done
stop_nbdkit

# A server whose store has no room.
rm -f "$tmp/hard"
start_nbdkit "$tmp/a.img" store-reserve=1E \
  debug-provider=hardware:$hard:"$tmp/hard"
code VSS_E_INSUFFICIENT_STORAGE 0x8004231f 1 --retry=0
stop_nbdkit

# A store that has failed, as its disk did, is not believed again before the
# server is started anew; the volume is served on.
mkdir "$tmp/store"
serve_failing ()
{
  FAIL_SYNC=$tmp/failing LD_PRELOAD=$slow start_nbdkit "$tmp/a.img" \
    io=sync store="$tmp/store" store-reserve=0 \
    debug-provider=hardware:$hard:"$tmp/hard"
}
serve_failing
touch "$tmp/failing"
code VSS_E_REBOOT_REQUIRED 0x80042327 1 --retry=0
rm "$tmp/failing"
code VSS_E_REBOOT_REQUIRED 0x80042327 1 --retry=0
"$cowset" -c "$uri" status --json | jq -e .store.failed >/dev/null ||
  fail 'status does not say that the store has failed'
"$python" - "$(export_uri a)" <<'END2'
import nbd
import sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(b"1" * 65536, 0)
h.flush()
h.shutdown()
END2
kill "$nbdkit_pid"
wait "$nbdkit_pid" || true      # it says that the store was not closed in order
nbdkit_pids=
serve_failing
"$cowset" -c "$uri" create a >/dev/null || fail 'not better after a restart'
stop_nbdkit
