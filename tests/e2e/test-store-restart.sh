#!/usr/bin/env bash
# store=DIR: sets are there and right after an orderly stop and after kill -9;
# one that does not last goes; a deleted one stays away.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/store.sh"

requires jq nbdcopy cmp
requires_python nbd

mkdir "$tmp/store"
head -c 6M /dev/urandom >"$tmp/a.img"
truncate -s 8M "$tmp/a.img"
head -c 3000001 /dev/urandom >"$tmp/b.img"

serve ()
{
  start_nbdkit "$tmp/a.img" "$tmp/b.img" store="$tmp/store" store-reserve=0
}

serve
"$cowset" -c "$uri" status --json | jq -e .has_store >/dev/null ||
  fail "status shows no store"
take one a b
overwrite a 1
overwrite b 2
take two a
overwrite a 3
right one a b
right two a
"$cowset" -c "$uri" info --json one | jq 'del(.snapshots)' >"$tmp/info"
jq -e '.persistent and (.auto_release | not)' "$tmp/info" >/dev/null ||
  fail "the set is not persistent"
stop_nbdkit

serve
[ "$(sets)" = 2 ] || fail "not two sets after a stop"
"$cowset" -c "$uri" info --json one | jq 'del(.snapshots)' | cmp - "$tmp/info"
right one a b
right two a
overwrite a 4
kill_nbdkit

serve
right one a b
right two a
take three b
overwrite b 5
# What its writers made of it goes with a set.
mkdir "$tmp/hooks"
printf '#!/bin/sh\nexit 0\n' >"$tmp/hooks/app"
chmod 755 "$tmp/hooks/app"
"$cowset" -c "$uri" create --label four --writer "exec:$tmp/hooks" b \
  >/dev/null
consistency () { "$cowset" -c "$uri" info --json "$1" | jq -r .consistency; }
[ "$(consistency four)" = application ] || fail "four: $(consistency four)"
answers () { "$cowset" -c "$uri" info --json "$1" | jq -c .writers; }
said=$(answers four)
jq -e 'length == 1 and .[0].name == "app" and .[0].failure == null and
  (.[0].writer | length) == 36 and .[0].state != "unknown"' <<<"$said" \
  >/dev/null || fail "the writers of four: $said"
[ "$(answers three)" = '[]' ] || fail "the writers of three"
"$cowset" -c "$uri" delete two >/dev/null
# One that lasts only as long as its maker.
"$cowset" -c "$uri" create --context file-share-backup a >/dev/null 2>&1 &
at_exit "kill $! 2>/dev/null"
four_sets () { [ "$(sets)" = 4 ]; }
eventually four_sets
kill_nbdkit

serve
[ "$(sets)" = 3 ] || fail "$(sets) sets, not three, after the kill"
[ "$(consistency four)" = application ] ||
  fail "four was application-consistent, now $(consistency four)"
[ "$(consistency three)" = crash ] || fail "three: $(consistency three)"
[ "$(answers four)" = "$said" ] || fail "four's were $said, now $(answers four)"
right one a b
right three b
overwrite a 6
overwrite b 7
right one a b
right three b
"$cowset" -c "$uri" delete one >/dev/null
"$cowset" -c "$uri" delete three >/dev/null
"$cowset" -c "$uri" delete four >/dev/null
stop_nbdkit

serve
[ "$(sets)" = 0 ] || fail "deleted sets came back"
stop_nbdkit
