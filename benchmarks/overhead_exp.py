"""The nets of `bodies` as an experiment that prints its time per step. For `scripts/bench overhead`."""

from __future__ import annotations

import sys
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from trainer.settings.ledger import configured
from trainer.training.tasks.classification import ClassificationSettings, Classifier

if TYPE_CHECKING:
    from torch import Tensor

bodies: Any = import_module("benchmarks.bodies")
"""Imported by its path from the checkout's root, where the imports of a run begin; the other benchmarks import it as `bodies`."""


class Settings(ClassificationSettings):
    """The digits, in small batches: an epoch of 180 steps."""

    dataset = "digits"  # type: ignore[pydantic-field] # the type is that of the setting
    classes = 10  # type: ignore[pydantic-field] # the type is that of the setting
    batch_size = 8  # type: ignore[pydantic-field] # the type is that of the setting
    learning_rate = 1e-4  # type: ignore[pydantic-field] # the type is that of the setting
    body: Literal["transformer", "small"] = "transformer"


@configured
class Net(Classifier):
    """A body with two clock readings."""

    def __init__(self, *, body: str) -> None:
        """Create the net."""
        super().__init__()
        self.body = bodies.BODIES[body]()
        self.warm, self.timed = bodies.STEPS[body]
        self.began = 0.0

    def forward(self, images: Tensor) -> Tensor:
        """Return a score for each class."""
        scores: Tensor = self.body(images)
        return scores

    def on_train_batch_start(self, *_: Any) -> None:
        """Read the clock after the warm-up and at the end: when a step begins, the previous step is complete."""
        if self.global_step == 0:
            sys.stdout.write("first step\n")
            sys.stdout.flush()
        if self.global_step == self.warm:
            self.began = perf_counter()
        if self.global_step == self.warm + self.timed:
            sys.stdout.write(f"seconds a step: {(perf_counter() - self.began) / self.timed:.9f}\n")
            sys.stdout.flush()
