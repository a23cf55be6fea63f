"""Lightning strategies for batches of several shards, in one process and in several: the same bits for any number of devices.

A step computes the gradients of this process's shards one after another, each with a seed of its own, and sums them with those of the other
processes in the order of a tree (`tree`). Lightning's hooks see the step once: with the mean loss of all shards, and the summed gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torchmetrics import Metric

from trainer.base.errors import ExperimentError, SettingError
from trainer.training.determinism.seeds import Share, derived, seed_all
from trainer.training.shards.batch_statistics import BatchStatistics, densified
from trainer.training.shards.ranks import RankEnvironment
from trainer.training.shards.tree import TreeSum, exchanging, gather_shards, sum_over_ranks, tree_sum
from trainer.training.tasks.metrics import MeanLoss
from trainer.training.tracing.fingerprints import state_of_generators

if TYPE_CHECKING:
    from collections.abc import Iterator

    import lightning as L
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import Optimizer

    from trainer.training.shards.batch import Shards
    from trainer.training.shards.place import RankPlace

_ALONE = "use --shards 1 and --devices 1"


@dataclass(slots=True, kw_only=True)
class ShardFacts:
    """The facts of a shard's step that every rank needs, as 64-bit integers."""

    loss: Tensor
    total: Tensor
    """The sum of losses that the shard added to the mean loss of the epoch."""
    count: Tensor
    random: int
    """The state of the generators after the shard."""
    present: list[bool]
    """Which parameters have a gradient."""

    def integers(self) -> Tensor:
        """Return the facts as a vector."""
        device = self.loss.device
        numbers = [each.detach().double().reshape(1).view(torch.int64) for each in (self.loss, self.total, self.count)]
        signed = self.random - (1 << 64) if self.random >> 63 else self.random
        rest = torch.tensor([signed, *self.present], dtype=torch.int64, device=device)
        return torch.cat([*(each.to(device) for each in numbers), rest])


class ShardedStep:
    """The training step and the backward pass of a strategy, for batches that are tuples of shards."""

    random_state: int | None = None
    """A fingerprint of the generators of all shards after the step."""

    def set_shards(self, shards: int, seed: int) -> None:
        """Set the number of shards of a batch, and the seed of the run."""
        self.shards, self.seed = shards, seed
        self.summed: list[tuple[Parameter, Tensor]] = []

    def training_step(self, batches: Shards, index: int) -> Tensor:
        """Compute the summed gradients of a batch's shards, and return the mean of their losses, `[]`."""
        own: Any = self
        net: L.LightningModule = own.lightning_module
        share = Share(rank=own.global_rank, world=own.world_size, shards=self.shards)
        named = [(name, each) for name, each in net.named_parameters() if each.requires_grad]
        held = [each.grad for _, each in named]
        statistics, total, facts, losses = BatchStatistics(net), TreeSum(), [], []
        learned = _Learned(net)
        counts = _update_counts(net)
        for shard, batch in zip(share.own, batches, strict=True):
            seed_all(derived(self.seed, "step", net.trainer.current_epoch, index, shard))
            statistics.begin_shard()
            learned.begin_shard()
            losses.append(self._gradients(net, batch, index, named).detach())
            total.add([densified(each.grad, each, name=name) for name, each in named])
            statistics.end_shard()
            facts.append(
                ShardFacts(
                    loss=losses[-1],
                    total=learned.total,
                    count=learned.count,
                    random=state_of_generators(own.root_device),
                    present=[each.grad is not None for _, each in named],
                ).integers()
            )
        seed_all(derived(self.seed, "step", net.trainer.current_epoch, index, "after"))
        _require_followed(net, counts)
        known = gather_shards(torch.stack(facts))
        gradients = total.total()
        if share.world > 1:
            sum_over_ranks(gradients)
        if gradients:
            torch._foreach_div_(gradients, self.shards)
        statistics.end_step(shards=self.shards, world=share.world)
        present = known[:, 4:].any(dim=0).tolist()
        self.summed = [
            (each, value) for (_, each), value, is_present in zip(named, gradients, present, strict=True) if is_present
        ]
        for (_, each), value in zip(named, held, strict=True):
            each.grad = value
        numbers = known[:, :3].contiguous().view(torch.float64)
        mean = tree_sum(numbers[:, 0].to(losses[0].dtype)) / self.shards
        learned.end_step(tree_sum(numbers[:, 1]), tree_sum(numbers[:, 2]), mean)
        self.random_state = _folded(known[:, 3].tolist())
        return mean

    def _gradients(self, net: L.LightningModule, batch: Any, index: int, named: list[tuple[str, Parameter]]) -> Tensor:
        """Compute the gradients of one shard, and return its loss."""
        own: Any = self
        for _, each in named:
            each.grad = None
        with own.precision_plugin.train_step_context():
            output = net.training_step(batch, index)
        loss = output.get("loss") if isinstance(output, dict) else output
        if not isinstance(loss, torch.Tensor):
            message = f"{type(net).__name__}.training_step returns no loss for a shard of the batch"
            raise ExperimentError(message, hint=f"return a loss for every batch, or {_ALONE}")
        scaler = getattr(own.precision_plugin, "scaler", None)
        part = loss / net.trainer.accumulate_grad_batches
        (part if scaler is None else scaler.scale(part)).backward()
        return loss

    def backward(self, closure_loss: Tensor, optimizer: Optimizer | None, *args: Any, **kwargs: Any) -> Tensor:
        """Set the gradients that `training_step` computed, between the hooks of a backward pass."""
        del optimizer, args, kwargs
        own: Any = self
        net: L.LightningModule = own.lightning_module
        closure_loss = own.precision_plugin.pre_backward(closure_loss, net)
        for parameter, value in self.summed:
            parameter.grad = value if parameter.grad is None else parameter.grad + value
        self.summed = []
        loss: Tensor = own.precision_plugin.post_backward(closure_loss, net)
        return loss


