"""The values of a column of Parquet files as strings, for splits by a column."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainer.base.errors import DatasetError
from trainer.data.file_formats import footer_start, read_footer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.data.files import Files


def column_texts(name: str, *, files: Files, paths: Sequence[str]) -> Iterator[str | None]:
    """Yield the value of every row, `None` if it is missing. Raise `DatasetError` if the column is missing or not readable as text."""
    arrow: Any = import_module("pyarrow")  # imported late, because most hosts do not have pyarrow
    parquet: Any = import_module("pyarrow.parquet")
    for path in paths:
        files.require(path)
        view = files.view(path)
        footer_start(view, where=path)
        read_footer(view, where=path).require([name], where=path)
        try:
            opened = parquet.ParquetFile(arrow.BufferReader(arrow.py_buffer(view)))
            for batch in opened.iter_batches(columns=[name], use_threads=False):
                yield from batch.column(0).cast(arrow.string()).to_pylist()
        except (arrow.ArrowException, OSError, ValueError) as fault:
            message = f"column {name!r} of {path} cannot be read as text: {str(fault).partition(chr(10))[0]}"
            raise DatasetError(message, hint="choose a column of text or integers") from fault
