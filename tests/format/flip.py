#!/usr/bin/python3
"""flip.py DIR CHECK SEED COUNT - a flipped bit is found.

DIR is as make-store.c leaves it, with a store that was closed in order.  Of
every kind of bytes in the store's file COUNT are taken by lot ("all": each one of
those with a meaning), a bit of each is flipped, one at a time, and CHECK must
report damage.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import random
import subprocess
import sys

import reader

EVERY_ZERO = 65536


def kinds(store):
    """Ranges of the file by what is in them, and whether that has a meaning."""
    size = os.fstat(store.file.fileno()).st_size
    here = store.area_of(store.lap)
    yield "superblock", True, [(0, 4096)]
    yield "superblock's copy", True, [(4096, 8192)]
    yield "clean mark", True, [(8192, 8192 + 64)]
    yield "reserved", False, [(8192 + 64, 65536)]
    yield "journal", True, [(here, here + store.end())]
    yield "rest of the journal", False, [
        (here + store.end(), here + store.area_bytes),
        (store.area_of(store.lap + 1),
         store.area_of(store.lap + 1) + store.area_bytes)]
    headers, blocks, unused = [], [], []
    last = (size - store.segments_at) // store.segment_bytes
    for segment in range(last):
        at = store.segments_at + segment * store.segment_bytes
        if segment not in store.segments:
            unused.append((at, at + store.segment_bytes))
            continue
        headers.append((at, at + 8192))
        used = {r[4] for r in store.header_of(segment,
                                              store.segments[segment][0])}
        for i in range(store.capacity):
            block = at + 8192 + i * store.block_bytes
            (blocks if i in used else unused).append(
                (block, block + store.block_bytes))
    yield "segments' headers", True, headers
    yield "old data", True, blocks
    yield "free space", False, unused


def draw(rng, meaning, ranges, count):
    length = sum(b - a for a, b in ranges)
    if length == 0:
        return []
    if count == "all":
        if meaning:
            return [i for a, b in ranges for i in range(a, b)]
        return [i for a, b in ranges
                for i in range(a + rng.randrange(b - a), b, EVERY_ZERO)]
    chosen = []
    for _ in range(int(count)):
        at = rng.randrange(length)
        for a, b in ranges:
            if at < b - a:
                chosen.append(a + at)
                break
            at -= b - a
    return chosen


def flip(path, offset, bit):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 1 << bit]))


def main(directory, check, seed, count):
    rng = random.Random(int(seed))
    store = reader.Store(os.path.join(directory, "store"))
    path = os.path.join(directory, "store", "cowset.store")
    if not store.clean:
        sys.exit("the store was not closed in order")
    for kind, meaning, ranges in list(kinds(store)):
        offsets = draw(rng, meaning, ranges, count)
        for offset in offsets:
            bit = rng.randrange(8)
            flip(path, offset, bit)
            status = subprocess.run([check, "-q", os.path.dirname(path)],
                                    stderr=subprocess.DEVNULL).returncode
            if status != 4:
                sys.exit("%s: bit %d of the byte at %d was flipped, and "
                         "cowset-check exits with %d" % (kind, bit, offset,
                                                         status))
            flip(path, offset, bit)
        print("%s: %d bits flipped and found" % (kind, len(offsets)))


if __name__ == "__main__":
    main(*sys.argv[1:])
