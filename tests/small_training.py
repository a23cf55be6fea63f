"""Trains a few small batches in the process of the tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tests.checking import restored_threads
from tests.runs.runs import start_run
from trainer.data.declaration import Dataset
from trainer.data.files import FolderFiles
from trainer.data.reader import ArraysReader
from trainer.settings.determinism import Level, variables
from trainer.settings.ledger import Ledger
from trainer.settings.origins import Origins, Resolved, parse_options, resolve
from trainer.training.assembly import FetchedDataset, TrainingJob
from trainer.training.experiment import load_experiment
from trainer.training.failures import attributed
from trainer.training.fit import train
from trainer.training.resuming.stop_requests import StopRequest

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from trainer.base.errors import RepriseError
    from trainer.training.experiment import Experiment
    from trainer.training.trained import Trained

WORDS: Final = ("--determinism", "off", "--threads", "1", "--no-tensorboard")
NOTHING: Final = "sha256:" + "0" * 64
ROWS: Final = 40
SPLITS: Final = {"train": (0, 24), "val": (24, 32), "test": (32, 40)}
HEAD: Final = """
import torch
from torch import nn
from trainer.training.tasks.classification import ClassificationSettings, Classifier
from trainer.training.tasks.regression import RegressionSettings, Regressor
from trainer.training.tasks.verification import VerificationSettings, Verifier
"""
_NET: Final = """
class Settings(%sSettings):
    dataset = "dots"%s
    input_field = "x"
    target_field = "y"

class Net(%s):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Linear(4, %d)

    def forward(self, x):
        return self.layers(x)%s
"""
CLASSIFIER: Final = _NET % ("Classification", "\n    classes = 2", "Classifier", 2, "")
REGRESSOR: Final = _NET % ("Regression", "", "Regressor", 1, "[:, 0]")
VERIFIER: Final = _NET % ("Verification", "", "Verifier", 2, "")


@dataclass(slots=True, kw_only=True)
class Small:
    """An experiment over arrays of a few rows, in a folder."""

    place: Path
    code: str = CLASSIFIER
    x: Any = None
    y: Any = None
    splits: dict[str, tuple[int, int]] = field(default_factory=lambda: dict(SPLITS))
    messages: list[str] = field(default_factory=list)
    record: Any = None
    """Whether the run has a record: a process with the record inspects the data."""
    initial: Any = None
    """The file of the initial weights."""

    @property
    def file(self) -> Path:
        """Return the path of the experiment's file."""
        return self.place / "small.py"

    def loaded(self) -> Experiment:
        """Write the experiment and import it."""
        self.file.write_text(HEAD + self.code)
        return load_experiment("small", self.file, root=self.place)

    def dataset(self) -> Dataset:
        """Write the arrays and declare them."""
        folder = self.place / "data"
        folder.mkdir(exist_ok=True)
        random = np.random.default_rng(0)
        x = random.random((ROWS, 4), dtype=np.float32) if self.x is None else self.x
        y = random.integers(0, 2, len(x)) if self.y is None else self.y
        np.save(folder / "x.npy", x)
        np.save(folder / "y.npy", y)
        return Dataset(
            name="dots",
            reader=ArraysReader(kind="arrays", fields={"x": "x.npy", "y": "y.npy"}),
            splits=dict(self.splits),
            version=1,
            manifest=NOTHING,
            content=NOTHING,
            files=2,
            bytes=0,
        )

    def train(self, patch: pytest.MonkeyPatch, *words: str) -> Trained:
        """Train the experiment, and add the printed lines to `messages`."""
        for name, value in variables(Level.OFF, threads=1).items():
            patch.setenv(name, value)
        experiment = self.loaded()
        few = [] if "--max-epochs" in words else ["--max-epochs", "1"]
        small = [] if "--batch-size" in words else ["--batch-size", "8"]
        resolved: Resolved[Any] = resolve(
            experiment.settings, Origins(options=parse_options([*WORDS, *few, *small, *words]), environ={})
        )
        into = self.place / "attempt"
        into.mkdir(exist_ok=True)
        job = TrainingJob(
            run="small",
            experiment=experiment,
            ledger=Ledger(resolved),
            datasets=[FetchedDataset(declared=self.dataset(), files=FolderFiles(self.place / "data"))],
            into=into,
            stop=StopRequest(),
            say=self.messages.append,
            on_terminal=False,
            device="cpu",
            started=monotonic(),
            on_first_step=lambda: None,
            initial=self.initial,
            record=start_run(self.place / "recorded" / "runs").record if self.record else None,
        )
        with restored_threads():
            return train(job)

    def failed(self, patch: pytest.MonkeyPatch, *words: str) -> RepriseError | BaseException:
        """Train until the run fails; return the error of the run."""
        from trainer.base.errors import RepriseError

        try:
            self.train(patch, *words)
        except RepriseError as fault:
            return fault
        except BaseException as fault:  # noqa: BLE001 - as a run does
            return attributed(fault, file=self.file, root=self.place, net="Net") or fault
        raise AssertionError("it did not fail")
