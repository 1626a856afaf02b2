#!/usr/bin/env bash
# The list of exports, their properties, the default export, and the messages
# for exports that there are not.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires nbdinfo jq

talk=$tests_builddir/e2e/control-talk
set1=11111111-1111-4111-8111-111111111111
set2=22222222-2222-4222-8222-222222222222

truncate -s 4M "$tmp/a.img"
truncate -s 1000001 "$tmp/b.img"
start_nbdkit "$tmp/a.img" "$tmp/b.img"

# A session that makes two sets, and stays until its input ends.
coproc TALK { exec "$talk" "$(export_uri @control)"; }
at_exit "kill $TALK_PID 2>/dev/null"
ask ()
{
  echo "$*" >&"${TALK[1]}"
  IFS= read -r answer <&"${TALK[0]}"
  case $answer in
    '{"hr":0,'*) ;;
    *) fail "$*: $answer" ;;
  esac
}
make_set ()
{
  local set=$1 label=$2 n=0 v
  shift 2
  ask call 1 "{\"op\":\"set.start\",\"set\":\"$set\",\"label\":\"$label\"," \
      '"context":0,"auto_release":true}'
  for v; do
    n=$((n + 1))
    ask call 1 "{\"op\":\"set.add\",\"set\":\"$set\",\"volume\":\"$v\"," \
        "\"snapshot\":\"3$n${set#??}\"}"
  done
  for v in prepare commit settle finish; do
    ask call 1 "{\"op\":\"set.$v\",\"set\":\"$set\"}"
  done
}
ask call 1 '{"op":"hello"}'
make_set $set1 nightly a b
make_set $set2 nightly a

nbdinfo --list --json "$uri" >"$tmp/list"
got=$(jq -r '[.exports[]["export-name"]] | join(" ")' "$tmp/list")
want="a b a@$set2 a@$set1 b@$set1 @control"
[ "$got" = "$want" ] || fail "list: $got"
jq -r '.exports[2].description' "$tmp/list" |
  grep -q '^snapshot of a, 20..-.*UTC, set nightly$' || fail "description"

# property EXPORT FILTER VALUE
property ()
{
  local got
  nbdinfo --json "$(export_uri "$1")" >"$tmp/info"
  got=$(jq -r ".exports[0]$2" "$tmp/info")
  [ "$got" = "$3" ] || fail "$1: $2 is $got, not $3"
}

property a '["export-size"]' 4194304
property b '["export-size"]' 1000001
for p in can_multi_conn can_flush can_fua can_trim can_zero can_fast_zero \
         can_cache
do
  property a .$p true
done
property a .is_read_only false
for e in "a@$set1" a@nightly a@latest "a@${set2^^}"; do
  property "$e" '["export-size"]' 4194304
  property "$e" .is_read_only true
  property "$e" .can_multi_conn true
done
property "b@$set1" '["export-size"]' 1000001
property @control '["export-size"]' 16777216
property @control .can_multi_conn false
property @control .can_trim false

# unknown EXPORT PATTERN: refused, and the log says why.
unknown ()
{
  local before
  before=$(wc -l <"$nbdkit_log")
  if nbdinfo "$(export_uri "$1")" >/dev/null 2>&1; then
    fail "export \"$1\" can be opened"
  fi
  tail -n "+$((before + 1))" "$nbdkit_log" | grep -q -e "$2" || {
    tail -n "+$((before + 1))" "$nbdkit_log" >&2
    fail "export \"$1\": no message like \"$2\""
  }
}
unknown '' 'there are 2 volumes; connect to one by its name'
unknown c 'export "c": there is no such volume'
unknown c@latest 'there is no volume "c"'
unknown b@$set2 'no such snapshot'
unknown a@none 'no such snapshot'
unknown 'a@' 'a set is named by its label, its id, or "latest"'
unknown 'a@x/y' 'a set is named by its label, its id, or "latest"'
unknown a@nightly+w 'writable snapshots are not supported by this version'
unknown a@nightly.. 'changes between sets are not supported by this version'
unknown a@$set1..$set2 \
        'changes between sets are not supported by this version'
unknown @Control 'no volume ""'

# The session's end takes its sets along.
exec {TALK[1]}>&-
gone () { ! nbdinfo "$(export_uri a@nightly)" >/dev/null 2>&1; }
eventually gone
stop_nbdkit

# One volume is also the default export, by its name.
start_nbdkit -n one "$tmp/a.img" control=off
[ "$(nbdinfo --json "$uri_one" | jq -r '.exports[0]["export-name"]')" = a ] ||
  fail "the default export is not the volume"
unknown_control ()
{
  nbdinfo "$(export_uri @control one)" >/dev/null 2>&1
}
if unknown_control; then fail "control=off has the export @control"; fi
grep -q 'started with control=off' "$nbdkit_log_one" || fail "no reason"
stop_nbdkit "$nbdkit_pid_one"
