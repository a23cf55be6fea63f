"""The state of a net that a step changes besides gradients: running statistics, metrics and logged values, merged over all shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchmetrics import Metric

from trainer.training.shards.batch_statistics import BatchStatistics
from trainer.training.shards.logged_values import LoggedValues
from trainer.training.shards.merged_metrics import MergedMetrics
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    import lightning as L
    from torch import Tensor


class NetParts:
    """The statistics, metrics and logged values of one net. A shard starts with the statistics from before the step and empty metrics."""

    def __init__(self, net: L.LightningModule) -> None:
        self.net = net
        self.statistics = BatchStatistics(net)
        self.metrics = MergedMetrics(net, without=net.evaluation_metrics() if isinstance(net, Task) else ())
        self.logged = LoggedValues(net)

    def begin_step(self) -> None:
        """Store the values from before the step."""
        for part in (self.statistics, self.metrics, self.logged):
            part.begin_step()

    def begin_shard(self, batch: object) -> None:
        """Restore the statistics, and reset the metrics and logged values."""
        self.statistics.begin_shard()
        self.metrics.begin_shard()
        self.logged.begin_shard(batch)

    def end_shard(self) -> tuple[list[Tensor], list[int]]:
        """Return the states of a shard's metrics, and integers: whether it updated each metric, and a fingerprint of its logged names."""
        self.statistics.end_shard()
        return self.metrics.end_shard(), [*self.metrics.updated, self.logged.end_shard()]

    def end_step(self, numbers: Tensor, integers: Sequence[Sequence[int]], mean: Tensor, *, world: int) -> None:
        """Set the values merged from the shards' numbers, `[shards, n]`. Raise `ExperimentError` for a change that cannot be merged."""
        shards = len(integers)
        self.statistics.end_step(shards=shards, world=world)
        self.logged.end_step([each[-1] for each in integers])
        updated = self.metrics.end_step(numbers, [each[:-1] for each in integers], self.logged.metrics())
        self.logged.set_metric_values()
        if isinstance(self.net, Task) and any(each is self.net.learned for each in updated):
            self.net.learned.last = mean


def no_synchronization(net: L.LightningModule) -> None:
    """Disable the synchronization of a net's metrics: every process evaluates the whole split."""
    for each in net.modules():
        if isinstance(each, Metric):
            each.sync_on_compute = each._to_sync = False  # noqa: SLF001 - torchmetrics reads `_to_sync`, and resets it to `sync_on_compute`
