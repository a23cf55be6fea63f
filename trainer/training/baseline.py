"""Small-scale runs of an experiment: about a minute of training on synthetic data, with several seeds or with perturbed weights.

`trainer.comparison.baseline` judges the results.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch

from trainer.training.checks.short_training import notebook, train_shortly
from trainer.training.checks.subject import LARGEST_BATCH, Subject
from trainer.training.determinism.seeds import derived
from trainer.training.fit import quieten
from trainer.training.readers.synthetic import make_synthetic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.data.declaration import Dataset
    from trainer.settings.origins import Resolved
    from trainer.training.experiment import Experiment
    from trainer.training.tasks.task import Task

STEPS: Final = 40
_BATCHES: Final = 8
_NUDGE: Final = 2.0**-20
"""The relative change of perturbed weights: eight times the last bit of float32."""


def small(experiment: Experiment, resolved: Resolved[Any], declared: Dataset, *, root: Path, folder: Path) -> Subject:
    """Return the experiment with its own settings, in small batches on the CPU, with a synthetic twin of eight batches."""
    size = min(int(resolved.settings.value_of("batch_size")), LARGEST_BATCH)
    settings = resolved.settings.model_copy(update={"batch_size": size, "max_steps": STEPS, "max_epochs": STEPS})
    dataset, data = make_synthetic(declared, rows=_BATCHES * size)
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
    """Yield the result metrics for each seed from 0 on."""
    quieten()
    for seed in range(seeds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trained = train_shortly(subject, subject.folder / f"seed{seed}", notebook(subject, seed=seed))
        yield trained.metrics


def nudged(subject: Subject, *, times: int) -> Iterator[dict[str, float]]:
    """Yield the result metrics of seed 0 with the last bits of the initial weights perturbed, to measure the effect of rounding."""
    for number in range(1, times + 1):
        experiment = replace(subject.experiment, net=_nudged(subject.experiment.net, number))
        moved = replace(subject, experiment=experiment, folder=subject.folder / f"nudge{number}")
        moved.folder.mkdir()
        yield from results(moved, seeds=1)


def _nudged(kind: type[Task], number: int) -> type[Task]:
    def on_fit_start(net: Task) -> None:
        kind.on_fit_start(net)
        generator = torch.Generator().manual_seed(derived(number, "nudge"))
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1 + _NUDGE * torch.randn(parameter.shape, generator=generator))

    return type(kind.__name__, (kind,), {"on_fit_start": on_fit_start, "__module__": kind.__module__})
