"""A verification's arithmetic on pairs whose answers are known."""

from __future__ import annotations

import pytest
import torch

from trainer.training.tasks.verification import contrastive, measures, nearness, same, squared_distance

pytestmark = pytest.mark.torch
EMBEDDINGS = torch.tensor([[0.0, 0.0], [0.0, 0.5], [1.0, 0.0], [1.0, 2.0], [3.0, 3.0], [3.0, 3.0]])
LABELS = torch.tensor([1, 1, 1, 2, 4, 5])


def test_neighbours_are_a_pair() -> None:
    """Squared distances, and whether they are of one class."""
    assert squared_distance(EMBEDDINGS).tolist() == [0.25, 4.0, 0.0]
    assert same(LABELS).tolist() == [1, 0, 0]
    assert nearness(EMBEDDINGS).tolist() == [0.800000011920929, 0.20000000298023224, 1.0]


def test_the_loss_draws_one_class_together_and_pushes_two_up_to_the_margin() -> None:
    """0.25 for the same; nothing for those beyond the margin; all of it for two that lie on one point."""
    assert contrastive(margin=1.0)(EMBEDDINGS, LABELS).item() == pytest.approx((0.25 + 0 + 1) / 3)


def test_equal_embeddings_have_a_gradient_that_is_finite() -> None:
    """A distance with a root would have none there."""
    points = torch.zeros(2, 3, requires_grad=True)
    contrastive(margin=1.0)(points, torch.tensor([0, 1])).backward()
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()


def test_accuracy_calls_pairs_within_half_the_margin_the_same() -> None:
    """Two of three are called as they are; the order of nearness is right for all but one."""
    found = measures(margin=1.0)(nearness(EMBEDDINGS), same(LABELS))
    assert found["accuracy"].item() == pytest.approx(2 / 3)
    assert found["auc"].item() == pytest.approx(0.5)
