"""Loggers: when the training loss is logged, and that loggers are finalized only if they wrote."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from trainer.training.logs.displays import Bar, EpochLines
from trainer.training.logs.loggers import METRICS, JsonLines, finish
from trainer.training.logs.losses import LossLines, log_at_steps
from trainer.training.tasks.metrics import MeanLoss

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def test_a_logger_that_never_wrote_is_not_started(tmp_path: Path) -> None:
    finish([TensorBoardLogger(tmp_path, name="tensorboard", version="")])
    assert list(tmp_path.iterdir()) == []


class Net(L.LightningModule):
    """A net whose loss is the mean of the batch; with `silent`, the loss is not added to `learned`."""

    def __init__(self, *, silent: bool = False) -> None:
        super().__init__()
        self.weight, self.learned, self.silent = torch.nn.Parameter(torch.zeros(1)), MeanLoss(), silent

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        del index
        loss = batch.mean() + 0 * self.weight.sum()
        if not self.silent:
            self.learned.update(loss, len(batch))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def logged_lines(folder: Path, net: Net) -> list[dict[str, Any]]:
    """Return the log of two epochs with the numbers 0 to 8 in five batches, two batches per step."""
    trainer = L.Trainer(
        max_epochs=2,
        accumulate_grad_batches=2,
        accelerator="cpu",
        logger=JsonLines(folder / METRICS),
        callbacks=[LossLines(log_every=2)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(net, DataLoader(torch.arange(9.0), batch_size=2))  # type: ignore[arg-type] # a tensor is a dataset
    path = folder / METRICS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_loss_is_logged_per_optimizer_step_and_as_a_mean_per_epoch(tmp_path: Path) -> None:
    assert logged_lines(tmp_path, Net()) == [
        {"epoch": 0, "step": 2, "train_loss": 6.5},
        {"epoch": 0, "step": 3, "train_loss_mean": 4.0},
        {"epoch": 1, "step": 4, "train_loss": 2.5},
        {"epoch": 1, "step": 6, "train_loss": 8.0},
        {"epoch": 1, "step": 6, "train_loss_mean": 4.0},
    ]


def test_a_step_that_returns_no_loss_is_not_logged(tmp_path: Path) -> None:
    assert logged_lines(tmp_path, Net(silent=True)) == []


def test_large_and_small_numbers_are_short_in_lines_and_on_the_bar() -> None:
    messages: list[str] = []
    net = Net()
    metrics = {"val_loss": torch.tensor(1e30), "val_r2": torch.tensor(3e-7)}
    place = {"current_epoch": 0, "max_epochs": 1, "global_step": 3, "is_global_zero": True}
    trainer: Any = SimpleNamespace(callback_metrics=metrics, progress_bar_metrics={}, loggers=[], **place)
    EpochLines(messages.append).on_train_epoch_end(trainer, net)
    assert "val_loss 1.000e+30  val_r2 3.000e-07" in messages[0]
    net.learned.update(torch.tensor(1e30), 1)
    assert Bar().get_metrics(trainer, net) == {"train_loss": "1.000e+30"}


class TwoOptimizers(Net):
    """Steps two optimizers per batch and logs its own value."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: torch.Tensor, index: int) -> None:  # type: ignore[override] # manual optimization
        for optimizer in self.optimizers():  # type: ignore[union-attr] # there are two
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, index))
            optimizer.step()
        self.log("own", float(index))

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]


@pytest.mark.parametrize(("net", "steps"), [(Net, [2, 4]), (TwoOptimizers, [4, 8])])
def test_a_custom_value_is_logged_at_the_optimizers_steps(
    tmp_path: Path, net: type[Net], steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if net is Net:
        monkeypatch.setattr(Net, "on_train_batch_end", lambda self, *_: self.log("own", 1.0), raising=False)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=JsonLines(tmp_path / METRICS),
        log_every_n_steps=2,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    log_at_steps(trainer)
    trainer.fit(net(), DataLoader(torch.arange(8.0), batch_size=2))  # type: ignore[arg-type] # a tensor is a dataset
    found = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["step"] for line in found if "own" in line] == steps
