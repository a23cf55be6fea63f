"""What a Parquet file holds: its plain columns and its rows, as pyarrow finds them in its foot.

Knows where the foot lies. Refuses to read values. pyarrow belongs to the images; where it is not installed, as on most hosts, first and
last bytes are looked at and nothing else: whoever asks is told so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError
from trainer.base.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TAIL: Final = 8
"""Bytes at a file's end: the foot's length, and the mark."""
_MARK: Final = b"PAR1"
_APART: Final = "write its elements as columns of their own, or publish them as an array: --array FIELD=FILE.npy"
_HOW: Final = "pandas.read_csv(FILE).to_parquet(FILE), or pyarrow.csv and pyarrow.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Foot:
    """What a Parquet file holds: its top-level columns of plain values, by name with their types, and how many rows."""

    rows: int
    columns: dict[str, str]
    nested: Mapping[str, str] = field(default_factory=dict)
    """The columns of lists, of structures and of maps, by name with their types."""
    twice: frozenset[str] = frozenset()
    """The names that several columns have."""

    def require(self, names: Iterable[str], *, where: str) -> None:
        """Raise `DatasetError` unless each name is the name of exactly one column of plain values."""
        for name in names:
            if name in self.twice:
                said = f"{where} has several columns named {name!r}"
                raise DatasetError(said, hint="rename all but one, write the file again, and publish it")
            if name in self.nested:
                said = f"column {name!r} of {where} holds values of type {self.nested[name]}; a column of a field holds one number per row"
                raise DatasetError(said, hint=_APART)
            if name not in self.columns:
                said = f"{where} has no column {name!r}"
                raise DatasetError(said, hint=did_you_mean(name, self.columns))


def foot_start(body: memoryview, *, where: str) -> int:
    """Where the foot begins. Raises `DatasetError` for a file that is none of Parquet."""
    if bytes(body[-4:]) != _MARK or bytes(body[:4]) != _MARK or len(body) <= _TAIL:
        raise _refused(body, where)
    start = len(body) - _TAIL - int.from_bytes(body[-_TAIL:-4], "little")
    if start < len(_MARK):
        raise _refused(body, where)
    return start


def is_readable() -> bool:
    """Whether pyarrow is installed here."""
    return find_spec("pyarrow") is not None


def read_foot(body: memoryview, *, where: str) -> Foot:
    """Read the foot of a file, with pyarrow. Raises `DatasetError`."""
    foot_start(body, where=where)
    arrow: Any = import_module("pyarrow")  # when a table is looked at, not before: it costs 0.1 s
    try:
        found = import_module("pyarrow.parquet").read_metadata(arrow.BufferReader(arrow.py_buffer(body)))
        kinds = found.schema.to_arrow_schema()
        columns = [found.schema.column(number) for number in range(found.num_columns)]
        plain = {each.name: each.physical_type.lower() for each in columns if _is_plain(each)}
        names = Counter(each.path for each in columns)
    except (arrow.ArrowException, OSError, ValueError) as fault:  # ValueError: a name that is not UTF-8
        raise _refused(body, where) from fault
    if found.num_rows < 0:
        said = f"{where} is damaged: its foot names {found.num_rows:,} rows"
        raise DatasetError(said, hint="write it again, and publish it as a new version")
    twice = frozenset(name for name, count in names.items() if count > 1)
    nested = {each.name: str(each.type) for each in kinds if each.name not in plain}
    return Foot(rows=found.num_rows, columns=plain, nested=nested, twice=twice)


def _is_plain(column: Any) -> bool:
    return bool(column.path == column.name and column.max_repetition_level == 0)


def _refused(body: memoryview, where: str) -> DatasetError:
    if where.lower().endswith((".csv", ".tsv", ".txt")):
        return DatasetError(f"{where} is text; a table is read from Parquet files", hint=f"write it as Parquet: {_HOW}")
    cut = bytes(body[:4]) == _MARK
    fault = "is a damaged Parquet file: its end is missing or spoilt" if cut else "is no Parquet file"
    return DatasetError(f"{where} {fault}", hint="write it again, and publish it as a new version")
