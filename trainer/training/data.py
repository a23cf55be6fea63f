"""The data of a run: a fetched dataset's arrays, its declared splits, and the loaders over them.

Knows how arrays become batches. Refuses to fetch anything and to draw from any global generator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from trainer.errors import DatasetError
from trainer.ledger import configured
from trainer.training.exactness import warm_up
from trainer.training.order import Key, PlainBatches, Share, ShuffledBatches
from trainer.training.seeds import derived

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor
    from torch.utils.data import Sampler

    from trainer.dataset import Dataset as Declared

Batch = dict[str, "Tensor"]


class Rows(Dataset[Batch]):
    """The rows of some arrays of equal length, read from disk as they are asked for: a batch is a tensor a field."""

    def __init__(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Hold one array a field."""
        self.arrays = dict(arrays)

    def __getitems__(self, keys: list[Key]) -> Batch:
        """Read many rows at once; loaders prefer this to one call a row."""
        rows = [index for _, index in keys]
        return {name: torch.from_numpy(np.ascontiguousarray(array[rows])) for name, array in self.arrays.items()}

    def __getitem__(self, key: Key) -> Batch:
        """Read one row."""
        return {name: values[0] for name, values in self.__getitems__([key]).items()}


@configured
class RunData(L.LightningDataModule):
    """A dataset's splits as loaders: `train` shuffled, `val` and `test` in order."""

    def __init__(self, declared: Declared, folder: Path, *, batch_size: int, seed: int, workers: int) -> None:
        """Take a dataset that was fetched into `folder`. Raises `DatasetError` where it is not made of arrays."""
        super().__init__()
        self.declared = declared
        self.rows = Rows(arrays_of(declared, folder))
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load the training split, shuffled by seed and epoch."""
        batches = ShuffledBatches(self._split("train"), batch_size=self.batch_size, seed=self.seed, share=self._share())
        if len(batches) == 0:
            raise DatasetError(
                f"the training split of {self.declared.name} has {len(batches.rows)} samples; expected a batch of {self.batch_size}",
                hint="give a smaller --batch-size",
            )
        return self._loader(batches)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Load the validation split."""
        return self._loader(PlainBatches(self._split("val"), batch_size=self.batch_size, share=self._share()))

    def test_dataloader(self) -> DataLoader[Batch]:
        """Load the test split."""
        return self._loader(PlainBatches(self._split("test"), batch_size=self.batch_size, share=self._share()))

    def _split(self, name: str) -> range:
        bounds = self.declared.splits.get(name)
        if bounds is None:
            raise DatasetError(
                f"dataset {self.declared.name} has no split {name!r}; it has {', '.join(self.declared.splits) or 'none'}",
                hint="add it to [splits]",
            )
        return range(*bounds)

    def _share(self) -> Share:
        attached = self.trainer
        return Share() if attached is None else Share(rank=attached.global_rank, world=attached.world_size)

    def _loader(self, batches: Sampler[list[Key]]) -> DataLoader[Batch]:
        return DataLoader(
            self.rows,
            batch_sampler=batches,
            collate_fn=_as_it_is,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=_start_worker,
            generator=torch.Generator().manual_seed(derived(self.seed, "loader")),
        )


def arrays_of(declared: Declared, folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Map the arrays of a dataset's fields into memory. Raises `DatasetError` where it is none of arrays, or their lengths differ."""
    reader = declared.reader
    if reader.kind != "arrays":
        raise DatasetError(
            f"dataset {declared.name} is read as {reader.kind}; expected arrays",
            hint="choose a dataset whose reader.kind is arrays",
        )
    arrays = {field: _mapped(declared, folder / file) for field, file in reader.fields.items()}
    lengths = {field: len(array) for field, array in arrays.items()}
    longest = max((stop for _, stop in declared.splits.values()), default=0)
    if len(set(lengths.values())) != 1 or longest > min(lengths.values()):
        raise DatasetError(
            f"the arrays of {declared.name} have {lengths} rows; expected {longest} or more in each",
            hint="mend its splits or its files",
        )
    return arrays


def _mapped(declared: Declared, file: Path) -> np.ndarray[Any, Any]:
    try:
        array: np.ndarray[Any, Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as fault:
        raise DatasetError(
            f"{file.name} of dataset {declared.name} is no plain array: {fault}",
            hint="write it with numpy.save, of numbers and not of objects, and publish it as a new version",
        ) from fault
    return array


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    warm_up()
