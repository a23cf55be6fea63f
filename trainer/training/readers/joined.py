"""Several datasets of one run, by role: their samples form one sequence, from which each split selects some.

The samples of the first dataset, which has the training split, keep the numbers that they have without other datasets. Other datasets
therefore change neither the order of the training samples nor their augmentation.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

from trainer.base.errors import DatasetError
from trainer.data.declaration import Dataset, sample_types
from trainer.data.reader import Typed
from trainer.data.splits import Chosen, Layout, select
from trainer.training.readers.samples import Pick, Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.data.cache.streamed import StreamedDataset
    from trainer.data.inspection import Fault
    from trainer.training.readers.samples import Alphabet, Batch, Piece, Rows, Sample, SampleBlock


class JoinedDataset(Dataset):
    """The declaration of the first dataset, with the splits of all datasets."""

    titles: str
    """The titles of all datasets."""

    @property
    def title(self) -> str:
        """The titles of all datasets."""
        return self.titles


@dataclass(frozen=True, slots=True, kw_only=True)
class RolePart:
    """The samples of a dataset, and the splits that it provides."""

    declared: Dataset
    samples: Samples
    splits: tuple[str, ...]

    @property
    def title(self) -> str:
        """The dataset's title, with its splits."""
        return title_of(self.declared, self.splits)


def title_of(declared: Dataset, splits: Sequence[str]) -> str:
    """Return the title of a dataset, with the splits that it provides to a run of several datasets."""
    return f"{declared.title} ({', '.join(splits)})" if splits else declared.title


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedLayout(Layout):
    """The layout of joined samples: each has the name that it has in its dataset."""

    name: Callable[[int], str]

    def name_of(self, index: int) -> str:
        """Return a sample's name for messages, with its dataset."""
        return self.name(index)


