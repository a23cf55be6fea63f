"""What a run of a plain module measures is what Lightning measures for it, and a stopped run measures the same."""

from __future__ import annotations

import signal
import warnings
from time import monotonic
from typing import TYPE_CHECKING, Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback

from tests.checking import restored_threads
from trainer.base.errors import StoppedError
from trainer.base.run_files import read_run_json
from trainer.runs.checkpoint_pointer import BEST as BEST_FILE
from trainer.runs.checkpoint_pointer import FOLDER, LATEST, Checkpoint, Saved
from trainer.settings.determinism import Level, variables
from trainer.settings.ledger import Ledger
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.assembly import TrainingJob
from trainer.training.experiment import load_any_experiment
from trainer.training.fit import train
from trainer.training.resuming.stop_requests import StopRequest

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.training.trained import Trained

pytestmark = [pytest.mark.torch, pytest.mark.trains]
MODULE = """
import lightning as L
import torch
import torchmetrics
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Points(Dataset):
    shift = 0.0

    def __len__(self):
        return 48

    def __getitem__(self, index):
        x = torch.randn(4, generator=torch.Generator().manual_seed(index))
        return x + self.shift, int(x.sum() > 0)


class Net(L.LightningModule):
    def __init__(self, width: int | None = 8, rate: float = 0.5):
        super().__init__()
        self.width, self.rate = width, rate
        self.layer = nn.Linear(4, 2)
        self.register_buffer("ends", torch.zeros(1))
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=2)
        self.extremes = torchmetrics.MinMaxMetric(torchmetrics.Accuracy(task="multiclass", num_classes=2))

    def forward(self, x):
        return self.layer(x)

    def loss(self, batch):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate)

    def train_dataloader(self):
        return DataLoader(Points(), batch_size=8)
"""
TEST = """
    def test_step(self, batch, batch_idx):
        self.log_dict({"test/weight": self.layer.weight.abs().sum(), "test/ends": self.ends})

    def test_dataloader(self):
        return DataLoader(Points(), batch_size=8)
"""
VALIDATED = """
    def val_dataloader(self):
        return [DataLoader(Points(), batch_size=8), DataLoader(Points(), batch_size=16)]

    def validation_step(self, batch, batch_idx, dataloader_idx):
        self.log("val/size", float(len(batch[1])), batch_size=1)
        self.log("val/last", float(dataloader_idx), on_step=True, on_epoch=False)
        self.log("val/both", 1.0 + dataloader_idx, on_step=True, on_epoch=True)
"""
ENDINGS = """
    def training_step(self, batch, batch_idx):
        self.log("accuracy", 0.25, on_step=True, on_epoch=True)
        self.log("count", 2.0, on_step=False, on_epoch=True)
        return self.loss(batch)

    def on_train_epoch_end(self):
        self.log("count_epoch", 7.0)
"""
AT_END = "    def on_train_end(self):\n        self.ends += 1\n        self.layer.weight.data.mul_(2)\n"
AT_FIT_END = AT_END.replace("on_train_end", "on_fit_end")
BEST = """
    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def on_train_epoch_end(self):
        self.log("score", [0.5, 0.9, 0.7][self.current_epoch])
"""
AVERAGED = (
    "    def configure_callbacks(self):\n        return [StochasticWeightAveraging(swa_lrs=0.5, swa_epoch_start=1)]\n"
)
CHANGES = """
    def training_step(self, batch, batch_idx):
        self.log("shift", self.trainer.train_dataloader.dataset.shift, on_step=False, on_epoch=True)
        self.log("size", float(len(batch[1])), on_step=False, on_epoch=True, batch_size=1)
        self.log("mean", batch[0].mean(), on_step=False, on_epoch=True)
        return self.loss(batch)

    def on_train_epoch_start(self):
        self.trainer.train_dataloader.dataset.shift = float(self.current_epoch)
        self.trainer.train_dataloader.batch_sampler.batch_size = 4 + 4 * self.current_epoch
"""
METRICS = """
    def training_step(self, batch, batch_idx):
        self.accuracy(self(batch[0]), batch[1])
        self.log("train/accuracy", self.accuracy, on_step=False, on_epoch=True)
        return self.loss(batch)

    def val_dataloader(self):
        return DataLoader(Points(), batch_size=8)

    def validation_step(self, batch, batch_idx):
        self.extremes.update(self(batch[0]), batch[1])

    def on_validation_epoch_end(self):
        self.log_dict({f"val/{name}": value for name, value in self.extremes.compute().items()})
"""
AMBIGUOUS = """
    def training_step(self, batch, batch_idx):
        loss = self.loss(batch[1:])
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def train_dataloader(self):
        return DataLoader(Points(), batch_size=8, collate_fn=_with_weights)


def _with_weights(samples):
    return [torch.ones(3), *torch.utils.data.default_collate(samples)]
"""
UNMONITORED = """
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.rate)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return [optimizer], [{"scheduler": schedule, "monitor": "absent", "strict": False}]
"""
NEVER_UPDATED = """
    def on_train_epoch_end(self):
        self.log("accuracy", self.accuracy.compute())
"""


