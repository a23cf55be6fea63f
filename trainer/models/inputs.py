"""Read a user's files as a dataset is read, without targets: the inputs of a net.

The reader's preprocessing applies: decoding and resizing for pictures; the dialect, the categories and the replacements of missing values
for a table. A net whose inputs are not the fields of a dataset takes arrays.
"""

from __future__ import annotations

import io
import os
import shlex
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
import torch

from trainer.base.errors import DatasetError
from trainer.base.suggestions import did_you_mean, listed, nearest
from trainer.data.declaration import Draft, sample_types
from trainer.data.file_formats import parse_head
from trainer.data.files import FolderFiles
from trainer.data.reader import ArraysReader, ImagesReader, TableReader, Treatment
from trainer.data.tables.convert import write_parquet
from trainer.data.tables.source_table import FORMATS, SourceColumn
from trainer.data.tables.table_file import blocks_of, columns_of
from trainer.models.array_files import arrays_in, require_no_picture
from trainer.models.input_errors import ROWS, RowNames, input_errors, picture_hint, table_hint
from trainer.models.table_rows import readable_blocks, rows_as_texts
from trainer.training.failures import first_line
from trainer.training.readers import Pick, open_samples
from trainer.training.readers.images import decode_pixels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trainer.data.declaration import Dataset
    from trainer.data.reader import Reader, Typed
    from trainer.data.tables.source_table import SourceTable
    from trainer.data.tables.text_rows import TextBlock
    from trainer.training.readers import Batch, Samples

