"""Predictions for new files, from a run's net or from a model package."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import lightning as L
import torch

from trainer.base.errors import DatasetError, ExperimentError, RunError
from trainer.data.declaration import load_dataset, sample_types
from trainer.models.inputs import BATCH, FAILURES, InputReader, net_failed
from trainer.settings.ledger import Ledger, use_ledger
from trainer.source.capture import COPY
from trainer.training.saved_net import load_saved
from trainer.training.tasks.predictions import PredictionForm
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from trainer.data.declaration import Dataset
    from trainer.runs.record import Record
    from trainer.settings.origins import Resolved
    from trainer.training.readers import Batch
    from trainer.training.saved_net import SavedNet

_TASKS: Final = "trainer.training.tasks."
_MOST_VALUES: Final = 1 << 26
"""The maximum number of values of a batch of pictures, unless one picture has more: 256 MiB in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The prediction for one sample of a file. The fields are the keys of the JSON output."""

    file: str
    row: int | None
    """The number of the sample in a file of several, from 0; `None` for a file that is one sample."""
    answer: dict[str, Any]
    """The prediction in the net's `prediction_form`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A file that cannot be read as the dataset. Predictions for its first samples may precede it."""

    file: str
    fault: DatasetError


class Model(Protocol):
    """A model that predicts batches of input fields."""

    @property
    def reader(self) -> InputReader:
        """The reader of the model's input files."""

    def predictions(self, batch: Batch) -> list[dict[str, Any]]:
        """Return the prediction for each sample. Raise `DatasetError` if the net fails for the values."""


def predictions(model: Model, files: Sequence[Path]) -> Iterator[Prediction]:
    """Yield the predictions for the samples of each file, in order. Raise `DatasetError` for a file that cannot be read as the dataset."""
    for each in results(model, files):
        if isinstance(each, Unread):
            raise each.fault
        yield each


def results(model: Model, files: Sequence[Path]) -> Iterator[Prediction | Unread]:
    """Yield the predictions for the samples of each file, in order, and an `Unread` for each file that cannot be read.

    The batches depend on the files alone: up to 64 samples of one file, or up to 64 consecutive pictures of equal shape.
    """
    if model.reader.is_one_sample:
        for first in range(0, len(files), BATCH):
            yield from _of_pictures(model, files[first : first + BATCH])
        return
    for file in files:
        row = 0
        try:
            for batch in model.reader.of_file(file):
                for prediction in model.predictions(batch):
                    yield Prediction(file=str(file), row=row, answer=prediction)
                    row += 1
        except DatasetError as fault:
            yield Unread(file=str(file), fault=fault)


def _of_pictures(model: Model, files: Iterable[Path]) -> Iterator[Prediction | Unread]:
    waiting: list[tuple[Path, Batch]] = []
    for file in files:
        try:
            (batch,) = model.reader.of_file(file)
        except DatasetError as fault:
            yield from _predicted(model, waiting)
            waiting = []
            yield Unread(file=str(file), fault=fault)
            continue
        if waiting and not _fits(batch, waiting):
            yield from _predicted(model, waiting)
            waiting = []
        waiting.append((file, batch))
    yield from _predicted(model, waiting)


def _fits(batch: Batch, waiting: Sequence[tuple[Path, Batch]]) -> bool:
    """Return whether a picture fits into the batch of the waiting pictures: it has their shape, and the batch is not too large."""
    first = waiting[0][1]
    values = (1 + len(waiting)) * sum(each.numel() for each in first.values())
    return values <= _MOST_VALUES and all(first[name].shape == each.shape for name, each in batch.items())


