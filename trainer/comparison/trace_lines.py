"""The lines of a trace: a header, a line per step and a line per evaluation, with the encoding of numbers and fingerprints.

Format `reprise.trace/1` (docs/reference/formats/trace.md). This module does not need torch; `trainer.training.tracing.trace` writes the
lines that `trainer.comparison.trace` reads. A trace contains no times and no machine names: equal runs write equal bytes, even if a run was
interrupted and resumed.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from trainer.base.digest import Digest, digest_of_document
from trainer.base.document import Count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORMAT: Final = "reprise.trace/1"
WIDTH: Final = 4
"""Characters per tensor in `tensors`: 24 bits of its fingerprint, to find a tensor that differs; `weights` shows whether any differs."""

Bits = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{16})*$")]
"""Float64 numbers, 16 hex digits each, most significant digit first: equal if and only if the bits are equal, even for NaNs."""
Print = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
"""64 bits of a fingerprint."""
Prints = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9+/]{4})*$")]
"""24 bits of each tensor's fingerprint in Base64, in the order of a list of tensors."""


class TraceLine(BaseModel):
    """A line of a trace: frozen, unknown keys rejected, non-finite numbers as strings."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    def to_line(self) -> bytes:
        """Return the line as bytes, from which an equal object is parsed."""
        return self.model_dump_json(exclude_none=True).encode() + b"\n"


class TraceHeader(TraceLine):
    """The first line: the tensors and the algorithm of the fingerprints in all other lines."""

    format: Literal["reprise.trace/1"] = FORMAT
    algorithm: Literal["xxh3-64", "weighted-sum-64"]
    """The algorithm of `data`, `weights`, `tensors` and `gradients`; traces with different algorithms are compared by other values."""
    density: Literal["every element, every step"] = "every element, every step"
    layout: Digest
    """The digest of each tensor's name, dtype and shape: `layout_of`."""
    tensors: list[str]
    """The names of the weights, in the order of `tensors` in a step."""
    gradients: list[str] | None = None
    """The names of the parameters, in the order of `gradients` in a step; only in a full trace."""
    frozen: list[str] | None = None
    """The names of the parameters that were not trained when the trace began; absent if all were trained."""
    schedule: list[str]
    """The names of the numbers in a step's `schedule`, for example `0.lr` for the first parameter group."""


class Step(TraceLine):
    """One optimizer step, of one or more batches."""

    step: Count
    """The number of steps including this step: the first is 1."""
    epoch: Count
    batch: Count
    """The number of batches in the epoch, up to and including this step."""
    data: Print
    random: Print
    schedule: list[float]
    loss: Bits
    """A number for each batch of the step."""
    gradient: Bits
    """The total norm of all gradients, before clipping."""
    weights: Print
    tensors: Prints
    gradients: Prints | None = None


class Evaluation(TraceLine):
    """The metrics of a validation or test."""

    evaluation: Literal["val", "test"]
    step: Count
    """The number of steps before the evaluation."""
    values: dict[str, float]


def layout_of(tensors: Iterable[tuple[str, str, Sequence[int]]]) -> str:
    """Return the digest of a list of tensors by name, dtype and shape, for example `("head.weight", "float32", [10, 64])`."""
    return digest_of_document([[name, dtype, list(shape)] for name, dtype, shape in tensors])


def bits_of(*numbers: float) -> str:
    """Encode numbers as their bits.

    >>> bits_of(1.0, -0.0)
    '3ff00000000000008000000000000000'
    """
    return struct.pack(f">{len(numbers)}d", *numbers).hex()


def numbers_of(bits: str) -> tuple[float, ...]:
    """Decode numbers from their bits.

    >>> numbers_of(bits_of(0.1, 2.0))
    (0.1, 2.0)
    """
    return struct.unpack(f">{len(bits) // 16}d", bytes.fromhex(bits))


def prints_of(fingerprints: Iterable[int]) -> str:
    """Encode the lowest 24 bits of each fingerprint.

    >>> prints_of([0, 1, 2**64 - 1])
    'AAAAAAAB////'
    """
    return b64encode(b"".join((value & 0xFFFFFF).to_bytes(3, "big") for value in fingerprints)).decode()
