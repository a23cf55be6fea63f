"""Draw figures and curves as SVG, for a page or for separate files, without a drawing library.

    draw(figure)                                       # a figure of `trainer.runs.figure`
    plot_lines([PlotLine(name=.., x=.., y=..)], title=..)  # curves
    as_file(svg)                                       # a drawing with its style, for an .svg file

Plots are readable on a phone, in light and dark mode. All text in a drawing is escaped. A page includes `STYLE` once; text and
axes have the color of the page's text.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from trainer.reporting.drawing.markup import Markup, tag
from trainer.reporting.drawing.plots import PlotLine, plot_bars, plot_lines, plot_matrix, plot_points
from trainer.runs.figure import BarFigure, LineFigure, MatrixFigure, PointFigure

__all__ = ["STYLE", "Drawn", "PlotLine", "as_file", "draw", "plot_lines", "plot_points"]

Drawn: TypeAlias = LineFigure | PointFigure | MatrixFigure | BarFigure
"""The figures that can be drawn; pictures and texts are shown unchanged."""


def draw(figure: Drawn) -> Markup:
    """Return a figure as SVG."""
    if isinstance(figure, MatrixFigure):
        return plot_matrix(figure)
    if isinstance(figure, BarFigure):
        return plot_bars(figure)
    labels: Any = {name: getattr(figure, name) for name in ("title", "x_label", "y_label", "diagonal")}
    if isinstance(figure, PointFigure):
        return plot_points(PlotLine(name=figure.y_label, x=figure.x, y=figure.y), of=figure.of, **labels)
    return plot_lines([PlotLine(name=series.name, x=series.x, y=series.y) for series in figure.series], **labels)


def as_file(svg: Markup) -> str:
    """Return a drawing with its style, as the content of a separate file."""
    start, end = svg.split(">", 1)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{start}>{tag("style", Markup(STYLE))}{end}\n'


STYLE: Final = """
svg.plot { display: block; width: 100%; height: auto; color: inherit; font: 12px/1 system-ui, sans-serif; }
svg.plot text { fill: currentColor; font-variant-numeric: tabular-nums; }
svg.plot .tick { fill-opacity: .72; font-size: 11.5px; }
svg.plot .label, svg.plot .note { fill-opacity: .72; }
svg.plot .note { font-size: 11px; }
svg.plot .grid { stroke: currentColor; stroke-opacity: .12; }
svg.plot .axis { stroke: currentColor; stroke-opacity: .45; }
svg.plot .diagonal { stroke: currentColor; stroke-opacity: .45; stroke-dasharray: 2 4; }
svg.plot .frame { fill: currentColor; fill-opacity: .04; }
svg.plot .line { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
svg.plot .dashed { stroke-dasharray: 5 4; }
svg.plot .mark, svg.plot .bar { fill: var(--c); }
svg.plot .bar { fill-opacity: .85; }
svg.plot .over { fill-opacity: .55; }
svg.plot .point { fill: var(--c); fill-opacity: .55; }
svg.plot .cell { fill: var(--c0); }
svg.plot .on { fill: var(--on); }
svg.plot { --c0: #2463c9; --c1: #c2570c; --c2: #0d8170; --c3: #a8308f; --c4: #86700a; --c5: #7047c4; --c6: #bf2d3f; --c7: #4d6773;
  --on: #fff; }
@media (prefers-color-scheme: dark) {
  svg.plot { --c0: #79aaff; --c1: #ff9f59; --c2: #4fd1b6; --c3: #ee8ade; --c4: #d9ba45; --c5: #b7a0ff; --c6: #ff858f; --c7: #a3b8c4;
    --on: #10141a; }
}
svg.plot .c0 { --c: var(--c0); } svg.plot .c1 { --c: var(--c1); } svg.plot .c2 { --c: var(--c2); } svg.plot .c3 { --c: var(--c3); }
svg.plot .c4 { --c: var(--c4); } svg.plot .c5 { --c: var(--c5); } svg.plot .c6 { --c: var(--c6); } svg.plot .c7 { --c: var(--c7); }
"""
"""The colors follow the light or dark mode of the reader's system, unless the page overrides the variables."""
