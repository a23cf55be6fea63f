"""Callbacks around every step: the seed of the step, which depends only on its position, and the check before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback

from trainer.base.errors import SettingError
from trainer.base.suggestions import nearest
from trainer.settings.ledger import configured
from trainer.training.determinism.seeds import derived, seed_all

if TYPE_CHECKING:
    from collections.abc import Callable

    import lightning as L

    from trainer.settings.ledger import Ledger


@configured
class SeedEveryStep(Callback):
    """Seeds all generators at the start of each batch by epoch and batch, and at the start of each validation and test.

    Every rank has the same seed. If a batch has several shards, each has its own seed (`trainer.training.shards.strategy`).
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, _net: object, _batch: object, batch_idx: int) -> None:
        """Seed the step."""
        seed_all(derived(self.seed, "step", trainer.current_epoch, batch_idx, 0))

    def on_validation_start(self, trainer: L.Trainer, *_: object) -> None:
        """Seed a validation."""
        seed_all(derived(self.seed, "val", trainer.current_epoch, 0))

    def on_test_start(self, *_: object) -> None:
        """Seed the test."""
        seed_all(derived(self.seed, "test", 0))


class CheckBeforeFirstStep(Callback):
    """Raises before the first step if a given setting has no effect; otherwise prints the experiment's settings that nothing has used."""

    def __init__(self, ledger: Ledger, say: Callable[[str], None]) -> None:
        self.ledger, self.say = ledger, say
        self.is_checked = False

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        """Raise `SettingError` if a given setting is not used: by now all objects exist, and a worker has read the first batch.

        Rank 0 checks for all ranks: only rank 0 reads some settings, such as `publish`.
        """
        if self.is_checked:
            return
        self.is_checked = True
        fault: SettingError | None = None
        try:
            if trainer.is_global_zero:
                self.ledger.require_bound()
        except SettingError as raised:
            fault = raised
        if trainer.world_size > 1:
            fault = trainer.strategy.broadcast(fault)
        if fault is not None:
            raise fault
        if trainer.is_global_zero:
            for name in self.ledger.idle():
                near = nearest(name, self.ledger.origins().keys() - {name}, most=1)
                also = f" (did you mean {near[0]}?)" if near else ""
                self.say(f"nothing has used the experiment's setting {name} so far{also}")
