# stats - medians, and intervals for them that assume no distribution.
# SPDX-License-Identifier: BSD-3-Clause

from math import comb


def median(values):
    v = sorted(values)
    n = len(v)
    if n == 0:
        return None
    return v[n // 2] if n % 2 else (v[n // 2 - 1] + v[n // 2]) / 2


def percentile(values, p):
    """The smallest value that p per cent of all values do not exceed."""
    v = sorted(values)
    if not v:
        return None
    rank = -(-len(v) * p // 100)
    return v[min(len(v) - 1, max(0, int(rank) - 1))]


def _coverage(n, k):
    """Chance that the median is between the k-th smallest and the k-th
    largest of n values."""
    return 1 - 2 * sum(comb(n, i) for i in range(k)) / 2 ** n


def median_interval(values, level=0.90):
    """(low, high, coverage) of the median.

    Order statistics, interpolated between neighbouring ranks (Hettmansperger
    and Sheather) where there are enough values for the level; else the
    smallest and the largest, whose coverage is then below it and says so.
    """
    v = sorted(values)
    n = len(v)
    if n < 2:
        return (v[0], v[0], 0.0) if v else (None, None, 0.0)
    if _coverage(n, 1) <= level:
        return v[0], v[-1], _coverage(n, 1)
    k = 1
    while k + 1 <= n // 2 and _coverage(n, k + 1) >= level:
        k += 1
    if k + 1 > n // 2:
        return v[k - 1], v[n - k], _coverage(n, k)
    wide, narrow = _coverage(n, k), _coverage(n, k + 1)
    i = (wide - level) / (wide - narrow)
    w = (n - k) * i / (k + (n - 2 * k) * i)
    low = (1 - w) * v[k - 1] + w * v[k]
    high = (1 - w) * v[n - k] + w * v[n - k - 1]
    return low, high, level


def ratio(numerators, denominators):
    """What is reported of paired runs."""
    ratios = [a / b for a, b in zip(numerators, denominators) if b]
    low, high, coverage = median_interval(ratios)
    return {
        'pairs': len(ratios),
        'median': median(ratios),
        'low': low,
        'high': high,
        'coverage': coverage,
        'of_medians': (median(numerators) / median(denominators)
                       if ratios else None),
        'ratios': ratios,
    }
