"""Write the rows of a table as a Parquet file, whose bytes depend only on the rows, the columns and the version of pyarrow."""

from __future__ import annotations

from datetime import date, datetime
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError
from trainer.base.suggestions import short
from trainer.data.tables.cells import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from trainer.data.tables.source_table import SourceColumn, SourceTable
    from trainer.data.tables.text_rows import TextBlock

_WRITTEN: Final[dict[str, Any]] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 3,
    "data_page_version": "1.0",
    "data_page_size": 1 << 20,
    "write_statistics": True,
    "store_schema": False,
}
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - it is compared only with dates without a time zone
_DAY: Final = 86400.0
_NAMES: Final = {"whole": "an integer", "number": "a number below 1.8e308"}


class _TimeZoneError(ValueError):
    """A date that has a time zone, unlike the dates of the published file, or the reverse; its text is the expected value."""


def write_parquet(table: SourceTable, blocks: Iterable[TextBlock], target: Path) -> int:
    """Write one row group for each block; return the number of rows. Raise `DatasetError` with the line if a value cannot be converted."""
    arrow: Any = import_module("pyarrow")  # imported late, because most hosts do not have pyarrow
    parquet: Any = import_module("pyarrow.parquet")
    types = {name: _arrow_type(arrow, column) for name, column in table.columns.items()}
    schema = arrow.schema(list(types.items()))
    count = 0
    with parquet.ParquetWriter(target, schema, **_WRITTEN) as writer:
        for block in blocks:
            arrays = [
                arrow.array(_values(table, name, block, number), type=types[name])
                for number, name in enumerate(table.columns)
            ]
            writer.write_table(arrow.table(arrays, schema=schema), row_group_size=max(1, len(block.lines)))
            count += len(block.lines)
    return count


def _arrow_type(arrow: Any, column: SourceColumn) -> Any:
    if column.read == "date":
        return arrow.float64()
    if column.read in {"category", "class"} or column.type not in {"whole", "number"}:
        return arrow.string()
    return arrow.int64() if column.type == "whole" else arrow.float64()


def _values(table: SourceTable, name: str, block: TextBlock, number: int) -> list[Any]:
    """Return the values of a column, `None` if a value is missing."""
    column, missing = table.columns[name], frozenset(table.missing)
    cells = [value if (value := cell.strip()) not in missing else None for cell in block.columns[number]]
    convert = conversion(column, decimal=table.decimal, thousands=table.thousands)
    if convert is None:
        return cells
    try:
        return [None if cell is None else convert(cell) for cell in cells]
    except (ValueError, OverflowError) as fault:
        raise _misfit(table, name, block, cells, convert) from fault


def conversion(column: SourceColumn, *, decimal: str, thousands: str) -> Callable[[str], Any] | None:
    """Return the function that converts a cell to a value; `None` if cells stay text."""
    if column.read == "date":
        return partial(_days_of, form=column.date) if column.date else partial(_iso_days, zoned=column.zoned)
    if column.read in {"category", "class"} or column.type not in {"whole", "number"}:
        return None
    if column.type == "whole":
        return partial(_whole, thousands=thousands)
    return lambda cell: number_of(cell, decimal=decimal, thousands=thousands)


def _whole(cell: str, *, thousands: str) -> int:
    value = int(cell.replace(thousands, "") if thousands else cell)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("expected 64 bits")
    return value


def _days_of(cell: str, *, form: str) -> float:
    return _days(_in_utc(datetime.strptime(cell, form)))  # noqa: DTZ007 - the format may have a zone


def _iso_days(cell: str, *, zoned: bool | None) -> float:
    start, _, zone = cell.rpartition(" ")
    value = datetime.fromisoformat(f"{start}{zone}" if zone.startswith(("+", "-", "Z")) else cell)
    if zoned is not None and zoned != (value.utcoffset() is not None):
        raise _TimeZoneError(f"a date {'with' if zoned else 'without'} a time zone")
    return _days(_in_utc(value))


def _in_utc(value: datetime) -> datetime:
    """Return a time without its time zone: in UTC if it has one."""
    return value.replace(tzinfo=None) - (value.utcoffset() or value - value)


def _days(value: datetime | date) -> float:
    """Return the days from 1970-01-01 to `value`, which has no time zone."""
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)  # noqa: DTZ001
    return (moment - _EPOCH).total_seconds() / _DAY


def _misfit(
    table: SourceTable, name: str, block: TextBlock, cells: Sequence[str | None], convert: Callable[[str], Any]
) -> DatasetError:
    """Return the error for the first cell that cannot be converted."""
    for line, cell in zip(block.lines, cells, strict=True):
        try:
            if cell is not None:
                convert(cell)
        except (ValueError, OverflowError) as fault:
            column = table.columns[name]
            expected = (
                f"a date as {column.date or 'YYYY-MM-DD'}"
                if column.read == "date"
                else _NAMES.get(column.type, "a number")
            )
            if isinstance(fault, _TimeZoneError):
                expected = str(fault)
            where = f"{table.file}, {block.unit} {line}, column {name!r}"
            message = f"{where}: expected {expected}, found {short(cell or '')!r}"
            return DatasetError(message, hint=f"correct it; or --read '{name}=category', or --read '{name}=skip'")
    raise AssertionError(name)
