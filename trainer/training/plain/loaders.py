"""The control of a plain module's own data loaders: order and random numbers depend only on the seed and the position in the run.

A loader's sampler is wrapped: the batches of an epoch are drawn from it all at once, with a seed of the epoch. Before a batch is read, in
any worker, the generators are seeded by its position. A run that resumes within an epoch therefore gets the batches, and the random
transforms, of an uninterrupted run.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, IterableDataset

from trainer.base.errors import ExperimentError
from trainer.base.suggestions import counted, type_with_article
from trainer.settings.ledger import configured
from trainer.settings.shards import shards_of
from trainer.training.determinism.seeds import EpochPosition, Share, derived, seed_all
from trainer.training.shards.batch import Shards
from trainer.training.shards.merged_metrics import ALONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HOOKS: Final = {"train_dataloader": "train", "val_dataloader": "val", "test_dataloader": "test"}
_MOST: Final = 50_000_000
"""The maximum number of samples of a loader: the order of an epoch takes 8 to 36 bytes a sample."""


_OWN: Final = frozenset({"inner", "seed", "name", "is_batched", "share", "epoch", "first"})
"""The attributes of `SeededBatches`."""


class SeededBatch(list[Any]):
    """The indices of a batch, and the seed that is set before the batch is read."""

    def __init__(self, indices: Iterable[Any], seed: int) -> None:
        super().__init__(indices)
        self.seed = seed


class ShardedBatch(list[SeededBatch]):
    """The shards of a batch that belong to this process."""


class SeededDataset(Dataset[Any]):
    """A dataset that seeds the global generators before it reads a batch; its other attributes are those of the wrapped dataset."""

    def __init__(self, inner: Any, collate: Callable[[Any], Any]) -> None:
        self.inner, self.collate = inner, collate

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # while this object is unpickled
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the wrapped dataset: a module may change it during training."""
        if name in {"inner", "collate"}:
            super().__setattr__(name, value)
        else:
            setattr(self.inner, name, value)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, SeededBatch):  # without automatic batching, a sampler's item is a batch
            seed_all(index.seed)
            return self.inner[index[0]]
        return self.inner[index]

    def __getitems__(self, indices: Sequence[Any]) -> Any:
        """Read the samples of a batch; read and collate each shard of a sharded batch separately."""
        if isinstance(indices, ShardedBatch):
            return Shards(self.collate(self.__getitems__(shard)) for shard in indices)
        if isinstance(indices, SeededBatch):
            seed_all(indices.seed)
        whole = getattr(self.inner, "__getitems__", None)
        return whole([*indices]) if callable(whole) else [self.inner[index] for index in indices]


