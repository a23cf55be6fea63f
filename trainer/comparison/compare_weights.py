"""Compare the weights of two runs, tensor by tensor: first digests, then the numbers of tensors that differ.

Files of any size are compared in a few hundred kilobytes of memory. If the numbers are available, every tensor is hashed, and a tensor that
does not match `tensors.json` and the record is rejected by name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DigestMismatchError, DocumentError
from trainer.base.run_files import open_run_file
from trainer.comparison.ulp import Apart, apart
from trainer.comparison.weights import TENSORS, WEIGHTS, read_header, read_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from trainer.comparison.weights import Described, Tensor, Tensors

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
    apart: Apart | None = None
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


def compare_weights(a: Path, b: Path, *, digests: tuple[str | None, str | None]) -> WeightsComparison:
    """Compare the weights in two attempts' folders, whose records contain these digests.

    Raise `DocumentError` if a file has another format, `DigestMismatchError` if it has another digest.
    """
    one, other = (_table(folder, digest) for folder, digest in zip((a, b), digests, strict=True))
    numbers = (a / WEIGHTS).is_file() and (b / WEIGHTS).is_file()
    headers = [_verified(folder / WEIGHTS, table) for folder, table in ((a, one), (b, other))] if numbers else []
    names = sorted({*one.weights, *other.weights})
    differing = [_difference(name, one.weights.get(name), other.weights.get(name)) for name in names]
    found = [difference for difference in differing if difference is not None]
    if numbers:
        with open_run_file(a / WEIGHTS) as first, open_run_file(b / WEIGHTS) as second:
            found = [_with_numbers(each, (first, headers[0]), (second, headers[1])) for each in found]
    states = sorted({*one.optimizer, *other.optimizer})
    return WeightsComparison(
        tensors=len(names),
        differing=tuple(found),
        optimizer=tuple(name for name in states if one.optimizer.get(name) != other.optimizer.get(name)),
        optimizer_tensors=len(states),
        numbers=numbers,
    )


def _table(folder: Path, named: str | None) -> Tensors:
    table = read_tensors(folder / TENSORS)
    if table.digest != named:
        said = f"{folder / TENSORS} is of the weights {table.digest}; the record names {named}"
        raise DigestMismatchError(
            said, hint="do not use it; if the run is in the store, remove it here and pull it again"
        )
    return table


def _verified(path: Path, table: Tensors) -> dict[str, Tensor]:
    """Return the positions of the tensors after checking every tensor's hash against the table."""
    header = read_header(path)
    if strangers := header.keys() ^ table.weights.keys():
        raise DigestMismatchError(
            f"{path}: tensor {min(strangers)!a} is there or in {TENSORS}, not in both", hint="do not use it"
        )
    with open_run_file(path) as file:
        for name, tensor in header.items():
            running = hashlib.sha256()
            for block in _blocks(file, tensor, 16 * _BLOCK):
                running.update(block)
            said = table.weights[name].sha256
            if f"sha256:{running.hexdigest()}" != said:
                raise DigestMismatchError(
                    f"{path}: tensor {name!a} is sha256:{running.hexdigest()}; {TENSORS} says {said}",
                    hint="do not use it",
                )
    return header


def _difference(name: str, a: Described | None, b: Described | None) -> TensorDifference | None:
    if a == b:
        return None
    return TensorDifference(
        name=name,
        dtypes=(a.dtype if a else None, b.dtype if b else None),
        shapes=(tuple(a.shape) if a else None, tuple(b.shape) if b else None),
        elements=max(prod(side.shape) for side in (a, b) if side is not None),
    )


def _with_numbers(
    found: TensorDifference, a: tuple[BinaryIO, dict[str, Tensor]], b: tuple[BinaryIO, dict[str, Tensor]]
) -> TensorDifference:
    """Return the difference with the distance of the numbers, if both sides have the same shape and number format."""
    one, other = a[1].get(found.name), b[1].get(found.name)
    number = one.number if one else None
    if one is None or other is None or number is None or (one.dtype, one.shape) != (other.dtype, other.shape):
        return found
    measured, place = Apart(), 0
    for left, right in zip(_blocks(a[0], one, _BLOCK), _blocks(b[0], other, _BLOCK), strict=True):
        if left != right:
            measured = measured.joined(apart(left, right, number), offset=place)
        place += len(left) // number.width
    return TensorDifference(
        name=found.name, dtypes=found.dtypes, shapes=found.shapes, elements=found.elements, apart=measured
    )


def _blocks(file: BinaryIO, tensor: Tensor, size: int) -> Iterator[bytes]:
    place = tensor.start
    while place < tensor.stop:
        file.seek(place)
        block = file.read(min(size, tensor.stop - place))
        if not block:
            raise DocumentError(f"{file.name} ended at byte {place} while it was read", hint="compare again")
        yield block
        place += len(block)
