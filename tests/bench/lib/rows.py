# rows - the comparisons by name: what is measured in each row.
#
# Rows a to f, h, i, n and o are comparisons of rates; g and j to m, in special.py,
# look at something else.
#
# SPDX-License-Identifier: BSD-3-Clause

from .cache import MIB, STATES
from .load import Job
from .runner import Comparison, Contestant
from . import load

KIB = 1 << 10

TITLES = {
    'a': 'no snapshot, against nbdkit-file',
    'b': 'snapshot live, blocks already preserved, against nbdkit-file '
         'without a snapshot',
    'c': 'first touch, random 4 KiB, depth 16, against nbdkit-file without a '
         'snapshot',
    'd': 'first touch, random 4 KiB, depth 16, against QEMU copy-before-write',
    'e': 'first touch, sequential 64 KiB, depth 4, against nbdkit-file '
         'without a snapshot',
    'f': 'first touch, direct I/O, random 4 KiB, depth 16, against QEMU '
         'copy-before-write with cache.direct=on',
    'g': 'bytes moved for each first-touched byte',
    'h': 'first touch with 64 live sets, against one',
    'i': 'snapshot reads, half of the blocks preserved, against nbdkit-file',
    'j': 'hold of a set of 16 volumes, and its effect on clients',
    'k': 'making and deleting a set: 64 TiB sparse on XFS, against 1 GiB',
    'l': 'memory',
    'm': 'a slow or stopped reader of the snapshot, and the writers',
    'n': 'plain system calls against io_uring',
    'o': 'first touch under a persistent set, random 4 KiB, against '
         'nbdkit-file without a snapshot',
}


def snapshot(run):
    run.create()


def persistent(run):
    run.create(persistent=True)


def preserved(run):
    """A set, then every block written once."""
    run.create()
    job = Job('preserve', 'write', MIB, 4)
    load.run(run.server.uri(), job, run.bench.size, run.seed, run.bench.work)


def half_preserved(job):
    """A set, then half of the blocks preserved by JOB; its snapshot is what
    is read."""
    def warm(run):
        run.create()
        load.run(run.server.uri(), job, run.bench.size, run.seed + 1000,
                 run.bench.work)
        run.export = f'disk@{run.sets[-1]}'
    return warm


