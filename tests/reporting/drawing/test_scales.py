"""Scales have round tick values inside the axis for any range of numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trainer.reporting.drawing.frame import scale_of

NUMBERS = st.lists(st.floats(), min_size=1, max_size=8)


@given(NUMBERS, st.sampled_from([None, True, False]), st.booleans())
@example([5e-324], None, False)
def test_any_numbers_have_an_axis(values: list[float], log: bool | None, zero: bool) -> None:  # noqa: FBT001
    scale = scale_of(values, log=log, zero=zero)
    ticks = scale.ticks()
    places = [value for value, _ in ticks]
    assert places == sorted(places)
    assert len(ticks) <= 14
    assert len({text for _, text in ticks}) == len(ticks)
    assert all(scale.low - abs(scale.low) * 1e-9 <= value <= scale.high + abs(scale.high) * 1e-9 for value in places)
    assert all(0 <= scale.at(value) <= 1 for value in values if math.isfinite(value))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.0, 450.0], ["0", "100", "200", "300", "400"]),
        ([0.0, 50_000.0], ["0", "10k", "20k", "30k", "40k", "50k"]),
        ([0.1, 0.9], ["0.2", "0.4", "0.6", "0.8"]),
        ([-1e-5, 1e-5], ["-1e-5", "-5e-6", "0", "5e-6", "1e-5"]),
        ([3.0], ["0", "1", "2", "3", "4", "5", "6"]),
        ([1e-3, 1e-3], ["0.0000", "0.0005", "0.0010", "0.0015", "0.0020"]),
        ([0.6931471, 0.6931472], ["0.0", "0.5", "1.0"]),
        ([0.0, 0.0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
)
def test_ticks_are_round(values: list[float], words: list[str]) -> None:
    assert [text for _, text in scale_of(values).ticks(5)] == words


def test_losses_over_decades_are_drawn_logarithmically() -> None:
    assert scale_of([2.1, 0.001], log=None).log
    assert [text for _, text in scale_of([2.1, 0.001], log=None).ticks()] == ["0.001", "0.01", "0.1", "1"]
    assert not scale_of([0.3, 0.9], log=None).log
    assert not scale_of([0.0, 100.0], log=None).log
