# load - jobs of fio's nbd engine.
# SPDX-License-Identifier: BSD-3-Clause

import json
import os
import random
import subprocess

PERCENTILES = '50:90:99:99.9:99.99:100'


class LoadError(RuntimeError):
    pass


class Job:
    """A fixed amount of work: the faster of two servers must not get into
    another part of the cache's life than the slower one."""

    def __init__(self, name, rw, bs, depth, ios=None, once=False, spread=None,
                 cap=20, connections=1, flush=None):
        self.name, self.rw, self.bs, self.depth = name, rw, bs, depth
        self.ios, self.once, self.spread, self.cap = ios, once, spread, cap
        # Depth and requests are those of all connections together, each of
        # which has a part of the image to itself.
        self.connections, self.flush = connections, flush

    def describe(self):
        text = f'{self.rw} {self.bs >> 10}k depth {self.depth}'
        if self.connections > 1:
            text += f' over {self.connections} connections'
        if self.flush:
            text += f', a flush every {self.flush}'
        if self.ios:
            text += f', {self.ios} requests'
        if self.spread:
            text += f', each in another {self.spread >> 10} KiB'
        return text


def fio_args(uri, job, size, seed, extra=()):
    # In a thread: a job that is a process leaves the group of its parent, and
    # would outlive it, or not stop with it.
    n = job.connections
    args = ['fio', f'--name={job.name}', '--thread', '--ioengine=nbd',
            f'--uri={uri}',
            f'--rw={job.rw}', f'--bs={job.bs}', f'--iodepth={job.depth // n}',
            # With randrepeat, fio's default, the seed is not looked at.
            f'--size={size // n}', '--randrepeat=0', f'--randseed={seed}',
            '--norandommap=0',
            '--clat_percentiles=1', f'--percentile_list={PERCENTILES}',
            '--output-format=json']
    if n > 1:
        args += [f'--numjobs={n}', f'--offset_increment={size // n}',
                 '--group_reporting']
    if job.ios:
        args.append(f'--number_ios={job.ios // n}')
    if job.flush:
        args.append(f'--fsync={job.flush}')
    if job.cap:
        args.append(f'--runtime={job.cap}')
    return args + list(extra)


def spread_log(path, size, job, seed):
    """An fio log of writes that touch each part of the image once, in random
    order, at a random block of that part."""
    r = random.Random(seed)
    parts = list(range(size // job.spread))
    r.shuffle(parts)
    if job.ios:
        parts = parts[:job.ios]
    blocks = job.spread // job.bs
    with open(path, 'w') as f:
        f.write('fio version 2 iolog\nnbd add\nnbd open\n')
        for p in parts:
            at = p * job.spread + r.randrange(blocks) * job.bs
            f.write(f'nbd write {at} {job.bs}\n')
    return len(parts)


def figures(job):
    """What is kept of one job of fio's answer."""
    if job['error']:
        raise LoadError(f"fio: error {job['error']}")
    side = max((job['read'], job['write']), key=lambda s: s['total_ios'])
    seconds = side['runtime'] / 1000
    lat = side['clat_ns']
    return {
        'ios': side['total_ios'],
        'seconds': seconds,
        'iops': side['total_ios'] / seconds if seconds else 0,
        'mb_s': side['io_bytes'] / 1e6 / seconds if seconds else 0,
        'latency_us': {p: round(v / 1000, 1) for p, v in
                       ((str(float(k)), v) for k, v in
                        lat.get('percentile', {}).items())},
        'latency_mean_us': round(lat['mean'] / 1000, 1),
        'client_cpu': [job['usr_cpu'], job['sys_cpu']],
    }


def run(uri, job, size, seed, work, extra=()):
    extra = list(extra)
    log = None
    if job.spread:
        log = os.path.join(work, 'spread.log')
        count = spread_log(log, size, job, seed)
        # At the end of a log fio leaves without waiting for the answers, at
        # the end of a number of requests it doesn't.
        extra += [f'--read_iolog={log}', '--replay_no_stall=1',
                  f'--number_ios={count}']
    r = subprocess.run(fio_args(uri, job, size, seed, extra), cwd=work,
                       stdin=subprocess.DEVNULL, capture_output=True,
                       text=True)
    if r.returncode:
        raise LoadError(f'fio: {r.stderr.strip() or r.stdout.strip()[-500:]}')
    text = r.stdout
    answer = json.loads(text[text.index('{'):])
    return figures(answer['jobs'][0])
