"""Spreads of values, and the seeds that a gain needs, held against a simulation of the test itself."""

from __future__ import annotations

import random
from math import sqrt
from statistics import fmean, variance

import pytest

from trainer.comparison.noise import student
from trainer.comparison.spread import seeds_needed, spread


def test_a_spread_tells_mean_deviation_and_both_ends() -> None:
    """Of the values as they are."""
    told = spread([0.5, 1.5, 1.0])
    assert (told.mean, told.deviation, told.lowest, told.highest) == (1.0, 0.5, 0.5, 1.5)


@pytest.mark.parametrize(("size", "count"), [(2.0, 6), (1.5, 9), (1.2, 12), (0.9, 21), (0.4, 100), (0.1, 1571)])
def test_it_agrees_with_published_sample_sizes(size: float, count: int) -> None:
    """Cohen's tables for a two-sided two-sample t-test at 5 % and power 80 %; at n = 6 and 100 the correction is one off at most."""
    assert abs(seeds_needed(size, 1.0) - count) <= 1


def test_a_gain_is_seen_about_as_often_as_promised() -> None:
    """Four of five times, in 4000 experiments with as many seeds as it says."""
    draw = random.Random(1)  # noqa: S311 - no secret
    count, seen = seeds_needed(1.0, 1.0), 0
    for _ in range(4000):
        a = [draw.gauss(0, 1) for _ in range(count)]
        b = [draw.gauss(1, 1) for _ in range(count)]
        error = sqrt((variance(a) + variance(b)) / count)
        seen += abs(fmean(b) - fmean(a)) > student(2 * count - 2) * error
    assert seen / 4000 == pytest.approx(0.8, abs=0.025)


def test_no_spread_needs_two_seeds() -> None:
    """Any gain shows at once; one run a side would show nothing."""
    assert seeds_needed(0.1, 0.0) == 2
