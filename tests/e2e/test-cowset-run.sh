#!/usr/bin/env bash
# cowset run: what the command finds, which status comes back, which signals go
# through, and that no set is left.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq nbdcopy cmp

truncate -s 1M "$tmp/a.img" "$tmp/b-1.img" "$tmp/b_1.img" "$tmp/c.9.img"
printf 'content' | dd of="$tmp/a.img" conv=notrunc status=none
cp "$tmp/a.img" "$tmp/a.then"
start_nbdkit "$tmp/a.img" "$tmp/b-1.img" "$tmp/b_1.img" "$tmp/c.9.img"
export COWSET_URI=$uri

no_set () { [ "$("$cowset" list --json | jq length)" = 0 ]; }
# run STATUS ARGUMENT...: that it ends with it, and leaves no set.
run ()
{
  local expected=$1 status=0
  shift
  "$cowset" run "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
  [ "$status" = "$expected" ] ||
    fail "run $*: $status, not $expected: $(cat "$tmp/err")"
  no_set || fail "run $*: left its set"
}

# The environment.
run 0 a c.9 -- sh -c 'echo "$COWSET_SET"; echo "$COWSET_URI_A"
  echo "$COWSET_URI_C_9"; echo "$COWSET_URIS"; echo "$COWSET_URI"'
id=$(sed -n 1p "$tmp/out")
cat >"$tmp/expected" <<END
$id
$(export_uri "a@$id")
$(export_uri "c.9@$id")
a $(export_uri "a@$id")
c.9 $(export_uri "c.9@$id")

$uri
END
diff -u "$tmp/expected" "$tmp/out"

# Names that a variable cannot tell apart are in the list alone.
run 0 --all -- sh -c 'echo "${COWSET_URI_B_1-unset}"; echo "$COWSET_URIS" |
  grep -c "^b[-_]1 "'
[ "$(cat "$tmp/out")" = "unset
2" ] || fail "ambiguous: $(cat "$tmp/out")"
grep -q 'ambiguous' "$tmp/err" || fail "nothing was said"

# The snapshot reads, and the command's options are its own.
run 0 --label night a -- nbdcopy "$(export_uri a@night)" "$tmp/a.now"
cmp "$tmp/a.now" "$tmp/a.then"
run 0 a -- printf '%s\n' --all -- -c
[ "$(cat "$tmp/out")" = "--all
--
-c" ] || fail "arguments: $(cat "$tmp/out")"

# Statuses.
run 7 a -- sh -c 'exit 7'
run 143 a -- sh -c 'kill -TERM $$'
run 137 a -- sh -c 'kill -KILL $$'
run 127 a -- "$tmp/no-such-command"
run 126 a -- "$tmp/a.img"
run 125 nix -- touch "$tmp/ran"
[ ! -e "$tmp/ran" ] || fail "it ran without a set"
run 2 a --
run 2 -- true
run 2 a
run 2 --json a -- true
run 2 --context nas-rollback a -- true
run 125 --context file-share-backup+plex a -- touch "$tmp/ran"
[ ! -e "$tmp/ran" ] || fail "it ran without a set"

# Signals go through, and the set lasts until the command has ended.
"$cowset" run a -- sh -c 'trap "echo got it; exit 3" TERM; : >"$0"
  while :; do sleep 0.1; done' "$tmp/ready" >"$tmp/out" &
runner=$!
eventually test -e "$tmp/ready"
no_set && fail "there is no set while the command runs"
kill -TERM "$runner"
status=0
wait "$runner" || status=$?
[ "$status $(cat "$tmp/out")" = "3 got it" ] || fail "SIGTERM: $status"
no_set || fail "left its set"

# Killed: the command goes on, the set does not.
"$cowset" run a -- sh -c 'echo $$ >"$0"; exec sleep 60' "$tmp/pid" &
runner=$!
eventually test -s "$tmp/pid"
sleeper=$(cat "$tmp/pid")
at_exit "kill $sleeper 2>/dev/null || :"
kill -KILL "$runner"
eventually no_set

# The server goes: a command that did not notice has failed all the same.
"$cowset" run a -- sh -c ': >"$0"; while [ ! -e "$1" ]; do sleep 0.1; done' \
  "$tmp/begun" "$tmp/go" 2>"$tmp/err" &
runner=$!
eventually test -e "$tmp/begun"
stop_nbdkit
eventually grep -q 'was lost' "$tmp/err"
touch "$tmp/go"
status=0
wait "$runner" || status=$?
[ "$status" = 125 ] || fail "the server was lost: $status"
