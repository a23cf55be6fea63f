"""Reduce a line of many points to a few points that look the same, by keeping the ends and extremes of each section.

The result is a subset of the points, without smoothing; no peak is lost.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Point = tuple[float, float]


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most `most` of the points: the first, lowest, highest and last of each section (M4, Jugel and others, VLDB 2014).

    >>> thinned([(0, 0), (1, 9), (2, 1), (3, 2), (4, -5), (5, 3), (6, 1), (7, 4)], 4)
    [(0, 0), (1, 9), (4, -5), (7, 4)]
    """
    if len(points) <= most:
        return list(points)
    stretches = max(1, most // 4)
    bounds = [number * len(points) // stretches for number in range(stretches + 1)]
    return [point for start, end in pairwise(bounds) for point in _kept(points[start:end])]


def _kept(stretch: Sequence[Point]) -> Iterator[Point]:
    heights = [height for _, height in stretch]
    extremes = (0, heights.index(min(heights)), heights.index(max(heights)), len(stretch) - 1)
    yield from (stretch[place] for place in sorted(set(extremes)))
