#!/usr/bin/env bash
# A set that goes while create holds it, or while run's command reads it, is
# told, and is a failure.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires qemu-io

truncate -s 96M "$tmp/a.img"
start_nbdkit "$tmp/a.img" store-limit=2M
export COWSET_URI=$uri

create ()
{
  : >"$tmp/err"
  "$cowset" create a >"$tmp/out" 2>"$tmp/err" &
  maker=$!
  eventually grep -q 'until this command' "$tmp/err"
}

# ended PATTERN: create has failed, and said so.
ended ()
{
  local status=0
  wait "$maker" || status=$?
  [ "$status" = 1 ] || fail "create ended with $status"
  grep -q "$1" "$tmp/err" || fail "$(cat "$tmp/err")"
}

create
"$cowset" delete "$(sed -n 1p "$tmp/out")" >"$tmp/deleted"
ended 'was deleted by somebody else'

# More than the store holds is overwritten.  (Old data of zeroes takes no room.)
qemu-io -f raw -c 'write -P 1 0 8M' "$(export_uri a)" >"$tmp/io.out"
create
qemu-io -f raw -c 'write -P 2 0 8M' "$(export_uri a)" >"$tmp/io.out"
ended 'was lost: the store is full'

# run: its command succeeded on what nobody can vouch for.
status=0
"$cowset" run a -- "$cowset" delete latest >"$tmp/out" 2>"$tmp/err" ||
  status=$?
[ "$status" = 125 ] || fail "run ended with $status"
grep -q 'was deleted by somebody else' "$tmp/err" || fail "$(cat "$tmp/err")"

# Standard streams that are closed are not taken for the server's.
"$cowset" list <&- 2>&- >"$tmp/list" || fail "list without two of its streams"
grep -q VOLUMES "$tmp/list"
