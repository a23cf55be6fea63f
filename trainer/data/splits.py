"""Splits: the samples of a dataset for training, validation and test.

A split is a pure function of its declaration and of the layout of samples in files. Shuffling is part of the run.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, Discriminator, Field, NonNegativeInt, Tag, model_validator

from trainer.base.document import Document
from trainer.base.errors import DatasetError
from trainer.base.suggestions import counted, short
from trainer.data.file_names import hint_for_path
from trainer.data.reader import InnerPath, Prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


def _rows(span: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= span[0] <= span[1]:
        raise ValueError("expected [first, one past the last], counted from 0")
    return span


def _percents(span: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= span[0] < span[1] <= 100:  # noqa: PLR2004 - the bounds of a percentage
        raise ValueError("expected [from, to], from 0 to 100")
    return span


Rows = Annotated[tuple[int, int], AfterValidator(_rows)]
"""The samples `first <= row < last`, in the reader's order."""


class Below(Document):
    """The samples of all files whose paths begin with `prefix`."""

    prefix: Prefix = Field(min_length=1)


class Listed(Document):
    """The samples of the listed files."""

    files: tuple[InnerPath, ...] = Field(min_length=1)


class Percent(Document):
    """A share of the samples, approximately, selected by the sha256 of the seed and the sample's name.

    A sample's name is its file or its row, so a sample keeps its split if samples are appended.
    """

    percent: Annotated[tuple[float, float], AfterValidator(_percents)]
    """Start and end of the share: `[0, 80]` and `[80, 100]` with the same seed have no sample in common."""
    seed: NonNegativeInt = 0
    stratify: str | None = Field(default=None, exclude_if=lambda column: column is None)
    """A column of a table: of each ten successive rows with the same value, one is in each tenth of the percentages."""
    group: str | None = Field(default=None, exclude_if=lambda column: column is None)
    """A column of a table: rows with the same value are in the same split, which is selected by the value instead of the name."""

    @model_validator(mode="after")
    def _one_column(self) -> Percent:
        if self.stratify and self.group:
            raise ValueError("stratify cannot be used with group")
        return self


@dataclass(frozen=True, slots=True)
class Chosen:
    """The samples of a split that were already selected from several datasets; a declaration cannot have this form."""

    rows: Sequence[int]


def _kind(value: Any) -> str:
    keys = value.keys() if isinstance(value, dict) else type(value).model_fields if isinstance(value, Document) else ()
    return next((key for key in ("prefix", "files", "percent") if key in keys), "rows")


