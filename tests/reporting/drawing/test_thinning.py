"""Thinning removes points without a visible change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.reporting.drawing.plots import thinned


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=400), st.integers(4, 100))
def test_ends_and_extremes_are_preserved(heights: list[float], most: int) -> None:
    points = [(float(place), height) for place, height in enumerate(heights)]
    kept = thinned(points, most)
    assert len(kept) <= max(most, 4)
    assert kept == sorted(set(kept))
    assert set(kept) <= set(points)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert {min(heights), max(heights)} <= {height for _, height in kept}
