"""The tolerance for comparing outputs: kernels for other sizes add in another order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

CLOSE: Final = 1e-4
"""The largest difference of equal values, relative to the largest value."""


def far(one: Tensor, other: Tensor) -> Tensor:
    """Return which values of two tensors of one shape differ; NaN equals only NaN, infinity only the same infinity.

    >>> import torch
    >>> far(torch.tensor([1.0, 2.0, torch.inf]), torch.tensor([1.00001, 2.1, torch.inf])).tolist()
    [False, True, False]
    """
    first, second = one.double(), other.double()
    equal = (first == second) | (first.isnan() & second.isnan())
    largest = float(second[second.isfinite()].abs().max()) if bool(second.isfinite().any()) else 0.0
    return ~equal & ~((first - second).abs() <= CLOSE * max(1e-6, largest))
