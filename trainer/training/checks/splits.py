"""The check of the splits: samples of val and test must not be in the training split.

Two samples are equal if their numbers, their files or the net's inputs are equal; two windows of a text, if they share bytes. Near
duplicates, such as another crop of a picture, are not detected.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.base.suggestions import counted
from trainer.data.reader import TextReader
from trainer.training.check_result import CheckFailed, CheckNote, NothingToCheck
from trainer.training.checks.subject import SPLITS
from trainer.training.readers import Pick
from trainer.training.readers.byte_samples import Windows
from trainer.training.readers.joined import JoinedSamples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.training.checks.subject import Trial
    from trainer.training.readers import Samples

_FILES: Final = 1_000_000
_MOST: Final = 100_000
_LEAST: Final = 1_000
_BYTES: Final = 256 << 20
"""Limits of the comparison: `_FILES` samples if their files' digests are compared; otherwise the samples that `_BYTES` hold, between
`_LEAST` and `_MOST`."""
_TOO_MUCH: Final = 0.5
"""The fraction of a split that may also be in the training split: lines of a text, and rows with few columns, repeat."""
_SHOWN: Final = 3
LEARNED, *MEASURED = SPLITS
Identity = Callable[[int], tuple[bytes, int]]
"""A function that takes the number of a sample, and returns a digest of its content and the content's size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """The overlap of a split with the training split: the number of samples, and their fraction of the split's content."""

    split: str
    count: int
    of: int
    part: float
    examples: Sequence[tuple[int, int]]
    """Numbers of equal samples, in this split and in the training split."""
    verbs: tuple[str, str] = ("is in", "are in")
    """The verb for one sample and for several."""

    def describe(self) -> str:
        """Return the text of the finding."""
        verb = self.verbs[self.count != 1]
        return f"{self.count:,} of {counted(self.of, 'sample')} of {self.split} ({self.part:.1%} of its bytes) {verb} {LEARNED}"


def splitting(trial: Trial) -> str:
    """Compare the splits with each other: first the numbers of their samples, then the contents."""
    for one, other in combinations(SPLITS, 2):
        both = np.intersect1d(_numbers(trial.rows[one]), _numbers(trial.rows[other]))
        if len(both):
            message = f"{counted(len(both), 'sample')} {_is(len(both))} in {one} and in {other}; the first is {both[0]}"
            raise CheckFailed(message, hint="correct [splits] in the dataset's declaration")
    if trial.subject.made_up:
        raise NothingToCheck("the samples are synthetic")
    samples, datasets = trial.samples, trial.subject.datasets
    first, reader = _parts(samples)[0][0], datasets[0].declared.reader
    common: list[Common] = []
    how: list[str] = []
    rows = trial.rows
    if isinstance(first, Windows) and isinstance(reader, TextReader):
        of_train = datasets[0].splits or SPLITS
        common += _overlapping(first, {name: rows[name] for name in SPLITS if name in of_train}, reader)
        how.append(
            "all windows compared" if len(datasets) == 1 else f"all windows of {datasets[0].declared.title} compared"
        )
        rows = {name: each for name, each in rows.items() if name == LEARNED or name not in of_train}
    if len(rows) > 1:
        by_digest = _by_files(samples, [each.files for each in datasets])
        compared = _spaced_rows(rows, most=_FILES if by_digest else _sample_limit(samples, rows[LEARNED][0]))
        try:
            common += _equal(by_digest or _by_bytes(trial, compared[LEARNED][:_SHOWN]), compared)
            how.append(_describe_compared(compared, rows))
        except NothingToCheck as fault:
            if not how:
                raise
            how.append(fault.message)
    return _result(samples, common, compared="; ".join(how))


def _parts(samples: Samples) -> list[tuple[Samples, int]]:
    """Return the samples of each dataset, and the number of its first sample."""
    if isinstance(samples, JoinedSamples):
        return [(part.samples, first) for part, first, _ in samples.spans()]
    return [(samples, 0)]


def _result(samples: Samples, common: Sequence[Common], *, compared: str) -> str:
    found = [each for each in common if each.count]
    if not found:
        return f"no sample is in two splits ({compared})"
    message = "; ".join(each.describe() for each in found)
    shown = ", ".join(
        f"{each.split} {_sample_name(samples, one)} and {LEARNED} {_sample_name(samples, other)}"
        for each in found
        for one, other in each.examples[:_SHOWN]
    )
    if any(each.part > _TOO_MUCH for each in found):
        raise CheckFailed(f"{message} ({compared})", hint=f"correct [splits] in the dataset's declaration; {shown}")
    raise CheckNote(f"{message} ({compared})", hint=shown)


def _describe_compared(compared: Mapping[str, Sequence[int]], rows: Mapping[str, Sequence[int]]) -> str:
    if all(len(compared[name]) == len(rows[name]) for name in compared):
        return f"all {sum(map(len, compared.values())):,} samples compared"
    return f"compared: {', '.join(f'{len(compared[name]):,} of {len(rows[name]):,} of {name}' for name in compared)}"


def _sample_limit(samples: Samples, row: int) -> int:
    size = sum(value.nbytes for value in samples.sample(Pick(index=row)).values())
    return min(_MOST, max(_LEAST, _BYTES // max(1, size)))


def _spaced_rows(rows: Mapping[str, Sequence[int]], *, most: int) -> dict[str, Sequence[int]]:
    """Return evenly spaced samples to compare: at most a quarter of `most` from val and from test, the rest from train."""
    found: dict[str, Sequence[int]] = {}
    left = most
    for name in (*(each for each in MEASURED if each in rows), LEARNED):
        count = min(len(rows[name]), left if name == LEARNED else most // 4)
        found[name] = rows[name][:: -(-len(rows[name]) // count)]
        left -= count
    return {name: found[name] for name in SPLITS if name in found}


def _by_files(samples: Samples, data: Sequence[Any]) -> Identity | None:
    """Return the identity by the files' digests in the manifest, which reads no sample; None if a sample is not a file of a manifest."""
    parts = [(own.layout, first) for own, first in _parts(samples)]
    if not all(layout.files and layout.ends is None for layout, _ in parts):
        return None
    if not all(hasattr(each, "entry") for each in data):
        return None
    begins = [first for _, first in parts]

    def identity(row: int) -> tuple[bytes, int]:
        number = bisect_right(begins, row) - 1
        layout, first = parts[number]
        entry = data[number].entry(layout.files[row - first])
        return str(entry.sha256).encode(), int(entry.size)

    return identity


