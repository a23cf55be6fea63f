"""Checking a folder against what is said about it, before it is published: does the reader find samples, do the splits fit them?

Knows what can be known without torch, NumPy or Pillow, on any host: heads of arrays, lines, names, first bytes. Columns and rows of tables
are looked up where pyarrow is installed.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections import Counter
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import accumulate, combinations
from typing import TYPE_CHECKING, Final, Protocol

from trainer.base.errors import DatasetError
from trainer.base.suggestions import counted, listed, nearest, short
from trainer.data.check_pictures import (
    ClassCount,
    check_pictures,
    check_table,
    count_classes,
    describe_empty_classes,
)
from trainer.data.file_names import hint_for_path, reason_to_leave_out
from trainer.data.format_guess import SPLIT_NAMES, likeness, split_options
from trainer.data.npy import HEAD, ArrayHead, parse_head
from trainer.data.parquet import Foot, foot_start, is_readable, read_foot
from trainer.data.pictures import Pictures, find_pictures
from trainer.data.reader import Arrays, Files, Images, Lines, Table, Text, check_sample, even_rows
from trainer.data.source_folder import open_file
from trainer.data.splits import Layout, select
from trainer.data.splits import Listed as ListedSplit
from trainer.data.text_files import count_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trainer.data.declaration import Described, Draft
    from trainer.data.files import Files as CachedFiles
    from trainer.data.reader import Length
    from trainer.data.source_folder import SourceFolder

_BLOCK: Final = 1 << 20
UNKNOWN: Final = "unknown"
UNSEEN: Final = (
    "columns and rows of its Parquet files were not checked (this Python has no pyarrow); the first run checks them"
)


class Bodies(Protocol):
    """Where the files' bytes are: in a folder, or in the cache."""

    @property
    def paths(self) -> Sequence[str]:
        """All relative paths, sorted by their UTF-8 bytes."""

    def size(self, path: str) -> int:
        """Bytes of a file."""

    def part(self, path: str, start: int, length: int) -> bytes:
        """Some of them; fewer at the end."""

    def view(self, path: str) -> memoryview:
        """All of them, mapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InFolder:
    """The bytes of a folder."""

    root: Path
    paths: Sequence[str]

    def size(self, path: str) -> int:
        """Ask the disk."""
        with open_file(self.root / path) as file:
            return os.fstat(file.fileno()).st_size

    def part(self, path: str, start: int, length: int) -> bytes:
        """Read them."""
        with BufferedReader(open_file(self.root / path)) as file:
            file.seek(start)
            return file.read(length)

    def view(self, path: str) -> memoryview:
        """Map them."""
        with open_file(self.root / path) as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size(path) else b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class InCache:
    """The bytes of a cached version, for people to be told about; not verified."""

    files: CachedFiles

    @property
    def paths(self) -> Sequence[str]:
        """As published."""
        return self.files.paths

    def size(self, path: str) -> int:
        """Ask the manifest."""
        return len(self.files.view(path))

    def part(self, path: str, start: int, length: int) -> bytes:
        """Copy them."""
        return bytes(self.files.view(path)[start : start + length])

    def view(self, path: str) -> memoryview:
        """They are mapped already."""
        return self.files.view(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the reader will find: how many samples, how many in each split; and what somebody should be told."""

    samples: int
    splits: dict[str, int]
    notes: tuple[str, ...]
    classes: tuple[ClassCount, ...] = ()
    """Of pictures."""
    is_unseen: bool = False
    """Whether the columns and rows of a table could not be looked at."""
    places: dict[str, Sequence[int]] = field(default_factory=dict)
    """For each split the numbers of its files among the folder's, if a sample is a file."""


def check_dataset(draft: Draft, source: SourceFolder, paths: Sequence[str]) -> Checked:
    """Raises `DatasetError` where reader, splits or sample do not fit these files of the folder, with both numbers."""
    if not paths:
        raise DatasetError(f"{source.root} is empty: a dataset has files", hint="name the folder that holds the files")
    bodies = InFolder(root=source.root, paths=paths)
    here = set(bodies.paths) if draft.reader.needed else set()
    if missing := next((path for path in draft.reader.needed if path not in here), None):
        sentence = f"dataset {draft.name!r}: its reader needs {missing!r}, which is not in the folder"
        is_hidden = any(reason_to_leave_out(part, has_hidden=source.has_hidden) for part in missing.split("/"))
        hint = "--include-hidden publishes hidden files" if is_hidden else _hint_for_file(missing, bodies.paths)
        raise DatasetError(sentence, hint=hint)
    _require_distinct(draft)
    notes = [*_unsaid(draft), *_unlike(draft, bodies), *_untrainable(draft)]
    if isinstance(draft.reader, Table) and not is_readable():
        _check_unread(draft.reader, draft, bodies)
        return Checked(samples=0, splits={}, notes=tuple(notes), is_unseen=True)
    look = _Look(draft, bodies)
    if isinstance(draft.reader, Images) and (table := look.table(draft.reader)) is not None:
        check_table(draft.reader, table, paths)
    layout = look.layout()
    if look.pictures and isinstance(draft.reader, Images):
        notes += check_pictures(look.pictures, paths, look.table(draft.reader), declared=draft)
    chosen = _chosen(draft, layout)
    classes = count_classes(look.pictures, chosen) if look.pictures else ()
    return Checked(
        samples=layout.count,
        splits={name: len(each) for name, each in chosen.items()},
        notes=(
            *notes,
            *describe_empty_classes(classes, dataset=draft.name),
            *_shared(chosen),
            *_unused(chosen, layout.count, draft.name),
        ),
        classes=classes,
        places=_places(layout, chosen, paths),
    )


