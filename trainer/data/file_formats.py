"""Headers of `.npy` files, footers of Parquet files and lines of text files, checked before publication.

The header of a `.npy` file (NumPy's NEP 1, versions 1 to 3) is parsed without NumPy, so that every host can publish arrays. Arrays of
objects are rejected, because reading them runs code. pyarrow is installed in images, but not on most hosts; without it, only the first and
last bytes of a Parquet file are checked. A dataset stores bytes unchanged, so a text file that would result in wrong samples is an error;
the hint is a command that converts the file.
"""

from __future__ import annotations

import ast
import codecs
import math
import re
import shlex
from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError
from trainer.base.plain_text import SURROGATE, is_surrogate, likely_utf_16
from trainer.base.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_JOIN: Final = (
    'import sys; t = sys.stdin.buffer.read().decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass"); '
    'sys.stdout.buffer.write(t.decode("utf-16", "replace").encode())'
)
_LONE_CR: Final = re.compile(rb"\r(?!\n)")
_WIDE: Final = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),  # first, because its mark begins with the mark of UTF-16
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
_COMPRESSED: Final = {"gzip": b"\x1f\x8b", "zip": b"PK\x03\x04", "xz": b"\xfd7zXZ\0", "zstd": b"\x28\xb5\x2f\xfd"}

_TAIL: Final = 8
"""Bytes at the end of a file: the length of the footer, and the magic number."""
_PARQUET_MAGIC: Final = b"PAR1"
_FLATTEN: Final = "write its elements as separate columns, or publish them as an array: --array FIELD=FILE.npy"

HEAD: Final = 1 << 16
"""Maximum bytes of a header, at the beginning of a file."""
_NPY_MAGIC: Final = b"\x93NUMPY"
_NAMES: Final = {
    **{f"f{size}": f"float{8 * size}" for size in (2, 4, 8)},
    **{f"i{size}": f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"uint{8 * size}" for size in (1, 2, 4, 8)},
    "b1": "bool",
}
_SIZES: Final = {name: int(code[1:]) for code, name in _NAMES.items()}
_LONGEST: Final = 1 << 48
"""The length of an axis and the bytes of a row are less; a header that states more is damaged."""
_AXES: Final = 32
"""Maximum number of axes, as in NumPy 1."""
_SHOWN: Final = 60
_DAMAGED: Final = (ValueError, SyntaxError, KeyError, IndexError, TypeError, OverflowError, MemoryError, RecursionError)
"""Exceptions that parsing a damaged header raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayHead:
    """An array in a file: `shape[0]` rows of `row` bytes each, from offset `start`."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    row: int

    @property
    def rows(self) -> int:
        """The number of rows, which are samples."""
        return self.shape[0]


