"""Samples of tokens: lines or windows of text files, tokenized with the dataset's tokenizer. All tokens are in memory, or memory-mapped.

Lines: `text` int64 [tokens], the end token and the line; `next` int64 [tokens], the line and the end token; `length` int64 []. A batch is
padded from `length` on: to [batch, window] if a window is declared, otherwise to [batch, longest].
Windows: `text` int64 [window]; `next` int64 [window], shifted by one token: the targets of a language model. A window can contain the ends
of several lines, but does not cross a file boundary.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from trainer.base.errors import DatasetError
from trainer.data.splits import Layout
from trainer.data.token_ids import Tokenizer
from trainer.training.readers.byte_samples import ByteSamples, Windows
from trainer.training.readers.samples import Alphabet, stacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.cache.streamed import StreamedDataset
    from trainer.data.files import Files
    from trainer.data.reader import PaddedTokens, TextReader, Tokens
    from trainer.training.readers.samples import Batch, Pick, Piece, Sample

_PADDED: Final = ("text", "next")
Numbers = np.ndarray[Any, np.dtype[np.int32]]


class _Tokenized:
    """The tokens of a dataset. The constructor read all files, so nothing is fetched ahead."""

    tokenizer: Tokenizer
    longest: int
    """Maximum number of tokens in a sample."""

    @property
    def alphabet(self) -> Alphabet:
        """Return the alphabet of the tokenizer."""
        own = self.tokenizer
        return Alphabet(size=own.size, end=own.end, decode=own.decode, digest=own.digest, longest=self.longest)

    @property
    def streamed(self) -> Sequence[StreamedDataset]:
        """Return no dataset."""
        return ()

    def pieces(self, pick: Pick) -> Sequence[Piece]:
        """Return no range of a file."""
        del pick
        return ()


class TokenLines(_Tokenized, ByteSamples):
    """The lines of some files, as tokens."""

    def __init__(self, files: Files, paths: Sequence[str], tokens: PaddedTokens) -> None:
        """Tokenize the files. Raise `DatasetError` if the tokenizer does not match its declaration, or a line cannot be tokenized."""
        self.tokenizer, self._window = Tokenizer(files, tokens), tokens.window
        found = self.tokenizer.numbers(files, paths)
        self._ids = [np.frombuffer(each.ids, np.int32) for each in found]
        self._ends = [np.frombuffer(each.ends, np.int64) for each in found]
        most = max(int(np.diff(each, prepend=0).max(initial=0)) for each in self._ends)
        self.longest = most if self._window is None else self._window
        counts = list(accumulate(map(len, self._ends)))
        super().__init__(files, Layout(count=counts[-1], files=tuple(paths), ends=counts))

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Return several lines."""
        return self.stack([self._line(pick.index) for pick in picks])

    def stack(self, samples: Sequence[Sample]) -> Batch:
        """Pad lines and stack them into a batch. Raise `DatasetError` if a `length` exceeds the sample's tokens or the window."""
        lengths = [int(sample["length"]) for sample in samples]
        longest = self._window or max(lengths)
        padded = {name: torch.full((len(samples), longest), self.tokenizer.pad) for name in _PADDED}
        for name, whole in padded.items():
            for row, (sample, length) in enumerate(zip(samples, lengths, strict=True)):
                most = min(longest, len(sample[name]))
                if length > most:
                    message = f"a sample has {len(sample[name])} tokens in {name!r}, but its length is {length}"
                    raise DatasetError(
                        f"{message}; expected at most {most}", hint="set `length` to the number of tokens"
                    )
                whole[row, :length] = sample[name][:length]
        others = [{name: each for name, each in sample.items() if name not in _PADDED} for sample in samples]
        return {**padded, **stacked(others)}

    def _line(self, index: int) -> Sample:
        number, row = self._layout.place(index)
        ends = self._ends[number]
        ids = self._ids[number][int(ends[row - 1]) if row else 0 : int(ends[row])].astype(np.int64)
        given = np.concatenate([[self.tokenizer.end], ids[:-1]])
        text, following = (torch.from_numpy(each[: self._window]) for each in (given, ids))
        return {"text": text, "next": following, "length": torch.tensor(len(text))}


class TokenWindows(_Tokenized, Windows):
    """Windows of the tokens of some files."""

    def __init__(self, files: Files, reader: TextReader, tokens: Tokens) -> None:
        """Tokenize the files. Raise `DatasetError` if the tokenizer does not match its declaration, or a line cannot be tokenized."""
        self.tokenizer, self.longest = Tokenizer(files, tokens), reader.window
        self._ids = [np.frombuffer(each.ids, np.int32) for each in self.tokenizer.numbers(files, reader.files)]
        super().__init__(files, reader)

    def _length(self, number: int) -> int:
        return len(self._ids[number])

    def _window(self, index: int) -> Numbers:
        number, row = self._layout.place(index)
        first = row * self._reader.step
        return self._ids[number][first : first + self._reader.window + 1]
