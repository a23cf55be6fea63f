"""What happens around every step: the seed of the step, the check before the first, the clock.

Knows that a step's randomness follows from its place alone. Refuses to know what a step computes.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback

from trainer.ledger import configured
from trainer.training.seeds import derived, seed_all

if TYPE_CHECKING:
    import lightning as L

    from trainer.ledger import Ledger


@configured
class SeedEveryStep(Callback):
    """Seeds all generators at the start of each batch, by epoch, batch and rank; and of each validation and test."""

    def __init__(self, *, seed: int) -> None:
        """Derive every seed from `seed`."""
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Seed the step."""
        del pl_module, batch
        seed_all(derived(self.seed, "step", trainer.current_epoch, batch_idx, trainer.global_rank))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed a validation."""
        del pl_module
        seed_all(derived(self.seed, "val", trainer.current_epoch, trainer.global_rank))

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed the test."""
        del pl_module
        seed_all(derived(self.seed, "test", trainer.global_rank))


class CheckBeforeFirstStep(Callback):
    """Lets no step be made where a setting that was given has no effect."""

    def __init__(self, ledger: Ledger) -> None:
        """Ask `ledger`."""
        self.ledger = ledger

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Raise where a given setting is bound to nothing: by now everything is assembled."""
        del trainer, pl_module
        self.ledger.require_bound()


class StepClock(Callback):
    """When the first step began, how many there were, how long they took; by the monotonic clock."""

    def __init__(self) -> None:
        """Begin unset."""
        self.first: float | None = None
        self.last: float | None = None
        self.batches = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Note the first."""
        del trainer, pl_module, batch, batch_idx
        if self.first is None:
            self.first = monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Note the last."""
        del trainer, pl_module, outputs, batch, batch_idx
        self.last = monotonic()
        self.batches += 1

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Have all ranks agree on the epoch's metrics now: reading them exchanges values, and the first rank alone would wait for ever."""
        del pl_module
        _ = trainer.callback_metrics

    def telemetry(self, *, started: float) -> dict[str, float]:
        """Give the seconds from `started` to the first step, and the batches in a second since."""
        if self.first is None or self.last is None:
            return {}
        spent = max(self.last - self.first, 1e-9)
        return {"seconds_to_first_step": self.first - started, "batches_per_second": self.batches / spent}
