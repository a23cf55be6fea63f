r"""Measure the distance between two arrays of numbers by their bits, without torch or NumPy, at tens of megabytes per second.

The distance is in *ulps*: the number of steps between representable numbers. All numbers of a format are ordered by IEEE 754's totalOrder:
-0.0 is one step below 0.0, so numbers with different bits have a distance of at least 1. NaNs have no distance and are counted instead. For
integers, the distance is the absolute difference.

An array is read as a single long integer, on which a few operations compute the order of all its numbers; the rest runs in C, by `map`.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import compress, repeat
from operator import sub, truediv
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatFormat:
    """A number format."""

    name: str
    """The name in torch and `tensors.json`."""
    width: int
    """The size of a number in bytes."""
    code: str
    """The type code, for `array`, of the integers that order the numbers."""
    largest: int | None = None
    """The bits of the largest magnitude that is not NaN, which may be infinity; `None` for integers."""
    infinity: int | None = None
    """The bits of infinity; `None` if the format has no infinity."""


FORMATS: Final = {
    "BOOL": FloatFormat(name="bool", width=1, code="B"),
    "U8": FloatFormat(name="uint8", width=1, code="B"),
    "I8": FloatFormat(name="int8", width=1, code="b"),
    "U16": FloatFormat(name="uint16", width=2, code="H"),
    "I16": FloatFormat(name="int16", width=2, code="h"),
    "U32": FloatFormat(name="uint32", width=4, code="I"),
    "I32": FloatFormat(name="int32", width=4, code="i"),
    "U64": FloatFormat(name="uint64", width=8, code="Q"),
    "I64": FloatFormat(name="int64", width=8, code="q"),
    "F64": FloatFormat(name="float64", width=8, code="q", largest=0x7FF << 52, infinity=0x7FF << 52),
    "F32": FloatFormat(name="float32", width=4, code="i", largest=0xFF << 23, infinity=0xFF << 23),
    "F16": FloatFormat(name="float16", width=2, code="h", largest=0x7C00, infinity=0x7C00),
    "BF16": FloatFormat(name="bfloat16", width=2, code="h", largest=0x7F80, infinity=0x7F80),
    "F8_E5M2": FloatFormat(name="float8_e5m2", width=1, code="b", largest=0x7C, infinity=0x7C),
    "F8_E4M3": FloatFormat(name="float8_e4m3fn", width=1, code="b", largest=0x7E),
}
"""The formats by their safetensors names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayDistance:
    """The distance between two arrays of numbers; `ArrayDistance()` for equal arrays."""

    differing: int = 0
    """The number of pairs whose bits differ."""
    first: int | None = None
    """The index of the first pair whose bits differ."""
    ulp: int = 0
    """The largest distance in ulps."""
    relative: float = 0.0
    """The largest |a - b| / max(|a|, |b|): at most 2, or infinity if a number is infinite."""
    zero_signs: int = 0
    """The number of pairs of -0.0 and 0.0."""
    nan_against_number: int = 0
    nan_payloads: int = 0
    """The number of pairs of NaNs with different bits."""

    def joined(self, later: ArrayDistance, *, offset: int) -> ArrayDistance:
        """Return the distance of these arrays, continued by arrays that begin at index `offset` and have the distance `later`."""
        counts = ("differing", "zero_signs", "nan_against_number", "nan_payloads")
        return ArrayDistance(
            first=later.first + offset if self.first is None and later.first is not None else self.first,
            ulp=max(self.ulp, later.ulp),
            relative=max(self.relative, later.relative),
            **{name: getattr(self, name) + getattr(later, name) for name in counts},
        )


def array_distance(a: bytes, b: bytes, number: FloatFormat) -> ArrayDistance:
    """Compare two byte strings of equal length, which contain little-endian numbers of the format `number`.

    >>> array_distance(struct.pack("<2f", 1.0, 2.0), struct.pack("<2f", 1.0, 2.0000002384185791), FORMATS["F32"]).ulp
    1
    """
    if a == b:
        return ArrayDistance()
    x, y = ordinals(a, number), ordinals(b, number)
    values = decode_numbers(a, number), decode_numbers(b, number)
    first = next(index for index, (p, q) in enumerate(zip(x, y, strict=True)) if p != q)
    if _has_special(a, number) or _has_special(b, number):
        distance = _with_special(x, y, values, number)
    else:
        distance = _plain(x, y, values, signed=number.largest is not None)
    return replace(distance, first=first)


