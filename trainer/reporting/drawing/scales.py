"""Scales: map numbers to positions on an axis, and choose round tick values.

Axes are linear or logarithmic. A position is a fraction of the axis, from 0 to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LARGEST: Final = 1e300
"""The largest number on an axis: the difference of two larger numbers overflows. Numbers smaller than 1 / LARGEST count as 0."""
_SMALLEST: Final = 1e-100
"""The smallest number on a logarithmic axis."""
_DECADES: Final = 2
"""Positive numbers that span this number of decades are drawn logarithmically."""
_FLAT: Final = 1e-6
"""Numbers with a smaller relative difference differ by rounding only: a flat line in the middle of an axis from 0."""
_UNITS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_NEAR: Final = 0.03
"""The fraction of an axis that is free at each end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis from `low` to `high`."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the position of a value: 0 at `low`, 1 at `high`, limited to this interval."""
        low, high, here = (self._placed(each) for each in (self.low, self.high, value))
        return min(1.0, max(0.0, (here - low) / (high - low)))

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Return round numbers with their labels."""
        if self.log and (powers := _powers(self.low, self.high, most)):
            return [(value, _power(value)) for value in powers]
        step = _round_step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        values = [number * step for number in range(first, min(last, first + 2 * most) + 1)]
        return list({text: (value, text) for value, text in zip(values, worded(values, step), strict=True)}.values())

    def _placed(self, value: float) -> float:
        return math.log10(max(value, _SMALLEST)) if self.log else value


def drawable(value: float) -> bool:
    """Return whether a number can be drawn on an axis.

    >>> [drawable(some) for some in (1.0, float("nan"), float("inf"))]
    [True, False, False]
    """
    return math.isfinite(value) and abs(value) <= LARGEST


def scale_of(values: Iterable[float], *, log: bool | None = False, zero: bool = False, tight: bool = False) -> Scale:
    """Return an axis for these values; with `log` None it is logarithmic if all values are positive and span enough decades.

    With `zero` the axis includes zero, as for bars; with `tight` it has no free space at its ends.
    """
    found = [value if abs(value) > 1 / LARGEST else 0.0 for value in values if drawable(value)] or [0.0, 1.0]
    low, high = min(found), max(found)
    if log is not False and low > _SMALLEST and high < 1 / _SMALLEST and (log or high / low >= 10**_DECADES):
        free = 0.0 if tight else _NEAR * math.log10(high / low)
        low, high = (low / 2, high * 2) if high - low <= high * _FLAT else (low / 10**free, high * 10**free)
        return Scale(low=low, high=high, log=True)
    low, high = (min(low, 0.0), max(high, 0.0)) if zero else (low, high)
    if high - low <= max(abs(low), abs(high)) * _FLAT:
        return Scale(low=min(0.0, 2 * low), high=max(0.0, 2 * high) or float(low == 0))
    free = 0.0 if tight else _NEAR * (high - low)
    return Scale(low=low - (0.0 if zero and low == 0 else free), high=high + (0.0 if zero and high == 0 else free))


def worded(values: Sequence[float], step: float) -> list[str]:
    """Return the labels of one axis, all with the same number of decimals; thousands as `k`, millions as `M`.

    >>> worded([0.0, 0.5, 1.0], 0.5), worded([0.0, 20000.0], 20000.0), worded([-2e-5, 0.0], 1e-5)
    (['0.0', '0.5', '1.0'], ['0', '20k'], ['-2e-5', '0'])
    """
    largest = max((abs(value) for value in values), default=0.0)
    if largest and (largest < 1e-3 or largest >= 1e15):  # noqa: PLR2004 - the range in which plain numbers are readable
        return [_power(round(value / step) * step) for value in values]
    unit, letter = next(((size, name) for size, name in _UNITS if largest >= 10 * size), (1.0, ""))
    places = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    return [f"{value / unit:.{places}f}{letter}" if value else f"{0:.{places}f}" for value in values]


def _round_step(rough: float) -> float:
    """Return one, two or five times a power of ten, at least three quarters of `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= rough * 0.75)


def _powers(low: float, high: float, most: int) -> list[float]:
    """Return powers of ten between two numbers, with twice and five times these if there are few; empty if fewer than two remain."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    stride = max(1, math.ceil((last - first + 1) / most))
    tens = [10.0**power for power in range(first, last + 1, stride)]
    if last - first + 1 > most // 2:
        return tens
    finer = [nice * 10.0**power for power in range(first - 1, last + 1) for nice in (1, 2, 5)]
    shown = [value for value in finer if low <= value <= high]
    return shown if len(shown) > 1 else []


def _power(value: float) -> str:
    text = f"{value:.6g}"
    number, _, power = text.partition("e")
    return f"{number}e{int(power)}" if power else text
