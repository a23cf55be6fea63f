"""The Lightning strategy for several processes with distributed parameters; each process has one shard of each batch.

Checkpoints hold the whole state in the format of all other checkpoints. Rank 0 writes the rows of the other ranks as they arrive, and each
rank copies its own rows of the optimizer's state from the mapped file, so that no rank has the whole state in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.strategies import Strategy

from trainer.base.errors import ExperimentError
from trainer.training.resuming.checkpoint_file import write_checkpoint
from trainer.training.shards.fully_sharded import FullySharded
from trainer.training.shards.net_parts import no_synchronization
from trainer.training.shards.parts import as_part, is_part, keep_parts, norm_over_ranks, part_of
from trainer.training.shards.strategy import ShardedDevices

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import lightning as L
    from torch import Tensor
    from torch.nn import Module, Parameter
    from torch.optim import Optimizer


class FullyShardedDevices(ShardedDevices):
    """A strategy for several processes, each with a part of the parameters (FSDP2)."""

    parameters: FullySharded | None = None

    def setup(self, trainer: L.Trainer) -> None:
        """Distribute the parameters, and create the optimizers of the parts."""
        Strategy.setup(self, trainer)  # not DDPStrategy's: it sends rank 0's weights to all ranks
        no_synchronization(trainer.lightning_module)
        self.precision_plugin.clip_grad_by_norm = self._clip_by_norm  # type: ignore[method-assign] # each rank has parts of the gradients

    def _setup_model(self, model: Module) -> Any:
        if self.parameters is None:
            self.parameters = FullySharded(model, self.root_device)
        return model

    def model_to_device(self) -> None:
        """Do nothing: the parameters are moved to the device when they are distributed."""

    def teardown(self) -> None:
        """Tear down the plugins. Lightning's own method also moves the net to the CPU; here the parts stay on their devices."""
        self.precision_plugin.teardown()
        self.accelerator.teardown()  # type: ignore[union-attr] # set by the trainer
        self.checkpoint_io.teardown()

    @property
    def order(self) -> int:  # type: ignore[override]
        """A fingerprint of the exchanges of this step."""
        return self._parameters.order

    @property
    def _parameters(self) -> FullySharded:
        assert self.parameters is not None  # noqa: S101 - `setup` is called first
        return self.parameters

    def begin_step(self) -> None:
        """Prepare the parameters for a step."""
        self._parameters.begin_step()

    def begin_shard(self) -> None:
        """Clear the record of used parameters."""
        self._parameters.begin_shard()

    def uses(self, named: list[tuple[str, Parameter]]) -> list[bool]:
        """Return whether the loss depends on each parameter: FSDP2 sets the gradients of unused parameters to zeros."""
        return [name in self._parameters.used for name, _ in named]

    def average(self, gradients: list[Tensor], *, world: int) -> None:
        """Divide the sums, which FSDP2 computed during the backward pass, by the number of shards."""
        del world
        torch._foreach_div_([part_of(each) for each in gradients], self.shards)

    def end_step(self, orders: set[int]) -> None:
        """Raise `ExperimentError` if the ranks called different blocks, or if the step changed a gathered parameter in place."""
        if len(orders) > 1:
            message = "the devices call different modules of the net in one step: their parameters cannot be gathered"
            raise ExperimentError(message, hint="call the same modules for every batch, or omit --strategy")
        self._parameters.end_step()

    def _gradients(self, net: L.LightningModule, step: tuple[Any, ...], named: list[tuple[str, Parameter]]) -> Tensor:
        loss = super()._gradients(net, step, named)
        if is_part(loss):
            message = "the loss is computed with a distributed parameter outside of the call of its module"
            raise ExperimentError(message, hint="call the module that has the parameter, or omit --strategy")
        return loss

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate a batch, and free the gathered parameters."""
        found = super().validation_step(*args, **kwargs)
        keep_parts(self._parameters.net)
        return found

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate a batch, and free the gathered parameters."""
        found = super().test_step(*args, **kwargs)
        keep_parts(self._parameters.net)
        return found

    def computed_with(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Return the gathered parameters for an optimizer's parameters: a forward pass computes with the gathered parameters."""
        keep_parts(self._parameters.net)
        known = {id(each) for each in parameters}
        named = self._parameters.net.named_parameters()
        return [self._parameters.whole[name] for name, each in named if id(each) in known]

    def _clip_by_norm(self, optimizer: Optimizer, clip_val: float) -> None:
        """Scale the gradients so that their norm over all ranks is at most `clip_val`."""
        found = [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
        if found:
            # as `torch.nn.utils.clip_grad_norm_`
            scale = torch.clamp(clip_val / (norm_over_ranks(found) + 1e-6), max=1.0)
            torch._foreach_mul_([part_of(each) for each in found], scale)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the weights; parameters are distributed tensors."""
        keep_parts(self._parameters.net)
        return self._parameters.net.state_dict()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint on rank 0; the other ranks send their rows. Raise `RankError` if an exchange fails."""
        if self.is_global_zero:
            super().save_checkpoint(checkpoint, filepath, storage_options)
        else:
            write_checkpoint(None, checkpoint)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load the optimizers' states: each rank keeps its parts."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [each for group in optimizer.param_groups for each in group["params"]]
            parts = {
                number: {name: as_part(value, parameters[number]) for name, value in values.items()}
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": parts})
