"""Lightning strategies for batches of several shards, in one process or in several, bit-identical for any number of devices.

A step computes the gradients of this process's shards one after another, each with a seed of its own, and sums them with those of the other
processes in the order of a tree (`tree`). Lightning's hooks run once per step, with the mean loss of all shards and the summed gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from trainer.base.errors import ExperimentError
from trainer.training.determinism.seeds import Share, derived, seed_all
from trainer.training.shards.batch_statistics import densified
from trainer.training.shards.merged_metrics import ALONE
from trainer.training.shards.net_parts import NetParts, no_synchronization
from trainer.training.shards.support import require_sharded_callbacks
from trainer.training.shards.tree import (
    TreeSum,
    as_signed,
    begin_every_rank,
    begin_gather,
    exchanging,
    sum_over_ranks,
    tree_sum,
)
from trainer.training.tracing.fingerprints import state_of_generators

if TYPE_CHECKING:
    import lightning as L
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import Optimizer

    from trainer.training.resuming.stop_requests import StopRequest
    from trainer.training.shards.batch import Shards


class ShardedStep:
    """The training step and the backward pass of a strategy, for batches that are tuples of shards."""

    random_state: int | None = None
    """A fingerprint of the generators of all shards after the step."""
    parts: NetParts | None = None
    stop: StopRequest | None = None
    """The stop request of this process, if the ranks must agree on a stop."""
    is_stop_requested = False
    """Whether any rank had a stop request in the last step; equal on all ranks."""

    def set_shards(self, shards: int, seed: int) -> None:
        """Set the number of shards of a batch, and the seed of the run."""
        self.shards, self.seed = shards, seed
        self.summed: list[tuple[Parameter, Tensor]] = []

    def training_step(self, batches: Shards, *rest: int) -> Tensor:
        """Compute the summed gradients of a batch's shards, and return the mean of their losses, `[]`.

        `rest` is the number of the batch in its epoch, unless the net's own step does not take it.
        """
        own: Any = self
        net: L.LightningModule = own.lightning_module
        index = net.trainer.fit_loop.batch_idx
        self.begin_step()
        share = Share(rank=own.global_rank, world=own.world_size, shards=self.shards)
        named = [(name, each) for name, each in net.named_parameters() if each.requires_grad]
        held = [each.grad for _, each in named]
        if self.parts is None or self.parts.net is not net:
            require_sharded_callbacks(net.trainer.callbacks, shards=self.shards)  # type: ignore[attr-defined]
            self.parts = NetParts(net)
        parts, total = self.parts, TreeSum()
        parts.begin_step()
        losses: list[Tensor] = []
        requested = self.stop is not None and self.stop.requested is not None
        numbers, facts = [], []
        for shard, batch in zip(share.own, batches, strict=True):
            seed_all(derived(self.seed, "step", net.trainer.current_epoch, index, shard))
            parts.begin_shard(batch)
            self.begin_shard()
            with parts.metrics.noting():
                losses.append(self._gradients(net, (batch, *rest), named).detach())
            state, present = state_of_generators(own.root_device), self.uses(named)
            total.add([densified(each.grad, each, name=name) for name, each in named])
            states, changes = parts.end_shard()
            numbers.append(_bits(losses[-1], *states))
            facts.append([as_signed(state), requested, *present, *changes])
        seed_all(derived(self.seed, "step", net.trainer.current_epoch, index, "after"))
        gradients = total.total()
        order = self.order
        arriving = _Facts(torch.stack(numbers), [[order, *each] for each in facts])
        if gradients:
            self.average(gradients, world=share.world)
        known, every = arriving.wait()
        self.is_stop_requested = any(requested for _, _, requested, *_ in every)
        self.end_step({order for order, *_ in every})
        used = [any(each) for each in zip(*(flags[: len(named)] for _, _, _, *flags in every), strict=True)]
        self.summed = [
            (each, value) for (_, each), value, is_used in zip(named, gradients, used, strict=True) if is_used
        ]
        for (_, each), value in zip(named, held, strict=True):
            each.grad = value
        mean = tree_sum(known[:, 0].to(losses[0].dtype)) / self.shards
        parts.end_step(known[:, 1:], [flags[len(named) :] for _, _, _, *flags in every], mean, world=share.world)
        self.random_state = _folded([state for _, state, *_ in every])
        return mean

    def all_gather(self, *args: Any, **kwargs: Any) -> Any:
        """Raise `ExperimentError`: the result would depend on the number of devices."""
        del args, kwargs
        own: Any = self
        message = (
            f"{type(own.lightning_module).__name__} calls all_gather, whose result depends on the number of devices"
        )
        raise ExperimentError(message, hint=f"remove the call: every device evaluates the whole split; or {ALONE}")

    order = 0
    """A fingerprint of the exchanges of this step within the net; 0 if there are none."""

    def begin_step(self) -> None:
        """Prepare the parameters for a step."""

    def begin_shard(self) -> None:
        """Prepare the parameters for a shard."""

    def uses(self, named: list[tuple[str, Parameter]]) -> list[bool]:
        """Return whether the loss of the last shard depends on each parameter."""
        return [each.grad is not None for _, each in named]

    def average(self, gradients: list[Tensor], *, world: int) -> None:
        """Replace this rank's sums of gradients with the mean over all shards."""
        if world > 1:
            sum_over_ranks(gradients)
        torch._foreach_div_(gradients, self.shards)

    def end_step(self, orders: set[int]) -> None:
        """Check the step; `orders` are the values of `order` of all ranks."""

    def _gradients(self, net: L.LightningModule, step: tuple[Any, ...], named: list[tuple[str, Parameter]]) -> Tensor:
        """Compute the gradients of one shard, and return its loss."""
        own: Any = self
        for _, each in named:
            each.grad = None
        with own.precision_plugin.train_step_context():
            output = net.training_step(*step)
        loss = output.get("loss") if isinstance(output, dict) else output
        if not isinstance(loss, torch.Tensor):
            message = f"{type(net).__name__}.training_step returns no loss for a shard of the batch"
            raise ExperimentError(message, hint=f"return a loss for every batch, or {ALONE}")
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
    """The strategy for all shards in this process."""


