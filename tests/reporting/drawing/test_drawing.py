"""Drawings are well-formed, stay inside their frame, have a description, and are short."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.reporting.drawing import Drawn, PlotLine, as_file, draw, plot_lines
from trainer.runs.figure import BarFigure, Heights, LineFigure, MatrixFigure, PointFigure, Series

SVG = "{http://www.w3.org/2000/svg}"


def parse_svg(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - the bytes come from this package


def draw_curve(heights: list[float], **other: Any) -> ET.Element:
    line = PlotLine(name="loss", x=range(len(heights)), y=heights)
    return parse_svg(plot_lines([line], title="loss", x_label="step", y_label="loss", **other))


FIGURES: list[Drawn] = [
    LineFigure(name="roc", title="ROC", x_label="x", y_label="y", series=(Series(name="a", x=(0, 1), y=(0, 1)),), diagonal=True),
    PointFigure(name="parity", title="Parity", x_label="true", y_label="predicted", x=(1, 2), y=(1, 3), of=9),
    MatrixFigure(name="c", title="C", row_label="true", column_label="found", rows=("a", "b"), columns=("a", "b"), counts=((3, 1), (0, 0))),
    BarFigure(name="h", title="H", x_label="x", y_label="n", edges=(0, 1, 2),
              series=(Heights(name="a", y=(3, 1)), Heights(name="b", y=(0, 2)))),
    BarFigure(name="r", title="R", x_label="class", y_label="recall", labels=("cat", "dog"), series=(Heights(name="a", y=(-1, 1)),)),
]  # fmt: skip


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_figure_has_a_title_and_a_description(figure: Drawn) -> None:
    svg = parse_svg(draw(figure))
    assert (svg.get("role"), svg.get("aria-label")) == ("img", figure.title)
    assert svg.findtext(f"{SVG}desc")
    assert parse_svg(as_file(draw(figure)).partition("\n")[2]).find(f"{SVG}style") is not None


@given(st.lists(st.floats(), max_size=60), st.sampled_from([None, True, False]))
def test_any_numbers_are_drawn_inside_the_frame(heights: list[float], log: bool | None) -> None:  # noqa: FBT001
    svg = draw_curve(heights, log=log)
    found = [float(number) for path in svg.iter(f"{SVG}path") for number in re.findall(r"-?[\d.]+", path.get("d", ""))]
    assert all(0 <= number <= 440 for number in found)
    gaps = sum(not math.isfinite(height) or abs(height) > 1e300 for height in heights)
    assert ("not finite" in "".join(svg.itertext())) == bool(gaps)


def test_a_line_of_many_points_is_thinned_and_its_description_has_all() -> None:
    svg = draw_curve([0.0] * 30_000 + [9.0] + [0.0] * 20_000)
    (path,) = svg.iter(f"{SVG}path")
    assert path.get("d", "").count("L") < 800
    assert path.get("d", "").count(" 12.") + path.get("d", "").count(" 17.") >= 1
    assert "50,001 points, 0 at 0 to 0 at 50000, lowest 0, highest 9" in (svg.findtext(f"{SVG}desc") or "")


def test_names_are_escaped() -> None:
    bad = "</text><script>alert(1)</script>"
    lines = [PlotLine(name=f"{bad}{number}", x=[0, 1], y=[0, 1]) for number in range(20)]
    tags = {element.tag for element in parse_svg(plot_lines(lines, title=bad, x_label=bad, y_label=bad)).iter()}
    assert f"{SVG}script" not in tags
    matrix = MatrixFigure(
        name="c", title=bad, row_label=bad, column_label=bad, rows=(bad,), columns=(bad,), counts=((1,),)
    )
    assert f"{SVG}script" not in {element.tag for element in parse_svg(draw(matrix)).iter()}


def test_a_table_of_a_million_cells_is_not_drawn() -> None:
    names = tuple(map(str, range(1000)))
    counts = tuple((1,) * 1000 for _ in names)
    svg = draw(
        MatrixFigure(name="c", title="C", row_label="r", column_label="c", rows=names, columns=names, counts=counts)
    )
    assert "too many cells" in svg
    assert len(svg) < 60_000


def find_text(svg: ET.Element, text: str) -> ET.Element:
    return next(each for each in svg.iter(f"{SVG}text") if (each.text or "").startswith(text))


@pytest.mark.parametrize(
    "names", [("고양이", "강아지", "토끼 (집토끼와 산토끼)"), ("golden retriever", "whippet", "samoyed dog")]
)
def test_every_class_of_a_confusion_matrix_is_named_below_and_beside_it(names: tuple[str, ...]) -> None:
    counts = tuple(tuple(int(a == b) for a in range(3)) for b in range(3))
    figure = MatrixFigure(
        name="c", title="C", row_label="true", column_label="found", rows=names, columns=names, counts=counts
    )
    svg = parse_svg(draw(figure))
    ticks = [each.text or "" for each in svg.iter(f"{SVG}text") if each.get("class") == "tick"]
    assert len(ticks) == 6
    assert all(name.startswith(tick.rstrip("…")) for name, tick in zip([*names, *names], ticks, strict=True))
    height, lowest = float(str(svg.get("viewBox")).split()[3]), float(find_text(svg, "found").get("y", "0"))
    assert lowest < height


def test_entries_of_a_legend_do_not_overlap_in_any_script() -> None:
    names = ["고양이와 강아지", "猫头鹰和兔子", "ウサギとネコ", "rabbit"]
    lines = [PlotLine(name=name, x=[0, 1], y=[0, at]) for at, name in enumerate(names)]
    svg = parse_svg(plot_lines(lines, title="t", x_label="x", y_label="y"))
    found = [find_text(svg, name) for name in names]
    places = [(float(each.get("y", "0")), float(each.get("x", "0")), each.text or "") for each in found]
    for (y, x, name), (next_y, next_x, _) in pairwise(places):
        wide = 12 * sum(letter >= "\u1100" for letter in name) + 6 * sum(letter < "\u1100" for letter in name)
        assert next_y > y or next_x >= x + wide
