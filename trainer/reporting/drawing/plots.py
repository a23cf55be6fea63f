"""Plot lines and points in a frame (curves, ROC, parity), counts as shaded cells (a confusion matrix), and bars.

Non-finite numbers are gaps in a line, and their number is shown. A line with many points is reduced to the ends and extremes of each
section, which look the same, so that no peak is lost. A cell's shade is its fraction of the row. The cells of a matrix are not drawn if
there are too many.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from trainer.base.suggestions import counted
from trainer.reporting.drawing.frame import (
    COLORS,
    HEIGHT,
    LETTER,
    WIDTH,
    Frame,
    Scale,
    drawable,
    frame_for,
    legend,
    picture,
    scale_of,
    style_of,
    vertical_label,
)
from trainer.reporting.drawing.markup import Markup, cut, tag, width_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.runs.figure import BarFigure, MatrixFigure

    Point = tuple[float, float]

_MOST: Final = 800
"""The maximum number of points per line: about two per pixel of width."""
_MARKED: Final = 40
"""A line with at most this number of points has a marker at each point."""
_SCATTERED: Final = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotLine:
    """A line: a name, and points in order. Non-finite points are gaps."""

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
        """Describe the line in words: the number of points, the ends and the extremes."""
        points = self.points
        if not points:
            return f"{self.name}: no points."
        (x1, y1), (x2, y2), heights = points[0], points[-1], [y for _, y in points]
        ends = f"{y1:.6g} at {x1:.6g} to {y2:.6g} at {x2:.6g}"
        return f"{self.name}: {counted(len(points), 'point')}, {ends}, lowest {min(heights):.6g}, highest {max(heights):.6g}."


def plot_lines(
    lines: Sequence[PlotLine],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log: bool | None = False,
    log_x: bool = False,
    diagonal: bool = False,
    zero: bool = False,
) -> Markup:
    """Draw lines. With `log` None, the numbers determine whether the y axis is logarithmic; with `zero`, the y axis includes zero."""
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
    points: PlotLine, *, title: str, x_label: str, y_label: str, diagonal: bool = False, of: int | None = None
) -> Markup:
    """Draw points; `of` is the total number if the points are a selection."""
    shown = points.points[:_SCATTERED]
    x_scale, y_scale = (scale_of([point[axis] for point in points.points]) for axis in (0, 1))
    if diagonal:
        x_scale = y_scale = scale_of([value for point in points.points for value in point])
    frame = frame_for(x_scale, y_scale, y_label=y_label)
    parts = [*frame.axes(x_label, y_label), *_diagonal(frame, show=diagonal)]
    parts += [tag("circle", class_="point c0", cx=x, cy=y, r=2.5) for x, y in (frame.place(*each) for each in shown)]
    count = f"{len(shown):,} of {of:,} points" if of and of > len(shown) else counted(len(shown), "point")
    parts.append(tag("text", count, class_="note", x=frame.right, y=HEIGHT - 1, text_anchor="end"))
    description = f"{count}: {y_label} by {x_label}. {points.description()}"
    return picture(parts, title=title, description=description, height=HEIGHT + 6)


def _diagonal(frame: Frame, *, show: bool) -> Iterator[Markup]:
    if show:
        (x1, y1), (x2, y2) = frame.place(frame.x.low, frame.x.low), frame.place(frame.x.high, frame.x.high)
        yield tag("line", class_="diagonal", x1=x1, y1=y1, x2=x2, y2=y2)


def _draw(line: PlotLine, frame: Frame, number: int) -> Iterator[Markup]:
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
    """Return at most `most` of the points: the first, lowest, highest and last point of each section (M4, Jugel et al., VLDB 2014).

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


_CELL: Final = 38.0
_READABLE: Final = 19.0
"""The minimum size, in pixels, of a cell that shows its count."""
_CELLS: Final = 10_000
_NAME: Final = 18
"""The maximum number of letters of a class name."""
_LINE: Final = 14.0
"""The minimum distance in pixels between two readable names."""
_DARK: Final = 0.55
"""The shade above which a count is written in the color of the background."""


def plot_matrix(figure: MatrixFigure) -> Markup:
    """Draw a matrix of counts; a cell's shade is its fraction of the row."""
    rows, columns = len(figure.rows), len(figure.columns)
    left = 34 + LETTER * max((width_of(cut(name, _NAME)) for name in figure.rows), default=1)
    cell = min(_CELL, (WIDTH - left - 14) / max(columns, 1))
    bottom = 12 + cell * rows
    parts = [tag("rect", class_="frame", x=left, y=12.0, width=cell * columns, height=bottom - 12)]
    if rows * columns <= _CELLS:
        parts += _cells(figure, left, cell)
    parts += [*_row_names(figure, left, cell), *_column_names(figure, left, cell, bottom)]
    right, total = sum(figure.counts[at][at] for at in range(min(rows, columns))), sum(map(sum, figure.counts))
    size = f"{rows} rows, {columns} columns, {right:,} of {total:,} on the diagonal"
    note = "" if rows * columns <= _CELLS else "too many cells to draw: the file has every count"
    parts.append(tag("text", note, class_="note", x=left + 4, y=30.0))
    description = f"{figure.row_label} by {figure.column_label}: {size}."
    return picture(parts, title=figure.title, description=description, height=bottom + _below(figure, cell))


