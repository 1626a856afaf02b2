#!/usr/bin/env bash
# cowset create: what it prints, how long it stays, and what is left of the set
# when it ends in each of the ways in which it can.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq nbdcopy cmp

truncate -s 4M "$tmp/a.img"
printf 'the old data' | dd of="$tmp/a.img" conv=notrunc status=none
head -c 3000001 /dev/urandom >"$tmp/b-1.img"
cp "$tmp/a.img" "$tmp/a.then"
cp "$tmp/b-1.img" "$tmp/b-1.then"
start_nbdkit "$tmp/a.img" "$tmp/b-1.img"
export COWSET_URI=$uri

sets () { "$cowset" list --json | jq length; }
no_set () { [ "$(sets)" = 0 ]; }
# create ARGUMENT...: in the background; waits for its set.
create ()
{
  : >"$tmp/err"
  "$cowset" create "$@" >"$tmp/out" 2>"$tmp/err" &
  maker=$!
  eventually grep -q 'until this command' "$tmp/err"
}
# ended STATUS: the maker has ended with it.
ended ()
{
  local status=0
  wait "$maker" || status=$?
  [ "$status" = "$1" ] || fail "create ended with $status, not $1"
}

# It prints the id and a URI for each volume, in the order of the arguments,
# and the URIs read as the disks were.
create --label then b-1 a
[ "$(wc -l <"$tmp/out")" = 3 ] || fail "$(cat "$tmp/out")"
id=$(sed -n 1p "$tmp/out")
[ "$(sed -n 2p "$tmp/out")" = "$(export_uri "b-1@$id")" ] || fail "uri of b-1"
[ "$(sed -n 3p "$tmp/out")" = "$(export_uri "a@$id")" ] || fail "uri of a"
nbdcopy "$tmp/b-1.then" "$(export_uri a)" 2>"$tmp/copy.err" ||
  cat "$tmp/copy.err"
nbdcopy "$(sed -n 2p "$tmp/out")" "$tmp/b-1.now"
nbdcopy "$(sed -n 3p "$tmp/out")" "$tmp/a.now"
cmp "$tmp/a.now" "$tmp/a.then"
cmp "$tmp/b-1.now" "$tmp/b-1.then"
nbdcopy "$(export_uri a@then)" "$tmp/a.now"
cmp "$tmp/a.now" "$tmp/a.then"

# Two at a time, of one label: it names the newer.
first=$maker
create --label then a
[ "$("$cowset" info --json then | jq -r .set)" = "$(sed -n 1p "$tmp/out")" ] ||
  fail "the label does not name the newest"
[ "$(sets)" = 2 ] || fail "two sets"

# Each signal that ends it is an orderly end.
kill -TERM "$maker"
ended 0
[ "$(sets)" = 1 ] || fail "SIGTERM left its set, or took the other"
kill -INT "$first"
maker=$first
ended 0
no_set || fail "SIGINT left its set"
create --all
kill -HUP "$maker"
ended 0
no_set || fail "SIGHUP left its set"

# Killed, the server deletes it.
create a
kill -KILL "$maker"
ended 137
eventually no_set

# Deleted by somebody else, there is nothing left to do.
create a
"$cowset" delete latest >/dev/null
no_set || fail "delete left the set"
kill -INT "$maker"
ended 0

# JSON instead.
create --json --context backup+differential a
jq -e '.context == "backup" and .attributes == 131072 and .auto_release and
       (.snapshots | length) == 1 and .snapshots[0].volume == "a" and
       .snapshots[0].alive' "$tmp/out" >/dev/null || fail "$(cat "$tmp/out")"
kill -INT "$maker"
ended 0

# The document, as a whole and with the rights of any other file; a place where
# it cannot be is found before there is a set.
echo old >"$tmp/doc.json"
create --document "$tmp/doc.json" --label named a b-1
jq -e --arg s "$(head -n 1 "$tmp/out")" '.set == $s and .label == "named" and
  (.snapshots | map(.volume)) == ["a", "b-1"]' "$tmp/doc.json" >/dev/null ||
  fail "the document: $(cat "$tmp/doc.json")"
kill -INT "$maker"
ended 0
( umask 027; create --document "$tmp/doc2.json" a; kill -INT "$maker"; ended 0 )
[ "$(stat -c %a "$tmp/doc2.json")" = 640 ] || fail 'its rights'
status=0
"$cowset" create --document "$tmp/none/doc.json" a 2>"$tmp/err" || status=$?
[ $status = 1 ] || fail "a document nowhere: $status"
grep -q 'no set was made' "$tmp/err" || fail "$(cat "$tmp/err")"
no_set || fail 'a set without its document'
status=0
"$cowset" create --document "$tmp/doc.json" nix 2>"$tmp/err" || status=$?
[ $status = 1 ] || fail "a volume that is not there: $status"
jq -e '.label == "named"' "$tmp/doc.json" >/dev/null || fail 'it was lost'
[ "$(find "$tmp" -name 'doc*.json*' | wc -l)" = 2 ] || fail 'a file was left'

# The server goes: so does the set, and it is said.
create a
stop_nbdkit
ended 1
grep -q 'connection to the server was lost' "$tmp/err"
