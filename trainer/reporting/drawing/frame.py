"""The frame of a plot: its scales, area, axes, grid, labels and legend.

A scale maps numbers to positions from 0 to 1 on a linear or logarithmic axis, and chooses round tick values. Sizes are in pixels, for a
drawing that is readable at the width of a phone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.reporting.drawing.markup import Markup, cut, joined, tag, width_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LARGEST: Final = 1e300
"""The largest number on an axis, since differences of larger numbers may overflow. Numbers smaller than 1 / LARGEST count as 0."""
_SMALLEST: Final = 1e-100
"""The smallest number on a logarithmic axis."""
_DECADES: Final = 2
"""With `log` None, positive numbers that span at least this number of decades are drawn logarithmically."""
_FLAT: Final = 1e-6
"""Numbers with a smaller relative difference differ only by rounding, and are drawn in the middle of an axis from 0."""
_UNITS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_NEAR: Final = 0.03
"""The fraction of an axis that is left free at each end."""


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
        """Return about `most` round numbers on the axis, with their labels."""
        if self.log and (powers := _powers(self.low, self.high, most)):
            return [(value, _power(value)) for value in powers]
        step = _round_step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        values = [number * step for number in range(first, min(last, first + 2 * most) + 1)]
        return list(
            {text: (value, text) for value, text in zip(values, tick_labels(values, step), strict=True)}.values()
        )

    def _placed(self, value: float) -> float:
        return math.log10(max(value, _SMALLEST)) if self.log else value


def drawable(value: float) -> bool:
    """Return whether a number can be drawn on an axis.

    >>> [drawable(value) for value in (1.0, float("nan"), float("inf"))]
    [True, False, False]
    """
    return math.isfinite(value) and abs(value) <= LARGEST


def scale_of(values: Iterable[float], *, log: bool | None = False, zero: bool = False, tight: bool = False) -> Scale:
    """Return an axis for `values`. With `log` None, it is logarithmic if all values are positive and span enough decades.

    With `zero`, the axis includes zero, as for bars. With `tight`, it has no free space at its ends.
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


def tick_labels(values: Sequence[float], step: float) -> list[str]:
    """Return the labels of an axis, with equal numbers of decimals and units such as `k` and `M`, or in scientific notation.

    >>> tick_labels([0.0, 0.5, 1.0], 0.5), tick_labels([0.0, 20000.0], 20000.0), tick_labels([-2e-5, 0.0], 1e-5)
    (['0.0', '0.5', '1.0'], ['0', '20k'], ['-2e-5', '0'])
    """
    largest = max((abs(value) for value in values), default=0.0)
    if largest and (largest < 1e-3 or largest >= 1e15):  # noqa: PLR2004 - the range in which plain numbers are readable
        return [_power(round(value / step) * step) for value in values]
    unit, letter = next(((size, name) for size, name in _UNITS if largest >= 10 * size), (1.0, ""))
    places = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    return [f"{value / unit:.{places}f}{letter}" if value else f"{0:.{places}f}" for value in values]


