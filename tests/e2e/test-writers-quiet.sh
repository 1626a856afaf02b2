#!/usr/bin/env bash
# Between the freeze and the thaw the requester opens no file, asks the system
# for no memory, and writes to nothing but its sockets.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/writers.sh"

[ -z "$sanitizers" ] || skip "a sanitizer takes memory as it likes"
requires strace
strace -o "$tmp/try" true 2>/dev/null || skip "no tracing here"

truncate -s 4M "$tmp/a.img"
start_nbdkit "$tmp/a.img"
export COWSET_URI=$uri
make_hook app
make_hook base level=system
strace -f -y -xx -s 16 -o "$tmp/trace" \
  "$cowset" run --writer "exec:$tmp/hooks" a -- true

"$python" - "$tmp/trace" <<'END'
import re
import sys

# A call that another thread's line has broken in two is one again, where it
# began.
lines, begun = [], {}
for pid, call in (line.split(None, 1) for line in open(sys.argv[1])):
    resumed = re.match(r"<\.\.\. \w+ resumed>", call)
    if resumed and pid in begun:
        begun.pop(pid)[1] += call[resumed.end():]
        continue
    lines.append([pid, call])
    if call.endswith("<unfinished ...>\n"):
        lines[-1][1] = call[:-len("<unfinished ...>\n")]
        begun[pid] = lines[-1]
# The threads of the requester: what its first process has cloned as such.
ours = {lines[0][0]}
for pid, call in lines:
    made = re.search(r"CLONE_THREAD.*= (\d+)", call)
    if pid in ours and made:
        ours.add(made.group(1))


def event(call, number):
    """A message to the watchdog: version 1, op 3, a writer, the event."""
    head = r"\x01\x00\x00\x00\x03\x00\x00\x00"
    tail = r"\x00\x00\x00\x%02x\x00\x00\x00" % number
    data = re.search(r'sendto\([^"]*"([^"]*)"', call)
    return data and data.group(1).startswith(head) and \
        data.group(1).endswith(tail)


FREEZE, THAW = 3, 4
first = last = None
for i, (pid, call) in enumerate(lines):
    if pid in ours and event(call, FREEZE) and first is None:
        first = i
    if pid in ours and event(call, THAW):
        last = i
assert first is not None and last is not None and first < last, (first, last)
bad = re.compile(r"(open|creat|mmap|mremap|brk|fork|clone|execve|unlink|"
                 r"rename|mkdir|fsync|fdatasync|stat|access|readlink)\w*\(")


def harmless(call):
    """A write to a socket or an eventfd, by the descriptor's name."""
    name = re.match(r"\w+\(\d+<([^>]*)>", call)
    name = name.group(1) if name else ""
    text = re.sub(r"\\x(..)", lambda m: chr(int(m.group(1), 16)), name)
    return text.startswith(("socket:", "UNIX", "anon_inode:[eventfd]"))


wrong = [call for pid, call in lines[first:last] if pid in ours and
         (bad.match(call) or
          (re.match(r"(write|writev|pwrite64)\(", call) and
           not harmless(call)))]
print("%d calls while frozen" % sum(pid in ours
                                    for pid, call in lines[first:last]))
if wrong:
    sys.exit("while frozen: " + "".join(wrong))
END
stop_nbdkit
