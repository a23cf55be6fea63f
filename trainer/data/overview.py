"""An overview of a dataset's values: each column in each split, the classes, and hints about leaks and duplicates.

`trainer.training.readers.overview` creates it by reading every sample once. This module defines the document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from trainer.base.document import Count, Document, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT: Final = "reprise.overview/3"
"""The version is increased when the document or the hints change, so that cached overviews are created again."""
MOST_VALUES: Final = 1000
"""Maximum number of distinct values of a column that are counted."""
LARGEST_WHOLE: Final = 2**64


class ColumnValues(Document):
    """The values of a column in one split."""

    present: Count
    missing: Count
    """The number of missing values, NaN and infinities."""
    low: int | float | None = None
    """The lowest number; `None` if the values are text, or all are missing."""
    high: int | float | None = None
    different: Count | None = None
    """The number of distinct values; `None` if there are more than `MOST_VALUES`, or if they are not counted."""
    values: dict[str, Count] | None = None
    """The number of samples with each value, for text and for the label; `None` if they are not counted."""


class OverviewColumn(Document):
    """A column of a table, a field of numbers, an element of a small vector field, or a whole field such as a picture."""

    name: str
    type: str
    read_as: str
    """How samples use the column: `number`, `category`, `class`, `left out`, or the name of its field."""
    splits: dict[str, ColumnValues]


class Overview(Document):
    """The values of a dataset."""

    format: Literal["reprise.overview/3"] = FORMAT
    samples: dict[str, Count]
    """The number of samples of each split; if no split is declared, the only name is empty."""
    columns: tuple[OverviewColumn, ...] = ()
    label: str | None = None
    """The column or the field with the classes or numbers to predict."""
    examples: dict[str, tuple[dict[str, str], ...]] = {}
    """The values of the first samples of each split, by column or field; empty for pictures."""
    hints: tuple[str, ...] = ()
    """Equal samples, columns that determine the label, and values that are missing in train."""
    compared: tuple[str, ...] = ()
    """The data that was examined for the hints, and the data that was not."""

    def column(self, name: str) -> OverviewColumn | None:
        """Return the column with the given name; `None` if there is none."""
        return next((each for each in self.columns if each.name == name), None)

    @property
    def classes(self) -> dict[str, dict[str, int]]:
        """The number of samples of each class in each split; empty if the label has no classes."""
        column = self.column(self.label) if self.label else None
        if column is None or any(each.values is None for each in column.splits.values()):
            return {}
        names = {name: None for each in column.splits.values() for name in each.values or {}}
        return {
            name: {split: (each.values or {}).get(name, 0) for split, each in column.splits.items()} for name in names
        }


def read_overview(text: str | bytes, *, where: str) -> Overview:
    """Parse an overview. Raise `DocumentError` if it is invalid."""
    return parse_json(text, Overview, where=where, whole=LARGEST_WHOLE)


class ColumnChange(Document):
    """The difference between the values of a column in two versions, in one split."""

    column: str
    split: str
    before: ColumnValues | None
    """`None` if the version lacks the column or the split."""
    after: ColumnValues | None

    @property
    def added(self) -> list[str]:
        """The counted values that only the later version has."""
        return _others(self.after, self.before)

    @property
    def removed(self) -> list[str]:
        """The counted values that only the earlier version has."""
        return _others(self.before, self.after)


def _others(one: ColumnValues | None, other: ColumnValues | None) -> list[str]:
    if one is None or other is None or one.values is None or other.values is None:
        return []
    return [name for name in one.values if name not in other.values]


def changed_columns(before: Overview, after: Overview) -> Iterator[ColumnChange]:
    """Yield each column and split with a different range, set of values, number of distinct values or number of missing values."""
    names = {each.name: None for overview in (before, after) for each in overview.columns}
    for name in names:
        one, other = before.column(name), after.column(name)
        splits = {split: None for each in (one, other) if each for split in each.splits}
        for split in splits:
            pair = (one.splits.get(split) if one else None, other.splits.get(split) if other else None)
            if _shown(pair[0]) != _shown(pair[1]):
                yield ColumnChange(column=name, split=split, before=pair[0], after=pair[1])


def _shown(values: ColumnValues | None) -> object:
    if values is None:
        return None
    return (
        values.low,
        values.high,
        values.missing,
        values.different,
        None if values.values is None else {*values.values},
    )


class RowChanges(Document):
    """The samples of one split that differ between two versions."""

    before: Count
    after: Count
    """The number of samples of the split in each version."""
    added: Count = 0
    removed: Count = 0
    changed: Count = 0
    """Samples with an equal key and other values."""
    moved_in: Count = 0
    """Samples that the earlier version has only in other splits."""
    moved_out: Count = 0
    """Samples that the later version has only in other splits."""
    changed_columns: dict[str, Count] = {}
    """The number of changed samples in which a column differs."""


class ValueChanges(Document):
    """The difference between the values of two versions."""

    key: str | None = None
    """The column that identifies a sample; `None` if samples are identified by all of their values."""
    rows: dict[str, RowChanges] = {}
    columns_added: tuple[str, ...] = ()
    columns_removed: tuple[str, ...] = ()
    columns: tuple[ColumnChange, ...] = ()
    categories: dict[str, tuple[str, ...]] = {}
    """The declared categories of each column that only the later version has, in the order of their codes."""
    compared: tuple[str, ...] = ()
    """The data that was compared, and the data that was not."""
