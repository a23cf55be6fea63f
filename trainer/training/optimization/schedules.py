"""Schedules by name: how the learning rate goes on from step to step, each with the settings that it takes.

Knows the factor of each step. Refuses to know the optimizer, and to keep a state of its own: the step's number tells all.
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
    """Make the schedule of that name, for a training of `steps`."""
    chosen: LRScheduler = _SCHEDULES[schedule](over, steps)
    return chosen


@configured
def constant(over: Optimizer, steps: int, *, warmup_steps: int) -> LRScheduler:
    """The full rate, once it is reached."""
    del steps
    return _after_warmup(over, warmup_steps, lambda _: 1.0)


@configured
def cosine(over: Optimizer, steps: int, *, warmup_steps: int, final_rate: float) -> LRScheduler:
    """Down to `final_rate` along half a wave of a cosine (Loshchilov and Hutter, 2017)."""

    def factor(step: int) -> float:
        half = 0.5 * (1.0 + math.cos(math.pi * _done(step, warmup_steps, steps)))
        return final_rate + (1.0 - final_rate) * half

    return _after_warmup(over, warmup_steps, factor)


@configured
def linear(over: Optimizer, steps: int, *, warmup_steps: int, final_rate: float) -> LRScheduler:
    """Down to `final_rate` along a line."""
    return _after_warmup(over, warmup_steps, lambda step: 1.0 - (1.0 - final_rate) * _done(step, warmup_steps, steps))


@configured
def step(over: Optimizer, steps: int, *, warmup_steps: int, step_size: int, gamma: float) -> LRScheduler:
    """Times `gamma` every `step_size` steps."""
    del steps
    return _after_warmup(over, warmup_steps, lambda step: gamma ** (step // step_size))


@configured
def one_cycle(over: Optimizer, steps: int, *, learning_rate: float) -> LRScheduler:
    """Up for three tenths of the steps, then down to nothing, by torch's own (Smith and Topin, 2018); momentum stays as it is."""
    return OneCycleLR(over, max_lr=learning_rate, total_steps=max(steps, 2), cycle_momentum=False)


def _after_warmup(over: Optimizer, warmup_steps: int, factor: Callable[[int], float]) -> LambdaLR:
    return LambdaLR(over, lambda step: (step + 1) / warmup_steps if step < warmup_steps else factor(step))


def _done(step: int, warmup_steps: int, steps: int) -> float:
    """What part of the steps after the warm-up is over."""
    return min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))


_SCHEDULES: Final[dict[str, Callable[..., LRScheduler]]] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "step": step,
    "one_cycle": one_cycle,
}
