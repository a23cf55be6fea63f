"""Conversion of a table column to the declared dtype, without rounding of integers, wraparound or overflow.

A type that is not numeric is a fault of the whole column; a value that the declared dtype cannot represent is a fault of its row.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from trainer.base.errors import DatasetError
from trainer.base.suggestions import short

if TYPE_CHECKING:
    from trainer.data.reader import TableField

Values = np.ndarray[Any, Any]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
_NUMERIC: Final = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_decimal,
    pa.types.is_null,
)
_NAMED: Final = 8
"""Maximum columns of one field that a hint lists."""
_UNITS: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnLocation:
    """The location and declaration of a column, for messages."""

    file: str
    name: str
    field: str
    declared: TableField

    @property
    def column(self) -> str:
        """Return the column and its file."""
        return f"column {self.name!r} of {self.file}"

    def option(self, dtype: str) -> str:
        """Return the option that declares another dtype for the field."""
        names = self.declared.names
        listed = ",".join(names) if len(names) <= _NAMED else f"{names[0]},.."
        return f"--column {self.field}={listed}:{dtype}"

    def alone(self, dtype: str) -> str:
        """Return the option that declares the column as a separate field with another dtype."""
        field = self.field if len(self.declared.names) == 1 else self.name
        return f"--column {field}={self.name}:{dtype}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The values of a column as numbers, 0 in the rows that do not fit."""

    values: Values
    bad: Mask | None = None
    """The rows that do not fit; None if all fit."""
    raw: Values | None = None
    """The values before conversion, if some do not fit."""
    missing: Mask | None = None

    def fault(self, row: int, *, first: int, location: ColumnLocation) -> DatasetError:
        """Return the error for a row that does not fit; the first row of the column is row `first` of the file."""
        where, dtype = f"row {first + row} of {location.column}", location.declared.dtype
        if self.missing is not None and self.missing[row]:
            hint = f"fill or drop missing values, or declare a float dtype: {location.option('float32')}"
            return DatasetError(f"{where} is missing; {dtype} has no missing values", hint=hint)
        assert self.raw is not None  # noqa: S101 - it is set if a row does not fit
        value, target = self.raw[row], np.dtype(dtype)
        if target.kind == self.raw.dtype.kind == "f":
            message = f"{where} is {value:g}; {dtype} holds up to {np.finfo(target).max:.3g}"
            return DatasetError(
                message, hint=f"divide the column by a constant, or declare {location.option('float64')}"
            )
        if not np.isfinite(float(value)) or value % 1 != 0:
            message = f"{where} is {value:g}; {dtype} holds integers"
            return DatasetError(message, hint=f"declare {location.option('float32')}")
        low, high = _exact(dtype)
        exactly = " exactly" if target.kind == "f" else ""
        message = f"{where} is {int(value)}; {dtype} holds {low:,} to {high:,}{exactly}"
        return DatasetError(message, hint=_wider(int(value), target, location))


def require_numbers(kind: pa.DataType, location: ColumnLocation) -> None:
    """Raise `DatasetError` if a type is not numeric. Text passes: the caller examines its values."""
    dtype = location.declared.dtype
    if (
        is_text(kind)
        or any(is_(_plain(kind)) for is_ in _NUMERIC)
        or (pa.types.is_temporal(kind) and dtype.startswith(("int", "uint")))
    ):
        return
    message = f"{location.column} holds {_described(kind)}; {dtype} holds numbers"
    raise DatasetError(
        message,
        hint=_reading(kind, location) or f"write the column as numbers, or remove {location.name!r} from --column",
    )


