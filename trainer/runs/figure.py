"""Figures: what a task has to show at the end of its test, as data that a drawing can be made of.

Knows the kinds of figures and the file they are kept in, `figures.json` beside the record. Refuses to draw, to compute and to judge:
a person looks at them, and two runs are compared without them. Equal runs write equal bytes.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from trainer.base.digest import canonical
from trainer.base.document import Count, Document

FILE: Final = "figures.json"
MOST: Final = 2000
"""As many points at most have `points` and each of the `lines`; of more, `chosen` picks."""

S = TypeVar("S")
Numbers = Annotated[tuple[FiniteFloat, ...], Field(max_length=MOST)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Png = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*\.png$")]


class _Shown(Document):
    name: Name
    """What tells it from the others of its file, as `confusion`."""
    title: str
    split: Literal["train", "val", "test"] | None = "test"
    """The samples it is of; none where it is of several splits, or of no sample."""


class Series(Document):
    """One of several lines."""

    name: str
    x: Numbers
    y: Numbers

    @model_validator(mode="after")
    def _paired(self) -> Self:
        return _one_length(self, self.x, self.y)


class Lines(_Shown):
    """Lines through points, in their order."""

    kind: Literal["lines"] = "lines"
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    diagonal: bool = False
    """Whether y = x is drawn: what chance would give in a ROC curve."""


class Matrix(_Shown):
    """Counts in a table: a confusion matrix."""

    kind: Literal["matrix"] = "matrix"
    row_label: str
    """What the rows are: `true class`."""
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


class Points(_Shown):
    """Points: predicted against true."""

    kind: Literal["points"] = "points"
    x_label: str
    y_label: str
    x: Numbers
    y: Numbers
    of: Count
    """How many there were before some were chosen."""
    diagonal: bool = False

    @model_validator(mode="after")
    def _paired(self) -> Self:
        return _one_length(self, self.x, self.y)


class Heights(Document):
    """The heights of one of several sets of bars."""

    name: str
    y: Numbers


class Bars(_Shown):
    """Bars: a histogram where `edges` are given, one more than bars; else a bar for each of `labels`."""

    kind: Literal["bars"] = "bars"
    x_label: str
    y_label: str
    edges: Numbers = ()
    labels: tuple[str, ...] = ()
    series: tuple[Heights, ...]

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if bool(self.edges) == bool(self.labels):
            raise ValueError("expected edges or labels")
        return _one_length(self, self.edges[1:] or self.labels, *(each.y for each in self.series))


class Pictures(_Shown):
    """A picture in a file beside, and what is said of it."""

    kind: Literal["pictures"] = "pictures"
    file: Png
    captions: tuple[str, ...] = ()
    """One for each sample in it, in reading order."""


class Passage(_Shown):
    """Text that a net wrote."""

    kind: Literal["text"] = "text"
    given: str = ""
    """What it was to go on from."""
    text: str


Figure = Annotated[Lines | Matrix | Points | Bars | Pictures | Passage, Field(discriminator="kind")]


class Figures(Document):
    """The file: every figure of an attempt, in the order in which they are to be shown."""

    format: Literal["reprise.figures/1"] = "reprise.figures/1"
    figures: tuple[Figure, ...] = ()

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        counts = Counter(each.name for each in self.figures)
        if twice := sorted(name for name, count in counts.items() if count > 1):
            raise ValueError(f"figures need names of their own; found twice: {', '.join(twice)}")
        return self

    def to_json(self) -> bytes:
        """Write the file: canonical, so that equal figures have equal bytes."""
        return canonical(self.model_dump(mode="json")) + b"\n"


def chosen(count: int, most: int = MOST) -> list[int]:
    """Pick `most` of `count` places, evenly, first and last among them; all where there are no more.

    >>> chosen(3), chosen(100, most=5)
    ([0, 1, 2], [0, 24, 49, 74, 99])
    """
    if count <= most:
        return list(range(count))
    return [at * (count - 1) // (most - 1) for at in range(most)]


def _one_length(value: S, *fields: tuple[object, ...]) -> S:
    if len({len(field) for field in fields}) > 1:
        raise ValueError(f"expected fields of one length, found {[len(field) for field in fields]}")
    return value
