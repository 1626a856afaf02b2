# special - the rows that are no comparison of rates: bytes moved, holds, large
# volumes, memory, slow readers.
#
# Each answers {'lines': [(what, figure, unit)], 'checks': [(what, figure,
# limit, reached)], ...}; whatever else it has is raw.
#
# SPDX-License-Identifier: BSD-3-Clause

import contextlib
import os
import signal
import subprocess
import time

from . import cache, load, rows, stats, system
from .cache import MIB
from .load import Job
from .runner import Contestant, Run

KIB = 1 << 10
TIB = 1 << 40


def check(what, figure, limit, unit=''):
    return {'what': what, 'figure': figure, 'limit': limit, 'unit': unit,
            'reached': figure is not None and figure <= limit}


# ------------------------------------------------------------ g: bytes moved
def moved(r):
    """Bytes moved for each byte first touched, by three ways of counting."""
    new = r['load']['ios'] * r['bs']
    out = {'requests': r['load']['ios']}
    if 'status' in r:
        s = r['status']['store']
        # What was read of the origin and what was written to the store, by
        # the engine's own count, and the new data.
        out['engine'] = (s['copied_bytes'] + s['written_bytes'] + new) / new
        out['engine_store'] = s['written_bytes'] / new
    if r['server_io']:
        io = r['server_io']
        out['process'] = (io['read_bytes'] + io['write_bytes']) / new
    if r['device_settled']:
        d = r['device_settled']
        out['device'] = (d['read_bytes'] + d['write_bytes']) / new
        out['device_read'] = d['read_bytes'] / new
        out['device_write'] = d['write_bytes'] / new
    return out


def row_g(bench, table):
    runs = min(bench.options.pairs, 3)
    jobs = [Job('some', 'randwrite', 4 * KIB, 16, table.deep),
            Job('spread', 'randwrite', 4 * KIB, 16, spread=64 * KIB),
            Job('all', 'randwrite', 4 * KIB, 16, bench.size // (4 * KIB),
                cap=120)]
    plain = Contestant('nbdkit-file, no snapshot', 'file')
    who = [table.touch, Contestant('cowset cache=none', 'cowset',
                                   arm=rows.snapshot, cache='none'),
           table.cbw, table.file_cow, plain]
    lasting = Contestant('cowset, persistent', 'cowset',
                         arm=rows.persistent, store=True)
    crowd = Job('crowd', 'randwrite', 4 * KIB, 64, table.deep, connections=4)
    raw, lines, checks = [], [], []
    for job in jobs + [crowd]:
        for c in who if job is not crowd else [lasting]:
            got = []
            for i in range(runs):
                r = bench.run(c, job, 'cold', seed=i + 1, pair=i)
                r['bs'] = job.bs
                r['moved'] = moved(r)
                got.append(r['moved'])
                raw.append(r)
            med = {k: stats.median([g[k] for g in got if k in g])
                   for k in got[0]}
            lines.append({'job': job.name, 'label': c.label, **med})
            if c.label == 'cowset' and 'engine' in med:
                checks.append(check(f'{job.name}: bytes moved, by the '
                                    "engine's count", med['engine'], 3.1))
            if c is lasting:
                checks.append(check(f'{job.name}: bytes written to the store '
                                    'for each preserved byte, by the '
                                    "engine's count", med['engine_store'],
                                    1.05))
            bench.say(f'g {job.name} {c.label}: {med}')
    return {'lines': lines, 'checks': checks, 'raw': raw}


# ------------------------------------------------------------------ j: holds
BUSY, VOLUMES = 4, 16
BEFORE_MS, WINDOW_MS = 5, 100


