"""Check the classes and file names of a folder of pictures before it is published; no picture is opened."""

from __future__ import annotations

import unicodedata
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError
from trainer.base.suggestions import counted, listed, short
from trainer.data.file_names import folded
from trainer.data.format_guess import SPLIT_NAMES
from trainer.data.pictures import ClassFolders, by_suffix, find_pictures, has_picture_suffix
from trainer.data.reader import ImagesReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.data.declaration import Described
    from trainer.data.pictures import PictureFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCount:
    """A class of a dataset, with its number of samples in total and in each split."""

    number: int
    name: str
    samples: int
    splits: dict[str, int]


def count_classes(pictures: PictureFiles, splits: Mapping[str, Sequence[int]]) -> tuple[ClassCount, ...]:
    """Count the samples of each class."""
    whole = Counter(pictures.labels)
    parts = {name: Counter(pictures.labels[index] for index in rows) for name, rows in splits.items()}
    return tuple(
        ClassCount(
            number=number,
            name=name,
            samples=whole[number],
            splits={split: count[number] for split, count in parts.items()},
        )
        for number, name in enumerate(pictures.classes)
    )


def check_class_names(names: Sequence[str], *, are_declared: bool, dataset: str) -> None:
    """Raise `DatasetError` if a class name is empty, repeated, padded, has control characters, or differs invisibly from another name.

    Names differ invisibly if only case, whitespace, invisible characters or the Unicode form differ. Declared classes may differ by case,
    for example the letters `A` and `a`, by whitespace or by invisible characters.
    """
    if len(names) > 1 and "" in names:
        raise DatasetError(f"a class of {dataset} has an empty name: {listed(map(repr, names))}", hint="--classes A,B")
    if padded := next((name for name in names if name != name.strip()), None):
        raise DatasetError(
            f"the class {padded!r} of {dataset} begins or ends with whitespace", hint="remove the whitespace"
        )
    if odd := next(
        (name for name in names if any(unicodedata.category(letter) in _UNPRINTED for letter in name)), None
    ):
        raise DatasetError(f"the class {odd!a} of {dataset} contains a control character", hint="remove it")
    if repeated := next((name for name, count in Counter(names).items() if count > 1), None):
        raise DatasetError(f"the class {repeated!r} of {dataset} is named twice", hint="name each class once")
    seen: dict[str, str] = {}
    for name in names:
        if (before := seen.setdefault(_visible(name), name)) is not name:
            _require_distinct(before, name, are_declared=are_declared, dataset=dataset)


def _visible(name: str) -> str:
    """Return a name in lower case, without invisible characters, and with single spaces."""
    shown = "".join(letter for letter in name if unicodedata.category(letter) != "Cf" and letter not in _VARIANTS)
    return folded(" ".join(shown.split()))


def _require_distinct(before: str, name: str, *, are_declared: bool, dataset: str) -> None:
    if unicodedata.normalize("NFC", before) == unicodedata.normalize("NFC", name):
        message = f"the classes {before!a} and {name!a} of {dataset} are the same name in two Unicode forms"
        raise DatasetError(message, hint="rename one of them, because both look the same")
    if not are_declared:
        by_case = folded(before) == folded(name)
        names = f"{before!r} and {name!r}" if by_case else f"{before!a} and {name!a}"
        difference = "upper and lower case" if by_case else "whitespace or invisible characters"
        message = f"the classes {names} of {dataset} differ only by {difference}"
        raise DatasetError(message, hint="rename one of them; to keep both, name all classes with --classes")


def check_pictures(
    pictures: PictureFiles, paths: Sequence[str], table: bytes | None, *, declared: Described
) -> list[str]:
    """Return notes on files that the reader does not read, and on odd classes. Raise `DatasetError` if a class would be lost."""
    reader: ImagesReader = declared.reader  # type: ignore[assignment] # the caller has found its pictures
    check_class_names(pictures.classes, are_declared=bool(reader.classes), dataset=declared.name)
    folders = ClassFolders(reader, declared.splits)
    unread = [path for path in paths if not has_picture_suffix(path) and path != reader.labels]
    if table is None and pictures.classes != ("",):
        _require_pictures([path for path in unread if folders.read(path)], folders, pictures, declared=declared)
    outside = [path for path in paths if has_picture_suffix(path) and not folders.read(path)]
    notes = _odd_classes(pictures.classes, reader.folder, dataset=declared.name)
    if unread:
        example = f"{by_suffix(unread)}, for example {short(unread[0])}"
        notes.append(f"{declared.name}: not read, because they are not pictures: {example}")
    if outside:
        place = "in no split's folder" if outside[0].startswith(reader.folder) else f"outside {reader.folder}"
        number = counted(len(outside), "picture")
        notes.append(f"{declared.name}: not read: {number} {place}, for example {short(outside[0])}")
    return notes


