# report - the figures as JSON, as Markdown and as a plot.
# SPDX-License-Identifier: BSD-3-Clause

import json
import os
import time

from . import plot, rows, stats, system
from .cache import STATES


def reached(r):
    """Whether a comparison has what it should; None where nothing is asked."""
    q = r['ratio']
    if r['target'] is None or not q['pairs']:
        return None
    low = r['target_low']
    return q['median'] >= r['target'] and (low is None or q['low'] >= low)


def word(ok):
    return {True: 'yes', False: '**no**', None: ''}[ok]


def num(value, digits=3):
    if value is None:
        return ''
    if isinstance(value, float):
        if abs(value) >= 1000:
            return f'{value:,.0f}'.replace(',', ' ')
        return f'{value:.{digits}g}' if abs(value) < 100 else f'{value:.0f}'
    return str(value)


def interval(q):
    if not q or not q['pairs']:
        return ''
    text = f"{q['low']:.3f}–{q['high']:.3f}"
    # Too few pairs for 90 %: what it does cover.
    if q['coverage'] < 0.899:
        text += f" ({100 * q['coverage']:.0f} %)"
    return text


def table(head, lines):
    out = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    out += ['| ' + ' | '.join(str(x) for x in line) + ' |' for line in lines]
    return out + ['']


def wanted(r):
    if r['target'] is None:
        return ''
    text = f"≥ {num(r['target'])}"
    if r['target_low']:
        text += f", low end ≥ {num(r['target_low'])}"
    if r['aim']:
        text += f" (aim {num(r['aim'])})"
    return text


def summary(data):
    """One line for each row: the worst of its comparisons."""
    out = []
    for row in rows.TITLES:
        mine = [r for r in data['results']
                if r['row'] == row and r['ratio']['pairs']]
        if mine:
            asked = [r for r in mine if reached(r) is not None]
            ok = sum(reached(r) for r in asked)
            worst = min(mine, key=lambda r: (r['ratio']['median'] /
                                             (r['target'] or 1)))
            out.append([row, rows.TITLES[row],
                        f'{ok} of {len(asked)}' if asked else 'reported',
                        f"{worst['ratio']['median']:.3f} "
                        f"[{interval(worst['ratio'])}] "
                        f"({worst['job']}, {worst['state']})",
                        wanted(worst)])
        extra = data['extra'].get(row)
        if not extra:
            continue
        if extra.get('skipped'):
            out.append([row, rows.TITLES[row], 'skipped', extra['skipped'],
                        ''])
            continue
        for c in extra['checks']:
            out.append([row, c['what'], word(c['reached']),
                        f"{num(c['figure'])} {c['unit']}",
                        f"≤ {num(c['limit'])} {c['unit']}"])
    return table(['row', 'what', 'reached', 'figure (worst of its lines)',
                  'target'], out)


def comparisons(results):
    lines = []
    for r in results:
        q = r['ratio']
        if not q['pairs']:
            continue
        name = f"{r['title']}: {r['job']}" if r['title'] else r['job']
        lines.append([name, r['state'], num(r['subject_iops']),
                      num(r['base_iops']), f"**{q['median']:.3f}**",
                      interval(q), f"{q['of_medians']:.3f}",
                      interval(r['noise']),
                      f"{num(r['cpu_us'].get('subject'))} / "
                      f"{num(r['cpu_us'].get('base'))}", q['pairs'],
                      wanted(r), word(reached(r))])
    return table(['job', 'state', 'subject /s', 'base /s', 'ratio',
                  '90 % interval', 'of medians', 'base against itself',
                  'server CPU µs each', 'pairs', 'target', 'reached'], lines)


def peers(results):
    lines = [[r['job'], r['state'], label, num(o['iops']),
              f"{o['of_base']:.3f}", o['runs']]
             for r in results for label, o in r['others'].items()]
    if not lines:
        return []
    return (['Other peers in the same pairs (rate, and what it is of the '
             "base's median):", ''] +
            table(['job', 'state', 'who', '/s', 'of base', 'runs'], lines))