class JoinedSamples(Samples):
    """The samples of several datasets, one dataset after the other."""

    def __init__(self, parts: Sequence[RolePart]) -> None:
        self.parts = list(parts)
        self.ends = list(accumulate(len(part.samples) for part in parts))

    def __len__(self) -> int:
        return self.ends[-1]

    def sample(self, pick: Pick) -> Sample:
        """Return one sample, as its dataset's reader does."""
        part, first = self._part_of(pick.index)
        return part.samples.sample(replace(pick, index=pick.index - first))

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Return several samples. If all of them are in one dataset, its reader reads them at once."""
        part, first = self._part_of(picks[0].index)
        if all(first <= pick.index < first + len(part.samples) for pick in picks):
            return part.samples.batch([replace(pick, index=pick.index - first) for pick in picks])
        return self.stack([self.sample(pick) for pick in picks])

    def stack(self, samples: Sequence[Sample]) -> Batch:
        """Return samples as a batch, as the first reader does."""
        return self.parts[0].samples.stack(samples)

    @property
    def streamed(self) -> Sequence[StreamedDataset]:
        """Return the datasets whose files are fetched during training, each once."""
        return list(dict.fromkeys(each for part in self.parts for each in part.samples.streamed))

    def pieces(self, pick: Pick) -> Sequence[Piece]:
        """Return the ranges that the reader of a sample's dataset reads."""
        part, first = self._part_of(pick.index)
        return part.samples.pieces(replace(pick, index=pick.index - first))

    @property
    def layout(self) -> Layout:
        """Return the layout, which names each sample with its dataset."""
        return JoinedLayout(count=len(self), name=self._name_of)

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, which all datasets share."""
        return self.parts[0].samples.classes

    @property
    def alphabet(self) -> Alphabet:
        """Return the numbers that encode texts, which all datasets share."""
        return self.parts[0].samples.alphabet

    def labels(self, rows: Sequence[int]) -> Sequence[int] | None:
        """Return the class numbers of the samples `rows`; None if only reading whole samples can find them."""
        found: list[int] = []
        for row in rows:
            part, first = self._part_of(row)
            one = part.samples.labels([row - first])
            if one is None:
                return None
            found += one
        return found

    @property
    def holds_values(self) -> bool:
        """Return whether an inspection examines the values of a dataset."""
        return any(part.samples.holds_values for part in self.parts)

    def blocks(self, rows: Rows) -> Iterator[SampleBlock]:
        """Yield the samples `rows` for an inspection, as the reader of each dataset does."""
        for part, first, end in self.spans():
            own = rows[(rows >= first) & (rows < end)] - first
            for block in part.samples.blocks(own) if len(own) else ():
                fault = partial(_shifted, block.fault, first) if callable(block.fault) else block.fault
                yield replace(block, rows=block.rows + first, fault=fault)

    def rows_of(self, split: str) -> Sequence[int]:
        """Return the samples of a split. Raise `DatasetError` if no dataset has the role, or if its dataset does not declare the split."""
        for part, first, _ in self.spans():
            if split in part.splits:
                rows = select(split, part.declared.splits, part.samples.layout, dataset=part.declared.name)
                return array("q", (row + first for row in rows)) if first else rows
        raise DatasetError(f"no dataset has the role {split}", hint=f"--dataset train=NAME,{split}=NAME")

    def spans(self) -> Iterator[tuple[RolePart, int, int]]:
        """Yield each dataset with the number of its first sample, and one past the number of its last."""
        for part, end in zip(self.parts, self.ends, strict=True):
            yield part, end - len(part.samples), end

    def _part_of(self, index: int) -> tuple[RolePart, int]:
        """Return the dataset of a sample, and the number of its first sample."""
        return next((part, first) for part, first, end in self.spans() if index < end)

    def _name_of(self, index: int) -> str:
        part, first = self._part_of(index)
        return f"{part.samples.layout.name_of(index - first)} of {part.declared.title}"


def _shifted(fault: Callable[[int], Fault], first: int, row: int) -> Fault:
    return fault(row - first)


def join(parts: Sequence[RolePart]) -> tuple[Dataset, Samples]:
    """Return the declaration and the samples of one dataset, or of several datasets by role.

    Raise `DatasetError`, naming two datasets, if their samples differ in a field, its type or its classes, or in the tokenizer.
    """
    first, *others = parts
    if not others:
        return first.declared, first.samples
    for other in others:
        _require_equal(first, other)
    samples = JoinedSamples(parts)
    splits: dict[str, Any] = {split: Chosen(samples.rows_of(split)) for part in parts for split in part.splits}
    values: dict[str, Any] = {name: getattr(first.declared, name) for name in type(first.declared).model_fields}
    titles = " and ".join(part.title for part in parts)
    return JoinedDataset.model_construct(**values | {"splits": splits, "titles": titles}), samples


def _require_equal(one: RolePart, other: RolePart) -> None:
    types, others = _types(one), _types(other)
    both = f"datasets {one.title} and {other.title}"
    hint = "use datasets with equal fields, types and classes, or publish one of them again"
    if types.keys() != others.keys():
        found = f"{', '.join(types)}; {', '.join(others)}"
        raise DatasetError(f"{both} have different fields: {found}", hint=hint)
    for name, typed in types.items():
        if not (typed.admits(others[name].dtype, others[name].shape) or others[name].admits(typed.dtype, typed.shape)):
            raise DatasetError(f"{both} differ in {name!r}: {typed} and {others[name]}", hint=hint)
    if one.samples.alphabet.digest != other.samples.alphabet.digest:
        message = f"{both} have different tokenizers: a token's number has another meaning in each"
        raise DatasetError(message, hint="publish one of them again with the tokenizer.json of the other")
    names = [part.samples.classes for part in (one, other)]
    if all(names) and names[0] != names[1]:
        odd = next((pair for pair in zip(*names, strict=False) if pair[0] != pair[1]), (len(names[0]), len(names[1])))
        raise DatasetError(f"{both} have different classes: {odd[0]!r} and {odd[1]!r}", hint=hint)
    counts = [sample_types(part.declared) for part in (one, other)]
    for name in types:
        numbers = [each.classes if (each := count.get(name)) else None for count in counts]
        if None not in numbers and numbers[0] != numbers[1]:
            raise DatasetError(
                f"{both} have different numbers of classes in {name!r}: {numbers[0]} and {numbers[1]}", hint=hint
            )


def _types(part: RolePart) -> dict[str, Typed]:
    """Return the type and shape of each field of a sample: as declared, otherwise as in the first sample."""
    declared = sample_types(part.declared)
    sample = part.samples.sample(Pick(index=0)) if len(part.samples) else {}
    seen = {
        name: Typed.model_construct(
            dtype=cast("Any", str(value.dtype).removeprefix("torch.")), shape=tuple(value.shape)
        )
        for name, value in sample.items()
    }
    return {name: (typed if name in declared and (typed := declared[name]) else seen[name]) for name in seen}
