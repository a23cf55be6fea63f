"""The header of a safetensors file: the position, dtype and shape of each tensor, read without torch.

Files that the safetensors library rejects are rejected, since a file may come from an untrusted source: invalid headers, offsets outside
the file, overlapping tensors, gaps between tensors.

Format: 8 bytes, the header's length, little-endian; the header, JSON, `{name: {dtype, shape, data_offsets: [begin, end]}}`; the data.
https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, Never

from pydantic import Field, RootModel

from trainer.base.document import Count, Document, json_value, typed
from trainer.base.errors import DocumentError
from trainer.base.run_files import open_run_file
from trainer.base.suggestions import type_with_article

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_HEADER: Final = 32 << 20
"""The largest header in bytes: a hundred thousand tensors."""
BITS: Final = (
    dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8)
    | dict.fromkeys(("U16", "I16", "F16", "BF16"), 16)
    | dict.fromkeys(("U32", "I32", "F32"), 32)
    | dict.fromkeys(("U64", "I64", "F64", "C64"), 64)
    | {"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
)
"""The bits per element of each dtype."""
_DAMAGED: Final = "it is truncated or damaged: fetch it again, or ask its author for a new copy"
Shape = Annotated[list[Count], Field(max_length=64)]


class _HeaderEntry(Document):
    """A tensor in the header."""

    dtype: str
    shape: Shape
    data_offsets: tuple[Count, Count]


class _TensorHeader(RootModel[dict[str, _HeaderEntry]]):
    """The header's tensors, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor in a file; its bytes are those from `start` to `stop`."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: Path) -> dict[str, Tensor]:
    """Read the positions of the tensors in a safetensors file. Raise `DocumentError`, naming the file and the fault."""
    with open_run_file(path) as file:
        return read_parts(file, path)[0]


def read_parts(file: BinaryIO, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the positions of the tensors in an open safetensors file, and its metadata. Raise `DocumentError` if the file is invalid."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, LARGEST_HEADER):  # noqa: PLR2004 - the bytes of the length itself
        _reject(
            path, f"its header would have {length} bytes; the file has {size}, and a header at most {LARGEST_HEADER}"
        )
    entries, metadata = _entries(path, file.read(length))
    tensors = {name: _tensor(path, name, entry, 8 + length) for name, entry in entries.items()}
    _check_cover(path, tensors, start=8 + length, stop=size)
    return tensors, metadata


def _entries(path: Path, text: bytes) -> tuple[dict[str, _HeaderEntry], dict[str, str]]:
    header = json_value(text, where=f"the header of {path}", most=LARGEST_HEADER)
    if not isinstance(header, dict):
        _reject(path, f"its header is {type_with_article(header)}; expected an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _reject(path, "its metadata are not a table of strings")
    return typed(header, _TensorHeader, where=f"the header of {path}").root, metadata


def _tensor(path: Path, name: str, entry: _HeaderEntry, offset: int) -> Tensor:
    start, stop = entry.data_offsets
    bits = BITS.get(entry.dtype)
    if bits is None:
        _reject(path, f"tensor {name!a} is of dtype {entry.dtype!a}; known: {', '.join(BITS)}")
    size = prod(entry.shape) * bits
    if start > stop or 8 * (stop - start) != size:
        expected = f"{entry.dtype} of shape {entry.shape} takes {size / 8:.16g}"
        _reject(path, f"tensor {name!a} has {stop - start} bytes; {expected}")
    return Tensor(dtype=entry.dtype, shape=tuple(entry.shape), start=offset + start, stop=offset + stop)


def _check_cover(path: Path, tensors: dict[str, Tensor], *, start: int, stop: int) -> None:
    """Check that the tensors cover the file without gaps or overlaps, from the header's end to the file's end."""
    reached = start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.stop > stop:
            _reject(path, f"tensor {name!a} ends at byte {tensor.stop}; the file has {stop}")
        if tensor.start != reached:
            how = "overlaps another" if tensor.start < reached else "leaves a gap"
            _reject(path, f"tensor {name!a} {how}: it begins at byte {tensor.start}, expected {reached}")
        reached = tensor.stop
    if reached != stop:
        _reject(path, f"{stop - reached} bytes after its last tensor belong to no tensor")


def _reject(path: Path, message: str) -> Never:
    raise DocumentError(f"{path} is not a safetensors file: {message}", hint=_DAMAGED)
