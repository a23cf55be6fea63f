r"""The head of a `.npy` file (NumPy's NEP 1): what array is in it, and where its numbers begin.

Versions 1 to 3 of the format. Objects are rejected, since reading them runs code. It needs no NumPy: a host publishes arrays too.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Any, Final

from trainer.base.errors import DatasetError

HEAD: Final = 1 << 16
"""Bytes from a file's beginning in which its head ends; NumPy pads to 64."""
_MAGIC: Final = b"\x93NUMPY"
_NAMES: Final = {
    **{f"f{size}": f"float{8 * size}" for size in (2, 4, 8)},
    **{f"i{size}": f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"uint{8 * size}" for size in (1, 2, 4, 8)},
    "b1": "bool",
}
_SIZES: Final = {name: int(code[1:]) for code, name in _NAMES.items()}
_LONGEST: Final = 1 << 48
"""No axis, and no row, is longer: a head that names one is damaged."""
_AXES: Final = 32
"""NumPy itself had no more until its second version."""
_SHOWN: Final = 60


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
    data = bytes(data[:HEAD])
    if not data.startswith(_MAGIC):
        raise _no_array(data, where)
    try:
        start, said = _said(data)
        kind, is_fortran, shape = said["descr"], said["fortran_order"], said["shape"]
        lengths = tuple(_length(each) for each in _tuple(shape))
    except (
        ValueError,
        SyntaxError,
        KeyError,
        IndexError,
        TypeError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as fault:
        raise _rejected(where, "its head is damaged", "write the file again with numpy.save") from fault
    dtype = _dtype(kind, where)
    if not lengths:
        raise _rejected(where, "it is one number", "samples are rows: numpy.save(FILE, a.reshape(-1))")
    is_possible = len(lengths) <= _AXES and all(0 <= length < _LONGEST for length in lengths)
    row = math.prod(lengths[1:]) * _SIZES[dtype] if is_possible else _LONGEST
    if row >= _LONGEST:
        raise _rejected(where, f"its head names the shape {_short(lengths)}", "write the file again with numpy.save")
    if is_fortran and len(lengths) > 1:
        raise _rejected(where, "its values lie in Fortran order", "numpy.save(FILE, numpy.ascontiguousarray(a))")
    if (named := start + row * lengths[0]) != size:
        said_size = f"it has {size:,} bytes; its head names {_short(named)}"
        raise _rejected(where, said_size, "it is truncated or damaged: write it again with numpy.save")
    if lengths[0] and not row:
        raise _rejected(where, f"its rows are empty: the shape is {_short(lengths)}", "give each row a value")
    return ArrayHead(dtype=dtype, shape=lengths, start=start, row=row)


def _said(data: bytes) -> tuple[int, dict[str, Any]]:
    """Where the numbers begin, and what the head says."""
    if data[6] not in {1, 2, 3}:
        raise ValueError(data[:8])
    width = 2 if data[6] == 1 else 4
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    said: dict[str, Any] = ast.literal_eval(data[8 + width : start].decode().strip())
    return start, said


def _tuple(value: object) -> tuple[object, ...]:
    if not isinstance(value, tuple):
        raise TypeError(value)
    return value


def _length(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(value)
    return int(value)


def _dtype(kind: object, where: str) -> str:
    """The type's name. Raises `DatasetError` for one that no tensor has, with the line that converts it."""
    if isinstance(kind, list):
        hint = "save each field as an array of its own: numpy.save(FILE, a['NAME'])"
        raise _rejected(where, "it is a structured array, of named fields", hint)
    text = str(kind)
    order, code = text[:1], text[1:]
    if name := _NAMES.get(code):
        if order == ">" and code[1:] != "1":
            hint = f"numpy.save(FILE, a.astype('<{code}'))"
            raise _rejected(where, "its numbers are big-endian", hint)
        if order in "<|=>":
            return name
    what, hint = _KINDS.get(code[:1], (f"its type {text[:40]!r} is not one of numbers", "a.astype('float32')"))
    raise _rejected(where, what, hint)


_KINDS: Final = {
    "O": ("it holds Python objects", "numpy.save(FILE, a.astype('float32')), if all rows are numbers of one length"),
    "c": ("its numbers are complex", "numpy.save(FILE, numpy.stack([a.real, a.imag], axis=1))"),
    "U": ("it holds text", "number the texts: numpy.unique(a, return_inverse=True)[1]"),
    "S": ("it holds text", "number the texts: numpy.unique(a, return_inverse=True)[1]"),
    "M": (
        "it holds dates",
        "numpy.save(FILE, a.astype('int64')), or days since the first: (a - a.min()).astype('float32')",
    ),
    "m": ("it holds durations", "numpy.save(FILE, a.astype('int64'))"),
    "V": ("it is a structured array, of named fields", "numpy.save(FILE, a['NAME']), for each field"),
    "f": ("its floats have more than 64 bits", "numpy.save(FILE, a.astype('float64'))"),
}


def _no_array(data: bytes, where: str) -> DatasetError:
    if data.startswith(b"PK"):
        hint = "save each array on its own: for name, a in numpy.load(FILE).items(): numpy.save(f'{name}.npy', a)"
        return _rejected(where, "it is an archive of arrays (.npz)", hint)
    what = "it is empty" if not data else "it does not begin as NumPy's files do"
    return _rejected(where, what, "write it with numpy.save")


def _short(value: object) -> str:
    said = f"{value:,}" if isinstance(value, int) and value < _LONGEST else str(value)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}.."


def _rejected(where: str, why: str, hint: str) -> DatasetError:
    return DatasetError(f"{where} is not a plain array: {why}", hint=hint)
