#!/usr/bin/env bash
# Providers: who is chosen, which phase they see when, and what follows when
# one of them is slow, fails, or refuses, in each phase.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq
requires_python nbd

talk=$tests_builddir/e2e/control-talk
cow=8f1f0c0a-6d9a-4d43-9c52-c0d5e7a3b001
hard=11111111-0000-4000-8000-000000000001
soft=22222222-0000-4000-8000-000000000002
sys=33333333-0000-4000-8000-000000000003

truncate -s 8M "$tmp/a.img" "$tmp/b.img"
start_nbdkit "$tmp/a.img" "$tmp/b.img" hold-limit=1 flush-limit=60 \
  debug-provider=hardware:$hard:"$tmp/hard" \
  debug-provider=software:$soft:"$tmp/soft" \
  debug-provider=system:$sys:"$tmp/sys"
control=$(export_uri @control)

coproc TALK { exec "$talk" "$control"; }
at_exit "kill $TALK_PID 2>/dev/null"
requests=0
say ()
{
  echo "$*" >&"${TALK[1]}"
  case $1 in call|send) requests=$((requests + 1)) ;; esac
}
ask ()
{
  local code=$1
  shift
  say "$@"
  IFS= read -r answer <&"${TALK[0]}"
  [ "$(jq -r .code <<<"$answer")" = "$code" ] || fail "$*: $answer, not $code"
}
# step CODE STEP [MEMBERS]
step () { ask "$1" call 1 "{\"op\":\"set.$2\",\"set\":\"$A\"${3:+,$3}}"; }
add () { step "$1" add "\"volume\":\"$2\",\"snapshot\":\"$3\"${4:+,\"provider\":\"$4\"}"; }
rules () { local p=$1; shift; printf '%s\n' "$@" >"$tmp/$p"; }
# calls PROVIDER: what it saw since the last time, "CALL CODE", in order.
calls ()
{
  awk '$4 != "begin" { print $2, $4 }' "$tmp/$1.log" 2>/dev/null || true
  rm -f "$tmp/$1.log"
}
expect () { [ "$2" = "$3" ] || fail "$1: $2, not $3"; }
# These volumes take writes.
writes ()
{
  "$python" - "$@" <<END2
import nbd
import sys
for name in sys.argv[1:]:
    h = nbd.NBD()
    h.connect_uri("nbd+unix:///" + name + "?socket=$sock")
    h.pwrite(b"1" * 4096, 0)
    h.shutdown()
END2
}
# Nothing is left of the set, and the volumes are free.
nothing_left ()
{
  ask S_OK call 1 '{"op":"query","context":-1}'
  [ "$(jq -c .result.sets <<<"$answer")" = '[]' ] || fail "left: $answer"
  writes a b
}

ask S_OK call 1 '{"op":"hello"}'
ask S_OK call 1 '{"op":"providers"}'
[ "$(jq -c '[.result.providers[] | .type]' <<<"$answer")" = '[2,3,2,1]' ] ||
  fail "providers: $answer"

# New ids of a set and of two snapshots.
fresh ()
{
  A=$(cat /proc/sys/kernel/random/uuid)
  S=$(cat /proc/sys/kernel/random/uuid)
  T=$(cat /proc/sys/kernel/random/uuid)
}
# make [PROVIDER of a]: the whole way; $provider is a's.
make_set ()
{
  local s
  fresh
  step S_OK start '"context":0'
  add S_OK a "$S" "$@"
  for s in prepare commit settle finish; do step S_OK $s; done
  ask S_OK call 1 '{"op":"query","context":-1}'
  provider=$(jq -r '.result.sets[0].snapshots[0].provider' <<<"$answer")
}
delete_set () { ask "$1" call 1 '{"op":"delete","type":"set","id":"'$A'"}'; }