def _cells(figure: MatrixFigure, left: float, cell: float) -> Iterator[Markup]:
    gap = 1.0 if cell > 8 else 0.0  # noqa: PLR2004 - pixels
    for down, (row, counts) in enumerate(zip(figure.rows, figure.counts, strict=True)):
        for across, (column, count) in enumerate(zip(figure.columns, counts, strict=True)):
            if count:
                x, y, shade, size = left + across * cell, 12 + down * cell, count / sum(counts), cell - gap
                title = tag("title", f"{figure.row_label} {row}, {figure.column_label} {column}: {count:,}")
                opacity = 0.12 + 0.88 * shade
                yield tag("rect", title, class_="cell", x=x, y=y, width=size, height=size, opacity=opacity)
                if cell >= _READABLE and len(str(count)) * LETTER < cell:
                    kind = "count on" if shade > _DARK else "count"
                    yield tag("text", count, class_=kind, x=x + size / 2, y=y + cell / 2 + 4, text_anchor="middle")


def _every(cell: float) -> int:
    """Return the distance, in cells, between names that do not overlap."""
    return max(1, round(_LINE / max(cell, 0.01) + 0.49))


def _row_names(figure: MatrixFigure, left: float, cell: float) -> Iterator[Markup]:
    for down, name in list(enumerate(figure.rows))[:: _every(cell)]:
        height = 12 + (down + 0.5) * cell + 4
        yield tag("text", cut(name, _NAME), class_="tick", x=left - 6, y=height, text_anchor="end")
    yield vertical_label(cut(figure.row_label, 40), 12 + cell * len(figure.rows) / 2)


def _column_names(figure: MatrixFigure, left: float, cell: float, bottom: float) -> Iterator[Markup]:
    """Yield the column names, slanted if they do not fit. If the columns are narrower than a line, only every nth name is drawn."""
    for across, name in list(enumerate(figure.columns))[:: _every(cell)]:
        middle, text = left + (across + 0.5) * cell, cut(name, _NAME)
        if _is_slanted(figure, cell):
            transform = f"translate({middle + 4:.1f} {bottom + 11:.1f}) rotate(-45)"
            yield tag("text", text, tag("title", name), class_="tick", transform=transform, text_anchor="end")
        else:
            yield tag("text", text, class_="tick", x=middle, y=bottom + 16, text_anchor="middle")
    middle, below = left + cell * len(figure.columns) / 2, bottom + _below(figure, cell) - 10
    yield tag("text", cut(figure.column_label, 40), class_="label", x=middle, y=below, text_anchor="middle")


def _widest(figure: MatrixFigure) -> float:
    return LETTER * max((width_of(cut(name, _NAME)) for name in figure.columns), default=1)


def _is_slanted(figure: MatrixFigure, cell: float) -> bool:
    return _widest(figure) + 4 > cell


def _below(figure: MatrixFigure, cell: float) -> float:
    return 44.0 if not _is_slanted(figure, cell) else 42.0 + _widest(figure) * 0.71


def plot_bars(figure: BarFigure) -> Markup:
    """Draw bars: adjacent and overlaid for a histogram, grouped for named categories."""
    heights = [value for series in figure.series for value in series.y]
    edges = [float(edge) for edge in figure.edges]
    across = scale_of(edges, tight=True) if edges else Scale(low=0.0, high=float(len(figure.labels) or 1))
    frame = frame_for(across, scale_of([*heights, 0.0], zero=True), y_label=figure.y_label)
    parts = [*frame.axes(figure.x_label, figure.y_label, names=figure.labels)]
    description = f"{figure.y_label} by {figure.x_label}."
    for number, series in enumerate(figure.series):
        parts += _bars(figure, number, frame)
        description += f" {series.name}: {len(series.y)} bars, highest {max(series.y, default=0.0):.6g}."
    keys, end = legend([series.name for series in figure.series], HEIGHT)
    return picture([*parts, *keys], title=figure.title, description=description, height=end)


def _bars(figure: BarFigure, number: int, frame: Frame) -> Iterator[Markup]:
    series, count = figure.series[number], len(figure.series)
    over = " over" if figure.edges and count > 1 else ""
    for at, value in enumerate(series.y):
        if not drawable(value):
            continue
        if figure.edges:
            start, end = figure.edges[at], figure.edges[at + 1]
            name, gap = f"{start:.6g} to {end:.6g}", 0.6
        else:
            start, end = (at + 0.12 + 0.76 * (number + side) / count for side in (0, 1))
            name, gap = figure.labels[at], 0.0
        (x1, y1), (x2, y2) = frame.place(start, max(value, 0.0)), frame.place(end, min(value, 0.0))
        title, width = tag("title", f"{series.name} {name}: {value:.6g}"), max(x2 - x1 - gap, 0.5)
        yield tag("rect", title, class_=f"bar c{number % COLORS}{over}", x=x1, y=y1, width=width, height=y2 - y1)
