"""The base class of all readers, and the functions that stack samples into batches or read them in blocks for an inspection.

A reader is stateless: a sample depends on its index alone, and its random augmentation on `Pick.seed`. The samples are therefore
bit-identical for any number of workers and in a resumed run.
"""

from __future__ import annotations

import os
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainer.base.errors import DatasetError, RepriseError
from trainer.data.inspection import Fault
from trainer.data.splits import Layout
from trainer.training.determinism.seeds import derived

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from trainer.data.cache.streamed import StreamedDataset
    from trainer.data.files import Files
    from trainer.data.read_ahead import ReadAhead

Values = np.ndarray[Any, Any]
Rows = np.ndarray[Any, np.dtype[np.int64]]
_AHEAD: Final = 64
"""Number of samples whose files are fetched together, ahead of an inspection."""
Piece = tuple["Files", str, int, int]
"""A range of a file: the dataset's files, the path, the first byte, and one past the last byte."""
Sample = dict[str, Tensor]
"""One tensor per field."""
Batch = dict[str, Tensor]
"""One tensor `[batch, ...]` per field."""
ChunkIds = dict[int, "array[int]"]
"""The IDs of the chunks that a batch reads, in order, by the `id()` of their dataset's files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alphabet:
    """The numbers that encode a text: bytes, or the token IDs of a tokenizer."""

    size: int
    """Numbers are 0 to `size` - 1."""
    end: int
    """The number at the end of a line."""
    decode: Callable[[Sequence[int]], str]
    """Decodes numbers to text."""
    digest: str = ""
    """The digest of the tokenizer's file; empty for bytes."""
    longest: int = 0
    """Maximum number of tokens in a sample; 0 if unknown."""


def text_of_bytes(numbers: Sequence[int]) -> str:
    """Decode bytes as UTF-8; other numbers are clipped to 0 to 255, and invalid bytes are replaced by U+FFFD."""
    return bytes(min(max(number, 0), 255) for number in numbers).decode(errors="replace")


