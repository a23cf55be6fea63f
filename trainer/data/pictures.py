"""A dataset of pictures: which files are pictures, and which class each belongs to.

Knows names and tables. Refuses to look into a picture: Pillow does, where a sample is read.
"""

from __future__ import annotations

import csv
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.errors import DatasetError
from trainer.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trainer.data.reader import Images

SUFFIXES: Final = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".dib"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".avif", ".avifs", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    *(".tga", ".icb", ".vda", ".vst", ".qoi"),
)
"""Those of the formats that `trainer.training.readers.pixels` decodes, in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Files in the dataset's order, the number of each one's class, and the classes' names by number."""

    files: Sequence[str]
    labels: Sequence[int]
    classes: tuple[str, ...]


def has_picture_suffix(path: str) -> bool:
    """Whether a file is a picture by its name, in any case of letters."""
    return path.lower().endswith(SUFFIXES)


def sorted_out(reader: Images, paths: Iterable[str], table: str | None, *, dataset: str) -> Pictures:
    """Find the pictures among `paths` and their classes; `table` is the text of `reader.labels`. Raises `DatasetError`.

    Where all lie in one folder and nothing tells classes, there is one, without a name.
    """
    files = [path for path in paths if path.startswith(reader.folder) and has_picture_suffix(path)]
    if not files:
        sentence = f"dataset {dataset} has no pictures below {reader.folder or 'its folder'!r}"
        raise DatasetError(sentence, hint=f"pictures end in {', '.join(SUFFIXES)}")
    named = (
        [path[len(reader.folder) :].rpartition("/")[0] for path in files]
        if table is None
        else _of_table(reader, files, table)
    )
    if "" in named and not reader.classes and len(set(named)) > 1:
        lone = files[named.index("")]
        raise DatasetError(
            f"{lone} lies in no folder that names its class, as others do", hint="--labels FILE, or move it"
        )
    classes = reader.classes or tuple(sorted(set(named)))
    numbers = {name: number for number, name in enumerate(classes)}
    if stranger := next((name for name in named if name not in numbers), None):
        file = files[named.index(stranger)]
        sentence = (
            f"{file} of dataset {dataset} is of class {stranger!r}, which is not one of its {len(classes)} classes"
        )
        raise DatasetError(sentence, hint=did_you_mean(stranger, classes))
    return Pictures(files=files, labels=array("q", map(numbers.__getitem__, named)), classes=classes)


def _of_table(reader: Images, files: Sequence[str], text: str) -> list[str]:
    rows = csv.DictReader(text.splitlines())
    if not {"file", "class"} <= set(rows.fieldnames or ()):
        raise DatasetError(
            f"{reader.labels} has the columns {rows.fieldnames}; expected file and class",
            hint="name them in its first line",
        )
    told: Mapping[str, str] = {row["file"]: row["class"] for row in rows}
    if missing := next((path for path in files if path not in told), None):
        raise DatasetError(f"{reader.labels} tells no class of {missing}", hint="add its line, or set `folder`")
    return [told[path] for path in files]