class SeededBatches(EpochPosition):
    """A wrapper of the user's batch sampler, or sampler without automatic batching; the order is drawn with a seed of the epoch."""

    def __init__(self, inner: Any, *, seed: int, name: str, is_batched: bool, share: Share | None = None) -> None:
        """With a `share`, each batch is the shards of this process, and an incomplete last batch is dropped."""
        self.inner, self.seed, self.name, self.is_batched, self.share = inner, seed, name, is_batched, share

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the wrapped sampler, such as `batch_size`, unless it is one of this class."""
        if name in _OWN:
            super().__setattr__(name, value)
        else:
            setattr(self.inner, name, value)

    def __len__(self) -> int:
        return len(self.inner) if self.share is None else len(self.inner.sampler) // self.inner.batch_size

    def __iter__(self) -> Iterator[SeededBatch | ShardedBatch]:
        order = derived(self.seed, "order", self.name, self.epoch)
        seed_all(order)
        for sampler in (self.inner, getattr(self.inner, "sampler", None)):
            if isinstance(generator := getattr(sampler, "generator", None), torch.Generator):
                generator.manual_seed(order)
            if callable(move := getattr(sampler, "set_epoch", None)):
                move(self.epoch)
        batches = [*self.inner]
        for number in range(self.first, len(batches) if self.share is None else len(self)):
            if self.share is None:
                indices = batches[number] if self.is_batched else [batches[number]]
                yield SeededBatch(indices, derived(self.seed, "read", self.name, self.epoch, number))
                continue
            place = (self.seed, "read", self.name, self.epoch, number)
            yield ShardedBatch(
                SeededBatch(batches[number][shard :: self.share.shards], derived(*place, shard))
                for shard in self.share.own
            )


@configured
class ControlledLoaders:
    """Control the order of a module's or a data module's loaders, and report loaders that cannot be controlled."""

    def __init__(
        self, report: Callable[[str, str], object], *, seed: int, devices: int = 1, shards: int | None = None
    ) -> None:
        """`report` is called with a guarantee that the run lacks, such as `resume`, and the reason."""
        self.report, self.seed = report, seed
        self.shards = shards_of(shards, devices=devices)
        self.start = (0, 0)
        self.share: Share | None = None
        """The shards of this process, if a batch has several."""
        self.resumes_within_epoch = True
        """Whether a run can resume at any batch of the training split, instead of at the start of an epoch."""

    def start_at(self, *, epoch: int, batch: int) -> None:
        """Set the batch at which a resumed run begins."""
        self.start = (epoch, batch)

    def control(self, owner: Any, hooks: Sequence[str]) -> None:
        """Wrap `hooks` of the instance `owner`, so that the loaders that they return are controlled."""
        for hook in hooks:
            setattr(owner, hook, self._controlled(owner, getattr(owner, hook), HOOKS[hook]))

    def _controlled(self, owner: Any, hook: Callable[[], Any], split: str) -> Callable[[], Any]:
        @functools.wraps(hook)
        def controlled() -> Any:
            found = hook()
            loaders = [*leaves(found)]
            if self.shards > 1:
                require_sharded_loaders(loaders, split, shards=self.shards)
                self.share = Share(rank=owner.trainer.global_rank, world=owner.trainer.world_size, shards=self.shards)
            if split == "train" and len(loaders) != 1:
                self._no_resume(f"{len(loaders)} loaders read the training data")
            for number, loader in enumerate(loaders):
                self._take(loader, split if len(loaders) == 1 else f"{split}.{number}", is_train=split == "train")
            return found

        return controlled

    def _take(self, loader: Any, name: str, *, is_train: bool) -> None:
        if not isinstance(loader, DataLoader):
            self._uncontrolled(
                name, f"it is read by {type_with_article(loader)}, not by a DataLoader", is_train=is_train
            )
            return
        part = "sampler" if loader.batch_sampler is None else "batch_sampler"
        inner: Any = getattr(loader, part)
        if isinstance(inner, SeededBatches):  # the hook returned the same loader before
            batches = inner
        elif why := _reason(loader, inner):
            self._uncontrolled(name, why, is_train=is_train)
            return
        else:
            share = self.share if is_train else None
            batches = SeededBatches(inner, seed=self.seed, name=name, is_batched=part == "batch_sampler", share=share)
            # a DataLoader does not allow its parts to be replaced, and a copy would lose the attributes of a subclass
            object.__setattr__(loader, part, batches)
            object.__setattr__(loader, "dataset", SeededDataset(loader.dataset, loader.collate_fn))
            if share is not None:
                loader.collate_fn = _unchanged  # the dataset collates each shard
            if loader.generator is None:
                loader.generator = torch.Generator().manual_seed(derived(self.seed, "loader", name))
            if is_train and not type(_innermost(inner)).__module__.startswith("torch.utils.data"):
                sampler = type(_innermost(inner)).__name__
                self.report("resume", f"the order of {name} is drawn by {sampler}, which may have its own state")
        if is_train:
            batches.start_at(epoch=self.start[0], batch=self.start[1] if self.resumes_within_epoch else 0)

    def _uncontrolled(self, name: str, why: str, *, is_train: bool) -> None:
        self.report("order", f"the order of {name} is not controlled: {why}")
        if is_train:
            self._no_resume(f"the order of {name} is not controlled")

    def _no_resume(self, why: str) -> None:
        self.resumes_within_epoch = False
        self.report("resume", f"a stopped run resumes from the start of an epoch: {why}")


def leaves(found: Any) -> Iterator[Any]:
    """Yield the loaders in the return value of a hook: one, or several in lists, dicts or a CombinedLoader."""
    if isinstance(found, CombinedLoader):
        yield from found.flattened
    elif isinstance(found, Mapping):
        for each in found.values():
            yield from leaves(each)
    elif isinstance(found, list | tuple):
        for each in found:
            yield from leaves(each)
    elif found is not None:
        yield found


def require_sharded_loaders(loaders: Sequence[Any], split: str, *, shards: int) -> None:
    """Raise `ExperimentError` if the batches of a split's loaders cannot be read as shards."""
    why = f"{len(loaders)} loaders read the training data" if split == "train" and len(loaders) != 1 else None
    for loader in loaders:
        sampler = getattr(loader, "sampler", None)
        if isinstance(sampler, DistributedSampler):
            why = f"the sampler of {split} is {type_with_article(sampler)}, which divides the samples itself"
        elif split == "train" and not isinstance(getattr(loader, "batch_sampler", None), SeededBatches):
            why = why or _not_sharded(loader, shards)
    if why is not None:
        message = f"a batch has {shards} shards, but {why}"
        hint = f"return one DataLoader of a map-style dataset, whose batch_size {shards} divides; or {ALONE}"
        raise ExperimentError(message, hint=hint)


def _not_sharded(loader: Any, shards: int) -> str | None:
    """Return why the batches of a training loader cannot be read as shards, or None."""
    if not isinstance(loader, DataLoader):
        return f"the training data are read by {type_with_article(loader)}, not by a DataLoader"
    if loader.batch_sampler is None:
        return "the loader of the training data has no batch_size"
    if type(loader.batch_sampler) is not BatchSampler:
        return f"the batches of the training data are drawn by {type(loader.batch_sampler).__name__}"
    sampler: Any = loader.batch_sampler.sampler
    size = loader.batch_sampler.batch_size
    if size % shards:
        return f"the loader's batches have {size} samples, which the shards cannot share equally"
    why = _reason(loader, loader.batch_sampler)
    if why is None and len(sampler) < size:
        return f"the training data have {counted(len(sampler), 'sample')}, fewer than a batch of {size}"
    return why


def _unchanged(batch: Any) -> Any:
    return batch


def _innermost(sampler: Any) -> Any:
    return sampler.sampler if type(sampler) is BatchSampler else sampler


def _reason(loader: DataLoader[Any], sampler: Any) -> str | None:
    """Return why the order of a loader cannot be controlled, or None."""
    if isinstance(loader.dataset, IterableDataset):
        return f"{type(loader.dataset).__name__} is an IterableDataset"
    if type(loader).__iter__ is not DataLoader.__iter__:
        return f"{type(loader).__name__} has its own `__iter__`"
    try:
        count = len(sampler)
    except (TypeError, NotImplementedError):
        return f"{type(sampler).__name__} has no length"
    size = getattr(sampler, "batch_size", 1)
    if count * (size if isinstance(size, int) else 1) > _MOST:
        return f"it has more than {_MOST:,} samples"
    return None
