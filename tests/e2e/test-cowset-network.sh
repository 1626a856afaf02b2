#!/usr/bin/env bash
# A set over two servers, over TCP between network namespaces, one of which is
# cut off in the middle: nothing is left at the other, nothing stays held, and
# when the line is back nothing is left at the one that was cut off.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq ip
requires_python nbd
[ "$(id -u)" -eq 0 ] || skip "needs root, for network namespaces"

hard=11111111-0000-4000-8000-000000000001
truncate -s 8M "$tmp"/{a,b}.img

# Two namespaces of this test's own, each with a line to a third, where the
# requester is.
ns=cowset$$
for n in q one two; do
  ip netns add $ns$n 2>"$tmp/err" || skip "no network namespaces here"
  at_exit "ip netns del $ns$n 2>/dev/null"
  ip -n $ns$n link set lo up
done
net=0
for n in one two; do
  net=$((net + 1))
  ip link add l$n netns ${ns}q type veth peer name eth netns $ns$n \
    2>"$tmp/err" || skip "no veth here"
  ip -n ${ns}q addr add 10.203.$net.1/24 dev l$n
  ip -n ${ns}q link set l$n up
  ip -n $ns$n addr add 10.203.$net.2/24 dev eth
  ip -n $ns$n link set eth up
done

serve () # NAME PLUGIN-ARGUMENT...
{
  local n=$1
  shift
  ( sanitize_nbdkit
    exec ip netns exec $ns$n nbdkit -f -p 10809 -P "$tmp/$n.pid" "$plugin" \
      control=any hold-limit=2 "$@" ) >"$tmp/nbdkit_$n.log" 2>&1 &
  nbdkit_pids="$nbdkit_pids $!"
  ready () { [ -s "$tmp/$n.pid" ]; }
  eventually ready
}
serve one "$tmp/a.img"
serve two "$tmp/b.img" debug-provider=hardware:$hard:"$tmp/hard"
one=nbd://10.203.1.2 two=nbd://10.203.2.2

q () { ip netns exec ${ns}q "$@"; }
sets () { q "$cowset" -c "$1" list --json | jq length; }
no_set () { [ "$(sets "$1")" = 0 ]; }
saw () { grep -q " $1 .* begin" "$tmp/hard.log" 2>/dev/null; }

# shellcheck disable=SC2016
q "$cowset" -c $one -c $two run a b -- sh -c '
  [ "$(echo "$COWSET_URIS" | grep -c .)" = 2 ]' || fail 'a set of both'

# Cut off while its provider commits: its own gates are closed, and so are the
# other server's.
echo 'commit slow 100000' >"$tmp/hard"
q "$cowset" -c $one -c $two run a b -- true >"$tmp/out" 2>"$tmp/err" &
pid=$!
at_exit "kill -KILL $pid 2>/dev/null"
eventually saw commit
ip -n ${ns}q link set ltwo down
q "$python" - $one <<'EOP'
import nbd
import sys
h = nbd.NBD()
h.connect_uri(sys.argv[1] + "/a")
h.pwrite(b"1" * 4096, 0)
h.shutdown()
EOP
status=0
wait $pid || status=$?
[ $status = 125 ] || fail "status $status: $(cat "$tmp/err")"
no_set $one || fail 'a set is left at the server that can be reached'
: >"$tmp/hard"
q "$cowset" -c $one run a -- true || fail 'its volume is not free'

# The line is back.
ip -n ${ns}q link set ltwo up
eventually no_set $two
made () { q "$cowset" -c $one -c $two run a b -- true 2>"$tmp/err"; }
eventually made

# Cut off when the set is there: it ends at the other, too.
q "$cowset" -c $one -c $two create a b >"$tmp/out" 2>"$tmp/err" &
pid=$!
at_exit "kill -KILL $pid 2>/dev/null"
there () { [ "$(wc -l <"$tmp/out")" -ge 3 ]; }
eventually there
[ "$(sets $one)" = 1 ] || fail 'no set at the first server'
ip -n ${ns}q link set ltwo down
eventually no_set $one
status=0
wait $pid || status=$?
[ $status = 1 ] || fail "create, whose server was cut off: status $status"
ip -n ${ns}q link set ltwo up
eventually no_set $two
