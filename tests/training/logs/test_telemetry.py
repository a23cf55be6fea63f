"""Telemetry: its numbers, its files, and that no result depends on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from trainer.training.logs.loggers import METRICS, JsonLines
from trainer.training.logs.telemetry import Telemetry, Waits, learning_rates

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SlowDataset(Dataset[dict[str, Tensor]]):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        self.clock.now += 1
        return {"x": torch.ones(3)}


class Net(L.LightningModule):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.layer, self.clock = nn.Linear(3, 1), clock

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        del index
        self.clock.now += 2
        loss: Tensor = self.layer(batch["x"]).square().mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        del batch, index
        self.clock.now += 100

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.25)


def train_and_read(folder: Path) -> tuple[list[dict[str, Any]], Telemetry]:
    """Train two epochs; return the telemetry lines and their writer."""
    clock = Clock()
    devices: list[str | None] = []

    def gauges(uuid: str | None) -> dict[str, float]:
        devices.append(uuid)
        return {"memory_gib": 0.5}

    telemetry = Telemetry(folder, waits=Waits(clock), gauges=gauges)
    trainer = L.Trainer(
        max_epochs=2,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=[JsonLines(folder / METRICS), CSVLogger(folder, name="csv", version="")],
        callbacks=[telemetry],
        profiler=telemetry.waits,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(Net(clock), DataLoader(SlowDataset(clock), batch_size=4), DataLoader(SlowDataset(clock), batch_size=20))
    assert devices == [None] * len(devices), "a CPU has no UUID"
    return [json.loads(line) for line in (folder / "telemetry.jsonl").read_text().splitlines()], telemetry


def test_a_line_has_speed_data_wait_learning_rate_and_memory(tmp_path: Path) -> None:
    lines, _ = train_and_read(tmp_path)
    assert set(lines[-1]) == {"step", "seconds", "samples_per_second", "data_wait", "learning_rate", "memory_gib"}
    assert (lines[-1]["step"], lines[-1]["learning_rate"], lines[-1]["memory_gib"]) == (10, 0.25, 0.5)


def test_each_optimizer_has_a_learning_rate_named_after_its_module() -> None:
    net = nn.ModuleDict({"generator": nn.Linear(2, 2), "nets": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))})
    owned = [net["generator"], net["nets"], net["nets"][1], net]  # type: ignore[index]
    rates = learning_rates(net, [torch.optim.SGD(each.parameters(), lr=2.0**-at) for at, each in enumerate(owned)])
    names = ("learning_rate", "learning_rate_nets", "learning_rate_nets.1", "learning_rate_4")
    assert rates == dict(zip(names, (1.0, 0.5, 0.25, 0.125), strict=True))
    assert learning_rates(net, []) == {}


def test_data_wait_excludes_computation_and_validations(tmp_path: Path) -> None:
    """Four samples take four seconds to load and two seconds to train on."""
    _, telemetry = train_and_read(tmp_path)
    found = telemetry.summary(started=90.0)
    assert (telemetry.samples, telemetry.batches, telemetry.busy) == (40, 10, 60)
    assert found["data_wait"] == pytest.approx(2 / 3)
    assert found["samples_per_second"] == pytest.approx(40 / 60) == 4 * found["batches_per_second"]


def test_telemetry_goes_to_every_logger_except_metrics_jsonl(tmp_path: Path) -> None:
    train_and_read(tmp_path)
    assert "telemetry/samples_per_second" in (tmp_path / "csv" / "metrics.csv").read_text()
    names = {name for line in (tmp_path / METRICS).read_text().splitlines() for name in json.loads(line)}
    assert names == {"epoch", "step", "train_loss"}


def test_lines_become_less_frequent(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path, waits=Waits(), gauges=lambda _: {})
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    apart = []
    for after in (1.0, 3600.0, 1e6):
        telemetry._tell(trainer, Net(Clock()), after)
        apart.append(telemetry.next - after)
    assert apart == pytest.approx([0.5, 18.0, 60.0])


def test_a_training_without_a_step_has_no_telemetry(tmp_path: Path) -> None:
    assert Telemetry(tmp_path, waits=Waits(), gauges=lambda _: {}).summary(started=0.0) == {}
    assert not list(tmp_path.iterdir())
