"""Those nets as an experiment, which says how many steps a second it makes. For `scripts/bench overhead`."""

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
"""By its place in the checkout, where a run's imports begin; beside this file it is `bodies`."""


class Settings(ClassificationSettings):
    """The digits, in small batches: an epoch of 180 steps."""

    dataset = "digits"  # type: ignore[pydantic-field] # the type is that of the setting
    classes = 10  # type: ignore[pydantic-field] # the type is that of the setting
    batch_size = 8  # type: ignore[pydantic-field] # the type is that of the setting
    learning_rate = 1e-4  # type: ignore[pydantic-field] # the type is that of the setting
    body: Literal["transformer", "small"] = "transformer"


@configured
class Net(Classifier):
    """A body, and two looks at the clock."""

    def __init__(self, *, body: str) -> None:
        """Make the body."""
        super().__init__()
        self.body = bodies.BODIES[body]()
        self.warm, self.timed = bodies.STEPS[body]
        self.began = 0.0

    def forward(self, images: Tensor) -> Tensor:
        """Give a score for each class."""
        scores: Tensor = self.body(images)
        return scores

    def on_train_batch_start(self, *_: Any) -> None:
        """Look when the warm-up is over, and at the end: a step that begins has all of the one before behind it."""
        if self.global_step == self.warm:
            self.began = perf_counter()
        if self.global_step == self.warm + self.timed:
            sys.stdout.write(f"seconds a step: {(perf_counter() - self.began) / self.timed:.9f}\n")
            sys.stdout.flush()
