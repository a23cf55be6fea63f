"""The synthetic dataset: files that are generated from a dataset's declaration alone, and that its reader can read.

The files contain random values, and values that the declaration states, such as categories. Values without a declared range are drawn
from default bounds.

The numeric fields of a sample depend on one hidden number from 0 to 1, vectors also on noise, so a model can learn from them. Lines and
text are random words. The same declaration and number of rows always produce the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from functools import cached_property, partial
from itertools import chain, count, islice
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Final
from weakref import finalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from trainer.base.errors import DatasetError
from trainer.data.files import Files
from trainer.data.reader import ArraysReader, Drawn, ImagesReader, LinesReader, PaddedTokens, TableReader, TextReader
from trainer.data.splits import Below, Percent
from trainer.training.determinism.seeds import derived

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from trainer.data.declaration import Dataset
    from trainer.data.reader import Tokens

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
_MOST_WORDS: Final = 12
_NOISE: Final = 0.1

Values = np.ndarray[Any, Any]
Phases = dict[tuple[str, tuple[int, ...]], Values]
"""Phase of each position's cosine wave over the hidden number, as a fraction of a period, by the field's name and shape."""


class SyntheticFiles(Files):
    """Generated files, in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = dict(files)

    @cached_property
    def paths(self) -> Sequence[str]:
        """Return the paths of the generated files."""
        return sorted(self._files, key=str.encode)

    def view(self, path: str, /) -> memoryview:
        """Return the bytes of a file. Raise `DatasetError` if the file was not generated."""
        if path not in self._files:
            raise DatasetError(
                f"the synthetic dataset has no file {path!r}: it has only the files that the reader reads",
                hint="check with real data",
            )
        return memoryview(self._files[path])

    def folder(self) -> Path:
        """Return a temporary folder with the files. It is written on first use, and deleted with this object."""
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
        return {name: value for name, value in vars(self).items() if name != "_folder"}


def make_all_synthetic(declared: Sequence[Dataset], *, rows: int) -> list[tuple[Dataset, SyntheticFiles]]:
    """Generate the twins of one run's datasets. Fields of the same name and shape depend on the hidden number in the same way.

    Raise `DatasetError` if a field is not declared.
    """
    phases: Phases = {}
    return [make_synthetic(each, rows=rows, phases=phases) for each in declared]


