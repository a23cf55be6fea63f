"""The spread of a result over seeds, and how many runs it takes to show a gain against it.

Knows the figures that are told of a sample, and the power of a two-sample t-test. Refuses to know what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL: Final = 0.05
"""How often a difference that is none may be called one; two-sided."""
POWER: Final = 0.8
"""How often a gain that is there shall be seen."""
_FEWEST: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What is told of the values that several seeds gave."""

    mean: float
    deviation: float
    """The standard deviation of a single run."""
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    """Sum up two values or more.

    >>> spread([1.0, 2.0, 3.0])
    Spread(mean=2.0, deviation=1.0, lowest=1.0, highest=3.0)
    """
    return Spread(mean=fmean(values), deviation=stdev(values), lowest=min(values), highest=max(values))


def seeds_needed(gain: float, deviation: float, *, level: float = LEVEL, power: float = POWER) -> int:
    """How many seeds each of two variants needs, for a two-sided t-test of equal deviations to see a true `gain` of means.

    n = 2 (z(1 - level/2) + z(power))^2 (deviation / gain)^2 + z(1 - level/2)^2 / 4 for each variant, rounded up: the sample size for
    a known deviation, and a correction for its being estimated. W. C. Guenther, Sample size formulas for normal theory t tests, The
    American Statistician 35 (1981), 243-244. For these levels it agrees with the noncentral t to one seed from n = 4 on.

    >>> [seeds_needed(size, 1.0) for size in (0.2, 0.5, 0.8, 1.0)]
    [394, 64, 26, 17]
    """
    normal = NormalDist()
    z = normal.inv_cdf(1 - level / 2)
    known = 2 * (z + normal.inv_cdf(power)) ** 2 * (deviation / gain) ** 2
    return max(_FEWEST, ceil(known + z**2 / 4)) if deviation else _FEWEST
