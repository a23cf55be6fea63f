"""Figures of a run as data: the kinds of figures, and the file `figures.json` beside the record.

A task writes the file at the end of its test. Equal runs write equal bytes. Comparisons of runs ignore the file.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from trainer.base.digest import canonical
from trainer.base.document import Count, Document

FILE: Final = "figures.json"
MOST: Final = 2000
"""The maximum number of points in a figure or line; `spread_indices` selects them from a larger number."""

S = TypeVar("S")
Numbers = Annotated[tuple[FiniteFloat, ...], Field(max_length=MOST)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Png = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*\.png$")]


class _BaseFigure(Document):
    name: Name
    """The figure's name, unique in its file, for example `confusion`."""
    title: str
    split: Literal["train", "val", "test"] | None = "test"
    """The split of its samples; `None` if it shows several splits or no samples."""


class Series(Document):
    """A line of a `lines` figure."""

    name: str
    x: Numbers
    y: Numbers

    @model_validator(mode="after")
    def _paired(self) -> Self:
        return _one_length(self, self.x, self.y)


class LineFigure(_BaseFigure):
    """Lines through points, in their order."""

    kind: Literal["lines"] = "lines"
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    diagonal: bool = False
    """Whether to draw y = x: chance level in a ROC curve."""


class MatrixFigure(_BaseFigure):
    """Counts in a table: a confusion matrix."""

    kind: Literal["matrix"] = "matrix"
    row_label: str
    """The meaning of the rows, for example `true class`."""
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: tuple[tuple[Count, ...], ...]
    """A tuple for each row."""

    @model_validator(mode="after")
    def _square(self) -> Self:
        if [len(row) for row in self.counts] != [len(self.columns)] * len(self.rows):
            raise ValueError(f"expected {len(self.rows)} rows of {len(self.columns)} counts")
        return self


class PointFigure(_BaseFigure):
    """Points, for example predicted against true values."""

    kind: Literal["points"] = "points"
    x_label: str
    y_label: str
    x: Numbers
    y: Numbers
    of: Count
    """The number of points before selection."""
    diagonal: bool = False

    @model_validator(mode="after")
    def _paired(self) -> Self:
        return _one_length(self, self.x, self.y)


class Heights(Document):
    """The heights of one of several sets of bars."""

    name: str
    y: Numbers


class BarFigure(_BaseFigure):
    """Bars: a histogram with `edges`, of which there is one more than bars, or a bar for each of `labels`."""

    kind: Literal["bars"] = "bars"
    x_label: str
    y_label: str
    edges: Numbers = ()
    labels: tuple[str, ...] = ()
    series: tuple[Heights, ...]

    @model_validator(mode="after")
    def _require_equal_lengths(self) -> Self:
        if bool(self.edges) == bool(self.labels):
            raise ValueError("expected either edges or labels")
        return _one_length(self, self.edges[1:] or self.labels, *(each.y for each in self.series))


class PictureFigure(_BaseFigure):
    """A picture in a separate file, with captions."""

    kind: Literal["pictures"] = "pictures"
    file: Png
    captions: tuple[str, ...] = ()
    """A caption for each sample, in reading order."""


class TextFigure(_BaseFigure):
    """Text that a net generated."""

    kind: Literal["text"] = "text"
    given: str = ""
    """The prompt."""
    text: str


Figure = Annotated[
    LineFigure | MatrixFigure | PointFigure | BarFigure | PictureFigure | TextFigure, Field(discriminator="kind")
]


class Figures(Document):
    """The content of `figures.json`: all figures of an attempt, in display order."""

    format: Literal["reprise.figures/1"] = "reprise.figures/1"
    figures: tuple[Figure, ...] = ()

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        counts = Counter(each.name for each in self.figures)
        if repeated := sorted(name for name, count in counts.items() if count > 1):
            raise ValueError(f"expected a unique name for each figure; found twice: {', '.join(repeated)}")
        return self

    def to_json(self) -> bytes:
        """Return the canonical bytes of the file: equal figures have equal bytes."""
        return canonical(self.model_dump(mode="json")) + b"\n"


def spread_indices(count: int, limit: int = MOST) -> list[int]:
    """Return `limit` of `count` indices, evenly spaced, including the first and the last; all if `count` is not larger.

    >>> spread_indices(3), spread_indices(100, limit=5)
    ([0, 1, 2], [0, 24, 49, 74, 99])
    """
    if count <= limit:
        return list(range(count))
    return [index * (count - 1) // (limit - 1) for index in range(limit)]


def _one_length(value: S, *fields: tuple[object, ...]) -> S:
    if len({len(field) for field in fields}) > 1:
        raise ValueError(f"expected fields of equal length, found {[len(field) for field in fields]}")
    return value