def ordinals(data: bytes, number: FloatFormat) -> array[int]:
    """Return each number's position in the order of its format: neighbors differ by 1, and 0.0 is at 0."""
    if number.largest is None:
        return _array(number.code, data)
    whole = int.from_bytes(data, "little")
    signs = whole & _sign_bits(number.width, len(data) // number.width)
    turned = whole ^ (signs - (signs >> (8 * number.width - 1)))
    return _array(number.code, turned.to_bytes(len(data), "little"))


def decode_numbers(data: bytes, number: FloatFormat) -> Sequence[float]:
    """Decode little-endian numbers of the format `number`."""
    reader = _READERS.get(number.name)
    return reader(data) if reader else _array(number.code, data)


def _relative(first: compress[float], second: compress[float]) -> float:
    a, b = list(first), list(second)
    sizes = map(max, map(abs, a), map(abs, b), repeat(_TINY))
    largest: float = max(map(truediv, map(abs, map(sub, a, b)), sizes))
    return min(2.0, largest)


def _has_special(data: bytes, number: FloatFormat) -> bool:
    """Return whether any number is NaN or infinite, by an addition to all magnitudes that overflows into the sign bit for such numbers."""
    if number.largest is None:
        return False
    signs = _sign_bits(number.width, len(data) // number.width)
    ones = signs >> (8 * number.width - 1)
    special = number.largest + 1 if number.infinity is None else number.infinity
    magnitudes = int.from_bytes(data, "little") & (signs - ones)
    return bool((magnitudes + ones * ((1 << (8 * number.width - 1)) - special)) & signs)


def _plain(
    x: Sequence[int], y: Sequence[int], values: tuple[Iterable[float], Iterable[float]], *, signed: bool
) -> ArrayDistance:
    """Compare arrays without NaNs or infinities; `signed` formats have two zeros."""
    gaps = list(map(abs, map(sub, x, y)))
    if not any(gaps):
        return ArrayDistance()
    signs = 0
    if signed and 1 in gaps and (-1 in x or -1 in y):
        signs = sum(1 for p, q in zip(x, y, strict=True) if {p, q} == {-1, 0})
    return ArrayDistance(
        differing=len(gaps) - gaps.count(0),
        ulp=max(gaps),
        relative=_relative(compress(values[0], gaps), compress(values[1], gaps)),
        zero_signs=signs,
    )


def _with_special(
    x: array[int], y: array[int], values: tuple[Sequence[float], Sequence[float]], number: FloatFormat
) -> ArrayDistance:
    """Compare arrays that contain NaNs or infinities. Pairs with such numbers are compared separately."""
    largest = number.largest or 0
    edge = largest if number.infinity is None else largest - 1
    usual = [-edge - 1 <= p <= edge and -edge - 1 <= q <= edge for p, q in zip(x, y, strict=True)]
    p, q = (list(compress(side, usual)) for side in (x, y))
    a, b = (compress(side, usual) for side in values)
    special = [(one, other) for one, other, plain in zip(x, y, usual, strict=True) if not plain and one != other]
    nans = [(not -largest - 1 <= one <= largest) + (not -largest - 1 <= other <= largest) for one, other in special]
    infinite = max((abs(one - other) for (one, other), nan in zip(special, nans, strict=True) if not nan), default=0)
    distance = _plain(p, q, (list(a), list(b)), signed=True)
    return replace(
        distance,
        differing=distance.differing + len(special),
        ulp=max(distance.ulp, infinite),
        relative=math.inf if infinite else distance.relative,
        nan_against_number=nans.count(1),
        nan_payloads=nans.count(2),
    )


@lru_cache(maxsize=16)
def _sign_bits(width: int, count: int) -> int:
    return int.from_bytes((b"\0" * (width - 1) + b"\x80") * count, "little")


def _array(code: str, data: bytes) -> array[int]:
    values: array[int] = array(code, data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _widened(data: bytes) -> Sequence[float]:
    """Decode bfloat16 numbers, which are the upper half of a float32."""
    wide = bytearray(2 * len(data))
    wide[2::4], wide[3::4] = data[0::2], data[1::2]
    return _array("f", bytes(wide))


def _eight_bits(byte: int, mantissa: int, bias: int) -> float:
    sign = -1.0 if byte & 0x80 else 1.0
    exponent, fraction = (byte & 0x7F) >> mantissa, byte & ((1 << mantissa) - 1)
    if exponent == 0:
        return math.ldexp(sign * fraction, 1 - bias - mantissa)
    return math.ldexp(sign * ((1 << mantissa) + fraction), exponent - bias - mantissa)


_TINY: Final = 5e-324
"""The smallest positive number. It avoids a division by zero for 0.0 and -0.0."""
_E4M3: Final = [_eight_bits(byte, 3, 7) for byte in range(256)]
_E5M2: Final = [
    math.copysign(math.inf, 0x7F - byte) if byte & 0x7F == 0x7C else _eight_bits(byte, 2, 15)  # noqa: PLR2004 - the bits of infinity
    for byte in range(256)
]
"""The values of all 8-bit numbers; the entries of NaNs are never used."""
_READERS: Final[dict[str, Callable[[bytes], Sequence[float]]]] = {
    "float64": lambda data: _array("d", data),
    "float32": lambda data: _array("f", data),
    "float16": lambda data: struct.unpack(f"<{len(data) // 2}e", data),
    "bfloat16": _widened,
    "float8_e5m2": lambda data: [_E5M2[byte] for byte in data],
    "float8_e4m3fn": lambda data: [_E4M3[byte] for byte in data],
}
