"""Stopping: what Ctrl-C and SIGTERM do at each stage of a run.

Knows that a training finishes its step and saves before it stops, and that everything else stops where it is. Refuses to exit: it
raises, and whoever opened the record closes it. A second Ctrl-C does not wait for the step.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from lightning.pytorch.callbacks import Callback

from trainer.errors import InterruptedRunError, StoppedError

if TYPE_CHECKING:
    from types import FrameType

    import lightning as L

    from trainer.training.checkpoints import Checkpoints

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """A wish to stop, from the moment it is asked for."""

    def __init__(self) -> None:
        """Begin without one."""
        self.asked: int | None = None
        self.waits = False
        """Whether somebody looks at `asked` after each step; until then a signal raises at once."""

    def listen(self) -> None:
        """Take over the signals of this process; those that were held back meanwhile arrive now."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def fault(self) -> StoppedError:
        """Word the stop."""
        if self.asked == signal.SIGINT:
            return InterruptedRunError("the run was stopped by Ctrl-C")
        return StoppedError("the run was stopped by SIGTERM")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        again = self.asked is not None
        self.asked = number
        if again or not self.waits:
            raise self.fault()


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

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int) -> None:
        """Stop after a step; all ranks agree on which."""
        del pl_module, outputs, batch, batch_idx
        self._stop_if_asked(trainer)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int, dataloader_idx: int = 0
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
