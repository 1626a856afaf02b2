#!/usr/bin/env bash
# An orderly stop with clients still connected: to a volume that is written to,
# to a snapshot, to @control with a half-made set.  nbdkit ends with status 0,
# and everything written is in the file.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq qemu-io
requires_python nbd

talk=$tests_builddir/e2e/control-talk
A=aaaaaaaa-0000-4000-8000-000000000001
B=bbbbbbbb-0000-4000-8000-000000000002

truncate -s 8M "$tmp/a.img"
start_nbdkit "$tmp/a.img"

coproc TALK { exec "$talk" "$(export_uri @control)"; }
at_exit "kill $TALK_PID 2>/dev/null"
ask ()
{
  echo "call 1 $*" >&"${TALK[1]}"
  IFS= read -r answer <&"${TALK[0]}"
  case $answer in '{"hr":0,'*) ;; *) fail "$*: $answer" ;; esac
}
ask '{"op":"hello"}'
for set in $A $B; do
  ask '{"op":"set.start","set":"'$set'","context":0}'
  ask '{"op":"set.add","set":"'$set'","volume":"a","snapshot":"'c${set#?}'"}'
  ask '{"op":"set.prepare","set":"'$set'"}'
  [ $set = $A ] || break
  for step in commit settle finish; do
    ask '{"op":"set.'$step'","set":"'$set'"}'
  done
done

# Clients that stay, and one that never stops writing; its last acknowledged
# round is in "round".
"$python" - "$(export_uri a)" "$(export_uri "a@$A")" "$tmp/round" <<'END' &
import nbd
import os
import sys
volume, snapshot = nbd.NBD(), nbd.NBD()
volume.connect_uri(sys.argv[1])
snapshot.connect_uri(sys.argv[2])
n = 0
try:
    while True:
        n += 1
        for i in range(64):
            volume.pwrite(bytes([n % 251 + 1]) * 4096, i * 4096)
        snapshot.pread(65536, 0)
        with open(sys.argv[3] + ".new", "w") as f:
            f.write(str(n % 251 + 1))
        os.rename(sys.argv[3] + ".new", sys.argv[3])
except nbd.Error:
    pass
END
client=$!
eventually test -s "$tmp/round"
# nbdkit waits for connections that are silent (nbdkit-file, too).
( sleep 0.5; kill "$TALK_PID" ) &
stop_nbdkit
wait "$client" || fail "the client failed in another way"

# The last full round, or parts of the next one.
"$python" - "$tmp/a.img" "$(cat "$tmp/round")" <<'END'
import sys
data = open(sys.argv[1], "rb").read(64 * 4096)
last = int(sys.argv[2])
following = last % 251 + 1
for i in range(64):
    block = data[i * 4096:(i + 1) * 4096]
    assert block in (bytes([last]) * 4096, bytes([following]) * 4096), \
        (i, block[0], last)
END
