"""The batches of a streamed dataset, each after its files are fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.utils.data import Sampler

from trainer.training.determinism.seeds import Key
from trainer.training.readers.samples import Pick, chunk_ids, fetch_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from trainer.data.read_ahead import ReadAhead
    from trainer.training.readers import Samples
    from trainer.training.readers.samples import ChunkIds


class BatchChunks:
    """The chunks that the batches of a run read. They are kept for the next pass, whose batches were usually among the later batches."""

    def __init__(self, samples: Samples, *, seed: int) -> None:
        self.samples, self.seed = samples, seed
        self._known: dict[int, ChunkIds] = {}
        """By the hash of a batch's keys; if two batches had the same hash, one of them would not be fetched ahead."""

    def fetch_ahead(self, batches: Iterable[list[Key]], later: Iterable[list[Key]]) -> list[ReadAhead]:
        """Start to fetch the chunks of `batches`, then those of `later`; return a `ReadAhead` for each streamed dataset."""
        known, self._known = self._known, {}
        read, after = ([self._find(keys, known) for keys in each] for each in (batches, later))
        return fetch_ahead(self.samples, read, after)

    def _find(self, keys: list[Key], known: dict[int, ChunkIds]) -> ChunkIds:
        name = hash(tuple(keys))
        found = known.get(name)
        if found is None:
            found = chunk_ids(self.samples, (Pick(index=index, epoch=epoch, run=self.seed) for epoch, index in keys))
        self._known[name] = found
        return found


class AheadBatches(Sampler[list[Key]]):
    """Yields the batches of another sampler in order, each after its files are fetched; the files of the next batches are fetched ahead."""

    def __init__(
        self, batches: Sampler[list[Key]], chunks: BatchChunks, *, later: Callable[[], Iterable[list[Key]]]
    ) -> None:
        """`later` returns the batches that are read after a pass, in order, so that their files are evicted last."""
        self.batches, self.later = batches, later
        self._chunks = chunks
        self._passes: list[ReadAhead] = []

    @property
    def sampler(self) -> Sampler[list[Key]]:
        """The other sampler, whose epoch Lightning sets."""
        return self.batches

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[Key]]:
        order = list(self.batches)
        self._passes = self._chunks.fetch_ahead(order, self.later())
        for number, keys in enumerate(order):
            for each in self._passes:
                each.wait(number)
            yield keys

    def advance(self, batch: int) -> None:
        """Report that all batches before `batch` were read."""
        for each in self._passes:
            each.advance(batch)

    def pause(self) -> None:
        """Stop fetching until the next pass begins, for all datasets."""
        for each in self._chunks.samples.streamed:
            each.close()
