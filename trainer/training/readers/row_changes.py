"""The differences between the samples of two dataset versions: added, removed, changed, and moved to another split.

Samples are matched by a key if there is one: a column that was left out because its values identify the rows, or the file of a sample.
Otherwise they are matched by all of their values, and a changed sample counts as one removed and one added sample.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.base.errors import DatasetError
from trainer.base.suggestions import counted, did_you_mean, listed
from trainer.data.overview import RowChanges, ValueChanges, changed_columns
from trainer.data.reader import TableReader, TextReader
from trainer.training.readers import open_samples
from trainer.training.readers.overview import rows_of_splits
from trainer.training.readers.sample_columns import MISSING, combined, read_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.data.declaration import Dataset
    from trainer.data.files import Files
    from trainer.data.overview import Overview
    from trainer.training.readers.sample_columns import Marks, SomeSamples
    from trainer.training.readers.samples import Rows, Samples

_MOST_SPLITS: Final = 62
_FILE: Final = "file"
Places = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a dataset: its declaration, its files and its overview."""

    dataset: Dataset
    files: Files
    overview: Overview

    @property
    def columns(self) -> list[str]:
        """The names of the columns and fields in the overview."""
        return [each.name for each in self.overview.columns]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marked:
    """The samples in a version's splits, in ascending order, with their marks, and the splits of each sample as bits."""

    rows: Rows
    values: Marks
    keys: dict[str, Marks]
    splits: Places
    samples: Samples
    unread: int


