#!/usr/bin/env bash
# Sessions over TCP: 30 s of silence end one; a resumable one leaves its
# auto-release sets waiting for session-grace, for whoever knows its secret.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq

talk=$tests_builddir/e2e/control-talk
A=aaaaaaaa-0000-4000-8000-000000000001
B=bbbbbbbb-0000-4000-8000-000000000002
C=cccccccc-0000-4000-8000-000000000003

truncate -s 8M "$tmp/a.img" "$tmp/b.img" "$tmp/c.img"
for _ in 1 2 3 4 5; do
  port=$((20000 + RANDOM))
  ( exec_nbdkit -f -i 127.0.0.1 -p $port -P "$tmp/pid" "$plugin" \
      "$tmp/a.img" "$tmp/b.img" "$tmp/c.img" control=any session-grace=5 ) \
    </dev/null >>"$tmp/nbdkit.log" 2>&1 &
  nbdkit_pid=$!
  for ((i = 0; i < patience * 20; i++)); do
    [ ! -s "$tmp/pid" ] || break 2
    if is_zombie "$nbdkit_pid"; then break; fi
    sleep 0.05
  done
  wait "$nbdkit_pid" || true
done
nbdkit_pids="$nbdkit_pids $nbdkit_pid"
control=nbd://127.0.0.1:$port/@control

# make SET VOLUME [HELLO-MEMBERS]: commands that make a set.
make ()
{
  echo "call 1 {\"op\":\"hello\"${3:+,$3}}"
  echo "call 1 {\"op\":\"set.start\",\"set\":\"$1\",\"context\":0}"
  echo "call 1 {\"op\":\"set.add\",\"set\":\"$1\",\"volume\":\"$2\"," \
       "\"snapshot\":\"$1\"}"
  for s in prepare commit settle finish; do
    echo "call 1 {\"op\":\"set.$s\",\"set\":\"$1\"}"
  done
}
query='call 1 {"op":"query","context":-1}'
# exists SET: it is listed.
exists ()
{
  printf '%s\n' 'call 1 {"op":"hello"}' "$query" | "$talk" "$control" |
    tail -n 1 | jq -e "any(.result.sets[].set; . == \"$1\")" >/dev/null
}
gone () { ! exists "$1"; }

# Of two sessions one speaks, one is silent.
coproc SPEAKS { exec "$talk" "$control"; }
speaks=("${SPEAKS[0]}" "${SPEAKS[1]}")
{ coproc SILENT { exec "$talk" "$control"; } } 2>/dev/null
silent=("${SILENT[0]}" "${SILENT[1]}")
at_exit "kill $SPEAKS_PID $SILENT_PID 2>/dev/null"
speak ()
{
  echo 'call 0 {"op":"ping"}' >&"${speaks[1]}"
  IFS= read -r answer <&"${speaks[0]}"
}
make $A a >&"${speaks[1]}"
make $B b >&"${silent[1]}"
for _ in 1 2 3 4 5 6 7; do
  IFS= read -r answer <&"${speaks[0]}"
  case $answer in '{"hr":0,'*) ;; *) fail "$answer" ;; esac
  IFS= read -r answer <&"${silent[0]}"
  case $answer in '{"hr":0,'*) ;; *) fail "$answer" ;; esac
done

# Meanwhile: lost and found again, lost for good, not resumable.
make $C c '"resumable":true' | "$talk" "$control" >"$tmp/out"
lost=$(head -n 1 "$tmp/out" | jq -r .result.session)
exists $C || fail "a resumable session's set went with it"
printf '%s\n' 'call 1 {"op":"hello","resume":"'$A'"}' | "$talk" "$control" |
  jq -e '.code == "VSS_E_OBJECT_NOT_FOUND"' >/dev/null ||
  fail "resumed without the secret"
printf '%s\n' 'call 1 {"op":"hello","resume":"'"$lost"'","resumable":true}' \
  'sleep 7000' "$query" | "$talk" "$control" >"$tmp/out"
speak
[ "$(wc -l <"$tmp/out")" = 2 ] || fail "$(cat "$tmp/out")"
tail -n 1 "$tmp/out" |
  jq -e "any(.result.sets[]; .set == \"$C\" and .auto_release)" >/dev/null ||
  fail "the set was not taken over"
eventually gone $C
speak
printf '%s\n' 'call 1 {"op":"hello","resume":"'"$lost"'"}' |
  "$talk" "$control" | jq -e '.code == "VSS_E_OBJECT_NOT_FOUND"' >/dev/null ||
  fail "resumed too late"
make $C c | "$talk" "$control" >/dev/null
eventually gone $C

# Silence.
for _ in $(seq $patience); do
  speak
  if gone $B; then break; fi
  sleep 1
done
gone $B || fail "a silent session keeps its set"
exists $A || fail "a session that speaks has lost its set"
echo 'call 1 {"op":"status"}' >&"${silent[1]}"
IFS= read -r answer <&"${silent[0]}"
jq -e '.code == "VSS_E_BAD_STATE" and (.message | contains("30 s"))' \
  <<<"$answer" >/dev/null || fail "$answer"

exec {speaks[1]}>&- {silent[1]}>&-
stop_nbdkit
