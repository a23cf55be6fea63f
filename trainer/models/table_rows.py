"""New rows of a table as strings: JSON values as a file would have them, and missing values as empty strings.

A row in JSON and the same row in a file get equal predictions: a string is the text of a cell, `null` is an empty cell, a number is itself
in each notation, and a number or a boolean is the category that it spells.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError
from trainer.base.suggestions import short, type_with_article
from trainer.data.tables.cells import MISSING, kind_of, number_of, number_text
from trainer.data.tables.column_types import NumberFormat
from trainer.data.tables.json_rows import Number
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
    """Return the column names of rows, and their cells. Raise `DatasetError` for a row without a needed column.

    Rows are numbered from 1.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    for number, row in enumerate(rows, start=1):
        if lacking := next((name for name in needed if name in names and name not in row), None):
            message = f"row {number} has no column {lacking!r}"
            raise DatasetError(message, hint=f'null is a missing value: {{"{lacking}": null}}')
    cells = {name: _Cells(name, source.columns.get(name), treatments.get(name), source) for name in names}
    columns = [
        tuple(cells[name].of_value(row.get(name), number) for number, row in enumerate(rows, start=1)) for name in names
    ]
    return names, TextBlock(lines=list(range(1, len(rows) + 1)), columns=columns, unit="row")


def readable_blocks(
    blocks: Iterable[TextBlock],
    names: Sequence[str | None],
    source: SourceTable,
    treatments: Mapping[str, Treatment],
    *,
    file: str,
) -> Iterator[TextBlock]:
    """Yield blocks whose missing values, in the usual spellings and those of the published file, are empty strings.

    `names` has the name of each column, or `None` for a column that is not read. Raise `DatasetError`, naming `file`, for a text in a
    column of numbers that is not a number in the notation of the published file.
    """
    columns = [
        None if name is None else _Cells(name, source.columns.get(name), treatments.get(name), source) for name in names
    ]
    for block in blocks:
        read = [
            cells if column is None else column.of_texts(cells)
            for column, cells in zip(columns, block.columns, strict=True)
        ]
        for column, cells in zip(columns, read, strict=True):
            if column is not None:
                column.require_numbers(cells, block, file=file)
        yield TextBlock(lines=block.lines, columns=read, unit=block.unit)


_EXACT: Final = 2.0**53
"""Beyond this number, float64 makes different integers equal."""


@dataclass(frozen=True)
class _Cells:
    """The cells of one column."""

    name: str
    column: SourceColumn | None
    treatment: Treatment | None
    source: SourceTable

    def of_value(self, value: Any, row: int) -> str:
        """Return a JSON value as the text of a cell. Raise `DatasetError` for a list or an object."""
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if not isinstance(value, bool | int | float):
            message = (
                f"row {row}, column {self.name!r} is {type_with_article(value)}; expected a string, a number or null"
            )
            raise DatasetError(message, hint="send one value for each column")
        if isinstance(value, bool):
            return self._category(value, str(value).lower())
        if self._is_whole and isinstance(value, float) and value.is_integer():
            return self._category(value, str(int(value)))
        return self._category(value, number_text(value, decimal=self.source.decimal) if self._is_number else str(value))

    def of_texts(self, cells: Sequence[str]) -> tuple[str, ...]:
        """Return cells of a file without whitespace around them; missing values are empty. In a column of whole numbers, 2.0 is `2`."""
        texts = {cell: self._of_text(cell) for cell in dict.fromkeys(cells)}
        return tuple(map(texts.__getitem__, cells))

    def _of_text(self, cell: str) -> str:
        text = cell.strip()
        if text in self._known:
            return text
        if text.lower() in self._missing:
            return ""
        if self._is_whole and (found := self._without_fraction.fullmatch(text)):
            text = found[1]
        return self._category(float(cell), text) if isinstance(cell, Number) else text

    def require_numbers(self, cells: Sequence[str], block: TextBlock, *, file: str) -> None:
        """Raise `DatasetError` for the first text that is not a number in the file's notation, such as `1.5` among decimal commas."""
        if not self._is_number:
            return
        for cell in dict.fromkeys(cells):
            if cell and not self._reads_as_number(cell):
                where = f"{file}, {block.unit} {block.lines[cells.index(cell)]}, column {self.name!r}"
                expected = "an integer" if self._is_whole else f"a number such as {self._example}"
                message = f"{where}: expected {expected}, found {short(cell)!r}"
                raise DatasetError(message, hint=f"write it as {self.source.file} has its numbers")

    def _reads_as_number(self, text: str) -> bool:
        """Return whether a text is a number that cannot have another value: publishing accepts it, or it has no separator."""
        kind = kind_of(text)
        return kind in self._kinds or (kind == "dotted" and "." not in text)

    @cached_property
    def _kinds(self) -> frozenset[str]:
        numbers = NumberFormat(decimal=self.source.decimal, thousands=self.source.thousands)
        return numbers.kinds | {"padded", "power"}

    @property
    def _example(self) -> str:
        decimal, thousands = self.source.decimal, self.source.thousands
        return f"1234{decimal}5" + (f" or 1{thousands}234{decimal}5" if thousands else "")

    @property
    def _is_number(self) -> bool:
        return self.column is not None and self.column.read == "number"

    @property
    def _is_whole(self) -> bool:
        return self.column is not None and self.column.type == "whole"

    @cached_property
    def _without_fraction(self) -> re.Pattern[str]:
        """The pattern of a whole number with zeros after the decimal sign."""
        decimal, thousands = re.escape(self.source.decimal), re.escape(self.source.thousands)
        return re.compile(rf"([+-]?\d[\d{thousands}]*){decimal}0+", re.ASCII)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self._values)

    @cached_property
    def _missing(self) -> frozenset[str]:
        """The spellings of a missing value, in lower case. A text column of a typed format has only declared spellings."""
        is_text = self.source.format != "csv" and self.column is not None and self.column.type == "text"
        usual = frozenset({""}) if is_text else MISSING
        declared = (each.lower() for each in self.source.missing)
        return usual.union(declared) - {each.strip().lower() for each in self.source.values}

    def _category(self, value: float, plain: str) -> str:
        """Return the category that spells a number or a boolean, if exactly one category does; else `plain`."""
        if self.treatment is None or plain in self.treatment.values or abs(value) >= _EXACT:
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
