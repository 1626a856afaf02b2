# store-kill.py - kill -9 of a server under load, many times.
# SPDX-License-Identifier: BSD-3-Clause
#
# Each cycle starts a server over the same disks and store, checks everything,
# lets writers run, takes or deletes a set meanwhile, and kills the server at a
# random moment.  Checked are:
#
#   - every write that was acknowledged is on the disks, or a later one of the
#     same block that was on its way;
#   - a set is one instant: of each block, what was acknowledged before it was
#     asked for, or later, and nothing that was sent after it was there;
#   - each set reads the same, byte for byte, until it is deleted.
#
# usage: store-kill.py CYCLES SEED DIRECTORY COWSET NBDKIT-COMMAND...

import json, os, random, struct, subprocess, sys, threading, time
import nbd

BLOCK = 4096
BLOCKS = 512
VOLUMES = ["a", "b"]
SETS_MAX = 4

cycles, seed, tmp, cowset = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5]
command = sys.argv[5:]
rnd = random.Random(seed)
sock = os.path.join(tmp, "kill.sock")
log = open(os.path.join(tmp, "nbdkit-kill.log"), "ab")


def uri(export):
    return "nbd+unix:///%s?socket=%s" % (export, sock)


def fail(text):
    print("store-kill: seed %d: cycle %d: %s" % (seed, cycle, text),
          file=sys.stderr)
    sys.exit(1)


def stamp(n, block):
    return struct.pack("<QQ", n, block) * (BLOCK // 16)


class Volume:
    """What is known of a disk: of each block the number of the last write that
    was acknowledged, and of the last that was sent."""

    def __init__(self, name):
        self.name = name
        self.acked = [0] * BLOCKS
        self.sent = [0] * BLOCKS

    def check(self, data, low, high, what):
        for b in range(BLOCKS):
            got = data[b * BLOCK:(b + 1) * BLOCK]
            n, at = struct.unpack_from("<QQ", got)
            if got != stamp(n, at) or (n > 0 and at != b):
                fail("%s: block %d is torn, or another's" % (what, b))
            if not low[b] <= n <= high[b]:
                fail("%s: block %d is of write %d, not of %d to %d" %
                     (what, b, n, low[b], high[b]))


class Writer(threading.Thread):
    """Writes blocks of its own third of a volume until the server goes."""

    def __init__(self, volume, part, r):
        super().__init__()
        self.volume, self.r = volume, r
        self.mine = range(part, BLOCKS, 3)

    def run(self):
        try:
            h = nbd.NBD()
            h.connect_uri(uri(self.volume.name))
            while True:
                b = self.r.choice(self.mine)
                n = self.volume.sent[b] + 1
                self.volume.sent[b] = n
                flags = nbd.CMD_FLAG_FUA if self.r.random() < 0.05 else 0
                h.pwrite(stamp(n, b), b * BLOCK, flags)
                self.volume.acked[b] = n
        except nbd.Error:
            pass


def read(export):
    h = nbd.NBD()
    h.connect_uri(uri(export))
    data = b"".join(h.pread(BLOCK * 64, i * BLOCK * 64)
                    for i in range(BLOCKS // 64))
    h.shutdown()
    return data


def call(*args, check=True):
    r = subprocess.run([cowset, "-c", uri("")] + list(args),
                       capture_output=True, text=True)
    if check and r.returncode != 0:
        fail("cowset %s: %s" % (" ".join(args), r.stderr))
    return r


def start():
    if os.path.exists(sock):
        os.unlink(sock)
    server = subprocess.Popen(command[:1] + ["-f", "-U", sock] + command[1:],
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    for i in range(1200):
        if os.path.exists(sock):
            try:
                h = nbd.NBD()
                h.connect_uri(uri("a"))
                h.shutdown()
                return server
            except nbd.Error:
                pass
        if server.poll() is not None:
            fail("the server did not start")
        time.sleep(0.05)
    server.kill()
    fail("the server was not ready in a minute")


volumes = [Volume(n) for n in VOLUMES]
sets = {}                       # id: {volume: content}
unsure = set()                  # a delete or create was cut off


def take_set():
    low = {v.name: list(v.acked) for v in volumes}
    r = call("create", "--json", "--all", check=False)
    high = {v.name: list(v.sent) for v in volumes}
    if r.returncode != 0:
        return                  # the server was killed before
    s = json.loads(r.stdout)["set"]
    data = {}
    try:
        for v in volumes:
            data[v.name] = read("%s@%s" % (v.name, s))
    except nbd.Error:
        unsure.add(s)           # it is there, but what it held is not known
        return
    for v in volumes:
        v.check(data[v.name], low[v.name], high[v.name], "set of " + v.name)
    sets[s] = data


def delete_set():
    s = rnd.choice(list(sets))
    r = call("delete", s, check=False)
    del sets[s]
    if r.returncode != 0:
        unsure.add(s)


def check_all():
    for v in volumes:
        v.check(read(v.name), v.acked, v.sent, "disk " + v.name)
        # What had been on its way may be there: it is certain now.
        data = read(v.name)
        for b in range(BLOCKS):
            v.acked[b] = struct.unpack_from("<Q", data, b * BLOCK)[0]
            v.sent[b] = max(v.sent[b], v.acked[b])
    listed = {s["set"]: s for s in json.loads(call("list", "--json").stdout)}
    for s, data in sets.items():
        if s not in listed:
            fail("set %s is gone" % s)
        for v in volumes:
            if read("%s@%s" % (v.name, s)) != data[v.name]:
                fail("set %s: %s has changed" % (s, v.name))
    for s in listed:
        if s not in sets:
            call("delete", s)   # cut off, or left by a create that was
    unsure.clear()


for cycle in range(cycles):
    server = start()
    try:
        check_all()
        writers = [Writer(v, part, random.Random(rnd.random()))
                   for v in volumes for part in range(3)]
        for w in writers:
            w.start()
        deadline = time.monotonic() + rnd.uniform(0.02, 0.25)
        def kill_later():
            time.sleep(max(0, deadline - time.monotonic()))
            server.kill()
        killer = threading.Thread(target=kill_later)
        killer.start()
        if len(sets) >= SETS_MAX or (sets and rnd.random() < 0.3):
            delete_set()
        elif rnd.random() < 0.8:
            take_set()
        killer.join()
        for w in writers:
            w.join()
    finally:
        server.kill()
        server.wait()

cycle = cycles
server = start()
check_all()
server.terminate()
if server.wait() != 0:
    fail("the server ended with status %d" % server.returncode)
print("%d kills; %d and %d writes, %d sets left" %
      (cycles, sum(volumes[0].acked), sum(volumes[1].acked), len(sets)))
