"""The data of a run: the samples of a reader, the declared splits and their loaders.

The order of samples and all seeds are independent of global generators: every batch is bit-identical with any number of workers,
forked or spawned.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from trainer.base.errors import DatasetError, ExperimentError, RepriseError
from trainer.base.suggestions import counted
from trainer.data.reader import check_sample
from trainer.data.references import ROLES
from trainer.data.splits import select
from trainer.settings.ledger import adopt, configured, current
from trainer.settings.shards import require_whole_shards, shards_of
from trainer.training.ahead_batches import AheadBatches, BatchChunks
from trainer.training.determinism.seeds import Key, PlainBatches, Share, ShuffledBatches, derived
from trainer.training.determinism.switches import warm_up
from trainer.training.failures import own_failure
from trainer.training.readers import Batch, Pick
from trainer.training.readers.neighbors import Neighborhood
from trainer.training.shards.batch import Shards
from trainer.training.train_split import TrainSplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from trainer.data.declaration import Dataset as Declared
    from trainer.data.reader import Typed
    from trainer.settings.ledger import Ledger
    from trainer.training.readers import Samples
    from trainer.training.transforms import SampleTransform


_PACKAGE: Final = "trainer.training.readers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The error that a worker returns instead of a batch that it could not read."""

    fault: RepriseError


class Picked(Dataset["Batch | Shards | Failed"]):
    """The samples of a reader, read in batches by epoch and index, and compared with the declaration of the dataset."""

    transform: SampleTransform | None = None
    """The transform that is applied to training samples before they become a batch."""
    shards: int | None = None
    """The number of this process's shards, if a batch has several shards: each is read as a batch of its own."""

    def __init__(self, samples: Samples, *, seed: int, declared: Mapping[str, Typed], dataset: str) -> None:
        self.samples, self.seed, self.declared, self.dataset = samples, seed, dict(declared), dataset

    def transformed(self, transform: SampleTransform) -> Picked:
        """Return a copy of this object that applies `transform`."""
        other = copy.copy(self)
        other.transform = transform
        return other

    def sharded(self, shards: int) -> Picked:
        """Return a copy of this object that reads each batch as `shards` consecutive shards."""
        other = copy.copy(self)
        other.shards = shards
        return other

    def __getitems__(self, keys: Sequence[Key]) -> Batch | Shards | Failed:
        """Read a batch, or each of its shards; in a worker, return an error as `Failed`. Loaders prefer this method to `__getitem__`."""
        try:
            if self.shards is None:
                return self.read(keys)
            size = len(keys) // self.shards
            return Shards(self.read(keys[start : start + size]) for start in range(0, len(keys), size))
        except RepriseError as fault:
            if get_worker_info() is None:
                raise
            return Failed(fault=fault)

    def __getitem__(self, key: Key) -> Batch | Shards | Failed:
        return self.__getitems__([key])

    def read(self, keys: Sequence[Key]) -> Batch:
        """Read a batch in this process.

        Raise `DatasetError` if the batch does not match the declaration, `ExperimentError` if it is not a dict of tensors.
        """
        picks = [Pick(index=index, epoch=epoch, run=self.seed) for epoch, index in keys]
        if self.transform is None:
            return self._checked(self._batch(picks))
        return self.transform.batch(self.samples, [(pick, self._checked(self._batch([pick]))) for pick in picks])

    def _checked(self, values: Any) -> Batch:
        for name, each in values.items() if isinstance(values, Mapping) else [("", values)]:
            if not name or not isinstance(each, torch.Tensor):
                what = f"the field {name!r} of a batch" if name else "a batch"
                message = f"{type(self.samples).__name__}.batch returns {what} as {type(each).__name__}"
                hint = "docs/how-to/datasets.md shows a reader"
                raise ExperimentError(f"{message}; expected a dict of tensors by field", hint=hint)
        batch: Batch = values
        if self.declared:
            found = {
                name: (str(field.dtype).removeprefix("torch."), tuple(field.shape[1:])) for name, field in batch.items()
            }
            check_sample(self.declared, found, dataset=self.dataset)
        return batch

    def _batch(self, picks: Sequence[Pick]) -> Any:
        """Read a batch; attribute errors of an experiment's own reader to the experiment, here, while its traceback is available."""
        try:
            return self.samples.batch(picks)
        except RepriseError:
            raise
        except Exception as fault:
            own = own_failure(fault, file=Path(inspect.getfile(type(self.samples))))
            if own is None or type(self.samples).__module__.startswith(_PACKAGE):
                raise
            raise own from fault


