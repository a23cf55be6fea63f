"""The overview of a dataset: statistics of each column in each split, in one pass, and hints at leaks and duplicates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.base.suggestions import counted, short
from trainer.data.overview import MOST_VALUES, ColumnValues, Overview, OverviewColumn
from trainer.data.reader import TableReader, TextReader
from trainer.data.splits import select
from trainer.training.readers import open_samples
from trainer.training.readers.examples import examples_of
from trainer.training.readers.label_leaks import LabelLeaks
from trainer.training.readers.repeated_samples import describe_repeated
from trainer.training.readers.sample_columns import MISSING, combined, read_columns, uncounted_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trainer.data.declaration import Dataset
    from trainer.data.files import Files
    from trainer.training.readers.sample_columns import Cells, Marks, SomeSamples
    from trainer.training.readers.samples import Rows, Samples, Values

_LABELS = ("label", "labels", "target", "targets", "mask")


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The roles of a dataset's columns and fields."""

    label: str | None
    is_class: bool
    """Whether the label is a class; otherwise it is a number."""
    inputs: tuple[str, ...] | None
    """The columns that a sample contains, without the label; `None` if all fields that are not labels are inputs."""
    read_as: Mapping[str, str]
    types: Mapping[str, str]
    """The types that the source of a table declares."""

    def is_input(self, name: str) -> bool:
        """Return whether a column or field is an input of a net."""
        own = name.partition("[")[0] if self.inputs is None else name
        return own not in _LABELS if self.inputs is None else own in self.inputs


def roles_of(dataset: Dataset) -> Roles:
    """Return the roles of the columns and fields: as the table's source declares them, otherwise by the names of fields."""
    reader, source = dataset.reader, dataset.source_table
    if not isinstance(reader, TableReader):
        names = [*getattr(reader, "fields", {})] if reader.kind == "arrays" else ["label"] * (reader.kind == "images")
        label = next((each for each in names if each in _LABELS), None)
        return Roles(label=label, is_class=True, inputs=None, read_as={}, types={})
    fields = {name: key for key, each in reader.fields.items() for name in each.names}
    read_as: dict[str, str] = {name: each.read for name, each in source.columns.items()} if source else dict(fields)
    label = next((name for name, key in fields.items() if key in _LABELS), None)
    return Roles(
        label=label,
        is_class=label is not None and (read_as[label] == "class" or "int" in reader.fields[fields[label]].dtype),
        inputs=tuple(name for name in fields if name != label),
        read_as=read_as,
        types={name: each.type for name, each in source.columns.items()} if source else {},
    )


def make_overview(dataset: Dataset, files: Files) -> Overview:
    """Read every sample of the splits once, or all samples if no split is declared; windows of a text are only counted.

    Raise `DatasetError` if the files do not match the declaration, or if a table cannot be decoded.
    """
    samples, roles = open_samples(dataset, files), roles_of(dataset)
    splits = rows_of_splits(dataset, samples)
    every = np.unique(np.concatenate([*splits.values()]))
    counts = {name: len(each) for name, each in splits.items()}
    examples = examples_of(dataset, samples, splits)
    if isinstance(dataset.reader, TextReader):
        return Overview(samples=counts, examples=examples, compared=(_WINDOWS,))
    tally = _Tally(every=every, splits=splits, roles=roles)
    for some in read_columns(dataset, files, samples, every):
        tally.add(some)
    hints, compared = _hints(dataset, files, tally, samples)
    return Overview(
        samples=counts,
        columns=tuple(tally.columns()),
        label=roles.label,
        examples=examples,
        hints=tuple(hints),
        compared=tuple(compared),
    )


_WINDOWS = "windows of a text were counted; `reprise check EXP` finds windows of two splits that share bytes"


def rows_of_splits(dataset: Dataset, samples: Samples) -> dict[str, Rows]:
    """Return the samples of each split in ascending order; all samples, under the empty name, if no split is declared."""
    chosen = {name: select(name, dataset.splits, samples.layout, dataset=dataset.name) for name in dataset.splits}
    return {
        name: np.sort(np.asarray(each, dtype=np.int64)) for name, each in (chosen or {"": range(len(samples))}).items()
    }


