"""The rows of a Parquet or an Arrow file as columns of strings; the line of a row is its number, from 1."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError
from trainer.base.suggestions import short
from trainer.data.tables.text_rows import ROWS, TextBlock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MARKS: Final = {b"PAR1": "Parquet", b"ARROW1": "Arrow", b"\xff\xff\xff\xff": "Arrow"}
"""The first bytes of files, by format; an Arrow stream has no name in its mark."""


def arrow_columns(path: Path) -> tuple[list[str], frozenset[str]]:
    """Return the names of all columns, and of the text columns.

    Raise `DatasetError` if two columns have the same name, or a column has lists, structures, bytes or durations.
    """
    with _opened(path) as (_, schema):
        arrow: Any = import_module("pyarrow")
        for at, field in enumerate(schema):
            if field.name in schema.names[:at]:
                raise DatasetError(
                    f"{path.name} has several columns named {short(field.name)!r}", hint="rename all but one"
                )
            kind = _plain(arrow, field.type)
            if arrow.types.is_nested(kind) or "binary" in str(kind) or arrow.types.is_duration(kind):
                message = f"{path.name}, column {field.name!r}: expected numbers, text or dates, found {field.type}"
                raise DatasetError(message, hint="write the column as numbers or text, or remove it from the file")
        if not len(schema):
            raise DatasetError(f"{path.name} has no columns", hint="write a table with columns")
        texts = (field.name for field in schema if "string" in str(_plain(arrow, field.type)))
        return list(schema.names), frozenset(texts)


def arrow_blocks(path: Path) -> Iterator[TextBlock]:
    """Yield all rows in blocks of `ROWS`; missing values are empty strings."""
    arrow: Any = import_module("pyarrow")
    with _opened(path) as (batches, schema):
        first = 1
        for batch in batches:
            for start in range(0, batch.num_rows, ROWS):
                part = batch.slice(start, ROWS)
                columns = [_texts(arrow, part.column(at), field.type) for at, field in enumerate(schema)]
                numbers = list(range(first, first + part.num_rows))
                yield TextBlock(lines=numbers, columns=columns, unit="row")
                first += part.num_rows


def _texts(arrow: Any, values: Any, kind: Any) -> tuple[str, ...]:
    """Return values as strings; NaN is a missing value, as in pandas."""
    plain = values.cast(_plain(arrow, kind))
    if arrow.types.is_floating(plain.type):
        compute: Any = import_module("pyarrow.compute")
        plain = compute.if_else(compute.is_nan(plain), None, plain)
    return tuple(plain.cast(arrow.string()).fill_null("").to_pylist())


def _plain(arrow: Any, kind: Any) -> Any:
    return kind.value_type if arrow.types.is_dictionary(kind) else kind


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Iterator[Any], Any]]:
    """Open a file; yield its record batches and its schema."""
    if find_spec("pyarrow") is None:
        message = f"{path.name}: reading it requires pyarrow, which is not installed"
        raise DatasetError(
            message,
            hint="write the table as CSV; or put a Parquet file into a folder, and publish the folder with --column",
        )
    arrow: Any = import_module("pyarrow")
    try:
        if path.suffix.lower() == ".parquet":
            with import_module("pyarrow.parquet").ParquetFile(path) as file:
                yield file.iter_batches(ROWS, use_threads=False), file.schema_arrow
        else:
            with arrow.OSFile(str(path)) as raw:
                opened = _ipc(arrow, raw)
                yield iter(opened), opened.schema
    except (arrow.ArrowException, OSError) as fault:
        raise DatasetError(f"{path.name} {_reason(path, fault)}", hint="write it again, as Parquet or CSV") from fault


def _reason(path: Path, fault: Exception) -> str:
    """Return the reason why pyarrow cannot read a file, from its first bytes."""
    if isinstance(fault, PermissionError | FileNotFoundError):
        return f"cannot be read: {os.strerror(fault.errno or 0)}"
    with path.open("rb") as file:
        begin = file.read(max(map(len, _MARKS)))
    kind = "Parquet" if path.suffix.lower() == ".parquet" else "Arrow"
    if not begin:
        return f"is empty; expected the format {kind}"
    if _MARKS.get(next((mark for mark in _MARKS if begin.startswith(mark)), b"")) != kind:
        return f"is not a file in the format {kind}"
    return f"is damaged, or has values that pyarrow cannot read from the format {kind}"


class _Batches:
    """The record batches of an Arrow file, which are read by number."""

    def __init__(self, reader: Any) -> None:
        self.reader, self.schema = reader, reader.schema

    def __iter__(self) -> Iterator[Any]:
        return (self.reader.get_batch(number) for number in range(self.reader.num_record_batches))


def _ipc(arrow: Any, raw: Any) -> Any:
    """Open an Arrow file (including Feather 2) or an Arrow stream."""
    ipc: Any = import_module("pyarrow.ipc")
    try:
        return _Batches(ipc.open_file(raw))
    except arrow.ArrowInvalid:
        raw.seek(0)
        return ipc.open_stream(raw)
