"""The first samples of each split as text, for people: the values that training reads, with names of columns, categories and classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.data.reader import ImagesReader, LinesReader, TableReader, TextReader
from trainer.training.readers import Pick

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from trainer.data.declaration import Dataset
    from trainer.training.readers import Sample, Samples
    from trainer.training.readers.samples import Rows

EACH: Final = 12
"""Number of samples that are shown per split."""
_MOST_COLUMNS: Final = 40
_NUMBERS: Final = 8
"""Maximum number of elements of a tensor that are shown."""
_LETTERS: Final = 500


def examples_of(
    dataset: Dataset, samples: Samples, splits: Mapping[str, Rows]
) -> dict[str, tuple[dict[str, str], ...]]:
    """Return the first samples of each split, as text by column or field; empty for pictures, which are drawn instead."""
    if isinstance(dataset.reader, ImagesReader):
        return {}
    return {
        split: tuple(_example(dataset, samples, samples.sample(Pick(index=int(index)))) for index in rows[:EACH])
        for split, rows in splits.items()
    }


def _example(dataset: Dataset, samples: Samples, sample: Sample) -> dict[str, str]:
    reader = dataset.reader
    if isinstance(reader, TableReader):
        cells = dict(_cells(reader, sample))
        return dict(list(cells.items())[:_MOST_COLUMNS])
    is_text = isinstance(reader, LinesReader | TextReader)
    return {name: _described(each, samples, name, is_text=is_text) for name, each in sample.items()}


def _cells(reader: TableReader, sample: Sample) -> Iterator[tuple[str, str]]:
    """Yield the value of each column of a row; a field with indicators of missing values is yielded as a whole."""
    for field, column in reader.fields.items():
        values = sample[field].reshape(-1)
        names = column.names
        if len(values) != len(names):
            yield field, _tensor(sample[field])
            continue
        for name, value in zip(names, values.tolist(), strict=True):
            yield name, _category(reader, name, value)


def _category(reader: TableReader, column: str, value: float) -> str:
    """Return the category whose code is `value`, or the number if there is no such category."""
    treatment = reader.columns.get(column)
    if treatment is not None and treatment.values:
        position = int(value) - treatment.first
        if 0 <= position < len(treatment.values):
            return treatment.values[position]
    return _number(value)


def _described(value: Tensor, samples: Samples, field: str, *, is_text: bool) -> str:
    if value.ndim == 0:
        number = value.item()
        is_class = field == "label" and 0 <= number < len(samples.classes)
        return samples.classes[int(number)] if is_class else _number(number)
    if is_text and value.ndim == 1 and not value.is_floating_point():
        return samples.alphabet.decode(value[: 4 * _LETTERS].tolist())[:_LETTERS]
    return _tensor(value)


def _tensor(value: Tensor) -> str:
    flat = value.reshape(-1)
    some = ", ".join(_number(each) for each in flat[:_NUMBERS].tolist())
    shape = "x".join(map(str, value.shape))
    return f"[{some}]" if len(flat) <= _NUMBERS else f"{shape}: {some}, ..."


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
