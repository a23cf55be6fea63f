"""Tables: a sample is one row of Parquet files; its fields are columns, or vectors of columns, of declared types.

A field of one column is `[]` a sample and `[batch]` a batch; of k columns `[k]` and `[batch, k]`. A missing value is NaN in a float field,
and refused in any other.

Only columns that are declared are decoded, a row group at a time, and `HELD` bytes of decoded groups are kept: memory does not grow with
the table. Shuffled reading decodes a group again when it was let go meanwhile: row groups of 10,000 to 100,000 rows are a good size.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from trainer.data.parquet import foot_start, read_foot
from trainer.data.splits import Layout
from trainer.errors import DatasetError
from trainer.suggest import did_you_mean
from trainer.training.readers.samples import Batch, Pick, Sample, Samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.files import Files
    from trainer.data.reader import Column, Table

HELD: Final = 64 << 20
"""Bytes of decoded row groups that a process keeps; one group at least, whatever its size."""

Fields = dict[str, np.ndarray[Any, Any]]


class TableRows(Samples):
    """The rows of some Parquet files, one file after the other."""

    def __init__(self, reader: Table, files: Files) -> None:
        """Read the files' feet. Raises `DatasetError` where one is damaged, or lacks a column."""
        self._reader, self._files = reader, files
        ends = list(accumulate(self._rows(path) for path in reader.files))
        self._layout = Layout(count=ends[-1], files=reader.files, ends=ends)

    def __len__(self) -> int:
        """The number of rows."""
        return self._layout.count

    @property
    def layout(self) -> Layout:
        """A file holds many."""
        return self._layout

    def sample(self, pick: Pick) -> Sample:
        """One row."""
        return {field: values[0] for field, values in self.batch([pick]).items()}

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Several rows; each row group that holds one is decoded once."""
        groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for number, pick in enumerate(picks):
            file, row = self._layout.place(pick.index)
            group, inner = self._tables.place(file, row)
            groups.setdefault((file, group), []).append((number, inner))
        whole = {
            field: np.empty((len(picks), *_shape(each)), dtype=each.dtype)
            for field, each in self._reader.fields.items()
        }
        for (file, group), rows in groups.items():
            values = self._tables.group(file, group)
            numbers, inner_rows = zip(*rows, strict=True)
            for field, target in whole.items():
                target[list(numbers)] = values[field][list(inner_rows)]
        return {field: torch.from_numpy(values) for field, values in whole.items()}

    @cached_property
    def _tables(self) -> _Tables:
        return _Tables(self._reader, self._files)

    def _rows(self, path: str) -> int:
        """The rows of a file, from its foot, which also tells the columns."""
        view = self._files.view(path)
        self._files.require(path, foot_start(view, where=path))
        foot = read_foot(view, where=path)
        for name in (name for each in self._reader.fields.values() for name in each.names):
            if name not in foot.columns:
                hint = did_you_mean(name, foot.columns)
                raise DatasetError(f"{path} has no column {name!r} of plain values", hint=hint)
        return foot.rows


class _Tables:
    """Open files, and the row groups that were decoded last."""

    def __init__(self, reader: Table, files: Files) -> None:
        self._reader, self._files = reader, files
        self._open = [pq.ParquetFile(pa.BufferReader(pa.py_buffer(files.view(path)))) for path in reader.files]
        self._ends = [
            np.cumsum([_group(file, number).num_rows for number in range(file.num_row_groups)]) for file in self._open
        ]
        self._held: OrderedDict[tuple[int, int], Fields] = OrderedDict()

    def place(self, file: int, row: int) -> tuple[int, int]:
        ends = self._ends[file]
        group = int(np.searchsorted(ends, row, side="right"))
        return group, row - (int(ends[group - 1]) if group else 0)

    def group(self, file: int, number: int) -> Fields:
        key = (file, number)
        if key not in self._held:
            self._held[key] = self._decoded(file, number)
            while len(self._held) > 1 and sum(map(_bytes, self._held.values())) > HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]

    def _decoded(self, file: int, number: int) -> Fields:
        path = self._reader.files[file]
        names = sorted({name for each in self._reader.fields.values() for name in each.names})
        self._require(path, _group(self._open[file], number), set(names))
        try:
            table = self._open[file].read_row_group(number, columns=names, use_threads=False)
        except (pa.ArrowException, OSError) as fault:
            raise DatasetError(
                f"{path} cannot be decoded: {fault}", hint="write it again, and publish a new version"
            ) from fault
        return {field: _numbers(table, each, where=path) for field, each in self._reader.fields.items()}

    def _require(self, path: str, group: Any, names: set[str]) -> None:
        """Verify the bytes of the columns that are decoded next."""
        for number in range(group.num_columns):
            chunk = group.column(number)
            if chunk.path_in_schema in names:
                first = chunk.dictionary_page_offset or chunk.data_page_offset
                self._files.require(path, first, first + chunk.total_compressed_size)


def _numbers(table: pa.Table, column: Column, *, where: str) -> np.ndarray[Any, Any]:
    each = [_cast(table.column(name), column.dtype, where=f"column {name!r} of {where}") for name in column.names]
    return each[0] if isinstance(column.column, str) else np.stack(each, axis=1)


def _cast(values: pa.ChunkedArray, dtype: str, *, where: str) -> np.ndarray[Any, Any]:
    """Values as numbers of one type, without rounding integers and without wrapping around."""
    if values.null_count and not dtype.startswith("float"):
        raise DatasetError(
            f"{where} has {values.null_count:,} missing values; {dtype} has none for that", hint="declare a float dtype"
        )
    try:
        return np.ascontiguousarray(values.cast(pa.from_numpy_dtype(np.dtype(dtype))).to_numpy(), dtype=dtype)
    except pa.ArrowException as fault:
        raise DatasetError(f"{where} does not fit {dtype}: {fault}", hint="declare another dtype") from fault


def _group(file: pq.ParquetFile, number: int) -> Any:
    return file.metadata.row_group(number)


def _shape(column: Column) -> tuple[int, ...]:
    return () if isinstance(column.column, str) else (len(column.column),)


def _bytes(fields: Fields) -> int:
    return sum(values.nbytes for values in fields.values())
