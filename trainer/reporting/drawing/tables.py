"""Draw counts as a table of shaded cells (a confusion matrix), and numbers as bars.

A cell's shade is its fraction of the row. Matrices with too many cells are not drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
    vertical_label,
)
from trainer.reporting.drawing.markup import Markup, cut, tag, width_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.runs.figure import Bars, Matrix

_LARGEST: Final = 38.0
_READABLE: Final = 19.0
"""The smallest cell, in pixels, that has room for its count."""
_CELLS: Final = 10_000
_NAME: Final = 18
"""The largest number of letters of a class's name."""
_LINE: Final = 14.0
"""The smallest distance in pixels between two readable names."""
_DARK: Final = 0.55
"""The shade from which a count is written in the background color."""


def plot_matrix(figure: Matrix) -> Markup:
    """Draw a matrix of counts; the shades of a row add up to 1."""
    rows, columns = len(figure.rows), len(figure.columns)
    left = 34 + LETTER * max((width_of(cut(name, _NAME)) for name in figure.rows), default=1)
    cell = min(_LARGEST, (WIDTH - left - 14) / max(columns, 1))
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


def _cells(figure: Matrix, left: float, cell: float) -> Iterator[Markup]:
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
    """Return the distance, in cells, of names that do not overlap."""
    return max(1, round(_LINE / max(cell, 0.01) + 0.49))


def _row_names(figure: Matrix, left: float, cell: float) -> Iterator[Markup]:
    for down, name in list(enumerate(figure.rows))[:: _every(cell)]:
        height = 12 + (down + 0.5) * cell + 4
        yield tag("text", cut(name, _NAME), class_="tick", x=left - 6, y=height, text_anchor="end")
    yield vertical_label(cut(figure.row_label, 40), 12 + cell * len(figure.rows) / 2)


def _column_names(figure: Matrix, left: float, cell: float, bottom: float) -> Iterator[Markup]:
    """Yield the column names: horizontal if they fit, else slanted; if columns are narrower than a line, only every nth name."""
    for across, name in list(enumerate(figure.columns))[:: _every(cell)]:
        middle, text = left + (across + 0.5) * cell, cut(name, _NAME)
        if _is_slanted(figure, cell):
            transform = f"translate({middle + 4:.1f} {bottom + 11:.1f}) rotate(-45)"
            yield tag("text", text, tag("title", name), class_="tick", transform=transform, text_anchor="end")
        else:
            yield tag("text", text, class_="tick", x=middle, y=bottom + 16, text_anchor="middle")
    middle, below = left + cell * len(figure.columns) / 2, bottom + _below(figure, cell) - 10
    yield tag("text", cut(figure.column_label, 40), class_="label", x=middle, y=below, text_anchor="middle")


def _widest(figure: Matrix) -> float:
    return LETTER * max((width_of(cut(name, _NAME)) for name in figure.columns), default=1)


def _is_slanted(figure: Matrix, cell: float) -> bool:
    return _widest(figure) + 4 > cell


def _below(figure: Matrix, cell: float) -> float:
    """Return the height in pixels of the column names and their label."""
    return 44.0 if not _is_slanted(figure, cell) else 42.0 + _widest(figure) * 0.71


def plot_bars(figure: Bars) -> Markup:
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


def _bars(figure: Bars, number: int, frame: Frame) -> Iterator[Markup]:
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
