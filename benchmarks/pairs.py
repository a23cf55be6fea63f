"""Ratios of paired times: their median and its 95 % confidence interval.

Other load on the machine affects both times of a pair; the median is robust to outliers, and its interval, which is based on ranks, does
not assume a distribution. Standard library only.
"""

from __future__ import annotations

import statistics
from math import comb


def ratio(dear: list[float], cheap: list[float]) -> tuple[float, float, float]:
    """Return the median of the ratios of the pairs, and its interval.

    >>> ratio([2.0] * 9 + [9.0], [1.0] * 10)
    (2.0, 2.0, 2.0)
    """
    ratios = sorted(one / other for one, other in zip(dear, cheap, strict=True))
    first = rank(len(ratios))
    return statistics.median(ratios), ratios[first], ratios[-1 - first]


def rank(count: int) -> int:
    """Return the index of the lower bound of the interval in `count` sorted values: the upper bound is symmetric.

    >>> rank(10), rank(100)
    (1, 39)
    """
    below, place = 1, 0
    while 40 * (below + comb(count, place + 1)) <= 2**count:  # 2.5 % are excluded at each end
        place += 1
        below += comb(count, place)
    return place


def shown(dear: list[float], cheap: list[float]) -> str:
    """Format a ratio as a cost: `+1.2 % (0.8 to 1.5)`."""
    middle, low, high = (100 * (value - 1) for value in ratio(dear, cheap))
    return f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"
