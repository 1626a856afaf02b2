#!/usr/bin/env bash
# A set that lasts, over two servers, step by step: home or other is killed
# after each step from the vote on, and what the home has decided is carried out
# once somebody reaches both: everywhere or nowhere, with the right contents.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq nbdcopy cmp
requires_python nbd

talk=$tests_builddir/e2e/control-talk
context=25                      # nas-rollback

mkdir "$tmp"/store.{one,two}
head -c 1M /dev/urandom >"$tmp/a.img"
head -c 1M /dev/urandom >"$tmp/b.img"
serve ()
{
  case $1 in
    one) start_nbdkit -n one "$tmp/a.img" store="$tmp/store.one" store-reserve=0 ;;
    two) start_nbdkit -n two "$tmp/b.img" store="$tmp/store.two" store-reserve=0 ;;
  esac
}
declare -A volume_of=([one]=a [two]=b)

# crash NAME: it dies, and is started anew.
crash ()
{
  local p=nbdkit_pid_$1
  hang_up "$1"
  nbdkit_pids=$(printf ' %s ' "$nbdkit_pids" | sed "s/ ${!p} / /")
  kill -KILL "${!p}"
  wait "${!p}" 2>/dev/null || true
  serve "$1"
}

# A session with each.
talk_one= talk_two=
at_exit 'for pid in $talk_one $talk_two; do kill -KILL $pid 2>/dev/null; done'
talk_to ()
{
  local in out
  rm -f "$tmp/$1.in" "$tmp/$1.out"
  mkfifo "$tmp/$1.in" "$tmp/$1.out"
  "$talk" "$(export_uri @control "$1")" <"$tmp/$1.in" >"$tmp/$1.out" \
    2>/dev/null &
  printf -v "talk_$1" %s $!
  exec {in}>"$tmp/$1.in" {out}<"$tmp/$1.out"
  printf -v "in_$1" %s "$in"
  printf -v "out_$1" %s "$out"
  ask "$1" S_OK '{"op":"hello","client":"test"}'
  printf -v "store_$1" %s "$(jq -r .result.store_id <<<"$answer")"
}
hang_up ()
{
  local in=in_$1 out=out_$1 pid=talk_$1
  [ -n "${!in:-}" ] || return 0
  eval "exec ${!in}>&- ${!out}<&-"
  printf -v "in_$1" %s ''
  kill -KILL "${!pid}" 2>/dev/null || true
  wait "${!pid}" 2>/dev/null || true
  printf -v "talk_$1" %s ''
}
# ask NAME CODE REQUEST
ask ()
{
  local in=in_$1 out=out_$1
  echo "call 1 $3" >&"${!in}"
  IFS= read -r answer <&"${!out}"
  [ "$(jq -r .code <<<"$answer")" = "$2" ] || fail "$1: $3: $answer, not $2"
}
# step NAME OP [MEMBERS]
step () { ask "$1" "${code:-S_OK}" "{\"op\":\"set.$2\",\"set\":\"$set\"${3:+,$3}}"; }

new_id () { cat /proc/sys/kernel/random/uuid; }
# overwrite NAME SEED
overwrite ()
{
  "$python" - "$(export_uri "${volume_of[$1]}" "$1")" "$2" <<'PY'
import sys, random, nbd
r = random.Random(int(sys.argv[2]))
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(12):
    n = r.choice([512, 4096, 5000, 65536])
    h.pwrite(r.randbytes(n), r.randrange(0, h.get_size() - n))
h.flush()
h.shutdown()
PY
}

# begin: up to where all have settled; $tmp/one.was is what one had.
begin ()
{
  local s
  set=$(new_id)
  for s in one two; do
    talk_to $s
    nbdcopy "$(export_uri "${volume_of[$s]}" $s)" "$tmp/$s.was"
    step $s start "\"context\":$context,\"label\":\"$1\""
    step $s add "\"volume\":\"${volume_of[$s]}\",\"snapshot\":\"$(new_id)\""
    step $s prepare
  done
  for s in hold switch settle; do step one $s; step two $s; done
}
vote () { step two vote "\"home\":\"$store_one\",\"home_uri\":\"$uri_one\""; }
decide () { step one finish "\"members\":[\"$store_two\"]"; }
tell () { ask two S_OK "{\"op\":\"resolve\",\"set\":\"$set\",\"commit\":true}"; }
forget ()
{
  ask one S_OK \
    "{\"op\":\"acknowledge\",\"set\":\"$set\",\"store\":\"$store_two\"}"
}

# is_in_doubt URI...: whether the set is, as is listed there.
list () { local u args=(); for u; do args+=(-c "$u"); done
  "$cowset" "${args[@]}" list --json; }
is_in_doubt () { list "$@" | jq -e --arg s "$set" \
  'any(.[]; .set == $s and .in_doubt)' >/dev/null; }
is_there () { list "$@" | jq -e --arg s "$set" \
  'any(.[]; .set == $s and (.in_doubt | not))' >/dev/null; }
waiting () { ask one S_OK '{"op":"decisions"}'
  jq -r '.result.decisions | length' <<<"$answer"; }

