#!/usr/bin/env bash
# The frames of @control: what is taken, what is refused, answers in parts.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires jq
requires_python nbd

talk=$tests_builddir/e2e/control-talk

# Enough volumes, with long paths, for an answer of more than one slot.
long=$tmp/$(printf 'd%.0s' {1..200})
mkdir "$long"
volumes=()
for i in $(seq 500); do
  truncate -s 4K "$long/$(printf 'v%.0s' {1..50})$i.img"
  volumes+=("v$i:$long/$(printf 'v%.0s' {1..50})$i.img")
done
start_nbdkit "${volumes[@]}"
control=$(export_uri @control)

# say COMMAND...: the lines that come back.
say () { printf '%s\n' "$@" | "$talk" "$control"; }

# Until something is asked, every slot is a greeting; then an answer, which
# stays.
[ "$(say 'greeting 0' 'greeting 15' | sort -u)" = greeting ] || fail "greeting"
say 'call 3 {"op":"ping"}' 'greeting 3' 'greeting 3' 'greeting 4' >"$tmp/out"
[ "$(tail -n 3 "$tmp/out" | tr '\n' ' ')" = "answer answer greeting " ] ||
  fail "slots"
# Bytes of a slot that were never written read as zeroes; nothing waits.
"$python" - "$control" <<'END'
import nbd
import sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
b = h.pread(4096, 5 * 1048576 + 512 * 1024)
assert b == bytearray(4096)
b = h.pread(8192, 1048576 - 4096)
assert b[:4096] == bytearray(4096)
assert b[4096:4104] == b"COWSET\r\n", b[4096:4104]
h.shutdown()
END

# What is no frame is refused, and changes nothing.
for what in magic checksum short cut long offset kind; do
  [ "$(say "wrong $what 1")" = 'error: EINVAL' ] || fail "wrong $what is taken"
done
[ "$(say 'wrong magic 1' 'greeting 1' | tail -n 1)" = greeting ] ||
  fail "a refused frame changed its slot"
grep -q '@control: write at 1048576: bad frame: ' "$nbdkit_log" ||
  fail "no message about a bad frame"
say 'wrong version 1' | jq -e '.code == "E_NOTIMPL" and .versions == [1]' \
  >/dev/null || fail "another version"

# check FILTER COMMAND...: the last answer fits the filter.
check ()
{
  local filter=$1 answer
  shift
  answer=$(say 'call 1 {"op":"hello"}' "$@" | tail -n 1)
  jq -e "$filter" <<<"$answer" >/dev/null || fail "$*: $answer"
}
check '.code == "E_INVALIDARG"' 'call 1 this is no JSON'
check '.code == "E_INVALIDARG"' 'call 1 [1]'
check '.code == "E_INVALIDARG"' 'call 1 {"op":5}'
check '.code == "E_INVALIDARG"' 'call 1 {"op":"ping","op":"ping"}'
check '.code == "E_NOTIMPL" and (.message | contains("nonsense"))' \
      'call 1 {"op":"nonsense"}'
check '.hr == 0 and .result == {}' 'call 0 {"op":"ping"}'
check '.code == "E_INVALIDARG" and (.message | contains("slot 0"))' \
      'call 0 {"op":"volumes"}'
check '.code == "S_FALSE" and .hr == 1' 'call 0 {"op":"cancel","slot":1,"id":1}'
check '.code == "E_INVALIDARG" and (.message | contains("\"slot\""))' \
      'call 0 {"op":"cancel","slot":16,"id":1}'
check '.code == "E_INVALIDARG" and (.message | contains("\"id\""))' \
      'call 0 {"op":"cancel","slot":1}'
check '.code == "E_INVALIDARG" and (.message | contains("\"set\""))' \
      'call 1 {"op":"set.start","set":"x","context":0}'
check '.code == "E_INVALIDARG" and (.message | contains("\"context\""))' \
      'call 1 {"op":"query"}'
say 'call 1 {"op":"volumes"}' |
  jq -e '.code == "VSS_E_BAD_STATE" and (.message | contains("hello"))' \
  >/dev/null || fail "a request before hello"

# A long answer comes in parts; the rest can be asked for from anywhere, with
# the nonce of the request only.
say 'call 1 {"op":"hello"}' 'call 2 {"op":"ping"}' \
  'call 3 {"op":"volumes"}' | tail -n 1 >"$tmp/out"
[ "$(jq '.result.volumes | length' "$tmp/out")" = 500 ] || fail "volumes"
total=$(($(wc -c <"$tmp/out") - 1))
say 'call 1 {"op":"hello"}' 'call 3 {"op":"volumes"}' "part 3 $((total - 7))" \
  "part 3 $((total + 100))" 'part 3 0' 'call 3 {"op":"ping"}' 'part 5 0' \
  >"$tmp/out"
{ read -r _; read -r _; read -r tail; read -r beyond; read -r head; read -r _
  read -r none; } <"$tmp/out"
[ "$tail" = "$((total - 7)) 7 $total" ] || fail "part at the end: $tail"
case $beyond in *" 0 $total") ;; *) fail "part beyond the end: $beyond" ;; esac
case $head in "0 "*" $total") ;; *) fail "part at the start: $head" ;; esac
[ "$none" = 'error: EINVAL' ] || fail "a part of nothing: $none"

stop_nbdkit
