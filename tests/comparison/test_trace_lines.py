"""The lines of a trace: numbers keep their bits, layouts have distinct digests, and lines are short."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from trainer.comparison.trace_lines import Step, bits_of, layout_of, numbers_of, prints_of


@given(st.lists(st.floats(allow_nan=False)))
def test_numbers_round_trip_bit_for_bit(numbers: list[float]) -> None:
    """Law: `numbers_of(bits_of(*numbers)) == numbers`, including the signs of zeros."""
    again = numbers_of(bits_of(*numbers))
    assert [(value, math.copysign(1, value)) for value in again] == [(v, math.copysign(1, v)) for v in numbers]


def test_names_dtypes_and_shapes_make_a_layout() -> None:
    layouts = {
        layout_of([("a", "float32", [2, 3])]),
        layout_of([("b", "float32", [2, 3])]),
        layout_of([("a", "bfloat16", [2, 3])]),
        layout_of([("a", "float32", [3, 2])]),
    }
    assert len(layouts) == 4


def test_a_hundred_tensors_make_lines_of_seven_hundred_bytes() -> None:
    bits = "3f" * 8
    line = Step(
        step=100_000,
        epoch=99,
        batch=1000,
        data=bits,
        random=bits,
        schedule=[0.0003170918, 0.9, 0.999, 1e-8, 0.01],
        loss=bits_of(0.1),
        gradient=bits_of(0.1),
        weights=bits,
        tensors=prints_of(range(100)),
    )
    assert len(line.to_line()) < 700