# --- which: hardware, then software in order, then system; one by name.
make_set; delete_set S_OK
expect 'hardware first' "$provider" $hard
rules hard 'is-supported no'
make_set; delete_set S_OK
expect 'software next' "$provider" $cow
calls sys >/dev/null
make_set $sys; delete_set S_OK
expect 'by name' "$provider" $sys
expect 'the calls of one set' "$(calls sys | tr '\n' ';')" \
  'begin-prepare S_OK;end-prepare S_OK;pre-commit S_OK;commit S_OK;'\
'post-commit S_OK;pre-final-commit S_OK;post-final-commit S_OK;delete S_OK;'

# supported CODE WANTED MEMBERS
supported ()
{
  ask "$1" call 1 '{"op":"supported","context":0,"volume":'"$3"'}'
  [ "$(jq -r .result.supported <<<"$answer")" = "$2" ] || fail "$3: $answer"
}
supported S_OK true '"a"'
supported S_OK false '"a","provider":"'$hard'"'
supported VSS_E_OBJECT_NOT_FOUND null '"c"'
supported VSS_E_PROVIDER_NOT_REGISTERED null '"a","provider":"'$S'"'
rules hard 'is-supported fail VSS_E_PROVIDER_VETO'
supported VSS_E_PROVIDER_VETO null '"a"'
rules hard 'is-supported no'

# --- what is added: a refusal claims nothing.
fresh
step S_OK start '"context":0'
add VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER a $S $hard
rules sys 'begin-prepare fail VSS_E_PROVIDER_VETO a' \
  'begin-prepare fail VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED b'
add VSS_E_PROVIDER_VETO a $S $sys
add VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED b $T $sys
rules sys 'begin-prepare fail E_FAIL'
add VSS_E_UNEXPECTED_PROVIDER_ERROR a $S $sys
grep -q 'provider test-system-3: BeginPrepareSnapshot: .*E_FAIL' "$nbdkit_log" ||
  fail 'the log does not say what the provider said'
rules sys
# A set that is given up before its provider has prepared tells it nothing.
add S_OK a $S $sys
calls sys >/dev/null
step S_OK abort
expect 'abort before EndPrepareSnapshots' "$(calls sys)" ''
fresh
step S_OK start '"context":32'
add VSS_E_VOLUME_NOT_SUPPORTED a $S
step S_OK abort
rules hard
fresh
step S_OK start '"context":32'
add S_OK a $S
step S_OK abort
rules hard 'is-supported no'

# --- each phase fails: each code; nothing is left, and both providers know.
# one_failure PHASE CODE EXPECTED
one_failure ()
{
  local s
  rules soft "$1 fail $2"
  rules sys
  fresh
  step S_OK start '"context":0'
  add S_OK a $S $sys
  add S_OK b $T $soft
  for s in prepare commit settle finish; do
    case $s:$1 in
      prepare:end-prepare|commit:*-commit|commit:commit|settle:pre-final-commit|\
finish:post-final-commit)
        case $s:$1 in commit:*-final-*) ;; *)
          step "$3" $s
          break ;;
        esac ;;
    esac
    step S_OK $s
  done
  step VSS_E_BAD_STATE commit
  for s in soft sys; do
    expect "$1 fails with $2: aborts of $s" \
      "$(calls $s | grep -c '^abort')" 1
  done
  step S_OK abort
  nothing_left
}
calls soft >/dev/null
calls sys >/dev/null
for phase in end-prepare pre-commit commit post-commit pre-final-commit \
    post-final-commit; do
  one_failure $phase VSS_E_PROVIDER_VETO VSS_E_PROVIDER_VETO
  one_failure $phase E_FAIL VSS_E_UNEXPECTED_PROVIDER_ERROR
done
one_failure end-prepare VSS_E_INSUFFICIENT_STORAGE VSS_E_INSUFFICIENT_STORAGE
one_failure commit VSS_E_INSUFFICIENT_STORAGE VSS_E_UNEXPECTED_PROVIDER_ERROR
one_failure end-prepare VSS_E_REBOOT_REQUIRED VSS_E_REBOOT_REQUIRED
one_failure end-prepare E_OUTOFMEMORY E_OUTOFMEMORY
one_failure end-prepare VSS_E_OBJECT_NOT_FOUND VSS_E_PROVIDER_VETO
one_failure end-prepare 0x80040001 VSS_E_UNEXPECTED_PROVIDER_ERROR
rules soft

