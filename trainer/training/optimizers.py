"""Optimizers by name, and how their learning rate goes on.

Knows which of torch's variants give equal bits on every x86-64 CPU: fused Adam does, un-fused Adam goes through MKL's square root,
which does not. Refuses to know the net.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
from torch.optim.lr_scheduler import LambdaLR

from trainer.ledger import configured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn
    from torch.optim import Optimizer

    Parameters = Iterable[nn.Parameter]


@configured
def make_optimizer(parameters: Parameters, *, optimizer: str) -> Optimizer:
    """Make the optimizer of that name over `parameters`."""
    made: Optimizer = _OPTIMIZERS[optimizer](parameters)
    return made


@configured
def make_schedule(over: Optimizer, *, steps: int, schedule: str, warmup_steps: int) -> LambdaLR:
    """Let the learning rate of `over` rise during the warm-up, then go on as `schedule` says until `steps`."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if schedule == "constant":
            return 1.0
        done = (step - warmup_steps) / max(1, steps - warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))

    return LambdaLR(over, factor)


@configured
def adamw(parameters: Parameters, *, learning_rate: float, weight_decay: float) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)


@configured
def adam(parameters: Parameters, *, learning_rate: float, weight_decay: float) -> Optimizer:
    """Adam (Kingma and Ba, 2015); weight decay is added to the gradient."""
    return torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)


@configured
def sgd(parameters: Parameters, *, learning_rate: float, weight_decay: float, momentum: float) -> Optimizer:
    """Gradient descent with momentum."""
    return torch.optim.SGD(parameters, lr=learning_rate, weight_decay=weight_decay, momentum=momentum)


_OPTIMIZERS: Final[dict[str, Callable[..., Optimizer]]] = {"adamw": adamw, "adam": adam, "sgd": sgd}
