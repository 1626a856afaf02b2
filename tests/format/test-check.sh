#!/usr/bin/env bash
# cowset-check: exit statuses, repairs, and what is never repaired.
#
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
requires jq

check=$top_builddir/requester/check/cowset-check
file=$tmp/store/cowset.store

make_store ()
{
  rm -rf "$tmp/store" "$tmp/truth"
  mkdir "$tmp/store" "$tmp/truth"
  "$top_builddir/tests/format/make-store" "$tmp" 1 4096 "$1" ||
    fail "making a store"
}

# poke OFFSET: other bytes there.
poke ()
{
  printf 'other bytes' | dd of="$file" bs=1 seek="$1" conv=notrunc status=none
}

# expect STATUS TEXT ARGUMENT...: cowset-check ends like this and says that.
expect ()
{
  local want=$1 text=$2 status=0
  shift 2
  "$check" "$@" >"$tmp/out" 2>&1 || status=$?
  { [ $status -eq "$want" ] && grep -qF -- "$text" "$tmp/out"; } ||
    { cat "$tmp/out"; fail "cowset-check $*: $status, not $want with '$text'"; }
}

expect 2 usage:
expect 2 usage: a b
expect 2 usage: --nonsense "$tmp/store"
expect 2 usage: --repair dump "$tmp/store"
expect 3 'no such file' "$tmp/nowhere"

make_store close
expect 0 '2 sets, 1 volumes' "$tmp/store"
expect 0 'label-1' dump "$tmp/store"
"$check" --json "$tmp/store" | jq -e '.status == "clean" and .sets == 2 and
  .closed_in_order and (.findings | length) == 0' >/dev/null || fail "JSON"

# One superblock is made of the other.
for offset in 20 4200; do
  make_store close
  poke $offset
  expect 4 'the superblock is damaged' "$tmp/store"
  expect 1 ': repaired' --repair "$tmp/store"
  expect 0 '2 sets' "$tmp/store"
done
poke 20; poke 4200
expect 4 'both superblocks are damaged' --repair "$tmp/store"
poke 0; poke 4096
expect 3 'is not a store of cowset' --repair "$tmp/store"

# What means nothing becomes zero.
for offset in 13000 60000 300000 20000000; do
  make_store close
  poke $offset
  expect 4 "(at $offset)" "$tmp/store"
  expect 1 ': repaired' --repair "$tmp/store"
  expect 0 '2 sets' "$tmp/store"
done

# The clean mark can go where nothing is missing.
make_store close
poke 8200
expect 4 'the clean mark is damaged' "$tmp/store"
expect 1 ': repaired' --repair "$tmp/store"
expect 1 'not closed in order' "$tmp/store"

# A block and a header are lost; the journal is not made up.
make_store close
first=$((65536 + 2 * 262144))
poke $((first + 8192 + 100))
"$check" --json "$tmp/store" >"$tmp/out" || true
jq -e --argjson at $((first + 8192)) '
  .status == "damaged" and .damaged_blocks == 1 and
  (.findings[] | .code == "block" and .offset == $at)' "$tmp/out" >/dev/null ||
  fail "JSON of a damaged block"
expect 4 'is damaged' --repair "$tmp/store"
expect 4 'is damaged' "$tmp/store"
make_store close
poke $((first + 100))
expect 4 'the header of segment 0 is damaged' --repair "$tmp/store"
make_store close
poke $((65536 + 262144 + 100))
expect 4 'journal: ' --repair "$tmp/store"

# That snapshots have ended is never taken back.
make_store close
rm "$tmp/store/LIVE"
expect 1 'LIVE is missing' --repair "$tmp/store"
[ ! -e "$tmp/store/LIVE" ] || fail "LIVE was made up"
make_store die
poke 16384
expect 4 'an invalidation slot is damaged' --repair "$tmp/store"
expect 4 'an invalidation slot is damaged' "$tmp/store"

# Not while it is served.
make_store close
"$python" -c '
import fcntl, struct, subprocess, sys
f = open(sys.argv[1], "r+b")
fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0))
sys.exit(subprocess.run(sys.argv[2:]).returncode)' \
  "$file" "$check" "$tmp/store" >"$tmp/out" 2>&1 && status=0 || status=$?
{ [ $status -eq 3 ] && grep -q 'a server has it open' "$tmp/out"; } ||
  { cat "$tmp/out"; fail "checked a store that is in use"; }
