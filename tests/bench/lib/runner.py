# runner - pairs of runs, in alternation, every figure of them kept.
#
# A run is: a server started anew; the image brought into a state of the page
# cache; everything synced; counters; one job; counters; everything synced;
# counters; the server's end.  Contestants share one image, so that the disk's
# layout favours none.
#
# SPDX-License-Identifier: BSD-3-Clause

import contextlib
import resource
import sys
import time

from . import cache, load, stats, system
from .servers import ServerError


class Contestant:
    """A server and what is done to it before the job.

    warm (run): before the image is brought into its state.
    arm (run): after it, immediately before the job.
    Both get the Run; arm may set run.export.
    """

    def __init__(self, label, server, warm=None, arm=None, **options):
        self.label, self.server = label, server
        self.warm, self.arm, self.options = warm, arm, options


class Comparison:
    """One line of a report: a job, a state, and who is compared with whom."""

    def __init__(self, row, job, state, subject, base, noise=False,
                 others=(), target=None, aim=None, target_low=None,
                 check=None, title=None, below=False):
        self.row, self.job, self.state = row, job, state
        self.subject, self.base, self.noise = subject, base, noise
        self.others = list(others)
        # Least median, the median aimed at, least lower end of the interval;
        # with "below", greatest ones.
        self.target, self.aim, self.target_low = target, aim, target_low
        self.below = below
        self.check = check
        self.title = title or ''
        self.runs = []

    def key(self):
        return ' '.join(x for x in (self.row, self.title, self.job.name,
                                    self.state) if x)

    def order(self, pair, others):
        """Subject and base are neighbours; who begins alternates."""
        s, b = ('subject', self.subject), ('base', self.base)
        if not self.noise:
            turn = [b, s] if pair % 2 == 0 else [s, b]
        else:
            n = ('again', self.base)
            turn = [[b, s, n], [s, b, n], [n, s, b], [n, b, s]][pair % 4]
        if others:
            turn += [(o.label, o) for o in self.others]
        return turn

    def rates(self, role):
        """By pair: requests per second, of those pairs that are complete."""
        by_pair = {}
        for r in self.runs:
            by_pair.setdefault(r['pair'], {})[r['role']] = r['load']['iops']
        need = {'subject', 'base'} | {role}
        return [p[role] for _, p in sorted(by_pair.items()) if need <= set(p)]

    def result(self):
        base, subject = self.rates('base'), self.rates('subject')
        out = {'row': self.row, 'title': self.title, 'job': self.job.name,
               'job_text': self.job.describe(), 'state': self.state,
               'subject': self.subject.label, 'base': self.base.label,
               'target': self.target, 'aim': self.aim,
               'target_low': self.target_low, 'below': self.below,
               'subject_iops': stats.median(subject),
               'base_iops': stats.median(base),
               'ratio': stats.ratio(subject, base),
               'noise': None, 'others': {}, 'cpu_us': {}}
        if self.noise:
            again = self.rates('again')
            out['noise'] = stats.ratio(again, base[:len(again)])
        for o in self.others:
            rates = [r['load']['iops'] for r in self.runs
                     if r['role'] == o.label]
            if rates:
                out['others'][o.label] = {
                    'iops': stats.median(rates), 'runs': len(rates),
                    'of_base': stats.median(rates) / stats.median(base)}
        for role in ('subject', 'base'):
            cpu = [(r['server_cpu']['user'] + r['server_cpu']['system']) *
                   1e6 / r['load']['ios'] for r in self.runs
                   if r['role'] == role and r['load']['ios']]
            out['cpu_us'][role] = stats.median(cpu)
        out['foreign_cpu'] = stats.median([r['foreign_cpu']
                                           for r in self.runs])
        return out


class Run:
    """What warm and arm get."""

    def __init__(self, bench, server, seed, pair):
        self.bench, self.server = bench, server
        self.seed, self.pair = seed, pair
        self.export = None
        self.sets = []
        self.times = []
        self._control = None

    @property
    def control(self):
        if self._control is None:
            self._control = self.server.control()
        return self._control

    def create(self, volumes=('disk',), count=1, persistent=False):
        for _ in range(count):
            set_id, times = self.control.create(volumes,
                                                persistent=persistent)
            self.sets.append(set_id)
            self.times.append(times)