def _round_step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, the smallest that is at least three quarters of `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= rough * 0.75)


def _powers(low: float, high: float, most: int) -> list[float]:
    """Return the ticks of a logarithmic axis: powers of ten, with their multiples by 2 and 5 if the axis has few powers of ten.

    The list is empty if fewer than two ticks fit.
    """
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


WIDTH: Final = 440.0
HEIGHT: Final = 250.0
LETTER: Final = 6.4
"""The approximate width of a letter in pixels, at the plots' font size of 12."""
COLORS: Final = 8
"""The number of colors; further lines repeat the colors with dashes."""
_TOP: Final = 12.0
_RIGHT: Final = 14.0
_BELOW: Final = 40.0
_ROW: Final = 19.0
_NAME: Final = 60
"""The maximum number of letters of a name in the legend."""
_MOST: Final = 16
"""The maximum number of entries in a legend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The area of a plot, with its two scales."""

    x: Scale
    y: Scale
    left: float
    top: float = _TOP
    right: float = WIDTH - _RIGHT
    bottom: float = HEIGHT - _BELOW

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return a point's position in pixels."""
        across, up = self.x.at(x), self.y.at(y)
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def axes(self, x_label: str, y_label: str, *, names: Sequence[str] = ()) -> Iterator[Markup]:
        """Draw the grid, the ticks and the labels. `names`, evenly spaced, replace the numbers on the x axis."""
        for value, text in self.y.ticks(5):
            height = self.place(self.x.low, value)[1]
            yield tag("line", class_="grid", x1=self.left, x2=self.right, y1=height, y2=height)
            yield tag("text", text, class_="tick", x=self.left - 6, y=height + 4, text_anchor="end")
        yield tag("line", class_="axis", x1=self.left, x2=self.right, y1=self.bottom, y2=self.bottom)
        for across, text in self._named(names) if names else self._numbered():
            if not names:
                yield tag("line", class_="axis", x1=across, x2=across, y1=self.bottom, y2=self.bottom + 4)
            yield tag("text", text, class_="tick", x=across, y=self.bottom + 17, text_anchor="middle")
        middle = (self.left + self.right) / 2
        yield tag("text", _label(x_label, self.x), class_="label", x=middle, y=self.bottom + 33, text_anchor="middle")
        if y_label or self.y.log:
            yield vertical_label(_label(y_label, self.y), (self.top + self.bottom) / 2)

    def _numbered(self) -> Iterator[tuple[float, str]]:
        return ((self.place(value, self.y.low)[0], text) for value, text in self.x.ticks(6))

    def _named(self, names: Sequence[str]) -> Iterator[tuple[float, str]]:
        width = (self.right - self.left) / len(names)
        longest = max(3, min(12, max(map(width_of, names))))
        every = max(1, round(longest * LETTER / width + 0.49))
        for number, name in list(enumerate(names))[::every]:
            yield self.left + (number + 0.5) * width, cut(name, max(longest, int(every * width / LETTER)))


def frame_for(x: Scale, y: Scale, *, y_label: str = "") -> Frame:
    """Return a frame whose left margin fits the numbers and the label of the y axis."""
    longest = max((len(text) for _, text in y.ticks(5)), default=1)
    return Frame(x=x, y=y, left=(30 if y_label or y.log else 10) + longest * LETTER)


def legend(names: Sequence[str], top: float) -> tuple[list[Markup], float]:
    """Draw the legend below `top`, and return it with the position of its lower end. Fewer than two names have no legend."""
    if len(names) < 2:  # noqa: PLR2004 - a single line
        return [], top
    parts: list[Markup] = []
    across, row = 14.0, top + 12
    shown = [cut(name, _NAME) for name in names[:_MOST]] + [f"and {len(names) - _MOST} more"] * (len(names) > _MOST)
    for number, name in enumerate(shown):
        wide = 24 + width_of(name) * LETTER + 14
        if across > 14 and across + wide > WIDTH:  # noqa: PLR2004 - the margin
            across, row = 14.0, row + _ROW
        if number < _MOST:
            parts.append(tag("line", class_=style_of(number), x1=across, x2=across + 18, y1=row - 4, y2=row - 4))
        parts.append(tag("text", name, tag("title", names[number]) if number < _MOST else None, x=across + 24, y=row))
        across += wide
    return parts, row + 10


def style_of(number: int) -> str:
    """Return the CSS classes of a line by its number: eight colors, then the same colors with dashes."""
    return f"line c{number % COLORS}" + (" dashed" if number // COLORS % 2 else "")


def vertical_label(text: str, middle: float) -> Markup:
    """Return the label of the y axis, which reads from bottom to top."""
    return tag("text", text, class_="label", transform=f"translate(11 {middle:.0f}) rotate(-90)", text_anchor="middle")


def picture(parts: Iterable[object], *, title: str, description: str, height: float) -> Markup:
    """Return the complete drawing, with a title and a description for screen readers."""
    box = f"0 0 {WIDTH:.0f} {height:.0f}"
    text = tag("desc", description)
    return tag("svg", text, joined(parts), xmlns=_SVG, class_="plot", role="img", aria_label=title, viewBox=box)


def _label(label: str, scale: Scale) -> str:
    return ", ".join(filter(None, (cut(label, _NAME), "logarithmic" * scale.log)))


_SVG: Final = Markup("http://www.w3.org/2000/svg")