class Loader(DataLoader[Any]):
    """A loader that raises a worker's error unchanged: torch would wrap the error in the text of a traceback and lose the hint."""

    ahead: AheadBatches | None = None
    """The order of the batches, if their files are fetched ahead."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        if self.ahead is not None:
            self.ahead.pause()  # no thread may fetch while the loader forks its workers
        for number, batch in enumerate(super().__iter__(), 1):
            if isinstance(batch, Failed):
                raise batch.fault
            if self.ahead is not None:
                self.ahead.advance(number)
            yield batch


@configured
class RunData(L.LightningDataModule):
    """The splits of a dataset as loaders: `train` is shuffled, `val` and `test` are in order."""

    def __init__(
        self,
        declared: Declared,
        samples: Samples,
        transform: SampleTransform | None = None,
        *,
        batch_size: int,
        seed: int,
        workers: int,
        shuffle_window: int | None = None,
        devices: int = 1,
        shards: int | None = None,
    ) -> None:
        """Use the samples of a dataset.

        Raise `DatasetError` if the first sample does not match the declaration, `SettingError` if the shards cannot share a batch equally.
        """
        super().__init__()
        self.declared = declared
        self._rows: dict[str, Sequence[int]] = {}
        """The samples of each split that was selected."""
        self.shards = shards_of(shards, devices=devices)
        require_whole_shards(batch_size, self.shards)
        self.window = shuffle_window
        self.neighborhood = Neighborhood(samples=samples, window=shuffle_window, devices=devices)
        self.picked = Picked(samples, seed=seed, declared=declared.sample, dataset=declared.title)
        self.neighborhood.join(rows for split in ROLES if len(rows := self._split_if_any(split)))
        if declared.sample and len(samples):
            self.picked[0, 0]
        self._chunks = BatchChunks(samples, seed=seed)
        self.trained = self.picked if transform is None else self.picked.transformed(transform)
        """The samples as training reads them: transformed, if the net has a transform."""
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.start = (0, 0)
        self._trained: ShuffledBatches | None = None

    def start_at(self, *, epoch: int, batch: int) -> None:
        """Begin training at a batch of an epoch, for a resumed run."""
        self.start = (epoch, batch)

    @property
    def first(self) -> int:
        """The number of the training split's first sample."""
        return int(self._split("train")[0])

    def example(self, count: int = 2) -> Batch:
        """Return the first `count` training samples as a batch of the first epoch. Raise `DatasetError` if they cannot be read."""
        return self.read(self._split("train")[:count])

    def trained_example(self, count: int = 2) -> Batch:
        """Return the example as training reads it in the first epoch, with the transform.

        Raise `ExperimentError` if the transform returns another structure, `ExperimentFailedError` if its code raises.
        """
        return self.trained.read([(0, row) for row in self._split("train")[:count]])

    def tested_example(self, count: int) -> Batch:
        """Return the first `count` test samples as a batch. Raise `DatasetError` if they cannot be read."""
        return self.read(self._split("test")[:count])

    def train_split(self, *, resumed: bool = False) -> TrainSplit:
        """Return the training samples without the transform, for statistics that are fitted before the first step."""
        return TrainSplit(
            lambda: (self.picked.samples, self._split("train")), dataset=self.declared.title, resumed=resumed
        )

    def read(self, rows: Sequence[int]) -> Batch:
        """Return the samples `rows` as a batch of the first epoch. Raise `DatasetError` if they cannot be read."""
        return self.picked.read([(0, row) for row in rows])

    def require_splits(self, splits: Iterable[str]) -> None:
        """Raise `DatasetError` for a split that the dataset does not have, or that has no sample: a run would read it much later."""
        for split in splits:
            self._split(split)

    def count_of(self, split: str) -> int:
        """Return the number of samples of a split."""
        return len(self._split(split))

    def train_dataloader(self) -> Loader:
        """Return the loader of the training split, shuffled by seed and epoch. Raise `DatasetError` if the split has no batch."""
        batches = ShuffledBatches(
            self._split("train"), batch_size=self.batch_size, seed=self.seed, share=self._share(), window=self.window
        )
        if len(batches) == 0:
            found = counted(len(batches.rows), "sample")
            message = f"the training split of {self.declared.name} has {found}; expected a batch of {self.batch_size}"
            raise DatasetError(message, hint="use a smaller --batch-size")
        batches.start_at(epoch=self.start[0], batch=self.start[1])
        self._trained = batches
        picked = self.trained if self.shards == 1 else self.trained.sharded(len(batches.share.own))
        return self._loader(picked, batches, later=lambda: chain(self._validation(), batches.following()))

    def val_dataloader(self) -> Loader:
        """Return the loader of the validation split."""
        return self._loader(self.picked, self._plain("val"), later=self._next_epoch)

    def test_dataloader(self) -> Loader:
        """Return the loader of the test split."""
        return self._loader(self.picked, self._plain("test"))

    def _plain(self, split: str) -> PlainBatches:
        return PlainBatches(self._split(split), batch_size=self.batch_size)

    def _validation(self) -> PlainBatches:
        """Return the batches of a validation; empty if the dataset has no split val, because the run then has no validation."""
        return PlainBatches(self._split_if_any("val"), batch_size=self.batch_size)

    def _next_epoch(self) -> Iterable[list[Key]]:
        """Return the batches of the epoch that follows a validation; empty if the process does not train."""
        return () if self._trained is None else self._trained.following()

    def _split(self, name: str) -> Sequence[int]:
        """Return the samples of a split. Raise `DatasetError` if the split does not exist or has no samples."""
        if name not in self._rows:
            layout = self.picked.samples.layout
            self._rows[name] = select(name, self.declared.splits, layout, dataset=self.declared.name)
        return self._rows[name]

    def _split_if_any(self, name: str) -> Sequence[int]:
        """Return the samples of a split; empty if the split cannot be selected. Code that needs the split calls `_split`, which raises."""
        with suppress(DatasetError):
            return self._split(name)
        return ()

    def _share(self) -> Share:
        attached = self.trainer
        if attached is None:
            return Share(shards=self.shards)
        return Share(rank=attached.global_rank, world=attached.world_size, shards=self.shards)

    def _loader(
        self, picked: Picked, batches: Sampler[list[Key]], *, later: Callable[[], Iterable[list[Key]]] = tuple
    ) -> Loader:
        ahead = None
        if picked.samples.streamed:
            ahead = AheadBatches(batches, self._chunks, later=later)
        loader = Loader(
            picked,
            batch_sampler=batches if ahead is None else ahead,
            collate_fn=_unchanged,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=partial(_start_worker, ledger=current()),
            generator=torch.Generator().manual_seed(derived(self.seed, "loader")),
        )
        loader.ahead = ahead
        return loader


def _unchanged(batch: Any) -> Any:
    return batch


def _start_worker(_: int, *, ledger: Ledger | None) -> None:
    adopt(ledger)
    warm_up()