Split = Annotated[
    Annotated[Rows, Tag("rows")]
    | Annotated[Below, Tag("prefix")]
    | Annotated[Listed, Tag("files")]
    | Annotated[Percent, Tag("percent")],
    Discriminator(_kind),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The number of samples and, if samples belong to files, their positions in `files`."""

    count: int
    files: Sequence[str] = ()
    ends: Sequence[int] | None = None
    """The index after each file's last sample; `None` if each file is one sample."""
    column: Callable[[str], Iterator[str | None]] | None = None
    """Yields the value of a table's column for each sample, in order; `None` for other readers."""

    def place(self, index: int) -> tuple[int, int]:
        """Return the number of a sample's file, and its row in the file."""
        if self.ends is None:
            return index, 0
        number = bisect_right(self.ends, index)
        return number, index - (self.ends[number - 1] if number else 0)

    def span(self, number: int) -> range:
        """Return the samples of a file."""
        if self.ends is None:
            return range(number, number + 1)
        return range(self.ends[number - 1] if number else 0, self.ends[number])

    def name_of(self, index: int) -> str:
        """Return a sample's name for messages: its file or its row."""
        if not self.files:
            return f"row {index}"
        number, row = self.place(index)
        return self.files[number] if self.ends is None else f"row {row} of {self.files[number]}"

    def names(self) -> Iterator[str]:
        """Yield the name by which `Percent` selects each sample, in order: its file, or its row."""
        for number, file in enumerate(self.files):
            yield from [file] if self.ends is None else (f"{file}#{row}" for row in range(len(self.span(number))))
        if not self.files:
            yield from map(str, range(self.count))


def describe_split(split: Split) -> str:
    """Return a description of a split."""
    match split:
        case Below(prefix=prefix):
            return f"all samples of the files below {prefix}"
        case Listed(files=files):
            return f"all samples of {counted(len(files), 'file')}"
        case Percent(percent=(low, high), seed=seed):
            by = f"column {split.group!r}, rows of one value together" if split.group else "their names"
            evenly = f", evenly for each value of column {split.stratify!r}" if split.stratify else ""
            return f"about {high - low:g} % of the samples, by {by}{evenly} (seed {seed})"
        case (first, last):
            rows = f"rows {first} to {last - 1}" if last - first > 1 else f"row {first}"
            return f"{counted(last - first, 'sample')}, {rows}"


def select(name: str, splits: Mapping[str, Split], layout: Layout, *, dataset: str) -> Sequence[int]:
    """Return the samples of a split, in order. Raise `DatasetError` if the split is unknown, empty or does not fit the samples."""
    require_split(name, splits, dataset=dataset)
    chosen = _select(name, splits[name], layout, dataset=dataset)
    if not len(chosen):
        raise DatasetError(
            f"split {name!r} of {dataset} selects no sample; the dataset has {counted(layout.count, 'sample')}",
            hint=_FIX,
        )
    return chosen


def require_split(name: str, splits: Mapping[str, Split], *, dataset: str) -> None:
    """Raise `DatasetError` if a dataset does not declare a split."""
    if name not in splits:
        known = ", ".join(splits) or "none"
        raise DatasetError(f"dataset {dataset} has no split {name!r}; it has {known}", hint=f"add {name} to [splits]")


def _select(name: str, split: Split | Chosen, layout: Layout, *, dataset: str) -> Sequence[int]:
    match split:
        case (first, last):
            if last > layout.count:
                message = f"split {name!r} of {dataset} ends at row {last:,}; its reader finds {counted(layout.count, 'sample')}"
                raise DatasetError(message, hint=_FIX)
            return range(first, last)
        case Chosen(rows=rows):
            return rows
        case Percent(percent=(low, high)):
            places = _percentiles(name, split, layout, dataset=dataset)
            return array("q", (index for index, place in enumerate(places) if low <= place < high))
        case Below(prefix=prefix):
            return _of_files([number for number, path in enumerate(layout.files) if path.startswith(prefix)], layout)
        case Listed(files=files):
            numbers = {path: number for number, path in enumerate(layout.files)}
            if missing := next((path for path in files if path not in numbers), None):
                message = f"split {name!r} of {dataset} lists {short(missing)!r}, which is not a sample of its reader"
                hint = (
                    "remove the line: a list has no comments" if missing[0] == "#" else hint_for_path(missing, numbers)
                )
                raise DatasetError(message, hint=hint)
            return _of_files(sorted(numbers[path] for path in files), layout)


def _of_files(numbers: Sequence[int], layout: Layout) -> Sequence[int]:
    return array("q", (index for number in numbers for index in layout.span(number)))


def _percentile(seed: int, key: str) -> float:
    """Return a number from 0 to 100 that depends only on the seed and the key."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:6], "big") * 100 / 2**48


def _percentiles(name: str, split: Percent, layout: Layout, *, dataset: str) -> Iterator[float]:
    """Yield a number from 0 to 100 for each sample; the number does not change if rows are appended."""
    column = split.group or split.stratify
    if column is None:
        return (_percentile(split.seed, key) for key in layout.names())
    if layout.column is None:
        message = (
            f"split {name!r} of {dataset} selects by column {column!r}, but the dataset's reader does not read a table"
        )
        raise DatasetError(message, hint="remove group and stratify")
    values = _present(layout.column(column), column, layout, dataset)
    return _of_groups(split.seed, values) if split.group else _of_strata(split.seed, values, layout)


def _present(values: Iterator[str | None], column: str, layout: Layout, dataset: str) -> Iterator[str]:
    for index, value in enumerate(values):
        if value is None:
            message = (
                f"{dataset}: {layout.name_of(index)} has no value in column {column!r}, by which its split is selected"
            )
            raise DatasetError(message, hint="fill the value, or remove the row")
        yield value


def _of_groups(seed: int, values: Iterator[str]) -> Iterator[float]:
    known: dict[str, float] = {}
    for value in values:
        if value not in known:
            known[value] = _percentile(seed, f"group/{value}")
        yield known[value]


def _of_strata(seed: int, values: Iterator[str], layout: Layout) -> Iterator[float]:
    """Yield a number from 0 to 100 for each row.

    Of each ten successive rows with the same value in a file, one gets a number in each tenth, in an order given by sha256.
    """
    counts: dict[str, int] = {}
    orders: dict[str, list[int]] = {}
    for index, value in enumerate(values):
        stratum = f"{layout.files[layout.place(index)[0]] if layout.files else ''}/{value}"
        count = counts.get(stratum, 0)
        counts[stratum] = count + 1
        block, at = divmod(count, _TENTHS)
        if not at:
            keys = [_percentile(seed, f"stratum/{stratum}/{block}/{tenth}") for tenth in range(_TENTHS)]
            orders[stratum] = sorted(range(_TENTHS), key=keys.__getitem__)
        yield (orders[stratum][at] + _percentile(seed, f"stratum/{stratum}/{count}") / 100) * (100 / _TENTHS)


class ContentDuplicates:
    """The first 8 bytes of each file's digest, for finding files with equal content in two splits."""

    def __init__(self, file_numbers: Mapping[str, Sequence[int]]) -> None:
        self._file_numbers, self._digests = file_numbers, array("Q")

    def add(self, sha256: str) -> None:
        """Add the next file's digest."""
        if self._file_numbers:
            self._digests.append(int(sha256.removeprefix("sha256:")[:16], 16))

    def notes(self, paths: Sequence[str], *, dataset: str) -> list[str]:
        """Return notes on files with equal content in two splits."""
        notes = []
        for one, other in combinations(self._file_numbers, 2):
            smaller, larger = sorted((self._file_numbers[one], self._file_numbers[other]), key=len)
            known = {self._digests[number]: number for number in smaller}
            same = [(known[self._digests[at]], at) for at in larger if self._digests[at] in known]
            if same := [pair for pair in same if pair[0] != pair[1]]:
                pair = " and ".join(short(paths[number]) for number in same[0])
                files = "1 file is" if len(same) == 1 else f"{len(same):,} files are"
                notes.append(f"{dataset}: {files} in both splits {one} and {other}, by content: {pair}")
        return notes


_TENTHS: Final = 10
_FIX = "correct [splits] in its declaration, or publish with --split NAME=FIRST:END"
