r"""The head of a `.npy` file (NumPy's NEP 1): what array is in it, and where its numbers begin.

Knows versions 1 to 3 of the format. Refuses objects, which would have to be unpickled, and needs no NumPy: a host publishes arrays too.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Any, Final

from trainer.errors import DatasetError

HEAD: Final = 1 << 16
"""Bytes from a file's beginning in which its head ends; NumPy pads to 64."""
_MAGIC: Final = b"\x93NUMPY"
_NAMES: Final = {
    **{f"f{size}": f"float{8 * size}" for size in (2, 4, 8)},
    **{f"i{size}": f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"uint{8 * size}" for size in (1, 2, 4, 8)},
    "b1": "bool",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayHead:
    """An array in a file: `shape[0]` rows of `row` bytes each, from `start` on."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    row: int

    @property
    def rows(self) -> int:
        """How many samples it holds."""
        return self.shape[0]


def parse_head(data: bytes | memoryview, *, size: int, where: str) -> ArrayHead:
    """Read the head from a file's first bytes; `size` is the whole file's. Raises `DatasetError`, naming the file as `where`."""
    try:
        head = _head(bytes(data[:HEAD]))
    except (ValueError, SyntaxError, KeyError, IndexError, TypeError) as fault:
        raise _refused(
            where, "its head cannot be read, or tells of objects, of columns, of big-endian numbers"
        ) from fault
    if not head.shape:
        raise _refused(where, "it is one number")
    if (told := head.start + head.row * head.rows) != size:
        raise _refused(where, f"it has {size:,} bytes; its head tells {told:,}")
    return head


def _head(data: bytes) -> ArrayHead:
    if not data.startswith(_MAGIC) or data[6] not in {1, 2, 3}:
        raise ValueError(data[:8])
    width = 2 if data[6] == 1 else 4
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    told: Any = ast.literal_eval(data[8 + width : start].decode().strip())
    order, kind, shape = told["descr"][0], told["descr"][1:], tuple(map(int, told["shape"]))
    if order not in "<|" or (told["fortran_order"] and len(shape) > 1):
        raise ValueError(told)
    return ArrayHead(dtype=_NAMES[kind], shape=shape, start=start, row=math.prod(shape[1:]) * int(kind[1:]))


def _refused(where: str, why: str) -> DatasetError:
    hint = (
        "write it with numpy.save, row by row, of little-endian numbers and not of objects; then publish a new version"
    )
    return DatasetError(f"{where} is no plain array: {why}", hint=hint)
