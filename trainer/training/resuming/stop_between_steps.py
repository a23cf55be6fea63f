"""Stops a run between two steps, after a checkpoint was saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from trainer.runs.checkpoint_pointer import NextStage
from trainer.training.shards.strategy import ShardedStep

if TYPE_CHECKING:
    import lightning as L

    from trainer.training.resuming.checkpoints import Checkpoints
    from trainer.training.resuming.stop_requests import StopRequest


class StopBetweenSteps(Callback):
    """Stop a run after the current step, with a checkpoint of this step. This callback must come directly after `Checkpoints`."""

    def __init__(self, stop: StopRequest, checkpoints: Checkpoints) -> None:
        self.stop = stop
        self.checkpoints = checkpoints
        self.sharded: ShardedStep | None = None
        """The strategy if there are several processes, which agree on a stop in each step's exchange; otherwise None."""

    def on_train_start(self, trainer: L.Trainer, *_: object) -> None:
        """Begin to delay stops to the end of a step, and reinstall the signal handlers that Lightning has just replaced."""
        strategy = trainer.strategy
        self.sharded = strategy if trainer.world_size > 1 and isinstance(strategy, ShardedStep) else None
        if self.sharded is not None:
            self.sharded.stop = self.stop
            # disables Lightning's agreement on SIGTERM, which costs an exchange per step: Lightning does not receive the signal here
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]  # noqa: SLF001
        self.stop.is_delayed = True
        self.stop.listen()

    def on_train_batch_start(self, trainer: L.Trainer, _net: object, _batch: object, batch_idx: int) -> None:
        """Stop before the batch if a stop was requested and no gradients are being accumulated; all ranks stop at the same batch."""
        if self.checkpoints.summing:
            return
        if self.sharded is None:
            self._stop_if_requested(trainer, NextStage.BATCH, batch=batch_idx)
        elif self.sharded.is_stop_requested:
            self._stop(trainer, NextStage.BATCH, batch=batch_idx)

    def on_validation_start(self, trainer: L.Trainer, *_: object) -> None:
        """Stop before a validation if a stop was requested; the resumed run performs the validation."""
        self._stop_in_validation(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Stop within a validation if a stop was requested; the resumed run repeats the validation from the start."""
        self._stop_in_validation(trainer)

    def teardown(self, _trainer: object, _net: object, stage: str) -> None:
        """Stop immediately after training: the last checkpoint is written."""
        if stage != TrainerFn.FITTING:
            return
        self.stop.is_delayed = False
        if self.stop.requested is not None:
            raise self.stop.fault()

    def on_validation_epoch_start(self, *_: object) -> None:
        """Reinstall the signal handlers that Lightning replaced, for a validation after training."""
        self._listen()

    def on_test_start(self, *_: object) -> None:
        """Reinstall the signal handlers that Lightning replaced."""
        self._listen()

    def _listen(self) -> None:
        if not self.stop.is_delayed:
            self.stop.listen()

    def _stop_in_validation(self, trainer: L.Trainer) -> None:
        """Stop if requested, except in the validation at `max_steps`, to which a resumed run would not return."""
        if self.stop.is_delayed and trainer.global_step != trainer.max_steps:
            self._stop_if_requested(trainer, NextStage.VALIDATION, batch=trainer.fit_loop.batch_idx + 1)

    def _stop_if_requested(self, trainer: L.Trainer, stage: NextStage, *, batch: int) -> None:
        requested = self.stop.requested is not None
        if trainer.world_size > 1:
            requested = trainer.strategy.reduce_boolean_decision(requested, all=False)
        if requested:
            self._stop(trainer, stage, batch=batch)

    def _stop(self, trainer: L.Trainer, stage: NextStage, *, batch: int) -> None:
        if trainer.global_step:
            self.checkpoints.save(trainer, stage, batch=batch)
        raise self.stop.fault()