# everywhere, nowhere: what is known at each, and what it reads as.
everywhere ()
{
  local s u
  for s in one two; do
    u=uri_$s
    is_there "${!u}" || fail "$1: not there at $s"
    nbdcopy "$(export_uri "${volume_of[$s]}@$set" $s)" "$tmp/now"
    cmp "$tmp/now" "$tmp/$s.was" || fail "$1: wrong contents at $s"
  done
}
nowhere ()
{
  local s u
  for s in one two; do
    u=uri_$s
    if is_there "${!u}" || is_in_doubt "${!u}"; then
      fail "$1: something is left at $s"
    fi
  done
}
settled ()
{
  talk_to one
  [ "$(waiting)" = 0 ] || fail "$1: the home still keeps $answer"
  hang_up one
}
both () { "$cowset" -c "$uri_one" -c "$uri_two" "$@"; }

serve one
serve two

# --- what a vote is: durable, hidden, in nobody's way; only its requester and,
# when that has gone, its home's word change it.
begin held
vote
overwrite two 1
is_in_doubt "$uri_two" || fail 'the vote is not in doubt'
if is_there "$uri_two"; then fail 'the vote is listed as a set'; fi
"$cowset" -c "$uri_two" info "$set" | grep -q "store $store_one" ||
  fail 'info names no home'
if nbdcopy "$(export_uri "b@$set" two)" "$tmp/now" 2>/dev/null; then
  fail 'a set in doubt can be opened'
fi
for s in settle finish; do code=VSS_E_BAD_STATE step two $s; done
if both resolve "$set" 2>"$tmp/err"; then fail 'resolved beside its requester'; fi
grep -q VSS_E_BAD_STATE "$tmp/err" || fail "$(cat "$tmp/err")"
if "$cowset" -c "$uri_two" resolve --abort "$set" 2>"$tmp/err"; then
  fail 'aborted beside its requester'
fi
"$cowset" -c "$uri_two" create --label beside b >/dev/null
# Its requester knows that it was never asked to be.
step two abort
step one abort
nowhere 'aborted by its requester'
hang_up one
hang_up two

# --- voted, not decided: each of them dies.
n=10
for who in one two; do
  begin "undecided.$who"
  vote
  overwrite one $((n++))
  overwrite two $((n++))
  crash $who
  hang_up one
  hang_up two
  eventually is_in_doubt "$uri_two"
  overwrite two $((n++))
  if "$cowset" -c "$uri_two" resolve "$set" 2>"$tmp/err"; then
    fail "$who: resolved without its home"
  fi
  grep -q "$store_one" "$tmp/err" || fail "$who: $(cat "$tmp/err")"
  both resolve "$set" >"$tmp/out" || fail "$who: resolve"
  grep -q 'was not made' "$tmp/out" || fail "$who: $(cat "$tmp/out")"
  nowhere "voted, $who"
  settled "voted, $who"
done

# --- decided, not told.
for who in one two requester; do
  begin "decided.$who"
  vote
  decide
  overwrite one $((n++))
  overwrite two $((n++))
  case $who in
    requester) ;;
    *) crash $who ;;
  esac
  hang_up one
  hang_up two
  is_in_doubt "$uri_two" || fail "decided, $who: not in doubt"
  overwrite one $((n++))
  overwrite two $((n++))
  both resolve "$set" >"$tmp/out" || fail "$who: resolve"
  grep -q 'is made' "$tmp/out" || fail "$who: $(cat "$tmp/out")"
  everywhere "decided, $who"
  settled "decided, $who"
  both delete "$set" >/dev/null
done

# --- told, not forgotten: a look at both, and the home need keep it no more.
begin told
vote
decide
tell
crash one
crash two
everywhere told
talk_to one
[ "$(waiting)" = 1 ] || fail 'told: the home keeps nothing'
hang_up one
both list >/dev/null
settled told
everywhere told
both delete "$set" >/dev/null

# --- the home keeps its decision through the deletion of its part.
begin kept
vote
decide
hang_up one
hang_up two
"$cowset" -c "$uri_one" delete "$set" >/dev/null
crash one
both list >"$tmp/out"
is_there "$uri_two" || fail 'a decision was forgotten with its set'
nbdcopy "$(export_uri "b@$set" two)" "$tmp/now"
cmp "$tmp/now" "$tmp/two.was"
settled kept
"$cowset" -c "$uri_two" delete "$set" >/dev/null

# --- the home is gone for good.
begin orphan
vote
hang_up one
hang_up two
"$cowset" -c "$uri_two" resolve --abort "$set" >"$tmp/out"
grep -q 'was not made' "$tmp/out" || fail "$(cat "$tmp/out")"
nowhere orphan
# Not against the word of a home that can be reached.
begin heard
vote
decide
hang_up one
hang_up two
both resolve --abort "$set" >"$tmp/out" 2>"$tmp/err"
grep -q 'is made' "$tmp/out" || fail "$(cat "$tmp/out")"
everywhere heard

# shellcheck disable=SC2154
stop_nbdkit "$nbdkit_pid_one"
# shellcheck disable=SC2154
stop_nbdkit "$nbdkit_pid_two"
