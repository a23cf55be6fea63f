"""Predictions: the outputs of a net, converted to data for JSON."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torchmetrics.classification import MultilabelAccuracy

from trainer.base.errors import ExperimentError
from trainer.training.tasks.predictions import PredictionForm

pytestmark = pytest.mark.torch


def predictions(form: PredictionForm, predicted: object) -> list[dict[str, object]]:
    return form.predictions(form.outputs(predicted))


def test_a_class_has_the_largest_score_and_scores_sum_to_one() -> None:
    (prediction,) = predictions(PredictionForm(kind="class", names=("cat", "dog")), torch.tensor([[0.0, 2.0]]))
    assert prediction["class"] == "dog"
    assert sum(prediction["scores"].values()) == pytest.approx(1)  # type: ignore[attr-defined]


def test_a_map_has_a_class_at_each_place_and_the_share_of_each_class() -> None:
    scores = torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 1.0]]])[None]
    (prediction,) = predictions(PredictionForm(kind="class", names=("sky", "sea")), scores)
    assert prediction == {"shares": {"sky": 0.25, "sea": 0.75}, "output": [[1, 0], [1, 1]]}


def test_labels_are_those_that_the_metrics_count() -> None:
    scores = torch.tensor([[-1.0, 0.0, 3.0], [1e-3, -1e-3, 1e-10]])
    found = predictions(PredictionForm(kind="labels", names=("a", "b", "c")), scores)
    assert [each["labels"] for each in found] == [["c"], ["a"]]
    counted = MultilabelAccuracy(num_labels=3, average="none")(scores.sigmoid(), torch.ones(2, 3, dtype=torch.int64))
    assert counted.tolist() == [sum(name in each["labels"] for each in found) / 2 for name in "abc"]  # type: ignore[operator]


def test_numbers_are_given_as_they_are_and_several_outputs_by_name() -> None:
    form = PredictionForm()
    assert predictions(form, torch.tensor([1.5, 2.5])) == [{"output": 1.5}, {"output": 2.5}]
    assert predictions(form, {"x": torch.tensor([[1]]), "y": torch.tensor([2.0])}) == [{"x": [1], "y": 2.0}]
    assert predictions(form, (torch.tensor([1]), torch.tensor([2]))) == [{"output_0": 1, "output_1": 2}]


@pytest.mark.parametrize("predicted", [None, [], {"x": 1}, "text"])
def test_other_values_are_rejected(predicted: object) -> None:
    with pytest.raises(ExperimentError, match=r"expected a tensor"):
        PredictionForm().outputs(predicted)