def extra_tables(extra):
    if extra.get('skipped'):
        return [f"Not measured: {extra['skipped']}", '']
    keys = list(dict.fromkeys(k for line in extra['lines'] for k in line))
    out = table(keys, [[num(line.get(k)) for k in keys]
                       for line in extra['lines']])
    return out + table(['check', 'figure', 'at most', 'reached'],
                       [[c['what'], f"{num(c['figure'])} {c['unit']}",
                         f"{num(c['limit'])} {c['unit']}",
                         word(c['reached'])] for c in extra['checks']])


def machine(data):
    m, runs = data['machine'], data['runs']
    load = [r['loadavg'][0] for r in runs]
    foreign = [r['foreign_cpu'] for r in runs]
    lines = [f"- {m['cpus']} processors ({m['model']}), "
             f"{m['memory'] / 2 ** 30:.0f} GiB, Linux {m['kernel']}, "
             f"{m['file_system']}; image of {data['options']['size'] >> 20} "
             f"MiB; each nbdkit with -t {data['options']['threads']}; "
             f"cowset {m['commit'] or ''}.",
             f"- Took {(data['ended'] - data['began']) / 60:.0f} minutes, "
             f'{len(runs)} runs.']
    if runs:
        lines.append(
            f'- One-minute load average before a run: median '
            f'{num(stats.median(load))}, most {num(max(load))}. Processors '
            f'busy with neither server nor client (others, and the kernel\'s '
            f'own threads), of {m["cpus"]}: median '
            f'{num(stats.median(foreign))}, most {num(max(foreign))}.')
        late = sum(not r['settled'] for r in runs)
        if late:
            lines.append(f'- In {late} runs something else kept the disk busy '
                         'and the page cache did not settle.')
    return lines + ['']


def markdown(data, name):
    out = ['# cowset beside its peers', '']
    out += machine(data)
    if data['failures']:
        out += ['**Failures:**', '']
        out += [f'- {f}' for f in data['failures']] + ['']
    out += [f'![ratios]({name}.svg)', '', '## Against the targets', '']
    out += summary(data)
    out += ['States of the page cache before each run:', '']
    out += [f'- *{k}*: {v}' for k, v in STATES.items()] + ['']
    for row, title in rows.TITLES.items():
        mine = [r for r in data['results'] if r['row'] == row]
        extra = data['extra'].get(row)
        if not mine and not extra:
            continue
        out += [f'## {row}: {title}', '']
        if mine:
            who = sorted({f"{r['subject']} against {r['base']}"
                          for r in mine})
            jobs = dict.fromkeys(f"{r['job']}: {r['job_text']}"
                                 for r in mine)
            out += ['; '.join(who) + '. ' + '; '.join(jobs) + '.', '']
            out += comparisons(mine) + peers(mine)
        if extra:
            out += extra_tables(extra)
    return '\n'.join(out).rstrip() + '\n'


def write(bench, o, began):
    name = 'bench-' + time.strftime('%Y%m%d-%H%M%S', time.gmtime(began))
    base = os.path.join(o.output, name)
    data = {
        'began': began,
        'ended': time.time(),
        'options': dict(vars(o)),
        'machine': system.describe(o.dir or o.output,
                                   os.path.dirname(__file__)),
        'results': [c.result() for c in bench.comparisons],
        'runs': [{**r, 'row': c.row, 'title': c.title}
                 for c in bench.comparisons for r in c.runs],
        'extra': bench.extra,
        'failures': bench.failures,
    }
    with open(base + '.json', 'w') as f:
        json.dump(data, f, indent=1)
        f.write('\n')
    with open(base + '.md', 'w') as f:
        f.write(markdown(data, name))
    with open(base + '.svg', 'w') as f:
        f.write(plot.svg(data['results'], reached,
                         'cowset beside its peers: ratios of rates'))
    for kind in ('json', 'md', 'svg'):
        latest = os.path.join(o.output, 'latest.' + kind)
        if os.path.lexists(latest):
            os.unlink(latest)
        os.symlink(name + '.' + kind, latest)
    return base + '.md'
