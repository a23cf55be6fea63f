"""Ratios of times that were taken side by side: the median of them, and where it lies with 95 % confidence.

Whatever else the machine does meets both of a pair; the median is moved by no outlier, and its interval, made of the ratios' own ranks,
assumes nothing of how they are spread. Standard library only.
"""

from __future__ import annotations

import statistics
from math import comb


def ratio(dear: list[float], cheap: list[float]) -> tuple[float, float, float]:
    """Give the median of the pairs' ratios, and the interval that holds it.

    >>> ratio([2.0] * 9 + [9.0], [1.0] * 10)
    (2.0, 2.0, 2.0)
    """
    ratios = sorted(one / other for one, other in zip(dear, cheap, strict=True))
    first = rank(len(ratios))
    return statistics.median(ratios), ratios[first], ratios[-1 - first]


def rank(count: int) -> int:
    """Give the place of the interval's lower end among `count` sorted values: the upper end is as far from the last.

    >>> rank(10), rank(100)
    (1, 39)
    """
    below, place = 1, 0
    while 40 * (below + comb(count, place + 1)) <= 2**count:  # 2.5 % are left out at either end
        place += 1
        below += comb(count, place)
    return place


def shown(dear: list[float], cheap: list[float]) -> str:
    """Write a ratio as what it costs: `+1.2 % (0.8 to 1.5)`."""
    middle, low, high = (100 * (value - 1) for value in ratio(dear, cheap))
    return f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"
