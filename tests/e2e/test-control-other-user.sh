#!/usr/bin/env bash
# control=unix, over the Unix socket: the server's user and root, nobody else.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires setpriv jq nbdinfo
[ "$(id -u)" = 0 ] || skip "only root can be another user"

# A copy where other users can run it, and a socket that they can reach.
dir=$(mktemp -d "${TMPDIR:-/tmp}/cowset-user.XXXXXX")
at_exit "rm -rf '$dir'"
chmod 1777 "$dir"
cp "$tests_builddir/e2e/control-talk" "$dir/talk"
chmod 755 "$dir/talk"
truncate -s 1M "$dir/a.img"
chmod 666 "$dir/a.img"

# code UID: what hello answers to a user of that number.
code ()
{
  echo 'call 1 {"op":"hello"}' |
    setpriv --reuid "$1" --regid "$1" --clear-groups "$dir/talk" \
      "nbd+unix:///@control?socket=$dir/sock" | jq -r .code
}
listed ()
{
  setpriv --reuid "$1" --regid "$1" --clear-groups \
    nbdinfo --list --json "nbd+unix:///?socket=$dir/sock" |
    jq -e 'any(.exports[]["export-name"]; . == "@control")' >/dev/null
}

# serve NBDKIT-OPTION...
serve ()
{
  rm -f "$dir/sock" "$dir/pid"
  ( exec_nbdkit -f -U "$dir/sock" -P "$dir/pid" "$@" "$plugin" "$dir/a.img" ) \
    >>"$tmp/nbdkit_user.log" 2>&1 </dev/null &
  pid=$!
  nbdkit_pids="$nbdkit_pids $pid"
  eventually test -s "$dir/pid"
  chmod 777 "$dir/sock"
}

serve
[ "$(code 0)" = S_OK ] || fail "root's server refuses root"
[ "$(code 65534)" = E_ACCESSDENIED ] || fail "root's server lets nobody in"
listed 0 || fail "not in root's list"
if listed 65534; then fail "in the list of another user"; fi
end_process "$pid"

# A server that gives up root: its own user from then on, and root.
serve -u 65534 -g 65534
[ "$(code 65534)" = S_OK ] || fail "nobody's server refuses nobody"
[ "$(code 0)" = S_OK ] || fail "nobody's server refuses root"
[ "$(code 12345)" = E_ACCESSDENIED ] || fail "nobody's server lets others in"
end_process "$pid"