BYTES: Final = Alphabet(size=256, end=10, decode=text_of_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A request for a sample: its index, the epoch, and the seed of the run."""

    index: int
    epoch: int = 0
    run: int = 0

    @property
    def seed(self) -> int:
        """Return the seed of all random choices for this sample: H(seed of the run, epoch, index)."""
        return derived(self.run, "augment", self.epoch, self.index)

    def generator(self) -> torch.Generator:
        """Return a generator for the augmentation of this sample."""
        return torch.Generator().manual_seed(self.seed)


class Samples(Dataset[Sample]):
    """A dataset indexed by number, `samples[3]`. A reader implements `__len__` and `sample`; overriding `batch` is optional.

    Keep opened resources (views of files, decoders) in a `cached_property`: cached properties are not sent to worker processes.
    """

    def __len__(self) -> int:
        raise NotImplementedError

    def sample(self, pick: Pick) -> Sample:
        """Return one sample."""
        raise NotImplementedError

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Return the samples of `picks`, in their order, stacked along a new first axis."""
        return self.stack([self.sample(pick) for pick in picks])

    @property
    def streamed(self) -> Sequence[StreamedDataset]:
        """Return the datasets whose files are fetched during training."""
        return ()

    def pieces(self, pick: Pick) -> Sequence[Piece]:  # noqa: ARG002 - used by readers that override this method
        """Return the file ranges that `batch` reads for a sample, so that they can be fetched ahead; empty if unknown."""
        return ()

    def stack(self, samples: Sequence[Sample]) -> Batch:
        """Stack samples into a batch. Raise `DatasetError` if the shapes of a field differ. A reader that pads overrides this method."""
        return stacked(samples)

    @property
    def layout(self) -> Layout:
        """Return the layout of the samples in files; a reader whose splits are declared by files overrides this property."""
        return Layout(count=len(self))

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, by number; empty if the reader has no class names."""
        return ()

    @property
    def alphabet(self) -> Alphabet:
        """Return the numbers that encode texts in samples: bytes, unless a reader of tokens overrides this property."""
        return BYTES

    def labels(self, rows: Sequence[int]) -> Sequence[int] | None:  # noqa: ARG002 - used by readers that override this method
        """Return the class numbers of the samples `rows`; None if only reading whole samples can find them."""
        return None

    @property
    def holds_values(self) -> bool:
        """Return whether an inspection examines the values. It skips text and whole files, in which every byte is valid."""
        return True

    def blocks(self, rows: Rows) -> Iterator[SampleBlock]:
        """Yield the samples `rows`, which must be ascending, for an inspection."""
        return single_blocks(
            lambda row: self.sample(Pick(index=row)), ahead_of(self, rows, many=_AHEAD), self.layout.name_of
        )

    def __getitem__(self, index: int) -> Sample:
        """Return one sample, as in the first epoch of a run with seed 0. Raise `IndexError` if the index is out of range."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.sample(Pick(index=index))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker process: all attributes except cached properties."""
        cached = {name for name in vars(self) if isinstance(getattr(type(self), name, None), cached_property)}
        return {name: value for name, value in vars(self).items() if name not in cached}


class FileSamples(Samples):
    """Samples that are stored in files. A reader implements `batch` or `sample`."""

    def __init__(self, files: Files, layout: Layout) -> None:
        self._files, self._layout = files, layout

    def __len__(self) -> int:
        return self._layout.count

    @property
    def layout(self) -> Layout:
        """Return the layout of the samples in files."""
        return self._layout

    @property
    def streamed(self) -> Sequence[StreamedDataset]:
        """Return the dataset, if its files are fetched during training."""
        return (cast("StreamedDataset", self._files),) if self._files.is_streamed else ()

    def sample(self, pick: Pick) -> Sample:
        """Return one sample."""
        return {name: values[0] for name, values in self.batch([pick]).items()}


def ahead_of(samples: Samples, rows: Rows, *, many: int) -> Iterator[Rows]:
    """Yield `rows` in parts of `many`.

    The files of streamed samples are fetched before their part is yielded; the files of later parts are fetched in the background.
    """
    parts = [rows[first : first + many] for first in range(0, len(rows), many)]
    is_streamed = bool(samples.streamed)
    passes = fetch_ahead(
        samples, [chunk_ids(samples, (Pick(index=int(row)) for row in part)) for part in parts if is_streamed]
    )
    try:
        for number, part in enumerate(parts):
            for each in passes:
                each.wait(number)
            yield part
            for each in passes:
                each.advance(number + 1)
    finally:
        for each in passes:
            each.close()


def fetch_ahead(samples: Samples, read: Sequence[ChunkIds], later: Iterable[ChunkIds] = ()) -> list[ReadAhead]:
    """Start to fetch the chunks that each batch of `read` reads, then those of `later`; return a `ReadAhead` for each streamed dataset."""
    after = list(later)
    return [
        each.read_ahead(
            [chunks.get(id(each), ()) for chunks in read],
            [*chain.from_iterable(chunks.get(id(each), ()) for chunks in after)],
        )
        for each in samples.streamed
    ]


def chunk_ids(samples: Samples, batch: Iterable[Pick]) -> ChunkIds:
    """Return the IDs of the chunks that a batch reads, in order."""
    found: ChunkIds = {}
    for pick in batch:
        for files, path, first, end in samples.pieces(pick):
            found.setdefault(id(files), array("q")).extend(cast("StreamedDataset", files).chunk_ids(path, first, end))
    return found


def stacked(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a batch. Raise `DatasetError`, naming the field, if the shapes of a field differ."""
    for name in samples[0]:
        shapes = {tuple(sample[name].shape): None for sample in samples}
        if len(shapes) > 1:
            examples = " and ".join(str(list(shape)) for shape in list(shapes)[:2])
            raise DatasetError(
                f"samples of one batch differ in {name!r}: {examples}",
                hint="for pictures, declare --size, and --resize crop, pad or stretch; otherwise override `stack` of the reader",
            )
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def padded(bodies: Sequence[bytes | memoryview]) -> tuple[Tensor, Tensor]:
    """Return bytes as uint8 `[batch, longest]`, padded with zeros, and their lengths as int64 `[batch]`."""
    rows = [np.frombuffer(body, dtype=np.uint8) for body in bodies]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    whole = np.zeros((len(rows), int(lengths.max(initial=0))), dtype=np.uint8)
    for number, row in enumerate(rows):
        whole[number, : len(row)] = row
    return torch.from_numpy(whole), torch.from_numpy(lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBlock:
    """Some samples: their numbers, and an array `[rows, ...]` per field, or the reason why they cannot be read."""

    rows: Rows
    fields: dict[str, Values] = field(default_factory=dict)
    fault: Fault | Callable[[int], Fault] | None = None
    """The reason why all samples of the block cannot be read, or a function that returns the reason for a sample's number."""


def single_blocks(
    read: Callable[[int], dict[str, Tensor]], parts: Iterable[Rows], name: Callable[[int], str]
) -> Iterator[SampleBlock]:
    """Yield one block for each sample of `parts`. Several threads read the samples, because decoders release the GIL."""

    def read_block(row: int) -> SampleBlock:
        numbers = np.array([row], dtype=np.int64)
        try:
            return SampleBlock(rows=numbers, fields={field: value[None].numpy() for field, value in read(row).items()})
        except DatasetError as fault:
            return SampleBlock(rows=numbers, fault=fault_of(name(row), fault))
        except RepriseError:
            raise
        except Exception as fault:  # noqa: BLE001 - decoders raise many exception types; the error names the file
            error = DatasetError(
                f"{name(row)} cannot be read: {type(fault).__name__}: {fault}",
                hint="replace it, and publish a new version",
            )
            return SampleBlock(rows=numbers, fault=fault_of(name(row), error))

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for part in parts:
            yield from pool.map(read_block, map(int, part))


def fault_of(name: str, fault: DatasetError) -> Fault:
    """Convert the error for a sample to a `Fault`."""
    return Fault(name=name, message=fault.message, hint=fault.hint)