@dataclass(slots=True)
class _ColumnTally:
    """The values of one column in one split."""

    present: int = 0
    missing: int = 0
    low: Any = None
    high: Any = None
    counts: Counter[int] | None = field(default_factory=Counter)

    def add(self, marks: Marks, numbers: Values | None) -> None:
        is_present = marks != MISSING
        if numbers is not None and numbers.dtype.kind == "f":
            is_present &= np.isfinite(numbers)
        known = marks[is_present]
        self.present, self.missing = self.present + len(known), self.missing + len(marks) - len(known)
        if numbers is not None and len(known):
            self._bound(numbers[is_present])
        if self.counts is not None:
            found, counts = np.unique(known, return_counts=True)
            if len(found) > MOST_VALUES:
                self.counts = None
                return
            self.counts.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
            self.counts = self.counts if len(self.counts) <= MOST_VALUES else None

    def add_field(self, values: Values) -> None:
        """Add the values of a field that is not split into columns; only bounds and missing values are recorded."""
        self.counts = None
        is_whole = values.dtype.kind != "f" or bool(np.isfinite(values).all())
        complete = (
            np.ones(len(values), np.bool_) if is_whole else np.isfinite(values).reshape(len(values), -1).all(axis=1)
        )
        self.present, self.missing = self.present + int(complete.sum()), self.missing + int((~complete).sum())
        if (known := values[complete]).size:
            self._bound(known)

    def _bound(self, numbers: Values) -> None:
        low, high = numbers.min().item(), numbers.max().item()
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)

    def result(self, names: Mapping[int, str] | None) -> ColumnValues:
        values = None
        if names is not None and self.counts is not None:
            values = dict(sorted(((names[mark], count) for mark, count in self.counts.items()), key=_in_order))
        return ColumnValues(
            present=self.present,
            missing=self.missing,
            low=self.low,
            high=self.high,
            different=None if self.counts is None else len(self.counts),
            values=values,
        )


def _in_order(item: tuple[str, int]) -> tuple[float, str]:
    """Return a key that sorts whole numbers by value, and other strings after them."""
    number = item[0].removeprefix("-")
    return (int(item[0]) if number.isdecimal() else float("inf"), item[0])


@dataclass(slots=True, kw_only=True)
class _Tally:
    """The statistics of all columns, and the marks of all samples."""

    every: Rows
    splits: dict[str, Rows]
    roles: Roles
    types: dict[str, str] = field(default_factory=dict)
    tallies: dict[str, dict[str, _ColumnTally]] = field(default_factory=dict)
    names: dict[str, dict[int, str]] = field(default_factory=dict)
    """The text of each mark, by column, for columns whose values are counted."""
    unread: int = 0
    leaks: LabelLeaks = field(init=False)
    marks: Marks = field(init=False)
    """The mark of each sample in `every`, combined from its inputs."""
    labels: Marks = field(init=False)
    is_read: Values = field(init=False)

    def __post_init__(self) -> None:
        self.leaks = LabelLeaks(is_class=self.roles.is_class)
        self.marks, self.labels = (np.full(len(self.every), MISSING, dtype=np.uint64) for _ in range(2))
        self.is_read = np.zeros(len(self.every), dtype=np.bool_)

    def add(self, some: SomeSamples) -> None:
        self.unread += some.unread
        at = np.searchsorted(self.every, some.rows)
        inside = at < len(self.every)
        inside[inside] = self.every[at[inside]] == some.rows[inside]
        if not inside.any():
            return
        self._keep_marks(some, at, inside)
        chosen = {name: self._of_split(rows, some.rows) for name, rows in self.splits.items()}
        for name, cells in some.columns.items():
            self.types[name] = cells.type
            for split, mine in chosen.items():
                numbers = None if cells.numbers is None else cells.numbers[mine]
                self._tally(name, split).add(cells.marks[mine], numbers)
            self._name(name, cells)
        for name, values in some.fields.items():
            self.types[name] = f"{values.dtype}[{','.join(map(str, values.shape[1:]))}]"
            for split, mine in chosen.items():
                if mine.any():
                    self._tally(name, split).add_field(values[mine])

    def _of_split(self, split: Rows, rows: Rows) -> Values:
        return np.searchsorted(split, rows) < np.searchsorted(split, rows, side="right")

    def _tally(self, name: str, split: str) -> _ColumnTally:
        known = self.tallies.setdefault(name, {each: _ColumnTally() for each in self.splits})
        return known[split]

    def _keep_marks(self, some: SomeSamples, at: Rows, inside: Values) -> None:
        marks = {name: cells.marks for name, cells in some.columns.items()} | some.marks
        inputs = [marks[name] for name in sorted(marks) if self.roles.is_input(name)]
        target = at[inside]
        self.marks[target] = combined(inputs, len(some.rows))[inside]
        self.is_read[target] = True
        if self.roles.label in marks:
            self.labels[target] = marks[self.roles.label][inside]
        if self.roles.label in some.columns:
            columns = {name: each for name, each in some.columns.items() if self.roles.is_input(name)}
            self.leaks.add(columns, some.columns[self.roles.label], inside)

    def _name(self, name: str, cells: Cells) -> None:
        """Record counted values as strings, for columns of text and for a label of whole numbers."""
        is_whole_label = name == self.roles.label and cells.numbers is not None and cells.numbers.dtype.kind in "iu"
        if cells.numbers is not None and not is_whole_label:
            return
        known = self.names.setdefault(name, {})
        new = {mark for each in self.tallies[name].values() for mark in each.counts or ()} - known.keys()
        if not new:
            return
        texts = cells.texts
        if cells.numbers is not None:
            found, first = np.unique(cells.marks, return_index=True)
            texts = {int(mark): str(int(cells.numbers[at])) for mark, at in zip(found, first, strict=True)}
        known.update({mark: texts[mark] for mark in new})

    def columns(self) -> Iterator[OverviewColumn]:
        for name, tallies in self.tallies.items():
            yield OverviewColumn(
                name=name,
                type=self.roles.types.get(name, self.types[name]),
                read_as=self.roles.read_as.get(name, "left out" if self.roles.inputs is not None else "field"),
                splits={split: each.result(self.names.get(name)) for split, each in tallies.items()},
            )


