#!/usr/bin/env bash
# cache=none: a write of a part of a sector beside a write or zeroing of the
# rest of it.  Both were acknowledged, so both are there.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires_python nbd

head -c 1M /dev/zero >"$tmp/a.img"
start_nbdkit "$tmp/a.img" cache=none
"$python" - "$(export_uri a)" <<'PYTHON'
import nbd
import sys
import threading

ROUNDS = 400


def connect():
    h = nbd.NBD()
    h.connect_uri(sys.argv[1])
    return h


one, two = connect(), connect()


def both(f, g):
    threads = [threading.Thread(target=f), threading.Thread(target=g)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


lost = 0
for i in range(ROUNDS):
    one.pwrite(b"\xff" * 512, 0)
    both(lambda: one.zero(100, 0), lambda: two.pwrite(b"B" * 100, 200))
    data = one.pread(512, 0)
    lost += data[:100] != bytes(100) or data[200:300] != b"B" * 100
    one.pwrite(bytes(4096), 0)
    both(lambda: one.pwrite(b"A" * 4096, 0),
         lambda: two.pwrite(b"B" * 100, 200))
    data = one.pread(4096, 0)
    lost += data[:200] != b"A" * 200 or data[300:] != b"A" * 3796
if lost:
    sys.exit(f"{lost} of {2 * ROUNDS} rounds lost an acknowledged write")
PYTHON