class StopAfter(Callback):
    """Requests a stop after a step."""

    def __init__(self, stop: StopRequest, step: int) -> None:
        self.stop, self.step = stop, step

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            self.stop.requested = signal.SIGTERM


class PlainRuns:
    """Runs of one plain module."""

    def __init__(self, place: Path, patch: pytest.MonkeyPatch, source: str) -> None:
        for name, value in variables(Level.OFF, threads=1).items():
            patch.setenv(name, value)
        self.place, self.lines = place, list[str]()
        (place / "plain.py").write_text(MODULE + source)
        self.experiment: Any = load_any_experiment("plain.py", place / "plain.py", root=place)

    def train(self, *words: str, name: str = "whole", saved: Saved | None = None, stop_after: int = 0) -> Trained:
        small = {"max_epochs": "3", "wandb": "off", "determinism": "off", "threads": "1"}
        options = {**small, **parse_options(words)}
        resolved: Any = resolve(self.experiment.settings, Origins(options=options, environ={}))
        (self.place / name).mkdir(exist_ok=True)
        stop = StopRequest()
        job = TrainingJob(
            run="small",
            experiment=self.experiment,
            ledger=Ledger(resolved, root=self.place),
            datasets=[],
            into=self.place / name,
            stop=stop,
            say=self.lines.append,
            on_terminal=False,
            device="cpu",
            started=monotonic(),
            on_first_step=lambda: None,
            saved=saved,
            watching=[StopAfter(stop, stop_after)],
        )
        with restored_threads():
            return train(job)

    def resumed(self, step: int) -> Trained:
        """Stop after a step, and return the result of the resumed run."""
        with pytest.raises(StoppedError):
            self.train(name="resumed", stop_after=step)
        return self.train(name="resumed", saved=read_run_json(self.place / "resumed" / FOLDER / LATEST, Saved))


def bare(runs: PlainRuns) -> dict[str, float]:
    """Return what Lightning's own trainer has after training the module and testing it."""
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    machine = L.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, **options)
    net: Any = runs.experiment.net
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice of Lightning
        machine.fit(net())
    return {name: float(value) for name, value in machine.callback_metrics.items()}


@pytest.mark.parametrize("source", [VALIDATED, ENDINGS, CHANGES], ids=["two loaders", "endings", "changed data"])
def test_results_are_the_values_that_lightning_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    runs = PlainRuns(tmp_path, monkeypatch, source)
    found, expected = runs.train().metrics, bare(runs)
    assert {name: found[name] for name in found if name in expected} == pytest.approx(
        {name: value for name, value in expected.items() if name in found}
    )
    copies = {"val/both_epoch/dataloader_idx_0", "val/both_epoch/dataloader_idx_1", "accuracy_epoch", "accuracy_step"}
    assert {*expected} - {*found} <= copies
    assert {*found} - {*expected} <= {"val/last/dataloader_idx_0", "val/last/dataloader_idx_1"}


