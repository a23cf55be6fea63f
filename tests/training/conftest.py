"""A checkout with a small dataset in a store, in which tests run the real command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from trainer.data.declaration import Draft, declared
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.data.reader import ArraysReader
from trainer.runs.run import load_record
from trainer.stores import open_store

if TYPE_CHECKING:
    from trainer.runs.record import Record

ROOT: Final = Path(__file__).parents[2]
EXPERIMENT: Final = """
from torch import Tensor, nn
from trainer.training.tasks.classification import ClassificationSettings, Classifier

class Settings(ClassificationSettings):
    dataset = "dots"
    classes = 2
    max_epochs = 2
    batch_size = 8
    breaks: bool = False

class Net(Classifier):
    def __init__(self, *, classes: int, breaks: bool) -> None:
        super().__init__()
        self.breaks = breaks
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(16, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.T if self.breaks else images)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A checkout, a store with its dataset, and its folders for cache and runs."""

    root: Path
    store: Path
    python: str = sys.executable

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment of a command in the checkout."""
        mine = {"REPRISE_STORE": str(self.store), "REPRISE_CACHE": str(self.root.parent / "cache")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("REPRISE_")}
        return {**kept, **mine, "PYTHONPATH": str(self.root)}

    def start(self, *argv: str, host: str = "", **environ: str) -> subprocess.Popen[str]:
        """Start a run of `dots.py`, unless `argv` names another program, with `host` as the host's name and further variables."""
        experiment = () if {"--exp", "--script"} & {*argv} else ("--exp", "dots.py")
        command = [self.python, "-m", "trainer", "train", *experiment, *argv]
        return subprocess.Popen(
            command,
            cwd=self.root,
            env={**self.environ, "REPRISE_HOST": host, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def train(self, *argv: str, **environ: str) -> tuple[int, str, str]:
        """Train to the end; return the exit code, stdout and stderr."""
        process = self.start(*argv, **environ)
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    def reprise(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, without a terminal."""
        return subprocess.run(
            [self.python, "-m", "trainer", *words],
            cwd=self.root,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def last(self) -> tuple[Path, Record]:
        """Return the folder of the newest first attempt, and its record."""
        folder = max((self.root / "runs").glob("[0-9]*/attempts/1"), key=lambda path: path.stat().st_mtime_ns)
        return folder, load_record(folder / "record.json")


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Copy the package, publish 80 images of 4x4 dots, and write an experiment."""
    place = tmp_path_factory.mktemp("place")
    root, store, data = place / "checkout", place / "store", place / "data"
    shutil.copytree(ROOT / "trainer", root / "trainer", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "uv.lock", root)
    for folder in (root / "datasets", root / "runs", store, data):
        folder.mkdir()
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 80)
    np.save(data / "images.npy", (random.random((80, 1, 4, 4)) + labels[:, None, None, None]).astype(np.float32))
    np.save(data / "labels.npy", labels)
    reader = ArraysReader(kind="arrays", fields={"image": "images.npy", "label": "labels.npy"})
    draft = Draft(name="dots", splits={"train": (0, 50), "val": (50, 60), "test": (60, 80)}, reader=reader)
    published = publish_dataset(draft, source=SourceFolder(root=data), store=open_store(str(store)))
    (root / "datasets/dots.toml").write_text(declared(published.dataset))
    (root / "dots.py").write_text(EXPERIMENT)
    return Checkout(root=root, store=store)
