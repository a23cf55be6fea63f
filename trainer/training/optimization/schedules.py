"""Learning rate schedules by name, each with its settings.

The schedules are stateless: the factor of the learning rate depends on the step number alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from trainer.settings.ledger import configured

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer


@configured
def make_schedule(over: Optimizer, *, steps: int, schedule: str) -> LRScheduler:
    """Return the named schedule, for a training of `steps`."""
    chosen: LRScheduler = _SCHEDULES[schedule](over, steps)
    return chosen


@configured
def constant(over: Optimizer, steps: int, *, warmup_steps: int) -> LRScheduler:
    """A constant rate after the warm-up."""
    del steps
    return _after_warmup(over, warmup_steps, lambda _: 1.0)


@configured
def cosine(over: Optimizer, steps: int, *, warmup_steps: int, final_rate: float) -> LRScheduler:
    """A half cosine down to `final_rate` (Loshchilov and Hutter, 2017)."""

    def factor(step: int) -> float:
        half = 0.5 * (1.0 + math.cos(math.pi * _done(step, warmup_steps, steps)))
        return final_rate + (1.0 - final_rate) * half

    return _after_warmup(over, warmup_steps, factor)


@configured
def linear(over: Optimizer, steps: int, *, warmup_steps: int, final_rate: float) -> LRScheduler:
    """A linear decrease to `final_rate`."""
    return _after_warmup(over, warmup_steps, lambda step: 1.0 - (1.0 - final_rate) * _done(step, warmup_steps, steps))


@configured
def step(over: Optimizer, steps: int, *, warmup_steps: int, step_size: int, gamma: float) -> LRScheduler:
    """A multiplication by `gamma` every `step_size` steps."""
    del steps
    return _after_warmup(over, warmup_steps, lambda step: gamma ** (step // step_size))


@configured
def one_cycle(over: Optimizer, steps: int, *, learning_rate: float) -> LRScheduler:
    """Torch's one-cycle schedule: an increase for 30% of the steps, then a decrease to about 0 (Smith and Topin, 2018).

    The momentum stays constant.
    """
    return OneCycleLR(over, max_lr=learning_rate, total_steps=max(steps, 2), cycle_momentum=False)


def _after_warmup(over: Optimizer, warmup_steps: int, factor: Callable[[int], float]) -> LambdaLR:
    return LambdaLR(over, lambda step: (step + 1) / warmup_steps if step < warmup_steps else factor(step))


def _done(step: int, warmup_steps: int, steps: int) -> float:
    """Return the completed fraction of the steps after the warm-up."""
    return min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))


_SCHEDULES: Final[dict[str, Callable[..., LRScheduler]]] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "step": step,
    "one_cycle": one_cycle,
}
