# cache - images, and the state of the page cache that they are brought into.
#
# SPDX-License-Identifier: BSD-3-Clause

import ctypes
import mmap
import os
import random
import time

MIB = 1 << 20
PAGE = 4096

# In the order of reports.
STATES = {
    'cold': 'nothing of the image in the page cache',
    'read': 'read once from its beginning to its end, 1 MiB at a time',
    'written': 'written once from its beginning to its end, 1 MiB at a time, '
               'then synced',
    'touched': 'written once page by page in random order, then synced',
}

_NR_cachestat = 451
_libc = ctypes.CDLL(None, use_errno=True)


def _pattern(seed):
    """Bytes that are neither zero nor alike."""
    return random.Random(seed).randbytes(MIB)


def make_image(path, size, seed=1):
    """Allocated, written and synced, so that no run pays for extents."""
    data = _pattern(seed)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
        for at in range(0, size, MIB):
            piece = at.to_bytes(8, 'little') + data[8:]
            os.pwrite(fd, piece[:min(MIB, size - at)], at)
        os.fsync(fd)
    finally:
        os.close(fd)


def drop(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def bring(path, state, seed):
    """Brings an image into a state of STATES; it is clean afterwards."""
    drop(path)
    fd = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(fd).st_size
        if state == 'read':
            buf = mmap.mmap(-1, MIB)
            at = 0
            while at < size:
                at += os.preadv(fd, [buf], at)
        elif state == 'written':
            data = _pattern(seed)
            for at in range(0, size, MIB):
                os.pwrite(fd, data[:min(MIB, size - at)], at)
            os.fsync(fd)
        elif state == 'touched':
            data = _pattern(seed)
            pages = list(range(size // PAGE))
            random.Random(seed).shuffle(pages)
            pieces = [data[i:i + PAGE] for i in range(0, MIB, PAGE)]
            for n in pages:
                os.pwrite(fd, pieces[n & 255], n * PAGE)
            os.fsync(fd)
    finally:
        os.close(fd)


def cached(path):
    """Pages of the file as the kernel counts them (Linux 6.5), or None."""
    span = (ctypes.c_uint64 * 2)(0, 0)
    counts = (ctypes.c_uint64 * 5)()
    fd = os.open(path, os.O_RDONLY)
    try:
        r = _libc.syscall(_NR_cachestat, fd, span, counts, 0)
    finally:
        os.close(fd)
    if r != 0:
        return None
    return {'cached': counts[0], 'dirty': counts[1], 'writeback': counts[2]}


def _meminfo(*keys):
    with open('/proc/meminfo') as f:
        fields = dict(line.split(':') for line in f)
    return sum(int(fields[k].split()[0]) for k in keys)


def settle(limit=2):
    """Everything synced, and nothing being written back any more: False where
    somebody else keeps writing."""
    os.sync()
    end = time.monotonic() + limit
    while _meminfo('Writeback') > 1024:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
