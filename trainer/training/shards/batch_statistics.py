"""The buffers that a step changes: running statistics follow the shards, and other buffers are rejected."""

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
    """The running statistics of normalization layers: each shard begins with those before the step, and their mean is kept."""

    def __init__(self, net: nn.Module) -> None:
        """Raise `ExperimentError` for layers that compute statistics over devices."""
        self.net = net
        layers = {name: each for name, each in net.named_modules() if isinstance(each, _NormBase)}
        if synced := next((name for name, each in layers.items() if isinstance(each, SyncBatchNorm)), None):
            message = f"{synced} is a SyncBatchNorm: its results depend on the number of devices"
            raise ExperimentError(message, hint="use nn.BatchNorm2d, whose statistics are those of each shard")
        kept = {id(value) for each in layers.values() for value in each.buffers(recurse=False)}
        self.followed = [each for each in net.buffers() if id(each) in kept]
        self.means = [each for each in self.followed if each.is_floating_point()]
        self.others = [(name, each) for name, each in net.named_buffers() if id(each) not in kept]
        self.versions = [each._version for _, each in self.others]  # noqa: SLF001 - the counter of changes in place
        self.before = [each.clone() for each in self.followed]
        self.sum = TreeSum()

    def begin_shard(self) -> None:
        """Restore the statistics from before the step."""
        for each, value in zip(self.followed, self.before, strict=True):
            each.copy_(value)

    def end_shard(self) -> None:
        """Add the statistics of a shard."""
        self.sum.add([each.clone() for each in self.means])

    def end_step(self, *, shards: int, world: int) -> None:
        """Set the mean over all shards. Raise `ExperimentError` if the net changed another buffer."""
        self._require_unchanged()
        if not self.means:
            return
        total: list[Tensor] = self.sum.total()
        if world > 1:
            sum_over_ranks(total)
        for each, value in zip(self.means, total, strict=True):
            each.copy_(value / shards)

    def _require_unchanged(self) -> None:
        now = dict(self.net.named_buffers())
        for (name, each), version in zip(self.others, self.versions, strict=True):
            if now.get(name) is not each or each._version != version:  # noqa: SLF001
                message = f"the net changes its buffer {name} in a step: each shard would change its own copy"
                raise ExperimentError(message, hint=_HINT)


def densified(gradient: Tensor | None, parameter: Tensor, *, name: str) -> Tensor:
    """Return a gradient, zeros if there is none; raise `ExperimentError` for a sparse gradient."""
    if gradient is None:
        return torch.zeros_like(parameter)
    if gradient.is_sparse:
        message = f"the gradient of {name} is sparse: gradients of several shards are summed as dense tensors"
        raise ExperimentError(message, hint="use `sparse=False`, or --shards 1 and --devices 1")
    return gradient
