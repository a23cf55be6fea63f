"""Trained models of several kinds: each is trained in a checkout, by the commands that a user types."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.training.conftest import Checkout

_ORIGIN: Final = ("--license", "CC0-1.0", "--source", "made")
_SPLITS: Final = ("--split", "train=0%:60%", "--split", "val=60%:80%", "--split", "test=80%:100%")
_MULTI_TASK: Final = """
from torch import nn
from torch.nn import functional as F
from trainer.training.tasks.multi_task import MultiTask, MultiTaskSettings, Output

class Settings(MultiTaskSettings):
    dataset = "dots"
    max_epochs = 1
    batch_size = 8

class Net(MultiTask):
    def __init__(self) -> None:
        super().__init__()
        self.kind, self.ink = nn.Linear(16, 2), nn.Linear(16, 1)

    def make_outputs(self):
        return {
            "kind": Output(field="label", loss=nn.CrossEntropyLoss()),
            "ink": Output(field="label", loss=lambda found, wanted: F.mse_loss(found, wanted.float())),
        }

    def forward(self, images):
        flat = images.flatten(1)
        return {"kind": self.kind(flat), "ink": self.ink(flat)[:, 0]}
"""
PLAIN: Final = """
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

class Plain(L.LightningModule):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.BatchNorm1d(width), nn.Linear(width, 2))

    def forward(self, image):
        return self.layers(image)

    def training_step(self, batch, index):
        return F.cross_entropy(self(batch["image"]), batch["label"])

    def test_step(self, batch, index):
        self.log("test_loss", F.cross_entropy(self(batch["image"]), batch["label"]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""


def _pictures(checkout: Checkout, folder: Path) -> list[str]:
    draw = random.Random(0)  # noqa: S311 - pictures
    for kind, dark in (("day", 150), ("night", 0)):
        (folder / kind).mkdir()
        for number in range(30):
            grey = bytes(dark + draw.randrange(100) for _ in range(64))
            (folder / kind / f"{number:02}.pgm").write_bytes(b"P5 8 8 255\n" + grey)
    _publish(checkout, "sky", folder, "--images", ".", "--mode", "L", "--size", "8x8", *_SPLITS)
    return ["--exp", _copy(checkout, "digits", "sky")]


def _table(checkout: Checkout, folder: Path) -> list[str]:
    draw = random.Random(0)  # noqa: S311 - numbers
    lines = ["color,height,width,sold"]
    for _ in range(100):
        color, height, width = draw.choice(["red", "green", "blue"]), draw.uniform(1, 9), draw.uniform(1, 9)
        lines.append(f"{color},{height:.2f},{width:.2f},{'yes' if height > width else 'no'}")
    (folder / "doors.csv").write_text("\n".join(lines) + "\n")
    _publish(checkout, "doors", folder / "doors.csv", "--target", "sold", "--yes")
    return ["--exp", _copy(checkout, "customers", "doors")]


def _sequences(checkout: Checkout, folder: Path) -> list[str]:
    lines = [f"line {number} has {'many ' * (number % 7)}words\n" for number in range(60)]
    (folder / "lines.txt").write_text("".join(lines))
    _publish(checkout, "talk", folder, "--lines", "lines.txt", *_SPLITS)
    small = ["--width", "16", "--heads", "2", "--layers", "1", "--warmup-steps", "0"]
    return ["--exp", _copy(checkout, "characters", "talk"), *small]


def _multi_task(checkout: Checkout, _folder: Path) -> list[str]:
    (checkout.root / "several.py").write_text(_MULTI_TASK)
    return ["--exp", "several.py"]


def _plain(checkout: Checkout, _folder: Path) -> list[str]:
    (checkout.root / "plain.py").write_text(PLAIN)
    return ["--exp", "plain.py", "--dataset", "dots"]


KINDS: Final[dict[str, Callable[[Checkout, Path], list[str]]]] = {
    "pictures": _pictures,
    "table": _table,
    "sequences": _sequences,
    "multi-task": _multi_task,
    "plain": _plain,
}
"""What prepares data and code of each kind, and returns the words that train it."""


def train(checkout: Checkout, kind: str, folder: Path) -> str:
    """Train a model of a kind for one epoch, with its data in an empty folder; return the run."""
    words = KINDS[kind](checkout, folder)
    code, _, err = checkout.train(*words, "--max-epochs", "1", "--batch-size", "8")
    assert code == 0, err
    return checkout.last()[0].parents[1].name


def _publish(checkout: Checkout, name: str, path: Path, *words: str) -> None:
    done = checkout.reprise("data", "publish", name, str(path), *words, *_ORIGIN)
    assert done.returncode == 0, done.stderr


def _copy(checkout: Checkout, experiment: str, dataset: str) -> str:
    """Write an experiment for a dataset as a copy of another."""
    name = f"{dataset}_net"
    done = checkout.reprise("new", name, "--like", experiment, "--dataset", dataset)
    assert done.returncode == 0, done.stderr
    return name
