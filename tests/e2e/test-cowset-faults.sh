#!/usr/bin/env bash
# Each phase of making a set x each thing that can go wrong: afterwards no
# volume is held, no writer frozen, and there is a whole set or none.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq
requires_python nbd

hard=11111111-0000-4000-8000-000000000001
truncate -s 8M "$tmp"/{a,b}.img

start ()
{
  start_nbdkit "$tmp/a.img" "$tmp/b.img" hold-limit=2 \
    debug-provider=hardware:$hard:"$tmp/hard"
}
start

# A writer that says what it was told.
mkdir "$tmp/hooks"
cat >"$tmp/hooks/app" <<EOF
#!/bin/sh
echo "\$1" >>"$tmp/seen"
EOF
chmod 755 "$tmp/hooks/app"

# A line between the two, to be cut.
cat >"$tmp/relay.py" <<'EOF'
import select, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(16)
pairs = {}
while True:
    for s in select.select([listener] + list(pairs), [], [])[0]:
        if s is listener:
            near = listener.accept()[0]
            far = socket.socket(socket.AF_UNIX)
            far.connect(sys.argv[2])
            pairs[near], pairs[far] = far, near
            continue
        if s not in pairs:
            continue
        try:
            data = s.recv(1 << 20)
        except OSError:
            data = b""
        if data:
            pairs[s].sendall(data)
        else:
            other = pairs.pop(s)
            del pairs[other]
            s.close()
            other.close()
EOF
start_relay ()
{
  rm -f "$tmp/relay.sock"
  "$python" "$tmp/relay.py" "$tmp/relay.sock" "$sock" &
  relay=$!
  at_exit "kill -KILL $relay 2>/dev/null"
  listening () { [ -S "$tmp/relay.sock" ]; }
  eventually listening
}

# Both volumes take writes.
writes ()
{
  "$python" - "$sock" <<'EOF'
import nbd
import sys
for name in "a", "b":
    h = nbd.NBD()
    h.connect_uri("nbd+unix:///" + name + "?socket=" + sys.argv[1])
    h.pwrite(b"1" * 4096, 0)
    h.shutdown()
EOF
}
saw () { grep -q " $1 .* begin" "$tmp/hard.log" 2>/dev/null; }
# What the writer was told last of these is an end.
not_frozen ()
{
  local last
  last=$(grep -E '^(freeze|thaw|abort)$' "$tmp/seen" 2>/dev/null |
    tail -n 1 || true)
  [ "$last" != freeze ]
}
no_set () { [ "$("$cowset" -c "$uri" list --json | jq length)" = 0 ]; }

next_set ()
{
  "$cowset" -c "$uri" run a b -- true 2>"$tmp/err" || {
    grep -q VSS_E_SNAPSHOT_SET_IN_PROGRESS "$tmp/err" ||
      fail "the next set: $(cat "$tmp/err")"
    return 1
  }
}

# cell PHASE FAULT
cell ()
{
  local phase=$1 fault=$2 to=$uri wanted=125 status=0 pid
  rm -f "$tmp/hard.log" "$tmp/seen"
  case $fault in
    slow) echo "$phase slow 200" >"$tmp/hard"; wanted=0 ;;
    error) echo "$phase fail E_FAIL" >"$tmp/hard" ;;
    veto) echo "$phase fail VSS_E_PROVIDER_VETO" >"$tmp/hard" ;;
    *) echo "$phase slow 60000" >"$tmp/hard" ;;
  esac
  if [ $fault = cut ]; then
    start_relay
    to="nbd+unix:///?socket=$tmp/relay.sock"
  fi
  "$cowset" -c "$to" run --context backup --writer "exec:$tmp/hooks" a b \
    -- true >"$tmp/out" 2>"$tmp/err" &
  pid=$!
  at_exit "kill -KILL $pid 2>/dev/null"
  eventually saw "$phase"
  case $fault in
    cancel) kill -INT $pid ;;
    requester-killed) kill -KILL $pid; wanted=137 ;;
    server-killed) kill -KILL "$nbdkit_pid" ;;
    cut) kill -KILL $relay ;;
  esac
  [ $fault = server-killed ] || writes
  wait $pid || status=$?
  [ $status = $wanted ] ||
    fail "$phase, $fault: status $status: $(cat "$tmp/err")"
  eventually not_frozen
  if [ $fault = server-killed ]; then
    wait "$nbdkit_pid" 2>/dev/null || true
    nbdkit_pids=$(printf ' %s ' "$nbdkit_pids" | sed "s/ $nbdkit_pid / /")
    start
  fi
  eventually no_set
  # The phase was one where the writer is frozen, as it has to be.
  case $phase in
    pre-commit|commit|post-commit)
      grep -q '^freeze$' "$tmp/seen" || fail "$phase, $fault: no freeze" ;;
  esac
  # Nothing of it is in the way of the next set, once its end has been seen: a
  # set that is not whole yet is in no list.
  : >"$tmp/hard"
  eventually next_set ||
    fail "$phase, $fault, the next set: $(cat "$tmp/err")"
}

for phase in end-prepare pre-commit commit post-commit pre-final-commit \
    post-final-commit; do
  for fault in slow error veto cancel requester-killed server-killed cut; do
    cell $phase $fault
  done
done
stop_nbdkit