def make_synthetic(declared: Dataset, *, rows: int, phases: Phases | None = None) -> tuple[Dataset, SyntheticFiles]:
    """Return the declaration and the files of the twin: about `rows` training samples, and a quarter as many in each other split.

    `phases` holds the phases of the twins that were generated before for the same run; the phases of new fields are added to it. Raise
    `DatasetError` if a field is not declared.
    """
    counts = {name: rows if name == "train" else max(1, rows // 4) for name in [*declared.splits] or ["train"]}
    total = sum(counts.values())
    random = np.random.default_rng(derived(0, "twin", declared.name))
    files = _Generator(declared, total, random, {} if phases is None else phases)
    synthetic = SyntheticFiles(files.written(counts))
    if not isinstance(declared.reader, ImagesReader):
        ends = np.cumsum([0, *counts.values()]).tolist()
        splits: Any = {name: (ends[number], ends[number + 1]) for number, name in enumerate(counts)}
    elif all(isinstance(split, Below) for split in declared.splits.values()):
        splits = declared.splits
    else:
        parts = np.cumsum([0, *(100 * count / total for count in counts.values())]).round(3).tolist()
        splits = {name: Percent(percent=(parts[number], parts[number + 1])) for number, name in enumerate(counts)}
    return declared.model_copy(update={"splits": splits}), synthetic


class _Generator:
    """Generates the files of one twin."""

    def __init__(self, declared: Dataset, rows: int, random: np.random.Generator, phases: Phases) -> None:
        self.declared, self.rows, self.random, self.phases = declared, rows, random, phases
        self.hidden = random.random(rows)

    def written(self, counts: Mapping[str, int]) -> dict[str, bytes]:
        match self.declared.reader:
            case ArraysReader() as arrays:
                values = [
                    np.ascontiguousarray(self.values(self.declaration_of(field), field)) for field in arrays.fields
                ]
                bodies = (_written(partial(np.save, arr=each)) for each in values)
                return dict(zip(arrays.fields.values(), bodies, strict=True))
            case ImagesReader() as images:
                return dict(self.pictures(images, counts))
            case TableReader() as table:
                return self.table(table)
            case LinesReader() as lines:
                words = _words_of(lines.tokens)
                window = lines.tokens.window if lines.tokens else None
                return self.split(lines.files, self.lines(words, longest=window)) | _tokenizer(lines.tokens)
            case TextReader() as text:
                size = -(-self.rows // len(text.files)) * text.step + text.window + 1
                words = _words_of(text.tokens)
                bodies = (b"\n".join(self.lines(words, most=size)) for _ in text.files)
                cut = None if text.tokens else size
                return {path: body[:cut] for path, body in zip(text.files, bodies, strict=True)} | _tokenizer(
                    text.tokens
                )
            case _:
                return {f"{row:06}.bin": self.random.bytes(64) for row in range(self.rows)}

    def declaration_of(self, field: str) -> Drawn:
        """Return the declaration of a field, from `twin` or else from `sample`. Raise `DatasetError` if neither declares the field."""
        drawn = self.declared.twin.get(field) or self.declared.sample.get(field)
        if drawn is None:
            raise DatasetError(
                f"{self.declared.name} does not declare its field {field!r}, so it has no synthetic data",
                hint=f"add [twin.{field}] with dtype, shape and classes or range to datasets/{self.declared.name}.toml",
            )
        return drawn if isinstance(drawn, Drawn) else Drawn(**drawn.model_dump())

    def values(self, drawn: Drawn, name: str) -> Values:
        """Return the values of a field or column, `[rows, ...]`."""
        shape = tuple(_ANY if length == "any" else length for length in drawn.shape)
        hidden = self.hidden.reshape(-1, *[1] * len(shape))
        if shape:
            phases = self.phases.setdefault((name, shape), self.random.random(shape))
            waves = 0.5 + 0.4 * np.cos(np.pi * hidden + 2 * np.pi * phases)
            hidden = np.clip(waves + self.random.normal(0, _NOISE, (self.rows, *shape)), 0, 1)
        if drawn.classes is not None:
            return np.minimum(hidden * drawn.classes, drawn.classes - 1).astype(drawn.dtype)
        if drawn.dtype == "bool":
            return np.asarray(hidden > 0.5)  # noqa: PLR2004 - the middle of 0 to 1
        low, high = drawn.range or ((-2.0, 2.0) if drawn.dtype.startswith("float") else (0, 9))
        scaled = low + hidden * (high - low)
        return (np.rint(scaled) if drawn.dtype.lstrip("u").startswith("int") else scaled).astype(drawn.dtype)

    def pictures(self, reader: ImagesReader, counts: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        drawn = self.declared.twin.get("label")
        classes = reader.classes or tuple(f"class{number}" for number in range((drawn and drawn.classes) or _CLASSES))
        channels = {"L": 1, "RGB": 3, "RGBA": 4}[reader.mode]
        pixels = self.values(Drawn(dtype="uint8", shape=(*(reader.size or _SIZE), channels), range=(0, 255)), "image")
        labels = self.values(Drawn(dtype="int64", classes=len(classes)), "label")
        splits = self.declared.splits.values()
        below = [split.prefix for split in splits if isinstance(split, Below)]
        folders = np.repeat(
            below if len(below) == len(counts) else [reader.folder] * len(counts), list(counts.values())
        )
        table = io.StringIO()
        lines = csv.writer(table, lineterminator="\n")
        lines.writerow(("file", "class"))
        suffix = ".png" if reader.white is None else ".tif"
        for row in range(self.rows):
            name = classes[labels[row]]
            path = f"{folders[row]}{'' if reader.labels or not name else f'{name}/'}{row:06}{suffix}"
            lines.writerow((path, name))
            yield path, _picture(pixels[row], reader)
        if reader.labels:
            yield reader.labels, table.getvalue().encode()

    def table(self, reader: TableReader) -> dict[str, bytes]:
        columns: dict[str, Values] = {}
        for field, column in reader.fields.items():
            drawn = self.declared.twin.get(field) or Drawn(dtype=column.dtype)
            shape = reader.shape_of(column) and (1,)
            for name in column.names:
                treatment = reader.columns.get(name)
                if treatment and treatment.values:
                    codes = self.values(Drawn(dtype="int64", classes=len(treatment.values)), name)
                    columns[name] = np.array(treatment.values)[codes]
                    continue
                columns[name] = self.values(drawn.model_copy(update={"shape": shape}), f"{field}/{name}").reshape(
                    self.rows
                )
        parts = np.array_split(np.arange(self.rows), len(reader.files))
        tables = [pa.table({name: each[part] for name, each in columns.items()}) for part in parts]
        return {
            path: _written(partial(pq.write_table, table)) for path, table in zip(reader.files, tables, strict=True)
        }

    def lines(self, words: Sequence[str], *, most: int | None = None, longest: int | None = None) -> list[bytes]:
        """Return one line per sample; if `most` is set, return lines with about `most` bytes, or words and line ends for a tokenizer.

        A line has fewer than `longest` words.
        """
        lines: list[bytes] = []
        size, known = 0, np.asarray(words)
        while (len(lines) < self.rows) if most is None else (size < most):
            several = min(int(self.random.integers(1, _MOST_WORDS)), (longest or _MOST_WORDS) - 1)
            chosen = self.random.choice(known, size=several) if len(known) else ()
            lines.append(" ".join(chosen).encode())
            size += (len(lines[-1]) if words is _WORDS else len(chosen)) + 1
        return lines

    def split(self, paths: Sequence[str], lines: Sequence[bytes]) -> dict[str, bytes]:
        parts = np.array_split(np.arange(len(lines)), len(paths))
        return {path: b"".join(lines[line] + b"\n" for line in part) for path, part in zip(paths, parts, strict=True)}


def _words_of(tokens: Tokens | None) -> Sequence[str]:
    """Return the words of generated text. Those of a synthetic tokenizer fill the declared vocabulary, so that every token can occur."""
    if tokens is None:
        return _WORDS
    named = {tokens.end, *([tokens.pad] if isinstance(tokens, PaddedTokens) else [])}
    words = chain((word for word in _WORDS if word not in named), (f"word{number}" for number in count()))
    return list(islice(words, max(0, tokens.vocabulary - len(named))))


def _tokenizer(tokens: Tokens | None) -> dict[str, bytes]:
    """Return the file of a tokenizer that has the declared vocabulary, and whose tokens are words; empty if `tokens` is None."""
    if tokens is None:
        return {}
    special = list(dict.fromkeys([tokens.end, *([tokens.pad] if isinstance(tokens, PaddedTokens) else [])]))
    ids = {token: number for number, token in enumerate([*special, *_words_of(tokens)])}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    document = {
        "version": "1.0",
        "added_tokens": [{"id": ids[token], "content": token, **flags, "special": True} for token in special],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": tokens.end},
    }
    return {tokens.tokenizer: json.dumps(document, ensure_ascii=False).encode()}


def _written(write: Callable[[io.BytesIO], object]) -> bytes:
    body = io.BytesIO()
    write(body)
    return body.getvalue()


def _picture(pixels: Values, reader: ImagesReader) -> bytes:
    """Encode pixels as PNG, or, if a white value is declared, which requires more than 8 bits, as TIFF of gray float32 values."""
    if reader.white is None:
        image = Image.fromarray(pixels[:, :, 0] if reader.mode == "L" else pixels)
        return _written(partial(image.save, format="PNG"))
    white = np.float32(reader.white)
    grays = np.minimum(pixels[:, :, 0].astype(np.float32) / np.float32(255) * white, white)
    return _written(partial(Image.fromarray(grays).save, format="TIFF"))
