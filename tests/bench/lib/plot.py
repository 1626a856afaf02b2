# plot - ratios with their intervals, as SVG.
#
# One line for each comparison: a bar from the low to the high end of the
# interval, a dot at the median, the band of noise in grey behind it, a tick
# where the target is.  The axis is logarithmic, so that twice and half are as
# far from 1.
#
# SPDX-License-Identifier: BSD-3-Clause

from html import escape
from math import ceil, floor, log2

LEFT, RIGHT, TOP, LINE = 330, 170, 64, 18
WIDTH = 620
COLOURS = {True: '#1a7f4b', False: '#c0392b', None: '#2c5d9e'}


def svg(results, reached, title):
    """REACHED answers whether a result is what it should be, or None."""
    results = [r for r in results if r['ratio']['pairs']]
    ends = [1.0]
    for r in results:
        ends += [r['ratio']['low'], r['ratio']['high'], r['ratio']['median']]
        ends += [r['target']] if r['target'] else []
    low = floor(2 * log2(max(min(ends), 1 / 64))) / 2
    high = ceil(2 * log2(min(max(ends), 64))) / 2
    high = max(high, low + 1)

    def x(ratio):
        at = log2(min(max(ratio, 1 / 128), 128))
        return LEFT + WIDTH * (at - low) / (high - low)

    rows = []
    for r in results:
        if not rows or rows[-1] is not None and rows[-1]['row'] != r['row']:
            rows += [None] if rows else []
        rows.append(r)
    height = TOP + LINE * len(rows) + 40
    total = LEFT + WIDTH + RIGHT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" '
           f'height="{height}" viewBox="0 0 {total} {height}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{total}" height="{height}" fill="white"/>',
           f'<text x="12" y="22" font-size="15">{escape(title)}</text>',
           '<text x="12" y="42" fill="#555">dot: median of paired ratios; '
           'bar: 90 % interval; grey: the base against itself; tick: target; '
           'green: reached, red: not</text>']
    bottom = TOP + LINE * len(rows)
    step = low
    while step <= high + 1e-9:
        at, value = x(2 ** step), 2 ** step
        bold = abs(step) < 1e-9
        out.append(f'<line x1="{at:.1f}" y1="{TOP - 8}" x2="{at:.1f}" '
                   f'y2="{bottom}" stroke="{"#444" if bold else "#ddd"}"/>')
        out.append(f'<text x="{at:.1f}" y="{bottom + 16}" '
                   f'text-anchor="middle" fill="#555">{value:.3g}</text>')
        step += 0.5 if high - low <= 5 else 1
    for i, r in enumerate(rows):
        if r is None:
            continue
        y = TOP + LINE * i + LINE / 2
        q, n = r['ratio'], r['noise']
        name = ' '.join(t for t in (r['row'], r['title'], r['job'],
                                    r['state']) if t)
        out.append(f'<text x="{LEFT - 10}" y="{y + 4:.1f}" '
                   f'text-anchor="end">{escape(name)}</text>')
        if n and n['pairs']:
            a, b = x(n['low']), x(n['high'])
            out.append(f'<rect x="{a:.1f}" y="{y - 7:.1f}" '
                       f'width="{max(1, b - a):.1f}" height="14" '
                       'fill="#e3e3e3"/>')
        if r['target']:
            t = x(r['target'])
            out.append(f'<line x1="{t:.1f}" y1="{y - 8:.1f}" x2="{t:.1f}" '
                       f'y2="{y + 8:.1f}" stroke="#888" stroke-width="2"/>')
        c = COLOURS[reached(r)]
        out.append(f'<line x1="{x(q["low"]):.1f}" y1="{y:.1f}" '
                   f'x2="{x(q["high"]):.1f}" y2="{y:.1f}" stroke="{c}" '
                   'stroke-width="3" stroke-opacity="0.5"/>')
        out.append(f'<circle cx="{x(q["median"]):.1f}" cy="{y:.1f}" r="4" '
                   f'fill="{c}"/>')
        out.append(f'<text x="{LEFT + WIDTH + 10}" y="{y + 4:.1f}" '
                   f'fill="{c}">{q["median"]:.2f} [{q["low"]:.2f}, '
                   f'{q["high"]:.2f}]</text>')
    out.append(f'<text x="{LEFT + WIDTH / 2:.0f}" y="{bottom + 34}" '
               'text-anchor="middle">ratio, logarithmic</text>')
    out.append('</svg>')
    return '\n'.join(out) + '\n'
