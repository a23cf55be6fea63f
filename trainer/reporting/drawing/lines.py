"""Plot lines and points in a frame: curves, ROC, parity.

Non-finite numbers are gaps, and their number is shown. Lines with many points are thinned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.reporting.drawing.frame import HEIGHT, WIDTH, Frame, frame_for, legend, picture, style_of
from trainer.reporting.drawing.markup import Markup, tag
from trainer.reporting.drawing.scales import drawable, scale_of
from trainer.reporting.drawing.thinning import thinned

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
        found: list[list[Point]] = [[]]
        for x, y in zip(self.x, self.y, strict=True):
            if drawable(x) and drawable(y):
                found[-1].append((x, y))
            elif found[-1]:
                found.append([])
        return [stretch for stretch in found if stretch]

    @property
    def gaps(self) -> int:
        """The number of points that cannot be drawn."""
        return sum(not (drawable(x) and drawable(y)) for x, y in zip(self.x, self.y, strict=True))


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
    frame = _frame(lines, y_label, log=log, log_x=log_x, diagonal=diagonal, zero=zero)
    parts = [*frame.axes(x_label, y_label), *_diagonal(frame, show=diagonal)]
    for number, line in enumerate(lines):
        parts += _drawn(line, frame, number)
    keys, end = legend([line.name for line in lines], HEIGHT)
    end, note = _noted(end, sum(line.gaps for line in lines))
    said = f"{y_label or title} by {x_label}. {' '.join(_told(line) for line in lines[:20])}"
    return picture([*parts, *keys, note], title=title, said=said, height=end)


def plot_points(
    points: Line, *, title: str, x_label: str, y_label: str, diagonal: bool = False, of: int | None = None
) -> Markup:
    """Draw points; `of` is the total number of points if these are a selection."""
    frame = _frame([points], y_label, log=False, diagonal=diagonal, tight=False)
    shown = [point for stretch in points.stretches for point in stretch][:_SCATTERED]
    parts = [*frame.axes(x_label, y_label), *_diagonal(frame, show=diagonal)]
    parts += [tag("circle", class_="point c0", cx=x, cy=y, r=2.5) for x, y in (frame.place(*each) for each in shown)]
    many = f"{len(shown):,} of {of:,} points" if of and of > len(shown) else f"{len(shown):,} points"
    note = tag("text", many, class_="note", x=frame.right, y=HEIGHT - 1, text_anchor="end")
    return picture(
        [*parts, note], title=title, said=f"{many}: {y_label} by {x_label}. {_told(points)}", height=HEIGHT + 6
    )


def _frame(
    lines: Sequence[Line],
    y_label: str,
    *,
    log: bool | None,
    log_x: bool = False,
    diagonal: bool,
    tight: bool = True,
    zero: bool = False,
) -> Frame:
    points = [point for line in lines for stretch in line.stretches for point in stretch]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if diagonal:
        both = scale_of([*xs, *ys])
        return frame_for(both, both, y_label=y_label)
    return frame_for(scale_of(xs, log=log_x, tight=tight), scale_of(ys, log=log, zero=zero), y_label=y_label)


def _diagonal(frame: Frame, *, show: bool) -> Iterator[Markup]:
    if show:
        (x1, y1), (x2, y2) = frame.place(frame.x.low, frame.x.low), frame.place(frame.x.high, frame.x.high)
        yield tag("line", class_="diagonal", x1=x1, y1=y1, x2=x2, y2=y2)


def _drawn(line: Line, frame: Frame, number: int) -> Iterator[Markup]:
    few = len(line.x) <= _MARKED
    for stretch in line.stretches:
        if len(stretch) > 1:
            placed = [frame.place(*point) for point in thinned(stretch, _MOST)]
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
            yield tag("path", class_=style_of(number), d=f"M{path}")
        for point in stretch if few or len(stretch) == 1 else ():
            x, y = frame.place(*point)
            told = tag("title", f"{line.name}: {point[1]:.6g} at {point[0]:.6g}")
            yield tag("circle", told, class_=f"mark c{number % 8}", cx=x, cy=y, r=2.5)


def _noted(end: float, gaps: int) -> tuple[float, Markup | None]:
    if not gaps:
        return end, None
    said = f"{gaps:,} value{'s are' if gaps > 1 else ' is'} not finite: a gap"
    return end + 16, tag("text", said, class_="note", x=WIDTH - 14, y=end + 8, text_anchor="end")


def _told(line: Line) -> str:
    points = [point for stretch in line.stretches for point in stretch]
    if not points:
        return f"{line.name}: no points."
    (x1, y1), (x2, y2), heights = points[0], points[-1], [y for _, y in points]
    return (
        f"{line.name}: {len(points):,} points, {y1:.6g} at {x1:.6g} to {y2:.6g} at {x2:.6g},"
        f" lowest {min(heights):.6g}, highest {max(heights):.6g}."
    )
