"""The answers of a run's net to new files, which are read as the run's dataset was read.

The reader's preprocessing applies: decoding and resizing of pictures; of a table its dialect, its categories and the values that replace
missing ones. A target is not needed.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from trainer.base.errors import DatasetError, ExperimentError, RunError
from trainer.base.suggestions import did_you_mean, listed, short
from trainer.data.declaration import Draft, load_dataset, sample_types
from trainer.data.files import FolderFiles
from trainer.data.reader import Arrays, Images, Table
from trainer.data.tables.convert import write_parquet
from trainer.data.tables.source_table import SourceColumn
from trainer.data.tables.table_file import blocks_of, columns_of
from trainer.settings.ledger import Ledger, use_ledger
from trainer.source.capture import COPY
from trainer.training.readers import Pick, open_samples
from trainer.training.saved_net import load_saved
from trainer.training.tasks.classification import Classifier
from trainer.training.tasks.outputs import called
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from trainer.data.declaration import Dataset
    from trainer.runs.record import Record
    from trainer.settings.origins import Resolved
    from trainer.training.readers import Batch, Samples

_BATCH: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer for one sample of a file."""

    file: str
    row: int | None
    """The number of the sample in a file of several, from 0; `None` for a file that is one sample."""
    answer: dict[str, Any]
    """As `Task.answers` gives it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A run's net, and the dataset that it was trained on."""

    net: Task
    dataset: Dataset
    resolved: Resolved[Any]

    def predict(self, files: Sequence[Path]) -> Iterator[Prediction]:
        """Yield the answers for the samples of each file, in order. Raise `DatasetError` for a file that cannot be read as the dataset."""
        with use_ledger(Ledger(self.resolved)):
            self._require_own_inputs()
            for file in files:
                if not file.is_file():
                    raise DatasetError(f"{file} is not a file", hint="ls shows the files of a folder")
                yield from self._of_file(file)

    def _of_file(self, file: Path) -> Iterator[Prediction]:
        is_one = isinstance(self.dataset.reader, Images)
        row = 0
        for batch, classes in self._batches(file):
            self.net.class_names = classes or self.net.class_names
            with torch.inference_mode():
                answers = self.net.answers(called(self.net, self._inputs(batch)))
            for answer in answers:
                yield Prediction(file=str(file), row=None if is_one else row, answer=answer)
                row += 1

    def _inputs(self, batch: Batch) -> Tensor | tuple[Tensor, ...]:
        *names, _ = self.net.used_fields()
        if missing := next((name for name in names if name not in batch), None):
            raise DatasetError(f"the files have no field {missing!r}", hint=did_you_mean(missing, batch))
        given = tuple(batch[name] for name in names)
        return given if self.net.input_fields else given[0]

    def _require_own_inputs(self) -> None:
        own = type(self.net)
        if own.split_batch not in {Task.split_batch, Classifier.split_batch} or own.samples is not Task.samples:
            raise ExperimentError(
                f"{own.__name__} reads or splits its batches itself, so its inputs are unknown without targets",
                hint="in Python: runs.load(RUN).net() returns the net",
            )

    def _batches(self, file: Path) -> Iterator[tuple[Batch, Sequence[str]]]:
        """Yield batches of inputs, and the names of the classes."""
        match self.dataset.reader:
            case Images() as reader:
                yield from self._pictures(reader, file)
            case Table() as reader:
                yield from self._rows(reader, file)
            case Arrays():
                yield from self._arrays(file)
            case reader:
                raise DatasetError(
                    f"{self.dataset.title} has the reader {reader.kind}, for which there are no predictions of files",
                    hint="in Python: runs.load(RUN).net() returns the net",
                )

    def _pictures(self, reader: Images, file: Path) -> Iterator[tuple[Batch, Sequence[str]]]:
        own = reader.model_copy(update={"folder": "", "labels": None})
        name = f"{reader.classes[0]}/{file.name}"  # the class is not used: it is the target
        with tempfile.TemporaryDirectory(prefix="reprise-predict-") as folder:
            link = Path(folder) / name
            link.parent.mkdir(parents=True)
            link.symlink_to(file.resolve())
            draft = Draft(name=self.dataset.name, reader=own)
            with _about(file, name):
                samples = open_samples(draft, FolderFiles(Path(folder), [name]))
                yield samples.batch([Pick(index=0)]), samples.classes

    def _rows(self, reader: Table, file: Path) -> Iterator[tuple[Batch, Sequence[str]]]:
        source = self.dataset.source_table
        if source is None:
            message = f"{self.dataset.title} was published as Parquet without a description of its source"
            raise DatasetError(message, hint="in Python: runs.load(RUN).net() returns the net")
        target = self.net.used_fields()[-1]
        fields = {name: each for name, each in reader.fields.items() if name != target}
        names = columns_of(file, source)
        needed = [name for each in fields.values() for name in each.names]
        if missing := [name for name in needed if name not in names]:
            message = f"{file} has no column {missing[0]!r}; {self.dataset.title} has {listed(needed)}"
            raise DatasetError(message, hint=did_you_mean(missing[0], names))
        ignored = SourceColumn(type="text", read="left out")
        columns = {name: source.columns[name] if name in needed else ignored for name in names}
        with tempfile.TemporaryDirectory(prefix="reprise-predict-") as folder:
            own = source.model_copy(update={"columns": columns})
            write_parquet(own, blocks_of(file, own), Path(folder) / "rows.parquet")
            treated = reader.model_copy(update={"files": ("rows.parquet",), "fields": fields})
            samples = open_samples(
                Draft(name=self.dataset.name, reader=treated), FolderFiles(Path(folder), ["rows.parquet"])
            )
            with _about(file, "rows.parquet"):
                for batch in _in_batches(samples):
                    yield batch, self._table_classes(reader)

    def _table_classes(self, reader: Table) -> Sequence[str]:
        return next((each.values for each in reader.columns.values() if each.values and each.first == 0), ())

    def _arrays(self, file: Path) -> Iterator[tuple[Batch, Sequence[str]]]:
        *names, _ = self.net.used_fields()
        declared = sample_types(self.dataset).get(names[0])
        try:
            values = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as fault:
            message = f"{file} cannot be read as an array: {short(str(fault))}"
            raise DatasetError(message, hint=f"{self.dataset.title} consists of arrays: name a .npy file") from fault
        if len(names) > 1:
            raise ExperimentError(
                f"the net takes the fields {listed(names)}; one array holds one of them",
                hint="in Python: runs.load(RUN).net() returns the net",
            )
        if declared is not None:
            values = _checked(values, declared.dtype, declared.shape, file=file)
        for first in range(0, len(values), _BATCH):
            yield {names[0]: torch.from_numpy(np.array(values[first : first + _BATCH]))}, ()