def _by_bytes(trial: Trial, some: Sequence[int]) -> Identity:
    """Return the identity by the net's input. Raise `NothingToCheck` if the input is unknown or differs between epochs."""
    field, samples = trial.input_field, trial.samples
    if field not in samples.sample(Pick(index=some[0])):
        raise NothingToCheck("the net's input is unknown: the experiment's own steps select it")
    pairs = [[samples.sample(Pick(index=row, epoch=epoch))[field] for epoch in (0, 1)] for row in some]
    if not all(one.equal(other) for one, other in pairs):
        raise NothingToCheck(
            "samples differ from epoch to epoch (augmentation): equal samples cannot be found by their bytes"
        )

    def identity(row: int) -> tuple[bytes, int]:
        value = samples.sample(Pick(index=row))[field].contiguous()
        shape = str(tuple(value.shape)).encode()
        return hashlib.blake2b(shape + value.numpy().tobytes(), digest_size=16).digest(), value.numel()

    return identity


def _equal(identity: Identity, compared: Mapping[str, Sequence[int]]) -> list[Common]:
    learned = {identity(row)[0]: row for row in compared[LEARNED]}
    found: list[Common] = []
    for name in (each for each in MEASURED if each in compared):
        every = [(row, *identity(row)) for row in compared[name]]
        common = [(size, row, learned[digest]) for row, digest, size in every if digest in learned]
        largest = [(row, there) for _, row, there in sorted(common, key=lambda each: -each[0])]
        part = sum(size for size, _, _ in common) / max(1, sum(size for _, _, size in every))
        found.append(Common(split=name, count=len(common), of=len(every), part=part, examples=largest))
    return found


def _overlapping(windows: Windows, rows: Mapping[str, Sequence[int]], reader: TextReader) -> list[Common]:
    """Return the windows of val and of test that share bytes with a window of train, if the step is shorter than a window."""
    reach, unit = (reader.window - 1) // reader.step, "tokens" if reader.tokens else "bytes"
    verbs = (f"shares {unit} with windows of", f"share {unit} with windows of")
    learned = np.append(np.sort(_numbers(rows[LEARNED])), np.iinfo(np.int64).max)
    ends = np.asarray(windows.layout.ends, dtype=np.int64)
    found: list[Common] = []
    for name in (each for each in MEASURED if each in rows):
        here = _numbers(rows[name])
        file = np.searchsorted(ends, here, side="right")
        first, last = np.maximum(np.append(0, ends)[file], here - reach), np.minimum(ends[file] - 1, here + reach)
        there = learned[np.searchsorted(learned, first)]
        near = list(zip(here[there <= last].tolist(), there[there <= last].tolist(), strict=True))
        part = len(near) / max(1, len(here))
        found.append(Common(split=name, count=len(near), of=len(here), part=part, examples=near, verbs=verbs))
    return found


def _numbers(rows: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.asarray(rows, dtype=np.int64)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _sample_name(samples: Samples, row: int) -> str:
    layout = samples.layout
    if isinstance(samples, JoinedSamples):
        return layout.name_of(row)
    return layout.files[row] if layout.files and layout.ends is None else str(row)
