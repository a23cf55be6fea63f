"""Lightning strategies for batches of several shards, in one process and in several: the same bits for any number of devices.

A step computes the gradients of this process's shards one after another, each with a seed of its own, and sums them with those of the other
processes in the order of a tree (`tree`). Lightning's hooks see the step once: with the mean loss of all shards, and the summed gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torchmetrics import Metric

from trainer.base.errors import ExperimentError, SettingError
from trainer.training.determinism.seeds import Share, derived, seed_all
from trainer.training.shards.batch_statistics import BatchStatistics, densified
from trainer.training.shards.ranks import RankEnvironment
from trainer.training.shards.tree import TreeSum, as_signed, begin_gather, exchanging, sum_over_ranks, tree_sum
from trainer.training.tasks.metrics import MeanLoss
from trainer.training.tracing.fingerprints import state_of_generators

if TYPE_CHECKING:
    import lightning as L
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import Optimizer

    from trainer.training.resuming.stop_requests import Stop
    from trainer.training.shards.batch import Shards
    from trainer.training.shards.place import RankPlace

_ALONE = "use --shards 1 and --devices 1"


class ShardedStep:
    """The training step and the backward pass of a strategy, for batches that are tuples of shards."""

    random_state: int | None = None
    """A fingerprint of the generators of all shards after the step."""
    parts: _NetParts | None = None
    stop: Stop | None = None
    """The stop requests of this process, if the ranks agree on them."""
    is_stop_requested = False
    """Whether any rank had a stop request at its last step; the same on every rank."""

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
        if self.parts is None or self.parts.net is not net:
            self.parts = _NetParts(net)
        parts, total = self.parts, TreeSum()
        parts.begin_step()
        losses: list[Tensor] = []
        numbers, states = [], []
        for shard, batch in zip(share.own, batches, strict=True):
            seed_all(derived(self.seed, "step", net.trainer.current_epoch, index, shard))
            parts.begin_shard()
            losses.append(self._gradients(net, batch, index, named).detach())
            states.append([state_of_generators(own.root_device), *(each.grad is not None for _, each in named)])
            total.add([densified(each.grad, each, name=name) for name, each in named])
            numbers.append(_bits(losses[-1], *parts.end_shard()))
        seed_all(derived(self.seed, "step", net.trainer.current_epoch, index, "after"))
        gradients = total.total()
        requested = self.stop is not None and self.stop.requested is not None
        arriving = _Facts(torch.stack(numbers), [[as_signed(state), requested, *present] for state, *present in states])
        if share.world > 1:
            sum_over_ranks(gradients)
        if gradients:
            torch._foreach_div_(gradients, self.shards)
        known, every = arriving.wait()
        self.is_stop_requested = any(requested for _, requested, *_ in every)
        used = [any(each) for each in zip(*(present for _, _, *present in every), strict=True)]
        self.summed = [
            (each, value) for (_, each), value, is_used in zip(named, gradients, used, strict=True) if is_used
        ]
        for (_, each), value in zip(named, held, strict=True):
            each.grad = value
        mean = tree_sum(known[:, 0].to(losses[0].dtype)) / self.shards
        parts.end_step(tree_sum(known[:, 1:]), mean, shards=self.shards, world=share.world)
        self.random_state = _folded([state for state, *_ in every])
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


class _NetParts:
    """The parts of a net that a step changes, besides its gradients: running statistics, and the mean loss of the epoch."""

    def __init__(self, net: L.LightningModule) -> None:
        self.net, self.statistics = net, BatchStatistics(net)
        learned = getattr(net, "learned", None)
        self.learned = learned if isinstance(learned, MeanLoss) else None
        self.metrics = [
            (name, each) for name, each in net.named_modules() if isinstance(each, Metric) and each is not learned
        ]

    def begin_step(self) -> None:
        self.statistics.begin_step()
        self.updates = [each._update_count for _, each in self.metrics]  # noqa: SLF001 - torchmetrics' own counter
        if self.learned is not None:
            self.before = (self.learned.total, self.learned.count, self.learned._update_count)  # noqa: SLF001

    def begin_shard(self) -> None:
        self.statistics.begin_shard()
        if self.learned is not None:
            self.learned.total, self.learned.count = map(torch.zeros_like, self.before[:2])

    def end_shard(self) -> tuple[Tensor, ...]:
        """Return the sum of losses, and the count, that the shard added to the mean loss of the epoch."""
        self.statistics.end_shard()
        return () if self.learned is None else (self.learned.total, self.learned.count)

    def end_step(self, sums: Tensor, last: Tensor, *, shards: int, world: int) -> None:
        """Set what all shards together change. Raise `ExperimentError` for a change that is not summed."""
        self.statistics.end_step(shards=shards, world=world)
        self._require_followed()
        if (metric := self.learned) is None:
            return
        was_updated = metric._update_count > self.before[2]  # noqa: SLF001
        metric.total, metric.count = self.before[0] + sums[0], self.before[1] + sums[1]
        metric._update_count = self.before[2] + was_updated  # noqa: SLF001
        if was_updated:
            metric.last = last

    def _require_followed(self) -> None:
        """Raise `ExperimentError` if a shard logged a value or updated a metric: other processes do not have it."""
        results: Any = self.net.trainer.fit_loop.epoch_loop._results  # noqa: SLF001 - Lightning has no public name for it
        logged = next((key.partition(".")[2] for key in results if key.startswith("training_step.")), None)
        pairs = zip(self.metrics, self.updates, strict=True)
        updated = next((name for (name, each), count in pairs if each._update_count != count), None)  # noqa: SLF001
        if logged is not None or updated is not None:
            what = f"logs {logged!r}" if logged is not None else f"updates the metric {updated}"
            message = f"{type(self.net).__name__}.training_step {what}, which is not summed over the shards of a batch"
            raise ExperimentError(message, hint=f"measure it in validation_step, or {_ALONE}")


class _Facts:
    """What the ranks tell each other about their shards, on its way while the gradients are summed."""

    def __init__(self, numbers: Tensor, integers: list[list[int]]) -> None:
        """Send the bits of numbers, `[own shards, n]`, and integers of the host; on a CPU in one message."""
        self.count, on_host = numbers.shape[1], torch.tensor(integers)
        self.is_joined = not numbers.is_cuda
        self.host = begin_gather(torch.cat([numbers, on_host], 1) if self.is_joined else on_host)
        self.device = None if self.is_joined else begin_gather(numbers)

    def wait(self) -> tuple[Tensor, list[list[int]]]:
        """Return the numbers as float64, `[shards, n]`, and the integers of all shards."""
        found = self.host()
        if self.device is not None:
            return self.device().view(torch.float64), found.tolist()
        return found[:, : self.count].contiguous().view(torch.float64), found[:, self.count :].tolist()


def _bits(*values: Tensor) -> Tensor:
    """Return numbers as the bits of float64, `[n]`."""
    return torch.stack([each.detach().double().reshape(()) for each in values]).view(torch.int64)


def _folded(states: list[int]) -> int:
    """Return one fingerprint of the generators' states of all shards."""
    value = 0
    for each in states:
        value = (value * 0x100000001B3 ^ each) % (1 << 64)
    return value
