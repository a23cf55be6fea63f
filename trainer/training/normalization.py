"""Normalization with mean and standard deviation of the training split, which are saved with the weights."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trainer.base.errors import ExperimentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trainer.training.train_split import TrainSplit


class Normalize(nn.Module):
    """Subtracts the mean of the training split and divides by its standard deviation, at each position of the first `shape` axes.

    `Normalize(10)` takes features `[batch, 10]`, `Normalize(3)` channels `[batch, 3, height, width]`, `Normalize()` numbers `[batch]`.
    The run fits it before the first step to `field`, by default the net's input; until then it returns NaN.
    """

    mean: Tensor
    std: Tensor
    """1 at positions where all values are equal."""
    count: Tensor
    """The number of values at each position, int64 `[]`; 0 before the fit."""

    def __init__(self, *shape: int, field: str | None = None) -> None:
        super().__init__()
        self.shape, self.field = shape, field
        for name in ("mean", "std"):
            self.register_buffer(name, torch.full(shape, torch.nan))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, values: Tensor) -> Tensor:
        """Return normalized values, `[batch, *shape, ...]`."""
        mean, std = self._for(values)
        return (values - mean) / std

    def inverse(self, values: Tensor) -> Tensor:
        """Return values in the units of the training split: the inverse of `forward`."""
        mean, std = self._for(values)
        return values * std + mean

    def fit(self, train: TrainSplit, *, field: str, name: str) -> str:
        """Fit mean and standard deviation to a field of the training split without transforms; return a line for the log."""
        found = train.moments(field, self.shape, by=name)
        self.mean.copy_(torch.from_numpy(found.mean))
        self.std.copy_(torch.from_numpy(found.std))
        equal = self.std == 0
        self.std[equal] = 1
        self.count.fill_(found.count)
        same = f"; {int(equal.sum())} of {equal.numel()} positions have equal values" if bool(equal.any()) else ""
        return f"{name} fitted to {field!r} of {len(train.rows):,} training samples{same}"

    def extra_repr(self) -> str:
        """Return the constructor's arguments."""
        return ", ".join([*map(str, self.shape), *([f"field={self.field!r}"] if self.field else [])])

    def _for(self, values: Tensor) -> tuple[Tensor, Tensor]:
        found = tuple(values.shape[1 : 1 + len(self.shape)])
        if found != self.shape:
            shown = ", ".join(["batch", *map(str, self.shape)])
            message = f"Normalize({self.extra_repr()}) gets {list(values.shape)}; expected [{shown}, ..]"
            raise ExperimentError(message, hint="pass it the first axes of a sample: features, or channels")
        whole = (*self.shape, *(1 for _ in range(values.ndim - 1 - len(self.shape))))
        return self.mean.reshape(whole), self.std.reshape(whole)


def fit_normalizations(net: nn.Module, train: TrainSplit, *, field: str) -> list[str]:
    """Fit every `Normalize` of a net, to `field` if the module names no field; return lines for the log.

    In a resumed run nothing is fitted: the checkpoint has the values. Mean and standard deviation that were loaded with the initial weights
    are kept.
    """
    if train.resumed:
        return []
    named = {f"{type(net).__name__}.{name}": each for name, each in net.named_modules() if isinstance(each, Normalize)}
    return [
        f"{name} keeps the mean and standard deviation of the initial weights"
        if int(module.count)
        else module.fit(train, field=module.field or field, name=name)
        for name, module in named.items()
    ]


@contextmanager
def fields_unchanged(net: nn.Module, batch: Mapping[str, Tensor], *, field: str) -> Iterator[None]:
    """In the block, raise `ExperimentError` if a `Normalize` is called with values other than the field to which it is fitted."""

    def require(name: str, module: Normalize, given: tuple[Any, ...]) -> None:
        fitted = module.field or field
        whole, values = batch.get(fitted), given[0]
        if whole is None or (whole.shape == values.shape and torch.equal(whole.to(values.dtype), values)):
            return
        message = f"{type(net).__name__}.{name} is fitted to field {fitted!r}, but `forward` calls it with other values"
        raise ExperimentError(
            message,
            hint="call it on the unchanged field, at the start of `forward`; or publish the field in the form to normalize",
        )

    modules = [(name, each) for name, each in net.named_modules() if isinstance(each, Normalize)]
    handles = [each.register_forward_pre_hook(partial(require, name)) for name, each in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
