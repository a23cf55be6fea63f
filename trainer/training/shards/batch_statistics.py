"""The buffers that a step changes: running statistics are averaged over the shards, and a change of another buffer is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import SyncBatchNorm
from torch.nn.modules.batchnorm import _NormBase

from trainer.base.errors import ExperimentError
from trainer.training.shards.tree import TreeSum, sum_over_ranks

if TYPE_CHECKING:
    from torch import Tensor, nn

_HINT = "use --shards 1 and --devices 1, or a layer without such a buffer (`nn.GroupNorm`)"


class BatchStatistics:
    """The running statistics of normalization layers: each shard starts from the values before the step, and their mean is kept."""

    def __init__(self, net: nn.Module) -> None:
        """Find the statistics. Raise `ExperimentError` for a `SyncBatchNorm`."""
        self.followed: list[Tensor] = []
        self.others: list[tuple[str, dict[str, Tensor | None], str, Tensor]] = []
        """Name, owner, key in the owner, and tensor of each other buffer."""
        for prefix, module in net.named_modules():
            if isinstance(module, SyncBatchNorm):
                message = f"{prefix} is a SyncBatchNorm: its results depend on the number of devices"
                raise ExperimentError(message, hint="use nn.BatchNorm2d, whose statistics are those of each shard")
            owner = module._buffers  # noqa: SLF001 - torch has no public name for this dict
            for key, value in owner.items():
                if value is not None and isinstance(module, _NormBase):
                    self.followed.append(value)
                elif value is not None:
                    self.others.append((f"{prefix}.{key}" if prefix else key, owner, key, value))
        self.means = [each for each in self.followed if each.is_floating_point()]

    def begin_step(self) -> None:
        """Store the statistics from before the step."""
        self.before = [each.clone() for each in self.followed]
        self.versions = [value._version for *_, value in self.others]  # noqa: SLF001 - the counter of in-place changes
        self.sum = TreeSum()

    def begin_shard(self) -> None:
        """Restore the statistics from before the step."""
        for each, value in zip(self.followed, self.before, strict=True):
            each.copy_(value)

    def end_shard(self) -> None:
        """Add the statistics of a shard."""
        self.sum.add([each.clone() for each in self.means])

    def end_step(self, *, shards: int, world: int) -> None:
        """Set the statistics to their mean over all shards. Raise `ExperimentError` if the net changed another buffer."""
        for (name, owner, key, value), version in zip(self.others, self.versions, strict=True):
            if owner.get(key) is not value or value._version != version:  # noqa: SLF001
                message = f"the net changes its buffer {name} in a step: each shard would change its own copy"
                raise ExperimentError(message, hint=_HINT)
        if not self.means:
            return
        total: list[Tensor] = self.sum.total()
        if world > 1:
            sum_over_ranks(total)
        for each, value in zip(self.means, total, strict=True):
            each.copy_(value / shards)


def densified(gradient: Tensor | None, parameter: Tensor, *, name: str) -> Tensor:
    """Return a gradient, or zeros if there is none. Raise `ExperimentError` if the gradient is sparse."""
    if gradient is None:
        return torch.zeros_like(parameter)
    if gradient.is_sparse:
        message = f"the gradient of {name} is sparse: gradients of several shards are summed as dense tensors"
        raise ExperimentError(message, hint="use `sparse=False`, or --shards 1 and --devices 1")
    return gradient
