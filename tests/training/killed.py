"""A process for the campaigns: trains a small net with the package's `train`; each line of standard input describes an attempt.

A line is JSON: {"run": FOLDER, "kill": NUMBER or 0, "skip": .., "settings": [..words..]}. A forked child handles each line, so that torch
is loaded once. The response is a line of JSON with the child's exit code.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from tests.training.killing import Skip, start_counting
from trainer.base.errors import StoppedError
from trainer.data.declaration import Dataset
from trainer.data.files import FolderFiles
from trainer.data.reader import ArraysReader
from trainer.runs.checkpoint_pointer import restore_checkpoint
from trainer.runs.run import ATTEMPTS, attempts
from trainer.settings.ledger import Ledger
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.assembly import FetchedDataset, TrainingJob
from trainer.training.experiment import load_experiment
from trainer.training.fit import train
from trainer.training.resuming.stop_requests import StopRequest

EXPERIMENT = """
import os, signal
import torch
from torch import Tensor, nn
from tests.training.killing import tick
from trainer.training.normalization import Normalize
from trainer.training.tasks.classification import ClassificationSettings, Classifier

class Settings(ClassificationSettings):
    dataset = "dots"
    classes = 2
    max_epochs = 2
    batch_size = 8
    optimizer = "adamw"
    schedule = "cosine"
    warmup_steps = 2
    monitor = "val_loss"
    stop_at: str = ""
    noise: float = 0.0

class Net(Classifier):
    def __init__(self, *, classes: int, stop_at: str, noise: float) -> None:
        super().__init__()
        self.stop_at, self.noise = stop_at, noise
        self.body = nn.Sequential(Normalize(1), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten())
        self.head = nn.Linear(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))

    def transform(self, sample, generator):
        image = sample["image"] + self.noise * (torch.rand(1, 4, 4, generator=generator) + torch.rand(1, 4, 4))
        return sample | {"image": image.flip(-1) if self.noise and torch.rand(()) < 0.5 else image}

    def at(self, name: str) -> None:
        tick(name)
        if name == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def training_step(self, batch, index: int) -> Tensor:
        self.at(f"step {self.current_epoch}.{index}")
        loss = super().training_step(batch, index)
        self.log("noise", torch.rand(()), on_step=True, on_epoch=True, batch_size=len(batch["label"]))
        self.at(f"forward {self.current_epoch}.{index}")
        return loss

    def on_train_batch_end(self, outputs, batch, index: int) -> None:
        self.at(f"stepped {self.current_epoch}.{index}")

    def validation_step(self, batch, index: int) -> None:
        self.at(f"validation {self.current_epoch}.{index}")
        super().validation_step(batch, index)

    def on_train_epoch_end(self) -> None:
        self.at(f"epoch {self.current_epoch}")

    def on_train_end(self) -> None:
        self.at("trained")

    def test_step(self, batch, index: int) -> None:
        self.at(f"test {index}")
        super().test_step(batch, index)
"""


def prepare(place: Path) -> Dataset:
    """Write the experiment and 80 images of 4x4 dots; return the declaration of the dataset."""
    (place / "data").mkdir(exist_ok=True)
    (place / "dots.py").write_text(EXPERIMENT)
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 80)
    images = (random.random((80, 1, 4, 4)) + labels[:, None, None, None]).astype(np.float32)
    np.save(place / "data/images.npy", images)
    np.save(place / "data/labels.npy", labels)
    reader = ArraysReader(kind="arrays", fields={"image": "images.npy", "label": "labels.npy"})
    splits: Any = {"train": (0, 50), "val": (50, 60), "test": (60, 80)}
    nothing = "sha256:" + "0" * 64
    return Dataset(
        name="dots", reader=reader, splits=splits, version=1, manifest=nothing, content=nothing, files=2, bytes=0
    )


def run_attempt(place: Path, dataset: Dataset, order: dict[str, Any]) -> None:
    """Train the next attempt of a run from its last good checkpoint; write its metrics and the kill points that it passed."""
    run = Path(order["run"])
    points = start_counting(order["kill"], Skip(**order["skip"]))
    into = run / ATTEMPTS / str(len(attempts(run)) + 1)
    into.mkdir(parents=True)
    experiment = load_experiment("dots.py", place / "dots.py", root=place)
    words = parse_options([*order["settings"], "--no-tensorboard", "--no-progress"])
    saved = restore_checkpoint(into, say=logging.getLogger("campaign").warning)
    job = TrainingJob(
        run=run.name,
        experiment=experiment,
        ledger=Ledger(resolve(experiment.settings, Origins(options=words, environ={}))),
        datasets=[FetchedDataset(declared=dataset, files=FolderFiles(place / "data"))],
        into=into,
        stop=StopRequest(),
        say=lambda _: None,
        on_terminal=False,
        device="cpu",
        started=monotonic(),
        on_first_step=lambda: None,
        saved=saved,
    )
    try:
        (into / "metrics.json").write_text(json.dumps(train(job).metrics))
    finally:
        sys.setprofile(None)
        (into / "kill-points.json").write_text(json.dumps(points.names))


def run_child(place: Path, dataset: Dataset, order: dict[str, Any]) -> int:
    """Run an attempt in the child process; return the exit code."""
    try:
        run_attempt(place, dataset, order)
    except StoppedError as fault:
        return fault.code
    except BaseException:  # noqa: BLE001 - the exit code reports the error, without the parent's cleanup
        traceback.print_exc()
        return 1
    return 0


def main(place: Path) -> None:
    """Run an attempt in a child process for each line of standard input, and print its exit code."""
    dataset = prepare(place)
    for line in sys.stdin:
        order = json.loads(line)
        process = os.fork()
        if process == 0:
            code = run_child(place, dataset, order)
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(process, 0)
        sys.stdout.write(json.dumps(os.waitstatus_to_exitcode(status)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
