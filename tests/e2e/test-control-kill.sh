#!/usr/bin/env bash
# A requester that is killed after any step leaves no volume held or claimed,
# and no set behind.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq qemu-io

talk=$tests_builddir/e2e/control-talk
A=aaaaaaaa-0000-4000-8000-000000000001
S=cccccccc-0000-4000-8000-000000000003

truncate -s 8M "$tmp/a.img"
start_nbdkit "$tmp/a.img" hold-limit=10
control=$(export_uri @control)

request ()
{
  case $1 in
    hello) echo '{"op":"hello"}' ;;
    start) echo '{"op":"set.start","set":"'$A'","context":0}' ;;
    add) echo '{"op":"set.add","set":"'$A'","volume":"a","snapshot":"'$S'"}' ;;
    *) echo '{"op":"set.'"$1"'","set":"'$A'"}' ;;
  esac
}

# The claim is free again, and nothing is listed, within the session of another.
is_clean ()
{
  {
    echo "call 1 $(request hello)"
    echo "call 1 $(request start)"
    echo "call 1 $(request add)"
    echo "call 1 $(request abort)"
    echo 'call 1 {"op":"query","context":-1}'
    echo 'call 1 {"op":"status"}'
  } | "$talk" "$control" >"$tmp/clean"
  jq -s -e 'all(.[]; .hr == 0) and .[4].result.sets == [] and
            .[5].result.volumes[0].snapshots == 0 and
            .[5].result.volumes[0].waiting == 0' "$tmp/clean" >/dev/null
}

# die_after STEP...: the last one is only written, its answer not waited for,
# unless it is "answered".
die_after ()
{
  local pid lines=0 s last=${!#} fifo=$tmp/fifo
  rm -f "$fifo" "$tmp/answers"
  mkfifo "$fifo"
  "$talk" "$control" <"$fifo" >"$tmp/answers" &
  pid=$!
  exec 9>"$fifo"
  for s; do
    [ "$s" != answered ] || break
    if [ "$s" = "$last" ]; then
      echo "send 1 $(request "$s")" >&9
      # It is taken when the next command has been carried out.
      echo 'greeting 2' >&9
    else
      echo "call 1 $(request "$s")" >&9
    fi
    lines=$((lines + 1))
  done
  enough () { [ "$(wc -l <"$tmp/answers")" -ge "$lines" ]; }
  eventually enough
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null || true
  exec 9>&-
  # Nothing is held: this write would else wait for the hold's ten seconds
  # (and then fail the test by what is_clean says, not by its time).
  qemu-io -f raw -c 'write -P 1 0 4k' "$(export_uri a)" >/dev/null
  eventually is_clean
}

for i in 1 2 3; do
  die_after hello
  die_after hello start
  die_after hello start add
  die_after hello start add prepare
  die_after hello start add prepare answered
  die_after hello start add prepare hold
  die_after hello start add prepare hold answered
  die_after hello start add prepare hold switch
  die_after hello start add prepare commit
  die_after hello start add prepare commit answered
  die_after hello start add prepare commit settle
  die_after hello start add prepare commit settle finish
  die_after hello start add prepare commit settle finish answered
done
if grep -q -v 'aborting sleep because of connection\|write error reply\|write reply\|write data\|read request' "$nbdkit_log"
then
  grep -v 'aborting sleep because of connection' "$nbdkit_log" >&2
  fail "messages that nobody expects"
fi
stop_nbdkit
