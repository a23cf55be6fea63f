"""Label tables: CSV files with the columns `file` and `class`.

Reading is strict: an ambiguous line, or a line that would lose a picture or merge two classes, is an error with its number.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError
from trainer.base.plain_text import decode_text
from trainer.base.suggestions import nearest
from trainer.data.file_names import hint_for_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

COLUMNS: Final = ("file", "class")
_OTHER_DELIMITERS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}
_ALIKE: Final = {
    "file": ("filename", "file_name", "path", "image", "img", "name"),
    "class": ("label", "category", "target", "classes"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A picture's class, and its line in the table."""

    name: str
    line: int


def parse_labels(raw: bytes, *, where: str) -> dict[str, Label]:
    r"""Parse a label table. Raises `DatasetError` or `DocumentError` with the line.

    >>> parse_labels(b"file,class\n1.png,cat", where="labels.csv")["1.png"].name
    'cat'
    """
    rows = _rows(decode_text(raw, where=where), where=where)
    _, header = next(rows, (1, []))
    _check_header(header, where=where)
    file_at, class_at = (header.index(column) for column in COLUMNS)
    labels: dict[str, Label] = {}
    for line, row in rows:
        _check_row(row, header, at=f"{where}, line {line}")
        file, label = row[file_at], Label(name=row[class_at], line=line)
        if before := labels.get(file):
            also = "" if before.name == label.name else f", as {before.name!r} and as {label.name!r}"
            raise DatasetError(
                f"{where}, line {line}: {file!r} is already listed in line {before.line}{also}",
                hint="remove one of the lines",
            )
        labels[file] = label
    return labels


def check_listed(labels: Mapping[str, Label], known: Sequence[str], *, suffixes: tuple[str, ...], where: str) -> None:
    """Raise `DatasetError` if the table lists a file that is missing or is not a picture."""
    files = set(known)
    for file, label in labels.items():
        if file not in files:
            raise DatasetError(
                f"{where}, line {label.line}: {file!r} is not in the folder", hint=hint_for_path(file, files)
            )
        if not file.lower().endswith(suffixes):
            raise DatasetError(
                f"{where}, line {label.line}: {file!r} is not read as a picture", hint="convert it, or remove its line"
            )


def _rows(text: str, *, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield rows with the number of their first line; blank lines are ignored."""
    reader, line = csv.reader(io.StringIO(text), strict=True), 1
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():
                yield line, row
            line = reader.line_num + 1
    except csv.Error as fault:
        lines = f"line {line}" if line == reader.line_num else f"lines {line} to {reader.line_num}"
        hint = 'close every quotation mark; write one that is part of a value as ""'
        raise DatasetError(f"{where}, {lines}: not valid CSV: {fault}", hint=hint) from fault


def _check_header(header: list[str], *, where: str) -> None:
    repeated = next((name for name in header if header.count(name) > 1), None)
    if repeated is not None and repeated in COLUMNS:
        raise DatasetError(f"{where}, line 1: the column {repeated!r} is named twice", hint="rename one of them")
    if missing := [column for column in COLUMNS if column not in header]:
        raise DatasetError(
            f"{where}, line 1: expected the columns file and class, found {', '.join(map(repr, header[:6])) or 'nothing'}",
            hint=_hint_for_header(header, missing[0]),
        )


def _hint_for_header(header: list[str], missing: str) -> str:
    line = ",".join(header)
    for delimiter, name in _OTHER_DELIMITERS.items():
        if delimiter in line:
            return f"separate the columns by commas, not by {name}"
    alike = (name for name in header if name.strip().lower() in {missing, *_ALIKE[missing]})
    near = next(chain(alike, nearest(missing, header)), None)
    return f"rename the column {near!r} to {missing!r}" if near else "make its first line: file,class"


def _check_row(row: list[str], header: list[str], *, at: str) -> None:
    if len(row) != len(header):
        hint = 'put a value that contains a comma between quotation marks: "a,b"'
        if len(row) < len(header):
            hint = "fill in the line, or remove it"
        values = "1 value" if len(row) == 1 else f"{len(row)} values"
        raise DatasetError(f"{at}: expected {len(header)} values, found {values}", hint=hint)
    for column in COLUMNS:
        value = row[header.index(column)]
        if not value.strip():
            raise DatasetError(f"{at}: the {column} is empty", hint="fill it in, or remove the line")
        if column == "class" and value != value.strip():
            raise DatasetError(f"{at}: the class {value!r} begins or ends with a blank", hint=f"write {value.strip()}")
