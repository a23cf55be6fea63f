"""Splits: which of a dataset's samples are for training, for validation, for the test.

Knows the three ways to declare one, and what each means: a pure function of the declaration and of how samples lie in files. Refuses
to shuffle: the order of an epoch is the run's business.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, NonNegativeInt, Tag

from trainer.base.document import Document
from trainer.base.errors import DatasetError
from trainer.base.suggestions import short
from trainer.data.file_names import hint_for_path
from trainer.data.reader import InnerPath, Prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def _rows(span: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= span[0] <= span[1]:
        raise ValueError("expected [first, one past the last], counted from 0")
    return span


def _percents(span: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= span[0] < span[1] <= 100:  # noqa: PLR2004 - that is what a percentage is
        raise ValueError("expected [from, to], from 0 to 100")
    return span


Rows = Annotated[tuple[int, int], AfterValidator(_rows)]
"""Samples `first <= row < last`, in the reader's order."""


class Below(Document):
    """The samples of all files whose path begins with `prefix`."""

    prefix: Prefix = Field(min_length=1)


class Listed(Document):
    """The samples of the files named."""

    files: tuple[InnerPath, ...] = Field(min_length=1)


class Percent(Document):
    """About this part of the samples, each chosen by the sha256 of seed and sample.

    A sample is named by its file, or by its row. It keeps its split when others are added: no version moves it from training to test.
    """

    percent: Annotated[tuple[float, float], AfterValidator(_percents)]
    """From and to: `[0, 80]` and `[80, 100]` with one seed have no sample in common."""
    seed: NonNegativeInt = 0


def _way(value: Any) -> str:
    keys = value.keys() if isinstance(value, dict) else type(value).model_fields if isinstance(value, Document) else ()
    return next((key for key in ("prefix", "files", "percent") if key in keys), "rows")


Split = Annotated[
    Annotated[Rows, Tag("rows")]
    | Annotated[Below, Tag("prefix")]
    | Annotated[Listed, Tag("files")]
    | Annotated[Percent, Tag("percent")],
    Discriminator(_way),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How samples lie in files: `count` of them; `files` in their order, where samples belong to files; `ends`, where one holds many."""

    count: int
    files: Sequence[str] = ()
    ends: Sequence[int] | None = None
    """One past each file's last sample; None where each file is one sample."""

    def place(self, index: int) -> tuple[int, int]:
        """The number of the sample's file, and its row in it."""
        if self.ends is None:
            return index, 0
        number = bisect_right(self.ends, index)
        return number, index - (self.ends[number - 1] if number else 0)

    def span(self, number: int) -> range:
        """The samples of a file."""
        if self.ends is None:
            return range(number, number + 1)
        return range(self.ends[number - 1] if number else 0, self.ends[number])

    def name_of(self, index: int) -> str:
        """A sample's name for people: its file if it is one, else its row."""
        if not self.files:
            return f"row {index}"
        number, row = self.place(index)
        return self.files[number] if self.ends is None else f"row {row} of {self.files[number]}"

    def names(self) -> Iterator[str]:
        """What each sample is called, in their order: by its file where it is one, else by its row."""
        for number, file in enumerate(self.files):
            yield from (
                (file for _ in (0,))
                if self.ends is None
                else (f"{file}#{row}" for row in range(len(self.span(number))))
            )
        if not self.files:
            yield from map(str, range(self.count))


def describe_split(split: Split) -> str:
    """Say what a split is, for people."""
    match split:
        case Below(prefix=prefix):
            return f"all samples of the files below {prefix}"
        case Listed(files=files):
            return f"all samples of {len(files):,} files"
        case Percent(percent=(low, high), seed=seed):
            return f"about {high - low:g} % of the samples, by their names (seed {seed})"
        case (first, last):
            return f"{last - first:,} samples, rows {first} to {last - 1}"


def select(name: str, splits: Mapping[str, Split], layout: Layout, *, dataset: str) -> Sequence[int]:
    """The samples of a split, in order. Raises `DatasetError` where there is none such, or it does not fit the samples."""
    split = splits.get(name)
    if split is None:
        known = ", ".join(splits) or "none"
        raise DatasetError(f"dataset {dataset} has no split {name!r}; it has {known}", hint="add it to [splits]")
    chosen = _chosen(name, split, layout, dataset=dataset)
    if not len(chosen):
        raise DatasetError(f"split {name!r} of {dataset} holds none of its {layout.count:,} samples", hint=MEND)
    return chosen


def _chosen(name: str, split: Split, layout: Layout, *, dataset: str) -> Sequence[int]:
    match split:
        case (first, last):
            if last > layout.count:
                sentence = (
                    f"split {name!r} of {dataset} ends at row {last:,}; its reader finds {layout.count:,} samples"
                )
                raise DatasetError(sentence, hint=MEND)
            return range(first, last)
        case Percent(percent=(low, high), seed=seed):
            return array("q", (index for index, key in enumerate(layout.names()) if low <= _drawn(seed, key) < high))
        case Below(prefix=prefix):
            return _of_files([number for number, path in enumerate(layout.files) if path.startswith(prefix)], layout)
        case Listed(files=files):
            numbers = {path: number for number, path in enumerate(layout.files)}
            if missing := next((path for path in files if path not in numbers), None):
                sentence = f"split {name!r} of {dataset} names {short(missing)!r}, of which its reader makes no sample"
                hint = (
                    "a list has no comments: remove the line" if missing[0] == "#" else hint_for_path(missing, numbers)
                )
                raise DatasetError(sentence, hint=hint)
            return _of_files(sorted(numbers[path] for path in files), layout)


def _of_files(numbers: Sequence[int], layout: Layout) -> Sequence[int]:
    return array("q", (index for number in numbers for index in layout.span(number)))


def _drawn(seed: int, key: str) -> float:
    """A sample's place between 0 and 100: equal on every machine, for ever."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:6], "big") * 100 / 2**48


MEND = "correct its [splits], or --split NAME=FIRST:END when it is published"