def load_predictor(record: Record, folder: Path) -> Predictor:
    """Load a run's net and the declaration of its dataset from its frozen source. Raise what `load_saved` raises, and `RunError`."""
    net, resolved = load_saved(record, folder)
    if not isinstance(net, Task):
        raise RunError(
            f"run {record.run} trained a plain LightningModule, whose inputs and outputs are unknown",
            hint=f"in Python: runs.load({record.run!r}).net() returns the module",
        )
    named = {
        name: each for name, each in record.ingredients.datasets.items() if not each.roles or "train" in each.roles
    }
    name, used = next(iter(named.items()))
    dataset = load_dataset(name, root=folder / COPY)
    if dataset.content != used.content:
        message = f"the source of run {record.run} declares {dataset.title}, which is not the data that it used"
        raise RunError(message, hint="train again with a declaration that is committed")
    return Predictor(net=net, dataset=dataset, resolved=resolved)


def _in_batches(samples: Samples) -> Iterator[Batch]:
    for first in range(0, len(samples), _BATCH):
        yield samples.batch([Pick(index=row) for row in range(first, min(first + _BATCH, len(samples)))])


def _checked(values: Any, dtype: str, shape: Sequence[int | str], *, file: Path) -> Any:
    """Return samples `[n, *shape]`; one sample without the first axis is one row. Raise `DatasetError` for another type or shape."""
    text = f"{dtype} [{', '.join(map(str, shape))}]"
    found = f"{values.dtype} [{', '.join(map(str, values.shape))}]"

    def fits(axes: Sequence[int]) -> bool:
        return len(axes) == len(shape) and all(own in {"any", axis} for own, axis in zip(shape, axes, strict=True))

    if str(values.dtype) == dtype and fits(values.shape):
        return values[None]
    if str(values.dtype) != dtype or not fits(values.shape[1:]):
        hint = f"save the samples as they were published: an array {dtype} [n, {', '.join(map(str, shape))}]"
        raise DatasetError(f"{file} is {found}; expected samples of {text}", hint=hint)
    return values


@contextmanager
def _about(file: Path, name: str) -> Iterator[None]:
    """Name the user's file in an error about the file that was made for the reader."""
    try:
        yield
    except DatasetError as fault:
        raise DatasetError(fault.message.replace(name, os.fspath(file)), hint=fault.hint) from fault
