"""Tables: a sample is one row of Parquet files; its fields are columns, or vectors of columns, of declared types.

A field of one column has the shape `[]` in a sample and `[batch]` in a batch; a field of k columns has `[k]` and `[batch, k]`, with one
more number for each column that has an indicator of missing values. A missing value that the declaration does not replace is NaN in a float
field, and an error in other fields.

Only declared columns are decoded, one row group at a time, and up to `CACHED_BYTES` bytes of decoded groups are cached, so memory does not
grow with the table. Shuffled reading decodes an evicted group again: row groups of 10,000 to 100,000 rows are a good size.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from trainer.base.errors import DatasetError
from trainer.data.file_formats import footer_start, read_footer
from trainer.data.splits import Layout
from trainer.data.tables.column_values import column_texts
from trainer.training.readers.codes import Codes, codes_of
from trainer.training.readers.columns import (
    ColumnLocation,
    Numbers,
    Values,
    converted,
    is_text,
    no_number,
    require_numbers,
    text_fault,
)
from trainer.training.readers.samples import Batch, FileSamples, Pick, SampleBlock, fault_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.data.files import Files
    from trainer.data.inspection import Fault
    from trainer.data.reader import TableReader
    from trainer.training.readers.columns import Mask
    from trainer.training.readers.samples import Rows

CACHED_BYTES: Final = 64 << 20
"""Maximum bytes of decoded row groups that a process caches; one group is cached whatever its size."""
MOST_DECODED: Final = 2 << 30
"""Maximum bytes of one decoded row group: a file of kilobytes can contain a group of gigabytes."""
_ROWS: Final = 1 << 17
"""Number of rows that pyarrow decodes at once. Decoding stops early if a group has more rows than its footer states."""
_TEXTS: Final = 1 << 10
_AGAIN: Final = "write it again, and publish a new version"

Fields = dict[str, Values]


class TableRows(FileSamples):
    """The rows of some concatenated Parquet files."""

    def __init__(self, reader: TableReader, files: Files) -> None:
        """Read the footers. Raise `DatasetError` if a footer is damaged or lacks a declared column."""
        self._reader = reader
        ends = list(accumulate(_count_rows(files, path, reader) for path in reader.files))
        column = partial(column_texts, files=files, paths=reader.files)
        super().__init__(files, Layout(count=ends[-1], files=reader.files, ends=ends, column=column))

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Return several rows; each row group is decoded at most once. Raise `DatasetError` if a value does not fit its declared type."""
        rows_of: dict[int, list[tuple[int, int]]] = {}
        for number, pick in enumerate(picks):
            group_number, row = self._groups.layout.place(pick.index)
            rows_of.setdefault(group_number, []).append((number, row))
        types = self._reader.sample_types
        whole = {field: np.empty((len(picks), *shape), dtype=dtype) for field, (dtype, shape) in types.items()}
        for group_number, rows in rows_of.items():
            group = self._groups.group(group_number)
            numbers, inner_rows = (list(each) for each in zip(*rows, strict=True))
            group.require(inner_rows)
            for field, target in whole.items():
                target[numbers] = group.fields[field][inner_rows]
        return {field: torch.from_numpy(values) for field, values in whole.items()}

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the label's classes: the categories of the first column whose codes begin at 0."""
        columns = self._reader.columns.values()
        return next((each.values for each in columns if each.values and each.first == 0), ())

    def blocks(self, rows: Rows) -> Iterator[SampleBlock]:
        """Yield the rows by row group, each decoded once.

        A group that cannot be decoded is a fault of all its rows; a value that does not fit its type is a fault of its row only.
        """
        at = 0
        while at < len(rows):
            number, _ = self._groups.layout.place(int(rows[at]))
            span = self._groups.layout.span(number)
            end = int(np.searchsorted(rows, span.stop))
            some, at = rows[at:end], end
            try:
                group = self._groups.group(number)
            except DatasetError as fault:
                yield SampleBlock(rows=some, fault=fault_of(self._layout.files[self._groups.files[number][0]], fault))
            else:
                yield from self._separate_misfits(group, some, span.start)

    def _separate_misfits(self, group: _RowGroup, rows: Rows, first: int) -> Iterator[SampleBlock]:
        """Yield the rows that fit, with their values, and the other rows, with their faults; the group's first row is sample `first`."""

        def fault(row: int) -> Fault:
            return fault_of(self._layout.name_of(row), group.fault(row - first))

        bad = group.bad
        good = rows if bad is None else rows[~bad[rows - first]]
        if len(good):
            yield SampleBlock(rows=good, fields={field: each[good - first] for field, each in group.fields.items()})
        if bad is not None and len(good) < len(rows):
            yield SampleBlock(rows=rows[bad[rows - first]], fault=fault)

    @cached_property
    def _groups(self) -> _RowGroups:
        return _RowGroups(self._reader, self._files, self._layout)


