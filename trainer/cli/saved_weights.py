"""Functions for commands that test saved weights: set the variables of the run's determinism level, and fetch its datasets."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trainer
from trainer.cli.output import print_notice
from trainer.settings.determinism import Level, differing, variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.runs.record import Record
    from trainer.training.assembly import FetchedDataset

_WEIGHTS: Final = "weights"


def require_variables(record: Record, words: Sequence[str]) -> None:
    """Replace this process by `reprise` with `words` and the variables of the run's determinism level, unless it has them already.

    Libraries read these variables when they are loaded.
    """
    promised = record.ingredients.determinism
    needed = variables(Level(promised.level), threads=promised.threads)
    if differing(needed, os.environ):
        path = {"PYTHONPATH": str(Path(trainer.__file__).parents[1])}
        command = [sys.executable, "-P", "-m", "trainer", *words]
        os.execvpe(sys.executable, command, {**os.environ, **path, **needed})  # noqa: S606 - replaces this process, without a shell


def fetched_samples(record: Record, folder: Path) -> Iterator[FetchedDataset]:
    """Fetch and yield the datasets of a run; a dataset that was used only for weights is skipped."""
    from trainer.cli.process.fetching import fetch_data
    from trainer.models.prediction import declared_in
    from trainer.training.assembly import FetchedDataset

    for name, used in record.ingredients.datasets.items():
        splits = tuple(role for role in used.roles if role != _WEIGHTS)
        if used.roles and not splits:
            continue
        declared = declared_in(record, folder, name)
        yield FetchedDataset(declared=declared, files=fetch_data(declared, say=print_notice), splits=splits)
