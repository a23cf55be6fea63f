"""New rows of a table as strings: JSON values as a file would have them, and missing values as empty strings.

A row in JSON and the same row in a file get equal predictions: `null` is an empty cell, and a number or a boolean is the category that it
spells.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trainer.base.errors import DatasetError
from trainer.base.suggestions import type_with_article
from trainer.data.tables.cells import MISSING, number_of
from trainer.data.tables.text_rows import TextBlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trainer.data.reader import Treatment
    from trainer.data.tables.source_table import SourceColumn, SourceTable


def rows_as_texts(
    rows: Sequence[Mapping[str, Any]],
    source: SourceTable,
    treatments: Mapping[str, Treatment],
    *,
    needed: Sequence[str],
) -> tuple[list[str], TextBlock]:
    """Return the column names of rows, and their cells. Raise `DatasetError` for a row without a needed column."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    for number, row in enumerate(rows):
        if lacking := next((name for name in needed if name in names and name not in row), None):
            message = f"row {number} has no column {lacking!r}"
            raise DatasetError(message, hint=f'null is a missing value: {{"{lacking}": null}}')
    written = {name: _Written(name, source.columns.get(name), treatments.get(name), source) for name in names}
    columns = [tuple(written[name].text(row.get(name), number) for number, row in enumerate(rows)) for name in names]
    return names, TextBlock(lines=list(range(len(rows))), columns=columns)


def with_empty_missing(
    blocks: Iterable[TextBlock], names: Sequence[str | None], source: SourceTable, treatments: Mapping[str, Treatment]
) -> Iterator[TextBlock]:
    """Yield blocks whose missing values, in the usual spellings and those of the published file, are empty strings.

    `names` has the name of each column, or `None` for a column that is not read.
    """
    for block in blocks:
        columns = [
            cells if name is None else _with_empty(cells, source, source.columns.get(name), treatments.get(name))
            for name, cells in zip(names, block.columns, strict=True)
        ]
        yield TextBlock(lines=block.lines, columns=columns)


def _with_empty(
    cells: Sequence[str], source: SourceTable, column: SourceColumn | None, treatment: Treatment | None
) -> tuple[str, ...]:
    missing, known = _spellings(source, column), frozenset(treatment.values if treatment else ())
    return tuple("" if (text := cell.strip()).lower() in missing and text not in known else cell for cell in cells)


def _spellings(source: SourceTable, column: SourceColumn | None) -> frozenset[str]:
    """Return the spellings of a missing value in a column, in lower case. A text column of a typed format has only declared spellings."""
    is_text = source.format != "csv" and column is not None and column.type == "text"
    usual = frozenset({""}) if is_text else MISSING
    return usual.union(each.lower() for each in source.missing) - {each.strip().lower() for each in source.values}


@dataclass(frozen=True)
class _Written:
    """How JSON values are written in one column."""

    name: str
    column: SourceColumn | None
    treatment: Treatment | None
    source: SourceTable

    def text(self, value: Any, row: int) -> str:
        """Return a value as the text of a cell. In a column of whole numbers, 2.0 is `2`. Raise `DatasetError` for a list or an object."""
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if not isinstance(value, bool | int | float):
            message = (
                f"row {row}, column {self.name!r} is {type_with_article(value)}; expected a string, a number or null"
            )
            raise DatasetError(message, hint="send one value for each column")
        is_whole = self.column is not None and self.column.type == "whole"
        plain = str(int(value)) if is_whole and isinstance(value, float) and value.is_integer() else str(value)
        return self._category(value, str(value).lower() if isinstance(value, bool) else plain)

    def _category(self, value: float, plain: str) -> str:
        """Return the category that spells a number or a boolean, if exactly one category does; else `plain`."""
        if self.treatment is None or plain in self.treatment.values:
            return plain
        found = self._booleans if isinstance(value, bool) else self._numbers
        return found.get(value, plain)

    @cached_property
    def _booleans(self) -> dict[float, str]:
        words = {"true": True, "false": False}
        return self._spelled((words[each.lower()], each) for each in self._values if each.lower() in words)

    @cached_property
    def _numbers(self) -> dict[float, str]:
        return self._spelled(self._pairs())

    def _pairs(self) -> Iterator[tuple[float, str]]:
        for each in self._values:
            with suppress(ValueError):
                yield number_of(each, decimal=self.source.decimal, thousands=self.source.thousands), each

    @property
    def _values(self) -> tuple[str, ...]:
        return self.treatment.values if self.treatment else ()

    @staticmethod
    def _spelled(pairs: Iterable[tuple[float, str]]) -> dict[float, str]:
        """Return the text of each value that exactly one text spells."""
        found = list(pairs)
        counts = Counter(value for value, _ in found)
        return {value: text for value, text in found if counts[value] == 1}