@pytest.mark.parametrize(
    ("source", "ends"),
    [(AT_END, 1.0), (AT_FIT_END, 1.0), (AVERAGED, 0.0)],
    ids=["end of training", "end of fit", "averaging callback"],
)
def test_weights_that_the_end_of_training_sets_are_tested_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, ends: float
) -> None:
    from safetensors.torch import load_file

    shown = (
        "\n    def teardown(self, stage):\n        type(self).final = self.layer.weight.detach().abs().sum().item()\n"
    )
    runs = PlainRuns(tmp_path, monkeypatch, source + TEST + shown)
    found = runs.train()
    final = runs.experiment.module.Net.final
    assert found.metrics == {"test/weight": pytest.approx(final), "test/ends": ends}
    assert load_file(tmp_path / "whole/weights.safetensors")["layer.weight"].abs().sum().item() == pytest.approx(final)


@pytest.mark.parametrize(("mode", "epoch"), [("max", 1), ("min", 0)])
def test_a_metric_that_the_end_of_an_epoch_logs_can_be_monitored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, epoch: int
) -> None:
    runs = PlainRuns(tmp_path, monkeypatch, BEST)
    runs.train("--monitor", "score", "--monitor-mode", mode)
    best = read_run_json(tmp_path / "whole" / FOLDER / BEST_FILE, Checkpoint)
    assert best.step == 6 * (epoch + 1)
    shown = [line.partition("  (")[0] for line in runs.lines]
    scores = [(1, "0.5000"), (2, "0.9000"), (3, "0.7000")]
    assert shown == [f"epoch {number}/3  step {6 * number}  score {score}" for number, score in scores]


def test_the_reason_for_an_early_end_follows_the_line_of_the_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = PlainRuns(tmp_path, monkeypatch, BEST)
    runs.train("--monitor", "score", "--monitor-mode", "min", "--patience", "1")
    assert [line.partition("  (")[0] for line in runs.lines] == [
        "epoch 1/3  step 6  score 0.5000",
        "epoch 2/3  step 12  score 0.9000",
        "ended after epoch 2: score did not improve in 1 epoch",
    ]


def test_null_for_a_parameter_with_another_default_reaches_the_constructor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = "\n    def on_fit_start(self):\n        type(self).seen = self.width\n"
    runs = PlainRuns(tmp_path, monkeypatch, shown)
    for word, expected in (("none", None), ("5", 5)):
        runs.train("--width", word)
        assert runs.experiment.module.Net.seen == expected


@pytest.mark.parametrize("step", [6, 13, 18], ids=["after an epoch", "within an epoch", "before the last validation"])
def test_a_stopped_run_keeps_metrics_that_are_logged_as_objects_and_numbers_of_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    runs = PlainRuns(tmp_path, monkeypatch, METRICS)
    whole, resumed = runs.train(), runs.resumed(step)
    assert sorted(whole.metrics) == ["train/accuracy", "val/max", "val/min", "val/raw"]
    assert (resumed.metrics, resumed.weights) == (whole.metrics, whole.weights)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (AMBIGUOUS, "Trying to infer the `batch_size` from an ambiguous collection"),
        (UNMONITORED, "ReduceLROnPlateau conditioned on metric absent"),
        ("    def validation_step(self, batch): ...\n", "You defined a `validation_step` but have no"),
        (NEVER_UPDATED, "The ``compute`` method of metric MulticlassAccuracy was called before the ``update`` method"),
    ],
    ids=["batch size", "schedule", "no validation data", "no update"],
)
def test_warnings_about_results_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    from lightning.pytorch.utilities.data import warning_cache

    warning_cache.clear()
    with warnings.catch_warnings(record=True) as shown:
        PlainRuns(tmp_path, monkeypatch, source).train()
    own = [each for each in shown if "lightning" in each.filename or "torchmetrics" in each.filename]
    assert [str(each.message)[: len(message)] for each in own] == [message]
