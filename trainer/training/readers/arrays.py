"""Arrays: a sample is one row of each `.npy` file, read from the memory-mapped cache or streamed.

Shapes and dtypes are those of the files: a file of shape [rows, 1, 8, 8] gives samples `[1, 8, 8]` and batches `[batch, 1, 8, 8]`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from trainer.data.file_formats import HEAD, parse_head
from trainer.data.reader import even_rows
from trainer.data.splits import Layout
from trainer.training.readers.samples import Batch, FileSamples, Pick, SampleBlock, ahead_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.data.files import Files
    from trainer.data.reader import ArraysReader
    from trainer.training.readers.samples import Piece, Rows

_STRETCH: Final = 8 << 20
"""Bytes that are verified together, on first access to a row in them: verifying each row would cost more than reading it."""


class ArrayRows(FileSamples):
    """The rows of some arrays of equal length; all bytes that are read are verified."""

    def __init__(self, reader: ArraysReader, files: Files, *, dataset: str) -> None:
        """Read the headers of the arrays. Raise `DatasetError` if a file is not an array, or if the lengths differ."""
        self.fields = {field: _Array(files, path) for field, path in reader.fields.items()}
        count = even_rows({field: each.head.rows for field, each in self.fields.items()}, dataset=dataset)
        super().__init__(files, Layout(count=count))

    def labels(self, rows: Sequence[int]) -> Sequence[int] | None:
        """Return the values of the only scalar integer field; None if no field or several fields are scalar integers."""
        numbers = [each for each in self.fields.values() if each.is_a_whole_number]
        return numbers[0].rows_at(rows).tolist() if len(numbers) == 1 else None

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Return several rows, gathered with one operation per field."""
        rows = [pick.index for pick in picks]
        return {field: torch.from_numpy(each.rows_at(rows)) for field, each in self.fields.items()}

    def pieces(self, pick: Pick) -> Sequence[Piece]:
        """Return the range of the row in each array."""
        return [(self._files, *each.piece(pick.index, pick.index + 1)) for each in self.fields.values()]

    def blocks(self, rows: Rows) -> Iterator[SampleBlock]:
        """Yield blocks of the arrays, without a copy if the rows are contiguous."""
        many = max(1, _STRETCH // max(1, *(each.head.row for each in self.fields.values())))
        for some in ahead_of(self, rows, many=many):
            yield SampleBlock(rows=some, fields={field: each.stretch(some) for field, each in self.fields.items()})


class _Array:
    def __init__(self, files: Files, path: str) -> None:
        self._files, self._path = files, path
        size = files.size(path)
        self.head = parse_head(files.read(path, 0, min(HEAD, size)), size=size, where=path)
        self._stretches = -(-size // _STRETCH)
        self._verified: set[int] = set()

    @property
    def is_a_whole_number(self) -> bool:
        return len(self.head.shape) == 1 and np.issubdtype(self.head.dtype, np.integer)

    def piece(self, row: int, end: int) -> tuple[str, int, int]:
        """Return the range of some rows in the file."""
        return self._path, self.head.start + row * self.head.row, self.head.start + end * self.head.row

    def rows_at(self, rows: Sequence[int]) -> np.ndarray[Any, Any]:
        if self._files.is_streamed:
            return self._read(rows)
        if len(self._verified) < self._stretches:
            for row in rows:
                self._require(row, row + 1)
        return self._values[rows]

    def stretch(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return ascending rows, without a copy if they are contiguous."""
        first, end = int(rows[0]), int(rows[-1]) + 1
        if self._files.is_streamed:
            return self._read(rows)
        self._require(first, end)
        return self._values[first:end] if end - first == len(rows) else self._values[rows]

    def _require(self, row: int, end: int) -> None:
        head = self.head
        first, last = head.start + row * head.row, head.start + end * head.row
        for stretch in range(first // _STRETCH, (max(last, first + 1) - 1) // _STRETCH + 1):
            if stretch not in self._verified:
                self._files.require(self._path, stretch * _STRETCH, (stretch + 1) * _STRETCH)
                self._verified.add(stretch)

    def _read(self, rows: Sequence[int] | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Read rows in the order of the file, adjacent rows at once, so that each part of the file is read once."""
        order = np.argsort(rows, kind="stable")
        ordered = np.asarray(rows, dtype=np.int64)[order]
        values = np.empty((len(rows), *self.head.shape[1:]), dtype=self.head.dtype)
        for places in np.split(order, np.flatnonzero(np.diff(ordered) != 1) + 1):
            first, end = int(rows[places[0]]), int(rows[places[-1]]) + 1
            body = self._files.read(*self.piece(first, end))
            values[places] = np.frombuffer(body, dtype=self.head.dtype).reshape(end - first, *self.head.shape[1:])
        return values

    @cached_property
    def _values(self) -> np.ndarray[Any, Any]:
        flat = np.frombuffer(self._files.view(self._path), dtype=self.head.dtype, offset=self.head.start)
        return flat.reshape(self.head.shape)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker process, which verifies the file itself."""
        return {name: value for name, value in vars(self).items() if name != "_values"} | {"_verified": set()}