# --- slow in the hold: the volumes are let go, and there is no snapshot.
begin ()
{
  fresh
  step S_OK start '"context":0'
  add S_OK a $S $sys
  add S_OK b $T
  calls sys >/dev/null
}
rules sys 'commit slow 100000'
begin
step S_OK prepare
say send 2 "{\"op\":\"set.commit\",\"set\":\"$A\"}"
writes a b
ask VSS_E_HOLD_WRITES_TIMEOUT wait 2
expect 'a late commit is aborted' "$(calls sys | grep -c '^abort')" 1
step S_OK abort
nothing_left

# --- writes flow again while PostCommitSnapshots runs.
rules sys 'post-commit slow 100000'
begin
step S_OK prepare
say send 2 "{\"op\":\"set.commit\",\"set\":\"$A\"}"
saw () { grep -q " $1 .* begin" "$tmp/sys.log" 2>/dev/null; }
eventually saw post-commit
writes a
step S_OK abort
ask E_ABORT wait 2
nothing_left

# --- a cancel ends each phase at once, and the abort reaches the provider.
for phase in end-prepare pre-commit commit post-commit pre-final-commit \
    post-final-commit; do
  rules sys "$phase slow 100000"
  begin
  for s in prepare commit settle finish; do
    say send 2 "{\"op\":\"set.$s\",\"set\":\"$A\"}"
    case $s:$phase in
      prepare:end-prepare|commit:pre-commit|commit:commit|commit:post-commit|\
settle:pre-final-commit|finish:post-final-commit) break ;;
    esac
    ask S_OK wait 2
  done
  eventually saw $phase
  ask S_OK call 0 '{"op":"cancel","slot":2,"id":'$requests'}'
  ask E_ABORT wait 2
  ended () { grep -q " $phase .* VSS_E_PROVIDER_VETO" "$tmp/sys.log"; }
  eventually ended
  expect "aborts after a cancel in $phase" "$(calls sys | grep -c '^abort')" 1
  step S_OK abort
  nothing_left
done

# --- what its provider keeps is not deleted.
rules sys 'delete fail VSS_E_PROVIDER_VETO b'
fresh
step S_OK start '"context":0'
add S_OK a $S $sys
add S_OK b $T $sys
for s in prepare commit settle finish; do step S_OK $s; done
delete_set VSS_E_PROVIDER_VETO
[ "$(jq -c .result <<<"$answer")" = '{"deleted":1,"nondeleted":"'$T'"}' ] ||
  fail "delete: $answer"
rules sys
delete_set S_OK
[ "$(jq -r .result.deleted <<<"$answer")" = 1 ] || fail "delete: $answer"
nothing_left

# --- the requester is killed in each phase: it is as if it had aborted.
# shellcheck disable=SC2153
for phase in end-prepare pre-commit commit post-commit pre-final-commit \
    post-final-commit; do
  rules sys "$phase slow 100000"
  calls sys >/dev/null
  fresh
  { printf 'call 1 {"op":"hello"}\ncall 1 {"op":"set.start","set":"%s","context":0}\n' $A
    printf 'call 1 {"op":"set.add","set":"%s","volume":"a","snapshot":"%s","provider":"%s"}\n' $A $S $sys
    for s in prepare commit settle finish; do
      printf 'call 1 {"op":"set.%s","set":"%s"}\n' $s $A
    done; } >"$tmp/commands"
  "$talk" "$control" <"$tmp/commands" >/dev/null 2>&1 &
  pid=$!
  at_exit "kill $pid 2>/dev/null"
  eventually saw $phase
  kill -KILL $pid
  aborted () { grep -q " abort .* S_OK" "$tmp/sys.log"; }
  eventually aborted
  rules sys
  nothing_left
  make_set $sys
  delete_set S_OK
done

# nbdkit waits for connections that are silent.
exec {TALK[1]}>&-
stop_nbdkit