def compare_values(before: Version, after: Version, *, key: str | None = None) -> ValueChanges:
    """Compare two versions. Raise `DatasetError` if `key` is not a column of both, or does not identify the samples."""
    common = [name for name in before.columns if name in set(after.columns)]
    facts: dict[str, Any] = {
        "columns_added": tuple(name for name in after.columns if name not in common),
        "columns_removed": tuple(name for name in before.columns if name not in set(after.columns)),
        "categories": dict(_new_categories(before.dataset, after.dataset)),
    }
    candidates = _candidates(before.dataset, after.dataset, common) if key is None else [_required(key, before, after)]
    if not common:
        reason = (
            "windows of a text" if isinstance(before.dataset.reader, TextReader) else "versions without a common column"
        )
        return ValueChanges(compared=(f"no samples: {reason} are not compared by their values",), **facts)
    names = list(dict.fromkeys((*after.overview.samples, *before.overview.samples)))[:_MOST_SPLITS]
    one, other = (_marked(each, common, candidates, names) for each in (before, after))
    match = _match(one, other, candidates)
    if key is not None and match.key != key:
        message = f"column {key!r} does not identify the samples: a value is missing, or occurs several times"
        raise DatasetError(message, hint="choose another column, or remove --key")
    here, there = one.rows[match.before[match.is_changed]], other.rows[match.after[match.is_changed]]
    by_column = _by_column(before, after, here, there, common)
    return ValueChanges(
        key=match.key,
        rows={name: _of_split(bit, one.splits, other.splits, match, by_column) for bit, name in enumerate(names)},
        columns=tuple(each for each in changed_columns(before.overview, after.overview) if each.column != match.key),
        compared=tuple(_compared(match.key, common, candidates, one.unread + other.unread)),
        **facts,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _SampleMatch:
    """The pairs of matching samples in two versions, and which of them changed."""

    key: str | None
    before: Places
    after: Places
    is_changed: Mask


def _match(one: _Marked, other: _Marked, candidates: Sequence[str]) -> _SampleMatch:
    key = next((name for name in candidates if _identifies(one.keys[name]) and _identifies(other.keys[name])), None)
    values, others = _values(one, key), _values(other, key)
    by_file = None if key else (_file_marks(one), _file_marks(other))
    if key is not None:
        here, there = _pairs(one.keys[key], other.keys[key])
    elif by_file is not None and by_file[0] is not None and by_file[1] is not None:
        key, (here, there) = _FILE, _pairs(by_file[0], by_file[1])
    else:
        here, there = _pairs_by_value(values, one.splits, others, other.splits)
    return _SampleMatch(key=key, before=here, after=there, is_changed=values[here] != others[there])


def _compared(key: str | None, common: Sequence[str], candidates: Sequence[str], unread: int) -> Iterator[str]:
    yield f"all samples of the splits, in {listed(common)}"
    if key is not None:
        yield f"samples are matched by {'their file' if key == _FILE else f'column {key!r}'}"
    else:
        tried = f" (not identified by {listed(candidates)})" if candidates else ""
        yield f"samples are matched by all of their values{tried}: a changed sample counts as one removed and one added"
    if unread:
        yield f"not the values of {counted(unread, 'sample')}, which cannot be read"


def _required(key: str, before: Version, after: Version) -> str:
    for version in (before, after):
        if key not in version.columns:
            raise DatasetError(
                f"{version.dataset.title} has no column {key!r}", hint=did_you_mean(key, version.columns)
            )
    return key


def _candidates(before: Dataset, after: Dataset, common: Sequence[str]) -> list[str]:
    """Return the columns that both versions leave out: an identifier is usually among them."""
    one, other = before.source_table, after.source_table
    if one is None or other is None:
        return []
    return [
        name
        for name in common
        if all(name in each.columns and each.columns[name].read == "left out" for each in (one, other))
    ]


def _marked(version: Version, common: Sequence[str], candidates: Sequence[str], names: Sequence[str]) -> _Marked:
    samples = open_samples(version.dataset, version.files)
    splits = rows_of_splits(version.dataset, samples)
    every = np.unique(np.concatenate([*splits.values()]))
    bits = np.zeros(len(every), dtype=np.int64)
    for bit, name in enumerate(names):
        if name in splits:
            bits[np.searchsorted(every, splits[name])] |= 1 << bit
    values = np.full(len(every), MISSING, dtype=np.uint64)
    keys = {name: values.copy() for name in candidates}
    unread = 0
    for some, marks, at, inside in _inside(version, samples, every):
        unread += some.unread
        plain = (name for name in common if name in marks and name not in keys and name not in some.marks)
        values[at] = combined([marks[name] for name in (*plain, *sorted(some.marks))], len(some.rows))[inside]
        for name, kept in keys.items():
            kept[at] = marks[name][inside]
    return _Marked(rows=every, values=values, keys=keys, splits=bits, samples=samples, unread=unread)


def _inside(
    version: Version, samples: Samples, every: Rows
) -> Iterator[tuple[SomeSamples, dict[str, Marks], Places, Mask]]:
    """Yield some samples, their marks by column, the indices in `every` of the samples in `every`, and the mask of these samples."""
    for some in read_columns(version.dataset, version.files, samples, every):
        at = np.minimum(np.searchsorted(every, some.rows), max(0, len(every) - 1))
        inside = every[at] == some.rows if len(every) else np.zeros(len(some.rows), dtype=np.bool_)
        if inside.any() or some.unread:
            yield some, {name: cells.marks for name, cells in some.columns.items()} | some.marks, at[inside], inside


def _identifies(keys: Marks) -> bool:
    return len(keys) > 0 and not bool((keys == MISSING).any()) and len(np.unique(keys)) == len(keys)


def _values(marked: _Marked, key: str | None) -> Marks:
    return combined([marked.values, *(marks for name, marks in marked.keys.items() if name != key)], len(marked.rows))


def _file_marks(marked: _Marked) -> Marks | None:
    """Return the marks of the samples' file names if each sample is a file; otherwise `None`."""
    layout = marked.samples.layout
    if not layout.files or layout.ends is not None:
        return None
    names = (layout.files[int(row)].encode() for row in marked.rows)
    digests = (int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") for name in names)
    return np.fromiter(digests, dtype=np.uint64, count=len(marked.rows))


def _pairs(one: Marks, other: Marks) -> tuple[Places, Places]:
    _, here, there = np.intersect1d(one, other, assume_unique=True, return_indices=True)
    return here, there


def _pairs_by_value(one: Marks, splits: Places, other: Marks, other_splits: Places) -> tuple[Places, Places]:
    """Match equal samples in the same splits first, then the remaining samples. Of several equal samples, each is matched once."""
    here, there = _pairs(
        _numbered(combined([one, splits.view(np.uint64)], len(one))),
        _numbered(combined([other, other_splits.view(np.uint64)], len(other))),
    )
    rest, other_rest = (
        np.setdiff1d(np.arange(len(marks)), matched, assume_unique=True)
        for marks, matched in ((one, here), (other, there))
    )
    more, other_more = _pairs(_numbered(one[rest]), _numbered(other[other_rest]))
    return np.append(here, rest[more]), np.append(there, other_rest[other_more])


def _numbered(marks: Marks) -> Marks:
    """Return marks that also number equal samples, so that the second in one version matches the second in the other."""
    order = np.argsort(marks, kind="stable")
    ordered = marks[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(marks) else np.empty(0, dtype=np.int64)
    lengths = np.diff(np.append(starts, len(marks)))
    numbers = np.empty(len(marks), dtype=np.uint64)
    numbers[order] = np.arange(len(marks), dtype=np.uint64) - np.repeat(starts, lengths).astype(np.uint64)
    return combined([marks, numbers], len(marks))


def _by_column(before: Version, after: Version, one: Rows, other: Rows, common: Sequence[str]) -> dict[str, Mask]:
    """Return, for each column with a difference, the mask of the changed samples that differ in the column."""
    if not len(one):
        return {}
    found = [_marks_of(version, rows, common) for version, rows in ((before, one), (after, other))]
    differ = {name: found[0][name] != found[1][name] for name in found[0] if name in found[1]}
    return {name: each for name, each in differ.items() if each.any()}


def _marks_of(version: Version, rows: Rows, common: Sequence[str]) -> dict[str, Marks]:
    """Return the marks of the samples `rows` by column, in the order of `rows`."""
    samples, order = open_samples(version.dataset, version.files), np.argsort(rows)
    every = rows[order]
    found: dict[str, Marks] = {}
    for _, marks, at, inside in _inside(version, samples, every):
        for name in common:
            if name in marks:
                kept = found.setdefault(name, np.full(len(rows), MISSING, dtype=np.uint64))
                kept[order[at]] = marks[name][inside]
    return found


def _of_split(bit: int, one: Places, other: Places, match: _SampleMatch, by_column: Mapping[str, Mask]) -> RowChanges:
    mine, theirs = (one >> bit) & 1 == 1, (other >> bit) & 1 == 1
    was, is_ = mine[match.before], theirs[match.after]
    stayed = (was & is_)[match.is_changed]
    columns = {name: int((each & stayed).sum()) for name, each in by_column.items()}
    return RowChanges(
        before=int(mine.sum()),
        after=int(theirs.sum()),
        added=int(theirs.sum() - is_.sum()),
        removed=int(mine.sum() - was.sum()),
        changed=int(stayed.sum()),
        moved_in=int((is_ & ~was).sum()),
        moved_out=int((was & ~is_).sum()),
        changed_columns={name: count for name, count in columns.items() if count},
    )


def _new_categories(before: Dataset, after: Dataset) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not (isinstance(before.reader, TableReader) and isinstance(after.reader, TableReader)):
        return
    for name, treatment in after.reader.columns.items():
        known = before.reader.columns.get(name)
        if known and (new := tuple(value for value in treatment.values if value not in set(known.values))):
            yield name, new
