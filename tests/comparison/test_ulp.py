"""The distance between arrays, compared with a direct implementation of its definition for each number."""

from __future__ import annotations

import math
import struct
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.comparison.ulp import FORMATS, ArrayDistance, FloatFormat, array_distance, decode_numbers, ordinals

FLOATS: Final = {"F64": ("<Q", "<d"), "F32": ("<I", "<f"), "F16": ("<H", "<e")}


def ordinal(bits: int, width: int) -> int:
    """Return the ordinal of a float: 0.0 has 0, -0.0 has -1; the ordinals of larger magnitudes are further from 0."""
    sign = 1 << (8 * width - 1)
    return -1 - (bits - sign) if bits & sign else bits


def expected_distance(a: bytes, b: bytes, number: FloatFormat) -> ArrayDistance:
    found, width = ArrayDistance(), number.width
    for index in range(len(a) // width):
        one, other = (side[index * width : (index + 1) * width] for side in (a, b))
        if one == other:
            continue
        p, q = (ordinal(int.from_bytes(side, "little"), width) for side in (one, other))
        u, v = (float(decode_numbers(side, number)[0]) for side in (one, other))
        nan = [not -(number.largest or 0) - 1 <= side <= (number.largest or 0) for side in (p, q)]
        size = max(abs(u), abs(v))
        relative = (min(2.0, abs(u - v) / size) if size else 0.0) if size < math.inf else math.inf
        found = ArrayDistance(
            differing=found.differing + 1,
            first=index if found.first is None else found.first,
            ulp=found.ulp if any(nan) else max(found.ulp, abs(p - q)),
            relative=found.relative if any(nan) else max(found.relative, relative),
            zero_signs=found.zero_signs + (u == v == 0),
            nan_against_number=found.nan_against_number + (sum(nan) == 1),
            nan_payloads=found.nan_payloads + (sum(nan) == 2),
        )
    return found


@pytest.mark.parametrize("name", [name for name, number in FORMATS.items() if number.largest is not None])
@given(data=st.data())
def test_float_distance_matches_the_definition(name: str, data: st.DataObject) -> None:
    number = FORMATS[name]
    count = data.draw(st.integers(0, 12))
    stretch = st.binary(min_size=count * number.width, max_size=count * number.width)
    a, b = data.draw(stretch), data.draw(stretch)
    assert array_distance(a, b, number) == expected_distance(a, b, number)


@pytest.mark.parametrize(("name", "codes"), FLOATS.items())
@given(data=st.data())
def test_the_next_float_is_one_ulp_away(name: str, codes: tuple[str, str], data: st.DataObject) -> None:
    number, (whole, real) = FORMATS[name], codes
    bits = data.draw(st.integers(0, (number.infinity or 0) - 2))
    a, b = struct.pack(whole, bits), struct.pack(whole, bits + 1)
    assert struct.unpack(real, a) < struct.unpack(real, b)
    assert (array_distance(a, b, number).ulp, array_distance(a, b, number).differing) == (1, 1)
    assert list(decode_numbers(a, number)) == list(struct.unpack(real, a))


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_integer_distance_is_the_difference(pairs: list[tuple[int, int]]) -> None:
    a, b = (struct.pack(f"<{len(side)}q", *side) for side in zip(*pairs, strict=True))
    found = array_distance(a, b, FORMATS["I64"])
    assert found.ulp == max(abs(p - q) for p, q in pairs)
    assert found.differing == sum(p != q for p, q in pairs)


@pytest.mark.parametrize("name", ["F64", "F32", "F16", "BF16", "F8_E5M2", "F8_E4M3"])
def test_the_order_of_all_numbers_is_total(name: str) -> None:
    number = FORMATS[name]
    sign = 1 << (8 * number.width - 1)
    bits = [sign | 2, sign | 1, sign, 0, 1, 2]
    data = b"".join(each.to_bytes(number.width, "little") for each in bits)
    assert list(ordinals(data, number)) == [-3, -2, -1, 0, 1, 2]


def test_zeros_of_both_signs_differ_by_one_ulp_and_zero_magnitude() -> None:
    found = array_distance(struct.pack("<2f", 0.0, 1.0), struct.pack("<2f", -0.0, 1.0), FORMATS["F32"])
    assert (found.zero_signs, found.ulp, found.relative, found.differing) == (1, 1, 0.0, 1)


def test_nans_have_no_distance_and_are_counted() -> None:
    a = struct.pack("<3I", 0x7FC00000, 0x7FC00000, 0x3F800000)
    b = struct.pack("<3I", 0x7FC00001, 0x3F800000, 0x3F800001)
    found = array_distance(a, b, FORMATS["F32"])
    assert (found.nan_payloads, found.nan_against_number, found.ulp) == (1, 1, 1)


@pytest.mark.parametrize(
    ("name", "byte", "value"),
    [
        ("F8_E4M3", 0x7E, 448.0),
        ("F8_E4M3", 0x01, 2.0**-9),
        ("F8_E4M3", 0xB8, -1.0),
        ("F8_E5M2", 0x7B, 57344.0),
        ("F8_E5M2", 0xFC, -math.inf),
        ("F8_E5M2", 0x01, 2.0**-16),
    ],
)
def test_float8_values_match_the_open_compute_specification(name: str, byte: int, value: float) -> None:
    assert list(decode_numbers(bytes([byte]), FORMATS[name])) == [value]


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    data = b"".join(struct.pack("<f", value)[2:] for value in (1.0, -2.5, 0.0))
    assert list(decode_numbers(data, FORMATS["BF16"])) == [1.0, -2.5, 0.0]


@given(st.lists(st.binary(min_size=8, max_size=8), min_size=2, max_size=12), st.data())
def test_joined_blocks_equal_the_whole(parts: list[bytes], data: st.DataObject) -> None:
    number, other = FORMATS["F32"], data.draw(st.binary(min_size=8, max_size=8))
    found = ArrayDistance()
    for index, part in enumerate(parts):
        found = found.joined(array_distance(part, other, number), offset=2 * index)
    assert found == array_distance(b"".join(parts), other * len(parts), number)
