#!/usr/bin/env bash
# Sessions: what each step of a set answers out of order, beside others, and
# how many there may be.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq

talk=$tests_builddir/e2e/control-talk
A=aaaaaaaa-0000-4000-8000-000000000001
B=bbbbbbbb-0000-4000-8000-000000000002
S=cccccccc-0000-4000-8000-000000000003
T=dddddddd-0000-4000-8000-000000000004
U=dddddddd-0000-4000-8000-000000000005

truncate -s 8M "$tmp/a.img" "$tmp/b.img"
start_nbdkit "$tmp/a.img" "$tmp/b.img" control-sessions=2 snapshot-limit=2 \
  hold-limit=1
control=$(export_uri @control)

coproc ONE { exec "$talk" "$control"; }
one=("${ONE[0]}" "${ONE[1]}")
{ coproc TWO { exec "$talk" "$control"; } } 2>/dev/null
two=("${TWO[0]}" "${TWO[1]}")
at_exit "kill $ONE_PID $TWO_PID 2>/dev/null"

# ask SESSION CODE REQUEST: on slot 1.
ask ()
{
  local -n fd=$1
  echo "call 1 $3" >&"${fd[1]}"
  IFS= read -r answer <&"${fd[0]}"
  [ "$(jq -r .code <<<"$answer")" = "$2" ] || fail "$3: $answer, not $2"
}
# step SESSION CODE STEP SET [MEMBERS]
step () { ask "$1" "$2" "{\"op\":\"set.$3\",\"set\":\"$4\"${5:+,$5}}"; }
start='"context":0,"auto_release":true'
add_a='"volume":"a","snapshot":"'$S'"'
add_b='"volume":"b","snapshot":"'$T'"'

ask one S_OK '{"op":"hello","client":"one"}'
ask two S_OK '{"op":"hello","client":"two"}'

# One more than control-sessions.
printf '%s\n' 'call 1 {"op":"hello"}' | "$talk" "$control" >"$tmp/out"
[ "$(jq -r .code "$tmp/out")" = E_OUTOFMEMORY ] || fail "a third session"
jq -r .message "$tmp/out" | grep -q 'control-sessions=2' || fail "no reason"

# Order.
for s in add prepare commit hold switch settle finish abort; do
  step one VSS_E_OBJECT_NOT_FOUND $s $A "$add_a"
done
step one VSS_E_UNSUPPORTED_CONTEXT start $A '"context":9'
step one VSS_E_UNSUPPORTED_CONTEXT start $A '"context":-1'
step one VSS_E_UNSUPPORTED_CONTEXT start $A '"context":5'
step one E_INVALIDARG start $A '"context":0,"label":"not a label"'
step one E_INVALIDARG start $A '"context":0,"label":"latest"'
step one S_OK start $A "$start,\"label\":\"set-a\""
step one VSS_E_OBJECT_ALREADY_EXISTS start $A "$start"
step two VSS_E_OBJECT_ALREADY_EXISTS start $A "$start"
step two VSS_E_OBJECT_NOT_FOUND add $A "$add_a"
for s in commit hold switch settle finish; do
  step one VSS_E_BAD_STATE $s $A
done
step one VSS_E_OBJECT_NOT_FOUND add $A '"volume":"c","snapshot":"'$S'"'
step one VSS_E_PROVIDER_NOT_REGISTERED add $A "$add_a,\"provider\":\"$B\""
step one S_OK add $A \
  "$add_a,\"provider\":\"8f1f0c0a-6d9a-4d43-9c52-c0d5e7a3b001\""
step one VSS_E_OBJECT_ALREADY_EXISTS add $A "$add_a"

# A volume is in one set at a time; sets over others go on beside it.
step two S_OK start $B "$start"
step two VSS_E_SNAPSHOT_SET_IN_PROGRESS add $B "$add_a"
step two S_OK add $B "$add_b"
step one VSS_E_SNAPSHOT_SET_IN_PROGRESS add $A "$add_b"

step one S_OK prepare $A
for s in add prepare switch settle finish; do
  step one VSS_E_BAD_STATE $s $A "$add_b"
