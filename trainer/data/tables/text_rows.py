"""The rows of a delimited text file as columns of strings, in blocks, with the line number of each row.

Quoting is strict (RFC 4180): an unclosed quote or text after a closing quote is an error with its line, never a longer field.
"""

from __future__ import annotations

import codecs
import csv
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, TextIO

from trainer.base.errors import DatasetError
from trainer.base.suggestions import counted, short

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS: Final = 1 << 16
"""Maximum number of rows of a block, and of a row group of the published file."""
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a delimited file is split into cells."""

    encoding: str
    delimiter: str
    quote: str = '"'
    """The quote character; empty if the file has no quotes."""
    header: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBlock:
    """A block of rows: a tuple of strings for each column, and the line in which each row begins."""

    lines: list[int]
    """The lines, or the numbers of the rows from 1 if the rows are not lines of a text."""
    columns: list[tuple[str, ...]]
    unit: Literal["line", "row"] = "line"
    """What `lines` counts."""


def open_text(path: Path, encoding: str) -> TextIO:
    """Open a file without converting its line ends; a byte order mark is not part of the text."""
    return path.open(encoding={"utf-8": "utf-8-sig"}.get(encoding, encoding), newline="")


def read_rows(path: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank with the line in which it begins.

    Raise `DatasetError` with the line if a row cannot be split into cells or decoded.
    """
    with open_text(path, dialect.encoding) as text:
        rows = csv.reader(
            text,
            delimiter=dialect.delimiter,
            quotechar=dialect.quote or None,
            quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
            strict=True,
        )
        line = 1
        try:
            for row in rows:
                if row:
                    yield line, row
                line = rows.line_num + 1
        except csv.Error as fault:
            raise _split_fault(path, line, rows.line_num, fault, dialect) from fault
        except UnicodeError as fault:
            raise decoding_fault(path, dialect.encoding) from fault


def header_of(path: Path, dialect: Dialect) -> list[str]:
    """Return the column names: the cells of the first row, or `column_1` and so on if the file has no header or a cell is empty.

    Raise `DatasetError` if the file has no rows, if two columns have the same name, or if a name has a control character.
    """
    _, first = next(read_rows(path, dialect), (0, []))
    if not first:
        raise DatasetError(f"{path.name} has no rows", hint="publish a file with a header and rows")
    numbered = [f"column_{number}" for number in range(1, len(first) + 1)]
    if not dialect.header:
        return numbered
    names = [name.strip() or number for name, number in zip(first, numbered, strict=True)]
    for at, name in enumerate(names):
        if name in names[:at]:
            message = (
                f"{path.name}, line 1: columns {names.index(name) + 1} and {at + 1} are both named {short(name)!r}"
            )
            raise DatasetError(message, hint="rename one of them in line 1")
        if not name.isprintable():
            message = (
                f"{path.name}, line 1: the name of column {at + 1} is {short(repr(name))}, with a control character"
            )
            raise DatasetError(message, hint="rename it in line 1")
    return names


def text_blocks(path: Path, dialect: Dialect, *, columns: int) -> Iterator[TextBlock]:
    """Yield all rows below the header in blocks of `ROWS`.

    Raise `DatasetError` if a row does not have `columns` cells, or repeats the header.
    """
    rows = read_rows(path, dialect)
    head = next(rows)[1] if dialect.header else None
    while some := list(islice(rows, ROWS)):
        if any(len(row) != columns for _, row in some):
            line, row = next((line, row) for line, row in some if len(row) != columns)
            raise _ragged(path, line, row, columns, dialect)
        if repeated := next((line for line, row in some if row == head), None):
            message = f"{path.name}, line {repeated}: the row repeats the column names of line 1"
            raise DatasetError(message, hint=f"remove line {repeated}: several files were joined")
        lines, cells = zip(*some, strict=True)
        yield TextBlock(lines=list(lines), columns=list(zip(*cells, strict=True)))


def _ragged(path: Path, line: int, row: list[str], columns: int, dialect: Dialect) -> DatasetError:
    extra = f"the first extra cell is {short(row[columns])!r}" if len(row) > columns else "cells are missing at its end"
    message = f"{path.name}, line {line}: {counted(len(row), 'cell')}; expected {columns}, as in line 1; {extra}"
    quote = f", or put a value that contains {dialect.delimiter!r} in quotes" if len(row) > columns else ""
    return DatasetError(message, hint=f"correct line {line}{quote}")


def _split_fault(path: Path, first: int, last: int, fault: csv.Error, dialect: Dialect) -> DatasetError:
    where, said = f"{path.name}, line {first}", str(fault)
    if "field larger" in said:
        message = f"{where}: a value has more than {csv.field_size_limit():,} characters, or a quote ({dialect.quote}) is not closed"
        return DatasetError(
            message, hint="close or double the quote; publish long texts as files, with --lines or --text"
        )
    if "unexpected end" in said:
        message = f"{where}: a quote ({dialect.quote}) opens a value and is not closed until line {last}"
        return DatasetError(message, hint="close or double the quote; if quotes are ordinary letters: --quote none")
    if "expected after" in said:
        message = f"{where}: text follows a closing quote ({dialect.quote})"
        return DatasetError(
            message, hint="double each quote inside a value; if quotes are ordinary letters: --quote none"
        )
    return DatasetError(f"{where} cannot be split into cells: {said}", hint=f"correct line {first}")


def decoding_fault(path: Path, encoding: str) -> DatasetError:
    """Return the error for a file that is not valid in its encoding, with the line of the first invalid byte."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    with path.open("rb") as file:
        try:
            while block := file.read(_BLOCK):
                line += decoder.decode(block).count("\n")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as fault:
            line += fault.object[: fault.start].count(b"\n")
            byte = fault.object[fault.start : fault.start + 1].hex()
            message = f"{path.name}, line {line}: the byte 0x{byte} is not {encoding.upper()}"
            return DatasetError(message, hint="if a Windows program wrote it: --encoding cp1252; else --encoding NAME")
    return DatasetError(f"{path.name} is not {encoding.upper()}", hint="declare the file's encoding: --encoding NAME")
