"""A real fit by Lightning: the samples of each epoch, and the position of each checkpoint."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from trainer.base.digest import digest_of_file
from trainer.base.errors import StoppedError
from trainer.training.data import Picked
from trainer.training.determinism.seeds import Share, ShuffledBatches
from trainer.training.readers import Pick, Sample, Samples
from trainer.training.resuming.checkpoint_file import WholeCheckpointIO, read_checkpoint
from trainer.training.resuming.checkpoints import Checkpoints
from trainer.training.resuming.stop_between_steps import StopBetweenSteps
from trainer.training.resuming.stop_requests import StopRequest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


class Net(L.LightningModule):
    """A linear layer; records its samples, and requests a stop in batch `stop_in`, counted from 1 over all epochs."""

    def __init__(self, stop: StopRequest, *, stop_in: int = 0, validated: tuple[float, ...]) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.stop = stop
        self.stop_in = stop_in
        self.values = validated
        self.validated = ["val_loss"]
        self.results: dict[str, float] = {}
        self.seen: list[list[float]] = []

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        del index
        self.seen.append(batch["x"].flatten().tolist())
        if len(self.seen) == self.stop_in:
            self.stop.requested = signal.SIGTERM
        loss: torch.Tensor = self.layer(batch["x"]).mean()
        return loss

    def validation_step(self, batch: object, index: int) -> None:
        """Measure nothing."""

    def on_validation_epoch_end(self) -> None:
        self.results = {"val_loss": self.values[self.current_epoch]}
        self.log_dict(self.results)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Numbers(Samples):
    def __len__(self) -> int:
        return 12

    def sample(self, pick: Pick) -> Sample:
        return {"x": torch.tensor([float(pick.index)])}


def fit(folder: Path, *, every: int | None = None, monitor: str | None = None, **how: Any) -> Net:
    """Train on 12 rows in batches of 2, with the callbacks of a run."""
    stop = StopRequest()
    net = Net(stop, stop_in=how.pop("stop_in", 0), validated=how.pop("validated", (0.0, 0.0)))
    rows = Picked(Numbers(), seed=0, declared={}, dataset="numbers")
    order = ShuffledBatches(range(12), batch_size=2, seed=0, share=Share())
    loader: DataLoader[Any] = DataLoader(rows, batch_sampler=order, collate_fn=lambda batch: batch)
    checkpoints = Checkpoints(folder, dict, run="run", checkpoint_every=every, monitor=monitor, monitor_mode="min")
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    machine = L.Trainer(
        **quiet,  # type: ignore[arg-type]
        accelerator="cpu",
        callbacks=[checkpoints, StopBetweenSteps(stop, checkpoints)],
        plugins=[WholeCheckpointIO()],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **{"max_epochs": 2, **how},
    )
    try:
        machine.fit(net, loader, loader)
    except StoppedError:
        assert net.stop_in
    return net


def test_each_epoch_has_an_order_of_its_own(tmp_path: Path) -> None:
    samples = fit(tmp_path).seen
    assert samples[:6] != samples[6:]
    assert sorted(sum(samples[:6], [])) == sorted(sum(samples[6:], [])) == list(range(12))  # noqa: RUF017 - 12 elements


def latest_checkpoint(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "latest.json").read_bytes())
    return document


def test_a_stop_saves_the_number_of_the_finished_batch(tmp_path: Path) -> None:
    fit(tmp_path, stop_in=3)
    result = latest_checkpoint(tmp_path)
    assert (result["step"], result["epoch"], result["batch"]) == (3, 0, 3)
    inside = read_checkpoint(tmp_path / result["path"])["reprise"]
    assert (inside["step"], inside["batch"]) == (3, 3)


def test_a_stop_waits_for_the_optimizer_step(tmp_path: Path) -> None:
    """A checkpoint in the middle of gradient accumulation would lose the accumulated gradients."""
    fit(tmp_path, stop_in=3, accumulate_grad_batches=2)
    result = latest_checkpoint(tmp_path)
    assert (result["step"], result["batch"]) == (2, 4)


def test_the_best_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    fit(tmp_path, every=1, monitor="val_loss", validated=(1.0, 2.0), accumulate_grad_batches=4, stop_in=8)
    best = json.loads((tmp_path / "best.json").read_bytes())
    assert best["step"] == 2
    assert digest_of_file(tmp_path / best["path"]) == best["sha256"]


def test_a_checkpoint_has_the_validation_metrics_of_its_weights(tmp_path: Path) -> None:
    fit(tmp_path, monitor="val_loss", validated=(1.0, 2.0))
    best = json.loads((tmp_path / "best.json").read_bytes())
    inside = read_checkpoint(tmp_path / best["path"])["reprise"]
    assert inside["results"] == {"val_loss": 1.0}
