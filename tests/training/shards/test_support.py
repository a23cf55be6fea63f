"""Nets, data modules and callbacks that change a step, or use its whole batch, are rejected by name."""

# ruff: noqa: ARG002 - arguments of Lightning's hooks
from __future__ import annotations

from typing import Any

import lightning as L
import pytest

from trainer.base.errors import SettingError
from trainer.training.shards.support import require_sharded, require_sharded_callbacks

pytestmark = pytest.mark.torch


class Net(L.LightningModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return batch


class Manual(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class Backward(Net):
    def backward(self, loss: Any) -> None:
        loss.backward()


class Moves(Net):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch


class MovesData(L.LightningDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch


class Iterates(Net):
    def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
        return next(dataloader_iter)


class Counts(Net):
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen = len(batch[0])


class Average(Net):
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen = batch_idx


class Every(Net):
    def on_train_batch_start(self, *args: Any) -> None:
        super().on_train_batch_start(*args)


class Watches(L.Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen = batch


class Steps(L.Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen = batch_idx


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (Manual, "Manual optimizes manually"),
        (Backward, "Backward overrides `backward`"),
        (Moves, "Moves overrides `on_after_batch_transfer`, which gets a whole batch"),
        (MovesData, "MovesData overrides `on_after_batch_transfer`"),
        (Iterates, "Iterates reads the batches itself, from `dataloader_iter`"),
        (Counts, "Counts uses the batch in `on_train_batch_end`"),
        (Every, "Every uses the batch in `on_train_batch_start`"),
    ],
)
def test_a_part_that_needs_whole_batches_is_rejected(part: type[Any], why: str) -> None:
    with pytest.raises(SettingError, match=f"a batch has 2 shards, but {why}"):
        require_sharded(part(), shards=2)


@pytest.mark.parametrize("part", [Net, Average, L.LightningDataModule])
def test_a_part_that_needs_no_batch_is_accepted(part: type[Any]) -> None:
    require_sharded(part(), shards=2)


def test_a_callback_that_uses_the_batch_is_rejected() -> None:
    require_sharded_callbacks([Steps(), L.Callback()], shards=2)
    with pytest.raises(SettingError, match="Watches uses the batch in `on_train_batch_start`"):
        require_sharded_callbacks([Steps(), Watches()], shards=2)
