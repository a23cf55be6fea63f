"""Read the plain columns and the number of rows from the footer of a Parquet file, with pyarrow.

Images contain pyarrow. Most hosts do not: there, only the first and last bytes of a file are checked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError
from trainer.base.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TAIL: Final = 8
"""Bytes at the end of a file: the length of the footer, and the magic number."""
_MAGIC: Final = b"PAR1"
_FLATTEN: Final = "write its elements as separate columns, or publish them as an array: --array FIELD=FILE.npy"
_CONVERT: Final = "pandas.read_csv(FILE).to_parquet(FILE), or pyarrow.csv and pyarrow.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """The number of rows, and the names and types of top-level columns of plain values."""

    rows: int
    columns: dict[str, str]
    nested: Mapping[str, str] = field(default_factory=dict)
    """Names and types of columns of lists, structures and maps."""
    repeated: frozenset[str] = frozenset()
    """Names of several columns."""

    def require(self, names: Iterable[str], *, where: str) -> None:
        """Raise `DatasetError` unless each name belongs to exactly one column of plain values."""
        for name in names:
            if name in self.repeated:
                message = f"{where} has several columns named {name!r}"
                raise DatasetError(message, hint="rename all but one, write the file again, and publish it")
            if name in self.nested:
                message = f"column {name!r} of {where}: expected one number in each row, found values of type {self.nested[name]}"
                raise DatasetError(message, hint=_FLATTEN)
            if name not in self.columns:
                message = f"{where} has no column {name!r}"
                raise DatasetError(message, hint=did_you_mean(name, self.columns))


def footer_start(body: memoryview, *, where: str) -> int:
    """Return the offset of the footer. Raises `DatasetError` for a file that is not Parquet."""
    if bytes(body[-4:]) != _MAGIC or bytes(body[:4]) != _MAGIC or len(body) <= _TAIL:
        raise _invalid(body, where)
    start = len(body) - _TAIL - int.from_bytes(body[-_TAIL:-4], "little")
    if start < len(_MAGIC):
        raise _invalid(body, where)
    return start


def read_footer(body: memoryview, *, where: str) -> Footer:
    """Read the footer of a file, with pyarrow. Raises `DatasetError`."""
    footer_start(body, where=where)
    arrow: Any = import_module("pyarrow")  # imported late, because the import takes 0.1 s
    try:
        metadata = import_module("pyarrow.parquet").read_metadata(arrow.BufferReader(arrow.py_buffer(body)))
        kinds = metadata.schema.to_arrow_schema()
        columns = [metadata.schema.column(number) for number in range(metadata.num_columns)]
        plain = {each.name: each.physical_type.lower() for each in columns if _is_plain(each)}
        names = Counter(each.path for each in columns)
    except (arrow.ArrowException, OSError, ValueError) as fault:  # ValueError: a name that is not UTF-8
        raise _invalid(body, where) from fault
    if metadata.num_rows < 0:
        message = f"{where} is damaged: its footer gives {metadata.num_rows:,} rows"
        raise DatasetError(message, hint="write it again, and publish it as a new version")
    repeated = frozenset(name for name, count in names.items() if count > 1)
    nested = {each.name: str(each.type) for each in kinds if each.name not in plain}
    return Footer(rows=metadata.num_rows, columns=plain, nested=nested, repeated=repeated)


def _is_plain(column: Any) -> bool:
    return bool(column.path == column.name and column.max_repetition_level == 0)


def _invalid(body: memoryview, where: str) -> DatasetError:
    if where.lower().endswith((".csv", ".tsv", ".txt")):
        return DatasetError(f"{where} is text; expected a Parquet file", hint=f"convert it: {_CONVERT}")
    cut = bytes(body[:4]) == _MAGIC
    fault = "is a damaged Parquet file: its end is missing or invalid" if cut else "is not a Parquet file"
    return DatasetError(f"{where} {fault}", hint="write it again, and publish it as a new version")
