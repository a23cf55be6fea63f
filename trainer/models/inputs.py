"""Read a user's files as a dataset is read, without targets: the inputs of a net.

The reader's preprocessing applies: decoding and resizing of pictures; of a table its dialect, its categories and the values that replace
missing ones.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
import torch
from PIL import Image

from trainer.base.errors import DatasetError
from trainer.base.suggestions import did_you_mean, listed, short
from trainer.data.declaration import Draft, sample_types
from trainer.data.file_formats import parse_head
from trainer.data.files import FolderFiles
from trainer.data.reader import Arrays, Images, Table
from trainer.data.tables.convert import write_parquet
from trainer.data.tables.source_table import FORMATS, SourceColumn
from trainer.data.tables.table_file import blocks_of, columns_of
from trainer.data.tables.text_rows import TextBlock
from trainer.training.readers import Pick, open_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trainer.data.declaration import Dataset
    from trainer.data.reader import Typed
    from trainer.data.tables.source_table import SourceTable
    from trainer.training.readers import Batch, Samples

BATCH: Final = 64
"""The most samples of a batch."""
_IN_PYTHON: Final = "in Python: runs.load(RUN).net() returns the net"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputReader:
    """Reads the input fields of a net from files."""

    dataset: Dataset
    fields: tuple[str, ...]
    """The fields that the net takes."""
    specs: Mapping[str, Typed] = field(default_factory=dict)
    """Types and shapes of the fields, if they are known besides the dataset's declaration."""

    @property
    def is_one_sample(self) -> bool:
        """Whether a file is one sample."""
        return isinstance(self.dataset.reader, Images)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes of the dataset, by number; empty if it declares none."""
        match self.dataset.reader:
            case Images(classes=classes):
                return classes
            case Table(columns=columns):
                return next((each.values for each in columns.values() if each.values and each.first == 0), ())
            case _:
                return ()

    def of_file(self, file: Path) -> Iterator[Batch]:
        """Yield the samples of a file in batches of the input fields. Raise `DatasetError` if it cannot be read as the dataset."""
        if not file.is_file():
            raise DatasetError(f"{file} is not a file", hint=f"list the files: ls {shlex.quote(str(file.parent))}")
        match self.dataset.reader:
            case Images() as reader:
                batches = self._pictures(reader, file)
            case Table() as reader:
                source = self._source()
                batches = self._table(reader, columns_of(file, source), source, file)
            case Arrays():
                batches = self._arrays(file)
            case reader:
                message = (
                    f"{self.dataset.title} has the reader {reader.kind}, for which there are no predictions of files"
                )
                raise DatasetError(message, hint=_IN_PYTHON)
        for batch in batches:
            if missing := next((name for name in self.fields if name not in batch), None):
                raise DatasetError(f"{file} has no field {missing!r}", hint=did_you_mean(missing, batch))
            yield {name: batch[name] for name in self.fields}

    def of_bytes(self, data: bytes, *, name: str) -> Iterator[Batch]:
        """Yield the samples of a file's content in batches; `name` stands for the file in errors. Raise as `of_file` does."""
        if isinstance(self.dataset.reader, Arrays):
            self._require_no_picture(io.BytesIO(data), name)
            parse_head(data, size=len(data), where=name)
            yield from self._arrays(Path(name), io.BytesIO(data))
            return
        with tempfile.TemporaryDirectory(prefix="reprise-predict-") as folder:
            file = Path(folder) / f"request-body{self.suffix}"
            file.write_bytes(data)
            with _about(Path(name), file.name), _about(Path(name), str(file)):
                yield from self.of_file(file)

    @property
    def suffix(self) -> str:
        """The suffix of a file whose content has the dataset's format: pictures are recognized by their content."""
        source = self.dataset.source_table
        return ".png" if source is None else next(suffix for suffix, each in FORMATS.items() if each == source.format)

    def of_rows(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[Batch]:
        """Yield rows of a table, a mapping from columns to JSON values each, in batches. Raise `DatasetError` with the row's number."""
        reader = self.dataset.reader
        if not isinstance(reader, Table):
            raise DatasetError(f"{self.dataset.title} is not a table", hint=f"its reader is {reader.kind}")
        source = self._source()
        names = list(dict.fromkeys(name for row in rows for name in row))
        whole = {name for name, each in source.columns.items() if each.type == "whole"}
        columns = [
            tuple(_cell(row.get(name), number, name, is_whole=name in whole) for number, row in enumerate(rows))
            for name in names
        ]
        typed = source.model_copy(
            update={"decimal": ".", "thousands": "", "missing": (*source.missing, ""), "file": "the request"}
        )
        block = TextBlock(lines=list(range(len(rows))), columns=columns)
        yield from self._table(reader, names, typed, Path("the request"), blocks=[block])

    def _source(self) -> SourceTable:
        if self.dataset.source_table is None:
            message = f"{self.dataset.title} was published as Parquet without a description of its source"
            raise DatasetError(message, hint=_IN_PYTHON)
        return self.dataset.source_table

    def _pictures(self, reader: Images, file: Path) -> Iterator[Batch]:
        own = reader.model_copy(update={"folder": "", "labels": None})
        name = f"{reader.classes[0]}/{file.name}"  # the class is not used: it is the target
        with tempfile.TemporaryDirectory(prefix="reprise-predict-") as folder:
            link = Path(folder) / name
            link.parent.mkdir(parents=True)
            link.symlink_to(file.resolve())
            draft = Draft(name=self.dataset.name, reader=own)
            with _about(file, name):
                yield open_samples(draft, FolderFiles(Path(folder), [name])).batch([Pick(index=0)])

    def _table(
        self,
        reader: Table,
        names: Sequence[str],
        source: SourceTable,
        file: Path,
        *,
        blocks: Iterable[TextBlock] | None = None,
    ) -> Iterator[Batch]:
        fields = {name: each for name, each in reader.fields.items() if name in self.fields}
        needed = [name for each in fields.values() for name in each.names]
        if missing := [name for name in needed if name not in names]:
            message = f"{file} has no column {missing[0]!r}; {self.dataset.title} has {listed(needed)}"
            raise DatasetError(message, hint=did_you_mean(missing[0], names))
        ignored = SourceColumn(type="text", read="left out")
        own = source.model_copy(
            update={"columns": {name: source.columns[name] if name in needed else ignored for name in names}}
        )
        with tempfile.TemporaryDirectory(prefix="reprise-predict-") as folder:
            write_parquet(own, blocks_of(file, own) if blocks is None else blocks, Path(folder) / "rows.parquet")
            treated = reader.model_copy(update={"files": ("rows.parquet",), "fields": fields})
            draft = Draft(name=self.dataset.name, reader=treated)
            with _about(file, "rows.parquet"):
                yield from _in_batches(open_samples(draft, FolderFiles(Path(folder), ["rows.parquet"])))

    def _arrays(self, file: Path, content: io.BytesIO | None = None) -> Iterator[Batch]:
        """Yield the samples of an array; `content` is that of the file if it is not on the disk."""
        declared = sample_types(self.dataset).get(self.fields[0])
        if content is None:
            with file.open("rb") as body:
                self._require_no_picture(body, os.fspath(file))
        try:
            values = np.load(content or file, mmap_mode=None if content else "r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as fault:
            message = f"{file} cannot be read as an array: {short(str(fault))}"
            raise DatasetError(message, hint=f"{self.dataset.title} consists of arrays: name a .npy file") from fault
        if len(self.fields) > 1:
            message = f"the net takes the fields {listed(self.fields)}; one array holds one of them"
            raise DatasetError(message, hint=_IN_PYTHON)
        if declared is not None:
            values = _checked(values, declared.dtype, declared.shape, file=file)
        for first in range(0, len(values), BATCH):
            yield {self.fields[0]: torch.from_numpy(np.array(values[first : first + BATCH]))}

    def _require_no_picture(self, body: BinaryIO, name: str) -> None:
        """Raise `DatasetError` for a picture: neither the range of the dataset's values nor which color is the largest is recorded."""
        try:
            with Image.open(body) as image:
                found = f"a picture ({image.format}, {image.height}x{image.width}, {image.mode})"
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return
        declared = self.specs.get(self.fields[0]) or sample_types(self.dataset).get(self.fields[0])
        about = f" {declared.dtype} [{', '.join(map(str, declared.shape))}]" if declared else ""
        message = f"{name} is {found}; {self.dataset.title} consists of arrays{about}, and how they were made from pictures is not recorded"
        raise DatasetError(message, hint=_conversion(name, self.dataset.name, declared.shape if declared else ()))


def _conversion(name: str, dataset: str, shape: Sequence[int | str]) -> str:
    """Return the hint that converts a picture into an array `[1, *shape]`, whose values the user has to adapt."""
    advice = f"save it as a .npy file with the range and the colors of the dataset: reprise data show {dataset}"
    match shape:
        case (int(height), int(width)):
            mode, values = "L", "a[None]"
        case (1, int(height), int(width)):
            mode, values = "L", "a[None, None]"
        case (3, int(height), int(width)):
            mode, values = "RGB", "a.transpose(2, 0, 1)[None]"
        case _:
            return advice
    read = f'Image.open({json.dumps(name)}).convert("{mode}").resize(({width}, {height}))'
    code = f'a = np.asarray({read}, "float32") / 255; np.save("sample.npy", {values})'
    return (
        f"{advice}; from 0 to 1: {shlex.join(['python3', '-c', f'import numpy as np; from PIL import Image; {code}'])}"
    )


def _in_batches(samples: Samples) -> Iterator[Batch]:
    for first in range(0, len(samples), BATCH):
        yield samples.batch([Pick(index=row) for row in range(first, min(first + BATCH, len(samples)))])


def _cell(value: Any, row: int, name: str, *, is_whole: bool) -> str:
    """Return a JSON value as the text of a cell; 2.0 is 2 in a column of whole numbers, which may be the names of categories."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if is_whole and isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    message = f"row {row}, column {name!r} is a {type(value).__name__}; expected a string, a number or null"
    raise DatasetError(message, hint="send one value for each column")


def _checked(values: Any, dtype: str, shape: Sequence[int | str], *, file: Path) -> Any:
    """Return samples `[n, *shape]`; one sample without the first axis is one row. Raise `DatasetError` for another type or shape."""
    text = f"{dtype} [{', '.join(map(str, shape))}]"
    found = f"{values.dtype} [{', '.join(map(str, values.shape))}]"

    def fits(axes: Sequence[int]) -> bool:
        return len(axes) == len(shape) and all(own in {"any", axis} for own, axis in zip(shape, axes, strict=True))

    if str(values.dtype) == dtype and fits(values.shape):
        return values[None]
    if str(values.dtype) != dtype or not fits(values.shape[1:]):
        hint = f"save the samples as they were published: an array {dtype} [n, {', '.join(map(str, shape))}]"
        raise DatasetError(f"{file} is {found}; expected samples of {text}", hint=hint)
    return values


@contextmanager
def _about(file: Path, name: str) -> Iterator[None]:
    """Name the user's file in an error about the file that was made for the reader."""
    try:
        yield
    except DatasetError as fault:
        raise DatasetError(fault.message.replace(name, os.fspath(file)), hint=fault.hint) from fault