BATCH: Final = 64
"""The maximum number of samples of a batch."""
FAILURES: Final = (RuntimeError, AssertionError, IndexError, ValueError, TypeError)
"""Exceptions that a net raises for values that it does not support."""
_IN_PYTHON: Final = "in Python: runs.load(RUN).net() returns the net"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputReader:
    """Reads the input fields of a net from files."""

    dataset: Dataset | None
    """The dataset whose reader reads the files. `None` if the net's inputs are not the fields of a dataset: then files hold arrays."""
    fields: tuple[str, ...]
    """The fields that the net takes."""
    specs: Mapping[str, Typed] = field(default_factory=dict)
    """Types and shapes of fields. They take precedence over the dataset's declaration."""

    @property
    def kind(self) -> Reader | None:
        """The dataset's reader; `None` without a dataset."""
        return self.dataset.reader if self.dataset else None

    @property
    def is_one_sample(self) -> bool:
        """Whether a file is one sample."""
        return isinstance(self.kind, ImagesReader)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes of the dataset, by number; empty if it declares none."""
        match self.kind:
            case ImagesReader(classes=classes):
                return classes
            case TableReader(columns=columns):
                return next((each.values for each in columns.values() if each.values and each.first == 0), ())
            case _:
                return ()

    def of_file(self, file: Path) -> Iterator[Batch]:
        """Yield the samples of a file in batches of the input fields. Raise `DatasetError` if the file cannot be read as the dataset."""
        if not file.is_file():
            raise DatasetError(f"{file} is not a file", hint=f"list the files: ls {shlex.quote(str(file.parent))}")
        try:
            for batch in self._batches(file):
                if missing := next((name for name in self.fields if name not in batch), None):
                    raise DatasetError(f"{file} has no field {missing!r}", hint=did_you_mean(missing, batch))
                yield {name: batch[name] for name in self.fields}
        except OSError as fault:
            message = f"{file} cannot be read: {fault.strerror or fault}"
            raise DatasetError(message, hint="make it readable: chmod +r FILE") from fault

    def of_bytes(self, data: bytes, *, name: str) -> Iterator[Batch]:
        """Yield the samples of a file's content in batches; `name` stands for the file in errors. Raise as `of_file` does."""
        match self.kind:
            case None | ArraysReader():
                self._require_no_picture(io.BytesIO(data), name)
                parse_head(data, size=len(data), where=name)
                yield from self._arrays(Path(name), io.BytesIO(data))
            case ImagesReader() as reader:
                yield self._picture(reader, data, name)
            case _:
                with tempfile.TemporaryDirectory(prefix="reprise-predict-") as folder:
                    file = Path(folder) / f"request-body{self.suffix}"
                    file.write_bytes(data)
                    with input_errors(replaced={str(file): name, file.name: name}):
                        yield from self.of_file(file)

    @property
    def suffix(self) -> str:
        """The suffix of files in the format of the dataset's table. Without a table, it is `.png` for all formats of pictures."""
        source = self.dataset.source_table if self.dataset else None
        return ".png" if source is None else next(suffix for suffix, each in FORMATS.items() if each == source.format)

    def of_rows(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[Batch]:
        """Yield rows of a table, each a mapping from columns to JSON values, in batches. Raise `DatasetError` if a row does not fit."""
        if not isinstance(reader := self.kind, TableReader):
            hint = f"its reader is {reader.kind}" if reader else "send tensors"
            raise DatasetError(f"{self.title} does not take rows of a table", hint=hint)
        source = self._source()
        names, block = rows_as_texts(rows, source, reader.columns, needed=self._columns(reader))
        hint = f"correct it: the texts of a row are read as the cells of {source.file} were"
        with input_errors(hint):
            yield from self._table(reader, names, source, Path("the request"), blocks=[block])

    @property
    def title(self) -> str:
        """The name of the dataset, or of the net if it has none, for messages."""
        return self.dataset.title if self.dataset else "the net"

    @property
    def _expected(self) -> str:
        """The expected input, for errors about files that are not arrays."""
        if self.dataset is None:
            return f"the net takes arrays: {listed(str(self._declared(name) or name) for name in self.fields)}"
        declared = self._declared(self.fields[0])
        about = f" {declared.dtype} [{', '.join(map(str, declared.shape))}]" if declared else ""
        return f"{self.title} consists of arrays{about}"

    def _declared(self, name: str) -> Typed | None:
        return self.specs.get(name) or (sample_types(self.dataset).get(name) if self.dataset else None)

    def _batches(self, file: Path) -> Iterator[Batch]:
        match self.kind:
            case None | ArraysReader():
                with file.open("rb") as body:
                    self._require_no_picture(body, os.fspath(file))
                yield from self._arrays(file)
            case ImagesReader() as reader:
                yield self._picture(reader, file.read_bytes(), os.fspath(file))
            case TableReader() as reader:
                source = self._source()
                with input_errors(table_hint(source)):
                    yield from self._table(reader, columns_of(file, source), source, file)
            case reader:
                message = f"{self.title} has the reader {reader.kind}, which does not support predictions for files"
                raise DatasetError(message, hint=_IN_PYTHON)

    def _source(self) -> SourceTable:
        if self.dataset is None or self.dataset.source_table is None:
            message = f"{self.title} was published as Parquet without a description of its source"
            raise DatasetError(message, hint=_IN_PYTHON)
        return self.dataset.source_table

    def _picture(self, reader: ImagesReader, body: bytes, name: str) -> Batch:
        with input_errors(picture_hint(reader, dataset=self.title)):
            return {"image": torch.from_numpy(decode_pixels(body, reader, where=name))[None]}

    def _columns(self, reader: TableReader) -> list[str]:
        return [name for field, each in reader.fields.items() if field in self.fields for name in each.names]

    def _table(
        self,
        reader: TableReader,
        names: Sequence[str],
        source: SourceTable,
        file: Path,
        *,
        blocks: Iterable[TextBlock] | None = None,
    ) -> Iterator[Batch]:
        needed = self._columns(reader)
        if missing := [name for name in needed if name not in names]:
            message = f"{file} has no column {missing[0]!r}; {self.title} has {listed(needed)}"
            near = nearest(missing[0], set(names) - set(needed), most=1)
            hint = f"rename column {near[0]!r}" if near else f"add the column; the columns are {listed(names)}"
            raise DatasetError(message, hint=hint)
        ignored = SourceColumn(type="text", read="left out")
        columns = {name: source.columns[name] if name in needed else ignored for name in names}
        own = source.model_copy(update={"columns": columns, "missing": ("",), "file": file.name})
        texts = blocks_of(file, own) if blocks is None else blocks
        with tempfile.TemporaryDirectory(prefix="reprise-predict-") as folder:
            read = [name if name in needed else None for name in names]
            readable = readable_blocks(texts, read, source, reader.columns, file=file.name)
            rows = RowNames(self._without_missing(readable, read, reader, file))
            write_parquet(own, rows, Path(folder) / ROWS)
            fields = {name: each for name, each in reader.fields.items() if name in self.fields}
            treated = reader.model_copy(update={"files": (ROWS,), "fields": fields})
            draft = Draft(name="rows", reader=treated)
            with rows.in_errors(file):
                yield from _in_batches(open_samples(draft, FolderFiles(Path(folder), [ROWS])))

    def _without_missing(
        self, blocks: Iterable[TextBlock], names: Sequence[str | None], reader: TableReader, file: Path
    ) -> Iterator[TextBlock]:
        """Yield the blocks. Raise `DatasetError` for an empty cell of a column of numbers in which the dataset has no missing values."""
        allowed = self.dataset.allow_nan if self.dataset else ()
        fields = [each for name, each in reader.fields.items() if name not in allowed]
        treated = {name: reader.columns.get(name, Treatment()) for each in fields for name in each.names}
        complete = {name for name, each in treated.items() if each.missing == "reject" and not each.values}
        for block in blocks:
            for name, cells in zip(names, block.columns, strict=True):
                if name in complete and "" in cells:
                    line = f"{block.unit} {block.lines[cells.index('')]} of {file}"
                    message = f"{line}: column {name!r} is missing, and {self.title} has no missing values in it"
                    raise DatasetError(message, hint="fill the value, or leave the row out")
            yield block

    def _arrays(self, file: Path, content: io.BytesIO | None = None) -> Iterator[Batch]:
        """Yield the samples of arrays in batches; `content` is the file's content if the file is not on the disk."""
        declared = {name: each for name in self.fields if (each := self._declared(name)) is not None}
        arrays = arrays_in(file, self.fields, declared, expected=self._expected, content=content)
        for first in range(0, len(next(iter(arrays.values()))), BATCH):
            yield {
                name: torch.from_numpy(np.array(each[first : first + BATCH], order="C"))
                for name, each in arrays.items()
            }

    def _require_no_picture(self, body: BinaryIO, name: str) -> None:
        dataset, declared = self.dataset.name if self.dataset else "DATASET", self._declared(self.fields[0])
        require_no_picture(body, name, expected=self._expected, dataset=dataset, declared=declared)


def net_failed(owner: str, fault: Exception) -> DatasetError:
    """Return the error for a net that raised for some values."""
    message = f"the net of {owner} fails for these values: {type(fault).__name__}{first_line(fault)}"
    return DatasetError(message, hint="send values and lengths as in the dataset that it was trained on")


def _in_batches(samples: Samples) -> Iterator[Batch]:
    for first in range(0, len(samples), BATCH):
        yield samples.batch([Pick(index=row) for row in range(first, min(first + BATCH, len(samples)))])
