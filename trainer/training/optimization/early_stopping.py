"""Early stopping: ends a training if the monitored metric has not improved for some epochs.

Lightning's callback makes the decision. A run that ended early stays ended when it is resumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from trainer.settings.errors import unmonitored
from trainer.settings.ledger import configured, made

if TYPE_CHECKING:
    from collections.abc import Callable

    import lightning as L


@configured
class EndEarly(EarlyStopping):
    """Checks the monitored metric after each epoch."""

    def __init__(
        self, say: Callable[[str], None], *, monitor: str, monitor_mode: str, patience: int, min_delta: float
    ) -> None:
        """Stop if `monitor` does not improve by more than `min_delta` for `patience` epochs."""
        super().__init__(
            monitor, min_delta=min_delta, patience=patience, mode=monitor_mode, check_on_train_epoch_end=True
        )
        self.say = say

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop at once if the run had ended before it was resumed."""
        super().on_train_start(trainer, pl_module)
        if self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the metric and report a stop. An epoch with an undefined `monitor` is ignored."""
        if self.monitor in getattr(pl_module, "undefined", {}):
            return
        super().on_train_epoch_end(trainer, pl_module)
        if self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED and trainer.is_global_zero:
            why = {
                EarlyStoppingReason.NON_FINITE_METRIC: "is no finite number",
                EarlyStoppingReason.PATIENCE_EXHAUSTED: f"did not become better in {self.wait_count} epochs",
            }.get(self.stopping_reason, self.stopping_reason.value)
            self.say(f"ended after epoch {trainer.current_epoch + 1}: {self.monitor} {why}")


@configured
def ending_early(say: Callable[[str], None], *, patience: int | None, monitor: str | None) -> list[EndEarly]:
    """Return the callback, if requested. Raise `SettingError` if there is no metric to monitor."""
    if patience is None:
        return []
    if monitor is None:
        raise unmonitored()
    return [made(EndEarly, say)]
