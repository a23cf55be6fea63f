"""Find the pictures of a dataset and their classes by file names and the label table; no picture is opened.

A label table is a CSV file with the columns `file` and `class`. Reading is strict: an ambiguous line, or a line that would lose a picture
or merge two classes, is an error with its number.
"""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError
from trainer.base.plain_text import decode_text
from trainer.base.suggestions import counted, did_you_mean, listed, nearest, short
from trainer.data.file_names import hint_for_path
from trainer.data.splits import Below

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trainer.data.declaration import Described
    from trainer.data.reader import ImagesReader

COLUMNS: Final = ("file", "class")
_OTHER_DELIMITERS: Final = {";": "semicolons", "\t": "tabs", "|": "pipes"}
_ALIKE: Final = {
    "file": ("filename", "file_name", "path", "image", "img", "name"),
    "class": ("label", "category", "target", "classes"),
}

SUFFIXES: Final = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".dib"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".avif", ".avifs", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    *(".tga", ".icb", ".vda", ".vst", ".qoi"),
)
"""Suffixes of the formats that `trainer.training.readers.images` decodes, in lower case."""
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_SHOWN: Final = 6
"""Maximum number of suffixes in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFiles:
    """Files in the dataset's order, the class number of each file, and the names of the classes by number."""

    files: Sequence[str]
    labels: Sequence[int]
    classes: tuple[str, ...]


def has_picture_suffix(path: str) -> bool:
    """Return whether a file has the suffix of a picture, ignoring case."""
    return path.lower().endswith(SUFFIXES)


def find_pictures(
    reader: ImagesReader, paths: Sequence[str], table: bytes | None, *, declared: Described
) -> PictureFiles:
    """Find the pictures among `paths` and their classes; `table` is the content of `reader.labels`.

    Pictures without a folder and without a table have one class without a name. Raise `DatasetError` if no picture is found, or if a
    picture has no class or an undeclared class.
    """
    folders = ClassFolders(reader, declared.splits)
    files = [path for path in paths if has_picture_suffix(path) and folders.read(path)]
    if not files:
        raise _no_pictures(reader, paths, declared=declared)
    names = folders.classes(files, set(reader.classes)) if table is None else _of_table(reader, files, table)
    if table is None and "" in names and len({*names, *reader.classes}) > 1:
        raise _no_class(files, names, folders, reader.classes)
    return _numbered(files, names, reader.classes or sort_classes(names), dataset=declared.name)


