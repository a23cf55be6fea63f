"""The order and the random numbers of a plain module's own data loaders, made a function of the seed and the position in the run.

Their samplers are not replaced: the batches of an epoch are drawn from them at once, under a seed of the epoch. Reading a batch begins
with a seed of its position, in any worker. A run that resumes within an epoch therefore gets the batches, and the random transforms, of
an uninterrupted run.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

from trainer.settings.ledger import configured
from trainer.training.determinism.seeds import EpochPosition, derived, seed_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOOKS: Final = {"train_dataloader": "train", "val_dataloader": "val", "test_dataloader": "test"}
_MOST: Final = 50_000_000
"""The most samples of an epoch whose order is drawn at once: it takes 8 to 36 bytes a sample."""


class SeededBatch(list[Any]):
    """The indices of a batch, and the seed that is set before it is read."""

    seed: int


class SeededDataset(Dataset[Any]):
    """A dataset that seeds the global generators before it reads a batch; all other attributes are those of the wrapped dataset."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, SeededBatch):  # without automatic batching, a sampler's item is a batch
            seed_all(index.seed)
            return self.inner[index[0]]
        return self.inner[index]

    def __getitems__(self, indices: Sequence[Any]) -> Any:
        """Read a batch."""
        if isinstance(indices, SeededBatch):
            seed_all(indices.seed)
        whole = getattr(self.inner, "__getitems__", None)
        return whole([*indices]) if callable(whole) else [self.inner[index] for index in indices]


class SeededBatches(EpochPosition):
    """The user's sampler of batches, or of samples without automatic batching; its order is drawn with a seed of the epoch."""

    def __init__(self, inner: Any, *, seed: int, name: str, is_batched: bool) -> None:
        self.inner, self.seed, self.name, self.is_batched = inner, seed, name, is_batched

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator[SeededBatch]:
        order = derived(self.seed, "order", self.name, self.epoch)
        seed_all(order)
        for sampler in (self.inner, getattr(self.inner, "sampler", None)):
            if isinstance(generator := getattr(sampler, "generator", None), torch.Generator):
                generator.manual_seed(order)
            if callable(move := getattr(sampler, "set_epoch", None)):
                move(self.epoch)
        batches = [*self.inner]
        for number in range(self.first, len(batches)):
            batch = SeededBatch(batches[number] if self.is_batched else [batches[number]])
            batch.seed = derived(self.seed, "read", self.name, self.epoch, number)
            yield batch


@configured
class ControlledLoaders:
    """Controls the order of a module's or a data module's loaders, and reports loaders that cannot be controlled."""

    def __init__(self, report: Callable[[str, str], object], *, seed: int) -> None:
        """`report` is called with the lacking guarantee, such as `resume`, and the reason."""
        self.report, self.seed = report, seed
        self.start = (0, 0)
        self.resumes_within_epoch = True
        """Whether a run can resume at any batch of the training split, instead of at the start of an epoch."""

    def start_at(self, *, epoch: int, batch: int) -> None:
        """Begin the training at a batch of an epoch, for a resumed run."""
        self.start = (epoch, batch)

    def control(self, owner: Any, hooks: Sequence[str]) -> None:
        """Control the loaders that these hooks of a module return; Lightning calls the hooks of the instance."""
        for hook in hooks:
            setattr(owner, hook, self._controlled(getattr(owner, hook), HOOKS[hook]))

    def _controlled(self, hook: Callable[[], Any], split: str) -> Callable[[], Any]:
        @functools.wraps(hook)
        def controlled() -> Any:
            found = hook()
            loaders = [*leaves(found)]
            if split == "train" and len(loaders) != 1:
                self._no_resume(f"{len(loaders)} loaders read the training data")
            for number, loader in enumerate(loaders):
                self._take(loader, split if len(loaders) == 1 else f"{split}.{number}", is_train=split == "train")
            return found

        return controlled

    def _take(self, loader: Any, name: str, *, is_train: bool) -> None:
        if not isinstance(loader, DataLoader):
            self._uncontrolled(name, f"it is read by a {type(loader).__name__}, not by a DataLoader", is_train=is_train)
            return
        part = "sampler" if loader.batch_sampler is None else "batch_sampler"
        inner: Any = getattr(loader, part)
        if isinstance(inner, SeededBatches):  # the hook returned the same loader before
            batches = inner
        elif why := _reason(loader, inner):
            self._uncontrolled(name, why, is_train=is_train)
            return
        else:
            batches = SeededBatches(inner, seed=self.seed, name=name, is_batched=part == "batch_sampler")
            # a DataLoader does not allow its parts to be replaced, and a copy would lose the attributes of a subclass
            object.__setattr__(loader, part, batches)
            object.__setattr__(loader, "dataset", SeededDataset(loader.dataset))
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


def _innermost(sampler: Any) -> Any:
    return sampler.sampler if type(sampler) is BatchSampler else sampler


def _reason(loader: DataLoader[Any], sampler: Any) -> str | None:
    """Return why the order of a loader cannot be controlled."""
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