def _predicted(model: Model, waiting: Sequence[tuple[Path, Batch]]) -> Iterator[Prediction | Unread]:
    """Yield the predictions for pictures of one shape, in one batch. If the net fails for the batch, predict each picture alone."""
    if not waiting:
        return
    try:
        found = model.predictions({name: torch.cat([each[name] for _, each in waiting]) for name in waiting[0][1]})
    except DatasetError as fault:
        if len(waiting) == 1:
            yield Unread(file=str(waiting[0][0]), fault=fault)
            return
        for each in waiting:
            yield from _predicted(model, [each])
        return
    for (file, _), prediction in zip(waiting, found, strict=True):
        yield Prediction(file=str(file), row=None, answer=prediction)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunModel:
    """A run's net, and the reader of its inputs."""

    net: L.LightningModule
    reader: InputReader
    form: PredictionForm
    resolved: Resolved[Any]
    run: str

    def notes(self) -> Iterator[str]:
        """Yield what may make the predictions of a plain LightningModule differ from its test."""
        if isinstance(self.net, Task):
            return
        package = f"`reprise package {self.run}` compares with the test step"
        if dataset := self.reader.dataset:
            yield (
                f"the net gets the fields of {dataset.title} as they were published: a step or a hook of the module that changes them "
                f"before the call of forward, for example normalizes them, is not used; {package}"
            )
        if type(self.net).on_load_checkpoint is not L.LightningModule.on_load_checkpoint:
            yield (
                "the weights of a run do not have what on_save_checkpoint adds, so on_load_checkpoint is not called: make these "
                f"values buffers of the module; {package}"
            )

    def outputs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the named outputs `[samples, ...]` for the input fields. Raise `DatasetError` if the net fails for their values."""
        given = tuple(batch[name] for name in self.reader.fields)
        try:
            with use_ledger(Ledger(self.resolved)), torch.inference_mode():
                return self.form.outputs(self.net(*given))
        except FAILURES as fault:
            raise net_failed(f"run {self.run}", fault) from fault

    def predictions(self, batch: Batch) -> list[dict[str, Any]]:
        """Return the prediction for each sample of the input fields."""
        return self.form.predictions(self.outputs(batch))


def load_model(record: Record, folder: Path) -> RunModel:
    """Load a run's net and the declaration of its dataset from its frozen source.

    Raise what `load_saved` and `declared_in` raise, and `ExperimentError` for a net whose `forward` takes no tensors by position.
    """
    saved = load_saved(record, folder)
    net, resolved = saved.net, saved.resolved
    with use_ledger(Ledger(resolved)):
        dataset, fields = inputs_of(saved, record, folder)
        reader = InputReader(dataset=dataset, fields=fields)
        form = PredictionForm()
        if isinstance(net, Task):
            net.class_names = reader.classes
            form = net.prediction_form()
        return RunModel(net=net, reader=reader, form=form, resolved=resolved, run=record.run)


def inputs_of(
    saved: SavedNet, record: Record, folder: Path, *, count: int | None = None
) -> tuple[Dataset | None, tuple[str, ...]]:
    """Return the dataset whose reader reads a net's inputs, and the names of the inputs. `count` is the number of inputs, if it is known.

    The inputs of a task are its fields; the inputs of a plain module are the parameters of `forward`. The dataset is `None` if a name is
    not that of a field. Raise `ExperimentError` for a `forward` without parameters.
    """
    net = saved.net
    names = input_fields(net) if isinstance(net, Task) else ()
    reads = bool(names) if isinstance(net, Task) else saved.experiment.reads_samples
    if not names or (count is not None and len(names) != count):
        names = parameters_of(net, count=count)
    dataset = trained_on(record, folder) if reads else None
    return (dataset if dataset and {*names} <= {*sample_types(dataset)} else None), names


def input_fields(net: Task) -> tuple[str, ...]:
    """Return the fields that the net takes. There are no fields if the net overrides `split_batch` or `samples`."""
    own = (type(net).split_batch, type(net).samples)
    return net.given_fields() if all(each.__module__.startswith(_TASKS) for each in own) else ()


def parameters_of(net: L.LightningModule, *, count: int | None = None) -> tuple[str, ...]:
    """Return the names of the tensors that `forward` takes: the first `count` parameters, or those without a default.

    Raise `ExperimentError` if there is no such parameter.
    """
    parameters = inspect.signature(net.forward).parameters.values()
    named = [each for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]
    found = (
        [each.name for each in named][:count] if count else [each.name for each in named if each.default is each.empty]
    )
    if not found:
        message = f"{type(net).__name__}.forward has no parameter for a tensor"
        raise ExperimentError(message, hint="pass tensors [batch, ...] to forward, each as its own argument")
    return tuple(found)


def trained_on(record: Record, folder: Path) -> Dataset:
    """Return the declaration of the dataset that a run trained on, from its frozen source. Raise what `declared_in` raises."""
    used = record.ingredients.datasets
    return declared_in(
        record, folder, next(name for name, each in used.items() if not each.roles or "train" in each.roles)
    )


def declared_in(record: Record, folder: Path, name: str) -> Dataset:
    """Return the declaration of a dataset from a run's frozen source. Raise `RunError` if it declares other data."""
    dataset = load_dataset(name, root=folder / COPY)
    if dataset.content != record.ingredients.datasets[name].content:
        message = f"the source of run {record.run} declares {dataset.title}, which is not the data that it used"
        raise RunError(message, hint="train again with a declaration that is committed")
    return dataset
