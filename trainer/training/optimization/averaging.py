"""An average of the weights over the steps: what is validated, tested and served instead of the last step's weights.

Knows when Lightning's callback has the two exchanged, and what a checkpoint holds then. Refuses to average: torch's own function does.
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
    """Keeps an exponential moving average of weights and buffers; a checkpoint has it as the net's weights, and the others beside."""

    def __init__(self, *, ema_decay: float) -> None:
        """Let each step count for what `ema_decay` leaves."""
        super().__init__(decay=ema_decay)
        self.exchanged = False
        """Whether the net has the average now, and the average what the net had."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copy the whole net, its loss too, to where it is trained."""
        self._device = trainer.strategy.root_device
        if stage == "fit":
            pl_module.setup(stage)
        super().setup(trainer, pl_module, stage)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate the average; after the training the net has what is served already."""
        if trainer.state.fn is TrainerFn.FITTING:
            self.exchanged = True
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with the weights of the last step."""
        if self.exchanged:
            super().on_validation_epoch_end(trainer, pl_module)
            self.exchanged = False

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save both; also within a validation that is broken off, where they are exchanged."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self.exchanged:
            both = checkpoint["state_dict"], checkpoint["current_model_state"]
            checkpoint["current_model_state"], checkpoint["state_dict"] = both


@configured
def averaging(*, ema_decay: float | None) -> list[AveragedWeights]:
    """Average the weights, where it is asked for."""
    return [] if ema_decay is None else [made(AveragedWeights)]
