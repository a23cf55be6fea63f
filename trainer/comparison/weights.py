"""A run's weights as files, and their comparison: `weights.safetensors` with the numbers, and `tensors.json` with their digests.

This module reads both formats without torch, and rejects files that the safetensors library rejects, since a file may come from an
untrusted source: invalid headers, offsets outside of the file, overlapping tensors, gaps between tensors. Weights are compared tensor by
tensor: first digests, then the numbers of tensors that differ, in a few hundred kilobytes of memory. If the numbers are available, every
tensor is hashed, and a tensor that does not match `tensors.json` and the record is rejected by name.

Format: 8 bytes, the header's length, little-endian; the header, JSON, `{name: {dtype, shape, data_offsets: [begin, end]}}`; the data.
https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, Literal, Never

from pydantic import Field, RootModel

from trainer.base.digest import Digest, digest_of_document
from trainer.base.document import Count, Document, json_value, typed
from trainer.base.errors import DigestMismatchError, DocumentError
from trainer.base.run_files import open_run_file, read_run_json
from trainer.comparison.ulp import FORMATS, ArrayDistance, array_distance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.comparison.ulp import NumberFormat

WEIGHTS: Final = "weights.safetensors"
TENSORS: Final = "tensors.json"
LARGEST_HEADER: Final = 32 << 20
"""The largest header in bytes: a hundred thousand tensors."""
_OTHER_BITS: Final = {"C64": 64, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
BITS: Final = {name: 8 * number.width for name, number in FORMATS.items()} | _OTHER_BITS
"""The bits per element of each dtype."""
_DAMAGED: Final = "it is truncated or damaged: fetch it again, and do not use it if it comes from a stranger"
_Shape = Annotated[list[Count], Field(max_length=64)]


class _HeaderEntry(Document):
    """A tensor in the header."""

    dtype: str
    shape: _Shape
    data_offsets: tuple[Count, Count]


class _Header(RootModel[dict[str, _HeaderEntry]]):
    """The header's tensors, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor in a file; its bytes are those from `start` to `stop`."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def number(self) -> NumberFormat | None:
        """The number format; `None` for formats that are compared as bytes only."""
        return FORMATS.get({"C64": "F32", "F8_E8M0": "U8"}.get(self.dtype, self.dtype))


class TensorDescription(Document):
    """A tensor in `tensors.json`."""

    dtype: str
    shape: _Shape
    sha256: Digest


class Tensors(Document):
    """The content of `tensors.json`."""

    format: Literal["reprise.tensors/1"]
    step: Count
    weights: dict[str, TensorDescription]
    optimizer: dict[str, TensorDescription] = {}
    frozen: list[str] = []
    """The names of the parameters that were not trained."""

    @property
    def digest(self) -> str:
        """The digest that a record stores as `weights`."""
        return digest_of_document({name: tensor.model_dump() for name, tensor in self.weights.items()})


def read_tensors(path: Path) -> Tensors:
    """Read `tensors.json`. Raise `DocumentError`."""
    return read_run_json(path, Tensors, most=LARGEST_HEADER)


def read_header(path: Path) -> dict[str, Tensor]:
    """Read the positions of the tensors in a safetensors file. Raise `DocumentError`, naming the file and the fault."""
    with open_run_file(path) as file:
        return read_parts(file, path)[0]


