"""Test a run's net with its saved weights, as the run tested it, and compare the metrics with those that the run measured."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.base.digest import canonical
from trainer.base.document import json_value
from trainer.base.errors import PackageError
from trainer.models.package import MetricComparison
from trainer.models.weights_retest import measured_on_test
from trainer.runs.metric_text import is_of_test
from trainer.settings.ledger import Ledger, call_configured, use_ledger
from trainer.training.assembly import open_joined
from trainer.training.data import RunData
from trainer.training.determinism.switches import apply_level
from trainer.training.fit import has_loop, quieten, small_trainer
from trainer.training.plain.experiment import PlainExperiment
from trainer.training.readers import open_samples
from trainer.training.results import CollectResults, results_of
from trainer.training.saved_net import load_saved
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import lightning as L
    from torch import Tensor

    from trainer.runs.record import Record
    from trainer.training.assembly import FetchedDataset
    from trainer.training.saved_net import SavedNet

TOLERANCE: Final = 1e-4
"""The largest difference of equal outputs, relative to the largest value of the output in the batch; and of metrics, to their value."""


@contextmanager
def saved_test(record: Record, folder: Path, datasets: Sequence[FetchedDataset]) -> Iterator[TestSplit]:
    """Yield the test of a run, whose code is executed. The process must have the environment variables of the run's determinism level.

    `datasets` are the run's datasets with samples. Raise what `load_saved` raises, and `PackageError` if the run has no test.
    """
    quieten()
    saved = load_saved(record, folder, folders=DatasetFolders(datasets))
    with use_ledger(Ledger(saved.resolved)), tempfile.TemporaryDirectory(prefix="reprise-test-") as scratch:
        apply_level()
        yield TestSplit(saved, datasets, Path(scratch))


def compared_metrics(record: Record, found: Mapping[str, float]) -> tuple[MetricComparison, ...]:
    """Compare the test metrics that the run measured with those of a new test, `found`."""
    tolerances = record.outcome.tolerances
    compared = []
    for name, measured in measured_on_test(record).items():
        value = json_value(canonical(found.get(name)), where=name)
        holds = value == measured or _is_near(measured, value, tolerances.get(name))
        compared.append(MetricComparison(name=name, measured=measured, recomputed=value, holds=holds))
    return tuple(compared)


def _is_near(measured: Any, value: Any, tolerance: float | None) -> bool:
    if not isinstance(measured, int | float) or not isinstance(value, int | float):
        return False
    return abs(measured - value) <= max(tolerance or 0.0, TOLERANCE * abs(measured))


class DatasetFolders(Mapping[str, Path]):
    """The folders of datasets by name. A folder is created on access."""

    def __init__(self, datasets: Sequence[FetchedDataset]) -> None:
        self._files = {each.declared.name: each.files for each in datasets}

    def __getitem__(self, name: str) -> Path:
        return self._files[name].folder()

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


class TestSplit:
    """The test of a run's net, as the run tested it."""

    def __init__(self, saved: SavedNet, datasets: Sequence[FetchedDataset], scratch: Path) -> None:
        """Open the samples of a task, or the data of a plain module. Raise `PackageError` if the net has no test."""
        self.saved, self._scratch = saved, scratch
        self._data: L.LightningDataModule | None
        net, experiment = saved.net, saved.experiment
        if isinstance(net, Task):
            declared, samples = open_joined(datasets, net.samples)
            net.class_names, net.alphabet = samples.classes, samples.alphabet
            self._data = call_configured(RunData, declared, samples, None)
        elif isinstance(experiment, PlainExperiment) and not experiment.reads_samples:
            self._data = experiment.make_data(DatasetFolders(datasets))
        else:
            self._data = call_configured(RunData, *open_joined(datasets, open_samples), None)
        if not has_loop(net, self._data, "test_step", "test_dataloader"):
            message = f"{type(net).__name__} has no test, so a package's predictions cannot be compared with the run's"
            raise PackageError(
                message, hint="add test_step, and test_dataloader in the module or its data, and train again"
            )

    def begins_with(self, name: str, values: Tensor) -> bool:
        """Return whether the test split, as a reader reads it, begins with `values` `[samples, ...]` in the field `name`.

        The precision of the run may differ from that of the field. The dataset must be read by this package.
        """
        assert isinstance(self._data, RunData)  # noqa: S101 - the caller has checked it
        field = self._data.tested_example(len(values))[name]
        is_float = field.is_floating_point() and values.is_floating_point()
        is_same_type = is_float or field.dtype == values.dtype
        return is_same_type and np.array_equal(field.to(values.dtype), values.detach(), equal_nan=is_float)

    def run(self) -> dict[str, float]:
        """Test all samples; return the metrics of the test."""
        trainer = small_trainer(
            "cpu",
            self._scratch,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            callbacks=[] if isinstance(self.saved.net, Task) else [CollectResults()],
        )
        trainer.test(self.saved.net, datamodule=self._data, verbose=False)
        return {name: value for name, value in results_of(self.saved.net).items() if is_of_test(name)}
