"""An experiment at small scale: a minute's training of many epochs on the dataset's dummy twin, with several seeds.

Knows how small. Refuses to judge what it comes to: `trainer.baseline` does.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from trainer.training.checks.short import notebook, train_shortly
from trainer.training.checks.trial import LARGEST_BATCH, Subject
from trainer.training.fit import quieten
from trainer.training.readers.twin import twin_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.data.dataset import Dataset
    from trainer.origins import Resolved
    from trainer.training.experiment import Experiment

STEPS: Final = 40
_BATCHES: Final = 8


def small(experiment: Experiment, resolved: Resolved[Any], declared: Dataset, *, root: Path, folder: Path) -> Subject:
    """Take the experiment with its own settings, in small batches, on a twin of eight of them, on the CPU."""
    size = min(int(resolved.settings.value_of("batch_size")), LARGEST_BATCH)
    settings = resolved.settings.model_copy(update={"batch_size": size, "max_steps": STEPS, "max_epochs": STEPS})
    dataset, data = twin_of(declared, rows=_BATCHES * size)
    return Subject(
        experiment=experiment,
        resolved=replace(resolved, settings=settings),
        root=root,
        dataset=dataset,
        data=data,
        device="cpu",
        folder=folder,
    )


def results(subject: Subject, *, seeds: int) -> Iterator[dict[str, float]]:
    """Give the result metrics with each seed, from 0 on."""
    quieten()
    for seed in range(seeds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trained = train_shortly(subject, subject.folder / f"seed{seed}", notebook(subject, seed=seed))
        yield trained.metrics