def sort_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return class names in the order of their numbers: by value if all are decimal numbers, otherwise by code points.

    >>> sort_classes(["10", "9", "-1"]), sort_classes(["b10", "b9"])
    (('-1', '9', '10'), ('b10', 'b9'))
    """
    classes = sorted(set(names))
    if all(_NUMBER.fullmatch(name) for name in classes):
        classes.sort(key=Decimal)
    return tuple(classes)


def by_suffix(paths: Iterable[str]) -> str:
    """Count files by suffix.

    >>> by_suffix(["a/1.jfif", "a/2.JFIF", "README"])
    '2 .jfif, 1 without suffix'
    """
    counts = Counter(suffix_of(path) for path in paths)
    shown = [f"{count:,} {suffix or 'without suffix'}" for suffix, count in counts.most_common(_SHOWN)]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} other suffixes" if more else "")


def suffix_of(path: str) -> str:
    """Return the suffix of a file in lower case, shortened for messages; empty for a name like `.profile`."""
    name = path.rpartition("/")[2].lower()
    return short(name[name.rfind(".") :]) if "." in name[1:] else ""


def _no_pictures(reader: ImagesReader, paths: Sequence[str], *, declared: Described) -> DatasetError:
    """Return the error if the reader's folder is missing, if it has no pictures, or if its pictures are in no split's folder."""
    folder, below = reader.folder, [path for path in paths if path.startswith(reader.folder)]
    known = {path[: path.rfind("/") + 1] for path in paths} - {""}
    message = f"dataset {declared.name} has no pictures" + (f" below {folder!r}" if folder else "")
    if not below:
        return DatasetError(
            f"{message}: it has no such folder", hint=f"--images . reads all folders; {did_you_mean(folder, known)}"
        )
    if not any(map(has_picture_suffix, below)):
        return DatasetError(f"{message}: {by_suffix(below)}", hint=f"pictures end in {', '.join(SUFFIXES)}")
    prefixes = [split.prefix for split in declared.splits.values() if isinstance(split, Below)]
    message = f"{message} in the folders of its splits, {listed(prefixes)}"
    return DatasetError(message, hint=did_you_mean(prefixes[0], known))


def _no_class(
    files: Sequence[str], names: Sequence[str], folders: ClassFolders, classes: Sequence[str]
) -> DatasetError:
    """Return the error for pictures outside the folders of the classes."""
    first, count = files[names.index("")], names.count("")
    pictures = f"{first} lies" if count == 1 else f"{first} and {counted(count - 1, 'other picture')} lie"
    base = folders.base(first)
    below = f" below {base!r}" if base else ""
    others = ", as others do" if any(names) else f"; the classes are {listed(classes)}"
    hint = f"move each into the folder of its class, for example {base}{next(filter(None, (*classes, *names)))}/{first[len(base) :]}"
    return DatasetError(
        f"{pictures} in no folder{below} that names its class{others}", hint=f"{hint}; or --labels FILE.csv"
    )


class ClassFolders:
    """The folders that name classes: the first folder below the reader's folder and the split's prefix."""

    def __init__(self, reader: ImagesReader, splits: Mapping[str, object]) -> None:
        """Collect the folders of the splits that are declared by prefix."""
        self._folder, self._has_table = reader.folder, reader.labels is not None
        prefixes = [split.prefix for split in splits.values() if isinstance(split, Below)]
        self._prefixes = tuple(prefixes)
        self._bases = sorted({prefix[: prefix.rfind("/") + 1] for prefix in prefixes}, key=len, reverse=True)
        self._is_divided = bool(splits) and len(prefixes) == len(splits)

    def read(self, path: str) -> bool:
        """Return whether the reader reads a file: below its folder and, without a table of labels, below a prefix if each split has one."""
        if not path.startswith(self._folder):
            return False
        return not self._is_divided or self._has_table or path.startswith(self._prefixes)

    def base(self, path: str) -> str:
        """Return the split's folder that contains the file, or else the reader's folder."""
        return max(self._folder, next((each for each in self._bases if path.startswith(each)), ""), key=len)

    def classes(self, files: Iterable[str], known: set[str]) -> list[str]:
        """Return each file's class, preferring a `known` class that its folders name."""
        class_of: dict[str, str] = {}
        names = []
        for file in files:
            folder = file.rpartition("/")[0]
            if folder not in class_of:
                class_of[folder] = self._class(file, known)
            names.append(class_of[folder])
        return names

    def _class(self, file: str, known: set[str]) -> str:
        base, folder = self.base(file), file.rpartition("/")[0]
        while known and len(folder) > len(base):
            if folder[len(base) :] in known:
                return folder[len(base) :]
            folder = folder.rpartition("/")[0]
        first, slash, _ = file[len(base) :].partition("/")
        return first if slash else ""


def _numbered(files: Sequence[str], names: Sequence[str], classes: tuple[str, ...], *, dataset: str) -> PictureFiles:
    numbers = {name: number for number, name in enumerate(classes)}
    if (unknown := next((name for name in names if name not in numbers), None)) is not None:
        message = (
            f"{files[names.index(unknown)]} of dataset {dataset} is of class {short(unknown)!r}, which is not one of its "
            f"{len(classes)} classes"
        )
        near = did_you_mean(unknown, classes).rstrip("?")
        add = f"to add it, append it to --classes or to `classes` in datasets/{dataset}.toml"
        raise DatasetError(message, hint=f"{near}; {add}")
    return PictureFiles(files=files, labels=array("q", map(numbers.__getitem__, names)), classes=classes)


