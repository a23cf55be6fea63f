"""Retest a run or a package: test its weights again, without training, and compare the metrics with those that the run measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.base.errors import PackageError
from trainer.models.evaluation import compared_metrics, saved_test
from trainer.models.export import ParityCheck, watched
from trainer.models.package import PROGRAM, MetricComparison, OutputComparison
from trainer.models.program_file import read_program
from trainer.models.weights_retest import verdict_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.comparison.verdict import VerdictLevel
    from trainer.models.package import PackageFolder
    from trainer.runs.record import Record
    from trainer.training.assembly import FetchedDataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Retested:
    """The result of a test of saved weights."""

    verdict: VerdictLevel
    metrics: tuple[MetricComparison, ...]
    outputs: OutputComparison | None
    """The outputs of a package compared with those of the run's net; `None` for a run."""


def retest(
    record: Record, folder: Path, datasets: Sequence[FetchedDataset], *, package: PackageFolder | None = None
) -> Retested:
    """Test the net of a run, or the program of its package, on the run's test split.

    Raise what `saved_test` raises, and `PackageError` if the package was made from a run with another identity.
    """
    if package is not None and package.package.identity != record.identity:
        message = f"package {package.package.name} was made from a run with identity {package.package.identity}"
        raise PackageError(f"{message}; run {record.run} has {record.identity}", hint="retest the run itself")
    with saved_test(record, folder, datasets) as tested:
        if package is None:
            return _result(compared_metrics(record, tested.run()), None)
        program = read_program(package.files[PROGRAM], where=str(package.path / PROGRAM)).module()
        check = ParityCheck(form=package.package.answer, program=program)
        with watched(tested.saved.net, check.call):
            return _result(compared_metrics(record, tested.run()), check.result())


def _result(metrics: tuple[MetricComparison, ...], outputs: OutputComparison | None) -> Retested:
    return Retested(verdict=verdict_of(metrics), metrics=metrics, outputs=outputs)
