"""Columns that alone determine the label of nearly all samples. Such a column was usually filled in after the label was known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.data.overview import MOST_VALUES
from trainer.training.readers.sample_columns import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trainer.training.readers.sample_columns import Cells, Marks
    from trainer.training.readers.samples import Values

_ENOUGH: Final = 0.99
"""Minimum share of samples whose label a column determines, for a hint."""
_SUPPORT: Final = 10
"""Minimum mean number of samples per value of a column: a value that occurs once determines the label by chance."""
_CORRELATED: Final = 0.9999
_LEAST: Final = 20
"""Minimum number of samples for a hint."""


@dataclass(slots=True)
class _ColumnStatistics:
    counts: dict[int, Counter[int]] | None = field(default_factory=dict)
    """The number of samples by value and label; `None` if there are more than `MOST_VALUES` values."""
    bounds: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    """The lowest and the highest number for each label."""
    sums: np.ndarray[Any, np.dtype[np.float64]] = field(default_factory=lambda: np.zeros(6))
    """Count, sums, sums of squares and sum of products of the numbers and the targets, after the first value of each is subtracted."""
    start: tuple[float, float] | None = None
    """The first number and the first target."""
    is_complete: bool = True
    """Whether no value is missing."""


@dataclass(slots=True, kw_only=True)
class LabelLeaks:
    """Compares each column with the label, in one pass."""

    is_class: bool
    columns: dict[str, _ColumnStatistics] = field(default_factory=dict)
    labels: Counter[int] = field(default_factory=Counter)
    rows: int = 0

    def add(self, columns: Mapping[str, Cells], label: Cells, inside: Values) -> None:
        """Add the samples that are `inside` a split and have a label."""
        is_known = inside & (label.marks != MISSING)
        marks = label.marks[is_known]
        self.rows += len(marks)
        self.labels.update(dict(zip(*(each.tolist() for each in np.unique(marks, return_counts=True)), strict=True)))
        if label.numbers is not None and label.numbers.dtype.kind == "f":
            self.is_class = False
        if self.is_class and len(self.labels) > MOST_VALUES:
            self.is_class = False
        for name, cells in columns.items():
            column = self.columns.setdefault(name, _ColumnStatistics())
            if self.is_class:
                self._add_counts(column, cells.marks[is_known], marks)
            if cells.numbers is None:
                continue
            has_value = cells.marks[is_known] != MISSING
            numbers = cells.numbers[is_known][has_value]
            column.is_complete = column.is_complete and bool(has_value.all())
            if self.is_class:
                _add_bounds(column, numbers, marks[has_value])
            elif label.numbers is not None:
                _add_sums(column, numbers, label.numbers[is_known][has_value])

    def _add_counts(self, column: _ColumnStatistics, marks: Marks, labels: Marks) -> None:
        if column.counts is None:
            return
        values, at = np.unique(marks, return_inverse=True)
        if len(values) > MOST_VALUES:
            column.counts = None
            return
        classes, of = np.unique(labels, return_inverse=True)
        pairs, counts = np.unique(at * len(classes) + of, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            value, label = divmod(pair, len(classes))
            column.counts.setdefault(int(values[value]), Counter())[int(classes[label])] += count
        if len(column.counts) > MOST_VALUES:
            column.counts = None

    def hints(self) -> Iterator[str]:
        """Yield a hint for each column that alone determines the label."""
        if self.rows < _LEAST or len(self.labels) < 2:  # noqa: PLR2004 - at least two labels
            return
        for name, column in self.columns.items():
            if self.is_class:
                yield from self._of_class(name, column)
            elif (correlation := _correlation(column)) is not None and abs(correlation) >= _CORRELATED:
                yield f"column {name!r} alone determines the target: their correlation is {correlation:.6f}"

    def _of_class(self, name: str, column: _ColumnStatistics) -> Iterator[str]:
        largest = max(self.labels.values()) / self.rows
        counts = column.counts
        if counts is not None and self.rows >= _SUPPORT * len(counts):
            share = sum(max(each.values()) for each in counts.values()) / self.rows
            if share >= _ENOUGH and 1 - share <= (1 - largest) / 2:
                how = f"{share:.1%} of {self.rows:,} samples (the largest class has {largest:.1%})"
                yield f"column {name!r} alone determines the label of {how}"
                return
        ordered = sorted(column.bounds.values())
        is_divided = all(one[1] < other[0] for one, other in pairwise(ordered))
        if is_divided and column.is_complete and len(ordered) == len(self.labels) and not _has_rare_label(self.labels):
            yield f"column {name!r} alone determines the label of all {self.rows:,} samples: the ranges of the classes do not overlap"

    def compared(self, label: str | None) -> list[str]:
        """Return sentences about how the columns were compared with the label, or why they were not compared."""
        if label is None:
            return ["no column was compared with a label: no field is named label or target"]
        if not self.rows:
            return [f"no column was compared with {label}, which is not one number or text in each sample"]
        if not self.is_class:
            return [f"each column of numbers was compared with {label} by its linear correlation, alone"]
        ways = f"by each of its values, if it has up to {MOST_VALUES:,}, and numbers by the range of each class"
        return [f"each column was compared with {label}, alone: {ways}"]


def _has_rare_label(labels: Counter[int]) -> bool:
    """Return whether a label has too few samples for its range to be evidence."""
    return min(labels.values()) < _SUPPORT


def _add_bounds(column: _ColumnStatistics, numbers: Values, labels: Marks) -> None:
    for label in np.unique(labels).tolist():
        mine = numbers[labels == np.uint64(label)]
        low, high = mine.min().item(), mine.max().item()
        known = column.bounds.get(label, (low, high))
        column.bounds[label] = (min(known[0], low), max(known[1], high))


def _add_sums(column: _ColumnStatistics, numbers: Values, targets: Values) -> None:
    is_finite = np.isfinite(numbers.astype(np.float64)) & np.isfinite(targets.astype(np.float64))
    one, other = numbers[is_finite].astype(np.float64), targets[is_finite].astype(np.float64)
    if not len(one):
        return
    column.start = column.start or (float(one[0]), float(other[0]))
    one, other = one - column.start[0], other - column.start[1]
    column.sums += [len(one), one.sum(), other.sum(), (one * one).sum(), (other * other).sum(), (one * other).sum()]


def _correlation(column: _ColumnStatistics) -> float | None:
    count, one, other, ones, others, both = column.sums.tolist()
    if count < _LEAST:
        return None
    spread = (count * ones - one * one) * (count * others - other * other)
    return float((count * both - one * other) / spread**0.5) if spread > 0 else None