def _hints(dataset: Dataset, files: Files, tally: _Tally, samples: Samples) -> tuple[list[str], list[str]]:
    """Return the hints, and a description of the examined data."""
    roles, is_read = tally.roles, tally.is_read
    splits = {name: np.searchsorted(tally.every, rows) for name, rows in tally.splits.items()}
    compared = {name: at[is_read[at]] for name, at in splits.items()}
    inputs = [name for name in tally.tallies if roles.is_input(name)]
    if not inputs and dataset.reader.kind in {"lines", "files"}:
        inputs = ["text" if dataset.reader.kind == "lines" else "bytes"]
    labels = tally.labels if roles.label else None
    names = [samples.layout.name_of] if len(tally.every) else []
    hints = [
        *describe_repeated(tally.marks, labels, compared, name=lambda at: names[0](int(tally.every[at]))),
        *tally.leaks.hints(),
        *_unseen_value_notes(tally),
    ]
    count = counted(int(is_read.sum()), "sample")
    looked = [f"all {count} of {', '.join(filter(None, splits)) or 'the dataset'}, each read once"]
    if tally.unread:
        looked.append(f"not {counted(tally.unread, 'further sample')}, which cannot be read")
    looked.append(f"samples are equal if {_shortened(inputs)} {'is' if len(inputs) == 1 else 'are'} equal, bit for bit")
    looked += tally.leaks.compared(roles.label)
    if isinstance(dataset.reader, TableReader) and (others := uncounted_columns(dataset.reader, files)):
        looked.append(f"not the columns {_shortened([f'{name} ({kind})' for name, kind in others.items()])}")
    return hints, [*looked, "near duplicates, such as another crop of one picture, were not searched for"]


def _shortened(names: list[str]) -> str:
    most = 6
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _unseen_value_notes(tally: _Tally) -> Iterator[str]:
    """Yield notes about values of text inputs and of the label that are in another split, but not in train."""
    for name, tallies in tally.tallies.items():
        texts, train = tally.names.get(name), tallies.get("train")
        is_read = name == tally.roles.label or tally.roles.is_input(name)
        if texts is None or train is None or train.counts is None or not is_read:
            continue
        for split, each in tallies.items():
            counts = each.counts or Counter()
            if unseen := [mark for mark in counts if mark not in train.counts]:
                rows = sum(counts[mark] for mark in unseen)
                values = _shortened([repr(short(texts[mark])) for mark in unseen])
                yield f"column {name!r}: train has no {values}; {split} has {counted(rows, 'such sample')}"
