"""The weight of each class in a loss, so that rare classes count more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.base.errors import SettingError
from trainer.settings.ledger import configured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


@configured
def weights_of_classes(
    counts: Callable[[int], list[int]], *, classes: int, class_weights: str | Sequence[float]
) -> Tensor | None:
    """Return the weight of each class, float32 `[classes]`, or None if all classes count the same; `counts` counts the labels of train.

    Balanced weights are samples / (classes * samples of the class), as in scikit-learn; a class without a sample has the weight 1.
    """
    if class_weights == "none":
        return None
    if not isinstance(class_weights, str):
        if len(class_weights) != classes:
            message = (
                f"setting class_weights has {len(class_weights)} weights; the net gives scores for {classes} classes"
            )
            raise SettingError(message, hint=f"use {classes} numbers, or --class-weights balanced")
        return torch.tensor(list(class_weights), dtype=torch.float32)
    found = torch.tensor(counts(classes), dtype=torch.float64)
    balanced = found.sum() / (classes * found)
    return torch.where(found > 0, balanced, 1.0).float()


def described_weights(weights: Tensor, names: Sequence[str], *, most: int = 12) -> str:
    """Return the weights by class, for a line of the run's output."""
    shown = [f"{name} {float(weight):.4g}" for name, weight in zip(names, weights, strict=False)]
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return f"class weights: {', '.join(shown[:most])}{more}"
