"""How near two outputs must be to count as the same.

Knows that kernels for other sizes add in another order. Refuses to know whose outputs they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

CLOSE: Final = 1e-4
"""How far apart values may be, relative to the largest of them."""


def far(one: Tensor, other: Tensor) -> Tensor:
    """Tell which values are apart, of two tensors of one shape; what is not finite is equal to its like alone.

    >>> import torch
    >>> far(torch.tensor([1.0, 2.0, torch.inf]), torch.tensor([1.00001, 2.1, torch.inf])).tolist()
    [False, True, False]
    """
    first, second = one.double(), other.double()
    equal = (first == second) | (first.isnan() & second.isnan())
    largest = float(second[second.isfinite()].abs().max()) if bool(second.isfinite().any()) else 0.0
    return ~equal & ~((first - second).abs() <= CLOSE * max(1e-6, largest))