def _hint_for_file(missing: str, paths: Sequence[str]) -> str:
    """The nearest files of the same suffix, if there are any: of a thousand pictures none is the table that is missing."""
    suffix = missing[missing.rfind(".") :] if "." in missing else ""
    return hint_for_path(missing, [path for path in paths if path.endswith(suffix)] or paths)


def _require_distinct(draft: Draft) -> None:
    """Raise `DatasetError` for a file that a declaration lists twice: its samples would count twice."""
    lists = {f"split {name!r}": split.files for name, split in draft.splits.items() if isinstance(split, ListedSplit)}
    if isinstance(draft.reader, Lines | Text | Table):
        lists["its reader"] = draft.reader.needed
    for where, files in lists.items():
        if twice := next((file for file, count in Counter(files).items() if count > 1), None):
            sentence = f"dataset {draft.name}: {where} lists {short(twice)!r} twice"
            raise DatasetError(sentence, hint="remove one of the lines")


def _places(layout: Layout, chosen: dict[str, Sequence[int]], paths: Sequence[str]) -> dict[str, Sequence[int]]:
    """The numbers of the splits' files among `paths`, of which the layout's files are some, in the same order."""
    if layout.ends is not None or not layout.files or len(chosen) < 2:  # noqa: PLR2004 - splits are compared
        return {}
    numbers = iter(enumerate(paths))
    places = array("q", (next(number for number, path in numbers if path == file) for file in layout.files))
    return {name: array("q", (places[index] for index in rows)) for name, rows in chosen.items()}


def _check_unread(table: Table, draft: Draft, bodies: Bodies) -> None:
    """What can be known of a table without pyarrow: that its files are Parquet, and what its fields are."""
    for file in table.files:
        foot_start(bodies.view(file), where=file)
    check_sample(draft.sample, _fields(table), dataset=draft.name)


def count_samples(dataset: Described, files: CachedFiles) -> Checked:
    """How many samples the reader finds in a cached version, and how many each split has. Raises `DatasetError`."""
    look = _Look(dataset, InCache(files=files))
    layout = look.layout()
    chosen = _chosen(dataset, layout)
    return Checked(
        samples=layout.count,
        splits={name: len(each) for name, each in chosen.items()},
        notes=(),
        classes=count_classes(look.pictures, chosen) if look.pictures else (),
    )


def _chosen(dataset: Described, layout: Layout) -> dict[str, Sequence[int]]:
    return {name: select(name, dataset.splits, layout, dataset=dataset.name) for name in dataset.splits}


def _unsaid(draft: Draft) -> list[str]:
    missing = [word for word in ("license", "source") if getattr(draft, word) == UNKNOWN]
    flags = " ".join(f"--{word} TEXT" for word in missing)
    said = " and ".join(f"no {word}" for word in missing)
    return (
        [f"{draft.name}: {said} declared: others cannot know what they may do with it; say it with {flags}"]
        if missing
        else []
    )


def _unlike(draft: Draft, bodies: Bodies) -> list[str]:
    """What somebody should say who said nothing about how samples are read, or which are for what."""
    if draft.splits:
        return []
    found = likeness(bodies.paths) if isinstance(draft.reader, Files) else None
    if found:
        what, options = found
        sentence = f"{draft.name}: {what}, but no reader is declared, so a sample is a file's bytes"
        return [f"{sentence}; type {options} {split_options(bodies.paths)}"]
    sentence = f"{draft.name}: no split is declared, so nothing can be trained on it"
    return [f"{sentence}; declare which samples are for what: {split_options(bodies.paths)}"]


def _untrainable(draft: Draft) -> list[str]:
    """Report splits that training does not use, if one that it needs is missing."""
    missing = [name for name in SPLIT_NAMES if name not in draft.splits]
    if not draft.splits or not missing:
        return []
    meant: dict[str, str] = {}
    for name in draft.splits:
        if name not in SPLIT_NAMES:
            meant[name] = _meant(name, [split for split in missing if split not in meant.values()])
    did = " and ".join(f"{near} for {short(name)}" for name, near in meant.items() if near)
    others = f"; it has {listed(meant)}" if meant else ""
    advice = f"; did you mean {did}?" if did else ""
    return [
        f"{draft.name}: training needs the splits train, val and test; missing: {', '.join(missing)}{others}{advice}"
    ]