def checker(bs):
    """Each request a first touch: else the row measures something else."""
    def check(r):
        preserved = sum(v['exceptions'] for v in r['status']['volumes'])
        written = r['load']['ios'] * (bs // (4 * KIB))
        if preserved < written:
            return f'{written} blocks written once, {preserved} preserved'
        return None
    return check


class Rows:
    def __init__(self, size, quick, states):
        self.size, self.quick, self.states = size, quick, states
        scale = 2 if quick else 1
        self.deep = 65536 // scale
        self.shallow = 16384 // scale
        self.file = Contestant('nbdkit-file', 'file')
        self.cowset = Contestant('cowset', 'cowset')
        self.touch = Contestant('cowset', 'cowset', arm=snapshot)
        self.cbw = Contestant('qemu-cbw', 'qemu-cbw')
        self.file_cow = Contestant('nbdkit-file+cow', 'file-cow')
        self.qemu_nbd = Contestant('qemu-nbd', 'qemu-nbd')

    def plain_jobs(self):
        more = self.deep if self.quick else 2 * self.deep
        jobs = [
            Job('randread-16', 'randread', 4 * KIB, 16, more, cap=6),
            Job('randwrite-16', 'randwrite', 4 * KIB, 16, more, cap=6),
            Job('randread-1', 'randread', 4 * KIB, 1, self.shallow),
            Job('randwrite-1', 'randwrite', 4 * KIB, 1, self.shallow),
            Job('read-1m', 'read', MIB, 4),
            Job('write-1m', 'write', MIB, 4),
        ]
        return [j for j in jobs if not self.quick or j.name != 'randread-1']

    def random_touch(self):
        return Job('randwrite-16', 'randwrite', 4 * KIB, 16, self.deep)

    def a(self):
        return [Comparison('a', j, s, self.cowset, self.file,
                           noise=not self.quick and j.depth > 1,
                           others=[self.qemu_nbd], target=1.00,
                           target_low=0.95)
                for s in self.states for j in self.plain_jobs()]

    def b(self):
        c = Contestant('cowset', 'cowset', warm=preserved)
        return [Comparison('b', j, s, c, self.file, target=0.97,
                           target_low=0.93)
                for s in self.states for j in self.plain_jobs()]

    def c(self):
        return [Comparison('c', self.random_touch(), s, self.touch, self.file,
                           noise=True, others=[self.file_cow], target=0.75,
                           aim=0.90, check=checker(4 * KIB))
                for s in self.states]

    def d(self):
        spread = Job('randwrite-16-spread', 'randwrite', 4 * KIB, 16,
                     spread=64 * KIB)
        return [Comparison('d', j, s, self.touch, self.cbw, target=t, aim=m,
                           check=checker(4 * KIB))
                for s in self.states
                for j, t, m in ((self.random_touch(), 4.5, 6),
                                (spread, 5, 10))]

    def e(self):
        j = Job('write-64k-4', 'write', 64 * KIB, 4)
        return [Comparison('e', j, s, self.touch, self.file,
                           noise=not self.quick,
                           others=[self.cbw, self.file_cow], target=0.45,
                           aim=0.60, check=checker(64 * KIB))
                for s in self.states]

    def f(self):
        c = Contestant('cowset cache=none', 'cowset', arm=snapshot,
                       cache='none')
        q = Contestant('qemu-cbw direct', 'qemu-cbw', direct=True,
                       aio='io_uring')
        alone = Contestant('cowset cache=none, no snapshot', 'cowset',
                           cache='none')
        nbd = Contestant('qemu-nbd direct, no snapshot', 'qemu-nbd',
                         cache='none', aio='io_uring')
        return [Comparison('f', self.random_touch(), 'cold', c, q,
                           others=[alone, nbd], target=1.2, aim=1.5,
                           check=checker(4 * KIB))]

    def h(self):
        def many(run):
            run.create(count=64)
        c = Contestant('cowset, 64 sets', 'cowset', arm=many)
        b = Contestant('cowset, 1 set', 'cowset', arm=snapshot)
        # A cost of 5 % more is a rate of 1 / 1.05.
        return [Comparison('h', self.random_touch(), s, c, b, noise=True,
                           target=0.952, check=checker(4 * KIB))
                for s in self.states if s in ('cold', 'touched')]

    def i(self):
        forms = {
            # Every run of preserved blocks is short: the hardest case.
            'scattered': Job('preserve', 'randwrite', 4 * KIB, 16,
                             self.size // (8 * KIB), cap=None),
            'one half': Job('preserve', 'write', 64 * KIB, 4,
                            self.size // (128 * KIB), cap=None),
        }
        if self.quick:
            del forms['one half']
        jobs = [Job('randread-16', 'randread', 4 * KIB, 16, self.deep),
                Job('read-1m', 'read', MIB, 4)]
        return [Comparison('i', j, s,
                           Contestant('cowset snapshot', 'cowset',
                                      warm=half_preserved(p)),
                           self.file, target=0.90, title=form)
                for form, p in forms.items()
                for s in self.states for j in jobs]

    def n(self):
        out = []
        for cache, states in (('writeback', self.states), ('none', ['cold'])):
            row = 'row c' if cache == 'writeback' else 'row f'
            s = Contestant('cowset io=sync', 'cowset', arm=snapshot,
                           cache=cache, io='sync')
            u = Contestant('cowset io=uring', 'cowset', arm=snapshot,
                           cache=cache, io='uring')
            out += [Comparison('n', self.random_touch(), state, s, u,
                               title=row, check=checker(4 * KIB))
                    for state in states]
        return out

    def o(self):
        """Each touch waits until the old data is durable."""
        c = Contestant('cowset, persistent', 'cowset', arm=persistent,
                       store=True)
        jobs = [
            (Job('randwrite-16', 'randwrite', 4 * KIB, 16, self.deep), 0.30),
            (Job('randwrite-64-over-4', 'randwrite', 4 * KIB, 64, self.deep,
                 connections=4), 0.50),
            (Job('randwrite-16-flushed', 'randwrite', 4 * KIB, 16,
                 self.shallow, flush=32), 0.60),
        ]
        return [Comparison('o', j, s, c, self.file, target=t,
                           check=checker(4 * KIB))
                for s in self.states if s in ('cold', 'touched')
                for j, t in jobs]

    def comparisons(self, row):
        return getattr(self, row)()


PAIRED = 'abcdefhino'
QUICK = 'abcdei'
QUICK_STATES = ['touched']
assert set(QUICK_STATES) <= set(STATES)
