"""The golden inputs of a package as files that a user could have: pictures, a table, or arrays.

A reader's decoding and conversion cannot be inverted in general. So each file is read back here, and is used only if the result is
bit-identical to the golden inputs.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from trainer.base.errors import DatasetError, PackageError
from trainer.data.reader import ArraysReader, ImagesReader, TableReader
from trainer.data.tables.cells import number_text
from trainer.models.export import same_bits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from trainer.data.reader import Treatment
    from trainer.data.tables.source_table import SourceColumn, SourceTable
    from trainer.models.inputs import InputReader
    from trainer.training.readers import Batch

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenFile:
    """A file with golden samples."""

    name: str
    body: bytes
    samples: slice
    """Its samples among the golden samples."""


def golden_files(reader: InputReader, inputs: Mapping[str, Tensor]) -> list[GoldenFile]:
    """Return files that `reader` reads as `inputs`, bit-identical. Raise `PackageError` with the reason if no such files can be written."""
    kind = reader.kind
    match kind:
        case ImagesReader():
            files = list(_pictures(inputs["image"])) if "image" in inputs else []
        case TableReader():
            files = [_table(reader, kind, inputs)]
        case None | ArraysReader():
            files = [_arrays(inputs)]
        case _:
            raise _no_files(f"the reader {kind.kind} does not support predictions for files")
    if not files:
        raise _no_files(f"no file holds the inputs {', '.join(inputs)}")
    for each in files:
        _require_same(reader, each, inputs)
    return files


def _arrays(inputs: Mapping[str, Tensor]) -> GoldenFile:
    body, arrays = io.BytesIO(), {name: each.numpy() for name, each in inputs.items()}
    if len(arrays) == 1:
        np.save(body, next(iter(arrays.values())))
        return GoldenFile(name="samples.npy", body=body.getvalue(), samples=slice(None))
    np.savez(body, **arrays)  # type: ignore[arg-type] # mypy matches the arrays with the parameter `allow_pickle`
    return GoldenFile(name="samples.npz", body=body.getvalue(), samples=slice(None))


def _require_same(reader: InputReader, file: GoldenFile, inputs: Mapping[str, Tensor]) -> None:
    try:
        batches = list(_read(reader, file))
    except DatasetError as fault:
        raise _no_files(fault.message) from fault
    for name, expected in inputs.items():
        found = torch.cat([each[name] for each in batches])
        wanted = expected[file.samples]
        if (found.dtype, found.shape) != (wanted.dtype, wanted.shape) or not same_bits(wanted, found):
            raise _no_files(f"{name} is not bit-identical after it is written to {file.name} and read back")


def _read(reader: InputReader, file: GoldenFile) -> Iterator[Batch]:
    if file.name.endswith(".npz"):  # the body of a request cannot be a .npz file
        with tempfile.TemporaryDirectory(prefix="reprise-golden-") as folder:
            path = Path(folder) / file.name
            path.write_bytes(file.body)
            yield from reader.of_file(path)
    else:
        yield from reader.of_bytes(file.body, name=file.name)


def _pictures(images: Tensor) -> Iterator[GoldenFile]:
    """Yield a PNG file for each of the images `[samples, channels, height, width]`."""
    for number, image in enumerate(images):
        values = image.permute(1, 2, 0)
        whole = values if image.dtype == torch.uint8 else (values.double() * 255).round().clamp(0, 255).to(torch.uint8)
        if (mode := _MODES.get(image.shape[0])) is None:
            raise _no_files(f"a PNG picture cannot have {image.shape[0]} channels")
        body = io.BytesIO()
        Image.fromarray(whole.numpy().squeeze(2) if mode == "L" else whole.numpy(), mode=mode).save(body, "PNG")
        yield GoldenFile(name=f"{number}.png", body=body.getvalue(), samples=slice(number, number + 1))


def _table(reader: InputReader, table: TableReader, inputs: Mapping[str, Tensor]) -> GoldenFile:
    source = reader.dataset.source_table if reader.dataset else None
    if source is None:
        raise _no_files("the dataset does not describe the file from which it was published")
    cells = {name: each for field in inputs for name, each in _columns(table, field, inputs[field], source)}
    count = len(next(iter(inputs.values())))
    rows = {name: cells.get(name, [""] * count) for name in source.columns}
    try:
        body = _written(rows, source)
    except (csv.Error, UnicodeError) as fault:
        raise _no_files(f"the table cannot be written: {fault}") from fault
    return GoldenFile(name=f"rows{reader.suffix}", body=body, samples=slice(None))


def _columns(table: TableReader, field: str, values: Tensor, source: SourceTable) -> Iterator[tuple[str, list[str]]]:
    """Yield each column of a field with its cells as text. A reader reads them as `values`, `[samples]` or `[samples, columns]`."""
    column = table.fields[field]
    matrix = values.reshape(len(values), -1).tolist()
    indicated, count = table.indicated(column), len(column.names)
    for number, name in enumerate(column.names):
        flag = count + indicated.index(name) if name in indicated else None
        texts = [_cell(row[number], source.columns[name], table.columns.get(name), source) for row in matrix]
        yield (
            name,
            [
                _missing(source) if flag is not None and row[flag] else text
                for row, text in zip(matrix, texts, strict=True)
            ],
        )


def _cell(value: Any, column: SourceColumn, treatment: Treatment | None, source: SourceTable) -> str:
    if treatment and treatment.values:
        code = int(value) - treatment.first
        return treatment.values[code] if code >= 0 else _missing(source) if value == 0 else _unknown(treatment.values)
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN
        return _missing(source)
    if column.read == "date":
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=value)
        plain = moment if column.zoned else moment.replace(tzinfo=None)
        return moment.strftime(column.date) if column.date else plain.isoformat(" ")
    return number_text(int(value) if column.type == "whole" else float(value), decimal=source.decimal)


def _missing(source: SourceTable) -> str:
    return "" if "" in source.missing or not source.missing else source.missing[0]


def _unknown(values: Sequence[str]) -> str:
    return "x" * (1 + max(map(len, values)))


def _written(columns: Mapping[str, Sequence[str]], source: SourceTable) -> bytes:
    rows = zip(*columns.values(), strict=True)
    match source.format:
        case "csv":
            return _csv([*([list(columns)] if source.header else []), *rows], source).encode(source.encoding)
        case "json-lines":
            return "".join(f"{json.dumps(dict(zip(columns, row, strict=True)))}\n" for row in rows).encode()
    table, body = pa.table({name: list(cells) for name, cells in columns.items()}), io.BytesIO()
    if source.format == "parquet":
        pq.write_table(table, body)
    else:
        with pa.ipc.new_file(body, table.schema) as writer:
            writer.write_table(table)
    return body.getvalue()


def _csv(rows: Sequence[Sequence[str]], source: SourceTable) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=source.delimiter,
        quotechar=source.quote or None,
        quoting=csv.QUOTE_MINIMAL if source.quote else csv.QUOTE_NONE,
    )
    writer.writerows(rows)
    return text.getvalue()


def _no_files(reason: str) -> PackageError:
    return PackageError(reason, hint="send tensors to `reprise serve`")
