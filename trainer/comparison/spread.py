"""The spread of a result over seeds, and the number of runs that a two-sample t-test needs to detect a gain."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL: Final = 0.05
"""The two-sided significance level: the probability of reporting a difference if there is none."""
POWER: Final = 0.8
"""The probability of detecting a real gain."""
_FEWEST: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Summary statistics of the values of several seeds."""

    mean: float
    deviation: float
    """The standard deviation of a single run."""
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    """Summarize two or more values.

    >>> spread([1.0, 2.0, 3.0])
    Spread(mean=2.0, deviation=1.0, lowest=1.0, highest=3.0)
    """
    return Spread(mean=fmean(values), deviation=stdev(values), lowest=min(values), highest=max(values))


def seeds_needed(gain: float, deviation: float, *, level: float = LEVEL, power: float = POWER) -> int:
    """Return the number of seeds per variant for a two-sided t-test with equal deviations to detect a true `gain` of means.

    n = 2 (z(1 - level/2) + z(power))^2 (deviation / gain)^2 + z(1 - level/2)^2 / 4 for each variant, rounded up: the sample size for a
    known deviation, with a correction for an estimated deviation. W. C. Guenther, Sample size formulas for normal theory t tests, The
    American Statistician 35 (1981), 243-244. For these levels it agrees with the noncentral t to one seed from n = 4 on.

    >>> [seeds_needed(size, 1.0) for size in (0.2, 0.5, 0.8, 1.0)]
    [394, 64, 26, 17]
    """
    normal = NormalDist()
    z = normal.inv_cdf(1 - level / 2)
    known = 2 * (z + normal.inv_cdf(power)) ** 2 * (deviation / gain) ** 2
    return max(_FEWEST, ceil(known + z**2 / 4)) if deviation else _FEWEST
