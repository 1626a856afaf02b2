#!/usr/bin/env bash
# A guest as a writer, by an agent that does what a script says: frozen and
# thawed, and never left frozen, whatever the agent or the requester does.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/writers.sh"

truncate -s 4M "$tmp/a.img"
start_nbdkit "$tmp/a.img"
export COWSET_URI=$uri
agent=

# agent BEHAVIOUR...: a new one.
agent ()
{
  [ -z "$agent" ] || { kill "$agent"; wait "$agent" 2>/dev/null || true; }
  rm -f "$tmp/qga" "$tmp/log"
  "$python" "$tests_srcdir/e2e/fake-agent.py" "$tmp/qga" "$tmp/log" "$@" &
  agent=$!
  eventually grep -qs listening "$tmp/log"
}
at_exit '[ -z "$agent" ] || { kill "$agent"; wait "$agent" 2>/dev/null; }'

# run_set STATUS OPTION...
run_set ()
{
  local wanted=$1 status=0
  shift
  "$cowset" run --writer "qga:$tmp/qga" "$@" a -- true 2>"$tmp/err" ||
    status=$?
  [ "$status" = "$wanted" ] || fail "$* ended with $status: $(cat "$tmp/err")"
}
did () { [ "$(grep -v listening "$tmp/log" | tr '\n' ' ')" = "$1 " ]; }
says () { grep -q "$1" "$tmp/err" || fail "no '$1': $(cat "$tmp/err")"; }

agent
run_set 0
did 'freeze thaw' || fail "$(cat "$tmp/log")"
agent stale
run_set 0
did 'freeze thaw' || fail "$(cat "$tmp/log")"

agent refuse
run_set 125
says 'guest-fsfreeze-freeze: not today'
run_set 0 --writer-failure continue

agent none
run_set 125
says 'has frozen no file system'
agent garbage
run_set 125
says 'makes no sense'
eventually did 'freeze thaw'

# It thawed before the instant, or may have.
agent thaws
run_set 125
says 'thawed by itself'

# No answer in time: the abort waits until the agent has frozen, and thaws.
agent silent
run_set 125 --freeze-timeout 1
says 'did not answer guest-fsfreeze-freeze in time'
eventually did 'freeze thaw'
agent slow=2
run_set 125 --freeze-timeout 1
eventually did 'freeze thaw'

# The requester is killed while the guest freezes, and while it is frozen.
make_hook late level=transaction-manager
for event in freeze thaw; do
  agent
  forget
  touch "$tmp/block.late.$event"
  "$cowset" create --writer "qga:$tmp/qga" --writer "exec:$tmp/hooks" a \
    >"$tmp/out" 2>"$tmp/err" &
  maker=$!
  eventually has_seen late "$event"
  did freeze || fail "not frozen: $(cat "$tmp/log")"
  kill -KILL "$maker"
  wait "$maker" 2>/dev/null || true
  eventually did 'freeze thaw'
done
agent slow=2
"$cowset" create --writer "qga:$tmp/qga" a >"$tmp/out" 2>"$tmp/err" &
maker=$!
sleep 1
kill -KILL "$maker"
wait "$maker" 2>/dev/null || true
left_alone () { ! grep -q freeze "$tmp/log" || did 'freeze thaw'; }
sleep 2
eventually left_alone

# Nobody there.
kill "$agent"
wait "$agent" 2>/dev/null || true
agent=
run_set 125
says 'connect'
stop_nbdkit
