"""Stopping between steps: a training that is asked to stop finishes its step and saves before it does.

Knows the places in a training where it can stop. Refuses to know what asked: `trainer.training.stop` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    import lightning as L

    from trainer.training.checkpoints import Checkpoints
    from trainer.training.stop import Stop


class StopBetweenSteps(Callback):
    """Stops a training after the step at which it was asked to, with a checkpoint of that step."""

    def __init__(self, stop: Stop, checkpoints: Checkpoints) -> None:
        """Look at `stop`; save by `checkpoints`."""
        self.stop = stop
        self.checkpoints = checkpoints

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to wait for steps; Lightning has just put handlers of its own in place."""
        del trainer, pl_module
        self.stop.waits = True
        self.stop.listen()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop after a step of the optimizer; all ranks agree on which."""
        del pl_module, outputs, batch, batch_idx
        if self.checkpoints.stepped(trainer):
            self._stop_if_asked(trainer)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop within a validation: the step before it is what is saved."""
        del pl_module, outputs, batch, batch_idx, dataloader_idx
        if trainer.world_size == 1:
            self._stop_if_asked(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop at once from now on: the last checkpoint is written."""
        del trainer, pl_module
        self.stop.waits = False
        if self.stop.asked is not None:
            raise self.stop.fault()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals back from Lightning."""
        del trainer, pl_module
        self.stop.listen()

    def _stop_if_asked(self, trainer: L.Trainer) -> None:
        asked = self.stop.asked is not None
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked:
            self.checkpoints.save(trainer)
            raise self.stop.fault()
