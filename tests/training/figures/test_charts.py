"""Charts of small test outputs, compared with known results."""

from __future__ import annotations

import pytest
import torch

from trainer.training.figures.charts import confusion, histogram, parity, roc

pytestmark = pytest.mark.torch
NAN = float("nan")


def test_a_confusion_matrix_has_true_classes_in_rows() -> None:
    chart = confusion(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 0, 1]), ["cat", "dog"])
    assert (chart.rows, chart.counts) == (("cat", "dog"), ((1, 2), (0, 1)))


def test_a_roc_curve_has_only_its_corners() -> None:
    chart = roc({"a": (torch.tensor([0.9, 0.8, 0.2, 0.1, NAN]), torch.tensor([1, 1, 0, 0, 0]))}, title="ROC")
    assert chart is not None
    assert [(line.x, line.y) for line in chart.series] == [((0.0, 0.0, 1.0), (0.0, 1.0, 1.0))]


def test_a_single_class_has_no_roc_curve() -> None:
    assert roc({"a": (torch.rand(4), torch.ones(4))}, title="ROC") is None


def test_a_parity_plot_of_many_samples_is_thinned_with_a_note() -> None:
    chart = parity(torch.arange(5000.0), torch.arange(5000.0))
    assert (len(chart.x), chart.of, chart.x[-1]) == (2000, 5000, 4999)


@pytest.mark.parametrize("values", [[0.0, 1.0, 1.0, NAN], [2.0, 2.0]])
def test_a_histogram_counts_every_number(values: list[float]) -> None:
    chart = histogram("away", "Away", "x", {"test": torch.tensor(values)})
    assert chart is not None
    assert sum(chart.series[0].y) == len([value for value in values if value == value])  # noqa: PLR0124 - only NaN differs from itself


def test_no_finite_values_have_no_histogram() -> None:
    assert histogram("away", "Away", "x", {"test": torch.tensor([NAN])}) is None