def _meant(name: str, missing: Sequence[str]) -> str:
    word = name.lower()
    near = next((split for split, words in SPLIT_NAMES.items() if split in missing and word in words), "")
    return near or next(iter(nearest(word, missing, most=1)), "")


def _shared(chosen: dict[str, Sequence[int]]) -> list[str]:
    pairs = ((one, other, _in_common(chosen[one], chosen[other])) for one, other in combinations(chosen, 2))
    return [
        f"splits {one} and {other} have {counted(common, 'sample')} in common" for one, other, common in pairs if common
    ]


def _unused(chosen: dict[str, Sequence[int]], count: int, dataset: str) -> list[str]:
    """Report samples that no split holds, though there are splits."""
    if not chosen or (unused := count - _held(list(chosen.values()))) <= 0:
        return []
    are = "is" if unused == 1 else "are"
    return [f"{dataset}: {counted(unused, 'sample')} of {count:,} {are} in no split"]


def _held(splits: list[Sequence[int]]) -> int:
    """How many samples some split holds; of rows, without looking at each."""
    if not all(isinstance(each, range) for each in splits):
        return len({index for each in splits for index in each})
    held = end = 0
    for first, last in sorted((each[0], each[-1] + 1) for each in splits):
        held, end = held + max(0, last - max(first, end)), max(end, last)
    return held


def _in_common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many samples are in both; of rows, without looking at each."""
    if isinstance(one, range) and isinstance(other, range):
        return max(0, min(one.stop, other.stop) - max(one.start, other.start))
    few, many = sorted((one, other), key=len)
    known = set(few)
    return sum(index in known for index in many)


@dataclass(slots=True)
class _Look:
    draft: Described
    bodies: Bodies
    pictures: Pictures | None = None
    """Found together with their layout."""

    def layout(self) -> Layout:
        """How the reader's samples lie in the folder's files."""
        match self.draft.reader:
            case Arrays(fields=fields):
                return self._arrays(fields)
            case Table() as table:
                return self._table(table)
            case Images() as images:
                return self._images(images)
            case Lines(needed=files):
                self._check_sample(text=("uint8", ("any",)), length=("int64", ()))
                return _stacked(files, self._lines)
            case Text() as text:
                self._check_sample(text=("int64", (text.window,)), next=("int64", (text.window,)))
                return _stacked(text.needed, lambda file: self._windows(text, file))
            case _:
                return Layout(count=len(self.bodies.paths), files=self.bodies.paths)

    def _check_sample(self, **found: tuple[str, tuple[Length, ...]]) -> None:
        check_sample(self.draft.sample, found, dataset=self.draft.name)

    def _arrays(self, fields: dict[str, str]) -> Layout:
        heads = {field: self._head(file) for field, file in fields.items()}
        found = {field: (head.dtype, head.shape[1:]) for field, head in heads.items()}
        check_sample(self.draft.sample, found, dataset=self.draft.name)
        return Layout(count=even_rows({field: head.rows for field, head in heads.items()}, dataset=self.draft.name))

    def _table(self, table: Table) -> Layout:
        feet = {file: self._foot(file) for file in table.files}
        for file, foot in feet.items():
            for column in table.fields.values():
                foot.require(column.names, where=file)
        check_sample(self.draft.sample, _fields(table), dataset=self.draft.name)
        return _stacked(table.files, lambda file: feet[file].rows)

    def _images(self, images: Images) -> Layout:
        self.pictures = find_pictures(images, self.bodies.paths, self.table(images), declared=self.draft)
        return Layout(count=len(self.pictures.files), files=self.pictures.files)

    def table(self, images: Images) -> bytes | None:
        """The content of the label table."""
        return None if images.labels is None else self._bytes(images.labels)

    def _lines(self, file: str) -> int:
        starts = range(0, self._size(file), _BLOCK)
        return count_lines((self.bodies.part(file, start, _BLOCK) for start in starts), where=file)

    def _windows(self, text: Text, file: str) -> int:
        self._lines(file)
        return text.count(self._size(file))

    def _head(self, file: str) -> ArrayHead:
        return parse_head(self._bytes(file, 0, HEAD), size=self._size(file), where=file)

    def _foot(self, file: str) -> Foot:
        return read_foot(self.bodies.view(file), where=file)

    def _size(self, file: str) -> int:
        return self.bodies.size(file)

    def _bytes(self, file: str, start: int = 0, length: int | None = None) -> bytes:
        return self.bodies.part(file, start, self._size(file) if length is None else length)


def _fields(table: Table) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {
        field: (column.dtype, () if isinstance(column.column, str) else (len(column.column),))
        for field, column in table.fields.items()
    }


def _stacked(files: Sequence[str], count: Callable[[str], int]) -> Layout:
    ends = list(accumulate(map(count, files)))
    return Layout(count=ends[-1], files=files, ends=ends)