class ShardedDevice(ShardedStep, SingleDeviceStrategy):
    """All shards in this process."""


class ShardedDevices(ShardedStep, DDPStrategy):
    """The shards in several processes: Lightning starts them, and DistributedDataParallel is not used."""

    def configure_ddp(self) -> None:
        """Leave the net as it is."""

    def _setup_model(self, model: Any) -> Any:
        return model

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        """Wait for all ranks; raise `RankError`."""
        with exchanging():
            super().barrier(*args, **kwargs)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Return the object of rank `src`; raise `RankError`."""
        with exchanging():
            return super().broadcast(obj, src)

    def reduce(self, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the tensor reduced over all ranks; raise `RankError`."""
        with exchanging():
            return super().reduce(tensor, *args, **kwargs)


def sharded_strategy(kind: str, *, place: RankPlace | None, shards: int, seed: int) -> ShardedDevice | ShardedDevices:
    """Return the strategy for several shards in this process, or in all processes of a run; `kind` is `cpu` or `gpu`."""
    device = torch.device("cuda", 0) if kind == "gpu" else torch.device("cpu")
    strategy = ShardedDevice(device) if place is None else ShardedDevices(cluster_environment=RankEnvironment(place))
    strategy.set_shards(shards, seed)
    return strategy


def require_sharded(net: L.LightningModule, *, shards: int) -> None:
    """Raise `SettingError` for a net whose steps cannot be computed by shards."""
    if shards == 1:
        return
    why = None
    if not net.automatic_optimization:
        why = "optimizes manually"
    elif hook := next((name for name in ("backward", "optimizer_zero_grad") if is_overridden(name, net)), None):
        why = f"overrides `{hook}`"
    if why is not None:
        message = f"a batch has {shards} shards, and {type(net).__name__} {why}: its steps cannot be summed over shards"
        raise SettingError(message, hint=_ALONE)


class _Learned:
    """The mean loss of the epoch: a step adds the sums of all shards to it, the same on every rank."""

    def __init__(self, net: L.LightningModule) -> None:
        found = getattr(net, "learned", None)
        self.metric = found if isinstance(found, MeanLoss) else None
        if self.metric is not None:
            self.before = (self.metric.total, self.metric.count, self.metric._update_count)  # noqa: SLF001

    def begin_shard(self) -> None:
        if self.metric is not None:
            self.metric.total = torch.zeros_like(self.before[0])
            self.metric.count = torch.zeros_like(self.before[1])

    @property
    def total(self) -> Tensor:
        return torch.zeros(()) if self.metric is None else self.metric.total

    @property
    def count(self) -> Tensor:
        return torch.zeros(()) if self.metric is None else self.metric.count

    def end_step(self, total: Tensor, count: Tensor, last: Tensor) -> None:
        metric = self.metric
        if metric is None:
            return
        was_updated = metric._update_count > self.before[2]  # noqa: SLF001 - torchmetrics' own counter
        metric.total, metric.count = self.before[0] + total, self.before[1] + count
        metric._update_count = self.before[2] + was_updated  # noqa: SLF001
        if was_updated:
            metric.last = last


def _update_counts(net: L.LightningModule) -> dict[str, int]:
    return {name: each._update_count for name, each in _other_metrics(net)}  # noqa: SLF001


def _other_metrics(net: L.LightningModule) -> Iterator[tuple[str, Metric]]:
    for name, each in net.named_modules():
        if isinstance(each, Metric) and each is not getattr(net, "learned", None):
            yield name, each


def _require_followed(net: L.LightningModule, counts: dict[str, int]) -> None:
    """Raise `ExperimentError` if a shard logged a value or updated a metric: other processes do not have it."""
    results: Any = net.trainer.fit_loop.epoch_loop._results  # noqa: SLF001 - Lightning has no public name for it
    logged = next((key.partition(".")[2] for key in results if key.startswith("training_step.")), None)
    updated = next((name for name, each in _other_metrics(net) if each._update_count != counts.get(name)), None)  # noqa: SLF001
    if logged is not None or updated is not None:
        what = f"logs {logged!r}" if logged is not None else f"updates the metric {updated}"
        message = f"{type(net).__name__}.training_step {what}, which is not summed over the shards of a batch"
        raise ExperimentError(message, hint=f"measure it in validation_step, or {_ALONE}")


def _folded(states: list[int]) -> int:
    """Return one fingerprint of the generators' states of all shards."""
    value = 0
    for each in states:
        value = (value * 0x100000001B3 ^ each) % (1 << 64)
    return value
