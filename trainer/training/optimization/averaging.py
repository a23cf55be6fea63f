"""Weight averaging: the average over the steps is validated, tested and served instead of the last weights.

This module tracks when the Lightning callback has swapped the two, for correct checkpoints; torch computes the average.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from trainer.settings.ledger import configured, made

if TYPE_CHECKING:
    import lightning as L


@configured
class AveragedWeights(EMAWeightAveraging):
    """Keeps an exponential moving average of weights and buffers; a checkpoint has both.

    The checkpoint stores the average as the weights of the net, and the current weights separately.
    """

    def __init__(self, *, ema_decay: float) -> None:
        """Average with the weight `1 - ema_decay` for each step."""
        super().__init__(decay=ema_decay)
        self.exchanged = False
        """Whether the average and the weights of the net are swapped."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copy the whole net, including its loss, to the training device."""
        self._device = trainer.strategy.root_device
        if stage == "fit":
            pl_module.setup(stage)
        super().setup(trainer, pl_module, stage)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Swap in the average; after the training the net already has the average."""
        if trainer.state.fn is TrainerFn.FITTING:
            self.exchanged = True
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Swap the weights of the last step back in."""
        if self.exchanged:
            super().on_validation_epoch_end(trainer, pl_module)
            self.exchanged = False

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save both, also in an interrupted validation, where they are swapped."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self.exchanged:
            both = checkpoint["state_dict"], checkpoint["current_model_state"]
            checkpoint["current_model_state"], checkpoint["state_dict"] = both


@configured
def averaging(*, ema_decay: float | None) -> list[AveragedWeights]:
    """Return the callback that averages the weights, if requested."""
    return [] if ema_decay is None else [made(AveragedWeights)]
