#!/usr/bin/env bash
# An origin whose sync does not end: the step that waits for it has a limit, can
# be cancelled and aborted, and ends with its requester; writes go on meanwhile.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq
requires_python nbd

talk=$tests_builddir/e2e/control-talk
A=aaaaaaaa-0000-4000-8000-000000000001
S=cccccccc-0000-4000-8000-000000000003

truncate -s 8M "$tmp/a.img"
export SLOW_SYNC=$tmp/slow
slow=$tests_builddir/.libs/libslow-sync.so
[ -z "$sanitize_preload" ] || sanitize_preload="$sanitize_preload $slow"
LD_PRELOAD=$slow start_nbdkit "$tmp/a.img" flush-limit=0.3
control=$(export_uri @control)
at_exit 'rm -f "$SLOW_SYNC"'

coproc TALK { exec "$talk" "$control"; }
at_exit "kill $TALK_PID 2>/dev/null"
# say COMMAND: no answer;  ask CODE COMMAND: with that answer.
say () { echo "$*" >&"${TALK[1]}"; }
ask ()
{
  local code=$1
  shift
  say "$@"
  IFS= read -r answer <&"${TALK[0]}"
  [ "$(jq -r .code <<<"$answer")" = "$code" ] || fail "$*: $answer, not $code"
}
new_set ()
{
  ask S_OK call 1 '{"op":"set.start","set":"'$A'","context":0}'
  ask S_OK call 1 '{"op":"set.add","set":"'$A'","volume":"a","snapshot":"'$S'"}'
}
prepare='{"op":"set.prepare","set":"'$A'"}'
# Requests in two slots are two threads': let the first begin.
let_it_begin () { sleep 0.5; }

ask S_OK call 1 '{"op":"hello"}'

# Over its limit: the answer comes though the sync has not ended.  A write
# without a flush goes on meanwhile.
new_set
touch "$SLOW_SYNC"
say send 2 "$prepare"
"$python" - "$(export_uri a)" <<'END'
import nbd
import sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(b"1" * 4096, 0)
h.shutdown()
END
ask VSS_E_FLUSH_WRITES_TIMEOUT wait 2
rm "$SLOW_SYNC"
ask VSS_E_BAD_STATE call 1 '{"op":"set.commit","set":"'$A'"}'
ask S_OK call 1 '{"op":"set.abort","set":"'$A'"}'

# Its own limit, longer than the server's, is kept to.
new_set
touch "$SLOW_SYNC"
say send 2 '{"op":"set.prepare","set":"'$A'","timeout_ms":50000}'
let_it_begin
ask VSS_E_BAD_STATE call 3 "$prepare"
sleep 0.6
rm "$SLOW_SYNC"
ask S_OK wait 2
ask S_OK call 1 '{"op":"set.abort","set":"'$A'"}'

# A busy slot takes nothing; the cancel of another request does nothing; the
# cancel of this one ends it.  The volume is free at once.
new_set
touch "$SLOW_SYNC"
say send 2 '{"op":"set.prepare","set":"'$A'","timeout_ms":50000}'
say send 2 '{"op":"ping"}'
IFS= read -r answer <&"${TALK[0]}"
[ "$answer" = 'error: EINVAL' ] || fail "a busy slot: $answer"
# Counted: hello, 2 + 1 + 2, 2 + 3, 2, and this prepare.
id=14
let_it_begin
ask S_FALSE call 0 '{"op":"cancel","slot":2,"id":999}'
ask S_FALSE call 0 '{"op":"cancel","slot":3,"id":'$id'}'
ask S_OK call 0 '{"op":"cancel","slot":2,"id":'$id'}'
echo 'call 1 {"op":"hello"}
call 1 {"op":"set.start","set":"'$S'","context":0}
call 1 {"op":"set.add","set":"'$S'","volume":"a","snapshot":"'$S'"}' |
  "$talk" "$control" | jq -s -e 'all(.[]; .hr == 0)' >/dev/null ||
  fail "the volume of a cancelled set is not free"
ask E_ABORT wait 2
rm "$SLOW_SYNC"
ask VSS_E_BAD_STATE call 1 '{"op":"set.commit","set":"'$A'"}'
ask S_OK call 1 '{"op":"set.abort","set":"'$A'"}'

# An abort from beside.
new_set
touch "$SLOW_SYNC"
say send 2 '{"op":"set.prepare","set":"'$A'","timeout_ms":50000}'
let_it_begin
ask S_OK call 1 '{"op":"set.abort","set":"'$A'"}'
new_set
ask E_ABORT wait 2
rm "$SLOW_SYNC"
ask S_OK call 1 '{"op":"set.abort","set":"'$A'"}'

# The requester is killed while its read waits for the answer.
new_set
touch "$SLOW_SYNC"
say call 2 '{"op":"set.prepare","set":"'$A'","timeout_ms":50000}'
# shellcheck disable=SC2153
pid=$TALK_PID
is_waiting ()
{
  echo 'call 1 {"op":"hello"}
call 1 {"op":"set.start","set":"'$S'","context":0}
call 1 {"op":"set.add","set":"'$S'","volume":"a","snapshot":"'$S'"}' |
    "$talk" "$control" | jq -s -e ".[2].code == \"$1\"" >/dev/null
}
is_waiting VSS_E_SNAPSHOT_SET_IN_PROGRESS || fail "the claim was not kept"
kill -KILL "$pid"
eventually is_waiting S_OK
rm "$SLOW_SYNC"

stop_nbdkit
