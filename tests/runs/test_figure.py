"""Figures are typed data, distinguished by kind, and equal runs write equal bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.base.document import parse_json
from trainer.base.errors import DocumentError
from trainer.runs.figure import (
    BarFigure,
    Figures,
    Heights,
    LineFigure,
    MatrixFigure,
    PictureFigure,
    PointFigure,
    Series,
    TextFigure,
    spread_indices,
)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
ROC = LineFigure(
    name="roc",
    title="ROC",
    x_label="false positives",
    y_label="true positives",
    series=(Series(name="all", x=(0.0, 0.5, 1.0), y=(0.0, 0.75, 1.0)),),
    diagonal=True,
)
CONFUSION = MatrixFigure(
    name="confusion",
    title="Confusion",
    row_label="true class",
    column_label="predicted",
    rows=("a", "b"),
    columns=("a", "b"),
    counts=((3, 1), (0, 4)),
)
ALL = Figures(
    figures=(
        ROC,
        CONFUSION,
        PointFigure(name="parity", title="Parity", x_label="true", y_label="predicted", x=(1.0,), y=(-0.0,), of=1),
        BarFigure(
            name="residuals",
            title="Residuals",
            x_label="error",
            y_label="samples",
            edges=(-1.0, 0.0, 1.0),
            series=(Heights(name="test", y=(3.0, 4.0)),),
        ),
        PictureFigure(name="wrong", title="Most wrong", file="most-wrong.png", captions=("a 0.1",)),
        TextFigure(name="sample", title="Sample", given="The ", text="statement"),
    )
)


def test_a_figure_round_trips() -> None:
    again = parse_json(ALL.to_json(), Figures, where="figures.json")
    assert again == ALL
    assert again.to_json() == ALL.to_json()


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=20))
def test_numbers_keep_every_bit(points: list[tuple[float, float]]) -> None:
    line = Series(name="a", x=tuple(x for x, _ in points), y=tuple(y for _, y in points))
    figures = Figures(figures=(ROC.model_copy(update={"series": (line,)}),))
    assert parse_json(figures.to_json(), Figures, where="figures.json") == figures


@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        (ROC, {"series": [{"name": "a", "x": [1], "y": []}]}, "equal length"),
        (ROC, {"series": [{"name": "a", "x": ["NaN"], "y": [1]}]}, "finite"),
        (ROC, {"name": "A curve"}, "pattern"),
        (CONFUSION, {"rows": ["a"]}, "1 rows of 2 counts"),
        (ALL.figures[3], {"edges": []}, "edges or labels"),
        (ALL.figures[3], {"edges": [0, 1]}, "equal length"),
        (ALL.figures[4], {"file": "../../x.png"}, "pattern"),
        (ROC, {"kind": "pie"}, "pie"),
    ],
)
def test_an_invalid_figure_is_rejected(kind: Any, changed: dict[str, Any], message: str) -> None:
    text = json.dumps({"figures": [{**kind.model_dump(mode="json"), **changed}]})
    with pytest.raises(DocumentError, match=message):
        parse_json(text, Figures, where="figures.json")


def test_two_figures_of_one_name_are_rejected() -> None:
    with pytest.raises(ValueError, match="found twice: roc"):
        Figures(figures=(ROC, ROC))


@given(st.integers(0, 10_000), st.integers(2, 100))
def test_chosen_points_are_evenly_spread_and_within_the_limit(count: int, most: int) -> None:
    places = spread_indices(count, most)
    assert len(places) == min(count, most)
    assert places == sorted(set(places))
    assert not places or (places[0], places[-1]) == (0, count - 1)
