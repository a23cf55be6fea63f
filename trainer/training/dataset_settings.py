"""Settings whose values follow from a dataset's declaration: fields, the shape of the input, the number of classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError
from trainer.base.suggestions import counted, listed
from trainer.data.declaration import sample_types
from trainer.data.reader import LinesReader, PaddedTokens, RawFiles, TableReader, TextReader
from trainer.training.settings import ClassificationSettings, RegressionSettings, SequenceSettings, VerificationSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trainer.data.declaration import Dataset
    from trainer.data.reader import Drawn

    Fits = Callable[[Drawn], bool]

INPUT, TARGET, SHAPE, CLASSES = "input_field", "target_field", "input_shape", "classes"
FEATURES, COUNTS = "input_features", "category_counts"
VOCABULARY, CONTEXT = "vocabulary", "context"
NUMBERS, CATEGORIES = "features", "categories"
"""The fields of a table that is published from one file."""
_CHANNELS: Final = 3
"""The number of axes of an image: channels, height, width."""


def _is_label(typed: Drawn) -> bool:
    return "int" in typed.dtype


def _is_number(typed: Drawn) -> bool:
    return typed.shape == () and typed.dtype != "bool"


def _has_axes(typed: Drawn) -> bool:
    return bool(typed.shape)


def _is_text(typed: Drawn) -> bool:
    return len(typed.shape) == 1 and typed.dtype in {"uint8", "int64"}


_NEEDS: Final[dict[type, dict[str, tuple[str, Fits]]]] = {
    ClassificationSettings: {TARGET: ("labels, integers", _is_label), INPUT: ("values with axes", _has_axes)},
    VerificationSettings: {TARGET: ("labels, integers", _is_label), INPUT: ("values with axes", _has_axes)},
    RegressionSettings: {TARGET: ("one number per sample", _is_number), INPUT: ("values with axes", _has_axes)},
    SequenceSettings: {INPUT: ("bytes or tokens of a text", _is_text)},
}
"""The required content of each task's fields, as text, and the function that checks it."""
_WITHOUT_TARGET: Final = (LinesReader, TextReader, RawFiles)
"""Readers whose samples have no field to predict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSettings:
    """The values of settings that a dataset determines, and notes on settings that must be edited by hand, by setting."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def settings_for(
    dataset: Dataset,
    defaults: Mapping[str, Any],
    *,
    task: type | None = None,
    like: str = "the experiment",
    has_input_fields: bool = False,
) -> DatasetSettings:
    """Return the values of an experiment's settings for a dataset; `defaults` are the experiment's own.

    `task` is the base class of the experiment's settings, or `None` if its steps do not read fields. If `has_input_fields`, the net does
    not use the setting `input_field`. Raise `DatasetError` if no field fits the task, or if the input has another number of axes than
    the default of `input_shape`.
    """
    result, types = DatasetSettings(values={"dataset": dataset.name}), sample_types(dataset)
    chosen: dict[str, str] = {}
    for name, (meaning, fits) in _needs_of(task).items():
        if name == INPUT and has_input_fields:
            continue
        fields = {} if name == TARGET and isinstance(dataset.reader, _WITHOUT_TARGET) else types
        found = [each for each in _candidates(fields, defaults.get(name), fits) if each not in chosen.values()]
        if not found:
            raise _misfit(dataset, f"no field can be the {name} of {like} ({meaning})", name)
        chosen[name] = found[0]
        if len(found) > 1:
            result.notes[name] = f"which of {listed(found)} it is"
        elif found[0] != defaults.get(name):
            result.values[name] = found[0]
    if COUNTS in defaults and isinstance(dataset.reader, TableReader):
        reader = dataset.reader
        result.values[COUNTS] = list(reader.codes_of(CATEGORIES)) if CATEGORIES in reader.fields else []
        numbers = types.get(NUMBERS)
        result.values[FEATURES] = numbers.shape[0] if numbers and numbers.shape else 0
    _fill_tokens(result, dataset, defaults)
    _fill_shape(result, dataset, defaults, given=types.get(chosen.get(INPUT, str(defaults.get(INPUT, "")))), like=like)
    if CLASSES in defaults:
        counts = [typed.classes for typed in types.values() if typed and typed.classes]
        target = types.get(chosen.get(TARGET, str(defaults.get(TARGET, ""))))
        count = (target and target.classes) or (counts[0] if len(counts) == 1 else None)
        _fill(result, CLASSES, count, "how many classes the dataset has")
    return result


def _needs_of(task: type | None) -> dict[str, tuple[str, Fits]]:
    return next((needs for kind, needs in _NEEDS.items() if task is not None and issubclass(task, kind)), {})


def _candidates(types: Mapping[str, Drawn | None], default: str | None, fits: Fits) -> list[str]:
    """Return the fields that fit or have an unknown type; only the default if it is among them."""
    found = [name for name, typed in types.items() if typed is None or fits(typed)]
    return [default] if default in found else found


def _misfit(dataset: Dataset, reason: str, setting: str) -> DatasetError:
    fields = listed(f"{name} {typed}" if typed else name for name, typed in sample_types(dataset).items())
    return DatasetError(
        f"dataset {dataset.name}: {reason}; the fields of a sample are {fields}",
        hint=f"use --like with an experiment for such samples; or omit --dataset, and edit dataset and {setting} in the copy",
    )


def _fill_tokens(result: DatasetSettings, dataset: Dataset, defaults: Mapping[str, Any]) -> None:
    """Add the size of the vocabulary, `None` for bytes, and the window as the context: for tokens, or if it exceeds the default context."""
    reader = dataset.reader
    tokens = reader.tokens if isinstance(reader, LinesReader | TextReader) else None
    if VOCABULARY in defaults and (tokens or defaults[VOCABULARY] is not None):
        result.values[VOCABULARY] = tokens.vocabulary if tokens else None
    window = (
        reader.window if isinstance(reader, TextReader) else tokens.window if isinstance(tokens, PaddedTokens) else None
    )
    if CONTEXT in defaults and window and (tokens or window > defaults[CONTEXT]):
        result.values[CONTEXT] = window


def _fill_shape(
    result: DatasetSettings, dataset: Dataset, defaults: Mapping[str, Any], *, given: Drawn | None, like: str
) -> None:
    """Add the settings that hold the shape of the input, or the size of one of its axes."""
    shape, before = given.shape if given else (), defaults.get(SHAPE)
    if shape and isinstance(before, list | tuple) and len(before) != len(shape):
        raise _misfit(
            dataset,
            f"input_shape {list(before)} of {like} has {counted(len(before), 'number')}, but the input is {given}",
            SHAPE,
        )
    lengths = dict(_lengths(shape))
    for name in (SHAPE, *_LENGTHS):
        if name in defaults and name not in result.values:
            _fill(result, name, lengths.get(name), "the dataset does not declare the shape of its input, or it varies")


_LENGTHS: Final = ("input_channels", "input_height", "input_width", "input_features")


def _lengths(shape: tuple[int | str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the settings that a shape determines; `None` for lengths that vary."""
    known = [None if length == "any" else length for length in shape]
    if known:
        yield SHAPE, None if None in known else known
    if len(known) == _CHANNELS:
        yield from zip(_LENGTHS, known, strict=False)
    if len(known) == 1:
        yield "input_features", known[0]


def _fill(result: DatasetSettings, name: str, value: Any, note: str) -> None:
    if value is None:
        result.notes[name] = note
    else:
        result.values[name] = value
