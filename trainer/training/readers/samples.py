"""Samples: what every reader is, to torch and to the run.

Knows how a sample is asked for and how several become a batch. Refuses to have a state: what is read depends on the index alone, and what
is random about it on `Pick.seed`, so that no number of workers and no resume changes a bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainer.base.errors import DatasetError
from trainer.data.splits import Layout
from trainer.training.determinism.seeds import derived
from trainer.training.readers.blocks import Block, single_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.training.readers.blocks import Rows

Sample = dict[str, Tensor]
"""A tensor a field."""
Batch = dict[str, Tensor]
"""A tensor a field, `[batch, ...]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A sample as it is asked for: which one, in which epoch, of a run with which seed."""

    index: int
    epoch: int = 0
    run: int = 0

    @property
    def seed(self) -> int:
        """Where everything random about this sample begins: H(seed of the run, epoch, index)."""
        return derived(self.run, "augment", self.epoch, self.index)

    def generator(self) -> torch.Generator:
        """A generator of this sample's own, for its augmentation."""
        return torch.Generator().manual_seed(self.seed)


class Samples(Dataset[Sample]):
    """A dataset by number, `samples[3]`. A reader says how many there are and gives one; giving many at once is up to it.

    What it opens (views of files, decoders) belongs into a `cached_property`: those stay behind when it goes to a worker.
    """

    def __len__(self) -> int:
        """How many there are."""
        raise NotImplementedError

    def sample(self, pick: Pick) -> Sample:
        """One sample."""
        raise NotImplementedError

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Several, in this order, with a first axis for them."""
        return stacked([self.sample(pick) for pick in picks])

    @property
    def layout(self) -> Layout:
        """How the samples lie in files; a reader whose splits are declared by files says it."""
        return Layout(count=len(self))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by number, where a reader knows them."""
        return ()

    def labels(self, rows: Sequence[int]) -> Sequence[int] | None:  # noqa: ARG002 - a reader that knows overrides it
        """The class numbers of these samples, where they can be told without reading whole samples."""
        return None

    @property
    def holds_values(self) -> bool:
        """Whether an inspection learns anything from the values: text and whole files are bytes in any case."""
        return True

    def blocks(self, rows: Rows) -> Iterator[Block]:
        """Give these samples for an inspection; `rows` ascend."""
        return single_blocks(lambda row: self.sample(Pick(index=row)), rows, self.layout.name_of)

    def __getitem__(self, index: int) -> Sample:
        """One sample, as in the first epoch."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.sample(Pick(index=index))

    def __getstate__(self) -> dict[str, Any]:
        """What goes to a worker: all but what was opened here."""
        kind = type(self)
        return {
            name: value
            for name, value in vars(self).items()
            if not isinstance(getattr(kind, name, None), cached_property)
        }


def stacked(samples: Sequence[Sample]) -> Batch:
    """A batch of samples whose fields have one shape. Raises `DatasetError`, naming the field, where they have not."""
    for field in samples[0]:
        shapes = {tuple(sample[field].shape): None for sample in samples}
        if len(shapes) > 1:
            told = " and ".join(str(list(shape)) for shape in list(shapes)[:2])
            raise DatasetError(
                f"samples of one batch differ in {field!r}: {told}",
                hint="pictures: declare --size, and --resize crop, pad or stretch; else override `batch` of the reader",
            )
    return {field: torch.stack([sample[field] for sample in samples]) for field in samples[0]}


def padded(bodies: Sequence[bytes | memoryview]) -> tuple[Tensor, Tensor]:
    """Bytes of different lengths as `[batch, longest]` uint8, zeros behind each, and their lengths `[batch]` int64."""
    rows = [np.frombuffer(body, dtype=np.uint8) for body in bodies]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    whole = np.zeros((len(rows), int(lengths.max(initial=0))), dtype=np.uint8)
    for number, row in enumerate(rows):
        whole[number, : len(row)] = row
    return torch.from_numpy(whole), torch.from_numpy(lengths)
