"""The foot of a Parquet file: how many rows it has, and which columns.

Knows as much of the format (parquet.thrift, in Thrift's compact protocol) as is needed to check a declaration on a host without pyarrow.
Refuses to read values: the reader of tables does that, with pyarrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from trainer.errors import DatasetError

TAIL: Final = 8
"""Bytes at a file's end that say how long its foot is."""
_MAGIC: Final = b"PAR1"
_TYPES: Final = ("bool", "int32", "int64", "int96", "float32", "float64", "bytes", "fixed bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Foot:
    """What a Parquet file holds: its top-level columns of plain values, by name, and how many rows."""

    rows: int
    columns: dict[str, str]


def foot_size(tail: bytes, *, size: int, where: str) -> int:
    """How many bytes before the last eight the foot has. Raises `DatasetError` for a file that is none of Parquet."""
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length + TAIL > size:
        raise _refused(where)
    return length


def parse_foot(data: bytes, *, where: str) -> Foot:
    """Read the foot. Raises `DatasetError`."""
    try:
        found = _Compact(data).struct()
        return Foot(rows=found[3], columns=_columns(found[2]))
    except (IndexError, KeyError, ValueError, TypeError, RecursionError) as fault:
        raise _refused(where) from fault


def _columns(schema: list[dict[int, Any]]) -> dict[str, str]:
    columns: dict[str, str] = {}
    at = 1  # the root is first
    for _ in range(schema[0].get(5, 0)):
        if 1 in schema[at] and schema[at].get(3) != 2:  # noqa: PLR2004 - repeated
            columns[schema[at][4].decode()] = _TYPES[schema[at][1]]
        at = _after(schema, at)
    return columns


def _after(schema: list[dict[int, Any]], at: int) -> int:
    """Where the next sibling of a column is: the schema is a tree, written depth first."""
    below = schema[at].get(5, 0)
    at += 1
    for _ in range(below):
        at = _after(schema, at)
    return at


class _Compact:
    """Thrift's compact protocol: structs as dictionaries by field number."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            fields[number] = self._value(head & 15)
        return fields

    def _value(self, kind: int) -> Any:  # noqa: PLR0911 - one line for each type of Thrift's
        match kind:
            case 1 | 2:
                return kind == 1
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._signed()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._unsigned())
            case 9 | 10:
                return self._list()
            case 12:
                return self.struct()
            case _:
                raise ValueError(kind)

    def _list(self) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._unsigned()  # noqa: PLR2004 - "too long for four bits"
        kind = head & 15
        return [self._byte() == 1 if kind in {1, 2} else self._value(kind) for _ in range(count)]

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise IndexError(size)
        self._at += size
        return self._data[self._at - size : self._at]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:  # noqa: PLR2004 - the last group of seven bits
                return value
            shift += 7

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)


def _refused(where: str) -> DatasetError:
    return DatasetError(
        f"{where} is no Parquet file, or damaged", hint="write it again, and publish it as a new version"
    )
