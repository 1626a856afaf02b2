#!/usr/bin/env bash
# Programs as writers: what they see, in which order, and what comes of one
# that fails or is late at each event.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/writers.sh"

requires jq

truncate -s 4M "$tmp/a.img"
start_nbdkit "$tmp/a.img"
export COWSET_URI=$uri

# run_set STATUS OPTION...: cowset run with the hooks ends with this status.
run_set ()
{
  local wanted=$1 status=0
  shift
  "$cowset" run --writer "exec:$tmp/hooks" "$@" a -- \
    sh -c "'$cowset' info --json latest >'$tmp/info'" 2>"$tmp/err" ||
    status=$?
  [ "$status" = "$wanted" ] ||
    fail "run $* ended with $status, not $wanted: $(cat "$tmp/err")"
}
is () { jq -e --arg c "$1" '.consistency == $c' "$tmp/info" >/dev/null ||
  fail "not $1: $(cat "$tmp/info")"; }
saw () { [ "$(seen_by "$1")" = "$2 " ] || fail "$1 saw $(seen_by "$1"), not $2"; }

# By level, and back; the programs' names are in another order on purpose.
make_hook 1-system level=system
make_hook 2-back level=back-end
make_hook 3-front level=front-end
forget
run_set 0
is application
all='prepare-backup prepare-snapshot freeze thaw post-snapshot backup-complete'
for w in 1-system 2-back 3-front; do saw $w "$all"; done
[ "$(grep -E 'freeze|thaw' "$tmp/seen" | tr '\n' ' ')" = \
  '3-front freeze 2-back freeze 1-system freeze 1-system thaw 2-back thaw 3-front thaw ' ] ||
  fail "order: $(cat "$tmp/seen")"
grep -c backup-shutdown "$tmp/seen" | grep -qx 3 || fail "no backup-shutdown"

# A hook of the guest agent's knows two events.
rm "$tmp/hooks"/*
cat >"$tmp/hooks/agent" <<END
#!/bin/sh
case \$1 in
  freeze|thaw) echo "agent \$1" >>"$tmp/seen" ;;
  *) echo "usage: agent freeze|thaw" >&2; exit 1 ;;
esac
END
chmod 755 "$tmp/hooks/agent"
forget
run_set 0
saw agent 'freeze thaw'

# A failure at each event: what fails, and who is told.
make_hook app
make_hook other level=system
rm "$tmp/hooks/agent"
for event in prepare-backup prepare-snapshot freeze thaw; do
  forget
  echo 1 >"$tmp/fail.app.$event"
  run_set 125
  grep -q "writer app failed.*app $event: exit status 1: as the test" \
    "$tmp/err" || fail "$event: $(cat "$tmp/err")"
  has_seen app abort || fail "$event: no abort of app"
  if has_seen other freeze; then
    grep -qE '^other (thaw|abort)$' "$tmp/seen" || fail "$event: other"
  fi
  [ "$("$cowset" list)" = '' ] || [ "$("$cowset" list --json)" = '[]' ] ||
    fail "$event: it left a set"

  # The same, going on.
  forget
  echo 75 >"$tmp/fail.app.$event"
  run_set 0 --writer-failure continue
  has_seen app abort || fail "continue, $event: no abort"
  is crash
  saw other "$all"
done

# After the set is made there is nothing to abort.
for event in post-snapshot backup-complete; do
  forget
  echo 1 >"$tmp/fail.app.$event"
  run_set 0
  ! has_seen app abort || fail "$event: abort"
done

# What the set's maker is told of those that failed.
forget
echo 1 >"$tmp/fail.app.freeze"
run_set 0 --writer-failure continue
grep -q 'writer app: failed-at-freeze: .*as the test wants it' "$tmp/err" ||
  fail "$(cat "$tmp/err")"

# Without a set.
forget
"$cowset" writers --try --json "exec:$tmp/hooks" >"$tmp/out"
jq -e 'length == 2 and .[0].name == "app" and .[1].level == "system" and
       all(.[]; .state == "stable" and .failure == "")' "$tmp/out" >/dev/null ||
  fail "$(cat "$tmp/out")"
saw app "$all"
forget
echo 75 >"$tmp/fail.other.freeze"
status=0
"$cowset" writers --try --json "exec:$tmp/hooks" >"$tmp/out" || status=$?
[ "$status" = 1 ] || fail "writers --try: $status"
jq -e '.[1].state == "failed-at-freeze" and
       .[1].failure == "VSS_E_WRITERERROR_RETRYABLE" and
       .[0].state == "stable"' "$tmp/out" >/dev/null || fail "$(cat "$tmp/out")"
! has_seen app abort || fail "app was aborted"

# Late: killed, and told to abort.
forget
touch "$tmp/block.app.freeze"
run_set 125 --freeze-timeout 1
grep -q 'app freeze: did not end in time, and was killed' "$tmp/err" ||
  fail "$(cat "$tmp/err")"
grep -q 'VSS_E_UNEXPECTED' "$tmp/err" || fail "$(cat "$tmp/err")"
saw app 'prepare-backup prepare-snapshot freeze abort'
! has_seen other freeze || fail "frozen after a failure"

# A transaction manager that hangs in its thaw.
rm "$tmp/hooks"/*
make_hook app
make_hook manager level=transaction-manager
forget
touch "$tmp/block.manager.thaw"
run_set 125 --freeze-timeout 5
grep -q '(VSS_E_TRANSACTION_THAW_TIMEOUT, 0x80042329)' "$tmp/err" ||
  fail "$(cat "$tmp/err")"
saw manager 'prepare-backup prepare-snapshot freeze thaw abort'
has_seen app thaw || has_seen app abort || fail "app was left frozen"
[ "$("$cowset" list --json | jq length)" = 0 ] || fail "a set is left"

# One of two is late after the other was frozen: both are told.
rm "$tmp/hooks"/*
make_hook app
make_hook slow level=back-end
forget
touch "$tmp/block.slow.freeze"
run_set 125 --freeze-timeout 1
has_seen app abort || fail "app was left frozen"
has_seen slow abort || fail "slow was left frozen"

# What others may change is not run.
chmod o+w "$tmp/hooks/app"
forget
run_set 125
grep -q 'others may change it' "$tmp/err" || fail "$(cat "$tmp/err")"
! has_seen app identify || fail "it was run"
rm "$tmp/hooks"/*
run_set 125
grep -q 'there is no program in it' "$tmp/err" || fail "$(cat "$tmp/err")"
for bad in nonsense exec: exec:/nonexistent fsfreeze:/nonexistent qga:x foo:/; do
  status=0
  "$cowset" run --writer "$bad" a -- true 2>"$tmp/err" || status=$?
  [ "$status" = 125 ] || fail "$bad: $status"
  grep -q "^cowset: .*E_INVALIDARG" "$tmp/err" || fail "$bad: $(cat "$tmp/err")"
done
stop_nbdkit
