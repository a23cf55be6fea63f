"""A run inspects every split before its first step, once on a machine; unusable data is an error without a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.small_training import CLASSIFIER, Small
from trainer.base.errors import DatasetError, ExperimentError, NotFiniteError, SettingError
from trainer.data.declaration import Draft, declared
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.data.reader import ArraysReader
from trainer.runs.record import RunStatus
from trainer.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.conftest import Checkout
    from trainer.base.errors import RepriseError

pytestmark = [pytest.mark.torch, pytest.mark.trains]
QUICK = ("--max-epochs", "1", "--no-publish")
NET = """
import torch
from torch import nn
from trainer.training.tasks.classification import ClassificationSettings, Classifier

class Settings(ClassificationSettings):
    dataset = "spots"
    classes = 2
    batch_size = 8

class Net(Classifier):
    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(IMAGES)
"""
OWN = """
    def samples(self, declared, files):
        return Own(super().samples(declared, files))

from trainer.training.readers import Samples

class Own(Samples):
    def __init__(self, whole):
        self.whole = whole

    def __len__(self):
        return len(self.whole)

    def sample(self, pick):
        return self.whole.sample(pick)
"""


def write_experiment(checkout: Checkout, *, images: str = "images", more: str = "") -> tuple[str, ...]:
    """Write the experiment and return the arguments that train it."""
    (checkout.root / "spots.py").write_text(NET.replace("IMAGES", images) + more)
    return ("--exp", "spots.py", *QUICK)


def publish_spots(checkout: Checkout, folder: Path, *, labels: dict[int, int] | None = None, **changed: Any) -> None:
    """Publish 80 pictures of 4x4 spots as arrays with some changed labels and values."""
    random = np.random.default_rng(0)
    images = random.random((80, 1, 4, 4)).astype(changed.get("dtype", np.float32))
    for place, value in changed.get("images", {}).items():
        images[place] = value
    numbers = np.arange(80) % 2
    for row, label in (labels or {}).items():
        numbers[row] = label
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", numbers)
    reader = ArraysReader(kind="arrays", fields={"image": "images.npy", "label": "labels.npy"})
    draft = Draft(name="spots", splits={"train": (0, 50), "val": (50, 60), "test": (60, 80)}, reader=reader)
    published = publish_dataset(draft, source=SourceFolder(root=folder), store=open_store(str(checkout.store)))
    (checkout.root / "datasets/spots.toml").write_text(declared(published.dataset))


def train_rejected(checkout: Checkout, *words: str) -> tuple[int, str]:
    """Train; return exit code and lines, and assert that no run was created."""
    before = set((checkout.root / "runs").glob("[0-9]*"))
    code, _, err = checkout.train(*words)
    assert set((checkout.root / "runs").glob("[0-9]*")) == before, err
    assert "the run ended before its first step; nothing was saved" in err
    return code, err


@pytest.mark.parametrize(
    ("labels", "code", "message"),
    [
        ({70: -1, 71: -1}, DatasetError.code, "2 samples of split test have the label -1 (the first is in row 70); a class is 0 or more"),
        ({5: -100}, DatasetError.code, "1 sample of split train has the label -100 (row 5)"),
        ({55: 2}, SettingError.code, "1 sample of split val has the label 2 (row 55); the net gives scores for 2"),
    ],
)  # fmt: skip
def test_an_invalid_label_ends_the_run_before_the_first_step(
    checkout: Checkout, tmp_path: Path, labels: dict[int, int], code: int, message: str
) -> None:
    publish_spots(checkout, tmp_path, labels=labels)
    found, err = train_rejected(checkout, *write_experiment(checkout))
    assert (found, message in err) == (code, True), err


def test_a_non_finite_value_ends_the_run_before_the_first_step(checkout: Checkout, tmp_path: Path) -> None:
    publish_spots(checkout, tmp_path, images={(75, 0, 1, 1): np.nan, (76, 0, 0, 0): np.nan})
    code, err = train_rejected(checkout, *write_experiment(checkout))
    message = "spots@1: field 'image' holds NaN: 2 in split test; the first is in row 75"
    assert (code, message.partition(": ")[2] in err, "nan_to_num" in err, "learning-rate" in err) == (
        44,
        True,
        True,
        False,
    )


def test_a_net_that_replaces_missing_values_trains(checkout: Checkout, tmp_path: Path) -> None:
    publish_spots(checkout, tmp_path, images={(75, 0, 1, 1): np.nan, (3, 0, 0, 0): np.inf})
    code, _, err = checkout.train(*write_experiment(checkout, images="images.nan_to_num(0, 0, 0)"))
    assert (code, checkout.last()[1].outcome.status) == (0, RunStatus.COMPLETED), err


@pytest.mark.parametrize("dtype", ["float64", "uint8"])
def test_an_unsupported_input_type_ends_the_run_before_the_first_step(
    checkout: Checkout, tmp_path: Path, dtype: str
) -> None:
    publish_spots(checkout, tmp_path, dtype=dtype)
    code, err = train_rejected(checkout, *write_experiment(checkout))
    assert (code, f"field 'image' is {dtype} [2, 1, 4, 4]" in err, "`x = x.float()`" in err) == (44, True, True), err
    assert checkout.train(*write_experiment(checkout, images="images.float()"))[0] == 0


def test_only_the_first_run_inspects_the_dataset(checkout: Checkout, tmp_path: Path) -> None:
    publish_spots(checkout, tmp_path, images={(1, 0, 0, 0): 0.25})
    words = write_experiment(checkout)
    assert "80 samples inspected" in checkout.train(*words)[2]
    assert "inspected" not in checkout.train(*words)[2]
    file = checkout.root / "datasets/spots.toml"
    file.write_text(file.read_text().replace("[60, 80]", "[60, 79]"))
    assert "79 samples inspected" in checkout.train(*words)[2]


def test_a_failed_inspection_on_the_first_rank_ends_every_rank(checkout: Checkout, tmp_path: Path) -> None:
    publish_spots(checkout, tmp_path, labels={70: -1})
    process = checkout.start(*write_experiment(checkout), "--devices", "2", "--determinism", "off")
    _, err = process.communicate(timeout=400)  # two starts of torch
    message = "1 sample of split test has the label -1 (row 70)"
    assert (process.returncode, err.count("80 samples inspected"), message in err) == (44, 1, True), err


def test_an_own_reader_is_read_for_val_and_test_at_each_start(checkout: Checkout, tmp_path: Path) -> None:
    publish_spots(checkout, tmp_path)
    words = write_experiment(checkout, more=OWN)
    for _ in range(2):
        code, _, err = checkout.train(*words)
        assert (code, "30 samples of val and test read by the experiment's own reader" in err) == (0, True), err
    publish_spots(checkout, tmp_path, labels={70: 2})
    code, err = train_rejected(checkout, *words)
    assert (code, "1 sample of split test has the label 2 (row 70)" in err) == (SettingError.code, True), err


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ("[2 if row == 3 else 0 for row in rows]", SettingError, "1 sample of split train has the label 2 (row 3)"),
        ("[0, 1]", ExperimentError, "Own.labels returns 2 labels for 24 samples"),
    ],
)
def test_training_labels_of_an_own_reader_are_checked_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str, error: type[RepriseError], message: str
) -> None:
    labels = f"\n    def labels(self, rows):\n        return {result}\n"
    found = Small(place=tmp_path, code=CLASSIFIER + OWN + labels, record="a record").failed(monkeypatch)
    assert (type(found), message in str(found)) == (error, True), found


def test_a_nan_validation_loss_fails_the_run(checkout: Checkout, tmp_path: Path) -> None:
    publish_spots(checkout, tmp_path)
    words = write_experiment(checkout, images="images) * (1 if self.training or len(images) == 2 else float('nan')")
    code, _, err = checkout.train(*words)
    record = checkout.last()[1]
    assert (code, record.outcome.status) == (NotFiniteError.code, RunStatus.FAILED), err
    assert record.outcome.reason == "the validation loss after step 7 is nan"
    assert "if training diverges, try a lower --learning-rate" in err
    code, _, err = checkout.train(*words, "--no-terminate-on-nan")
    record = checkout.last()[1]
    assert (code, record.outcome.status) == (NotFiniteError.code, RunStatus.FAILED), err
    assert record.outcome.metrics["test_loss"] == "NaN"
    assert record.outcome.steps == 7
