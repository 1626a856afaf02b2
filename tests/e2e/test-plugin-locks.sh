#!/usr/bin/env bash
# QEMU refuses what cowset serves, and cowset what QEMU or another cowset uses.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires qemu-img qemu-io qemu-nbd

truncate -s 1M "$tmp/a.img" "$tmp/b.img"
start_nbdkit "$tmp/a.img"

# (qemu-img info of a raw image reads nothing, and takes no lock.)
if qemu-img convert -O raw "$tmp/a.img" "$tmp/copy.img" 2>"$tmp/err"; then
  fail "qemu-img reads a volume that is served"
fi
grep -q -i 'lock' "$tmp/err" || { cat "$tmp/err" >&2; fail "not for its lock"; }
qemu-img convert -U -O raw "$tmp/a.img" "$tmp/copy.img"
if qemu-io -f raw -c 'write 0 4k' "$tmp/a.img" >/dev/null 2>&1; then
  fail "qemu-io writes to a volume that is served"
fi
# QEMU as a client is welcome.
qemu-io -f raw -c 'write -P 5 0 4k' "$(export_uri a)" >/dev/null
qemu-io -f raw -r -c 'read -P 5 0 4k' "$(export_uri a)" >/dev/null

# A second server waits for a dying one's locks, but not for ever.
if run_nbdkit -U - "$plugin" "$tmp/b.img" "$tmp/a.img" --run 'exit 0' \
     2>"$tmp/err"
then
  fail "two servers serve one disk"
fi
grep -q "a.img: in use by another" "$tmp/err" || {
  cat "$tmp/err" >&2
  fail "no message that names the disk"
}
stop_nbdkit
qemu-img convert -O raw "$tmp/a.img" "$tmp/copy.img"

# The reverse: QEMU writes to it.
qemu-nbd -t -f raw -k "$tmp/qemu.sock" "$tmp/a.img" &
qemu_pid=$!
at_exit "end_process $qemu_pid"
eventually test -S "$tmp/qemu.sock"
if run_nbdkit -U - "$plugin" "$tmp/a.img" --run 'exit 0' 2>"$tmp/err"; then
  fail "cowset serves what QEMU writes to"
fi
grep -q "a.img: in use by another" "$tmp/err" || fail "no message"

# A dying server's locks are waited for.
( sleep 1; kill "$qemu_pid" ) &
run_nbdkit -U - "$plugin" "$tmp/a.img" --run 'exit 0'
