"""The synthetic dataset: generated files that the reader of a dataset can read, based on its declaration alone.

The files contain no real values: values without a declared range are drawn from default bounds.

The fields of a sample depend on one hidden number from 0 to 1, plus noise, so a model can learn from them. Equal declarations give
equal bytes.
"""

from __future__ import annotations

import csv
import io
import tempfile
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Final
from weakref import finalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from trainer.base.errors import DatasetError
from trainer.data.reader import Arrays, Drawn, Images, Lines, Table, Text
from trainer.data.splits import Below, Percent
from trainer.training.determinism.seeds import derived

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.data.declaration import Dataset

_CLASSES: Final = 2
_SIZE: Final = (32, 32)
_ANY: Final = 8
"""The length of an axis if any length is allowed."""
_WORDS: Final = (
    "the",
    "of",
    "and",
    "a",
    "to",
    "in",
    "is",
    "that",
    "it",
    "was",
    "for",
    "on",
    "are",
    "with",
    "not",
    "but",
)
_NOISE: Final = 0.1

Values = np.ndarray[Any, Any]


class SyntheticFiles:
    """Generated files, in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Store the files."""
        self._files = dict(files)
        self.paths: Sequence[str] = sorted(files, key=str.encode)

    def view(self, path: str, /) -> memoryview:
        """Return the bytes of a file. Raise `DatasetError` if the file was not generated."""
        if path not in self._files:
            raise DatasetError(
                f"the synthetic dataset has no file {path!r}: only what the reader reads is made",
                hint="check with real data",
            )
        return memoryview(self._files[path])

    def require(self, path: str, /, start: int = 0, stop: int | None = None) -> None:
        """Do nothing: files in memory need no verification."""

    def read(self, path: str, /) -> memoryview:
        """Return the bytes of a file."""
        return self.view(path)

    def folder(self) -> Path:
        """Write the files to a temporary folder, which is deleted with this object."""
        return self._folder

    @cached_property
    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="reprise-twin-"))
        finalize(self, rmtree, folder, ignore_errors=True)
        for path, body in self._files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        return folder

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker process."""
        return {name: value for name, value in vars(self).items() if name != "_folder"}


def make_synthetic(declared: Dataset, *, rows: int) -> tuple[Dataset, SyntheticFiles]:
    """Generate the twin: about `rows` training samples, a quarter as many in each other split. Raise `DatasetError`."""
    counts = {name: rows if name == "train" else max(1, rows // 4) for name in [*declared.splits] or ["train"]}
    total = sum(counts.values())
    files = _Files(declared, total, np.random.default_rng(derived(0, "twin", declared.name)))
    made = SyntheticFiles(files.written(counts))
    if not isinstance(declared.reader, Images):
        ends = np.cumsum([0, *counts.values()]).tolist()
        splits: Any = {name: (ends[place], ends[place + 1]) for place, name in enumerate(counts)}
    elif all(isinstance(split, Below) for split in declared.splits.values()):
        splits = declared.splits
    else:
        parts = np.cumsum([0, *(100 * count / total for count in counts.values())]).round(3).tolist()
        splits = {name: Percent(percent=(parts[place], parts[place + 1])) for place, name in enumerate(counts)}
    return declared.model_copy(update={"splits": splits}), made


class _Files:
    """The generator of the files of one twin."""

    def __init__(self, declared: Dataset, rows: int, random: np.random.Generator) -> None:
        self.declared, self.rows, self.random = declared, rows, random
        self.hidden = random.random(rows)

    def written(self, counts: Mapping[str, int]) -> dict[str, bytes]:
        match self.declared.reader:
            case Arrays() as arrays:
                return {path: _npy(self.values(self.drawn(field))) for field, path in arrays.fields.items()}
            case Images() as images:
                return dict(self.pictures(images, counts))
            case Table() as table:
                return self.table(table)
            case Lines() as lines:
                return self.split(lines.needed, self.lines())
            case Text() as text:
                size = -(-self.rows // len(text.needed)) * text.step + text.window + 1
                return {path: b"\n".join(self.lines(most=size))[:size] for path in text.needed}
            case _:
                return {f"{row:06}.bin": self.random.bytes(64) for row in range(self.rows)}

    def drawn(self, field: str) -> Drawn:
        """Return the declaration of a field: from `twin`, else from `sample`."""
        said = self.declared.twin.get(field) or self.declared.sample.get(field)
        if said is None:
            raise DatasetError(
                f"{self.declared.name} does not declare what its field {field!r} is, so it has no synthetic data",
                hint=f"add [twin.{field}] with dtype, shape and classes or range to datasets/{self.declared.name}.toml",
            )
        return said if isinstance(said, Drawn) else Drawn(**said.model_dump())

    def values(self, said: Drawn) -> Values:
        """Return a value for each sample, `[rows, ...]`."""
        shape = tuple(_ANY if length == "any" else length for length in said.shape)
        hidden = self.hidden.reshape(-1, *[1] * len(shape))
        if shape:
            waves = 0.5 + 0.4 * np.cos(np.pi * hidden + 2 * np.pi * self.random.random(shape))
            hidden = np.clip(waves + self.random.normal(0, _NOISE, (self.rows, *shape)), 0, 1)
        if said.classes is not None:
            return np.minimum(hidden * said.classes, said.classes - 1).astype(said.dtype)
        if said.dtype == "bool":
            return np.asarray(hidden > 0.5)  # noqa: PLR2004 - the middle
        low, high = said.range or _bounds(said.dtype)
        scaled = low + hidden * (high - low)
        return (np.rint(scaled) if said.dtype.lstrip("u").startswith("int") else scaled).astype(said.dtype)

    def pictures(self, reader: Images, counts: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        said = self.declared.twin.get("label")
        classes = reader.classes or tuple(f"class{number}" for number in range((said and said.classes) or _CLASSES))
        channels = {"L": 1, "RGB": 3, "RGBA": 4}[reader.mode]
        pixels = self.values(Drawn(dtype="uint8", shape=(*(reader.size or _SIZE), channels), range=(0, 255)))
        labels = self.values(Drawn(dtype="int64", classes=len(classes)))
        splits = self.declared.splits.values()
        below = [split.prefix for split in splits if isinstance(split, Below)]
        places = np.repeat(below if len(below) == len(counts) else [reader.folder] * len(counts), list(counts.values()))
        table = io.StringIO()
        lines = csv.writer(table, lineterminator="\n")
        lines.writerow(("file", "class"))
        suffix = ".png" if reader.white is None else ".tif"
        for row in range(self.rows):
            name = classes[labels[row]]
            path = f"{places[row]}{'' if reader.labels or not name else f'{name}/'}{row:06}{suffix}"
            lines.writerow((path, name))
            yield path, _png(pixels[row], reader.mode) if reader.white is None else _tiff(pixels[row], reader.white)
        if reader.labels:
            yield reader.labels, table.getvalue().encode()

    def table(self, reader: Table) -> dict[str, bytes]:
        columns: dict[str, Values] = {}
        for field, column in reader.fields.items():
            said = self.declared.twin.get(field) or Drawn(dtype=column.dtype)
            for name in column.names:
                shape = () if isinstance(column.column, str) else (1,)
                columns[name] = self.values(said.model_copy(update={"shape": shape})).reshape(self.rows)
        parts = np.array_split(np.arange(self.rows), len(reader.files))
        return {
            path: _parquet({name: each[part] for name, each in columns.items()})
            for path, part in zip(reader.files, parts, strict=True)
        }

    def lines(self, *, most: int | None = None) -> list[bytes]:
        """Return one line per sample; or, if `most` is set, enough lines for `most` bytes."""
        found: list[bytes] = []
        size = 0
        while (len(found) < self.rows) if most is None else (size < most):
            words = self.random.choice(_WORDS, size=int(self.random.integers(1, 12)))
            found.append(" ".join(words).encode())
            size += len(found[-1]) + 1
        return found

    def split(self, paths: Sequence[str], lines: Sequence[bytes]) -> dict[str, bytes]:
        parts = np.array_split(np.arange(len(lines)), len(paths))
        return {path: b"".join(lines[line] + b"\n" for line in part) for path, part in zip(paths, parts, strict=True)}


def _bounds(dtype: str) -> tuple[float, float]:
    return (-2.0, 2.0) if dtype.startswith("float") else (0, 9)


def _npy(values: Values) -> bytes:
    body = io.BytesIO()
    np.save(body, np.ascontiguousarray(values))
    return body.getvalue()


def _png(pixels: Values, mode: str) -> bytes:
    body = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels, mode=None).save(body, format="PNG")
    return body.getvalue()


def _tiff(pixels: Values, white: float) -> bytes:
    """Encode gray floating-point values up to `white`: a declared white requires more than 8 bits per channel."""
    body = io.BytesIO()
    shares = pixels[:, :, 0].astype(np.float32) / np.float32(255)
    Image.fromarray(np.minimum(shares * np.float32(white), np.float32(white))).save(body, format="TIFF")
    return body.getvalue()


def _parquet(columns: Mapping[str, Values]) -> bytes:
    body = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), body)
    return body.getvalue()
