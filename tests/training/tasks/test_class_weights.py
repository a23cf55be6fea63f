"""Class weights in the loss: set as a list, or balanced by the labels of the training split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from tests.small_training import CLASSIFIER, Small
from trainer.base.errors import SettingError
from trainer.training.tasks.class_weights import weights_of_classes
from trainer.training.tasks.classification import cross_entropy

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.training.trained import Trained

pytestmark = pytest.mark.torch


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], [7, 2, 1])
    found = weights_of_classes(
        lambda count: np.bincount(labels, minlength=count).tolist(), classes=3, class_weights="balanced"
    )
    assert found is not None
    np.testing.assert_allclose(
        found.numpy(), compute_class_weight("balanced", classes=np.arange(3), y=labels), rtol=1e-6
    )
    absent = weights_of_classes(lambda _: [7, 0, 1], classes=3, class_weights="balanced")
    assert absent is not None
    assert float(absent[1]) == 1
    assert weights_of_classes(lambda _: [], classes=3, class_weights="none") is None


def test_another_number_of_weights_is_rejected() -> None:
    with pytest.raises(SettingError, match="has 2 weights; the net gives scores for 3 classes") as caught:
        weights_of_classes(lambda _: [], classes=3, class_weights=(1.0, 2.0))
    assert "use 3 numbers" in str(caught.value.hint)


def test_the_loss_is_torchs_and_its_weights_are_not_saved() -> None:
    weight, scores, labels = torch.tensor([1.0, 3.0]), torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 0, -100])
    loss = cross_entropy(weight, label_smoothing=0.1)
    assert torch.equal(loss(scores, labels), nn.CrossEntropyLoss(weight, label_smoothing=0.1)(scores, labels))
    assert loss.state_dict() == {}
    assert "weight" in dict(loss.named_buffers())  # a buffer moves to the device of the net


def small(folder: Path, code: str = CLASSIFIER) -> Small:
    folder.mkdir(exist_ok=True)
    # 4 of the 24 labels in train are 1
    y = np.where(np.arange(40) < 24, np.arange(40) % 6 == 0, np.arange(40) % 2 == 0).astype(np.int64)
    return Small(place=folder, code=code, y=y)


def test_balanced_counts_train_alone_and_equals_the_same_weights_as_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[tuple[str, ...], Trained] = {}
    for words in ((), ("--class-weights", "balanced"), ("--class-weights", "[0.6, 3]")):
        trained = small(tmp_path / str(len(found)))
        trained.record = object() if words == ("--class-weights", "balanced") else None
        found[words] = trained.train(monkeypatch, *words)
        if trained.record:
            assert "class weights: 0 0.6, 1 3" in trained.messages
    plain, balanced, given = found.values()
    assert plain.weights != balanced.weights == given.weights
    assert balanced.metrics == given.metrics


def test_the_mean_loss_of_a_split_does_not_depend_on_its_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--class-weights", "[1, 5]", "--learning-rate", "1e-30")
    one = small(tmp_path / "1").train(monkeypatch, *words, "--batch-size", "8")
    other = small(tmp_path / "2").train(monkeypatch, *words, "--batch-size", "3")
    assert one.metrics["val_loss"] == pytest.approx(other.metrics["val_loss"], rel=1e-6)


@pytest.mark.parametrize("value", ["balance", "[1]", "[1, -1]", "3"])
def test_a_misspelled_choice_is_rejected_with_a_hint(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = small(tmp_path).failed(monkeypatch, "--class-weights", value)
    assert isinstance(fault, SettingError)
    assert "class_weights" in fault.message


def test_weights_without_effect_on_an_own_loss_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = "\n    def make_loss(self):\n        return nn.CrossEntropyLoss()\n"
    fault = small(tmp_path, CLASSIFIER + own).failed(monkeypatch, "--class-weights", "balanced")
    assert isinstance(fault, SettingError)
    assert "class_weights" in fault.message
