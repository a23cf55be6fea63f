"""The lines of a trace: a header, a line a step, a line an evaluation, and how numbers and fingerprints are written in them.

Knows the format `reprise.trace/1` (docs/reference/formats/trace.md). Refuses to know torch, and how a fingerprint is computed:
`trainer.training.tracing.trace` writes what `trainer.comparison.trace` reads.

A trace holds no times and no names of machines: two equal runs write equal bytes, however often one was stopped and resumed.
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
"""Characters that a tensor gets in `tensors`: 24 bits of its fingerprint, enough to name it; `weights` tells whether any differs."""

Bits = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{16})*$")]
"""Float64 numbers, 16 hex digits each, the sign first: equal exactly where the bits are, NaN's too."""
Print = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
"""64 bits of a fingerprint."""
Prints = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9+/]{4})*$")]
"""24 bits for each tensor of a list, in its order."""


class Line(BaseModel):
    """A line of a trace: frozen, unknown keys refused, non-finite numbers as strings."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    def to_line(self) -> bytes:
        """Write it; reading gives an equal one back."""
        return self.model_dump_json(exclude_none=True).encode() + b"\n"


class Header(Line):
    """The first line: what each further line's fingerprints are of, and how they were computed."""

    format: Literal["reprise.trace/1"] = FORMAT
    algorithm: Literal["xxh3-64", "weighted-sum-64"]
    """Of `data`, `weights`, `tensors`, `gradients`; traces of different algorithms are compared in the other streams."""
    density: Literal["every element, every step"] = "every element, every step"
    layout: Digest
    """The digest of each tensor's name, dtype and shape: `layout_of`."""
    tensors: list[str]
    """The weights' names, in the order of `tensors` in a step."""
    gradients: list[str] | None = None
    """The parameters' names, in the order of `gradients` in a step; only in a full trace."""
    schedule: list[str]
    """What each number of `schedule` in a step is, as `0.lr`: of the optimizer's first group."""


class Step(Line):
    """One step of the optimizer, of one or several batches."""

    step: Count
    """Steps taken, this one included: the first is 1."""
    epoch: Count
    batch: Count
    """Batches of the epoch seen, this step's included."""
    data: Print
    random: Print
    schedule: list[float]
    loss: Bits
    """One number for each batch of the step."""
    gradient: Bits
    """The norm of all gradients together, before clipping."""
    weights: Print
    tensors: Prints
    gradients: Prints | None = None


class Evaluation(Line):
    """What a validation or the test measured."""

    evaluation: Literal["val", "test"]
    step: Count
    """Steps taken before it."""
    values: dict[str, float]


def layout_of(tensors: Iterable[tuple[str, str, Sequence[int]]]) -> str:
    """Name a list of tensors by name, dtype and shape, as `("head.weight", "float32", [10, 64])`."""
    return digest_of_document([[name, dtype, list(shape)] for name, dtype, shape in tensors])


def bits_of(*numbers: float) -> str:
    """Write numbers as their bits.

    >>> bits_of(1.0, -0.0)
    '3ff00000000000008000000000000000'
    """
    return struct.pack(f">{len(numbers)}d", *numbers).hex()


def numbers_of(bits: str) -> tuple[float, ...]:
    """Read numbers back from their bits.

    >>> numbers_of(bits_of(0.1, 2.0))
    (0.1, 2.0)
    """
    return struct.unpack(f">{len(bits) // 16}d", bytes.fromhex(bits))


def prints_of(fingerprints: Iterable[int]) -> str:
    """Write the lowest 24 bits of each fingerprint.

    >>> prints_of([0, 1, 2**64 - 1])
    'AAAAAAAB////'
    """
    return b64encode(b"".join((value & 0xFFFFFF).to_bytes(3, "big") for value in fingerprints)).decode()
