"""Check for a last batch of one sample, for which batch norm has no variance; the check counts samples before the first step."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.base.errors import ExperimentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

TRAIN: Final = "train"


@contextmanager
def single_values(net: nn.Module, samples: int) -> Iterator[dict[str, nn.Module]]:
    """Collect, during a pass of `samples` samples, the normalization layers that receive one value per sample and channel, by name."""
    found: dict[str, nn.Module] = {}

    def note(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        groups = module.num_groups if isinstance(module, nn.GroupNorm) else given[0].shape[1]
        if given[0].numel() == samples * int(groups):
            found[name] = module

    handles = [
        module.register_forward_pre_hook(partial(note, name))
        for name, module in net.named_modules()
        if isinstance(module, _BatchNorm | nn.GroupNorm)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def require_more_than_one(
    found: Mapping[str, nn.Module], counts: Mapping[str, int], *, batch_size: int, world: int = 1
) -> None:
    """Raise `ExperimentError` if a layer of `found` would receive a batch of one sample; `counts` are the sizes of the splits."""
    for split, count in counts.items():
        names = [name for name, module in found.items() if _by_batch(module, split)]
        if not names or last_batch(count, split, batch_size, world) != 1:
            continue
        name, others = names[0], "" if len(names) == 1 else f" (and {len(names) - 1} more)"
        which = "each batch" if batch_size // world == 1 else "the last batch"
        raise ExperimentError(
            f"{which} of {split} has 1 sample ({count} samples, batch size {batch_size}); {name} "
            f"({type(found[name]).__name__}){others} needs more than 1",
            hint=f"--batch-size {_fitting(found, counts, batch_size, world)}",
        )


def _by_batch(module: nn.Module, split: str) -> bool:
    """Return whether a module normalizes by the statistics of the batch: batch norm does so in training or without running averages."""
    return split == TRAIN or not isinstance(module, _BatchNorm) or module.running_mean is None


def last_batch(count: int, split: str, batch_size: int, world: int) -> int:
    """Return the size of a rank's smallest batch; training with several ranks drops an incomplete batch."""
    if world > 1 and split == TRAIN:
        return batch_size // world
    return -(-count // world) % batch_size or batch_size


def _fitting(found: Mapping[str, nn.Module], counts: Mapping[str, int], batch_size: int, world: int) -> int:
    """Return the batch size nearest to `batch_size`, smaller sizes first, that leaves no batch of one sample."""
    splits = {split: n for split, n in counts.items() if any(_by_batch(module, split) for module in found.values())}
    near = (size for step in range(1, max(splits.values()) + 2) for size in (batch_size - step, batch_size + step))
    fits = (
        size for size in near if size > 1 and all(last_batch(n, split, size, world) != 1 for split, n in splits.items())
    )
    return next(fits, 2 * world)
