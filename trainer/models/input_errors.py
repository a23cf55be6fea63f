"""Errors about the input files of a net, in the user's terms: the user's file, its lines, and no options of `reprise data publish`.

Inputs are read by the code that reads a dataset. Its errors name the temporary file of the rows, and its hints are for the author of the
dataset.
"""

from __future__ import annotations

import os
import re
from array import array
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from trainer.data.reader import ImagesReader
    from trainer.data.tables.source_table import SourceTable
    from trainer.data.tables.text_rows import TextBlock

ROWS: Final = "rows.parquet"
"""The temporary file of the rows of a table."""
_ROW: Final = re.compile(rf"\Arow (\d+)(?= of column .* of {re.escape(ROWS)})", re.DOTALL)
_FOR_AUTHORS: Final = re.compile(r"(?<![\w-])--[a-z]|\bpublish\b")
"""A hint for the author of the dataset: it names an option, or says to publish."""


@dataclass(slots=True)
class RowNames:
    """The blocks of a table, which are yielded once, and the line of each yielded row."""

    blocks: Iterable[TextBlock]
    unit: str = "line"
    lines: array[int] = field(default_factory=lambda: array("q"))

    def __iter__(self) -> Iterator[TextBlock]:
        """Yield the blocks."""
        for block in self.blocks:
            self.unit = block.unit
            self.lines.extend(block.lines)
            yield block

    @contextmanager
    def in_errors(self, file: Path) -> Iterator[None]:
        """Replace a row of the temporary file in an error of the block with its line of the user's file."""
        try:
            yield
        except DatasetError as fault:
            message = _ROW.sub(lambda row: f"{self.unit} {self.lines[int(row[1])]}", fault.message)
            raise DatasetError(message.replace(ROWS, os.fspath(file)), hint=fault.hint) from fault


@contextmanager
def input_errors(hint: str | None = None, *, replaced: Mapping[str, str] | None = None) -> Iterator[None]:
    """Replace texts in an error of the block, and a hint for the author of the dataset with `hint`."""
    try:
        yield
    except DatasetError as fault:
        message = fault.message
        for old, new in (replaced or {}).items():
            message = message.replace(old, new)
        is_other = hint is not None and _FOR_AUTHORS.search(fault.hint or "")
        raise DatasetError(message, hint=hint if is_other else fault.hint) from fault


def table_hint(source: SourceTable) -> str:
    """Return the hint for a file that is not read as the published table was."""
    form: list[str] = [{"json-lines": "JSON lines", "parquet": "Parquet", "arrow": "Arrow"}.get(source.format, "CSV")]
    if source.format == "csv":
        form += [source.encoding.upper(), f"the delimiter {source.delimiter!r}"]
        form += [f"the quote {source.quote}"] if source.quote not in {"", '"'} else []
        form += ["column names in line 1" if source.header else "no column names"]
        form += ["a decimal comma"] if source.decimal == "," else []
        form += [f"the thousands separator {source.thousands!r}"] if source.thousands else []
    return f"correct it: the file is read as {source.file} was: {', '.join(form)}"


def picture_hint(reader: ImagesReader, *, dataset: str) -> str:
    """Return the hint for a picture that is not read as the pictures of a dataset were."""
    size = f", {reader.size[0]}x{reader.size[1]} pixels" if reader.size and not reader.resize else ""
    return f"convert it to a PNG picture like those of {dataset}: mode {reader.mode}{size}"
