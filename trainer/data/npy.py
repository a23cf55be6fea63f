r"""Parse the header of a `.npy` file (NumPy's NEP 1, versions 1 to 3) without NumPy, so that every host can publish arrays.

Arrays of objects are rejected, because reading them runs code.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Final

from trainer.base.errors import DatasetError

HEAD: Final = 1 << 16
"""Bytes at the beginning of a file that contain the header."""
_MAGIC: Final = b"\x93NUMPY"
_NAMES: Final = {
    **{f"f{size}": f"float{8 * size}" for size in (2, 4, 8)},
    **{f"i{size}": f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"uint{8 * size}" for size in (1, 2, 4, 8)},
    "b1": "bool",
}
_SIZES: Final = {name: int(code[1:]) for code, name in _NAMES.items()}
_LONGEST: Final = 1 << 48
"""Limit of an axis and of a row; a header above it is damaged."""
_AXES: Final = 32
"""The limit of NumPy 1."""
_SHOWN: Final = 60
_DAMAGED: Final = (ValueError, SyntaxError, KeyError, IndexError, TypeError, OverflowError, MemoryError, RecursionError)
"""Errors for a header that is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayHead:
    """An array in a file: `shape[0]` rows of `row` bytes each, from offset `start`."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    row: int

    @property
    def rows(self) -> int:
        """The number of samples."""
        return self.shape[0]


def parse_head(data: bytes | memoryview, *, size: int, where: str) -> ArrayHead:
    """Parse the header in a file's first bytes; `size` is the size of the file. Raises `DatasetError`."""
    data = bytes(data[:HEAD])
    if not data.startswith(_MAGIC):
        raise _not_numpy(data, where)
    try:
        start, kind, is_fortran, lengths = _parse(data)
    except _DAMAGED as fault:
        raise _rejected(where, "its header is damaged", "write the file again with numpy.save") from fault
    dtype = _dtype(kind, where)
    if not lengths:
        raise _rejected(where, "it is one number", "samples are rows: numpy.save(FILE, a.reshape(-1))")
    is_possible = len(lengths) <= _AXES and all(0 <= length < _LONGEST for length in lengths)
    row = math.prod(lengths[1:]) * _SIZES[dtype] if is_possible else _LONGEST
    if row >= _LONGEST:
        raise _rejected(where, f"its header gives the shape {_short(lengths)}", "write the file again with numpy.save")
    if is_fortran and len(lengths) > 1:
        raise _rejected(where, "its values are in Fortran order", "numpy.save(FILE, numpy.ascontiguousarray(a))")
    if (expected := start + row * lengths[0]) != size:
        sizes = f"expected {_short(expected)} bytes by its header, found {size:,}"
        raise _rejected(where, sizes, "it is truncated or damaged: write it again with numpy.save")
    if lengths[0] and not row:
        raise _rejected(where, f"its rows are empty: the shape is {_short(lengths)}", "give each row a value")
    return ArrayHead(dtype=dtype, shape=lengths, start=start, row=row)


def _parse(data: bytes) -> tuple[int, object, bool, tuple[int, ...]]:
    """Return the offset of the values, and the header: type, whether in Fortran order, shape."""
    if data[6] not in {1, 2, 3}:
        raise ValueError(data[:8])
    width = 2 if data[6] == 1 else 4
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    header = ast.literal_eval(data[8 + width : start].decode().strip())
    kind, is_fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    if not isinstance(shape, tuple) or not all(isinstance(length, int) for length in shape):
        raise TypeError(shape)
    return start, kind, is_fortran, tuple(map(int, shape))


def _dtype(kind: object, where: str) -> str:
    """Return the name of a type. Raises `DatasetError` for an unsupported type, with the code that converts it."""
    if isinstance(kind, list):
        hint = "save each field as a separate array: numpy.save(FILE, a['NAME'])"
        raise _rejected(where, "it is a structured array, of named fields", hint)
    text = str(kind)
    order, code = text[:1], text[1:]
    if name := _NAMES.get(code):
        if order == ">" and code[1:] != "1":
            hint = f"numpy.save(FILE, a.astype('<{code}'))"
            raise _rejected(where, "its numbers are big-endian", hint)
        if order in "<|=>":
            return name
    problem, hint = _KINDS.get(code[:1], (f"its type {text[:40]!r} is not numeric", "a.astype('float32')"))
    raise _rejected(where, problem, hint)


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


def _not_numpy(data: bytes, where: str) -> DatasetError:
    if data.startswith(b"PK"):
        hint = "save each array separately: for name, a in numpy.load(FILE).items(): numpy.save(f'{name}.npy', a)"
        return _rejected(where, "it is an archive of arrays (.npz)", hint)
    problem = "it is empty" if not data else "it is not a NumPy file"
    return _rejected(where, problem, "write it with numpy.save")


def _short(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) and value < _LONGEST else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}.."


def _rejected(where: str, reason: str, hint: str) -> DatasetError:
    return DatasetError(f"{where} is not a plain array: {reason}", hint=hint)
