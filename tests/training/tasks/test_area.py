"""The area under the ROC curve, computed from ranks, equals its definition: the share of pairs in the right order."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch, of the lock's extra `cpu`")
pytestmark = pytest.mark.torch


def area(scores: list[float], labels: list[int], *, batches: int = 1) -> tuple[float, str | None]:
    from trainer.training.tasks.area import ClassArea

    metric = ClassArea()
    predicted = torch.stack([torch.zeros(len(scores)), torch.tensor(scores)], dim=1)
    for given, wanted in zip(predicted.chunk(batches), torch.tensor(labels).chunk(batches), strict=True):
        metric.update(given, wanted)
    return float(metric.compute()), metric.undefined


def test_it_is_the_share_of_pairs_in_the_right_order() -> None:
    scores, labels = [0.1, 0.4, 0.35, 0.8, 0.4, 90.0, 91.0], [0, 0, 1, 1, 1, 0, 1]
    pairs = [
        (a, b)
        for a, one in zip(scores, labels, strict=True)
        if one
        for b, two in zip(scores, labels, strict=True)
        if not two
    ]
    expected = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    assert area(scores, labels)[0] == pytest.approx(expected, abs=1e-12)
    assert area(scores, labels, batches=3) == area(scores, labels)


def test_clear_scores_keep_their_order() -> None:
    assert area([60.0, 80.0, 70.0], [0, 1, 1]) == (1.0, None)


def test_it_is_undefined_for_one_class() -> None:
    value, reason = area([0.1, 0.2], [1, 1])
    assert (value != value, reason) == (True, "all 2 samples are of one class")  # noqa: PLR0124 - only NaN differs from itself


@pytest.mark.parametrize(("classes", "names"), [(2, {"accuracy", "f1", "auc"}), (3, {"accuracy", "f1"})])
def test_only_two_classes_have_an_area(classes: int, names: set[str]) -> None:
    from trainer.training.tasks.classification import measures_with_auc

    assert set(measures_with_auc(classes=classes)) == names
