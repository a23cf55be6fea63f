"""The mean or the median of a column in the training split, which replaces missing values: computed when the table is published."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from trainer.base.errors import DatasetError
from trainer.data.reader import TableField, TableReader
from trainer.data.splits import select
from trainer.training.readers.tables import TableRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.data.declaration import Described
    from trainer.data.files import Files
    from trainer.training.readers.samples import Values


def fit_fills(declared: Described, files: Files) -> dict[str, float]:
    """Return the number that replaces a missing value, by column.

    Raise `DatasetError` if the split train is not declared, or has no value of such a column.
    """
    reader = declared.reader
    if not isinstance(reader, TableReader):
        return {}
    names = [name for name, each in reader.columns.items() if each.missing in {"mean", "median", "indicator"}]
    return {name: _fill(name, reader, declared, files) for name in names}


def _fill(name: str, reader: TableReader, declared: Described, files: Files) -> float:
    if "train" not in declared.splits:
        how = reader.columns[name].missing
        message = f"dataset {declared.name} has no split train; column {name!r} with missing = {how!r} needs it"
        raise DatasetError(message, hint="declare the split, for example --split train=0%:80%")
    plain = TableReader(kind="table", files=reader.files, fields={name: TableField(column=name, dtype="float64")})
    samples = TableRows(plain, files)
    rows = np.asarray(select("train", declared.splits, samples.layout, dataset=declared.name), dtype=np.int64)
    known = (block[~np.isnan(block)] for block in _values(samples, name, rows))
    value = _median(known) if reader.columns[name].missing == "median" else _mean(known)
    if value is None:
        message = f"dataset {declared.name}: split train has no value of column {name!r}"
        raise DatasetError(message, hint=f"--read '{name}=skip'")
    return value


def _values(samples: TableRows, name: str, rows: Values) -> Iterator[Values]:
    for block in samples.blocks(rows):
        if name in block.fields:
            yield block.fields[name]


def _mean(blocks: Iterator[Values]) -> float | None:
    """Return the mean, or None without values. The sum of a block is rounded once, so that the mean is the same on every machine."""
    total, count = 0.0, 0
    for block in blocks:
        total, count = total + math.fsum(block.tolist()), count + len(block)
    return total / count if count else None


def _median(blocks: Iterator[Values]) -> float | None:
    """Return the median, or None without values. The computation takes 8 bytes of memory per row."""
    values = np.concatenate([*blocks, np.empty(0)])
    return float(np.median(values)) if len(values) else None
