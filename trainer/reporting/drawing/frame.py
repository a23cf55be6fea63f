"""The frame of a plot: its area, axes, grid, labels and legend.

Sizes are in pixels, for a drawing that is readable at the width of a phone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.reporting.drawing.markup import Markup, cut, joined, tag, width_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from trainer.reporting.drawing.scales import Scale

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
"""The largest number of letters of a name in the legend."""
_MOST: Final = 16
"""The largest number of entries in a legend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The area between the two axes."""

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
        """Draw the grid and the tick labels; `names`, evenly spaced, replace the numbers of x."""
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
    """Return a frame whose left margin fits the numbers of y and the label."""
    longest = max((len(text) for _, text in y.ticks(5)), default=1)
    return Frame(x=x, y=y, left=(30 if y_label or y.log else 10) + longest * LETTER)


def legend(names: Sequence[str], top: float) -> tuple[list[Markup], float]:
    """Draw the legend from `top` on, and return it with its lower end; a single line has no legend."""
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
    """Return the CSS classes of the line with this number: eight colors, then the same colors dashed."""
    return f"line c{number % COLORS}" + (" dashed" if number // COLORS % 2 else "")


def vertical_label(text: str, middle: float) -> Markup:
    """Return the label of y, which reads from bottom to top."""
    return tag("text", text, class_="label", transform=f"translate(11 {middle:.0f}) rotate(-90)", text_anchor="middle")


def picture(parts: Iterable[object], *, title: str, description: str, height: float) -> Markup:
    """Return the complete drawing, with a title and a description for screen readers."""
    box = f"0 0 {WIDTH:.0f} {height:.0f}"
    text = tag("desc", description)
    return tag("svg", text, joined(parts), xmlns=_SVG, class_="plot", role="img", aria_label=title, viewBox=box)


def _label(label: str, scale: Scale) -> str:
    return ", ".join(filter(None, (cut(label, _NAME), "logarithmic" * scale.log)))


_SVG: Final = Markup("http://www.w3.org/2000/svg")
