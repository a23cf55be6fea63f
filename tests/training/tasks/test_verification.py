"""The metrics of the verification task, on pairs with known results."""

from __future__ import annotations

import pytest
import torch

from trainer.training.tasks.verification import contrastive, measures, nearness, same, squared_distance

pytestmark = pytest.mark.torch
EMBEDDINGS = torch.tensor([[0.0, 0.0], [0.0, 0.5], [1.0, 0.0], [1.0, 2.0], [3.0, 3.0], [3.0, 3.0]])
LABELS = torch.tensor([1, 1, 1, 2, 4, 5])


def test_adjacent_samples_are_a_pair() -> None:
    assert squared_distance(EMBEDDINGS).tolist() == [0.25, 4.0, 0.0]
    assert same(LABELS).tolist() == [1, 0, 0]
    assert nearness(EMBEDDINGS).tolist() == [0.800000011920929, 0.20000000298023224, 1.0]


def test_the_loss_attracts_one_class_and_separates_two_up_to_the_margin() -> None:
    assert contrastive(margin=1.0)(EMBEDDINGS, LABELS).item() == pytest.approx((0.25 + 0 + 1) / 3)


def test_equal_embeddings_have_a_finite_gradient() -> None:
    points = torch.zeros(2, 3, requires_grad=True)
    contrastive(margin=1.0)(points, torch.tensor([0, 1])).backward()
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()


def test_accuracy_treats_pairs_within_half_the_margin_as_one_class() -> None:
    found = measures(margin=1.0)(nearness(EMBEDDINGS), same(LABELS))
    assert found["accuracy"].item() == pytest.approx(2 / 3)
    assert found["auc"].item() == pytest.approx(0.5)
