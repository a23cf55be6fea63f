"""Tables: a sample is one row of Parquet files; its fields are columns, or vectors of columns, of declared types.

A field of one column is `[]` a sample and `[batch]` a batch; of k columns `[k]` and `[batch, k]`. A missing value is NaN in a float field,
and refused in any other.

Only columns that are declared are decoded, a row group at a time, and `HELD` bytes of decoded groups are kept: memory does not grow with
the table. Shuffled reading decodes a group again when it was let go meanwhile: row groups of 10,000 to 100,000 rows are a good size.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from trainer.data.parquet import foot_start, read_foot
from trainer.data.splits import Layout
from trainer.errors import DatasetError
from trainer.training.readers.blocks import Block, fault_of
from trainer.training.readers.samples import Batch, Pick, Sample, Samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.data.files import Files
    from trainer.data.reader import Column, Table
    from trainer.training.readers.blocks import Rows

HELD: Final = 64 << 20
"""Bytes of decoded row groups that a process keeps; one group at least, whatever its size."""

Values = np.ndarray[Any, Any]
Fields = dict[str, Values]
_SHOWN: Final = 40
"""Characters of a text that a message shows."""


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

    def blocks(self, rows: Rows) -> Iterator[Block]:
        """Row groups: each is decoded once, and one that cannot be is a fault of all its rows."""
        at = 0
        while at < len(rows):
            file, row = self._layout.place(int(rows[at]))
            group, inner = self._tables.place(file, row)
            first = int(rows[at]) - inner
            end = int(np.searchsorted(rows, first + self._tables.rows_of(file, group)))
            some, at = rows[at:end], end
            try:
                values = self._tables.group(file, group)
            except DatasetError as fault:
                yield Block(rows=some, fault=fault_of(self._layout.files[file], fault))
            else:
                yield Block(rows=some, fields={field: each[some - first] for field, each in values.items()})

    @cached_property
    def _tables(self) -> _Tables:
        return _Tables(self._reader, self._files)

    def _rows(self, path: str) -> int:
        """The rows of a file, from its foot, which also tells the columns."""
        view = self._files.view(path)
        self._files.require(path, foot_start(view, where=path))
        foot = read_foot(view, where=path)
        for each in self._reader.fields.values():
            foot.require(each.names, where=path)
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

    def rows_of(self, file: int, number: int) -> int:
        return int(_group(self._open[file], number).num_rows)

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
        first = int(self._ends[file][number]) - table.num_rows
        return {field: _numbers(table, each, _Place(path, first)) for field, each in self._reader.fields.items()}

    def _require(self, path: str, group: Any, names: set[str]) -> None:
        """Verify the bytes of the columns that are decoded next."""
        for number in range(group.num_columns):
            chunk = group.column(number)
            if chunk.path_in_schema in names:
                first = chunk.dictionary_page_offset or chunk.data_page_offset
                self._files.require(path, first, first + chunk.total_compressed_size)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where values stand, for messages: a file, and the row of it that comes first."""

    file: str
    first: int

    def of(self, name: str, row: int) -> str:
        return f"row {self.first + row} of column {name!r} of {self.file}"


def _numbers(table: pa.Table, column: Column, place: _Place) -> Values:
    each = [_cast(table.column(name), column.dtype, name, place) for name in column.names]
    return each[0] if isinstance(column.column, str) else np.stack(each, axis=1)


