"""Checks of the values that a net's methods return, and the errors for values that do not fit the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torchmetrics import MetricCollection

from trainer.base.errors import ExperimentError
from trainer.base.suggestions import type_with_article

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


_CLOSE: Final = 1e-3


def called(net: Any, given: Any) -> Any:
    """Call a net with the tensor of its input field, or with a tuple of tensors, one for each of its `input_fields`."""
    return net(*given) if isinstance(given, tuple) else net(given)


def leaves(values: Any) -> list[Tensor]:
    """Return the tensors of an input, an output or a target, which may be nested."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def whole(targets: Any) -> Any:
    """Convert integers and booleans to int64, which torch's classification losses take; return other values unchanged.

    uint64 is unchanged too, because it has larger values. In smaller types, comparison with a number outside of the type wraps around: 156
    in uint8 equals -100.
    """
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.is_complex():
        return targets
    return targets if targets.dtype == torch.uint64 else targets.long()


def described(tensor: Tensor) -> str:
    """Return the dtype and shape of a tensor as text: `float32 [2, 10]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def require_float(net: nn.Module, predicted: Tensor, expected: tuple[int | None, ...], *, is_: str) -> None:
    """Raise `ExperimentError` if `predicted` is not a float tensor of shape `expected` (None: any size); `is_` describes the output."""
    if not _fits(predicted, expected):
        found = described(predicted) if hasattr(predicted, "shape") else type_with_article(predicted)
        shape = ", ".join("any" if size is None else str(size) for size in expected)
        message = f"{type(net).__name__}.forward returns {found}; expected float [{shape}], {is_}"
        raise ExperimentError(message, hint="correct what `forward` returns, or override `check_output`")


def odd_probabilities(net: nn.Module, predicted: Tensor, *, dim: int) -> tuple[str, str] | None:
    """Return a message and a hint if scores are probabilities: `forward` ends with softmax or sigmoid, or they sum to 1 along `dim`."""
    if not bool(((predicted >= 0) & (predicted <= 1)).all()):
        return None
    adds_up = predicted.shape[dim] > 1 and bool(((predicted.sum(dim=dim) - 1).abs() < _CLOSE).all())
    ends = _SQUASHING.get(_last_operation(predicted), "softmax" if adds_up else "")
    if not ends:
        return None
    what = "probabilities" if adds_up else "values within 0 and 1"
    message = (
        f"{type(net).__name__}.forward returns {what}, as {ends} does; the loss takes the softmax of scores itself"
    )
    return message, f"remove {ends} from the end of `forward`: with both the net learns slowly"


def odd_sigmoid(net: nn.Module, predicted: Tensor) -> tuple[str, str] | None:
    """Return a message and a hint if `forward` ends with a sigmoid or softmax: the loss applies the sigmoid itself."""
    ends = _SQUASHING.get(_last_operation(predicted), "")
    if not ends or not bool(((predicted >= 0) & (predicted <= 1)).all()):
        return None
    message = f"{type(net).__name__}.forward returns values within 0 and 1, as {ends} does; the loss takes the sigmoid of scores itself"
    return message, f"remove {ends} from the end of `forward`: with both the net learns slowly"


_SQUASHING: Final = {"Softmax": "softmax", "Sigmoid": "sigmoid", "Hardsigmoid": "hardsigmoid"}
_SHAPING: Final = frozenset(
    [
        "View",
        "UnsafeView",
        "ReshapeAlias",
        "Squeeze",
        "Unsqueeze",
        "Permute",
        "Transpose",
        "T",
        "Clone",
        "ToCopy",
        "Slice",
    ]
)


def _last_operation(tensor: Tensor) -> str:
    """Return autograd's name of the operation that computed a tensor; skip operations that change only the shape or the dtype."""
    node: Any = tensor.grad_fn
    while node is not None:
        name = str(node.name()).partition("Backward")[0]
        if name not in _SHAPING or not node.next_functions:
            return name
        node = node.next_functions[0][0]
    return ""


def wrong_loss(net: nn.Module, loss: object) -> ExperimentError:
    """Return the error for a loss that is not one number."""
    found = described(loss) if isinstance(loss, Tensor) else type_with_article(loss)
    return ExperimentError(
        f"the loss of {type(net).__name__} is {found}; expected one number, float []",
        hint="make the loss function that `make_loss` returns compute the mean over the batch",
    )


def loss_of(net: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the net's loss function; raise `ExperimentError` if `make_loss` does not return a function."""
    loss: Any = net.make_loss()
    if not callable(loss):
        hint = "return a loss function, such as nn.CrossEntropyLoss()"
        raise _wrong_kind(net, "make_loss", loss, expected="a function of predictions and targets", hint=hint)
    made: Callable[[Tensor, Tensor], Tensor] = loss
    return made


def metrics_of(net: Any) -> MetricCollection:
    """Return the net's metrics; raise `ExperimentError` if `make_metrics` does not return a `MetricCollection`."""
    metrics: Any = net.make_metrics()
    if not isinstance(metrics, MetricCollection):
        hint = "return a torchmetrics.MetricCollection({NAME: METRIC, ..})"
        raise _wrong_kind(net, "make_metrics", metrics, expected="a MetricCollection", hint=hint)
    return metrics


def _wrong_kind(net: nn.Module, method: str, found: object, *, expected: str, hint: str) -> ExperimentError:
    message = f"{type(net).__name__}.{method} returns {type_with_article(found)}; expected {expected}"
    return ExperimentError(message, hint=hint)


def no_gradient(net: nn.Module) -> ExperimentError:
    """Return the error for a loss that does not depend on any trained parameter."""
    message = "the output of `forward` does not depend on a trained parameter, or was detached"
    hint = "look for detach, no_grad, argmax, .item()"
    if not any(each.requires_grad for each in net.parameters()):
        message = "no parameter is trained: requires_grad is False for all of them"
        hint = "keep at least one parameter with requires_grad=True"
    return ExperimentError(f"the loss of {type(net).__name__} has no gradient: {message}", hint=hint)


def nothing_measured(net: nn.Module, split: str) -> ExperimentError:
    """Return the error for a validation or a test whose overridden step measures nothing."""
    step = {"val": "validation_step", "test": "test_step"}[split]
    message = f"{type(net).__name__}.{step} measures nothing: {split} has no loss and no metric"
    return ExperimentError(message, hint=f"call super().{step}(batch, index) in it, or remove it")


def _fits(predicted: Tensor, expected: tuple[int | None, ...]) -> bool:
    if not hasattr(predicted, "shape") or len(predicted.shape) != len(expected):
        return False
    sizes = zip(predicted.shape, expected, strict=True)
    return predicted.is_floating_point() and all(size in {None, found} for found, size in sizes)
