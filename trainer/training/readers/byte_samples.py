r"""Samples of bytes: lines or windows of one or several concatenated files, or whole files.

Lines: `text` uint8 [bytes], UTF-8 without the line ending (\n or \r\n); `length` int64 []. In a batch `text` is [batch, longest], padded
with zeros.
Windows: `text` int64 [window], bytes; `next` int64 [window], the bytes shifted by 1: the targets of a language model.
Whole files: `bytes` uint8 [size], in a batch [batch, longest], padded with zeros; `length` int64 [].
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from trainer.base.errors import DatasetError
from trainer.data.splits import Layout
from trainer.training.readers.samples import Batch, FileSamples, Pick, Sample, padded, stacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.files import Files
    from trainer.data.reader import TextReader
    from trainer.training.readers.samples import Piece

_NEWLINE: Final = 10
_BLOCK: Final = 16 << 20
"""Bytes searched for line endings at a time."""


class ByteSamples(FileSamples):
    """Samples of bytes or tokens; their values need no inspection."""

    @property
    def holds_values(self) -> bool:
        """Return False: every byte and every token is valid."""
        return False


class TextLines(ByteSamples):
    """The lines of some files. The constructor reads the files once to index the line endings; the index takes 8 bytes per line."""

    def __init__(self, files: Files, paths: Sequence[str]) -> None:
        self._ends = [_ends(files, path) for path in paths]
        counts = list(accumulate(map(len, self._ends)))
        super().__init__(files, Layout(count=counts[-1], files=tuple(paths), ends=counts))

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Read several lines."""
        text, lengths = padded([self._line(pick.index) for pick in picks])
        return {"text": text, "length": lengths}

    def stack(self, samples: Sequence[Sample]) -> Batch:
        """Pad lines and stack them into a batch. Raise `DatasetError` if a `length` is not the length of its `text`."""
        return _padded(samples, "text")

    def pieces(self, pick: Pick) -> Sequence[Piece]:
        """Return the byte range of a line."""
        return [(self._files, *self._place(pick.index))]

    def _line(self, index: int) -> bytes:
        return bytes(self._files.read(*self._place(index))).removesuffix(b"\r")

    def _place(self, index: int) -> tuple[str, int, int]:
        number, row = self._layout.place(index)
        ends = self._ends[number]
        return self._layout.files[number], int(ends[row - 1]) + 1 if row else 0, int(ends[row])


def _ends(files: Files, path: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the offset at which each line ends; the last line may lack a newline."""
    ends, size, last = [], files.size(path), _NEWLINE
    for at in range(0, size, _BLOCK):
        numbers = np.frombuffer(files.read(path, at, min(at + _BLOCK, size)), dtype=np.uint8)
        ends.append(np.flatnonzero(numbers == _NEWLINE) + at)
        last = int(numbers[-1])
    if last != _NEWLINE:
        ends.append(np.array([size]))
    return np.concatenate(ends).astype(np.int64) if ends else np.empty(0, dtype=np.int64)


class Windows(ByteSamples):
    """Windows of bytes in some files; a window does not cross a file boundary."""

    def __init__(self, files: Files, reader: TextReader) -> None:
        self._files, self._reader = files, reader
        ends = list(accumulate(reader.count(self._length(number)) for number in range(len(reader.files))))
        super().__init__(files, Layout(count=ends[-1], files=reader.files, ends=ends))

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Read several windows."""
        whole = torch.from_numpy(np.stack([self._window(pick.index) for pick in picks]).astype(np.int64))
        return {"text": whole[:, :-1].contiguous(), "next": whole[:, 1:].contiguous()}

    def pieces(self, pick: Pick) -> Sequence[Piece]:
        """Return the byte range of a window, with the byte after it."""
        return [(self._files, *self._place(pick.index))]

    def _length(self, number: int) -> int:
        """Return the size in bytes of the reader's file `number`; `TokenWindows` counts tokens."""
        return self._files.size(self._reader.files[number])

    def _window(self, index: int) -> np.ndarray[Any, Any]:
        return np.frombuffer(self._files.read(*self._place(index)), dtype=np.uint8)

    def _place(self, index: int) -> tuple[str, int, int]:
        number, row = self._layout.place(index)
        first = row * self._reader.step
        return self._layout.files[number], first, first + self._reader.window + 1


class WholeFiles(ByteSamples):
    """Unparsed files, in the order of their paths."""

    def __init__(self, files: Files) -> None:
        super().__init__(files, Layout(count=len(files.paths), files=files.paths))

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Read several files."""
        whole, lengths = padded([self._files.read(self._layout.files[pick.index]) for pick in picks])
        return {"bytes": whole, "length": lengths}

    def pieces(self, pick: Pick) -> Sequence[Piece]:
        """Return the file."""
        path = self._layout.files[pick.index]
        return [(self._files, path, 0, self._files.size(path))]

    def stack(self, samples: Sequence[Sample]) -> Batch:
        """Pad files and stack them into a batch. Raise `DatasetError` if a `length` is not the length of its `bytes`."""
        return _padded(samples, "bytes")


def _padded(samples: Sequence[Sample], field: str) -> Batch:
    """Stack samples, with `field` padded with zeros. Raise `DatasetError` if a sample's `length` is not the length of its `field`."""
    rows = [sample[field] for sample in samples]
    lengths = torch.tensor([len(row) for row in rows])
    for sample, length in zip(samples, lengths, strict=True):
        if int(sample["length"]) != int(length):
            message = f"a sample has {int(length)} bytes in {field!r}, but its length is {int(sample['length'])}"
            raise DatasetError(message, hint=f"set `length` to the length of `{field}`")
    others = stacked([{name: values for name, values in sample.items() if name != field} for sample in samples])
    return {field: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), **others}
