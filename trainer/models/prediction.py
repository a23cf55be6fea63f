"""Answers for new files, from a run's net or from a model package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from trainer.base.errors import ExperimentError, RunError
from trainer.data.declaration import load_dataset
from trainer.models.inputs import InputReader
from trainer.settings.ledger import Ledger, use_ledger
from trainer.source.capture import COPY
from trainer.training.saved_net import load_saved
from trainer.training.tasks.classification import Classifier
from trainer.training.tasks.outputs import called
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trainer.data.declaration import Dataset
    from trainer.runs.record import Record
    from trainer.settings.origins import Resolved
    from trainer.training.readers import Batch
    from trainer.training.tasks.answers import AnswerForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer for one sample of a file."""

    file: str
    row: int | None
    """The number of the sample in a file of several, from 0; `None` for a file that is one sample."""
    answer: dict[str, Any]
    """As the net's `answer_form` gives it."""


class Model(Protocol):
    """What answers for batches of input fields."""

    @property
    def reader(self) -> InputReader:
        """What reads files for the model."""

    def answers(self, batch: Batch) -> list[dict[str, Any]]:
        """Return the answer for each sample."""


def predictions(model: Model, files: Sequence[Path]) -> Iterator[Prediction]:
    """Yield the answers for the samples of each file, in order. Raise `DatasetError` for a file that cannot be read as the dataset."""
    for file in files:
        row = 0
        for batch in model.reader.of_file(file):
            for answer in model.answers(batch):
                yield Prediction(file=str(file), row=None if model.reader.is_one_sample else row, answer=answer)
                row += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunModel:
    """A run's net, and the dataset that it was trained on."""

    net: Task
    reader: InputReader
    form: AnswerForm
    resolved: Resolved[Any]

    def answers(self, batch: Batch) -> list[dict[str, Any]]:
        """Return the answer for each sample of the input fields."""
        given = tuple(batch[name] for name in self.reader.fields)
        with use_ledger(Ledger(self.resolved)), torch.inference_mode():
            predicted = called(self.net, given if self.net.input_fields else given[0])
        return self.form.answers(self.form.outputs(predicted))


def load_model(record: Record, folder: Path) -> RunModel:
    """Load a run's net and the declaration of its dataset from its frozen source.

    Raise what `load_saved` raises, `RunError`, and `ExperimentError` for a net whose inputs are unknown without targets.
    """
    saved = load_saved(record, folder)
    net, resolved = saved.net, saved.resolved
    if not isinstance(net, Task):
        raise RunError(
            f"run {record.run} trained a plain LightningModule, whose inputs and outputs are unknown",
            hint=f"in Python: runs.load({record.run!r}).net() returns the module",
        )
    with use_ledger(Ledger(resolved)):
        reader = InputReader(dataset=trained_on(record, folder), fields=input_fields(net))
        net.class_names = reader.classes
        return RunModel(net=net, reader=reader, form=net.answer_form(), resolved=resolved)


def input_fields(net: Task) -> tuple[str, ...]:
    """Return the fields that the net takes. Raise `ExperimentError` if it reads or splits its batches itself."""
    own = type(net)
    if own.split_batch not in {Task.split_batch, Classifier.split_batch} or own.samples is not Task.samples:
        raise ExperimentError(
            f"{own.__name__} reads or splits its batches itself, so its inputs are unknown without targets",
            hint="in Python: runs.load(RUN).net() returns the net",
        )
    return net.used_fields()[:-1]


def trained_on(record: Record, folder: Path) -> Dataset:
    """Return the declaration of the dataset that a run trained on, from its frozen source. Raise what `declared_in` raises."""
    used = record.ingredients.datasets
    return declared_in(
        record, folder, next(name for name, each in used.items() if not each.roles or "train" in each.roles)
    )


def declared_in(record: Record, folder: Path, name: str) -> Dataset:
    """Return the declaration of a dataset from a run's frozen source. Raise `RunError` if it is not the data that the run used."""
    dataset = load_dataset(name, root=folder / COPY)
    if dataset.content != record.ingredients.datasets[name].content:
        message = f"the source of run {record.run} declares {dataset.title}, which is not the data that it used"
        raise RunError(message, hint="train again with a declaration that is committed")
    return dataset