def _cast(values: pa.ChunkedArray, dtype: str, name: str, place: _Place) -> Values:
    """Values as numbers of one type, without rounding integers, without wrapping around and without overflow."""
    if _is_text(values.type):
        raise _is_no_number(values, dtype, name, place)
    if values.null_count and not dtype.startswith("float"):
        row = pc.index(pc.is_null(values), True).as_py()
        more = f" (and {values.null_count - 1:,} more of its row group)" if values.null_count > 1 else ""
        said = f"{place.of(name, row)} is missing{more}; {dtype} has no missing values"
        raise DatasetError(said, hint=f"fill or drop them, or declare a float dtype: --column FIELD={name}:float32")
    try:
        found = np.ascontiguousarray(values.cast(pa.from_numpy_dtype(np.dtype(dtype))).to_numpy(), dtype=dtype)
    except (pa.ArrowException, TypeError) as fault:
        raise _does_not_fit(values, dtype, name, place) or _other(dtype, name, place, fault) from fault
    if found.dtype.kind == "f" and np.isinf(found).any() and (too_large := _overflow(values, found, name, place)):
        raise too_large
    return found


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(is_(value) for is_ in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_no_number(values: pa.ChunkedArray, dtype: str, name: str, place: _Place) -> DatasetError:
    """Word a column of text, with the first of its values that is no number, and the fix for what it looks like."""
    texts = values.cast(pa.string()).to_pylist()
    row, text = next(((row, text) for row, text in enumerate(texts) if text and not _is_number(text)), (0, texts[0]))
    said = f"{place.of(name, row)} is the text {_short(text)}; {dtype} holds numbers"
    if _is_number(str(text)):
        return DatasetError(f"{said}, and text is not converted", hint=f"t[{name!r}] = pandas.to_numeric(t[{name!r}])")
    if _is_number(str(text).replace(",", "").replace(" ", "")):
        return DatasetError(said, hint=_COMMAS)
    hint = f"number its categories before publishing: t[{name!r}] = t[{name!r}].astype('category').cat.codes; or leave the column out"
    return DatasetError(said, hint=hint)


_COMMAS: Final = "read it with pandas.read_csv(.., thousands=','), or strip them: .str.replace(',', '').astype(float)"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _does_not_fit(values: pa.ChunkedArray, dtype: str, name: str, place: _Place) -> DatasetError | None:
    """Word the first number that a type cannot hold; None if that is not the reason."""
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        return None
    numbers = values.to_numpy(zero_copy_only=False) if values.null_count else values.to_numpy()
    low, high = _exact(dtype)
    with np.errstate(invalid="ignore"):
        bad = (numbers < low) | (numbers > high) | (np.mod(numbers, 1) != 0 if dtype[0] != "f" else False)
    if not bad.any():
        return None
    row = int(np.flatnonzero(bad)[0])
    value = numbers[row]
    if dtype[0] != "f" and np.isfinite(value) and value % 1:
        return DatasetError(
            f"{place.of(name, row)} is {value:g}; {dtype} holds whole numbers", hint=f"--column FIELD={name}:float32"
        )
    exactly = " exactly" if dtype[0] == "f" else ""
    wider = {"f": "float64, or int64 for an id", "i": "int64", "u": "int64"}.get(dtype[0], "int64")
    said = f"{place.of(name, row)} is {value}; {dtype} holds {low:,} to {high:,}{exactly}"
    return DatasetError(said, hint=f"declare {wider}: --column FIELD={name}:{wider.partition(',')[0]}")


def _exact(dtype: str) -> tuple[int, int]:
    """The whole numbers that a type holds, each of them exactly."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        most = 2 ** (np.finfo(kind).nmant + 1)
        return -most, most
    return (0, 1) if kind.kind == "b" else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))


def _overflow(values: pa.ChunkedArray, found: Values, name: str, place: _Place) -> DatasetError | None:
    before = values.to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(np.isinf(found) & ~np.isinf(before))
    if not len(rows):
        return None
    most = np.finfo(found.dtype).max
    said = f"{place.of(name, int(rows[0]))} is {before[rows[0]]:g}; {found.dtype} holds up to {most:.3g}"
    return DatasetError(said, hint=f"divide the column by a constant, or declare --column FIELD={name}:float64")


def _other(dtype: str, name: str, place: _Place, fault: Exception) -> DatasetError:
    first = str(fault).splitlines()[0][:120] if str(fault) else type(fault).__name__
    hint = f"write the column as numbers: t[{name!r}] = t[{name!r}].astype({dtype!r}); or leave it out"
    return DatasetError(f"column {name!r} of {place.file} cannot be read as {dtype}: {first}", hint=hint)


def _short(text: object) -> str:
    said = repr(text)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."


def _group(file: pq.ParquetFile, number: int) -> Any:
    return file.metadata.row_group(number)


def _shape(column: Column) -> tuple[int, ...]:
    return () if isinstance(column.column, str) else (len(column.column),)


def _bytes(fields: Fields) -> int:
    return sum(values.nbytes for values in fields.values())
