"""How what a net gave is held against what its task needs, and how a misfit is told.

Knows shapes and types. Refuses to know what any number means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.errors import ExperimentError

if TYPE_CHECKING:
    from torch import Tensor, nn


def described(tensor: Tensor) -> str:
    """Word type and shape: `float32 [2, 10]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def require_float(net: nn.Module, predicted: Tensor, expected: tuple[int, ...], *, is_: str) -> None:
    """Raise `ExperimentError` where `predicted` is no float tensor of the shape `expected`, which holds what `is_` says."""
    fits = hasattr(predicted, "shape") and predicted.shape == expected
    if not fits or not predicted.is_floating_point():
        found = described(predicted) if hasattr(predicted, "shape") else f"a {type(predicted).__name__}"
        said = f"{type(net).__name__}.forward gives {found}; expected float {list(expected)}, {is_}"
        raise ExperimentError(said, hint="mend what `forward` returns, or override `check_output`")
