#!/usr/bin/env bash
# An origin that was changed, or served, without its store: its sets are lost,
# with the sign that was seen, for good; force-origin=true keeps them.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/store.sh"

requires jq nbdcopy cmp
requires_python nbd

mkdir "$tmp/store"
head -c 2M /dev/urandom >"$tmp/a.img"
head -c 2M /dev/urandom >"$tmp/b.img"

serve ()
{
  start_nbdkit "$tmp/a.img" "$tmp/b.img" store="$tmp/store" store-reserve=0 \
    "$@"
}

# again LABEL: a set of both that is right over a restart.
again ()
{
  : >"$tmp/nbdkit.log"
  serve
  take "$1" a b
  overwrite a 1
  overwrite b 2
}

# lost LABEL SIGN: of volume a, not of b; and it stays so.
lost ()
{
  serve
  [ "$(end_of "$1" a)" = origin-changed ] ||
    fail "$1: $(end_of "$1" a), not lost"
  [ "$(end_of "$1" b)" = null ] || fail "$1: that of b is lost, too"
  right "$1" b
  grep -q "$2" "$nbdkit_log" ||
    { cat "$nbdkit_log" >&2; fail "$1: it does not say: $2"; }
  if nbdcopy "$(export_uri "a@$1")" "$tmp/now" 2>/dev/null; then
    fail "$1: a lost snapshot is read"
  fi
  stop_nbdkit
  serve
  [ "$(end_of "$1" a)" = origin-changed ] || fail "$1: it came back"
  "$cowset" -c "$uri" delete "$1" >/dev/null
  [ "$(sets)" = 0 ] || fail "$1: it can't be deleted"
  stop_nbdkit
}

# Written to in between.
again time
stop_nbdkit
sleep 0.05
printf x | dd of="$tmp/a.img" bs=1 seek=5 conv=notrunc status=none
lost time 'a: it was changed since the store was closed'

# The time alone: kept if that is wanted.
again forced
stop_nbdkit
sleep 0.05
touch "$tmp/a.img"
serve force-origin=true
right forced a b
"$cowset" -c "$uri" delete forced >/dev/null
stop_nbdkit

# Another file, with the same content.
again inode
stop_nbdkit
cp -p "$tmp/a.img" "$tmp/c.img"
mv "$tmp/c.img" "$tmp/a.img"
lost inode 'a: it is another file (its inode has changed)'

# Another size.
again size
stop_nbdkit
truncate -s 3M "$tmp/a.img"
lost size 'a: its size has changed'

# Served without the store, after a kill: the mark is gone.
again unmarked
kill_nbdkit
start_nbdkit "$tmp/a.img"
grep -q 'a: was served with a store, and is now without it' "$nbdkit_log" ||
  fail "a server without the store says nothing"
overwrite a 3
stop_nbdkit
lost unmarked 'a: it was served without this store'

# Served with another store.
again other
kill_nbdkit
mkdir "$tmp/other"
start_nbdkit "$tmp/a.img" store="$tmp/other" store-reserve=0
overwrite a 4
stop_nbdkit
lost other 'a: it was served with another store'

# An older copy of the store.
again old
stop_nbdkit
cp -r "$tmp/store" "$tmp/copy"
serve
overwrite a 5
stop_nbdkit
rm -r "$tmp/store"
mv "$tmp/copy" "$tmp/store"
serve
[ "$(end_of old a)" = origin-changed ] || fail "an old copy is believed"
[ "$(end_of old b)" = origin-changed ] || fail "an old copy is believed"
grep -q 'the store is older than it' "$nbdkit_log" || fail "it is not said"
stop_nbdkit
