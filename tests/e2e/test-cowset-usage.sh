#!/usr/bin/env bash
# cowset: help, versions, exit statuses, and that every failure has the name
# and the value of its code, and says what to do.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq

truncate -s 1M "$tmp/a.img"
start_nbdkit "$tmp/a.img"
unset COWSET_URI

# gives STATUS ARGUMENT...
gives ()
{
  local expected=$1 status=0
  shift
  "$cowset" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
  [ "$status" = "$expected" ] ||
    fail "cowset $*: $status, not $expected: $(cat "$tmp/err")"
  case $expected in
    0) [ ! -s "$tmp/err" ] || fail "cowset $*: $(cat "$tmp/err")" ;;
    *) [ -s "$tmp/err" ] || fail "cowset $*: said nothing"
       [ ! -s "$tmp/out" ] || fail "cowset $*: $(cat "$tmp/out")" ;;
  esac
}
# says TEXT: what the last one said has it.
says () { grep -qF -- "$1" "$tmp/err" || fail "no '$1' in $(cat "$tmp/err")"; }

gives 0 --help
for command in create run list info delete status writers; do
  grep -q "cowset .* $command" "$tmp/out" || fail "no $command in the help"
done
for later in break revert expose; do
  ! grep -qw "$later" "$tmp/out" || fail "$later is in the help"
done
for command in create run list info delete status writers; do
  gives 0 "$command" --help
  grep -q "cowset .* $command" "$tmp/out" || fail "help of $command"
  gives 0 help "$command"
done
gives 0 --version
grep -q '^cowset [0-9]' "$tmp/out" || fail "version"

# Usage.
gives 2
gives 2 nonsense
gives 2 --nonsense
gives 2 list --nonsense
gives 2 list
says 'COWSET_URI'
gives 2 -c "$uri" list more
gives 2 -c "$uri" info
gives 2 -c "$uri" info a b
gives 2 -c "$uri" delete
gives 2 -c "$uri" create
says '--all'
gives 2 -c "$uri" create --all a
gives 2 -c "$uri" create --context nonsense a
gives 2 -c "$uri" create --context all a
gives 2 -c /tmp/a.img list
says 'nbd+unix:///?socket='

# Failures.
gives 1 -c "$uri" create nix
says 'VSS_E_OBJECT_NOT_FOUND, 0x80042308'
says 'cowset status'
gives 1 -c "$uri" create a a
says 'VSS_E_OBJECT_ALREADY_EXISTS, 0x8004230d'
gives 1 -c "$uri" create --context nas-rollback a
says 'VSS_E_UNSUPPORTED_CONTEXT, 0x8004231b'
says 'store='
gives 1 -c "$uri" create --provider nix a
says 'VSS_E_PROVIDER_NOT_REGISTERED, 0x80042304'
gives 1 -c "$uri" create --label a/b a
says 'E_INVALIDARG, 0x80070057'
gives 1 -c "$uri" info nix
says 'VSS_E_OBJECT_NOT_FOUND'
gives 1 -c "$uri" delete nix
says 'VSS_E_OBJECT_NOT_FOUND'
gives 1 -c "nbd+unix:///?socket=$tmp/nobody" list
says 'VSS_E_REMOTE_SERVER_UNAVAILABLE, 0x80042323'
says 'what to do: '
gives 2 -c "$uri" resolve
gives 2 -c "$uri" resolve x
gives 1 -c "$uri" resolve 11111111-1111-4111-8111-111111111111
says 'VSS_E_OBJECT_NOT_FOUND'
for later in break revert expose unexpose diff backup restore verify scrub; do
  gives 1 -c "$uri" "$later" x
  says 'not supported by this version'
done

# Where the options and the server may stand.
gives 0 -c "$uri" list
gives 0 list -c "$uri"
gives 0 list --connect="$uri" --json
[ "$(jq length "$tmp/out")" = 0 ] || fail "list --json: $(cat "$tmp/out")"
gives 0 -j -c "${uri/\/\/\//\/\/\/a}" status
[ "$(jq -r '.volumes[0].name' "$tmp/out")" = a ] || fail "status --json"
[ "$(jq -r '.volumes[0].size' "$tmp/out")" = 1048576 ] || fail "status --json"
[ "$(jq -r '.has_store' "$tmp/out")" = false ] || fail "status --json"
COWSET_URI=$uri gives 0 status
grep -q "$tmp/a.img" "$tmp/out" || fail "status: $(cat "$tmp/out")"

# Nowhere to print to.
status=0
"$cowset" -c "$uri" list >/dev/full 2>"$tmp/err" || status=$?
[ "$status" = 1 ] || fail "/dev/full: $status"
