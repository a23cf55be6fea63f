"""Ending a training early: once what is monitored has not become better for some epochs.

Knows when to say so, and that a run which ended so stays ended when it is gone on with. Refuses to judge: Lightning's own callback does.
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
    """Looks at the validation of each epoch."""

    def __init__(
        self, say: Callable[[str], None], *, monitor: str, monitor_mode: str, patience: int, min_delta: float
    ) -> None:
        """Wait `patience` epochs for a `monitor` that is better by more than `min_delta`."""
        super().__init__(
            monitor, min_delta=min_delta, patience=patience, mode=monitor_mode, check_on_train_epoch_end=True
        )
        self.say = say

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make no further step, where the run had ended before it was gone on with."""
        super().on_train_start(trainer, pl_module)
        if self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look, and say what follows. An epoch whose `monitor` is undefined counts neither as better nor as worse."""
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
    """End early, where it is asked for. Raises `SettingError` where there is nothing to look at."""
    if patience is None:
        return []
    if monitor is None:
        raise unmonitored()
    return [made(EndEarly, say)]