def _of_table(reader: ImagesReader, files: Sequence[str], table: bytes) -> list[str]:
    where = str(reader.labels)
    labels = parse_labels(table, where=where)
    if missing := next((path for path in files if path not in labels), None):
        count = sum(path not in labels for path in files)
        message = f"{where} has no line for {missing}" + (f" and {count - 1:,} other pictures" if count > 1 else "")
        raise DatasetError(message, hint="add its line, or read only one folder: --images FOLDER")
    return [labels[path].name for path in files]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The class of a picture, and its line in the label table."""

    name: str
    line: int


def parse_labels(raw: bytes, *, where: str) -> dict[str, Label]:
    r"""Parse a label table into a class for each file. Raise `DatasetError` or `DocumentError` with the line if it is invalid.

    >>> parse_labels(b"file,class\n1.png,cat", where="labels.csv")["1.png"].name
    'cat'
    """
    rows = _rows(decode_text(raw, where=where), where=where)
    _, header = next(rows, (1, []))
    _check_header(header, where=where)
    file_at, class_at = (header.index(column) for column in COLUMNS)
    labels: dict[str, Label] = {}
    for line, row in rows:
        _check_row(row, header, at=f"{where}, line {line}")
        file, label = row[file_at], Label(name=row[class_at], line=line)
        if before := labels.get(file):
            also = "" if before.name == label.name else f", as {before.name!r} and as {label.name!r}"
            raise DatasetError(
                f"{where}, line {line}: {file!r} is already listed in line {before.line}{also}",
                hint="remove one of the lines",
            )
        labels[file] = label
    return labels


def check_listed(labels: Mapping[str, Label], known: Sequence[str], *, where: str) -> None:
    """Raise `DatasetError` if the table lists a file that is missing or is not a picture."""
    files = set(known)
    for file, label in labels.items():
        if file not in files:
            raise DatasetError(
                f"{where}, line {label.line}: {file!r} is not in the folder", hint=hint_for_path(file, files)
            )
        if not has_picture_suffix(file):
            raise DatasetError(
                f"{where}, line {label.line}: {file!r} is not read as a picture", hint="convert it, or remove its line"
            )


def _rows(text: str, *, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield rows with the number of their first line; blank lines are ignored."""
    reader, line = csv.reader(io.StringIO(text), strict=True), 1
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():
                yield line, row
            line = reader.line_num + 1
    except csv.Error as fault:
        lines = f"line {line}" if line == reader.line_num else f"lines {line} to {reader.line_num}"
        hint = 'close every quotation mark; write one that is part of a value as ""'
        raise DatasetError(f"{where}, {lines}: not valid CSV: {fault}", hint=hint) from fault


def _check_header(header: list[str], *, where: str) -> None:
    repeated = next((name for name in header if header.count(name) > 1), None)
    if repeated is not None and repeated in COLUMNS:
        raise DatasetError(f"{where}, line 1: the column {repeated!r} is named twice", hint="rename one of them")
    if missing := [column for column in COLUMNS if column not in header]:
        raise DatasetError(
            f"{where}, line 1: expected the columns file and class, found {', '.join(map(repr, header[:6])) or 'nothing'}",
            hint=_hint_for_header(header, missing[0]),
        )


def _hint_for_header(header: list[str], missing: str) -> str:
    line = ",".join(header)
    for delimiter, name in _OTHER_DELIMITERS.items():
        if delimiter in line:
            return f"separate the columns with commas, not with {name}"
    alike = (name for name in header if name.strip().lower() in {missing, *_ALIKE[missing]})
    near = next(chain(alike, nearest(missing, header)), None)
    return f"rename the column {near!r} to {missing!r}" if near else "make its first line: file,class"


def _check_row(row: list[str], header: list[str], *, at: str) -> None:
    if len(row) != len(header):
        hint = 'put a value that contains a comma between quotation marks: "a,b"'
        if len(row) < len(header):
            hint = "fill in the line, or remove it"
        values = "1 value" if len(row) == 1 else f"{len(row)} values"
        raise DatasetError(f"{at}: expected {len(header)} values, found {values}", hint=hint)
    for column in COLUMNS:
        value = row[header.index(column)]
        if not value.strip():
            raise DatasetError(f"{at}: the {column} is empty", hint="fill it in, or remove the line")
        if column == "class" and value != value.strip():
            raise DatasetError(
                f"{at}: the class {value!r} begins or ends with whitespace", hint=f"write {value.strip()}"
            )
