"""Draw counts as a table of shaded cells (a confusion matrix), and numbers as bars.

A cell's shade is its fraction of the row. Matrices with too many cells are not drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.reporting.drawing.frame import COLOURS, HEIGHT, LETTER, WIDTH, Frame, frame_for, legend, picture
from trainer.reporting.drawing.markup import Markup, cut, tag, width_of
from trainer.reporting.drawing.scales import Scale, drawable, scale_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    cells = [tag("rect", class_="frame", x=left, y=12.0, width=cell * columns, height=bottom - 12)]
    if rows * columns <= _CELLS:
        cells += _cells(figure, left, cell)
    labels = [*_row_names(figure, left, cell), *_column_names(figure, left, cell, bottom)]
    right, total = sum(figure.counts[at][at] for at in range(min(rows, columns))), sum(map(sum, figure.counts))
    said = f"{figure.row_label} by {figure.column_label}: {rows} rows, {columns} columns, {right:,} of {total:,} on the diagonal."
    note = "" if rows * columns <= _CELLS else "too many cells to draw: the file has every count"
    labels.append(tag("text", note, class_="note", x=left + 4, y=30.0))
    return picture([*cells, *labels], title=figure.title, said=said, height=bottom + _below(figure, cell))


def _cells(figure: Matrix, left: float, cell: float) -> Iterator[Markup]:
    for down, (row, counts) in enumerate(zip(figure.rows, figure.counts, strict=True)):
        total = sum(counts)
        for across, (column, count) in enumerate(zip(figure.columns, counts, strict=True)):
            if count:
                x, y, shade = left + across * cell, 12 + down * cell, count / total
                told = tag("title", f"{figure.row_label} {row}, {figure.column_label} {column}: {count:,}")
                gap = 1.0 if cell > 8 else 0.0  # noqa: PLR2004 - pixels
                yield tag(
                    "rect",
                    told,
                    class_="cell",
                    x=x,
                    y=y,
                    width=cell - gap,
                    height=cell - gap,
                    opacity=0.12 + 0.88 * shade,
                )
                if cell >= _READABLE and len(str(count)) * LETTER < cell:
                    shown = "count on" if shade > _DARK else "count"
                    middle = x + (cell - gap) / 2
                    yield tag("text", count, class_=shown, x=middle, y=y + cell / 2 + 4, text_anchor="middle")


def _row_names(figure: Matrix, left: float, cell: float) -> Iterator[Markup]:
    every = max(1, round(_LINE / max(cell, 0.01) + 0.49))
    for down, name in enumerate(figure.rows):
        if down % every == 0:
            height = 12 + (down + 0.5) * cell + 4
            yield tag("text", cut(name, _NAME), class_="tick", x=left - 6, y=height, text_anchor="end")
    turned = f"translate(11 {12 + cell * len(figure.rows) / 2:.0f}) rotate(-90)"
    yield tag("text", cut(figure.row_label, 40), class_="label", transform=turned, text_anchor="middle")


def _column_names(figure: Matrix, left: float, cell: float, bottom: float) -> Iterator[Markup]:
    """Yield the column names: horizontal if they fit, else slanted; if columns are narrower than a line, only every nth name."""
    every = max(1, round(_LINE / max(cell, 0.01) + 0.49))
    slanted = _is_slanted(figure, cell)
    for across, name in enumerate(figure.columns):
        if across % every == 0:
            middle, shown = left + (across + 0.5) * cell, cut(name, _NAME)
            if slanted:
                turned = f"translate({middle + 4:.1f} {bottom + 11:.1f}) rotate(-45)"
                yield tag("text", shown, tag("title", name), class_="tick", transform=turned, text_anchor="end")
            else:
                yield tag("text", shown, class_="tick", x=middle, y=bottom + 16, text_anchor="middle")
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
    bars = [bar for number in range(len(figure.series)) for bar in _set(figure, number, frame)]
    keys, end = legend([series.name for series in figure.series], HEIGHT)
    said = " ".join(
        f"{series.name}: {len(series.y)} bars, highest {max(series.y, default=0.0):.6g}." for series in figure.series
    )
    axes = frame.axes(figure.x_label, figure.y_label, names=figure.labels)
    described = f"{figure.y_label} by {figure.x_label}. {said}"
    return picture([*axes, *bars, *keys], title=figure.title, said=described, height=end)


def _set(figure: Bars, number: int, frame: Frame) -> Iterator[Markup]:
    series, many = figure.series[number], len(figure.series)
    for at, value in enumerate(series.y):
        if not drawable(value):
            continue
        if figure.edges:
            start, end, name = figure.edges[at], figure.edges[at + 1], _between(figure.edges, at)
        else:
            start, end = at + 0.12 + 0.76 * number / many, at + 0.12 + 0.76 * (number + 1) / many
            name = figure.labels[at]
        (x1, y1), (x2, y2) = frame.place(start, max(value, 0.0)), frame.place(end, min(value, 0.0))
        told = tag("title", f"{series.name} {name}: {value:.6g}")
        over = " over" if figure.edges and many > 1 else ""
        wide = max(x2 - x1 - (0.6 if figure.edges else 0.0), 0.5)
        yield tag("rect", told, class_=f"bar c{number % COLOURS}{over}", x=x1, y=y1, width=wide, height=y2 - y1)


def _between(edges: Sequence[float], at: int) -> str:
    return f"{edges[at]:.6g} to {edges[at + 1]:.6g}"
