"""Warnings about a classifier's net, and ignored labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.small_training import CLASSIFIER, Small
from tests.training.tasks.test_task import make_net
from trainer.base.errors import DatasetError
from trainer.training.tasks.classification import Classifier

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.training.trained import Trained

pytestmark = pytest.mark.torch
ODD = "`forward`: with both the net learns slowly"
MASKS = """
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

class Settings(ClassificationSettings):
    dataset = "dots"
    classes = 2
    input_field = "x"
    target_field = "y"

class Net(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 1)

    def forward(self, x):
        return self.layer(x)
"""
LEFT_OUT = """
    def make_loss(self):
        return nn.CrossEntropyLoss(ignore_index=255)

    def make_metrics(self):
        return MetricCollection({"accuracy": MulticlassAccuracy(num_classes=2, average="micro", ignore_index=255)})

    def counted(self, wanted):
        return (wanted != 255).sum()

    def check_values(self, seen):
        return []
"""


def train_on_masks(folder: Path, code: str, patch: pytest.MonkeyPatch, *, dtype: str = "int64") -> Trained:
    """Train on pictures whose pixels are labels, except for an unlabeled corner."""
    y = np.random.default_rng(0).integers(0, 2, (40, 4, 4))
    x = y[:, None].astype(np.float32)
    y[:, 0, 0] = 255
    words = ("--max-epochs", "40", "--learning-rate", "0.1")
    return Small(place=folder, code=code, x=x, y=y.astype(dtype), record="a record").train(patch, *words)


def test_ignored_pixels_are_excluded_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match=r"include 255 .*255 commonly marks labels") as caught:
        train_on_masks(tmp_path, MASKS, monkeypatch)
    assert "Labels to ignore" in str(caught.value.hint)
    assert train_on_masks(tmp_path, MASKS + LEFT_OUT, monkeypatch, dtype="uint8").metrics["test_accuracy"] == 1


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "bool"])
def test_labels_of_any_integer_type_train_to_the_bits_of_int64(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.random.default_rng(0).integers(0, 2, 40)
    whole, other = (Small(place=tmp_path / each, y=labels.astype(each), record="a record") for each in ("int64", dtype))
    for each in (whole, other):
        each.place.mkdir()
    one, two = (each.train(monkeypatch, "--class-weights", "balanced") for each in (whole, other))
    assert (one.weights, one.metrics) == (two.weights, two.metrics)


def test_a_split_batch_of_the_experiment_may_return_any_integer_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "\n    def split_batch(self, batch):\n        return batch['x'], batch['y'].int()\n"
    assert "test_loss" in Small(place=tmp_path, code=CLASSIFIER + own).train(monkeypatch).metrics


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        (".softmax(1)", "returns probabilities, as softmax does"),
        (".sigmoid()", "returns values within 0 and 1, as sigmoid does"),
        (".sigmoid().view(-1, 2).float()", "as sigmoid does"),
    ],
)
def test_probabilities_in_place_of_scores_are_noted_once_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, message: str
) -> None:
    small = Small(place=tmp_path, code=CLASSIFIER.replace("self.layers(x)", f"self.layers(x){ending}"))
    small.train(monkeypatch, "--max-epochs", "2")
    assert [message in line and ODD in line for line in small.messages].count(True) == 1
    assert message in small.messages[0]


@pytest.mark.parametrize(
    ("forward", "odd"),
    [
        (lambda x: torch.stack([x, 0.5 * (1 - x), 0.5 * (1 - x)], 1), True),
        (lambda x: torch.stack([x, x, x], 1).log_softmax(1), False),
        (lambda x: torch.stack([x, x, x], 1), False),
        (lambda x: torch.stack([x, x, x], 1).sigmoid() * 8, False),
    ],
)
def test_scores_within_0_and_1_are_not_reported_as_probabilities(forward: Any, *, odd: bool) -> None:
    predicted = forward(torch.tensor([0.2, 0.7], requires_grad=True))
    net = make_net(Classifier, nn.Identity())
    assert (net.describe_oddity(predicted, torch.tensor([0, 1])) is not None) is odd


def test_a_custom_loss_may_use_probabilities() -> None:
    net = make_net(Classifier, nn.Identity())
    net.loss = nn.BCELoss()
    assert net.describe_oddity(torch.rand(4, 3).softmax(1), torch.zeros(4)) is None
