"""The samples of a dataset as columns, for an overview and for the comparison of two versions.

A column of a table is read as it is stored, whether the reader uses it or not. In other datasets, each scalar field and each element of a
short vector is a column; larger fields stay whole. Equal values of a type have equal 64-bit marks, so that text and numbers are compared in
the same way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from trainer.data.reader import LinesReader, RawFiles, TableReader
from trainer.training.readers.tables import decoding_faults, open_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.data.declaration import Dataset
    from trainer.data.files import Files
    from trainer.training.readers.samples import Rows, Samples, Values

Marks = np.ndarray[Any, np.dtype[np.uint64]]
MISSING: Final = np.uint64(0x9E3779B97F4A7C15)
"""The mark of a missing value."""
LONGEST_VECTOR: Final = 64
"""Maximum length of a vector whose elements are columns."""
_ROWS: Final = 1 << 14
_EXACT: Final = 1 << 53
_LARGE: Final = np.uint64(0xD1B54A32D192ED03)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The values of one column in some samples."""

    type: str
    marks: Marks
    """[rows]; `MISSING` if a value is missing."""
    numbers: Values | None = None
    """[rows]; arbitrary if a value is missing. `None` for text."""
    texts: dict[int, str] = field(default_factory=dict)
    """The text of each mark, for text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SomeSamples:
    """Some samples: their numbers, ascending, and their values."""

    rows: Rows
    columns: dict[str, Cells] = field(default_factory=dict)
    fields: dict[str, Values] = field(default_factory=dict)
    """Fields that are not columns: [rows, ...]."""
    marks: dict[str, Marks] = field(default_factory=dict)
    """The marks of whole fields: of `fields`, and of the text of lines and the bytes of files."""
    unread: int = 0
    """Samples that cannot be read; they have no values."""


def read_columns(dataset: Dataset, files: Files, samples: Samples, rows: Rows) -> Iterator[SomeSamples]:
    """Yield the samples `rows`, in ascending order; for a table, all of its rows. Raise `DatasetError` if a table cannot be decoded."""
    match dataset.reader:
        case TableReader() as table:
            return _of_table(table, files)
        case LinesReader():
            return _read_line_columns(samples, rows)
        case RawFiles():
            return _of_files(files, samples, rows)
    return _of_blocks(samples, rows) if samples.holds_values else iter(())


def uncounted_columns(table: TableReader, files: Files) -> dict[str, str]:
    """Return the types of a table's columns that are not read: lists, structures, bytes and intervals of months."""
    schema = open_parquet(files, table.files[0]).schema_arrow
    return {each.name: str(each.type) for each in schema if not _is_plain(each.type)}


def _of_table(table: TableReader, files: Files) -> Iterator[SomeSamples]:
    first = 0
    names = [each.name for each in open_parquet(files, table.files[0]).schema_arrow if _is_plain(each.type)]
    for path in table.files:
        file = open_parquet(files, path)
        with decoding_faults(path):
            for batch in file.iter_batches(_ROWS, columns=names, use_threads=False):
                cells = {name: _of_arrow(batch.column(name)) for name in names}
                yield SomeSamples(rows=np.arange(first, first + batch.num_rows), columns=cells)
                first += batch.num_rows


