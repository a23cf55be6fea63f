"""The multi-label task: any number of labels for each sample."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.small_training import Small
from trainer.base.errors import DatasetError, ExperimentError, SettingError
from trainer.training.tasks.metrics import MeanAveragePrecision
from trainer.training.tasks.multi_label import MultiLabelClassifier, multi_label_loss
from trainer.training.tasks.split_metrics import computed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch
CODE = """
from trainer.training.tasks.multi_label import MultiLabelClassifier, MultiLabelSettings

class Settings(MultiLabelSettings):
    dataset = "dots"
    labels = 3
    input_field = "x"
    target_field = "y"
    learning_rate = 0.3

class Net(MultiLabelClassifier):
    def __init__(self, *, labels: int) -> None:
        super().__init__()
        self.layers = nn.Linear(4, labels)

    def forward(self, x):
        return self.layers(x)
"""


def small(folder: Path, code: str = CODE, *, dtype: str = "uint8") -> Small:
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    return Small(place=folder, code=code, x=x, y=(x[:, :3] > 0).astype(dtype))


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float32", "int64"])
def test_labels_are_learned_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    trained = small(tmp_path, dtype=dtype).train(monkeypatch, "--max-epochs", "20")
    assert set(trained.metrics) == {
        f"{split}_{name}" for split in ("val", "test") for name in ("loss", "accuracy", "f1", "map")
    }
    assert trained.metrics["test_map"] > 0.9
    assert trained.metrics["test_accuracy"] > 0.8
    figures = json.loads((tmp_path / "attempt/figures.json").read_text())["figures"]
    assert "ROC of each label" in [each["title"] for each in figures]


def test_the_loss_is_torchs_with_targets_of_any_type() -> None:
    scores, wanted = torch.randn(5, 3), torch.randint(0, 2, (5, 3))
    expected = torch.nn.BCEWithLogitsLoss()(scores, wanted.float())
    assert torch.equal(multi_label_loss(scores, wanted), expected)
    assert torch.equal(multi_label_loss(scores, wanted.bool()), expected)


def test_average_precision_ranks_scores_whose_probabilities_are_one_in_float32() -> None:
    scores, wanted = torch.tensor([[30.0], [20.0], [25.0], [35.0]]).repeat(1, 2), torch.tensor([[0], [0], [1], [1]])
    metric = MeanAveragePrecision(2)
    metric.update(*MultiLabelClassifier.metric_inputs(None, scores, wanted.repeat(1, 2)))  # type: ignore[arg-type]
    assert metric.compute().item() == pytest.approx((1 + 2 / 3) / 2)


def test_mean_average_precision_leaves_out_labels_that_no_sample_has() -> None:
    from torchmetrics import MetricCollection

    metric = MetricCollection({"map": MeanAveragePrecision(3)})
    scores = torch.tensor([[0.9, 0.2, 0.5], [0.8, 0.9, 0.5], [0.1, 0.3, 0.5]])
    metric.update(scores, torch.tensor([[1, 0, 0], [0, 1, 0], [0, 1, 0]]))
    assert float(computed(metric)[0]["map"]) == pytest.approx(1.0)
    metric.reset()
    metric.update(scores, torch.zeros(3, 3, dtype=torch.int64))
    found, undefined = computed(metric)
    assert bool(found["map"].isnan())
    assert undefined == {"map": "no sample has a label"}


@pytest.mark.parametrize(
    ("y", "words", "kind", "message"),
    [
        (
            np.zeros(40, dtype=np.int64),
            (),
            DatasetError,
            r"targets are int64 \[2\]; a multi-label classification expects",
        ),
        (np.zeros((40, 2), dtype=np.uint8), (), DatasetError, r"targets are uint8 \[2, 2\]; setting labels is 3"),
        (
            np.full((40, 3), 2),
            (),
            DatasetError,
            "targets of split train include 2 .the first is in row 0.; expected 0 or 1",
        ),
        (None, ("--label", "3"), SettingError, "label"),
    ],
)
def test_mismatched_outputs_or_targets_are_rejected_with_a_hint(
    y: Any, words: tuple[str, ...], kind: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = small(tmp_path)
    trained.y = trained.y if y is None else y
    trained.record = object()
    fault = trained.failed(monkeypatch, *words)
    with pytest.raises(kind, match=message):
        raise fault
    assert getattr(fault, "hint", None)


def test_another_output_or_a_sigmoid_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = small(tmp_path, CODE.replace("self.layers(x)", "self.layers(x)[:, 0]")).failed(monkeypatch)
    assert isinstance(fault, ExperimentError)
    assert "returns float32 [2]; expected float [2, 3], a score for each label" in fault.message
    odd = small(tmp_path, CODE.replace("self.layers(x)", "self.layers(x).sigmoid()"))
    odd.train(monkeypatch)
    assert any("the loss takes the sigmoid of scores itself" in line for line in odd.messages), odd.messages
