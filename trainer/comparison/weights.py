"""Compare the weights of two runs: `weights.safetensors` with the numbers, and `tensors.json` with digests.

This module reads both formats without torch. Weights are compared tensor by tensor: first the digests, then the numbers of the tensors that
differ, in a few hundred kilobytes of memory. If the numbers are available, every tensor is hashed, and an error names the first tensor that
does not match `tensors.json`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from trainer.base.digest import Digest, digest_of_document
from trainer.base.document import Count, Document
from trainer.base.errors import DigestMismatchError, DocumentError
from trainer.base.run_files import open_run_file, read_run_json
from trainer.base.tensor_file import LARGEST_HEADER, Shape, read_header
from trainer.comparison.ulp import FORMATS, ArrayDistance, array_distance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.base.tensor_file import Tensor
    from trainer.comparison.ulp import FloatFormat

WEIGHTS: Final = "weights.safetensors"
TENSORS: Final = "tensors.json"
PULL_AGAIN: Final = (
    "it was altered: if the run is in the store, delete the local run and pull it again; otherwise ask for a new copy"
)


class TensorDescription(Document):
    """A tensor in `tensors.json`."""

    dtype: str
    shape: Shape
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
    """Read `tensors.json`. Raise `DocumentError` if it is invalid."""
    return read_run_json(path, Tensors, most=LARGEST_HEADER)


_BLOCK: Final = 1 << 16
"""The number of bytes compared at once, a multiple of the size of any number; equal blocks are not decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDifference:
    """A tensor that differs."""

    name: str
    dtypes: tuple[str | None, str | None]
    """The dtype in each run; `None` if the run has no such tensor."""
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
    elements: int
    apart: ArrayDistance | None = None
    """The distance of its numbers; `None` if the dtypes or shapes differ, or if the numbers are not available or not decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsComparison:
    """The comparison of the weights and the optimizer states of two runs."""

    tensors: int
    differing: tuple[TensorDifference, ...]
    optimizer: tuple[str, ...]
    """The names of the optimizer tensors whose digests differ."""
    optimizer_tensors: int
    numbers: bool
    """Whether the numbers of both runs are available; otherwise only digests are compared."""
    frozen: tuple[int, int] = (0, 0)
    """The number of parameters that were not trained, in each run."""


def compare_weights(a: Path, b: Path, *, digests: tuple[str | None, str | None]) -> WeightsComparison:
    """Compare the weights in two attempts' folders, whose records contain `digests`.

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
        message = f"{folder / TENSORS} belongs to the weights {tensors.digest}; the record names {digest}"
        raise DigestMismatchError(message, hint=PULL_AGAIN)
    return tensors


def _verified(path: Path, tensors: Tensors) -> dict[str, Tensor]:
    """Verify the digest of every tensor, and return the tensors by name. Raise `DigestMismatchError` if a tensor is altered."""
    header = read_header(path)
    if unmatched := header.keys() ^ tensors.weights.keys():
        message = f"{path}: tensor {min(unmatched)!a} is missing in this file or in {TENSORS}"
        raise DigestMismatchError(message, hint=PULL_AGAIN)
    with open_run_file(path) as file:
        for name, tensor in header.items():
            running = hashlib.sha256()
            for block in _blocks(file, tensor, 16 * _BLOCK):
                running.update(block)
            digest, expected = f"sha256:{running.hexdigest()}", tensors.weights[name].sha256
            if digest != expected:
                message = f"{path}: tensor {name!a} is {digest}; {TENSORS} has {expected}"
                raise DigestMismatchError(message, hint=PULL_AGAIN)
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
    """Return the difference with the distance of the numbers, if both tensors have the same shape and number format."""
    one, other = a[1].get(difference.name), b[1].get(difference.name)
    number = _number_format(one) if one else None
    if one is None or other is None or number is None or (one.dtype, one.shape) != (other.dtype, other.shape):
        return difference
    distance, index = ArrayDistance(), 0
    for block, another in zip(_blocks(a[0], one, _BLOCK), _blocks(b[0], other, _BLOCK), strict=True):
        if block != another:
            distance = distance.joined(array_distance(block, another, number), offset=index)
        index += len(block) // number.width
    return replace(difference, apart=distance)


def _number_format(tensor: Tensor) -> FloatFormat | None:
    """Return the number format of a tensor; `None` for formats that are compared as bytes only."""
    return FORMATS.get({"C64": "F32", "F8_E8M0": "U8"}.get(tensor.dtype, tensor.dtype))


def _blocks(file: BinaryIO, tensor: Tensor, size: int) -> Iterator[bytes]:
    position = tensor.start
    while position < tensor.stop:
        file.seek(position)
        block = file.read(min(size, tensor.stop - position))
        if not block:
            raise DocumentError(f"{file.name} ended at byte {position} while it was read", hint="compare again")
        yield block
        position += len(block)
