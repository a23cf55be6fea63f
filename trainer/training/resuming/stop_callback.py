"""Stopping between steps: after a stop request, a training finishes its step and saves a checkpoint.

`trainer.training.resuming.stop_requests` handles the request itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback

from trainer.runs.checkpoint_pointer import NextStage

if TYPE_CHECKING:
    import lightning as L

    from trainer.training.resuming.checkpoints import Checkpoints
    from trainer.training.resuming.stop_requests import Stop


class StopBetweenSteps(Callback):
    """Stop a training after the current step, with a checkpoint of that step; must come directly after `Checkpoints`."""

    def __init__(self, stop: Stop, checkpoints: Checkpoints) -> None:
        """Check `stop`; save with `checkpoints`."""
        self.stop = stop
        self.checkpoints = checkpoints

    def on_train_start(self, *_: object) -> None:
        """Begin to delay stops to the end of a step, and reinstall the signal handlers that Lightning has just replaced."""
        self.stop.waits = True
        self.stop.listen()

    def on_train_batch_start(self, trainer: L.Trainer, _net: object, _batch: object, batch_idx: int) -> None:
        """Stop before the next batch, unless gradients are being accumulated; all ranks stop at the same batch."""
        if not self.checkpoints.summing:
            self._stop_if_asked(trainer, NextStage.BATCH, batch=batch_idx)

    def on_validation_start(self, trainer: L.Trainer, *_: object) -> None:
        """Stop before a validation; the resumed run performs it."""
        self._stop_in_validation(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Stop within a validation; the resumed run repeats it from the start."""
        self._stop_in_validation(trainer)

    def on_train_end(self, *_: object) -> None:
        """Stop at once from now on: the last checkpoint is written."""
        self.stop.waits = False
        if self.stop.asked is not None:
            raise self.stop.fault()

    def on_validation_epoch_start(self, *_: object) -> None:
        """Reinstall the signal handlers that Lightning replaced, for a validation after the training."""
        self._listen()

    def on_test_start(self, *_: object) -> None:
        """Reinstall the signal handlers that Lightning replaced."""
        self._listen()

    def _listen(self) -> None:
        if not self.stop.waits:
            self.stop.listen()

    def _stop_in_validation(self, trainer: L.Trainer) -> None:
        """Stop, except in the validation at `max_steps`: Lightning would not return to it, so it runs to its end."""
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