class Clients:
    """fio at depth 16 on each busy volume, every latency logged with the time
    of day."""

    def __init__(self, server, work, size, seconds):
        self.work = work
        self.logs, self.processes = [], []
        for i in range(BUSY):
            prefix = os.path.join(work, f'client{i}')
            job = Job(f'client{i}', 'randwrite', 4 * KIB, 16, cap=seconds)
            args = load.fio_args(
                server.uri(f'v{i}'), job, size, i + 1,
                ['--time_based', '--log_unix_epoch=1',
                 f'--write_lat_log={prefix}', '--disable_slat=1',
                 '--disable_clat=1', f'--output={prefix}.json'])
            self.processes.append(subprocess.Popen(
                args, cwd=work, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            self.logs.append(prefix + '_lat.1.log')

    def wait(self):
        return [p.wait() for p in self.processes]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for p in self.processes:
            if p.poll() is None:
                p.terminate()
                p.wait()

    def latencies(self):
        """(milliseconds since 1970, microseconds), in no order."""
        out = []
        for log in self.logs:
            with open(log) as f:
                for line in f:
                    at, ns = line.split(',', 2)[:2]
                    out.append((int(at), int(ns) / 1000))
            os.unlink(log)
        return out


def window_percentiles(latencies, times_ms, period_ms):
    """p99.9 within the windows of each set, and in windows as long in the
    middle between two."""
    inside, outside = [], []
    starts = sorted(times_ms)
    if not starts:
        return None
    at = 0
    for t, us in sorted(latencies):
        while at + 1 < len(starts) and t >= starts[at + 1] - BEFORE_MS:
            at += 1
        d = t - (starts[at] - BEFORE_MS)
        if 0 <= d < WINDOW_MS:
            inside.append(us)
        elif period_ms / 2 <= d < period_ms / 2 + WINDOW_MS:
            outside.append(us)
    if not inside or not outside:
        return None
    return {'with': stats.percentile(inside, 99.9),
            'without': stats.percentile(outside, 99.9),
            'with_p50': stats.percentile(inside, 50),
            'without_p50': stats.percentile(outside, 50),
            'with_max': max(inside), 'without_max': max(outside),
            'requests': [len(inside), len(outside)]}


def take_sets(control, times, sets, keep, period):
    """SETS sets, one each PERIOD seconds; their instants go to TIMES.

    keep 'between': a set is deleted in the middle of its period, long before
    the next; 'through': after the next one has been made, so that there is
    always one alive; 'none': no sets, only their times.
    """
    names = [f'v{i}' for i in range(VOLUMES)]
    steps, infos, last = [], [], None
    start = time.monotonic()

    def sleep_until(at):
        time.sleep(max(0, start + at - time.monotonic()))

    for n in range(sets):
        sleep_until(n * period)
        if keep == 'none':
            times.append(time.time() * 1000)
            continue
        set_id, t = control.create(names)
        info = control.query(set_id)[0]
        times.append(info['created'] / 1e6)
        steps.append(t)
        infos.append({k: info[k] for k in ('hold_ns', 'settle_ns')})
        if keep == 'through':
            last, old = set_id, last
        else:
            old = set_id
            sleep_until(n * period + (WINDOW_MS + 10) / 1000)
        if old:
            control.delete(old)
    if last:
        control.delete(last)
    return steps, infos


def hold_phase(bench, server, control, size, sets, keep, period=0.3):
    times = []
    with Clients(server, bench.work, size, sets * period + 3) as clients:
        time.sleep(1.5)
        steps, infos = take_sets(control, times, sets, keep, period)
        if any(clients.wait()):
            raise load.LoadError('a client of row j has failed')
        windows = window_percentiles(clients.latencies(), times,
                                     period * 1000)
    return {'infos': infos, 'steps': steps, 'windows': windows}


def row_j(bench, table):
    sets = 20 if bench.options.quick else 100
    size = bench.size // 4
    volumes = {}
    for i in range(VOLUMES):
        path = os.path.join(bench.work, f'v{i}.img')
        cache.make_image(path, size if i < BUSY else 16 * MIB, seed=i)
        volumes[f'v{i}'] = path
    out = {'phases': {}}
    try:
        for keep in ('none', 'through', 'between'):
            for path in volumes.values():
                cache.bring(path, 'touched', 1)
            cache.settle()
            with bench.server('cowset', None,
                                     volumes=volumes) as server:
                out['phases'][keep] = hold_phase(
                    bench, server, server.control(), size, sets, keep)
                out['phases'][keep]['loadavg'] = system.loadavg()
            bench.say(f"j {keep}: {out['phases'][keep]['windows']}")
    finally:
        for path in volumes.values():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    holds = [i['hold_ns'] / 1e6 for p in ('through', 'between')
             for i in out['phases'][p]['infos']]
    settles = [i['settle_ns'] / 1e6 for p in ('through', 'between')
               for i in out['phases'][p]['infos']]
    out['lines'] = [
        {'what': f'{name} of {len(v)} sets, ms', 'p50': stats.median(v),
         'p99': stats.percentile(v, 99), 'max': max(v)}
        for name, v in (('hold', holds), ('settle', settles))]
    checks = [check('hold, p99', stats.percentile(holds, 99), 0.2, 'ms'),
              check('hold, longest', max(holds), 2.0, 'ms')]
    for keep, text in (('through', 'a snapshot always alive'),
                       ('between', 'no snapshot between'),
                       ('none', 'no sets: the band of noise')):
        w = out['phases'][keep]['windows']
        r = w['with'] / w['without'] if w else None
        c = check(f'clients\' p99.9 with a set to without ({text})', r, 1.2)
        if keep == 'none':
            c['reached'] = None
        checks.append(c)
    out['checks'] = checks
    return out


# ---------------------------------------------------------- k: large volumes
@contextlib.contextmanager
def xfs(work):
    """An XFS of its own on a loop device, for files above 16 TiB."""
    backing, where = os.path.join(work, 'xfs.img'), os.path.join(work, 'xfs')
    os.mkdir(where)
    with open(backing, 'wb') as f:
        f.truncate(4 << 30)

    def call(*argv):
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    call('mkfs.xfs', '-q', '-m', 'reflink=1', backing)
    call('mount', '-o', 'loop', backing, where)
    try:
        yield where
    finally:
        call('umount', where)
        os.unlink(backing)
        os.rmdir(where)


def make_and_delete(server, count):
    """Seconds of each step, by set."""
    control = server.control()
    out = []
    for _ in range(count):
        started = time.perf_counter()
        set_id, steps = control.create(['disk'])
        made = time.perf_counter()
        control.delete(set_id)
        ended = time.perf_counter()
        out.append({'create': made - started, 'delete': ended - made,
                    **steps})
        # A delete does its work behind: the next set must not wait for it.
        time.sleep(0.05)
    return out


def row_k(bench, table):
    if os.geteuid() != 0:
        return {'skipped': 'needs root, for a loop device'}
    count = 10 if bench.options.quick else 50
    out = {'raw': {}, 'lines': [], 'checks': []}
    with xfs(bench.work) as where:
        images = {'1 GiB': 1 << 30, '64 TiB': 64 * TIB}
        for i, size in enumerate(images.values()):
            with open(os.path.join(where, f'i{i}.img'), 'wb') as f:
                f.truncate(size)
        got = {name: [] for name in images}
        for turn in range(4):
            names = list(images) if turn % 2 == 0 else list(images)[::-1]
            for name in names:
                path = os.path.join(where, f'i{list(images).index(name)}.img')
                with bench.server('cowset', path) as server:
                    # The first set of a server pays for what all later ones
                    # use; it is reported by itself.
                    first = make_and_delete(server, 1)
                    got[name] += make_and_delete(server, count // 4 + 1)
                    out['raw'].setdefault(name + ', first', []).extend(first)
        out['raw'].update(got)
    for step in ('create', 'delete', 'prepare', 'commit', 'settle'):
        small, large = ([g[step] * 1000 for g in got[n]] for n in images)
        line = {'what': f'{step}, ms', '1 GiB': stats.median(small),
                '64 TiB': stats.median(large)}
        line['ratio'] = line['64 TiB'] / line['1 GiB']
        out['lines'].append(line)
        if step in ('create', 'delete'):
            out['checks'].append(check(f'{step}, 64 TiB to 1 GiB',
                                       line['ratio'], 1.5))
    return out


# ----------------------------------------------------------------- l: memory
def beside_ring(server, control):
    """Bytes of memory of the process that are not the segment ring."""
    m = control.status()['memory']
    p = system.process_memory(server.pid)
    return {'beside': p['RssAnon'] + p['RssShmem'] + p['RssFile'] -
            m['ring_bytes'], 'map': m['map_bytes'], 'ring': m['ring_bytes'],
            'process': p}


def row_l(bench, table):
    out = {'lines': [], 'checks': []}
    sparse = os.path.join(bench.work, 'sparse.img')
    with open(sparse, 'wb') as f:
        f.truncate(TIB)
    try:
        with bench.server('file', sparse) as server:
            out['file'] = system.process_memory(server.pid)
        with bench.server('cowset', sparse) as server:
            control = server.control()
            control.create(['disk'])
            time.sleep(0.5)
            out['idle'] = beside_ring(server, control)
    finally:
        os.unlink(sparse)
    # Exceptions at random: memory at a quarter of all blocks and at the end.
    blocks = bench.size // (4 * KIB)
    cache.bring(bench.image, 'touched', 1)
    points = []
    with bench.server('cowset', bench.image) as server:
        run = Run(bench, server, 1, 0)
        run.create()
        for share in (0.25, 1):
            job = Job('fill', 'randwrite', 4 * KIB, 16, int(blocks * share),
                      cap=None)
            # The same seed: the second job begins as the first did.
            load.run(server.uri(), job, bench.size, 1, bench.work)
            time.sleep(0.5)
            st = run.control.status()['store']['exceptions']
            points.append({'exceptions': st,
                           **beside_ring(server, run.control)})
    out['points'] = points
    a, b = points
    grown = b['exceptions'] - a['exceptions']
    mapped = b['map'] / b['exceptions'] if b['exceptions'] else None
    each = (b['beside'] - a['beside']) / grown if grown > 0 else None
    out['lines'] = [
        {'what': 'nbdkit-file, idle, all memory, MiB',
         'figure': out['file']['VmRSS'] / MIB},
        {'what': 'cowset, idle 1 TiB with a snapshot, beside the ring, MiB',
         'figure': out['idle']['beside'] / MIB},
        {'what': 'segment ring, MiB', 'figure': out['idle']['ring'] / MIB},
        {'what': 'map, bytes for each exception (engine)', 'figure': mapped},
        {'what': 'memory beside the ring, bytes for each exception (process)',
         'figure': each}]
    out['checks'] = [
        check('idle 1 TiB with a snapshot, beside the ring',
              out['idle']['beside'] / MIB, 48, 'MiB'),
        check('segment ring', out['idle']['ring'] / MIB, 128, 'MiB'),
        check('map, for each exception', mapped, 24, 'bytes'),
        check('process, for each exception', each, 24, 'bytes')]
    return out


# ----------------------------------------------------------- m: slow readers
@contextlib.contextmanager
def reader(run, kind):
    """Something that reads the snapshot slowly, or not any more."""
    if kind == 'none':
        yield
        return
    job = Job('reader', 'randread', 64 * KIB, 16, cap=300)
    args = load.fio_args(run.server.uri(f'disk@{run.sets[-1]}'), job,
                         run.bench.size, 99,
                         ['--time_based'] +
                         (['--rate=1m'] if kind == 'slow' else []))
    p = subprocess.Popen(args, cwd=run.bench.work, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.7)
        if kind == 'stopped':
            p.send_signal(signal.SIGSTOP)
            time.sleep(0.1)
        yield
        if p.poll() is not None:
            raise load.LoadError('the reader has ended before the writers')
    finally:
        p.kill()
        p.wait()


def row_m(bench, table):
    kinds = ['none', 'slow', 'stopped', 'again']
    job = table.random_touch()
    rate = {k: [] for k in kinds}
    p99 = {k: [] for k in kinds}
    raw = []
    for pair in range(bench.options.pairs):
        turn = kinds if pair % 2 == 0 else kinds[::-1]
        for kind in turn:
            with bench.server('cowset', bench.image) as server:
                run = Run(bench, server, pair + 1, pair)
                cache.bring(bench.image, 'touched', pair + 1)
                run.create()
                cache.settle()
                how = 'none' if kind == 'again' else kind
                record = {'kind': kind, 'pair': pair,
                          'loadavg': system.loadavg()}
                with reader(run, how):
                    record['load'] = load.run(server.uri(), job, bench.size,
                                              pair + 1, bench.work)
                raw.append(record)
                rate[kind].append(record['load']['iops'])
                p99[kind].append(record['load']['latency_us']['99.0'])
    lines, checks = [], []
    for kind in kinds[1:]:
        q = stats.ratio(rate[kind], rate['none'])
        t = stats.ratio(p99[kind], p99['none'])
        lines.append({'what': kind, 'rate': q['median'], 'low': q['low'],
                      'high': q['high'], 'p99': t['median'],
                      'p99_low': t['low'], 'p99_high': t['high']})
        if kind != 'again':
            checks.append(check(f'writers\' time, reader {kind}, to none',
                                1 / q['median'], 1.05))
    # The band of noise of the p99 is that of "again".
    band = lines[-1]['p99_high']
    for line in lines[:-1]:
        checks.append(check(f"writers' p99, reader {line['what']}, to none",
                            line['p99'], max(1.0, band)))
    return {'lines': lines, 'checks': checks, 'raw': raw}


ROWS = {'g': row_g, 'j': row_j, 'k': row_k, 'l': row_l, 'm': row_m}


def measure(bench, table, row):
    # What these rows leave in the page cache is nobody's stated state.
    bench.state = None
    try:
        bench.extra[row] = ROWS[row](bench, table)
    except (OSError, RuntimeError, load.LoadError,
            subprocess.CalledProcessError) as e:
        bench.fail(f'row {row}: {e}')
        bench.extra[row] = {'skipped': str(e)}
    for c in bench.extra[row].get('checks', []):
        bench.say(f"{row} {c['what']}: {c['figure']} {c['unit']} "
                  f"(at most {c['limit']})")