done
step one S_OK commit $A
jq -e '.result.created > 1e18 and .result.hold_ns > 0' <<<"$answer" >/dev/null ||
  fail "$answer"
for s in prepare commit hold switch finish; do
  step one VSS_E_BAD_STATE $s $A
done
ask two S_OK '{"op":"query","context":-1}'
[ "$(jq -c .result.sets <<<"$answer")" = '[]' ] || fail "listed too early"
step one S_OK settle $A
step one S_OK finish $A
step one VSS_E_BAD_STATE abort $A
step one VSS_E_BAD_STATE finish $A
ask two S_OK '{"op":"query","context":-1}'
jq -e '.result.sets | length == 1 and .[0].label == "set-a" and
  .[0].auto_release and .[0].set == "'$A'" and .[0].count == 1 and
  .[0].snapshots[0].device == "a@'$A'" and
  .[0].snapshots[0].state == 12' <<<"$answer" >/dev/null || fail "$answer"
ask two S_OK '{"op":"query","context":16}'
[ "$(jq -c .result.sets <<<"$answer")" = '[]' ] || fail "another context"
ask two S_OK '{"op":"query","context":0,"snapshot":"'$S'"}'
[ "$(jq -r .result.sets[0].set <<<"$answer")" = $A ] || fail "by snapshot"

# Hold and switch apart; a hold that expires is an error, and ends the set.
step two S_OK prepare $B
step two S_OK hold $B
step two S_OK switch $B
step two S_OK abort $B
step two VSS_E_OBJECT_NOT_FOUND abort $B
step two S_OK start $B "$start"
step two S_OK add $B "$add_b"
step two S_OK prepare $B
step two S_OK hold $B '"hold_ms":1'
sleep 0.1
step two VSS_E_HOLD_WRITES_TIMEOUT switch $B
step two VSS_E_BAD_STATE settle $B
step two S_OK abort $B

# What the provider does not make.
C=eeeeeeee-0000-4000-8000-000000000005
cow='"provider":"8f1f0c0a-6d9a-4d43-9c52-c0d5e7a3b001"'
step two S_OK start $C '"context":32'
step two VSS_E_VOLUME_NOT_SUPPORTED add $C "$add_b"
step two VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER add $C "$add_b,$cow"
step two S_OK abort $C

# The limit of snapshots.
step two S_OK start $B "$start"
step two VSS_E_OBJECT_ALREADY_EXISTS add $B "$add_a"
step two S_OK add $B '"volume":"a","snapshot":"'$U'"'
for s in prepare commit settle finish; do step two S_OK $s $B; done
step two S_OK start $C "$start"
step two VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED add $C "$add_a"
step two S_OK abort $C

# Delete: of another session's, too; then the id is not found.
ask two S_OK '{"op":"delete","type":"set","id":"'$A'"}'
[ "$(jq .result.deleted <<<"$answer")" = 1 ] || fail "$answer"
ask two VSS_E_OBJECT_NOT_FOUND '{"op":"delete","type":"set","id":"'$A'"}'
ask two VSS_E_OBJECT_NOT_FOUND '{"op":"delete","type":"snapshot","id":"'$T'"}'
ask two E_INVALIDARG '{"op":"delete","type":"volume","id":"'$A'"}'

# The second session's end takes its set along, and makes room.
exec {two[1]}>&-
room () { [ "$(echo 'call 1 {"op":"hello"}' | "$talk" "$control" |
               jq -r .code)" = S_OK ]; }
eventually room
ask one S_OK '{"op":"query","context":-1}'
[ "$(jq -c .result.sets <<<"$answer")" = '[]' ] || fail "a set was left"
ask one S_OK '{"op":"status"}'
jq -e '.result | .sets == 0 and .sessions == 1 and
  (.io == "io_uring" or .io == "sync") and .volumes[0].snapshots == 0' \
  <<<"$answer" >/dev/null || fail "$answer"
ask one S_OK '{"op":"providers"}'
jq -e '.result.providers[0].name == "cow"' <<<"$answer" >/dev/null ||
  fail "$answer"

exec {one[1]}>&-
stop_nbdkit