def array_head(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the header of a `.npy` file of version 1.0 in C order, byte-identical for equal arguments. `dtype` is such as `<f4`, `|u1`.

    >>> len(array_head("|u1", (3, 1, 28, 28)))
    128
    """
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    return _NPY_MAGIC + b"\x01\x00" + len(head).to_bytes(2, "little") + head.encode()


def parse_head(data: bytes | memoryview, *, size: int, where: str) -> ArrayHead:
    """Parse the header in a file's first bytes; `size` is the size of the file.

    Raise `DatasetError` if the file is not a `.npy` file with rows of numbers, or its size does not fit its header.
    """
    data = bytes(data[:HEAD])
    if not data.startswith(_NPY_MAGIC):
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
        raise _rejected(where, f"its header states the shape {_short(lengths)}", "write the file again with numpy.save")
    if is_fortran and len(lengths) > 1:
        raise _rejected(where, "its values are in Fortran order", "numpy.save(FILE, numpy.ascontiguousarray(a))")
    if (expected := start + row * lengths[0]) != size:
        sizes = f"expected {_short(expected)} bytes by its header, found {size:,}"
        raise _rejected(where, sizes, "it is truncated or damaged: write it again with numpy.save")
    if lengths[0] and not row:
        raise _rejected(
            where, f"its rows are empty: the shape is {_short(lengths)}", "write at least one value in each row"
        )
    return ArrayHead(dtype=dtype, shape=lengths, start=start, row=row)


def _parse(data: bytes) -> tuple[int, object, bool, tuple[int, ...]]:
    """Return the offset of the values, the type, whether the values are in Fortran order, and the shape."""
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
    """Return the name of a type. Raise `DatasetError` if the type is not supported; the hint converts it."""
    if isinstance(kind, list):
        hint = "save each field as a separate array: numpy.save(FILE, a['NAME'])"
        raise _rejected(where, "it is a structured array, with named fields", hint)
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
    "U": ("it holds text", "number the strings: numpy.unique(a, return_inverse=True)[1]"),
    "S": ("it holds text", "number the strings: numpy.unique(a, return_inverse=True)[1]"),
    "M": (
        "it holds dates",
        "numpy.save(FILE, a.astype('int64')), or days since the first: (a - a.min()).astype('float32')",
    ),
    "m": ("it holds durations", "numpy.save(FILE, a.astype('int64'))"),
    "V": ("it is a structured array, with named fields", "numpy.save(FILE, a['NAME']), for each field"),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """The number of rows of a Parquet file, and the names and types of its top-level columns of plain values."""

    rows: int
    columns: dict[str, str]
    nested: Mapping[str, str] = field(default_factory=dict)
    """Names and types of columns of lists, structures and maps."""
    repeated: frozenset[str] = frozenset()
    """Names that several columns share."""

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
    """Return the offset of the footer. Raise `DatasetError` if the file is not a Parquet file, or is truncated."""
    if bytes(body[-4:]) != _PARQUET_MAGIC or bytes(body[:4]) != _PARQUET_MAGIC or len(body) <= _TAIL:
        raise _invalid_parquet(body, where)
    start = len(body) - _TAIL - int.from_bytes(body[-_TAIL:-4], "little")
    if start < len(_PARQUET_MAGIC):
        raise _invalid_parquet(body, where)
    return start


def read_footer(body: memoryview, *, where: str) -> Footer:
    """Read the footer of a Parquet file with pyarrow. Raise `DatasetError` if it is invalid."""
    footer_start(body, where=where)
    arrow: Any = import_module("pyarrow")  # imported late, because the import takes 0.1 s
    try:
        metadata = import_module("pyarrow.parquet").read_metadata(arrow.BufferReader(arrow.py_buffer(body)))
        kinds = metadata.schema.to_arrow_schema()
        columns = [metadata.schema.column(number) for number in range(metadata.num_columns)]
        plain = {
            each.name: each.physical_type.lower()
            for each in columns
            if each.path == each.name and each.max_repetition_level == 0
        }
        names = Counter(each.path for each in columns)
    except (arrow.ArrowException, OSError, ValueError) as fault:  # ValueError: a name that is not UTF-8
        raise _invalid_parquet(body, where) from fault
    if metadata.num_rows < 0:
        message = f"{where} is damaged: its footer states {metadata.num_rows:,} rows"
        raise DatasetError(message, hint="write it again, and publish it as a new version")
    repeated = frozenset(name for name, count in names.items() if count > 1)
    nested = {each.name: str(each.type) for each in kinds if each.name not in plain}
    return Footer(rows=metadata.num_rows, columns=plain, nested=nested, repeated=repeated)


def _invalid_parquet(body: memoryview, where: str) -> DatasetError:
    if where.lower().endswith((".csv", ".tsv", ".txt")):
        return DatasetError(
            f"{where} is text; expected a Parquet file",
            hint=f"publish the table itself: reprise data publish NAME {shlex.quote(where)}",
        )
    cut = bytes(body[:4]) == _PARQUET_MAGIC
    fault = "is a damaged Parquet file: its end is missing or invalid" if cut else "is not a Parquet file"
    return DatasetError(f"{where} {fault}", hint="write it again, and publish it as a new version")


def count_lines(blocks: Iterable[bytes], *, where: str) -> int:
    r"""Count the lines of a UTF-8 text, which end with LF or CRLF.

    Raise `DatasetError` if the text is compressed, begins with a byte order mark, or contains NUL, CR without LF, or bytes that are
    not valid UTF-8.

    >>> count_lines([b"one\r\ntw", b"o"], where="t.txt")
    2
    """
    count, last, rest, decoder = 0, b"\n", b"", codecs.getincrementaldecoder("utf-8")()
    for block in blocks:
        if not count and last == b"\n" and not rest:
            _require_unmarked(block, where=where)
        body = rest + block
        rest = body[-1:] if body.endswith(b"\r") else b""  # the next block shows whether LF follows
        body = body[: len(body) - len(rest)]
        _require_plain(body, decoder, count, where=where)
        count, last = count + body.count(b"\n"), body[-1:] or last
    _require_plain(rest, decoder, count, where=where, is_last=True)
    return count + (last != b"\n")


def _require_unmarked(block: bytes, *, where: str) -> None:
    if compressed := next((name for name, mark in _COMPRESSED.items() if block.startswith(mark)), None):
        raise DatasetError(
            f"{where} is compressed ({compressed}); expected text", hint="unpack it, and publish the text"
        )
    if encoding := next((name for name, marks in _WIDE.items() if block.startswith(marks)), None):
        hint = f"iconv -f {encoding} -t UTF-8 {shlex.quote(where)} > new.txt"
        raise DatasetError(f"{where} is not UTF-8 text: it is {encoding}", hint=hint)
    if block.startswith(codecs.BOM_UTF8):
        hint = f"sed -i '1s/^\\xEF\\xBB\\xBF//' {shlex.quote(where)}"
        raise DatasetError(f"{where} begins with a byte order mark, which would be part of its first sample", hint=hint)


def _require_plain(
    body: bytes, decoder: codecs.IncrementalDecoder, before: int, *, where: str, is_last: bool = False
) -> None:
    typed = shlex.quote(where)
    try:
        decoder.decode(body, final=is_last)
    except UnicodeDecodeError as fault:
        line = before + fault.object[: fault.start].count(b"\n") + 1
        what = f"the byte 0x{fault.object[fault.start : fault.start + 1].hex()} ({fault.reason})"
        hint = f"if it is Latin-1: iconv -f LATIN1 -t UTF-8 {typed} > new.txt"
        if is_surrogate(fault):
            what, hint = SURROGATE, f"join the halves: python3 -c '{_JOIN}' < {typed} > new.txt"
        raise DatasetError(f"{where} is not UTF-8 text: line {line} has {what}", hint=hint) from fault
    if (at := body.find(b"\0")) >= 0:
        message = f"{where}, line {before + body.count(10, 0, at) + 1}: a NUL character; expected text"
        kind = likely_utf_16(body)
        convert = f"iconv -f {kind} -t UTF-8 {typed} > new.txt" if kind else f"tr -d '\\000' < {typed} > new.txt"
        raise DatasetError(message, hint=convert)
    if match := _LONE_CR.search(body):
        line = before + body.count(b"\n", 0, match.start()) + 1
        message = f"{where}, line {line}: a CR without LF; expected lines that end with LF or CRLF"
        raise DatasetError(message, hint=f"if its lines end with CR: tr '\\r' '\\n' < {typed} > new.txt")
