"""Stopping between steps: a training that is asked to stop finishes its step and saves before it does.

Knows the places in a training where it can stop. Refuses to know what asked: `trainer.training.resuming.stop` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback

from trainer.runs.checkpoint_pointer import NextStage

if TYPE_CHECKING:
    import lightning as L

    from trainer.training.resuming.checkpoints import Checkpoints
    from trainer.training.resuming.stop import Stop


class StopBetweenSteps(Callback):
    """Stops a training after the step at which it was asked to, with a checkpoint of that step; comes right after `Checkpoints`."""

    def __init__(self, stop: Stop, checkpoints: Checkpoints) -> None:
        """Look at `stop`; save by `checkpoints`."""
        self.stop = stop
        self.checkpoints = checkpoints

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to wait for steps; Lightning has just put handlers of its own in place."""
        del trainer, pl_module
        self.stop.waits = True
        self.stop.listen()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Stop before the next batch, unless gradients are being summed up; all ranks agree on where."""
        del pl_module, batch
        if not self.checkpoints.summing:
            self._stop_if_asked(trainer, NextStage.BATCH, batch=batch_idx)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop before a validation: when the run goes on, it is made."""
        self._stop_in_validation(trainer)
        del pl_module

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop within a validation: when the run goes on, it is made from its beginning."""
        del pl_module, outputs, batch, batch_idx, dataloader_idx
        self._stop_in_validation(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop at once from now on: the last checkpoint is written."""
        del trainer, pl_module
        self.stop.waits = False
        if self.stop.asked is not None:
            raise self.stop.fault()

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals back from Lightning, where this validation comes after the training."""
        del trainer, pl_module
        self._listen()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals back from Lightning."""
        del trainer, pl_module
        self._listen()

    def _listen(self) -> None:
        if not self.stop.waits:
            self.stop.listen()

    def _stop_in_validation(self, trainer: L.Trainer) -> None:
        """Stop, but for the validation with which `max_steps` ends: Lightning would not go back to it, so it is waited for."""
        if self.stop.waits and trainer.world_size == 1 and trainer.global_step != trainer.max_steps:
            self._stop_if_asked(trainer, NextStage.VALIDATION, batch=trainer.fit_loop.batch_idx + 1)

    def _stop_if_asked(self, trainer: L.Trainer, stage: NextStage, *, batch: int) -> None:
        asked = self.stop.asked is not None
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked:
            if trainer.global_step:
                self.checkpoints.save(trainer, stage, batch=batch)
            raise self.stop.fault()
