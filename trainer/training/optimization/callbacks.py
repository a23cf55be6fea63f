"""Weight averaging and early stopping, if a setting requests them; Lightning's callbacks compute the average and decide to stop.

The average over the steps is validated, tested and served instead of the last weights. A run that ended early stays ended when resumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.trainer.states import TrainerFn

from trainer.base.errors import SettingError
from trainer.base.suggestions import counted
from trainer.runs.metric_text import is_score
from trainer.settings.errors import unmonitored
from trainer.settings.fields import Origin
from trainer.settings.ledger import call_configured, configured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import lightning as L
    from torch import Tensor


@configured
class AveragedWeights(EMAWeightAveraging):
    """Keeps an exponential moving average of weights and buffers; a checkpoint has both.

    The checkpoint stores the average as the weights of the net, and the current weights separately.
    """

    def __init__(self, *, ema_decay: float) -> None:
        super().__init__(decay=ema_decay)
        self._kwargs["avg_fn"] = _exact_where_equal(self._kwargs["avg_fn"])
        self.is_swapped = False
        """Whether the average and the weights of the net are swapped."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copy the whole net, including its loss, to the training device."""
        self._device = trainer.strategy.root_device
        if stage == "fit":
            pl_module.setup(stage)
        super().setup(trainer, pl_module, stage)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Swap in the average; after training the net already has the average."""
        if trainer.state.fn is TrainerFn.FITTING:
            self.is_swapped = True
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Swap the weights of the last step back in."""
        if self.is_swapped:
            super().on_validation_epoch_end(trainer, pl_module)
            self.is_swapped = False

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average and the weights, also in an interrupted validation, in which they are swapped."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self.is_swapped:
            both = checkpoint["state_dict"], checkpoint["current_model_state"]
            checkpoint["current_model_state"], checkpoint["state_dict"] = both


@configured
def averaging(*, ema_decay: float | None) -> list[AveragedWeights]:
    """Return the callback that averages the weights, if requested."""
    return [] if ema_decay is None else [call_configured(AveragedWeights)]


@configured
class StopEarly(EarlyStopping):
    """Checks the monitored metric after each epoch."""

    def __init__(
        self, say: Callable[[str], None], *, monitor: str, monitor_mode: str, patience: int, min_delta: float
    ) -> None:
        """Stop if `monitor` does not improve by more than `min_delta` for `patience` epochs."""
        super().__init__(
            monitor, min_delta=min_delta, patience=patience, mode=monitor_mode, check_on_train_epoch_end=True
        )
        self.say = say
        self.end = ""
        """The reason for the end of training."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop at once if the run had ended before it was resumed."""
        super().on_train_start(trainer, pl_module)
        if self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the metric. An epoch with an undefined `monitor` is ignored."""
        if self.monitor in getattr(pl_module, "undefined", {}):
            return
        super().on_train_epoch_end(trainer, pl_module)
        if self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED and trainer.is_global_zero:
            why = {
                EarlyStoppingReason.NON_FINITE_METRIC: "is not a finite number",
                EarlyStoppingReason.PATIENCE_EXHAUSTED: f"did not improve in {counted(self.wait_count, 'epoch')}",
            }.get(self.stopping_reason, self.stopping_reason.value)
            self.end = f"ended after epoch {trainer.current_epoch + 1}: {self.monitor} {why}"

    def on_fit_end(self, *_: object) -> None:
        """Report the stop, after the line of the last epoch."""
        if self.end:
            self.say(self.end)


@configured
def early_stopping(say: Callable[[str], None], *, patience: int | None, monitor: str | None) -> list[StopEarly]:
    """Return the callback, if requested. Raise `SettingError` if there is no metric to monitor."""
    if patience is None:
        return []
    if monitor is None:
        raise unmonitored()
    return [call_configured(StopEarly, say)]


@configured
def require_direction(origins: Mapping[str, Origin], *, monitor: str | None, monitor_mode: str) -> None:
    """Raise `SettingError` if `monitor` is a score, and only the default says that a lower value is better."""
    if monitor is None or monitor_mode != "min" or not is_score(monitor):
        return
    if origins.get("monitor_mode") is Origin.DEFAULT:
        message = f"setting monitor is {monitor!r}, a score, and monitor_mode is 'min' by default: the worst epoch would be kept"
        raise SettingError(message, hint="add --monitor-mode max; or --monitor-mode min if a lower value is better")


def _exact_where_equal(
    average: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return an average function that keeps equal values: rounding would let values drift that never change, such as counts."""

    def averaged(old: Tensor, new: Tensor, count: Tensor) -> Tensor:
        return torch.where(old == new, new, average(old, new, count).to(new.dtype))

    return averaged
