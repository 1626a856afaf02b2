#!/usr/bin/env bash
# nbdinfo: the list of exports, and what it says of volumes and snapshots.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/sets.sh"

requires nbdinfo jq

truncate -s 3M "$tmp/a.img"
truncate -s 1000001 "$tmp/b.img"
start_nbdkit "$tmp/a.img" "$tmp/b.img"
take_set nightly a b

nbdinfo --json --list "$uri" >"$tmp/list"
# one EXPORT FILTER: the export is in the list, and the filter is true of it.
one ()
{
  jq -e --arg name "$1" --arg set "$set" '[.exports[] |
    select (."export-name" == $name)] | length == 1 and (.[0] | '"$2"')' \
    "$tmp/list" >/dev/null || { cat "$tmp/list" >&2; fail "$1: not $2"; }
}
features='.can_fua and .can_multi_conn and .can_flush and .can_trim and
          .can_zero and .can_cache and (.is_read_only | not)'
one a '."export-size" == 3145728 and '"$features"
one b '."export-size" == 1000001 and '"$features"
for v in a b; do
  one "$v@$set" '.is_read_only and .can_multi_conn and
                 (.can_trim | not) and (.contexts | any (. == "base:allocation"))'
done
one "a@$set" '."export-size" == 3145728'
one "b@$set" '."export-size" == 1000001'
one "@control" '."export-size" == 16777216'

# Every name opens, by label and by "latest" as well.
for name in a b a@nightly b@nightly a@latest "b@$set"; do
  nbdinfo --can connect "$(export_uri "$name")" || fail "$name does not open"
done
for name in c a@weekly "a@00000000-0000-4000-8000-000000000000" a@ @nightly; do
  if nbdinfo --size "$(export_uri "$name")" >/dev/null 2>&1; then
    fail "$name opens"
  fi
done

# A deleted set is in no list.
drop_set nightly
nbdinfo --json --list "$uri" >"$tmp/list"
if grep -q "$set" "$tmp/list"; then fail "a deleted set is listed"; fi
if nbdinfo --size "$(export_uri "a@$set")" >/dev/null 2>&1; then
  fail "a deleted set opens"
fi
stop_nbdkit
