"""Plot lines and points in a frame: curves, ROC, parity.

Non-finite numbers are gaps, and their number is shown. A line of many points is reduced to a few of its points that look the same: the ends
and extremes of each section, so that no peak is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from trainer.reporting.drawing.frame import (
    HEIGHT,
    WIDTH,
    Frame,
    drawable,
    frame_for,
    legend,
    picture,
    scale_of,
    style_of,
)
from trainer.reporting.drawing.markup import Markup, tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Point = tuple[float, float]

_MOST: Final = 800
"""The largest number of points per line: about two per pixel of width."""
_MARKED: Final = 40
"""Lines with at most this number of points have a marker at each point."""
_SCATTERED: Final = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line: a name and points in order; non-finite points are gaps."""

    name: str
    x: Sequence[float]
    y: Sequence[float]

    @property
    def stretches(self) -> list[list[Point]]:
        """The points, split at the gaps."""
        stretches: list[list[Point]] = [[]]
        for x, y in zip(self.x, self.y, strict=True):
            if drawable(x) and drawable(y):
                stretches[-1].append((x, y))
            elif stretches[-1]:
                stretches.append([])
        return [stretch for stretch in stretches if stretch]

    @property
    def points(self) -> list[Point]:
        """The points without the gaps."""
        return [point for stretch in self.stretches for point in stretch]

    def description(self) -> str:
        """Return the count of the points, the ends and the extremes."""
        points = self.points
        if not points:
            return f"{self.name}: no points."
        (x1, y1), (x2, y2), heights = points[0], points[-1], [y for _, y in points]
        ends = f"{y1:.6g} at {x1:.6g} to {y2:.6g} at {x2:.6g}"
        return f"{self.name}: {len(points):,} points, {ends}, lowest {min(heights):.6g}, highest {max(heights):.6g}."


def plot_lines(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log: bool | None = False,
    log_x: bool = False,
    diagonal: bool = False,
    zero: bool = False,
) -> Markup:
    """Draw lines; with `log` None the numbers determine whether y is logarithmic, with `zero` y starts at zero."""
    points = [point for line in lines for point in line.points]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_scale, y_scale = scale_of(xs, log=log_x, tight=True), scale_of(ys, log=log, zero=zero)
    if diagonal:
        x_scale = y_scale = scale_of([*xs, *ys])
    frame = frame_for(x_scale, y_scale, y_label=y_label)
    parts = [*frame.axes(x_label, y_label), *_diagonal(frame, show=diagonal)]
    for number, line in enumerate(lines):
        parts += _draw(line, frame, number)
    keys, end = legend([line.name for line in lines], HEIGHT)
    if gaps := sum(len(line.x) for line in lines) - len(points):
        note = f"{gaps:,} value{'s are' if gaps > 1 else ' is'} not finite: a gap"
        keys.append(tag("text", note, class_="note", x=WIDTH - 14, y=end + 8, text_anchor="end"))
        end += 16
    description = f"{y_label or title} by {x_label}. {' '.join(line.description() for line in lines[:20])}"
    return picture([*parts, *keys], title=title, description=description, height=end)


def plot_points(
    points: Line, *, title: str, x_label: str, y_label: str, diagonal: bool = False, of: int | None = None
) -> Markup:
    """Draw points; `of` is the total number of points if these are a selection."""
    shown = points.points[:_SCATTERED]
    x_scale, y_scale = (scale_of([point[axis] for point in points.points]) for axis in (0, 1))
    if diagonal:
        x_scale = y_scale = scale_of([value for point in points.points for value in point])
    frame = frame_for(x_scale, y_scale, y_label=y_label)
    parts = [*frame.axes(x_label, y_label), *_diagonal(frame, show=diagonal)]
    parts += [tag("circle", class_="point c0", cx=x, cy=y, r=2.5) for x, y in (frame.place(*each) for each in shown)]
    count = f"{len(shown):,} of {of:,} points" if of and of > len(shown) else f"{len(shown):,} points"
    parts.append(tag("text", count, class_="note", x=frame.right, y=HEIGHT - 1, text_anchor="end"))
    description = f"{count}: {y_label} by {x_label}. {points.description()}"
    return picture(parts, title=title, description=description, height=HEIGHT + 6)


def _diagonal(frame: Frame, *, show: bool) -> Iterator[Markup]:
    if show:
        (x1, y1), (x2, y2) = frame.place(frame.x.low, frame.x.low), frame.place(frame.x.high, frame.x.high)
        yield tag("line", class_="diagonal", x1=x1, y1=y1, x2=x2, y2=y2)


def _draw(line: Line, frame: Frame, number: int) -> Iterator[Markup]:
    for stretch in line.stretches:
        if len(stretch) > 1:
            path = "L".join("{:.1f} {:.1f}".format(*frame.place(*point)) for point in thinned(stretch, _MOST))
            yield tag("path", class_=style_of(number), d=f"M{path}")
        if len(line.x) > _MARKED and len(stretch) > 1:
            continue
        for point in stretch:
            x, y = frame.place(*point)
            title = tag("title", f"{line.name}: {point[1]:.6g} at {point[0]:.6g}")
            yield tag("circle", title, class_=f"mark c{number % 8}", cx=x, cy=y, r=2.5)


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most `most` of the points: the first, lowest, highest and last of each section (M4, Jugel and others, VLDB 2014).

    >>> thinned([(0, 0), (1, 9), (2, 1), (3, 2), (4, -5), (5, 3), (6, 1), (7, 4)], 4)
    [(0, 0), (1, 9), (4, -5), (7, 4)]
    """
    if len(points) <= most:
        return list(points)
    sections = max(1, most // 4)
    result: list[Point] = []
    for start, end in pairwise(number * len(points) // sections for number in range(sections + 1)):
        heights = [height for _, height in points[start:end]]
        extremes = {0, heights.index(min(heights)), heights.index(max(heights)), len(heights) - 1}
        result += [points[start + index] for index in sorted(extremes)]
    return result
