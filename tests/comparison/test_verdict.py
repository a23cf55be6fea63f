"""Verdicts: the level for two outcomes, and the unmet requirements of stronger levels."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import records
from trainer.base.digest import digest_of_bytes
from trainer.comparison.noise import Noise
from trainer.comparison.verdict import VerdictLevel, judge, number_of
from trainer.runs.record import DatasetIngredient, Record, RunStatus

WEIGHTS = digest_of_bytes(b"weights")
OTHER = digest_of_bytes(b"other weights")
MEASURED = Noise(
    experiment="digits",
    settings={"learning_rate": 0.001},
    environment=None,
    device="a CPU",
    seeds=[0, 1, 2],
    metrics={"test_loss": [0.9, 1.0, 1.1]},
)


def make_record(metrics: dict[str, Any], *, weights: str | None = WEIGHTS, **other: Any) -> Record:
    """Return the record of a completed run with `metrics` and `weights`; `other` replaces parts of the outcome."""
    return records.record(metrics=metrics, weights=weights, **other)


def test_equal_bits_are_identical() -> None:
    verdict = judge(make_record({"test_loss": 0.1}), make_record({"test_loss": 0.1}))
    assert (verdict.level, verdict.level.code, verdict.unmet) == (VerdictLevel.IDENTICAL, 0, {})


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-0", 0.0, 1])
def test_non_finite_values_equal_themselves(value: Any) -> None:
    assert judge(make_record({"test_loss": value}), make_record({"test_loss": value})).level is VerdictLevel.IDENTICAL


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (make_record({"test_loss": 0.1}), make_record({"test_loss": 0.1}, weights=OTHER)),
        (make_record({"test_loss": 0.1}), make_record({"test_loss": 0.1}, weights=None)),
        (make_record({"test_loss": 0.1}), make_record({"test_loss": 0.10000000000000002})),
        (make_record({"test_loss": 0}), make_record({"test_loss": "-0"})),
        (make_record({"test_loss": 0.1}), make_record({"test_loss": 0.1, "test_f1": 1})),
        (make_record({"test_loss": 0.1}), make_record({"test_loss": "NaN"})),
    ],
)
def test_one_different_bit_is_different(a: Record, b: Record) -> None:
    for verdict in (judge(a, b), judge(b, a)):
        assert (verdict.level, verdict.level.code) == (VerdictLevel.DIFFERENT, 20)
        assert list(verdict.unmet) == [VerdictLevel.IDENTICAL, VerdictLevel.WITHIN_TOLERANCE, VerdictLevel.WITHIN_NOISE]


def test_a_tolerance_applies_if_both_runs_declare_it_for_every_metric() -> None:
    wide, narrow = {"test_loss": 0.5}, {"test_loss": 0.25}
    a = make_record({"test_loss": 1.0}, weights=OTHER, tolerances=wide)
    assert judge(a, make_record({"test_loss": 1.25}, tolerances=narrow)).level is VerdictLevel.WITHIN_TOLERANCE
    assert judge(a, make_record({"test_loss": 1.26}, tolerances=narrow)).level is VerdictLevel.DIFFERENT
    assert judge(a, make_record({"test_loss": 1.25})).level is VerdictLevel.DIFFERENT
    undeclared = make_record({"test_loss": 1.25, "test_f1": 1}, tolerances=wide)
    assert "test_f1" in judge(a, undeclared).unmet[VerdictLevel.WITHIN_TOLERANCE]


def test_measured_noise_explains_a_difference() -> None:
    """Three seeds with a standard deviation of 0.1 explain 4.303 * 0.1 * sqrt(2) = 0.609."""
    a = make_record({"test_loss": 1.0}, weights=OTHER)
    near, far = make_record({"test_loss": 1.6}), make_record({"test_loss": 1.62})
    assert (judge(a, near, noise=MEASURED).level, judge(a, near).level) == (
        VerdictLevel.WITHIN_NOISE,
        VerdictLevel.DIFFERENT,
    )
    assert "0.62 apart, what 3 seeds explain is 0.608" in judge(a, far, noise=MEASURED).unmet[VerdictLevel.WITHIN_NOISE]


@pytest.mark.parametrize("status", [status for status in RunStatus if status is not RunStatus.COMPLETED])
def test_an_unfinished_run_is_not_comparable(status: RunStatus) -> None:
    verdict = judge(
        make_record({"test_loss": 1}), make_record({"test_loss": 1}, status=status, reason="the disk is full")
    )
    assert (verdict.level, verdict.level.code) == (VerdictLevel.NOT_COMPARABLE, 30)
    assert status.value in verdict.reason
    assert "the disk is full" in verdict.reason


def test_runs_without_a_common_metric_on_one_dataset_are_not_comparable() -> None:
    a, b = make_record({"test_loss": 1}), make_record({"test_accuracy": 1})
    assert judge(a, b).level is VerdictLevel.NOT_COMPARABLE
    data = {"faces": DatasetIngredient(version=1, content=digest_of_bytes(b"faces"))}
    elsewhere = a.model_copy(update={"ingredients": records.ingredients(datasets=data)})
    assert "faces" in judge(a, elsewhere).reason


def test_the_ladder_is_ordered() -> None:
    ladder = list(VerdictLevel)
    assert all(ladder[i].reaches(ladder[j]) == (i <= j) for i in range(5) for j in range(5))


@given(st.floats(), st.floats())
def test_the_verdict_does_not_depend_on_the_order(a: float, b: float) -> None:
    one, other = make_record({"x": str(a)}, tolerances={"x": 1}), make_record({"x": str(b)}, tolerances={"x": 1})
    assert judge(one, other).level is judge(other, one).level


@pytest.mark.parametrize("value", [None, True, "high", [1], {}, 10**400])
def test_a_value_that_is_not_a_number_is_not_a_metric(value: Any) -> None:
    assert number_of(value) is None


def test_metrics_undefined_for_the_same_reason_are_equal() -> None:
    one = make_record({"test_auc": "NaN"}, undefined={"test_auc": "one class"})
    other = make_record({"test_auc": "NaN"}, undefined={"test_auc": "the net returned NaN"})
    assert judge(one, one).level is VerdictLevel.IDENTICAL
    assert judge(one, other).level is VerdictLevel.DIFFERENT
    assert judge(one, make_record({"test_auc": "NaN"})).level is VerdictLevel.DIFFERENT


def test_a_metric_undefined_in_both_needs_no_tolerance() -> None:
    undefined = {"test_auc": "one class"}
    a = make_record({"test_auc": "NaN", "test_loss": 1.0}, undefined=undefined, tolerances={"test_loss": 0.1})
    b = make_record({"test_auc": "NaN", "test_loss": 1.05}, undefined=undefined, tolerances={"test_loss": 0.1})
    assert judge(a, b).level is VerdictLevel.WITHIN_TOLERANCE