class Bench:
    def __init__(self, servers, image, size, work, options):
        self.servers, self.image, self.size = servers, image, size
        self.work, self.options = work, options
        self.device = system.device_of(work)
        self.comparisons = []
        self.extra = {}
        self.failures = []
        self.state = None
        self.started = time.monotonic()

    def say(self, text):
        print(f'{time.monotonic() - self.started:7.1f} s  {text}',
              file=sys.stderr, flush=True)

    def fail(self, text):
        self.failures.append(text)
        self.say(f'FAILED {text}')

    # ------------------------------------------------------------ one run
    def run(self, c, job, state, seed, pair=0):
        record = {'label': c.label, 'server': c.server, 'options': c.options,
                  'job': job.name, 'state': state, 'seed': seed, 'pair': pair,
                  'loadavg': system.loadavg(), 'time': time.time()}
        with self.server(c.server, self.image, **c.options) as server:
            run = Run(self, server, seed, pair)
            if c.warm:
                c.warm(run)
            self._bring(state, seed, fresh=c.warm or c.options)
            if c.arm:
                c.arm(run)
            record['settled'] = cache.settle()
            record['cache_before'] = cache.cached(self.image)
            with self.counted(record, server.pid):
                record['load'] = load.run(server.uri(run.export), job,
                                          self.size, seed, self.work)
            record['cache_after'] = cache.cached(self.image)
            if c.server == 'cowset':
                record['status'] = run.control.status()
                record['set_times'] = run.times
                if run.sets:
                    self._alive(run, record)
        return record

    def _bring(self, state, seed, fresh):
        """With --keep, an image that is in this state already is left in it:
        requests to pages in the cache change neither their number nor the
        size of their folios."""
        if self.options.keep and not fresh and state == self.state != 'cold':
            cache.settle()
            now = cache.cached(self.image)
            if now and now['cached'] * cache.PAGE == self.size:
                return
        cache.bring(self.image, state, seed)
        self.state = None if fresh else state

    @contextlib.contextmanager
    def server(self, *args, **options):
        """A server for this context.  What fails because it has gone says how
        it went."""
        with self.servers.start(*args, **options) as server:
            try:
                yield server
            except (OSError, RuntimeError) as e:
                # A process that is just dying has closed its sockets first.
                time.sleep(0.2)
                end = server.end()
                if end is None:
                    raise
                raise ServerError(f'{e}; {end}') from e

    @contextlib.contextmanager
    def counted(self, record, pid):
        """Counters of the system, over what is done in this context."""
        def own():
            return sum(sum(resource.getrusage(who)[:2]) for who in
                       (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
        before = (system.process_io(pid), system.process_cpu(pid),
                  system.device_io(self.device), system.busy(), own(),
                  time.monotonic())
        yield
        wall = time.monotonic() - before[5]
        cpu = system.minus(system.process_cpu(pid), before[1])
        busy = system.busy() - before[3] - (own() - before[4])
        record['wall'] = wall
        record['server_cpu'] = cpu
        record['server_io'] = system.minus(system.process_io(pid), before[0])
        record['device_run'] = system.minus(system.device_io(self.device),
                                            before[2])
        # Processors kept busy by neither the server nor the client: others,
        # and the kernel's own threads.
        record['foreign_cpu'] = round(
            max(0.0, busy - cpu['user'] - cpu['system']) / wall, 3)
        cache.settle()
        record['device_settled'] = system.minus(system.device_io(self.device),
                                                before[2])

    def _alive(self, run, record):
        """A snapshot that was lost on the way would make a fast run."""
        dead = [s for q in run.control.query() for s in q['snapshots']
                if not s['alive']]
        if dead:
            record['lost'] = dead[0].get('reason')
            self.fail(f"{record['label']}, {record['job']}, "
                      f"{record['state']}: a snapshot was lost: "
                      f"{record['lost']}")

    # ---------------------------------------------------------- many runs
    def pair(self, cmp, pair):
        others = pair < self.options.others
        for role, c in cmp.order(pair, others):
            try:
                r = self.run(c, cmp.job, cmp.state, seed=pair + 1, pair=pair)
            except (OSError, RuntimeError) as e:
                self.fail(f'{cmp.key()}: {c.label}: {e}')
                continue
            r['role'] = role
            cmp.runs.append(r)
            if cmp.check and role == 'subject':
                wrong = cmp.check(r)
                if wrong:
                    self.fail(f'{cmp.key()}: {wrong}')

    def compare(self, comparisons, pairs, deadline=None, by_turns=False):
        """by_turns: a pair of each, then the next pair of each, so that the
        end of the time cuts all alike."""
        self.comparisons += comparisons
        if by_turns:
            for p in range(pairs):
                for c in comparisons:
                    if p and deadline and time.monotonic() > deadline:
                        return
                    self.pair(c, p)
                self.say(f'pair {p + 1} of {pairs} of each of '
                         f'{len(comparisons)} comparisons')
            return
        for c in comparisons:
            for p in range(pairs):
                self.pair(c, p)
            self.tell(c)

    def tell(self, c):
        r = c.result()
        if not r['ratio']['pairs']:
            self.say(f'{c.key()}: no pair')
            return
        q = r['ratio']
        self.say(f"{c.key()}: {r['subject_iops']:.0f} / {r['base_iops']:.0f}"
                 f" per second, {q['median']:.3f} [{q['low']:.3f}, "
                 f"{q['high']:.3f}]")
