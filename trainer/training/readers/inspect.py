"""Inspection of samples: each sample is read once, and statistics of its values are collected per split.

Arrays and tables are inspected in blocks; contiguous rows of an array are not copied. The bounds of a block without NaN or infinities take
two passes over its values. Each picture is decoded once, several in parallel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.data.inspection import (
    DISTINCT,
    SHOWN,
    Bound,
    Fault,
    FieldValues,
    Inspection,
    Occurrences,
    SampleShape,
    SplitValues,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from trainer.training.readers.samples import Rows, SampleBlock, Samples, Values

_SHAPES: Final = 5
_DENSE: Final = 1 << 16
"""Integers whose range is smaller than this are counted without sorting."""


def inspect_samples(samples: Samples, splits: Mapping[str, Sequence[int]]) -> Inspection:
    """Read every sample of the splits once, even if it is in several splits; samples of text and whole files are only counted."""
    rows = {name: np.asarray(each, dtype=np.int64) for name, each in splits.items()}
    if not samples.holds_values:
        return Inspection(splits={name: SplitValues(samples=len(each)) for name, each in rows.items()})
    every = np.unique(np.concatenate([*rows.values(), np.empty(0, dtype=np.int64)]))
    return inspect_blocks(samples.blocks(every), rows, name=samples.layout.name_of)


def inspect_blocks(
    blocks: Iterable[SampleBlock], rows: Mapping[str, Rows], *, name: Callable[[int], str]
) -> Inspection:
    """Collect the statistics of blocks; each sample counts for every split that contains it."""
    tallies = {split: _SplitTally() for split in rows}
    ordered = {split: np.sort(each) for split, each in rows.items()}
    for block in blocks:
        for split, tally in tallies.items():
            tally.add(block, _of_split(block.rows, ordered[split]), name)
    return Inspection(splits={split: tally.result(len(rows[split])) for split, tally in tallies.items()})


def _of_split(rows: Rows, split: Rows) -> Rows | slice | None:
    """Return the indices of the `rows` that are in a split: a slice if all are, None if none are."""
    is_inside = np.searchsorted(split, rows) < np.searchsorted(split, rows, side="right")
    if is_inside.all():
        return slice(None)
    return np.flatnonzero(is_inside) if is_inside.any() else None


@dataclass(slots=True)
class _SplitTally:
    fields: dict[str, _FieldTally] = field(default_factory=dict)
    unread: int = 0
    faults: list[Fault] = field(default_factory=list)

    def add(self, block: SampleBlock, chosen: Rows | slice | None, name: Callable[[int], str]) -> None:
        if chosen is None:
            return
        rows = block.rows[chosen]
        if block.fault is not None:
            self.unread += len(rows)
            missing = SHOWN - len(self.faults)
            if isinstance(block.fault, Fault):
                self.faults += [block.fault.model_copy(update={"samples": len(rows)})][:missing]
            else:
                self.faults += [block.fault(int(row)) for row in rows[:missing]]
            return
        for key, values in block.fields.items():
            if key not in self.fields:
                self.fields[key] = _FieldTally(str(values.dtype), name)
            self.fields[key].add(rows, values[chosen])

    def result(self, count: int) -> SplitValues:
        fields = {name: tally.result() for name, tally in self.fields.items()}
        return SplitValues(samples=count, fields=fields, unread=self.unread, faults=tuple(self.faults))


class _FieldTally:
    """The statistics of the values of a field."""

    def __init__(self, dtype: str, name: Callable[[int], str]) -> None:
        self.dtype, self.name = dtype, name
        self.shapes: dict[tuple[int, ...], tuple[int, int]] = {}
        self.low: tuple[Any, int, int | None] | None = None
        self.high: tuple[Any, int, int | None] | None = None
        self.odd: dict[str, Occurrences] = {}
        self.values: dict[int, tuple[int, int]] | None = {}

    def add(self, rows: Rows, values: Values) -> None:
        shape = values.shape[1:]
        count, first = self.shapes.get(shape, (0, int(rows[0])))
        self.shapes[shape] = (count + len(rows), first)
        if not values.size or values.dtype.kind not in "biuf":
            return
        if values.dtype.kind == "b":
            values = values.view(np.uint8)
        if values.dtype.kind == "f":
            self._add_fractions(rows, values)
            return
        self._bound(rows, values, values.min(), values.max())
        if values.ndim == 1 and self.values is not None:
            for value, count, first in _count_values(values):
                known, row = self.values.get(value, (0, int(rows[first])))
                self.values[value] = (known + count, row)
            if len(self.values) > DISTINCT:
                self.values = None

    def _add_fractions(self, rows: Rows, values: Values) -> None:
        low, high = values.min(), values.max()
        if not (np.isfinite(low) and np.isfinite(high)):  # min and max are NaN if any value is NaN
            finite = np.isfinite(values)
            self._note("nan", rows, np.isnan(values))
            self._note("infinite", rows, np.isinf(values))
            if not finite.any():
                return
            low, high = values[finite].min(), values[finite].max()
        self._bound(rows, values, low, high)

    def _bound(self, rows: Rows, values: Values, low: Any, high: Any) -> None:
        if self.low is None or low < self.low[0]:
            self.low = (low, *_locate(rows, values, low))
        if self.high is None or high > self.high[0]:
            self.high = (high, *_locate(rows, values, high))

    def _note(self, kind: str, rows: Rows, odd: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        count = int(odd.sum())
        if not count:
            return
        before = self.odd.get(kind)
        row = int(rows[np.flatnonzero(odd.reshape(len(rows), -1).any(axis=1))[0]])
        places = tuple(np.flatnonzero(odd.any(axis=0)).tolist()) if odd.ndim == 2 else ()  # noqa: PLR2004 - one axis per sample
        self.odd[kind] = Occurrences(
            count=count + (before.count if before else 0),
            row=before.row if before else row,
            name=before.name if before else self.name(row),
            places=tuple(sorted({*places, *(before.places if before else ())})[:SHOWN]),
        )

    def result(self) -> FieldValues:
        shapes = [
            SampleShape(shape=shape, count=count, row=row, name=self.name(row))
            for shape, (count, row) in list(self.shapes.items())[:_SHAPES]
        ]
        values = [
            Value(value=value, count=count, row=row, name=self.name(row))
            for value, (count, row) in sorted((self.values or {}).items())
        ]
        return FieldValues(
            dtype=self.dtype,
            shapes=tuple(shapes),
            low=self._bounded(self.low),
            high=self._bounded(self.high),
            nan=self.odd.get("nan"),
            infinite=self.odd.get("infinite"),
            values=tuple(values) or None,
        )

    def _bounded(self, bound: tuple[Any, int, int | None] | None) -> Bound | None:
        return bound and Bound(value=bound[0].item(), row=bound[1], name=self.name(bound[1]), place=bound[2])


def _locate(rows: Rows, values: Values, value: Any) -> tuple[int, int | None]:
    """Return the first sample that contains a value, and its position if samples have one axis."""
    row, place = divmod(int((values == value).argmax()), values.size // len(rows))
    return int(rows[row]), place if values.ndim == 2 else None  # noqa: PLR2004 - the axis of the samples, and one axis per sample


def _count_values(values: Values) -> Iterable[tuple[int, int, int]]:
    """Return each value with its count and first position; at most `DISTINCT + 1` values."""
    low, high = int(values.min()), int(values.max())
    if high - low < _DENSE:
        shifted = (
            (values - values.min()).astype(np.int64) if values.dtype.kind == "u" else values.astype(np.int64) - low
        )
        counts = np.bincount(shifted)
        firsts = np.zeros(len(counts), dtype=np.int64)
        # the last write to an index wins, so the first position remains
        firsts[shifted[::-1]] = np.arange(len(values) - 1, -1, -1)
        found = np.flatnonzero(counts)[: DISTINCT + 1]
        return [(low + int(each), int(counts[each]), int(firsts[each])) for each in found]
    distinct, firsts, counted = np.unique(values, return_index=True, return_counts=True)
    some = slice(0, DISTINCT + 1)
    return list(zip(distinct[some].tolist(), counted[some].tolist(), firsts[some].tolist(), strict=True))
