"""The spread of seeds: the required content of its document, and the runs to which it applies."""

from __future__ import annotations

import random
from math import sqrt
from statistics import fmean, stdev, variance
from typing import TYPE_CHECKING, Any

import pytest

from tests.comparison.test_verdict import MEASURED, make_record
from trainer.base.document import typed
from trainer.base.errors import DocumentError
from trainer.comparison.noise import Noise, measured_noise, seeds_needed, spread_of, student

if TYPE_CHECKING:
    from pathlib import Path


def test_noise_applies_only_to_the_configuration_it_was_measured_with() -> None:
    run = make_record({})
    assert MEASURED.holds_for(run)
    others: list[dict[str, Any]] = [
        {"experiment": "faces"},
        {"settings": {"learning_rate": 0.002}},
        {"settings": {}},
        {"environment": "cuda"},
        {"device": "another CPU"},
    ]
    assert not any(MEASURED.model_copy(update=other).holds_for(run) for other in others)


def test_the_noise_with_the_most_seeds_is_selected(tmp_path: Path) -> None:
    runs = [make_record({})]
    assert measured_noise(tmp_path / "none", runs) is None
    more = MEASURED.model_copy(update={"seeds": [0, 1, 2, 3], "metrics": {"test_loss": [1.0, 2.0, 3.0, 4.0]}})
    other = more.model_copy(update={"experiment": "faces"})
    for name, noise in {"a": MEASURED, "b": more, "c": other}.items():
        (tmp_path / f"{name}.json").write_text(noise.model_dump_json())
    assert measured_noise(tmp_path, runs) == more


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [0, 1], "metrics": {}}, "at least 3 items"),
        ({"seeds": [0, 1, 1]}, "a seed is listed twice"),
        ({"metrics": {"test_loss": [1.0]}}, "test_loss has 1 values for 3 seeds"),
        ({"metrics": {"test_loss": [1.0, 2.0, float("nan")]}}, "finite number"),
        ({"settings": {"seed": 0}}, "differ only in their seeds"),
        ({"format": "reprise.noise/2"}, "reprise.noise/1"),
        ({"code": "x"}, "unknown key 'code'"),
    ],
)
def test_a_meaningless_spread_is_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        typed(MEASURED.model_dump() | change, Noise, where="there")


def test_noise_covers_19_of_20_pairs_of_seeds() -> None:
    """All values are drawn from the same normal distribution; the spread is estimated again for each pair."""
    draw = random.Random(0)  # noqa: S311 - no secret
    inside = 0
    for _ in range(4000):
        *seeds, a, b = (draw.gauss(0, 1) for _ in range(7))
        inside += abs(a - b) <= student(4) * stdev(seeds) * sqrt(2)
    assert inside / 4000 == pytest.approx(0.95, abs=0.01)


def test_a_spread_has_mean_deviation_and_extremes() -> None:
    spread = spread_of([0.5, 1.5, 1.0])
    assert (spread.mean, spread.deviation, spread.lowest, spread.highest) == (1.0, 0.5, 0.5, 1.5)


@pytest.mark.parametrize(("size", "count"), [(2.0, 6), (1.5, 9), (1.2, 12), (0.9, 21), (0.4, 100), (0.1, 1571)])
def test_the_number_of_seeds_agrees_with_published_sample_sizes(size: float, count: int) -> None:
    """The counts are from Cohen's tables for a two-sided two-sample t-test at 5 % with power 80 %; a difference of one is accepted."""
    assert abs(seeds_needed(size, 1.0) - count) <= 1


def test_the_number_of_seeds_detects_a_gain_in_four_of_five_experiments() -> None:
    draw = random.Random(1)  # noqa: S311 - no secret
    count, detected = seeds_needed(1.0, 1.0), 0
    for _ in range(4000):
        a = [draw.gauss(0, 1) for _ in range(count)]
        b = [draw.gauss(1, 1) for _ in range(count)]
        error = sqrt((variance(a) + variance(b)) / count)
        detected += abs(fmean(b) - fmean(a)) > student(2 * count - 2) * error
    assert detected / 4000 == pytest.approx(0.8, abs=0.025)


def test_values_without_a_spread_need_two_seeds() -> None:
    assert seeds_needed(0.1, 0.0) == 2