def _odd_classes(classes: Sequence[str], folder: str, *, dataset: str) -> list[str]:
    """Return a note on a single class, or on classes with names of splits."""
    if classes == ("",):
        return [f"{dataset}: its pictures have one class without a name; folders or --labels FILE.csv name classes"]
    if len(classes) == 1:
        return [f"{dataset}: its pictures have one class, {short(classes[0])}"]
    splits = {
        name: next((split for split, words in SPLIT_NAMES.items() if name.lower() in words), "") for name in classes
    }
    if not all(splits.values()):
        return []
    ordered = sorted(splits, key=lambda name: list(SPLIT_NAMES).index(splits[name]))
    options = " ".join(f"--split {splits[name]}={folder}{name}/" for name in ordered)
    note = f"{dataset}: its classes are {listed(classes)}; if these are its splits"
    return [f"{note}, use {options}; the folders below these are then the classes"]


def _require_pictures(
    unread: Sequence[str], folders: ClassFolders, pictures: PictureFiles, *, declared: Described
) -> None:
    """Raise `DatasetError` if a folder has only unreadable files, so that its class would be lost."""
    reader: ImagesReader = declared.reader  # type: ignore[assignment]
    filled = {pictures.classes[number] for number in set(pictures.labels)}
    names = dict(zip(unread, folders.classes(unread, set(reader.classes)), strict=True))
    lost = [path for path, name in names.items() if name and name not in filled]
    if reader.classes:
        lost = [path for path in lost if names[path] in reader.classes]
    if lost:
        name = names[lost[0]]
        of_class = [path for path in lost if names[path] == name]
        raise DatasetError(
            f"folder {name!r} of {declared.name} has no readable picture: {by_suffix(of_class)}, for example {of_class[0]}",
            hint="convert its files to PNG, remove the folder, or name the classes: --classes A,B",
        )


def describe_empty_classes(counts: Sequence[ClassCount], *, dataset: str) -> list[str]:
    """Return notes on classes that have no samples, or no samples in a split."""
    notes = []
    if empty := [each.name for each in counts if not each.samples]:
        notes = [f"{dataset}: no picture of {_classes(empty)}"]
    lacking = {
        split: [each.name for each in counts if each.samples and not each.splits[split]]
        for split in (counts[0].splits if counts else ())
    }
    return [
        *notes,
        *(f"{dataset}: split {split} has no sample of {_classes(names)}" for split, names in lacking.items() if names),
    ]


def describe_renumbering(
    declared: Described | None, draft: Described, classes: Sequence[ClassCount], paths: Sequence[str]
) -> list[str]:
    """Return a warning if classes have other numbers than in the declared version, because a trained net would confuse them."""
    if declared is None or not isinstance(declared.reader, ImagesReader) or not isinstance(draft.reader, ImagesReader):
        return []
    before, numbers = declared.reader.classes, {each.name: each.number for each in classes}
    if not before and declared.reader.labels is None:
        with suppress(DatasetError):
            before = find_pictures(declared.reader, paths, None, declared=declared).classes
    moved = [
        f"{short(name) or '(no name)'} {number} -> {numbers.get(name, 'none')}"
        for number, name in enumerate(before)
        if numbers.get(name) != number
    ]
    if not moved:
        return []
    keep = ",".join([*before, *(name for name in numbers if name not in set(before))])
    can_keep = len(keep) <= _LONGEST_ADVICE and "" not in before
    advice = f"; to keep the numbers: --classes {keep}" if can_keep else ""
    return [f"{draft.name}: WARNING: the numbers of classes change: {listed(moved)}{advice}"]


def _classes(names: Sequence[str]) -> str:
    return f"class {short(names[0])}" if len(names) == 1 else f"{len(names):,} classes: {listed(names)}"


_LONGEST_ADVICE: Final = 200
_UNPRINTED: Final = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories of control characters, surrogates and line separators."""
_VARIANTS: Final = frozenset(map(chr, range(0xFE00, 0xFE10)))
"""Variation selectors."""
