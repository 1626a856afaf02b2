#!/usr/bin/env bash
# The server is killed (SIGKILL) under load, with sets: the next one has all
# that was acknowledged, and none of the sets; survive.c.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/sets.sh"

deaths=$(scaled 12)
truncate -s 8M "$tmp/a.img"
truncate -s 4195000 "$tmp/b.img"
arguments=("$tmp/a.img" "$tmp/b.img" store-limit=1G)

# A killed server says nothing, and may leave nothing.
kill_nbdkit ()
{
  nbdkit_pids=$(printf ' %s ' "$nbdkit_pids" | sed "s/ $nbdkit_pid / /")
  kill -KILL "$nbdkit_pid"
  wait "$nbdkit_pid" 2>/dev/null || true
}

start_nbdkit -o "-t 64" "${arguments[@]}"
"$tests_builddir/consistency/survive" --deaths "$deaths" "$uri" a b \
  >"$tmp/survive.out" 2>&1 &
survive=$!
at_exit "kill $survive 2>/dev/null"
# writing N: it has said so for the Nth time.
writing ()
{
  if is_zombie $survive; then cat "$tmp/survive.out" >&2; fail "survive"; fi
  [ "$(grep -c '^writing' "$tmp/survive.out")" -ge "$1" ]
}
for i in $(seq "$deaths"); do
  eventually writing "$i"
  case $((i % 3)) in
    0) sleep 0.$((RANDOM % 4)) ;;
    1) take_set "s$i" a b ;;
    2) # In the middle of making one.
       "$cowset" -c "$uri" create a b >/dev/null 2>&1 & sleep 0.0$((RANDOM % 5)) ;;
  esac
  kill_nbdkit
  start_nbdkit -o "-t 64" "${arguments[@]}"
done
wait $survive || { cat "$tmp/survive.out" >&2; fail "survive"; }
grep -v '^writing' "$tmp/survive.out"
stop_nbdkit