class ShardedDevices(ShardedStep, DDPStrategy):
    """The strategy for shards in several processes: Lightning's `DDPStrategy` without `DistributedDataParallel`."""

    def setup(self, trainer: L.Trainer) -> None:
        """Set up the strategy, and disable the synchronization of metrics: every process evaluates the whole split."""
        super().setup(trainer)
        no_synchronization(trainer.lightning_module)

    def configure_ddp(self) -> None:
        """Do nothing: the net is not wrapped in `DistributedDataParallel`."""

    def _setup_model(self, model: Any) -> Any:
        return model

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        """Wait for all ranks. Raise `RankError` if the exchange fails."""
        with exchanging():
            super().barrier(*args, **kwargs)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Return the object of rank `src`. Raise `RankError` if the exchange fails."""
        with exchanging():
            return super().broadcast(obj, src)

    def reduce(self, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the tensor: this package merges the values of shards, and all other values are equal on all ranks."""
        del args, kwargs
        return tensor

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:  # noqa: A002, FBT001, FBT002 - Lightning's names
        """Return whether `decision` is true on all ranks, or on any rank if `all` is false. Raise `RankError` if the exchange fails."""
        count: int = sum(begin_every_rank([int(decision)])())
        every: int = self.world_size
        return count == every if all else count > 0


class _Facts:
    """The exchange of numbers and integers of all shards, which runs while the gradients are summed."""

    def __init__(self, numbers: Tensor, integers: list[list[int]]) -> None:
        """Begin to send the bits of numbers, `[own shards, n]`, and integers on the host; on a CPU in one message."""
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
    return torch.cat([each.detach().double().reshape(-1) for each in values]).view(torch.int64)


def _folded(states: list[int]) -> int:
    """Combine the fingerprints of all shards' generators into one."""
    value = 0
    for each in states:
        value = (value * 0x100000001B3 ^ each) % (1 << 64)
    return value