def is_text(kind: pa.DataType) -> bool:
    """Return whether values are text, dictionary-encoded or not."""
    plain = _plain(kind)
    return any(is_(plain) for is_ in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def no_number(texts: list[str | None]) -> int | None:
    """Return the index of the first text that is not a number, ignoring missing and empty texts; None if all are numbers."""
    return next((row for row, text in enumerate(texts) if text and not _reads_as_number(text)), None)


def text_fault(row: int, text: str | None, kind: pa.DataType, location: ColumnLocation) -> DatasetError:
    """Return the error for a text column, with one of its values and a hint for its format."""
    text_of, dtype = short(str(text)), location.declared.dtype
    message = f"{location.column} is text ({_named(kind)}): row {row} is {text_of!r}; {dtype} holds numbers"
    name = location.name
    if _reads_as_number(str(text)):
        return DatasetError(
            f"{message}, and text is not converted", hint=f"t[{name!r}] = pandas.to_numeric(t[{name!r}])"
        )
    if _reads_as_number(str(text).replace(",", "").replace(" ", "")):
        hint = "publish the CSV file itself with `--thousands ,`; or strip the separators: .str.replace(',', '').astype(float)"
        return DatasetError(message, hint=hint)
    hint = (
        f"correct that value, and t[{name!r}] = pandas.to_numeric(t[{name!r}]); if they are categories, publish the table itself: "
        f"reprise data publish NAME {shlex.quote(location.file)}; or remove {name!r} from --column"
    )
    return DatasetError(message, hint=hint)


def converted(values: pa.ChunkedArray, dtype: str) -> Numbers:
    """Convert the values of a column to `dtype`; a missing value is NaN in a float type, and does not fit any other type."""
    target, missing = np.dtype(dtype), values.is_null().to_numpy() if values.null_count else None
    raw = _raw(values, target)
    bad = _misfit(raw, target)
    if missing is not None and target.kind != "f":
        bad = missing if bad is None else bad | missing
    fits = np.where(bad, 0, raw) if bad is not None and raw.dtype.kind == "O" else raw
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.ascontiguousarray(fits, dtype=target)
    if target.kind == "f" == raw.dtype.kind and raw.dtype.itemsize > target.itemsize and np.isinf(numbers).any():
        too_large = np.isinf(numbers) & ~np.isinf(raw)
        bad = too_large if too_large.any() else None
    if bad is not None or (missing is not None and target.kind == "f"):
        numbers = numbers.copy()  # Arrow's own memory is read-only
    if missing is not None and target.kind == "f":
        numbers[missing] = np.nan
    if bad is None:
        return Numbers(values=numbers)
    numbers[bad] = 0
    return Numbers(values=numbers, bad=bad, raw=raw, missing=missing)


def _raw(values: pa.ChunkedArray, target: np.dtype[Any]) -> Values:
    """Return the exact values as a NumPy array; missing values are 0, decimals are converted for `target`."""
    kind = _plain(values.type)
    plain = values.cast(kind) if kind != values.type else values
    if pa.types.is_null(kind):
        return np.zeros(len(values), dtype=target)
    if pa.types.is_temporal(kind):
        plain = plain.cast(pa.int32() if kind.bit_width == 32 else pa.int64())  # noqa: PLR2004 - bits
    if pa.types.is_decimal(kind):
        return _of_decimals(plain, target)
    if plain.null_count:
        plain = plain.fill_null(False if pa.types.is_boolean(plain.type) else 0)
    raw: Values = plain.to_numpy()
    return raw


def _of_decimals(values: pa.ChunkedArray, target: np.dtype[Any]) -> Values:
    """Convert decimals to float64, or to int64 if `target` is an integer type; to objects if some do not fit."""
    filled = values.fill_null(0) if values.null_count else values
    numbers: Values
    try:
        numbers = filled.cast(pa.float64() if target.kind == "f" else pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        numbers = np.array(filled.to_pylist(), dtype=object)
    return numbers


def _misfit(raw: Values, target: np.dtype[Any]) -> Mask | None:
    """Return the rows that `target` cannot represent exactly, or None. A float type may round fractions."""
    kinds = raw.dtype.kind + target.kind
    if kinds[0] == "b" or kinds == "ff" or raw.dtype == target or not len(raw):
        return None
    low, high = _exact(target.name)
    if kinds[0] in "fO":
        wide = raw.astype(np.float64, copy=False) if kinds[0] == "f" else raw
        with np.errstate(invalid="ignore"):
            bad: Mask = ~((wide >= low) & (wide < high + 1) & (wide % 1 == 0)).astype(bool)
    elif low <= int(raw.min()) and int(raw.max()) <= high:
        return None
    else:
        bad = (raw < low) | (raw > high)
    return bad if bad.any() else None


def _exact(dtype: str) -> tuple[int, int]:
    """Return the range of integers that a type represents exactly."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        most = 2 ** (np.finfo(kind).nmant + 1)
        return -most, most
    return (0, 1) if kind.kind == "b" else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))


def _wider(value: int, target: np.dtype[Any], location: ColumnLocation) -> str:
    """Return the hint for a number that is too large: a type that can represent it, if any."""
    if target.kind == "f" and abs(value) <= _exact("float64")[1]:
        return f"declare {location.option('float64')}"
    if not _exact("int64")[0] <= value <= _exact("int64")[1]:
        return (
            f"no dtype holds it exactly: write the column in smaller numbers, or remove {location.name!r} from --column"
        )
    return f"declare {location.alone('int64') if target.kind == 'f' else location.option('int64')}"


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _named(kind: pa.DataType) -> str:
    """Return the common name of a type."""
    return f"categories of type {kind.value_type}" if pa.types.is_dictionary(kind) else str(kind)


def _described(kind: pa.DataType) -> str:
    """Return the kind of values of a type, and the type."""
    words = {
        "points in time": pa.types.is_timestamp,
        "dates": pa.types.is_date,
        "times of day": pa.types.is_time,
        "durations": pa.types.is_duration,
        "bytes": lambda each: "binary" in str(each),
    }
    word = next((word for word, is_ in words.items() if is_(kind)), "values")
    return f"{word} of type {_named(kind)}"


def _reading(kind: pa.DataType, location: ColumnLocation) -> str:
    """Return the hint for a temporal column: the integers as which it is read, and its conversion; empty for other types."""
    if not pa.types.is_temporal(kind) or str(kind).startswith("month_day"):
        return ""
    column = f"t[{location.name!r}]"
    unit = _UNITS.get(str(getattr(kind, "unit", "")), "days" if pa.types.is_date32(kind) else "milliseconds")
    since, otherwise = " since 1970-01-01", f"({column} - {column}.min()).dt.total_seconds()"
    if pa.types.is_date(kind):
        otherwise = f"pandas.to_datetime({column}).dt.dayofyear"
    elif pa.types.is_time(kind):
        since, otherwise = " since midnight", f"pandas.to_timedelta({column}.astype(str)).dt.total_seconds()"
    elif pa.types.is_duration(kind):
        since, otherwise = "", f"{column}.dt.total_seconds()"
    dtype = "int32" if kind.bit_width == 32 else "int64"  # noqa: PLR2004 - bits
    return f"{location.alone(dtype)} reads {unit}{since}; or write numbers: {column} = {otherwise}"


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