def _is_plain(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return not (pa.types.is_nested(plain) or "binary" in str(plain) or "month_day" in str(plain))


def _of_arrow(values: pa.Array) -> Cells:
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
    if "string" in str(values.type):
        return _of_texts(values)
    missing = values.is_null().to_numpy(zero_copy_only=False)
    numbers = _numbers(values)
    return Cells(type=str(kind), marks=_marks(numbers, missing), numbers=numbers)


def _of_texts(values: pa.Array) -> Cells:
    coded = values.dictionary_encode()
    texts = [str(each) for each in coded.dictionary.to_pylist()]
    known = np.array([*map(_digest, map(str.encode, texts)), MISSING], dtype=np.uint64)
    marks = known[coded.indices.fill_null(len(texts)).to_numpy()]
    return Cells(type="text", marks=marks, texts=dict(zip(known[:-1].tolist(), texts, strict=True)))


def _numbers(values: pa.Array) -> Values:
    """Return numbers, dates and times as numbers; 0 if a value is missing."""
    kind = values.type
    if pa.types.is_temporal(kind):
        values = values.cast(pa.int32() if kind.bit_width == 32 else pa.int64())  # noqa: PLR2004 - bits
    elif pa.types.is_decimal(kind) or pa.types.is_null(kind):
        values = values.cast(pa.float64())
    filled = values.fill_null(False if pa.types.is_boolean(kind) else 0) if values.null_count else values
    numbers: Values = filled.to_numpy(zero_copy_only=False)
    return numbers.view(np.uint8) if numbers.dtype == np.bool_ else numbers


def _digest(body: bytes | memoryview) -> int:
    return int.from_bytes(hashlib.blake2b(body, digest_size=8).digest(), "little")


def _marks(numbers: Values, missing: Values | None = None) -> Marks:
    """Return the marks of numbers. Equal numbers of different types have equal marks if they are below 2**53."""
    wide = numbers.astype(np.float64) + 0.0  # -0.0 becomes 0.0
    marks = wide.view(np.uint64).copy()
    if numbers.dtype.kind in "iu" and numbers.dtype.itemsize == 8:  # noqa: PLR2004 - bytes
        large = (wide >= _EXACT) | (wide <= -_EXACT)
        marks[large] = numbers[large].view(np.uint64) ^ _LARGE
    marks[np.isnan(wide)] = MISSING
    if missing is not None:
        marks[missing] = MISSING
    return marks


def _of_blocks(samples: Samples, rows: Rows) -> Iterator[SomeSamples]:
    for block in samples.blocks(rows):
        if block.fault is not None:
            yield SomeSamples(rows=block.rows[:0], unread=len(block.rows))
            continue
        columns: dict[str, Cells] = {}
        whole: dict[str, Values] = {}
        for name, values in block.fields.items():
            if values.ndim == 1:
                columns[name] = _cells(values)
            elif values.ndim == 2 and values.shape[1] <= LONGEST_VECTOR:  # noqa: PLR2004 - the axis of the samples, and one axis per sample
                columns |= {f"{name}[{at}]": _cells(values[:, at]) for at in range(values.shape[1])}
            else:
                whole[name] = values
        marks = {name: _whole_marks(values) for name, values in whole.items()}
        yield SomeSamples(rows=block.rows, columns=columns, fields=whole, marks=marks)


def _cells(values: Values) -> Cells:
    plain = values.view(np.uint8) if values.dtype == np.bool_ else values
    return Cells(type=str(values.dtype), marks=_marks(plain), numbers=plain)


def _whole_marks(values: Values) -> Marks:
    shape = np.array(values.shape[1:], dtype=np.int64).tobytes()
    each = (np.ascontiguousarray(value).tobytes() for value in values)
    return np.fromiter((_digest(shape + body) for body in each), dtype=np.uint64, count=len(values))


def _read_line_columns(samples: Samples, rows: Rows) -> Iterator[SomeSamples]:
    for some in _pieces(rows):
        texts = [sample["text"][: int(sample["length"])].numpy() for sample in (samples[int(row)] for row in some)]
        yield _of_bodies(some, "text", [_digest(each.tobytes()) for each in texts], [len(each) for each in texts])


def _of_files(files: Any, samples: Samples, rows: Rows) -> Iterator[SomeSamples]:
    for some in _pieces(rows):
        entries = [files.entry(samples.layout.files[int(row)]) for row in some]
        marks = [int(str(each.sha256).removeprefix("sha256:")[:16], 16) for each in entries]
        yield _of_bodies(some, "bytes", marks, [each.size for each in entries])


def _of_bodies(rows: Rows, name: str, marks: Sequence[int], sizes: Sequence[int]) -> SomeSamples:
    columns = {"length": _cells(np.array(sizes, dtype=np.int64))}
    return SomeSamples(rows=rows, columns=columns, marks={name: np.array(marks, dtype=np.uint64)})


def _pieces(rows: Rows) -> Iterator[Rows]:
    return (rows[at : at + _ROWS] for at in range(0, len(rows), _ROWS))


def combined(marks: Sequence[Marks], count: int) -> Marks:
    """Combine the marks of several columns, in this order, into one mark for each of `count` samples."""
    whole = np.full(count, MISSING, dtype=np.uint64)
    for each in marks:
        whole = _mixed(whole ^ _mixed(each + np.uint64(1))) + np.uint64(0x632BE59BD9B4E019)
    return whole


def _mixed(marks: Marks) -> Marks:
    """Return hashed marks: every bit of the result depends on every bit of the mark (the finalizer of splitmix64)."""
    marks = (marks ^ (marks >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    marks = (marks ^ (marks >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return marks ^ (marks >> np.uint64(31))