def read_parts(file: BinaryIO, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the positions of the tensors in an open safetensors file, and its metadata. Raise `DocumentError`."""
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
        _reject(path, f"its header is a {type(header).__name__}; expected an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _reject(path, "its metadata are not a table of texts")
    return typed(header, _Header, where=f"the header of {path}").root, metadata


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
        _reject(path, f"{stop - reached} bytes after its last tensor belong to none")


def _reject(path: Path, message: str) -> Never:
    raise DocumentError(f"{path} is not a safetensors file: {message}", hint=_DAMAGED)


_BLOCK: Final = 1 << 16
"""The number of bytes compared at once, a whole count of numbers in any format; equal blocks are not decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDifference:
    """A tensor that differs."""

    name: str
    dtypes: tuple[str | None, str | None]
    """The dtype on each side; `None` if the side has no such tensor."""
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
    elements: int
    apart: ArrayDistance | None = None
    """The distance of its numbers; `None` if dtypes or shapes differ, or if the numbers are not available."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsComparison:
    """The comparison of the weights and the optimizers' states of two runs."""

    tensors: int
    differing: tuple[TensorDifference, ...]
    optimizer: tuple[str, ...]
    """The optimizers' tensors that differ, by digest."""
    optimizer_tensors: int
    numbers: bool
    """Whether the numbers are available on both sides; otherwise only digests are compared."""
    frozen: tuple[int, int] = (0, 0)
    """The number of parameters that were not trained, on each side."""


def compare_weights(a: Path, b: Path, *, digests: tuple[str | None, str | None]) -> WeightsComparison:
    """Compare the weights in two attempts' folders, whose records contain these digests.

    Raise `DocumentError` if a file has another format, `DigestMismatchError` if it has another digest.
    """
    one, other = (_read_tensors(folder, digest) for folder, digest in zip((a, b), digests, strict=True))
    numbers = (a / WEIGHTS).is_file() and (b / WEIGHTS).is_file()
    headers = [_verified(folder / WEIGHTS, tensors) for folder, tensors in ((a, one), (b, other))] if numbers else []
    names = sorted({*one.weights, *other.weights})
    pairs = {name: (one.weights.get(name), other.weights.get(name)) for name in names}
    differing = [_difference(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]
    if numbers:
        with open_run_file(a / WEIGHTS) as first, open_run_file(b / WEIGHTS) as second:
            differing = [_with_numbers(each, (first, headers[0]), (second, headers[1])) for each in differing]
    states = sorted({*one.optimizer, *other.optimizer})
    return WeightsComparison(
        tensors=len(names),
        differing=tuple(differing),
        optimizer=tuple(name for name in states if one.optimizer.get(name) != other.optimizer.get(name)),
        optimizer_tensors=len(states),
        frozen=(len(one.frozen), len(other.frozen)),
        numbers=numbers,
    )


def _read_tensors(folder: Path, digest: str | None) -> Tensors:
    tensors = read_tensors(folder / TENSORS)
    if tensors.digest != digest:
        message = f"{folder / TENSORS} is of the weights {tensors.digest}; the record names {digest}"
        hint = "do not use it; if the run is in the store, remove it here and pull it again"
        raise DigestMismatchError(message, hint=hint)
    return tensors


def _verified(path: Path, tensors: Tensors) -> dict[str, Tensor]:
    """Return the positions of the tensors after checking every tensor's hash."""
    header = read_header(path)
    if unmatched := header.keys() ^ tensors.weights.keys():
        message = f"{path}: tensor {min(unmatched)!a} is there or in {TENSORS}, not in both"
        raise DigestMismatchError(message, hint="do not use it")
    with open_run_file(path) as file:
        for name, tensor in header.items():
            running = hashlib.sha256()
            for block in _blocks(file, tensor, 16 * _BLOCK):
                running.update(block)
            digest, expected = f"sha256:{running.hexdigest()}", tensors.weights[name].sha256
            if digest != expected:
                message = f"{path}: tensor {name!a} is {digest}; {TENSORS} has {expected}"
                raise DigestMismatchError(message, hint="do not use it")
    return header


def _difference(name: str, a: TensorDescription | None, b: TensorDescription | None) -> TensorDifference:
    return TensorDifference(
        name=name,
        dtypes=(a.dtype if a else None, b.dtype if b else None),
        shapes=(tuple(a.shape) if a else None, tuple(b.shape) if b else None),
        elements=max(prod(each.shape) for each in (a, b) if each is not None),
    )


def _with_numbers(
    difference: TensorDifference, a: tuple[BinaryIO, dict[str, Tensor]], b: tuple[BinaryIO, dict[str, Tensor]]
) -> TensorDifference:
    """Return the difference with the distance of the numbers, if both sides have the same shape and number format."""
    one, other = a[1].get(difference.name), b[1].get(difference.name)
    number = one.number if one else None
    if one is None or other is None or number is None or (one.dtype, one.shape) != (other.dtype, other.shape):
        return difference
    distance, index = ArrayDistance(), 0
    for block, another in zip(_blocks(a[0], one, _BLOCK), _blocks(b[0], other, _BLOCK), strict=True):
        if block != another:
            distance = distance.joined(array_distance(block, another, number), offset=index)
        index += len(block) // number.width
    return replace(difference, apart=distance)


def _blocks(file: BinaryIO, tensor: Tensor, size: int) -> Iterator[bytes]:
    position = tensor.start
    while position < tensor.stop:
        file.seek(position)
        block = file.read(min(size, tensor.stop - position))
        if not block:
            raise DocumentError(f"{file.name} ended at byte {position} while it was read", hint="compare again")
        yield block
        position += len(block)