def _count_rows(files: Files, path: str, reader: TableReader) -> int:
    """Read a file's footer and return the number of rows. Raise `DatasetError` if it is damaged or lacks a declared column."""
    foot = _foot(files, path)
    if not files.is_streamed:
        files.require(path, footer_start(foot, where=path))
    footer = read_footer(foot, where=path)
    for each in reader.fields.values():
        footer.require(each.names, where=path)
    return footer.rows


def _foot(files: Files, path: str) -> memoryview:
    """Return a view of a file. Of a streamed file, return only the first bytes and the footer, verified: pyarrow accepts them as a file."""
    if not files.is_streamed:
        return files.view(path)
    size = files.size(path)
    tail = bytes(files.read(path, max(0, size - 8), size))
    start = max(0, size - 8 - int.from_bytes(tail[:4], "little"))
    return memoryview(bytes(files.read(path, 0, min(start, 4))) + bytes(files.read(path, start, size)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowGroup:
    """The values of a row group, and the columns with values that do not fit their types."""

    first: int
    """The number of the first row in the file."""
    fields: Fields
    misfits: list[tuple[Numbers | Codes, ColumnLocation]]
    """The columns with a value that does not fit."""

    @property
    def bad(self) -> Mask | None:
        """Return the mask of the rows that do not fit; None if all rows fit."""
        masks: list[Any] = [column.bad for column, _ in self.misfits]
        return np.any(masks, axis=0) if masks else None

    @property
    def bytes(self) -> int:
        """Return the size of the values in memory."""
        return sum(values.nbytes for values in self.fields.values())

    def fault(self, row: int) -> DatasetError:
        """Return the error for the first column whose value in `row` does not fit."""
        column, location = next(
            (column, location) for column, location in self.misfits if column.bad is not None and column.bad[row]
        )
        return column.fault(row, first=self.first, location=location)

    def require(self, rows: list[int]) -> None:
        """Raise `DatasetError` if one of `rows` does not fit; the error is about the first such row."""
        if (bad := self.bad) is not None and (misfit := next((row for row in rows if bad[row]), None)) is not None:
            raise self.fault(misfit)


class _RowGroups:
    """The row groups of open files, and a cache of decoded groups."""

    def __init__(self, reader: TableReader, files: Files, layout: Layout) -> None:
        self._reader, self._of_files = reader, layout
        self._open = [open_parquet(files, path) for path in reader.files]
        counts = [_group_rows(file, path) for file, path in zip(self._open, reader.files, strict=True)]
        self.files = [(file, number) for file, each in enumerate(counts) for number in range(len(each))]
        """For each row group, the number of its file, and its number in the file."""
        self.layout = Layout(count=layout.count, ends=list(accumulate(chain.from_iterable(counts))))
        """The layout of the rows in groups."""
        self._cached: OrderedDict[int, _RowGroup] = OrderedDict()
        self._require_numbers()

    def group(self, number: int) -> _RowGroup:
        if number not in self._cached:
            self._cached[number] = self._converted(number)
            while len(self._cached) > 1 and sum(each.bytes for each in self._cached.values()) > CACHED_BYTES:
                self._cached.popitem(last=False)
        self._cached.move_to_end(number)
        return self._cached[number]

    def _converted(self, number: int) -> _RowGroup:
        reader, (file, in_file), rows = self._reader, self.files[number], self.layout.span(number)
        names = sorted({name for each in reader.fields.values() for name in each.names})
        table = self._decoded(file, in_file, names, count=len(rows))
        fields: Fields = {}
        misfits: list[tuple[Numbers | Codes, ColumnLocation]] = []
        for field, column in reader.fields.items():
            numbers = {name: self._column(table.column(name), name, column.dtype) for name in column.names}
            values = [each.values for each in numbers.values()]
            values += [
                table.column(name).is_null().to_numpy().astype(column.dtype) for name in reader.indicated(column)
            ]
            fields[field] = values[0] if isinstance(column.column, str) else np.stack(values, axis=1)
            misfits += [
                (each, ColumnLocation(file=reader.files[file], name=name, field=field, declared=column))
                for name, each in numbers.items()
                if each.bad is not None
            ]
        return _RowGroup(first=rows.start - self._of_files.span(file).start, fields=fields, misfits=misfits)

    def _column(self, values: pa.ChunkedArray, name: str, dtype: str) -> Numbers | Codes:
        """Convert a column as declared: to the codes of categories, or to numbers, in which `fill` replaces missing values."""
        treatment = self._reader.columns.get(name)
        if treatment is None:
            return converted(values, dtype)
        if treatment.values:
            codes = codes_of(values, treatment)
            return replace(codes, values=codes.values.astype(dtype, copy=False))
        numbers = converted(values, dtype)
        if treatment.fill is not None and values.null_count:
            filled = np.where(values.is_null().to_numpy(), np.asarray(treatment.fill, dtype=dtype), numbers.values)
            return replace(numbers, values=filled)
        return numbers

    def _decoded(self, file: int, number: int, names: list[str], *, count: int) -> pa.Table:
        path, opened = self._reader.files[file], self._open[file]
        _require_small(path, number, count, [opened.schema_arrow.field(name).type for name in names])
        batches, decoded = [], 0
        with decoding_faults(path):
            for batch in opened.iter_batches(_ROWS, row_groups=[number], columns=names, use_threads=False):
                batches.append(batch)
                decoded += batch.num_rows
                if decoded > count:
                    break
        if decoded != count:
            message = f"{path} cannot be decoded: row group {number + 1} does not have the {count:,} rows that its footer states"
            raise DatasetError(message, hint=_AGAIN)
        return pa.Table.from_batches(batches)

    def _require_numbers(self) -> None:
        """Raise `DatasetError` if a column is not numeric. For a text column, the error shows the first value that is not a number."""
        for number, (path, file) in enumerate(zip(self._reader.files, self._open, strict=True)):
            kinds = file.schema_arrow
            for field, column in self._reader.fields.items():
                for name in column.names:
                    if (treatment := self._reader.columns.get(name)) and treatment.values:
                        continue
                    location = ColumnLocation(file=path, name=name, field=field, declared=column)
                    kind = kinds.field(name).type
                    require_numbers(kind, location)
                    if is_text(kind):
                        raise text_fault(*self._first_text(number, name), kind, location)

    def _first_text(self, file: int, name: str) -> tuple[int, str | None]:
        """Return the row and text of the first value that is not a number; an example if all values are numbers."""
        first = 0
        example: tuple[int, str | None] = (0, None)
        with decoding_faults(self._reader.files[file]):
            # Small batches, because one long text may be repeated in all rows of a group.
            for batch in self._open[file].iter_batches(_TEXTS, columns=[name], use_threads=False):
                texts = batch.column(0).cast(pa.string()).to_pylist()
                if (row := no_number(texts)) is not None:
                    return first + row, texts[row]
                if example[1] is None:
                    example = next(((first + row, text) for row, text in enumerate(texts) if text is not None), example)
                first += len(texts)
        return example


class _Verified:
    """A dataset file as a file object for pyarrow; each byte range is verified when it is read.

    The ranges are those that pyarrow requests, and not computed from the column metadata: if the description of a column is damaged,
    pyarrow aborts the process.
    """

    closed = False

    def __init__(self, files: Files, path: str) -> None:
        self._files, self._path, self._size, self._at = files, path, files.size(path), 0

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._at + size, self._size)
        first, self._at = self._at, max(self._at, end)
        return bytes(self._files.read(self._path, first, end)) if end > first else b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        return self._size

    def close(self) -> None:
        """Do nothing: no file is open between two reads."""


def open_parquet(files: Files, path: str) -> pq.ParquetFile:
    """Open a Parquet file; its footer must be verified. Raise `DatasetError` if the footer cannot be decoded."""
    with decoding_faults(path):
        footer = pq.read_metadata(pa.BufferReader(pa.py_buffer(_foot(files, path))))
        return pq.ParquetFile(pa.PythonFile(_Verified(files, path), mode="r"), metadata=footer)


@contextmanager
def decoding_faults(path: str) -> Iterator[None]:
    """Convert pyarrow errors to `DatasetError`, naming the file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as fault:  # ValueError: text that is not UTF-8
        message = f"{path} cannot be decoded: {str(fault).strip().partition(chr(10))[0]}"
        raise DatasetError(message, hint=_AGAIN) from fault


def _require_small(path: str, number: int, rows: int, kinds: list[pa.DataType]) -> None:
    """Raise `DatasetError` if a row group would be too large when decoded: a repeated value takes memory in each row."""
    size = rows * sum(_width(kind) for kind in kinds)
    if size > MOST_DECODED:
        message = f"row group {number + 1} of {path} has {rows:,} rows, which take {size:,} bytes when they are decoded"
        fewer = min(100_000, max(1, rows * MOST_DECODED // size // 10))
        hint = f"write it in smaller row groups: t.to_parquet(FILE, row_group_size={fewer})"
        raise DatasetError(f"{message}; expected at most {MOST_DECODED:,}", hint=hint)


def _width(kind: pa.DataType) -> int:
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:  # a type without a fixed width: text of categories, or a type that is rejected later
        return 16


def _group_rows(file: pq.ParquetFile, path: str) -> list[int]:
    """Return the number of rows of each row group. Raise `DatasetError` if their sum differs from the number in the footer."""
    footer = file.metadata
    counts = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    if min(counts, default=0) < 0 or sum(counts) != footer.num_rows:
        message = (
            f"{path} cannot be decoded: its row groups have {sum(counts):,} rows, its footer states {footer.num_rows:,}"
        )
        raise DatasetError(message, hint=_AGAIN)
    return counts
