"""Detect the encoding, delimiter and header of a delimited text file from its first MiB. An ambiguous property is an error."""

from __future__ import annotations

import codecs
import csv
import io
import re
import shlex
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError
from trainer.base.plain_text import likely_utf_16
from trainer.base.suggestions import short
from trainer.data.tables.cells import MISSING, kind_of
from trainer.data.tables.text_rows import Dialect, decoding_fault

if TYPE_CHECKING:
    from pathlib import Path

DELIMITERS: Final = (",", ";", "\t", "|")
_SAMPLE: Final = 1 << 20
_ROWS: Final = 1000
_NAMES: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PACKED: Final = {"gzip": b"\x1f\x8b", "zip": b"PK\x03\x04", "xz": b"\xfd7zXZ\0", "zstd": b"\x28\xb5\x2f\xfd"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectOptions:
    """The properties that the user or an earlier version declares; a property that is `None` is detected."""

    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    """Empty if the file has no quotes."""
    header: bool | None = None


def detect_dialect(path: Path, options: DialectOptions) -> Dialect:
    """Return the dialect of a file. Raise `DatasetError` if a property is ambiguous, with the option that declares it."""
    with path.open("rb") as file:
        raw = file.read(_SAMPLE)
        is_whole = not file.read(1)
    encoding = options.encoding or _encoding(raw, path)
    text = _decoded(raw, encoding, path, is_whole=is_whole)
    if found := re.match(r'"?sep=(.)"?[\r\n]', text):
        message = f"{path.name}, line 1: {found[0].strip()!r} is a directive for spreadsheet programs; expected the column names"
        command = f": tail -n +2 {shlex.quote(str(path))} > NEW.csv" if "\n".encode(encoding) == b"\n" else ""
        raise DatasetError(message, hint=f"remove line 1{command}")
    quote = '"' if options.quote is None else options.quote
    delimiter = options.delimiter or _delimiter(text, quote, path)
    rows = _split(text, delimiter, quote, is_whole=is_whole)
    if options.quote is None:
        _require_no_other_quotes(rows[0] if rows else [], path)
    header = options.header if options.header is not None else _has_header(rows, path)
    return Dialect(encoding=encoding, delimiter=delimiter, quote=quote, header=header)


def _require_no_other_quotes(first: list[str], path: Path) -> None:
    """Raise `DatasetError` if every cell of the first row is in quotes other than `"`."""
    cells = [cell.strip() for cell in first]
    for start, end in ("''", "``", "\u2018\u2019", "\u201c\u201d"):
        if cells and all(len(cell) > 1 and cell[0] == start and cell[-1] == end for cell in cells):
            message = f'{path.name}, line 1: every value is in the quotes {start}{end}; expected " or no quotes'
            declare = f"--quote {shlex.quote(start)}" if start == end else "replace them in the file"
            raise DatasetError(message, hint=f"{declare}; if they belong to the values: --quote '\"'")


def _encoding(raw: bytes, path: Path) -> str:
    if not raw:
        raise DatasetError(f"{path.name} is empty", hint="publish a file with a header and rows")
    if packed := next((name for name, mark in _PACKED.items() if raw.startswith(mark)), None):
        raise DatasetError(f"{path.name} is compressed ({packed}); expected text", hint="unpack it first")
    if found := next((name for mark, name in _MARKS if raw.startswith(mark)), None):
        return found
    if b"\0" in raw:
        kind = likely_utf_16(raw).lower().replace("utf-16", "utf-16-")
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        hint = f"it seems to be UTF-16 without a byte order mark: --encoding {kind}" if kind else "remove it"
        raise DatasetError(f"{path.name}, line {line}: a NUL character; expected text", hint=hint)
    return "utf-8"


def _decoded(raw: bytes, encoding: str, path: Path, *, is_whole: bool) -> str:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(raw, final=is_whole)
    except LookupError as fault:
        raise DatasetError(f"unknown encoding {short(encoding)!r}", hint="for example --encoding cp1252") from fault
    except UnicodeError as fault:
        raise decoding_fault(path, encoding) from fault
    return text.removeprefix("\ufeff")


def _delimiter(text: str, quote: str, path: Path) -> str:
    """Return the delimiter that splits the most rows into as many cells as the first row.

    Raise `DatasetError` if no delimiter splits the first row, or if two delimiters fit equally well.
    """
    found: dict[str, float] = {}
    for delimiter in DELIMITERS:
        rows = _split(text, delimiter, quote, is_whole=False) or _split(text, delimiter, quote, is_whole=True)
        if rows and len(rows[0]) > 1:
            found[delimiter] = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
    if not found:
        message = f"{path.name}: no delimiter in line 1; expected a comma, a semicolon, a tab or a pipe between columns"
        raise DatasetError(message, hint="--delimiter CHARACTER; a table needs at least two columns")
    best = [each for each, share in found.items() if share == max(found.values())]
    if len(best) > 1:
        names = " and ".join(_NAMES[each] for each in best)
        raise DatasetError(f"{path.name}: {names} each split line 1 into columns", hint=f"--delimiter '{best[0]}'")
    return best[0]


def _split(text: str, delimiter: str, quote: str, *, is_whole: bool) -> list[list[str]]:
    """Return the first rows, up to a row that cannot be split. The last row is left out if the text may end within it."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
    )
    rows: list[list[str]] = []
    try:
        for row in reader:
            if row:
                rows.append(row)
            if len(rows) > _ROWS:
                return rows
    except csv.Error:  # `read_rows` reads the file again and raises an error with the line
        return rows
    return rows if is_whole else rows[:-1]


def _has_header(rows: list[list[str]], path: Path) -> bool:
    """Return whether the first row has the names of columns. Raise `DatasetError` if it may have names or values."""
    first, others = [cell.strip() for cell in rows[0]], rows[1:]
    kinds = [_kind(cell) for cell in first]
    below = [{_kind(row[at]) for row in others if at < len(row)} - {""} for at in range(len(first))]
    values = [{row[at].strip() for row in others if at < len(row)} for at in range(len(first))]
    if _are_consecutive(first):  # years, or pandas's default names 0, 1, 2, ...
        raise _unclear_header(path, first[0])
    if others and all(kind != "text" for kind in kinds):
        return False
    typed = [at for at in range(len(first)) if below[at] and "text" not in below[at]]
    if typed and all(kinds[at] not in {"text", ""} for at in typed):
        return False
    is_name = all(kind == "text" or (not kind and not cell) for kind, cell in zip(kinds, first, strict=True))
    repeated = next((cell for cell, each in zip(first, values, strict=True) if cell and cell in each), None)
    if is_name and repeated is None:
        return True
    odd = repeated or next((cell for cell, kind in zip(first, kinds, strict=True) if kind != "text"), "")
    raise _unclear_header(path, odd)


def _unclear_header(path: Path, cell: str) -> DatasetError:
    message = f"{path.name}, line 1: {short(cell)!r} may be the name of a column or a value"
    return DatasetError(message, hint="--header yes if line 1 has the names of columns, else --header no")


def _are_consecutive(cells: list[str]) -> bool:
    """Return whether cells are consecutive whole numbers."""
    if any(_kind(cell) != "whole" for cell in cells):
        return False
    return all(int(after) - int(before) == 1 for before, after in pairwise(cells))


def _kind(cell: str) -> str:
    """Return the kind of a cell; empty for a missing value."""
    cell = cell.strip()
    return "" if cell.lower() in MISSING else kind_of(cell)
