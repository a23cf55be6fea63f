"""Metrics that are updated shard by shard have the values of whole batches, and of all batches together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning as L
import pytest
import torch
from torchmetrics import CatMetric, MaxMetric, MeanMetric, MeanSquaredError, Metric, MetricCollection, R2Score
from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score

from tests.small_training import REGRESSOR, Small
from trainer.base.errors import ExperimentError
from trainer.training.shards.merged_metrics import MergedMetrics

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch
SHARDS = 4
LABELS = (torch.rand(3, 16, 3), torch.randint(3, (3, 16)))
"""Three batches of scores and classes."""


class Net(L.LightningModule):
    def __init__(self, metric: Metric | MetricCollection) -> None:
        super().__init__()
        self.metric: Any = metric


def measure(metric: Any, *batches: torch.Tensor) -> list[Any]:
    """Update a metric shard by shard; return its value for each batch, and for all batches together."""
    merged, values = MergedMetrics(Net(metric)), []
    for batch in zip(*batches, strict=True):
        merged.begin_step()
        numbers, updated = [], []
        for shard in range(SHARDS):
            merged.begin_shard()
            metric(*(each[shard::SHARDS] for each in batch))
            numbers.append(torch.cat(merged.end_shard()))
            updated.append(merged.updated)
        merged.end_step(torch.stack(numbers), updated, [metric])
        values.append(metric._forward_cache)
    return [*values, metric.compute()]


@pytest.mark.parametrize(
    "metric",
    [MulticlassAccuracy(3), MulticlassF1Score(3), MulticlassConfusionMatrix(3), BinaryAUROC(thresholds=5)],
    ids=lambda each: type(each).__name__,
)
def test_counts_are_those_of_whole_batches(metric: Metric) -> None:
    batches = (LABELS[0][..., 0], LABELS[1] % 2) if isinstance(metric, BinaryAUROC) else LABELS
    whole = metric.clone()
    expected = [whole(*batch) for batch in zip(*batches, strict=True)]
    assert all(map(torch.equal, measure(metric, *batches), [*expected, whole.compute()]))


@pytest.mark.parametrize("metric", [MeanMetric(), MaxMetric()], ids=lambda each: type(each).__name__)
def test_aggregates_are_those_of_whole_batches(metric: Metric) -> None:
    whole, values = metric.clone(), torch.arange(48.0).reshape(3, 16)
    expected = [whole(batch) for batch in values]
    torch.testing.assert_close(measure(metric, values), [*expected, whole.compute()])


def test_sums_of_errors_are_added_in_the_order_of_the_tree() -> None:
    metric, given = MeanSquaredError(), torch.rand(1, 16)
    errors = [given[0, shard::SHARDS].square().sum().double() for shard in range(SHARDS)]
    measure(metric, given, torch.zeros_like(given))
    expected = ((errors[0] + errors[1]) + (errors[2] + errors[3])).float()
    assert metric.sum_squared_error.item() == expected.item()


def test_metrics_of_a_collection_that_share_states_are_each_updated() -> None:
    collection = MetricCollection([MulticlassAccuracy(3), MulticlassF1Score(3)])
    whole = collection.clone()
    for batch in zip(*LABELS, strict=True):
        whole.update(*batch)
    merged = MergedMetrics(Net(collection))
    for batch in zip(*LABELS, strict=True):
        merged.begin_step()
        numbers = []
        for shard in range(SHARDS):
            merged.begin_shard()
            collection.update(*(each[shard::SHARDS] for each in batch))
            numbers.append(torch.cat(merged.end_shard()))
        merged.end_step(torch.stack(numbers), [merged.updated] * SHARDS, [])
    assert {name: each.item() for name, each in collection.compute().items()} == {
        name: each.item() for name, each in whole.compute().items()
    }


def test_a_metric_that_no_shard_updates_keeps_its_states() -> None:
    metric = MulticlassAccuracy(3)
    metric.update(LABELS[0][0], LABELS[1][0])
    value, merged = metric.compute(), MergedMetrics(Net(metric))
    merged.begin_step()
    merged.begin_shard()
    numbers = torch.cat(merged.end_shard())[None]
    merged.end_step(numbers, [merged.updated], [])
    assert torch.equal(metric.compute(), value)


def test_a_metric_that_keeps_samples_is_rejected_if_it_is_updated() -> None:
    with pytest.raises(ExperimentError, match="updates the metric metric, whose states cannot be merged"):
        measure(CatMetric(), LABELS[0][..., 0])


MEASURED = """
        from torchmetrics import R2Score
        self.r2 = R2Score()

    def training_step(self, batch, index):
        predicted = self(batch["x"])
        {how}
        return nn.functional.mse_loss(predicted, batch["y"])
"""


def measured(place: Path, how: str) -> Small:
    """Return an experiment that measures R2 in a training step."""
    begin, middle, end = REGRESSOR.partition("        self.layers = nn.Linear(4, 1)\n")
    y = torch.rand(40).numpy()
    return Small(place=place, code=begin + middle + MEASURED.format(how=how) + end, y=y)


def test_a_metric_that_needs_several_samples_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = measured(tmp_path, 'self.log("r2", self.r2(predicted, batch["y"]))')
    fault = small.failed(monkeypatch, "--shards", "8")
    assert "Needs at least two samples to calculate r2 score" in str(fault)
    assert "the metric r2 computes a value from the samples of one shard of the batch: call its update()" in str(fault)


def test_a_metric_that_needs_several_samples_can_be_updated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = 'self.r2.update(predicted, batch["y"]); self.log("r2", self.r2, on_step=False, on_epoch=True)'
    assert measured(tmp_path, how).train(monkeypatch, "--shards", "8").metrics
    batches = (torch.rand(1, SHARDS), torch.rand(1, SHARDS))
    merged, metric = MergedMetrics(Net(R2Score())), R2Score()
    metric(*(each[0] for each in batches))
    merged.begin_step()
    numbers = []
    for shard in range(SHARDS):
        merged.begin_shard()
        merged.followed[0].metric.update(*(each[0, shard::SHARDS] for each in batches))
        numbers.append(torch.cat(merged.end_shard()))
    merged.end_step(torch.stack(numbers), [merged.updated] * SHARDS, [])
    torch.testing.assert_close(merged.followed[0].metric.compute(), metric.compute())
